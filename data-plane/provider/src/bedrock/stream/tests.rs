//! The decoder and the encoder against each other, and both against the AWS SDK's.

use aws_smithy_eventstream::frame::{read_message_from, write_message_to};
use aws_smithy_types::{
    DateTime,
    event_stream::{Header, HeaderValue, Message},
};
use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use switchtower_policy::{catalogue::Usage, failure::Class};

use super::{Decoder, Limits, encode};
use crate::{Failure, Kind};

/// A frame as the AWS SDK writes it.
fn smithy(headers: &[(&str, HeaderValue)], payload: &[u8]) -> Bytes {
    let headers = headers.iter().map(|(name, value)| Header::new((*name).to_owned(), value.clone())).collect();
    let mut frame = Vec::new();
    write_message_to(&Message::new_from_parts(headers, payload.to_vec()), &mut frame).unwrap();
    frame.into()
}

fn text(value: &str) -> HeaderValue {
    HeaderValue::String(value.to_owned().into())
}

/// A frame with these headers beside those of an event.
fn with_headers(headers: &[(&str, HeaderValue)]) -> Bytes {
    let mut all = vec![(":message-type", text("event")), (":event-type", text("contentBlockDelta"))];
    all.extend_from_slice(headers);
    smithy(&all, b"{}")
}

/// A frame of any headers, its checksums right.
fn raw(headers: &[u8], payload: &[u8]) -> Bytes {
    let mut frame = Vec::new();
    let total = 16 + headers.len() + payload.len();
    frame.extend_from_slice(&u32::try_from(total).unwrap().to_be_bytes());
    frame.extend_from_slice(&u32::try_from(headers.len()).unwrap().to_be_bytes());
    frame.extend_from_slice(&crc32fast::hash(&frame).to_be_bytes());
    frame.extend_from_slice(headers);
    frame.extend_from_slice(payload);
    frame.extend_from_slice(&crc32fast::hash(&frame).to_be_bytes());
    frame.into()
}

/// What chunks decode to: each event with its frame and payload, and how it ended.
type Decoded = (Vec<(Kind, Bytes, Bytes)>, Result<usize, Failure>);

fn decode<C: Into<Bytes>>(chunks: impl IntoIterator<Item = C>) -> Decoded {
    decode_within(Limits::default(), chunks)
}

fn decode_within<C: Into<Bytes>>(limits: Limits, chunks: impl IntoIterator<Item = C>) -> Decoded {
    let mut decoder = Decoder::new(limits);
    let mut events = Vec::new();
    for chunk in chunks {
        decoder.push(chunk.into());
        loop {
            match decoder.next() {
                Ok(Some(batch)) => {
                    let mut at = 0;
                    for event in &batch.events {
                        assert_eq!(event.frame.start, at, "frames stand one behind the other");
                        at = event.frame.end;
                        let slice = |range: &std::ops::Range<usize>| batch.bytes.slice(range.clone());
                        events.push((event.kind.clone(), slice(&event.frame), slice(&event.payload)));
                    }
                    assert!(!batch.events.is_empty() && at == batch.bytes.len(), "a batch is its frames and no more");
                }
                Ok(None) => break,
                Err(failure) => {
                    decoder.push(encode::event("messageStart", b"{}"));
                    assert_eq!(decoder.next().unwrap_err(), failure, "a failure is the end");
                    return (events, Err(failure));
                }
            }
        }
    }
    assert_eq!(decoder.is_empty(), decoder.buffered() == 0);
    (events, Ok(decoder.buffered()))
}

/// The one event of one frame.
#[track_caller]
fn kind(frame: Bytes) -> Kind {
    let (mut events, end) = decode([frame]);
    assert_eq!((events.len(), end), (1, Ok(0)));
    events.remove(0).0
}

/// The failure that one frame is.
#[track_caller]
fn failure(frame: Bytes) -> Failure {
    let (events, end) = decode([frame]);
    assert!(events.is_empty());
    let failure = end.unwrap_err();
    assert!(failure.sent);
    failure
}

