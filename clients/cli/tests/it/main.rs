//! The built program, as people and scripts run it.

// Helpers may unwrap as the tests do.
#![allow(clippy::unwrap_used)]

mod ask;
mod dev;
mod explain;
mod key;
mod plain;
mod support;
mod validate;
