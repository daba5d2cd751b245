//! The listener: one port for HTTP/1.1 and HTTP/2, in the clear or under TLS, from accept to drain.
//!
//! In the clear HTTP/2 comes with prior knowledge: so do the AWS SDK for JavaScript and gRPC clients speak, on the
//! port where everyone else speaks HTTP/1.1. Under TLS, ALPN offers both. What a request means is the handler's.
//!
//! The limits that no deployment has reason to change are constants beside what they limit: those of an Envoy at the
//! edge. hyper's own leave too much open: by default a peer may hold 1 MiB of window per stream, and an HTTP/1.1
//! connection may not idle longer than a slow header.

mod body;
mod connection;
mod relay;
mod request;
mod stream;
pub mod tls;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use http::{Request, Response};
use rustls::ServerConfig;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::connection::Http;
pub use self::{
    body::{Body, BoxError},
    request::{BodyError, RequestBody},
};

/// Connections that the kernel keeps until we accept them.
const BACKLOG: u32 = 1024;
/// How long to leave the listener alone when accepting fails for want of something: the next try would fail as well.
const PAUSE: Duration = Duration::from_millis(100);
/// What the tasks of aborted connections get to notice it; they need a poll, not time.
const LAST_POLL: Duration = Duration::from_secs(1);

/// What one listener lets its peers do.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections open at once; more wait in the kernel's backlog. At least 1.
    pub connections: usize,
    /// For the TLS handshake, for the first bytes of a connection, and for the rest of a request's head after them.
    pub head_timeout: Duration,
    /// How long an HTTP/1.1 connection may lie idle between requests. Longer than that of any load balancer before
    /// us (60 s is common), or it would send requests into connections that are just being closed.
    pub idle_timeout: Duration,
    /// How long nothing of a request's body may come while it is being waited for.
    pub body_pause: Duration,
    /// For the whole body of a request, from the end of its head.
    pub body_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections: 16_384,
            head_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            body_pause: Duration::from_secs(30),
            body_timeout: Duration::from_secs(5 * 60),
        }
    }
}

/// How a listener ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Connections whose requests were not done in time.
    pub aborted: usize,
}

/// Listens on `address`. With `shared`, others of this process may listen there too, and the kernel spreads
/// connections among them. Belongs to the runtime it is called in.
///
/// # Errors
/// The system's, above all that the address is taken.
pub fn listen(address: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A restarted node must not wait for connections of its former life.
    socket.set_reuseaddr(true)?;
    if shared {
        socket.set_reuseport(true)?;
    }
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves until `shutdown`; then accepts nothing more, lets open requests finish within `drain` and aborts the rest.
/// Dropped earlier, it aborts everything.
pub async fn serve<H, F>(
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    limits: Limits,
    handler: H,
    shutdown: CancellationToken,
    drain: Duration,
) -> Drained
where
    H: Fn(Request<RequestBody>) -> F + Clone + Send + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let room = Arc::new(Semaphore::new(limits.connections));
    let streams = TaskTracker::new();
    let http = Arc::new(Http::new(limits, tls, streams.clone()));
    // Of this listener alone: every poll of a connection looks at it, and runtimes should not meet there.
    let draining = CancellationToken::new();
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            Some(ended) = connections.join_next() => log_panic(ended),
            (stream, permit) = next(&listener, &room) => {
                let (http, handler, draining) = (http.clone(), handler.clone(), draining.clone());
                connections.spawn(relay::relayed(async move {
                    let _permit: OwnedSemaphorePermit = permit;
                    http.serve(stream, handler, draining).await;
                }));
            }
        }
    }
    drop(listener);
    draining.cancel();
    let finished = async {
        while let Some(ended) = connections.join_next().await {
            log_panic(ended);
        }
    };
    // Both outcomes are told apart by what is left.
    let _ = timeout(drain, finished).await;
    let aborted = connections.len();
    connections.shutdown().await;
    streams.close();
    let _ = timeout(LAST_POLL, streams.wait()).await;
    Drained { aborted }
}

/// The next connection, once there is room for it. Cancel safe: what was not returned was not accepted.
async fn next(listener: &TcpListener, room: &Arc<Semaphore>) -> (TcpStream, OwnedSemaphorePermit) {
    let permit = room.clone().acquire_owned().await.expect("nobody closes it");
    loop {
        match accept(listener).await {
            Ok(stream) => return (stream, permit),
            Err(error) if is_of_one_peer(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections");
                sleep(PAUSE).await;
            }
        }
    }
}

/// A connection without Nagle's delay: small frames of a stream are to leave at once.
async fn accept(listener: &TcpListener) -> io::Result<TcpStream> {
    loop {
        let (stream, _) = listener.accept().await?;
        // It fails only for a peer that is gone already.
        if stream.set_nodelay(true).is_ok() {
            return Ok(stream);
        }
    }
}

/// Whether accepting failed for this connection only, and the next may be tried at once.
fn is_of_one_peer(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

fn log_panic(ended: Result<(), tokio::task::JoinError>) {
    // The payload of a panic may hold what the request held.
    if ended.is_err_and(|error| error.is_panic()) {
        tracing::error!("a connection's task panicked");
    }
}

#[cfg(test)]
mod tests;
