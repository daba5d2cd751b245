//! boto3, with nothing changed but its endpoint and its credentials.

use serde_json::{Value, json};
use switchtower_fake_bedrock::{Behaviour, Break, Exception, Fail, StreamException, Throttle, Usage};
use switchtower_system_tests::{
    foreign::Foreign,
    tower::{EAST, NOVA, SONNET, Setup, Tower, WEB, WEST, echo, said},
};

use crate::faults::{breaking, failing};

struct Boto {
    foreign: Foreign,
    client: Value,
}

impl Boto {
    /// It signs with the AWS pair of a key.
    fn signing(tower: &Tower, caller: &str) -> Boto {
        let key = tower.key(caller);
        let client = json!({
            "endpoint_url": tower.endpoint(),
            "access_key_id": key.access_key_id,
            "secret_access_key": key.secret_access_key,
        });
        Boto { foreign: Foreign::python("boto.py", &[]), client }
    }

    async fn ask(&mut self, operation: &str, model: &str, arguments: Value) -> Value {
        let mut arguments = arguments;
        arguments["modelId"] = model.into();
        self.foreign.ask(&json!({ "client": self.client, "operation": operation, "arguments": arguments })).await
    }

    async fn say(&mut self, model: &str, text: &str) -> Value {
        self.ask("converse", model, prompt(text)).await
    }

    async fn stream(&mut self, model: &str, text: &str) -> Value {
        self.ask("converse_stream", model, prompt(text)).await
    }
}

fn prompt(text: &str) -> Value {
    switchtower_system_tests::tower::prompt(text)
}

/// The text of a stream's deltas.
fn heard(told: &Value) -> String {
    let events = told["events"].as_array().unwrap();
    events.iter().filter_map(|event| event["contentBlockDelta"]["delta"]["text"].as_str()).collect()
}

fn weather() -> Value {
    json!({ "tools": [{ "toolSpec": { "name": "get_weather", "inputSchema": { "json": { "type": "object" } } } }] })
}

#[tokio::test]
async fn a_signing_client_is_answered_by_route_by_alias_and_by_arn() {
    let tower = Tower::up().await;
    let mut boto = Boto::signing(&tower, WEB);
    let expected = echo(SONNET, EAST, "grüße 1");
    for model in [
        "chat",
        "anthropic.claude-3-5-sonnet-20240620-v1:0",
        "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abcdefghijkl",
    ] {
        let told = boto.say(model, "grüße 1").await;
        assert_eq!(said(&told["answer"]), expected, "{model}: {told}");
        assert_eq!(told["answer"]["usage"]["inputTokens"], 2);
        let metadata = &told["answer"]["ResponseMetadata"];
        assert_eq!(metadata["HTTPHeaders"]["x-switchtower-route"], "chat");
        assert_eq!(metadata["HTTPHeaders"]["x-switchtower-target"], format!("bedrock/{EAST}/{SONNET}"));
        assert_eq!(metadata["HTTPHeaders"]["x-switchtower-request-id"], metadata["RequestId"]);

        let told = boto.stream(model, "grüße 1").await;
        assert_eq!(heard(&told), expected, "{model}: {told}");
        let events = told["events"].as_array().unwrap();
        assert_eq!(events[events.len() - 2]["messageStop"]["stopReason"], "end_turn");
        assert_eq!(events.last().unwrap()["metadata"]["usage"]["inputTokens"], 2);
    }
    assert_eq!(tower.fake.counts().region(EAST).outcomes[SONNET]["converse_stream"]["ok"], 3);
}

#[tokio::test]
async fn cached_tokens_come_through_as_the_upstream_told_them() {
    let usage = Usage {
        input_tokens: 3,
        output_tokens: 4,
        cache_read_input_tokens: Some(1000),
        cache_write_input_tokens: Some(50),
    };
    let tower = Tower::up().await;
    tower.everywhere(&Behaviour { usage: Some(usage), ..Behaviour::default() });
    let mut boto = Boto::signing(&tower, WEB);
    let expected = json!({
        "inputTokens": 3, "outputTokens": 4, "totalTokens": 1057,
        "cacheReadInputTokens": 1000, "cacheWriteInputTokens": 50,
    });
    assert_eq!(boto.say("chat", "hi").await["answer"]["usage"], expected);
    let told = boto.stream("chat", "hi").await;
    assert_eq!(told["events"].as_array().unwrap().last().unwrap()["metadata"]["usage"], expected);
}

