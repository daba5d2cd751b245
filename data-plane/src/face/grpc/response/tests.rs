use bytes::Bytes;
use serde_json::json;
use smallvec::SmallVec;
use switchtower_policy::failure::Class;
use switchtower_provider::Event as Frame;

use super::*;
use crate::{face::grpc::converse::Turn, record::Tried};

fn object(json: serde_json::Value) -> Struct {
    serde_json::from_value::<Object<'_>>(json).unwrap().0.into_owned()
}

fn served() -> Served {
    Served {
        request_id: "00ff".into(),
        route: "support-chat".into(),
        rule: Some("gold".into()),
        tier: 2,
        target: Some("bedrock/us-east-1/m".into()),
        revision: "0123456789ab".into(),
        attempts: vec![
            Tried {
                target: "bedrock/us-west-2/m".into(),
                tier: 1,
                failure: Some(Class::Throttled),
                code: Some("ThrottlingException".into()),
                duration: std::time::Duration::from_millis(3),
            },
            Tried {
                target: "bedrock/us-east-1/m".into(),
                tier: 2,
                failure: None,
                code: None,
                duration: std::time::Duration::from_millis(1250),
            },
        ],
        degraded: false,
    }
}

fn whole_of(body: serde_json::Value) -> Result<v1::GenerateResponse, Malformed> {
    let stop_reason = body["stopReason"].as_str().map(Into::into);
    let usage = body["usage"]["inputTokens"].as_u64().map(|input| Usage { input, output: 7, ..Usage::default() });
    let answer = Whole { body: body.to_string().into(), stop_reason, usage };
    let ended = Ended {
        completeness: Completeness::Complete,
        stop_reason: answer.stop_reason.clone(),
        usage,
        cost: Some(0.25),
    };
    whole(&answer, &ended, &served())
}

/// What one block of an answer becomes.
#[track_caller]
fn check_block(block: serde_json::Value, expected: Out) {
    let answer = whole_of(json!({ "output": { "message": { "role": "assistant", "content": [block] } } })).unwrap();
    assert_eq!(answer.message.unwrap().content, [v1::ContentBlock { block: Some(expected) }]);
}

/// A block that comes as it is.
#[track_caller]
fn check_other(block: serde_json::Value) {
    check_block(block.clone(), Out::Other(object(block)));
}

#[test]
fn blocks_that_have_a_field_fill_it() {
    check_block(json!({ "text": "" }), Out::Text(String::new()));
    check_block(
        json!({ "toolUse": { "toolUseId": "t1", "name": "weather", "input": { "days": 3 } } }),
        Out::ToolUse(v1::ToolUse {
            id: "t1".to_owned(),
            name: "weather".to_owned(),
            input: Some(object(json!({ "days": 3 }))),
        }),
    );
    check_block(
        json!({ "image": { "format": "png", "source": { "bytes": "iVBORw==" } } }),
        Out::Image(v1::Image { format: "png".to_owned(), source: Some(image::Source::Data(b"\x89PNG".to_vec())) }),
    );
    check_block(
        json!({ "reasoningContent": { "reasoningText": { "text": "hm", "signature": null } } }),
        Out::Reasoning(v1::Reasoning {
            reasoning: Some(reasoning::Reasoning::Text(v1::ReasoningText {
                text: "hm".to_owned(),
                signature: String::new(),
            })),
        }),
    );
}

#[test]
fn blocks_that_a_field_would_cut_come_as_they_are() {
    check_other(json!({ "citationsContent": { "content": [{ "text": "x" }], "citations": [] } }));
    check_other(json!({ "toolUse": { "toolUseId": "t", "name": "n", "input": {}, "type": "server_tool_use" } }));
    check_other(json!({ "toolUse": { "toolUseId": "t", "name": "n", "input": "not an object" } }));
    check_other(json!({ "image": { "format": "png", "source": { "bytes": "not base64" } } }));
    check_other(json!({ "image": { "format": "png",
        "source": { "s3Location": { "uri": "s3://b/k", "bucketOwner": "123456789012" } } } }));
    check_other(json!({ "document": { "name": "d", "source": { "text": "x" }, "citations": { "enabled": true } } }));
    check_other(json!({ "reasoningContent": { "reasoningText": { "text": "hm" }, "new": 1 } }));
    check_other(json!({ "text": "a", "annotations": [1] }));
    check_other(json!({ "text": { "of": "the future" } }));
    check_other(json!({}));
}

