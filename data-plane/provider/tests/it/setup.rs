//! The two clients, with the same keys.

use std::{sync::Arc, time::SystemTime};

use aws_sdk_bedrockruntime::config::{
    BehaviorVersion, Credentials as Keys, Region, SharedCredentialsProvider, StalledStreamProtectionConfig,
    retry::RetryConfig,
};
use bytes::Bytes;
use switchtower_policy::snapshot::Target;
use switchtower_provider::{
    Attempt, Operation,
    bedrock::{
        Bedrock, Config,
        credentials::{Credentials, Trust},
        endpoint::Endpoints,
    },
};

pub(crate) const REGION: &str = "us-west-2";
pub(crate) const MODEL: &str = "us.amazon.nova-lite-v1:0";

pub(crate) fn keys() -> Keys {
    Keys::new("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", Some("session/token+==".into()), None, "test")
}

pub(crate) fn sdk_config(url: &str) -> aws_sdk_bedrockruntime::config::Builder {
    aws_sdk_bedrockruntime::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(REGION))
        .endpoint_url(url)
        .retry_config(RetryConfig::disabled())
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
}

pub(crate) fn sdk(url: &str) -> aws_sdk_bedrockruntime::Client {
    aws_sdk_bedrockruntime::Client::from_conf(sdk_config(url).credentials_provider(keys()).build())
}

pub(crate) fn lean_with(url: &str, credentials: Credentials, trust: Trust) -> Bedrock {
    let endpoints = Endpoints::default().everywhere(url).unwrap();
    Bedrock::new(Config { endpoints, credentials, trust, clock: Arc::new(SystemTime::now) }).unwrap()
}

pub(crate) fn lean(url: &str) -> Bedrock {
    lean_with(url, Credentials::Provider(SharedCredentialsProvider::new(keys())), Trust::Native)
}

pub(crate) fn attempt(model: &str, operation: Operation, body: impl Into<Bytes>) -> Attempt {
    let target = Target {
        index: Default::default(),
        model: Default::default(),
        region: REGION.into(),
        bedrock: model.into(),
        id: format!("bedrock/{REGION}/{model}").into(),
    };
    Attempt { target: target.into(), operation, body: body.into(), connect_timeout: None, trace: None }
}
