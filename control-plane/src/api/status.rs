//! The only place where an error becomes a gRPC status.
//!
//! The code is for libraries, the reason in ErrorInfo for programs, the message for people. What only an operator of the
//! control plane can mend is logged here with its causes, once, and told without them.
//!
//! Statuses travel as headers, and some gRPC libraries take 8 KiB of them in all: a message is cut at 1 KiB, and the
//! details at 6 KiB, which are 8 KiB in base 64.

use std::{collections::HashMap, error::Error};

use switchtower_policy::{Severity, Violation};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};

use crate::{
    auth, keys,
    revisions::{self, CannotRead},
    store,
};

/// Whose reasons they are.
const DOMAIN: &str = "switchtower";
/// Most bytes of a message.
const MESSAGE_BYTES: usize = 1024;
/// Most bytes of details, the message in them included.
const DETAILS_BYTES: usize = 6 << 10;
/// Of these, for field violations: the others are the message, and the info with its metadata.
const VIOLATIONS_BYTES: usize = 4 << 10;
/// Most bytes of a violation's field and of its description.
const FIELD_BYTES: usize = 512;
/// Most nodes and members that are named.
const MOST_NAMED: usize = 20;
/// Most bytes of their names.
const NAMES_BYTES: usize = 2000;

/// A refusal with its reason.
fn refused(code: Code, reason: &str, message: &str, metadata: &[(&str, String)]) -> Status {
    with_violations(code, reason, message, metadata, Vec::new())
}

fn with_violations(
    code: Code,
    reason: &str,
    message: &str,
    metadata: &[(&str, String)],
    violations: Vec<FieldViolation>,
) -> Status {
    let mut metadata: HashMap<String, String> =
        metadata.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
    let all = violations.len();
    let mut room = VIOLATIONS_BYTES;
    let told: Vec<FieldViolation> = violations
        .into_iter()
        .map_while(|violation| {
            // Each has the tags and lengths of three texts and its own.
            let bytes = violation.field.len() + violation.description.len() + violation.reason.len() + 16;
            room = room.checked_sub(bytes)?;
            Some(violation)
        })
        .collect();
    if told.len() < all {
        metadata.insert("more".to_owned(), (all - told.len()).to_string());
    }
    let mut details = ErrorDetails::with_error_info(reason, DOMAIN, metadata);
    if !told.is_empty() {
        details.set_bad_request(told);
    }
    let status = Status::with_error_details(code, cut(message, MESSAGE_BYTES), details);
    debug_assert!(status.details().len() <= DETAILS_BYTES, "{} bytes of details", status.details().len());
    status
}

/// Something that cannot be.
pub(super) fn internal(error: &(dyn Error + 'static)) -> Status {
    tracing::error!(error = chain(error), "the control plane failed");
    refused(Code::Internal, "INTERNAL", "the control plane failed: its log says more", &[])
}

/// A member of a request that is not what it should be.
pub(super) fn malformed(field: &str, problem: &str) -> Status {
    let violation = FieldViolation::new(field, cut(problem, FIELD_BYTES));
    let message = format!("{field}: {problem}");
    with_violations(Code::InvalidArgument, "REQUEST_INVALID", &message, &[], vec![violation])
}

/// A listener that has missed something.
pub(super) fn fell_behind(missed: u64) -> Status {
    let message = format!("{missed} events were missed: read faster, and watch again");
    refused(Code::Aborted, "FELL_BEHIND", &message, &[("missed", missed.to_string())])
}

impl From<auth::Refused> for Status {
    fn from(error: auth::Refused) -> Self {
        match error {
            auth::Refused::Missing | auth::Refused::Wrong => {
                refused(Code::Unauthenticated, "TOKEN_REFUSED", &error.to_string(), &[])
            }
            auth::Refused::Author => malformed("x-switchtower-author", &error.to_string()),
        }
    }
}

impl From<store::Error> for Status {
    fn from(error: store::Error) -> Self {
        let (code, reason) = match &error {
            store::Error::Full(_) => (Code::ResourceExhausted, "STORE_FULL"),
            store::Error::Unavailable(_) => (Code::Unavailable, "STORE_UNAVAILABLE"),
            store::Error::Damaged(_) => (Code::DataLoss, "STORE_DAMAGED"),
            store::Error::TooLarge(_) | store::Error::WrittenTwice(_) | store::Error::LeaseOver => {
                return internal(&error);
            }
        };
        tracing::error!(error = chain(&error), "the store failed");
        refused(code, reason, &error.to_string(), &[])
    }
}

impl From<revisions::Refused> for Status {
    fn from(error: revisions::Refused) -> Self {
        use revisions::Refused;
        let message = error.to_string();
        match error {
            Refused::Malformed { field, problem } => malformed(field, &problem),
            Refused::Policy(violations) => policy(violations),
            Refused::HeadMoved { assigned, head, .. } => {
                let metadata = [("assigned", assigned.to_string()), ("head", head.to_string())];
                refused(Code::Aborted, "HEAD_MOVED", &message, &metadata)
            }
            Refused::RolledBack => refused(Code::FailedPrecondition, "ROLLED_BACK", &message, &[]),
            Refused::NodesCannotRead(nodes) => cannot_read(&message, &nodes),
            Refused::NoRevision { .. } => refused(Code::NotFound, "NO_REVISION", &message, &[]),
            Refused::NothingToRollBack(_) => refused(Code::FailedPrecondition, "NOTHING_TO_ROLL_BACK", &message, &[]),
            Refused::Contended => refused(Code::Aborted, "CONTENDED", &message, &[]),
            Refused::Damaged(what) => store::Error::Damaged(what).into(),
            Refused::Internal(_) => internal(&error),
            Refused::Store(error) => error.into(),
        }
    }
}

impl From<keys::Refused> for Status {
    fn from(error: keys::Refused) -> Self {
        use keys::Refused;
        let message = error.to_string();
        match error {
            Refused::Environment => malformed("environment", &message),
            Refused::Overlap => malformed("overlap", &message),
            Refused::Invalid(_) => refused(Code::InvalidArgument, "KEY_INVALID", &message, &[]),
            Refused::NoKey { .. } => refused(Code::NotFound, "NO_KEY", &message, &[]),
            Refused::NotLive { .. } => refused(Code::FailedPrecondition, "NOT_LIVE", &message, &[]),
            Refused::Rotating { old, new } => {
                refused(Code::FailedPrecondition, "ROTATING", &message, &[("old", old), ("new", new)])
            }
            Refused::Contended => refused(Code::Aborted, "CONTENDED", &message, &[]),
            Refused::Damaged(what) => store::Error::Damaged(what).into(),
            Refused::Store(error) => error.into(),
        }
    }
}

/// A policy that is wrong: errors before warnings, as not all may be told.
fn policy(mut violations: Vec<Violation>) -> Status {
    violations.sort_by_key(|violation| violation.severity);
    let errors = violations.iter().filter(|violation| violation.severity == Severity::Error).count();
    let message = match violations.first() {
        None => "the policy is wrong".to_owned(),
        Some(first) if errors < 2 => first.to_string(),
        Some(first) => format!("{first} (and {} more errors)", errors - 1),
    };
    let fields = violations.into_iter().map(|violation| FieldViolation {
        description: cut(&described(&violation), FIELD_BYTES),
        reason: violation.code.to_owned(),
        field: cut(&violation.path, FIELD_BYTES),
        ..FieldViolation::default()
    });
    with_violations(Code::InvalidArgument, "POLICY_INVALID", &message, &[], fields.collect())
}

fn described(violation: &Violation) -> String {
    match &violation.suggestion {
        Some(suggestion) => format!("{}; did you mean `{suggestion}`?", violation.message),
        None => violation.message.clone(),
    }
}

fn cannot_read(message: &str, nodes: &[CannotRead]) -> Status {
    let mut members: Vec<&str> = nodes.iter().flat_map(|node| &node.members).map(String::as_str).collect();
    members.sort_unstable();
    members.dedup();
    let metadata = [
        ("nodes", listed(nodes.iter().map(|node| node.node.as_str()))),
        ("nodes_in_all", nodes.len().to_string()),
        ("members", listed(members)),
    ];
    let message = format!("{message}; nodes: {}; not understood: {}", metadata[0].1, metadata[2].1);
    refused(Code::FailedPrecondition, "NODES_CANNOT_READ", &message, &metadata)
}

/// The first of these names.
fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.into_iter().take(MOST_NAMED).collect();
    cut(&names.join(", "), NAMES_BYTES)
}