#[test]
fn an_answer_tells_its_end_what_served_it_and_all_the_rest() {
    let answer = whole_of(json!({
        "output": {
            "message": { "role": "assistant", "content": [{ "text": "hi" }], "phase": "final" },
            "beside": [1],
        },
        "stopReason": "end_turn",
        "usage": { "inputTokens": 5, "outputTokens": 7, "totalTokens": 12, "cacheDetails": [{ "ttl": "5m" }] },
        "metrics": { "latencyMs": 9 },
        "trace": { "guardrail": {} },
    }))
    .unwrap();
    assert_eq!(answer.message.unwrap().role(), v1::Role::Assistant);
    let attempt = |target: &str, tier, outcome: &str, millis: i32, error: &str| v1::Attempt {
        target: target.to_owned(),
        tier,
        outcome: outcome.to_owned(),
        duration: Some(prost_types::Duration { seconds: (millis / 1000).into(), nanos: millis % 1000 * 1_000_000 }),
        error: error.to_owned(),
    };
    assert_eq!(
        answer.end.unwrap(),
        v1::End {
            completeness: v1::Completeness::Complete.into(),
            finish_reason: v1::FinishReason::EndTurn.into(),
            finish_reason_text: "end_turn".to_owned(),
            usage: Some(v1::Usage { input_tokens: 5, output_tokens: 7, ..v1::Usage::default() }),
            cost_usd: Some(0.25),
            served: Some(v1::Served {
                request_id: "00ff".to_owned(),
                route: "support-chat".to_owned(),
                rule: "gold".to_owned(),
                tier: 2,
                target: "bedrock/us-east-1/m".to_owned(),
                revision: "0123456789ab".to_owned(),
                attempts: vec![
                    attempt("bedrock/us-west-2/m", 1, "throttled", 3, "ThrottlingException"),
                    attempt("bedrock/us-east-1/m", 2, "ok", 1250, ""),
                ],
            }),
            more: Some(object(json!({
                "output": { "beside": [1], "message": { "phase": "final" } },
                "usage": { "cacheDetails": [{ "ttl": "5m" }] },
                "metrics": { "latencyMs": 9 },
                "trace": { "guardrail": {} },
            }))),
        }
    );
}

#[test]
fn usage_and_a_stop_reason_that_the_provider_could_not_read_are_kept_as_they_came() {
    let strange = json!({ "usage": { "inputTokens": "many" }, "stopReason": 7 });
    let mut body = strange.clone();
    body["output"] = json!({ "message": { "role": "system", "content": [] } });
    let answer = whole_of(body).unwrap();
    let end = answer.end.unwrap();
    assert_eq!((end.finish_reason(), end.usage), (v1::FinishReason::Unspecified, None));
    let mut more = strange;
    more["output"] = json!({ "message": { "role": "system" } });
    assert_eq!(end.more, Some(object(more)));
}

#[test]
fn an_answer_that_is_not_converse_is_an_error_that_does_not_quote_it() {
    for body in [json!({ "message": "secret" }), json!({ "output": { "message": { "role": "assistant" } } }), json!([])]
    {
        let error = whole_of(body).unwrap_err();
        assert_eq!(error.to_string(), "the provider's answer is not Converse JSON");
    }
}

#[test]
fn finish_reasons_have_a_value_or_are_other() {
    use v1::FinishReason as F;
    for (text, expected) in [
        ("end_turn", F::EndTurn),
        ("tool_use", F::ToolUse),
        ("max_tokens", F::MaxTokens),
        ("stop_sequence", F::StopSequence),
        ("guardrail_intervened", F::Guardrail),
        ("content_filtered", F::ContentFiltered),
        ("model_context_window_exceeded", F::ContextWindow),
        ("malformed_tool_use", F::Other),
        ("", F::Other),
    ] {
        assert_eq!(finish_reason(text), expected, "{text}");
    }
}

/// A turn, of either side.
pub(in crate::face::grpc) fn turn(turn: Turn<'_>) -> v1::Message {
    v1::Message { role: role(&turn.role).into(), content: turn.content.into_iter().map(block).collect() }
}

/// A batch of these payloads.
pub(in crate::face::grpc) fn batch(events: &[(Kind, serde_json::Value)]) -> Batch {
    let mut bytes = Vec::new();
    let mut frames = SmallVec::new();
    for (kind, payload) in events {
        let start = bytes.len() + 2;
        bytes.extend_from_slice(format!("##{payload}####").as_bytes());
        let end = bytes.len() - 4;
        frames.push(Frame { frame: start - 2..end + 4, payload: start..end, kind: kind.clone() });
    }
    Batch { bytes: Bytes::from(bytes), events: frames }
}

/// What one event becomes; `None`: nothing is sent.
#[track_caller]
fn check_event(kind: Kind, payload: serde_json::Value, expected: Option<Event>) {
    let mut to = VecDeque::new();
    Pieces::default().add(&batch(&[(kind, payload)]), &mut to).unwrap();
    let expected: Vec<_> =
        expected.map(|event| v1::GenerateStreamResponse { event: Some(event) }).into_iter().collect();
    assert_eq!(to, expected);
}

