//! The span of a policy that was taken into service, in the trace of whoever applied it.

use std::{borrow::Cow, time::SystemTime};

use opentelemetry::{
    KeyValue,
    trace::{SpanKind, Status},
};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

use super::Spans;
use crate::{sync::Served, trace::TraceContext};

impl Spans {
    /// Exports the span of a swap. `began`: when the update had come.
    pub fn swapped(&self, trace: &TraceContext, began: SystemTime, ended: SystemTime, served: &Served) {
        let (parent_span_id, parent_span_is_remote) =
            trace.parent.map_or((opentelemetry::SpanId::INVALID, false), |parent| (parent.span, true));
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        self.processor.on_end(SpanData {
            span_context: trace.span_context(trace.span),
            parent_span_id,
            parent_span_is_remote,
            span_kind: SpanKind::Consumer,
            name: Cow::Borrowed("follow assignment"),
            start_time: began,
            end_time: ended,
            attributes: vec![
                KeyValue::new("switchtower.assignment", number(served.assignment)),
                KeyValue::new("switchtower.revision", served.revision.to_string()),
            ],
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: Status::Unset,
            instrumentation_scope: self.scope.clone(),
        });
    }
}
