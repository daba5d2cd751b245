//! The ways in, over loopback: what is answered before a body is there, and how a stream ends.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::{Response, header};
use http_body_util::channel::Sender;
use hyper::body::Incoming;
use switchtower_provider::scripted::Outcome;
use tokio::time::Instant;

use crate::{
    support::{A_EAST, Tower, USAGE},
    wire::{BODY, MOST_BODY_BYTES, begun, grpc, head, said, serve},
};

#[tokio::test(start_paused = true)]
async fn a_stranger_is_refused_before_the_body_is_there() {
    let tower = Tower::new();
    let address = serve(&tower);
    let wrong = format!("authorization: Bearer swt_{}_{}\r\n", "A".repeat(16), "B".repeat(32));
    let signed = format!(
        "authorization: AWS4-HMAC-SHA256 Credential=SWTKAAAAAAAAAAAAAAAA/20260921/us-east-1/bedrock/aws4_request, \
         SignedHeaders=host;x-amz-date, Signature={}\r\n",
        "0".repeat(64)
    );
    for (times, credentials) in ["", &wrong, &signed].into_iter().enumerate() {
        let begun = Instant::now();
        let answer = said(address, &head("converse", MOST_BODY_BYTES, credentials), "").await;
        assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
        assert!(answer.contains("\r\nwww-authenticate: Bearer\r\n"), "{answer}");
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
        assert_eq!(unauthenticated(&tower, "bedrock"), times as u64 + 1);
    }
}

/// How many requests were recorded as refused for want of a key.
fn unauthenticated(tower: &Tower, face: &str) -> u64 {
    let text = tower.node.telemetry.metrics.text();
    let line = text.lines().find(|line| {
        line.starts_with("switchtower_requests_total{")
            && line.contains(&format!("face=\"{face}\""))
            && line.contains("outcome=\"unauthenticated\"")
    });
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0)
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_is_waited_for_half_a_minute() {
    let tower = Tower::new();
    let address = serve(&tower);
    let begun = Instant::now();
    let key = format!("authorization: Bearer {}\r\n", tower.key);
    let answer = said(address, &(head("converse", BODY.len(), &key) + "{"), "").await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains("\r\nx-amzn-errortype: RequestTimeoutException\r\n"), "{answer}");
    assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
    assert_eq!(begun.elapsed().as_secs(), 30);
}

#[tokio::test(start_paused = true)]
async fn who_takes_trailers_over_http_1_is_told_how_the_stream_ended() {
    let tower = Tower::new();
    tower.provider.always(A_EAST, Outcome::text("hello", USAGE));
    let address = serve(&tower);
    let more = format!("authorization: Bearer {}\r\nte: trailers\r\n", tower.key);
    let last = "0\r\nx-switchtower-completeness: complete\r\n\r\n";
    let answer = said(address, &(head("converse-stream", BODY.len(), &more) + BODY), last).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.contains("\r\ntrailer: x-switchtower-completeness\r\n"), "{answer}");
}

/// Calls Generate and sends these bytes of a body that does not end.
async fn called(address: SocketAddr, key: Option<&str>, sent: &[u8]) -> (Response<Incoming>, Sender<Bytes>) {
    let mut request = grpc(address, "Generate");
    if let Some(key) = key {
        request = request.header(header::AUTHORIZATION, format!("Bearer {key}"));
    }
    let (response, sender) = begun(request, sent).await;
    (response.await, sender)
}

#[tokio::test(start_paused = true)]
async fn by_grpc_a_stranger_is_refused_before_the_message_is_there() {
    let tower = Tower::new();
    let address = serve(&tower);
    let wrong = format!("swt_{}_{}", "A".repeat(16), "B".repeat(32));
    for (times, key) in [None, Some(&*wrong)].into_iter().enumerate() {
        let begun = Instant::now();
        let (response, _sender) = called(address, key, &[0, 0, 0, 0, 100, 1]).await;
        assert_eq!(response.headers()["grpc-status"], "16");
        assert!(response.headers().contains_key("grpc-status-details-bin"));
        assert!(response.headers().contains_key("x-switchtower-request-id"));
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
        assert_eq!(unauthenticated(&tower, "grpc"), times as u64 + 1);
    }
}

#[tokio::test(start_paused = true)]
async fn by_grpc_a_message_that_does_not_come_is_waited_for_half_a_minute() {
    let tower = Tower::new();
    let address = serve(&tower);
    let begun = Instant::now();
    let (response, _sender) = called(address, Some(&tower.key), &[0, 0, 0, 0, 100, 1]).await;
    assert_eq!(response.headers()["grpc-status"], "4");
    assert_eq!(begun.elapsed().as_secs(), 30);
}

// In real time: paused time runs on to the next timeout while the message is still on its way.
#[tokio::test]
async fn by_grpc_the_limit_of_a_body_holds_too() {
    let tower = Tower::new();
    let address = serve(&tower);
    for (length, status) in [(MOST_BODY_BYTES + 1, "11"), (MOST_BODY_BYTES, "13")] {
        // A message that cannot be read, once it is: no field has the number 0.
        let mut sent = [&[0], &u32::try_from(length).unwrap().to_be_bytes()[..]].concat();
        sent.resize(5 + length, 0);
        let (response, _sender) = called(address, Some(&tower.key), &sent).await;
        assert_eq!(response.headers()["grpc-status"], status, "{length}");
    }
}
