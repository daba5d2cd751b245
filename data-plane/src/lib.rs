//! The node: every request carried out as the policy says.
//!
//! A request, in file order: [`face`] → [`infer`] → [`auth`] → [`current`] → the decisions of `switchtower_policy` →
//! [`attempts`] → the provider → back through [`reply`] and [`record`].

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
pub mod record;
pub mod reply;
pub mod server;
pub mod source;
pub mod start;
pub mod telemetry;
pub mod trace;
pub mod upstream;
