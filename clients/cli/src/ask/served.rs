//! What served an answer, in words and for programs.

use std::{fmt::Write, time::Duration};

use serde_json::{Value, json};
use switchtower_client::wire::{Attempt, Completeness, End, FinishReason, Served};

use crate::output::{DIM, WARNING, printable};

/// For people, dimmed: some lines without an end.
pub(super) fn words(end: &End, took: Duration) -> String {
    let served = end.served.clone().unwrap_or_default();
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = match end.completeness() {
        Completeness::Truncated => {
            writeln!(text, "{WARNING}truncated{WARNING:#}: the stream broke, and the policy ends it with what there is")
        }
        Completeness::Degraded => {
            writeln!(text, "{WARNING}degraded{WARNING:#}: no model answered; this is the policy's own answer")
        }
        Completeness::Complete | Completeness::Unspecified => Ok(()),
    };
    let by = if served.target.is_empty() { "the policy's own answer" } else { &served.target };
    let mut lines = format!("served by {by}: route `{}`", served.route);
    if !served.rule.is_empty() {
        let _ = write!(lines, ", rule `{}`", served.rule);
    }
    let _ = writeln!(lines, ", tier {}, revision {}", served.tier, served.revision);
    for (number, attempt) in (1..).zip(&served.attempts) {
        let _ = write!(lines, "attempt {number}: {}, tier {}: {}", attempt.target, attempt.tier, attempt.outcome);
        if !attempt.error.is_empty() {
            let _ = write!(lines, " ({})", attempt.error);
        }
        let _ = writeln!(lines, " after {}", readable(milliseconds(attempt)));
    }
    let _ = write!(lines, "{}", numbers(end, &served, took));
    let lines = printable(&lines);
    let mut lines = lines.lines().peekable();
    while let Some(line) = lines.next() {
        let _ = write!(text, "{DIM}{line}{DIM:#}{}", if lines.peek().is_some() { "\n" } else { "" });
    }
    text
}

fn numbers(end: &End, served: &Served, took: Duration) -> String {
    let mut numbers = Vec::new();
    if let Some(usage) = &end.usage {
        numbers.push(format!("{} input tokens", usage.input_tokens));
        if usage.cache_read_tokens + usage.cache_write_tokens > 0 {
            let (read, written) = (usage.cache_read_tokens, usage.cache_write_tokens);
            numbers.push(format!("{read} read from and {written} written to the cache"));
        }
        numbers.push(format!("{} output tokens", usage.output_tokens));
    }
    match end.cost_usd {
        Some(cost) => numbers.push(format!("${cost:.6}")),
        None => numbers.push("cost unknown".to_owned()),
    }
    if let Some(reason) = finish_reason(end) {
        numbers.push(reason);
    }
    numbers.push(readable(took.as_secs_f64() * 1e3));
    numbers.push(format!("request {}", served.request_id));
    numbers.join(", ")
}

/// For programs.
pub(super) fn document(text: &str, end: &End, took: Duration) -> Value {
    let served = end.served.clone().unwrap_or_default();
    let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let attempts: Vec<Value> = served.attempts.iter().map(attempt).collect();
    let usage = end.usage.map(|usage| {
        json!({
            "input_tokens": usage.input_tokens,
            "output_tokens": usage.output_tokens,
            "cache_read_tokens": usage.cache_read_tokens,
            "cache_write_tokens": usage.cache_write_tokens,
        })
    });
    json!({
        "text": text,
        "completeness": lower(end.completeness().as_str_name(), "COMPLETENESS_"),
        "finish_reason": finish_reason(end),
        "usage": usage,
        "cost_usd": end.cost_usd,
        "duration_ms": rounded(took.as_secs_f64() * 1e3),
        "served": {
            "request_id": served.request_id,
            "route": served.route,
            "rule": given(&served.rule),
            "tier": served.tier,
            "target": given(&served.target),
            "revision": served.revision,
            "attempts": attempts,
        },
    })
}

fn attempt(attempt: &Attempt) -> Value {
    json!({
        "target": attempt.target,
        "tier": attempt.tier,
        "outcome": attempt.outcome,
        "error": (!attempt.error.is_empty()).then_some(&attempt.error),
        "duration_ms": rounded(milliseconds(attempt)),
    })
}

