//! Revisions as they are shown, and their content as a policy.

use serde_json::{Value, json};
use switchtower_client::control::wire::Revision;
use switchtower_policy::items;
use switchtower_proto::policy::v1;

use crate::{
    output::{Exit, Failure},
    when,
};

/// For programs.
pub(crate) fn document(revision: &Revision) -> Value {
    let record = record(revision);
    json!({
        "environment": record.environment,
        "number": record.number,
        "parent": record.parent,
        "assigned": revision.assigned,
        "rolled_back": revision.rolled_back,
        "author": record.author,
        "message": record.message,
        "created_at": when::document(record.created_at.as_ref()),
        "promoted_from": (!record.promoted_from.is_empty()).then_some(&record.promoted_from),
        "size_bytes": record.size_bytes,
        "digest": hexadecimal(&revision.digest),
        "content_digest": hexadecimal(&record.content_digest),
        "traceparent": (!record.traceparent.is_empty()).then_some(&record.traceparent),
    })
}

/// Its record; an empty one where none came.
pub(crate) fn record(revision: &Revision) -> v1::RevisionRecord {
    revision.record.clone().unwrap_or_default()
}

fn hexadecimal(bytes: &[u8]) -> Option<String> {
    (!bytes.is_empty()).then(|| bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The content of a revision, and what of it this program does not know.
pub(crate) fn policy(content: &[v1::Item]) -> Result<(v1::Policy, Vec<String>), Failure> {
    let read = items::policy(content).map_err(|violations| {
        Failure::new(Exit::Data, "the control plane sent a revision that cannot be read")
            .details(violations.iter().map(ToString::to_string).collect())
            .next("update this program; if it is the newest, the control plane's store is damaged")
    })?;
    Ok((read.policy, read.ignored.iter().map(ToString::to_string).collect()))
}

/// What a revision is called: `dev/12`, a number of the environment that is meant anyhow, or an environment's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Name {
    /// `None`: the one that is meant anyhow.
    pub(crate) environment: Option<String>,
    /// 0: the head.
    pub(crate) number: u64,
}

/// `12`, `head`, `dev/12`, `dev/head`.
pub(crate) fn name(text: &str) -> Result<Name, String> {
    let (environment, number) = match text.split_once('/') {
        Some((environment, number)) if !environment.is_empty() => (Some(environment.to_owned()), number),
        _ => (None, text),
    };
    let number = match number {
        "head" => Some(0),
        number => number.parse().ok().filter(|number| *number > 0),
    };
    let number = number.ok_or("write a revision's number or `head`, with its environment before it or not: dev/12")?;
    Ok(Name { environment, number })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_is_named_by_number_and_environment() {
        let check = |text: &str, expected: Option<(Option<&str>, u64)>| {
            let got = name(text).ok();
            let got = got.as_ref().map(|name| (name.environment.as_deref(), name.number));
            assert_eq!(got, expected, "{text}");
        };
        check("12", Some((None, 12)));
        check("head", Some((None, 0)));
        check("dev/12", Some((Some("dev"), 12)));
        check("dev/head", Some((Some("dev"), 0)));
        for wrong in ["", "0", "dev", "dev/", "/12", "dev/0", "dev/x", "dev/1/2", "-1"] {
            check(wrong, None);
        }
    }
}
