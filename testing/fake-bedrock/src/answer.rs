//! What the model says: a pure function of the behaviour and the prompt, and its two forms on the wire.

use bytes::{Bytes, BytesMut};
use serde_json::{Value, json};

use crate::{
    frame,
    request::{FORBIDDEN, Prompt, words},
    script::{Behaviour, Usage},
};

/// What the model says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) blocks: Vec<Block>,
    pub(crate) stop_reason: &'static str,
    pub(crate) output_tokens: u32,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Block {
    Reasoning(String),
    Text(String),
    ToolUse { id: String, name: String, input: String },
}

/// How a stream's text is cut into pieces.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pieces {
    Words,
    Count(usize),
    Bytes(usize),
}

/// The events of a stream up to `messageStop`, in one buffer.
#[derive(Debug)]
pub(crate) struct Frames {
    pub(crate) all: Bytes,
    pub(crate) events: Vec<Event>,
    /// How many events wait for the model's pace.
    pub(crate) paced: u32,
}

#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) bytes: Bytes,
    /// Whether it is a piece of what the model says, and comes no faster than the model.
    pub(crate) is_paced: bool,
}

const BLOCKED: &str = "Sorry, the model cannot answer this question.";
/// An echo quotes no more of a prompt, or a long one would come back in as many frames as it has words.
const LONGEST_ECHO_CHARS: usize = 2000;
/// Tool input comes in pieces that mind neither words nor JSON.
const TOOL_PIECE_BYTES: usize = 16;
/// What a model signs its thoughts with; nothing looks into it.
const SIGNATURE: &str = "c2lnbmVkIGJ5IG5vYm9keQ==";

impl Answer {
    /// What is said to this prompt. `tool_use_id` is used if a tool is called.
    pub(crate) fn new(
        behaviour: &Behaviour,
        prompt: &Prompt,
        model: &str,
        region: &str,
        tool_use_id: impl Fn() -> String,
    ) -> Answer {
        if prompt.blocked.is_some() {
            let blocks = vec![Block::Text(BLOCKED.to_owned())];
            return Answer { blocks, stop_reason: "guardrail_intervened", output_tokens: 0 };
        }
        let mut blocks = Vec::with_capacity(3);
        blocks.extend(behaviour.reasoning.clone().map(Block::Reasoning));
        if let Some(call) = &prompt.tool {
            blocks.push(Block::Text(format!("Let me use {}.", call.name)));
            let (name, input) = (call.name.clone(), call.input.clone());
            blocks.push(Block::ToolUse { id: tool_use_id(), name, input });
        } else {
            let text = behaviour.scripted_text().unwrap_or_else(|| echo(&prompt.said, model, region));
            blocks.push(Block::Text(text));
        }
        Answer::within(blocks, prompt.max_tokens)
    }

    /// What is said whatever the prompt, where the behaviour has such a text.
    pub(crate) fn scripted(behaviour: &Behaviour) -> Option<Answer> {
        let text = behaviour.scripted_text()?;
        let reasoning = behaviour.reasoning.clone().map(Block::Reasoning);
        Some(Answer::within(reasoning.into_iter().chain([Block::Text(text)]).collect(), None))
    }

    /// The blocks as far as the tokens reach. A tool that they do not reach is not called.
    fn within(blocks: Vec<Block>, max_tokens: Option<u32>) -> Answer {
        let max_tokens = max_tokens.unwrap_or(u32::MAX);
        let mut answer = Answer { blocks: Vec::new(), stop_reason: "end_turn", output_tokens: 0 };
        for block in blocks {
            let left = max_tokens - answer.output_tokens;
            let tokens = block.tokens();
            if tokens > left {
                answer.stop_reason = "max_tokens";
                answer.blocks.extend(block.first(left));
                answer.output_tokens = max_tokens;
                return answer;
            }
            if matches!(block, Block::ToolUse { .. }) {
                answer.stop_reason = "tool_use";
            }
            answer.output_tokens += tokens;
            answer.blocks.push(block);
        }
        answer
    }

    /// The member `output` of an answer in one piece.
    pub(crate) fn output(&self) -> Value {
        let content: Vec<Value> = self.blocks.iter().map(Block::to_json).collect();
        json!({ "message": { "role": "assistant", "content": content } })
    }

