//! Who comes in on the port of operators and nodes, before anything is known of them.
//!
//! A socket that says nothing costs whoever opens it nothing, and this process a descriptor; a token is asked for only
//! once a call is made. So nobody is let at the server before the first byte came, those who have not spoken are few and
//! the oldest of them gives way to whoever comes next, all together are bounded, and who falls silent for longer than an
//! HTTP/2 peer that answers pings can is closed. What did not speak is gone with the stream: it delays no end.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::{AbortHandle, JoinSet},
    time::{Instant, Sleep, sleep, sleep_until, timeout},
};
use tokio_stream::{Stream, StreamExt, wrappers::UnboundedReceiverStream};
use tokio_util::sync::CancellationToken;
use tonic::transport::server::{Connected, TcpConnectInfo};

use crate::api::sync::{PING_ANSWER, PING_EVERY};

/// Most connections that have spoken: a fleet of 10 000 nodes, each with a stream, and room for a restart's doubles.
const CONNECTIONS: usize = 12_000;
/// Most that have not: as many as come within a moment.
const UNSPOKEN: usize = 256;
/// How long the first byte may take; a client sends it as soon as it is connected.
pub const FIRST_BYTE: Duration = Duration::from_secs(10);
/// Bytes with which HTTP/2 begins: before them there is no call.
const PREFACE: usize = 24;
/// Descriptors that are left to the store, the admin port, and the rest of the process.
const RESERVED: usize = 160;
/// How long nobody is accepted after the system refused to: until descriptors or memory are free again.
const BACK_OFF: Duration = Duration::from_millis(100);
/// How often it is told that there is no place.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// How many may come in, and how long they may be silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Most connections that have spoken.
    pub connections: usize,
    /// Most that have not.
    pub unspoken: usize,
    /// How long the first byte may take.
    pub first_byte: Duration,
    /// How long a connection may be silent after it.
    pub silence: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        let silence = PING_EVERY + 2 * PING_ANSWER;
        Bounds { connections: CONNECTIONS, unspoken: UNSPOKEN, first_byte: FIRST_BYTE, silence }
    }
}

impl Bounds {
    /// The same, within the descriptors that `limits`, the text of `/proc/self/limits`, allows this process.
    #[must_use]
    pub fn within(self, limits: &str) -> Self {
        let soft = limits.lines().find_map(|line| line.strip_prefix("Max open files")?.split_whitespace().next());
        // "unlimited", or a system without such a file.
        let Some(descriptors) = soft.and_then(|soft| soft.parse::<usize>().ok()) else { return self };
        let unspoken = self.unspoken.min(descriptors / 4).max(1);
        let connections = self.connections.min(descriptors.saturating_sub(RESERVED + unspoken)).max(1);
        Bounds { connections, unspoken, ..self }
    }
}

/// Those who come in and have spoken. Once it is dropped nobody is accepted, and who has not spoken is closed; once
/// `stop` is cancelled, who has not said enough to make a call is an error to read from.
pub fn incoming(
    listener: TcpListener,
    bounds: Bounds,
    stop: CancellationToken,
) -> impl Stream<Item = io::Result<Connection>> + Send + Unpin {
    // Without a bound of its own: whoever is in it has a place.
    let (spoken, receiver) = mpsc::unbounded_channel();
    tokio::spawn(accept(listener, bounds, stop, spoken));
    UnboundedReceiverStream::new(receiver).map(Ok)
}

