//! Everything that is logged in this process, kept.
//!
//! A process has one subscriber, and the tests of one binary run beside each other in it: so all lines go to one buffer,
//! from the first test that asks on, and a test looks for lines by something that is its own (a request's id, its policy
//! folder). They are written by the node's own layer.

use std::{
    io,
    sync::{Mutex, OnceLock, PoisonError},
};

use switchtower_telemetry::log;
use tracing_subscriber::{EnvFilter, layer::SubscriberExt, util::SubscriberInitExt};

/// More than any operator turns on: every line of the node, and all but the chatter of libraries.
const FILTER: &str = "debug,switchtower=trace";

static LINES: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct Buffer;

impl io::Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LINES.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Begins to keep what is logged; the second time, it does nothing.
pub fn keep() {
    static STARTED: OnceLock<()> = OnceLock::new();
    STARTED.get_or_init(|| {
        let filter = EnvFilter::try_new(FILTER).expect("the filter is a constant that parses");
        tracing_subscriber::registry()
            .with(filter)
            .with(log::json(|| Buffer))
            .try_init()
            .expect("nobody else here starts logging");
    });
}

/// Everything that was logged so far, by all tests of this process.
#[must_use]
pub fn all() -> String {
    String::from_utf8_lossy(&LINES.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
}

/// The lines with all of these in them, oldest first, as JSON.
#[must_use]
pub fn lines_with(parts: &[&str]) -> Vec<serde_json::Value> {
    all()
        .lines()
        .filter(|line| parts.iter().all(|part| line.contains(part)))
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}
