//! The control endpoint does what the library does.

use http::StatusCode;
use serde_json::Value;
use switchtower_fake_bedrock::{Counts, FakeBedrock, Options};

use crate::{
    support::REGION,
    wire::{HELLO, post, send},
};

async fn controlled() -> (FakeBedrock, String, String) {
    let control = Some(([127, 0, 0, 1], 0).into());
    let fake = FakeBedrock::start(Options { control, ..Options::default() }).await.unwrap();
    let (endpoint, url) = (fake.endpoint(REGION), fake.control_url().unwrap());
    (fake, endpoint, url)
}

async fn control(method: &str, url: &str, body: &str) -> Value {
    let (status, _, answer) = send(method, url, body, false).await;
    assert_eq!(status, StatusCode::OK, "{method} {url}: {answer}");
    answer
}

async fn said(endpoint: &str) -> (u16, Value) {
    let (status, _, body) = post(endpoint, "/model/m/converse", HELLO).await;
    (status.as_u16(), body["output"]["message"]["content"][0]["text"].clone())
}

#[tokio::test]
async fn a_script_is_put_changed_and_healed() {
    let (_fake, endpoint, url) = controlled().await;
    let script = "regions: { us-east-1: { behaviour: { text: scripted }, models: { other: { text: mine } } } }";
    control("PUT", &format!("{url}/script"), script).await;
    assert_eq!(said(&endpoint).await, (200, "scripted".into()));
    control("PATCH", &format!("{url}/region/{REGION}"), r#"{"fail":{"error":"ConflictException"}}"#).await;
    assert_eq!(said(&endpoint).await.0, 400);
    control("PATCH", &format!("{url}/region/{REGION}"), r#"{"fail":null}"#).await;
    assert_eq!(said(&endpoint).await, (200, "scripted".into()));
    control("POST", &format!("{url}/region/{REGION}"), r#"{"outage":"refuse"}"#).await;
    control("POST", &format!("{url}/heal"), "").await;
    assert_eq!(said(&endpoint).await, (200, "scripted".into()));
    control("POST", &format!("{url}/region/{REGION}?model=m"), r#"{"text":"mine"}"#).await;
    assert_eq!(said(&endpoint).await, (200, "mine".into()));
    let shown = control("GET", &format!("{url}/script"), "").await;
    assert_eq!(shown["regions"][REGION]["models"]["other"]["text"], "mine");
    control("PUT", &format!("{url}/script"), &shown.to_string()).await;
}

#[tokio::test]
async fn a_script_that_cannot_be_is_refused_and_changes_nothing() {
    let (_fake, endpoint, url) = controlled().await;
    let check = async |method: &str, path: &str, body: &str, expected: &str| {
        let (status, _, answer) = send(method, &format!("{url}{path}"), body, false).await;
        let message = answer["message"].as_str().unwrap();
        assert!(status.is_client_error() && message.contains(expected), "{path} {body}: {status} {message}");
    };
    check("PUT", "/script", "regions: { us-east-1: { behaviour: { txet: a } } }", "txet").await;
    check("PUT", "/script", "regions: { mars-1: {} }", "no such region").await;
    check("POST", "/region/mars-1", "{}", "no region mars-1").await;
    check("POST", "/region/us-east-1", r#"{"words":0}"#, "words").await;
    check("POST", "/region/us-east-1?model=m", r#"{"outage":"refuse"}"#, "a model can only hang").await;
    check("PATCH", "/region/us-east-1", "[]", "JSON object").await;
    check("PATCH", "/region/us-east-1", r#"{"chunks":1,"chunk_bytes":1}"#, "does not go with").await;
    check("GET", "/requests?last=x", "", "whole number").await;
    check("GET", "/nothing", "", "PUT /script").await;
    assert_eq!(said(&endpoint).await.0, 200);
}

#[tokio::test]
async fn counts_and_requests_are_shown_and_reset() {
    let (fake, endpoint, url) = controlled().await;
    said(&endpoint).await;
    said(&endpoint).await;
    let counts: Counts = serde_json::from_value(control("GET", &format!("{url}/counts"), "").await).unwrap();
    assert_eq!(counts, fake.counts());
    assert_eq!((counts.requests(), counts.region(REGION).max_concurrent, counts.outcome("ok")), (2, 1, 2));
    let requests = control("GET", &format!("{url}/requests?last=1"), "").await;
    assert_eq!(requests.as_array().unwrap().len(), 1);
    assert_eq!(requests[0]["path"], "/model/m/converse");
    control("DELETE", &format!("{url}/counts"), "").await;
    assert_eq!(fake.counts().requests(), 0);
}
