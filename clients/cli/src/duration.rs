//! Lengths of time as people write them: a whole number and a unit, as in policies.

use std::time::Duration;

/// `500ms`, `30s`, `2m`, `1h`, `30d`; more than nothing.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    match parse_or_none(text)? {
        Duration::ZERO => Err("it must be more than nothing".to_owned()),
        duration => Ok(duration),
    }
}

/// The same, or nothing at all: `0s`.
pub(crate) fn parse_or_none(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let milliseconds: u64 = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err("write a whole number and a unit: 500ms, 30s, 2m, 1h or 30d".to_owned()),
    };
    let number: u64 = number.parse().map_err(|_| "write a whole number before the unit, such as 30s".to_owned())?;
    match number.checked_mul(milliseconds) {
        Some(milliseconds) => Ok(Duration::from_millis(milliseconds)),
        None => Err("that is too long".to_owned()),
    }
}

/// A length of time for people: `640 ms`, `12.3 s`, `5 min`, `3 h`, `4 d`.
pub(crate) fn words(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 => format!("{} ms", duration.as_millis()),
        1..60 => format!("{:.1} s", duration.as_secs_f64()),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_a_whole_number_and_a_unit() {
        let check = |text: &str, expected: Option<u64>| {
            assert_eq!(parse(text).ok(), expected.map(Duration::from_millis), "{text}");
        };
        check("500ms", Some(500));
        check("30s", Some(30_000));
        check("2m", Some(120_000));
        check("1h", Some(3_600_000));
        check("30d", Some(2_592_000_000));
        check("30", None);
        check("s", None);
        check("0s", None);
        check("-1s", None);
        check("1.5s", None);
        check("1 s", None);
        check("18446744073709551615d", None);
        check("99999999999999999999s", None);
    }

    #[test]
    fn nothing_is_a_duration_only_where_it_may_be() {
        assert_eq!(parse_or_none("0s"), Ok(Duration::ZERO));
        assert_eq!(parse("0s"), Err("it must be more than nothing".to_owned()));
    }

    #[test]
    fn a_duration_is_told_in_one_unit() {
        let check = |millis: u64, expected: &str| assert_eq!(words(Duration::from_millis(millis)), expected);
        check(0, "0 ms");
        check(640, "640 ms");
        check(12_345, "12.3 s");
        check(59_999, "60.0 s");
        check(150_000, "2 min");
        check(7_200_000, "2 h");
        check(200_000_000, "2 d");
    }
}
