//! One record per request, ended exactly once: what was asked, what was tried, what came of it, what it cost.
//!
//! A record that is dropped before it was ended was cancelled by its caller. Where records go (logs, metrics, spans) is
//! [`crate::telemetry`]'s business; no record holds a prompt, an answer, a key or an upstream's own words.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use opentelemetry::SpanId;
use switchtower_policy::{
    catalogue::Usage,
    failure::Class,
    snapshot::{Caller, Route, Snapshot, Target},
};
use switchtower_provider::{Failure, Operation, TraceHeaders};
use tokio::time::Instant;

use crate::{
    call::{Arrival, Face, Reason, Refusal, RequestId},
    telemetry::Telemetry,
    trace::{self, TraceContext, new_span},
};

/// What served a request, as it is told to the caller.
#[derive(Clone, Debug, PartialEq)]
pub struct Served {
    /// Id of the request.
    pub request_id: RequestId,
    /// Name of the route.
    pub route: Arc<str>,
    /// Name of the rule that matched; `None`: none did.
    pub rule: Option<Arc<str>>,
    /// Number of the tier that answered, from 1; 0: none did.
    pub tier: u16,
    /// Target that answered; `None`: none, or an `answer` tier.
    pub target: Option<Arc<str>>,
    /// Revision of the policy.
    pub revision: Arc<str>,
    /// Every attempt, in order.
    pub attempts: Vec<Tried>,
    /// An `answer` tier answered.
    pub degraded: bool,
}

/// One attempt, as it is told to the caller.
#[derive(Clone, Debug, PartialEq)]
pub struct Tried {
    /// Target that was tried.
    pub target: Arc<str>,
    /// Number of its tier, from 1.
    pub tier: u16,
    /// `None`: it answered.
    pub failure: Option<Class>,
    /// What the provider called the failure.
    pub code: Option<Box<str>>,
    /// To the end of a unary answer, to the first content of a stream, or to its failure.
    pub duration: Duration,
}

impl Tried {
    /// `ok`, or the word for the failure.
    #[must_use]
    pub fn outcome(&self) -> &'static str {
        self.failure.map_or("ok", Class::as_str)
    }
}

/// How a stream ended that did not break.
#[derive(Clone, Debug, PartialEq)]
pub struct Ended {
    /// Whether it is the whole answer of a model.
    pub completeness: Completeness,
    /// Bedrock's word for why the model stopped.
    pub stop_reason: Option<Box<str>>,
    /// Tokens used by the attempt that answered.
    pub usage: Option<Usage>,
    /// What all attempts cost in US dollars; `None`: the price is not known.
    pub cost: Option<f64>,
}

/// Whether an answer is the whole answer of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completeness {
    /// The model ended it.
    Complete,
    /// It broke, and the policy says to end it with what there is.
    Truncated,
    /// An `answer` tier, not a model.
    Degraded,
}

impl Completeness {
    /// The stable word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Completeness::Complete => "complete",
            Completeness::Truncated => "truncated",
            Completeness::Degraded => "degraded",
        }
    }
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It was answered.
    Answered(Ended),
    /// It got no answer, and why.
    Refused(Reason),
    /// Its stream broke after the first content, or its answer could not be told.
    Broken(Class, Option<Box<str>>),
    /// Its caller went away.
    Cancelled,
}

impl Outcome {
    /// The stable word for it, in metrics, logs and spans.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Outcome::Answered(ended) => ended.completeness.as_str(),
            Outcome::Refused(reason) => reason.as_str(),
            Outcome::Broken(..) => "broken",
            Outcome::Cancelled => "cancelled",
        }
    }

    /// Whether its spans are kept whatever the sampler says.
    #[must_use]
    pub fn is_error(&self) -> bool {
        matches!(self, Outcome::Refused(_) | Outcome::Broken(..))
    }
}

