//! Model providers: a request in, events out.
//!
//! A provider knows no face and no caller's credential. It makes one attempt, classifies what went wrong into
//! `policy`'s failure classes, and decides nothing: retries, timers for first content, idle and total, and the choice
//! of the target are its caller's.

use std::{
    future::poll_fn,
    ops::Range,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use smallvec::SmallVec;
use switchtower_policy::{catalogue::Usage, failure::Class, snapshot::Target};

pub mod bedrock;
pub mod scripted;

/// What a call does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Bedrock's Converse: the whole answer at once.
    Converse,
    /// Bedrock's ConverseStream: an event stream.
    ConverseStream,
}

/// One attempt at one target.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// Where it goes.
    pub target: Arc<Target>,
    /// What it does.
    pub operation: Operation,
    /// The body in the operation's dialect, sent as it is.
    pub body: Bytes,
    /// To open a connection; `None`: 1 s, or 2 s with TLS.
    pub connect_timeout: Option<Duration>,
    /// The attempt's span; `None`: the provider is told of none.
    pub trace: Option<TraceHeaders>,
}

/// W3C trace context, as headers.
#[derive(Clone, Debug)]
pub struct TraceHeaders {
    /// `traceparent`.
    pub parent: http::HeaderValue,
    /// `tracestate`, the vendors' part; `None`: there is none.
    pub state: Option<http::HeaderValue>,
}

/// Makes attempts.
pub trait Provider: Send + Sync + 'static {
    /// Makes one attempt. Resolves for a unary call with the whole answer, for a stream as soon as the head of a
    /// response of success is there.
    ///
    /// Cancel safe: dropping the future or the stream cancels the call upstream.
    fn attempt(&self, attempt: Attempt) -> BoxFuture<'_, Result<Answer, Failure>>;

    /// Fetches its own credentials again, for when an attempt failed as [`Class::Credentials`]. Cancel safe.
    fn refresh(&self) -> BoxFuture<'_, Result<(), Failure>>;
}

/// What came back.
#[derive(Debug)]
pub enum Answer {
    /// The whole answer.
    Whole(Whole),
    /// Its events as they come.
    Stream(Events),
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Whole {
    /// The body as it came.
    pub body: Bytes,
    /// Bedrock's word for why the model stopped; `None`: none was found.
    pub stop_reason: Option<Box<str>>,
    /// Tokens used; `None`: none were told.
    pub usage: Option<Usage>,
}

/// Events of a stream, as they come. Dropping it cancels the call upstream.
pub struct Events(Box<dyn EventSource>);

/// Where events come from. Polled, not awaited: a stream has thousands of events, and a boxed future for each would cost
/// more than the event.
pub trait EventSource: Send + 'static {
    /// The next events; `None` when the connection ended cleanly between two frames. After an error or `None` it is not
    /// polled again.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Batch>, Failure>>;
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Events")
    }
}

impl Events {
    /// Events from this source.
    pub fn new(source: impl EventSource) -> Self {
        Events(Box::new(source))
    }

    /// See [`EventSource::poll_next`].
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Batch>, Failure>> {
        self.0.poll_next(cx)
    }

    /// The next events; `None` when the connection ended cleanly between two frames. Cancel safe.
    ///
    /// # Errors
    /// The stream broke, or the provider ended it with an error. It gives nothing after that.
    pub async fn next(&mut self) -> Result<Option<Batch>, Failure> {
        poll_fn(|cx| self.poll_next(cx)).await
    }
}

/// Events that were there together: what one read from upstream completed.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The frames of the events, untouched and in order, and nothing else.
    pub bytes: Bytes,
    /// The events, in order; at least one.
    pub events: SmallVec<[Event; 4]>,
}

/// A projection of one frame.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Where its frame stands in the batch's bytes.
    pub frame: Range<usize>,
    /// Where its payload (JSON) stands in the batch's bytes.
    pub payload: Range<usize>,
    /// What it is.
    pub kind: Kind,
}

/// What an event is.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// `messageStart`.
    MessageStart,
    /// `contentBlockStart`.
    BlockStart,
    /// `contentBlockDelta`: content.
    BlockDelta,
    /// `contentBlockStop`.
    BlockStop,
    /// `messageStop`, with Bedrock's word for why the model stopped.
    MessageStop(Box<str>),
    /// `metadata`, with the tokens used if it tells them.
    Metadata(Option<Usage>),
    /// An event type that we do not know.
    Other,
}

/// Why an attempt failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {}", class.as_str(), code.as_deref().unwrap_or("no code"))]
pub struct Failure {
    /// What kind of failure it is.
    pub class: Class,
    /// The provider's name for it, such as `ThrottlingException`; `None`: no answer came, or it had none.
    pub code: Option<Box<str>>,
    /// HTTP status of the answer, of an error inside a stream the one its exception stands for; `None`: no answer came.
    pub status: Option<u16>,
    /// The provider's message, for the caller only: it may quote the request, so it goes into no log, span or metric.
    /// Where no answer came, our own sentence.
    pub message: Box<str>,
    /// How long the provider asks to wait.
    pub retry_after: Option<Duration>,
    /// Whether the request may have reached the model, so that it may be paid for.
    pub sent: bool,
}
