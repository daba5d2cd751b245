//! Whole flows, from outside.
#![allow(clippy::unwrap_used)] // Also in what the tests share.

mod bad_input;
mod boto;
mod canary;
mod fallback;
mod faults;
mod grpc;
mod javascript;
mod policy_change;
mod process;
mod rust_sdk;
mod streams;
mod telemetry;
