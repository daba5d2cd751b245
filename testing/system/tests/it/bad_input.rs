//! Bad input: each gets a clear error of its own, takes nothing from anybody else, and leaves the node as good as before.

use std::{
    borrow::Cow,
    time::{Duration, SystemTime},
};

use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SigningSettings, sign},
    sign::v4,
};
use http::{HeaderMap, Method, Request};
use switchtower_system_tests::{
    tower::{BATCH, Setup, Tower, WEB, prompt},
    wire::{self, Reply},
};

/// What a refusal says, without what differs from one request to the next.
fn essence(reply: &Reply) -> (u16, HeaderMap, bytes::Bytes) {
    let mut headers = reply.headers.clone();
    for name in ["x-switchtower-request-id", "x-amzn-requestid", "date"] {
        assert!(headers.remove(name).is_some(), "{name}: {reply:?}");
    }
    (reply.status, headers, reply.body.clone())
}

/// How many requests of the Bedrock face were refused so before their route was known.
async fn refused(tower: &Tower, outcome: &str) -> f64 {
    tower.metric(&format!(r#"switchtower_requests_total{{face="bedrock",route="",outcome="{outcome}"}}"#)).await
}

#[tokio::test]
async fn a_body_that_cannot_be_read_is_refused_with_the_member_that_is_wrong() {
    let tower = Tower::up().await;
    let messages = r#""messages":[{"role":"user","content":[{"text":"hi"}]}]"#;
    let check = async |body: Vec<u8>, part: &str| {
        for path in ["/model/chat/converse", "/model/guarded/converse-stream"] {
            let reply = tower.send(tower.post(path), body.clone()).await;
            let shown = String::from_utf8_lossy(&body[..body.len().min(120)]).into_owned();
            assert_eq!((reply.status, reply.header("x-amzn-errortype")), (400, "ValidationException"), "{shown}");
            assert!(reply.message().contains(part), "{shown}: {}", reply.message());
            assert_eq!(reply.header("content-type"), "application/json");
        }
    };
    let with = |members: &str| format!("{{{messages},{members}}}").into_bytes();
    for body in ["", "hello", "null", "[]", "\u{feff}{}"] {
        check(body.into(), "must be one JSON object").await;
    }
    check(b"{\"messages\": [".to_vec(), "not JSON").await;
    check(b"{\"a\": 01}".to_vec(), "not JSON").await;
    check(b"{} {}".to_vec(), "not JSON").await;
    check(b"{\"a\": \"\xff\"}".to_vec(), "UTF-8").await;
    check(with(&format!(r#""deep":{}{}"#, "[".repeat(200), "]".repeat(200))), "nested deeper than 128").await;
    check(with(&format!(r#""deep":{}"#, "[".repeat(100_000))), "nested deeper than 128").await;
    check(with(r#""inferenceConfig":null"#), "inferenceConfig must be an object").await;
    check(with(r#""inferenceConfig":[]"#), "inferenceConfig must be an object").await;
    check(with(r#""inferenceConfig":{},"inferenceConfig":{"maxTokens":1}"#), "inferenceConfig stands twice").await;
    check(with(r#""inferenceC\u006fnfig":{"maxTokens":1}"#), "inferenceConfig must be written without escapes").await;
    for max in ["null", "\"5\"", "0", "-1", "1.5", "1e3", "true", "99999999999", "[5]"] {
        check(with(&format!(r#""inferenceConfig":{{"maxTokens":{max}}}"#)), "inferenceConfig.maxTokens must be").await;
    }
    check(with(r#""inferenceConfig":{"maxTokens":1,"maxTokens":2}"#), "inferenceConfig.maxTokens stands twice").await;
    check(with(r#""inferenceConfig":{"max\u0054okens":2}"#), "without escapes").await;
    check(with(r#""guardrailConfig":null"#), "guardrailConfig must be an object").await;
    check(with(r#""guardrailConfig":"none""#), "guardrailConfig must be an object").await;
    check(with(r#""guardrailConfig":{},"guardrailConfig":{}"#), "guardrailConfig stands twice").await;
    check(with(r#""\u0067uardrailConfig":{}"#), "guardrailConfig must be written without escapes").await;
    check(with(r#""requestMetadata":["a"]"#), "requestMetadata must be").await;
    check(with(r#""requestMetadata":{"a":1}"#), "requestMetadata must be").await;
    check(b"{\"messages\": \"hi\"}".to_vec(), "messages must be an array").await;
    check(with(r#""additionalModelRequestFields":{"max_tokens":100000}"#), "max_tokens").await;
    assert_eq!(tower.fake.counts().requests(), 0, "nothing of it went upstream");
    tower.at_rest().await;
    tower.assert_serves().await;
}

#[tokio::test]
async fn metadata_in_headers_has_bounds() {
    let tower = Tower::up().await;
    let mut many = tower.post("/model/chat/converse");
    for index in 0..17 {
        many = many.header(format!("x-switchtower-metadata-k{index}"), "v");
    }
    let long = tower.post("/model/chat/converse").header("x-switchtower-metadata-k", "v".repeat(257));
    let binary = tower.post("/model/chat/converse").header("x-switchtower-metadata-k", b"\xff".as_slice());
    for (request, part) in [(many, "more than 16"), (long, "at most 256"), (binary, "not UTF-8")] {
        let reply = tower.send(request, prompt("hi").to_string()).await;
        assert_eq!((reply.status, reply.header("x-amzn-errortype")), (400, "ValidationException"));
        assert!(reply.message().contains(part), "{}", reply.message());
    }
    tower.assert_serves().await;
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_before_it_is_read() {
    let tower = Tower::start(Setup { most_body_bytes: 1000, ..Setup::default() }).await;
    let key = &tower.key(WEB).bearer;
    let head = format!("POST /model/chat/converse HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n");
    let answer = wire::send_bytes(tower.address(), format!("{head}content-length: 1001\r\n\r\n{{").as_bytes()).await;
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("at most 1000 bytes"), "{answer}");

    let chunk = format!("{head}transfer-encoding: chunked\r\n\r\n5dc\r\n{}\r\n0\r\n\r\n", " ".repeat(1500));
    let answer = wire::send_bytes(tower.address(), chunk.as_bytes()).await;
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("ValidationException"), "{answer}");

    let reply = tower.send_two(tower.post("/model/chat/converse"), " ".repeat(1500)).await;
    assert_eq!(reply.status, 413);
    assert_eq!(refused(&tower, "body_too_large").await, 3.0);
    assert_eq!(tower.fake.counts().requests(), 0);
    tower.assert_serves().await;
}

#[tokio::test]
async fn a_body_that_is_cut_short_is_neither_sent_on_nor_waited_for() {
    let tower = Tower::up().await;
    let key = &tower.key(WEB).bearer;
    let body = prompt("hi").to_string();
    let cut = format!(
        "POST /model/chat/converse HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len() + 1
    );
    let answer = String::from_utf8_lossy(&wire::send_bytes(tower.address(), cut.as_bytes()).await).into_owned();
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("cut short"), "{answer}");
    // Half a head, and what is no HTTP at all.
    for bytes in [&b"POST /model/chat/conv"[..], b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\0\0\0\0\r\n\r\n"] {
        let answer = wire::send_bytes(tower.address(), bytes).await;
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 400 "), "{answer:?}");
    }
    let nonsense = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), &[0xff; 64]].concat();
    wire::send_bytes(tower.address(), &nonsense).await;
    assert_eq!(refused(&tower, "body_cut_short").await, 1.0, "of what is no request there is no record");
    assert_eq!(tower.fake.counts().requests(), 0);
    tower.assert_serves().await;
}

#[tokio::test]
async fn a_body_of_another_kind_or_another_method_is_refused() {
    let tower = Tower::up().await;
    let key = format!("Bearer {}", tower.key(WEB).bearer);
    for kind in ["text/plain", "application/x-www-form-urlencoded", "application/grpc"] {
        let request = Request::post("/model/chat/converse").header("authorization", &key).header("content-type", kind);
        let reply = tower.send(request, prompt("hi").to_string()).await;
        assert_eq!((reply.status, reply.header("x-amzn-errortype")), (415, "ValidationException"), "{kind}");
        assert!(reply.message().contains("application/json"));
    }
    for method in [Method::GET, Method::PUT, Method::DELETE] {
        let request = Request::builder().method(method).uri("/model/chat/converse").header("authorization", &key);
        let reply = tower.send(request, "").await;
        assert_eq!((reply.status, reply.header("x-amzn-errortype")), (405, "UnknownOperationException"));
    }
    assert_eq!((refused(&tower, "unsupported_body").await, refused(&tower, "unknown_method").await), (3.0, 3.0));
    tower.assert_serves().await;
}

#[tokio::test]
async fn a_path_that_is_not_there_is_a_plain_404() {
    let tower = Tower::up().await;
    for path in [
        "/",
        "/metrics",
        "/model/chat",
        "/model/chat/invoke",
        "/model/chat/invoke-with-response-stream",
        "/model/chat/x/converse",
        "/model//converse",
        "/model/%ff/converse",
        "/model/chat/converse/",
        "/switchtower.inference.v1.InferenceService/Generate",
        "/v1/chat/completions",
    ] {
        for reply in [tower.send(tower.post(path), "{}").await, tower.send_two(tower.post(path), "{}").await] {
            assert_eq!((reply.status, reply.header("content-type")), (404, "text/plain"), "{path}");
            assert!(String::from_utf8_lossy(&reply.body).contains("/model/{route}/converse"), "{path}");
        }
    }
    tower.assert_serves().await;
}

#[tokio::test]
async fn a_route_of_somebody_else_and_a_route_of_nobody_look_the_same() {
    let tower = Tower::up().await;
    for operation in ["converse", "converse-stream"] {
        let ask = async |route: &str| {
            let reply = tower.send(tower.post(&format!("/model/{route}/{operation}")), prompt("hi").to_string()).await;
            let (status, headers, body) = essence(&reply);
            let body = String::from_utf8_lossy(&body).replace(route, "ROUTE");
            (status, headers, body)
        };
        let (theirs, nobodys) = (ask("night-batch").await, ask("night-botch").await);
        assert_eq!(theirs, nobodys);
        assert_eq!(theirs.0, 404);
        assert!(!theirs.2.contains("night"), "{}", theirs.2);
    }
    // Its owner finds it.
    let key = format!("Bearer {}", tower.key(BATCH).bearer);
    let request = Request::post("/model/night-batch/converse").header("authorization", key);
    assert_eq!(tower.send(request, prompt("hi").to_string()).await.status, 200);
}

#[tokio::test]
async fn a_wrong_key_and_a_missing_one_look_the_same_and_nothing_is_read_for_either() {
    let tower = Tower::up().await;
    let bearer = tower.key(WEB).bearer.clone();
    let mut other_secret = bearer.clone().into_bytes();
    let last = other_secret.last_mut().unwrap();
    *last = if *last == b'A' { b'B' } else { b'A' };
    let other_secret = String::from_utf8(other_secret).unwrap();
    let authorizations = [
        None,
        Some(format!("Bearer {other_secret}")),
        Some("Bearer swt_AAAAAAAAAAAAAAAA_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA".to_owned()),
        Some("Bearer sk-something-else".to_owned()),
        Some("Basic dXNlcjpwYXNz".to_owned()),
        Some("AWS4-HMAC-SHA256 Credential=nonsense".to_owned()),
        Some(String::new()),
    ];
    let mut seen = Vec::new();
    for authorization in &authorizations {
        // What is wrong with a body, or whether a route is there, is told only to a caller with a key.
        for (path, body) in
            [("/model/chat/converse", "{}"), ("/model/none/converse", "{}"), ("/model/chat/converse", "{")]
        {
            let mut request = Request::post(path).header("content-type", "application/json");
            if let Some(authorization) = authorization {
                request = request.header("authorization", authorization);
            }
            seen.push(essence(&tower.send(request, body).await));
        }
    }
    assert_eq!(seen[0].0, 401);
    assert_eq!(seen[0].1["x-amzn-errortype"], "UnrecognizedClientException");
    for other in &seen {
        assert_eq!(other, &seen[0]);
    }
    assert_eq!(tower.fake.counts().requests(), 0);
    tower.assert_serves().await;
}

#[tokio::test]
async fn a_signature_from_long_ago_is_told_apart_and_a_changed_body_is_not() {
    let tower = Tower::up().await;
    let signed_at = |at: SystemTime, body: &str| {
        let key = tower.key(WEB);
        let host = tower.address().to_string();
        let mut request = Request::post("/model/chat/converse").header("host", &host);
        let identity = aws_sdk_bedrockruntime::config::Credentials::new(
            &key.access_key_id,
            &key.secret_access_key,
            None,
            None,
            "test",
        );
        let identity = identity.into();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region("us-east-1")
            .name("bedrock")
            .time(at)
            .settings(SigningSettings::default())
            .build()
            .unwrap()
            .into();
        let url = Cow::Owned(format!("http://{host}/model/chat/converse"));
        let headers = [("host", host.as_str())].into_iter();
        let signable = SignableRequest::new("POST", url, headers, SignableBody::Bytes(body.as_bytes())).unwrap();
        let (instructions, _) = sign(signable, &params).unwrap().into_parts();
        for (name, value) in instructions.headers() {
            request = request.header(name, value);
        }
        request
    };
    let (now, body) = (SystemTime::now(), prompt("hi").to_string());
    assert_eq!(tower.send(signed_at(now, &body), body.clone()).await.status, 200);
    for wrong in [now - Duration::from_secs(600), now + Duration::from_secs(600)] {
        let reply = tower.send(signed_at(wrong, &body), body.clone()).await;
        assert_eq!((reply.status, reply.header("x-amzn-errortype")), (403, "InvalidSignatureException"));
        assert!(reply.message().contains("clock"), "{}", reply.message());
    }
    let reply = tower.send(signed_at(now, &body), prompt("something else").to_string()).await;
    assert_eq!((reply.status, reply.header("x-amzn-errortype")), (401, "UnrecognizedClientException"));
    assert_eq!(tower.fake.counts().requests(), 1);
}

#[tokio::test]
async fn a_grpc_message_that_is_none_is_refused_and_the_connection_goes_on() {
    let tower = Tower::up().await;
    let path = "/switchtower.inference.v1.InferenceService/Generate";
    let grpc = |body: Vec<u8>| {
        let key = format!("Bearer {}", tower.key(WEB).bearer);
        let request = Request::post(path)
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("authorization", key);
        tower.send_two(request, body)
    };
    for body in [
        vec![],
        vec![0, 0, 0, 0, 5, 1],
        vec![0, 0, 0, 0, 3, 0xff, 0xff, 0xff],
        vec![1, 0, 0, 0, 1, 0],
        vec![7; 5],
        vec![0, 0xff, 0xff, 0xff, 0xff, 0],
    ] {
        let reply = grpc(body.clone()).await;
        let status = reply.headers.get("grpc-status").or_else(|| reply.trailers.get("grpc-status"));
        let status = status.unwrap_or_else(|| panic!("{body:?}: {reply:?}")).to_str().unwrap();
        assert_ne!(status, "0", "{body:?}");
    }
    tower.assert_serves().await;
}
