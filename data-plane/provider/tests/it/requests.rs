//! What arrives at the server: the lean path sends what the SDK sends, but for headers about the client itself.

use std::{sync::Arc, time::SystemTime};

use aws_sdk_bedrockruntime::{
    config::{Credentials as Keys, SharedCredentialsProvider, Token},
    operation::{
        converse::{ConverseInput, builders::ConverseInputBuilder},
        converse_stream::{ConverseStreamInput, builders::ConverseStreamInputBuilder},
    },
    primitives::Blob,
    types::*,
};
use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SigningSettings, sign},
    sign::v4,
};
use aws_smithy_types::{Document, Number};
use http::HeaderValue;
use switchtower_policy::failure::Class;
use switchtower_provider::{
    Answer, Operation, Provider,
    bedrock::credentials::{Credentials, Trust},
};

use crate::{
    server::{Captured, End, Server, chunked, whole},
    setup::{MODEL, REGION, attempt, keys, lean, lean_with, sdk, sdk_config},
};

fn object(members: &[(&str, Document)]) -> Document {
    Document::Object(members.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect())
}

fn message(content: ContentBlock) -> Message {
    Message::builder().role(ConversationRole::User).content(content).build().unwrap()
}

fn text(text: &str) -> ContentBlock {
    ContentBlock::Text(text.into())
}

fn image() -> ImageBlock {
    let source = ImageSource::Bytes(Blob::new((0..=255).collect::<Vec<u8>>()));
    ImageBlock::builder().format(ImageFormat::Png).source(source).build().unwrap()
}

fn document(source: DocumentSource) -> DocumentBlock {
    let citations = CitationsConfig::builder().enabled(true).build().unwrap();
    DocumentBlock::builder()
        .format(DocumentFormat::Pdf)
        .name("a name (1)")
        .context("context")
        .source(source)
        .citations(citations)
        .build()
        .unwrap()
}

fn s3() -> S3Location {
    S3Location::builder().uri("s3://bucket/key").bucket_owner("123456789012").build().unwrap()
}

fn cache_point() -> CachePointBlock {
    CachePointBlock::builder().r#type(CachePointType::Default).ttl(CacheTtl::OneHour).build().unwrap()
}

fn guard_text() -> GuardrailConverseContentBlock {
    let text = GuardrailConverseTextBlock::builder().text("guard").qualifiers(GuardrailConverseContentQualifier::Query);
    GuardrailConverseContentBlock::Text(text.build().unwrap())
}

fn reasoning() -> ReasoningContentBlock {
    let text = ReasoningTextBlock::builder().text("because").signature("c2lnbmF0dXJl").build().unwrap();
    ReasoningContentBlock::ReasoningText(text)
}

fn tool(name: &str) -> Tool {
    let number =
        object(&[("type", Document::String("number".into())), ("maximum", Document::Number(Number::Float(1.5)))]);
    let schema = object(&[("type", Document::String("object".into())), ("properties", object(&[("x", number)]))]);
    let tool = ToolSpecification::builder().name(name).description("does").strict(true);
    Tool::ToolSpec(tool.input_schema(ToolInputSchema::Json(schema)).build().unwrap())
}

fn tools(choice: ToolChoice) -> ToolConfiguration {
    let system = Tool::SystemTool(SystemTool::builder().name("nova_grounding").build().unwrap());
    let config = ToolConfiguration::builder().tools(tool("one")).tools(system).tools(Tool::CachePoint(cache_point()));
    config.tool_choice(choice).build().unwrap()
}

fn tool_turns() -> Vec<Message> {
    let input = object(&[("x", Document::Number(Number::NegInt(-3))), ("none", Document::Null)]);
    let tool_use = ToolUseBlock::builder().tool_use_id("id-1").name("one").input(input).build().unwrap();
    let result = ToolResultBlock::builder()
        .tool_use_id("id-1")
        .content(ToolResultContentBlock::Text("text".into()))
        .content(ToolResultContentBlock::Json(object(&[("ok", Document::Bool(true))])))
        .content(ToolResultContentBlock::Image(image()))
        .content(ToolResultContentBlock::Document(document(DocumentSource::Text("text".into()))))
        .status(ToolResultStatus::Error)
        .build()
        .unwrap();
    let assistant = Message::builder().role(ConversationRole::Assistant).content(ContentBlock::ToolUse(tool_use));
    vec![assistant.build().unwrap(), message(ContentBlock::ToolResult(result))]
}

fn search_result() -> SearchResultBlock {
    let content = SearchResultContentBlock::builder().text("found").build().unwrap();
    let citations = CitationsConfig::builder().enabled(false).build().unwrap();
    SearchResultBlock::builder().source("https://x").title("t").content(content).citations(citations).build().unwrap()
}

