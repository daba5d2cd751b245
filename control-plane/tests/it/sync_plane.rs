//! A control plane for tests: a store in memory, written as the layout says, and both services over loopback.

use std::{
    collections::BTreeSet,
    future::{Ready, ready},
    io::ErrorKind,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use aws_lc_rs::digest::{SHA256, digest};
use http::Uri;
use hyper_util::rt::TokioIo;
use prost::Message;
use switchtower_control_plane::{
    admission::{self, Admission},
    api::{
        fleet::FleetApi,
        sync::{Allow, SyncApi, configured},
    },
    desired::Cells,
    events::Events,
    fleet::Fleet,
    layout,
    store::{Condition, Outcome, Store, Transaction, memory::Memory as MemoryStore},
};
use switchtower_policy::items;
use switchtower_proto::{
    control::v1 as control,
    policy::v1::{Content, Item, RevisionRecord},
    store::v1 as stored,
};
use tokio::{io::DuplexStream, net::TcpListener, sync::mpsc};
use tokio_stream::wrappers::{TcpListenerStream, UnboundedReceiverStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{
    Status,
    codegen::Service,
    transport::{Channel, Endpoint, Server},
};

/// A control plane that runs.
pub(crate) struct Plane {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) sync: SyncApi,
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) cells: Arc<Cells>,
    pub(crate) events: Arc<Events>,
    pub(crate) acks: Arc<AtomicUsize>,
    stop: CancellationToken,
    tasks: TaskTracker,
    address: SocketAddr,
    pipes: mpsc::UnboundedSender<Result<DuplexStream, std::io::Error>>,
}

impl Plane {
    pub(crate) async fn new() -> Self {
        Self::of(Arc::new(MemoryStore::new())).await
    }

    /// A control plane on a store that has been there before.
    pub(crate) async fn of(store: Arc<dyn Store>) -> Self {
        let allow: Allow = Arc::new(|metadata| match metadata.get("authorization") {
            Some(token) if token != "Bearer right" => Err(Status::unauthenticated("the token is wrong")),
            _ => Ok(()),
        });
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let acks = Arc::new(AtomicUsize::new(0));
        let counted = acks.clone();
        let on_ack = Box::new(move |_: &str, _: Duration| {
            counted.fetch_add(1, Ordering::Relaxed);
        });
        let events = Arc::new(Events::of(&*store).await.unwrap());
        let cells = Arc::new(Cells::new(store.clone()));
        let fleet = Fleet::of(store.clone(), events.clone(), on_ack, SystemTime::now()).await.unwrap();
        let admission = Admission::new(admission::BYTES);
        let replica = "plane-1".to_owned();
        let sync = SyncApi::new(cells.clone(), fleet.clone(), admission, allow.clone(), replica, stop.clone());
        let fleet_api = FleetApi::new(cells.clone(), fleet.clone(), allow, stop.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = configured(Server::builder())
            .add_service(sync.clone().into_server())
            .add_service(fleet_api.into_server())
            .serve_with_incoming_shutdown(TcpListenerStream::new(listener), stop.clone().cancelled_owned());
        let (pipes, incoming) = mpsc::unbounded_channel();
        let piped = configured(Server::builder())
            .add_service(sync.clone().into_server())
            .serve_with_incoming_shutdown(UnboundedReceiverStream::new(incoming), stop.clone().cancelled_owned());
        tasks.spawn(async move { piped.await.unwrap() });
        let (cells_of_task, fleet_of_task) = (cells.clone(), fleet.clone());
        let (stop_cells, stop_fleet) = (stop.clone(), stop.clone());
        tasks.spawn(async move { server.await.unwrap() });
        tasks.spawn(async move { cells_of_task.run(stop_cells).await });
        tasks.spawn(async move { fleet_of_task.run(stop_fleet).await });
        tasks.close();
        let plane = Plane { store, sync, fleet, cells, events, acks, stop, tasks, address, pipes };
        plane.cells.read_again().await.unwrap();
        plane
    }

    pub(crate) async fn channel(&self) -> Channel {
        Endpoint::from_shared(format!("http://{}", self.address)).unwrap().connect().await.unwrap()
    }

    /// A connection without a socket, over which time can be stopped: it moves on only when everybody waits.
    pub(crate) async fn pipe(&self) -> Channel {
        let endpoint = Endpoint::from_static("http://plane");
        endpoint.connect_with_connector(Pipe(self.pipes.clone())).await.unwrap()
    }

    /// Begins to stop.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }

    /// Stops in order; the store is what is left.
    pub(crate) async fn stopped(self) -> Arc<dyn Store> {
        self.stop.cancel();
        tokio::time::timeout(Duration::from_secs(20), async {
            self.sync.ended().await;
            self.tasks.wait().await;
        })
        .await
        .expect("everything ends");
        self.store
    }

    /// Applies a content as the next revision, and assigns it.
    pub(crate) async fn publish(&self, items: Vec<Item>) -> u64 {
        publish(&*self.store, items).await
    }

    /// Writes a key, and waits until it is known.
    pub(crate) async fn key(&self, id: &str, revoked: bool) {
        let key = layout::key("prod", id);
        let condition = match self.store.get(&key).await.unwrap() {
            None => Condition::Absent(key.clone()),
            Some(entry) => Condition::Unchanged(key.clone(), entry.version),
        };
        let record = stored::Key {
            id: id.to_owned(),
            hash: vec![1; 32],
            caller: "app".to_owned(),
            revoked_at: revoked.then(|| SystemTime::now().into()),
            ..stored::Key::default()
        };
        commit(&*self.store, Transaction::when(condition).put(key, record.encode_to_vec())).await;
    }

    pub(crate) fn summary(&self) -> control::Summary {
        self.fleet.summary(&self.cells.get("prod").unwrap())
    }

    pub(crate) fn nodes(&self) -> Vec<control::Node> {
        let desired = self.cells.get("prod").unwrap();
        self.fleet.nodes(&desired, switchtower_control_plane::fleet::Which::Region(""), usize::MAX)
    }

    /// Waits until what is shown is so.
    pub(crate) async fn until(&self, what: &str, so: impl Fn(&Self) -> bool) {
        let mut changes = self.fleet.changes("prod");
        let waited = tokio::time::timeout(Duration::from_secs(20), async {
            while !so(self) {
                // Heartbeats and events change nothing here that wakes.
                let _ = tokio::time::timeout(Duration::from_millis(50), changes.changed()).await;
            }
        });
        waited.await.unwrap_or_else(|_| panic!("{what}: {:#?}", self.nodes()));
    }

    /// The kinds of events so far.
    pub(crate) fn told(&self) -> BTreeSet<String> {
        self.events.follow().0.iter().map(|event| event.kind.clone()).collect()
    }
}

/// Connects by handing the server its end of a pipe.
struct Pipe(mpsc::UnboundedSender<Result<DuplexStream, std::io::Error>>);

impl Service<Uri> for Pipe {
    type Response = TokioIo<DuplexStream>;
    type Error = std::io::Error;
    type Future = Ready<Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let (ours, theirs) = tokio::io::duplex(64 << 10);
        ready(self.0.send(Ok(theirs)).map(|()| TokioIo::new(ours)).map_err(|_| ErrorKind::ConnectionRefused.into()))
    }
}

