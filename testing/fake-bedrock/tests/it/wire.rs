//! What no SDK sends: wrong bodies, wrong paths; and HTTP/2 by prior knowledge.

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioTimer},
};
use serde_json::{Value, json};
use switchtower_fake_bedrock::{Behaviour, Break, Exception, Fail, FakeBedrock, InStream, Options};

use crate::support::{MODEL, REGION, started};

pub(crate) const HELLO: &str = r#"{"messages":[{"role":"user","content":[{"text":"hi"}]}]}"#;

pub(crate) async fn post(endpoint: &str, path: &str, body: &str) -> (StatusCode, HeaderMap, Value) {
    send("POST", &format!("{endpoint}{path}"), body, false).await
}

pub(crate) async fn send(method: &str, url: &str, body: &str, http2: bool) -> (StatusCode, HeaderMap, Value) {
    let client = Client::builder(TokioExecutor::new()).timer(TokioTimer::new()).http2_only(http2).build_http();
    let body = Full::new(Bytes::copy_from_slice(body.as_bytes()));
    let request = Request::builder().method(method).uri(url).header("authorization", "Bearer secret").body(body);
    let (head, body) = client.request(request.unwrap()).await.unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (head.status, head.headers, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

#[tokio::test]
async fn what_is_wrong_is_refused_as_bedrock_does() {
    let fake = started().await;
    let endpoint = fake.endpoint(REGION);
    let check = async |path: &str, body: &str, status: u16, kind: &str| {
        let (seen, headers, body) = post(&endpoint, path, body).await;
        assert_eq!(seen.as_u16(), status, "{path}: {body}");
        let error = headers["x-amzn-errortype"].to_str().unwrap();
        assert_eq!(error.split(':').next(), Some(kind));
        assert!(headers.contains_key("x-amzn-requestid"));
    };
    check("/model/m/converse", "{", 400, "ValidationException").await;
    check("/model/m/converse", "", 400, "ValidationException").await;
    check("/model/m/converse", "{}", 400, "ValidationException").await;
    check("/model/m/converse-stream", r#"{"messages":[]}"#, 400, "ValidationException").await;
    check("/model/m/invoke", HELLO, 404, "UnknownOperationException").await;
    check("/", HELLO, 404, "UnknownOperationException").await;
    assert_eq!(fake.counts().outcome("ValidationException"), 4);
    assert_eq!(fake.counts().region(REGION).outcomes[""]["unknown"]["UnknownOperationException"], 2);
}

#[tokio::test]
async fn a_hint_when_to_retry_comes_in_both_headers() {
    let fake = started().await;
    let fail = Fail { retry_after_ms: Some(1500), ..Fail::with(Exception::ThrottlingException) };
    fake.behave(REGION, Behaviour { fail: Some(fail), ..Behaviour::default() });
    let (status, headers, body) = post(&fake.endpoint(REGION), "/model/m/converse", HELLO).await;
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(
        (&headers["x-amz-retry-after"], &headers["retry-after"]),
        (&"1500".parse().unwrap(), &"2".parse().unwrap())
    );
    assert_eq!(body, json!({ "message": Exception::ThrottlingException.default_message() }));
}

#[tokio::test]
async fn http2_by_prior_knowledge_is_served_on_the_same_port() {
    let fake = started().await;
    let url = format!("{}/model/{}/converse", fake.endpoint(REGION), MODEL.replace(':', "%3A"));
    let (status, _, body) = send("POST", &url, HELLO, true).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(body["stopReason"], "end_turn");
    assert_eq!(fake.counts().region(REGION).ended(MODEL), 1);
}

#[tokio::test]
async fn over_http2_a_cut_resets_the_stream_after_what_was_sent() {
    let fake = started().await;
    let in_stream = Some(InStream::after(2, Break::Cut));
    fake.behave(REGION, Behaviour { text: Some("one two".into()), in_stream, ..Behaviour::default() });
    let client = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
    let url = format!("{}/model/m/converse-stream", fake.endpoint(REGION));
    let request = Request::post(url).body(Full::new(Bytes::from_static(HELLO.as_bytes()))).unwrap();
    let mut body = client.request(request).await.unwrap().into_body();
    let mut received = Vec::new();
    let error = loop {
        match body.frame().await.expect("a cut is no end") {
            Ok(frame) => received.extend_from_slice(&frame.into_data().unwrap()),
            Err(error) => break error,
        }
    };
    assert!(format!("{error:?}").contains("INTERNAL_ERROR"), "{error:?}");
    let text = String::from_utf8_lossy(&received);
    assert!(text.contains("one ") && !text.contains("two"), "{text}");
}

#[tokio::test]
async fn an_absurd_length_is_announced_in_a_prelude_that_checks() {
    let fake = started().await;
    fake.behave(REGION, Behaviour { in_stream: Some(InStream::after(0, Break::AbsurdLength)), ..Behaviour::default() });
    let client = Client::builder(TokioExecutor::new()).build_http();
    let url = format!("{}/model/m/converse-stream", fake.endpoint(REGION));
    let request = Request::post(url).body(Full::new(Bytes::from_static(HELLO.as_bytes()))).unwrap();
    let body = client.request(request).await.unwrap().into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body[..4], [0x7f, 0xff, 0xff, 0xff]);
    assert_eq!(body[8..12], crc32fast::hash(&body[..8]).to_be_bytes());
}

#[tokio::test]
async fn requests_are_kept_without_their_secrets_and_no_more_than_asked() {
    let fake = FakeBedrock::start(Options { keep_requests: 2, ..Options::default() }).await.unwrap();
    let endpoint = fake.endpoint(REGION);
    for model in ["a", "b", "c%3A0"] {
        post(&endpoint, &format!("/model/{model}/converse"), HELLO).await;
    }
    let kept = fake.requests();
    let paths: Vec<&str> = kept.iter().map(|request| request.path.as_str()).collect();
    assert_eq!(paths, ["/model/b/converse", "/model/c%3A0/converse"]);
    assert_eq!(kept[1].headers["authorization"], "Bearer");
    assert_eq!(kept[1].body["messages"][0]["content"][0]["text"], "hi");
    assert_eq!((kept[1].method.as_str(), kept[1].region.as_str(), kept[1].body_bytes), ("POST", REGION, HELLO.len()));
    fake.reset_counts();
    assert!(fake.requests().is_empty() && fake.counts().requests() == 0);
}

#[tokio::test]
async fn a_fake_that_is_shut_down_has_left_its_ports() {
    let fake = started().await;
    let address = fake.endpoint(REGION).replace("http://", "");
    fake.shutdown().await;
    assert!(tokio::net::TcpStream::connect(&address).await.is_err());
    let port = address.rsplit(':').next().unwrap().parse().unwrap();
    let again = FakeBedrock::start(Options { ports: Some(vec![port]), ..Options::default() }).await.unwrap();
    assert_eq!(again.endpoint(REGION), format!("http://{address}"));
}
