//! Numbers of nodes, changed as nodes change.

use std::{collections::BTreeMap, sync::Arc};

use switchtower_proto::control::v1 as control;

/// What a node adds to the numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Share {
    pub(super) region: Arc<str>,
    pub(super) counts: Counts,
    /// Revision that a connected node serves; 0: none. `None`: it is not connected.
    pub(super) revision: Option<u64>,
}

/// Numbers of nodes of a region.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) connected: u64,
    /// Of the connected, those that serve what they should.
    pub(super) serving: u64,
    /// Of the connected, those that refused it.
    pub(super) refused: u64,
    pub(super) unknown: u64,
}

/// The numbers.
#[derive(Debug, Default)]
pub(super) struct Tally {
    regions: BTreeMap<Arc<str>, Counts>,
    revisions: BTreeMap<u64, u64>,
    all: Counts,
}

impl Tally {
    pub(super) fn add(&mut self, share: &Share) {
        self.regions.entry(share.region.clone()).or_default().add(&share.counts);
        self.all.add(&share.counts);
        if let Some(revision) = share.revision {
            *self.revisions.entry(revision).or_default() += 1;
        }
    }

    /// Takes away what was added.
    pub(super) fn remove(&mut self, share: &Share) {
        self.all.remove(&share.counts);
        if let Some(counts) = self.regions.get_mut(&share.region) {
            counts.remove(&share.counts);
            if *counts == Counts::default() {
                self.regions.remove(&share.region);
            }
        }
        if let Some(nodes) = share.revision.and_then(|revision| self.revisions.get_mut(&revision)) {
            *nodes -= 1;
            self.revisions.retain(|_, nodes| *nodes > 0);
        }
    }

    /// Another assignment: nobody serves or refused it yet.
    pub(super) fn begin(&mut self) {
        for counts in self.regions.values_mut().chain([&mut self.all]) {
            (counts.serving, counts.refused) = (0, 0);
        }
    }

    pub(super) fn all(&self) -> &Counts {
        &self.all
    }

    /// How many regions have connected nodes.
    pub(super) fn connected_regions(&self) -> usize {
        self.regions.values().filter(|counts| counts.connected > 0).count()
    }

    pub(super) fn regions(&self) -> Vec<control::RegionSummary> {
        let summary = |(region, counts): (&Arc<str>, &Counts)| {
            let Counts { connected, serving, refused, unknown } = *counts;
            control::RegionSummary { region: region.as_ref().to_owned(), connected, serving, refused, unknown }
        };
        self.regions.iter().map(summary).collect()
    }

    pub(super) fn revisions(&self) -> Vec<control::RevisionCount> {
        self.revisions.iter().map(|(&revision, &nodes)| control::RevisionCount { revision, nodes }).collect()
    }
}

impl Counts {
    fn add(&mut self, other: &Counts) {
        self.connected += other.connected;
        self.serving += other.serving;
        self.refused += other.refused;
        self.unknown += other.unknown;
    }

    fn remove(&mut self, other: &Counts) {
        self.connected -= other.connected;
        self.serving -= other.serving;
        self.refused -= other.refused;
        self.unknown -= other.unknown;
    }
}