/// The sentence of the framing violation that one frame is.
#[track_caller]
fn violation(frame: Bytes) -> String {
    let failure = failure(frame);
    assert_eq!((failure.class, failure.code, failure.status), (Class::Protocol, None, None));
    failure.message.into()
}

/// A whole answer, as Bedrock streams it.
fn answer() -> Vec<Bytes> {
    [
        ("messageStart", r#"{"role":"assistant","p":"abc"}"#),
        ("contentBlockStart", r#"{"contentBlockIndex":0,"start":{}}"#),
        ("contentBlockDelta", r#"{"contentBlockIndex":0,"delta":{"text":"Hé"}}"#),
        ("somethingNew", ""),
        ("contentBlockStop", r#"{"contentBlockIndex":0}"#),
        ("messageStop", r#"{"stopReason":"end_turn"}"#),
        ("metadata", r#"{"usage":{"inputTokens":3,"outputTokens":4,"totalTokens":7},"metrics":{"latencyMs":1}}"#),
    ]
    .map(|(event_type, payload)| encode::event(event_type, payload.as_bytes()))
    .to_vec()
}

#[test]
fn each_event_is_told_by_its_type() {
    let (events, end) = decode([answer().concat()]);
    let kinds: Vec<_> = events.into_iter().map(|(kind, ..)| kind).collect();
    let usage = Usage { input: 3, output: 4, ..Usage::default() };
    let expected = [
        Kind::MessageStart,
        Kind::BlockStart,
        Kind::BlockDelta,
        Kind::Other,
        Kind::BlockStop,
        Kind::MessageStop("end_turn".into()),
        Kind::Metadata(Some(usage)),
    ];
    assert_eq!((kinds.as_slice(), end), (expected.as_slice(), Ok(0)));
}

#[test]
fn wherever_a_stream_is_cut_its_events_are_the_same() {
    let stream = Bytes::from(answer().concat());
    let whole = decode([stream.clone()]);
    for cut in 0..=stream.len() {
        assert_eq!(decode([stream.slice(..cut), stream.slice(cut..)]), whole, "cut at {cut}");
        let (events, end) = decode([stream.slice(..cut)]);
        assert_eq!(events, whole.0[..events.len()]);
        let complete: usize = events.iter().map(|(_, frame, _)| frame.len()).sum();
        assert_eq!(end, Ok(cut - complete), "what is left of a stream that ends at {cut}");
    }
    assert_eq!(decode(stream.chunks(1).map(Bytes::copy_from_slice)), whole);
}

#[test]
fn whole_frames_of_a_chunk_are_one_batch_in_the_chunks_own_memory() {
    let frames = answer();
    let chunk = Bytes::from([&frames.concat()[..], &frames[0][..20]].concat());
    let mut decoder = Decoder::default();
    decoder.push(chunk.clone());
    let batch = decoder.next().unwrap().unwrap();
    assert_eq!((batch.bytes.as_ptr(), batch.events.len()), (chunk.as_ptr(), 7));
    assert_eq!((decoder.next().unwrap().is_none(), decoder.buffered()), (true, 20));
    // The rest of a cut frame brings the frames behind it along.
    decoder.push([&frames[0][20..], &frames[1][..]].concat().into());
    assert_eq!(decoder.next().unwrap().unwrap().events.len(), 2);
    assert!(decoder.next().unwrap().is_none() && decoder.is_empty());
}

#[test]
fn chunks_may_be_pushed_ahead() {
    let stream = Bytes::from(answer().concat());
    let mut decoder = Decoder::default();
    for chunk in stream.chunks(7) {
        decoder.push(Bytes::copy_from_slice(chunk));
    }
    assert_eq!(decoder.buffered(), stream.len());
    let mut events = 0;
    while let Some(batch) = decoder.next().unwrap() {
        events += batch.events.len();
    }
    assert!(events == 7 && decoder.is_empty());
}

#[test]
fn the_work_grows_with_the_bytes_and_not_with_the_pieces() {
    let payload = format!(r#"{{"delta":{{"text":"{}"}}}}"#, "a".repeat(1 << 20));
    let large = encode::event("contentBlockDelta", payload.as_bytes());
    let small = Bytes::from(encode::event("contentBlockDelta", b"{}").repeat(10_000));
    for stream in [large, small] {
        for piece in [1, 100, 16 << 10] {
            let mut decoder = Decoder::default();
            for chunk in stream.chunks(piece) {
                decoder.push(Bytes::copy_from_slice(chunk));
                while decoder.next().unwrap().is_some() {}
            }
            assert!(decoder.is_empty());
            // Copied when a frame is cut, copied to its own memory, summed: three, and a little for the first bytes.
            assert!(decoder.work <= stream.len() * 4, "{} for {} in pieces of {piece}", decoder.work, stream.len());
        }
    }
}

#[test]
fn memory_follows_what_came_not_what_is_announced() {
    let frame = encode::event("contentBlockDelta", &vec![b' '; 20 << 20]);
    let mut decoder = Decoder::default();
    decoder.push(frame.slice(..100));
    assert!(decoder.next().unwrap().is_none());
    assert!(decoder.cut.capacity() < 1000);
}

#[test]
fn a_change_of_any_byte_is_noticed() {
    let frames = answer();
    let stream = frames.concat();
    let whole = decode([stream.clone()]).0;
    for at in 0..stream.len() {
        for change in [0x01, 0x80, 0xff] {
            let mut changed = stream.clone();
            changed[at] ^= change;
            let (events, end) = decode([changed]);
            assert_eq!(events, whole[..events.len()], "byte {at}");
            assert!(events.len() < whole.len());
            assert_eq!(end.unwrap_err().class, Class::Protocol, "byte {at}");
        }
    }
}

#[test]
fn headers_of_every_type_are_passed_over() {
    let values = [
        HeaderValue::Bool(true),
        HeaderValue::Bool(false),
        HeaderValue::Byte(-1),
        HeaderValue::Int16(-2),
        HeaderValue::Int32(-3),
        HeaderValue::Int64(-4),
        HeaderValue::ByteArray(Bytes::from_static(b"\x00\xff")),
        text("é"),
        text(""),
        HeaderValue::Timestamp(DateTime::from_secs(5)),
        HeaderValue::Uuid(6),
    ];
    for value in &values {
        let frame = smithy(
            &[
                ("x", value.clone()),
                (":message-type", text("event")),
                ("y", value.clone()),
                (":event-type", text("contentBlockStop")),
            ],
            b"payload",
        );
        let (events, end) = decode([frame.clone()]);
        assert_eq!((events, end), (vec![(Kind::BlockStop, frame, Bytes::from_static(b"payload"))], Ok(0)), "{value:?}");
    }
}

#[test]
fn headers_that_cannot_be_read_are_a_violation() {
    let unreadable = "The headers of a frame cannot be read.";
    let event = b"\x0b:event-type\x07\x00\x01x\x0d:message-type\x07\x00\x05event";
    assert_eq!(kind(raw(event, b"")), Kind::Other);
    for end in 1..event.len() {
        if end != 16 {
            assert_eq!(violation(raw(&event[..end], b"")), unreadable, "headers that end at {end}");
        }
    }
    for headers in [
        &b"\x00\x00"[..],
        b"\x01a",
        b"\x01a\x0a",
        b"\x01a\xff",
        b"\x01a\x02",
        b"\x01a\x03\x00",
        b"\x01a\x04\x00\x00\x00",
        b"\x01a\x05\x00\x00\x00\x00\x00\x00\x00",
        b"\x01a\x06\x00",
        b"\x01a\x06\x00\x01",
        b"\x01a\x07\xff\xff",
        b"\x01a\x08\x00\x00\x00\x00\x00\x00\x00",
        b"\x01a\x09\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
        b"\x0b:event-type\x00",
        b"\x0d:message-type\x06\x00\x05event",
    ] {
        assert_eq!(violation(raw(headers, b"")), unreadable, "{headers:?}");
    }
}

#[test]
fn a_header_that_stands_twice_is_a_violation() {
    let twice = "A header of a frame stands twice.";
    assert_eq!(violation(with_headers(&[("a", text("1")), ("b", text("1")), ("a", HeaderValue::Bool(true))])), twice);
    for name in [":message-type", ":event-type"] {
        assert_eq!(violation(with_headers(&[(name, text("event"))])), twice);
    }
    assert_eq!(violation(with_headers(&[(":content-type", text("a")), (":content-type", text("a"))])), twice);
    let many: Vec<_> = (0..20_000).map(|number| format!("{number:x}")).collect();
    let many: Vec<_> = many.iter().map(|name| (name.as_str(), HeaderValue::Bool(true))).collect();
    assert_eq!(kind(with_headers(&many)), Kind::BlockDelta);
}

#[test]
fn a_frame_must_tell_what_it_is() {
    for (headers, expected) in [
        (vec![], "A frame does not tell what it is."),
        (vec![(":event-type", text("metadata"))], "A frame does not tell what it is."),
        (vec![(":message-type", text("Event"))], "A frame is neither an event nor an exception nor an error."),
        (vec![(":message-type", text("event"))], "An event in the stream has no type."),
        (vec![(":message-type", text("exception"))], "An exception in the stream has no type."),
    ] {
        assert_eq!(violation(smithy(&headers, b"{}")), expected);
    }
}

#[test]
fn frames_longer_than_the_limits_are_refused_by_their_first_twelve_bytes() {
    let limits = Limits { headers: 100, payload: 50 };
    let exact = encode::event("contentBlockDelta", &[b' '; 50]);
    assert_eq!(decode_within(limits, [exact.clone()]).0.len(), 1);
    let too_long = |frame: &Bytes, limits| decode_within(limits, [frame.slice(..12)]).1.unwrap_err().message;
    let message: Box<str> = "A frame is longer than is taken.".into();
    assert_eq!(too_long(&encode::event("contentBlockDelta", &[b' '; 51]), limits), message);
    assert_eq!(too_long(&exact, Limits { headers: 10, ..limits }), message);
    let largest = encode::event("contentBlockDelta", &vec![b' '; 24 << 20]);
    assert_eq!(decode([largest.slice(..12)]).1, Ok(12));
    let larger = encode::event("contentBlockDelta", &vec![b' '; (24 << 20) + 1]);
    assert_eq!(too_long(&larger, Limits::default()), message);
}

#[test]
fn lengths_that_contradict_each_other_are_refused() {
    for (total, headers) in [(0, 0), (15, 0), (16, 1), (100, 85), (20, u32::MAX)] {
        let mut prelude = [u32::to_be_bytes(total), u32::to_be_bytes(headers)].concat();
        prelude.extend_from_slice(&crc32fast::hash(&prelude).to_be_bytes());
        let message = decode([prelude]).1.unwrap_err().message;
        assert_eq!(&*message, "The lengths of a frame contradict each other.");
    }
}

#[test]
fn a_message_stop_tells_its_reason() {
    #[track_caller]
    fn check(payload: &str, expected: Option<&str>) {
        let frame = encode::event("messageStop", payload.as_bytes());
        match expected {
            Some(reason) => assert_eq!(kind(frame), Kind::MessageStop(reason.into())),
            None => assert_eq!(violation(frame), "The event messageStop is not JSON or has no stop reason."),
        }
    }
    check(r#"{"stopReason":"tool_use","additionalModelResponseFields":{"a":[1]},"p":"x"}"#, Some("tool_use"));
    check(r#"{"stopReason":"\u0065nd"}"#, Some("end"));
    for payload in ["", "{", "{}", "[]", r#"["end_turn"]"#, r#"{"stopReason":null}"#, r#"{"stopReason":"a"} x"#] {
        check(payload, None);
    }
}

#[test]
fn metadata_tells_the_tokens_used_if_they_are_there() {
    #[track_caller]
    fn check(payload: &str, expected: Option<[u64; 4]>) {
        let usage =
            expected.map(|[input, output, cache_read, cache_write]| Usage { input, output, cache_read, cache_write });
        assert_eq!(kind(encode::event("metadata", payload.as_bytes())), Kind::Metadata(usage), "{payload}");
    }
    check(r#"{"usage":{"inputTokens":1,"outputTokens":2,"totalTokens":3}}"#, Some([1, 2, 0, 0]));
    check(
        r#"{"usage":{"inputTokens":1,"outputTokens":2,"cacheReadInputTokens":3,"cacheWriteInputTokens":4,"new":[]}}"#,
        Some([1, 2, 3, 4]),
    );
    check(r#"{"usage":{"inputTokens":1,"outputTokens":2,"cacheReadInputTokens":null}}"#, Some([1, 2, 0, 0]));
    check(r#"{"metrics":{"latencyMs":1}}"#, None);
    check(r#"{"usage":null}"#, None);
    check(r#"{"usage":{"inputTokens":-1,"outputTokens":2}}"#, None);
    check(r#"{"usage":{"inputTokens":1}}"#, None);
    for payload in ["", "x", "7", "[null]", r#"{"usage":{}"#, "{}{}"] {
        let frame = encode::event("metadata", payload.as_bytes());
        assert_eq!(violation(frame), "The event metadata is not a JSON object.", "{payload}");
    }
}

#[test]
fn an_exception_is_the_failure_that_its_name_stands_for() {
    #[track_caller]
    fn check(name: &str, payload: &str, code: Option<&str>, status: Option<u16>, class: Class) {
        let failure = failure(encode::exception(name, payload.as_bytes()));
        assert_eq!((failure.code.as_deref(), failure.status, failure.class), (code, status, class), "{name}");
    }
    let body = r#"{"message":"m"}"#;
    check("internalServerException", body, Some("InternalServerException"), Some(500), Class::Internal);
    check("validationException", body, Some("ValidationException"), Some(400), Class::Invalid);
    check("throttlingException", body, Some("ThrottlingException"), Some(429), Class::Throttled);
    check("ThrottlingException", body, Some("ThrottlingException"), Some(429), Class::Throttled);
    check("serviceUnavailableException", body, Some("ServiceUnavailableException"), Some(503), Class::Unavailable);
    check("modelTimeoutException", body, Some("ModelTimeoutException"), Some(408), Class::ModelTimeout);
    let stream_error = Some("ModelStreamErrorException");
    check("modelStreamErrorException", body, stream_error, Some(424), Class::ModelError);
    let refused = r#"{"originalStatusCode":400,"originalMessage":"o"}"#;
    check("modelStreamErrorException", refused, stream_error, Some(424), Class::ModelRefused);
    check("modelStreamErrorException", r#"{"originalStatusCode":503}"#, stream_error, Some(424), Class::ModelError);
    check("somethingNew", body, Some("SomethingNew"), None, Class::Internal);
    check("not a name", body, None, None, Class::Internal);
    check("", body, None, None, Class::Internal);
}

#[test]
fn an_exceptions_message_goes_to_the_caller() {
    #[track_caller]
    fn check(payload: &str, expected: &str) {
        let failure = failure(encode::exception("modelStreamErrorException", payload.as_bytes()));
        assert_eq!(&*failure.message, expected, "{payload}");
        assert!(!failure.to_string().contains("secret"));
    }
    check(r#"{"message":"secret"}"#, "secret");
    check(r#"{"Message":"secret"}"#, "secret");
    check(r#"{"message":"","originalMessage":"secret"}"#, "secret");
    check(r#"{"originalMessage":"secret","originalStatusCode":400}"#, "secret");
    for payload in ["", "secret", "{}", r#"{"message":7}"#] {
        check(payload, "Bedrock ended the stream with an error.");
    }
}

#[test]
fn an_error_that_nobody_modelled_is_a_failure_too() {
    let error = |headers: &[(&str, HeaderValue)]| {
        let mut all = vec![(":message-type", text("error"))];
        all.extend_from_slice(headers);
        let failure = failure(smithy(&all, b""));
        (failure.class, failure.code.map(String::from), String::from(failure.message))
    };
    let known = error(&[(":error-code", text("throttlingException")), (":error-message", text("slow down"))]);
    assert_eq!(known, (Class::Throttled, Some("ThrottlingException".into()), "slow down".into()));
    let unknown = error(&[(":error-code", text("Oops"))]);
    assert_eq!(unknown, (Class::Internal, Some("Oops".into()), "Bedrock ended the stream with an error.".into()));
    assert_eq!(error(&[]).0, Class::Internal);
}

#[test]
fn events_before_a_failure_in_the_same_chunk_come_first_and_those_behind_it_never() {
    let frames = answer();
    let exception = encode::exception("throttlingException", b"{}");
    let (events, end) = decode([[&frames[0][..], &frames[1], &exception, &frames[2]].concat()]);
    assert_eq!((events.len(), end.unwrap_err().class), (2, Class::Throttled));
    let (events, end) = decode([frames[0].clone(), Bytes::from_static(b"HTTP/1.1 400"), frames[1].clone()]);
    assert_eq!((events.len(), end.unwrap_err().class), (1, Class::Protocol));
}

#[test]
fn our_frames_are_byte_for_byte_those_of_bedrock() {
    let json = (":content-type", text("application/json"));
    let event = [(":event-type", text("metadata")), json.clone(), (":message-type", text("event"))];
    assert_eq!(encode::event("metadata", b"{}"), smithy(&event, b"{}"));
    let exception = [(":exception-type", text("x")), json, (":message-type", text("exception"))];
    assert_eq!(encode::exception("x", b""), smithy(&exception, b""));
    let mut both = BytesMut::new();
    encode::append_event(&mut both, "metadata", b"{}");
    encode::append_exception(&mut both, "x", b"");
    assert_eq!(both, [encode::event("metadata", b"{}"), encode::exception("x", b"")].concat());
}

fn header_value() -> impl Strategy<Value = HeaderValue> {
    prop_oneof![
        any::<bool>().prop_map(HeaderValue::Bool),
        any::<i8>().prop_map(HeaderValue::Byte),
        any::<i16>().prop_map(HeaderValue::Int16),
        any::<i32>().prop_map(HeaderValue::Int32),
        any::<i64>().prop_map(HeaderValue::Int64),
        prop::collection::vec(any::<u8>(), 0..20).prop_map(|bytes| HeaderValue::ByteArray(bytes.into())),
        ".{0,20}".prop_map(|string| HeaderValue::String(string.into())),
        any::<i32>().prop_map(|secs| HeaderValue::Timestamp(DateTime::from_secs(secs.into()))),
        any::<u128>().prop_map(HeaderValue::Uuid),
    ]
}

proptest! {
    #[test]
    fn what_the_sdk_writes_is_read_and_what_we_write_the_sdk_reads(
        others in prop::collection::btree_map("[a-z-]{1,20}", header_value(), 0..6),
        payload in prop::collection::vec(any::<u8>(), 0..300),
        split in 0..400_usize,
    ) {
        let others: Vec<_> = others.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
        let mut headers = vec![(":message-type", text("event")), (":event-type", text("contentBlockDelta"))];
        headers.extend_from_slice(&others);
        headers.rotate_left(split % 3 % (others.len() + 1));
        let frame = smithy(&headers, &payload);
        let split = split.min(frame.len());
        let (events, end) = decode([frame.slice(..split), frame.slice(split..)]);
        prop_assert_eq!((events, end), (vec![(Kind::BlockDelta, frame, Bytes::from(payload.clone()))], Ok(0)));

        let message = read_message_from(encode::event("contentBlockDelta", &payload)).unwrap();
        prop_assert_eq!(&message.payload()[..], &payload);
        prop_assert_eq!(message.headers()[0].value(), &text("contentBlockDelta"));
    }

    #[test]
    fn bytes_of_any_kind_are_read_without_a_panic(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..6)
    ) {
        let (events, _) = decode(chunks);
        prop_assert!(events.is_empty());
    }

    #[test]
    fn headers_of_any_kind_are_read_without_a_panic(
        headers in prop::collection::vec(prop_oneof![0..10_u8, any::<u8>()], 0..40)
    ) {
        let (events, _) = decode([raw(&headers, b"{}")]);
        prop_assert!(events.is_empty());
    }
}