pub(crate) fn route(name: &str, body: &[u8]) -> Item {
    Item { kind: "route".to_owned(), name: name.to_owned(), body: body.to_vec().into() }
}

/// Many routes, of which one is as it is told to be.
pub(crate) fn routes(body: &[u8]) -> Vec<Item> {
    let mut routes: Vec<Item> = (0..100).map(|n| route(&format!("r{n:03}"), &[7; 100])).collect();
    routes[50] = route("r050", body);
    routes
}

async fn commit(store: &dyn Store, transaction: Transaction) {
    assert!(matches!(store.commit(transaction).await.unwrap(), Outcome::Committed(_)));
}

async fn publish(store: &dyn Store, items: Vec<Item>) -> u64 {
    let content_digest = items::digest(&items).to_vec();
    let content = Content { items }.encode_to_vec();
    let mut chunks = Vec::new();
    for chunk in content.chunks(1 << 20) {
        let of = digest(&SHA256, chunk).as_ref().to_vec();
        let key = layout::chunk(&of);
        if store.get(&key).await.unwrap().is_none() {
            commit(store, Transaction::when(Condition::Absent(key.clone())).put(key, chunk.to_vec())).await;
        }
        chunks.push(of);
    }
    let key = layout::head("prod");
    let before = store.get(&key).await.unwrap();
    let head = before.as_ref().map(|entry| stored::Head::decode(&*entry.value).unwrap()).unwrap_or_default();
    let condition = match before {
        None => Condition::Absent(key.clone()),
        Some(entry) => Condition::Unchanged(key.clone(), entry.version),
    };
    let revision = head.revision + 1;
    let number = head.assignment.map_or(0, |assignment| assignment.number) + 1;
    let record = RevisionRecord {
        environment: "prod".to_owned(),
        number: revision,
        content_digest: content_digest.clone(),
        size_bytes: content.len() as u64,
        chunks,
        ..RevisionRecord::default()
    };
    let assignment = stored::Assignment {
        number,
        revision,
        content_digest,
        made_at: Some(SystemTime::now().into()),
        ..stored::Assignment::default()
    };
    let head = stored::Head { revision, assignment: Some(assignment), ..stored::Head::default() };
    let transaction = Transaction::when(condition)
        .put(layout::revision("prod", revision), record.encode_to_vec())
        .put(key, head.encode_to_vec());
    commit(store, transaction).await;
    number
}
