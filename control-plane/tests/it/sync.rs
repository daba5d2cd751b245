//! The stream between nodes and the control plane, from outside.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, SystemTime},
};

use switchtower_control_plane::store::{self, Answer, Entry, Lease, Outcome, Range, Store, Transaction, Version};
use switchtower_proto::{
    control::v1::Connection,
    sync::v1::{self as sync, sync_request::Kind as Up, sync_response::Kind as Down},
};
use tokio::{sync::watch, task::JoinSet};
use tonic::{Code, Request};

use crate::{
    sync_node::{Memory, Node, hello},
    sync_plane::{Plane, route, routes},
};

/// A node that has taken what there is.
async fn served(plane: &Plane, id: &str) -> Node {
    let memory = Memory::default();
    let mut node = Node::connect(plane.channel().await, hello(id, 1, &memory), memory).await.unwrap();
    let update = node.update().await;
    node.ack(&update).await;
    plane.until("it serves", |plane| shown(plane, id).serving.is_some()).await;
    node
}

fn shown(plane: &Plane, id: &str) -> switchtower_proto::control::v1::Node {
    plane.nodes().into_iter().find(|node| node.id == id).unwrap_or_default()
}

#[tokio::test]
async fn a_node_that_holds_everything_is_sent_nothing_when_it_comes_back() {
    let plane = Plane::new().await;
    plane.publish(routes(b"1")).await;
    plane.key("A", false).await;
    plane.cells.read_again().await.unwrap();
    let memory = served(&plane, "node-1").await.leave();
    plane.until("it is gone", |plane| shown(plane, "node-1").connection() == Connection::Unknown).await;
    let encoded = plane.sync.encoded();
    let mut node = Node::connect(plane.channel().await, hello("node-1", 1, &memory), memory).await.unwrap();
    assert_eq!((node.welcome.assignment, &*node.welcome.replica), (1, "plane-1"));
    assert!(node.is_quiet().await);
    assert_eq!(plane.sync.encoded(), encoded);
    let region = &plane.summary().regions[0];
    assert_eq!((region.connected, region.serving, region.unknown), (1, 1, 0));
}

#[tokio::test]
async fn only_what_changed_is_sent_and_it_is_encoded_once_for_all() {
    let plane = Plane::new().await;
    plane.publish(routes(b"1")).await;
    plane.key("A", false).await;
    plane.cells.read_again().await.unwrap();
    let mut nodes = Vec::new();
    for n in 0..5 {
        nodes.push(served(&plane, &format!("node-{n}")).await);
    }
    assert_eq!(plane.sync.encoded(), 1, "they lacked the same");
    plane.publish(routes(b"2")).await;
    for node in &mut nodes {
        let update = node.update().await;
        let delta = update.body.content.as_ref().unwrap();
        assert_eq!((delta.put.len(), delta.removed.len(), update.body.keys.is_none()), (1, 0, true));
        assert!(update.bytes < 400, "{}", update.bytes);
        node.ack(&update).await;
    }
    assert_eq!(plane.sync.encoded(), 2);
    plane.key("B", false).await;
    plane.key("A", true).await;
    for node in &mut nodes {
        while node.memory.held.as_ref().unwrap().keys_version < plane.cells.get("prod").unwrap().keys.version {
            let update = node.update().await;
            assert!(update.body.content.is_none());
            assert!(update.body.keys.as_ref().unwrap().put.iter().all(|key| key.id != "A" || key.revoked_at.is_some()));
            node.ack(&update).await;
        }
    }
    plane.until("all serve it", |plane| plane.summary().regions[0].serving == 5).await;
    assert_eq!(plane.acks.load(Ordering::Relaxed), 10, "keys alone are no convergence");
}

#[tokio::test]
async fn a_node_that_is_many_revisions_behind_gets_a_delta_too() {
    let plane = Plane::new().await;
    plane.publish(routes(b"1")).await;
    plane.cells.read_again().await.unwrap();
    let memory = served(&plane, "node-1").await.leave();
    for n in 0..12_u8 {
        plane.publish(routes(&[n])).await;
        plane.cells.read_again().await.unwrap();
    }
    let mut node = Node::connect(plane.channel().await, hello("node-1", 1, &memory), memory).await.unwrap();
    let update = node.update().await;
    assert_eq!(update.body.content.as_ref().unwrap().put.len(), 1);
    node.ack(&update).await;
    plane.until("it serves", |plane| plane.summary().regions[0].serving == 1).await;
}