#[tokio::test]
async fn a_tool_is_asked_for_and_its_result_taken_in_whole_and_in_stream() {
    let tower = Tower::up().await;
    let mut boto = Boto::signing(&tower, WEB);
    let mut asked = prompt(r#"use tool get_weather {"city": "Reykjavík"}"#);
    asked["toolConfig"] = weather();
    let told = boto.ask("converse", "chat", asked.clone()).await;
    assert_eq!(told["answer"]["stopReason"], "tool_use", "{told}");
    let turn = told["answer"]["output"]["message"].clone();
    let call = turn["content"][1]["toolUse"].clone();
    assert_eq!(call["input"], json!({ "city": "Reykjavík" }));

    let result = json!({ "toolResult": {
        "toolUseId": call["toolUseId"], "content": [{ "text": "rain" }, { "json": { "mm": 1.5 } }], "status": "success",
    } });
    let mut back = asked.clone();
    back["messages"].as_array_mut().unwrap().extend([turn, json!({ "role": "user", "content": [result] })]);
    let told = boto.ask("converse", "chat", back).await;
    assert!(said(&told["answer"]).contains("you said \"rain"), "{told}");
    let sent = tower.fake.requests().pop().unwrap().body;
    assert_eq!(sent["messages"][2]["content"][0]["toolResult"]["content"][1], json!({ "json": { "mm": 1.5 } }));

    let told = boto.ask("converse_stream", "chat", asked).await;
    let events = told["events"].as_array().unwrap();
    let starts: Vec<_> = events.iter().filter(|event| !event["contentBlockStart"].is_null()).collect();
    assert_eq!(starts[0]["contentBlockStart"]["start"]["toolUse"]["name"], "get_weather");
    let input: String =
        events.iter().filter_map(|e| e["contentBlockDelta"]["delta"]["toolUse"]["input"].as_str()).collect();
    assert_eq!(serde_json::from_str::<Value>(&input).unwrap(), json!({ "city": "Reykjavík" }));
}

#[tokio::test]
async fn a_picture_and_every_other_member_reach_the_model_as_they_were_sent() {
    let tower = Tower::up().await;
    let mut boto = Boto::signing(&tower, WEB);
    let told = boto
        .ask(
            "converse",
            "chat",
            json!({
                "messages": [{ "role": "user", "content": [
                    { "image": { "format": "png", "source": { "bytes": { "$bytes": "iVBORw0KGgo=" } } } },
                    { "text": "what is this?" },
                ] }],
                "system": [{ "text": "be brief" }, { "cachePoint": { "type": "default" } }],
                "inferenceConfig": { "maxTokens": 7, "temperature": 0.5, "stopSequences": ["END"] },
                "additionalModelRequestFields": { "top_k": 5 },
                "requestMetadata": { "ticket": "T-1" },
            }),
        )
        .await;
    assert_eq!(told["answer"]["stopReason"], "max_tokens", "{told}");
    let sent = tower.fake.requests().pop().unwrap().body;
    assert_eq!(sent["messages"][0]["content"][0]["image"]["source"]["bytes"], "iVBORw0KGgo=");
    assert_eq!(sent["system"][1]["cachePoint"]["type"], "default");
    assert_eq!(sent["inferenceConfig"], json!({ "maxTokens": 7, "temperature": 0.5, "stopSequences": ["END"] }));
    assert_eq!(sent["additionalModelRequestFields"], json!({ "top_k": 5 }));
    assert_eq!(sent["requestMetadata"], json!({ "ticket": "T-1" }));
}

#[tokio::test]
async fn the_routes_guardrail_blocks_whatever_the_caller_says_and_its_word_is_final() {
    let tower = Tower::up().await;
    let mut boto = Boto::signing(&tower, WEB);
    let mut asked = prompt("a forbidden word");
    let told = boto.ask("converse", "guarded", asked.clone()).await;
    assert_eq!(told["answer"]["stopReason"], "guardrail_intervened", "{told}");
    assert!(told["answer"]["trace"]["guardrail"]["inputAssessment"]["gr-abc123"].is_object(), "{told}");
    asked["guardrailConfig"] =
        json!({ "guardrailIdentifier": "lenient", "guardrailVersion": "1", "streamProcessingMode": "async" });
    let told = boto.ask("converse_stream", "guarded", asked).await;
    let stops: Vec<_> =
        told["events"].as_array().unwrap().iter().filter_map(|e| e["messageStop"]["stopReason"].as_str()).collect();
    assert_eq!(stops, ["guardrail_intervened"], "{told}");
    // One attempt each: no other model is asked until one says yes.
    let requests = tower.fake.requests();
    assert_eq!(requests.len(), 2);
    assert_eq!(
        requests[0].body["guardrailConfig"],
        json!({ "guardrailIdentifier": "gr-abc123", "guardrailVersion": "7", "trace": "enabled" })
    );
    let streamed = &requests[1].body["guardrailConfig"];
    assert_eq!((&streamed["guardrailIdentifier"], &streamed["guardrailVersion"]), (&json!("gr-abc123"), &json!("7")));
}

#[tokio::test]
async fn what_goes_wrong_before_the_answer_is_raised_as_the_sdks_own_exception() {
    let tower = Tower::up().await;
    let mut boto = Boto::signing(&tower, WEB);
    for (exception, status, raised) in [
        (Exception::ThrottlingException, 429, "ThrottlingException"),
        (Exception::ServiceQuotaExceededException, 400, "ServiceQuotaExceededException"),
        (Exception::ModelNotReadyException, 429, "ModelNotReadyException"),
        (Exception::ServiceUnavailableException, 503, "ServiceUnavailableException"),
        (Exception::InternalServerException, 500, "InternalServerException"),
        (Exception::ModelTimeoutException, 408, "ModelTimeoutException"),
        (Exception::ModelErrorException, 424, "ModelErrorException"),
        (Exception::ValidationException, 400, "ValidationException"),
        // What an operator must mend is not the caller's access, and nothing that an SDK should try again.
        (Exception::AccessDeniedException, 424, "ModelErrorException"),
    ] {
        tower.everywhere(&failing(exception));
        for operation in ["converse", "converse_stream"] {
            let told = boto.ask(operation, "chat", prompt("hi")).await;
            let error = &told["error"];
            assert_eq!((&error["raised"], &error["status"]), (&json!(raised), &json!(status)), "{exception:?}: {told}");
            // Not every operation of botocore's model has every exception; those that it has, it raises by class.
            assert_eq!(error["modelled"], true, "{exception:?}: {told}");
            assert!(error["headers"]["x-switchtower-request-id"].is_string(), "{told}");
        }
    }
}

#[tokio::test]
async fn a_throttle_says_when_to_come_back() {
    let tower = Tower::up().await;
    let fail = Fail { retry_after_ms: Some(1500), ..Fail::with(Exception::ThrottlingException) };
    tower.everywhere(&Behaviour { fail: Some(fail), ..Behaviour::default() });
    let mut boto = Boto::signing(&tower, WEB);
    let told = boto.say("chat", "hi").await;
    let headers = &told["error"]["headers"];
    assert_eq!((&headers["x-amz-retry-after"], &headers["retry-after"]), (&json!("1500"), &json!("2")), "{told}");
    assert_eq!((&told["error"]["retries"], &headers["x-switchtower-attempts"]), (&json!(0), &json!("2")));

    // A quota, not a fault by script: the second request goes beyond it in one region and is answered by the other.
    let quota = Behaviour { throttle: Some(Throttle { tokens_per_minute: 12 }), ..Behaviour::default() };
    tower.fake.behave(EAST, quota);
    tower.fake.behave(WEST, Behaviour::default());
    let served = async |boto: &mut Boto| {
        let told = boto.say("chat", "hi").await;
        told["answer"]["ResponseMetadata"]["HTTPHeaders"]["x-switchtower-target"].as_str().unwrap().to_owned()
    };
    assert_eq!(served(&mut boto).await, format!("bedrock/{EAST}/{SONNET}"));
    assert_eq!(served(&mut boto).await, format!("bedrock/{WEST}/{SONNET}"));
}

#[tokio::test]
async fn an_unknown_model_is_told_the_nearest_and_a_wrong_secret_nothing() {
    let tower = Tower::up().await;
    let mut boto = Boto::signing(&tower, WEB);
    let told = boto.say("chatt", "hi").await;
    let error = &told["error"];
    assert_eq!((&error["raised"], &error["modelled"]), (&json!("ResourceNotFoundException"), &json!(true)), "{told}");
    assert!(error["message"].as_str().unwrap().contains("nearest that are: chat"), "{told}");
    // One that is there, for somebody else.
    let told = boto.say("night-batch", "hi").await;
    assert_eq!(told["error"]["raised"], "ResourceNotFoundException", "{told}");

    boto.client["secret_access_key"] = "wrong".into();
    for operation in ["converse", "converse_stream"] {
        let told = boto.ask(operation, "chat", prompt("hi")).await;
        assert_eq!(
            (&told["error"]["status"], &told["error"]["code"]),
            (&json!(401), &json!("UnrecognizedClientException"))
        );
        assert!(!told.to_string().contains("chat"), "{told}");
    }
    assert_eq!(tower.fake.counts().requests(), 0);
}

#[tokio::test]
async fn a_stream_that_breaks_is_raised_and_never_ends_as_if_it_were_whole() {
    let tower = Tower::up().await;
    let mut boto = Boto::signing(&tower, WEB);
    for (broken, code) in [
        (Break::Exception(StreamException::Throttling), "throttlingException"),
        (Break::Exception(StreamException::ServiceUnavailable), "serviceUnavailableException"),
        (Break::Exception(StreamException::InternalServer), "internalServerException"),
        (Break::Exception(StreamException::Validation), "validationException"),
        (Break::Exception(StreamException::ModelStreamError), "modelStreamErrorException"),
        (Break::UnmodelledError, "internalServerException"),
        (Break::Cut, "modelStreamErrorException"),
        (Break::CutInsideFrame, "modelStreamErrorException"),
        (Break::BadChecksum, "modelStreamErrorException"),
        (Break::BadPreludeChecksum, "modelStreamErrorException"),
        (Break::AbsurdLength, "modelStreamErrorException"),
        (Break::EndWithoutStop, "modelStreamErrorException"),
    ] {
        tower.everywhere(&breaking(3, broken));
        let told = boto.stream("chat", "hi").await;
        assert_eq!(told["error"]["raised"], "EventStreamError", "{broken:?}: {told}");
        assert_eq!(told["error"]["code"], code, "{broken:?}: {told}");
        assert_eq!(heard(&told), "one two ", "{broken:?}: {told}");
    }
}

#[tokio::test]
async fn a_bearer_token_is_taken_over_tls() {
    let tower = Tower::start(Setup { tls: true, ..Setup::default() }).await;
    let bearer = &tower.key(WEB).bearer;
    let ca = tower.ca();
    let ca = ca.to_str().unwrap();
    let variables = [("AWS_BEARER_TOKEN_BEDROCK", bearer.as_str()), ("AWS_CA_BUNDLE", ca)];
    let mut boto =
        Boto { foreign: Foreign::python("boto.py", &variables), client: json!({ "endpoint_url": tower.endpoint() }) };
    let told = boto.say("chat", "hi").await;
    assert_eq!(said(&told["answer"]), echo(SONNET, EAST, "hi"), "{told}");
    let told = boto.stream("chat", "hi").await;
    assert_eq!(heard(&told), echo(SONNET, EAST, "hi"), "{told}");
    // Bearer tokens were sent, and none of them went on to Bedrock.
    for request in tower.fake.requests() {
        assert!(request.headers["authorization"].starts_with("AWS4-HMAC-SHA256"), "{request:?}");
    }
    let variables =
        [("AWS_BEARER_TOKEN_BEDROCK", "swt_AAAAAAAAAAAAAAAA_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"), ("AWS_CA_BUNDLE", ca)];
    let mut stranger =
        Boto { foreign: Foreign::python("boto.py", &variables), client: json!({ "endpoint_url": tower.endpoint() }) };
    assert_eq!(stranger.say("chat", "hi").await["error"]["status"], 401);
}

#[tokio::test]
async fn when_every_model_is_down_an_unmodified_client_still_hears_an_answer() {
    let tower = Tower::up().await;
    tower.everywhere(&failing(Exception::ServiceUnavailableException));
    let mut boto = Boto::signing(&tower, WEB);
    let mut asked = prompt("hi");
    asked["requestMetadata"] = json!({ "ticket": "T-42" });
    let told = boto.ask("converse", "safe", asked.clone()).await;
    let expected = "We are busy. Ticket T-42 is in the queue.";
    assert_eq!(said(&told["answer"]), expected, "{told}");
    assert_eq!(told["answer"]["ResponseMetadata"]["HTTPHeaders"]["x-switchtower-degraded"], "true");
    let told = boto.ask("converse_stream", "safe", asked).await;
    assert_eq!(heard(&told), expected, "{told}");
    assert!(told["error"].is_null(), "{told}");
    let tried: Vec<_> = tower
        .fake
        .requests()
        .into_iter()
        .map(|r| (r.region, r.path.contains(NOVA.split(':').next().unwrap())))
        .collect();
    assert_eq!(tried.len(), 6, "three paid attempts each: {tried:?}");
    assert!(tried[2].1 && !tried[0].1 && !tried[1].1, "the last attempt is kept for the next tier: {tried:?}");
}
