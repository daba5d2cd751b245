//! Small snapshots for the tests of decisions, built by hand: what `compile` makes, without a document.

use std::collections::BTreeMap;

use hashbrown::{HashMap, HashSet};

use crate::{
    Facts, RequestFacts, Snapshot,
    answer::Answers,
    condition::{Condition, FlagLookup, Scope},
    flag::{self, Flag, Type, Unnamed, Value},
    snapshot::{
        Allowed, AnswerIndex, Caller, FlagIndex, Model, ModelIndex, OnBrokenStream, Route, RouteIndex, Rule, Sticky,
        Target, TargetIndex, Tier, Timeouts,
    },
};

/// A snapshot being built. Models, flags, routes and callers in this order: the later name the earlier.
pub(crate) struct Build(Snapshot);

/// An empty one.
pub(crate) fn build() -> Build {
    Build(Snapshot {
        revision: "abc123".into(),
        environment: "test".into(),
        routes: Vec::new(),
        route_names: HashMap::new(),
        models: Vec::new(),
        targets: Vec::new(),
        flags: Vec::new(),
        flag_names: HashMap::new(),
        callers: HashMap::new(),
        answers: Answers::default(),
    })
}

impl Build {
    /// A model `m` with the id `id.m`.
    pub(crate) fn model(mut self, name: &str, regions: &[&str]) -> Self {
        let model = ModelIndex(self.0.models.len() as u32);
        let mut targets = Vec::new();
        for region in regions {
            let index = TargetIndex(self.0.targets.len() as u32);
            let bedrock = format!("id.{name}");
            let id = format!("bedrock/{region}/{bedrock}").into();
            self.0.targets.push(Target { index, model, region: (*region).into(), bedrock: bedrock.into(), id }.into());
            targets.push(index);
        }
        let bedrock = format!("id.{name}").into();
        self.0.models.push(Model { name: name.into(), bedrock, targets, catalogue: None });
        self
    }

    /// A boolean flag, false by default; each rule gives true: `WHEN` or `WHEN @ PERCENT`, an empty `WHEN` for all.
    pub(crate) fn flag(self, name: &str, rules: &[&str]) -> Self {
        let mut variants = Unnamed::default();
        let (off, on) = (variants.add(Value::Bool(false), "default"), variants.add(Value::Bool(true), "rule 1"));
        let rules = rules.iter().map(|rule| {
            let (when, share) = rule.split_once('@').map_or((*rule, None), |(when, percent)| {
                let percent = percent.trim().parse().expect("a percentage");
                (when, crate::bucket::Share::from_percent(percent))
            });
            flag::Rule { when: condition(when), share, serve: flag::Serve::Variant(on) }
        });
        let rules = rules.collect();
        self.with_flag(Flag::new(name.into(), Type::Bool, variants.into_variants(), off, rules, false))
    }

    pub(crate) fn with_flag(mut self, flag: Flag) -> Self {
        self.0.flag_names.insert(flag.name.clone(), FlagIndex(self.0.flags.len() as u32));
        self.0.flags.push(flag);
        self
    }

    /// A route by its tiers: `sonnet:90 nova:10 | nova | * | *WHEN`.
    pub(crate) fn route(mut self, name: &str, tiers: &str) -> Self {
        let index = RouteIndex(self.0.routes.len() as u32);
        let route = Route {
            name: name.into(),
            aliases: Vec::new(),
            tiers: self.tiers(tiers),
            rules: Vec::new(),
            sticky: Sticky::TargetingKey,
            timeouts: Timeouts::default(),
            max_output_tokens: 4096,
            on_broken_stream: OnBrokenStream::Error,
            guardrail: None,
            residency: None,
        };
        self.0.route_names.insert(name.into(), index);
        self.0.routes.push(route);
        self
    }

    /// Of the last route.
    pub(crate) fn alias(mut self, alias: &str) -> Self {
        let index = RouteIndex(self.0.routes.len() as u32 - 1);
        self.0.route_names.insert(alias.into(), index);
        self.last().aliases.push(alias.into());
        self
    }

