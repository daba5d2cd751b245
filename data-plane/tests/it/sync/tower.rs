//! A node that follows a scripted control plane, and callers of it.

use std::{
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use switchtower_data_plane::{
    start::{Options, Running, Source, start},
    sync::{self, PepperSource, Seen, Token},
    telemetry::{Telemetry, names},
};
use switchtower_keys::{self as keys, IssuedKey, KEY_RANDOM_BYTES, Pepper, Peppers};
use switchtower_proto::sync::v1::KeyRecord;
use switchtower_provider::scripted::Scripted;

use super::control::{PATIENCE, TOKEN};
use crate::wire::{BODY, head, said};

/// As production, but for what would have a test wait.
pub(super) fn pace() -> sync::Pace {
    sync::Pace {
        heartbeat: Duration::from_millis(100),
        silence: Duration::from_secs(2),
        first_wait: Duration::from_millis(20),
        longest_wait: Duration::from_millis(200),
        start_within: Duration::from_millis(10),
        // Never by itself: tests end the node, which proves as much.
        proven_after: Duration::from_secs(3600),
        ..sync::Pace::default()
    }
}

pub(super) fn options(url: &str, data: &Path) -> sync::Options {
    sync::Options {
        endpoints: vec![url.to_owned()],
        ca: None,
        environment: "test".to_owned(),
        node_id: "node-1".to_owned(),
        data: data.to_owned(),
        token: Token::Fixed(TOKEN.to_owned()),
        pepper: PepperSource::Fixed(Peppers::first(pepper())),
        pace: pace(),
    }
}

pub(super) async fn node(options: sync::Options) -> Running {
    node_with(options, Telemetry::new(names::FIRST, None)).await
}

pub(super) async fn node_with(options: sync::Options, telemetry: Telemetry) -> Running {
    let options = Options {
        listen: ([127, 0, 0, 1], 0).into(),
        admin_listen: ([127, 0, 0, 1], 0).into(),
        tls: None,
        source: Source::ControlPlane(Box::new(options)),
        region: "us-east-1".into(),
        provider: Arc::new(Scripted::new()),
        telemetry: Arc::new(telemetry),
        most_body_bytes: 100_000,
        drain: Duration::from_secs(1),
    };
    start(options).await.unwrap()
}

pub(super) fn pepper() -> Pepper {
    Pepper::new([7; 32])
}

/// A key of `app`, as it is shown and as it is sent.
pub(super) fn key(random: u8) -> (IssuedKey, KeyRecord) {
    let (record, issued) =
        keys::new_key("app", &pepper(), SystemTime::now(), None, &[random; KEY_RANDOM_BYTES]).unwrap();
    let record = KeyRecord {
        id: record.id,
        hash: record.hash.to_vec().into(),
        pepper: record.pepper,
        caller: record.caller,
        created_at: Some(record.created.into()),
        expires_at: None,
        revoked_at: None,
    };
    (issued, record)
}

pub(super) fn revoked(record: &KeyRecord) -> KeyRecord {
    KeyRecord { revoked_at: Some(SystemTime::now().into()), ..record.clone() }
}

/// What a caller is told: status, revision, body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) status: u16,
    pub(super) revision: String,
    pub(super) body: String,
}

pub(super) async fn ask(address: SocketAddr, key: &IssuedKey) -> Told {
    let more = format!("authorization: Bearer {}\r\nconnection: close\r\n", key.bearer);
    let answer = said(address, &(head("converse", BODY.len(), &more) + BODY), "").await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let revision = head.lines().find_map(|line| line.strip_prefix("x-switchtower-revision: "));
    Told {
        status: head[9..12].parse().unwrap(),
        revision: revision.unwrap_or_default().to_owned(),
        body: body.to_owned(),
    }
}

/// What a caller is told who is answered by a policy of [`super::control::policy`].
#[track_caller]
pub(super) fn answered(told: &Told, number: u64) {
    assert_eq!((told.status, told.revision.as_str()), (200, number.to_string().as_str()), "{told:?}");
    assert!(told.body.contains(&format!("policy {number}\"")), "{told:?}");
}

pub(super) async fn admin(node: &Running, path: &str) -> String {
    let head = format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    said(node.admin_address, &head, "").await
}

/// The body of `/readyz`, and its status.
pub(super) async fn ready(node: &Running) -> (u16, serde_json::Value) {
    let answer = admin(node, "/readyz").await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head[9..12].parse().unwrap(), serde_json::from_str(body).unwrap())
}

/// Waits until what a node says of its control plane is so.
pub(super) async fn until(node: &Running, what: &str, is_so: impl Fn(&Seen) -> bool) {
    let status = node.control_plane.as_ref().unwrap();
    let waited = tokio::time::timeout(PATIENCE, async {
        while !is_so(&status.now()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(waited.await.is_ok(), "it never came to be that {what}: {:?}", status.now());
}
