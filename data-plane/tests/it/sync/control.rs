//! A scripted control plane on loopback: the test says what it says.

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use prost::Message;
use switchtower_policy::{File, items, read};
use switchtower_proto::{
    policy::v1::Item,
    sync::v1::{
        Ack, Assignment, ContentDelta, Heartbeat, Hello, ItemKey, KeyRecord, KeysDelta, Nack, SyncRequest,
        SyncResponse, Update, UpdateBody, Welcome,
        sync_request::Kind as Up,
        sync_response::Kind as Down,
        sync_service_server::{SyncService, SyncServiceServer},
    },
};
use tokio::{net::TcpListener, sync::mpsc, task::JoinHandle, time::timeout};
use tokio_stream::{
    Stream, StreamExt,
    wrappers::{TcpListenerStream, UnboundedReceiverStream},
};
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Identity, Server, ServerTlsConfig},
};

/// How long a test waits for what must come.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);
pub(super) const TOKEN: &str = "fleet-token";
pub(super) const EPOCH: &str = "epoch-1";

/// A control plane. Dropping it ends it and its streams.
pub(super) struct Control {
    pub(super) address: SocketAddr,
    streams: mpsc::UnboundedReceiver<Node>,
    /// What the next streams are refused with.
    refuse: Arc<Mutex<Option<Status>>>,
    server: JoinHandle<()>,
}

/// The stream of one node, after its Hello.
pub(super) struct Node {
    pub(super) hello: Hello,
    to: mpsc::UnboundedSender<Result<SyncResponse, Status>>,
    from: Streaming<SyncRequest>,
    next: u64,
}

struct Service {
    streams: mpsc::UnboundedSender<Node>,
    refuse: Arc<Mutex<Option<Status>>>,
}

#[tonic::async_trait]
impl SyncService for Service {
    type SyncStream = Pin<Box<dyn Stream<Item = Result<SyncResponse, Status>> + Send>>;

    async fn sync(&self, request: Request<Streaming<SyncRequest>>) -> Result<Response<Self::SyncStream>, Status> {
        if let Some(status) = self.refuse.lock().unwrap().clone() {
            return Err(status);
        }
        let shown = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
        if shown != Some(&format!("Bearer {TOKEN}")) {
            return Err(Status::unauthenticated("no such token"));
        }
        let mut from = request.into_inner();
        let (to, answers) = mpsc::unbounded_channel();
        let Some(Ok(SyncRequest { kind: Some(Up::Hello(hello)) })) = from.next().await else {
            return Err(Status::invalid_argument("no Hello"));
        };
        let _ = self.streams.send(Node { hello, to, from, next: 0 });
        Ok(Response::new(Box::pin(UnboundedReceiverStream::new(answers))))
    }
}

impl Control {
    pub(super) async fn up() -> Self {
        Self::at(([127, 0, 0, 1], 0).into(), None).await
    }

