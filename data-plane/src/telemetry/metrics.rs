//! Metrics of the node, as Prometheus text.

pub mod sync;

use std::{
    fmt::{self, Write},
    sync::Arc,
    time::Duration,
};

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder, text::encode},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
        info::Info,
    },
    registry::{Registry, Unit},
};
use tokio::time::Instant;

use super::names::Generation;
use crate::{
    call::Face,
    record::{Facts, Outcome, Tried},
};

/// A name that many label sets share.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Name(Arc<str>);

impl EncodeLabelValue for Name {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        encoder.write_str(&self.0)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FaceLabel {
    face: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    face: &'static str,
    route: Name,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabel {
    route: Name,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AttemptLabels {
    target: Name,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TokenLabels {
    route: Name,
    target: Name,
    gen_ai_token_type: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TargetLabels {
    route: Name,
    target: Name,
}

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// Metrics of the node.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    in_flight: Family<FaceLabel, Gauge>,
    requests: Family<RequestLabels, Counter>,
    duration: Histograms<RouteLabel>,
    first_content: Histograms<RouteLabel>,
    attempts: Family<AttemptLabels, Counter>,
    attempt_duration: Histograms<AttemptLabels>,
    tokens: Histograms<TokenLabels>,
    dollars: Family<TargetLabels, Counter<f64, std::sync::atomic::AtomicU64>>,
    policy_reloads: Counter,
    policy_refused: Counter,
    policy_problems: Gauge,
    /// Those of the stream to the control plane.
    pub sync: sync::Sync,
}

/// 10 ms to 82 s, as the GenAI conventions advise, and below for what a gateway adds.
fn seconds() -> Histogram {
    Histogram::new([0.001, 0.0025, 0.005].into_iter().chain(exponential_buckets(0.01, 2.0, 14)))
}

/// 1 to 67 million, as the GenAI conventions advise.
fn token_counts() -> Histogram {
    Histogram::new(exponential_buckets(1.0, 4.0, 14))
}

impl Metrics {
    /// Metrics under these names, all zero.
    #[must_use]
    pub fn new(names: Generation) -> Self {
        let mut registry = Registry::default();
        let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("switchtower_build", "Version of this program", build);
        let metrics = Metrics {
            in_flight: Family::default(),
            requests: Family::default(),
            duration: Family::new_with_constructor(seconds),
            first_content: Family::new_with_constructor(seconds),
            attempts: Family::default(),
            attempt_duration: Family::new_with_constructor(seconds),
            tokens: Family::new_with_constructor(token_counts),
            dollars: Family::default(),
            policy_reloads: Counter::default(),
            policy_refused: Counter::default(),
            policy_problems: Gauge::default(),
            sync: sync::Sync::new(&mut registry),
            registry: Registry::default(),
        };
        registry.register("switchtower_requests_in_flight", "Requests being served", metrics.in_flight.clone());
        registry.register("switchtower_requests", "Requests by what came of them", metrics.requests.clone());
        registry.register_with_unit(
            "switchtower_request_duration",
            "Head of the request to the end of the reply",
            Unit::Seconds,
            metrics.duration.clone(),
        );
        registry.register_with_unit(
            "switchtower_time_to_first_content",
            "Head of the request to the first content of a stream",
            Unit::Seconds,
            metrics.first_content.clone(),
        );
        registry.register("switchtower_attempts", "Attempts at targets", metrics.attempts.clone());
        registry.register_with_unit(
            names.operation_duration,
            "Attempts: to the end of a unary answer, to the first content of a stream, to the failure, or until left",
            Unit::Seconds,
            metrics.attempt_duration.clone(),
        );
        registry.register(names.token_usage, "Tokens per request", metrics.tokens.clone());
        registry.register("switchtower_cost_dollars", "Cost by the catalogue, in US dollars", metrics.dollars.clone());
        registry.register("switchtower_policy_reloads", "Policies taken into service", metrics.policy_reloads.clone());
        registry.register("switchtower_policy_refusals", "Policies refused", metrics.policy_refused.clone());
        registry.register(
            "switchtower_policy_violations",
            "Violations of the policy files as they are now; 0 where they are being served",
            metrics.policy_problems.clone(),
        );
        Metrics { registry, ..metrics }
    }

    /// A request came in.
    pub fn began(&self, face: Face) {
        self.in_flight.get_or_create(&FaceLabel { face: face.as_str() }).inc();
    }

    /// A request ended.
    pub fn ended(&self, facts: &Facts, outcome: &Outcome, now: Instant) {
        let face = facts.face.as_str();
        let route = Name(facts.served.route.clone());
        self.in_flight.get_or_create(&FaceLabel { face }).dec();
        self.duration.get_or_create(&RouteLabel { route: route.clone() }).observe(seconds_since(facts.received, now));
        if let (true, Some(first)) = (facts.stream, facts.first_content) {
            let since = seconds_since(facts.received, first);
            self.first_content.get_or_create(&RouteLabel { route: route.clone() }).observe(since);
        }
        for (number, tried) in facts.served.attempts.iter().enumerate() {
            self.attempted(tried, if facts.was_left(number) { outcome.as_str() } else { tried.outcome() });
        }
        if let Some(target) = &facts.served.target {
            self.used(&route, &Name(target.clone()), facts, outcome);
        }
        self.requests.get_or_create(&RequestLabels { face, route, outcome: outcome.as_str() }).inc();
    }

    fn attempted(&self, tried: &Tried, outcome: &'static str) {
        let labels = AttemptLabels { target: Name(tried.target.clone()), outcome };
        self.attempts.get_or_create(&labels).inc();
        self.attempt_duration.get_or_create(&labels).observe(tried.duration.as_secs_f64());
    }

    fn used(&self, route: &Name, target: &Name, facts: &Facts, outcome: &Outcome) {
        if facts.cost.dollars > 0.0 {
            let labels = TargetLabels { route: route.clone(), target: target.clone() };
            self.dollars.get_or_create(&labels).inc_by(facts.cost.dollars);
        }
        let Outcome::Answered(ended) = outcome else { return };
        let Some(usage) = ended.usage else { return };
        for (kind, tokens) in [("input", usage.input), ("output", usage.output)] {
            let labels = TokenLabels { route: route.clone(), target: target.clone(), gen_ai_token_type: kind };
            #[expect(clippy::cast_precision_loss, reason = "token counts are far below 2^52")]
            self.tokens.get_or_create(&labels).observe(tokens as f64);
        }
    }

    /// A policy was taken into service.
    pub fn policy_served(&self) {
        self.policy_reloads.inc();
        self.policy_problems.set(0);
    }

    /// A policy was refused for so many violations.
    pub fn policy_refused(&self, violations: usize) {
        self.policy_refused.inc();
        self.policy_problems.set(i64::try_from(violations).unwrap_or(i64::MAX));
    }

    /// All metrics in Prometheus' text format.
    #[must_use]
    pub fn text(&self) -> String {
        self.sync.refresh();
        let mut text = String::new();
        // Writing to a string cannot fail; an empty page would say so to whoever scrapes it.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

fn seconds_since(start: Instant, end: Instant) -> f64 {
    end.checked_duration_since(start).unwrap_or(Duration::ZERO).as_secs_f64()
}
