//! `GenerateRequest` -> Converse, with everything that is wrong with it.
//!
//! The request is read once: every field is checked where it is translated, so that nothing can be sent that was not
//! looked at. What is refused here is what the message itself promises to refuse; what only a model can judge (that
//! roles alternate, that a tool result has its tool use) goes upstream and is the model's to refuse.
//!
//! Metadata is for our policy and our records. It is not sent upstream as `requestMetadata`, which has a character set
//! of its own and lands in the provider's logs.

mod block;

use std::{borrow::Cow, collections::BTreeMap, time::Duration};

use prost::Message as _;
use prost_types::Struct;
use switchtower_proto::inference::v1::{self as v1, system_block, tool, tool_choice};

use super::{
    converse::{Converse, InferenceConfig, InputSchema, System, Tool, ToolChoice, ToolConfig, ToolSpec, Turn},
    json::{Object, is_json},
    violations::{At, Violations},
};
use crate::face::headers::{METADATA_CHARACTERS, METADATA_PAIRS};

/// Most characters of a route's name, as of a Bedrock model id.
const ROUTE_CHARACTERS: usize = 2048;
/// Most stop sequences, by Bedrock's model.
const STOP_SEQUENCES: usize = 2500;
/// Bounds of how long a caller may say to wait.
const TIMEOUT: std::ops::RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(3600);
/// Members of Converse that have a field here, or that are the policy's alone.
const TAKEN: [&str; 7] =
    ["messages", "system", "inferenceConfig", "toolConfig", "requestMetadata", "modelId", "guardrailConfig"];

/// The Converse body of a request.
///
/// # Errors
/// Everything that is wrong with the request, with paths below `at`.
pub(super) fn body(request: &v1::GenerateRequest, at: &At<'_>) -> Result<Vec<u8>, Violations> {
    let mut wrong = Violations::default();
    let characters = request.route.chars().take(ROUTE_CHARACTERS + 1).count();
    wrong.unless((1..=ROUTE_CHARACTERS).contains(&characters), &at.field("route"), "must have 1 to 2048 characters");
    check_metadata(&request.metadata, &at.field("metadata"), &mut wrong);
    if let Some(timeout) = &request.timeout {
        wrong.unless(timeout_of(timeout).is_some(), &at.field("timeout"), "must be 1 ms to 1 h");
    }
    let converse = Converse {
        messages: messages(&request.messages, &at.field("messages"), &mut wrong),
        system: system(&request.system, &at.field("system"), &mut wrong),
        inference_config: request
            .inference_config
            .as_ref()
            .map(|config| inference_config(config, &at.field("inference_config"), &mut wrong)),
        tool_config: request
            .tool_config
            .as_ref()
            .map(|config| tool_config(config, &at.field("tool_config"), &mut wrong)),
        more: request.more.as_ref().map(|more| top_level(more, &at.field("more"), &mut wrong)),
    };
    wrong.or(())?;
    // Base64 makes four of three.
    let mut body = Vec::with_capacity(request.encoded_len() / 3 * 4 + 256);
    serde_json::to_writer(&mut body, &converse).expect("shapes of text, numbers and objects always serialize");
    Ok(body)
}

/// How long the caller says to wait; `None`: a length that is not 1 ms to 1 h.
pub(super) fn timeout_of(timeout: &prost_types::Duration) -> Option<Duration> {
    Duration::try_from(*timeout).ok().filter(|timeout| TIMEOUT.contains(timeout))
}

fn check_metadata(metadata: &BTreeMap<String, String>, at: &At<'_>, wrong: &mut Violations) {
    wrong.unless(metadata.len() <= METADATA_PAIRS, at, "must have at most 16 pairs");
    let long = |text: &str| text.chars().nth(METADATA_CHARACTERS).is_some();
    wrong.unless(metadata.keys().all(|key| !key.is_empty() && !long(key)), at, "must have keys of 1 to 256 characters");
    wrong.unless(!metadata.values().any(|value| long(value)), at, "must have values of at most 256 characters");
}

fn messages<'a>(messages: &'a [v1::Message], at: &At<'_>, wrong: &mut Violations) -> Vec<Turn<'a>> {
    match messages.last() {
        None => wrong.add(at, "must have at least one message"),
        // An unspecified role is told below.
        Some(last) if last.role == v1::Role::Assistant as i32 => {
            wrong.add(&at.index(messages.len() - 1).field("role"), "must be ROLE_USER in the last message");
        }
        Some(_) => {}
    }
    messages.iter().enumerate().map(|(index, message)| turn(message, &at.index(index), wrong)).collect()
}

fn turn<'a>(message: &'a v1::Message, at: &At<'_>, wrong: &mut Violations) -> Turn<'a> {
    let role = match v1::Role::try_from(message.role) {
        Ok(v1::Role::User) => "user",
        Ok(v1::Role::Assistant) => "assistant",
        Ok(v1::Role::Unspecified) | Err(_) => {
            wrong.add(&at.field("role"), "must be ROLE_USER or ROLE_ASSISTANT");
            ""
        }
    };
    let at = at.field("content");
    wrong.unless(!message.content.is_empty(), &at, "must have at least one block");
    let content = message.content.iter().enumerate();
    let content = content.filter_map(|(index, block)| block::content(block, &at.index(index), wrong)).collect();
    Turn { role: Cow::Borrowed(role), content, more: None }
}

fn system<'a>(blocks: &'a [v1::SystemBlock], at: &At<'_>, wrong: &mut Violations) -> Vec<System<'a>> {
    let mut block = |(index, block): (usize, &'a v1::SystemBlock)| {
        let at = at.index(index);
        match &block.block {
            Some(system_block::Block::Text(text)) => {
                wrong.unless(!text.is_empty(), &at.field("text"), "must not be empty");
                Some(System::Text(Cow::Borrowed(text)))
            }
            Some(system_block::Block::Other(other)) => Some(System::Other(one_member(other, &at, wrong))),
            None => {
                wrong.add(&at, "must be of a kind that this version knows");
                None
            }
        }
    };
    blocks.iter().enumerate().filter_map(&mut block).collect()
}