fn output_config() -> OutputConfig {
    let schema =
        JsonSchemaDefinition::builder().schema(r#"{"type":"object"}"#).name("n").description("d").build().unwrap();
    let format = OutputFormat::builder()
        .r#type(OutputFormatType::JsonSchema)
        .structure(OutputFormatStructure::JsonSchema(schema))
        .build()
        .unwrap();
    OutputConfig::builder().text_format(format).effort("high").build()
}

/// Every feature of a request, by name, set on a builder of either operation.
macro_rules! features {
    ($builder:expr) => {{
        let empty = || $builder.model_id(MODEL);
        let new = || empty().messages(message(text("héllo \"quoted\" \u{1f600}\n")));
        let inference =
            InferenceConfiguration::builder().max_tokens(7).temperature(0.25).top_p(0.5).stop_sequences("END");
        let video =
            VideoBlock::builder().format(VideoFormat::Mp4).source(VideoSource::S3Location(s3())).build().unwrap();
        let audio = AudioBlock::builder().format(AudioFormat::Wav).source(AudioSource::Bytes(Blob::new("RIFF")));
        let latency = PerformanceConfiguration::builder().latency(PerformanceConfigLatency::Optimized).build();
        let specific = ToolChoice::Tool(SpecificToolChoice::builder().name("one").build().unwrap());
        let citations =
            CitationsContentBlock::builder().content(CitationGeneratedContent::Text("cited".into())).build();
        vec![
            ("nothing", empty()),
            ("text", new()),
            (
                "system",
                new()
                    .system(SystemContentBlock::Text("be kind".into()))
                    .system(SystemContentBlock::GuardContent(guard_text()))
                    .system(SystemContentBlock::CachePoint(cache_point())),
            ),
            ("inferenceConfig", new().inference_config(inference.build())),
            ("toolConfig", new().tool_config(tools(ToolChoice::Auto(AutoToolChoice::builder().build())))),
            ("toolChoice any", new().tool_config(tools(ToolChoice::Any(AnyToolChoice::builder().build())))),
            ("toolChoice tool", new().tool_config(tools(specific))),
            ("tool results", new().set_messages(Some(tool_turns()))),
            ("image", new().messages(message(ContentBlock::Image(image())))),
            (
                "document",
                new().messages(message(ContentBlock::Document(document(DocumentSource::Bytes(Blob::new("%PDF")))))),
            ),
            (
                "document in S3",
                new().messages(message(ContentBlock::Document(document(DocumentSource::S3Location(s3()))))),
            ),
            ("video", new().messages(message(ContentBlock::Video(video)))),
            ("audio", new().messages(message(ContentBlock::Audio(audio.build().unwrap())))),
            ("search result", new().messages(message(ContentBlock::SearchResult(search_result())))),
            ("citations", new().messages(message(ContentBlock::CitationsContent(citations)))),
            ("cache point", new().messages(message(ContentBlock::CachePoint(cache_point())))),
            ("guarded text", new().messages(message(ContentBlock::GuardContent(guard_text())))),
            ("reasoning", new().messages(message(ContentBlock::ReasoningContent(reasoning())))),
            (
                "redacted reasoning",
                new().messages(message(ContentBlock::ReasoningContent(ReasoningContentBlock::RedactedContent(
                    Blob::new([0, 255]),
                )))),
            ),
            (
                "additionalModelRequestFields",
                new().additional_model_request_fields(object(&[("top_k", Document::Number(Number::PosInt(u64::MAX)))])),
            ),
            ("additionalModelResponseFieldPaths", new().additional_model_response_field_paths("/stop_sequence")),
            ("requestMetadata", new().request_metadata("team", "a b:c")),
            ("performanceConfig", new().performance_config(latency)),
            ("serviceTier", new().service_tier(ServiceTier::builder().r#type(ServiceTierType::Flex).build().unwrap())),
            ("outputConfig", new().output_config(output_config())),
            ("promptVariables", new().prompt_variables("name", PromptVariableValues::Text("value".into()))),
        ]
    }};
}

fn unary() -> Vec<(&'static str, ConverseInputBuilder)> {
    let guardrail = GuardrailConfiguration::builder()
        .guardrail_identifier("gr-1")
        .guardrail_version("7")
        .trace(GuardrailTrace::EnabledFull);
    let guarded = ConverseInput::builder().model_id(MODEL).guardrail_config(guardrail.build());
    let mut features = features!(ConverseInput::builder());
    features.push(("guardrailConfig", guarded));
    features
}

fn streamed() -> Vec<(&'static str, ConverseStreamInputBuilder)> {
    let guardrail = GuardrailStreamConfiguration::builder()
        .guardrail_identifier("gr-1")
        .guardrail_version("7")
        .stream_processing_mode(GuardrailStreamProcessingMode::Async);
    let guarded = ConverseStreamInput::builder().model_id(MODEL).guardrail_config(guardrail.build());
    let mut features = features!(ConverseStreamInput::builder());
    features.push(("guardrailConfig", guarded));
    features
}

fn only(server: &Server) -> Captured {
    let mut captured = server.take();
    assert_eq!(captured.len(), 1);
    captured.remove(0)
}

/// What the SDK sent for the model is sent by the lean path; the two must have arrived alike.
async fn check(what: &str, server: &Server, model: &str, operation: Operation) -> Captured {
    let expected = only(server);
    let answer = lean(&server.url).attempt(attempt(model, operation, expected.body.clone())).await;
    assert!(answer.is_ok(), "{what}: {answer:?}");
    let got = only(server);
    assert_eq!((&got.method, &got.path), (&expected.method, &expected.path), "{what}");
    for name in ["content-type", "content-length", "host", "x-amz-security-token"] {
        assert_eq!(got.header(name), expected.header(name), "{what}: {name}");
    }
    let json = |body: &[u8]| serde_json::from_slice::<serde_json::Value>(body).unwrap();
    assert_eq!(json(&got.body), json(&expected.body), "{what}");
    check_signature(&expected, what);
    check_signature(&got, what);
    got
}

/// Recomputes a signature from what arrived.
fn check_signature(captured: &Captured, what: &str) {
    let authorization = captured.header("authorization").unwrap();
    let signed = authorization.split("SignedHeaders=").nth(1).unwrap().split(',').next().unwrap();
    let headers = signed
        .split(';')
        .filter(|name| !["x-amz-date", "x-amz-security-token"].contains(name))
        .map(|name| (name, captured.header(name).expect("a signed header is there")));
    let identity = keys().into();
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(REGION)
        .name("bedrock")
        .time(time_of(captured))
        .settings(SigningSettings::default())
        .build()
        .unwrap()
        .into();
    let uri = format!("http://{}{}", captured.header("host").unwrap(), captured.path);
    let request = SignableRequest::new(&captured.method, &uri, headers, SignableBody::Bytes(&captured.body)).unwrap();
    let (instructions, _) = sign(request, &params).unwrap().into_parts();
    let (headers, _) = instructions.into_parts();
    let expected = headers.iter().find(|header| header.name() == "authorization").unwrap();
    assert_eq!(authorization, expected.value(), "{what}");
}

fn time_of(captured: &Captured) -> SystemTime {
    let format = time::macros::format_description!("[year][month][day]T[hour][minute][second]Z");
    let date = captured.header("x-amz-date").unwrap();
    time::PrimitiveDateTime::parse(date, &format).unwrap().assume_utc().into()
}

fn stream_answer() -> Vec<u8> {
    chunked::<&[u8]>(&[], true)
}

fn unary_answer() -> Vec<u8> {
    whole(200, &[("content-type", "application/json")], "{}")
}

#[tokio::test]
async fn every_feature_of_a_request_arrives_as_from_the_sdk() {
    let server = Server::new(unary_answer(), End::Close).await;
    for (what, input) in unary() {
        let _ = input.send_with(&sdk(&server.url)).await;
        check(what, &server, MODEL, Operation::Converse).await;
    }
}

#[tokio::test]
async fn every_feature_of_a_streamed_request_arrives_as_from_the_sdk() {
    let server = Server::new(stream_answer(), End::Close).await;
    for (what, input) in streamed() {
        let _ = input.send_with(&sdk(&server.url)).await;
        check(what, &server, MODEL, Operation::ConverseStream).await;
    }
}

#[tokio::test]
async fn every_kind_of_model_id_is_named_in_the_path_as_by_the_sdk() {
    let server = Server::new(unary_answer(), End::Close).await;
    for model in [
        MODEL,
        "anthropic.claude-v2",
        "arn:aws:bedrock:us-east-1::foundation-model/amazon.nova-lite-v1:0",
        "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/a1b2/c3",
        "arn:aws-us-gov:bedrock:us-gov-west-1:123456789012:prompt/ABCDEFGHIJ:12",
        "odd id%2F?#[]@!$&'()*+,;=~_.-é\\^`{|}<>\"",
    ] {
        let _ = sdk(&server.url).converse().model_id(model).send().await;
        check(model, &server, model, Operation::Converse).await;
    }
}

#[tokio::test]
async fn an_endpoint_with_a_path_of_its_own_keeps_it() {
    let server = Server::new(unary_answer(), End::Close).await;
    let url = format!("{}/proxy/bedrock", server.url);
    let _ = sdk(&url).converse().model_id(MODEL).send().await;
    let expected = only(&server);
    lean(&url).attempt(attempt(MODEL, Operation::Converse, "{}")).await.unwrap();
    let got = only(&server);
    assert_eq!(got.path, expected.path);
    check_signature(&got, "path");
}

#[tokio::test]
async fn an_api_key_is_sent_as_by_the_sdk() {
    let server = Server::new(unary_answer(), End::Close).await;
    let config = sdk_config(&server.url).bearer_token(Token::new("ABSKsecret", None)).build();
    let _ = aws_sdk_bedrockruntime::Client::from_conf(config).converse().model_id(MODEL).send().await;
    let expected = only(&server);
    let bearer = lean_with(&server.url, Credentials::bearer("ABSKsecret").unwrap(), Trust::Native);
    bearer.attempt(attempt(MODEL, Operation::Converse, "{}")).await.unwrap();
    let got = only(&server);
    assert_eq!(got.header("authorization"), expected.header("authorization"));
    assert_eq!((got.header("x-amz-date"), got.header("x-amz-security-token")), (None, None));
}

#[tokio::test]
async fn the_trace_goes_on_and_is_not_signed() {
    let server = Server::new(unary_answer(), End::Close).await;
    let mut traced = attempt(MODEL, Operation::Converse, "{}");
    let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let state = Some(HeaderValue::from_static("vendor=1"));
    traced.trace = Some(switchtower_provider::TraceHeaders { parent: HeaderValue::from_static(traceparent), state });
    lean(&server.url).attempt(traced).await.unwrap();
    let got = only(&server);
    assert_eq!(got.header("traceparent"), Some(traceparent));
    assert_eq!(got.header("tracestate"), Some("vendor=1"));
    assert!(!got.header("authorization").unwrap().contains("traceparent"));
    check_signature(&got, "traced");
}

#[tokio::test]
async fn without_credentials_nothing_is_sent() {
    let server = Server::new(unary_answer(), End::Close).await;
    let expired = Keys::new("AKIDEXAMPLE", "secret", None, Some(SystemTime::UNIX_EPOCH), "test");
    for keys in
        [Keys::new("", "", None, None, "test"), Keys::new("not visible \u{7f}", "", None, None, "test"), expired]
    {
        let fetched_but_expired = keys.expiry().is_some();
        let credentials = Credentials::Provider(SharedCredentialsProvider::new(keys));
        let lean = lean_with(&server.url, credentials, Trust::Native);
        let outcome = lean.attempt(attempt(MODEL, Operation::Converse, "{}")).await;
        // What was fetched this moment is used, whatever it says of itself: the clocks may differ.
        assert_eq!(outcome.is_ok(), fetched_but_expired);
        if let Err(failure) = outcome {
            assert_eq!((failure.class, failure.sent, failure.status), (Class::Credentials, false, None));
        }
        assert_eq!(server.take().len(), usize::from(fetched_but_expired));
    }
}

#[tokio::test]
async fn a_region_that_is_none_is_never_called() {
    let mut evil = attempt(MODEL, Operation::Converse, "{}");
    Arc::make_mut(&mut evil.target).region = "evil.example/".into();
    let failure = lean("http://127.0.0.1:9").attempt(evil).await.unwrap_err();
    assert_eq!((failure.class, failure.sent), (Class::Misconfigured, false));
}

#[tokio::test]
async fn a_whole_answer_says_what_the_sdk_reads_in_it() {
    let body = r#"{"output":{"message":{"role":"assistant","content":[{"text":"hi"}]}},"stopReason":"max_tokens",
        "usage":{"inputTokens":11,"outputTokens":7,"totalTokens":18,"cacheReadInputTokens":5,"cacheWriteInputTokens":2},
        "metrics":{"latencyMs":3},"new":{"stopReason":"not this"}}"#;
    let server = Server::new(whole(200, &[("content-type", "application/json")], body), End::Close).await;
    let expected = sdk(&server.url).converse().model_id(MODEL).send().await.unwrap();
    let Answer::Whole(got) = lean(&server.url).attempt(attempt(MODEL, Operation::Converse, "{}")).await.unwrap() else {
        panic!("a whole answer")
    };
    assert_eq!(got.body, body, "the body is untouched");
    assert_eq!(got.stop_reason.as_deref(), Some(expected.stop_reason().as_str()));
    let (usage, tokens) = (got.usage.unwrap(), expected.usage().unwrap());
    let count = |tokens: i32| u64::try_from(tokens).unwrap();
    assert_eq!((usage.input, usage.output), (count(tokens.input_tokens), count(tokens.output_tokens)));
    assert_eq!(Some(usage.cache_read), tokens.cache_read_input_tokens().map(count));
    assert_eq!(Some(usage.cache_write), tokens.cache_write_input_tokens().map(count));
}
