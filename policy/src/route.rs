//! Request facts -> route and rule.
//!
//! A route that the caller may not use looks exactly like one that does not exist, suggestions included: otherwise the
//! names of other tenants' routes could be found out by asking.

use crate::{
    Facts, Snapshot, condition,
    snapshot::{Allowed, Route, RouteIndex, Tier},
};

/// Which route, and which of its rules, a request falls under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The route.
    pub route: RouteIndex,
    /// The rule that matched, by its place in the route; `None`: the route's own tiers.
    pub rule: Option<u16>,
}

/// No route of this name is open to this caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownRoute {
    /// The nearest names among the caller's routes and their aliases, at most 3 and one per route, nearest first.
    pub nearest: Vec<String>,
}

/// How many suggestions are made.
const SUGGESTIONS: usize = 3;

/// How many names a refusal is compared with. A comparison takes about a microsecond, so this bounds what a caller can
/// make a node do by asking for nonsense to a few milliseconds; suggestions are a courtesy, and larger policies have
/// fewer of them.
const COMPARISONS: usize = 2_000;

/// The longest name, in bytes, that is compared. Names of routes have at most 128.
const LONGEST: usize = 256;

impl Snapshot {
    /// The route that a request falls under, by name or alias, and its first rule whose condition holds.
    ///
    /// One look-up, however many routes there are, and no allocation.
    ///
    /// # Errors
    /// Unknown, or not open to this caller: the same.
    pub fn resolve(&self, facts: &Facts<'_>) -> Result<Resolved, UnknownRoute> {
        self.resolve_telling(facts, |_, _| ())
    }

    /// The tiers that hold.
    #[must_use]
    pub fn tiers(&self, resolved: Resolved) -> &[Tier] {
        let route = self.route(resolved.route);
        match resolved.rule {
            Some(rule) => &route.rules[usize::from(rule)].tiers,
            None => &route.tiers,
        }
    }

    /// As `resolve`, telling which rules did not hold, in order, and the error that their conditions ended in.
    pub(crate) fn resolve_telling<'a>(
        &'a self,
        facts: &'a Facts<'_>,
        mut passed_over: impl FnMut(u16, Option<condition::Reason<'a>>),
    ) -> Result<Resolved, UnknownRoute> {
        let allowed = &facts.caller.routes;
        let Some(route) = self.route_names.get(facts.asked).copied().filter(|route| allowed.contains(*route)) else {
            return Err(self.unknown(facts));
        };
        for (number, rule) in (0..).zip(&self.route(route).rules) {
            match rule.when.evaluate(facts, self) {
                Ok(true) => return Ok(Resolved { route, rule: Some(number) }),
                Ok(false) => passed_over(number, None),
                Err(reason) => passed_over(number, Some(reason)),
            }
        }
        Ok(Resolved { route, rule: None })
    }

    #[cold]
    fn unknown(&self, facts: &Facts<'_>) -> UnknownRoute {
        let nearest = match &facts.caller.routes {
            Allowed::All => nearest(facts.asked, self.routes().iter()),
            Allowed::Only(routes) => {
                let mut routes: Vec<_> = routes.iter().copied().collect();
                routes.sort_unstable();
                nearest(facts.asked, routes.into_iter().map(|route| self.route(route)))
            }
        };
        UnknownRoute { nearest }
    }
}

fn nearest<'a>(asked: &str, routes: impl Iterator<Item = &'a Route>) -> Vec<String> {
    if asked.is_empty() || asked.len() > LONGEST {
        return Vec::new();
    }
    let mut comparisons = COMPARISONS;
    let mut found: Vec<(usize, &str)> = routes
        .filter_map(|route| {
            let names = std::iter::once(&*route.name).chain(route.aliases.iter().map(|alias| &**alias));
            names.filter_map(|name| Some((distance(asked, name, &mut comparisons)?, name))).min()
        })
        .collect();
    found.sort_unstable();
    found.truncate(SUGGESTIONS);
    found.into_iter().map(|(_, name)| name.to_owned()).collect()
}

/// How many letters were mistyped, if so few that the name may have been meant: a third of them. Letter case counts for
/// nothing, and a beginning of a name (`support` for `support-chat`) for one.
fn distance(asked: &str, name: &str, comparisons: &mut usize) -> Option<usize> {
    if asked.eq_ignore_ascii_case(name) {
        return Some(0);
    }
    if asked.len() >= 3 && name.starts_with(asked) {
        return Some(1);
    }
    let most = (asked.len() / 3).max(1);
    if name.len().abs_diff(asked.len()) > most || name.len() > LONGEST || *comparisons == 0 {
        return None;
    }
    *comparisons -= 1;
    let distance = strsim::osa_distance(asked, name);
    (distance <= most).then_some(distance)
}

#[cfg(test)]
mod tests;
