//! Tiers, weights, health view, seed -> the ordered steps for one request.
//!
//! Tiers in order. In a tier the split picks a model by the sticky key, then the model's regions follow, the node's own
//! first, then the tier's other models in the same way, heaviest first: a failed attempt stays with the model as long
//! as it can, because another region gives the same answer and another model another one. What is unavailable is left
//! out, and nothing takes its place: when all of a tier is unavailable the next tier is asked, never everything at once.
//!
//! Which steps are then really tried, and how many, is decided while they fail ([`Walk`]).

use std::cmp::Reverse;

use smallvec::SmallVec;

use crate::{
    Facts, Snapshot,
    bucket::{Bucket, Salt},
    route::Resolved,
    snapshot::{AnswerIndex, ModelIndex, Route, Sticky, TargetIndex, Tier},
};

mod health;
mod walk;

pub use health::HealthView;
pub use walk::{MOST_PAID, Walk};

/// The ordered steps for one request; a target stands in it at most once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The steps, in order; empty where no target is available and no answer's condition holds.
    pub steps: SmallVec<[Step; 8]>,
}

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Number of the tier among those that hold, from 0.
    pub tier: u16,
    /// What is tried.
    pub kind: StepKind,
}

/// What a step tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepKind {
    /// A target.
    Target(TargetIndex),
    /// An answer of our own.
    Answer(AnswerIndex),
}

