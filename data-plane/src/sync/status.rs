//! What a node says of its control plane: for `/readyz`, and for whoever runs a node in its own process.

use std::{
    sync::{Mutex, PoisonError},
    time::SystemTime,
};

use serde_json::{Value, json};
use switchtower_keys::rfc3339;
use switchtower_proto::sync::v1::{self, Held};

use crate::last_known_good::LIFTED_BY;

/// What a node says of its control plane. Nothing here decides whether it is ready: a control plane that is gone must not
/// take the nodes with it.
#[derive(Debug, Default)]
pub struct Status(Mutex<Seen>);

/// The state as it was last seen.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The environment that the node serves.
    pub environment: String,
    /// The node's name.
    pub node_id: String,
    /// How it came by what it served when it started.
    pub boot: Boot,
    /// What it serves; `None`: nothing.
    pub held: Option<Held>,
    /// The control plane that it has a stream to; `None`: it has none.
    pub connected: Option<Connected>,
    /// Since when it has one, or has none.
    pub since: Option<SystemTime>,
    /// When the control plane was heard last; `None`: never.
    pub last_heard: Option<SystemTime>,
    /// Number of the assignment that the control plane wants to be followed; 0: it was not heard yet.
    pub wanted: u64,
    /// Why there is no stream, as it was told last. Empty: there is one, or none was tried.
    pub lost: String,
    /// What it refused last, unless it has taken something since.
    pub refused: Option<Refused>,
    /// Why what serves is not on disk; `None`: it is.
    pub disk: Option<String>,
    /// Contents that it does not take, in hexadecimal digits.
    pub quarantined: Vec<String>,
    /// What was wrong with the last known good at the start, in sentences.
    pub problems: Vec<String>,
}

/// How a node came by what it served when it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Boot {
    /// It had nothing.
    #[default]
    Nothing,
    /// From its last known good, or it never stopped.
    LastKnownGood,
    /// From an older generation, because the newest was damaged or ended the process.
    Reverted,
}

/// The other end of the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connected {
    /// URL.
    pub endpoint: String,
    /// What it calls itself.
    pub replica: String,
}

/// A revision that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Its number; 0: what came did not even say.
    pub revision: u64,
    /// Why, in sentences.
    pub reasons: Vec<String>,
    /// Whether it may serve at another time.
    pub transient: bool,
}

impl Boot {
    /// As the wire has it.
    #[must_use]
    pub fn wire(self) -> v1::Boot {
        match self {
            Boot::Nothing => v1::Boot::Nothing,
            Boot::LastKnownGood => v1::Boot::LastKnownGood,
            Boot::Reverted => v1::Boot::Reverted,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Boot::Nothing => "nothing",
            Boot::LastKnownGood => "last_known_good",
            Boot::Reverted => "reverted",
        }
    }
}

impl Status {
    /// The state now.
    #[must_use]
    pub fn now(&self) -> Seen {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// The state as `/readyz` tells it.
    #[must_use]
    pub fn document(&self) -> Value {
        let seen = self.now();
        let time = |at: Option<SystemTime>| at.and_then(rfc3339);
        let held = seen.held.as_ref();
        json!({
            "environment": seen.environment,
            "node_id": seen.node_id,
            "boot": seen.boot.as_str(),
            "epoch": held.map(|held| &held.epoch),
            "assignment": held.map(|held| held.assignment),
            "revision": held.map(|held| held.revision),
            "content_digest": held.map(|held| hex::encode(&held.content_digest)),
            "keys_version": held.map(|held| held.keys_version),
            // What it took since the last heartbeat was wanted, too.
            "wanted_assignment": (seen.wanted > 0).then(|| seen.wanted.max(held.map_or(0, |held| held.assignment))),
            "connected": seen.connected.is_some(),
            "endpoint": seen.connected.as_ref().map(|connected| &connected.endpoint),
            "replica": seen.connected.as_ref().map(|connected| &connected.replica),
            "since": time(seen.since),
            "last_heard": time(seen.last_heard),
            "connection_problem": (!seen.lost.is_empty()).then_some(&seen.lost),
            "refused": seen.refused.as_ref().map(|refused| json!({
                "revision": refused.revision,
                "reasons": refused.reasons,
                "transient": refused.transient,
            })),
            "last_known_good_problem": seen.disk,
            "quarantined": seen.quarantined,
            "quarantine_help": (!seen.quarantined.is_empty()).then_some(LIFTED_BY),
            "start_problems": seen.problems,
        })
    }
}
