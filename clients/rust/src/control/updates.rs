//! Answers that go on.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use futures_util::Stream;
use tonic::Streaming;

use super::error::{Error, Refusal};

/// Answers of the control plane as they come. One that stops where it should go on ends with [`Refusal::Unavailable`]:
/// a clean close, as of a control plane that is shut down, looks like an end.
///
/// Dropping it ends the call. Waiting for the next answer is cancel safe.
pub struct Updates<T> {
    /// `None`: over.
    inner: Option<Streaming<T>>,
    /// Whether an answer may be the last.
    may_be_last: fn(&T) -> bool,
    /// Whether it may end here.
    whole: bool,
}

impl<T> Updates<T> {
    /// `whole`: it may end before its first answer.
    pub(super) fn new(inner: Streaming<T>, whole: bool, may_be_last: fn(&T) -> bool) -> Self {
        Updates { inner: Some(inner), may_be_last, whole }
    }
}

impl<T> fmt::Debug for Updates<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Updates").field("over", &self.inner.is_none()).finish_non_exhaustive()
    }
}

impl<T> Stream for Updates<T> {
    type Item = Result<T, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let Some(inner) = &mut this.inner else { return Poll::Ready(None) };
        let error = match Pin::new(inner).poll_next(context) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Some(Ok(answer))) => {
                this.whole = (this.may_be_last)(&answer);
                return Poll::Ready(Some(Ok(answer)));
            }
            Poll::Ready(Some(Err(status))) => Some(Error::of_stream(status)),
            Poll::Ready(None) if this.whole => None,
            Poll::Ready(None) => Some(Error::new(Refusal::Unavailable, "the stream stopped before its end")),
        };
        this.inner = None;
        Poll::Ready(error.map(Err))
    }
}
