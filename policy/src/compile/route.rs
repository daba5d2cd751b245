//! Routes.

use std::{collections::BTreeMap, time::Duration};

use hashbrown::HashSet;
use switchtower_proto::policy::v1::{self, OnBrokenStream as Broken, Upstream};

use super::{
    Compiler, RouteNames,
    limits::{MAX_DESCRIPTION, MAX_LONG, MAX_NAME},
    requirements::Keep,
    tier::Tiers,
};
use crate::{
    snapshot::{ModelIndex, OnBrokenStream, Route, RouteIndex, Rule, Sticky, Tier, Timeouts},
    violation::quoted,
};

const SHORTEST: Duration = Duration::from_millis(1);
const LONGEST: Duration = Duration::from_secs(3600);

impl<'p> Compiler<'p> {
    /// The routes in the order of their names, `None` if one of them is wrong, and every name and alias.
    pub(super) fn routes(&mut self) -> (Option<Vec<Route>>, RouteNames) {
        self.requirements();
        let policy = self.policy;
        let mut names = RouteNames::with_capacity(policy.routes.len());
        for (index, name) in policy.routes.keys().enumerate() {
            names.insert(name.as_str().into(), RouteIndex(index as u32));
        }
        let mut routes = Vec::with_capacity(policy.routes.len());
        for (index, (name, route)) in policy.routes.iter().enumerate() {
            let path = format!("routes.{name}");
            self.name(&path, name);
            self.aliases(&path, RouteIndex(index as u32), route, &mut names);
            routes.push(self.route(&path, name, route));
        }
        self.guardrails_over_regions();
        (routes.into_iter().collect(), names)
    }

    fn aliases(&mut self, path: &str, index: RouteIndex, route: &v1::Route, names: &mut RouteNames) {
        self.at_most(&format!("{path}.aliases"), route.aliases.len(), MAX_LONG);
        for (place, alias) in route.aliases.iter().enumerate() {
            let path = format!("{path}.aliases[{place}]");
            self.alias(&path, alias);
            let Some(other) = names.get(alias.as_str()).copied() else {
                names.insert(alias.as_str().into(), index);
                continue;
            };
            let owner = self.route_list[other.0 as usize];
            let what = if owner == alias { "the name" } else { "an alias" };
            let message = format!("{} is {what} of the route {} already: keep one", quoted(alias), quoted(owner));
            self.error("alias_collision", path, message);
        }
    }

    fn route(&mut self, path: &str, name: &str, route: &'p v1::Route) -> Option<Route> {
        let keep = self.keep(path, route);
        let mut models = BTreeMap::new();
        let within = Tiers { keep: &keep, own: None, models: &mut models };
        let tiers = self.tiers(&format!("{path}.tiers"), &route.tiers, within);
        let rules = self.rules(path, route, &keep, &tiers, &mut models);
        if let Some(guardrail) = &keep.guardrail {
            self.guardrail_used(guardrail, models.keys().copied());
        }
        let max_output_tokens = self.output_tokens(path, route, &models);
        let timeouts = self.timeouts(&format!("{path}.timeouts"), route.timeouts.as_ref());
        let sticky = self.sticky(&format!("{path}.sticky"), &route.sticky);
        let on_broken_stream = match Broken::try_from(route.on_broken_stream) {
            Ok(Broken::Unspecified | Broken::Error) => OnBrokenStream::Error,
            Ok(Broken::Partial) => OnBrokenStream::Partial,
            Err(_) => {
                self.unknown_number(&format!("{path}.on_broken_stream"), route.on_broken_stream);
                OnBrokenStream::Error
            }
        };
        match Upstream::try_from(route.upstream) {
            Ok(Upstream::Stream) => self.not_executed(format!("{path}.upstream"), "`upstream: stream`"),
            Ok(Upstream::Unspecified | Upstream::Unary) => {}
            Err(_) => {
                self.unknown_number(&format!("{path}.upstream"), route.upstream);
            }
        }
        self.no_longer(&format!("{path}.description"), &route.description, MAX_DESCRIPTION);
        if route.min_context == Some(0) {
            self.error("out_of_range", format!("{path}.min_context"), "this must be 1 or more");
        }
        Some(Route {
            name: name.into(),
            aliases: route.aliases.iter().map(|alias| alias.as_str().into()).collect(),
            tiers,
            rules: rules?,
            sticky: sticky?,
            timeouts,
            max_output_tokens,
            on_broken_stream,
            guardrail: keep.guardrail,
            residency: keep.residency.map(Into::into),
        })
    }

