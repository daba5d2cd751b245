//! The fleet as it was observed: what each node was offered, serves and refused, and when it was last heard.
//!
//! Observed and never more: a node without a stream is not gone, it is not known. It goes on serving what it has, and what
//! that is it will say when it comes back. So nodes that were seen are kept in the store, and a control plane that starts
//! shows them as unknown before they are back.
//!
//! An answer of a node costs the same whether there are ten or ten thousand: numbers are counted as they change, and what
//! is equal in many nodes (region, build, schema, the reasons of a refusal) is there once.

mod known;
mod node;
mod state;
mod tale;
mod tally;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use switchtower_proto::{control::v1 as control, sync::v1 as sync};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use self::state::{Newcomer, Progress, Schema};
use self::{
    state::{State, Told},
    tale::Tale,
};
use crate::{
    desired::{Desired, Holding},
    events::{Event, Events, Kind},
    revisions::{CannotRead, Readers},
    store::{self, Store},
};

/// How often what was seen is told and written: events of one moment are told as one.
const EVERY: Duration = Duration::from_secs(1);
/// How often it is looked for nodes that were not seen for long.
const SWEEP: Duration = Duration::from_secs(3600);

/// Told of each answer by which a node came to serve an assignment: how long after the assignment was made.
pub type OnAck = Box<dyn Fn(&str, Duration) + Send + Sync>;

/// The fleet of all environments.
pub struct Fleet {
    environments: Mutex<BTreeMap<Arc<str>, Arc<Environment>>>,
    store: Arc<dyn Store>,
    events: Arc<Events>,
    tale: Tale,
    on_ack: OnAck,
    streams: AtomicU64,
}

/// The fleet of one environment.
struct Environment {
    name: Arc<str>,
    state: Mutex<State>,
    changed: watch::Sender<()>,
}

impl Environment {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Fleet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fleet").finish_non_exhaustive()
    }
}

impl Fleet {
    /// The nodes that the store knows, all of them unknown.
    ///
    /// # Errors
    /// The store's.
    pub async fn of(
        store: Arc<dyn Store>,
        events: Arc<Events>,
        on_ack: OnAck,
        now: SystemTime,
    ) -> Result<Arc<Self>, store::Error> {
        let fleet = Fleet {
            environments: Mutex::default(),
            store,
            events,
            tale: Tale::default(),
            on_ack,
            streams: AtomicU64::new(0),
        };
        for (environment, kept) in known::read(&*fleet.store).await? {
            fleet.environment(&environment).lock().remember(kept, now);
        }
        Ok(Arc::new(fleet))
    }

    /// Tells what was seen and writes which nodes there are, until `stop`, and then once more.
    pub async fn run(&self, stop: CancellationToken) {
        let mut next_sweep = tokio::time::Instant::now() + SWEEP;
        loop {
            let stopped = stop.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_none();
            let now = SystemTime::now();
            let sweeps = tokio::time::Instant::now() >= next_sweep;
            for environment in self.all() {
                if sweeps {
                    next_sweep = tokio::time::Instant::now() + SWEEP;
                    environment.lock().sweep(now);
                }
                known::write(&*self.store, &environment.name, &environment.state, now).await;
                if sweeps {
                    environment.changed.send_replace(());
                }
            }
            self.tale.tell(&self.events);
            if stopped {
                return;
            }
        }
    }

    /// A node's stream begins. It is shown as connected until what is given is dropped.
    #[must_use]
    pub fn connect(self: &Arc<Self>, newcomer: Newcomer, desired: &Desired, now: SystemTime) -> Presence {
        let environment = self.environment(&desired.environment);
        let stream = self.streams.fetch_add(1, Ordering::Relaxed) + 1;
        let id: Arc<str> = newcomer.id.as_str().into();
        let presence = Presence { fleet: self.clone(), environment, id, stream };
        presence.change(now, |state| {
            state.desire(desired);
            state.connect(newcomer, stream, now)
        });
        presence
    }

    /// A node whose stream could not begin has something wrong.
    pub fn complain(&self, environment: &str, node: &str, why: &str, now: SystemTime) {
        let told = Told { kind: Kind::NodeProblem, about: node.to_owned(), message: format!("{node}: {why}") };
        self.tell(environment, node, told, now);
    }

    /// The fleet of an environment in numbers.
    #[must_use]
    pub fn summary(&self, desired: &Desired) -> control::Summary {
        let environment = self.environment(&desired.environment);
        let mut state = environment.lock();
        state.desire(desired);
        state.summary(&environment.name)
    }

    /// The nodes of an environment that `which` asks for, by region and name, at most `limit`.
    #[must_use]
    pub fn nodes(&self, desired: &Desired, which: Which<'_>, limit: usize) -> Vec<control::Node> {
        let environment = self.environment(&desired.environment);
        let mut state = environment.lock();
        state.desire(desired);
        state.nodes(&environment.name, which, limit)
    }

    /// How the assignment reaches the fleet.
    #[must_use]
    pub fn progress(&self, desired: &Desired) -> Progress {
        let environment = self.environment(&desired.environment);
        let mut state = environment.lock();
        state.desire(desired);
        state.progress()
    }

