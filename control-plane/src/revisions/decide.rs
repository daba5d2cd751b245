//! What follows from a head and a wish: pure, so that a wish is decided again as it is when the head moved meanwhile.

use std::time::SystemTime;

use prost::Message;
use switchtower_proto::policy::v1;

use super::{
    Applying, Refused, Revision, RollingBack,
    checked::Checked,
    chunks::sha256,
    head::{Assignment, Head},
};
use crate::events::{Event, Kind};

/// A revision that is to be made, and its head.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) revision: Revision,
    /// The record as it is stored.
    pub(super) bytes: Vec<u8>,
    pub(super) head: Head,
    pub(super) event: Event,
}

/// What applying comes to.
#[derive(Debug)]
pub(super) enum Decision {
    /// What is assigned has this very content.
    Unchanged(Head),
    /// A revision.
    Make(Box<Made>),
}

/// What applying comes to under this head.
pub(super) fn apply(
    head: Option<&Head>,
    applying: &Applying,
    checked: &Checked,
    now: SystemTime,
) -> Result<Decision, Refused> {
    // Before the parent is looked at: whoever lost the answer and asks again gets it, and nothing of anybody is lost.
    if let Some(head) = head.filter(|head| head.assignment.content_digest == checked.content_digest) {
        return Ok(Decision::Unchanged(head.clone()));
    }
    if let Some(parent) = applying.parent {
        unmoved(head, parent)?;
    }
    if !applying.again && head.is_some_and(|head| head.was_rolled_back(&checked.content_digest)) {
        return Err(Refused::RolledBack);
    }
    let parent = head.map_or(0, |head| head.revision);
    let record = v1::RevisionRecord {
        environment: applying.environment.clone(),
        number: parent + 1,
        content_digest: checked.content_digest.to_vec(),
        parent,
        previous_digest: head.map(|head| head.record_digest.to_vec()).unwrap_or_default(),
        author: applying.author.clone(),
        message: applying.message.clone(),
        created_at: Some(now.into()),
        size_bytes: checked.size_bytes(),
        chunks: checked.chunks.iter().map(|chunk| chunk.digest.to_vec()).collect(),
        traceparent: applying.traceparent.clone(),
        promoted_from: applying.promoted_from.clone(),
    };
    let bytes = record.encode_to_vec();
    let digest = sha256(&bytes);
    let next = Head {
        revision: record.number,
        record_digest: digest,
        assignment: following(head, record.number, checked.content_digest, now, &applying.traceparent),
        rolled_back: head.map(|head| head.rolled_back_with(None, checked.content_digest)).unwrap_or_default(),
    };
    let from = match applying.promoted_from.as_str() {
        "" => String::new(),
        from => format!(", promoted from {from}"),
    };
    let event = Event {
        at: now,
        environment: applying.environment.clone(),
        kind: Kind::RevisionApplied,
        actor: applying.author.clone(),
        subject: record.number.to_string(),
        message: format!("revision {} was applied{from}{}", record.number, why(&applying.message)),
    };
    Ok(Decision::Make(Box::new(Made { revision: Revision { record, digest: Some(digest) }, bytes, head: next, event })))
}

/// The head after `target` was assigned in the place of what is, and the event of it.
pub(super) fn roll_back(
    head: &Head,
    target: &Revision,
    rolling: &RollingBack,
    now: SystemTime,
) -> Result<(Head, Event), Refused> {
    let (from, to) = (head.assignment.revision, target.record.number);
    let good = target.content_digest()?;
    // Whoever goes forward again takes nothing back: they undo a rollback.
    let bad = (to < from).then_some(head.assignment.content_digest);
    let next = Head {
        assignment: following(Some(head), to, good, now, &rolling.traceparent),
        rolled_back: head.rolled_back_with(bad, good),
        ..head.clone()
    };
    let event = Event {
        at: now,
        environment: rolling.environment.clone(),
        kind: Kind::RevisionRolledBack,
        actor: rolling.author.clone(),
        subject: to.to_string(),
        message: format!("revision {to} was assigned again, in the place of {from}{}", why(&rolling.message)),
    };
    Ok((next, event))
}

/// Whether the revision that somebody started from is still the one that nodes should serve. It is compared with what is
/// assigned and not with the newest: after a rollback these differ, and whoever started from what was rolled back would
/// bring it back unseen.
pub(super) fn unmoved(head: Option<&Head>, expected: u64) -> Result<(), Refused> {
    let assigned = head.map_or(0, |head| head.assignment.revision);
    match assigned == expected {
        true => Ok(()),
        false => Err(Refused::HeadMoved { expected, assigned, head: head.map_or(0, |head| head.revision) }),
    }
}

fn following(
    head: Option<&Head>,
    revision: u64,
    content_digest: [u8; 32],
    now: SystemTime,
    traceparent: &str,
) -> Assignment {
    Assignment {
        number: head.map_or(0, |head| head.assignment.number) + 1,
        revision,
        previous_revision: head.map_or(0, |head| head.assignment.revision),
        content_digest,
        made_at: now,
        traceparent: traceparent.to_owned(),
    }
}

/// The first line of what the author said.
fn why(message: &str) -> String {
    match message.lines().next() {
        Some(line) if !line.is_empty() => format!(": {line}"),
        _ => String::new(),
    }
}
