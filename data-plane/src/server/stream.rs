//! A connection's bytes, and the clock of HTTP/1.1 heads that watches them.
//!
//! hyper has one timeout for the head of a request, and it runs from the end of the last one: a limit short enough
//! against slow headers would close idle connections under the load balancer's feet. So hyper is given the idle
//! timeout, and a timer that shortens it once the first bytes of the next head have come.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use hyper::rt::{Sleep, Timer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// How HTTP/2 begins.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a peer speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

/// A byte stream whose beginning was looked at and is read again, and whose reads are counted.
pub(super) struct Watched<S> {
    inner: S,
    first: [u8; PREFACE.len()],
    /// What of `first` is still to be read.
    left: std::ops::Range<usize>,
    reads: Arc<AtomicU64>,
}

impl<S: AsyncRead + Unpin> Watched<S> {
    /// Reads as much of `inner` as tells what it speaks. Under TLS too: a peer may speak otherwise than ALPN said, or
    /// not at all, and whoever waits for it must be able to stop waiting.
    pub(super) async fn of(mut inner: S) -> io::Result<(Protocol, Self)> {
        let mut first = [0; PREFACE.len()];
        let mut filled = 0;
        while filled < first.len() && PREFACE.starts_with(&first[..filled]) {
            match inner.read(&mut first[filled..]).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => filled += read,
            }
        }
        let protocol = if first == *PREFACE { Protocol::Http2 } else { Protocol::Http1 };
        Ok((protocol, Watched { inner, first, left: 0..filled, reads: Arc::default() }))
    }
}

impl<S> Watched<S> {
    /// The clock for this connection's heads.
    pub(super) fn timer(&self, head_timeout: Duration) -> HeadTimer {
        HeadTimer { head_timeout, reads: self.reads.clone() }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let again = &this.first[this.left.clone()];
        let again = &again[..again.len().min(buf.remaining())];
        buf.put_slice(again);
        let read_again = again.len();
        this.left.start += read_again;
        // What follows goes into the same buffer, if it is there: given a few bytes alone, hyper would double the buffer
        // that it then keeps for as long as the connection lives.
        let read = match Pin::new(&mut this.inner).poll_read(cx, buf) {
            Poll::Pending if read_again > 0 => Poll::Ready(Ok(())),
            read => read,
        };
        if read.is_ready() {
            this.reads.fetch_add(1, Relaxed);
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

/// Times that end early once bytes have come.
pub(super) struct HeadTimer {
    head_timeout: Duration,
    reads: Arc<AtomicU64>,
}

impl Timer for HeadTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(self.now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        Box::pin(HeadSleep {
            deadline: deadline.into(),
            head_timeout: self.head_timeout,
            reads: self.reads.clone(),
            unread: Some(self.reads.load(Relaxed)),
            sleep: None,
        })
    }

    fn now(&self) -> Instant {
        tokio::time::Instant::now().into()
    }
}

struct HeadSleep {
    deadline: tokio::time::Instant,
    head_timeout: Duration,
    reads: Arc<AtomicU64>,
    /// The count while nothing of the head has come; `None` after.
    unread: Option<u64>,
    /// Made when it is first waited for: a head that is there already needs none.
    sleep: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl Sleep for HeadSleep {}

impl Future for HeadSleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        if this.unread.is_some_and(|unread| unread != this.reads.load(Relaxed)) {
            this.unread = None;
            this.deadline = this.deadline.min(tokio::time::Instant::now() + this.head_timeout);
            if let Some(sleep) = &mut this.sleep {
                sleep.as_mut().reset(this.deadline);
            }
        }
        let deadline = this.deadline;
        this.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline))).as_mut().poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_bytes_tell_the_protocol_and_are_read_again_in_whatever_pieces_they_come() {
        let check = async |pieces: &[&[u8]], expected: Result<Protocol, io::ErrorKind>| {
            let mut script = tokio_util::io::StreamReader::new(tokio_stream::iter(
                pieces.iter().map(|piece| Ok::<_, io::Error>(bytes::Bytes::copy_from_slice(piece))),
            ));
            match Watched::of(&mut script).await {
                Err(error) => assert_eq!(Err(error.kind()), expected, "{pieces:?}"),
                Ok((protocol, mut stream)) => {
                    assert_eq!(Ok(protocol), expected, "{pieces:?}");
                    let mut all = Vec::new();
                    stream.read_to_end(&mut all).await.unwrap();
                    assert_eq!(all, pieces.concat());
                }
            }
        };
        check(&[b"POST / HTTP/1.1\r\n\r\n"], Ok(Protocol::Http1)).await;
        check(&[b"P", b"R", b"OPFIND / HTTP/1.1\r\n"], Ok(Protocol::Http1)).await;
        check(&[b"G"], Ok(Protocol::Http1)).await;
        check(&[PREFACE], Ok(Protocol::Http2)).await;
        check(&[&PREFACE[..1], &PREFACE[1..23], &PREFACE[23..], b"more"], Ok(Protocol::Http2)).await;
        check(&[&PREFACE[..23], b"x", b"more"], Ok(Protocol::Http1)).await;
        check(&[&PREFACE[..23]], Err(io::ErrorKind::UnexpectedEof)).await;
        check(&[], Err(io::ErrorKind::UnexpectedEof)).await;
    }

    #[tokio::test]
    async fn what_follows_the_first_bytes_comes_in_the_same_read() {
        let (mut peer, ours) = tokio::io::duplex(1024);
        let head = b"POST /model/chat/converse HTTP/1.1\r\nhost: a\r\n\r\n";
        tokio::io::AsyncWriteExt::write_all(&mut peer, head).await.unwrap();
        let (_, mut stream) = Watched::of(ours).await.unwrap();
        let mut buffer = [0; 1024];
        let read = stream.read(&mut buffer).await.unwrap();
        assert_eq!(&buffer[..read], head);
    }

    #[tokio::test]
    async fn the_first_bytes_do_not_wait_for_what_follows() {
        let (mut peer, ours) = tokio::io::duplex(1024);
        tokio::io::AsyncWriteExt::write_all(&mut peer, b"GET /").await.unwrap();
        let (_, mut stream) = Watched::of(ours).await.unwrap();
        let mut buffer = [0; 3];
        assert_eq!(stream.read(&mut buffer).await.unwrap(), 3);
        assert_eq!(&buffer, b"GET");
        let mut buffer = [0; 1024];
        assert_eq!(stream.read(&mut buffer).await.unwrap(), 2);
        assert_eq!(&buffer[..2], b" /");
    }
}
