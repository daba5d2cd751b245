//! An answer as it is made.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use futures_util::Stream;
use switchtower_proto::inference::v1::{GenerateStreamResponse, generate_stream_response::Event};
use tokio::time::{Instant, Sleep};
use tonic::{Response, Streaming};

use crate::error::{Error, Kind};

/// The events of an answer. The last is [`Event::End`], or an error: a stream that stops without either is made an
/// error here ([`Kind::StreamBroken`]), because a clean close looks like an end.
///
/// Dropping it cancels the call. Waiting for the next event is cancel safe.
#[derive(Debug)]
pub struct Events {
    /// `None`: over.
    inner: Option<Streaming<GenerateStreamResponse>>,
    deadline: Option<Pin<Box<Sleep>>>,
    request_id: Option<String>,
}

impl Events {
    pub(crate) fn new(response: Response<Streaming<GenerateStreamResponse>>, deadline: Option<Instant>) -> Self {
        let request_id = response.metadata().get("x-switchtower-request-id");
        Events {
            request_id: request_id.and_then(|id| id.to_str().ok()).map(str::to_owned),
            inner: Some(response.into_inner()),
            deadline: deadline.map(|deadline| Box::pin(tokio::time::sleep_until(deadline))),
        }
    }

    /// Id of the request, as in the node's logs and traces; `None`: the node told none.
    #[must_use]
    pub fn request_id(&self) -> Option<&str> {
        self.request_id.as_deref()
    }

    fn over(&mut self, with: Option<Error>) -> Poll<Option<Result<Event, Error>>> {
        self.inner = None;
        Poll::Ready(with.map(|error| Err(error.of_request(self.request_id.as_deref()))))
    }
}

impl Stream for Events {
    type Item = Result<Event, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            let Some(inner) = &mut this.inner else { return Poll::Ready(None) };
            if let Some(deadline) = &mut this.deadline
                && deadline.as_mut().poll(context).is_ready()
            {
                return this.over(Some(Error::deadline()));
            }
            return match Pin::new(inner).poll_next(context) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(Some(Ok(message))) => match message.event {
                    Some(Event::End(end)) => {
                        // What follows is only the status that says so once more.
                        this.inner = None;
                        Poll::Ready(Some(Ok(Event::End(end))))
                    }
                    Some(event) => Poll::Ready(Some(Ok(event))),
                    // An event that this version does not know.
                    None => continue,
                },
                Poll::Ready(Some(Err(status))) => this.over(Some(Error::of_stream(status))),
                Poll::Ready(None) => {
                    this.over(Some(Error::new(Kind::StreamBroken, "the stream stopped before its end")))
                }
            };
        }
    }
}
