//! What the policy crate promises, through its public doors.

// The helpers of tests may unwrap as tests do.
#![allow(clippy::unwrap_used)]

mod bad_input;
mod bucket_vectors;
mod decisions;
mod evolution;
mod examples;
mod generated;
mod items;
mod properties;
mod purity;
mod scale;
mod support;
mod warnings;
mod wire;
