//! The client against a server that says what a script tells it to.

// Everything here is a test's, the helpers too.
#![allow(clippy::unwrap_used)]

mod scripted;

use std::{collections::HashMap, time::Duration};

use futures_util::StreamExt;
use switchtower_client::{CallOptions, Client, Event, Kind, Options, Request, text, wire};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::scripted::{Answer, Server};

fn hello() -> Request {
    Request::text("support-chat", "hello")
}

fn said(words: &str) -> wire::GenerateResponse {
    let block = wire::content_block::Block::Text(words.to_owned());
    let content = vec![wire::ContentBlock { block: Some(block) }];
    wire::GenerateResponse {
        message: Some(wire::Message { role: wire::Role::Assistant.into(), content }),
        end: Some(wire::End::default()),
    }
}

fn delta(words: &str) -> Event {
    let delta = Some(wire::block_delta::Delta::Text(words.to_owned()));
    Event::BlockDelta(wire::BlockDelta { index: 0, delta })
}

fn info(reason: &str) -> ErrorDetails {
    let metadata = HashMap::from([("request_id".to_owned(), "00ff".to_owned())]);
    ErrorDetails::with_error_info(reason, "switchtower", metadata)
}

async fn client(server: &Server) -> Client {
    Client::connect(Options::new(server.endpoint()).api_key("st_key").user_agent("shop/1.0")).await.unwrap()
}

#[tokio::test]
async fn a_call_shows_key_deadline_trace_and_name() {
    let server = Server::start(Answer::Whole(Ok(said("hi")))).await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let options = CallOptions::new().deadline(Duration::from_secs(30)).traceparent(trace).metadata("session", "s1");
    let answer = client(&server).await.generate(hello(), options).await.unwrap();
    assert_eq!(text(&answer), "hi");

    let (headers, request) = server.seen();
    assert_eq!(headers["authorization"], "Bearer st_key");
    assert_eq!(headers["grpc-timeout"], "30000000u");
    assert_eq!(headers["traceparent"], trace);
    assert!(headers["user-agent"].to_str().unwrap().starts_with("shop/1.0 switchtower-rust/"));
    assert_eq!((request.route.as_str(), request.metadata["session"].as_str()), ("support-chat", "s1"));
}

#[tokio::test]
async fn a_call_that_says_nothing_begins_a_trace_and_sets_no_deadline() {
    let server = Server::start(Answer::Whole(Ok(said("hi")))).await;
    client(&server).await.generate(hello(), CallOptions::new()).await.unwrap();
    let (headers, _) = server.seen();
    assert!(!headers.contains_key("grpc-timeout"));
    assert_eq!(headers["traceparent"].len(), 55);
}

#[tokio::test]
async fn the_details_of_a_refusal_arrive_as_words() {
    let mut details = info("THROTTLED");
    details.set_retry_info(Some(Duration::from_millis(1500)));
    details.add_bad_request_violation("messages[0].content", "must have at least one block");
    let status = Status::with_error_details(Code::ResourceExhausted, "Too many requests.", details);
    let server = Server::start(Answer::Whole(Err(status.clone()))).await;
    let streaming = Server::start(Answer::Refused(status)).await;
    for error in [
        client(&server).await.generate(hello(), CallOptions::new()).await.unwrap_err(),
        client(&streaming).await.stream(hello(), CallOptions::new()).await.unwrap_err(),
    ] {
        assert_eq!(
            (error.kind(), error.reason(), error.request_id()),
            (Kind::Throttled, Some("THROTTLED"), Some("00ff"))
        );
        assert_eq!(error.retry_after(), Some(Duration::from_millis(1500)));
        assert_eq!(error.violations()[0].field, "messages[0].content");
        assert_eq!(error.to_string(), "Too many requests.");
    }
}

/// What a stream gives: its text, its end, its error.
async fn told(server: &Server) -> (Option<String>, Vec<String>) {
    let mut events = client(server).await.stream(hello(), CallOptions::new()).await.unwrap();
    let id = events.request_id().map(str::to_owned);
    let mut told = Vec::new();
    while let Some(event) = events.next().await {
        told.push(match event {
            Ok(Event::BlockDelta(wire::BlockDelta { delta: Some(wire::block_delta::Delta::Text(text)), .. })) => text,
            Ok(Event::End(_)) => "END".to_owned(),
            Ok(_) => "?".to_owned(),
            Err(error) => format!("{:?} of {}", error.kind(), error.request_id().unwrap_or("nobody")),
        });
    }
    assert!(events.next().await.is_none(), "a stream that is over stays over");
    (id, told)
}

#[tokio::test]
async fn a_stream_ends_in_its_end() {
    let end = Event::End(wire::End::default());
    let server = Server::start(Answer::Events(vec![Ok(delta("a")), Ok(delta("b")), Ok(end)])).await;
    let (id, told) = told(&server).await;
    assert_eq!((id.as_deref(), told.join(" ").as_str()), (Some("00ff"), "a b END"));
}

#[tokio::test]
async fn a_stream_that_stops_without_its_end_is_an_error() {
    let server = Server::start(Answer::Events(vec![Ok(delta("a"))])).await;
    assert_eq!(told(&server).await.1, ["a", "StreamBroken of 00ff"]);
    let status = Status::with_error_details(Code::Aborted, "It broke.", info("STREAM_BROKEN"));
    let server = Server::start(Answer::Events(vec![Ok(delta("a")), Err(status)])).await;
    assert_eq!(told(&server).await.1, ["a", "StreamBroken of 00ff"]);
}

#[tokio::test]
async fn a_deadline_is_kept_although_the_server_never_answers() {
    let server = Server::start(Answer::Never).await;
    let client = client(&server).await;
    tokio::time::pause();
    let options = CallOptions::new().deadline(Duration::from_secs(5));
    let error = client.generate(hello(), options.clone()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::DeadlineExceeded);
    let error = client.stream(hello(), options).await.unwrap_err();
    assert_eq!(error.kind(), Kind::DeadlineExceeded);
}

#[tokio::test]
async fn a_deadline_holds_to_the_end_of_a_stream_and_cancels_it() {
    let server = Server::start(Answer::EventsThenSilence(vec![Ok(delta("a"))])).await;
    let client = client(&server).await;
    let options = CallOptions::new().deadline(Duration::from_secs(5));
    let mut events = client.stream(hello(), options).await.unwrap();
    assert_eq!(events.next().await.unwrap().unwrap(), delta("a"));
    tokio::time::pause();
    let error = events.next().await.unwrap().unwrap_err();
    assert_eq!((error.kind(), error.request_id()), (Kind::DeadlineExceeded, Some("00ff")));
    assert!(events.next().await.is_none());
    tokio::time::resume();
    server.cancelled().await;
}

#[tokio::test]
async fn a_server_is_believed_by_the_certificates_that_are_given_and_by_no_others() {
    let server = Server::start_tls(Answer::Whole(Ok(said("hi")))).await;
    let trusting = Options::new(server.endpoint()).ca(server.certificate());
    let client = Client::connect(trusting).await.unwrap();
    assert_eq!(text(&client.generate(hello(), CallOptions::new()).await.unwrap()), "hi");

    let other = Server::start_tls(Answer::Never).await;
    let error = Client::connect(Options::new(server.endpoint()).ca(other.certificate())).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable);
}

#[tokio::test]
async fn where_nobody_listens_the_error_is_unavailable() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = Client::connect(Options::new(format!("http://{address}"))).await.unwrap_err();
    assert_eq!((error.kind(), error.request_id()), (Kind::Unavailable, None));
}
