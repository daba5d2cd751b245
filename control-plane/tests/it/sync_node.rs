//! A node as the stream sees it, scripted: it keeps what it is sent as a node does, and answers as a test says.

use std::time::{Duration, SystemTime};

use prost::Message;
use switchtower_policy::items;
use switchtower_proto::{
    policy::v1::Item,
    sync::v1::{
        self as sync, sync_request::Kind as Up, sync_response::Kind as Down, sync_service_client::SyncServiceClient,
    },
};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming, transport::Channel};

/// What a test waits for anything at all; nothing should take a tenth of it.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a node has, over its streams.
#[derive(Clone, Default)]
pub(crate) struct Memory {
    pub(crate) held: Option<sync::Held>,
    pub(crate) items: Vec<Item>,
}

/// A node with a stream.
pub(crate) struct Node {
    up: mpsc::Sender<sync::SyncRequest>,
    down: Streaming<sync::SyncResponse>,
    pub(crate) memory: Memory,
    pub(crate) welcome: sync::Welcome,
}

/// An update in one piece.
pub(crate) struct Update {
    pub(crate) id: u64,
    pub(crate) parts: u32,
    pub(crate) bytes: usize,
    pub(crate) body: sync::UpdateBody,
}

pub(crate) fn hello(id: &str, instance: u8, memory: &Memory) -> sync::Hello {
    sync::Hello {
        node_id: id.to_owned(),
        instance: vec![instance; 16],
        environment: "prod".to_owned(),
        region: "us-east-1".to_owned(),
        build: "0.1.0".to_owned(),
        schema: Some(sync::Schema { members: vec!["Route.models".to_owned()], kinds: vec!["route".to_owned()] }),
        held: memory.held.clone(),
        boot: sync::Boot::Nothing.into(),
        clock: Some(SystemTime::now().into()),
        quarantined: Vec::new(),
    }
}

impl Node {
    /// Begins a stream; the error is the status that it ended with.
    pub(crate) async fn connect(channel: Channel, hello: sync::Hello, memory: Memory) -> Result<Self, Status> {
        Self::begin(channel, Up::Hello(hello), memory).await
    }

    pub(crate) async fn begin(channel: Channel, first: Up, memory: Memory) -> Result<Self, Status> {
        let (up, requests) = mpsc::channel(4);
        up.send(sync::SyncRequest { kind: Some(first) }).await.unwrap();
        let mut down = SyncServiceClient::new(channel).sync(ReceiverStream::new(requests)).await?.into_inner();
        let first = timeout(PATIENCE, down.message()).await.expect("a first message")?;
        let Some(sync::SyncResponse { kind: Some(Down::Welcome(welcome)) }) = first else {
            panic!("{first:?} is no Welcome")
        };
        Ok(Node { up, down, memory, welcome })
    }

    /// The next message but heartbeats. `None`: the stream ended well.
    pub(crate) async fn next(&mut self) -> Result<Option<Down>, Status> {
        loop {
            let message = timeout(PATIENCE, self.down.message()).await.expect("a message or an end")?;
            match message.map(|message| message.kind.unwrap()) {
                Some(Down::Heartbeat(_)) => {}
                other => return Ok(other),
            }
        }
    }

    /// The next update, whole.
    pub(crate) async fn update(&mut self) -> Update {
        let mut body = Vec::new();
        loop {
            let Some(Down::Update(part)) = self.next().await.unwrap() else { panic!("no update") };
            assert!(part.body.len() <= 1 << 20);
            body.extend_from_slice(&part.body);
            if part.part + 1 == part.parts {
                let bytes = body.len();
                let body = sync::UpdateBody::decode(&*body).unwrap();
                return Update { id: part.update_id, parts: part.parts, bytes, body };
            }
        }
    }

    /// Whether nothing comes for a while.
    pub(crate) async fn is_quiet(&mut self) -> bool {
        timeout(Duration::from_millis(150), self.next()).await.is_err()
    }

    /// Takes an update as a node does: what it leads to must be what its digest says.
    pub(crate) fn take(&mut self, update: &Update) {
        let assignment = update.body.assignment.clone().unwrap();
        if let Some(delta) = &update.body.content {
            let base = if delta.base_digest.is_empty() { &[][..] } else { &self.memory.items[..] };
            let held = self.memory.held.as_ref().map(|held| held.content_digest.clone()).unwrap_or_default();
            assert!(delta.base_digest.is_empty() || delta.base_digest == held, "a base that is not held");
            let removed: Vec<_> = delta.removed.iter().map(|key| (key.kind.clone(), key.name.clone())).collect();
            self.memory.items = items::apply_delta(base, delta.put.clone(), &removed).unwrap();
        }
        assert_eq!(items::digest(&self.memory.items)[..], assignment.content_digest);
        let before = self.memory.held.as_ref().map_or(0, |held| held.keys_version);
        self.memory.held = Some(sync::Held {
            epoch: assignment.epoch,
            assignment: assignment.number,
            revision: assignment.revision,
            content_digest: assignment.content_digest,
            keys_version: update.body.keys.as_ref().map_or(before, |keys| keys.to_version),
        });
    }

    pub(crate) async fn ack(&mut self, update: &Update) {
        self.take(update);
        let held = self.memory.held.clone();
        self.send(Up::Ack(sync::Ack { update_id: update.id, held, ..sync::Ack::default() })).await;
    }

    pub(crate) async fn nack(&mut self, update: &Update, transient: bool) {
        let assignment = update.body.assignment.clone().unwrap();
        let violation = sync::Violation {
            code: "damaged".to_owned(),
            path: "routes[chat]".to_owned(),
            message: "this does not compile".to_owned(),
        };
        let nack = sync::Nack {
            update_id: update.id,
            held: self.memory.held.clone(),
            revision: assignment.revision,
            content_digest: assignment.content_digest,
            violations: vec![violation],
            transient,
        };
        self.send(Up::Nack(nack)).await;
    }

    pub(crate) async fn send(&mut self, kind: Up) {
        self.up.send(sync::SyncRequest { kind: Some(kind) }).await.unwrap();
    }

    /// Ends the stream, and is what is left.
    pub(crate) fn leave(self) -> Memory {
        self.memory
    }
}
