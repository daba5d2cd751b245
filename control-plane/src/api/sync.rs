//! The stream to each node: brings it what it lacks and hears what became of it.
//!
//! `greet` hears who it is, `session` decides, `payload` encodes once for all, `stream` and `outgoing` move bytes and time.
//! A stream has one task and a channel for one message: what a slow node does not read piles up nowhere, and makes nobody
//! else wait.

mod greet;
mod hello;
mod http2;
mod outgoing;
mod payload;
mod session;
mod stream;

use std::{
    fmt,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::{Stream, StreamExt};
use switchtower_proto::sync::v1::{
    SyncRequest, SyncResponse,
    sync_service_server::{SyncService, SyncServiceServer},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Request, Response, Status, Streaming, metadata::MetadataMap};

pub use self::http2::{CONNECTION_WINDOW, HEADERS, PING_ANSWER, PING_EVERY, STREAM_WINDOW, STREAMS, configured};
use self::payload::Payloads;
use crate::{admission::Admission, desired::Cells, fleet::Fleet};

/// Longest message of a node: its schema in Hello is tens of kilobytes.
const MAX_MESSAGE: usize = 512 << 10;
/// How many nodes come back per second after a shutdown: what two cores take while they publish.
const COME_BACK_PER_SECOND: usize = 500;
/// How long the last of them waits at most; it serves what it has meanwhile.
const COME_BACK_WITHIN: Duration = Duration::from_secs(30);

/// Says whether who calls may.
pub type Allow = Arc<dyn Fn(&MetadataMap) -> Result<(), Status> + Send + Sync>;

/// One message to a node. Boxed, because a channel has room for dozens whether they come or not.
type Message = Box<Result<SyncResponse, Status>>;

/// The service that nodes call.
#[derive(Clone)]
pub struct SyncApi(Arc<Shared>);

/// What all streams share.
struct Shared {
    cells: Arc<Cells>,
    fleet: Arc<Fleet>,
    admission: Arc<Admission>,
    payloads: Payloads,
    allow: Allow,
    replica: String,
    streams: TaskTracker,
    open: AtomicUsize,
    stop: CancellationToken,
}

impl fmt::Debug for SyncApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SyncApi").field("replica", &self.0.replica).field("open", &self.open()).finish_non_exhaustive()
    }
}

impl SyncApi {
    /// The service. `allow` checks the fleet's token, `replica` is this control plane's name; after `stop` every node is
    /// asked to come back, and its stream ends.
    #[must_use]
    pub fn new(
        cells: Arc<Cells>,
        fleet: Arc<Fleet>,
        admission: Arc<Admission>,
        allow: Allow,
        replica: String,
        stop: CancellationToken,
    ) -> Self {
        let payloads = Payloads::new(cells.clone());
        let (streams, open) = (TaskTracker::new(), AtomicUsize::new(0));
        SyncApi(Arc::new(Shared { cells, fleet, admission, payloads, allow, replica, streams, open, stop }))
    }

    /// For a server.
    #[must_use]
    pub fn into_server(self) -> SyncServiceServer<Self> {
        SyncServiceServer::new(self).max_decoding_message_size(MAX_MESSAGE)
    }

    /// How many streams there are.
    #[must_use]
    pub fn open(&self) -> usize {
        self.0.open.load(Ordering::Relaxed)
    }

    /// How many updates were encoded since the start: one for all nodes that lacked the same.
    #[must_use]
    pub fn encoded(&self) -> u64 {
        self.0.payloads.encoded()
    }

    /// Waits until every stream has ended, after `stop`.
    pub async fn ended(&self) {
        self.0.streams.close();
        self.0.streams.wait().await;
    }
}

#[tonic::async_trait]
impl SyncService for SyncApi {
    type SyncStream = Pin<Box<dyn Stream<Item = Result<SyncResponse, Status>> + Send>>;

    async fn sync(&self, request: Request<Streaming<SyncRequest>>) -> Result<Response<Self::SyncStream>, Status> {
        (self.0.allow)(request.metadata())?;
        if self.0.stop.is_cancelled() {
            return Err(Status::unavailable("this control plane is stopping; try again after a while"));
        }
        let (out, messages) = mpsc::channel(1);
        self.0.streams.spawn(stream::run(self.0.clone(), request.into_inner(), out));
        Ok(Response::new(Box::pin(ReceiverStream::new(messages).map(|message: Message| *message))))
    }
}

impl Shared {
    /// Within which time the nodes that are here come back, so that they do not come at once.
    fn come_back_within(&self) -> Duration {
        let seconds = self.open.load(Ordering::Relaxed) / COME_BACK_PER_SECOND;
        Duration::from_secs(seconds.max(1) as u64).min(COME_BACK_WITHIN)
    }
}
