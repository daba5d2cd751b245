//! Whole flows, from outside.
#![allow(clippy::unwrap_used)] // Also in what the tests share.

mod bad_input;
mod boto;
mod canary;
mod control_api;
mod disk_full;
mod fallback;
mod faults;
mod fleet;
mod fleet_canary;
mod grpc;
mod javascript;
mod policy_change;
mod process;
mod rust_sdk;
mod soak;
mod streams;
mod telemetry;
mod trace;
