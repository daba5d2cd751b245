//! A policy in its compiled form: immutable, indexed, shared by every request that it serves.
//!
//! Everything in it was checked by [`crate::compile()`]; nothing is checked again. Routes, targets, flags and callers are
//! named by index, so that a plan can outlive the borrow of the snapshot that it was made from.

use std::{fmt, sync::Arc, time::Duration};

use hashbrown::{HashMap, HashSet};

use crate::{
    answer::Answers,
    catalogue::{Entry, Usage},
    condition::Condition,
    flag::Flag,
};

/// The compiled policy.
#[derive(Debug)]
pub struct Snapshot {
    pub(crate) revision: Arc<str>,
    pub(crate) environment: Arc<str>,
    pub(crate) routes: Vec<Route>,
    /// Names and aliases.
    pub(crate) route_names: HashMap<Box<str>, RouteIndex>,
    pub(crate) models: Vec<Model>,
    pub(crate) targets: Vec<Arc<Target>>,
    pub(crate) flags: Vec<Flag>,
    pub(crate) flag_names: HashMap<Box<str>, FlagIndex>,
    pub(crate) callers: HashMap<Box<str>, Caller>,
    pub(crate) answers: Answers,
}

/// A route by its place in the snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouteIndex(pub(crate) u32);

/// A model by its place in the snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ModelIndex(pub(crate) u32);

/// A target by its place in the snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TargetIndex(pub(crate) u32);

/// A flag by its place in the snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FlagIndex(pub(crate) u32);

/// An answer template by its place in the snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AnswerIndex(pub(crate) u32);

/// A use case, and which models serve it.
#[derive(Debug)]
pub struct Route {
    /// Its name.
    pub name: Arc<str>,
    /// Other names under which requests land here.
    pub aliases: Vec<Box<str>>,
    /// Its own tiers.
    pub tiers: Vec<Tier>,
    /// The first whose condition holds replaces the tiers.
    pub rules: Vec<Rule>,
    /// What keeps one user on one model of a split.
    pub sticky: Sticky,
    /// Bounds on the phases of a request.
    pub timeouts: Timeouts,
    /// Most output tokens per request, 1 or more: a request that asks for more, or for none, is sent with this.
    pub max_output_tokens: u32,
    /// What a stream that broke after its first content becomes.
    pub on_broken_stream: OnBrokenStream,
    /// Set on every Converse call, whatever the caller's body says.
    pub guardrail: Option<Guardrail>,
    /// Geography that its requests may not leave.
    pub residency: Option<Box<str>>,
}

/// Tiers for the requests that a condition selects; `inherit` is already replaced by the route's own tiers.
#[derive(Debug)]
pub struct Rule {
    /// Its name, `rule N` where none was given.
    pub name: Arc<str>,
    /// Its condition.
    pub when: Condition,
    /// What it tries, in order.
    pub tiers: Vec<Tier>,
}

/// Targets of one rank, or an answer of our own.
#[derive(Clone, Debug)]
pub enum Tier {
    /// Models with their weights, in the order of their names; at least one, the sum of the weights at least 1. One
    /// model alone has weight 1.
    Models(Vec<(ModelIndex, u32)>),
    /// An answer of our own, where its condition holds.
    Answer {
        /// The template.
        answer: AnswerIndex,
        /// When it exists; `None`: always.
        when: Option<Condition>,
    },
}

/// What keeps one user on one model of a split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sticky {
    /// The targeting key, else the request's id.
    TargetingKey,
    /// The value of a metadata key, else the request's id.
    Metadata(Box<str>),
    /// The caller's name.
    Caller,
}

/// Bounds on the phases of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// To open a connection, TLS included; `None`: 1 s, or 2 s with TLS.
    pub connect: Option<Duration>,
    /// To the first content of a stream.
    pub first_token: Duration,
    /// Between two events of a stream.
    pub idle: Duration,
    /// The whole request, all attempts together.
    pub total: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts {
            connect: None,
            first_token: Duration::from_secs(30),
            idle: Duration::from_secs(30),
            total: Duration::from_secs(600),
        }
    }
}

/// What a stream that broke after its first content becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnBrokenStream {
    /// An error in the caller's own form.
    Error,
    /// An end as if the token limit had been reached, labelled as truncated.
    Partial,
}

/// A Bedrock guardrail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guardrail {
    /// The name the policy has for it.
    pub name: Arc<str>,
    /// Bedrock's word for the trace: `disabled`, `enabled` or `enabled_full`.
    pub trace: &'static str,
    /// Bedrock's word for how streams are checked: `sync` or `async`.
    pub stream_mode: &'static str,
    pub(crate) ids: GuardrailIds,
}

/// What Bedrock calls a guardrail, which it makes in one region each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum GuardrailIds {
    /// The same in every region.
    Everywhere(GuardrailId),
    /// By region; every region where a target carries the guardrail is among them.
    Regions(Vec<(Box<str>, GuardrailId)>),
}

/// A guardrail's id or ARN, and its version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GuardrailId {
    pub(crate) id: Box<str>,
    pub(crate) version: Box<str>,
}

/// A Bedrock guardrail as one region knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegionalGuardrail<'a> {
    /// Guardrail id or ARN.
    pub id: &'a str,
    /// Version number or `DRAFT`.
    pub version: &'a str,
    /// Bedrock's word for the trace: `disabled`, `enabled` or `enabled_full`.
    pub trace: &'static str,
    /// Bedrock's word for how streams are checked: `sync` or `async`.
    pub stream_mode: &'static str,
}