/// What a split went by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key<'a> {
    /// The targeting key.
    Targeting(&'a str),
    /// The value of the metadata key that the route names.
    Metadata(&'a str),
    /// The caller's name.
    Caller(&'a str),
    /// The request's id: there was no other key.
    RequestId(&'a str),
    /// Chance: there was not even an id.
    Seed,
}

/// How a tier's model was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Choice<'a> {
    /// It is the only one with a weight.
    Only,
    /// By the bucket that this key falls into.
    Split(Key<'a>, Bucket),
}

/// What happens while a plan is made, for [`crate::explain`]; planning for a request tells nobody.
pub(crate) trait Listener {
    /// A tier's model was chosen.
    fn chosen(&mut self, _tier: u16, _model: ModelIndex, _choice: Choice<'_>) {}
    /// A model was left out, because an earlier tier has all its targets.
    fn repeated(&mut self, _tier: u16, _model: ModelIndex) {}
    /// A target was left out, because it is unavailable.
    fn unavailable(&mut self, _tier: u16, _target: TargetIndex) {}
    /// A step was put into the plan.
    fn planned(&mut self, _step: Step) {}
    /// An answer was left out, because its condition does not hold.
    fn answer_left_out(&mut self, _tier: u16) {}
}

impl Listener for () {}

impl Snapshot {
    /// The ordered steps for a request that was [resolved](Snapshot::resolve) by the same facts.
    ///
    /// `seed` decides a split only for a request that has neither key nor id. Allocates nothing for plans of up to 8
    /// steps.
    #[must_use]
    pub fn plan(&self, resolved: Resolved, facts: &Facts<'_>, health: &HealthView, seed: u64) -> Plan {
        self.plan_telling(resolved, facts, health, seed, &mut ())
    }

    /// As `plan`, telling what happens.
    pub(crate) fn plan_telling(
        &self,
        resolved: Resolved,
        facts: &Facts<'_>,
        health: &HealthView,
        seed: u64,
        listener: &mut impl Listener,
    ) -> Plan {
        let mut planning = Planning {
            snapshot: self,
            facts,
            health,
            sticky: LazyBucket { route: self.route(resolved.route), facts, seed, known: None },
            models: SmallVec::new(),
            plan: Plan::default(),
            listener,
        };
        for (number, tier) in (0..).zip(self.tiers(resolved)) {
            match tier {
                Tier::Models(weights) => planning.models_of(number, weights),
                Tier::Answer { answer, when } if when.as_ref().is_none_or(|when| when.holds(facts, self)) => {
                    planning.push(Step { tier: number, kind: StepKind::Answer(*answer) });
                }
                Tier::Answer { .. } => planning.listener.answer_left_out(number),
            }
        }
        planning.plan
    }
}

/// A plan being made.
struct Planning<'a, L> {
    snapshot: &'a Snapshot,
    facts: &'a Facts<'a>,
    health: &'a HealthView,
    sticky: LazyBucket<'a>,
    /// The models whose targets are planned already. A target belongs to one model, so no target comes twice.
    models: SmallVec<[ModelIndex; 8]>,
    plan: Plan,
    listener: &'a mut L,
}

impl<'a, L: Listener> Planning<'a, L> {
    fn models_of(&mut self, tier: u16, weights: &[(ModelIndex, u32)]) {
        let (place, choice) = self.chosen_of(weights);
        self.listener.chosen(tier, weights[place].0, choice);
        self.model(tier, weights[place].0);
        if weights.len() == 1 {
            return;
        }
        let mut others: SmallVec<[(ModelIndex, u32); 16]> = weights.iter().copied().collect();
        others.remove(place);
        // The sort keeps the order of names among equal weights.
        others.sort_by_key(|(_, weight)| Reverse(*weight));
        for (model, _) in others {
            self.model(tier, model);
        }
    }

    /// The place of the model that comes first, and why it does.
    fn chosen_of(&mut self, weights: &[(ModelIndex, u32)]) -> (usize, Choice<'a>) {
        let mut weighty = weights.iter().enumerate().filter(|(_, (_, weight))| *weight > 0).map(|(place, _)| place);
        let first = weighty.next().expect("compiling refuses weights without a sum");
        if weighty.next().is_none() {
            return (first, Choice::Only);
        }
        let (key, bucket) = self.sticky.get();
        let place = bucket.choose(weights.iter().map(|(_, weight)| *weight)).unwrap_or(first);
        (place, Choice::Split(key, bucket))
    }

    /// All targets of a model: the node's own region first, then as the policy has them.
    fn model(&mut self, tier: u16, model: ModelIndex) {
        if self.models.contains(&model) {
            self.listener.repeated(tier, model);
            return;
        }
        self.models.push(model);
        let targets = &self.snapshot.model(model).targets;
        let is_own = |target: &TargetIndex| *self.snapshot.target(*target).region == *self.facts.region;
        let own = targets.iter().filter(|target| is_own(target));
        for target in own.chain(targets.iter().filter(|target| !is_own(target))).copied() {
            if self.health.is_available(target) {
                self.push(Step { tier, kind: StepKind::Target(target) });
            } else {
                self.listener.unavailable(tier, target);
            }
        }
    }

    fn push(&mut self, step: Step) {
        self.listener.planned(step);
        self.plan.steps.push(step);
    }
}

/// The bucket of a request's sticky key, hashed when the first split asks for it.
struct LazyBucket<'a> {
    route: &'a Route,
    facts: &'a Facts<'a>,
    seed: u64,
    known: Option<(Key<'a>, Bucket)>,
}

impl<'a> LazyBucket<'a> {
    fn get(&mut self) -> (Key<'a>, Bucket) {
        let (route, facts, seed) = (self.route, self.facts, self.seed);
        *self.known.get_or_insert_with(|| {
            let key = sticky_key(route, facts);
            let bucket = match key {
                Key::Targeting(key) | Key::Metadata(key) | Key::Caller(key) | Key::RequestId(key) => {
                    Bucket::of(Salt::Route(&route.name), key)
                }
                Key::Seed => Bucket::of_seed(seed),
            };
            (key, bucket)
        })
    }
}

/// What keeps a request on one model of a split. An empty value is no key.
fn sticky_key<'a>(route: &'a Route, facts: &'a Facts<'a>) -> Key<'a> {
    let key = match &route.sticky {
        Sticky::TargetingKey => facts.targeting_key().map(Key::Targeting),
        Sticky::Metadata(key) => facts.metadata(key).filter(|value| !value.is_empty()).map(Key::Metadata),
        Sticky::Caller => Some(Key::Caller(&facts.caller.name)),
    };
    key.unwrap_or(if facts.request_id.is_empty() { Key::Seed } else { Key::RequestId(facts.request_id) })
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
