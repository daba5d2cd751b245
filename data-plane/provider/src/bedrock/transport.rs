//! HTTP/1.1 with kept connections, as little of it as a call needs.
//!
//! A connection is driven by whoever uses it, in the same task: no task per connection to wake and to hand bytes over
//! from, and dropping a call closes its connection, which is what cancels it upstream. While it is idle nobody drives
//! it; it is looked at when it is taken again, and swept when it was idle for too long.
//!
//! A request that may have left this process is never sent again from here: a model may have started on it. Only where a
//! kept connection turned out to be closed before the request began is it sent over another one.
//!
//! HTTP/2 is not used: a connection per stream costs a handshake now and then, and in exchange one lost packet or one
//! slow reader never holds up the streams of others.

use std::{
    collections::VecDeque,
    future::poll_fn,
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{Request, Response, Uri};
use http_body::Body as _;
use http_body_util::Full;
use hyper::{
    body::Incoming,
    client::conn::http1::{self, SendRequest},
};
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioIo};
use tokio::{net::TcpStream, task::JoinHandle, time::Instant};
use tower_service::Service;

use super::error;
use crate::Failure;

/// To open a connection. Longer than two lost SYNs inside a region, shorter than what a caller notices.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// The same with TLS, which takes two more round trips, over an ocean perhaps.
const CONNECT_TIMEOUT_TLS: Duration = Duration::from_secs(2);
/// Kept for the next call. Less than the 60 s after which load balancers commonly hang up: a request written into a
/// connection that the other side is closing is lost, and cannot be sent again.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// Idle connections kept per endpoint. A burst leaves as many behind as it had calls; more than this are not worth their
/// memory (some 30 KiB each with TLS) on a node that serves a few hundred calls at once.
const MAX_IDLE: usize = 256;
/// Silence after which TCP asks whether the other side is still there: a model can think for minutes.
const TCP_KEEPALIVE: Duration = Duration::from_secs(30);
/// Between two such questions, of which five unanswered ones end the connection.
const TCP_KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// The longest head of a response, give or take one read, and the most that is read ahead of whoever consumes a body.
const MAX_HEAD: usize = 64 * 1024;

type Io = MaybeHttpsStream<TokioIo<TcpStream>>;
type Driver = http1::Connection<Io, Full<Bytes>>;

/// Opens connections.
#[derive(Clone)]
pub(super) struct Connector(HttpsConnector<HttpConnector>);

impl Connector {
    pub(super) fn new(tls: rustls::ClientConfig) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        // Heads and small bodies go out at once instead of waiting for the acknowledgement of what went before.
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(TCP_KEEPALIVE));
        tcp.set_keepalive_interval(Some(TCP_KEEPALIVE_INTERVAL));
        tcp.set_keepalive_retries(Some(5));
        Connector(
            hyper_rustls::HttpsConnectorBuilder::new()
                .with_tls_config(tls)
                .https_or_http()
                .enable_http1()
                .wrap_connector(tcp),
        )
    }

    /// Name resolution, TCP and TLS, all within the timeout.
    async fn connect(&self, uri: &Uri, timeout: Duration) -> Result<Io, Failure> {
        let host = || uri.authority().map_or("", http::uri::Authority::as_str);
        match tokio::time::timeout(timeout, self.0.clone().call(uri.clone())).await {
            Ok(Ok(io)) => Ok(io),
            Ok(Err(cause)) => Err(error::connect(format!("No connection to {}: {}.", host(), root(&*cause)))),
            Err(_) => Err(error::connect(format!("No connection to {} within {timeout:?}.", host()))),
        }
    }
}

