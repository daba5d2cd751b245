//! What a policy means: read from YAML, checked, compiled, and asked for decisions.
//!
//! Pure: no I/O, no clock, no randomness, no async; whatever a decision needs comes in as an argument. Both planes and
//! the CLI call the same functions, so all agree on what is valid: *valid means "compiles"*.
//!
//! Two doors: [`read`] turns YAML files into a policy and remembers where each field stands, [`compile()`] turns a policy
//! into a [`Snapshot`]; each gives all its violations, not the first. [`load`] goes through both.
//!
//! # Words
//!
//! A *policy* is the document, a *revision* its immutable numbered version, a *snapshot* its compiled form in memory.
//! A *route* is what callers ask for; its first *rule* whose condition holds may replace its *tiers*. A *tier* holds
//! *targets* (a model at an endpoint) of one rank, or an *answer* of our own. A *plan* is the ordered steps for one
//! request; an *attempt* is one try of a step. A *flag* gives one of its *variants* for a *targeting key*, with the
//! *reason*.

pub mod answer;
pub mod bucket;
pub mod catalogue;
pub mod compile;
pub mod condition;
pub mod diff;
pub mod document;
pub mod explain;
pub mod facts;
pub mod failure;
#[cfg(test)]
mod fixture;
pub mod flag;
pub mod items;
pub mod plan;
pub mod route;
pub mod snapshot;
pub mod violation;

pub use compile::{Compiled, compile, load};
pub use document::{File, Reading, read};
pub use facts::{Facts, RequestFacts};
pub use snapshot::Snapshot;
pub use violation::{Severity, Violation};
