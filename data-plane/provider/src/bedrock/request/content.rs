//! Finds `guardContent` in what the model is to read.
//!
//! Without such a block a guardrail checks all input; with one it checks what is in such blocks alone. Where the guardrail
//! is the policy's, a caller could so take the rest of its input out of it: which blocks there are must be known before
//! the body is sent. Only blocks are looked at: the same name in a tool's input or result is the tool's own.

use super::{
    Malformed,
    scan::{Key, Scanner},
};

/// Reads `messages`; stands on its bracket. `found` becomes the path of the first such block, if there was none.
pub(super) fn messages(scan: &mut Scanner<'_>, found: &mut Option<String>) -> Result<(), Malformed> {
    scan.elements(|scan, message| {
        members(scan, 2, |scan, key| match &*key.name {
            "content" => blocks(scan, 3, found, |block| format!("messages[{message}].content[{block}]")),
            _ => skip(scan, 3),
        })
    })
}

/// Reads `system`.
pub(super) fn system(scan: &mut Scanner<'_>, found: &mut Option<String>) -> Result<(), Malformed> {
    blocks(scan, 1, found, |block| format!("system[{block}]"))
}

/// Reads blocks that `outer` objects and arrays stand around.
fn blocks(
    scan: &mut Scanner<'_>,
    outer: u32,
    found: &mut Option<String>,
    path: impl Fn(usize) -> String,
) -> Result<(), Malformed> {
    if scan.peek() != Some(b'[') {
        return skip(scan, outer);
    }
    scan.elements(|scan, block| {
        members(scan, outer + 1, |scan, key| match &*key.name {
            "guardContent" => {
                found.get_or_insert_with(|| format!("{}.guardContent", path(block)));
                skip(scan, outer + 2)
            }
            "toolResult" => {
                tool_result(scan, outer + 2, found, &|inner| format!("{}.toolResult.content[{inner}]", path(block)))
            }
            _ => skip(scan, outer + 2),
        })
    })
}

/// Reads a tool's result, which has blocks of its own, but no further results.
fn tool_result(
    scan: &mut Scanner<'_>,
    outer: u32,
    found: &mut Option<String>,
    path: &dyn Fn(usize) -> String,
) -> Result<(), Malformed> {
    members(scan, outer, |scan, key| {
        if key.name != "content" || scan.peek() != Some(b'[') {
            return skip(scan, outer + 1);
        }
        scan.elements(|scan, block| {
            members(scan, outer + 2, |scan, key| {
                if key.name == "guardContent" {
                    found.get_or_insert_with(|| format!("{}.guardContent", path(block)));
                }
                skip(scan, outer + 3)
            })
        })
    })
}

/// The members of what comes next, if it is an object, which `outer` others stand around.
fn members<'a>(
    scan: &mut Scanner<'a>,
    outer: u32,
    each: impl FnMut(&mut Scanner<'a>, Key<'a>) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    match scan.peek() {
        Some(b'{') => scan.members(each).map(|_| ()),
        _ => skip(scan, outer),
    }
}

fn skip(scan: &mut Scanner<'_>, outer: u32) -> Result<(), Malformed> {
    scan.value(outer)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::project::read;

    /// The path that is found in a body.
    #[track_caller]
    fn check(body: &str, expected: Option<&str>) {
        assert_eq!(read(body).unwrap().guard_content.as_deref(), expected, "{body}");
    }

    #[test]
    fn a_block_is_found_wherever_blocks_are_and_however_it_is_spelt() {
        let content = |blocks: &str| format!(r#"{{"messages":[1,{{"role":"user","content":[{blocks}]}}]}}"#);
        check(&content(r#"{"guardContent":{}}"#), Some("messages[1].content[0].guardContent"));
        check(&content(r#"{"text":"a"},{"guardContent":null}"#), Some("messages[1].content[1].guardContent"));
        check(&content(r#"{"\u0067uard\u0043ontent":{}}"#), Some("messages[1].content[0].guardContent"));
        check(
            &content(r#"{"text":"a","guardContent":{}},{"guardContent":{}}"#),
            Some("messages[1].content[0].guardContent"),
        );
        let result = |blocks: &str| content(&format!(r#"{{"toolResult":{{"toolUseId":"a","content":[{blocks}]}}}}"#));
        check(
            &result(r#"{"json":{}},{"guardContent":{}}"#),
            Some("messages[1].content[0].toolResult.content[1].guardContent"),
        );
        check(r#"{"system":[{"text":"a"},{"guardContent":{}}]}"#, Some("system[1].guardContent"));
        check(r#"{"s\u0079stem":[{"guardContent":{}}],"messages":[]}"#, Some("system[0].guardContent"));
        // Of members that stand twice either may count.
        check(r#"{"system":[{"guardContent":{}}],"system":[]}"#, Some("system[0].guardContent"));
        check(
            r#"{"messages":[{"content":[{"guardContent":{}}],"content":[]}]}"#,
            Some("messages[0].content[0].guardContent"),
        );
    }

    #[test]
    fn the_name_elsewhere_is_no_block() {
        for block in [
            r#"{"text":"guardContent"}"#,
            r#"{"text":"\"guardContent\":{}"}"#,
            r#"{"toolUse":{"input":{"guardContent":{}}}}"#,
            r#"{"toolResult":{"content":[{"json":{"guardContent":{}}}]}}"#,
            r#"{"toolResult":{"guardContent":{},"content":{"guardContent":{}}}}"#,
            r#"{"guardcontent":{}}"#,
            r#"["guardContent"]"#,
        ] {
            check(&format!(r#"{{"messages":[{{"content":[{block}]}}]}}"#), None);
        }
        check(r#"{"guardContent":{},"system":{"guardContent":{}},"messages":[{"guardContent":[]}]}"#, None);
    }

    #[test]
    fn nesting_counts_from_the_body_down() {
        for (body, outer) in [
            (r#"{"messages":[*]}"#, 2),
            (r#"{"messages":[{"content":*}]}"#, 3),
            (r#"{"messages":[{"a":*}]}"#, 3),
            (r#"{"messages":[{"content":[*]}]}"#, 4),
            (r#"{"messages":[{"content":[{"guardContent":*}]}]}"#, 5),
            (r#"{"messages":[{"content":[{"toolResult":*}]}]}"#, 5),
            (r#"{"messages":[{"content":[{"toolResult":{"content":[*]}}]}]}"#, 7),
            (r#"{"messages":[{"content":[{"toolResult":{"content":[{"json":*}]}}]}]}"#, 8),
            (r#"{"system":*}"#, 1),
            (r#"{"system":[{"text":*}]}"#, 3),
        ] {
            let with = |depth: usize| body.replace('*', &("[".repeat(depth - outer) + &"]".repeat(depth - outer)));
            assert!(read(&with(128)).is_ok(), "{body}");
            assert_eq!(read(&with(129)).unwrap_err().field, None, "{body}");
        }
    }
}
