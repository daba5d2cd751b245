//! When a caller stops waiting: `grpc-timeout` and the request's own `timeout`, whichever is earlier.

use std::time::Duration;

use http::{HeaderMap, HeaderName};
use tokio::time::Instant;

use super::violations::Violations;

const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// The earlier of two deadlines; `None`: there is neither, or it is too far away to be told.
///
/// # Errors
/// A `grpc-timeout` that is none.
pub(super) fn of(
    headers: &HeaderMap,
    timeout: Option<Duration>,
    received: Instant,
) -> Result<Option<Instant>, Violations> {
    let header = match headers.get(GRPC_TIMEOUT) {
        None => None,
        Some(value) => Some(value.to_str().ok().and_then(parse).ok_or_else(|| {
            Violations::one("", "the header grpc-timeout must be 1 to 8 digits and one of H, M, S, m, u, n")
        })?),
    };
    let shorter = [header, timeout].into_iter().flatten().min();
    Ok(shorter.and_then(|timeout| received.checked_add(timeout)))
}

/// A length by the gRPC protocol: at most 8 digits and a unit.
fn parse(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if !(1..=8).contains(&digits.len()) || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_grpc_timeout_is_up_to_eight_digits_and_a_unit() {
        for (text, expected) in [
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3600))),
            ("2M", Some(Duration::from_secs(120))),
            ("0S", Some(Duration::ZERO)),
            ("250m", Some(Duration::from_millis(250))),
            ("7u", Some(Duration::from_micros(7))),
            ("7n", Some(Duration::from_nanos(7))),
            ("", None),
            ("S", None),
            ("100000000S", None),
            ("+1S", None),
            ("1", None),
            ("1s", None),
            ("1 S", None),
            ("1ß", None),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
    }

    #[test]
    fn the_earlier_deadline_holds() {
        let received = Instant::now();
        let check = |header: Option<&str>, timeout: Option<u64>, expected: Option<u64>| {
            let mut headers = HeaderMap::new();
            if let Some(header) = header {
                headers.insert(GRPC_TIMEOUT, HeaderValue::from_str(header).unwrap());
            }
            let found = of(&headers, timeout.map(Duration::from_secs), received).unwrap();
            assert_eq!(
                found,
                expected.map(|seconds| received + Duration::from_secs(seconds)),
                "{header:?} {timeout:?}"
            );
        };
        check(None, None, None);
        check(Some("5S"), None, Some(5));
        check(None, Some(7), Some(7));
        check(Some("5S"), Some(7), Some(5));
        check(Some("5M"), Some(7), Some(7));
    }

    #[test]
    fn a_malformed_grpc_timeout_is_refused_rather_than_overlooked() {
        let headers = HeaderMap::from_iter([(GRPC_TIMEOUT, HeaderValue::from_static("soon"))]);
        assert!(of(&headers, None, Instant::now()).is_err());
    }
}
