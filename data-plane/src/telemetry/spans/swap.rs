//! The span of a policy that was taken into service, in the trace of whoever applied it.

use std::{borrow::Cow, time::SystemTime};

use opentelemetry::{
    KeyValue, SpanId,
    trace::{SpanKind, Status},
};
use switchtower_telemetry::{export::Span, trace::TraceContext};

use super::Spans;
use crate::sync::Served;

impl Spans {
    /// Exports the span of a swap. `start`: when the update had come.
    pub fn swapped(&self, trace: &TraceContext, start: SystemTime, end: SystemTime, served: &Served) {
        let (parent, parent_is_remote) = trace.parent.map_or((SpanId::INVALID, false), |parent| (parent.span, true));
        let span = Span {
            id: trace.span,
            parent,
            parent_is_remote,
            kind: SpanKind::Consumer,
            name: Cow::Borrowed("follow assignment"),
            start,
            end,
            attributes: vec![
                KeyValue::new("switchtower.assignment", i64::try_from(served.assignment).unwrap_or(i64::MAX)),
                KeyValue::new("switchtower.revision", served.revision.to_string()),
            ],
            status: Status::Unset,
        };
        self.exporter.export(trace, span);
    }
}
