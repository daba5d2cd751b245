//! grpcio, with stubs made from our .proto files by grpcio-tools.

use serde_json::{Value, json};
use switchtower_fake_bedrock::{Behaviour, Break, Exception, Fail, Outage};
use switchtower_system_tests::{
    foreign::Foreign,
    tower::{EAST, NOVA, SONNET, Tower, WEB, WEST, echo},
    until,
};

use crate::faults::{OVERLOAD, breaking, failing};

struct Grpc {
    foreign: Foreign,
    target: String,
    bearer: String,
}

impl Grpc {
    fn of(tower: &Tower) -> Grpc {
        let protos = concat!(env!("CARGO_MANIFEST_DIR"), "/../../proto");
        let foreign = Foreign::python("grpc_client.py", &[("SWITCHTOWER_PROTO", protos)]);
        let bearer = tower.key(WEB).bearer.clone();
        Grpc { foreign, target: tower.address().to_string(), bearer }
    }

    async fn ask(&mut self, mut question: Value) -> Value {
        question["target"] = self.target.clone().into();
        if question["metadata"].is_null() {
            question["metadata"] = json!({});
        }
        if question["metadata"]["authorization"].is_null() {
            question["metadata"]["authorization"] = format!("Bearer {}", self.bearer).into();
        }
        self.foreign.ask(&question).await
    }

    async fn generate(&mut self, request: Value) -> Value {
        self.ask(json!({ "ask": "generate", "request": request })).await
    }

    async fn stream(&mut self, request: Value) -> Value {
        self.ask(json!({ "ask": "generate_stream", "request": request })).await
    }
}

fn saying(route: &str, text: &str) -> Value {
    json!({ "route": route, "messages": [{ "role": "ROLE_USER", "content": [{ "text": text }] }] })
}

/// Without the time of day.
fn undated(told: &str) -> Value {
    let mut told: Value = serde_json::from_str(told).unwrap();
    for metadata in ["initial", "trailing"] {
        told[metadata].as_object_mut().unwrap().remove("date");
    }
    told
}

/// The text of a stream's deltas.
fn heard(told: &Value) -> String {
    let messages = told["messages"].as_array().unwrap();
    messages.iter().filter_map(|message| message["block_delta"]["text"].as_str()).collect()
}

#[tokio::test]
async fn a_request_is_answered_whole_and_in_stream_and_says_what_served_it() {
    let tower = Tower::up().await;
    let mut grpc = Grpc::of(&tower);
    let expected = echo(SONNET, EAST, "good morning");
    let target = format!("bedrock/{EAST}/{SONNET}");

    let told = grpc.generate(saying("chat", "good morning")).await;
    let answer = &told["answer"];
    assert_eq!(answer["message"]["content"][0]["text"], expected, "{told}");
    let end = answer["end"].clone();
    assert_eq!(end["completeness"], "COMPLETENESS_COMPLETE");
    assert_eq!(end["finish_reason"], "FINISH_REASON_END_TURN");
    assert_eq!(end["usage"], json!({ "input_tokens": "2", "output_tokens": "9" }));
    // By the catalogue, 2 in at 3.3 dollars a million, 9 out at 16.5.
    let cost = end["cost_usd"].as_f64().unwrap();
    assert!((cost - 155.1e-6).abs() < 1e-9, "{cost}");
    let served = &end["served"];
    assert_eq!((&served["route"], &served["tier"], &served["target"]), (&json!("chat"), &json!(1), &json!(target)));
    assert_eq!(served["attempts"].as_array().unwrap().len(), 1);
    assert_eq!(served["attempts"][0]["outcome"], "ok");
    let initial = &told["initial"];
    assert_eq!(initial["x-switchtower-target"], target);
    assert_eq!(initial["x-switchtower-request-id"], served["request_id"]);
    assert_eq!((&initial["x-switchtower-route"], &initial["x-switchtower-tier"]), (&json!("chat"), &json!("1")));
    assert_eq!(initial["x-switchtower-revision"], served["revision"]);

    let told = grpc.stream(saying("chat", "good morning")).await;
    assert_eq!(heard(&told), expected, "{told}");
    assert_eq!(told["initial"]["x-switchtower-target"], target);
    let last = told["messages"].as_array().unwrap().last().unwrap();
    assert_eq!(last["end"]["completeness"], "COMPLETENESS_COMPLETE");
    assert_eq!(last["end"]["usage"], end["usage"]);
    assert_eq!(last["end"]["served"]["request_id"], told["initial"]["x-switchtower-request-id"]);
}

