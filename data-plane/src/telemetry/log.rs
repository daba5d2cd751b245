//! The line of a request: one at its end, under the target `switchtower::request`, at INFO when it was answered and at
//! WARN when it was not. Its fields are names and numbers only.

use std::time::Duration;

use switchtower_policy::failure::Class;
use tokio::time::Instant;

use crate::record::{Completeness, Ended, Facts, Outcome, Served};

/// What the sentence of a request's line says already; for people it is not said twice.
pub const SAID: [&str; 14] = [
    "face",
    "caller",
    "route",
    "served_by",
    "tier",
    "attempts",
    "duration_ms",
    "completeness",
    "input_tokens",
    "output_tokens",
    "cost_dollars",
    "reason",
    "first_failure",
    "error_code",
];

/// The line of a request.
pub(super) fn ended(facts: &Facts, outcome: &Outcome, now: Instant) {
    let served = &facts.served;
    let duration_ms = milliseconds(now.duration_since(facts.received));
    let caller = facts.caller.as_deref().unwrap_or("-");
    let served_by = served.target.as_deref().unwrap_or("-");
    let attempts = served.attempts.len();
    let (id, face, route) = (&*facts.id, facts.face.as_str(), &*served.route);
    macro_rules! line {
        ($level:ident, { $($field:ident = $value:expr),* }, $($message:tt)+) => {
            tracing::$level!(
                target: "switchtower::request", request_id = id, face, caller, route, served_by, tier = served.tier,
                attempts, duration_ms $(, $field = $value)*, $($message)+
            )
        };
    }
    match outcome {
        Outcome::Answered(ended) => {
            let usage = ended.usage.unwrap_or_default();
            let first_failure = served.attempts.iter().find_map(|tried| tried.failure).map(Class::as_str);
            line!(
                info,
                {
                    completeness = ended.completeness.as_str(),
                    input_tokens = usage.input,
                    output_tokens = usage.output,
                    cost_dollars = ended.cost,
                    first_failure = first_failure
                },
                "{caller}: {route} answered by {} in {duration_ms} ms{}",
                if served.degraded { "an answer tier" } else { served_by },
                Details { served, ended, first_failure }
            );
        }
        Outcome::Refused(_) => {
            let reason = outcome.as_str();
            line!(warn, { reason = reason }, "{caller}: {} refused after {duration_ms} ms: {reason}", named(route));
        }
        Outcome::Broken(class, code) => {
            let (reason, error_code) = (class.as_str(), code.as_deref().unwrap_or("-"));
            line!(
                warn,
                { reason = reason, error_code = error_code },
                "{caller}: {route} broke off after {duration_ms} ms: {reason} at {served_by}"
            );
        }
        Outcome::Cancelled => {
            line!(info, {}, "{caller}: {} left by its caller after {duration_ms} ms", named(route));
        }
    }
}

fn named(route: &str) -> &str {
    if route.is_empty() { "request" } else { route }
}

/// What is worth a word about an answer, beyond who gave it.
struct Details<'a> {
    served: &'a Served,
    ended: &'a Ended,
    first_failure: Option<&'static str>,
}

impl std::fmt::Display for Details<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // A truncated answer's own attempt failed too: that is the next word.
        let others = self.served.attempts.len() > 1 || self.ended.completeness != Completeness::Truncated;
        if let Some(failure) = self.first_failure.filter(|_| others) {
            write!(f, ", attempt {} (the first: {failure})", self.served.attempts.len())?;
        }
        if self.ended.completeness == Completeness::Truncated {
            f.write_str(", truncated")?;
        }
        if let Some(usage) = self.ended.usage.filter(|_| !self.served.degraded) {
            write!(f, ", {} + {} tokens", usage.input, usage.output)?;
        }
        match self.ended.cost {
            Some(dollars) if dollars > 0.0 => write!(f, ", ${dollars:.6}"),
            _ => Ok(()),
        }
    }
}

fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e4).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_field_of_a_request_is_called_as_the_json_format_calls_its_own() {
        let own = ["timestamp", "level", "target", "message", "span", "spans", "threadName", "threadId"];
        assert!(SAID.iter().all(|field| !own.contains(field)));
    }
}
