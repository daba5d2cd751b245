//! Every scripted fault is what its name says, as the AWS SDK for Rust sees it.

use std::time::Duration;

use aws_sdk_bedrockruntime::{
    error::{ProvideErrorMetadata, SdkError},
    operation::{RequestId, converse::ConverseError},
};
use switchtower_fake_bedrock::{
    Behaviour, Break, Exception, Fail, FakeBedrock, InStream, Options, Outage, Script, StreamException, Throttle,
};

use crate::support::{MODEL, REGION, behaving, client, hear, started, until, user};

type Client = aws_sdk_bedrockruntime::Client;

/// The outcome as the client sees it: `ok`, the code of an error that was answered, or the kind of any other.
async fn converse(client: &Client) -> String {
    converse_with(client, MODEL).await
}

async fn converse_with(client: &Client, model: &str) -> String {
    match client.converse().model_id(model).messages(user("hi")).send().await {
        Ok(_) => "ok".to_owned(),
        Err(SdkError::ServiceError(error)) => error.err().code().unwrap().to_owned(),
        Err(SdkError::DispatchFailure(_)) => "dispatch".to_owned(),
        Err(SdkError::ResponseError(_)) => "response".to_owned(),
        Err(other) => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn each_exception_is_the_modelled_error_of_its_name() {
    type Is = fn(&ConverseError) -> bool;
    let modelled: [(Exception, Is); 9] = [
        (Exception::ThrottlingException, ConverseError::is_throttling_exception),
        (Exception::ModelNotReadyException, ConverseError::is_model_not_ready_exception),
        (Exception::ServiceUnavailableException, ConverseError::is_service_unavailable_exception),
        (Exception::InternalServerException, ConverseError::is_internal_server_exception),
        (Exception::ModelTimeoutException, ConverseError::is_model_timeout_exception),
        (Exception::ModelErrorException, ConverseError::is_model_error_exception),
        (Exception::ValidationException, ConverseError::is_validation_exception),
        (Exception::AccessDeniedException, ConverseError::is_access_denied_exception),
        (Exception::ResourceNotFoundException, ConverseError::is_resource_not_found_exception),
    ];
    let fake = started().await;
    let client = client(&fake.endpoint(REGION));
    for (exception, is) in modelled {
        fake.behave(REGION, Behaviour { fail: Some(Fail::with(exception)), ..Behaviour::default() });
        let error = client.converse().model_id(MODEL).messages(user("hi")).send().await.unwrap_err();
        let raw = error.raw_response().unwrap();
        assert_eq!(raw.status().as_u16(), exception.status());
        assert!(error.request_id().is_some());
        let error = error.into_service_error();
        assert!(is(&error), "{exception:?}: {error:?}");
        assert_eq!(error.message(), Some(exception.default_message()));
        let opened = client.converse_stream().model_id(MODEL).messages(user("hi")).send().await;
        assert_eq!(opened.unwrap_err().code(), Some(exception.name()));
        assert_eq!(fake.counts().outcome(exception.name()), 2);
    }
    // These have no class for Converse; their code must come through all the same.
    for exception in [
        Exception::ServiceQuotaExceededException,
        Exception::ModelStreamErrorException,
        Exception::ConflictException,
        Exception::UnrecognizedClientException,
        Exception::ExpiredTokenException,
        Exception::InvalidSignatureException,
    ] {
        fake.behave(REGION, Behaviour { fail: Some(Fail::with(exception)), ..Behaviour::default() });
        assert_eq!(converse(&client).await, exception.name());
    }
}

#[tokio::test]
async fn a_model_error_tells_what_the_model_answered() {
    let fail = Fail { original_status: Some(418), ..Fail::with(Exception::ModelErrorException) };
    let (_fake, client) = behaving(Behaviour { fail: Some(fail), ..Behaviour::default() }).await;
    let error = client.converse().model_id(MODEL).messages(user("hi")).send().await.unwrap_err();
    let ConverseError::ModelErrorException(error) = error.into_service_error() else { panic!("another error") };
    assert_eq!((error.original_status_code(), error.resource_name()), (Some(418), Some(MODEL)));
}

#[tokio::test]
async fn each_break_is_an_error_and_what_came_before_it_is_heard() {
    let exception = |kind| Break::Exception(kind);
    let cases = [
        (exception(StreamException::InternalServer), Some("InternalServerException")),
        (exception(StreamException::ModelStreamError), Some("ModelStreamErrorException")),
        (exception(StreamException::Validation), Some("ValidationException")),
        (exception(StreamException::Throttling), Some("ThrottlingException")),
        (exception(StreamException::ServiceUnavailable), Some("ServiceUnavailableException")),
        (Break::UnmodelledError, Some("response")),
        (Break::Cut, Some("dispatch")),
        (Break::CutInsideFrame, Some("dispatch")),
        (Break::BadChecksum, Some("response")),
        (Break::BadPreludeChecksum, Some("response")),
        (Break::EndWithoutStop, None),
    ];
    for (broken, expected) in cases {
        let in_stream = Some(InStream::after(2, broken));
        let text = Some("one two three".to_owned());
        let (fake, client) = behaving(Behaviour { text, in_stream, ..Behaviour::default() }).await;
        let opened = client.converse_stream().model_id(MODEL).messages(user("hi")).send().await.unwrap();
        let heard = hear(opened).await;
        assert_eq!(heard.text, "one ", "{broken:?}");
        assert!(heard.stop_reason.is_none(), "{broken:?}");
        assert_eq!(heard.error.as_deref(), expected, "{broken:?}");
        let counts = fake.counts().region(REGION);
        assert_eq!((counts.outcome(broken.outcome()), counts.open_streams), (1, 0), "{counts:#?}");
    }
}

#[tokio::test]
async fn a_stream_can_end_before_its_usage_is_told() {
    let in_stream = Some(InStream::with(Break::EndWithoutMetadata));
    let (_fake, client) = behaving(Behaviour { in_stream, ..Behaviour::default() }).await;
    let opened = client.converse_stream().model_id(MODEL).messages(user("hi")).send().await.unwrap();
    let heard = hear(opened).await;
    assert_eq!((heard.stop_reason.as_deref(), heard.output_tokens, heard.error), (Some("end_turn"), None, None));
}

#[tokio::test]
async fn a_client_that_leaves_is_counted_as_cancelled() {
    let hang = Behaviour { outage: Some(Outage::Hang), ..Behaviour::default() };
    let (fake, client) = behaving(hang).await;
    let call = tokio::spawn(client.converse().model_id(MODEL).messages(user("hi")).send());
    until(&fake, |counts| counts.region(REGION).open == 1).await;
    call.abort();
    until(&fake, |counts| counts.cancelled() == 1 && counts.region(REGION).open == 0).await;

    let in_stream = Some(InStream::after(2, Break::Hang));
    fake.behave(REGION, Behaviour { in_stream, ..Behaviour::default() });
    let mut opened = client.converse_stream().model_id(MODEL).messages(user("hi")).send().await.unwrap();
    opened.stream.recv().await.unwrap().unwrap();
    opened.stream.recv().await.unwrap().unwrap();
    assert_eq!(fake.counts().region(REGION).open_streams, 1);
    drop(opened);
    until(&fake, |counts| counts.cancelled() == 2 && counts.region(REGION).open_streams == 0).await;
    assert_eq!(fake.counts().outcome("ok"), 0);
}

#[tokio::test]
async fn only_the_first_requests_fail_where_the_script_counts_them() {
    let fail = Fail { times: Some(2), ..Fail::with(Exception::ServiceUnavailableException) };
    let (_fake, client) = behaving(Behaviour { fail: Some(fail), ..Behaviour::default() }).await;
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.push(converse(&client).await);
    }
    assert_eq!(seen, ["ServiceUnavailableException", "ServiceUnavailableException", "ok"]);
}

#[tokio::test]
async fn chance_follows_the_seed() {
    let failures = async |seed: u64| {
        let fake = FakeBedrock::start(Options { seed, ..Options::default() }).await.unwrap();
        let fail = Fail { percent: 40, ..Fail::with(Exception::InternalServerException) };
        fake.behave(REGION, Behaviour { fail: Some(fail), ..Behaviour::default() });
        let client = client(&fake.endpoint(REGION));
        let mut seen = String::new();
        for _ in 0..40 {
            seen.push(if converse(&client).await == "ok" { '.' } else { 'x' });
        }
        seen
    };
    let first = failures(1).await;
    assert!((6..=26).contains(&first.matches('x').count()), "{first}");
    assert_eq!(first, failures(1).await);
    assert_ne!(first, failures(2).await);
}

#[tokio::test]
async fn what_goes_beyond_the_quota_is_throttled() {
    // "hi" and three words are four tokens.
    let throttle = Some(Throttle { tokens_per_minute: 9 });
    let text = Some("one two three".to_owned());
    let (fake, client) = behaving(Behaviour { text, throttle, ..Behaviour::default() }).await;
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.push(converse(&client).await);
    }
    assert_eq!(seen, ["ok", "ok", "ThrottlingException"]);
    assert_eq!(fake.counts().outcome("ThrottlingException"), 1);
    fake.heal();
    assert_eq!(converse(&client).await, "ok");
}

