//! What operators see: the admin port, the spans and the lines of the log.

use opentelemetry_proto::tonic::trace::v1::{Span, span::SpanKind, status::StatusCode};
use serde_json::json;
use switchtower_fake_bedrock::Exception;
use switchtower_system_tests::{
    collector::attribute,
    logs,
    tower::{EAST, SONNET, Setup, Tower, WEB, WEST, prompt},
};

use crate::faults::{breaking, failing};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

fn traced(tower: &Tower, path: &str, flags: &str) -> http::request::Builder {
    tower.post(path).header("traceparent", format!("00-{TRACE}-{PARENT}-{flags}"))
}

/// The server's span, then the attempts' in order.
fn in_order(mut spans: Vec<Span>) -> Vec<Span> {
    spans.sort_by_key(|span| (span.kind != SpanKind::Server as i32, span.start_time_unix_nano));
    spans
}

fn check(span: &Span, expected: &[(&str, &str)]) {
    for (name, value) in expected {
        assert_eq!(attribute(span, name).as_deref(), Some(*value), "{name} of {span:#?}");
    }
}

#[tokio::test]
async fn a_request_is_a_server_span_in_the_callers_trace_and_each_attempt_a_client_span() {
    let tower = Tower::start(Setup { sampler: Some("parentbased_always_on"), ..Setup::default() }).await;
    tower.fake.behave(EAST, failing(Exception::ThrottlingException));
    let request = traced(&tower, "/model/chat/converse-stream", "01");
    let reply = tower.send(request, prompt("good morning").to_string()).await;
    tower.at_rest().await;
    tower.flush().await;
    let spans = in_order(tower.collector().trace(TRACE));
    let [server, first, second] = spans.as_slice() else { panic!("{spans:#?}") };

    assert_eq!((hex::encode(&server.parent_span_id).as_str(), server.kind), (PARENT, SpanKind::Server as i32));
    let target = format!("bedrock/{WEST}/{SONNET}");
    check(
        server,
        &[
            ("switchtower.route", "chat"),
            ("switchtower.caller", WEB),
            ("switchtower.tenant", "acme"),
            ("switchtower.face", "bedrock"),
            ("switchtower.attempts", "2"),
            ("switchtower.outcome", "complete"),
            ("switchtower.target", &target),
            ("switchtower.revision", reply.header("x-switchtower-revision")),
            ("switchtower.request_id", reply.header("x-switchtower-request-id")),
        ],
    );
    for (attempt, region) in [(first, EAST), (second, WEST)] {
        assert_eq!((&attempt.parent_span_id, attempt.kind), (&server.span_id, SpanKind::Client as i32));
        assert_eq!(attempt.name, format!("chat {SONNET}"));
        assert!(attempt.start_time_unix_nano >= server.start_time_unix_nano);
        assert!(attempt.end_time_unix_nano <= server.end_time_unix_nano + 1_000_000);
        check(
            attempt,
            &[
                ("gen_ai.operation.name", "chat"),
                ("gen_ai.provider.name", "aws.bedrock"),
                ("gen_ai.request.model", SONNET),
                ("cloud.region", region),
            ],
        );
    }
    check(first, &[("error.type", "ThrottlingException"), ("switchtower.failure", "throttled")]);
    assert_eq!(first.status.as_ref().unwrap().code, StatusCode::Error as i32);
    check(
        second,
        &[
            ("gen_ai.usage.input_tokens", "2"),
            ("gen_ai.usage.output_tokens", "9"),
            ("gen_ai.response.finish_reasons", "end_turn"),
        ],
    );
    // The upstream was told of the attempt's own span.
    let told: Vec<_> = tower.fake.requests().iter().map(|request| request.headers["traceparent"].clone()).collect();
    let expected = [first, second].map(|span| format!("00-{TRACE}-{}-01", hex::encode(&span.span_id)));
    assert_eq!(told, expected);
}