    /// The events of a stream, all but the last one, which knows how long the stream took.
    pub(crate) fn frames(&self, pieces: Pieces) -> Frames {
        let mut writer = Writer { buffer: BytesMut::with_capacity(4096), ends: Vec::new() };
        writer.event("messageStart", r#""role":"assistant""#, false);
        for (index, block) in self.blocks.iter().enumerate() {
            writer.block(index, block, pieces);
        }
        writer.event("messageStop", &format!(r#""stopReason":"{}""#, self.stop_reason), false);
        writer.finish()
    }
}

impl Behaviour {
    fn scripted_text(&self) -> Option<String> {
        match (&self.text, self.words) {
            (Some(text), _) => Some(text.clone()),
            (None, Some(count)) => Some(filler(count)),
            (None, None) => None,
        }
    }

    pub(crate) fn pieces(&self) -> Pieces {
        match (self.chunks, self.chunk_bytes) {
            (Some(count), _) => Pieces::Count(count as usize),
            (None, Some(bytes)) => Pieces::Bytes(bytes as usize),
            (None, None) => Pieces::Words,
        }
    }
}

impl Block {
    fn tokens(&self) -> u32 {
        match self {
            Block::Reasoning(text) | Block::Text(text) => words(text),
            Block::ToolUse { input, .. } => 1 + words(input),
        }
    }

    /// As much of it as so many tokens give.
    fn first(self, tokens: u32) -> Option<Block> {
        let cut = |text: String| first_words(&text, tokens).to_owned();
        match self {
            _ if tokens == 0 => None,
            Block::Reasoning(text) => Some(Block::Reasoning(cut(text))),
            Block::Text(text) => Some(Block::Text(cut(text))),
            Block::ToolUse { .. } => None,
        }
    }

    fn to_json(&self) -> Value {
        match self {
            Block::Reasoning(text) => {
                json!({ "reasoningContent": { "reasoningText": { "text": text, "signature": SIGNATURE } } })
            }
            Block::Text(text) => json!({ "text": text }),
            Block::ToolUse { id, name, input } => {
                let input: Value = serde_json::from_str(input).expect("it was read from JSON, or is ours");
                json!({ "toolUse": { "toolUseId": id, "name": name, "input": input } })
            }
        }
    }
}

/// The members `usage`, `metrics` and `trace`, which both forms share.
pub(crate) fn metadata(prompt: &Prompt, output_tokens: u32, usage: Option<Usage>, latency_ms: u64) -> Value {
    let counted = match &prompt.blocked {
        Some(_) => Usage::default(),
        None => Usage { input_tokens: prompt.input_tokens, output_tokens, ..Usage::default() },
    };
    let usage = usage.unwrap_or(counted);
    let cached = usage.cache_read_input_tokens.unwrap_or(0).saturating_add(usage.cache_write_input_tokens.unwrap_or(0));
    let total = usage.input_tokens.saturating_add(usage.output_tokens).saturating_add(cached);
    let mut members = json!({
        "usage": { "inputTokens": usage.input_tokens, "outputTokens": usage.output_tokens, "totalTokens": total },
        "metrics": { "latencyMs": latency_ms },
    });
    if let Some(tokens) = usage.cache_read_input_tokens {
        members["usage"]["cacheReadInputTokens"] = tokens.into();
    }
    if let Some(tokens) = usage.cache_write_input_tokens {
        members["usage"]["cacheWriteInputTokens"] = tokens.into();
    }
    if let Some(blocked) = prompt.blocked.as_ref().filter(|blocked| blocked.trace) {
        let word = json!({ "match": FORBIDDEN, "action": "BLOCKED", "detected": true });
        let found = json!({ "wordPolicy": { "customWords": [word], "managedWordLists": [] } });
        members["trace"] = json!({ "guardrail": { "inputAssessment": { &blocked.guardrail: found } } });
    }
    members
}

fn echo(said: &str, model: &str, region: &str) -> String {
    let end = said.char_indices().nth(LONGEST_ECHO_CHARS).map_or(said.len(), |(at, _)| at);
    format!("Hello from {model} in {region}: you said \"{}\"", &said[..end])
}

fn filler(words: u32) -> String {
    const FILLER: [&str; 8] = ["the", "signal", "is", "set", "and", "the", "line", "clear"];
    let mut text = String::with_capacity(words as usize * 6);
    for index in 0..words as usize {
        if index > 0 {
            text.push(' ');
        }
        text.push_str(FILLER[index % FILLER.len()]);
    }
    text
}

fn first_words(text: &str, count: u32) -> &str {
    let (mut begun, mut inside) = (0, false);
    for (at, char) in text.char_indices() {
        if char.is_whitespace() {
            if inside && begun == count {
                return &text[..at];
            }
            inside = false;
        } else if !inside {
            inside = true;
            begun += 1;
        }
    }
    text
}

fn cut(text: &str, pieces: Pieces) -> Vec<&str> {
    match pieces {
        Pieces::Words => text.split_inclusive(' ').collect(),
        Pieces::Bytes(size) => cut_at(text, |piece| (piece + 1).saturating_mul(size)),
        Pieces::Count(count) => cut_at(text, |piece| text.len() * (piece + 1).min(count) / count),
    }
}

/// Cuts where `end_of` says that each piece ends, or at the next character.
fn cut_at(text: &str, end_of: impl Fn(usize) -> usize) -> Vec<&str> {
    let mut cut = Vec::new();
    let mut from = 0;
    for piece in 0.. {
        if from >= text.len() {
            break;
        }
        let to = text.ceil_char_boundary(end_of(piece));
        if to > from {
            cut.push(&text[from..to]);
            from = to;
        }
    }
    cut
}

/// Writes events one behind the other.
struct Writer {
    buffer: BytesMut,
    ends: Vec<(usize, bool)>,
}

impl Writer {
    fn block(&mut self, index: usize, block: &Block, pieces: Pieces) {
        match block {
            Block::Text(text) => {
                for piece in cut(text, pieces) {
                    self.delta(index, &format!(r#"{{"text":{}}}"#, quoted(piece)), true);
                }
            }
            Block::Reasoning(text) => {
                for piece in cut(text, pieces) {
                    let delta = format!(r#"{{"reasoningContent":{{"text":{}}}}}"#, quoted(piece));
                    self.delta(index, &delta, true);
                }
                self.delta(index, &format!(r#"{{"reasoningContent":{{"signature":"{SIGNATURE}"}}}}"#), false);
            }
            Block::ToolUse { id, name, input } => {
                let start = format!(r#"{{"toolUse":{{"toolUseId":{},"name":{}}}}}"#, quoted(id), quoted(name));
                let members = format!(r#""contentBlockIndex":{index},"start":{start}"#);
                self.event("contentBlockStart", &members, false);
                for piece in cut(input, Pieces::Bytes(TOOL_PIECE_BYTES)) {
                    self.delta(index, &format!(r#"{{"toolUse":{{"input":{}}}}}"#, quoted(piece)), true);
                }
            }
        }
        self.event("contentBlockStop", &format!(r#""contentBlockIndex":{index}"#), false);
    }

    fn delta(&mut self, index: usize, delta: &str, is_paced: bool) {
        let members = format!(r#""contentBlockIndex":{index},"delta":{delta}"#);
        self.event("contentBlockDelta", &members, is_paced);
    }

    fn event(&mut self, kind: &'static str, members: &str, is_paced: bool) {
        write_padded(kind, members, self.ends.len(), &mut self.buffer);
        self.ends.push((self.buffer.len(), is_paced));
    }

    fn finish(self) -> Frames {
        let all = self.buffer.freeze();
        let mut from = 0;
        let mut events = Vec::with_capacity(self.ends.len());
        let mut paced = 0;
        for (to, is_paced) in self.ends {
            events.push(Event { bytes: all.slice(from..to), is_paced });
            paced += u32::from(is_paced);
            from = to;
        }
        Frames { all, events, paced }
    }
}

/// The last frame of a stream.
pub(crate) fn metadata_frame(metadata: &Value, index: usize) -> Bytes {
    let object = metadata.to_string();
    let mut buffer = BytesMut::with_capacity(512);
    write_padded("metadata", &object[1..object.len() - 1], index, &mut buffer);
    buffer.freeze()
}

/// Bedrock pads its events, so that their length does not tell what they say.
fn write_padded(kind: &'static str, members: &str, index: usize, buffer: &mut BytesMut) {
    const PADDING: &str = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    let padding = &PADDING[..1 + index * 23 % PADDING.len()];
    frame::write_event(kind, format!(r#"{{{members},"p":"{padding}"}}"#), buffer);
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a string is always JSON")
}

#[cfg(test)]
mod tests {
    use aws_smithy_eventstream::frame::read_message_from;

    use super::*;

    fn prompt(said: &str, max_tokens: Option<u32>) -> Prompt {
        Prompt { said: said.to_owned(), input_tokens: words(said), max_tokens, tool: None, blocked: None }
    }

    fn answer(behaviour: &Behaviour, prompt: &Prompt) -> Answer {
        Answer::new(behaviour, prompt, "m", "us-east-1", || "tooluse_1".to_owned())
    }

    #[test]
    fn an_answer_ends_where_its_tokens_do() {
        let check = |behaviour: &Behaviour, max_tokens: Option<u32>, expected: (&str, &str, u32)| {
            let answer = answer(behaviour, &prompt("hi", max_tokens));
            let said: Vec<&str> = answer
                .blocks
                .iter()
                .map(|block| match block {
                    Block::Reasoning(text) | Block::Text(text) => text.as_str(),
                    Block::ToolUse { name, .. } => name.as_str(),
                })
                .collect();
            assert_eq!((said.join("|").as_str(), answer.stop_reason, answer.output_tokens), expected);
        };
        let echo = Behaviour::default();
        check(&echo, None, ("Hello from m in us-east-1: you said \"hi\"", "end_turn", 8));
        check(&echo, Some(8), ("Hello from m in us-east-1: you said \"hi\"", "end_turn", 8));
        check(&echo, Some(2), ("Hello from", "max_tokens", 2));
        let words = Behaviour { words: Some(3), reasoning: Some("let me think".into()), ..Behaviour::default() };
        check(&words, None, ("let me think|the signal is", "end_turn", 6));
        check(&words, Some(4), ("let me think|the", "max_tokens", 4));
        check(&words, Some(3), ("let me think", "max_tokens", 3));
    }

    #[test]
    fn pieces_are_the_text_again() {
        let check = |text: &str, pieces: Pieces, expected: &[&str]| assert_eq!(cut(text, pieces), expected);
        check("one two", Pieces::Words, &["one ", "two"]);
        check("onetwo", Pieces::Count(2), &["one", "two"]);
        check("abcde", Pieces::Count(2), &["ab", "cde"]);
        check("ab", Pieces::Count(5), &["a", "b"]);
        check("ééé", Pieces::Bytes(3), &["éé", "é"]);
        check("ééé", Pieces::Bytes(1), &["é", "é", "é"]);
        check("abcde", Pieces::Bytes(2), &["ab", "cd", "e"]);
    }

    #[test]
    fn a_stream_starts_blocks_of_tools_only() {
        let call = crate::request::ToolCall { name: "t".into(), input: r#"{"city":"Reykjavík"}"#.into() };
        let prompt = Prompt { tool: Some(call), ..prompt("use tool t", None) };
        let answer = answer(&Behaviour::default(), &prompt);
        assert_eq!(answer.stop_reason, "tool_use");
        let frames = answer.frames(Pieces::Count(1));
        let kinds: Vec<String> = frames
            .events
            .iter()
            .map(|event| {
                let message = read_message_from(event.bytes.clone()).unwrap();
                message.headers()[0].value().as_string().unwrap().as_str().to_owned()
            })
            .collect();
        let expected = [
            "messageStart",
            "contentBlockDelta",
            "contentBlockStop",
            "contentBlockStart",
            "contentBlockDelta",
            "contentBlockDelta",
            "contentBlockStop",
            "messageStop",
        ];
        assert_eq!(kinds, expected);
        assert_eq!(frames.paced, 3);
        assert_eq!(frames.events.iter().map(|event| event.bytes.len()).sum::<usize>(), frames.all.len());
    }
}
