//! A whole answer: its body as it came, and the two members of it that records need.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    error,
    transport::{Body, ReadError},
};
use crate::{Failure, Whole};

/// The longest answer that is taken. A model's longest output is some hundreds of KiB, images in it some MiB.
const MAX_BODY: usize = 32 << 20;

/// Reads an answer to its end.
pub(super) async fn read(body: Body) -> Result<Whole, Failure> {
    match body.collect(MAX_BODY).await {
        Ok(body) => project(body),
        Err(ReadError::TooLong) => Err(error::protocol("The answer is longer than 32 MiB.", Some(200))),
        Err(ReadError::Failed(failure)) => Err(failure),
    }
}

/// Members are read each alone: one of an unexpected type takes nothing from an answer that was paid for.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Members<'a> {
    #[serde(borrow)]
    stop_reason: Option<&'a RawValue>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
}

fn project(body: Bytes) -> Result<Whole, Failure> {
    let not_json = || error::protocol("The answer is not a JSON object.", Some(200));
    // A struct could be read from an array too.
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(not_json());
    }
    let members: Members<'_> = serde_json::from_slice(&body).map_err(|_| not_json())?;
    let stop_reason = members.stop_reason.and_then(|raw| serde_json::from_str::<Cow<'_, str>>(raw.get()).ok());
    let stop_reason = stop_reason.map(Into::into);
    let usage = members.usage.and_then(super::usage::read);
    Ok(Whole { body, stop_reason, usage })
}

#[cfg(test)]
mod tests {
    use switchtower_policy::{catalogue::Usage, failure::Class};

    use super::*;

    #[test]
    fn what_records_need_is_read_and_what_is_odd_is_passed_over() {
        let check = |body: &'static str, stop_reason: Option<&str>, usage: Option<[u64; 4]>| {
            let whole = project(Bytes::from_static(body.as_bytes())).unwrap();
            let [input, output, cache_read, cache_write] = usage.unwrap_or_default();
            let usage = usage.map(|_| Usage { input, output, cache_read, cache_write });
            assert_eq!((whole.stop_reason.as_deref(), whole.usage), (stop_reason, usage), "{body}");
            assert_eq!(whole.body, body);
        };
        check("{}", None, None);
        check(r#" {"stopReason":"end_turn"} "#, Some("end_turn"), None);
        check(r#"{"stopReason":"tool\u005fuse","output":{"stopReason":"x"}}"#, Some("tool_use"), None);
        check(
            r#"{"usage":{"inputTokens":1,"outputTokens":2,"totalTokens":3,"new":[]},"stopReason":"x"}"#,
            Some("x"),
            Some([1, 2, 0, 0]),
        );
        check(
            r#"{"usage":{"inputTokens":1,"outputTokens":2,"cacheReadInputTokens":3,"cacheWriteInputTokens":null}}"#,
            None,
            Some([1, 2, 3, 0]),
        );
        check(r#"{"usage":{"inputTokens":-1,"outputTokens":2},"stopReason":7}"#, None, None);
        check(r#"{"usage":"none","stopReason":null}"#, None, None);
    }

    #[test]
    fn what_is_no_json_object_is_no_answer() {
        for body in [
            "",
            "[]",
            "null",
            "[null,null]",
            "{",
            r#"{"stopReason":"end_turn"} x"#,
            "<html></html>",
            "{\"a\":\"\u{1}\"}",
        ] {
            let failure = project(Bytes::from_static(body.as_bytes())).unwrap_err();
            assert_eq!((failure.class, failure.sent), (Class::Protocol, true), "{body}");
        }
    }
}