#[tokio::test]
async fn errors_are_exported_whatever_the_sampler_says_and_nothing_else() {
    let tower = Tower::start(Setup { sampler: Some("always_off"), ..Setup::default() }).await;
    for (path, behaviour) in [
        ("/model/chat/converse", Default::default()),
        ("/model/chat/converse", failing(Exception::ValidationException)),
        ("/model/chat/converse-stream", breaking(3, switchtower_fake_bedrock::Break::Cut)),
        ("/model/nothing-there/converse", Default::default()),
    ] {
        tower.everywhere(&behaviour);
        tower.send(tower.post(path), prompt("hi").to_string()).await;
    }
    tower.at_rest().await;
    tower.flush().await;
    let spans = tower.collector().spans();
    let servers = spans.iter().filter(|span| span.kind == SpanKind::Server as i32);
    let mut outcomes: Vec<_> = servers.map(|span| attribute(span, "switchtower.outcome").unwrap()).collect();
    outcomes.sort();
    assert_eq!(outcomes, ["broken", "invalid", "unknown_route"], "{spans:#?}");
    let broken = spans.iter().filter(|span| attribute(span, "switchtower.outcome").as_deref() == Some("broken"));
    for span in broken {
        assert_eq!(span.status.as_ref().unwrap().code, StatusCode::Error as i32);
    }
    // The attempt whose stream broke after its head failed too.
    let attempts: Vec<_> = spans.iter().filter(|span| span.kind == SpanKind::Client as i32).collect();
    assert_eq!(attempts.len(), 2, "{spans:#?}");
    for outcome in ["ok", "invalid", "broken"] {
        let line = format!(r#"switchtower_attempts_total{{target="bedrock/{EAST}/{SONNET}",outcome="{outcome}"}}"#);
        assert_eq!(tower.metric(&line).await, 1.0, "{}", tower.metrics().await);
    }
    for attempt in attempts {
        assert!(attribute(attempt, "switchtower.failure").is_some());
        assert_eq!(attempt.status.as_ref().unwrap().code, StatusCode::Error as i32, "{attempt:#?}");
    }
}

#[tokio::test]
async fn a_caller_that_does_not_sample_is_obeyed() {
    let tower = Tower::start(Setup { sampler: Some("parentbased_always_on"), ..Setup::default() }).await;
    let reply = tower.send(traced(&tower, "/model/chat/converse", "00"), prompt("hi").to_string()).await;
    assert_eq!(reply.status, 200);
    tower.flush().await;
    assert_eq!(tower.collector().spans(), []);
    assert!(tower.fake.requests()[0].headers["traceparent"].ends_with("-00"));
}

#[tokio::test]
async fn metrics_count_requests_attempts_tokens_and_dollars() {
    let tower = Tower::up().await;
    tower.converse("chat", &prompt("good morning")).await;
    tower.fake.behave(EAST, failing(Exception::ThrottlingException));
    tower.converse_stream("chat", &prompt("good morning")).await;
    tower.converse("nothing-there", &prompt("hi")).await;
    tower.at_rest().await;
    let page = tower.admin("/metrics").await;
    assert_eq!(page.status, 200);
    assert!(page.header("content-type").starts_with("application/openmetrics-text"));
    let (east, west) = (format!("bedrock/{EAST}/{SONNET}"), format!("bedrock/{WEST}/{SONNET}"));
    for (line, expected) in [
        (r#"switchtower_requests_total{face="bedrock",route="chat",outcome="complete"}"#.to_owned(), 2.0),
        (r#"switchtower_requests_total{face="bedrock",route="",outcome="unknown_route"}"#.to_owned(), 1.0),
        (format!(r#"switchtower_attempts_total{{target="{east}",outcome="ok"}}"#), 1.0),
        (format!(r#"switchtower_attempts_total{{target="{east}",outcome="throttled"}}"#), 1.0),
        (format!(r#"switchtower_attempts_total{{target="{west}",outcome="ok"}}"#), 1.0),
        (format!(r#"gen_ai_client_token_usage_sum{{route="chat",target="{west}",gen_ai_token_type="input"}}"#), 2.0),
        (format!(r#"gen_ai_client_token_usage_sum{{route="chat",target="{west}",gen_ai_token_type="output"}}"#), 9.0),
        (format!(r#"gen_ai_client_operation_duration_seconds_count{{target="{west}",outcome="ok"}}"#), 1.0),
        (r#"switchtower_request_duration_seconds_count{route="chat"}"#.to_owned(), 2.0),
        (r#"switchtower_time_to_first_content_seconds_count{route="chat"}"#.to_owned(), 1.0),
        (r#"switchtower_requests_in_flight{face="bedrock"}"#.to_owned(), 0.0),
        ("switchtower_policy_reloads_total".to_owned(), 1.0),
    ] {
        assert_eq!(tower.metric(&line).await, expected, "{line}\n{}", tower.metrics().await);
    }
    let dollars = tower.metric(&format!(r#"switchtower_cost_dollars_total{{route="chat",target="{west}"}}"#)).await;
    assert!((dollars - 155.1e-6).abs() < 1e-9, "{dollars}");
    assert!(tower.metrics().await.ends_with("# EOF\n"));
}

#[tokio::test]
async fn the_admin_port_answers_what_it_has_and_nothing_else() {
    let tower = Tower::up().await;
    assert_eq!(tower.admin("/healthz").await.body, "ok\n");
    let ready = tower.admin("/readyz").await;
    assert_eq!((ready.status, &ready.json()["ready"]), (200, &json!(true)));
    assert_eq!(tower.admin("/").await.status, 404);
    // It is another port: callers find none of it.
    let request = http::Request::get("/metrics");
    assert_eq!(tower.send(request, "").await.status, 404);
}

#[tokio::test]
async fn a_request_is_one_readable_line() {
    let tower = Tower::up().await;
    let reply = tower.converse("chat", &prompt("good morning")).await;
    let id = reply.header("x-switchtower-request-id");
    let lines = logs::lines_with(&[id]);
    let [line] = lines.as_slice() else { panic!("{lines:#?}") };
    let target = format!("bedrock/{EAST}/{SONNET}");
    for (member, expected) in [
        ("level", json!("INFO")),
        ("caller", json!(WEB)),
        ("route", json!("chat")),
        ("served_by", json!(target)),
        ("attempts", json!(1)),
        ("completeness", json!("complete")),
        ("input_tokens", json!(2)),
        ("output_tokens", json!(9)),
    ] {
        assert_eq!(line[member], expected, "{member}: {line}");
    }
    let raw = logs::all().lines().find(|line| line.contains(id)).unwrap().to_owned();
    for member in line.as_object().unwrap().keys() {
        assert_eq!(raw.matches(&format!("\"{member}\":")).count(), 1, "a member that stands twice: {raw}");
    }
}

#[tokio::test]
async fn a_request_that_is_refused_unread_is_a_line_too() {
    let tower = Tower::start(Setup { most_body_bytes: 10, ..Setup::default() }).await;
    let reply = tower.converse("chat", &prompt("good morning")).await;
    assert_eq!(reply.status, 413);
    let lines = logs::lines_with(&[reply.header("x-switchtower-request-id")]);
    let [line] = lines.as_slice() else { panic!("{lines:#?}") };
    for (member, expected) in [
        ("level", json!("WARN")),
        ("face", json!("bedrock")),
        ("route", json!("")),
        ("reason", json!("body_too_large")),
    ] {
        assert_eq!(line[member], expected, "{member}: {line}");
    }
}
