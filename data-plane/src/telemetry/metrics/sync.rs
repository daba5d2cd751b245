//! Metrics of the stream to the control plane. A node without one has none of them: a gauge that says 0 because nothing
//! is to be said would wake people.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};
use tokio::time::Instant;

use super::{Histograms, seconds};

/// What became of an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It serves.
    Taken,
    /// Its keys hold; the policy served already.
    Keys,
    /// It was held already.
    Held,
    /// It is refused for good.
    Refused,
    /// It is refused for now.
    Transient,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
struct NoLabel {}

type One<M> = Family<NoLabel, M>;

/// Metrics of the stream to the control plane.
#[derive(Debug)]
pub struct Sync {
    connected: One<Gauge>,
    assignment: One<Gauge>,
    revision: One<Gauge>,
    keys_version: One<Gauge>,
    updates: Family<OutcomeLabel, Counter>,
    swap: Histograms<NoLabel>,
    not_kept: One<Counter>,
    silence: One<Gauge<f64, std::sync::atomic::AtomicU64>>,
    heard: Mutex<Option<Instant>>,
}

impl Sync {
    /// Registered, and not to be seen before something was said.
    pub(super) fn new(registry: &mut Registry) -> Self {
        let sync = Sync {
            connected: Family::default(),
            assignment: Family::default(),
            revision: Family::default(),
            keys_version: Family::default(),
            updates: Family::default(),
            swap: Histograms::new_with_constructor(seconds as fn() -> Histogram),
            not_kept: Family::default(),
            silence: Family::default(),
            heard: Mutex::new(None),
        };
        let mut gauge = |name: &str, help: &str, gauge: &One<Gauge>| registry.register(name, help, gauge.clone());
        gauge("switchtower_sync_connected", "1: there is a stream to the control plane; 0: none", &sync.connected);
        gauge("switchtower_sync_assignment", "Number of the assignment that is followed", &sync.assignment);
        gauge("switchtower_sync_revision", "Number of the revision that serves", &sync.revision);
        gauge("switchtower_sync_keys_version", "Version of the keys that hold", &sync.keys_version);
        registry.register("switchtower_sync_updates", "Updates by what became of them", sync.updates.clone());
        registry.register_with_unit(
            "switchtower_sync_swap_duration",
            "An update's last part to the swap, compilation included",
            Unit::Seconds,
            sync.swap.clone(),
        );
        registry.register(
            "switchtower_last_known_good_write_failures",
            "What serves could not be kept on disk",
            sync.not_kept.clone(),
        );
        registry.register_with_unit(
            "switchtower_sync_silence",
            "Since the control plane was heard last",
            Unit::Seconds,
            sync.silence.clone(),
        );
        sync
    }

    /// There is a stream, or none.
    pub fn connected(&self, connected: bool) {
        self.connected.get_or_create(&NoLabel {}).set(connected.into());
        // From here on there is something to be seen.
        drop(self.not_kept.get_or_create(&NoLabel {}));
    }

    /// What the node holds.
    pub fn holds(&self, assignment: u64, revision: u64, keys_version: u64) {
        let held = [(&self.assignment, assignment), (&self.revision, revision), (&self.keys_version, keys_version)];
        for (gauge, number) in held {
            gauge.get_or_create(&NoLabel {}).set(i64::try_from(number).unwrap_or(i64::MAX));
        }
    }

    /// An update was answered.
    pub fn update(&self, outcome: Outcome) {
        let outcome = match outcome {
            Outcome::Taken => "taken",
            Outcome::Keys => "keys",
            Outcome::Held => "held",
            Outcome::Refused => "refused",
            Outcome::Transient => "transient",
        };
        self.updates.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    /// A policy was swapped into service so long after its update had come.
    pub fn swapped(&self, took: Duration) {
        self.swap.get_or_create(&NoLabel {}).observe(took.as_secs_f64());
    }

    /// The disk did not take the last known good.
    pub fn not_kept(&self) {
        self.not_kept.get_or_create(&NoLabel {}).inc();
    }

    /// The control plane said something.
    pub fn heard(&self) {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Brings up to date what changes by itself.
    pub(super) fn refresh(&self) {
        let heard = *self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(heard) = heard {
            self.silence.get_or_create(&NoLabel {}).set(heard.elapsed().as_secs_f64());
        }
    }
}