#[tokio::test]
async fn an_outage_hits_open_connections_and_ends_when_it_is_healed() {
    let (fake, client) = behaving(Behaviour::default()).await;
    for outage in [Outage::Refuse, Outage::Reset, Outage::Close] {
        assert_eq!(converse(&client).await, "ok", "before {outage:?}");
        fake.behave(REGION, Behaviour { outage: Some(outage), ..Behaviour::default() });
        let seen = converse(&client).await;
        assert!(seen == "dispatch" || seen == "response", "{outage:?}: {seen}");
        fake.heal();
    }
    assert_eq!(converse(&client).await, "ok");
    assert_eq!(fake.counts().outcome("ok"), 4);
}

#[tokio::test]
async fn in_a_black_hole_nothing_is_answered_until_it_is_healed() {
    let (fake, client) = behaving(Behaviour::default()).await;
    for outage in [Outage::BlackHole, Outage::Hang] {
        assert_eq!(converse(&client).await, "ok");
        fake.behave(REGION, Behaviour { outage: Some(outage), ..Behaviour::default() });
        let silence = tokio::time::timeout(Duration::from_millis(100), converse(&client)).await;
        assert!(silence.is_err(), "{outage:?}: {silence:?}");
        fake.heal();
    }
    assert_eq!(converse(&client).await, "ok");
}

