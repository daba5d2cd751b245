//! The body of an answer: bytes at once, or a stream that is played.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use serde_json::Value;
use tokio::time::{Instant, Sleep};

use crate::{
    answer,
    counts::Ticket,
    play::{Play, Step},
};

/// What hyper is given; it ends the connection (over HTTP/2, resets the stream) on an error.
#[derive(Debug)]
pub(crate) enum Reply {
    Whole(Option<Bytes>),
    Stream(Box<Stream>),
}

/// The script says that the connection ends here.
#[derive(Debug, thiserror::Error)]
#[error("cut, as scripted")]
pub(crate) struct Cut;

/// A stream of events. Dropped before its end it counts as cancelled.
#[derive(Debug)]
pub(crate) struct Stream {
    play: Play,
    /// What the last event says, but for how long the stream took.
    metadata: Value,
    started: Instant,
    sleep: Option<Pin<Box<Sleep>>>,
    /// `None` once the outcome is counted.
    ticket: Option<Ticket>,
    outcome: &'static str,
    ended: bool,
}

impl Reply {
    pub(crate) fn whole(bytes: impl Into<Bytes>) -> Reply {
        Reply::Whole(Some(bytes.into()))
    }
}

impl Stream {
    /// `outcome` is what the stream counts under when it was played to its end.
    pub(crate) fn new(
        play: Play,
        metadata: Value,
        started: Instant,
        mut ticket: Ticket,
        outcome: &'static str,
    ) -> Stream {
        ticket.stream_opened();
        Stream { play, metadata, started, sleep: None, ticket: Some(ticket), outcome, ended: false }
    }

    /// Counted before the client can see the end, so that whoever saw it finds it counted.
    fn end(&mut self) {
        self.ended = true;
        if let Some(ticket) = self.ticket.take() {
            ticket.end(self.outcome);
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        loop {
            if let Some(sleep) = &mut self.sleep {
                ready!(sleep.as_mut().poll(context));
                self.sleep = None;
            }
            if self.ended {
                return Poll::Ready(None);
            }
            match self.play.next() {
                Step::Wait(delay) => self.sleep = Some(Box::pin(tokio::time::sleep(delay))),
                Step::Send(bytes) => return Poll::Ready(Some(Ok(Frame::data(bytes)))),
                Step::SendMetadata => {
                    self.end();
                    self.metadata["metrics"]["latencyMs"] = millis_since(self.started).into();
                    let frame = answer::metadata_frame(&self.metadata, self.play.events());
                    return Poll::Ready(Some(Ok(Frame::data(frame))));
                }
                Step::Abort => {
                    self.end();
                    return Poll::Ready(Some(Err(Cut)));
                }
                // Woken by nothing: hyper drops the body when the client leaves.
                Step::Hang => return Poll::Pending,
                Step::End => self.end(),
            }
        }
    }
}

pub(crate) fn millis_since(started: Instant) -> u64 {
    u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX)
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        match &mut *self {
            Reply::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Reply::Stream(stream) => stream.poll(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Reply::Whole(bytes) => bytes.is_none(),
            Reply::Stream(stream) => stream.ended,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Reply::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Reply::Stream(_) => SizeHint::default(),
        }
    }
}