#[tokio::test]
async fn large_contents_come_in_parts() {
    let plane = Plane::new().await;
    let items = (0..3).map(|n| route(&format!("r{n}"), &vec![n; 1 << 20])).collect();
    plane.publish(items).await;
    plane.cells.read_again().await.unwrap();
    let memory = Memory::default();
    let mut node = Node::connect(plane.channel().await, hello("node-1", 1, &memory), memory).await.unwrap();
    let update = node.update().await;
    assert_eq!(update.parts, 4);
    node.ack(&update).await;
    plane.until("it serves", |plane| plane.summary().regions[0].serving == 1).await;
}

#[tokio::test]
async fn a_refused_content_is_held_back_until_there_is_another() {
    let plane = Plane::new().await;
    plane.publish(routes(b"1")).await;
    plane.cells.read_again().await.unwrap();
    let mut node = served(&plane, "node-1").await;
    plane.publish(routes(b"2")).await;
    let update = node.update().await;
    node.nack(&update, false).await;
    plane.until("it refused", |plane| plane.summary().regions[0].refused == 1).await;
    let refused = shown(&plane, "node-1").refused.unwrap();
    assert_eq!((refused.revision, &*refused.violations[0].path), (2, "routes[chat]"));
    assert_eq!(shown(&plane, "node-1").serving.unwrap().revision, 1);
    assert!(node.is_quiet().await);
    plane.key("A", false).await;
    let update = node.update().await;
    assert!(update.body.content.is_none());
    assert_eq!(update.body.assignment.as_ref().unwrap().number, 1, "keys go under what the node serves");
    node.ack(&update).await;
    assert!(node.is_quiet().await);
    plane.publish(routes(b"3")).await;
    let update = node.update().await;
    assert_eq!(update.body.assignment.as_ref().unwrap().revision, 3);
    node.ack(&update).await;
    plane.until("it serves", |plane| plane.summary().regions[0].serving == 1).await;
    assert_eq!(shown(&plane, "node-1").refused, None);
    plane.until("it is told", |plane| plane.told().contains("revision_refused")).await;
}

