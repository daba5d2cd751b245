//! Nodes that are simulated: each has a connection and a stream of its own, keeps what it is sent, and checks its digest
//! before it answers. They compile nothing: what is measured is the control plane and the wire.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use prost::Message;
use switchtower_policy::items;
use switchtower_proto::{
    policy::v1::Item,
    sync::v1::{
        Ack, Boot, ContentDelta, Heartbeat, Held, Hello, Schema, SyncRequest, UpdateBody, sync_request, sync_response,
        sync_service_client::SyncServiceClient,
    },
};
use tokio::{sync::mpsc, task::JoinSet, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Endpoint;

/// As nodes do it.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(180);

/// Where nodes connect, and how they say that they may.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    pub(crate) address: SocketAddr,
    pub(crate) token: String,
    pub(crate) environment: String,
}

/// What a node tells the one who measures.
#[derive(Debug)]
pub(crate) enum Told {
    Welcomed,
    /// It was sent an update of so many bytes, and has it since then.
    Served {
        assignment: u64,
        bytes: usize,
        at: Instant,
    },
    Failed(anyhow::Error),
}

/// A node: what it holds.
#[derive(Debug)]
struct Node {
    id: usize,
    held: Held,
    items: Vec<Item>,
}

/// Nodes with their streams.
#[derive(Debug)]
pub(crate) struct Fleet {
    streams: JoinSet<Node>,
    stop: CancellationToken,
    told: mpsc::UnboundedReceiver<Told>,
    count: usize,
}

/// Nodes without streams, and what they hold.
#[derive(Debug)]
pub(crate) struct Resting(Vec<Node>);

impl Resting {
    /// So many that hold nothing.
    pub(crate) fn new(count: usize) -> Resting {
        Resting((0..count).map(|id| Node { id, held: Held::default(), items: Vec::new() }).collect())
    }

    /// All of them connect at once. Gives them when each has its welcome, and how long that took.
    pub(crate) async fn connect(self, door: &Door) -> anyhow::Result<(Fleet, Duration)> {
        let (sender, told) = mpsc::unbounded_channel();
        let stop = CancellationToken::new();
        let began = Instant::now();
        let count = self.0.len();
        let mut streams = JoinSet::new();
        for node in self.0 {
            streams.spawn(live(node, door.clone(), sender.clone(), stop.clone()));
        }
        let mut fleet = Fleet { streams, stop, told, count };
        for _ in 0..count {
            match fleet.next().await? {
                Told::Welcomed => {}
                Told::Failed(error) => return Err(error),
                // One that held less than it should is sent that at once; who waits for it asks again.
                Told::Served { .. } => bail!("a node was sent an update before all were welcomed"),
            }
        }
        Ok((fleet, began.elapsed()))
    }

    /// As [`Resting::connect`], for nodes that hold nothing: until each serves what it was sent.
    pub(crate) async fn connect_and_serve(self, door: &Door) -> anyhow::Result<Fleet> {
        let (sender, told) = mpsc::unbounded_channel();
        let stop = CancellationToken::new();
        let count = self.0.len();
        let mut streams = JoinSet::new();
        for node in self.0 {
            streams.spawn(live(node, door.clone(), sender.clone(), stop.clone()));
        }
        let mut fleet = Fleet { streams, stop, told, count };
        let mut serving = 0;
        while serving < count {
            match fleet.next().await? {
                Told::Welcomed => {}
                Told::Served { .. } => serving += 1,
                Told::Failed(error) => return Err(error),
            }
        }
        Ok(fleet)
    }
}

impl Fleet {
    /// How long after `began` each node had what a newer assignment than `before` says, sorted, and the bytes of one update.
    pub(crate) async fn served_after(&mut self, before: u64, began: Instant) -> anyhow::Result<(Vec<Duration>, usize)> {
        let (mut took, mut size) = (Vec::with_capacity(self.count), 0);
        while took.len() < self.count {
            match self.next().await? {
                Told::Served { assignment, bytes, at } if assignment > before => {
                    took.push(at.saturating_duration_since(began));
                    size = bytes;
                }
                Told::Served { .. } | Told::Welcomed => {}
                Told::Failed(error) => return Err(error),
            }
        }
        took.sort_unstable();
        Ok((took, size))
    }

    /// Whether none was sent anything for so long.
    pub(crate) async fn is_left_alone_for(&mut self, span: Duration) -> bool {
        timeout(span, self.told.recv()).await.is_err()
    }

    /// Ends all streams.
    pub(crate) async fn rest(mut self) -> anyhow::Result<Resting> {
        self.stop.cancel();
        let mut nodes = Vec::with_capacity(self.count);
        while let Some(node) = self.streams.join_next().await {
            nodes.push(node.context("a node's task failed")?);
        }
        Ok(Resting(nodes))
    }