async fn accept(
    listener: TcpListener,
    bounds: Bounds,
    stop: CancellationToken,
    spoken: mpsc::UnboundedSender<Connection>,
) {
    let places = Arc::new(Semaphore::new(bounds.connections));
    let mut unspoken = Unspoken::default();
    let mut told: Option<Instant> = None;
    loop {
        let stream = tokio::select! {
            () = spoken.closed() => return,
            Some(first) = unspoken.tasks.join_next() => match first {
                Ok(Some(stream)) => stream,
                // Silent, gone, or sent away for the next.
                Ok(None) | Err(_) => continue,
            },
            accepted = listener.accept() => {
                match accepted {
                    Ok((stream, _)) => unspoken.add(stream, bounds),
                    Err(error) if is_the_caller_s(&error) => {}
                    Err(error) => {
                        tracing::warn!(%error, "nobody can be accepted for a moment");
                        sleep(BACK_OFF).await;
                    }
                }
                continue;
            }
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            if told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
                told = Some(Instant::now());
                tracing::warn!(connections = bounds.connections, "who comes now is sent away: every place is taken");
            }
            continue;
        };
        // Fails when the server is gone: then this one is, too.
        let _ = spoken.send(Connection::new(stream, place, bounds.silence, stop.clone()));
    }
}

/// Whether only the one who came is gone again.
fn is_the_caller_s(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}

/// Those whose first byte is waited for.
#[derive(Default)]
struct Unspoken {
    tasks: JoinSet<Option<TcpStream>>,
    /// In the order in which they came; some have ended.
    oldest: VecDeque<AbortHandle>,
}

impl Unspoken {
    fn add(&mut self, stream: TcpStream, bounds: Bounds) {
        if self.oldest.len() >= bounds.unspoken {
            self.oldest.retain(|waiting| !waiting.is_finished());
        }
        if self.oldest.len() >= bounds.unspoken
            && let Some(oldest) = self.oldest.pop_front()
        {
            oldest.abort();
        }
        self.oldest.push_back(self.tasks.spawn(first_byte(stream, bounds.first_byte)));
    }
}

/// The connection once it has said something; `None` where it does not in time, or is gone.
async fn first_byte(stream: TcpStream, within: Duration) -> Option<TcpStream> {
    // Where it cannot be set small answers take longer.
    let _ = stream.set_nodelay(true);
    match timeout(within, stream.peek(&mut [0])).await {
        Ok(Ok(1..)) => Some(stream),
        _ => None,
    }
}

/// A connection in its place, which is free again once this is dropped.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    _place: OwnedSemaphorePermit,
    silence: Duration,
    heard: Instant,
    /// How many bytes came, up to [`PREFACE`].
    read: usize,
    stop: CancellationToken,
    /// Looks whether it was silent for too long; set anew only when it fires, not with each read.
    look: Pin<Box<Sleep>>,
}

