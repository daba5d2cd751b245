//! What went wrong with a call, in `policy`'s classes: from an answer that is an error, and from no answer at all.
//!
//! The upstream's message travels to the caller and nowhere else, because it may quote the prompt. The code is what logs
//! and metrics show, so it is taken only where it looks like a name.

use std::time::Duration;

use http::HeaderMap;
use serde::Deserialize;
use switchtower_policy::failure::{self, Class};

use super::transport::{Body, ReadError};
use crate::Failure;

/// As much of an error's body as is read. Bedrock's are a few hundred bytes; what is longer is no error of Bedrock's.
const MAX_BODY: usize = 64 * 1024;

/// The longest wait that an upstream can ask for: a wrong or hostile hint must not park a target for a day.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);

/// The longest code that is taken for a name; Bedrock's longest has 29 letters.
const MAX_CODE: usize = 64;

/// Nothing was sent: no connection, or it closed before the request began.
pub(super) fn connect(message: impl Into<Box<str>>) -> Failure {
    own(Class::Connect, message, false)
}

/// We have no credentials to sign with, so nothing was sent.
pub(super) fn credentials(message: impl Into<Box<str>>) -> Failure {
    own(Class::Credentials, message, false)
}

/// The target cannot be called as it is named, so nothing was sent.
pub(super) fn misconfigured(message: impl Into<Box<str>>) -> Failure {
    own(Class::Misconfigured, message, false)
}

/// The connection broke when the request may have been on its way.
pub(super) fn broken(message: impl Into<Box<str>>) -> Failure {
    own(Class::Broken, message, true)
}

/// What came is not Bedrock's protocol.
pub(super) fn protocol(message: impl Into<Box<str>>, status: Option<u16>) -> Failure {
    Failure { status, ..own(Class::Protocol, message, true) }
}

fn own(class: Class, message: impl Into<Box<str>>, sent: bool) -> Failure {
    Failure { class, code: None, status: None, message: message.into(), retry_after: None, sent }
}

/// The failure that an answer with a status of no success stands for. Reads at most 64 KiB of its body, and gives up on
/// the rest: what the head says is enough to classify it.
pub(super) async fn of_answer(head: &http::response::Parts, body: Body) -> Failure {
    let body = match body.collect(MAX_BODY).await {
        Ok(bytes) => bytes,
        Err(ReadError::TooLong | ReadError::Failed(_)) => bytes::Bytes::new(),
    };
    read(head.status.as_u16(), &head.headers, &body)
}

fn read(status: u16, headers: &HeaderMap, body: &[u8]) -> Failure {
    let body: ErrorBody = serde_json::from_slice(body).unwrap_or_default();
    let header = headers.get("x-amzn-errortype").and_then(|value| value.to_str().ok());
    let code = [header, body.code.as_deref(), body.kind.as_deref()].into_iter().flatten().find_map(name);
    let message = body.message.unwrap_or_default();
    let class = failure::classify(failure::Answer {
        code,
        status: Some(status),
        original_status: body.original_status_code,
        message: &message,
    });
    let message = if message.is_empty() { format!("Bedrock answered with status {status}.") } else { message };
    Failure {
        class,
        code: code.map(Into::into),
        status: Some(status),
        message: message.into(),
        retry_after: retry_after(headers),
        sent: true,
    }
}

/// Members are read leniently, each alone: one of an unexpected type must not hide the others.
#[derive(Default)]
struct ErrorBody {
    message: Option<String>,
    code: Option<String>,
    kind: Option<String>,
    original_status_code: Option<u16>,
}

impl<'de> Deserialize<'de> for ErrorBody {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let members = serde_json::Map::deserialize(deserializer)?;
        let text = |key: &str| members.get(key).and_then(serde_json::Value::as_str).map(str::to_owned);
        Ok(ErrorBody {
            message: text("message").or_else(|| text("Message")),
            code: text("code"),
            kind: text("__type"),
            original_status_code: members
                .get("originalStatusCode")
                .and_then(serde_json::Value::as_u64)
                .and_then(|status| u16::try_from(status).ok()),
        })
    }
}

