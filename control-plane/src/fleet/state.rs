//! The fleet of one environment: what changes when something is heard of a node. Time comes in, and what is to be told
//! goes out.

mod keep;
mod view;

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, SystemTime},
};

use hashbrown::{HashMap, HashSet};
use switchtower_proto::{control::v1 as control, sync::v1 as sync};

pub use self::view::Progress;
use super::{
    known::Kept,
    node::{Node, Refused, ahead},
    tally::Tally,
};
use crate::{
    desired::{Desired, Holding},
    events::Kind,
};

/// How old what the store says of a node's last sight may become.
const SEEN: Duration = Duration::from_secs(24 * 3600);
/// Most reasons of a refusal that are kept.
const VIOLATIONS: usize = 20;
/// Longest text of a node's that is kept, in bytes.
const TEXT_BYTES: usize = 512;

/// What a node says of itself when its stream begins.
#[derive(Clone, Debug)]
pub struct Newcomer {
    /// Its name.
    pub id: String,
    /// Which start of the process this is.
    pub instance: [u8; 16],
    /// Region. Empty: none.
    pub region: String,
    /// Version of its program.
    pub build: String,
    /// What it understands.
    pub schema: Schema,
    /// What it holds of this epoch.
    pub held: Option<Holding>,
    /// Its wall clock now. `None`: it did not say.
    pub clock: Option<SystemTime>,
    /// It came back from an older generation of its last known good.
    pub came_back_older: bool,
}

/// What a node understands, each sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Schema {
    /// Members of messages and values of enumerations.
    pub members: Vec<String>,
    /// Kinds of items.
    pub kinds: Vec<String>,
}

/// What is to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) kind: Kind,
    /// What it is about: a node or a revision.
    pub(super) about: String,
    pub(super) message: String,
}

/// What nodes should serve.
#[derive(Debug)]
pub(super) struct Desires {
    pub(super) assignment: u64,
    pub(super) revision: u64,
    pub(super) made_at: SystemTime,
}

/// The fleet of one environment.
#[derive(Debug)]
pub(super) struct State {
    desires: Desires,
    names: HashMap<Arc<str>, Name>,
    tally: Tally,
    schemas: HashSet<Arc<Schema>>,
    texts: HashSet<Arc<str>>,
    /// The reasons that were heard last: nodes refuse for the same ones.
    violations: Arc<[control::Violation]>,
    /// The last answer to the assignment.
    answered_at: Option<SystemTime>,
    converged: bool,
    /// Names of which the store says something else.
    unwritten: BTreeSet<Arc<str>>,
    /// Whether the last try to write them failed.
    unwritable: bool,
}

/// The nodes that have one name: one, unless something is wrong.
#[derive(Debug, Default)]
struct Name {
    nodes: Vec<Node>,
    kept: Option<Kept>,
}

impl Default for State {
    fn default() -> Self {
        State {
            desires: Desires { assignment: 0, revision: 0, made_at: SystemTime::UNIX_EPOCH },
            names: HashMap::new(),
            tally: Tally::default(),
            schemas: HashSet::new(),
            texts: HashSet::new(),
            violations: [].into(),
            answered_at: None,
            converged: false,
            unwritten: BTreeSet::new(),
            unwritable: false,
        }
    }
}

impl State {
    /// Nodes should serve this. What is older than what they should already is no news.
    pub(super) fn desire(&mut self, desired: &Desired) {
        if desired.assignment > self.desires.assignment {
            let Desired { assignment, revision, made_at, .. } = *desired;
            self.desires = Desires { assignment, revision, made_at };
            self.tally.begin();
            (self.answered_at, self.converged) = (None, false);
        }
    }

    /// A node's stream begins.
    pub(super) fn connect(&mut self, newcomer: Newcomer, stream: u64, now: SystemTime) -> Vec<Told> {
        let Newcomer { id, instance, region, build, schema, held, clock, came_back_older } = newcomer;
        let (region, build, schema) = (self.text(&region), self.text(&build), self.schema(schema));
        let id: Arc<str> = id.into();
        let name = self.names.entry(id.clone()).or_default();
        // What has no stream, or is the same process, is this node before it came back.
        let past: Vec<Node> =
            name.nodes.extract_if(.., |node| !node.is_connected() || node.instance == Some(instance)).collect();
        past.iter().for_each(|node| self.tally.remove(&node.share(&self.desires)));
        let same = past.into_iter().find(|node| node.instance == Some(instance));
        let (before, refused) = same.map_or((None, None), |same| (same.serving, same.refused));
        let node = Node {
            stream,
            instance: Some(instance),
            region,
            build,
            schema: Some(schema),
            since: now,
            last_heard_at: now,
            offered: None,
            serving: serving(held.as_ref(), before, now),
            refused,
            clock_ahead: clock.map(|clock| ahead(clock, now)),
            came_back_older,
            lagging: false,
            problem: None,
        };
        self.tally.add(&node.share(&self.desires));
        let connected = format!("{id} connected, {}", in_words(&node));
        let problems = node.problems(name.nodes.is_empty());
        let written = name.kept.as_ref().is_some_and(|kept| {
            (&*kept.region, &*kept.build) == (&*node.region, &*node.build) && !is_older(kept.last_seen_at, SEEN, now)
        });
        if !written {
            self.unwritten.insert(id.clone());
        }
        name.nodes.push(node);
        let mut told = vec![Told { kind: Kind::NodeConnected, about: id.as_ref().to_owned(), message: connected }];
        told.extend(problems.iter().map(|problem| Told::problem(&id, problem)));
        told
    }

