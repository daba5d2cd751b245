//! Scalars, so that they are read as what they are: text is quoted unless it can be nothing else, here or in the YAML of
//! another decade.

use std::fmt::Write;

use serde_json::Value;

/// Anything but a list or mapping, on one line.
pub(super) fn of(value: &Value) -> String {
    match value {
        Value::String(text) => self::text(text),
        other => other.to_string(),
    }
}

/// Text on one line: without quotes where nobody can take it for something else, else in single ones, and in double ones
/// what needs escapes.
pub(super) fn text(text: &str) -> String {
    if is_plain(text) {
        text.to_owned()
    } else if text.chars().all(is_printable) {
        format!("'{}'", text.replace('\'', "''"))
    } else {
        escaped(text)
    }
}

/// Whether text is better read over several lines, and can be: with line breaks inside it, of which at most one is at
/// its end, and nothing at its edges that a block would lose.
pub(super) fn is_block(text: &str) -> bool {
    let body = text.strip_suffix('\n').unwrap_or(text);
    body.contains('\n')
        && !body.starts_with([' ', '\t', '\n'])
        && !body.ends_with([' ', '\t', '\n'])
        && body.chars().all(|c| c == '\n' || is_printable(c))
}

/// Text as a literal block, its lines indented, after the colon of its field.
pub(super) fn block(out: &mut String, text: &str, indent: usize) {
    let (sign, body) = match text.strip_suffix('\n') {
        Some(body) => ("|", body),
        None => ("|-", text),
    };
    let _ = writeln!(out, " {sign}");
    for line in body.split('\n') {
        match line.is_empty() {
            true => out.push('\n'),
            false => {
                let _ = writeln!(out, "{:indent$}{line}", "");
            }
        }
    }
}

fn is_plain(text: &str) -> bool {
    let bytes = text.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    let harmless = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/ ".contains(&byte);
    // Inside of text a colon is one of its characters.
    let colon = |at: usize| bytes[at] == b':' && bytes.get(at + 1).is_some_and(u8::is_ascii_alphanumeric);
    // Neither decimal nor hexadecimal nor octal numbers have other letters, nor dates any.
    let is_no_number = bytes.iter().any(|byte| byte.is_ascii_alphabetic() && !b"abcdefABCDEFxXoO".contains(byte));
    first.is_ascii_alphanumeric()
        && *last != b' '
        && (first.is_ascii_alphabetic() || is_no_number)
        && (0..bytes.len()).all(|at| harmless(bytes[at]) || colon(at))
        && !is_word(text)
}

/// Words that are no text, in some YAML.
fn is_word(text: &str) -> bool {
    const WORDS: [&str; 10] = ["null", "true", "false", "yes", "no", "on", "off", "y", "n", "nan"];
    WORDS.iter().any(|word| text.eq_ignore_ascii_case(word))
}

/// What may stand in quotes as it is.
fn is_printable(c: char) -> bool {
    !c.is_control() && !matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
}

fn escaped(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if is_printable(c) => out.push(c),
            c => {
                let _ = write!(out, "\\U{:08x}", u32::from(c));
            }
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_quoted_unless_it_can_be_nothing_else() {
        for plain in ["sonnet", "us-east-1", "us.amazon.nova-lite-v1:0", "8s", "1500ms", "gold on sonnet"] {
            assert_eq!(text(plain), plain);
        }
        for quoted in [
            "",
            "7",
            "1e5",
            "0x1f",
            "0o17",
            "true",
            "No",
            "null",
            "~",
            "*",
            "10%",
            "a: b",
            "a:",
            " a",
            "a ",
            "2026-11-22",
        ] {
            assert_eq!(text(quoted), format!("'{quoted}'"));
        }
        assert_eq!(text("it's"), "'it''s'");
        assert_eq!(text("a\tb\u{1b}\"\u{2028}"), "\"a\\tb\\U0000001b\\\"\\U00002028\"");
    }

    #[test]
    fn lines_become_a_block_where_nothing_is_lost() {
        let check = |text: &str, expected: bool| assert_eq!(is_block(text), expected, "{text:?}");
        check("a\nb", true);
        check("a\n\n  b\n", true);
        check("a\n", false);
        check("a\nb\n\n", false);
        check("a\nb ", false);
        check(" a\nb", false);
        check("a\r\nb", false);
        let mut out = String::new();
        block(&mut out, "a\n\nb\n", 2);
        assert_eq!(out, " |\n  a\n\n  b\n");
    }
}
