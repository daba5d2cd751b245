//! The AWS SDK for Rust understands every answer that is no fault.

use aws_sdk_bedrockruntime::operation::RequestId;
use aws_sdk_bedrockruntime::types::{
    ContentBlock, GuardrailConfiguration, GuardrailStreamConfiguration, GuardrailTrace, InferenceConfiguration,
    StopReason, Tool, ToolConfiguration, ToolInputSchema, ToolSpecification,
};
use switchtower_fake_bedrock::{Behaviour, Usage};

use crate::support::{MODEL, REGION, behaving, hear, user};

fn tools() -> ToolConfiguration {
    let schema = ToolInputSchema::Json(aws_smithy_types::Document::Object([].into()));
    let spec = ToolSpecification::builder().name("get_weather").input_schema(schema).build().unwrap();
    ToolConfiguration::builder().tools(Tool::ToolSpec(spec)).build().unwrap()
}

#[tokio::test]
async fn an_answer_in_one_piece_echoes_the_prompt_and_counts_its_words() {
    let (fake, client) = behaving(Behaviour::default()).await;
    let answer = client.converse().model_id(MODEL).messages(user("good morning")).send().await.unwrap();
    assert!(answer.request_id().is_some());
    let message = answer.output().unwrap().as_message().unwrap();
    let text = format!("Hello from {MODEL} in {REGION}: you said \"good morning\"");
    assert_eq!(message.content(), [ContentBlock::Text(text)]);
    assert_eq!(answer.stop_reason(), &StopReason::EndTurn);
    let usage = answer.usage().unwrap();
    assert_eq!((usage.input_tokens, usage.output_tokens, usage.total_tokens), (2, 9, 11));
    assert!(answer.metrics().is_some());
    assert_eq!(fake.counts().region(REGION).outcomes[MODEL]["converse"]["ok"], 1);
}

#[tokio::test]
async fn a_stream_says_the_same_however_it_is_cut() {
    let check = async |behaviour: Behaviour, events: usize| {
        let (fake, client) = behaving(Behaviour { text: Some("grüße an alle".into()), ..behaviour }).await;
        let opened = client.converse_stream().model_id(MODEL).messages(user("hi")).send().await.unwrap();
        let heard = hear(opened).await;
        assert_eq!((heard.text.as_str(), heard.error.as_deref()), ("grüße an alle", None));
        assert_eq!((heard.stop_reason.as_deref(), heard.output_tokens), (Some("end_turn"), Some(3)));
        assert_eq!(heard.events, events);
        let counts = fake.counts().region(REGION);
        assert_eq!((counts.outcome("ok"), counts.open, counts.open_streams), (1, 0, 0));
    };
    // messageStart, the pieces, contentBlockStop, messageStop, metadata
    check(Behaviour::default(), 7).await;
    check(Behaviour { chunks: Some(1), ..Behaviour::default() }, 5).await;
    check(Behaviour { chunk_bytes: Some(1), ..Behaviour::default() }, 17).await;
    check(Behaviour { coalesce: true, ..Behaviour::default() }, 7).await;
    check(Behaviour { tokens_per_second: Some(1000.0), ..Behaviour::default() }, 7).await;
}

#[tokio::test]
async fn a_stream_calls_the_tool_that_the_prompt_asks_for() {
    let (_fake, client) = behaving(Behaviour::default()).await;
    let prompt = user("use tool get_weather {\"city\": \"Reykjavík\", \"days\": [1, 2]}");
    let opened =
        client.converse_stream().model_id(MODEL).messages(prompt.clone()).tool_config(tools()).send().await.unwrap();
    let heard = hear(opened).await;
    assert_eq!(heard.stop_reason.as_deref(), Some("tool_use"));
    assert_eq!(heard.tool_input, "{\"city\": \"Reykjavík\", \"days\": [1, 2]}");
    let answer = client.converse().model_id(MODEL).messages(prompt).tool_config(tools()).send().await.unwrap();
    assert_eq!(answer.stop_reason(), &StopReason::ToolUse);
    let call = answer.output().unwrap().as_message().unwrap().content()[1].as_tool_use().unwrap();
    assert_eq!(call.name(), "get_weather");
    assert_eq!(call.input().as_object().unwrap()["city"].as_string(), Some("Reykjavík"));
}

