//! Event streams, read by AWS's own decoder.

use aws_smithy_eventstream::frame::{DecodedFrame, MessageFrameDecoder};
use bytes::Bytes;
use serde_json::Value;

/// One frame.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// `event` or `exception`.
    pub message_type: String,
    /// The event's or the exception's name.
    pub name: String,
    /// The payload.
    pub payload: Value,
}

/// The frames of a body, which must hold nothing else.
///
/// # Panics
/// It holds something else, or half a frame.
#[must_use]
pub fn decode(body: &Bytes) -> Vec<Event> {
    let (mut decoder, mut rest, mut events) = (MessageFrameDecoder::new(), body.clone(), Vec::new());
    loop {
        match decoder.decode_frame(&mut rest).expect("AWS's decoder reads what the node writes") {
            DecodedFrame::Complete(message) => events.push(event(&message)),
            _ => {
                assert!(rest.is_empty() && decoder_is_done(body, &events), "the body ends inside a frame: {events:?}");
                return events;
            }
        }
    }
}

/// Whether the frames that were read are as long together as the body: the decoder swallows the beginning of the next.
fn decoder_is_done(body: &Bytes, events: &[Event]) -> bool {
    let mut at = 0;
    for _ in events {
        let length: [u8; 4] = body[at..at + 4].try_into().expect("a frame begins with its length");
        at += u32::from_be_bytes(length) as usize;
    }
    at == body.len()
}

fn event(message: &aws_smithy_types::event_stream::Message) -> Event {
    let header = |name: &str| {
        let found = message.headers().iter().find(|header| header.name().as_str() == name)?;
        found.value().as_string().ok().map(|value| value.as_str().to_owned())
    };
    let payload = serde_json::from_slice(message.payload()).expect("payloads are JSON");
    Event {
        message_type: header(":message-type").expect("every frame has a type"),
        name: header(":event-type").or_else(|| header(":exception-type")).unwrap_or_default(),
        payload,
    }
}

/// The text of all deltas.
#[must_use]
pub fn text(events: &[Event]) -> String {
    events.iter().filter_map(|event| event.payload["delta"]["text"].as_str()).collect()
}

/// The names of the events.
#[must_use]
pub fn names(events: &[Event]) -> Vec<&str> {
    events.iter().map(|event| event.name.as_str()).collect()
}
