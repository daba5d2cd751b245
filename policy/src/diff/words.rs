//! Values in a sentence: as a document would write them, on one line, and cut where they are long.

use std::fmt::Write;

use serde_json::Value;

use super::tree::{Node, Object};

/// Most characters of one text.
const MAX_TEXT: usize = 64;

/// About the most bytes of a list or mapping.
const MAX_SHOWN: usize = 160;

/// A value as a document would write it.
pub(super) fn shown(node: &Node) -> String {
    let mut out = String::new();
    show(node, &mut out);
    out
}

fn show(node: &Node, out: &mut String) {
    match node {
        Node::Scalar(Value::String(value)) => out.push_str(&text(value)),
        Node::Scalar(value) => out.push_str(&value.to_string()),
        Node::List(nodes) => {
            out.push('[');
            each(nodes, out, show);
            out.push(']');
        }
        Node::Object(object) => match short_tier(object) {
            Some(short) => out.push_str(&short),
            None => {
                out.push('{');
                each(&object.entries, out, |(key, entry), out| {
                    out.push_str(&text(&key.name));
                    out.push_str(": ");
                    show(&entry.node, out);
                });
                out.push('}');
            }
        },
    }
}

fn each<T>(items: impl IntoIterator<Item = T>, out: &mut String, mut show: impl FnMut(T, &mut String)) {
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            out.push_str(", ");
        }
        if out.len() > MAX_SHOWN {
            return out.push('…');
        }
        show(item, out);
    }
}

/// A model's name or `inherit` alone.
fn short_tier(object: &Object) -> Option<String> {
    let (key, entry) = object.entries.first_key_value().filter(|_| object.is_tier && object.entries.len() == 1)?;
    match (key.name.as_str(), &entry.node) {
        ("model", node) => Some(shown(node)),
        ("inherit", Node::Object(inherit)) if inherit.entries.is_empty() => Some("inherit".to_owned()),
        _ => None,
    }
}

/// A text: bare where that is one word, else in quotes.
fn text(text: &str) -> String {
    let is_word = |c: char| c.is_alphanumeric() || "._-:/*%+".contains(c);
    let mistaken = matches!(text, "true" | "false" | "null") || text.parse::<f64>().is_ok();
    let (cut, rest) = text.char_indices().nth(MAX_TEXT).map_or((text, ""), |(end, _)| text.split_at(end));
    let more = if rest.is_empty() { "" } else { "…" };
    if !text.is_empty() && !mistaken && cut.chars().all(is_word) {
        format!("{cut}{more}")
    } else if cut.chars().all(is_printed) {
        format!("'{}{more}'", cut.replace('\'', "''"))
    } else {
        format!("\"{}{more}\"", cut.escape_debug())
    }
}

/// A name in a sentence: as it is, but for what would steer a terminal.
pub(super) fn plain(name: &str) -> String {
    if name.chars().all(is_printed) { name.to_owned() } else { name.escape_debug().to_string() }
}

fn is_printed(c: char) -> bool {
    matches!(c, '"' | '\'' | '\\') || c.escape_debug().len() == 1
}

/// A length of time: a whole number and the largest unit that it is a multiple of.
pub(super) fn time(seconds: i64, nanos: i32) -> String {
    const UNITS: [(i64, &str); 3] = [(3600, "h"), (60, "m"), (1, "s")];
    if nanos == 0 {
        let unit = UNITS.iter().find(|(length, _)| seconds % length == 0 && (seconds != 0 || *length == 1));
        return unit.map_or_else(String::new, |(length, unit)| format!("{}{unit}", seconds / length));
    }
    let millis = i128::from(seconds) * 1000 + i128::from(nanos / 1_000_000);
    if nanos % 1_000_000 == 0 { format!("{millis}ms") } else { format!("{seconds}s and {nanos}ns") }
}

/// Bytes as digits.
pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    let mut digits = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        write!(digits, "{byte:02x}").expect("a String takes what is written to it");
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_are_told_in_the_largest_unit_that_fits() {
        for (seconds, nanos, expected) in [
            (8, 0, "8s"),
            (0, 0, "0s"),
            (90, 0, "90s"),
            (120, 0, "2m"),
            (3600, 0, "1h"),
            (1, 500_000_000, "1500ms"),
            (0, 1_000_000, "1ms"),
            (-60, 0, "-1m"),
            (1, 1, "1s and 1ns"),
            (i64::MAX, i32::MAX, "9223372036854775807s and 2147483647ns"),
        ] {
            assert_eq!(time(seconds, nanos), expected);
        }
    }

    #[test]
    fn texts_are_bare_where_that_is_one_word() {
        for (given, expected) in [
            ("sonnet", "sonnet"),
            ("us.amazon.nova-lite-v1:0", "us.amazon.nova-lite-v1:0"),
            ("", "''"),
            ("7", "'7'"),
            ("true", "'true'"),
            ("metadata.tier == \"gold\"", "'metadata.tier == \"gold\"'"),
            ("it's", "'it''s'"),
            ("a\nb\u{1b}[2J", "\"a\\nb\\u{1b}[2J\""),
            ("a\u{202e}b", "\"a\\u{202e}b\""),
        ] {
            assert_eq!(text(given), expected);
        }
        assert_eq!(text(&"x".repeat(70)), format!("{}…", "x".repeat(64)));
    }
}
