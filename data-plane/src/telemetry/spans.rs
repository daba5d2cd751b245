//! Spans by the OpenTelemetry GenAI conventions: a server span per request, a client span per attempt; exported by
//! OTLP/gRPC when the standard `OTEL_*` variables ask for it.
//!
//! Spans are made from the ended record and handed to the SDK's batch processor as they are: the tracer's own path would
//! make a span for every request and throw most of them away, and could not keep an error's.

use std::{
    borrow::Cow,
    sync::Arc,
    time::{Duration, SystemTime},
};

use opentelemetry::{
    Array, InstrumentationScope, KeyValue, SpanId, StringValue, Value,
    trace::{SpanKind, Status},
};
use opentelemetry_otlp::WithExportConfig;
use opentelemetry_sdk::{
    Resource,
    trace::{BatchSpanProcessor, SpanData, SpanEvents, SpanExporter, SpanLinks, SpanProcessor},
};
use tokio::time::Instant;

use super::names::Generation;
use crate::{
    record::{AttemptSpan, Ended, Facts, Outcome, Tried},
    trace::TraceContext,
};

/// Makes spans and exports them.
#[derive(Debug)]
pub struct Spans {
    /// Which traces are kept.
    pub sampler: Sampler,
    names: Generation,
    processor: Arc<dyn SpanProcessor>,
    scope: InstrumentationScope,
}

/// Which traces are kept, by `OTEL_TRACES_SAMPLER` and `OTEL_TRACES_SAMPLER_ARG`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampler {
    /// Share of traces that begin here, 0 to 1.
    pub ratio: f64,
    /// A caller's own decision holds for its traces.
    pub parent_based: bool,
}

impl Sampler {
    /// The sampler that the two variables ask for; without them every trace is kept, unless its caller says no.
    ///
    /// # Errors
    /// A sentence about the variable that is wrong.
    pub fn of(name: Option<&str>, argument: Option<&str>) -> Result<Self, String> {
        let ratio = || match argument {
            None => Ok(1.0),
            Some(text) => match text.parse::<f64>() {
                Ok(ratio) if (0.0..=1.0).contains(&ratio) => Ok(ratio),
                _ => Err(format!("OTEL_TRACES_SAMPLER_ARG is `{text}`: write a ratio from 0 to 1")),
            },
        };
        let (ratio, parent_based) = match name.unwrap_or("parentbased_always_on") {
            "always_on" => (1.0, false),
            "always_off" => (0.0, false),
            "traceidratio" => (ratio()?, false),
            "parentbased_always_on" => (1.0, true),
            "parentbased_always_off" => (0.0, true),
            "parentbased_traceidratio" => (ratio()?, true),
            other => {
                return Err(format!(
                    "OTEL_TRACES_SAMPLER is `{other}`: write always_on, always_off, traceidratio, or one of them \
                     with parentbased_ before it"
                ));
            }
        };
        Ok(Sampler { ratio, parent_based })
    }

    /// Whether this trace is kept. The same trace id gives the same decision in every process.
    #[must_use]
    pub fn samples(&self, trace: &TraceContext) -> bool {
        if let (true, Some(parent)) = (self.parent_based, trace.parent) {
            return parent.sampled;
        }
        let bytes = trace.trace.to_bytes();
        let low = u64::from_be_bytes([0, bytes[9], bytes[10], bytes[11], bytes[12], bytes[13], bytes[14], bytes[15]]);
        // 2^56 values, all of which a double holds.
        #[expect(clippy::cast_precision_loss, reason = "56 bits, of which the 53 highest decide")]
        let point = low as f64 / (1u64 << 56) as f64;
        point < self.ratio
    }
}