    fn rules(
        &mut self,
        path: &str,
        route: &'p v1::Route,
        keep: &Keep<'p>,
        own: &[Tier],
        models: &mut BTreeMap<ModelIndex, String>,
    ) -> Option<Vec<Rule>> {
        let path = format!("{path}.rules");
        self.at_most(&path, route.rules.len(), MAX_LONG);
        let mut names: HashSet<String> = HashSet::new();
        let mut rules = Vec::with_capacity(route.rules.len().min(MAX_LONG));
        for (index, rule) in route.rules.iter().take(MAX_LONG).enumerate() {
            let path = format!("{path}[{index}]");
            let name = if rule.name.is_empty() { format!("rule {}", index + 1) } else { rule.name.clone() };
            if name.chars().count() > MAX_NAME || name.chars().any(char::is_control) {
                let message = format!("a rule's name is at most {MAX_NAME} characters on one line");
                self.error("bad_name", format!("{path}.name"), message);
            } else if names.contains(&name) {
                let message = format!("another rule of this route is called {}", quoted(&name));
                self.error("duplicate", format!("{path}.name"), message);
            }
            let when_path = format!("{path}.when");
            let when = if rule.when.trim().is_empty() {
                self.error("required", when_path, "the condition that selects requests is required");
                None
            } else {
                self.condition(&when_path, &rule.when)
            };
            let within = Tiers { keep, own: Some(own), models: &mut *models };
            let tiers = self.tiers(&format!("{path}.tiers"), &rule.tiers, within);
            rules.push(when.map(|when| Rule { name: name.as_str().into(), when, tiers }));
            names.insert(name);
        }
        rules.into_iter().collect()
    }

    fn sticky(&mut self, path: &str, sticky: &str) -> Option<Sticky> {
        match sticky {
            "" => return Some(Sticky::TargetingKey),
            "caller" => return Some(Sticky::Caller),
            _ => {}
        }
        let key = sticky.strip_prefix("metadata.").filter(|key| !key.is_empty() && key.chars().count() <= MAX_NAME);
        if key.is_none() {
            let message = format!("{} is neither `caller` nor `metadata.KEY`", quoted(sticky));
            self.error("bad_sticky", path, message);
        }
        key.map(|key| Sticky::Metadata(key.into()))
    }

    fn timeouts(&mut self, path: &str, timeouts: Option<&v1::Timeouts>) -> Timeouts {
        let defaults = Timeouts::default();
        let Some(timeouts) = timeouts else { return defaults };
        let connect = self.timeout(&format!("{path}.connect"), timeouts.connect.as_ref());
        let first_token = self.timeout(&format!("{path}.first_token"), timeouts.first_token.as_ref());
        let idle = self.timeout(&format!("{path}.idle"), timeouts.idle.as_ref());
        let said_total = self.timeout(&format!("{path}.total"), timeouts.total.as_ref());
        let total = said_total.unwrap_or(defaults.total);
        for (name, timeout) in [("connect", connect), ("first_token", first_token), ("idle", idle)] {
            if let Some(timeout) = timeout.filter(|timeout| *timeout > total) {
                let default = if said_total.is_none() { " (the default)" } else { "" };
                let message = format!("{timeout:?} is longer than `total`, {total:?}{default}: it could never run out");
                self.error("timeout_conflict", format!("{path}.{name}"), message);
            }
        }
        Timeouts {
            connect,
            first_token: first_token.unwrap_or(defaults.first_token.min(total)),
            idle: idle.unwrap_or(defaults.idle.min(total)),
            total,
        }
    }

    fn timeout(&mut self, path: &str, timeout: Option<&prost_types::Duration>) -> Option<Duration> {
        let timeout = timeout?;
        let seconds = u64::try_from(timeout.seconds).ok().filter(|seconds| *seconds <= LONGEST.as_secs());
        let nanos = u32::try_from(timeout.nanos).ok().filter(|nanos| *nanos < 1_000_000_000);
        let length = seconds.zip(nanos).map(|(seconds, nanos)| Duration::new(seconds, nanos));
        let length = length.filter(|length| (SHORTEST..=LONGEST).contains(length));
        if length.is_none() {
            self.error("out_of_range", path, "a timeout is 1 ms to 1 h");
        }
        length
    }
}