    pub(super) async fn at(address: SocketAddr, tls: Option<Identity>) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, streams) = mpsc::unbounded_channel();
        let refuse = Arc::new(Mutex::new(None));
        let service = Service { streams: sender, refuse: refuse.clone() };
        let mut server = Server::builder();
        if let Some(identity) = tls {
            server = server.tls_config(ServerTlsConfig::new().identity(identity)).unwrap();
        }
        let router = server.add_service(SyncServiceServer::new(service));
        let server = tokio::spawn(async move {
            router.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap();
        });
        Control { address, streams, refuse, server }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The next node that says Hello; it is welcomed.
    pub(super) async fn node(&mut self) -> Node {
        self.node_of(EPOCH).await
    }

    pub(super) async fn node_of(&mut self, epoch: &str) -> Node {
        let node = timeout(PATIENCE, self.streams.recv()).await.expect("no node came").unwrap();
        let welcome = Welcome { epoch: epoch.to_owned(), replica: "scripted".to_owned(), ..Welcome::default() };
        node.say(Down::Welcome(welcome));
        node
    }

    /// Ends it; its port is free when this returns. Its streams end when the test drops them.
    pub(super) async fn down(mut self) -> SocketAddr {
        self.server.abort();
        let _ = (&mut self.server).await;
        self.address
    }

    pub(super) fn refuse(&self, status: Option<Status>) {
        *self.refuse.lock().unwrap() = status;
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Node {
    pub(super) fn say(&self, kind: Down) {
        // A node that is gone hears nothing, which is for the test to notice.
        let _ = self.to.send(Ok(SyncResponse { kind: Some(kind) }));
    }

    pub(super) fn heartbeat(&self, assignment: u64) {
        self.say(Down::Heartbeat(Heartbeat { assignment }));
    }

    /// Sends an update in so many parts, and gives the answer.
    pub(super) async fn update_in(&mut self, body: &UpdateBody, parts: usize) -> Result<Ack, Nack> {
        self.next += 1;
        let bytes = Bytes::from(body.encode_to_vec());
        let length = bytes.len().div_ceil(parts);
        for part in 0..parts {
            let body = bytes.slice((part * length).min(bytes.len())..((part + 1) * length).min(bytes.len()));
            let part = u32::try_from(part).unwrap();
            self.say(Down::Update(Update { update_id: self.next, part, parts: u32::try_from(parts).unwrap(), body }));
        }
        let (id, answer) = match self.answer().await {
            Up::Ack(ack) => (ack.update_id, Ok(ack)),
            Up::Nack(nack) => (nack.update_id, Err(nack)),
            other => panic!("{other:?} is no answer"),
        };
        assert_eq!(id, self.next);
        answer
    }

    pub(super) async fn update(&mut self, body: &UpdateBody) -> Result<Ack, Nack> {
        self.update_in(body, 1).await
    }

    /// What the node says next that is no heartbeat.
    pub(super) async fn answer(&mut self) -> Up {
        loop {
            match self.hears().await {
                Some(Up::Heartbeat(_)) => {}
                Some(kind) => return kind,
                None => panic!("the node ended the stream"),
            }
        }
    }

    /// What the node says next; `None`: it ended the stream.
    pub(super) async fn hears(&mut self) -> Option<Up> {
        let next = timeout(PATIENCE, self.from.next()).await.expect("the node says nothing");
        next.and_then(Result::ok).map(|message| message.kind.expect("a node says something"))
    }
}

/// The items of a policy.
pub(super) fn content(yaml: &str) -> Vec<Item> {
    let reading = read(&[File { name: "test.yaml".to_owned(), bytes: yaml.as_bytes().to_vec() }]);
    assert!(reading.violations.is_empty(), "{:?}", reading.violations);
    items::items(&reading.policy)
}

/// A policy whose answer says which it is.
pub(super) fn policy(number: u64) -> Vec<Item> {
    content(&format!(
        "environment: test\n\
         models: {{ m: {{ bedrock: us.amazon.nova-lite-v1:0, regions: [us-east-1] }} }}\n\
         callers: {{ app: {{ routes: [chat] }} }}\n\
         routes: {{ chat: {{ tiers: [{{ answer: 'policy {number}' }}] }} }}\n"
    ))
}

/// From nothing, or from another content.
pub(super) fn delta(base: Option<&[Item]>, to: &[Item]) -> ContentDelta {
    let (put, removed) = items::delta(base.unwrap_or_default(), to);
    let removed = removed.into_iter().map(|(kind, name)| ItemKey { kind, name }).collect();
    ContentDelta { base_digest: base.map_or_else(Vec::new, |base| items::digest(base).to_vec()), put, removed }
}

/// An update to a content, as assignment and revision of this number.
pub(super) fn update(number: u64, base: Option<&[Item]>, to: &[Item]) -> UpdateBody {
    UpdateBody {
        assignment: Some(Assignment {
            epoch: EPOCH.to_owned(),
            environment: "test".to_owned(),
            number,
            revision: number,
            content_digest: items::digest(to).to_vec(),
        }),
        content: Some(delta(base, to)),
        keys: None,
        traceparent: String::new(),
    }
}

pub(super) fn with_keys(mut body: UpdateBody, from_version: u64, to_version: u64, put: &[KeyRecord]) -> UpdateBody {
    body.keys = Some(KeysDelta { from_version, to_version, put: put.to_vec() });
    body
}
