//! Who has to understand what is applied.

use std::collections::BTreeSet;

/// A node that does not understand all that a policy uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CannotRead {
    /// Its name.
    pub node: String,
    /// What it does not understand, as `Message.field`, `Enumeration.VALUE` or `kind:NAME`.
    pub members: Vec<String>,
}

/// The nodes that would be sent a revision. A node that does not know a member drops it unseen, and a guardrail's
/// member that is dropped is a guardrail that does not hold: so it is asked before a revision is assigned.
pub trait Readers: Send + Sync {
    /// Connected nodes of an environment that do not understand all of `used`. Empty: nobody stands against it.
    fn cannot_read(&self, environment: &str, used: &BTreeSet<String>) -> Vec<CannotRead>;
}