/// The innermost cause in its own words: "Connection refused (os error 111)", not "client error (Connect)".
fn root(error: &(dyn std::error::Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// One connection, and what drives it.
struct Connection {
    sender: SendRequest<Full<Bytes>>,
    /// `None`: it is closed.
    driver: Option<Driver>,
}

/// Why there is no response.
enum Unanswered {
    /// Nothing of the request was sent; here it is again.
    Unsent(Request<Full<Bytes>>),
    /// It may have been sent.
    Failed(Failure),
}

impl Connection {
    async fn new(io: Io) -> Result<Self, Failure> {
        let (sender, driver) = http1::Builder::new()
            .max_buf_size(MAX_HEAD)
            .handshake(io)
            .await
            .map_err(|cause| error::connect(format!("The connection cannot be used: {cause}.")))?;
        let mut connection = Connection { sender, driver: Some(driver) };
        connection.drive(&mut Context::from_waker(Waker::noop()));
        Ok(connection)
    }

    /// Reads and writes what can be.
    fn drive(&mut self, cx: &mut Context<'_>) {
        // What it ends with also reaches the response or its body, and is told there.
        if let Some(driver) = &mut self.driver
            && Pin::new(driver).poll(cx).is_ready()
        {
            self.driver = None;
        }
    }

    /// Whether another request can be sent over it, by what is known without waiting.
    fn is_fit(&mut self) -> bool {
        self.drive(&mut Context::from_waker(Waker::noop()));
        self.driver.is_some() && self.sender.is_ready()
    }

    /// Sends a request and waits for the head of its response. Dropped, it closes the connection.
    async fn exchange(mut self, request: Request<Full<Bytes>>) -> Result<(Response<Incoming>, Self), Unanswered> {
        let answer = {
            let mut answer = pin!(self.sender.try_send_request(request));
            poll_fn(|cx| {
                self.drive(cx);
                answer.as_mut().poll(cx)
            })
            .await
        };
        match answer {
            Ok(response) => Ok((response, self)),
            Err(mut unanswered) => Err(match unanswered.take_message() {
                Some(request) => Unanswered::Unsent(request),
                None => Unanswered::Failed(unanswered_failure(unanswered.error())),
            }),
        }
    }
}

fn unanswered_failure(cause: &hyper::Error) -> Failure {
    if cause.is_parse() {
        error::protocol("The head of the response is not HTTP, or is longer than 64 KiB.", None)
    } else {
        error::broken(format!("The connection broke before a response: {}.", root(cause)))
    }
}

/// The connections to one endpoint.
pub(super) struct Pool {
    uri: Uri,
    connector: Connector,
    idle: Mutex<Idle>,
}

#[derive(Default)]
struct Idle {
    /// The longest idle first.
    connections: VecDeque<(Instant, Connection)>,
    /// Drops those that were idle for too long; ends when none are left.
    sweeper: Option<JoinHandle<()>>,
}

impl Pool {
    pub(super) fn new(uri: Uri, connector: Connector) -> Arc<Self> {
        Arc::new(Pool { uri, connector, idle: Mutex::default() })
    }

    /// Sends a request and waits for the head of its response, without limit: that is the caller's.
    ///
    /// Cancel safe: dropped, it closes the connection.
    pub(super) async fn send(
        self: &Arc<Self>,
        mut request: Request<Full<Bytes>>,
        connect_timeout: Option<Duration>,
    ) -> Result<(http::response::Parts, Body), Failure> {
        while let Some(connection) = self.take() {
            match connection.exchange(request).await {
                Ok(answer) => return Ok(self.answer(answer)),
                // Closed under our hands. The loop ends, for each round takes one connection out of the pool.
                Err(Unanswered::Unsent(again)) => request = again,
                Err(Unanswered::Failed(failure)) => return Err(failure),
            }
        }
        let is_tls = self.uri.scheme_str() == Some("https");
        let timeout = connect_timeout.unwrap_or(if is_tls { CONNECT_TIMEOUT_TLS } else { CONNECT_TIMEOUT });
        let connection = Connection::new(self.connector.connect(&self.uri, timeout).await?).await?;
        match connection.exchange(request).await {
            Ok(answer) => Ok(self.answer(answer)),
            Err(Unanswered::Unsent(_)) => Err(error::connect("The connection was closed before the request was sent.")),
            Err(Unanswered::Failed(failure)) => Err(failure),
        }
    }

    fn answer(self: &Arc<Self>, answer: (Response<Incoming>, Connection)) -> (http::response::Parts, Body) {
        let (response, connection) = answer;
        let (head, incoming) = response.into_parts();
        (head, Body { incoming, connection: Some(connection), pool: Arc::clone(self) })
    }

    /// The connection that was used last among those that are still open: the others grow old and are swept.
    fn take(&self) -> Option<Connection> {
        loop {
            let (since, mut connection) = self.idle().connections.pop_back()?;
            if since.elapsed() < IDLE_TIMEOUT && connection.is_fit() {
                return Some(connection);
            }
        }
    }

    fn put(self: &Arc<Self>, mut connection: Connection) {
        if !connection.is_fit() {
            return;
        }
        let mut idle = self.idle();
        // Dropped after the lock: closing a socket is a system call.
        let _surplus = (idle.connections.len() >= MAX_IDLE).then(|| idle.connections.pop_front());
        idle.connections.push_back((Instant::now(), connection));
        if idle.sweeper.as_ref().is_none_or(JoinHandle::is_finished) {
            idle.sweeper = Some(tokio::spawn(sweep(Arc::downgrade(self))));
        }
        drop(idle);
    }

    /// Drops what was idle for too long. `false`: nothing is left.
    fn sweep(&self) -> bool {
        let mut idle = self.idle();
        let old = idle.connections.partition_point(|(since, _)| since.elapsed() >= IDLE_TIMEOUT);
        let _old: Vec<_> = idle.connections.drain(..old).collect();
        if idle.connections.is_empty() {
            // Given up under the lock, so that whoever puts the next one starts another sweeper.
            idle.sweeper = None;
        }
        let is_left = !idle.connections.is_empty();
        drop(idle);
        is_left
    }

    fn idle(&self) -> MutexGuard<'_, Idle> {
        // No code that can panic runs under the lock; if it did, a list of connections is good as it is.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if let Some(sweeper) = self.idle().sweeper.take() {
            sweeper.abort();
        }
    }
}

