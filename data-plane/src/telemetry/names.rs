//! Names of the OpenTelemetry GenAI conventions, in the two generations that consumers read.
//!
//! The first is what dashboards read today and the default; the second is what the conventions say now, for whoever
//! asks with `OTEL_SEMCONV_STABILITY_OPT_IN=gen_ai_latest_experimental`. The next renaming is one more column here.

/// A generation of names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Generation {
    /// Histogram of how long an attempt took, in seconds; Prometheus' spelling.
    pub operation_duration: &'static str,
    /// Histogram of the time to the first content, in seconds; Prometheus' spelling.
    pub time_to_first_chunk: &'static str,
    /// Tokens; Prometheus' spelling.
    pub token_usage: &'static str,
    /// Span attribute of the tokens written to the prompt cache.
    pub cache_write_tokens: &'static str,
}

/// What dashboards read today.
pub const FIRST: Generation = Generation {
    operation_duration: "gen_ai_client_operation_duration",
    time_to_first_chunk: "gen_ai_client_operation_time_to_first_chunk",
    token_usage: "gen_ai_client_token_usage",
    cache_write_tokens: "gen_ai.usage.cache_creation.input_tokens",
};

/// What the conventions say now.
pub const SECOND: Generation = Generation {
    operation_duration: "gen_ai_client_inference_duration",
    time_to_first_chunk: "gen_ai_client_inference_time_to_first_chunk",
    token_usage: "gen_ai_client_inference_operation_tokens",
    cache_write_tokens: "gen_ai.usage.cache_write.input_tokens",
};

impl Generation {
    /// The generation that `OTEL_SEMCONV_STABILITY_OPT_IN` asks for: a list separated by commas.
    #[must_use]
    pub fn of(opt_in: Option<&str>) -> Self {
        match opt_in.is_some_and(|list| list.split(',').any(|word| word.trim() == "gen_ai_latest_experimental")) {
            true => SECOND,
            false => FIRST,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newer_names_are_opted_into() {
        assert_eq!(Generation::of(None), FIRST);
        assert_eq!(Generation::of(Some("http")), FIRST);
        assert_eq!(Generation::of(Some("http, gen_ai_latest_experimental")), SECOND);
    }
}
