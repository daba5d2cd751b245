//! A Converse body, read only as far as the fake's answer depends on it; and what Bedrock refuses in one.

use std::collections::BTreeMap;

use serde::{Deserialize, de::IgnoredAny};

/// What an answer depends on.
#[derive(Debug, PartialEq)]
pub(crate) struct Prompt {
    /// The text of the last user message, tool results included.
    pub(crate) said: String,
    /// Words in all of the messages and the system prompt.
    pub(crate) input_tokens: u32,
    pub(crate) max_tokens: Option<u32>,
    /// A tool that is offered, and that the prompt or `toolChoice` asks for.
    pub(crate) tool: Option<ToolCall>,
    /// Set where a guardrail is given and blocks.
    pub(crate) blocked: Option<Blocked>,
}

#[derive(Debug, PartialEq)]
pub(crate) struct ToolCall {
    pub(crate) name: String,
    /// A JSON object.
    pub(crate) input: String,
}

#[derive(Debug, PartialEq)]
pub(crate) struct Blocked {
    pub(crate) guardrail: String,
    /// Whether the body asks to be told why.
    pub(crate) trace: bool,
}

/// The word that the fake's guardrail knows.
pub(crate) const FORBIDDEN: &str = "forbidden";
/// How a prompt asks for a tool; the name follows, and a JSON object if it likes.
const ASKS_FOR_TOOL: &str = "use tool ";
/// A longer input in a prompt is not called with: every 16 bytes of it become a frame.
const LONGEST_TOOL_INPUT_BYTES: usize = 64 << 10;

impl Prompt {
    /// Reads a body.
    ///
    /// # Errors
    /// The message of the `ValidationException` that it deserves.
    pub(crate) fn read(body: &[u8]) -> Result<Prompt, String> {
        let body: Body = serde_json::from_slice(body).map_err(|error| format!("Malformed input request: {error}"))?;
        let messages = body.messages.as_deref().unwrap_or_default();
        check(messages)?;
        let max_tokens = body.inference_config.and_then(|config| config.max_tokens);
        if max_tokens == Some(0) {
            return Err("inferenceConfig.maxTokens: value must be greater than or equal to 1.".to_owned());
        }
        let last = messages.iter().rev().find(|message| message.role == "user").expect("the first one is a user's");
        let said = last.texts().collect::<Vec<_>>().join(" ");
        let all = || messages.iter().flat_map(Message::texts).chain(body.system.iter().flat_map(Block::texts));
        let tool = match &body.tool_config {
            Some(config) => config.call(last)?,
            None => None,
        };
        let blocked = body.guardrail_config.filter(|_| all().any(|text| text.contains(FORBIDDEN)));
        Ok(Prompt {
            input_tokens: all().map(words).sum(),
            said,
            max_tokens,
            tool,
            blocked: blocked.map(|config| Blocked {
                trace: config.trace.is_some_and(|trace| trace != "disabled"),
                guardrail: config.guardrail_identifier.unwrap_or_default(),
            }),
        })
    }
}

/// A token is a word: whoever tests can count them.
pub(crate) fn words(text: &str) -> u32 {
    u32::try_from(text.split_whitespace().count()).unwrap_or(u32::MAX)
}

fn check(messages: &[Message]) -> Result<(), String> {
    let Some(first) = messages.first() else {
        return Err("messages: at least one message is required.".to_owned());
    };
    if first.role != "user" {
        return Err("A conversation must start with a user message. Try again with a conversation that starts with a \
                    user message."
            .to_owned());
    }
    for (index, message) in messages.iter().enumerate() {
        if !matches!(&*message.role, "user" | "assistant" | "system") {
            return Err(format!("messages.{index}.role: must be one of user, assistant, system."));
        }
        if message.content.is_empty() {
            return Err(format!("The content field in the Message object at messages.{index} is empty."));
        }
        if message.content.iter().any(|block| block.text.as_ref().is_some_and(|text| text.trim().is_empty())) {
            return Err(format!("The text field in the ContentBlock object at messages.{index} is blank."));
        }
    }
    Ok(())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    messages: Option<Vec<Message>>,
    #[serde(default)]
    system: Vec<Block>,
    inference_config: Option<InferenceConfig>,
    tool_config: Option<ToolConfig>,
    guardrail_config: Option<GuardrailConfig>,
}

