//! Points and lengths of time as they travel, for people and for programs.

use std::time::{Duration, SystemTime};

use prost_types::Timestamp;
use serde_json::Value;
use switchtower_keys::rfc3339;

/// Such as `2026-11-22T21:25:42Z`, to the second; `-` where there is none.
pub(crate) fn shown(at: Option<&Timestamp>) -> String {
    let whole = at.map(|at| Timestamp { seconds: at.seconds, nanos: 0 });
    text(whole.as_ref()).unwrap_or_else(|| "-".to_owned())
}

/// The same for programs, as exact as it travelled; null where there is none.
pub(crate) fn document(at: Option<&Timestamp>) -> Value {
    text(at).map_or(Value::Null, Value::String)
}

fn text(at: Option<&Timestamp>) -> Option<String> {
    rfc3339(time(at)?)
}

/// `None` where there is none, or one that clocks here cannot say.
pub(crate) fn time(at: Option<&Timestamp>) -> Option<SystemTime> {
    SystemTime::try_from(*at?).ok()
}

/// How long ago that was; nothing for what is to come, as two clocks differ.
pub(crate) fn ago(at: Option<&Timestamp>, now: SystemTime) -> Option<Duration> {
    Some(now.duration_since(time(at)?).unwrap_or_default())
}

/// A length; nothing for negative ones and where there is none.
pub(crate) fn length(length: Option<&prost_types::Duration>) -> Duration {
    length.and_then(|length| Duration::try_from(*length).ok()).unwrap_or_default()
}

/// In milliseconds, for programs.
pub(crate) fn millis(length: Duration) -> u64 {
    u64::try_from(length.as_millis()).unwrap_or(u64::MAX)
}
