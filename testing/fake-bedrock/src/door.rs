//! The port of a region: who is let in, and what an outage does to those who are inside.

use std::{
    error::Error,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use http::{Request, Response};
use http_body::Body;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{region::Region, runtime, script::Outage};

/// Where a region listens. While its connections are refused the port stays bound, so that nobody else gets it.
#[derive(Debug)]
pub(crate) struct Door {
    address: SocketAddr,
    /// The socket that is bound and does not listen, while connections are refused.
    shut: Mutex<Option<Socket>>,
}

/// As many as a burst of a benchmark's clients opens at once.
const BACKLOG: i32 = 4096;
/// Streams that one HTTP/2 connection carries at once: a client with a single connection must not wait here.
const STREAMS_PER_CONNECTION: u32 = 4096;
/// The pause after the system gives no connection, for want of file descriptors mostly.
const PAUSE: Duration = Duration::from_millis(50);

impl Door {
    pub(crate) fn open(address: SocketAddr) -> io::Result<(Door, TcpListener)> {
        let listener = listening(bound(address)?)?;
        Ok((Door { address: listener.local_addr()?, shut: Mutex::default() }, listener))
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Follows the outage at once, before the accepting task hears of it: whoever ended one can connect.
    ///
    /// # Errors
    /// The system refuses; the accepting task tries again.
    pub(crate) fn follow(&self, outage: Option<Outage>) -> io::Result<()> {
        let mut shut = self.lock();
        let Some(socket) = shut.take() else { return Ok(()) };
        if outage == Some(Outage::Refuse) {
            // It may listen again since an outage that ended so shortly ago that the task has not heard of its end.
            drop(socket);
            *shut = Some(bound(self.address)?);
            Ok(())
        } else {
            shut.insert(socket).listen(BACKLOG)
        }
    }

    /// Accepts until the token is cancelled.
    pub(crate) async fn run(
        self: Arc<Self>,
        mut listener: TcpListener,
        region: Arc<Region>,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) {
        let mut outage = region.outage.subscribe();
        loop {
            let now = *outage.borrow_and_update();
            if now == Some(Outage::Refuse) {
                drop(listener);
                match self.stay_shut(&mut outage, &stop).await {
                    Some(open) => listener = open,
                    None => return,
                }
                continue;
            }
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                _ = outage.changed() => continue,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    region.tally.connected();
                    let held = Held { stream, outage: region.outage.subscribe(), stop: stop.clone() };
                    tasks.spawn(held.serve(Arc::clone(&region)));
                }
                Err(error) => {
                    tracing::warn!(%error, region = %region.name, "cannot accept a connection");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// Waits until connections are no longer refused; `None`: the fake ends.
    async fn stay_shut(
        &self,
        outage: &mut watch::Receiver<Option<Outage>>,
        stop: &CancellationToken,
    ) -> Option<TcpListener> {
        let socket = self.bound_again().await;
        *self.lock() = Some(socket);
        tokio::select! {
            () = stop.cancelled() => return None,
            ended = outage.wait_for(|now| *now != Some(Outage::Refuse)) => drop(ended.ok()?),
        };
        loop {
            let socket = self.lock().take();
            let socket = match socket {
                Some(socket) => socket,
                None => self.bound_again().await,
            };
            match listening(socket) {
                Ok(listener) => return Some(listener),
                Err(error) => self.complain(&error).await,
            }
        }
    }

    /// The port, as soon as it can be had.
    async fn bound_again(&self) -> Socket {
        loop {
            match bound(self.address) {
                Ok(socket) => return socket,
                Err(error) => self.complain(&error).await,
            }
        }
    }

    async fn complain(&self, error: &io::Error) {
        tracing::warn!(%error, address = %self.address, "cannot have the port; trying again");
        tokio::time::sleep(PAUSE).await;
    }

    fn lock(&self) -> MutexGuard<'_, Option<Socket>> {
        self.shut.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection of a region.
struct Held {
    stream: TcpStream,
    outage: watch::Receiver<Option<Outage>>,
    stop: CancellationToken,
}

impl Held {
    async fn serve(mut self, region: Arc<Region>) {
        // A second handle, to reset the connection that hyper has.
        let handle = SockRef::from(&self.stream).try_clone();
        let connection = async {
            let service = service_fn(|request| runtime::serve(Arc::clone(&region), request));
            serve_http(self.stream, service).await;
        };
        let mut connection = std::pin::pin!(connection);
        loop {
            let now = *self.outage.borrow_and_update();
            let frozen = match now {
                None | Some(Outage::Hang) => false,
                Some(Outage::BlackHole) => true,
                Some(Outage::Refuse | Outage::Close) => return,
                Some(Outage::Reset) => {
                    if let Ok(handle) = &handle {
                        // Closed with nothing to wait for, it is reset. Where that fails, it is closed all the same.
                        let _ = handle.set_linger(Some(Duration::ZERO));
                    }
                    return;
                }
            };
            tokio::select! {
                () = self.stop.cancelled() => return,
                changed = self.outage.changed() => if changed.is_err() { return },
                () = &mut connection, if !frozen => return,
            }
        }
    }
}

/// HTTP/1.1 or, by prior knowledge, HTTP/2, until the client leaves.
pub(crate) async fn serve_http<F, B>(
    stream: TcpStream,
    service: impl hyper::service::Service<
        Request<Incoming>,
        Response = Response<B>,
        Error = Box<dyn Error + Send + Sync>,
        Future = F,
    >,
) where
    F: Future<Output = Result<Response<B>, Box<dyn Error + Send + Sync>>> + Send + 'static,
    B: Body<Data: Send, Error: Error + Send + Sync + 'static> + Send + 'static,
{
    // Events are small and each is worth sending by itself.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "the connection is gone already");
        return;
    }
    let mut server = auto::Builder::new(TokioExecutor::new());
    // Connections of tests and benchmarks rest as long as they like.
    server.http1().header_read_timeout(None);
    server.http2().max_concurrent_streams(STREAMS_PER_CONNECTION);
    if let Err(error) = server.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(error, "connection ended");
    }
}

fn bound(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn listening(socket: Socket) -> io::Result<TcpListener> {
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}
