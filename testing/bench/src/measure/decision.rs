//! What a decision costs: route, flag and plan, in this process, for requests as a face hands them over.
//!
//! The requests are as many and as various for a large policy as for a small one, so the difference is what the number
//! of routes costs, not what more requests than a cache holds cost.

use std::{hint::black_box, time::Instant};

use anyhow::Context;
use switchtower_policy::{Facts, File, RequestFacts, Snapshot, flag::Type, load, plan::HealthView};

use super::{Effort, spread};
use crate::{
    policy::{self, CALLER, CONDITIONS, REGION},
    report::{Goal, Row, Unit},
    scene::Scene,
    statistics::slope,
};

/// Different requests of each kind.
const REQUESTS: usize = 256;
/// Routes of the two policies that are compared.
const SMALL: usize = 1000;
const LARGE: usize = 10_000;
/// Runs: more than of what takes seconds.
const RUNS: usize = 9;

struct Request {
    route: String,
    flag: String,
    id: String,
    metadata: Vec<(String, String)>,
}

pub(crate) fn measure(effort: &Effort) -> anyhow::Result<Vec<Row>> {
    rows(SMALL, LARGE, effort.decisions)
}

fn rows(small: usize, large: usize, decisions: usize) -> anyhow::Result<Vec<Row>> {
    let snapshots = [compiled(small)?, compiled(large)?];
    let requests = [small, large].map(|routes| CONDITIONS.map(|conditions| requests(routes, conditions)));
    // For each policy and each number of conditions, nanoseconds per decision in each run.
    let mut runs: [[Vec<f64>; CONDITIONS.len()]; 2] = Default::default();
    for run in 0..=RUNS {
        for (policy, snapshot) in snapshots.iter().enumerate() {
            for (kind, requests) in requests[policy].iter().enumerate() {
                let took = time(snapshot, requests, decisions)?;
                // The first run fills caches and is not counted.
                if run > 0 {
                    runs[policy][kind].push(took);
                }
            }
        }
    }
    let [few, many] = &runs;
    let per_condition: Vec<f64> =
        (0..RUNS).filter_map(|run| slope(&[0, 1, 2].map(|kind| (CONDITIONS[kind] as f64, few[kind][run])))).collect();
    let what =
        |routes: usize, conditions: &str| format!("decision, {routes} routes, {} flags, {conditions}", policy::FLAGS);
    let row = |what: String, goal: Goal, runs: &[f64]| Ok(Row::new(what, goal, spread(runs)?, Unit::Nanoseconds));
    let mut rows: Vec<anyhow::Result<Row>> = vec![
        row(what(small, "no condition"), Goal::AtMost(2000.0), &few[0]),
        row(what(small, "each condition evaluated"), Goal::AtMost(1000.0), &per_condition),
    ];
    for (kind, conditions) in CONDITIONS.iter().enumerate() {
        let words = match conditions {
            0 => "no condition".to_owned(),
            1 => "1 condition".to_owned(),
            more => format!("{more} conditions"),
        };
        let beside = spread(&few[kind])?;
        rows.push(
            row(what(large, &words), Goal::Times(1.2), &many[kind]).map(|row| row.beside("fewer routes", beside)),
        );
    }
    rows.into_iter().collect()
}

fn compiled(routes: usize) -> anyhow::Result<Snapshot> {
    let file = File { name: "bench.yaml".to_owned(), bytes: policy::with_routes(routes).into_bytes() };
    match load(&[file]) {
        Ok(compiled) => Ok(compiled.snapshot),
        Err(violations) => anyhow::bail!("the policy does not compile: {:?}", violations.first()),
    }
}

/// Requests for routes all over the policy, each of which evaluates so many conditions.
fn requests(routes: usize, conditions: usize) -> Vec<Request> {
    let numbered = routes - Scene::ALL.len();
    let fitting: Vec<usize> = (0..numbered).filter(|route| policy::conditions(*route) == conditions).collect();
    (0..REQUESTS)
        .map(|number| Request {
            route: format!("r{}", fitting[number * fitting.len() / REQUESTS]),
            flag: format!("f{}", 1 + number % (policy::FLAGS - 1)),
            id: format!("{:032x}", number * 0x9e37_79b9),
            metadata: [("session", format!("s-{number}")), ("tier", "gold".to_owned())]
                .map(|(key, value)| (key.to_owned(), value))
                .to_vec(),
        })
        .collect()
}

/// Nanoseconds per decision.
fn time(snapshot: &Snapshot, requests: &[Request], decisions: usize) -> anyhow::Result<f64> {
    let caller = snapshot.caller(CALLER).context("the policy has no caller")?;
    let health = HealthView::default();
    let begun = Instant::now();
    for request in requests.iter().cycle().take(decisions) {
        let facts = Facts {
            caller,
            asked: &request.route,
            metadata: &request.metadata,
            region: REGION,
            request_id: &request.id,
            request: RequestFacts { stream: true, max_tokens: Some(512), tools: false, body_bytes: 1200 },
        };
        let resolved = snapshot.resolve(black_box(&facts)).ok().context("a route is not open")?;
        let flag = snapshot.evaluate_flag(&request.flag, Type::Bool, &facts);
        black_box(flag.ok().context("a flag is not there")?);
        black_box(snapshot.plan(resolved, &facts, &health, 0));
    }
    Ok(begun.elapsed().as_secs_f64() * 1e9 / decisions as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_run_gives_every_row() {
        let rows = rows(20, 40, 300).unwrap();
        assert_eq!(rows.len(), 2 + CONDITIONS.len());
    }

    #[test]
    fn every_request_is_for_a_route_with_as_many_conditions_none_of_which_holds() {
        let snapshot = compiled(50).unwrap();
        for conditions in CONDITIONS {
            for request in requests(50, conditions) {
                let route = snapshot.route_named(&request.route).unwrap();
                assert_eq!(route.rules.len(), conditions, "{}", request.route);
                let facts = Facts {
                    caller: snapshot.caller(CALLER).unwrap(),
                    asked: &request.route,
                    metadata: &request.metadata,
                    region: REGION,
                    request_id: &request.id,
                    request: RequestFacts::default(),
                };
                let resolved = snapshot.resolve(&facts).unwrap();
                assert_eq!(resolved.rule, None);
                assert!(!snapshot.plan(resolved, &facts, &HealthView::default(), 0).steps.is_empty());
            }
        }
    }
}
