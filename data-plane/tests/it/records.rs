//! One record per request, ended exactly once: one count and one span, whatever stands in the way of an answer.

use std::time::Duration;

use bytes::Bytes;
use http::{header, request::Builder};
use opentelemetry::trace::{SpanKind, Status};
use prost::Message as _;
use switchtower_policy::failure::Class;
use switchtower_proto::inference::v1::{ContentBlock, GenerateRequest, Message, Role, content_block::Block};
use switchtower_provider::{
    Whole,
    scripted::{Outcome, Step, batch, failure},
};
use tokio::{io::AsyncWriteExt, net::TcpStream};

use crate::{
    support::{A_EAST, A_WEST, Tower, USAGE, attribute},
    wire::{BODY, MOST_BODY_BYTES, begun, grpc, head, said, serve},
};

/// The end of every refusal of the Bedrock face.
const END: &str = "\"}";

fn key(tower: &Tower) -> String {
    format!("authorization: Bearer {}\r\n", tower.key)
}

/// Sends these bytes to the Bedrock face, which answers with a status and records an outcome, of no route.
async fn check_bedrock(tower: Tower, sent: &str, status: u16, outcome: &str) {
    let address = serve(&tower);
    let answer = said(address, sent, END).await;
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{outcome}: {answer}");
    assert_eq!(tower.only_record(), ("bedrock".to_owned(), String::new(), outcome.to_owned()));
    let server = tower.spans(&SpanKind::Server).remove(0);
    assert_eq!(
        (attribute(&server, "error.type").as_str(), &server.status),
        (outcome, &Status::error(outcome.to_owned()))
    );
    let id = attribute(&server, "switchtower.request_id");
    assert!(answer.contains(&format!("\r\nx-switchtower-request-id: {id}\r\n")), "{answer}");
}

// In real time: paused time runs on to the next timeout while bytes are still on their way.
#[tokio::test]
async fn what_the_bedrock_face_refuses_by_the_head_alone_is_recorded() {
    let check = async |from: &str, to: &str, status, outcome| {
        let tower = Tower::watched();
        let sent = head("converse", BODY.len(), &key(&tower)).replace(from, to);
        check_bedrock(tower, &(sent + BODY), status, outcome).await;
    };
    check("POST ", "GET ", 405, "unknown_method").await;
    check("host: a", "host: a\r\ncontent-type: text/plain", 415, "unsupported_body").await;
    let length = format!("content-length: {}", BODY.len());
    check(&length, &format!("content-length: {}", MOST_BODY_BYTES + 1), 413, "body_too_large").await;
    check("authorization: Bearer ", "authorization: Bearer x", 401, "unauthenticated").await;
    check("authorization", "x-other", 401, "unauthenticated").await;
}