#[tokio::test]
async fn reasoning_comes_before_the_text() {
    let reasoning = Some("let me think".to_owned());
    let (_fake, client) = behaving(Behaviour { reasoning, words: Some(4), ..Behaviour::default() }).await;
    let opened = client.converse_stream().model_id(MODEL).messages(user("hi")).send().await.unwrap();
    let heard = hear(opened).await;
    assert_eq!((heard.reasoning.as_str(), heard.text.as_str()), ("let me think", "the signal is set"));
    let answer = client.converse().model_id(MODEL).messages(user("hi")).send().await.unwrap();
    let content = answer.output().unwrap().as_message().unwrap().content();
    let thought = content[0].as_reasoning_content().unwrap().as_reasoning_text().unwrap();
    assert_eq!(thought.text(), "let me think");
    assert_eq!(content[1].as_text().unwrap(), "the signal is set");
}

#[tokio::test]
async fn max_tokens_cut_the_answer() {
    for text in [None, Some("one two three four five".to_owned())] {
        let (_fake, client) = behaving(Behaviour { text, ..Behaviour::default() }).await;
        let two = InferenceConfiguration::builder().max_tokens(2).build();
        let call = client.converse_stream().model_id(MODEL).messages(user("hi")).inference_config(two);
        let heard = hear(call.send().await.unwrap()).await;
        assert_eq!((heard.stop_reason.as_deref(), heard.output_tokens), (Some("max_tokens"), Some(2)));
        assert_eq!(heard.text.split(' ').count(), 2);
    }
}

#[tokio::test]
async fn a_guardrail_blocks_the_forbidden_word_and_says_why_when_asked() {
    let (_fake, client) = behaving(Behaviour::default()).await;
    let guardrail = GuardrailConfiguration::builder().guardrail_identifier("gr-1").guardrail_version("1");
    let call = client.converse().model_id(MODEL).messages(user("a forbidden word"));
    let traced = guardrail.clone().trace(GuardrailTrace::Enabled).build();
    let answer = call.clone().guardrail_config(traced).send().await.unwrap();
    assert_eq!(answer.stop_reason(), &StopReason::GuardrailIntervened);
    let trace = answer.trace().unwrap().guardrail().unwrap().input_assessment().unwrap();
    assert_eq!(trace["gr-1"].word_policy().unwrap().custom_words()[0].r#match(), "forbidden");
    let answer = call.guardrail_config(guardrail.build()).send().await.unwrap();
    assert!(answer.trace().is_none());
    let guardrail = GuardrailStreamConfiguration::builder().guardrail_identifier("gr-1").guardrail_version("1");
    let call = client.converse_stream().model_id(MODEL).messages(user("a forbidden word"));
    let heard = hear(call.guardrail_config(guardrail.build()).send().await.unwrap()).await;
    assert_eq!(heard.stop_reason.as_deref(), Some("guardrail_intervened"));
    assert_eq!(heard.output_tokens, Some(0));
}

#[tokio::test]
async fn a_scripted_usage_is_reported_as_it_is() {
    let usage = Usage {
        input_tokens: 10,
        output_tokens: 20,
        cache_read_input_tokens: Some(30),
        cache_write_input_tokens: None,
    };
    let (_fake, client) = behaving(Behaviour { usage: Some(usage), ..Behaviour::default() }).await;
    let answer = client.converse().model_id(MODEL).messages(user("hi")).send().await.unwrap();
    let usage = answer.usage().unwrap();
    assert_eq!((usage.input_tokens, usage.output_tokens, usage.total_tokens), (10, 20, 60));
    assert_eq!((usage.cache_read_input_tokens, usage.cache_write_input_tokens), (Some(30), None));
}
