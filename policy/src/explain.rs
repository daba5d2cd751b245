//! The same decisions, told: which route and rule, what the flags gave, which targets in which order, and why.
//!
//! Nothing is decided here. The functions that serve requests are run and listened to, so an explanation cannot differ
//! from what a node does with the same facts and the same health.
//!
//! An [`Explanation`] is data (for `--output json`); its `Display` says it in words. It repeats keys and names of the
//! request that it explains, so it is for whoever asked for it, not for logs.

use std::time::Duration;

use serde::Serialize;

use crate::{
    Facts, Snapshot,
    condition::{Condition, Reason},
    flag::{Flag, PassedOver},
    plan::{Choice, HealthView, Key, Listener, Plan, Step, StepKind},
    route::Resolved,
    snapshot::{self, FlagIndex, ModelIndex, OnBrokenStream, TargetIndex},
};

mod words;

/// What happens to one request, and why.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explanation {
    /// The environment's name.
    pub environment: String,
    /// Revision of the policy.
    pub revision: String,
    /// Name of the caller.
    pub caller: String,
    /// The caller's tenant.
    pub tenant: String,
    /// Region that the node runs in; empty: none.
    pub region: String,
    /// The route or alias that was asked for.
    pub asked: String,
    /// What was decided; `None`: no such route is open to the caller.
    pub decision: Option<Decision>,
    /// Where there is no such route, the nearest names that are open to the caller.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nearest: Vec<String>,
}

/// What was decided.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Decision {
    /// Name of the route.
    pub route: String,
    /// The alias that it was asked for by; `None`: its name.
    pub alias: Option<String>,
    /// Name of the rule that matched; `None`: the route's own tiers hold.
    pub rule: Option<String>,
    /// Its rules, in order.
    pub rules: Vec<Rule>,
    /// The flags that the evaluated conditions ask for, each once, in the order of asking.
    pub flags: Vec<FlagRead>,
    /// The tiers that hold, in order.
    pub tiers: Vec<Tier>,
    /// The limits that hold, whatever is tried.
    pub limits: Limits,
    /// The plan itself.
    #[serde(skip)]
    pub plan: Plan,
}

/// A rule, and what became of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rule {
    /// Its name.
    pub name: String,
    /// Its condition.
    pub when: String,
    /// What became of it.
    pub outcome: Outcome,
    /// The error that its condition ended in.
    pub error: Option<String>,
}

/// What became of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It holds.
    Matched,
    /// Its condition is false.
    False,
    /// Its condition ended in an error, so it does not hold.
    Error,
    /// A rule before it matched.
    NotReached,
}

/// A flag, and what it gave.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FlagRead {
    /// Its name.
    pub name: String,
    /// The variant it gave.
    pub variant: String,
    /// The variant's value.
    pub value: serde_json::Value,
    /// OpenFeature's reason.
    pub reason: &'static str,
    /// OpenFeature's error code.
    pub error: Option<&'static str>,
    /// The rule that matched, counted from 1.
    pub rule: Option<u16>,
    /// Why each rule before was passed over, in words, in order.
    pub passed_over: Vec<String>,
}

/// A tier, and what it gave the plan.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Tier {
    /// Models.
    Models {
        /// Its number, from 1.
        number: u16,
        /// The models with their weights.
        models: Vec<Weight>,
        /// The model that comes first.
        chosen: String,
        /// By what it was chosen.
        chosen_by: ChosenBy,
        /// Value of that key.
        key: Option<String>,
        /// The bucket that the key falls into, 0 to 99 999.
        bucket: Option<u32>,
        /// Its targets, in the order in which they were considered.
        targets: Vec<Target>,
        /// Models whose targets an earlier tier has.
        repeated: Vec<String>,
    },
    /// An answer of our own.
    Answer {
        /// Its number, from 1.
        number: u16,
        /// Its condition; `None`: always.
        when: Option<String>,
        /// Its number in the plan, from 1; `None`: its condition does not hold.
        step: Option<usize>,
        /// The error that its condition ended in.
        error: Option<String>,
    },
}

/// A model's weight in a tier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Weight {
    /// Name of the model.
    pub model: String,
    /// Its weight.
    pub weight: u32,
}

/// What a tier's first model was chosen by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ChosenBy {
    /// It is the only one with a weight.
    OnlyOne,
    /// The targeting key.
    TargetingKey,
    /// The metadata key that the route names.
    Metadata,
    /// The caller's name.
    Caller,
    /// The request's id, for want of another key.
    RequestId,
    /// Chance, for want even of an id.
    Chance,
}

/// A target, and whether it is tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Target {
    /// `bedrock/REGION/MODEL ID`.
    pub target: String,
    /// Name of its model.
    pub model: String,
    /// Whether its region is the node's own.
    pub own_region: bool,
    /// Its number in the plan, from 1; `None`: left out, because it is unavailable.
    pub step: Option<usize>,
}