#[track_caller]
fn check_delta(delta: serde_json::Value, expected: block_delta::Delta) {
    check_event(
        Kind::BlockDelta,
        json!({ "contentBlockIndex": 3, "delta": delta, "p": "abcd" }),
        Some(Event::BlockDelta(v1::BlockDelta { index: 3, delta: Some(expected) })),
    );
}

#[test]
fn every_kind_of_delta_is_told() {
    use block_delta::Delta as D;
    check_delta(json!({ "text": "h\u{e9}\n" }), D::Text("h\u{e9}\n".to_owned()));
    check_delta(json!({ "toolUse": { "input": "{\"a\":" } }), D::ToolInput("{\"a\":".to_owned()));
    check_delta(json!({ "reasoningContent": { "text": "hm" } }), D::ReasoningText("hm".to_owned()));
    check_delta(json!({ "reasoningContent": { "signature": "s" } }), D::ReasoningSignature("s".to_owned()));
    check_delta(json!({ "reasoningContent": { "redactedContent": "AQI=" } }), D::ReasoningRedacted(vec![1, 2]));
    for other in [
        json!({ "citation": { "title": "t" } }),
        json!({ "toolUse": { "input": "x", "type": "y" } }),
        json!({ "toolResult": [{ "text": "x" }] }),
        json!({ "reasoningContent": { "summary": "x" } }),
    ] {
        check_delta(other.clone(), D::Other(object(other)));
    }
}

#[test]
fn starts_and_stops_are_told_and_the_message_start_is_not() {
    let start = |start| Some(Event::BlockStart(v1::BlockStart { index: 1, start: Some(start) }));
    check_event(
        Kind::BlockStart,
        json!({ "contentBlockIndex": 1, "start": { "toolUse": { "toolUseId": "t", "name": "n" } } }),
        start(block_start::Start::ToolUse(v1::ToolUseStart { id: "t".to_owned(), name: "n".to_owned() })),
    );
    for other in [
        json!({ "image": { "format": "png" } }),
        json!({ "toolUse": { "toolUseId": "t", "name": "n", "type": "server_tool_use" } }),
    ] {
        check_event(
            Kind::BlockStart,
            json!({ "contentBlockIndex": 1, "start": other }),
            start(block_start::Start::Other(object(other))),
        );
    }
    check_event(Kind::BlockStart, json!({ "contentBlockIndex": 1 }), None);
    check_event(
        Kind::BlockStop,
        json!({ "contentBlockIndex": 4, "p": "ab" }),
        Some(Event::BlockStop(v1::BlockStop { index: 4 })),
    );
    check_event(Kind::MessageStart, json!({ "role": "assistant" }), None);
    check_event(Kind::Other, json!({ "what": "ever" }), None);
}

#[test]
fn the_end_gathers_what_the_last_events_say() {
    let mut pieces = Pieces::default();
    let usage = Usage { input: 1, output: 2, cache_read: 3, cache_write: 4 };
    let events = batch(&[
        (
            Kind::MessageStop("max_tokens".into()),
            json!({ "stopReason": "max_tokens", "additionalModelResponseFields": { "a": 1 }, "p": "abc" }),
        ),
        (
            Kind::Metadata(Some(usage)),
            json!({ "usage": { "inputTokens": 1, "outputTokens": 2, "totalTokens": 3 }, "metrics": { "latencyMs": 5 },
                "serviceTier": { "type": "flex" }, "p": "abcdef" }),
        ),
    ]);
    let mut to = VecDeque::new();
    pieces.add(&events, &mut to).unwrap();
    assert!(to.is_empty());
    let ended = Ended {
        completeness: Completeness::Truncated,
        stop_reason: Some("max_tokens".into()),
        usage: Some(usage),
        cost: None,
    };
    let Some(Event::End(end)) = pieces.end(&ended, &served()).event else { panic!("no end") };
    assert_eq!(end.completeness(), v1::Completeness::Truncated);
    assert_eq!(end.finish_reason(), v1::FinishReason::MaxTokens);
    assert_eq!(
        end.usage,
        Some(v1::Usage { input_tokens: 1, output_tokens: 2, cache_read_tokens: 3, cache_write_tokens: 4 })
    );
    assert_eq!(
        end.more,
        Some(object(json!({
            "additionalModelResponseFields": { "a": 1 },
            "metrics": { "latencyMs": 5 },
            "serviceTier": { "type": "flex" },
        })))
    );
}

#[test]
fn an_event_that_is_not_converse_keeps_those_before_it() {
    let mut to = VecDeque::new();
    let events = batch(&[
        (Kind::BlockDelta, json!({ "contentBlockIndex": 0, "delta": { "text": "a" } })),
        (Kind::BlockDelta, json!({ "delta": { "text": "b" } })),
        (Kind::BlockDelta, json!({ "contentBlockIndex": 0, "delta": { "text": "c" } })),
    ]);
    assert_eq!(Pieces::default().add(&events, &mut to), Err(Malformed));
    assert_eq!(to.len(), 1);
}
