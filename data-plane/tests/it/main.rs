//! The request path from `infer` down, and the faces over loopback, against a scripted provider, in paused time.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod attempts;
mod faces;
mod records;
mod streams;
mod support;
mod sync;
mod wire;
