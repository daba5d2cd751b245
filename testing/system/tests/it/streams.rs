//! After the first content, and the bodies on their way there and back.

use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use serde_json::{Value, json};
use switchtower_fake_bedrock::{Behaviour, Break, Exception, InStream};
use switchtower_system_tests::{
    events, logs,
    tower::{EAST, SONNET, Setup, Tower, WEST, echo, prompt, said},
    until,
    upstream::{ANSWER, Upstream, response},
    wire,
};

use crate::faults::{OVERLOAD, breaking, failing};

#[tokio::test]
async fn after_content_a_break_is_an_exception_in_the_stream_and_nothing_is_tried_again() {
    let tower = Tower::up().await;
    for (broken, name) in [
        (OVERLOAD, "serviceUnavailableException"),
        (Break::Cut, "modelStreamErrorException"),
        (Break::AbsurdLength, "modelStreamErrorException"),
        (Break::EndWithoutStop, "modelStreamErrorException"),
    ] {
        tower.everywhere(&breaking(2, broken));
        tower.fake.reset_counts();
        let reply = tower.converse_stream("chat", &prompt("hi")).await;
        let heard = events::decode(&reply.body);
        assert_eq!(events::text(&heard), "one ", "{broken:?}");
        let last = heard.last().unwrap();
        assert_eq!((last.message_type.as_str(), last.name.as_str()), ("exception", name), "{broken:?}");
        assert!(!reply.cut, "the frame of the error is whole, and the response with it");
        assert_eq!(tower.fake.counts().requests(), 1, "{broken:?}");
    }
    let outcome = r#"switchtower_requests_total{face="bedrock",route="chat",outcome="broken"}"#;
    assert_eq!(tower.metric(outcome).await, 4.0);
}

#[tokio::test]
async fn silence_after_content_is_an_error_too() {
    let tower = Tower::up().await;
    tower.everywhere(&breaking(2, Break::Hang));
    let reply = tower.converse_stream("impatient", &prompt("hi")).await;
    let heard = events::decode(&reply.body);
    assert_eq!(
        (events::text(&heard).as_str(), heard.last().unwrap().name.as_str()),
        ("one ", "modelStreamErrorException")
    );
    until("the upstream is left", || tower.fake.counts().cancelled() == 1).await;
}

#[tokio::test]
async fn where_the_policy_says_partial_a_break_is_an_end_that_says_so() {
    let tower = Tower::up().await;
    for broken in [OVERLOAD, Break::Cut, Break::CutInsideFrame, Break::BadChecksum, Break::EndWithoutStop] {
        tower.everywhere(&breaking(3, broken));
        let reply = tower.converse_stream("partial", &prompt("hi")).await;
        let heard = events::decode(&reply.body);
        assert_eq!(events::text(&heard), "one two ", "{broken:?}");
        assert_eq!(events::names(&heard)[3..], ["contentBlockStop", "messageStop"], "{broken:?}");
        let stop = &heard.last().unwrap().payload;
        assert_eq!(stop["stopReason"], "max_tokens");
        assert_eq!(stop["additionalModelResponseFields"]["switchtower"]["completeness"], "truncated");
    }
    let outcome = r#"switchtower_requests_total{face="bedrock",route="partial",outcome="truncated"}"#;
    assert_eq!(tower.metric(outcome).await, 5.0);
}

#[tokio::test]
async fn trailers_say_how_a_stream_ended() {
    let tower = Tower::up().await;
    let check = async |behaviour: Behaviour, route: &str, expected: &str| {
        tower.everywhere(&behaviour);
        let path = format!("/model/{route}/converse-stream");
        let reply = tower.send_two(tower.post(&path), prompt("hi").to_string()).await;
        assert_eq!(reply.trailers.get("x-switchtower-completeness").unwrap(), expected);
    };
    check(Behaviour::default(), "chat", "complete").await;
    check(breaking(3, Break::Cut), "chat", "broken").await;
    check(breaking(3, Break::Cut), "partial", "truncated").await;
    check(failing(Exception::InternalServerException), "safe", "degraded").await;
}

#[tokio::test]
async fn a_stream_without_its_bill_is_still_a_whole_answer() {
    let tower = Tower::up().await;
    tower.everywhere(&Behaviour {
        text: Some("one two".to_owned()),
        in_stream: Some(InStream::with(Break::EndWithoutMetadata)),
        ..Behaviour::default()
    });
    let reply = tower.converse_stream("chat", &prompt("hi")).await;
    let heard = events::decode(&reply.body);
    assert_eq!((events::text(&heard).as_str(), heard.last().unwrap().name.as_str()), ("one two", "messageStop"));
}

