//! Spans by the OpenTelemetry GenAI conventions: a server span per request, a client span per attempt, made from the ended
//! record.

mod swap;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use opentelemetry::{
    Array, KeyValue, SpanId, StringValue, Value,
    trace::{SpanKind, Status},
};
use switchtower_telemetry::export::{Exporter, Span};
use tokio::time::Instant;

use super::names::Generation;
use crate::record::{AttemptSpan, Ended, Facts, Outcome, Tried};

/// Makes spans and exports them.
#[derive(Debug)]
pub struct Spans {
    /// How they leave.
    pub exporter: Exporter,
    names: Generation,
}

impl Spans {
    /// Spans that leave by this exporter, under these names.
    #[must_use]
    pub fn new(exporter: Exporter, names: Generation) -> Self {
        Spans { exporter, names }
    }

    /// Exports the spans of an ended request.
    pub fn export(&self, facts: &Facts, outcome: &Outcome, now: Instant) {
        let answering = facts.answering();
        for (number, (tried, span)) in facts.served.attempts.iter().zip(&facts.spans).enumerate() {
            let served = Some(outcome).filter(|_| answering == Some(number));
            self.exporter.export(&facts.trace, self.attempt(facts, tried, *span, served, now));
        }
        self.exporter.export(&facts.trace, self.request(facts, outcome, now));
    }

    fn request(&self, facts: &Facts, outcome: &Outcome, now: Instant) -> Span {
        let served = &facts.served;
        let mut attributes = vec![
            KeyValue::new("switchtower.request_id", text(&facts.id)),
            KeyValue::new("switchtower.face", facts.face.as_str()),
            KeyValue::new("switchtower.route", text(&served.route)),
            KeyValue::new("switchtower.revision", text(&served.revision)),
            KeyValue::new("switchtower.tier", i64::from(served.tier)),
            KeyValue::new("switchtower.attempts", count(served.attempts.len())),
            KeyValue::new("switchtower.outcome", outcome.as_str()),
        ];
        let optional = [
            ("switchtower.rule", &served.rule),
            ("switchtower.target", &served.target),
            ("switchtower.caller", &facts.caller),
            ("switchtower.tenant", &facts.tenant),
            ("switchtower.environment", &facts.environment),
        ];
        for (key, value) in optional {
            if let Some(value) = value {
                attributes.push(KeyValue::new(key, text(value)));
            }
        }
        if let Some(dollars) = Some(facts.cost).filter(|cost| !cost.unknown).map(|cost| cost.dollars) {
            attributes.push(KeyValue::new("switchtower.cost_dollars", dollars));
        }
        let mut status = Status::Unset;
        if outcome.is_error() {
            attributes.push(KeyValue::new("error.type", outcome.as_str()));
            status = Status::error(outcome.as_str());
        }
        let name = format!("{} {}", if facts.stream { "stream" } else { "generate" }, served.route);
        let (parent, remote) = facts.trace.parent.map_or((SpanId::INVALID, false), |parent| (parent.span, true));
        Span {
            id: facts.trace.span,
            parent,
            parent_is_remote: remote,
            kind: SpanKind::Server,
            name: name.into(),
            start: facts.received_at,
            end: wall_clock(facts, now),
            attributes,
            status,
        }
    }

    /// `served` is what came of the request, for the attempt that answered.
    fn attempt(&self, facts: &Facts, tried: &Tried, span: AttemptSpan, served: Option<&Outcome>, now: Instant) -> Span {
        let (region, model) = region_and_model(&tried.target);
        let mut attributes = vec![
            KeyValue::new("gen_ai.operation.name", "chat"),
            KeyValue::new("gen_ai.provider.name", "aws.bedrock"),
            KeyValue::new("gen_ai.request.model", model.to_owned()),
            KeyValue::new("cloud.region", region.to_owned()),
            KeyValue::new("switchtower.target", text(&tried.target)),
            KeyValue::new("switchtower.tier", i64::from(tried.tier)),
        ];
        if facts.stream {
            attributes.push(KeyValue::new("gen_ai.request.stream", true));
            if let (Some(_), Some(first)) = (served, facts.first_content) {
                let seconds = first.duration_since(span.started).as_secs_f64();
                attributes.push(KeyValue::new("gen_ai.response.time_to_first_chunk", seconds));
            }
        }
        if let Some(Outcome::Answered(ended)) = served {
            self.told(ended, &mut attributes);
        }
        let mut status = Status::Unset;
        if let Some(class) = tried.failure {
            let code = tried.code.as_deref().map_or_else(|| class.as_str().to_owned(), str::to_owned);
            attributes.push(KeyValue::new("error.type", code));
            attributes.push(KeyValue::new("switchtower.failure", class.as_str()));
            status = Status::error(class.as_str());
        }
        // The attempt that serves a stream lasts as long as the stream.
        let end = if served.is_some() && facts.stream { now } else { span.started + tried.duration };
        Span {
            id: span.id,
            parent: facts.trace.span,
            parent_is_remote: false,
            kind: SpanKind::Client,
            name: format!("chat {model}").into(),
            start: wall_clock(facts, span.started),
            end: wall_clock(facts, end),
            attributes,
            status,
        }
    }

    fn told(&self, ended: &Ended, attributes: &mut Vec<KeyValue>) {
        if let Some(reason) = &ended.stop_reason {
            let reasons = Array::String(vec![StringValue::from(reason.to_string())]);
            attributes.push(KeyValue::new("gen_ai.response.finish_reasons", Value::Array(reasons)));
        }
        let Some(usage) = ended.usage else { return };
        // The convention counts cached tokens as input, Bedrock does not.
        let input = usage.input + usage.cache_read + usage.cache_write;
        for (key, tokens) in [
            ("gen_ai.usage.input_tokens", input),
            ("gen_ai.usage.output_tokens", usage.output),
            ("gen_ai.usage.cache_read.input_tokens", usage.cache_read),
            (self.names.cache_write_tokens, usage.cache_write),
        ] {
            attributes.push(KeyValue::new(key, i64::try_from(tokens).unwrap_or(i64::MAX)));
        }
    }
}

/// `bedrock/REGION/MODEL` taken apart.
fn region_and_model(target: &str) -> (&str, &str) {
    let mut parts = target.splitn(3, '/').skip(1);
    (parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
}

fn wall_clock(facts: &Facts, instant: Instant) -> SystemTime {
    facts.received_at + instant.checked_duration_since(facts.received).unwrap_or(Duration::ZERO)
}

fn text(shared: &Arc<str>) -> Arc<str> {
    shared.clone()
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_come_apart() {
        assert_eq!(
            region_and_model("bedrock/us-east-1/arn:aws:bedrock:us-east-1:1:inference-profile/x"),
            ("us-east-1", "arn:aws:bedrock:us-east-1:1:inference-profile/x")
        );
    }
}