#[tokio::test]
async fn tools_pictures_and_members_that_we_do_not_know_reach_the_model() {
    let tower = Tower::up().await;
    let mut grpc = Grpc::of(&tower);
    let mut request = saying("chat", r#"use tool get_weather {"city": "Paris"}"#);
    let picture = json!({ "image": { "format": "png", "data": "iVBORw0KGgo=" } });
    request["messages"][0]["content"].as_array_mut().unwrap().push(picture);
    request["tool_config"] = json!({ "tools": [{ "spec": {
        "name": "get_weather", "description": "tells the weather", "input_schema": { "type": "object" },
    } }], "choice": { "any": true } });
    request["system"] = json!([{ "text": "be brief" }]);
    request["more"] = json!({ "additionalModelRequestFields": { "top_k": 5 } });

    let told = grpc.generate(request.clone()).await;
    assert_eq!(told["answer"]["end"]["finish_reason"], "FINISH_REASON_TOOL_USE", "{told}");
    let call = told["answer"]["message"]["content"][1]["tool_use"].clone();
    assert_eq!((&call["name"], &call["input"]), (&json!("get_weather"), &json!({ "city": "Paris" })));
    let sent = tower.fake.requests().pop().unwrap().body;
    assert_eq!(sent["messages"][0]["content"][1]["image"]["source"]["bytes"], "iVBORw0KGgo=");
    assert_eq!(sent["toolConfig"]["toolChoice"], json!({ "any": {} }));
    assert_eq!(sent["additionalModelRequestFields"]["top_k"].as_f64(), Some(5.0));
    // The model's own maximum, since neither the caller nor the route says less.
    assert_eq!(sent["inferenceConfig"]["maxTokens"], 64_000);

    let told = grpc.stream(request.clone()).await;
    let messages = told["messages"].as_array().unwrap();
    let input: String = messages.iter().filter_map(|m| m["block_delta"]["tool_input"].as_str()).collect();
    assert_eq!(serde_json::from_str::<Value>(&input).unwrap(), json!({ "city": "Paris" }), "{told}");

    let turns = request["messages"].as_array_mut().unwrap();
    turns.push(json!({ "role": "ROLE_ASSISTANT", "content": [{ "tool_use": call }] }));
    turns.push(json!({ "role": "ROLE_USER", "content": [{ "tool_result": {
        "tool_use_id": call["id"], "content": [{ "text": "sunny" }],
    } }] }));
    request["tool_config"]["choice"] = json!({ "auto": true });
    let told = grpc.generate(request).await;
    assert!(told["answer"]["message"]["content"][0]["text"].as_str().unwrap().contains("sunny"), "{told}");
}

#[tokio::test]
async fn metadata_of_the_message_and_of_the_call_decides_the_rule() {
    let tower = Tower::up().await;
    let mut grpc = Grpc::of(&tower);
    let mut request = saying("safe", "hi");
    let rule = |told: &Value| told["answer"]["end"]["served"]["rule"].clone();
    assert_eq!(rule(&grpc.generate(request.clone()).await), Value::Null);
    let headers = json!({ "x-switchtower-metadata-tier": "gold" });
    let told = grpc.ask(json!({ "ask": "generate", "request": request, "metadata": headers })).await;
    assert_eq!(rule(&told), "gold", "{told}");
    request["metadata"] = json!({ "tier": "gold" });
    let told = grpc.generate(request).await;
    assert_eq!(rule(&told), "gold");
    assert_eq!(told["answer"]["end"]["served"]["target"], format!("bedrock/{EAST}/{NOVA}"));
}

#[tokio::test]
async fn a_callers_deadline_ends_the_attempt_upstream_too() {
    let tower = Tower::up().await;
    let mut grpc = Grpc::of(&tower);
    // The connection is there when the clock begins to run.
    grpc.generate(saying("chat", "hi")).await;
    tower.everywhere(&Behaviour { outage: Some(Outage::Hang), ..Behaviour::default() });
    for ask in ["generate", "generate_stream"] {
        let told = grpc.ask(json!({ "ask": ask, "request": saying("chat", "hi"), "timeout": 1.0 })).await;
        assert_eq!(told["error"]["code"], "DEADLINE_EXCEEDED", "{told}");
    }
    until("the upstream is left", || tower.fake.counts().cancelled() == 2).await;
    // The message's own timeout, shorter than the call's: the node says so itself, and how.
    let mut request = saying("chat", "hi");
    request["timeout"] = "0.2s".into();
    let told = grpc.generate(request).await;
    assert_eq!(told["error"]["code"], "DEADLINE_EXCEEDED", "{told}");
    assert_eq!(told["error"]["details"]["ErrorInfo"]["reason"], "DEADLINE_EXCEEDED", "{told}");
    tower.at_rest().await;
}

#[tokio::test]
async fn refusals_are_statuses_with_details() {
    let tower = Tower::up().await;
    let mut grpc = Grpc::of(&tower);
    let told = grpc.generate(saying("chatt", "hi")).await;
    assert_eq!(told["error"]["code"], "NOT_FOUND", "{told}");
    assert_eq!(told["error"]["details"]["ErrorInfo"]["reason"], "UNKNOWN_ROUTE");
    assert!(told["error"]["message"].as_str().unwrap().contains("chat"), "{told}");
    // A route of somebody else and a route of nobody look the same, but for what was asked and the request's id.
    let mut told = Vec::new();
    for route in ["night-batch", "night-botch"] {
        let refused = grpc.generate(saying(route, "hi")).await["error"].take();
        let id = refused["details"]["ErrorInfo"]["metadata"]["request_id"].as_str().unwrap().to_owned();
        told.push(refused.to_string().replace(&id, "ID").replace(route, "ROUTE"));
    }
    assert_eq!(undated(&told[0]), undated(&told[1]));

    let told = grpc.generate(json!({ "route": "chat" })).await;
    assert_eq!(told["error"]["code"], "INVALID_ARGUMENT", "{told}");
    let violations = &told["error"]["details"]["BadRequest"]["field_violations"];
    assert_eq!(violations[0]["field"], "messages", "{told}");

    for authorization in ["Bearer swt_AAAAAAAAAAAAAAAA_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "Bearer nonsense", ""] {
        let headers = json!({ "authorization": authorization });
        let question = json!({ "ask": "generate", "request": saying("chat", "hi"), "metadata": headers });
        let told = grpc.ask(question).await;
        assert_eq!(told["error"]["code"], "UNAUTHENTICATED", "{told}");
        assert_eq!(told["error"]["details"]["ErrorInfo"]["reason"], "UNAUTHENTICATED");
    }

    let fail = Fail { retry_after_ms: Some(2500), ..Fail::with(Exception::ThrottlingException) };
    tower.everywhere(&Behaviour { fail: Some(fail), ..Behaviour::default() });
    for told in [grpc.generate(saying("chat", "hi")).await, grpc.stream(saying("chat", "hi")).await] {
        assert_eq!(told["error"]["code"], "RESOURCE_EXHAUSTED", "{told}");
        let details = &told["error"]["details"];
        assert_eq!(details["RetryInfo"]["retry_delay"], "2.500s");
        let info = &details["ErrorInfo"];
        assert_eq!((&info["reason"], &info["domain"]), (&json!("THROTTLED"), &json!("switchtower")));
        assert_eq!(info["metadata"]["upstream_code"], "ThrottlingException");
        assert_eq!(info["metadata"]["attempts"], "2");
        let heads = [&told["error"]["initial"], &told["error"]["trailing"]];
        assert!(heads.iter().any(|head| head["x-switchtower-request-id"] == info["metadata"]["request_id"]), "{told}");
    }
}

#[tokio::test]
async fn a_stream_that_breaks_ends_in_a_status_and_without_an_end() {
    let tower = Tower::up().await;
    let mut grpc = Grpc::of(&tower);
    for (broken, class) in [
        (OVERLOAD, "unavailable"),
        (Break::Cut, "broken"),
        (Break::BadChecksum, "protocol"),
        (Break::EndWithoutStop, "broken"),
    ] {
        tower.everywhere(&breaking(3, broken));
        let told = grpc.stream(saying("chat", "hi")).await;
        assert_eq!(told["error"]["code"], "ABORTED", "{broken:?}: {told}");
        let info = &told["error"]["details"]["ErrorInfo"];
        assert_eq!((&info["reason"], &info["metadata"]["class"]), (&json!("STREAM_BROKEN"), &json!(class)), "{told}");
        assert_eq!(heard(&told), "one two ");
        assert!(told["messages"].as_array().unwrap().iter().all(|message| message["end"].is_null()), "{told}");
    }
    let told = grpc.stream(saying("partial", "hi")).await;
    assert!(told["error"].is_null(), "{told}");
    let end = &told["messages"].as_array().unwrap().last().unwrap()["end"];
    assert_eq!(end["completeness"], "COMPLETENESS_TRUNCATED", "{told}");
    assert_eq!(end["finish_reason"], "FINISH_REASON_MAX_TOKENS");
}

#[tokio::test]
async fn a_fallback_and_a_degraded_answer_are_told_in_the_end() {
    let tower = Tower::up().await;
    let mut grpc = Grpc::of(&tower);
    tower.fake.behave(EAST, failing(Exception::ThrottlingException));
    let told = grpc.stream(saying("chat", "hi")).await;
    assert_eq!(heard(&told), echo(SONNET, WEST, "hi"), "{told}");
    let end = &told["messages"].as_array().unwrap().last().unwrap()["end"];
    let attempts = &end["served"]["attempts"];
    assert_eq!((&attempts[0]["outcome"], &attempts[0]["error"]), (&json!("throttled"), &json!("ThrottlingException")));
    assert_eq!(attempts[1]["outcome"], "ok");
    assert_eq!(told["initial"]["x-switchtower-attempts"], "2");

    tower.everywhere(&failing(Exception::ServiceUnavailableException));
    let mut request = saying("safe", "hi");
    request["metadata"] = json!({ "ticket": "T-7" });
    let expected = "We are busy. Ticket T-7 is in the queue.";
    let told = grpc.generate(request.clone()).await;
    assert_eq!(told["answer"]["message"]["content"][0]["text"], expected, "{told}");
    assert_eq!(told["answer"]["end"]["completeness"], "COMPLETENESS_DEGRADED");
    assert_eq!(told["initial"]["x-switchtower-degraded"], "true");
    let told = grpc.stream(request).await;
    assert_eq!(heard(&told), expected, "{told}");
    let end = &told["messages"].as_array().unwrap().last().unwrap()["end"];
    assert_eq!(end["completeness"], "COMPLETENESS_DEGRADED");
}

#[tokio::test]
async fn a_caller_that_leaves_ends_the_call_upstream() {
    let tower = Tower::up().await;
    tower.everywhere(&Behaviour { words: Some(10_000), tokens_per_second: Some(50.0), ..Behaviour::default() });
    let mut grpc = Grpc::of(&tower);
    let question = json!({ "ask": "generate_stream", "request": saying("chat", "hi"), "leave_after": 2 });
    assert_eq!(grpc.ask(question).await["left"], true);
    until("the upstream is left", || tower.fake.counts().cancelled() == 1).await;
    tower.at_rest().await;
    let cancelled = r#"switchtower_requests_total{face="grpc",route="chat",outcome="cancelled"}"#;
    assert_eq!(tower.metric(cancelled).await, 1.0);
}

#[tokio::test]
async fn reflection_tells_the_services_and_health_says_serving() {
    let tower = Tower::up().await;
    let mut grpc = Grpc::of(&tower);
    let told = grpc.ask(json!({ "ask": "reflect" })).await;
    let services = told["services"].as_array().unwrap();
    for service in ["switchtower.inference.v1.InferenceService", "grpc.health.v1.Health"] {
        assert!(services.iter().any(|it| it == service), "{told}");
    }
    assert_eq!(told["methods"], json!(["Generate", "GenerateStream"]));
    for service in ["", "switchtower.inference.v1.InferenceService"] {
        let told = grpc.ask(json!({ "ask": "health", "service": service })).await;
        assert_eq!(told["status"], "SERVING", "{told}");
    }
    let told = grpc.ask(json!({ "ask": "health", "service": "nobody" })).await;
    assert_eq!(told["error"]["code"], "NOT_FOUND", "{told}");
    let path = "/switchtower.inference.v1.InferenceService/Nothing";
    // Which methods there are, a stranger asks the reflection: the service itself refuses him before anything else.
    let told = grpc.ask(json!({ "ask": "unknown", "path": path })).await;
    assert_eq!(told["error"]["code"], "UNAUTHENTICATED", "{told}");
    // A service that is not ours is a plain 404, which gRPC libraries read so too.
    let told = grpc.ask(json!({ "ask": "unknown", "path": "/else.Where/Nothing" })).await;
    assert_eq!(told["error"]["code"], "UNIMPLEMENTED", "{told}");
}
