//! Lengths of time as they are written: a whole number and a unit, such as `500ms`, `8s`, `2m`, `1h`.

use prost_types::Duration;

/// What is expected, for a sentence.
pub(super) const EXPECTED: &str = "a whole number with a unit, such as `500ms`, `8s`, `2m` or `1h`";

/// The duration that a text says; `None` if it says none, or one beyond what fits.
pub(super) fn parse(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let millis = number.checked_mul(match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    })?;
    let seconds = i64::try_from(millis / 1000).ok()?;
    Some(Duration { seconds, nanos: (millis % 1000) as i32 * 1_000_000 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_a_whole_number_and_a_unit() {
        fn check(text: &str, expected: Option<(i64, i32)>) {
            assert_eq!(parse(text).map(|d| (d.seconds, d.nanos)), expected, "{text}");
        }
        check("8s", Some((8, 0)));
        check("1500ms", Some((1, 500_000_000)));
        check("2m", Some((120, 0)));
        check("1h", Some((3600, 0)));
        check("0s", Some((0, 0)));
        for text in
            ["", "8", "s", "1.5s", "-1s", "1d", "1 s", "1m30s", "99999999999999999999s", "18446744073709551615h"]
        {
            check(text, None);
        }
    }
}
