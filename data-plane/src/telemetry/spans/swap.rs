//! The span of a policy that was taken into service, in the trace of whoever applied it.

use std::time::SystemTime;

use opentelemetry::{
    KeyValue, SpanId,
    trace::{SpanKind, Status},
};
use switchtower_telemetry::export::Span;

use super::Spans;
use crate::{sync::Served, trace::TraceContext};

impl Spans {
    /// Exports the span of a swap. `began`: when the update had come.
    pub fn swapped(&self, trace: &TraceContext, began: SystemTime, ended: SystemTime, served: &Served) {
        let (parent, parent_is_remote) = trace.parent.map_or((SpanId::INVALID, false), |parent| (parent.span, true));
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        self.exporter.export(
            trace,
            Span {
                id: trace.span,
                parent,
                parent_is_remote,
                kind: SpanKind::Consumer,
                name: "follow assignment".into(),
                start: began,
                end: ended,
                attributes: vec![
                    KeyValue::new("switchtower.assignment", number(served.assignment)),
                    KeyValue::new("switchtower.revision", served.revision.to_string()),
                ],
                status: Status::Unset,
            },
        );
    }
}