async fn sweep(pool: Weak<Pool>) {
    loop {
        tokio::time::sleep(IDLE_TIMEOUT).await;
        if !pool.upgrade().is_some_and(|pool| pool.sweep()) {
            return;
        }
    }
}

/// A response's body, and the connection that it comes over: dropped before its end, it closes the connection.
pub(super) struct Body {
    incoming: Incoming,
    /// `None`: the body ended, and the connection went back.
    connection: Option<Connection>,
    pool: Arc<Pool>,
}

/// Why a body was not read to its end.
#[derive(Debug)]
pub(super) enum ReadError {
    /// It is longer than was asked for.
    TooLong,
    /// It broke.
    Failed(Failure),
}

impl Body {
    /// The next piece; `None` at its end. After an error it is not polled again.
    pub(super) fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Failure>>> {
        loop {
            let mut polled = Pin::new(&mut self.incoming).poll_frame(cx);
            if polled.is_pending()
                && let Some(connection) = &mut self.connection
            {
                connection.drive(cx);
                polled = Pin::new(&mut self.incoming).poll_frame(cx);
            }
            return match polled {
                Poll::Pending => Poll::Pending,
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => Poll::Ready(Some(Ok(data))),
                    // Trailers, of which Bedrock has none.
                    Err(_) => continue,
                },
                Poll::Ready(Some(Err(cause))) => Poll::Ready(Some(Err(body_failure(&cause)))),
                Poll::Ready(None) => {
                    if let Some(connection) = self.connection.take() {
                        self.pool.put(connection);
                    }
                    Poll::Ready(None)
                }
            };
        }
    }

    /// The whole body, of at most this many bytes. A body of one piece is not copied.
    pub(super) async fn collect(mut self, most: usize) -> Result<Bytes, ReadError> {
        let told = self.incoming.size_hint().lower();
        if usize::try_from(told).is_ok_and(|told| told > most) {
            return Err(ReadError::TooLong);
        }
        let Some(first) = self.data().await? else { return Ok(Bytes::new()) };
        let Some(second) = self.data().await? else {
            return if first.len() > most { Err(ReadError::TooLong) } else { Ok(first) };
        };
        let mut whole = BytesMut::with_capacity(usize::try_from(told).unwrap_or(0).max(first.len() + second.len()));
        whole.extend_from_slice(&first);
        let mut next = Some(second);
        while let Some(data) = next {
            if whole.len() + data.len() > most {
                return Err(ReadError::TooLong);
            }
            whole.extend_from_slice(&data);
            next = self.data().await?;
        }
        Ok(whole.freeze())
    }

    async fn data(&mut self) -> Result<Option<Bytes>, ReadError> {
        poll_fn(|cx| self.poll_data(cx)).await.transpose().map_err(ReadError::Failed)
    }
}

fn body_failure(cause: &hyper::Error) -> Failure {
    let kind = std::error::Error::source(cause).and_then(|cause| cause.downcast_ref::<std::io::Error>());
    match kind.map(std::io::Error::kind) {
        Some(std::io::ErrorKind::InvalidData | std::io::ErrorKind::InvalidInput) => {
            error::protocol("The body of the response is not HTTP.", None)
        }
        _ => error::broken(format!("The connection broke inside the response: {}.", root(cause))),
    }
}

#[cfg(test)]
mod tests;
