//! How spans leave a program: by OTLP/gRPC, when the standard `OTEL_*` variables ask for it.
//!
//! Spans are made when what they tell of has ended, and handed to the SDK's batch processor as they are: the tracer's own
//! path would make a span for everything and throw most away, and could not keep an error's.

use std::{borrow::Cow, sync::Arc, time::SystemTime};

use opentelemetry::{
    InstrumentationScope, KeyValue, SpanId,
    trace::{SpanKind, Status},
};
use opentelemetry_otlp::WithExportConfig;
use opentelemetry_sdk::{
    Resource,
    trace::{BatchSpanProcessor, SpanData, SpanEvents, SpanExporter, SpanLinks, SpanProcessor},
};

use crate::trace::TraceContext;

/// Exports spans.
#[derive(Debug)]
pub struct Exporter {
    /// Which traces are kept.
    pub sampler: Sampler,
    processor: Arc<dyn SpanProcessor>,
    scope: InstrumentationScope,
}

/// A span: something that began and ended.
#[derive(Debug)]
pub struct Span {
    /// Its id.
    pub id: SpanId,
    /// The span that it is a part of; [`SpanId::INVALID`]: the trace begins with it.
    pub parent: SpanId,
    /// Whether that one is another program's.
    pub parent_is_remote: bool,
    /// Whose side it is seen from.
    pub kind: SpanKind,
    /// Its name, of which there are few.
    pub name: Cow<'static, str>,
    /// When it began.
    pub start: SystemTime,
    /// When it ended.
    pub end: SystemTime,
    /// What it says.
    pub attributes: Vec<KeyValue>,
    /// How it ended.
    pub status: Status,
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

impl Exporter {
    /// The exporter that the standard variables ask for; `None` where they ask for none. `service` names the program where
    /// no variable does. Must be called within a tokio runtime, on which the exporter's connection lives.
    ///
    /// # Errors
    /// A sentence about the variable that is wrong.
    pub fn from_env(var: &dyn Fn(&str) -> Option<String>, service: &'static str) -> Result<Option<Self>, String> {
        let var = |name: &str| var(name).filter(|value| !value.is_empty());
        let endpoint = var("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT").or_else(|| var("OTEL_EXPORTER_OTLP_ENDPOINT"));
        let off = var("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"))
            || var("OTEL_TRACES_EXPORTER").is_some_and(|value| value == "none");
        let Some(endpoint) = endpoint.filter(|_| !off) else { return Ok(None) };
        let protocol = var("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL").or_else(|| var("OTEL_EXPORTER_OTLP_PROTOCOL"));
        if let Some(protocol) = protocol.filter(|protocol| protocol != "grpc") {
            return Err(format!("OTEL_EXPORTER_OTLP_PROTOCOL is `{protocol}`: this program exports by `grpc` alone"));
        }
        let sampler = Sampler::of(var("OTEL_TRACES_SAMPLER").as_deref(), var("OTEL_TRACES_SAMPLER_ARG").as_deref())?;
        let exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_tonic()
            .with_endpoint(endpoint)
            .build()
            .map_err(|error| format!("the OTLP exporter cannot be made: {error}"))?;
        Ok(Some(Self::through(exporter, sampler, resource(&var, service))))
    }

    /// Spans through this exporter.
    pub fn through(mut exporter: impl SpanExporter + 'static, sampler: Sampler, resource: Resource) -> Self {
        exporter.set_resource(&resource);
        let processor = BatchSpanProcessor::builder(exporter).build();
        let scope = InstrumentationScope::builder("switchtower").with_version(env!("CARGO_PKG_VERSION")).build();
        Exporter { sampler, processor: Arc::new(processor), scope }
    }

    /// Exports a span of this trace, whatever the sampler says. Never blocks: what does not fit the queue is lost.
    pub fn export(&self, trace: &TraceContext, span: Span) {
        self.processor.on_end(SpanData {
            span_context: trace.span_context(span.id),
            parent_span_id: span.parent,
            parent_span_is_remote: span.parent_is_remote,
            span_kind: span.kind,
            name: span.name,
            start_time: span.start,
            end_time: span.end,
            attributes: span.attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: span.status,
            instrumentation_scope: self.scope.clone(),
        });
    }

    /// Sends what is still queued. Blocks for at most some seconds.
    pub fn flush(&self) {
        if let Err(error) = self.processor.force_flush() {
            tracing::warn!(%error, "the last spans could not be exported");
        }
    }
}

fn resource(var: &dyn Fn(&str) -> Option<String>, service: &'static str) -> Resource {
    // The default detectors read OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES.
    let builder = Resource::builder();
    match var("OTEL_SERVICE_NAME") {
        Some(_) => builder.build(),
        None => builder.with_service_name(service).build(),
    }
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
}