#[tokio::test]
async fn a_quarantined_content_is_not_sent_and_shown_as_refused() {
    let plane = Plane::new().await;
    plane.publish(routes(b"1")).await;
    plane.cells.read_again().await.unwrap();
    let memory = Memory::default();
    let mut hello = hello("node-1", 1, &memory);
    hello.quarantined = vec![plane.cells.get("prod").unwrap().content_digest.to_vec()];
    let mut node = Node::connect(plane.channel().await, hello, memory).await.unwrap();
    assert!(node.is_quiet().await);
    assert_eq!(shown(&plane, "node-1").refused.unwrap().violations[0].code, "quarantined");
    assert_eq!(plane.summary().regions[0].refused, 1);
    plane.publish(routes(b"2")).await;
    let update = node.update().await;
    node.ack(&update).await;
    plane.until("it serves", |plane| plane.summary().regions[0].serving == 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_node_that_never_answers_delays_nobody_and_is_shown() {
    let plane = Plane::new().await;
    plane.publish(routes(b"1")).await;
    plane.cells.read_again().await.unwrap();
    let connect = async |id: &str| {
        let memory = Memory::default();
        Node::connect(plane.pipe().await, hello(id, 1, &memory), memory).await.unwrap()
    };
    let mut stuck = connect("stuck").await;
    let late = stuck.update().await;
    let mut others = Vec::new();
    for n in 0..3 {
        let mut node = connect(&format!("node-{n}")).await;
        let update = node.update().await;
        node.ack(&update).await;
        others.push(node);
    }
    let begun = tokio::time::Instant::now();
    for n in 0..20_u8 {
        plane.publish(routes(&[n, 0])).await;
        for node in &mut others {
            let update = node.update().await;
            node.ack(&update).await;
        }
    }
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    plane.until("it is lagging", |plane| !shown(plane, "stuck").problems.is_empty()).await;
    assert!(begun.elapsed() >= Duration::from_secs(9), "{:?}", begun.elapsed());
    assert_eq!(shown(&plane, "stuck").problems, ["it does not answer"]);
    stuck.ack(&late).await;
    let update = stuck.update().await;
    assert_eq!(update.body.assignment.as_ref().unwrap().number, 21, "only the latest is sent");
    stuck.ack(&update).await;
    plane.until("all serve it", |plane| plane.summary().regions[0].serving == 4).await;
    assert!(shown(&plane, "stuck").problems.is_empty());
    plane.until("it is told", |plane| plane.told().contains("node_lagging")).await;
    assert!(plane.told().contains("fleet_converged"));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_taken_now_comes_whole_and_later() {
    let plane = Plane::new().await;
    plane.publish(routes(b"1")).await;
    plane.cells.read_again().await.unwrap();
    let memory = Memory::default();
    let mut node = Node::connect(plane.pipe().await, hello("node-1", 1, &memory), memory).await.unwrap();
    let update = node.update().await;
    node.ack(&update).await;
    plane.publish(routes(b"2")).await;
    let mut update = node.update().await;
    assert!(!update.body.content.as_ref().unwrap().base_digest.is_empty());
    for seconds in [5, 10] {
        let refused = tokio::time::Instant::now();
        node.nack(&update, true).await;
        update = node.update().await;
        let waited = refused.elapsed().as_millis();
        assert!((seconds * 1000..seconds * 1000 + 200).contains(&waited), "{waited} ms");
        assert!(update.body.content.as_ref().unwrap().base_digest.is_empty());
    }
    node.ack(&update).await;
    plane.until("it serves", |plane| plane.summary().regions[0].serving == 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_silent_node_is_gone_and_a_node_that_only_beats_is_not() {
    let plane = Plane::new().await;
    plane.publish(routes(b"1")).await;
    plane.cells.read_again().await.unwrap();
    let memory = Memory::default();
    let mut node = Node::connect(plane.pipe().await, hello("node-1", 1, &memory), memory).await.unwrap();
    let update = node.update().await;
    node.ack(&update).await;
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_secs(15)).await;
        node.send(Up::Heartbeat(sync::Heartbeat { assignment: 1 })).await;
    }
    assert_eq!(shown(&plane, "node-1").connection(), Connection::Connected);
    tokio::time::sleep(Duration::from_secs(44)).await;
    assert_eq!(shown(&plane, "node-1").connection(), Connection::Connected);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(shown(&plane, "node-1").connection(), Connection::Unknown);
    assert_eq!(node.next().await.unwrap_err().code(), Code::DeadlineExceeded);
}

#[tokio::test]
async fn two_hundred_nodes_converge() {
    let plane = Plane::new().await;
    plane.publish(routes(b"1")).await;
    plane.cells.read_again().await.unwrap();
    let channel = plane.channel().await;
    let mut nodes = JoinSet::new();
    for n in 0..200 {
        let channel = channel.clone();
        nodes.spawn(async move {
            let memory = Memory::default();
            let id = format!("node-{n}");
            let mut node = Node::connect(channel, hello(&id, 1, &memory), memory).await.unwrap();
            while node.memory.held.as_ref().is_none_or(|held| held.assignment < 2) {
                let update = node.update().await;
                node.ack(&update).await;
            }
            node
        });
    }
    plane.until("all serve the first", |plane| plane.acks.load(Ordering::Relaxed) == 200).await;
    plane.publish(routes(b"2")).await;
    plane
        .until("all serve the second", |plane| {
            plane.summary().regions[0].serving == 200 && plane.summary().assignment == 2
        })
        .await;
    assert_eq!(plane.sync.encoded(), 2);
    let nodes = nodes.join_all().await;
    plane.until("it is told", |plane| plane.told().contains("fleet_converged")).await;
    let connected = plane.events.follow().0.iter().filter(|event| event.kind == "node_connected").count();
    assert!(connected < 20, "{connected} events of nodes that connected at once");
    assert_eq!(plane.sync.open(), 200);
    drop(nodes);
    plane.until("all are gone", |plane| plane.summary().regions[0].unknown == 200).await;
    assert_eq!(plane.sync.open(), 0);
}

#[tokio::test]
async fn nodes_are_known_as_unknown_after_a_restart() {
    let plane = Plane::new().await;
    plane.publish(routes(b"1")).await;
    plane.cells.read_again().await.unwrap();
    let memory = served(&plane, "node-1").await.leave();
    let plane = Plane::of(plane.stopped().await).await;
    let node = shown(&plane, "node-1");
    assert_eq!((node.connection(), node.serving), (Connection::Unknown, None));
    assert_eq!((&*node.region, &*node.build), ("us-east-1", "0.1.0"));
    assert_eq!(plane.summary().regions[0].unknown, 1);
    let mut node = Node::connect(plane.channel().await, hello("node-1", 2, &memory), memory).await.unwrap();
    assert!(node.is_quiet().await);
    assert_eq!(plane.nodes().len(), 1);
    assert_eq!(shown(&plane, "node-1").serving.unwrap().revision, 1);
}

/// A store of another epoch, or of one that lost what came after a copy.
#[derive(Debug)]
struct Renamed(Arc<dyn Store>, String);

impl Store for Renamed {
    fn epoch(&self) -> &str {
        &self.1
    }
    fn get<'a>(&'a self, key: &'a str) -> Answer<'a, Option<Entry>> {
        self.0.get(key)
    }
    fn list(&self, range: Range) -> Answer<'_, Vec<Entry>> {
        self.0.list(range)
    }
    fn commit(&self, transaction: Transaction) -> Answer<'_, Outcome> {
        self.0.commit(transaction)
    }
    fn changes(&self) -> watch::Receiver<Version> {
        self.0.changes()
    }
    fn grant(&self, time_to_live: Duration) -> Answer<'_, Lease> {
        self.0.grant(time_to_live)
    }
    fn keep(&self, lease: Lease) -> Answer<'_, ()> {
        self.0.keep(lease)
    }
    fn revoke(&self, lease: Lease) -> Answer<'_, ()> {
        self.0.revoke(lease)
    }
    fn compact(&self) -> Answer<'_, ()> {
        self.0.compact()
    }
}

