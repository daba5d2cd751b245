//! Converse's answers -> `inference.v1`, whole and in pieces. Pure, and loss-free: whatever has no field here is kept in
//! `other` or `more`.

use std::collections::VecDeque;

use prost_types::{Struct, Value, value::Kind as Json};
use switchtower_policy::catalogue::Usage;
use switchtower_proto::inference::v1::{
    self as v1, block_delta, block_start, content_block::Block as Out, document, generate_stream_response::Event,
    image, reasoning, tool_result_content,
};
use switchtower_provider::{Batch, Kind, Whole};

use super::{
    converse::{
        Answer, Block, BlockDelta, BlockStart, BlockStop, Delta, Document, DocumentSource, Image, ImageSource,
        Reasoning, ReasoningDelta, Start, ToolResultContent, ToolStatus,
    },
    json::Object,
};
use crate::record::{Completeness, Ended, Served};

/// Not Converse. What exactly is wrong with it would quote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the provider's answer is not Converse JSON")]
pub(super) struct Malformed;

impl From<serde_json::Error> for Malformed {
    fn from(_: serde_json::Error) -> Self {
        Malformed
    }
}

/// A whole answer.
///
/// # Errors
/// The body is not an answer of Converse.
pub(super) fn whole(answer: &Whole, ended: &Ended, served: &Served) -> Result<v1::GenerateResponse, Malformed> {
    let Answer { output, more } = serde_json::from_slice(&answer.body)?;
    let mut message = output.message;
    let mut more = more.0.into_owned();
    let mut in_output = output.more.0.into_owned();
    let mut in_message = message.more.take().map(|more| more.0.into_owned()).unwrap_or_default();
    let role = role(&message.role);
    if role == v1::Role::Unspecified {
        in_message.fields.insert("role".to_owned(), Value { kind: Some(Json::StringValue(message.role.to_string())) });
    }
    insert(&mut in_output, "message", in_message);
    insert(&mut more, "output", in_output);
    if answer.stop_reason.is_some() {
        more.fields.remove("stopReason");
    }
    forget_usage(&mut more, answer.usage.is_some());
    Ok(v1::GenerateResponse {
        message: Some(v1::Message { role: role.into(), content: message.content.into_iter().map(block).collect() }),
        end: Some(end(ended, served, more)),
    })
}

/// A stream on its way: turns events into messages, and keeps what only the end has a place for.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    more: Struct,
}

impl Pieces {
    /// The messages of a batch of events, in order, behind those that are there.
    ///
    /// # Errors
    /// An event is not Converse's; those before it were added.
    pub(super) fn add(
        &mut self,
        batch: &Batch,
        to: &mut VecDeque<v1::GenerateStreamResponse>,
    ) -> Result<(), Malformed> {
        for event in &batch.events {
            let payload = batch.bytes.get(event.payload.clone()).ok_or(Malformed)?;
            let piece = match &event.kind {
                Kind::BlockStart => started(serde_json::from_slice(payload)?),
                Kind::BlockDelta => Some(Event::BlockDelta(delta(serde_json::from_slice(payload)?))),
                Kind::BlockStop => {
                    let BlockStop { content_block_index: index } = serde_json::from_slice(payload)?;
                    Some(Event::BlockStop(v1::BlockStop { index }))
                }
                Kind::MessageStop(_) | Kind::Metadata(_) => {
                    self.keep(serde_json::from_slice(payload)?, &event.kind);
                    None
                }
                // That the model speaks is no news, and of an event that we do not know not even the name is here.
                Kind::MessageStart | Kind::Other => None,
            };
            to.extend(piece.map(|event| v1::GenerateStreamResponse { event: Some(event) }));
        }
        Ok(())
    }

    /// Keeps what the stream's last events say beside the stop reason and the usage.
    fn keep(&mut self, event: Object<'_>, kind: &Kind) {
        let mut event = event.0.into_owned();
        event.fields.remove("stopReason");
        // Padding against guessing by length.
        event.fields.remove("p");
        forget_usage(&mut event, matches!(kind, Kind::Metadata(Some(_))));
        self.more.fields.append(&mut event.fields);
    }

