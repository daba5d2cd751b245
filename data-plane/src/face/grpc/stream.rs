//! A reply's events as a stream of messages.
//!
//! The messages of one batch are ready together: nothing is awaited between them, so the encoder puts them into one
//! buffer and they leave in one write. Dropping the stream drops the reply, which cancels the call upstream.

use std::collections::VecDeque;

use futures_util::stream::{self, Stream};
use switchtower_policy::failure::Class;
use switchtower_proto::inference::v1::GenerateStreamResponse;
use switchtower_provider::{Batch, Failure};
use tonic::Status;

use super::{response::Pieces, status};
use crate::{
    attempts::own_failure,
    record::{Ended, Served},
    reply::ReplyStream,
};

/// Where batches come from: what this module needs of a [`ReplyStream`], which its tests script.
pub(super) trait Source: Send {
    fn next(&mut self) -> impl Future<Output = Option<Result<Batch, Failure>>> + Send;
    fn break_with(&mut self, failure: Failure);
    fn served(&self) -> &Served;
    fn ended(&self) -> Option<&Ended>;
}

impl Source for ReplyStream {
    async fn next(&mut self) -> Option<Result<Batch, Failure>> {
        ReplyStream::next(self).await
    }
    fn break_with(&mut self, failure: Failure) {
        ReplyStream::break_with(self, failure);
    }
    fn served(&self) -> &Served {
        ReplyStream::served(self)
    }
    fn ended(&self) -> Option<&Ended> {
        ReplyStream::ended(self)
    }
}

/// The messages of a reply. The last is an `End`, or else a status.
pub(super) fn messages(reply: impl Source) -> impl Stream<Item = Result<GenerateStreamResponse, Status>> + Send {
    let on_its_way = OnItsWay { reply, pieces: Some(Pieces::default()), ready: VecDeque::new(), status: None };
    stream::unfold(on_its_way, |mut on_its_way| async {
        let message = on_its_way.next().await?;
        Some((message, on_its_way))
    })
}

struct OnItsWay<S> {
    reply: S,
    /// `None`: the stream is over but for what is below.
    pieces: Option<Pieces>,
    /// Messages to be sent.
    ready: VecDeque<GenerateStreamResponse>,
    /// What is sent after them.
    status: Option<Status>,
}

impl<S: Source> OnItsWay<S> {
    async fn next(&mut self) -> Option<Result<GenerateStreamResponse, Status>> {
        loop {
            if let Some(message) = self.ready.pop_front() {
                return Some(Ok(message));
            }
            if let Some(status) = self.status.take() {
                return Some(Err(status));
            }
            let mut pieces = self.pieces.take()?;
            match self.reply.next().await {
                Some(Ok(batch)) => {
                    // What it then ends in is the reply's to say, as after any break; its record says the same.
                    if let Err(malformed) = pieces.add(&batch, &mut self.ready) {
                        self.reply.break_with(own_failure(Class::Protocol, &malformed.to_string()));
                    }
                    self.pieces = Some(pieces);
                }
                Some(Err(failure)) => self.status = Some(status::broken(&failure, self.reply.served())),
                None => match self.reply.ended() {
                    Some(ended) => self.ready.push_back(pieces.end(ended, self.reply.served())),
                    // A stream without an end is a broken one, whoever lost it.
                    None => {
                        self.status = Some(status::broken_protocol("the stream has no end", self.reply.served()));
                    }
                },
            }
        }
    }
}

#[cfg(test)]
mod tests;
