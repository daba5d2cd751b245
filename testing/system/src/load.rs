//! Requests at a pace, over connections that stay open, each answer judged as it comes: for what must not be noticed by
//! callers. A request that fails is not tried again.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpStream,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval_at, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{PATIENCE, wire::Reply};

/// Most failures that are kept in words.
const TOLD: usize = 5;

/// What came of a load.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// How many were answered well, by the revision that served them.
    pub served: BTreeMap<u64, u64>,
    /// How many were not.
    pub failed: u64,
    /// How many were served by an older revision than one that the same node had answered with before they were sent.
    pub went_back: u64,
    /// The first failures, in words.
    pub told: Vec<String>,
    /// The slowest answer.
    pub slowest: Duration,
}

impl Tally {
    /// How many were answered well.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.served.values().sum()
    }
}

/// A load that goes on. Dropping it ends it.
#[derive(Debug)]
pub struct Load {
    lanes: JoinSet<()>,
    tally: Arc<Mutex<Tally>>,
    stop: CancellationToken,
}

/// Gives the revision that served an answer, or what is wrong with it.
pub type Judge = fn(&Reply) -> Result<u64, String>;

/// One connection's part of a load.
struct Lane {
    address: SocketAddr,
    request: Request<Bytes>,
    judge: Judge,
    /// The newest revision that this node has answered with, to any lane.
    newest: Arc<AtomicU64>,
    tally: Arc<Mutex<Tally>>,
}

impl Load {
    /// Sends `per_second` requests a second, over `lanes` connections that take turns at the nodes and at the requests.
    ///
    /// # Panics
    /// There are no nodes or no requests.
    #[must_use]
    pub fn start(nodes: &[SocketAddr], requests: &[Request<Bytes>], per_second: u32, lanes: u32, judge: Judge) -> Load {
        let (tally, stop) = (Arc::new(Mutex::new(Tally::default())), CancellationToken::new());
        let newest: Vec<_> = nodes.iter().map(|_| Arc::new(AtomicU64::new(0))).collect();
        let (pause, began) = (Duration::from_secs(1) * lanes / per_second, Instant::now());
        let mut tasks = JoinSet::new();
        for lane in 0..lanes {
            let index = lane as usize % nodes.len();
            let request = requests[lane as usize / nodes.len() % requests.len()].clone();
            let (newest, tally, stop) = (newest[index].clone(), tally.clone(), stop.clone());
            let lane_of = Lane { address: nodes[index], request, judge, newest, tally };
            // Spread over the pause, so that they do not come all at once.
            let first = began + pause * lane / lanes;
            tasks.spawn(async move { lane_of.run(first, pause, stop).await });
        }
        Load { lanes: tasks, tally, stop }
    }

    /// What came of it so far.
    #[must_use]
    pub fn so_far(&self) -> Tally {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends it when what was sent is answered.
    ///
    /// # Panics
    /// A lane has panicked.
    pub async fn end(mut self) -> Tally {
        self.stop.cancel();
        while let Some(lane) = self.lanes.join_next().await {
            lane.expect("lanes do not panic");
        }
        self.so_far()
    }
}

impl Lane {
    async fn run(self, first: Instant, pause: Duration, stop: CancellationToken) {
        let mut ticks = interval_at(first, pause);
        // What was missed is sent afterwards: a node that stands still is not spared.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let mut open = None;
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            let (began, floor) = (Instant::now(), self.newest.load(Ordering::SeqCst));
            let answered = timeout(PATIENCE, self.send(&mut open)).await;
            let judged = match answered {
                Ok(Ok(reply)) => (self.judge)(&reply),
                Ok(Err(error)) => Err(format!("{}: {error:#}", self.address)),
                Err(_) => Err(format!("{}: no answer in time", self.address)),
            };
            if judged.is_err() {
                open = None;
            }
            self.count(judged, floor, began.elapsed());
        }
    }

    async fn send(&self, open: &mut Option<SendRequest<Full<Bytes>>>) -> anyhow::Result<Reply> {
        let sender = match open {
            Some(sender) => sender,
            None => {
                let stream = TcpStream::connect(self.address).await?;
                stream.set_nodelay(true)?;
                let (sender, connection) = handshake(TokioIo::new(stream)).await?;
                tokio::spawn(connection);
                open.insert(sender)
            }
        };
        let mut request = self.request.clone();
        request.headers_mut().insert("host", self.address.to_string().parse()?);
        sender.ready().await?;
        let (parts, body) = sender.send_request(request.map(Full::new)).await?.into_parts();
        let collected = body.collect().await?;
        Ok(Reply {
            status: parts.status.as_u16(),
            headers: parts.headers,
            trailers: collected.trailers().cloned().unwrap_or_default(),
            body: collected.to_bytes(),
            cut: false,
        })
    }

    fn count(&self, judged: Result<u64, String>, floor: u64, took: Duration) {
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        tally.slowest = tally.slowest.max(took);
        match judged {
            Ok(revision) => {
                self.newest.fetch_max(revision, Ordering::SeqCst);
                *tally.served.entry(revision).or_default() += 1;
                tally.went_back += u64::from(revision < floor);
            }
            Err(why) => {
                tally.failed += 1;
                if tally.told.len() < TOLD {
                    tally.told.push(why);
                }
            }
        }
    }
}