/// What is known of a request so far.
#[derive(Debug)]
pub struct Facts {
    /// Id of the request.
    pub id: RequestId,
    /// The way in.
    pub face: Face,
    /// The caller wants a stream.
    pub stream: bool,
    /// When its head was there, by the wall clock.
    pub received_at: SystemTime,
    /// When its head was there.
    pub received: Instant,
    /// Where it stands in a trace.
    pub trace: TraceContext,
    /// Whether its spans are kept whatever comes of it.
    pub sampled: bool,
    /// Name of the caller, once authenticated.
    pub caller: Option<Arc<str>>,
    /// Tenant of the caller.
    pub tenant: Option<Arc<str>>,
    /// Environment of the policy.
    pub environment: Option<Arc<str>>,
    /// What served it so far; its route is empty until one is found.
    pub served: Served,
    /// When and under which span each attempt was made, one for each in `served.attempts`.
    pub spans: Vec<AttemptSpan>,
    /// When the first content was there.
    pub first_content: Option<Instant>,
    /// Tokens and cost of the attempts, losers included.
    pub cost: Cost,
}

impl Facts {
    /// The place of the attempt that answers, or did: it is the last.
    #[must_use]
    pub fn answering(&self) -> Option<usize> {
        self.served.target.as_ref().and_then(|_| self.served.attempts.len().checked_sub(1))
    }

    /// Whether this attempt neither answered nor failed: the caller left it.
    #[must_use]
    pub fn was_left(&self, attempt: usize) -> bool {
        self.answering() != Some(attempt) && self.served.attempts.get(attempt).is_some_and(|it| it.failure.is_none())
    }

    /// An attempt that is left lasts until now.
    fn leave(&mut self, now: Instant) {
        let Some(last) = self.spans.len().checked_sub(1).filter(|last| self.was_left(*last)) else { return };
        self.served.attempts[last].duration = now.duration_since(self.spans[last].started);
    }
}

/// When and under which span an attempt was made.
#[derive(Clone, Copy, Debug)]
pub struct AttemptSpan {
    /// Its span.
    pub id: SpanId,
    /// When it began.
    pub started: Instant,
}

/// What attempts cost together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// US dollars of what is known.
    pub dollars: f64,
    /// Some attempt's cost is not known.
    pub unknown: bool,
}

impl Cost {
    fn total(self) -> Option<f64> {
        (!self.unknown).then_some(self.dollars)
    }
}

/// The record of one request.
#[derive(Debug)]
pub struct Record {
    facts: Option<Box<Facts>>,
    telemetry: Arc<Telemetry>,
}

impl Record {
    /// Begins the record of a request. From here on whatever becomes of it is told, be it that its body never comes.
    #[must_use]
    pub fn begin(arrival: Arrival, now: SystemTime, telemetry: &Arc<Telemetry>) -> Self {
        let sampled = telemetry.samples(&arrival.trace);
        telemetry.began(arrival.face);
        let served = Served {
            request_id: arrival.id.clone(),
            route: telemetry.empty(),
            rule: None,
            tier: 0,
            target: None,
            revision: telemetry.empty(),
            attempts: Vec::new(),
            degraded: false,
        };
        let facts = Facts {
            id: arrival.id,
            face: arrival.face,
            stream: arrival.operation == Operation::ConverseStream,
            received_at: now,
            received: arrival.received,
            trace: arrival.trace,
            sampled,
            caller: None,
            tenant: None,
            environment: None,
            served,
            spans: Vec::new(),
            first_content: None,
            cost: Cost::default(),
        };
        Record { facts: Some(Box::new(facts)), telemetry: telemetry.clone() }
    }

    fn facts(&mut self) -> &mut Facts {
        self.facts.as_mut().expect("a record is used only until it is ended")
    }

    fn known(&self) -> &Facts {
        self.facts.as_ref().expect("a record is used only until it is ended")
    }

    /// Id of the request.
    #[must_use]
    pub fn id(&self) -> &RequestId {
        &self.known().id
    }

    /// When the head of the request was there.
    #[must_use]
    pub fn received(&self) -> Instant {
        self.known().received
    }

    /// What serves the request so far.
    #[must_use]
    pub fn served(&self) -> &Served {
        &self.known().served
    }

