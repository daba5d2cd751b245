//! Tree -> YAML: one field on each line, and what is short and flat on one.

use std::fmt::Write;

use serde_json::{Map, Value};

use super::scalar;

/// Longest list or mapping of scalars that stands on one line, in characters.
const ONE_LINE: usize = 88;
/// Longest key that stands before its colon without a `?`: YAML allows 1024 characters, quotes included.
const LONGEST_KEY: usize = 1000;

/// A whole file, with a blank line before every section.
pub(super) fn document(sections: &Map<String, Value>) -> String {
    let mut out = String::new();
    for (index, (name, section)) in sections.iter().enumerate() {
        if index > 0 {
            out.push('\n');
        }
        entry(&mut out, name, section, 0);
    }
    out
}

/// A field, where its line begins or after a dash.
fn entry(out: &mut String, name: &str, value: &Value, indent: usize) {
    let key = scalar::text(name);
    match key.len() <= LONGEST_KEY {
        true => out.push_str(&key),
        false => {
            let _ = write!(out, "? {key}\n{:indent$}", "");
        }
    }
    out.push(':');
    after_colon(out, value, indent);
}

fn after_colon(out: &mut String, value: &Value, indent: usize) {
    if let Some(line) = on_one_line(value) {
        let _ = writeln!(out, " {line}");
        return;
    }
    match value {
        Value::Object(fields) => {
            out.push('\n');
            mapping(out, fields, indent + 2, true);
        }
        Value::Array(items) => {
            out.push('\n');
            sequence(out, items, indent + 2, true);
        }
        Value::String(text) => scalar::block(out, text, indent + 2),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// `begins`: at the beginning of a line, and not after a dash.
fn mapping(out: &mut String, fields: &Map<String, Value>, indent: usize, begins: bool) {
    for (index, (name, value)) in fields.iter().enumerate() {
        if begins || index > 0 {
            let _ = write!(out, "{:indent$}", "");
        }
        entry(out, name, value, indent);
    }
}

fn sequence(out: &mut String, items: &[Value], indent: usize, begins: bool) {
    for (index, item) in items.iter().enumerate() {
        if begins || index > 0 {
            let _ = write!(out, "{:indent$}", "");
        }
        out.push('-');
        match (on_one_line(item), item) {
            (Some(line), _) => {
                let _ = writeln!(out, " {line}");
            }
            (None, Value::Object(fields)) => {
                out.push(' ');
                mapping(out, fields, indent + 2, false);
            }
            (None, Value::Array(items)) => {
                out.push(' ');
                sequence(out, items, indent + 2, false);
            }
            (None, other) => after_colon(out, other, indent),
        }
    }
}

/// Scalars on one line, and short lists and mappings of them; `None`: it takes several.
fn on_one_line(value: &Value) -> Option<String> {
    let line = match value {
        Value::Array(items) => {
            let items = items.iter().map(flat).collect::<Option<Vec<_>>>()?;
            format!("[{}]", items.join(", "))
        }
        Value::Object(fields) if fields.is_empty() => "{}".to_owned(),
        Value::Object(fields) => {
            let fields = fields.iter().map(|(name, value)| Some(format!("{}: {}", scalar::text(name), flat(value)?)));
            format!("{{ {} }}", fields.collect::<Option<Vec<_>>>()?.join(", "))
        }
        Value::String(text) if scalar::is_block(text) => return None,
        scalar => return Some(scalar::of(scalar)),
    };
    (line.chars().count() <= ONE_LINE).then_some(line)
}

/// A scalar inside brackets.
fn flat(value: &Value) -> Option<String> {
    match value {
        Value::Array(_) | Value::Object(_) => None,
        Value::String(text) if scalar::is_block(text) => None,
        scalar => Some(scalar::of(scalar)),
    }
}
