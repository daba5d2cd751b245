//! How every program of ours logs, where it stands in a trace, and how its spans leave it.
//!
//! A crate of its own because both planes do the same and do not depend on each other. What is logged and what spans say
//! is each plane's own: nothing here has a field that could hold a prompt, an answer, a key or a token.

pub mod export;
pub mod log;
pub mod trace;