    /// A node's stream ended.
    pub(super) fn gone(&mut self, id: &str, stream: u64, now: SystemTime) -> Vec<Told> {
        let Some(name) = self.names.get_mut(id) else { return Vec::new() };
        let Some(at) = name.nodes.iter().position(|node| node.stream == stream) else { return Vec::new() };
        self.tally.remove(&name.nodes[at].share(&self.desires));
        if name.nodes.len() > 1 {
            // Another node has the name, and is here.
            name.nodes.swap_remove(at);
        } else {
            let node = &mut name.nodes[at];
            (node.stream, node.since, node.lagging) = (0, now, false);
            self.tally.add(&node.share(&self.desires));
        }
        let message = format!("{id} is gone; what it serves is not known");
        let mut told = vec![Told { kind: Kind::NodeGone, about: id.to_owned(), message }];
        told.extend(self.converge());
        told
    }

    pub(super) fn heard(&mut self, id: &str, stream: u64, now: SystemTime) {
        self.update(id, stream, |node| node.last_heard_at = now);
    }

    pub(super) fn offered(&mut self, id: &str, stream: u64, leads_to: &Holding, now: SystemTime) {
        let Holding { assignment, revision, .. } = *leads_to;
        let offer = control::Offer { assignment, revision, at: Some(now.into()) };
        self.update(id, stream, |node| node.offered = Some(offer));
    }

    /// A node holds this now.
    pub(super) fn holds(&mut self, id: &str, stream: u64, held: Option<&Holding>, now: SystemTime) {
        self.update(id, stream, |node| {
            node.lagging = false;
            node.serving = serving(held, node.serving, now);
            let newer = |refused: &mut Refused| held.is_some_and(|held| held.assignment >= refused.assignment);
            node.refused.take_if(newer);
        });
    }

    /// A node acknowledged. Gives how long after the assignment was made, if that is what it came to serve.
    pub(super) fn acked(
        &mut self,
        id: &str,
        stream: u64,
        held: Option<&Holding>,
        problem: &str,
        now: SystemTime,
    ) -> (Option<Duration>, Vec<Told>) {
        let serves = |state: &Self| state.find(id, stream).is_some_and(|node| node.serves(&state.desires));
        let before = serves(self);
        self.holds(id, stream, held, now);
        let problem = clipped(problem);
        let news = self.update(id, stream, |node| {
            let news = !problem.is_empty() && node.problem.as_deref() != Some(problem);
            node.problem = (!problem.is_empty()).then(|| problem.into());
            news
        });
        let mut told = Vec::new();
        if news == Some(true) {
            told.push(Told::problem(id, problem));
        }
        if before || !serves(self) {
            return (None, told);
        }
        self.answered_at = Some(now);
        told.extend(self.converge());
        (Some(self.took(id, stream, now)), told)
    }

    /// How long a node took to follow: from the assignment, or from the beginning of its stream where that is later. A node
    /// that was not there was not waited for.
    fn took(&self, id: &str, stream: u64, now: SystemTime) -> Duration {
        let there = self.find(id, stream).map_or(self.desires.made_at, |node| node.since);
        now.duration_since(there.max(self.desires.made_at)).unwrap_or_default()
    }

    /// A node refused what would have led to this.
    pub(super) fn refused(
        &mut self,
        id: &str,
        stream: u64,
        leads_to: &Holding,
        violations: Vec<sync::Violation>,
        for_good: bool,
        at: SystemTime,
    ) -> Vec<Told> {
        let violations = self.shared(violations);
        let Holding { assignment, revision, .. } = *leads_to;
        let first = violations.first().map_or_else(String::new, |violation| match &*violation.path {
            "" => violation.message.clone(),
            path => format!("{path}: {}", violation.message),
        });
        let refused = Refused { assignment, revision, at, violations, for_good };
        let news = self.update(id, stream, |node| {
            node.lagging = false;
            let same = |known: &Refused| (known.assignment, known.for_good) == (assignment, for_good);
            let news = !node.refused.as_ref().is_some_and(same);
            node.refused = Some(refused);
            news
        });
        if news != Some(true) {
            return Vec::new();
        }
        if for_good && assignment == self.desires.assignment {
            self.answered_at = Some(at);
        }
        let how = if for_good { "refused" } else { "cannot take" };
        let message = format!("{id} {how} revision {revision}: {first}");
        vec![Told { kind: Kind::RevisionRefused, about: revision.to_string(), message }]
    }