fn inference_config<'a>(config: &'a v1::InferenceConfig, at: &At<'_>, wrong: &mut Violations) -> InferenceConfig<'a> {
    // A NaN is in no range.
    let share = |value: Option<f32>| value.is_none_or(|value| (0.0..=1.0).contains(&value));
    wrong.unless(config.max_tokens != Some(0), &at.field("max_tokens"), "must be 1 or more");
    wrong.unless(share(config.temperature), &at.field("temperature"), "must be 0 to 1");
    wrong.unless(share(config.top_p), &at.field("top_p"), "must be 0 to 1");
    let stop = &config.stop_sequences;
    let at = at.field("stop_sequences");
    wrong.unless(stop.len() <= STOP_SEQUENCES, &at, "must have at most 2500 texts");
    for (index, text) in stop.iter().enumerate().take(STOP_SEQUENCES) {
        wrong.unless(!text.is_empty(), &at.index(index), "must not be empty");
    }
    InferenceConfig {
        max_tokens: config.max_tokens,
        temperature: config.temperature,
        top_p: config.top_p,
        stop_sequences: stop,
    }
}

fn tool_config<'a>(config: &'a v1::ToolConfig, at: &At<'_>, wrong: &mut Violations) -> ToolConfig<'a> {
    let tools_at = at.field("tools");
    wrong.unless(!config.tools.is_empty(), &tools_at, "must have at least one tool");
    let tools = config.tools.iter().enumerate();
    ToolConfig {
        tools: tools.filter_map(|(index, tool)| one_tool(tool, &tools_at.index(index), wrong)).collect(),
        tool_choice: config.choice.as_ref().and_then(|choice| tool_choice(choice, &at.field("choice"), wrong)),
    }
}

fn one_tool<'a>(tool: &'a v1::Tool, at: &At<'_>, wrong: &mut Violations) -> Option<Tool<'a>> {
    let spec = match &tool.tool {
        Some(tool::Tool::Spec(spec)) => spec,
        Some(tool::Tool::Other(other)) => return Some(Tool::Other(one_member(other, at, wrong))),
        None => {
            wrong.add(at, "must be of a kind that this version knows");
            return None;
        }
    };
    let at = at.field("spec");
    wrong.unless(is_tool_name(&spec.name), &at.field("name"), "must have 1 to 64 characters of [a-zA-Z0-9_-]");
    let json = match &spec.input_schema {
        Some(schema) => object(schema, &at.field("input_schema"), wrong),
        None => Object(Cow::Owned(no_properties())),
    };
    Some(Tool::ToolSpec(ToolSpec {
        name: &spec.name,
        description: &spec.description,
        input_schema: InputSchema { json },
    }))
}

/// The schema of a tool without arguments: Bedrock wants one.
fn no_properties() -> Struct {
    use prost_types::{Value, value::Kind};
    let value = |kind| Value { kind: Some(kind) };
    Struct {
        fields: BTreeMap::from([
            ("type".to_owned(), value(Kind::StringValue("object".to_owned()))),
            ("properties".to_owned(), value(Kind::StructValue(Struct::default()))),
        ]),
    }
}

fn tool_choice<'a>(choice: &'a v1::ToolChoice, at: &At<'_>, wrong: &mut Violations) -> Option<ToolChoice<'a>> {
    match &choice.choice {
        Some(tool_choice::Choice::Auto(_)) => Some(ToolChoice::Auto {}),
        Some(tool_choice::Choice::Any(_)) => Some(ToolChoice::Any {}),
        Some(tool_choice::Choice::Tool(name)) => {
            wrong.unless(is_tool_name(name), &at.field("tool"), "must have 1 to 64 characters of [a-zA-Z0-9_-]");
            Some(ToolChoice::Tool { name })
        }
        None => {
            wrong.add(at, "must be a choice that this version knows");
            None
        }
    }
}

fn is_tool_name(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

/// Members of Converse that have no field here.
fn top_level<'a>(more: &'a Struct, at: &At<'_>, wrong: &mut Violations) -> Object<'a> {
    for taken in TAKEN.into_iter().filter(|taken| more.fields.contains_key(*taken)) {
        let instead = match taken {
            "guardrailConfig" => "`guardrailConfig` is set by the policy",
            "requestMetadata" => "`requestMetadata` is the field `metadata`",
            "modelId" => "`modelId` is the field `route`",
            "inferenceConfig" => "`inferenceConfig` is the field `inference_config`",
            "toolConfig" => "`toolConfig` is the field `tool_config`",
            "system" => "`system` is the field `system`",
            _ => "`messages` is the field `messages`",
        };
        wrong.add(at, instead);
    }
    object(more, at, wrong)
}

/// A block that has no field here. Its kind may be known: a `toolUse` of the provider's own tools is given back as it
/// came, because [`v1::ToolUse`] has no place for its `type`.
fn one_member<'a>(other: &'a Struct, at: &At<'_>, wrong: &mut Violations) -> Object<'a> {
    let at = at.field("other");
    wrong.unless(other.fields.len() == 1, &at, "must have exactly one member");
    object(other, &at, wrong)
}

fn object<'a>(object: &'a Struct, at: &At<'_>, wrong: &mut Violations) -> Object<'a> {
    wrong.unless(object.fields.values().all(is_json), at, "must have a kind in every value, and finite numbers");
    Object::from(object)
}

#[cfg(test)]
mod tests;