    /// The last message.
    pub(super) fn end(self, ended: &Ended, served: &Served) -> v1::GenerateStreamResponse {
        v1::GenerateStreamResponse { event: Some(Event::End(end(ended, served, self.more))) }
    }
}

/// A start without content says nothing that the next delta does not say.
fn started(BlockStart { content_block_index: index, start }: BlockStart<'_>) -> Option<Event> {
    let start = match start? {
        Start::ToolUse(tool) => block_start::Start::ToolUse(v1::ToolUseStart {
            id: tool.tool_use_id.into_owned(),
            name: tool.name.into_owned(),
        }),
        Start::Other(other) => block_start::Start::Other(other.0.into_owned()),
    };
    Some(Event::BlockStart(v1::BlockStart { index, start: Some(start) }))
}

fn delta(BlockDelta { content_block_index: index, delta }: BlockDelta<'_>) -> v1::BlockDelta {
    use block_delta::Delta as Out;
    let delta = match delta {
        Delta::Text(text) => Out::Text(text.into_owned()),
        Delta::ToolUse(tool) => Out::ToolInput(tool.input.into_owned()),
        Delta::ReasoningContent(ReasoningDelta::Text(text)) => Out::ReasoningText(text.into_owned()),
        Delta::ReasoningContent(ReasoningDelta::Signature(text)) => Out::ReasoningSignature(text.into_owned()),
        Delta::ReasoningContent(ReasoningDelta::RedactedContent(bytes)) => Out::ReasoningRedacted(bytes.0.into_owned()),
        Delta::Other(other) => Out::Other(other.0.into_owned()),
    };
    v1::BlockDelta { index, delta: Some(delta) }
}

/// Removes what [`v1::Usage`] tells, if it does, and what follows from it.
fn forget_usage(more: &mut Struct, told: bool) {
    if !told {
        return;
    }
    if let Some(Value { kind: Some(Json::StructValue(usage)) }) = more.fields.get_mut("usage") {
        for known in ["inputTokens", "outputTokens", "totalTokens", "cacheReadInputTokens", "cacheWriteInputTokens"] {
            usage.fields.remove(known);
        }
        if !usage.fields.is_empty() {
            return;
        }
    }
    more.fields.remove("usage");
}

fn insert(into: &mut Struct, key: &str, object: Struct) {
    if !object.fields.is_empty() {
        into.fields.insert(key.to_owned(), Value { kind: Some(Json::StructValue(object)) });
    }
}

fn end(ended: &Ended, served: &Served, more: Struct) -> v1::End {
    let reason = ended.stop_reason.as_deref();
    v1::End {
        completeness: match ended.completeness {
            Completeness::Complete => v1::Completeness::Complete,
            Completeness::Truncated => v1::Completeness::Truncated,
            Completeness::Degraded => v1::Completeness::Degraded,
        }
        .into(),
        finish_reason: reason.map_or(v1::FinishReason::Unspecified, finish_reason).into(),
        finish_reason_text: reason.unwrap_or_default().to_owned(),
        usage: ended.usage.map(usage),
        cost_usd: ended.cost,
        served: Some(told(served)),
        more: Some(more).filter(|more| !more.fields.is_empty()),
    }
}

fn finish_reason(text: &str) -> v1::FinishReason {
    match text {
        "end_turn" => v1::FinishReason::EndTurn,
        "tool_use" => v1::FinishReason::ToolUse,
        "max_tokens" => v1::FinishReason::MaxTokens,
        "stop_sequence" => v1::FinishReason::StopSequence,
        "guardrail_intervened" => v1::FinishReason::Guardrail,
        "content_filtered" => v1::FinishReason::ContentFiltered,
        "model_context_window_exceeded" => v1::FinishReason::ContextWindow,
        _ => v1::FinishReason::Other,
    }
}

fn usage(usage: Usage) -> v1::Usage {
    v1::Usage {
        input_tokens: usage.input,
        output_tokens: usage.output,
        cache_read_tokens: usage.cache_read,
        cache_write_tokens: usage.cache_write,
    }
}

