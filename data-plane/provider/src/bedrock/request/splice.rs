//! A body with the members that policy sets put in, every other byte as it came.

use std::ops::Range;

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize};
use switchtower_policy::snapshot::RegionalGuardrail;

use super::{Settings, project::Projection};
use crate::Operation;

/// One place of the body and what stands there instead; an empty range: what is put in there.
struct Edit {
    range: Range<usize>,
    text: String,
}

/// The body with what must be set; the same bytes where nothing must.
pub(super) fn splice(body: &Bytes, seen: &Projection, operation: Operation, settings: Settings<'_>) -> Bytes {
    // New members of the body go in front of the others, in one edit.
    let mut front = String::new();
    let mut edits = [None, None, None];
    if let Some(guardrail) = settings.guardrail {
        let wanted = GuardrailConfig::of(guardrail, operation);
        match &seen.guardrail {
            Some(range) if wanted.is(&body[range.clone()]) => {}
            Some(range) => edits[0] = Some(Edit { range: range.clone(), text: wanted.json() }),
            None => front = format!("\"guardrailConfig\":{},", wanted.json()),
        }
    }
    let most = settings.max_output_tokens;
    match &seen.inference {
        Some(inference) => match &inference.max_tokens {
            Some(max) if max.value <= most => {}
            Some(max) => edits[1] = Some(Edit { range: max.range.clone(), text: most.to_string() }),
            None => {
                let comma = if inference.object.empty { "" } else { "," };
                let open = inference.object.open;
                edits[1] = Some(Edit { range: open..open, text: format!("\"maxTokens\":{most}{comma}") });
            }
        },
        None => front.push_str(&format!("\"inferenceConfig\":{{\"maxTokens\":{most}}},")),
    }
    if !front.is_empty() {
        if seen.body.empty {
            front.pop();
        }
        edits[2] = Some(Edit { range: seen.body.open..seen.body.open, text: front });
    }
    apply(body, edits)
}

fn apply(body: &Bytes, mut edits: [Option<Edit>; 3]) -> Bytes {
    if edits.iter().all(Option::is_none) {
        return body.clone();
    }
    // They never overlap: each is another member, or the place before all members.
    edits.sort_by_key(|edit| edit.as_ref().map(|edit| edit.range.start));
    let added: usize = edits.iter().flatten().map(|edit| edit.text.len()).sum();
    let mut spliced = Vec::with_capacity(body.len() + added);
    let mut done = 0;
    for edit in edits.iter().flatten() {
        spliced.extend_from_slice(&body[done..edit.range.start]);
        spliced.extend_from_slice(edit.text.as_bytes());
        done = edit.range.end;
    }
    spliced.extend_from_slice(&body[done..]);
    spliced.into()
}

/// The wire form of a guardrail; it is also read, to see whether a body has it already. A member that stands twice, that
/// is null or that we do not know makes another guardrail.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct GuardrailConfig {
    guardrail_identifier: Box<str>,
    guardrail_version: Box<str>,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    trace: Option<Box<str>>,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    stream_processing_mode: Option<Box<str>>,
}

impl GuardrailConfig {
    fn of(guardrail: RegionalGuardrail<'_>, operation: Operation) -> Self {
        GuardrailConfig {
            guardrail_identifier: guardrail.id.into(),
            guardrail_version: guardrail.version.into(),
            trace: (guardrail.trace != "disabled").then(|| guardrail.trace.into()),
            stream_processing_mode: match operation {
                Operation::Converse => None,
                Operation::ConverseStream => Some(guardrail.stream_mode.into()),
            },
        }
    }

    fn json(&self) -> String {
        serde_json::to_string(self).expect("strings always have a JSON form")
    }

    fn is(&self, json: &[u8]) -> bool {
        serde_json::from_slice(json).is_ok_and(|other: GuardrailConfig| other == *self)
    }
}

/// A string that is there: null is none.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Box<str>>, D::Error> {
    Box::deserialize(deserializer).map(Some)
}
