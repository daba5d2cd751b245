//! Callers, and the routes they may use.

use hashbrown::{HashMap, HashSet};
use switchtower_proto::policy::v1;

use super::{
    Compiler, RouteNames,
    limits::{MAX_NAME, MAX_NAMED},
};
use crate::{
    snapshot::{Allowed, Caller, RouteIndex},
    violation::quoted,
};

impl Compiler<'_> {
    pub(super) fn callers(&mut self, names: &RouteNames) -> HashMap<Box<str>, Caller> {
        let mut callers = HashMap::with_capacity(self.policy.callers.len());
        for (name, caller) in &self.policy.callers {
            let path = format!("callers.{name}");
            self.name(&path, name);
            if caller.tenant.chars().count() > MAX_NAME || caller.tenant.chars().any(char::is_control) {
                let message = format!("a tenant's name is at most {MAX_NAME} characters on one line");
                self.error("bad_name", format!("{path}.tenant"), message);
            }
            let routes = self.allowed(&format!("{path}.routes"), &caller.routes, names);
            if let Some(limits) = &caller.limits {
                self.limits(&format!("{path}.limits"), limits);
            }
            let tenant = if caller.tenant.is_empty() { name } else { &caller.tenant };
            let compiled = Caller { name: name.as_str().into(), tenant: tenant.as_str().into(), routes };
            callers.insert(name.as_str().into(), compiled);
        }
        self.unused(&callers);
        callers
    }

    fn allowed(&mut self, path: &str, routes: &[String], names: &RouteNames) -> Allowed {
        if routes == ["*"] {
            return Allowed::All;
        }
        let mut allowed = HashSet::with_capacity(routes.len());
        if !self.some_of(path, "a list of the routes it may use, or `*` alone for all,", routes.len(), MAX_NAMED) {
            return Allowed::Only(allowed);
        }
        for (index, name) in routes.iter().enumerate() {
            let path = format!("{path}[{index}]");
            let route = names.get(name.as_str()).copied();
            match route {
                _ if name == "*" => {
                    self.error("conflict", &path, "`*` means every route: let it stand alone, or leave it out");
                }
                Some(route) if self.policy.routes.contains_key(name) => {
                    if !allowed.insert(route) {
                        self.error("duplicate", &path, format!("{} stands twice: keep one", quoted(name)));
                    }
                }
                Some(route) => {
                    let owner = self.route_list[route.0 as usize].to_owned();
                    let message = format!("{} is an alias: name the route itself", quoted(name));
                    let violation = crate::Violation::error("unknown_route", &path, message);
                    self.violations.push(violation.suggest(Some(owner)));
                }
                None => {
                    let known = self.policy.routes.keys().map(String::as_str);
                    self.unknown("unknown_route", &path, format!("no route is called {}", quoted(name)), name, known);
                }
            }
        }
        Allowed::Only(allowed)
    }

    fn limits(&mut self, path: &str, limits: &v1::Limits) {
        let zero =
            [("requests_per_minute", limits.requests_per_minute), ("tokens_per_minute", limits.tokens_per_minute)];
        for (field, value) in zero {
            if value == Some(0) {
                self.error("out_of_range", format!("{path}.{field}"), "this must be 1 or more");
            }
        }
        if limits.dollars_per_day.is_some_and(|dollars| !dollars.is_finite() || dollars <= 0.0) {
            self.error("out_of_range", format!("{path}.dollars_per_day"), "this must be above 0");
        }
        self.not_executed(path, "a caller's limits");
    }

    fn unused(&mut self, callers: &HashMap<Box<str>, Caller>) {
        if self.policy.routes.is_empty() {
            return;
        }
        if callers.is_empty() {
            self.warn("no_callers", "callers", "there are no callers: nobody may use any route");
            return;
        }
        if callers.values().any(|caller| matches!(caller.routes, Allowed::All)) {
            return;
        }
        let mut used: HashSet<RouteIndex> = HashSet::new();
        for caller in callers.values() {
            if let Allowed::Only(routes) = &caller.routes {
                used.extend(routes);
            }
        }
        for (index, name) in self.policy.routes.keys().enumerate() {
            if !used.contains(&RouteIndex(index as u32)) {
                self.warn("unused_route", format!("routes.{name}"), "no caller may use this route");
            }
        }
    }
}