    /// Of the last route.
    pub(crate) fn rule(mut self, when: &str, tiers: &str) -> Self {
        let lookup = |name: &str| match self.0.flag_names.get(name) {
            Some(index) => FlagLookup::Found { index: *index, kind: Type::Bool },
            None => FlagLookup::Unknown { nearest: None },
        };
        let when = Condition::parse(when, &Scope::with_flags(&lookup)).expect("a condition");
        let tiers = self.tiers(tiers);
        let route = self.last();
        let name = format!("rule {}", route.rules.len() + 1);
        route.rules.push(Rule { name: name.into(), when, tiers });
        self
    }

    /// Of the last route.
    pub(crate) fn sticky(mut self, sticky: Sticky) -> Self {
        self.last().sticky = sticky;
        self
    }

    /// A caller by the routes it may use; none for all.
    pub(crate) fn caller(mut self, name: &str, routes: &[&str]) -> Self {
        let only: HashSet<_> = routes.iter().map(|route| self.0.route_names[*route]).collect();
        let routes = if only.is_empty() { Allowed::All } else { Allowed::Only(only) };
        let tenant = format!("{name}-tenant").into();
        self.0.callers.insert(name.into(), Caller { name: name.into(), tenant, routes });
        self
    }

    /// With the caller `all`, who may use every route.
    pub(crate) fn done(self) -> Snapshot {
        self.caller("all", &[]).0
    }

    fn last(&mut self) -> &mut Route {
        self.0.routes.last_mut().expect("a route")
    }

    fn tiers(&self, text: &str) -> Vec<Tier> {
        text.split('|').map(|tier| self.tier(tier.trim())).collect()
    }

    fn tier(&self, text: &str) -> Tier {
        if let Some(when) = text.strip_prefix('*') {
            return Tier::Answer { answer: AnswerIndex(0), when: condition(when) };
        }
        let weights: BTreeMap<&str, u32> = text
            .split_whitespace()
            .map(|model| model.split_once(':').map_or((model, 1), |(name, weight)| (name, weight.parse().unwrap())))
            .collect();
        let index =
            |name: &str| ModelIndex(self.0.models.iter().position(|model| *model.name == *name).unwrap() as u32);
        Tier::Models(weights.into_iter().map(|(name, weight)| (index(name), weight)).collect())
    }
}

/// A condition that names no flags; none for an empty text.
fn condition(text: &str) -> Option<Condition> {
    let text = text.trim();
    (!text.is_empty()).then(|| Condition::parse(text, &Scope::without_flags()).expect("a condition"))
}

/// A request.
#[derive(Clone, Debug)]
pub(crate) struct Asking {
    pub(crate) caller: &'static str,
    pub(crate) asked: String,
    pub(crate) metadata: Vec<(String, String)>,
    pub(crate) region: String,
    pub(crate) request_id: String,
}

/// A request by the caller `all`, from a node without a region.
pub(crate) fn asking(route: &str) -> Asking {
    Asking {
        caller: "all",
        asked: route.to_owned(),
        metadata: Vec::new(),
        region: String::new(),
        request_id: "request-1".to_owned(),
    }
}

impl Asking {
    pub(crate) fn by(mut self, caller: &'static str) -> Self {
        self.caller = caller;
        self
    }

    pub(crate) fn with(mut self, key: &str, value: &str) -> Self {
        self.metadata.push((key.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn from(mut self, region: &str) -> Self {
        region.clone_into(&mut self.region);
        self
    }

    pub(crate) fn id(mut self, id: &str) -> Self {
        id.clone_into(&mut self.request_id);
        self
    }

    pub(crate) fn facts<'a>(&'a self, snapshot: &'a Snapshot) -> Facts<'a> {
        Facts {
            caller: snapshot.caller(self.caller).expect("a caller"),
            asked: &self.asked,
            metadata: &self.metadata,
            region: &self.region,
            request_id: &self.request_id,
            request: RequestFacts::default(),
        }
    }
}
