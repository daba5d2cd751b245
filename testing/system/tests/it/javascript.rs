//! The AWS SDK for JavaScript, which speaks HTTP/2 with prior knowledge and signs `:authority`.

use serde_json::{Value, json};
use switchtower_fake_bedrock::{Break, Exception};
use switchtower_system_tests::{
    foreign::Foreign,
    tower::{EAST, SONNET, Setup, Tower, WEB, echo, prompt, said},
};

use crate::faults::{OVERLOAD, breaking, failing};

struct Sdk {
    foreign: Foreign,
    settings: Value,
}

impl Sdk {
    fn of(tower: &Tower) -> Sdk {
        let key = tower.key(WEB);
        let settings = json!({
            "endpoint": tower.endpoint(),
            "accessKeyId": key.access_key_id,
            "secretAccessKey": key.secret_access_key,
        });
        let ca = tower.ca();
        let variables = [("NODE_EXTRA_CA_CERTS", ca.to_str().unwrap())];
        let trusting = if ca.exists() { &variables[..] } else { &[] };
        Sdk { foreign: Foreign::node("bedrock.mjs", trusting), settings }
    }

    async fn ask(&mut self, operation: &str, model: &str) -> Value {
        let mut arguments = prompt("good morning");
        arguments["modelId"] = model.into();
        let question = json!({ "settings": self.settings, "operation": operation, "arguments": arguments });
        self.foreign.ask(&question).await
    }
}

fn heard(told: &Value) -> String {
    let events = told["events"].as_array().unwrap();
    events.iter().filter_map(|event| event["contentBlockDelta"]["delta"]["text"].as_str()).collect()
}

#[tokio::test]
async fn it_is_answered_whole_and_in_stream_in_the_clear_and_over_tls() {
    for tls in [false, true] {
        let tower = Tower::start(Setup { tls, ..Setup::default() }).await;
        answers(&tower).await;
    }
}

async fn answers(tower: &Tower) {
    let mut sdk = Sdk::of(tower);
    for model in ["chat", "anthropic.claude-3-5-sonnet-20240620-v1:0"] {
        let told = sdk.ask("Converse", model).await;
        assert_eq!(said(&told["answer"]), echo(SONNET, EAST, "good morning"), "{told}");
        assert_eq!(told["answer"]["usage"]["inputTokens"], 2);
        assert_eq!(told["answer"]["$metadata"]["requestId"].as_str().unwrap().len(), 32, "{told}");
        let told = sdk.ask("ConverseStream", model).await;
        assert_eq!(heard(&told), echo(SONNET, EAST, "good morning"), "{told}");
        let events = told["events"].as_array().unwrap();
        assert_eq!(events.last().unwrap()["metadata"]["usage"]["inputTokens"], 2);
    }
}

#[tokio::test]
async fn errors_are_raised_as_its_own_classes_and_a_cut_stream_is_one() {
    let tower = Tower::up().await;
    let mut sdk = Sdk::of(&tower);
    for (exception, name, status) in [
        (Exception::ThrottlingException, "ThrottlingException", 429),
        (Exception::ValidationException, "ValidationException", 400),
        (Exception::ServiceUnavailableException, "ServiceUnavailableException", 503),
        (Exception::ModelTimeoutException, "ModelTimeoutException", 408),
    ] {
        tower.everywhere(&failing(exception));
        for operation in ["Converse", "ConverseStream"] {
            let error = sdk.ask(operation, "chat").await["error"].clone();
            let expected = json!({ "name": name, "status": status, "modelled": true, "message": error["message"] });
            assert_eq!(error, expected);
        }
    }
    for (broken, name) in [
        (OVERLOAD, "ServiceUnavailableException"),
        (Break::Cut, "ModelStreamErrorException"),
        (Break::CutInsideFrame, "ModelStreamErrorException"),
        (Break::EndWithoutStop, "ModelStreamErrorException"),
    ] {
        tower.everywhere(&breaking(3, broken));
        let told = sdk.ask("ConverseStream", "chat").await;
        assert_eq!(told["error"]["name"], name, "{broken:?}: {told}");
        assert_eq!(heard(&told), "one two ", "{broken:?}: {told}");
    }
    let error = sdk.ask("Converse", "chatt").await["error"].clone();
    assert_eq!((&error["name"], &error["status"]), (&json!("ResourceNotFoundException"), &json!(404)), "{error}");
    sdk.settings["secretAccessKey"] = "wrong".into();
    let error = sdk.ask("Converse", "chat").await["error"].clone();
    assert_eq!((&error["name"], &error["status"]), (&json!("UnrecognizedClientException"), &json!(401)), "{error}");
}
