//! A reply stream as a response body: the upstream's frames as they came, and in the end what became of it.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::{Body, Frame};
use serde_json::json;
use switchtower_policy::failure::Class;
use switchtower_provider::{Failure, bedrock::stream::encode};

use crate::{record::Completeness, reply::ReplyStream};

/// The trailer that tells how a stream ended.
pub(super) const COMPLETENESS: HeaderName = HeaderName::from_static("x-switchtower-completeness");

/// A reply stream as a response body. Dropping it cancels the call upstream.
#[derive(Debug)]
pub struct EventStream {
    stream: ReplyStream,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// Everything was sent but the trailers.
    Ending(&'static str),
    Done,
}

impl EventStream {
    /// The body of a stream.
    #[must_use]
    pub fn of(stream: ReplyStream) -> Self {
        EventStream { stream, state: State::Open }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Frame<Bytes>>> {
        match self.state {
            State::Open => {}
            State::Ending(completeness) => {
                self.state = State::Done;
                return Poll::Ready(Some(Frame::trailers(trailers(completeness))));
            }
            State::Done => return Poll::Ready(None),
        }
        match self.stream.poll_next(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(Ok(batch))) => Poll::Ready(Some(Frame::data(batch.bytes))),
            Poll::Ready(Some(Err(failure))) => {
                self.state = State::Ending("broken");
                Poll::Ready(Some(Frame::data(exception(&failure))))
            }
            Poll::Ready(None) => {
                let ended = self.stream.ended().map_or(Completeness::Complete, |ended| ended.completeness);
                self.state = State::Done;
                Poll::Ready(Some(Frame::trailers(trailers(ended.as_str()))))
            }
        }
    }
}

impl Body for EventStream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.poll(cx).map(|frame| frame.map(Ok))
    }
}

/// How the stream ended, for whoever reads trailers: `complete`, `truncated`, `degraded` or `broken`.
fn trailers(completeness: &'static str) -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert(COMPLETENESS, HeaderValue::from_static(completeness));
    trailers
}

/// A stream that broke ends in an exception that AWS SDKs raise; after a clean end they would take it for whole.
fn exception(failure: &Failure) -> Bytes {
    let message = &failure.message;
    let (kind, payload) = match failure.class {
        Class::Throttled | Class::QuotaExceeded => ("throttlingException", json!({ "message": message })),
        Class::Unavailable | Class::ModelNotReady => ("serviceUnavailableException", json!({ "message": message })),
        Class::Internal => ("internalServerException", json!({ "message": message })),
        Class::Invalid | Class::ContextTooLong => ("validationException", json!({ "message": message })),
        _ => (
            "modelStreamErrorException",
            json!({
                "message": message,
                "originalMessage": message,
                "originalStatusCode": failure.status.unwrap_or(502),
            }),
        ),
    };
    encode::exception(kind, payload.to_string().as_bytes())
}