impl Connection {
    fn new(stream: TcpStream, place: OwnedSemaphorePermit, silence: Duration, stop: CancellationToken) -> Self {
        let heard = Instant::now();
        Connection {
            stream,
            _place: place,
            silence,
            heard,
            read: 0,
            stop,
            look: Box::pin(sleep_until(heard + silence)),
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        if let Poll::Ready(read) = Pin::new(&mut this.stream).poll_read(context, buffer) {
            this.heard = Instant::now();
            this.read = PREFACE.min(this.read + buffer.filled().len() - before);
            return Poll::Ready(read);
        }
        // The server asks every connection at its end, and would wait for the rest of what was begun.
        if this.read < PREFACE && this.stop.is_cancelled() {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::Interrupted, "the server ends")));
        }
        loop {
            ready!(this.look.as_mut().poll(context));
            let until = this.heard + this.silence;
            if Instant::now() >= until {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "it was silent for too long")));
            }
            this.look.as_mut().reset(until);
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// Nothing that a test waits for takes as long.
    const LONG: Duration = Duration::from_secs(60);
    const SHORT: Duration = Duration::from_millis(50);
    const WIDE: Bounds = Bounds { connections: 9, unspoken: 9, first_byte: LONG, silence: LONG };

    async fn listening(bounds: Bounds) -> (SocketAddr, impl Stream<Item = io::Result<Connection>> + Unpin) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        (listener.local_addr().unwrap(), incoming(listener, bounds, CancellationToken::new()))
    }

    async fn silent(address: SocketAddr) -> TcpStream {
        TcpStream::connect(address).await.unwrap()
    }

    async fn speaking(address: SocketAddr) -> TcpStream {
        let mut stream = silent(address).await;
        stream.write_all(b"P").await.unwrap();
        stream
    }

    async fn is_closed(stream: &mut TcpStream) -> bool {
        let closed = timeout(Duration::from_secs(5), stream.read(&mut [0])).await;
        matches!(closed, Ok(Ok(0) | Err(_)))
    }

    async fn next(incoming: &mut (impl Stream<Item = io::Result<Connection>> + Unpin)) -> Connection {
        timeout(Duration::from_secs(5), incoming.next()).await.expect("somebody comes in").unwrap().unwrap()
    }

    #[tokio::test]
    async fn who_speaks_comes_in_past_any_number_of_silent_ones() {
        let (address, mut incoming) = listening(Bounds { unspoken: 2, ..WIDE }).await;
        let mut before = Vec::new();
        for _ in 0..5 {
            before.push(silent(address).await);
        }
        let _client = speaking(address).await;
        let mut connection = next(&mut incoming).await;
        let mut first = [0];
        connection.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"P", "what it said is still to be read");
        assert!(connection.stream.nodelay().unwrap());
        assert!(is_closed(&mut before[0]).await, "the oldest gave way");
        assert!(timeout(SHORT, before[4].read(&mut [0])).await.is_err(), "the newest may still speak");
    }

    #[tokio::test]
    async fn who_says_nothing_in_time_is_closed() {
        let (address, _incoming) = listening(Bounds { first_byte: SHORT, ..WIDE }).await;
        assert!(is_closed(&mut silent(address).await).await);
    }

    #[tokio::test]
    async fn there_are_so_many_places_and_one_is_free_again_when_its_connection_ends() {
        let (address, mut incoming) = listening(Bounds { connections: 1, ..WIDE }).await;
        let _first = speaking(address).await;
        let held = next(&mut incoming).await;
        assert!(is_closed(&mut speaking(address).await).await);
        drop(held);
        let _third = speaking(address).await;
        next(&mut incoming).await;
    }

    #[tokio::test]
    async fn who_falls_silent_is_closed_and_who_speaks_now_and_then_is_not() {
        let silence = Duration::from_millis(400);
        let (address, mut incoming) = listening(Bounds { silence, ..WIDE }).await;
        let mut client = speaking(address).await;
        let mut connection = next(&mut incoming).await;
        let began = Instant::now();
        let read = async {
            let mut read = 0;
            loop {
                match connection.read(&mut [0; 8]).await {
                    Ok(bytes) => read += bytes,
                    Err(error) => return (read, error.kind(), began.elapsed()),
                }
            }
        };
        let said = async {
            for _ in 0..6 {
                sleep(silence / 4).await;
                client.write_all(b"P").await.unwrap();
            }
        };
        let ((bytes, error, lasted), ()) = tokio::join!(read, said);
        assert_eq!((bytes, error), (7, io::ErrorKind::TimedOut));
        assert!(lasted >= silence * 2, "{lasted:?}");
    }

    #[tokio::test]
    async fn with_the_stream_the_port_and_the_silent_are_gone() {
        let (address, mut incoming) = listening(WIDE).await;
        let mut waiting = silent(address).await;
        let _client = speaking(address).await;
        let _held = next(&mut incoming).await;
        drop(incoming);
        assert!(is_closed(&mut waiting).await);
        assert!(TcpStream::connect(address).await.is_err());
    }

    #[test]
    fn places_are_within_the_descriptors_of_the_process() {
        let check = |limits: &str, connections: usize, unspoken: usize| {
            let bounds = Bounds::default().within(limits);
            assert_eq!((bounds.connections, bounds.unspoken), (connections, unspoken), "{limits}");
        };
        check("Max open files            1048576              1048576              files", 12_000, 256);
        check("Max cpu time  unlimited\nMax open files            1024       4096    files \n", 608, 256);
        check("Max open files            100                  100                  files", 1, 25);
        check("Max open files            unlimited            unlimited            files", 12_000, 256);
        check("", 12_000, 256);
    }
}
