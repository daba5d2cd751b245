//! What the control plane tells of itself: metrics, and the spans of what operators do.
//!
//! The fleet is counted when somebody asks, from what is observed then: gauges that every answer of a node moved would
//! cost more than they say.

use std::{
    sync::atomic::AtomicU64,
    time::{Duration, SystemTime},
};

use opentelemetry::{
    KeyValue, SpanId,
    trace::{SpanKind, Status},
};
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
        info::Info,
    },
    registry::{Registry, Unit},
};
use switchtower_proto::control::v1::{Node, Summary};
use switchtower_telemetry::{
    export::{Exporter, Span},
    trace::TraceContext,
};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Act {
    act: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Environment {
    environment: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Nodes {
    environment: String,
    region: String,
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Serving {
    environment: String,
    revision: u64,
}

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// Where it is told.
#[derive(Debug)]
pub struct Telemetry {
    registry: Registry,
    acts: Family<Act, Counter>,
    act_duration: Histograms<Act>,
    convergence: Histograms<Environment>,
    nodes: Family<Nodes, Gauge>,
    serving: Family<Serving, Gauge>,
    assignment: Family<Environment, Gauge>,
    oldest_stream: Family<Environment, Gauge<f64, AtomicU64>>,
    longest_lag: Family<Environment, Gauge<f64, AtomicU64>>,
    streams: Gauge,
    encoded: Gauge,
    exporter: Option<Exporter>,
}

/// 1 ms to 65 s: from a node beside the control plane to a fleet that comes back.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 17))
}

/// What an operator does, from its call to its answer.
#[derive(Debug)]
pub struct Doing {
    /// Where it stands in the operator's trace; what it leads to is a part of [`Doing::traceparent`].
    trace: TraceContext,
    act: &'static str,
    began: SystemTime,
}

impl Doing {
    /// It begins: `act` is its name, of which there are few, `traceparent` the operator's W3C trace context; empty: none.
    #[must_use]
    pub fn begins(act: &'static str, traceparent: &str, now: SystemTime) -> Self {
        Doing { trace: TraceContext::of_parent(traceparent), act, began: now }
    }

    /// What tells others of this act's own span, such as the nodes that serve what it made.
    #[must_use]
    pub fn traceparent(&self) -> String {
        let sampled = self.trace.parent.is_none_or(|parent| parent.sampled);
        self.trace.traceparent(self.trace.span, sampled).to_str().unwrap_or_default().to_owned()
    }
}

impl Telemetry {
    /// Metrics always, spans where an exporter is given.
    #[must_use]
    pub fn new(exporter: Option<Exporter>) -> Self {
        let mut registry = Registry::default();
        let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("switchtower_build", "Version of this program", build);
        let telemetry = Telemetry {
            acts: Family::default(),
            act_duration: Family::new_with_constructor(seconds),
            convergence: Family::new_with_constructor(seconds),
            nodes: Family::default(),
            serving: Family::default(),
            assignment: Family::default(),
            oldest_stream: Family::default(),
            longest_lag: Family::default(),
            streams: Gauge::default(),
            encoded: Gauge::default(),
            registry: Registry::default(),
            exporter,
        };
        registry.register("switchtower_control_acts", "What operators did", telemetry.acts.clone());
        registry.register_with_unit(
            "switchtower_control_act_duration",
            "From an operator's call to its answer",
            Unit::Seconds,
            telemetry.act_duration.clone(),
        );
        registry.register_with_unit(
            "switchtower_fleet_convergence",
            "From an assignment, or the beginning of the node's stream, to its answer that it serves it",
            Unit::Seconds,
            telemetry.convergence.clone(),
        );
        registry.register("switchtower_fleet_nodes", "Nodes by what is known of them", telemetry.nodes.clone());
        registry.register(
            "switchtower_fleet_revision_nodes",
            "Connected nodes by the revision that they serve; 0: none",
            telemetry.serving.clone(),
        );
        registry.register(
            "switchtower_fleet_assignment",
            "Number of the assignment that nodes should follow",
            telemetry.assignment.clone(),
        );
        registry.register_with_unit(
            "switchtower_sync_oldest_stream",
            "How long the oldest stream has been open",
            Unit::Seconds,
            telemetry.oldest_stream.clone(),
        );
        registry.register_with_unit(
            "switchtower_fleet_longest_lag",
            "How long a connected node has not served what it should, the longest",
            Unit::Seconds,
            telemetry.longest_lag.clone(),
        );
        registry.register("switchtower_sync_streams", "Open streams of nodes", telemetry.streams.clone());
        registry.register(
            "switchtower_sync_encoded_updates",
            "Updates that were encoded since the start, one for all nodes that lacked the same",
            telemetry.encoded.clone(),
        );
        Telemetry { registry, ..telemetry }
    }

    /// A node came to serve an assignment, so long after it was made.
    pub fn acked(&self, environment: &str, after: Duration) {
        let label = Environment { environment: environment.to_owned() };
        self.convergence.get_or_create(&label).observe(after.as_secs_f64());
    }

    /// An operator's act on an environment ended, with this answer or refusal.
    pub fn done<T>(&self, doing: &Doing, environment: &str, answer: &Result<T, tonic::Status>, now: SystemTime) {
        let failure = answer.as_ref().err().map(tonic::Status::code);
        let about = vec![KeyValue::new("switchtower.environment", environment.to_owned())];
        let outcome = failure.map_or("ok", outcome);
        let label = Act { act: doing.act, outcome };
        self.acts.get_or_create(&label).inc();
        let took = now.duration_since(doing.began).unwrap_or_default();
        self.act_duration.get_or_create(&label).observe(took.as_secs_f64());
        let Some(exporter) = &self.exporter else { return };
        if failure.is_none() && !exporter.sampler.samples(&doing.trace) {
            return;
        }
        let (parent, parent_is_remote) = doing.trace.parent.map_or((SpanId::INVALID, false), |it| (it.span, true));
        exporter.export(
            &doing.trace,
            Span {
                id: doing.trace.span,
                parent,
                parent_is_remote,
                kind: SpanKind::Server,
                name: doing.act.into(),
                start: doing.began,
                end: now,
                attributes: about,
                status: if failure.is_some() { Status::error(outcome) } else { Status::Unset },
            },
        );
    }

    /// The fleet as it is now, an entry per environment; streams that are open, updates that were encoded.
    pub fn count(&self, fleet: &[(Summary, Vec<Node>)], streams: usize, encoded: u64, now: SystemTime) {
        self.nodes.clear();
        self.serving.clear();
        self.assignment.clear();
        self.oldest_stream.clear();
        self.longest_lag.clear();
        self.streams.set(i64::try_from(streams).unwrap_or(i64::MAX));
        self.encoded.set(i64::try_from(encoded).unwrap_or(i64::MAX));
        for (summary, nodes) in fleet {
            self.count_one(summary, nodes, now);
        }
    }

    fn count_one(&self, summary: &Summary, nodes: &[Node], now: SystemTime) {
        let count = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let label = Environment { environment: summary.environment.clone() };
        self.assignment.get_or_create(&label).set(count(summary.assignment));
        for region in &summary.regions {
            let waiting = region.connected.saturating_sub(region.serving + region.refused);
            for (state, number) in [
                ("serving", region.serving),
                ("refused", region.refused),
                ("waiting", waiting),
                ("unknown", region.unknown),
            ] {
                let environment = summary.environment.clone();
                let label = Nodes { environment, region: region.region.clone(), state };
                self.nodes.get_or_create(&label).set(count(number));
            }
        }
        for revision in &summary.revisions {
            let label = Serving { environment: summary.environment.clone(), revision: revision.revision };
            self.serving.get_or_create(&label).set(count(revision.nodes));
        }
        let connected = || nodes.iter().filter(|node| node.connection == CONNECTED);
        self.oldest_stream.get_or_create(&label).set(longest(connected().filter_map(|node| node.since), now));
        self.longest_lag.get_or_create(&label).set(longest(connected().filter_map(|node| node.lagging_since), now));
    }

    /// All metrics in the OpenMetrics text format.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("writing to a string does not fail");
        text
    }

    /// Sends what is still queued; for the end of the process. Blocks for at most some seconds.
    pub fn flush(&self) {
        if let Some(exporter) = &self.exporter {
            exporter.flush();
        }
    }
}

const CONNECTED: i32 = switchtower_proto::control::v1::Connection::Connected as i32;

/// Seconds since the earliest of these moments; 0: there is none.
fn longest(since: impl Iterator<Item = prost_types::Timestamp>, now: SystemTime) -> f64 {
    let since = since.filter_map(|at| SystemTime::try_from(at).ok()).min();
    since.map_or(0.0, |since| now.duration_since(since).unwrap_or_default().as_secs_f64())
}

/// A refusal's code, in the conventions' words.
fn outcome(code: tonic::Code) -> &'static str {
    match code {
        tonic::Code::InvalidArgument => "invalid_argument",
        tonic::Code::Aborted => "aborted",
        tonic::Code::FailedPrecondition => "failed_precondition",
        tonic::Code::NotFound => "not_found",
        tonic::Code::ResourceExhausted => "resource_exhausted",
        tonic::Code::Unavailable => "unavailable",
        _ => "internal",
    }
}