    /// What the control plane's store should say next, by the newest that a node was told of.
    async fn next(&mut self) -> anyhow::Result<Told> {
        let told = timeout(PATIENCE, self.told.recv()).await.context("nothing was heard of the nodes")?;
        told.context("all nodes are gone")
    }
}

async fn live(mut node: Node, door: Door, told: mpsc::UnboundedSender<Told>, stop: CancellationToken) -> Node {
    let ended = stop.run_until_cancelled(stream(&mut node, &door, &told)).await;
    if let Some(ended) = ended {
        let why = ended.err().unwrap_or_else(|| anyhow::anyhow!("its stream ended"));
        // Nobody listens any more when all of it ends.
        let _ = told.send(Told::Failed(why.context(format!("node {}", node.id))));
    }
    node
}

async fn stream(node: &mut Node, door: &Door, told: &mpsc::UnboundedSender<Told>) -> anyhow::Result<()> {
    let channel = Endpoint::from_shared(format!("http://{}", door.address))?.tcp_nodelay(true).connect().await?;
    let (sender, requests) = mpsc::channel(4);
    sender.send(says(sync_request::Kind::Hello(hello(node, door)))).await?;
    let mut request = tonic::Request::new(ReceiverStream::new(requests));
    request.metadata_mut().insert("authorization", format!("Bearer {}", door.token).parse()?);
    let mut responses = SyncServiceClient::new(channel).sync(request).await?.into_inner();
    let mut beat = tokio::time::interval_at(tokio::time::Instant::now() + HEARTBEAT, HEARTBEAT);
    let mut body = Vec::new();
    loop {
        let response = tokio::select! {
            response = responses.message() => response?.context("the stream ended")?,
            _ = beat.tick() => {
                let heartbeat = Heartbeat { assignment: node.held.assignment };
                sender.send(says(sync_request::Kind::Heartbeat(heartbeat))).await?;
                continue;
            }
        };
        match response.kind.context("an empty message")? {
            sync_response::Kind::Welcome(_) => told.send(Told::Welcomed)?,
            sync_response::Kind::Heartbeat(_) => {}
            sync_response::Kind::Reconnect(_) => bail!("it was sent away"),
            sync_response::Kind::Update(part) => {
                body.extend_from_slice(&part.body);
                if part.part + 1 < part.parts {
                    continue;
                }
                let bytes = body.len();
                node.take(UpdateBody::decode(bytes::Bytes::from(std::mem::take(&mut body)))?)?;
                let ack = Ack { update_id: part.update_id, held: Some(node.held.clone()), ..Ack::default() };
                sender.send(says(sync_request::Kind::Ack(ack))).await?;
                told.send(Told::Served { assignment: node.held.assignment, bytes, at: Instant::now() })?;
            }
        }
    }
}

impl Node {
    /// Serves what an update says, if its digest is right.
    fn take(&mut self, update: UpdateBody) -> anyhow::Result<()> {
        let assignment = update.assignment.context("an update without an assignment")?;
        if let Some(ContentDelta { base_digest, put, removed }) = update.content {
            ensure!(base_digest.is_empty() || base_digest == self.held.content_digest, "a delta from something else");
            let base = if base_digest.is_empty() { Vec::new() } else { std::mem::take(&mut self.items) };
            let removed: Vec<_> = removed.into_iter().map(|key| (key.kind, key.name)).collect();
            self.items = items::apply_delta(&base, put, &removed).map_err(|error| anyhow::anyhow!("{error:?}"))?;
            ensure!(items::digest(&self.items)[..] == assignment.content_digest[..], "the digest is another");
        }
        self.held = Held {
            epoch: assignment.epoch,
            assignment: assignment.number,
            revision: assignment.revision,
            content_digest: assignment.content_digest,
            keys_version: update.keys.map_or(self.held.keys_version, |keys| keys.to_version),
        };
        Ok(())
    }
}

fn hello(node: &Node, door: &Door) -> Hello {
    let holds = node.held.assignment > 0;
    let schema = items::schema();
    Hello {
        node_id: format!("node-{}", node.id),
        instance: (node.id as u128).to_be_bytes().to_vec(),
        environment: door.environment.clone(),
        region: format!("region-{}", node.id % 4),
        build: env!("CARGO_PKG_VERSION").to_owned(),
        schema: Some(Schema { members: schema.members.clone(), kinds: schema.kinds.clone() }),
        held: holds.then(|| node.held.clone()),
        boot: if holds { Boot::LastKnownGood } else { Boot::Nothing }.into(),
        clock: Some(std::time::SystemTime::now().into()),
        quarantined: Vec::new(),
    }
}

fn says(kind: sync_request::Kind) -> SyncRequest {
    SyncRequest { kind: Some(kind) }
}
