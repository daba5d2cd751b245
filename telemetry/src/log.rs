//! Logs: a readable line, or JSON, per event, on standard error.

use time::OffsetDateTime;
use tracing::field::Field;
use tracing_subscriber::{
    EnvFilter, Layer,
    field::MakeExt,
    fmt::{self, MakeWriter, format::Writer, time::FormatTime},
    layer::SubscriberExt,
    registry::LookupSpan,
    util::SubscriberInitExt,
};

/// How lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// For machines: one JSON object per line.
    Json,
}

/// Starts logging to standard error. `said` are fields that sentences say already: for people they are not said twice.
///
/// # Errors
/// The filter does not parse, or logging was started before.
pub fn start(format: Format, filter: &str, colours: bool, said: &'static [&'static str]) -> anyhow::Result<()> {
    let registry = tracing_subscriber::registry().with(self::filter(filter)?);
    match format {
        Format::Text => {
            let line = fmt::layer()
                .with_writer(std::io::stderr)
                .with_target(false)
                .with_ansi(colours)
                .with_timer(TimeOfDay)
                .fmt_fields(
                    fmt::format::debug_fn(move |writer, field, value| for_people(writer, field, value, said))
                        .delimited(" "),
                );
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

fn for_people(writer: &mut Writer<'_>, field: &Field, value: &dyn std::fmt::Debug, said: &[&str]) -> std::fmt::Result {
    match field.name() {
        "message" => write!(writer, "{value:?}"),
        name if said.contains(&name) => Ok(()),
        name => write!(writer, "{name}={value:?}"),
    }
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
}