/// The limits that hold for a request, whatever is tried.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Limits {
    /// Most output tokens.
    pub max_output_tokens: u32,
    /// Name of the guardrail; `None`: none.
    pub guardrail: Option<String>,
    /// Geography that the request may not leave; `None`: any.
    pub residency: Option<String>,
    /// To open a connection, in milliseconds; `None`: 1 s, or 2 s with TLS.
    pub connect_ms: Option<u64>,
    /// To the first content of a stream, in milliseconds.
    pub first_token_ms: u64,
    /// Between two events of a stream, in milliseconds.
    pub idle_ms: u64,
    /// The whole request, in milliseconds.
    pub total_ms: u64,
    /// What a stream that broke becomes: `error` or `partial`.
    pub on_broken_stream: &'static str,
}

/// What happens to a request of these facts while health is as this, and why. `seed` as in [`Snapshot::plan`].
#[must_use]
pub fn explain(snapshot: &Snapshot, facts: &Facts<'_>, health: &HealthView, seed: u64) -> Explanation {
    let mut passed_over = Vec::new();
    let resolved = snapshot.resolve_telling(facts, |_, error| passed_over.push(error));
    let (decision, nearest) = match resolved {
        Ok(resolved) => (Some(decision(snapshot, resolved, &passed_over, facts, health, seed)), Vec::new()),
        Err(unknown) => (None, unknown.nearest),
    };
    Explanation {
        environment: snapshot.environment().to_string(),
        revision: snapshot.revision().to_string(),
        caller: facts.caller.name.to_string(),
        tenant: facts.caller.tenant.to_string(),
        region: facts.region.to_owned(),
        asked: facts.asked.to_owned(),
        decision,
        nearest,
    }
}

fn decision(
    snapshot: &Snapshot,
    resolved: Resolved,
    passed_over: &[Option<Reason<'_>>],
    facts: &Facts<'_>,
    health: &HealthView,
    seed: u64,
) -> Decision {
    let route = snapshot.route(resolved.route);
    let mut teller = Teller { snapshot, facts, resolved, tiers: Vec::new(), steps: 0 };
    let plan = snapshot.plan_telling(resolved, facts, health, seed, &mut teller);
    Decision {
        route: route.name.to_string(),
        alias: (*facts.asked != *route.name).then(|| facts.asked.to_owned()),
        rule: resolved.rule.map(|rule| route.rules[usize::from(rule)].name.to_string()),
        rules: rules(route, resolved, passed_over),
        flags: flags(snapshot, resolved, facts),
        tiers: teller.tiers,
        limits: limits(route),
        plan,
    }
}

fn rules(route: &snapshot::Route, resolved: Resolved, passed_over: &[Option<Reason<'_>>]) -> Vec<Rule> {
    let told = route.rules.iter().enumerate().map(|(place, rule)| {
        let (outcome, error) = match passed_over.get(place) {
            Some(Some(reason)) => (Outcome::Error, Some(reason.to_string())),
            Some(None) => (Outcome::False, None),
            None if resolved.rule.map(usize::from) == Some(place) => (Outcome::Matched, None),
            None => (Outcome::NotReached, None),
        };
        Rule { name: rule.name.to_string(), when: rule.when.text().to_owned(), outcome, error }
    });
    told.collect()
}

/// The flags that the conditions ask for which were evaluated: of the rules up to the one that matched, and of the
/// answers. A condition that was decided early may not have come to all of its flags; they are told all the same.
fn flags(snapshot: &Snapshot, resolved: Resolved, facts: &Facts<'_>) -> Vec<FlagRead> {
    let rules = &snapshot.route(resolved.route).rules;
    let evaluated = resolved.rule.map_or(rules.len(), |rule| usize::from(rule) + 1);
    let of_rules = rules[..evaluated].iter().map(|rule| &rule.when);
    let of_answers = snapshot.tiers(resolved).iter().filter_map(|tier| match tier {
        snapshot::Tier::Answer { when, .. } => when.as_ref(),
        snapshot::Tier::Models(_) => None,
    });
    let mut asked: Vec<FlagIndex> = Vec::new();
    for flag in of_rules.chain(of_answers).flat_map(Condition::flags) {
        if !asked.contains(&flag) {
            asked.push(flag);
        }
    }
    asked.into_iter().map(|flag| flag_read(snapshot, snapshot.flag(flag), facts)).collect()
}

fn flag_read(snapshot: &Snapshot, flag: &Flag, facts: &Facts<'_>) -> FlagRead {
    let mut passed_over = Vec::new();
    let evaluation = flag.evaluate_telling(facts, snapshot, |number, why| {
        let rule = &flag.rules()[usize::from(number)];
        let number = number + 1;
        passed_over.push(match why {
            PassedOver::Condition => {
                let error = rule.when.as_ref().and_then(|when| when.evaluate(facts, snapshot).err());
                match error {
                    Some(error) => format!("rule {number}: its condition ends in an error: {error}"),
                    None => format!("rule {number}: its condition is false"),
                }
            }
            PassedOver::NoTargetingKey => format!("rule {number}: it needs a targeting key, and there is none"),
            PassedOver::OutsideShare(bucket) => {
                let percent = rule.share.map_or(100.0, crate::bucket::Share::percent);
                format!("rule {number}: the targeting key's bucket {} is outside its {percent} %", bucket.number())
            }
        });
    });
    FlagRead {
        name: flag.name.to_string(),
        variant: evaluation.variant.to_owned(),
        value: evaluation.value.to_json(),
        reason: evaluation.reason.as_str(),
        error: evaluation.error.map(crate::flag::ErrorCode::as_str),
        rule: evaluation.rule.map(|rule| rule + 1),
        passed_over,
    }
}

fn limits(route: &snapshot::Route) -> Limits {
    let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    Limits {
        max_output_tokens: route.max_output_tokens,
        guardrail: route.guardrail.as_ref().map(|guardrail| guardrail.name.to_string()),
        residency: route.residency.as_ref().map(ToString::to_string),
        connect_ms: route.timeouts.connect.map(ms),
        first_token_ms: ms(route.timeouts.first_token),
        idle_ms: ms(route.timeouts.idle),
        total_ms: ms(route.timeouts.total),
        on_broken_stream: match route.on_broken_stream {
            OnBrokenStream::Error => "error",
            OnBrokenStream::Partial => "partial",
        },
    }
}

/// Listens while the plan is made.
struct Teller<'a> {
    snapshot: &'a Snapshot,
    facts: &'a Facts<'a>,
    resolved: Resolved,
    /// The tiers that have been begun.
    tiers: Vec<Tier>,
    /// How many steps the plan has.
    steps: usize,
}

impl Teller<'_> {
    fn model_name(&self, model: ModelIndex) -> String {
        self.snapshot.model(model).name.to_string()
    }

    fn target(&mut self, index: TargetIndex, step: Option<usize>) {
        let target = self.snapshot.target(index);
        let told = Target {
            target: target.id.to_string(),
            model: self.model_name(target.model),
            own_region: *target.region == *self.facts.region,
            step,
        };
        if let Some(Tier::Models { targets, .. }) = self.tiers.last_mut() {
            targets.push(told);
        }
    }

    fn answer(&mut self, tier: u16, step: Option<usize>) {
        let snapshot::Tier::Answer { when, .. } = &self.snapshot.tiers(self.resolved)[usize::from(tier)] else {
            return;
        };
        let error = when.as_ref().and_then(|when| when.evaluate(self.facts, self.snapshot).err());
        self.tiers.push(Tier::Answer {
            number: tier + 1,
            when: when.as_ref().map(|when| when.text().to_owned()),
            step,
            error: error.map(|error| error.to_string()),
        });
    }
}