    /// Who asks, under which policy.
    pub fn authenticated(&mut self, policy: &Snapshot, caller: &Caller) {
        let facts = self.facts();
        facts.caller = Some(caller.name.clone());
        facts.tenant = Some(caller.tenant.clone());
        facts.environment = Some(policy.environment().clone());
        facts.served.revision = policy.revision().clone();
    }

    /// Which route and rule were found.
    pub fn routed(&mut self, route: &Route, rule: Option<u16>) {
        let served = &mut self.facts().served;
        served.route = route.name.clone();
        served.rule = rule.map(|rule| route.rules[usize::from(rule)].name.clone());
    }

    /// An attempt begins; gives what the upstream is told of its span.
    pub fn attempt_begins(&mut self, target: &Target, tier: u16, now: Instant) -> Option<TraceHeaders> {
        let facts = self.facts();
        let span = AttemptSpan { id: new_span(), started: now };
        facts.spans.push(span);
        facts.served.attempts.push(Tried {
            target: target.id.clone(),
            tier,
            failure: None,
            code: None,
            duration: Duration::ZERO,
        });
        Some(trace::headers(&facts.trace, span.id, facts.sampled))
    }

    /// The attempt that began last failed.
    pub fn attempt_failed(&mut self, failure: &Failure, now: Instant) {
        let facts = self.facts();
        if let (Some(tried), Some(span)) = (facts.served.attempts.last_mut(), facts.spans.last()) {
            tried.failure = Some(failure.class);
            tried.code = failure.code.clone();
            tried.duration = now.duration_since(span.started);
        }
    }

    /// The attempt that began last answers: whole, or with its first content.
    pub fn attempt_answers(&mut self, now: Instant) {
        let facts = self.facts();
        if let (Some(tried), Some(span)) = (facts.served.attempts.last_mut(), facts.spans.last()) {
            tried.duration = now.duration_since(span.started);
            facts.served.tier = tried.tier;
            facts.served.target = Some(tried.target.clone());
            facts.first_content = Some(now);
        }
    }

    /// The attempt that answers fails after all: its stream breaks, or what it gave cannot be told. That it had content
    /// stays as it is.
    pub fn answer_broke(&mut self, failure: &Failure, now: Instant) {
        if self.facts().answering().is_some() {
            self.attempt_failed(failure, now);
        }
    }

    /// An `answer` tier answers.
    pub fn degraded(&mut self, tier: u16) {
        let served = &mut self.facts().served;
        served.tier = tier;
        served.degraded = true;
    }

    /// An attempt's tokens are known, and what they cost.
    pub fn used(&mut self, cost: Option<f64>) {
        let total = &mut self.facts().cost;
        match cost {
            Some(dollars) => total.dollars += dollars,
            None => total.unknown = true,
        }
    }

    /// What all attempts cost so far; `None`: some attempt's cost is not known.
    #[must_use]
    pub fn cost(&self) -> Option<f64> {
        self.facts.as_ref().and_then(|facts| facts.cost.total())
    }

    /// Ends the record with what came of the request.
    pub fn end(mut self, outcome: &Outcome) {
        self.finish(outcome);
    }

    /// Ends the record of an answer that broke.
    pub fn broken(mut self, failure: &Failure) {
        self.answer_broke(failure, Instant::now());
        self.finish(&Outcome::Broken(failure.class, failure.code.clone()));
    }

    /// Ends the record with a refusal, which is given back with what was tried.
    #[must_use]
    pub fn refused(mut self, mut refusal: Refusal) -> Refusal {
        let served = self.served();
        if !served.route.is_empty() {
            refusal.served = Some(Box::new(served.clone()));
        }
        self.finish(&Outcome::Refused(refusal.reason.clone()));
        refusal
    }

    fn finish(&mut self, outcome: &Outcome) {
        let now = Instant::now();
        if let Some(mut facts) = self.facts.take() {
            facts.leave(now);
            self.telemetry.ended(&facts, outcome, now);
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.finish(&Outcome::Cancelled);
    }
}