impl Guardrail {
    /// The guardrail in the region of a target of a route that carries it.
    ///
    /// # Panics
    /// In another region, if it has an id for each: no target of such a route is called there.
    #[must_use]
    pub fn in_region(&self, region: &str) -> RegionalGuardrail<'_> {
        let id = match &self.ids {
            GuardrailIds::Everywhere(id) => Some(id),
            GuardrailIds::Regions(regions) => regions.iter().find(|(name, _)| **name == *region).map(|(_, id)| id),
        };
        let GuardrailId { id, version } = id.expect("a target whose region has no id does not compile");
        RegionalGuardrail { id, version, trace: self.trace, stream_mode: self.stream_mode }
    }

    /// Whether targets in this region can carry it.
    pub(crate) fn is_in(&self, region: &str) -> bool {
        match &self.ids {
            GuardrailIds::Everywhere(_) => true,
            GuardrailIds::Regions(regions) => regions.iter().any(|(name, _)| **name == *region),
        }
    }
}

/// A model, with what the catalogue knows of it.
#[derive(Debug)]
pub struct Model {
    /// The name the policy has for it.
    pub name: Arc<str>,
    /// Bedrock model id, inference profile id or ARN.
    pub bedrock: Box<str>,
    /// Its targets, in the policy's order of regions.
    pub targets: Vec<TargetIndex>,
    /// What is known of it; `None`: neither the catalogue nor the policy knows it.
    pub catalogue: Option<Entry>,
}

/// A model at an endpoint. Displayed as `bedrock/REGION/MODEL ID`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// Its place in the snapshot.
    pub index: TargetIndex,
    /// The model it belongs to.
    pub model: ModelIndex,
    /// Region of the endpoint.
    pub region: Arc<str>,
    /// Bedrock model id, inference profile id or ARN.
    pub bedrock: Arc<str>,
    /// `bedrock/REGION/MODEL ID`.
    pub id: Arc<str>,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.id)
    }
}

/// Who calls.
#[derive(Debug)]
pub struct Caller {
    /// Its name, the one that keys are issued for.
    pub name: Arc<str>,
    /// The tenant it belongs to.
    pub tenant: Arc<str>,
    /// The routes it may use.
    pub routes: Allowed,
}

/// The routes a caller may use.
#[derive(Debug)]
pub enum Allowed {
    /// Every route.
    All,
    /// These.
    Only(HashSet<RouteIndex>),
}

impl Allowed {
    /// Whether a route is among them.
    #[must_use]
    pub fn contains(&self, route: RouteIndex) -> bool {
        match self {
            Allowed::All => true,
            Allowed::Only(routes) => routes.contains(&route),
        }
    }
}

impl Snapshot {
    /// What this snapshot was compiled from: the revision's number, or the first 12 digits of the digest of the policy's
    /// items where nothing numbered them.
    #[must_use]
    pub fn revision(&self) -> &Arc<str> {
        &self.revision
    }

    /// This snapshot as the revision of this number.
    #[must_use]
    pub fn numbered(mut self, number: u64) -> Snapshot {
        self.revision = number.to_string().into();
        self
    }

    /// The environment's name.
    #[must_use]
    pub fn environment(&self) -> &Arc<str> {
        &self.environment
    }

    /// The caller of this name.
    #[must_use]
    pub fn caller(&self, name: &str) -> Option<&Caller> {
        self.callers.get(name)
    }

    /// Every caller, in no order.
    pub fn callers(&self) -> impl Iterator<Item = &Caller> {
        self.callers.values()
    }

    /// A route of this snapshot.
    #[must_use]
    pub fn route(&self, index: RouteIndex) -> &Route {
        &self.routes[index.0 as usize]
    }

    /// Every route, by name.
    #[must_use]
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// A model of this snapshot.
    #[must_use]
    pub fn model(&self, index: ModelIndex) -> &Model {
        &self.models[index.0 as usize]
    }

    /// A target of this snapshot.
    #[must_use]
    pub fn target(&self, index: TargetIndex) -> &Arc<Target> {
        &self.targets[index.0 as usize]
    }

    /// Every target.
    #[must_use]
    pub fn targets(&self) -> &[Arc<Target>] {
        &self.targets
    }

    /// What an attempt at a target costs in US dollars; `None`: its price is not known.
    #[must_use]
    pub fn cost(&self, target: &Target, usage: &Usage) -> Option<f64> {
        self.model(target.model).catalogue.as_ref()?.cost_in(&target.region, usage)
    }

    /// The route of this name; aliases are not names.
    #[must_use]
    pub fn route_named(&self, name: &str) -> Option<&Route> {
        self.route_names.get(name).map(|index| self.route(*index)).filter(|route| *route.name == *name)
    }

    /// A flag of this snapshot.
    #[must_use]
    pub fn flag(&self, index: FlagIndex) -> &Flag {
        &self.flags[index.0 as usize]
    }

    /// Every flag, by name.
    #[must_use]
    pub fn flags(&self) -> &[Flag] {
        &self.flags
    }

    /// The flag of this name.
    #[must_use]
    pub fn flag_named(&self, name: &str) -> Option<&Flag> {
        self.flag_names.get(name).map(|index| self.flag(*index))
    }
}
