//! Why a revision was not made, assigned or read.

use switchtower_policy::Violation;

use super::CannotRead;
use crate::store;

/// Why not. Nothing was changed, but where [`Refused::Store`] leaves that open.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// A member of the request is not what it should be.
    #[error("{field}: {problem}")]
    Malformed {
        /// The member.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The policy is wrong: all its violations, warnings among them.
    #[error("the policy is wrong")]
    Policy(Vec<Violation>),
    /// Another revision is assigned than the one that this was made from.
    #[error("{}", head_moved(*expected, *assigned, *head))]
    HeadMoved {
        /// The one that it was made from; 0: none.
        expected: u64,
        /// The one that is assigned; 0: none.
        assigned: u64,
        /// The newest one; 0: there is none.
        head: u64,
    },
    /// This content was assigned once and rolled back.
    #[error("this content was rolled back: to apply it all the same, say `again`")]
    RolledBack,
    /// Connected nodes would not understand it; at least one.
    #[error("{} of the connected nodes do not understand it: bring them up to date first", .0.len())]
    NodesCannotRead(Vec<CannotRead>),
    /// There is no such revision. Number 0: there is no such environment.
    #[error("{}", no_revision(environment, *number))]
    NoRevision {
        /// The environment.
        environment: String,
        /// The number.
        number: u64,
    },
    /// There is nothing to go back to.
    #[error("{0}")]
    NothingToRollBack(String),
    /// Others changed the same environment again and again meanwhile.
    #[error("others change the same environment all the time: try again")]
    Contended,
    /// What is stored is not what was written.
    #[error("what is stored is damaged: {0}")]
    Damaged(String),
    /// Something that cannot be went wrong here.
    #[error("the control plane failed: {0}")]
    Internal(String),
    /// The store failed. Where it did so while it committed, only reading tells whether it happened.
    #[error("the store failed")]
    Store(#[from] store::Error),
}

fn head_moved(expected: u64, assigned: u64, head: u64) -> String {
    match (expected, assigned) {
        (_, 0) => format!("there is no revision yet, and this was made from revision {expected}"),
        (0, _) => format!("this was made for an environment without revisions, and revision {assigned} is assigned"),
        // Somebody had a reason to go back: that is not taken back unseen.
        _ if expected == head => format!(
            "revision {expected}, from which this was made, was rolled back to {assigned}: start from revision \
             {assigned}"
        ),
        _ => format!(
            "revision {assigned} is assigned, and this was made from revision {expected}: look at what changed between \
             them, then start from revision {assigned}"
        ),
    }
}

fn no_revision(environment: &str, number: u64) -> String {
    match number {
        0 => format!("environment {environment} has no revisions"),
        _ => format!("environment {environment} has no revision {number}"),
    }
}
