//! Revisions, diffs and violations as the API writes them.

use prost::Message;
use switchtower_policy::{
    Violation,
    diff::{self, What},
};
use switchtower_proto::control::v1::{self as control, change::Kind};

use crate::revisions::{Head, Revision};

/// Most changes that are told.
const MAX_CHANGES: usize = 10_000;
/// Most bytes of changes that are told: with all that stands around them, an answer stays below what gRPC clients read.
const MAX_CHANGES_BYTES: usize = 1 << 20;

/// A revision under its environment's head.
pub(super) fn revision(revision: Revision, head: &Head) -> control::Revision {
    let stored = revision.digest.is_some();
    control::Revision {
        assigned: stored && revision.record.number == head.assignment.revision,
        rolled_back: head.was_rolled_back(&revision.record.content_digest),
        digest: revision.digest.map(Vec::from).unwrap_or_default(),
        record: Some(revision.record),
    }
}

/// An environment.
pub(super) fn environment(name: String, head: &Head) -> control::Environment {
    control::Environment {
        name,
        head: head.revision,
        assigned: head.assignment.revision,
        assignment: head.assignment.number,
        assigned_at: Some(head.assignment.made_at.into()),
    }
}

/// Something to know of a policy.
pub(super) fn violation(violation: &Violation) -> control::Violation {
    let Violation { code, path, message, .. } = violation;
    control::Violation { code: (*code).to_owned(), path: path.clone(), message: message.clone() }
}

/// Changes, as many as may be told.
pub(super) fn diff(changes: Vec<diff::Change>) -> control::Diff {
    let changes_in_all = changes.len() as u64;
    let mut room = MAX_CHANGES_BYTES;
    let changes: Vec<_> = changes
        .into_iter()
        .take(MAX_CHANGES)
        .map(change)
        .map_while(|change| {
            room = room.checked_sub(change.encoded_len() + 8)?;
            Some(change)
        })
        .collect();
    let all = changes.len() as u64 == changes_in_all;
    control::Diff { changes, changes_in_all: if all { 0 } else { changes_in_all } }
}

fn change(change: diff::Change) -> control::Change {
    let kind = match change.what {
        What::Added => Kind::Added,
        What::Removed => Kind::Removed,
        What::Changed => Kind::Changed,
    };
    control::Change {
        kind: kind.into(),
        item_kind: change.item_kind,
        item_name: change.item_name,
        path: change.path,
        before: change.before.unwrap_or_default(),
        after: change.after.unwrap_or_default(),
        words: change.words,
    }
}
