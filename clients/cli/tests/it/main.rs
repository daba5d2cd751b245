//! The built program, as people and scripts run it.

// Helpers may unwrap as the tests do.
#![allow(clippy::unwrap_used)]

mod apply;
mod ask;
mod connection;
mod dev;
mod explain;
mod fleet;
mod key;
mod plain;
mod plane;
mod promote;
mod pull;
mod remote_key;
mod revisions;
mod scene;
mod support;
mod validate;