#[derive(Deserialize)]
struct Message {
    role: String,
    content: Vec<Block>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Block {
    text: Option<String>,
    tool_result: Option<ToolResult>,
    guard_content: Option<GuardContent>,
}

#[derive(Deserialize)]
struct ToolResult {
    content: Vec<ResultBlock>,
}

#[derive(Deserialize)]
struct ResultBlock {
    text: Option<String>,
}

#[derive(Deserialize)]
struct GuardContent {
    text: Option<ResultBlock>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct InferenceConfig {
    max_tokens: Option<u32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct GuardrailConfig {
    guardrail_identifier: Option<String>,
    trace: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ToolConfig {
    tools: Vec<Tool>,
    tool_choice: Option<ToolChoice>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Tool {
    tool_spec: Option<Named>,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

#[derive(Deserialize)]
struct ToolChoice {
    any: Option<IgnoredAny>,
    tool: Option<Named>,
}

impl Message {
    fn texts(&self) -> impl Iterator<Item = &str> {
        self.content.iter().flat_map(Block::texts)
    }
}

impl Block {
    fn texts(&self) -> impl Iterator<Item = &str> {
        let results = self.tool_result.iter().flat_map(|result| &result.content).filter_map(|b| b.text.as_deref());
        let guarded = self.guard_content.iter().filter_map(|guard| guard.text.as_ref()?.text.as_deref());
        self.text.as_deref().into_iter().chain(results).chain(guarded)
    }
}

impl ToolConfig {
    fn call(&self, last: &Message) -> Result<Option<ToolCall>, String> {
        if self.tools.is_empty() {
            return Err("toolConfig.tools: at least one tool is required.".to_owned());
        }
        let offered = || self.tools.iter().filter_map(|tool| tool.tool_spec.as_ref()).map(|spec| spec.name.as_str());
        // A result is never itself a wish for a tool, or a conversation would never end.
        let wishes = last.content.iter().filter_map(|block| block.text.as_deref());
        let asked = wishes.filter_map(|text| text.split_once(ASKS_FOR_TOOL)).map(|(_, wish)| wish).find_map(|wish| {
            let end = wish.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '-')).unwrap_or(wish.len());
            let (name, rest) = wish.split_at(end);
            offered().find(|offer| *offer == name).map(|name| (name, object_at_start_of(rest)))
        });
        let forced = || {
            let choice = self.tool_choice.as_ref()?;
            match (&choice.tool, &choice.any) {
                (Some(named), _) => offered().find(|name| *name == named.name),
                (None, Some(_)) => offered().next(),
                (None, None) => None,
            }
        };
        let call = asked.or_else(|| Some((forced()?, None)));
        Ok(call.map(|(name, input)| ToolCall {
            name: name.to_owned(),
            input: input.unwrap_or_else(|| r#"{"asked_by":"the prompt","times":1}"#.to_owned()),
        }))
    }
}

fn object_at_start_of(text: &str) -> Option<String> {
    let text = text.trim_start();
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<BTreeMap<String, IgnoredAny>>();
    values.next()?.ok()?;
    let object = &text[..values.byte_offset()];
    (object.len() <= LONGEST_TOOL_INPUT_BYTES).then(|| object.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_bedrock_refuses_is_refused() {
        let check = |body: &str, expected: &str| {
            let refusal = Prompt::read(body.as_bytes()).unwrap_err();
            assert!(refusal.contains(expected), "{body}: {refusal}");
        };
        check("{", "Malformed");
        check("[]", "Malformed");
        check("{}", "at least one message");
        check(r#"{"messages":[]}"#, "at least one message");
        check(r#"{"messages":{}}"#, "Malformed");
        check(r#"{"messages":[{"role":"assistant","content":[{"text":"a"}]}]}"#, "start with a user");
        check(r#"{"messages":[{"role":"user","content":[]}]}"#, "is empty");
        check(r#"{"messages":[{"role":"user","content":[{"text":" "}]}]}"#, "is blank");
        let second = r#"{"messages":[{"role":"user","content":[{"text":"a"}]},{"role":"me","content":[]}]}"#;
        check(second, "messages.1.role");
        let none = r#"{"messages":[{"role":"user","content":[{"text":"a"}]}],"inferenceConfig":{"maxTokens":0}}"#;
        check(none, "maxTokens");
        let tools = r#"{"messages":[{"role":"user","content":[{"text":"a"}]}],"toolConfig":{"tools":[]}}"#;
        check(tools, "toolConfig.tools");
    }

    #[test]
    fn words_are_counted_wherever_they_stand() {
        let body = r#"{"system":[{"text":"be brief"},{"cachePoint":{"type":"default"}}],"messages":[
            {"role":"user","content":[{"text":"one two"},{"guardContent":{"text":{"text":"three"}}}]},
            {"role":"assistant","content":[{"toolUse":{"toolUseId":"t","name":"n","input":{}}}]},
            {"role":"user","content":[{"toolResult":{"toolUseId":"t","content":[{"text":"four five"}]}}]}],
            "inferenceConfig":{"maxTokens":7,"temperature":0.5}}"#;
        let prompt = Prompt::read(body.as_bytes()).unwrap();
        assert_eq!((prompt.input_tokens, prompt.max_tokens, &*prompt.said), (7, Some(7), "four five"));
    }

    #[test]
    fn a_tool_is_called_when_it_is_offered_and_asked_for() {
        let check = |said: &str, choice: &str, expected: Option<(&str, &str)>| {
            let body = serde_json::json!({
                "messages": [{ "role": "user", "content": [{ "text": said }] }],
                "toolConfig": {
                    "tools": [{ "cachePoint": {} }, { "toolSpec": { "name": "get_weather" } }, { "toolSpec": { "name": "b" } }],
                    "toolChoice": serde_json::from_str::<serde_json::Value>(choice).unwrap(),
                },
            });
            let tool = Prompt::read(body.to_string().as_bytes()).unwrap().tool;
            let tool = tool.as_ref().map(|call| (&*call.name, &*call.input));
            assert_eq!(tool, expected, "{said} {choice}");
        };
        let usual = r#"{"asked_by":"the prompt","times":1}"#;
        check("please use tool get_weather", "null", Some(("get_weather", usual)));
        check("use tool get_weather {\"city\": \"Paris\"} now", "null", Some(("get_weather", "{\"city\": \"Paris\"}")));
        check("use tool get_weather, please", r#"{"auto":{}}"#, Some(("get_weather", usual)));
        check("use tool unknown", "null", None);
        check("hello", "null", None);
        check("hello", r#"{"any":{}}"#, Some(("get_weather", usual)));
        check("hello", r#"{"tool":{"name":"b"}}"#, Some(("b", usual)));
    }

    #[test]
    fn a_guardrail_blocks_the_forbidden_word_and_only_where_it_is_given() {
        let check = |said: &str, guardrail: &str, expected: Option<(&str, bool)>| {
            let message = format!(r#"{{"role":"user","content":[{{"text":"{said}"}}]}}"#);
            let body = format!(r#"{{"messages":[{message}],"guardrailConfig":{guardrail}}}"#);
            let blocked = Prompt::read(body.as_bytes()).unwrap().blocked;
            assert_eq!(blocked.as_ref().map(|b| (&*b.guardrail, b.trace)), expected, "{body}");
        };
        let traced = r#"{"guardrailIdentifier":"g","guardrailVersion":"1","trace":"enabled"}"#;
        check("a forbidden word", traced, Some(("g", true)));
        check("a forbidden word", r#"{"guardrailIdentifier":"g","guardrailVersion":"1"}"#, Some(("g", false)));
        check("a forbidden word", "null", None);
        check("a good word", traced, None);
    }
}
