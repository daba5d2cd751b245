//! Answers of our own in Converse's form: an `answer` tier's text, whole or as events, and the end of a stream that
//! broke.

use bytes::{Bytes, BytesMut};
use serde_json::json;
use switchtower_policy::catalogue::Usage;
use switchtower_provider::{
    Batch, Whole,
    bedrock::stream::{Decoder, encode},
};

/// A text as a whole answer. It says that it used no tokens: no model was asked.
#[must_use]
pub(crate) fn whole(text: &str) -> Whole {
    let body = json!({
        "metrics": {"latencyMs": 0},
        "output": {"message": {"role": "assistant", "content": [{"text": text}]}},
        "stopReason": "end_turn",
        "usage": {"inputTokens": 0, "outputTokens": 0, "totalTokens": 0},
    });
    Whole { body: Bytes::from(body.to_string()), stop_reason: Some("end_turn".into()), usage: Some(Usage::default()) }
}

/// A text as a stream.
#[must_use]
pub(crate) fn answer(text: &str) -> Batch {
    batch(&[
        ("messageStart", json!({"role": "assistant"})),
        ("contentBlockDelta", json!({"contentBlockIndex": 0, "delta": {"text": text}})),
        ("contentBlockStop", json!({"contentBlockIndex": 0})),
        ("messageStop", json!({"stopReason": "end_turn"})),
        (
            "metadata",
            json!({
                "metrics": {"latencyMs": 0},
                "usage": {"inputTokens": 0, "outputTokens": 0, "totalTokens": 0},
            }),
        ),
    ])
}

/// The end of a stream that broke, as if the token limit had been reached, labelled as truncated. `open_block` is the
/// payload of the last event of the block that is open.
#[must_use]
pub(crate) fn truncated_end(open_block: Option<&[u8]>) -> Batch {
    let stop = json!({
        "additionalModelResponseFields": {"switchtower": {"completeness": "truncated"}},
        "stopReason": "max_tokens",
    });
    match open_block.and_then(block_index) {
        Some(index) => batch(&[("contentBlockStop", json!({"contentBlockIndex": index})), ("messageStop", stop)]),
        None => batch(&[("messageStop", stop)]),
    }
}

fn block_index(payload: &[u8]) -> Option<u64> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Block {
        content_block_index: u64,
    }
    serde_json::from_slice::<Block>(payload).ok().map(|block| block.content_block_index)
}

fn batch(events: &[(&str, serde_json::Value)]) -> Batch {
    let mut bytes = BytesMut::new();
    for (kind, payload) in events {
        bytes.extend_from_slice(&encode::event(kind, payload.to_string().as_bytes()));
    }
    let mut decoder = Decoder::default();
    decoder.push(bytes.freeze());
    decoder.next().ok().flatten().expect("the decoder reads what the encoder writes")
}

#[cfg(test)]
mod tests {
    use switchtower_provider::Kind;

    use super::*;

    #[test]
    fn an_answer_is_a_stream_that_begins_and_ends() {
        let kinds: Vec<Kind> = answer("busy").events.into_iter().map(|event| event.kind).collect();
        assert_eq!(kinds.first(), Some(&Kind::MessageStart));
        assert!(kinds.contains(&Kind::MessageStop("end_turn".into())));
        assert_eq!(kinds.last(), Some(&Kind::Metadata(Some(Usage::default()))));
    }

    #[test]
    fn a_truncated_end_closes_the_block_that_is_open() {
        let check = |open: Option<&str>, expected: &[Kind]| {
            let end = truncated_end(open.map(str::as_bytes));
            let kinds: Vec<Kind> = end.events.into_iter().map(|event| event.kind).collect();
            assert_eq!(kinds, expected, "{open:?}");
        };
        let stop = Kind::MessageStop("max_tokens".into());
        check(Some(r#"{"contentBlockIndex":3,"delta":{"text":"x"}}"#), &[Kind::BlockStop, stop.clone()]);
        check(Some("not json"), std::slice::from_ref(&stop));
        check(None, std::slice::from_ref(&stop));
    }
}