#[tokio::test]
async fn a_model_can_fail_alone() {
    let (fake, client) = behaving(Behaviour::default()).await;
    let fail = Some(Fail::with(Exception::ThrottlingException));
    fake.behave_model(REGION, "bad", Behaviour { fail, ..Behaviour::default() });
    assert_eq!(converse_with(&client, "bad").await, "ThrottlingException");
    assert_eq!(converse_with(&client, MODEL).await, "ok");
    let counts = fake.counts().region(REGION);
    assert_eq!((counts.ended("bad"), counts.ended(MODEL)), (1, 1));
}

#[tokio::test]
async fn a_model_that_nobody_knows_is_refused() {
    let script = Script { known_models: vec![MODEL.to_owned()], ..Script::default() };
    let fake = FakeBedrock::start(Options { script, ..Options::default() }).await.unwrap();
    let client = client(&fake.endpoint(REGION));
    assert_eq!(converse_with(&client, MODEL).await, "ok");
    assert_eq!(converse_with(&client, "us.amazon.nova-light-v1:0").await, "ValidationException");
    let arn = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc";
    assert_eq!(converse_with(&client, arn).await, "ResourceNotFoundException");
}

#[tokio::test(start_paused = true)]
async fn a_slow_answer_takes_as_long_as_the_script_says() {
    let behaviour = Behaviour {
        latency: Duration::from_secs(2),
        first_token_delay: Duration::from_secs(3),
        tokens_per_second: Some(2.0),
        words: Some(10),
        ..Behaviour::default()
    };
    let fake = started().await;
    fake.behave(REGION, behaviour);
    let endpoint = fake.endpoint(REGION);
    let started = tokio::time::Instant::now();
    let body = crate::wire::post(&endpoint, "/model/m/converse", crate::wire::HELLO).await.2;
    let taken = started.elapsed();
    // Two, three, and ten words at two a second.
    assert!((Duration::from_secs(10)..Duration::from_secs(11)).contains(&taken), "{taken:?}");
    assert!(body["metrics"]["latencyMs"].as_u64().is_some_and(|ms| (10_000..11_000).contains(&ms)), "{body}");
}
