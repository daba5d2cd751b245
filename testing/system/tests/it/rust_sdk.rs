//! The AWS SDK for Rust.

use aws_sdk_bedrockruntime::{
    Client,
    config::{BehaviorVersion, Config, Credentials, Region, retry::RetryConfig},
    error::ProvideErrorMetadata,
    operation::RequestId,
    types::{ContentBlock, ConversationRole, ConverseStreamOutput, Message, StopReason},
};
use switchtower_fake_bedrock::{Break, Exception};
use switchtower_system_tests::tower::{EAST, SONNET, Tower, WEB, echo};

use crate::faults::{breaking, failing};

fn client(tower: &Tower) -> Client {
    let key = tower.key(WEB);
    let config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(EAST))
        .credentials_provider(Credentials::new(&key.access_key_id, &key.secret_access_key, None, None, "test"))
        .endpoint_url(tower.endpoint())
        .retry_config(RetryConfig::disabled())
        .build();
    Client::from_conf(config)
}

fn hello() -> Message {
    let content = ContentBlock::Text("hello".to_owned());
    Message::builder().role(ConversationRole::User).content(content).build().unwrap()
}

#[tokio::test]
async fn it_is_answered_and_errors_are_its_own() {
    let tower = Tower::up().await;
    let client = client(&tower);
    let answer = client.converse().model_id("chat").messages(hello()).send().await.unwrap();
    assert_eq!(answer.request_id().map(str::len), Some(32));
    let said = answer.output().unwrap().as_message().unwrap().content()[0].as_text().unwrap();
    assert_eq!(said, &echo(SONNET, EAST, "hello"));

    let mut opened = client.converse_stream().model_id("chat").messages(hello()).send().await.unwrap();
    let (mut text, mut stop) = (String::new(), None);
    while let Some(event) = opened.stream.recv().await.unwrap() {
        match event {
            ConverseStreamOutput::ContentBlockDelta(delta) => text += delta.delta().unwrap().as_text().unwrap(),
            ConverseStreamOutput::MessageStop(it) => stop = Some(it.stop_reason),
            _ => {}
        }
    }
    assert_eq!((text, stop), (echo(SONNET, EAST, "hello"), Some(StopReason::EndTurn)));

    tower.everywhere(&failing(Exception::ThrottlingException));
    let error = client.converse().model_id("chat").messages(hello()).send().await.unwrap_err();
    assert!(error.as_service_error().unwrap().is_throttling_exception(), "{error:?}");
    tower.everywhere(&breaking(3, Break::Cut));
    let mut opened = client.converse_stream().model_id("chat").messages(hello()).send().await.unwrap();
    let error = loop {
        match opened.stream.recv().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("a cut stream ended as if it were whole"),
            Err(error) => break error,
        }
    };
    assert!(error.as_service_error().unwrap().is_model_stream_error_exception(), "{error:?}");
    let error = client.converse().model_id("chatt").messages(hello()).send().await.unwrap_err();
    assert!(error.message().unwrap().contains("nearest that are: chat"), "{error:?}");
}
