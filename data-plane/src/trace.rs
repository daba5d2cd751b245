//! Where a request stands in its caller's trace, and what the upstream is told of it.

use opentelemetry::SpanId;
use switchtower_provider::TraceHeaders;
pub use switchtower_telemetry::trace::{Parent, TraceContext, new_span};

/// What tells an upstream of one of our spans.
#[must_use]
pub fn headers(trace: &TraceContext, span: SpanId, sampled: bool) -> TraceHeaders {
    TraceHeaders { parent: trace.traceparent(span, sampled), state: trace.tracestate() }
}
