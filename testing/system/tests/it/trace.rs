//! A change is one trace: from whoever made it, through the control plane, to every node that serves it.

use opentelemetry_proto::tonic::trace::v1::{Span, span::SpanKind};
use switchtower_system_tests::{
    collector::{Collector, attribute},
    fleet::{Fleet, Setup, policy},
    program::{self, beside},
    until,
};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

fn followed(spans: &[Span]) -> Vec<&Span> {
    spans.iter().filter(|span| span.name == "follow assignment").collect()
}

#[tokio::test]
async fn an_apply_is_one_trace_from_the_operator_to_every_node() {
    let collector = Collector::start().await.unwrap();
    let fleet = Fleet::start(Setup { nodes: 3, collector: Some(collector.url()), ..Setup::default() }).await;
    let mut envs = fleet.operator_env();
    // As a build system hands it to what it runs.
    envs.push(("TRACEPARENT", format!("00-{TRACE}-{PARENT}-01")));
    let folder = fleet.policy("policy", &policy(2));
    let _ = program::run(&beside("switchtower"), ["apply", &folder, "--yes", "--wait"], &envs).await.done();

    until("every node's span has come", || followed(&collector.trace(TRACE)).len() >= 3).await;
    let parent = followed(&collector.trace(TRACE))[0].parent_span_id.clone();
    until("the control plane's span has come", || collector.trace(TRACE).iter().any(|span| span.span_id == parent))
        .await;
    let spans = collector.trace(TRACE);
    let followed = followed(&spans);
    assert_eq!(followed.len(), 3, "{spans:#?}");
    for span in &followed {
        assert_eq!(attribute(span, "switchtower.revision").as_deref(), Some("2"), "{span:#?}");
        assert_eq!(span.parent_span_id, parent, "they follow from one act: {spans:#?}");
    }
    let acts: Vec<&Span> = spans.iter().filter(|span| span.span_id == parent).collect();
    let [apply] = acts.as_slice() else { panic!("{spans:#?}") };
    assert_eq!((apply.kind, hex::encode(&apply.parent_span_id).as_str()), (SpanKind::Server as i32, PARENT));
    assert!(apply.name.contains("apply"), "{apply:#?}");
    // Nothing else stands in this trace without a place in it.
    for span in &spans {
        let parent = &span.parent_span_id;
        let known = hex::encode(parent) == PARENT || spans.iter().any(|other| other.span_id == *parent);
        assert!(known, "{span:#?}");
    }
}