    /// Wakes whenever something of an environment's fleet changes.
    #[must_use]
    pub fn changes(&self, environment: &str) -> watch::Receiver<()> {
        self.environment(environment).changed.subscribe()
    }

    fn tell(&self, environment: &str, node: &str, told: Told, at: SystemTime) {
        let Told { kind, about, message } = told;
        let environment = environment.to_owned();
        let actor = String::new();
        let event = Event { at, environment, kind, actor, subject: about, message };
        // That the fleet has converged is told at once, and is never told of many.
        if kind == Kind::FleetConverged { self.events.tell(&event) } else { self.tale.note(node, event) }
    }

    fn environment(&self, name: &str) -> Arc<Environment> {
        let mut environments = self.environments.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = environments.get(name) {
            return known.clone();
        }
        let name: Arc<str> = name.into();
        let state = Mutex::new(State::default());
        let environment = Arc::new(Environment { name: name.clone(), state, changed: watch::channel(()).0 });
        environments.insert(name, environment.clone());
        environment
    }

    fn find(&self, name: &str) -> Option<Arc<Environment>> {
        self.environments.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    fn all(&self) -> Vec<Arc<Environment>> {
        self.environments.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

impl Readers for Fleet {
    fn cannot_read(&self, environment: &str, used: &BTreeSet<String>) -> Vec<CannotRead> {
        let Some(environment) = self.find(environment) else { return Vec::new() };
        let schemas = environment.lock().schemas();
        let mut cannot = Vec::new();
        // Nodes of one build have one schema, which is compared once and without the lock.
        for (schema, nodes) in schemas {
            let members = switchtower_policy::items::missing(used, &schema.members, &schema.kinds);
            if !members.is_empty() {
                let of = |node: Arc<str>| CannotRead { node: node.as_ref().to_owned(), members: members.clone() };
                cannot.extend(nodes.into_iter().map(of));
            }
        }
        cannot.sort_by(|a, b| a.node.cmp(&b.node));
        cannot
    }
}

/// Which nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which<'a> {
    /// Those of a region; of all, where it is empty.
    Region(&'a str),
    /// Connected ones that refused what they should serve.
    Refused,
    /// Connected ones that have not answered to what they should serve.
    Missing,
}

/// A node's stream, as the fleet sees it: what happens in it is told here. Dropping it is its end.
pub struct Presence {
    fleet: Arc<Fleet>,
    environment: Arc<Environment>,
    id: Arc<str>,
    stream: u64,
}

impl fmt::Debug for Presence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Presence").field("id", &self.id).field("stream", &self.stream).finish_non_exhaustive()
    }
}

impl Presence {
    /// The node said something.
    pub fn heard(&self, now: SystemTime) {
        self.environment.lock().heard(&self.id, self.stream, now);
    }

    /// Nodes should hold this from now on.
    pub fn desire(&self, desired: &Desired) {
        self.quietly(|state| state.desire(desired));
    }

    /// The node was begun to be sent an update that leads to this.
    pub fn offered(&self, leads_to: &Holding, now: SystemTime) {
        self.quietly(|state| state.offered(&self.id, self.stream, leads_to, now));
    }

    /// The node acknowledged, and holds this. `problem`: what is wrong all the same; empty: nothing.
    pub fn acked(&self, held: Option<&Holding>, problem: &str, now: SystemTime) {
        let mut took = None;
        self.change(now, |state| {
            let (converging, told) = state.acked(&self.id, self.stream, held, problem, now);
            took = converging;
            told
        });
        if let Some(took) = took {
            (self.fleet.on_ack)(&self.environment.name, took);
        }
    }

    /// The node refused an update that would have led to `leads_to`, for good or for now, and goes on to hold `held`.
    pub fn refused(
        &self,
        leads_to: &Holding,
        held: Option<&Holding>,
        violations: Vec<sync::Violation>,
        for_good: bool,
        now: SystemTime,
    ) {
        self.change(now, |state| {
            state.holds(&self.id, self.stream, held, now);
            state.refused(&self.id, self.stream, leads_to, violations, for_good, now)
        });
    }

    /// What the node should hold is not sent to it because it refused it before.
    pub fn refuses_still(&self, desired: &Holding) {
        self.quietly(|state| state.refuses_still(&self.id, self.stream, desired));
    }

    /// The node has not answered for too long.
    pub fn lagging(&self, now: SystemTime) {
        self.change(now, |state| state.lagging(&self.id, self.stream));
    }

    /// A change of which nothing is told.
    fn quietly(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.environment.lock());
        self.environment.changed.send_replace(());
    }

    fn change(&self, now: SystemTime, change: impl FnOnce(&mut State) -> Vec<Told>) {
        let told = change(&mut self.environment.lock());
        told.into_iter().for_each(|told| self.fleet.tell(&self.environment.name, &self.id, told, now));
        self.environment.changed.send_replace(());
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        let now = SystemTime::now();
        self.change(now, |state| state.gone(&self.id, self.stream, now));
    }
}
