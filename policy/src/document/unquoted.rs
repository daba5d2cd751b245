//! Conditions that YAML took apart because they stood without quotes.
//!
//! CEL and YAML share their punctuation: `#` begins a comment, `!` a tag, `{` a mapping, and text in double quotes ends
//! where they close. What YAML makes of such a condition is another error, far from the cause, or none at all. So every
//! trace of it is answered with the one thing to do.

use super::{
    At,
    tree::{Mapping, Node, Problem, Value},
};

/// The code of these violations.
pub(super) const CODE: &str = "unquoted_condition";

const WHAT_TO_DO: &str = "put the whole condition in single quotes, as in `when: 'metadata.tier == \"gold\"'`";

/// The sentence for a condition of which YAML took this away.
pub(super) fn message(what_happened: &str) -> String {
    format!("{what_happened}: {WHAT_TO_DO}")
}

/// What became of a condition, if it was taken apart without YAML complaining.
pub(super) fn taken_apart(node: &Node) -> Option<String> {
    if let Some(tag) = &node.tag {
        return Some(message(&format!("YAML read {} as a tag", crate::violation::quoted(tag))));
    }
    match &node.value {
        Value::Mapping(_) => Some(message("YAML read this condition as a mapping")),
        Value::Sequence(_) => Some(message("YAML read this condition as a list")),
        Value::Scalar(scalar) if scalar.comment => Some(message("YAML read the rest of this line as a comment")),
        Value::Scalar(scalar) if scalar.plain && !closes(&scalar.text) => {
            Some(message("YAML ended this condition in the middle"))
        }
        Value::Scalar(_) => None,
    }
}

/// Whether a mapping in braces holds a condition that ended at a comma of its own; its other half then stands there as
/// a field without a value.
pub(super) fn cut_at_comma(mapping: &Mapping) -> bool {
    mapping.braces
        && mapping.entries.iter().any(|(key, node)| {
            matches!(&node.value, Value::Scalar(scalar) if key.text == "when" && scalar.plain && !closes(&scalar.text))
        })
}

/// Whether brackets and quotes close, roughly: enough to see that half of a condition is missing.
fn closes(condition: &str) -> bool {
    let mut depth = 0_i64;
    let mut quote = None;
    for c in condition.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '(' | '[' | '{') => depth += 1,
            (None, ')' | ']' | '}') => depth -= 1,
            (None, _) => {}
        }
    }
    depth == 0 && quote.is_none()
}

/// The violation for a file that is not YAML, if the place where it fails stands on the line of a condition.
pub(super) fn on_line(text: &str, at: At) -> Option<Problem> {
    let line = text.lines().nth(at.line as usize - 1)?;
    let (before, condition) = line.split_once("when:")?;
    let is_key = before.chars().next_back().is_none_or(|c| matches!(c, ' ' | '{' | ',' | '-' | '\t'));
    let condition = condition.trim();
    if !is_key || condition.starts_with(['|', '>']) || is_whole(condition) {
        return None;
    }
    let what_happened = if condition.starts_with('\'') {
        "this is not YAML; a single quote inside a condition is written twice, or use double quotes there"
    } else {
        "this condition is not YAML"
    };
    let column = line.len() - line[before.len() + "when:".len()..].trim_start().len();
    let column = line[..column].chars().count();
    Some(Problem { at: At::new(at.line as usize, column), code: CODE, message: message(what_happened) })
}

/// Whether a condition is in quotes that close where it ends, or is not there, so that something else on its line is
/// wrong.
fn is_whole(condition: &str) -> bool {
    let quote = match condition.chars().next() {
        None => return true,
        Some(quote @ ('\'' | '"')) => quote,
        Some(_) => return false,
    };
    let mut rest = condition[1..].chars().peekable();
    let mut closed = false;
    while let Some(c) = rest.next() {
        match c {
            '\\' if quote == '"' => {
                rest.next();
            }
            // Twice, it is a quote of the text.
            '\'' if quote == '\'' && rest.peek() == Some(&'\'') => {
                rest.next();
            }
            c if c == quote => {
                closed = true;
                break;
            }
            _ => {}
        }
    }
    let after: String = rest.collect();
    let after = after.trim_start();
    closed && (after.is_empty() || after.starts_with([',', '}', '#']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_in_closed_quotes_is_not_what_is_wrong_with_its_line() {
        for whole in ["", "'a'", "'it''s'", r#""a \" b""#, "'a', serve: [", "'a' }", "'a' # why"] {
            assert!(is_whole(whole), "{whole}");
        }
        for apart in ["a == {b: c}", "'a' == 'b'", "'it's'", r#""a" == "b""#, "!x", "'"] {
            assert!(!is_whole(apart), "{apart}");
        }
    }
}