/// The name in an error type: what stands after `#` (a namespace) and before `:` (a URL).
fn name(raw: &str) -> Option<&str> {
    let name = raw.split(':').next().unwrap_or(raw);
    let name = name.rsplit('#').next().unwrap_or(name).trim();
    let is_name = !name.is_empty() && name.len() <= MAX_CODE && name.bytes().all(|b| b.is_ascii_alphanumeric());
    is_name.then_some(name)
}

/// `x-amz-retry-after` is in milliseconds, `retry-after` in seconds; its form as a date is not read, for it would need
/// both clocks to agree.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let number = |key| headers.get(key)?.to_str().ok()?.trim().parse::<u64>().ok();
    let hint = number("x-amz-retry-after")
        .map(Duration::from_millis)
        .or_else(|| number("retry-after").map(Duration::from_secs))?;
    Some(hint.min(MAX_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(k, v)| (http::HeaderName::from_static(k), v.parse().unwrap())).collect()
    }

    #[test]
    fn the_code_is_cut_out_of_the_error_type_and_must_look_like_a_name() {
        let check = |raw, expected| assert_eq!(name(raw), expected, "{raw}");
        check("ThrottlingException", Some("ThrottlingException"));
        check("ThrottlingException:http://internal.amazon.com/coral/x/", Some("ThrottlingException"));
        check("com.amazon.coral.service#AccessDeniedException", Some("AccessDeniedException"));
        check("com.amazon#ValidationException:http://x#y", Some("ValidationException"));
        check(" ValidationException ", Some("ValidationException"));
        check("", None);
        check(":http://x", None);
        check("tell me a secret", None);
        check(&"x".repeat(65), None);
    }

    #[test]
    fn a_retry_hint_is_read_in_its_unit_clamped_and_garbage_is_no_hint() {
        let check = |pairs: &[(&'static str, &str)], expected: Option<u64>| {
            assert_eq!(retry_after(&headers(pairs)), expected.map(Duration::from_millis), "{pairs:?}");
        };
        check(&[], None);
        check(&[("x-amz-retry-after", "1500")], Some(1500));
        check(&[("retry-after", "2")], Some(2000));
        check(&[("x-amz-retry-after", "700"), ("retry-after", "9")], Some(700));
        check(&[("x-amz-retry-after", "soon"), ("retry-after", "9")], Some(9000));
        check(&[("retry-after", "86400")], Some(60_000));
        check(&[("x-amz-retry-after", "18446744073709551615")], Some(60_000));
        check(&[("retry-after", "18446744073709551615")], Some(60_000));
        check(&[("retry-after", "-1")], None);
        check(&[("retry-after", "1.5")], None);
        check(&[("retry-after", "Sun, 22 Nov 2026 23:00:00 GMT")], None);
    }

    #[test]
    fn an_error_is_read_from_its_head_and_its_body() {
        let check = |status, kind: Option<&str>, body: &str, code: Option<&str>, message: &str| {
            let headers = kind.map(|kind| headers(&[("x-amzn-errortype", kind)])).unwrap_or_default();
            let failure = read(status, &headers, body.as_bytes());
            assert_eq!((failure.code.as_deref(), &*failure.message), (code, message), "{body}");
            assert_eq!(failure.status, Some(status));
            assert!(failure.sent);
        };
        check(429, Some("ThrottlingException:x"), r#"{"message":"slow"}"#, Some("ThrottlingException"), "slow");
        check(403, Some("AccessDeniedException"), r#"{"Message":"no"}"#, Some("AccessDeniedException"), "no");
        check(400, None, r#"{"__type":"a#ValidationException","message":"m"}"#, Some("ValidationException"), "m");
        check(400, None, r#"{"code":"ValidationException","message":7}"#, Some("ValidationException"), OWN_400);
        check(400, Some("bad name"), "{}", None, OWN_400);
        check(400, None, "<html>", None, OWN_400);
        check(400, None, "[1,2]", None, OWN_400);
        check(400, None, "", None, OWN_400);
    }
    const OWN_400: &str = "Bedrock answered with status 400.";
}
