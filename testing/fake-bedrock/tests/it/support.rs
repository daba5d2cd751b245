//! A fake with one region, and a client of it.

use std::time::Duration;

use aws_credential_types::Credentials;
use aws_sdk_bedrockruntime::{
    Client,
    config::{BehaviorVersion, Config, Region, retry::RetryConfig},
    error::SdkError,
    operation::converse_stream::ConverseStreamOutput as Opened,
    types::{
        ContentBlock, ContentBlockDelta, ConversationRole, ConverseStreamOutput, Message,
        error::ConverseStreamOutputError,
    },
};
use switchtower_fake_bedrock::{Behaviour, Counts, FakeBedrock, Options};

pub(crate) const REGION: &str = "us-east-1";
pub(crate) const MODEL: &str = "us.amazon.nova-lite-v1:0";

pub(crate) async fn started() -> FakeBedrock {
    FakeBedrock::start(Options::default()).await.unwrap()
}

/// A fake that does this, and a client of it.
pub(crate) async fn behaving(behaviour: Behaviour) -> (FakeBedrock, Client) {
    let fake = started().await;
    fake.behave(REGION, behaviour);
    let client = client(&fake.endpoint(REGION));
    (fake, client)
}

pub(crate) fn client(endpoint: &str) -> Client {
    let config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(REGION))
        .credentials_provider(Credentials::new("AKIDEXAMPLE", "secret", Some("token".to_owned()), None, "test"))
        .endpoint_url(endpoint)
        .retry_config(RetryConfig::disabled())
        .build();
    Client::from_conf(config)
}

pub(crate) fn user(text: &str) -> Message {
    let content = ContentBlock::Text(text.to_owned());
    Message::builder().role(ConversationRole::User).content(content).build().unwrap()
}

/// What came of a stream until it ended or broke.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    pub(crate) text: String,
    pub(crate) reasoning: String,
    pub(crate) tool_input: String,
    pub(crate) events: usize,
    pub(crate) stop_reason: Option<String>,
    pub(crate) output_tokens: Option<i32>,
    /// The class of a modelled exception, or else what kind of error the SDK makes of it.
    pub(crate) error: Option<String>,
}

pub(crate) async fn hear(mut opened: Opened) -> Heard {
    let mut heard = Heard::default();
    loop {
        match opened.stream.recv().await {
            Ok(Some(event)) => heard.note(event),
            Ok(None) => return heard,
            Err(error) => {
                heard.error = Some(match &error {
                    SdkError::ServiceError(service) => modelled(service.err()).to_owned(),
                    SdkError::DispatchFailure(_) => "dispatch".to_owned(),
                    SdkError::ResponseError(_) => "response".to_owned(),
                    other => format!("{other:?}"),
                });
                return heard;
            }
        }
    }
}

fn modelled(error: &ConverseStreamOutputError) -> &'static str {
    match error {
        ConverseStreamOutputError::InternalServerException(_) => "InternalServerException",
        ConverseStreamOutputError::ModelStreamErrorException(_) => "ModelStreamErrorException",
        ConverseStreamOutputError::ValidationException(_) => "ValidationException",
        ConverseStreamOutputError::ThrottlingException(_) => "ThrottlingException",
        ConverseStreamOutputError::ServiceUnavailableException(_) => "ServiceUnavailableException",
        _ => "unmodelled",
    }
}

impl Heard {
    fn note(&mut self, event: ConverseStreamOutput) {
        self.events += 1;
        match event {
            ConverseStreamOutput::ContentBlockDelta(event) => match event.delta.unwrap() {
                ContentBlockDelta::Text(text) => self.text += &text,
                ContentBlockDelta::ToolUse(tool) => self.tool_input += tool.input(),
                ContentBlockDelta::ReasoningContent(delta) => {
                    self.reasoning += delta.as_text().map_or("", String::as_str);
                }
                other => panic!("{other:?}"),
            },
            ConverseStreamOutput::MessageStop(stop) => self.stop_reason = Some(stop.stop_reason.as_str().to_owned()),
            ConverseStreamOutput::Metadata(metadata) => {
                self.output_tokens = metadata.usage.map(|usage| usage.output_tokens);
            }
            other => assert!(!other.is_unknown(), "{other:?}"),
        }
    }
}

/// Waits until the counts are so: a client's leaving takes the fake a moment to notice.
pub(crate) async fn until(fake: &FakeBedrock, expected: impl Fn(&Counts) -> bool) {
    let seen = async {
        while !expected(&fake.counts()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(10), seen).await;
    assert!(waited.is_ok(), "{:#?}", fake.counts());
}