fn cut(text: &str, bytes: usize) -> String {
    if text.len() <= bytes {
        return text.to_owned();
    }
    format!("{}…", &text[..text.floor_char_boundary(bytes - '…'.len_utf8())])
}

/// An error with its causes.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut told = error.to_string();
    let mut error = error.source();
    while let Some(cause) = error {
        told = format!("{told}: {cause}");
        error = cause.source();
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_told_the_details_are_small_enough_for_headers_and_say_what_is_left_out() {
        let violation = |index: usize| {
            Violation::error("unknown_model", format!("routes.r{index}.{}", "x".repeat(300)), "é".repeat(900))
        };
        let mut violations: Vec<_> = (0..500).map(violation).collect();
        violations.insert(0, Violation::warning("later", "", "not an error"));
        let status = Status::from(revisions::Refused::Policy(violations));
        assert!(status.details().len() <= DETAILS_BYTES, "{}", status.details().len());
        assert!(status.message().len() <= MESSAGE_BYTES);
        let details = status.get_error_details();
        let told = details.bad_request().unwrap().field_violations.len();
        assert!(told >= 4, "{told}");
        assert!(details.bad_request().unwrap().field_violations[0].field.starts_with("routes.r0."));
        assert_eq!(details.error_info().unwrap().metadata["more"], (501 - told).to_string());

        let node = |index: usize| CannotRead {
            node: format!("{index}{}", "n".repeat(120)),
            members: vec![format!("Route.{}{index}", "m".repeat(200))],
        };
        let status = Status::from(revisions::Refused::NodesCannotRead((0..500).map(node).collect()));
        assert!(status.details().len() <= DETAILS_BYTES, "{}", status.details().len());
        assert_eq!(status.get_error_details().error_info().unwrap().metadata["nodes_in_all"], "500");
    }

    #[test]
    fn a_store_that_failed_is_told_without_what_caused_it() {
        let check = |error: store::Error, code: Code, reason: &str| {
            let status = Status::from(revisions::Refused::Store(error));
            assert_eq!(status.code(), code);
            assert_eq!(status.get_error_details().error_info().unwrap().reason, reason);
            assert!(!format!("{status:?}").contains("/var/lib"), "{status:?}");
        };
        check(store::Error::Full("/var/lib is full".into()), Code::ResourceExhausted, "STORE_FULL");
        check(store::Error::Unavailable("/var/lib is gone".into()), Code::Unavailable, "STORE_UNAVAILABLE");
        check(store::Error::Damaged("a page".to_owned()), Code::DataLoss, "STORE_DAMAGED");
        check(store::Error::LeaseOver, Code::Internal, "INTERNAL");
    }
}
