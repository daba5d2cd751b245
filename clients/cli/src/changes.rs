//! What differs between two policies, for people and for programs.

use serde_json::{Value, json};
use switchtower_client::control::wire::{Change, Diff, change::Kind};

use crate::{
    output::{ERROR, GOOD, WARNING, printable},
    violations::counted,
};

/// A line for each change: `+` what is new, `-` what is gone, `~` what is another.
pub(crate) fn text(diff: &Diff) -> String {
    let mut text: String = diff.changes.iter().map(line).collect();
    let more = in_all(diff).saturating_sub(diff.changes.len() as u64);
    if more > 0 {
        text.push_str(&format!("  and {more} more\n"));
    }
    text
}

/// The same without colours, as details of a failure.
pub(crate) fn details(diff: &Diff) -> Vec<String> {
    anstream::adapter::strip_str(&text(diff)).to_string().lines().map(str::to_owned).collect()
}

/// `1 change`, `12 changes`.
pub(crate) fn counted_in(diff: &Diff) -> String {
    counted(usize::try_from(in_all(diff)).unwrap_or(usize::MAX), "change")
}

fn in_all(diff: &Diff) -> u64 {
    diff.changes_in_all.max(diff.changes.len() as u64)
}

fn line(change: &Change) -> String {
    let (sign, style) = match change.kind() {
        Kind::Added => ('+', GOOD),
        Kind::Removed => ('-', ERROR),
        Kind::Changed | Kind::Unspecified => ('~', WARNING),
    };
    let words = match change.words.as_str() {
        "" => bare(change),
        words => words.to_owned(),
    };
    // One line for each, whatever a policy's texts hold.
    let words = printable(&words).replace(['\n', '\t'], " ");
    format!("{style}{sign}{style:#} {words}\n")
}

/// A change that nobody has put into words.
fn bare(change: &Change) -> String {
    let dot = if change.path.is_empty() { "" } else { " " };
    let mut text = format!("{} {}{dot}{}", change.item_kind, change.item_name, change.path);
    match (change.before.as_str(), change.after.as_str()) {
        ("", "") => {}
        ("", after) => text.push_str(&format!(": {after}")),
        (before, "") => text.push_str(&format!(": was {before}")),
        (before, after) => text.push_str(&format!(": {before} -> {after}")),
    }
    text
}

/// For programs.
pub(crate) fn document(diff: &Diff) -> Value {
    diff.changes
        .iter()
        .map(|change| {
            json!({
                "change": match change.kind() {
                    Kind::Added => "added",
                    Kind::Removed => "removed",
                    Kind::Changed | Kind::Unspecified => "changed",
                },
                "kind": change.item_kind,
                "name": change.item_name,
                "path": change.path,
                "before": value(&change.before),
                "after": value(&change.after),
                "words": change.words,
            })
        })
        .collect()
}

/// A value that travelled as JSON; null where there is none.
fn value(text: &str) -> Value {
    match text {
        "" => Value::Null,
        text => serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(kind: Kind, words: &str) -> Change {
        Change {
            kind: kind.into(),
            item_kind: "route".to_owned(),
            item_name: "chat".to_owned(),
            path: "tiers[0].model".to_owned(),
            before: r#""sonnet""#.to_owned(),
            after: r#""nova""#.to_owned(),
            words: words.to_owned(),
        }
    }

    #[test]
    fn a_change_is_a_line_with_its_sign() {
        let changes = vec![
            change(Kind::Added, "route `chat` is new"),
            change(Kind::Removed, "a\nb\u{1b}[2J"),
            change(Kind::Changed, ""),
        ];
        let diff = Diff { changes, changes_in_all: 5 };
        let expected = "+ route `chat` is new\n- a b\u{fffd}[2J\n~ route chat tiers[0].model: \"sonnet\" -> \"nova\"\n  and 2 more\n";
        assert_eq!(anstream::adapter::strip_str(&text(&diff)).to_string(), expected);
        assert_eq!(counted_in(&diff), "5 changes");
        assert_eq!(document(&diff)[2]["after"], "nova");
    }
}
