//! What is asked for: five kinds of answers, each a model of the fake and a route of the node.

use bytes::Bytes;
use serde_json::{Value, json};

/// A kind of answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scene {
    /// In one piece, of about 1 KiB.
    Whole,
    /// A stream whose first content is there at once, and whose second and last comes one or two milliseconds later:
    /// what is measured is the first alone, with nothing else on its way.
    First,
    /// [`CHUNKS`] chunks, one every two milliseconds.
    OneByOne,
    /// As many, all in one write.
    BackToBack,
    /// A stream that begins and then stands still.
    Held,
}

/// Chunks of content that a measured stream has.
pub(crate) const CHUNKS: u32 = 100;
/// Length of the prompt, in bytes.
const PROMPT_BYTES: usize = 1024;
/// The session that requests belong to, and the tier that the routes' rules ask for.
pub(crate) const METADATA: [(&str, &str); 2] = [("session", "s-17"), ("tier", "gold")];
/// As most applications do, they say how much they want; more than any scene has.
pub(crate) const MAX_TOKENS: u32 = 512;

impl Scene {
    pub(crate) const ALL: [Scene; 5] = [Scene::Whole, Scene::First, Scene::OneByOne, Scene::BackToBack, Scene::Held];

    /// The node's route.
    pub(crate) fn route(self) -> &'static str {
        match self {
            Scene::Whole => "whole",
            Scene::First => "first",
            Scene::OneByOne => "one-by-one",
            Scene::BackToBack => "back-to-back",
            Scene::Held => "held",
        }
    }

    /// The fake's model. They are real ones, so that the node knows their prices and counts money as it always does.
    pub(crate) fn model(self) -> &'static str {
        match self {
            Scene::Whole => "us.amazon.nova-lite-v1:0",
            Scene::First => "us.amazon.nova-micro-v1:0",
            Scene::OneByOne => "us.amazon.nova-pro-v1:0",
            Scene::BackToBack => "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
            Scene::Held => "us.anthropic.claude-haiku-4-5-20251001-v1:0",
        }
    }

    /// Bedrock's name of the operation, as the path has it.
    pub(crate) fn operation(self) -> &'static str {
        if self == Scene::Whole { "converse" } else { "converse-stream" }
    }

    /// How many chunks of content a complete stream has; `None`: the answer is no stream, or never ends.
    pub(crate) fn chunks(self) -> Option<u32> {
        match self {
            Scene::Whole | Scene::Held => None,
            Scene::First => Some(2),
            Scene::OneByOne | Scene::BackToBack => Some(CHUNKS),
        }
    }

    /// What the fake does.
    fn behaviour(self) -> Value {
        match self {
            Scene::Whole => json!({ "words": 200 }),
            Scene::First => json!({ "words": 2, "tokens_per_second": 1000 }),
            Scene::OneByOne => json!({ "words": CHUNKS, "tokens_per_second": 500 }),
            Scene::BackToBack => json!({ "words": CHUNKS, "coalesce": true }),
            // Its role, its first block if it announces one, and some text.
            Scene::Held => json!({ "words": CHUNKS, "in_stream": { "after_events": 4, "error": "hang" } }),
        }
    }
}

/// The fake's script.
pub(crate) fn script(region: &str) -> String {
    let models: serde_json::Map<String, Value> =
        Scene::ALL.iter().map(|scene| (scene.model().to_owned(), scene.behaviour())).collect();
    json!({ "regions": { region: { "models": models } } }).to_string()
}

/// What callers say.
pub(crate) fn prompt() -> String {
    let mut text = "Where is my parcel? ".repeat(PROMPT_BYTES / 20 + 1);
    text.truncate(PROMPT_BYTES);
    text
}

/// The body of a Converse or ConverseStream request.
pub(crate) fn body() -> Bytes {
    let metadata: serde_json::Map<String, Value> =
        METADATA.iter().map(|(key, value)| ((*key).to_owned(), (*value).into())).collect();
    let body = json!({
        "messages": [{ "role": "user", "content": [{ "text": prompt() }] }],
        "inferenceConfig": { "maxTokens": MAX_TOKENS },
        "requestMetadata": metadata,
    });
    Bytes::from(body.to_string())
}

#[cfg(test)]
mod tests {
    use switchtower_fake_bedrock::Script;

    use super::*;

    #[test]
    fn the_fake_takes_the_script() {
        let script = Script::read(&script("us-east-1")).unwrap();
        assert_eq!(script.regions["us-east-1"].models.len(), Scene::ALL.len());
    }

    #[test]
    fn the_prompt_is_as_long_as_it_says() {
        assert_eq!(prompt().len(), PROMPT_BYTES);
    }
}