#[tokio::test]
async fn what_the_bedrock_face_refuses_by_the_body_is_recorded() {
    let check = async |more: &str, body: &str, status, outcome| {
        let tower = Tower::watched();
        let sent = head("converse-stream", body.len(), &(key(&tower) + more)) + body;
        check_bedrock(tower, &sent, status, outcome).await;
    };
    check("", "{", 400, "invalid").await;
    check("x-switchtower-metadata-: empty\r\n", BODY, 400, "invalid").await;
    let tower = Tower::watched();
    let chunked = head("converse", 0, &key(&tower)).replace("content-length: 0", "transfer-encoding: chunked");
    check_bedrock(tower, &format!("{chunked}5dc\r\n{}\r\n0\r\n\r\n", " ".repeat(1500)), 413, "body_too_large").await;
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_is_recorded_with_the_time_that_it_was_waited_for() {
    let tower = Tower::watched();
    let sent = head("converse", BODY.len(), &key(&tower)) + "{";
    let metrics = tower.node.clone();
    check_bedrock(tower, &sent, 408, "body_too_slow").await;
    let text = metrics.telemetry.metrics.text();
    let waited =
        text.lines().find_map(|line| line.strip_prefix(r#"switchtower_request_duration_seconds_sum{route=""} "#));
    assert!(waited.unwrap().parse::<f64>().unwrap() >= 30.0, "{waited:?}");
}

#[tokio::test]
async fn a_body_that_is_cut_short_is_recorded_though_nobody_may_hear_of_it() {
    let tower = Tower::watched();
    let address = serve(&tower);
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all((head("converse", BODY.len(), &key(&tower)) + "{").as_bytes()).await.unwrap();
    in_flight(&tower, 1).await;
    drop(stream);
    in_flight(&tower, 0).await;
    assert_eq!(tower.only_record().2, "body_cut_short");
}

/// Waits until so many requests are being served.
async fn in_flight(tower: &Tower, expected: usize) {
    let end = format!(" {expected}");
    let waiting = async {
        while !tower.in_flight().ends_with(&end) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), waiting).await.unwrap_or_else(|_| panic!("{}", tower.in_flight()));
}

#[tokio::test]
async fn a_path_that_no_face_knows_has_no_record() {
    let tower = Tower::watched();
    let address = serve(&tower);
    let sent = head("converse", BODY.len(), &key(&tower)).replace("/converse ", "/invoke ") + BODY;
    assert!(said(address, &sent, "\n").await.starts_with("HTTP/1.1 404 "));
    assert_eq!(tower.in_flight(), "none");
    assert!(tower.metrics("switchtower_requests_total{").is_empty() && tower.spans(&SpanKind::Server).is_empty());
}

/// A message behind its prefix.
fn framed(message: &[u8]) -> Vec<u8> {
    [&[0], &u32::try_from(message.len()).unwrap().to_be_bytes()[..], message].concat()
}

fn asking(route: &str) -> GenerateRequest {
    let content = vec![ContentBlock { block: Some(Block::Text("hi".to_owned())) }];
    let messages = vec![Message { role: Role::User.into(), content }];
    GenerateRequest { route: route.to_owned(), messages, ..GenerateRequest::default() }
}

/// A call of both methods with these bytes, which is answered with a status and recorded.
async fn check_grpc(change: impl Fn(Builder) -> Builder, sent: &[u8], ends: bool, status: &str, outcome: &str) {
    for method in ["Generate", "GenerateStream"] {
        let tower = Tower::watched();
        let bearer = format!("Bearer {}", tower.key);
        let request = change(grpc(serve(&tower), method)).header(header::AUTHORIZATION, bearer);
        let (response, sender) = begun(request, sent).await;
        let sender = (!ends).then_some(sender);
        let headers = response.await.headers().clone();
        drop(sender);
        assert_eq!(headers["grpc-status"], status, "{outcome}: {headers:?}");
        assert_eq!(tower.only_record(), ("grpc".to_owned(), String::new(), outcome.to_owned()));
        let server = tower.spans(&SpanKind::Server).remove(0);
        assert_eq!(headers["x-switchtower-request-id"], attribute(&server, "switchtower.request_id").as_str());
        assert_eq!(server.name.starts_with("stream"), method == "GenerateStream");
        assert_eq!(server.status, Status::error(outcome.to_owned()));
        assert!(headers.contains_key("grpc-status-details-bin"), "{outcome}: {headers:?}");
    }
}

#[tokio::test]
async fn what_is_no_message_of_the_grpc_face_is_recorded() {
    let same = |request| request;
    check_grpc(same, &framed(&[0; MOST_BODY_BYTES + 1]), false, "11", "body_too_large").await;
    check_grpc(same, &framed(&[0]), true, "13", "invalid").await;
    check_grpc(same, &[], true, "13", "invalid").await;
    check_grpc(same, &[0, 0, 0, 0, 5, 1], true, "13", "invalid").await;
    check_grpc(same, &[1, 0, 0, 0, 1, 0], true, "13", "invalid").await;
    let compressed = |request: Builder| request.header("grpc-encoding", "br");
    check_grpc(compressed, &framed(&asking("chat").encode_to_vec()), true, "12", "unsupported_body").await;
}

#[tokio::test]
async fn by_grpc_what_the_head_says_wrong_is_recorded() {
    let timeout = |request: Builder| request.header("grpc-timeout", "soon");
    check_grpc(timeout, &framed(&[]), true, "3", "invalid").await;
    let tower = Tower::watched();
    let bearer = format!("Bearer {}", tower.key);
    let request = grpc(serve(&tower), "Nothing").header(header::AUTHORIZATION, bearer);
    let (response, _sender) = begun(request, &[]).await;
    assert_eq!(response.await.headers()["grpc-status"], "12");
    assert_eq!(tower.only_record().2, "unknown_method");
    let tower = Tower::watched();
    let (response, _sender) = begun(grpc(serve(&tower), "GenerateStream"), &[]).await;
    assert_eq!(response.await.headers()["grpc-status"], "16");
    assert_eq!(tower.only_record().2, "unauthenticated");
}

#[tokio::test(start_paused = true)]
async fn by_grpc_a_message_that_does_not_come_is_recorded() {
    check_grpc(|request| request, &[0, 0, 0, 0, 100, 1], false, "4", "body_too_slow").await;
}

#[tokio::test]
async fn by_grpc_a_deadline_that_has_passed_is_recorded_with_its_route() {
    let tower = Tower::watched();
    tower.provider.always(A_EAST, Outcome::hang());
    let bearer = format!("Bearer {}", tower.key);
    let request = grpc(serve(&tower), "Generate").header(header::AUTHORIZATION, bearer).header("grpc-timeout", "0S");
    let (response, sender) = begun(request, &framed(&asking("plain").encode_to_vec())).await;
    drop(sender);
    assert_eq!(response.await.headers()["grpc-status"], "4");
    assert_eq!(tower.only_record(), ("grpc".to_owned(), "plain".to_owned(), "deadline_exceeded".to_owned()));
}

#[tokio::test]
async fn by_grpc_a_caller_that_leaves_in_the_midst_of_its_message_is_recorded() {
    let tower = Tower::watched();
    let bearer = format!("Bearer {}", tower.key);
    let request = grpc(serve(&tower), "Generate").header(header::AUTHORIZATION, bearer);
    let (response, _sender) = begun(request, &[0, 0, 0, 0, 100, 1]).await;
    let asked = tokio::spawn(response);
    in_flight(&tower, 1).await;
    asked.abort();
    drop(asked.await);
    in_flight(&tower, 0).await;
    let (_, _, outcome) = tower.only_record();
    assert!(["body_cut_short", "cancelled"].contains(&outcome.as_str()), "{outcome}");
}

#[tokio::test]
async fn an_answer_that_the_grpc_face_cannot_read_is_recorded_as_broken() {
    let tower = Tower::watched();
    let body = Bytes::from_static(br#"{"output":"no message"}"#);
    tower.provider.always(A_EAST, Outcome::whole(Whole { body, stop_reason: None, usage: Some(USAGE) }));
    let bearer = format!("Bearer {}", tower.key);
    let request = grpc(serve(&tower), "Generate").header(header::AUTHORIZATION, bearer);
    let (response, sender) = begun(request, &framed(&asking("plain").encode_to_vec())).await;
    drop(sender);
    assert_eq!(response.await.headers()["grpc-status"], "14");
    assert_eq!(tower.only_record(), ("grpc".to_owned(), "plain".to_owned(), "broken".to_owned()));
    assert_eq!(tower.attempts(), (vec!["protocol 1".to_owned()], vec!["protocol".to_owned()]));
    let dollars = tower.metrics("switchtower_cost_dollars_total{");
    assert_eq!(dollars.len(), 1, "it is paid for all the same");
}

/// Content, and then this.
fn content_then(step: Step) -> Outcome {
    let delta = r#"{"contentBlockIndex":0,"delta":{"text":"he"}}"#;
    let start = ("messageStart", r#"{"role":"assistant"}"#);
    Outcome::stream([Step::Events(batch(&[start, ("contentBlockDelta", delta)])), step])
}

#[tokio::test(start_paused = true)]
async fn an_attempt_whose_stream_breaks_later_has_failed() {
    for (route, outcome) in [("plain", "broken"), ("partial", "truncated")] {
        let tower = Tower::watched();
        tower.provider.always(A_EAST, Outcome::fail(failure(Class::Throttled)));
        tower.provider.always(A_WEST, content_then(Step::Fail(failure(Class::Unavailable))));
        let Ok(switchtower_data_plane::call::Reply::Stream(mut stream)) = tower.stream(route).await else { panic!() };
        while let Some(Ok(_)) = stream.next().await {}
        assert_eq!(tower.only_record(), ("bedrock".to_owned(), route.to_owned(), outcome.to_owned()));
        let words = |words: [&str; 2]| words.map(str::to_owned).to_vec();
        assert_eq!(tower.attempts(), (words(["throttled 1", "unavailable 1"]), words(["throttled", "unavailable"])));
        let second = tower.spans(&SpanKind::Client).remove(1);
        assert_eq!(second.status, Status::error("unavailable"));
        assert!(!attribute(&second, "gen_ai.response.time_to_first_chunk").is_empty(), "it had content");
    }
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_its_caller_leaves_is_neither_good_nor_bad() {
    let tower = Tower::watched();
    tower.provider.always(A_EAST, Outcome::hang());
    assert!(tokio::time::timeout(Duration::from_secs(1), tower.whole("plain")).await.is_err());
    assert_eq!(tower.only_record().2, "cancelled");
    assert_eq!(tower.attempts(), (vec!["cancelled 1".to_owned()], vec![String::new()]));
    let attempt = tower.spans(&SpanKind::Client).remove(0);
    assert!(attempt.end_time.duration_since(attempt.start_time).unwrap() >= Duration::from_secs(1));

    let tower = Tower::watched();
    tower.provider.always(A_EAST, content_then(Step::Hang));
    drop(tower.stream("plain").await);
    assert_eq!(tower.attempts(), (vec!["ok 1".to_owned()], vec![String::new()]));
}