#[tokio::test]
async fn a_caller_that_leaves_cancels_the_call_upstream_and_ends_the_record() {
    let tower = Tower::up().await;
    tower.everywhere(&Behaviour { words: Some(10_000), tokens_per_second: Some(50.0), ..Behaviour::default() });
    let mut stream = tower.open_stream("chat", &prompt("hi")).await;
    let id = stream.response.headers()["x-switchtower-request-id"].to_str().unwrap().to_owned();
    assert!(stream.next().await.is_some());
    assert_eq!(tower.fake.counts().region(EAST).open_streams, 1);
    drop(stream);
    until("the upstream is left", || tower.fake.counts().cancelled() == 1).await;
    tower.at_rest().await;
    let outcome = r#"switchtower_requests_total{face="bedrock",route="chat",outcome="cancelled"}"#;
    assert_eq!(tower.metric(outcome).await, 1.0);
    let lines = logs::lines_with(&[&id]);
    let [line] = lines.as_slice() else { panic!("a record ends once: {lines:#?}") };
    assert!(line["message"].as_str().unwrap().contains("left by its caller"), "{line}");
    tower.everywhere(&Behaviour::default());
    tower.assert_serves().await;
}

#[tokio::test]
async fn a_caller_that_does_not_read_holds_the_upstream_no_longer_than_the_routes_total() {
    let tower = Tower::up().await;
    // Far more than all buffers on the way hold.
    tower.everywhere(&Behaviour { words: Some(400_000), ..Behaviour::default() });
    for (version, cancelled) in [(wire::Version::One, 1), (wire::Version::Two, 2)] {
        let request = tower.post("/model/brief/converse-stream");
        let request = request.body(Bytes::from(prompt("hi").to_string())).unwrap();
        let mut stream = wire::open(tower.address(), version, request).await;
        assert!(stream.next().await.is_some());
        until("the upstream is left", || tower.fake.counts().cancelled() == cancelled).await;
        assert_eq!(tower.fake.counts().region(EAST).open_streams, 0);
        drop(stream);
    }
    tower.at_rest().await;
}

#[tokio::test]
async fn content_reaches_the_caller_while_the_model_still_speaks() {
    let tower = Tower::up().await;
    tower.everywhere(&breaking(2, Break::Hang));
    let mut stream = tower.open_stream("chat", &prompt("hi")).await;
    let mut heard = Vec::new();
    while events_so_far(&heard) < 2 {
        heard.extend_from_slice(&stream.next().await.expect("content that was said is not held back"));
    }
    assert_eq!(events::text(&events::decode(&heard.into())), "one ");
}

fn events_so_far(bytes: &[u8]) -> usize {
    if bytes.is_empty() { 0 } else { events::decode(&bytes.to_vec().into()).len() }
}

#[tokio::test]
async fn a_body_in_which_nothing_must_be_set_is_the_same_bytes_upstream() {
    let upstream = Upstream::start(response("application/json", ANSWER)).await.unwrap();
    let tower = Tower::start(Setup { east: Some(upstream.url()), ..Setup::default() }).await;
    // Order, spaces, escapes, numbers of any form, members that nobody knows, one that stands twice.
    let body = "{ \"messages\" : [{\"role\":\"user\",\"content\":[{\"text\":\"gr\\u00fc\\u00dfe\"}]}],\n\
                \"inferenceConfig\":{\"maxTokens\":3,\"temperature\":1.0e-1,\"futureKnob\":[1,2.50]},\
                \"neverHeardOf\": {\"deep\":[null,true,1e400]}, \"requestMetadata\":{\"a\":\"b\"},\"x\":1,\"x\":2 }";
    let reply = tower.send(tower.post("/model/chat/converse"), body).await;
    // And the answer's too.
    assert_eq!((reply.status, reply.body.as_ref()), (200, ANSWER.as_bytes()));
    let set = body.replace("\"maxTokens\":3", "\"maxTokens\":5");
    let reply =
        tower.send(tower.post("/model/short/converse"), body.replace("\"maxTokens\":3", "\"maxTokens\":6")).await;
    assert_eq!(reply.status, 200);
    assert_eq!(upstream.bodies(), [body.as_bytes(), set.as_bytes()]);
}