impl Listener for Teller<'_> {
    fn chosen(&mut self, tier: u16, model: ModelIndex, choice: Choice<'_>) {
        let snapshot::Tier::Models(weights) = &self.snapshot.tiers(self.resolved)[usize::from(tier)] else {
            return;
        };
        let (chosen_by, key, bucket) = match choice {
            Choice::Only => (ChosenBy::OnlyOne, None, None),
            Choice::Split(key, bucket) => {
                let (by, key) = match key {
                    Key::Targeting(key) => (ChosenBy::TargetingKey, Some(key)),
                    Key::Metadata(key) => (ChosenBy::Metadata, Some(key)),
                    Key::Caller(key) => (ChosenBy::Caller, Some(key)),
                    Key::RequestId(key) => (ChosenBy::RequestId, Some(key)),
                    Key::Seed => (ChosenBy::Chance, None),
                };
                (by, key, Some(bucket.number()))
            }
        };
        let weight = |(model, weight): &(ModelIndex, u32)| Weight { model: self.model_name(*model), weight: *weight };
        self.tiers.push(Tier::Models {
            number: tier + 1,
            models: weights.iter().map(weight).collect(),
            chosen: self.model_name(model),
            chosen_by,
            key: key.map(str::to_owned),
            bucket,
            targets: Vec::new(),
            repeated: Vec::new(),
        });
    }

    fn repeated(&mut self, _tier: u16, model: ModelIndex) {
        let name = self.model_name(model);
        if let Some(Tier::Models { repeated, .. }) = self.tiers.last_mut() {
            repeated.push(name);
        }
    }

    fn unavailable(&mut self, _tier: u16, target: TargetIndex) {
        self.target(target, None);
    }

    fn planned(&mut self, step: Step) {
        self.steps += 1;
        match step.kind {
            StepKind::Target(target) => self.target(target, Some(self.steps)),
            StepKind::Answer(_) => self.answer(step.tier, Some(self.steps)),
        }
    }

    fn answer_left_out(&mut self, tier: u16) {
        self.answer(tier, None);
    }
}

#[cfg(test)]
mod tests;
