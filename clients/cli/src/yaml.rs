//! A policy as the YAML that its reader takes: what `get` shows and `pull` writes.
//!
//! In two steps: [`document`] gives each field the form that the reader knows, as a tree that is also what programs are
//! shown, and [`emit`] writes the tree. Neither fails. What YAML cannot say (a duration of half a millisecond, which only
//! another client can have applied) shows when the text is read again: [`text`] does that, and gives nothing that does
//! not mean the same.

mod document;
mod emit;
mod scalar;

use serde_json::{Map, Value};
use switchtower_policy::{File, items, read};
use switchtower_proto::policy::v1;

pub(crate) use self::document::document;

/// The sections that a policy's files are made of, and the file that each stands in.
const FILES: [(&str, &[&str]); 6] = [
    ("settings.yaml", &["requirements", "rollout"]),
    ("models.yaml", &["models", "catalogue"]),
    ("guardrails.yaml", &["guardrails"]),
    ("callers.yaml", &["callers"]),
    ("routes.yaml", &["routes"]),
    ("flags.yaml", &["flags"]),
];

/// The names that [`files`] can give.
pub(crate) fn file_names() -> impl Iterator<Item = &'static str> {
    FILES.iter().map(|(name, _)| *name)
}

/// The policy in one text, which reads as the same policy.
///
/// # Errors
/// Items that would not, as `KIND/NAME`.
pub(crate) fn text(policy: &v1::Policy) -> Result<String, Vec<String>> {
    let text = emit::document(&document(policy));
    proved(policy, &[File { name: "policy.yaml".to_owned(), bytes: text.clone().into_bytes() }])?;
    Ok(text)
}

/// The policy in several files, each beginning with this comment; together they read as the same policy.
///
/// # Errors
/// As [`text`].
pub(crate) fn files(policy: &v1::Policy, comment: &str) -> Result<Vec<File>, Vec<String>> {
    let document = document(policy);
    let mut files = Vec::new();
    for (name, sections) in FILES {
        let mut part = Map::new();
        part.insert("environment".to_owned(), Value::String(policy.environment.clone()));
        let there = sections.iter().filter_map(|name| document.get_key_value(*name));
        part.extend(there.map(|(name, section)| (name.clone(), section.clone())));
        // A policy of its name alone is still a policy.
        if part.len() > 1 || (name == FILES[0].0 && document.len() == 1) {
            let bytes = format!("{comment}\n{}", emit::document(&part)).into_bytes();
            files.push(File { name: name.to_owned(), bytes });
        }
    }
    proved(policy, &files)?;
    Ok(files)
}

/// Whether these files read as this policy.
fn proved(policy: &v1::Policy, files: &[File]) -> Result<(), Vec<String>> {
    let reading = read(files);
    let (meant, written) = (items::items(policy), items::items(&reading.policy));
    if reading.violations.is_empty() && meant == written {
        return Ok(());
    }
    let (put, removed) = items::delta(&meant, &written);
    let mut differ: Vec<String> =
        put.into_iter().map(|item| (item.kind, item.name)).chain(removed).map(named).collect();
    differ.sort();
    if differ.is_empty() {
        differ = reading.violations.iter().map(ToString::to_string).collect();
    }
    Err(differ)
}

fn named((kind, name): (String, String)) -> String {
    if name.is_empty() { kind } else { format!("{kind}/{name}") }
}

#[cfg(test)]
mod tests;
