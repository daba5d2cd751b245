//! The AWS SDK is the oracle: the same requests, answers, errors and streams through it and through the lean path.

#![allow(clippy::unwrap_used, reason = "tests may; clippy knows only their functions, not their helpers")]

mod errors;
mod requests;
mod server;
mod setup;
mod streams;
mod tls;
