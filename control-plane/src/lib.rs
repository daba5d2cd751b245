//! The control plane: intent is stored, versioned and checked here, and from here it reaches the fleet.
//!
//! A change goes through in file order: `api/policies` -> `revisions` -> `store` -> `desired` -> `api/sync` => the wire
//! => a node; its answer comes back through `api/sync` -> `fleet`, which `api/fleet` shows.

pub mod admin;
pub mod admission;
pub mod api;
pub mod auth;
pub mod config;
pub mod desired;
pub mod events;
pub mod fleet;
pub mod keys;
pub mod layout;
pub mod listener;
pub mod peppers;
pub mod revisions;
pub mod start;
pub mod store;
pub mod telemetry;