fn told(served: &Served) -> v1::Served {
    let attempts = served.attempts.iter().map(|tried| v1::Attempt {
        target: tried.target.to_string(),
        tier: tried.tier.into(),
        outcome: tried.failure.map_or("ok", |class| class.as_str()).to_owned(),
        // An attempt never lasts the 292 billion years that this type ends at.
        duration: prost_types::Duration::try_from(tried.duration).ok(),
        error: tried.code.as_deref().unwrap_or_default().to_owned(),
    });
    v1::Served {
        request_id: served.request_id.to_string(),
        route: served.route.to_string(),
        rule: served.rule.as_deref().unwrap_or_default().to_owned(),
        tier: served.tier.into(),
        target: served.target.as_deref().unwrap_or_default().to_owned(),
        revision: served.revision.to_string(),
        attempts: attempts.collect(),
    }
}

fn role(text: &str) -> v1::Role {
    match text {
        "assistant" => v1::Role::Assistant,
        "user" => v1::Role::User,
        _ => v1::Role::Unspecified,
    }
}

fn block(block: Block<'_>) -> v1::ContentBlock {
    let block = match block {
        Block::Text(text) => Out::Text(text.into_owned()),
        Block::Image(image) => Out::Image(picture(image)),
        Block::Document(document) => Out::Document(paper(document)),
        Block::ToolUse(tool) => Out::ToolUse(v1::ToolUse {
            id: tool.tool_use_id.into_owned(),
            name: tool.name.into_owned(),
            input: Some(tool.input.0.into_owned()),
        }),
        Block::ToolResult(result) => Out::ToolResult(v1::ToolResult {
            tool_use_id: result.tool_use_id.into_owned(),
            content: result.content.into_iter().map(result_content).collect(),
            error: result.status == Some(ToolStatus::Error),
        }),
        Block::ReasoningContent(thought) => Out::Reasoning(v1::Reasoning { reasoning: Some(thinking(thought)) }),
        Block::Other(other) => Out::Other(other.0.into_owned()),
    };
    v1::ContentBlock { block: Some(block) }
}

fn picture(image: Image<'_>) -> v1::Image {
    let source = match image.source {
        ImageSource::Bytes(bytes) => image::Source::Data(bytes.0.into_owned()),
        ImageSource::S3Location(location) => image::Source::S3Uri(location.uri.into_owned()),
    };
    v1::Image { format: image.format.into_owned(), source: Some(source) }
}

fn paper(document: Document<'_>) -> v1::Document {
    let source = match document.source {
        DocumentSource::Bytes(bytes) => document::Source::Data(bytes.0.into_owned()),
        DocumentSource::S3Location(location) => document::Source::S3Uri(location.uri.into_owned()),
        DocumentSource::Text(text) => document::Source::Text(text.into_owned()),
    };
    v1::Document {
        format: document.format.unwrap_or_default().into_owned(),
        name: document.name.into_owned(),
        source: Some(source),
    }
}

fn result_content(piece: ToolResultContent<'_>) -> v1::ToolResultContent {
    use tool_result_content::Content;
    let content = match piece {
        ToolResultContent::Text(text) => Content::Text(text.into_owned()),
        ToolResultContent::Json(json) => Content::Json(json.0.into_owned()),
        ToolResultContent::Image(image) => Content::Image(picture(image)),
        ToolResultContent::Document(document) => Content::Document(paper(document)),
        ToolResultContent::Other(other) => Content::Other(other.0.into_owned()),
    };
    v1::ToolResultContent { content: Some(content) }
}

fn thinking(thought: Reasoning<'_>) -> reasoning::Reasoning {
    match thought {
        Reasoning::ReasoningText(text) => reasoning::Reasoning::Text(v1::ReasoningText {
            text: text.text.into_owned(),
            signature: text.signature.unwrap_or_default().into_owned(),
        }),
        Reasoning::RedactedContent(bytes) => reasoning::Reasoning::Redacted(bytes.0.into_owned()),
    }
}

#[cfg(test)]
pub(super) mod tests;
