//! Lengths of time as scripts write them: `250ms`, `1.5s`, `2m`. A bare number is refused, because nobody can tell
//! what it counts.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serializer, de::Error};

/// Longer than any test or demonstration waits, and short enough that no sum of them overflows.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

pub(crate) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{}ms", duration.as_secs_f64() * 1000.0))
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse(&text).ok_or_else(|| {
        D::Error::custom(format_args!("`{text}` is no length of time: write it like `250ms`, `1.5s` or `2m`, to 24h"))
    })
}

fn parse(text: &str) -> Option<Duration> {
    let unit_at = text.find(|c: char| c.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at(unit_at);
    let seconds = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return None,
    };
    let length = Duration::try_from_secs_f64(number.trim().parse::<f64>().ok()? * seconds).ok()?;
    (length <= LONGEST).then_some(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_of_time_has_a_unit() {
        let check = |text: &str, expected: Option<u64>| {
            assert_eq!(parse(text), expected.map(Duration::from_millis), "{text}");
        };
        check("250ms", Some(250));
        check("1.5s", Some(1500));
        check("2m", Some(120_000));
        check("0s", Some(0));
        check("24h", Some(86_400_000));
        check("25h", None);
        check("250", None);
        check("-1s", None);
        check("1 day", None);
        check("", None);
        check("1e30s", None);
    }
}
