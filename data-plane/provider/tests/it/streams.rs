//! Streams, whole and broken: both clients see the same events in the same order, and the same kind of end.

use aws_sdk_bedrockruntime::{
    error::{ProvideErrorMetadata, SdkError},
    operation::converse_stream::ConverseStreamOutput as Output,
    types::{
        ContentBlockDelta, ContentBlockStart, ConverseStreamOutput, ReasoningContentBlockDelta,
        error::ConverseStreamOutputError,
    },
};
use aws_smithy_eventstream::frame::write_message_to;
use aws_smithy_types::event_stream::{Header, HeaderValue, Message};
use serde_json::Value;
use switchtower_policy::failure::Class;
use switchtower_provider::{Answer, Events, Failure, Kind, Operation, Provider};

use crate::{
    server::{End, Server, chunked},
    setup::{MODEL, attempt, lean, sdk},
};

/// A frame, by an encoder that is not ours.
fn frame(headers: &[(&'static str, &str)], payload: &str) -> Vec<u8> {
    let headers =
        headers.iter().map(|(name, value)| Header::new(*name, HeaderValue::String((*value).to_owned().into())));
    let message = Message::new_from_parts(headers.collect(), payload.to_owned().into_bytes());
    let mut bytes = Vec::new();
    write_message_to(&message, &mut bytes).unwrap();
    bytes
}

fn event(event_type: &str, payload: &str) -> Vec<u8> {
    frame(&[(":message-type", "event"), (":event-type", event_type), (":content-type", "application/json")], payload)
}

fn exception(exception_type: &str, payload: &str) -> Vec<u8> {
    let headers =
        [(":message-type", "exception"), (":exception-type", exception_type), (":content-type", "application/json")];
    frame(&headers, payload)
}

fn beginning() -> Vec<Vec<u8>> {
    vec![
        event("messageStart", r#"{"role":"assistant","p":"abcd"}"#),
        event("contentBlockDelta", r#"{"contentBlockIndex":0,"delta":{"text":"héllo"},"p":"ab"}"#),
    ]
}

fn complete() -> Vec<Vec<u8>> {
    let mut frames = beginning();
    frames.extend([
        event("contentBlockDelta", r#"{"contentBlockIndex":0,"delta":{"text":" world"}}"#),
        event("contentBlockStop", r#"{"contentBlockIndex":0}"#),
        event("contentBlockDelta", r#"{"contentBlockIndex":1,"delta":{"reasoningContent":{"text":"so"}}}"#),
        event("contentBlockDelta", r#"{"contentBlockIndex":1,"delta":{"reasoningContent":{"signature":"c2ln"}}}"#),
        event("contentBlockStop", r#"{"contentBlockIndex":1}"#),
        event("contentBlockStart", r#"{"contentBlockIndex":2,"start":{"toolUse":{"toolUseId":"t","name":"one"}}}"#),
        event("contentBlockDelta", r#"{"contentBlockIndex":2,"delta":{"toolUse":{"input":"{\"a\":"}}}"#),
        event("contentBlockDelta", r#"{"contentBlockIndex":2,"delta":{"toolUse":{"input":"1}"}}}"#),
        event("contentBlockStop", r#"{"contentBlockIndex":2}"#),
        event("messageStop", r#"{"stopReason":"tool_use"}"#),
        event(
            "metadata",
            r#"{"usage":{"inputTokens":11,"outputTokens":7,"totalTokens":18,"cacheReadInputTokens":5},"metrics":{"latencyMs":3}}"#,
        ),
    ]);
    frames
}

/// How a stream ended.
#[derive(Debug, PartialEq)]
enum Ended {
    Cleanly,
    /// With an error that Bedrock sent.
    Error {
        code: Option<String>,
        message: Option<String>,
    },
    /// Otherwise: the connection, or what came over it.
    Otherwise,
}

/// What a client saw, in words that both can say.
type Seen = (Vec<String>, Ended);

fn sdk_words(event: &ConverseStreamOutput) -> String {
    match event {
        ConverseStreamOutput::MessageStart(start) => format!("start {}", start.role().as_str()),
        ConverseStreamOutput::ContentBlockStart(start) => {
            let Some(ContentBlockStart::ToolUse(tool)) = start.start() else { panic!("{start:?}") };
            format!("block {} tool {} {}", start.content_block_index, tool.tool_use_id, tool.name)
        }
        ConverseStreamOutput::ContentBlockDelta(delta) => {
            let words = match delta.delta().unwrap() {
                ContentBlockDelta::Text(text) => format!("text {text}"),
                ContentBlockDelta::ToolUse(tool) => format!("input {}", tool.input),
                ContentBlockDelta::ReasoningContent(ReasoningContentBlockDelta::Text(text)) => {
                    format!("reasoning {text}")
                }
                ContentBlockDelta::ReasoningContent(ReasoningContentBlockDelta::Signature(text)) => {
                    format!("signature {text}")
                }
                other => panic!("{other:?}"),
            };
            format!("delta {} {words}", delta.content_block_index)
        }
        ConverseStreamOutput::ContentBlockStop(stop) => format!("end {}", stop.content_block_index),
        ConverseStreamOutput::MessageStop(stop) => format!("stop {}", stop.stop_reason().as_str()),
        ConverseStreamOutput::Metadata(metadata) => {
            let usage = metadata.usage().unwrap();
            let (read, write) =
                (usage.cache_read_input_tokens.unwrap_or(0), usage.cache_write_input_tokens.unwrap_or(0));
            format!("usage {} {} {read} {write}", usage.input_tokens, usage.output_tokens)
        }
        _ => "other".into(),
    }
}

fn lean_words(kind: &Kind, payload: &[u8]) -> String {
    let payload: Value = serde_json::from_slice(payload).unwrap();
    let text = |path: &str| payload.pointer(path).and_then(Value::as_str);
    let index = payload.get("contentBlockIndex").and_then(Value::as_u64).unwrap_or_default();
    match kind {
        Kind::MessageStart => format!("start {}", text("/role").unwrap()),
        Kind::BlockStart => {
            format!(
                "block {index} tool {} {}",
                text("/start/toolUse/toolUseId").unwrap(),
                text("/start/toolUse/name").unwrap()
            )
        }
        Kind::BlockDelta => {
            let words = [
                ("text", "/delta/text"),
                ("input", "/delta/toolUse/input"),
                ("reasoning", "/delta/reasoningContent/text"),
                ("signature", "/delta/reasoningContent/signature"),
            ];
            let words = words.into_iter().find_map(|(word, path)| Some(format!("{word} {}", text(path)?))).unwrap();
            format!("delta {index} {words}")
        }
        Kind::BlockStop => format!("end {index}"),
        Kind::MessageStop(reason) => format!("stop {reason}"),
        Kind::Metadata(usage) => {
            let usage = usage.unwrap();
            format!("usage {} {} {} {}", usage.input, usage.output, usage.cache_read, usage.cache_write)
        }
        Kind::Other => "other".into(),
    }
}

async fn through_the_sdk(server: &Server) -> (Vec<String>, Ended, Option<&'static str>) {
    let Output { mut stream, .. } = sdk(&server.url).converse_stream().model_id(MODEL).send().await.unwrap();
    let mut words = Vec::new();
    loop {
        match stream.recv().await {
            Ok(Some(event)) => words.push(sdk_words(&event)),
            Ok(None) => return (words, Ended::Cleanly, None),
            Err(SdkError::ServiceError(service)) => {
                let error = service.err();
                let variant = match error {
                    ConverseStreamOutputError::InternalServerException(_) => "InternalServer",
                    ConverseStreamOutputError::ModelStreamErrorException(_) => "ModelStreamError",
                    ConverseStreamOutputError::ValidationException(_) => "Validation",
                    ConverseStreamOutputError::ThrottlingException(_) => "Throttling",
                    ConverseStreamOutputError::ServiceUnavailableException(_) => "ServiceUnavailable",
                    _ => "unmodelled",
                };
                let (code, message) = (error.code().map(str::to_owned), error.message().map(str::to_owned));
                return (words, Ended::Error { code, message }, Some(variant));
            }
            Err(_) => return (words, Ended::Otherwise, None),
        }
    }
}

async fn events(server: &Server) -> Events {
    match lean(&server.url).attempt(attempt(MODEL, Operation::ConverseStream, "{}")).await.unwrap() {
        Answer::Stream(events) => events,
        Answer::Whole(_) => panic!("it was asked for a stream"),
    }
}

/// What the lean path sees, its failure, and the bytes that it passes on.
async fn through_the_lean_path(server: &Server) -> (Vec<String>, Result<(), Failure>, Vec<u8>) {
    let mut events = events(server).await;
    let (mut words, mut bytes) = (Vec::new(), Vec::new());
    loop {
        match events.next().await {
            Ok(Some(batch)) => {
                assert!(!batch.events.is_empty());
                words.extend(
                    batch.events.iter().map(|event| lean_words(&event.kind, &batch.bytes[event.payload.clone()])),
                );
                bytes.extend_from_slice(&batch.bytes);
            }
            Ok(None) => return (words, Ok(()), bytes),
            Err(failure) => return (words, Err(failure), bytes),
        }
    }
}

/// Both clients read this answer: the same events, and ends of the same kind; the lean one's is of this class (`None`:
/// it is clean). Gives what the SDK called an error.
async fn check(what: &str, answer: Vec<u8>, end: End, class: Option<Class>) -> (Seen, Option<&'static str>) {
    let server = Server::new(answer, end).await;
    let (sdk_words, sdk_end, variant) = through_the_sdk(&server).await;
    let (words, ended, _) = through_the_lean_path(&server).await;
    assert_eq!(words, sdk_words, "{what}");
    assert_eq!(ended.as_ref().err().map(|failure| failure.class), class, "{what}: {ended:?}, the SDK: {sdk_end:?}");
    match (&ended, &sdk_end) {
        (Ok(()), Ended::Cleanly) => {}
        (Err(failure), Ended::Error { message, .. }) => {
            if let Some(message) = message {
                assert_eq!(*failure.message, **message, "{what}");
            }
            assert!(failure.code.is_some(), "{what}");
        }
        (Err(failure), Ended::Otherwise) => assert_eq!(failure.code, None, "{what}"),
        unlike => panic!("{what}: {unlike:?}"),
    }
    assert!(ended.err().is_none_or(|failure| failure.sent), "{what}");
    ((sdk_words, sdk_end), variant)
}

#[tokio::test]
async fn a_complete_stream_has_the_sdks_events_and_its_bytes_are_untouched() {
    let frames = complete();
    let all = frames.concat();
    let one_by_one: Vec<&[u8]> = all.chunks(1).collect();
    let odd: Vec<&[u8]> = all.chunks(37).collect();
    let pieces = [chunked(&frames, true), chunked(&[&all], true), chunked(&one_by_one, true), chunked(&odd, true)];
    for answer in pieces {
        let ((words, _), _) = check("complete", answer.clone(), End::Close, None).await;
        assert_eq!(words.len(), frames.len());
        assert_eq!((&*words[1], words.last().unwrap().as_str()), ("delta 0 text héllo", "usage 11 7 5 0"));
        let server = Server::new(answer, End::Close).await;
        assert_eq!(through_the_lean_path(&server).await.2, all);
    }
}

#[tokio::test]
async fn events_of_a_new_type_are_passed_on() {
    let mut frames = beginning();
    frames.push(event("somethingNew", r#"{"a":1}"#));
    frames.extend(complete().split_off(2));
    let ((words, _), _) = check("new", chunked(&frames, true), End::Close, None).await;
    assert_eq!(words[2], "other");
}

#[tokio::test]
async fn every_exception_in_a_stream_is_what_the_sdk_takes_it_for() {
    for (name, variant, class) in [
        ("internalServerException", "InternalServer", Class::Internal),
        ("modelStreamErrorException", "ModelStreamError", Class::ModelError),
        ("validationException", "Validation", Class::Invalid),
        ("throttlingException", "Throttling", Class::Throttled),
        ("serviceUnavailableException", "ServiceUnavailable", Class::Unavailable),
        ("modelTimeoutException", "unmodelled", Class::ModelTimeout),
    ] {
        for mut frames in [vec![], beginning()] {
            frames.push(exception(name, r#"{"message":"why"}"#));
            // What comes behind an error is not read.
            frames.extend(beginning());
            let (_, seen) = check(name, chunked(&frames, true), End::Close, Some(class)).await;
            assert_eq!(seen, Some(variant), "{name}");
        }
    }
}

#[tokio::test]
async fn an_unmodelled_error_in_a_stream_is_an_error() {
    let mut frames = beginning();
    let headers = [(":message-type", "error"), (":error-code", "InternalFailure"), (":error-message", "why")];
    frames.push(frame(&headers, ""));
    let server = Server::new(chunked(&frames, true), End::Close).await;
    let (sdk_words, sdk_end, _) = through_the_sdk(&server).await;
    let (words, ended, _) = through_the_lean_path(&server).await;
    assert_eq!(words, sdk_words);
    assert_ne!(sdk_end, Ended::Cleanly);
    let failure = ended.unwrap_err();
    assert_eq!((failure.class, failure.code.as_deref()), (Class::Internal, Some("InternalFailure")));
    assert_eq!(&*failure.message, "why");
}

#[tokio::test]
async fn a_connection_that_breaks_is_an_error_wherever_it_breaks() {
    let frames = beginning();
    let mut cut = frames.clone();
    let half = event("contentBlockStop", r#"{"contentBlockIndex":0}"#);
    cut.push(half[..half.len() / 2].to_vec());
    for end in [End::Close, End::Reset] {
        check("cut between frames", chunked(&frames, false), end, Some(Class::Broken)).await;
        check("cut inside a frame", chunked(&cut, false), end, Some(Class::Broken)).await;
    }
}

#[tokio::test]
async fn a_clean_end_inside_a_frame_is_an_error() {
    let frame = event("contentBlockStop", r#"{"contentBlockIndex":0}"#);
    for length in [1, 11, 12, 40, frame.len() - 1] {
        let mut frames = beginning();
        frames.push(frame[..length].to_vec());
        let server = Server::new(chunked(&frames, true), End::Close).await;
        let (words, ended, _) = through_the_lean_path(&server).await;
        assert_eq!((words.len(), ended.unwrap_err().class), (2, Class::Broken), "{length}");
        let (sdk_words, sdk_end, _) = through_the_sdk(&server).await;
        // The SDK overlooks an end right behind a frame's lengths: its decoder has taken them out of its buffer by then.
        let expected = if length == 12 { Ended::Cleanly } else { Ended::Otherwise };
        assert_eq!((sdk_words.len(), sdk_end), (2, expected), "{length}");
    }
}

#[tokio::test]
async fn bytes_that_are_not_what_they_say_are_an_error() {
    let frame = event("contentBlockStop", r#"{"contentBlockIndex":0}"#);
    let spoilt = |at: usize| {
        let mut frame = frame.clone();
        frame[at] ^= 1;
        frame
    };
    let with_length = |total: u32| {
        let mut frame = frame.clone();
        frame[..4].copy_from_slice(&total.to_be_bytes());
        let checksum = crc32fast::hash(&frame[..8]);
        frame[8..12].copy_from_slice(&checksum.to_be_bytes());
        frame
    };
    for (what, bad) in [
        ("checksum of the lengths", spoilt(8)),
        ("checksum of the frame", spoilt(frame.len() - 1)),
        ("payload", spoilt(frame.len() - 6)),
        ("a frame shorter than its headers", with_length(20)),
    ] {
        let mut frames = beginning();
        frames.push(bad);
        frames.push(frame.clone());
        check(what, chunked(&frames, true), End::Close, Some(Class::Protocol)).await;
    }
    // The SDK would wait for 4 GiB; here it is refused at its first bytes, though nothing ends.
    let mut frames = beginning();
    frames.push(with_length(u32::MAX));
    let server = Server::new(chunked(&frames, false), End::Wait).await;
    let (words, ended, _) = through_the_lean_path(&server).await;
    assert_eq!((words.len(), ended.unwrap_err().class), (2, Class::Protocol));
}

#[tokio::test]
async fn an_end_without_a_stop_is_clean_here_as_in_the_sdk() {
    // Whether the model had finished is for whoever reads the events to say.
    for frames in [vec![], beginning(), complete().split_off(2)] {
        check("no stop", chunked(&frames, true), End::Close, None).await;
    }
}

#[tokio::test]
async fn dropping_the_events_hangs_up() {
    let server = Server::new(chunked(&beginning(), false), End::Wait).await;
    let mut events = events(&server).await;
    assert!(events.next().await.unwrap().is_some());
    drop(events);
    server.hung_up.notified().await;
}
