//! The tokens that an answer says it used, in one place for whole answers and streams.

use serde::Deserialize;
use serde_json::value::RawValue;
use switchtower_policy::catalogue::Usage;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TokenUsage {
    input_tokens: u64,
    output_tokens: u64,
    cache_read_input_tokens: Option<u64>,
    cache_write_input_tokens: Option<u64>,
}

/// The tokens used. A usage that cannot be read is none: the answer is whole, and its cost unknown.
pub(super) fn read(raw: &RawValue) -> Option<Usage> {
    let usage: TokenUsage = serde_json::from_str(raw.get()).ok()?;
    Some(Usage {
        input: usage.input_tokens,
        output: usage.output_tokens,
        cache_read: usage.cache_read_input_tokens.unwrap_or(0),
        cache_write: usage.cache_write_input_tokens.unwrap_or(0),
    })
}
