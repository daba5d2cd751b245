//! Logs: a readable line, or JSON, per event.
//!
//! A request is one line at its end, under the target `switchtower::request`: at INFO when it was answered, at WARN when
//! it was not. Its fields are names and numbers only.

use std::time::Duration;

use switchtower_policy::failure::Class;
use time::OffsetDateTime;
use tokio::time::Instant;
use tracing::field::Field;
use tracing_subscriber::{
    EnvFilter, Layer,
    field::MakeExt,
    fmt::{self, MakeWriter, format::Writer, time::FormatTime},
    layer::SubscriberExt,
    registry::LookupSpan,
    util::SubscriberInitExt,
};

use crate::record::{Completeness, Ended, Facts, Outcome, Served};

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
    let registry = tracing_subscriber::registry().with(self::filter(filter)?);
    match format {
        Format::Text => {
            let line = fmt::layer()
                .with_writer(std::io::stderr)
                .with_target(false)
                .with_ansi(colours)
                .with_timer(TimeOfDay)
                .fmt_fields(fmt::format::debug_fn(for_people).delimited(" "));
            registry.with(line).try_init()?;
        }
        Format::Json => registry.with(json(std::io::stderr)).try_init()?,
    }
    Ok(())
}

/// Lines for machines, written by `writer`.
pub fn json<S, W>(writer: W) -> impl Layer<S>
where
    S: tracing::Subscriber + for<'lookup> LookupSpan<'lookup>,
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    fmt::layer().json().flatten_event(true).with_writer(writer)
}

/// The filter as it was written, without what others log of credentials and their sources: the AWS SDK quotes whole
/// answers of metadata services, and our own lines say what it comes to.
fn filter(written: &str) -> anyhow::Result<EnvFilter> {
    let mut filter = EnvFilter::try_new(written)?;
    for silent in ["aws_config=off", "aws_runtime=off", "aws_credential_types=off", "aws_sigv4=off", "aws_smithy=off"] {
        filter = filter.add_directive(silent.parse()?);
    }
    Ok(filter)
}

/// `HH:MM:SS.mmm`, UTC: whoever reads lines knows the day.
struct TimeOfDay;

impl FormatTime for TimeOfDay {
    fn format_time(&self, writer: &mut Writer<'_>) -> std::fmt::Result {
        let (hour, minute, second, milli) = OffsetDateTime::now_utc().time().as_hms_milli();
        write!(writer, "{hour:02}:{minute:02}:{second:02}.{milli:03}")
    }
}

/// What the sentence of a request's line says already; for people it is not said twice.
const SAID: [&str; 14] = [
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

fn for_people(writer: &mut Writer<'_>, field: &Field, value: &dyn std::fmt::Debug) -> std::fmt::Result {
    match field.name() {
        "message" => write!(writer, "{value:?}"),
        name if SAID.contains(&name) => Ok(()),
        name => write!(writer, "{name}={value:?}"),
    }
}

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
    use std::{
        io::Write,
        sync::{Arc, Mutex},
    };

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_the_aws_sdk_logs_is_silent_at_every_level() {
        let lines = Lines::default();
        let writer = lines.clone();
        let layer = fmt::layer().with_writer(move || writer.clone());
        let subscriber = tracing_subscriber::registry().with(filter("trace").unwrap()).with(layer);
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(target: "aws_config::imds", "secret one");
            tracing::error!(target: "aws_smithy_runtime::client", "secret two");
            tracing::info!(target: "switchtower", "ours");
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert!(text.contains("ours") && !text.contains("secret"), "{text}");
    }

    #[test]
    fn no_field_of_a_request_is_called_as_the_json_format_calls_its_own() {
        let own = ["timestamp", "level", "target", "message", "span", "spans", "threadName", "threadId"];
        assert!(SAID.iter().all(|field| !own.contains(field)));
    }
}
