//! A streamed answer: what comes over the connection, handed on as events.

use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::header;

use super::{error, stream::Decoder, transport::Body};
use crate::{Batch, EventSource, Failure};

const CONTENT_TYPE: &str = "application/vnd.amazon.eventstream";

/// The most that is gathered before it is handed on: enough to write it in one go, little enough that one fast stream
/// neither grows nor holds up its neighbours.
const MAX_GATHERED: usize = 64 * 1024;

/// Events of one answer. Dropped, it closes the connection.
pub(super) struct Source {
    body: Body,
    decoder: Decoder,
    /// The body's end, which is told after the events before it.
    end: Option<Result<(), Failure>>,
}

impl Source {
    /// # Errors
    /// The answer is no event stream.
    pub(super) fn new(head: &http::response::Parts, body: Body) -> Result<Self, Failure> {
        let content_type = head.headers.get(header::CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
        let media_type = content_type.split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
        if media_type.eq_ignore_ascii_case(CONTENT_TYPE.as_bytes()) {
            Ok(Source { body, decoder: Decoder::default(), end: None })
        } else {
            Err(error::protocol("The answer is no event stream.", Some(head.status.as_u16())))
        }
    }

    /// Hands to the decoder what is there. Pending: nothing was, and nothing ended.
    ///
    /// Upstream writes a chunk per frame. What is there already is gathered from its chunks, so that a model that is
    /// faster than its reader costs one batch for many frames; a chunk alone is not copied.
    fn gather(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut first: Option<Bytes> = None;
        let mut more = BytesMut::new();
        while self.end.is_none() && more.len() < MAX_GATHERED {
            match self.body.poll_data(cx) {
                Poll::Pending => break,
                Poll::Ready(None) => self.end = Some(Ok(())),
                Poll::Ready(Some(Err(failure))) => self.end = Some(Err(failure)),
                Poll::Ready(Some(Ok(data))) if first.is_none() => first = Some(data),
                Poll::Ready(Some(Ok(data))) => {
                    if more.is_empty() {
                        more.extend_from_slice(first.as_deref().unwrap_or_default());
                    }
                    more.extend_from_slice(&data);
                }
            }
        }
        let is_something = first.is_some() || self.end.is_some();
        self.decoder.push(if more.is_empty() { first.unwrap_or_default() } else { more.freeze() });
        if is_something { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl EventSource for Source {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Batch>, Failure>> {
        loop {
            match self.decoder.next() {
                Ok(None) => {}
                batch => return Poll::Ready(batch),
            }
            match self.end.take() {
                None => {}
                Some(Ok(())) if self.decoder.is_empty() => return Poll::Ready(Ok(None)),
                Some(Ok(())) => return Poll::Ready(Err(error::broken("The stream ended inside a frame."))),
                Some(Err(failure)) => return Poll::Ready(Err(failure)),
            }
            if self.gather(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }
}
