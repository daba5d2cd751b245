//! The control plane's services as operators call them, without sockets but for one test of a whole server; as nodes do,
//! over streams; and the program itself, which is killed.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod fleet;
mod keys;
mod kills;
mod policies;
mod policies_failing;
mod policies_large;
mod policies_property;
mod policies_races;
mod support;
mod support_store;
mod sync;
mod sync_node;
mod sync_plane;
mod tokens;