/// Why the model stopped; the provider's own word where this version knows no other. `None`: none was given.
fn finish_reason(end: &End) -> Option<String> {
    match end.finish_reason() {
        FinishReason::Unspecified => None,
        FinishReason::Other if !end.finish_reason_text.is_empty() => Some(end.finish_reason_text.clone()),
        reason => Some(lower(reason.as_str_name(), "FINISH_REASON_")),
    }
}

fn lower(name: &str, prefix: &str) -> String {
    name.strip_prefix(prefix).unwrap_or(name).to_ascii_lowercase()
}

fn milliseconds(attempt: &Attempt) -> f64 {
    attempt.duration.as_ref().map_or(0.0, |d| d.seconds as f64 * 1e3 + f64::from(d.nanos) / 1e6)
}

fn rounded(milliseconds: f64) -> f64 {
    (milliseconds * 1e3).round() / 1e3
}

fn readable(milliseconds: f64) -> String {
    if milliseconds < 10.0 {
        format!("{milliseconds:.1} ms")
    } else if milliseconds < 10_000.0 {
        format!("{milliseconds:.0} ms")
    } else {
        format!("{:.1} s", milliseconds / 1e3)
    }
}

#[cfg(test)]
mod tests {
    use switchtower_client::wire::Usage;

    use super::*;

    fn failed_over() -> End {
        let attempt = |target: &str, tier, outcome: &str, error: &str| Attempt {
            target: target.to_owned(),
            tier,
            outcome: outcome.to_owned(),
            error: error.to_owned(),
            ..Attempt::default()
        };
        End {
            completeness: Completeness::Complete.into(),
            finish_reason: FinishReason::EndTurn.into(),
            usage: Some(Usage { input_tokens: 12, output_tokens: 30, ..Usage::default() }),
            cost_usd: Some(0.000_123),
            served: Some(Served {
                request_id: "00ff".to_owned(),
                route: "chat".to_owned(),
                rule: "gold".to_owned(),
                tier: 2,
                target: "bedrock/r/b".to_owned(),
                revision: "1a2b".to_owned(),
                attempts: vec![
                    attempt("bedrock/r/a", 1, "throttled", "ThrottlingException"),
                    attempt("bedrock/r/b", 2, "ok", ""),
                ],
            }),
            ..End::default()
        }
    }

    #[track_caller]
    fn check(end: &End, expected: &str) {
        let words = words(end, Duration::from_millis(512));
        assert_eq!(anstream::adapter::strip_str(&words).to_string(), expected);
    }

    #[test]
    fn an_answer_is_told_with_every_attempt() {
        check(
            &failed_over(),
            "served by bedrock/r/b: route `chat`, rule `gold`, tier 2, revision 1a2b\n\
             attempt 1: bedrock/r/a, tier 1: throttled (ThrottlingException) after 0.0 ms\n\
             attempt 2: bedrock/r/b, tier 2: ok after 0.0 ms\n\
             12 input tokens, 30 output tokens, $0.000123, end_turn, 512 ms, request 00ff",
        );
    }

    #[test]
    fn an_answer_of_the_policys_own_says_so() {
        let end = End {
            completeness: Completeness::Degraded.into(),
            served: Some(Served { route: "chat".to_owned(), tier: 3, ..Served::default() }),
            ..End::default()
        };
        check(
            &end,
            "degraded: no model answered; this is the policy's own answer\n\
             served by the policy's own answer: route `chat`, tier 3, revision \n\
             cost unknown, 512 ms, request ",
        );
    }

    #[test]
    fn programs_get_the_same() {
        let document = document("hi", &failed_over(), Duration::from_millis(512));
        assert_eq!(document["text"], "hi");
        assert_eq!(document["completeness"], "complete");
        assert_eq!(document["finish_reason"], "end_turn");
        assert_eq!(document["duration_ms"], 512.0);
        assert_eq!(document["served"]["rule"], "gold");
        assert_eq!(document["served"]["attempts"][0]["error"], "ThrottlingException");
        assert_eq!(document["served"]["attempts"][1]["error"], Value::Null);
    }
}
