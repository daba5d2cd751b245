//! One connection: handshake, protocol, requests, and its end.

use std::{convert::Infallible, io, pin::Pin, sync::Arc, time::Duration};

use http::{Request, Response};
use hyper::{
    body::Incoming,
    rt::Executor,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulConnection,
};
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Limits,
    body::Body,
    relay::relayed,
    request::RequestBody,
    stream::{Protocol, Watched},
};

/// Requests open at once on one HTTP/2 connection. hyper means "no limit" when it is told nothing through `None`.
pub(super) const MAX_CONCURRENT_STREAMS: u32 = 100;
/// What a peer may send of one request's body before we have read any.
pub(super) const STREAM_WINDOW: u32 = 64 * 1024;
/// And of all requests of one connection.
pub(super) const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Answers that a slow reader leaves with us, per stream.
const SEND_BUFFER: usize = 64 * 1024;
/// The head of a request, both protocols. Session tokens and metadata need some KiB.
pub(super) const MAX_HEAD: u32 = 32 * 1024;
/// A peer that vanished without a word is found within the sum of both; load balancers drop silent flows after 60 s.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// What all connections of a listener share.
pub(super) struct Http {
    limits: Limits,
    tls: Option<TlsAcceptor>,
    http1: http1::Builder,
    http2: http2::Builder<Streams>,
}

impl Http {
    /// `streams` will own the tasks that HTTP/2 runs, one per request.
    pub(super) fn new(limits: Limits, tls: Option<Arc<ServerConfig>>, streams: TaskTracker) -> Self {
        let mut http1 = http1::Builder::new();
        http1.max_header_size(MAX_HEAD as usize).header_read_timeout(limits.idle_timeout);
        let mut http2 = http2::Builder::new(Streams(streams));
        http2
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_CONCURRENT_STREAMS)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(SEND_BUFFER)
            .max_header_list_size(MAX_HEAD)
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_TIMEOUT);
        Http { limits, tls: tls.map(TlsAcceptor::from), http1, http2 }
    }

    /// Serves a connection to its end; once `draining`, only what it has begun.
    pub(super) async fn serve<H, F>(&self, stream: TcpStream, handler: H, draining: CancellationToken)
    where
        H: Fn(Request<RequestBody>) -> F,
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        let Some(tls) = &self.tls else { return self.serve_plain(stream, handler, draining).await };
        // Boxed, the handshake and its session: what is moved by value from one future to the next has its room in each.
        match self.in_time(Box::pin(tls.accept(stream)), &draining).await {
            Ok(stream) => self.serve_plain(Box::new(stream), handler, draining).await,
            Err(error) => tracing::debug!(%error, "no TLS handshake"),
        }
    }

    async fn serve_plain<S, H, F>(&self, stream: S, handler: H, draining: CancellationToken)
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
        H: Fn(Request<RequestBody>) -> F,
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        let (protocol, stream) = match self.in_time(Watched::of(stream), &draining).await {
            Ok(begun) => begun,
            Err(error) => return tracing::debug!(%error, "no request came"),
        };
        let limits = self.limits;
        let service = service_fn(move |request: Request<Incoming>| {
            let response = handler(request.map(|body| RequestBody::of(body, &limits)));
            async move { Ok::<_, Infallible>(response.await) }
        });
        let ended = match protocol {
            Protocol::Http1 => {
                let timer = stream.timer(self.limits.head_timeout);
                let http1 = self.http1.clone().timer(timer).serve_connection(TokioIo::new(stream), service);
                to_its_end(Box::pin(http1), draining).await
            }
            Protocol::Http2 => {
                let http2 = self.http2.serve_connection(TokioIo::new(stream), service);
                to_its_end(Box::pin(http2), draining).await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection broke off");
        }
    }

    /// Waits for a peer that has not said what it wants: not for long, and not while draining.
    async fn in_time<T>(
        &self,
        peer: impl Future<Output = io::Result<T>>,
        draining: &CancellationToken,
    ) -> io::Result<T> {
        tokio::select! {
            biased;
            () = draining.cancelled() => Err(io::ErrorKind::ConnectionAborted.into()),
            done = timeout(self.limits.head_timeout, peer) => done?,
        }
    }
}

/// Runs a connection; once `draining`, only what it has begun.
///
/// Boxed: in place, every connection's task would have the room of either protocol, and for whatever moves it on the way
/// here once more.
async fn to_its_end<C: GracefulConnection>(
    mut connection: Pin<Box<C>>,
    draining: CancellationToken,
) -> Result<(), C::Error> {
    tokio::select! {
        biased;
        ended = connection.as_mut() => return ended,
        () = draining.cancelled() => {}
    }
    connection.as_mut().graceful_shutdown();
    connection.await
}

/// Runs HTTP/2's requests where their end can be waited for.
#[derive(Clone)]
struct Streams(TaskTracker);

impl<F> Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        self.0.spawn(relayed(stream));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What hyper's and TLS's own types need, once; not for each protocol and each function on the way again.
    const MOST: usize = 3 * 1024;

    #[tokio::test]
    async fn a_connections_task_has_no_room_for_what_it_may_never_be() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let http = Http::new(Limits::default(), None, TaskTracker::new());
        let handler = |_: Request<RequestBody>| async { Response::new(Body::empty()) };
        let task = http.serve(stream, handler, CancellationToken::new());
        let size = size_of_val(&task);
        assert!(size <= MOST, "{size} bytes");
    }
}