impl Spans {
    /// Spans through the exporter that the standard variables ask for; `None` where they ask for none. Must be called
    /// within a tokio runtime, on which the exporter's connection lives.
    ///
    /// # Errors
    /// A sentence about the variable that is wrong.
    pub fn from_env(var: &dyn Fn(&str) -> Option<String>, names: Generation) -> Result<Option<Self>, String> {
        let var = |name: &str| var(name).filter(|value| !value.is_empty());
        let endpoint = var("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT").or_else(|| var("OTEL_EXPORTER_OTLP_ENDPOINT"));
        let off = var("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"))
            || var("OTEL_TRACES_EXPORTER").is_some_and(|value| value == "none");
        let Some(endpoint) = endpoint.filter(|_| !off) else { return Ok(None) };
        let protocol = var("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL").or_else(|| var("OTEL_EXPORTER_OTLP_PROTOCOL"));
        if let Some(protocol) = protocol.filter(|protocol| protocol != "grpc") {
            return Err(format!("OTEL_EXPORTER_OTLP_PROTOCOL is `{protocol}`: this node exports by `grpc` alone"));
        }
        let sampler = Sampler::of(var("OTEL_TRACES_SAMPLER").as_deref(), var("OTEL_TRACES_SAMPLER_ARG").as_deref())?;
        let exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_tonic()
            .with_endpoint(endpoint)
            .build()
            .map_err(|error| format!("the OTLP exporter cannot be made: {error}"))?;
        Ok(Some(Self::through(exporter, sampler, names, resource(&var))))
    }

    /// Spans through this exporter.
    pub fn through(
        mut exporter: impl SpanExporter + 'static,
        sampler: Sampler,
        names: Generation,
        resource: Resource,
    ) -> Self {
        exporter.set_resource(&resource);
        let processor = BatchSpanProcessor::builder(exporter).build();
        let scope = InstrumentationScope::builder("switchtower").with_version(env!("CARGO_PKG_VERSION")).build();
        Spans { sampler, names, processor: Arc::new(processor), scope }
    }

    /// Exports the spans of an ended request.
    pub fn export(&self, facts: &Facts, outcome: &Outcome, now: Instant) {
        let answering = facts.answering();
        for (number, (tried, span)) in facts.served.attempts.iter().zip(&facts.spans).enumerate() {
            let served = Some(outcome).filter(|_| answering == Some(number));
            self.processor.on_end(self.attempt(facts, tried, *span, served, now));
        }
        self.processor.on_end(self.request(facts, outcome, now));
    }

    /// Sends what is still queued.
    pub fn flush(&self) {
        if let Err(error) = self.processor.force_flush() {
            tracing::warn!(%error, "the last spans could not be exported");
        }
    }

    fn request(&self, facts: &Facts, outcome: &Outcome, now: Instant) -> SpanData {
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
        self.span(
            facts,
            facts.trace.span,
            (parent, remote),
            SpanKind::Server,
            name.into(),
            (facts.received, now),
            Said { attributes, status },
        )
    }

    /// `served` is what came of the request, for the attempt that answered.
    fn attempt(
        &self,
        facts: &Facts,
        tried: &Tried,
        span: AttemptSpan,
        served: Option<&Outcome>,
        now: Instant,
    ) -> SpanData {
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
        let name = Cow::Owned(format!("chat {model}"));
        let parent = (facts.trace.span, false);
        self.span(facts, span.id, parent, SpanKind::Client, name, (span.started, end), Said { attributes, status })
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

    #[expect(clippy::too_many_arguments, reason = "these are a span's parts")]
    fn span(
        &self,
        facts: &Facts,
        id: SpanId,
        (parent, remote): (SpanId, bool),
        kind: SpanKind,
        name: Cow<'static, str>,
        (start, end): (Instant, Instant),
        said: Said,
    ) -> SpanData {
        let at = |instant: Instant| wall_clock(facts.received_at, facts.received, instant);
        SpanData {
            span_context: facts.trace.span_context(id),
            parent_span_id: parent,
            parent_span_is_remote: remote,
            span_kind: kind,
            name,
            start_time: at(start),
            end_time: at(end),
            attributes: said.attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: said.status,
            instrumentation_scope: self.scope.clone(),
        }
    }
}

/// What a span says.
struct Said {
    attributes: Vec<KeyValue>,
    status: Status,
}

fn resource(var: &dyn Fn(&str) -> Option<String>) -> Resource {
    // The default detectors read OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES.
    let builder = Resource::builder();
    match var("OTEL_SERVICE_NAME") {
        Some(_) => builder.build(),
        None => builder.with_service_name("switchtower-node").build(),
    }
}

/// `bedrock/REGION/MODEL` taken apart.
fn region_and_model(target: &str) -> (&str, &str) {
    let mut parts = target.splitn(3, '/').skip(1);
    (parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
}

fn wall_clock(received_at: SystemTime, received: Instant, instant: Instant) -> SystemTime {
    received_at + instant.checked_duration_since(received).unwrap_or(Duration::ZERO)
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
    fn samplers_are_read_from_the_standard_variables() {
        let check = |name: Option<&str>, argument: Option<&str>, expected: Result<(f64, bool), &str>| {
            let got = Sampler::of(name, argument);
            match expected {
                Ok((ratio, parent_based)) => assert_eq!(got, Ok(Sampler { ratio, parent_based })),
                Err(word) => assert!(got.unwrap_err().contains(word)),
            }
        };
        check(None, None, Ok((1.0, true)));
        check(Some("always_off"), None, Ok((0.0, false)));
        check(Some("traceidratio"), Some("0.01"), Ok((0.01, false)));
        check(Some("parentbased_traceidratio"), Some("0.5"), Ok((0.5, true)));
        check(Some("traceidratio"), Some("2"), Err("OTEL_TRACES_SAMPLER_ARG"));
        check(Some("sometimes"), None, Err("OTEL_TRACES_SAMPLER"));
    }

    #[test]
    fn a_ratio_keeps_about_its_share() {
        fastrand::seed(7);
        let sampler = Sampler { ratio: 0.1, parent_based: true };
        let kept = (0..10_000).filter(|_| sampler.samples(&TraceContext::begun())).count();
        assert!((800..1200).contains(&kept), "{kept}");
    }

    #[test]
    fn targets_come_apart() {
        assert_eq!(
            region_and_model("bedrock/us-east-1/arn:aws:bedrock:us-east-1:1:inference-profile/x"),
            ("us-east-1", "arn:aws:bedrock:us-east-1:1:inference-profile/x")
        );
    }
}