#[tokio::test]
async fn an_upstream_that_does_not_speak_bedrock_is_left_for_one_that_does() {
    let event_stream = "application/vnd.amazon.eventstream";
    for (answer, streams) in [
        (response("application/json", "not json"), false),
        (response("application/json", "[]"), false),
        (response("text/html", "<html>proxy error</html>"), true),
        (response(event_stream, "garbage that is no frame at all, and long enough to be read as one"), true),
        (response(event_stream, ""), true),
        // Cut off before the end that its head told.
        (response("application/json", ANSWER).replace("length: 1", "length: 9"), false),
        ("HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n".to_owned(), false),
        ("HTTP/1.1 502 Bad Gateway\r\ncontent-length: 4\r\n\r\nnope".to_owned(), true),
        ("not even HTTP\r\n\r\n".to_owned(), true),
        (String::new(), true),
    ] {
        let upstream = Upstream::start(answer.clone()).await.unwrap();
        let tower = Tower::start(Setup { east: Some(upstream.url()), ..Setup::default() }).await;
        let expected = echo(SONNET, WEST, "hi");
        if streams {
            let reply = tower.converse_stream("chat", &prompt("hi")).await;
            assert_eq!(events::text(&events::decode(&reply.body)), expected, "{answer}");
            assert_eq!(reply.header("x-switchtower-attempts"), "2", "{answer}");
        }
        let reply = tower.converse("chat", &prompt("hi")).await;
        assert_eq!(said(&reply.json()), expected, "{answer}");
        assert_eq!(reply.header("x-switchtower-attempts"), "2", "{answer}");
    }
}

#[tokio::test]
async fn many_at_once_each_hear_their_own_answer() {
    let tower = Arc::new(Tower::up().await);
    tower.everywhere(&Behaviour { tokens_per_second: Some(200.0), ..Behaviour::default() });
    let mut calls = tokio::task::JoinSet::new();
    for number in 0..64 {
        let tower = tower.clone();
        calls.spawn(async move {
            let said = format!("I am {number}");
            let reply = tower.converse_stream("chat", &prompt(&said)).await;
            assert_eq!(events::text(&events::decode(&reply.body)), echo(SONNET, EAST, &said));
        });
    }
    while let Some(ended) = calls.join_next().await {
        ended.unwrap();
    }
    assert_eq!(tower.fake.counts().region(EAST).outcome("ok"), 64);
    tower.at_rest().await;
}

#[tokio::test]
async fn a_node_that_ends_lets_a_stream_finish_and_takes_nothing_new() {
    let tower = Tower::up().await;
    let (address, admin) = (tower.address(), tower.node.admin_address);
    // Long enough to be open when the node begins to end, whatever else this machine does.
    tower.everywhere(&Behaviour { words: Some(60), tokens_per_second: Some(20.0), ..Behaviour::default() });
    let mut stream = tower.open_stream("chat", &prompt("hi")).await;
    let mut heard = stream.next().await.unwrap().to_vec();
    let Tower { node, fake, .. } = tower;
    let stopping = tokio::spawn(node.stop());
    let ready = loop {
        let reply = wire::send(admin, wire::Version::One, Request::get("/readyz").body(Bytes::new()).unwrap()).await;
        if reply.json()["draining"] == true {
            break reply;
        }
    };
    assert_eq!((ready.status, &ready.json()["ready"]), (503, &json!(false)));
    while let Some(more) = stream.next().await {
        heard.extend_from_slice(&more);
    }
    let heard = events::decode(&heard.into());
    assert_eq!(heard.last().unwrap().name, "metadata");
    assert_eq!(events::text(&heard).split(' ').count(), 60);
    stopping.await.unwrap();
    assert!(tokio::net::TcpStream::connect(address).await.is_err(), "nobody listens any more");
    assert_eq!(fake.counts().cancelled(), 0);
}

#[tokio::test]
async fn the_limit_of_output_tokens_is_put_in_and_lowered_and_never_raised() {
    let tower = Tower::up().await;
    let sent = async |config: Option<Value>| {
        let mut body = prompt("hi");
        if let Some(config) = config {
            body["inferenceConfig"] = config;
        }
        let reply = tower.converse("short", &body).await;
        assert_eq!(reply.status, 200, "{:?}", reply.body);
        assert_eq!(reply.json()["stopReason"], "max_tokens");
        let mut sent = tower.fake.requests().pop().unwrap().body;
        let config = sent["inferenceConfig"].take();
        sent.as_object_mut().unwrap().remove("inferenceConfig");
        assert_eq!(sent, prompt("hi"), "everything else is as it was");
        config
    };
    assert_eq!(sent(None).await, json!({ "maxTokens": 5 }));
    assert_eq!(sent(Some(json!({ "topP": 0.5 }))).await, json!({ "maxTokens": 5, "topP": 0.5 }));
    assert_eq!(sent(Some(json!({ "maxTokens": 5000 }))).await, json!({ "maxTokens": 5 }));
    assert_eq!(sent(Some(json!({ "maxTokens": 2 }))).await, json!({ "maxTokens": 2 }));
}
