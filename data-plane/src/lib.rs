//! The node: every request carried out as the policy says.
//!
//! A request, in file order: [`face`] → [`infer`] → [`auth`] → [`current`] → the decisions of `switchtower_policy` →
//! [`attempts`] → the provider → back through [`reply`] and [`record`].
//!
//! A policy revision, in file order: [`sync`] → `switchtower_policy::{items, compile}` → [`current`] (swap) →
//! [`last_known_good`] → ACK; for a node without a control plane [`source`] → `switchtower_policy` → [`current`].

pub mod admin;
pub mod attempts;
pub mod auth;
pub mod call;
pub mod config;
pub mod current;
pub mod face;
mod frames;
pub mod infer;
pub mod keys;
pub mod last_known_good;
pub mod record;
pub mod reply;
pub mod server;
pub mod source;
pub mod start;
pub mod sync;
pub mod telemetry;
pub mod trace;
pub mod upstream;
