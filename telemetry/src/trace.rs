//! W3C trace context: where a call stands in its caller's trace, and what the next one is told.

use std::collections::HashMap;

use http::{HeaderMap, HeaderValue};
use opentelemetry::{
    Context, SpanId, TraceFlags, TraceId,
    propagation::TextMapPropagator,
    trace::{SpanContext, TraceContextExt, TraceState},
};
use opentelemetry_sdk::propagation::TraceContextPropagator;

/// Where a request stands in a trace: its own span, and the caller's.
#[derive(Clone, Debug)]
pub struct TraceContext {
    /// The trace.
    pub trace: TraceId,
    /// Our span for the request.
    pub span: SpanId,
    /// The caller's span; `None`: the trace begins here.
    pub parent: Option<Parent>,
    /// The vendors' part, passed on as it came.
    pub state: TraceState,
}

/// The caller's span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parent {
    /// Its id.
    pub span: SpanId,
    /// Whether the caller records it.
    pub sampled: bool,
}

impl TraceContext {
    /// From the value of a `traceparent` alone, as it stands in what was stored; a new trace where it is malformed.
    #[must_use]
    pub fn of_parent(traceparent: &str) -> Self {
        let mut headers = HeaderMap::new();
        if let Ok(value) = HeaderValue::from_str(traceparent) {
            headers.insert("traceparent", value);
        }
        Self::of(&headers)
    }

    /// From `traceparent` and `tracestate`; a new trace where they are missing or malformed.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        match headers.contains_key("traceparent") {
            true => Self::continued(headers).unwrap_or_else(Self::begun),
            false => Self::begun(),
        }
    }

    /// A new trace.
    #[must_use]
    pub fn begun() -> Self {
        TraceContext {
            trace: TraceId::from_bytes(fastrand::u128(1..).to_be_bytes()),
            span: new_span(),
            parent: None,
            state: TraceState::NONE,
        }
    }

    fn continued(headers: &HeaderMap) -> Option<Self> {
        let mut carrier = HashMap::with_capacity(2);
        for name in ["traceparent", "tracestate"] {
            if let Some(value) = headers.get(name).and_then(|value| value.to_str().ok()) {
                carrier.insert(name.to_owned(), value.to_owned());
            }
        }
        let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &carrier);
        let span = context.span();
        let caller: &SpanContext = span.span_context();
        caller.is_valid().then(|| TraceContext {
            trace: caller.trace_id(),
            span: new_span(),
            parent: Some(Parent { span: caller.span_id(), sampled: caller.is_sampled() }),
            state: caller.trace_state().clone(),
        })
    }

    /// The value of `traceparent` that tells the next program of one of our spans.
    ///
    /// # Panics
    /// Never: what is written is ASCII.
    #[must_use]
    pub fn traceparent(&self, span: SpanId, sampled: bool) -> HeaderValue {
        let flags = if sampled { "01" } else { "00" };
        HeaderValue::try_from(format!("00-{}-{span}-{flags}", self.trace)).expect("hexadecimal digits and dashes")
    }

    /// The value of `tracestate` that goes with it; `None`: there is none.
    #[must_use]
    pub fn tracestate(&self) -> Option<HeaderValue> {
        (self.state != TraceState::NONE).then(|| HeaderValue::from_str(&self.state.header()).ok()).flatten()
    }

    /// The context of one of our spans, as exporters want it.
    #[must_use]
    pub fn span_context(&self, span: SpanId) -> SpanContext {
        SpanContext::new(self.trace, span, TraceFlags::SAMPLED, false, self.state.clone())
    }
}

/// An id for a span of ours.
#[must_use]
pub fn new_span() -> SpanId {
    SpanId::from_bytes(fastrand::u64(1..).to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(traceparent: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("traceparent", HeaderValue::from_str(traceparent).unwrap());
        headers.insert("tracestate", HeaderValue::from_static("vendor=1"));
        headers
    }

    #[test]
    fn a_callers_trace_is_continued_with_a_span_of_our_own() {
        let context = TraceContext::of(&headers("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"));
        assert_eq!(context.trace.to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        let parent = context.parent.unwrap();
        assert_eq!((parent.span.to_string().as_str(), parent.sampled), ("00f067aa0ba902b7", true));
        assert_ne!(context.span, parent.span);
        assert_eq!(context.state.get("vendor"), Some("1"));
        let sent = context.traceparent(parent.span, true);
        assert_eq!(sent, "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
        assert_eq!(context.tracestate().unwrap(), "vendor=1");
    }

    #[test]
    fn a_malformed_traceparent_begins_a_new_trace() {
        for bad in ["", "00", "zz-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "00-0-0-0"] {
            let context = TraceContext::of(&headers(bad));
            assert!(context.parent.is_none(), "{bad}");
            assert_ne!(context.trace, TraceId::INVALID);
        }
    }
}
