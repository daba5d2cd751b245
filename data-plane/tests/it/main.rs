//! The request path from `infer` down, against a scripted provider, in paused time.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod attempts;
mod streams;
mod support;