#[tokio::test]
async fn a_new_epoch_brings_everything_whole_even_with_lower_numbers() {
    let plane = Plane::new().await;
    plane.publish(routes(b"1")).await;
    plane.publish(routes(b"2")).await;
    plane.key("A", false).await;
    plane.cells.read_again().await.unwrap();
    let memory = served(&plane, "node-1").await.leave();
    let restored = Plane::new().await;
    restored.publish(routes(b"1")).await;
    restored.key("A", false).await;
    restored.cells.read_again().await.unwrap();
    let mut node = Node::connect(restored.channel().await, hello("node-1", 1, &memory), memory).await.unwrap();
    let update = node.update().await;
    let delta = update.body.content.as_ref().unwrap();
    assert_eq!((delta.base_digest.len(), delta.put.len()), (0, 100));
    assert_eq!(update.body.keys.as_ref().unwrap().from_version, 0);
    node.ack(&update).await;
    restored.until("it serves", |plane| plane.summary().regions[0].serving == 1).await;
}

#[tokio::test]
async fn a_node_that_is_ahead_in_the_same_epoch_is_refused() {
    let plane = Plane::new().await;
    plane.publish(routes(b"1")).await;
    plane.publish(routes(b"2")).await;
    plane.cells.read_again().await.unwrap();
    let memory = served(&plane, "node-1").await.leave();
    let epoch = plane.store.epoch().to_owned();
    let copy: Arc<dyn Store> = Arc::new(Renamed(Plane::new().await.stopped().await, epoch));
    let restored = Plane::of(copy).await;
    restored.publish(routes(b"1")).await;
    restored.cells.read_again().await.unwrap();
    let refused = Node::connect(restored.channel().await, hello("node-1", 1, &memory), memory).await.err().unwrap();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("the store went back"), "{refused}");
    restored.until("it is told", |plane| plane.told().contains("node_problem")).await;
    assert!(restored.nodes().is_empty());
}

#[tokio::test]
async fn nodes_are_asked_to_come_back_at_a_shutdown() {
    let plane = Plane::new().await;
    plane.publish(routes(b"1")).await;
    plane.cells.read_again().await.unwrap();
    let mut node = served(&plane, "node-1").await;
    plane.stop();
    let Some(Down::Reconnect(reconnect)) = node.next().await.unwrap() else { panic!("no Reconnect") };
    assert_eq!((reconnect.after_min.unwrap().seconds, reconnect.after_max.unwrap().seconds), (0, 1));
    assert!(node.next().await.unwrap().is_none(), "the stream ends well");
    plane.stopped().await;
}

#[tokio::test]
async fn two_nodes_of_one_name_are_both_served_and_both_shown() {
    let plane = Plane::new().await;
    plane.publish(routes(b"1")).await;
    plane.cells.read_again().await.unwrap();
    let _first = served(&plane, "node-1").await;
    let memory = Memory::default();
    let mut second = Node::connect(plane.channel().await, hello("node-1", 2, &memory), memory).await.unwrap();
    let update = second.update().await;
    second.ack(&update).await;
    plane.until("both serve", |plane| plane.summary().regions[0].serving == 2).await;
    let nodes = plane.nodes();
    assert_eq!(nodes.len(), 2);
    assert!(nodes.iter().all(|node| node.problems.len() == 1), "{nodes:?}");
    drop(second);
    plane.until("one is left", |plane| plane.nodes().len() == 1).await;
    assert!(plane.nodes()[0].problems.is_empty());
    plane.until("it is told", |plane| plane.told().contains("node_problem")).await;
}

