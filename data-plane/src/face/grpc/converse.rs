//! The shapes of Converse that `inference.v1` has fields for, written and read by the same definitions, so that what
//! one direction knows the other knows too.
//!
//! Every shape is exact: a union has one member, and a structure with a member that is not named here is not read as
//! that shape but as `Other`, whole. So nothing is lost that Bedrock adds tomorrow, and a caller can give it back.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::json::{Any, Blob, Object};

/// A text.
pub(super) type Text<'a> = Cow<'a, str>;

/// A request.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Converse<'a> {
    pub(super) messages: Vec<Turn<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) system: Vec<System<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) inference_config: Option<InferenceConfig<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tool_config: Option<ToolConfig<'a>>,
    #[serde(flatten)]
    pub(super) more: Option<Object<'a>>,
}

/// A turn of the conversation.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Turn<'a> {
    pub(super) role: Text<'a>,
    pub(super) content: Vec<Block<'a>>,
    #[serde(flatten)]
    pub(super) more: Option<Object<'a>>,
}

/// A piece of a turn.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Block<'a> {
    Text(Text<'a>),
    Image(Image<'a>),
    Document(Document<'a>),
    ToolUse(ToolUse<'a>),
    ToolResult(ToolResult<'a>),
    ReasoningContent(Reasoning<'a>),
    #[serde(untagged)]
    Other(Object<'a>),
}

/// A picture.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Image<'a> {
    pub(super) format: Text<'a>,
    pub(super) source: ImageSource<'a>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum ImageSource<'a> {
    Bytes(Blob<'a>),
    S3Location(S3Location<'a>),
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct S3Location<'a> {
    pub(super) uri: Text<'a>,
}

/// A document.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Document<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) format: Option<Text<'a>>,
    pub(super) name: Text<'a>,
    pub(super) source: DocumentSource<'a>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum DocumentSource<'a> {
    Bytes(Blob<'a>),
    S3Location(S3Location<'a>),
    Text(Text<'a>),
}

/// The model asks for a tool.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ToolUse<'a> {
    pub(super) tool_use_id: Text<'a>,
    pub(super) name: Text<'a>,
    pub(super) input: Object<'a>,
}

/// What a tool gave back.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ToolResult<'a> {
    pub(super) tool_use_id: Text<'a>,
    pub(super) content: Vec<ToolResultContent<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) status: Option<ToolStatus>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum ToolStatus {
    Success,
    Error,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum ToolResultContent<'a> {
    Text(Text<'a>),
    Json(Any<'a>),
    Image(Image<'a>),
    Document(Document<'a>),
    #[serde(untagged)]
    Other(Object<'a>),
}

/// The model's reasoning.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Reasoning<'a> {
    ReasoningText(ReasoningText<'a>),
    RedactedContent(Blob<'a>),
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReasoningText<'a> {
    pub(super) text: Text<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) signature: Option<Text<'a>>,
}

/// Instructions above the conversation.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum System<'a> {
    Text(Text<'a>),
    #[serde(untagged)]
    Other(Object<'a>),
}

/// How to generate.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct InferenceConfig<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) max_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) temperature: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) top_p: Option<f32>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    pub(super) stop_sequences: &'a [String],
}

/// Tools the model may ask for.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ToolConfig<'a> {
    pub(super) tools: Vec<Tool<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tool_choice: Option<ToolChoice<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Tool<'a> {
    ToolSpec(ToolSpec<'a>),
    #[serde(untagged)]
    Other(Object<'a>),
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ToolSpec<'a> {
    pub(super) name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(super) description: &'a str,
    pub(super) input_schema: InputSchema<'a>,
}

#[derive(Debug, Serialize)]
pub(super) struct InputSchema<'a> {
    pub(super) json: Object<'a>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum ToolChoice<'a> {
    Auto {},
    Any {},
    Tool { name: &'a str },
}

/// A whole answer. Usage and stop reason are the provider's to read: they are in `more` here.
#[derive(Debug, Deserialize)]
pub(super) struct Answer<'a> {
    pub(super) output: Output<'a>,
    #[serde(flatten)]
    pub(super) more: Object<'a>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Output<'a> {
    pub(super) message: Turn<'a>,
    #[serde(flatten)]
    pub(super) more: Object<'a>,
}

/// `contentBlockStart`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct BlockStart<'a> {
    pub(super) content_block_index: u32,
    pub(super) start: Option<Start<'a>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Start<'a> {
    ToolUse(ToolUseStart<'a>),
    #[serde(untagged)]
    Other(Object<'a>),
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ToolUseStart<'a> {
    pub(super) tool_use_id: Text<'a>,
    pub(super) name: Text<'a>,
}

/// `contentBlockDelta`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct BlockDelta<'a> {
    pub(super) content_block_index: u32,
    pub(super) delta: Delta<'a>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Delta<'a> {
    Text(Text<'a>),
    ToolUse(ToolInput<'a>),
    ReasoningContent(ReasoningDelta<'a>),
    #[serde(untagged)]
    Other(Object<'a>),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ToolInput<'a> {
    pub(super) input: Text<'a>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum ReasoningDelta<'a> {
    Text(Text<'a>),
    Signature(Text<'a>),
    RedactedContent(Blob<'a>),
}

/// `contentBlockStop`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct BlockStop {
    pub(super) content_block_index: u32,
}