    /// What a node should hold is the content that it refused last.
    pub(super) fn refuses_still(&mut self, id: &str, stream: u64, desired: &Holding) {
        self.update(id, stream, |node| {
            if let Some(refused) = &mut node.refused {
                (refused.assignment, refused.revision) = (desired.assignment, desired.revision);
                refused.for_good = true;
            }
        });
    }

    pub(super) fn lagging(&mut self, id: &str, stream: u64) -> Vec<Told> {
        if self.update(id, stream, |node| node.lagging = true).is_none() {
            return Vec::new();
        }
        let message = format!("{id} does not answer; others are served as before");
        vec![Told { kind: Kind::NodeLagging, about: id.to_owned(), message }]
    }

    /// That every connected node serves what it should, once for each assignment that somebody came to serve.
    fn converge(&mut self) -> Option<Told> {
        let all = self.tally.all();
        if self.converged || self.answered_at.is_none() || all.connected == 0 || all.serving < all.connected {
            return None;
        }
        self.converged = true;
        let took = self.answered_at?.duration_since(self.desires.made_at).unwrap_or_default();
        let (nodes, regions, revision) = (all.connected, self.tally.connected_regions(), self.desires.revision);
        let (s, es) = (if nodes == 1 { "" } else { "s" }, if regions == 1 { "" } else { "s" });
        let message =
            format!("{nodes} of {nodes} node{s} in {regions} region{es} serve revision {revision}, {took:.0?}");
        Some(Told { kind: Kind::FleetConverged, about: revision.to_string(), message })
    }

    fn find(&self, id: &str, stream: u64) -> Option<&Node> {
        self.names.get(id)?.nodes.iter().find(|node| node.stream == stream)
    }

    /// Changes a node, and the numbers with it. `None`: the stream is not the node's any more.
    fn update<T>(&mut self, id: &str, stream: u64, change: impl FnOnce(&mut Node) -> T) -> Option<T> {
        let node = self.names.get_mut(id)?.nodes.iter_mut().find(|node| node.stream == stream)?;
        let before = node.share(&self.desires);
        let given = change(node);
        let after = node.share(&self.desires);
        if before != after {
            self.tally.remove(&before);
            self.tally.add(&after);
        }
        Some(given)
    }

    /// A text, there once.
    fn text(&mut self, text: &str) -> Arc<str> {
        self.texts.get_or_insert_with(text, |text| text.into()).clone()
    }

    fn schema(&mut self, schema: Schema) -> Arc<Schema> {
        match self.schemas.get(&schema) {
            Some(known) => known.clone(),
            None => {
                let schema = Arc::new(schema);
                self.schemas.insert(schema.clone());
                schema
            }
        }
    }

    fn shared(&mut self, violations: Vec<sync::Violation>) -> Arc<[control::Violation]> {
        let violation = |violation: sync::Violation| control::Violation {
            code: clipped(&violation.code).to_owned(),
            path: clipped(&violation.path).to_owned(),
            message: clipped(&violation.message).to_owned(),
        };
        let violations: Vec<_> = violations.into_iter().take(VIOLATIONS).map(violation).collect();
        if *self.violations != *violations {
            self.violations = violations.into();
        }
        self.violations.clone()
    }
}

impl Told {
    fn problem(id: &str, problem: &str) -> Self {
        Told { kind: Kind::NodeProblem, about: id.to_owned(), message: format!("{id}: {problem}") }
    }
}

/// What a node serves that holds this, and served `before`.
fn serving(held: Option<&Holding>, before: Option<control::Serving>, now: SystemTime) -> Option<control::Serving> {
    let Holding { assignment, revision, keys: keys_version, .. } = *held?;
    let same = before.filter(|before| (before.assignment, before.revision) == (assignment, revision));
    let since = same.map_or_else(|| Some(now.into()), |same| same.since);
    Some(control::Serving { assignment, revision, keys_version, since })
}

fn in_words(node: &Node) -> String {
    match &node.serving {
        Some(serving) => format!("serving revision {}", serving.revision),
        None => "serving nothing".to_owned(),
    }
}

fn is_older(then: SystemTime, than: Duration, now: SystemTime) -> bool {
    now.duration_since(then).is_ok_and(|age| age > than)
}

/// The first bytes of a text, up to where a character ends.
fn clipped(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_BYTES)]
}

#[cfg(test)]
mod tests;
