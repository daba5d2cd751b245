//! Lengths of time as people write them: a whole number and a unit, as in policies.

use std::time::Duration;

/// `500ms`, `30s`, `2m`, `1h`, `30d`; more than nothing.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
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
        Some(0) => Err("it must be more than nothing".to_owned()),
        Some(milliseconds) => Ok(Duration::from_millis(milliseconds)),
        None => Err("that is too long".to_owned()),
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
}
