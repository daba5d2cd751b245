//! The body of a request, within time: whoever sends a head and then nothing would hold its connection, and what was read
//! of its body, for ever.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep_until, timeout, timeout_at};

use super::Limits;

/// For what a peer is still sending when its answer is there already.
const LINGER: Duration = Duration::from_secs(2);
/// A pause in it after which we take it that nothing was on its way.
const LINGER_PAUSE: Duration = Duration::from_millis(250);

/// Why a body is not whole.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// It came too slowly.
    #[error("the body came too slowly")]
    Slow,
    /// The connection broke, or what came is no body.
    #[error(transparent)]
    Broken(#[from] hyper::Error),
}

/// The body of a request. It ends in [`BodyError::Slow`] when nothing comes for [`Limits::body_pause`] while it is being
/// waited for, or when it is not whole [`Limits::body_timeout`] after its head.
pub struct RequestBody {
    inner: Incoming,
    pause: Duration,
    due: Instant,
    /// Since when nothing has come although we asked.
    waiting_since: Option<Instant>,
    /// Made when it is first waited for: most bodies come with their heads.
    timer: Option<Pin<Box<Sleep>>>,
}

impl RequestBody {
    /// The body of a request whose head has just come.
    pub(super) fn of(inner: Incoming, limits: &Limits) -> Self {
        let due = Instant::now() + limits.body_timeout;
        RequestBody { inner, pause: limits.body_pause, due, waiting_since: None, timer: None }
    }

    /// Throws away what is still on its way, for a moment. For answers that do not wait for the body: an HTTP/1.1
    /// connection that is closed with bytes unread is reset, and the peer may never see its answer.
    pub async fn discard(mut self) {
        let due = Instant::now() + LINGER;
        while let Ok(Ok(Some(Ok(_)))) = timeout_at(due, timeout(LINGER_PAUSE, self.inner.frame())).await {}
    }

    /// Whether it took too long; otherwise this task is woken when it does.
    fn poll_slow(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let since = *self.waiting_since.get_or_insert_with(Instant::now);
        let due = self.due.min(since + self.pause);
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(due)));
        // It may stand earlier than it has to, never later: it is moved when it fires, not at every frame.
        if timer.deadline() > due {
            timer.as_mut().reset(due);
        }
        loop {
            std::task::ready!(timer.as_mut().poll(cx));
            if Instant::now() >= due {
                return Poll::Ready(());
            }
            timer.as_mut().reset(due);
        }
    }
}

impl fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestBody").field("due", &self.due).finish_non_exhaustive()
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match Pin::new(&mut self.inner).poll_frame(cx) {
            Poll::Ready(frame) => {
                self.waiting_since = None;
                if frame.is_some() && Instant::now() >= self.due {
                    return Poll::Ready(Some(Err(BodyError::Slow)));
                }
                Poll::Ready(frame.map(|frame| frame.map_err(BodyError::Broken)))
            }
            Poll::Pending => self.poll_slow(cx).map(|()| Some(Err(BodyError::Slow))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
