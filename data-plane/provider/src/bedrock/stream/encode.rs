//! Frames of our own, as Bedrock writes them: for answers of our own, and for the end of a stream that broke.

use bytes::{BufMut, Bytes, BytesMut};

use super::frame::{PRELUDE, STRING};

/// Length of what stands around the value of a header beside its name: the name's length, the type, the value's length.
const HEADER: usize = 4;

/// A frame with an event, such as `contentBlockDelta`; the payload is JSON. Limits are those of [`append_event`].
#[must_use]
pub fn event(event_type: &str, payload: &[u8]) -> Bytes {
    let mut frame = BytesMut::new();
    append_event(&mut frame, event_type, payload);
    frame.freeze()
}

/// A frame with an exception, such as `modelStreamErrorException` (first letter small); the payload is JSON, with
/// `message`. A stream ends with it.
#[must_use]
pub fn exception(exception_type: &str, payload: &[u8]) -> Bytes {
    let mut frame = BytesMut::new();
    append_exception(&mut frame, exception_type, payload);
    frame.freeze()
}

/// Appends a frame with an event.
///
/// # Panics
/// Where the event type is longer than 64 KiB or the frame than 4 GiB: callers write names of the API, and bodies of a
/// bounded size.
pub fn append_event(buffer: &mut BytesMut, event_type: &str, payload: &[u8]) {
    append(
        buffer,
        [(":event-type", event_type), (":content-type", "application/json"), (":message-type", "event")],
        payload,
    );
}

/// Appends a frame with an exception. Panics as [`append_event`] does.
pub fn append_exception(buffer: &mut BytesMut, exception_type: &str, payload: &[u8]) {
    let headers =
        [(":exception-type", exception_type), (":content-type", "application/json"), (":message-type", "exception")];
    append(buffer, headers, payload);
}

fn append(buffer: &mut BytesMut, headers: [(&str, &str); 3], payload: &[u8]) {
    let headers_length: usize = headers.iter().map(|(name, value)| HEADER + name.len() + value.len()).sum();
    let total = PRELUDE + headers_length + payload.len() + 4;
    let frame = buffer.len();
    buffer.reserve(total);
    buffer.put_u32(total.try_into().expect("payloads are bounded"));
    buffer.put_u32(headers_length.try_into().expect("headers are shorter than the frame"));
    buffer.put_u32(crc32fast::hash(&buffer[frame..]));
    for (name, value) in headers {
        buffer.put_u8(name.len().try_into().expect("our names are short"));
        buffer.put_slice(name.as_bytes());
        buffer.put_u8(STRING);
        buffer.put_u16(value.len().try_into().expect("names of the API are short"));
        buffer.put_slice(value.as_bytes());
    }
    buffer.put_slice(payload);
    buffer.put_u32(crc32fast::hash(&buffer[frame..]));
}
