//! Logs: a readable line, or JSON, per event.
//!
//! A request is one line at its end, under the target `switchtower::request`: at INFO when it was answered, at WARN when
//! it was not. Its fields are names and numbers only.

use std::time::Duration;

use tokio::time::Instant;
use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

use crate::record::{Facts, Outcome};

/// How lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// For machines: one JSON object per line.
    Json,
}

/// Starts logging to standard error.
///
/// # Errors
/// The filter does not parse, or logging was started before.
pub fn start(format: Format, filter: &str, colours: bool) -> anyhow::Result<()> {
    let registry = tracing_subscriber::registry().with(EnvFilter::try_new(filter)?);
    match format {
        Format::Text => {
            let line = fmt::layer().with_writer(std::io::stderr).with_target(false).with_ansi(colours);
            registry.with(line).try_init()?;
        }
        Format::Json => {
            registry.with(fmt::layer().json().flatten_event(true).with_writer(std::io::stderr)).try_init()?
        }
    }
    Ok(())
}

/// The line of a request.
pub(super) fn ended(facts: &Facts, outcome: &Outcome, now: Instant) {
    let served = &facts.served;
    let duration_ms = milliseconds(now.duration_since(facts.received));
    let caller = facts.caller.as_deref().unwrap_or("-");
    let target = served.target.as_deref().unwrap_or("-");
    let attempts = served.attempts.len();
    let (id, face, route) = (&*facts.id, facts.face.as_str(), &*served.route);
    macro_rules! line {
        ($level:ident, $message:literal $(, $field:ident = $value:expr)*) => {
            tracing::$level!(
                target: "switchtower::request", request_id = id, face, caller, route, target, tier = served.tier,
                attempts, duration_ms $(, $field = $value)*, $message
            )
        };
    }
    match outcome {
        Outcome::Answered(ended) => {
            let usage = ended.usage.unwrap_or_default();
            let failed = served.attempts.iter().find(|tried| tried.failure.is_some());
            line!(
                info,
                "request answered",
                completeness = ended.completeness.as_str(),
                input_tokens = usage.input,
                output_tokens = usage.output,
                cost_dollars = ended.cost,
                first_failure = failed.map(|tried| tried.outcome())
            );
        }
        Outcome::Refused(_) => line!(warn, "request refused", reason = outcome.as_str()),
        Outcome::Broken(class, code) => {
            line!(warn, "stream broken", reason = class.as_str(), error_code = code.as_deref().unwrap_or("-"));
        }
        Outcome::Cancelled => line!(info, "request cancelled by its caller"),
    }
}

fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e4).round() / 10.0
}
