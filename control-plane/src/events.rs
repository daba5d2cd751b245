//! What happened: what operators did, which is kept in the store, and what was seen of nodes, of which the latest are.
//!
//! An operator's act is written in the transaction that is the act, so that there is no act without its event and no
//! event without its act. What is seen of nodes is seen again when it matters, and a fleet that reconnects would fill a
//! store with it.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use prost::Message;
use switchtower_proto::{control::v1 as control, store::v1 as stored};
use tokio::sync::broadcast;

use crate::{
    layout,
    store::{self, Range, Store, Transaction},
};

/// How many of the latest are at hand.
pub const LATEST: usize = 1000;

/// What happened to what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A policy became a revision and was assigned.
    RevisionApplied,
    /// An earlier revision was assigned.
    RevisionRolledBack,
    /// A key was made.
    KeyIssued,
    /// A key was made in the place of another.
    KeyRotated,
    /// A key was ended.
    KeyRevoked,
    /// A node's stream began.
    NodeConnected,
    /// A node's stream ended; what it serves is not known any more.
    NodeGone,
    /// A node refused a revision.
    RevisionRefused,
    /// Every connected node serves what it should.
    FleetConverged,
    /// A node has not answered for too long.
    NodeLagging,
    /// Something is wrong with a node.
    NodeProblem,
}

impl Kind {
    /// As the API writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::RevisionApplied => "revision_applied",
            Kind::RevisionRolledBack => "revision_rolled_back",
            Kind::KeyIssued => "key_issued",
            Kind::KeyRotated => "key_rotated",
            Kind::KeyRevoked => "key_revoked",
            Kind::NodeConnected => "node_connected",
            Kind::NodeGone => "node_gone",
            Kind::RevisionRefused => "revision_refused",
            Kind::FleetConverged => "fleet_converged",
            Kind::NodeLagging => "node_lagging",
            Kind::NodeProblem => "node_problem",
        }
    }
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When.
    pub at: SystemTime,
    /// Environment.
    pub environment: String,
    /// What.
    pub kind: Kind,
    /// Who did it; empty: nobody, it was seen.
    pub actor: String,
    /// What it was done to, or seen of.
    pub subject: String,
    /// A sentence for people.
    pub message: String,
}

impl Event {
    /// As the API tells it.
    #[must_use]
    pub fn wire(&self) -> control::Event {
        control::Event {
            at: Some(self.at.into()),
            environment: self.environment.clone(),
            kind: self.kind.as_str().to_owned(),
            actor: self.actor.clone(),
            subject: self.subject.clone(),
            message: self.message.clone(),
        }
    }

    /// The transaction with this event in it. `random` tells it from others of the same moment.
    #[must_use]
    pub fn kept_in(&self, transaction: Transaction, random: u32) -> Transaction {
        let since = self.at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let event = stored::Event {
            at: Some(self.at.into()),
            environment: self.environment.clone(),
            kind: self.kind.as_str().to_owned(),
            actor: self.actor.clone(),
            subject: self.subject.clone(),
            message: self.message.clone(),
        };
        // The nanoseconds of 584 years fit.
        let at = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
        transaction.put(layout::event(at, random), event.encode_to_vec())
    }
}

/// The latest events, and those that come.
pub struct Events {
    latest: Mutex<VecDeque<Arc<control::Event>>>,
    coming: broadcast::Sender<Arc<control::Event>>,
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

impl Events {
    /// What is kept in the store, to begin with.
    ///
    /// # Errors
    /// The store's.
    pub async fn of(store: &dyn Store) -> Result<Self, store::Error> {
        let range = Range { prefix: layout::EVENTS.to_owned(), after: String::new(), limit: LATEST, descending: true };
        let kept = store.list(range).await?;
        // What a newer control plane wrote in a way that this one cannot read is left out.
        let latest = kept.iter().rev().filter_map(|entry| stored::Event::decode(&*entry.value).ok());
        let latest = latest.map(|event| {
            let stored::Event { at, environment, kind, actor, subject, message } = event;
            Arc::new(control::Event { at, environment, kind, actor, subject, message })
        });
        Ok(Events { latest: Mutex::new(latest.collect()), coming: broadcast::channel(LATEST).0 })
    }

    /// Tells of an event. One of an operator must be in the store by now.
    pub fn tell(&self, event: &Event) {
        tracing::info!(
            environment = event.environment,
            kind = event.kind.as_str(),
            actor = event.actor,
            subject = event.subject,
            "{}",
            event.message
        );
        let event = Arc::new(event.wire());
        // The lock is held over the sending, so that whoever subscribes sees each event once.
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        if latest.len() == LATEST {
            latest.pop_front();
        }
        latest.push_back(event.clone());
        // Nobody may be listening.
        let _ = self.coming.send(event);
    }

    /// The latest events, oldest first, and all that come after them. A listener that is [`LATEST`] behind misses some.
    #[must_use]
    pub fn follow(&self) -> (Vec<Arc<control::Event>>, broadcast::Receiver<Arc<control::Event>>) {
        let latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        (latest.iter().cloned().collect(), self.coming.subscribe())
    }
}
