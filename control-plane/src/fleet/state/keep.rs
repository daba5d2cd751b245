//! What the store says of nodes, and what it should.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::{Name, SEEN, State, is_older};
use crate::fleet::{
    known::{Change, Kept},
    node::Node,
};

/// A node that was not seen for so long is forgotten: nodes of fleets that scale have names of their own.
const FORGOTTEN: Duration = Duration::from_secs(7 * 24 * 3600);

impl State {
    /// What the store knows of nodes, at the start.
    pub(in crate::fleet) fn remember(&mut self, kept: Vec<(String, Kept)>, now: SystemTime) {
        for (id, kept) in kept {
            let node = Node {
                stream: 0,
                instance: None,
                region: self.text(&kept.region),
                build: self.text(&kept.build),
                schema: None,
                since: now,
                last_heard_at: kept.last_seen_at,
                offered: None,
                serving: None,
                refused: None,
                clock_ahead: None,
                came_back_older: false,
                lagging: false,
                problem: None,
            };
            self.tally.add(&node.share(&self.desires));
            self.names.insert(id.into(), Name { nodes: vec![node], kept: Some(kept) });
        }
    }

    /// Looks for nodes that were not seen for long, and for those of which the store should say that they were.
    pub(in crate::fleet) fn sweep(&mut self, now: SystemTime) {
        let mut never_kept = Vec::new();
        for (id, name) in &self.names {
            let here = name.nodes.iter().any(Node::is_connected);
            match &name.kept {
                Some(kept) if here && is_older(kept.last_seen_at, SEEN, now) => drop(self.unwritten.insert(id.clone())),
                Some(_) if name.is_forgotten(now) => drop(self.unwritten.insert(id.clone())),
                None if name.is_forgotten(now) => never_kept.push(id.clone()),
                _ => {}
            }
        }
        never_kept.iter().for_each(|id| self.forget(id));
        self.texts.retain(|text| Arc::strong_count(text) > 1);
        self.schemas.retain(|schema| Arc::strong_count(schema) > 1);
    }

    /// Takes up to `limit` changes that the store lacks.
    pub(in crate::fleet) fn unwritten(&mut self, limit: usize, now: SystemTime) -> Vec<Change> {
        let mut changes = Vec::new();
        while let Some(id) = self.unwritten.pop_first() {
            let Some(name) = self.names.get(&id) else { continue };
            let Some(node) = name.nodes.last() else { continue };
            let before = name.kept.as_ref().map(|kept| kept.version);
            let first_seen_at = name.kept.as_ref().map_or(node.since, |kept| kept.first_seen_at);
            let region = node.region.clone();
            let kept =
                (!name.is_forgotten(now)).then(|| (region, node.build.clone(), first_seen_at, node.last_heard_at));
            changes.push(Change { id, before, kept });
            if changes.len() == limit {
                break;
            }
        }
        changes
    }

    /// The store does not have these changes after all.
    pub(in crate::fleet) fn not_written(&mut self, changes: &[Change]) {
        self.unwritten.extend(changes.iter().map(|change| change.id.clone()));
    }

    /// Whether writing fails from now on. `true`: that is news.
    pub(in crate::fleet) fn fails(&mut self, unwritable: bool) -> bool {
        std::mem::replace(&mut self.unwritable, unwritable) != unwritable
    }

    /// The store says this of a node; `None`: nothing, because it was forgotten.
    pub(in crate::fleet) fn written(&mut self, id: &str, kept: Option<Kept>, now: SystemTime) {
        let Some(name) = self.names.get_mut(id) else { return };
        name.kept = kept;
        if name.kept.is_none() && name.is_forgotten(now) {
            self.forget(id);
        }
    }

    fn forget(&mut self, id: &str) {
        let Some(name) = self.names.remove(id) else { return };
        name.nodes.iter().for_each(|node| self.tally.remove(&node.share(&self.desires)));
    }
}

impl Name {
    /// Whether it was not seen for so long that nobody expects it back.
    fn is_forgotten(&self, now: SystemTime) -> bool {
        self.nodes.iter().all(|node| !node.is_connected() && is_older(node.last_heard_at, FORGOTTEN, now))
    }
}
