//! Frames of `application/vnd.amazon.eventstream`: right ones, written by Amazon's own writer, and frames that are
//! wrong in exactly one way.

use aws_smithy_eventstream::frame::write_message_to;
use aws_smithy_types::event_stream::{Header, HeaderValue, Message};
use bytes::{BufMut, Bytes, BytesMut};
use serde_json::json;

/// The exceptions that `ConverseStreamOutput` has a frame for. (`ModelTimeoutException` has none.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // The names are Amazon's.
pub enum StreamException {
    InternalServer,
    ModelStreamError,
    Validation,
    Throttling,
    ServiceUnavailable,
}

impl StreamException {
    /// The value of `:exception-type`: the member of the union, not the exception's own name.
    #[must_use]
    pub fn member(self) -> &'static str {
        match self {
            StreamException::InternalServer => "internalServerException",
            StreamException::ModelStreamError => "modelStreamErrorException",
            StreamException::Validation => "validationException",
            StreamException::Throttling => "throttlingException",
            StreamException::ServiceUnavailable => "serviceUnavailableException",
        }
    }
}

/// Appends one event to a buffer.
pub(crate) fn write_event(kind: &'static str, payload: impl Into<Bytes>, buffer: &mut BytesMut) {
    let headers =
        vec![text(":event-type", kind), text(":content-type", "application/json"), text(":message-type", "event")];
    write(headers, payload.into(), buffer);
}

/// A modelled exception.
pub(crate) fn exception(kind: StreamException, message: Option<&str>, original_status: Option<u16>) -> Bytes {
    let message = message.unwrap_or("The model's stream broke.");
    let payload = if kind == StreamException::ModelStreamError {
        json!({
            "message": message,
            "originalStatusCode": original_status.unwrap_or(500),
            "originalMessage": message,
        })
    } else {
        json!({ "message": message })
    };
    let headers = vec![
        text(":exception-type", kind.member()),
        text(":content-type", "application/json"),
        text(":message-type", "exception"),
    ];
    let mut buffer = BytesMut::new();
    write(headers, Bytes::from(payload.to_string()), &mut buffer);
    buffer.freeze()
}

/// An error that no model describes.
pub(crate) fn unmodelled_error(message: Option<&str>) -> Bytes {
    let message = message.unwrap_or("The connection to the model was lost.").to_owned();
    let headers = vec![
        text(":error-code", "InternalFailure"),
        Header::new(":error-message", HeaderValue::String(message.into())),
        text(":message-type", "error"),
    ];
    let mut buffer = BytesMut::new();
    write(headers, Bytes::new(), &mut buffer);
    buffer.freeze()
}

/// The frame with a wrong checksum at its end.
pub(crate) fn with_bad_checksum(frame: &[u8]) -> Bytes {
    with_flipped_byte(frame, frame.len() - 1)
}

/// The frame with a wrong checksum of its prelude.
pub(crate) fn with_bad_prelude_checksum(frame: &[u8]) -> Bytes {
    with_flipped_byte(frame, PRELUDE_LENGTH - 1)
}

/// A prelude whose checksum is right and whose length nobody should believe.
pub(crate) fn absurd_length() -> Bytes {
    let mut prelude = BytesMut::with_capacity(PRELUDE_LENGTH);
    prelude.put_u32(i32::MAX.unsigned_abs());
    prelude.put_u32(16);
    let checksum = crc32fast::hash(&prelude);
    prelude.put_u32(checksum);
    prelude.freeze()
}

/// Total length, length of the headers, and the checksum of both.
const PRELUDE_LENGTH: usize = 12;

fn with_flipped_byte(frame: &[u8], at: usize) -> Bytes {
    let mut frame = frame.to_vec();
    frame[at] ^= 0xff;
    Bytes::from(frame)
}

fn text(name: &'static str, value: &'static str) -> Header {
    Header::new(name, HeaderValue::String(value.into()))
}

fn write(headers: Vec<Header>, payload: Bytes, buffer: &mut BytesMut) {
    write_message_to(&Message::new_from_parts(headers, payload), buffer)
        .expect("names and values are far below the format's limits, and scripts bound the payload");
}

#[cfg(test)]
mod tests {
    use aws_smithy_eventstream::frame::read_message_from;

    use super::*;

    #[test]
    fn frames_are_broken_only_where_they_should_be() {
        let mut buffer = BytesMut::new();
        write_event("messageStop", r#"{"stopReason":"end_turn"}"#, &mut buffer);
        let whole = buffer.freeze();
        let check = |frame: Bytes, readable: bool| assert_eq!(read_message_from(frame).is_ok(), readable);
        check(whole.clone(), true);
        check(exception(StreamException::ModelStreamError, Some("why"), Some(503)), true);
        check(unmodelled_error(None), true);
        check(with_bad_checksum(&whole), false);
        check(with_bad_prelude_checksum(&whole), false);
        check(absurd_length(), false);
    }
}
