//! Where records go: metrics, spans and a readable line. All three are made from the record at its end, so that a
//! request pays for a span only if the span is kept, and an error's spans are kept whatever the sampler says.
//!
//! Nothing here has a field that could hold a prompt, an answer, a key or an upstream's own words.

pub mod log;
pub mod metrics;
pub mod names;
pub mod spans;

use std::{sync::Arc, time::SystemTime};

use tokio::time::Instant;

use crate::{
    call::Face,
    record::{Facts, Outcome},
    sync::Served,
    trace::TraceContext,
};

/// Where records go.
#[derive(Debug)]
pub struct Telemetry {
    /// The metrics, for `/metrics`.
    pub metrics: metrics::Metrics,
    spans: Option<spans::Spans>,
    empty: Arc<str>,
}

impl Telemetry {
    /// Metrics always, spans where an exporter is given.
    #[must_use]
    pub fn new(names: names::Generation, spans: Option<spans::Spans>) -> Self {
        Telemetry { metrics: metrics::Metrics::new(names), spans, empty: "".into() }
    }

    /// Whether the spans of a trace are kept whatever comes of the request.
    #[must_use]
    pub fn samples(&self, trace: &TraceContext) -> bool {
        self.spans.as_ref().is_some_and(|spans| spans.exporter.sampler.samples(trace))
    }

    /// The empty name, shared.
    #[must_use]
    pub fn empty(&self) -> Arc<str> {
        self.empty.clone()
    }

    /// A request came in.
    pub fn began(&self, face: Face) {
        self.metrics.began(face);
    }

    /// A request ended.
    pub fn ended(&self, facts: &Facts, outcome: &Outcome, now: Instant) {
        self.metrics.ended(facts, outcome, now);
        log::ended(facts, outcome, now);
        if let Some(spans) = &self.spans
            && (facts.sampled || outcome.is_error())
        {
            spans.export(facts, outcome, now);
        }
    }

    /// A policy was taken into service; `began`: when the update had come. Only a trace that goes on from whoever applied it
    /// leads somewhere.
    pub fn swapped(&self, trace: &TraceContext, began: SystemTime, ended: SystemTime, served: &Served) {
        let goes_on = trace.parent.is_some() && self.samples(trace);
        if let Some(spans) = self.spans.as_ref().filter(|_| goes_on) {
            spans.swapped(trace, began, ended, served);
        }
    }

    /// Sends what is still queued; for the end of the process. Blocks for at most some seconds.
    pub fn flush(&self) {
        if let Some(spans) = &self.spans {
            spans.exporter.flush();
        }
    }
}