#[tokio::test]
async fn whoever_says_the_wrong_thing_is_told_what_is_wrong() {
    let plane = Plane::new().await;
    plane.publish(routes(b"1")).await;
    plane.cells.read_again().await.unwrap();
    let channel = plane.channel().await;
    let check = async |first: Up, code: Code, expected: &str| {
        let refused = Node::begin(channel.clone(), first, Memory::default()).await.err().unwrap();
        assert_eq!(refused.code(), code, "{refused}");
        assert!(refused.message().contains(expected), "{refused}");
    };
    let changed = |change: fn(&mut sync::Hello)| {
        let mut hello = hello("node-1", 1, &Memory::default());
        change(&mut hello);
        Up::Hello(hello)
    };
    let beat = Up::Heartbeat(sync::Heartbeat { assignment: 0 });
    check(beat, Code::InvalidArgument, "the first message must be Hello").await;
    check(changed(|hello| hello.node_id.clear()), Code::InvalidArgument, "node_id").await;
    check(changed(|hello| hello.instance.clear()), Code::InvalidArgument, "instance").await;
    check(changed(|hello| hello.environment = "../x".to_owned()), Code::InvalidArgument, "environment").await;
    check(changed(|hello| hello.environment = "dev".to_owned()), Code::NotFound, "environment dev").await;
    let epoch = plane.store.epoch().to_owned();
    let mut bad = hello("node-1", 1, &Memory::default());
    bad.held = Some(sync::Held { epoch, ..sync::Held::default() });
    check(Up::Hello(bad), Code::InvalidArgument, "held.content_digest").await;
    assert!(plane.nodes().is_empty());

    let mut twice = served(&plane, "node-1").await;
    twice.send(Up::Hello(hello("node-1", 1, &Memory::default()))).await;
    assert_eq!(twice.next().await.unwrap_err().code(), Code::InvalidArgument);

    let mut client = switchtower_proto::sync::v1::sync_service_client::SyncServiceClient::new(channel);
    let mut wrong = Request::new(tokio_stream::pending());
    wrong.metadata_mut().insert("authorization", "Bearer wrong".parse().unwrap());
    assert_eq!(client.sync(wrong).await.unwrap_err().code(), Code::Unauthenticated);
}

#[tokio::test]
async fn problems_of_a_hello_are_shown() {
    let plane = Plane::new().await;
    plane.publish(routes(b"1")).await;
    plane.cells.read_again().await.unwrap();
    let memory = Memory::default();
    let mut hello = hello("node-1", 1, &memory);
    hello.clock = Some((SystemTime::now() + Duration::from_secs(90)).into());
    hello.boot = sync::Boot::Reverted.into();
    let _node = Node::connect(plane.channel().await, hello, memory).await.unwrap();
    plane.until("problems are shown", |plane| shown(plane, "node-1").problems.len() == 2).await;
    assert!((80..95).contains(&shown(&plane, "node-1").clock_ahead.unwrap().seconds));
}

#[tokio::test]
async fn what_was_known_stays_when_the_store_cannot_be_read() {
    let plane = Plane::new().await;
    plane.publish(routes(b"1")).await;
    plane.cells.read_again().await.unwrap();
    let mut node = served(&plane, "node-1").await;
    let head = plane.store.get("environment/prod/head").await.unwrap().unwrap();
    let condition = store::Condition::Unchanged(head.key.clone(), head.version);
    let damage = Transaction::when(condition).put(head.key.clone(), &b"\xff\xff"[..]);
    plane.store.commit(damage).await.unwrap();
    assert!(plane.cells.read_again().await.is_err());
    assert!(plane.cells.failure().unwrap().starts_with("environment/prod/head: "));
    assert!(node.is_quiet().await);
    let memory = Memory::default();
    let mut other = Node::connect(plane.channel().await, hello("node-2", 1, &memory), memory).await.unwrap();
    let update = other.update().await;
    other.ack(&update).await;
    let damaged = plane.store.get("environment/prod/head").await.unwrap().unwrap();
    let condition = store::Condition::Unchanged(head.key.clone(), damaged.version);
    plane.store.commit(Transaction::when(condition).put(head.key, head.value)).await.unwrap();
    plane.cells.read_again().await.unwrap();
    assert_eq!(plane.cells.failure(), None);
}
