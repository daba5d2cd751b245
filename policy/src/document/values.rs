//! Decoding what has no fields: texts, conditions, numbers, durations, words, and values of any type.

use prost_types::{ListValue, Struct, value::Kind};

use super::{
    decode::Decoder,
    duration,
    scalar::{Typed, kind, typed},
    tree::{Node, Value},
    unquoted,
};
use crate::violation::{nearest, quoted};

impl Decoder {
    pub(super) fn text(&mut self, node: &Node) -> Option<String> {
        if !self.usable(node) {
            return None;
        }
        match &node.value {
            Value::Scalar(scalar) => match typed(scalar) {
                Typed::Text(text) => Some(text.to_owned()),
                _ => {
                    let shown = quoted(&scalar.text);
                    let message = format!("text was expected, and {shown} is {}: put it in quotes", kind(node));
                    self.refuse(node.at, "wrong_type", message);
                    None
                }
            },
            _ => {
                self.refuse_kind(node, "text");
                None
            }
        }
    }

    pub(super) fn condition(&mut self, node: &Node) -> Option<String> {
        if let Some(message) = unquoted::taken_apart(node) {
            self.refuse(node.at, unquoted::CODE, message);
            return None;
        }
        if !self.usable(node) {
            return None;
        }
        // `true` and `7` are conditions too, the second a wrong one.
        match &node.value {
            Value::Scalar(scalar) => Some(scalar.text.clone()),
            _ => None,
        }
    }

    pub(super) fn boolean(&mut self, node: &Node) -> Option<bool> {
        if !self.usable(node) {
            return None;
        }
        if let Value::Scalar(scalar) = &node.value
            && let Typed::Bool(value) = typed(scalar)
        {
            return Some(value);
        }
        self.refuse_kind(node, "true or false");
        None
    }

    fn integer(&mut self, node: &Node, max: u64) -> Option<u64> {
        if !self.usable(node) {
            return None;
        }
        let Value::Scalar(scalar) = &node.value else {
            self.refuse_kind(node, "a whole number");
            return None;
        };
        match typed(scalar) {
            Typed::Int(value) => match u64::try_from(value).ok().filter(|value| *value <= max) {
                Some(value) => Some(value),
                None => {
                    let message =
                        format!("a whole number from 0 to {max} was expected, and this is {}", quoted(&scalar.text));
                    self.refuse(node.at, "out_of_range", message);
                    None
                }
            },
            Typed::Float(_) => {
                let message = format!("a whole number was expected, and this is {}", quoted(&scalar.text));
                self.refuse(node.at, "wrong_type", message);
                None
            }
            _ => {
                self.refuse_kind(node, "a whole number");
                None
            }
        }
    }

    pub(super) fn u32(&mut self, node: &Node) -> Option<u32> {
        self.integer(node, u64::from(u32::MAX)).map(|value| value as u32)
    }

    pub(super) fn u64(&mut self, node: &Node) -> Option<u64> {
        self.integer(node, u64::MAX)
    }

    pub(super) fn number(&mut self, node: &Node) -> Option<f64> {
        if !self.usable(node) {
            return None;
        }
        if let Value::Scalar(scalar) = &node.value {
            match typed(scalar) {
                Typed::Int(value) => return Some(value as f64),
                Typed::Float(value) if value.is_finite() => return Some(value),
                Typed::Float(_) => {
                    let message = format!("a finite number was expected, and this is {}", quoted(&scalar.text));
                    self.refuse(node.at, "out_of_range", message);
                    return None;
                }
                Typed::Text(text) if scalar.plain && text.ends_with('%') => {
                    self.refuse(node.at, "wrong_type", "a number was expected: leave out the `%`".to_owned());
                    return None;
                }
                _ => {}
            }
        }
        self.refuse_kind(node, "a finite number");
        None
    }

    pub(super) fn duration(&mut self, node: &Node) -> Option<prost_types::Duration> {
        if !self.usable(node) {
            return None;
        }
        let text = match &node.value {
            Value::Scalar(scalar) => scalar.text.as_str(),
            _ => {
                self.refuse_kind(node, duration::EXPECTED);
                return None;
            }
        };
        let parsed = duration::parse(text);
        if parsed.is_none() {
            let message = format!("{} was expected, and this is {}", duration::EXPECTED, quoted(text));
            self.refuse(node.at, "bad_duration", message);
        }
        parsed
    }

    /// One of a few words.
    pub(super) fn word(&mut self, node: &Node, words: &[(&'static str, i32)]) -> Option<i32> {
        let text = self.text(node)?;
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return Some(*value);
        }
        let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let message = format!("{} is not one of {}", quoted(&text), known.join(", "));
        let meant = nearest(&text, known);
        self.refuse_suggesting(node.at, "unknown_word", message, meant);
        None
    }

    /// A value of any type, as a flag serves it.
    pub(super) fn any(&mut self, node: &Node) -> Option<prost_types::Value> {
        if !self.usable(node) {
            return None;
        }
        self.json(node)
    }

    /// Recurses at most as deep as the tree was allowed to grow.
    fn json(&mut self, node: &Node) -> Option<prost_types::Value> {
        if node.tag.is_some() {
            self.usable(node);
            return None;
        }
        let kind = match &node.value {
            Value::Scalar(scalar) => match typed(scalar) {
                Typed::Null => Kind::NullValue(0),
                Typed::Bool(value) => Kind::BoolValue(value),
                Typed::Text(text) => Kind::StringValue(text.to_owned()),
                Typed::Int(value) if value.unsigned_abs() <= 1 << 53 => Kind::NumberValue(value as f64),
                Typed::Float(value) if value.is_finite() => Kind::NumberValue(value),
                _ => {
                    let shown = quoted(&scalar.text);
                    let message = format!("{shown} cannot be kept exactly as a number: put it in quotes");
                    self.refuse(node.at, "out_of_range", message);
                    return None;
                }
            },
            Value::Sequence(items) => {
                let values: Vec<_> = items.iter().map(|item| self.json(item)).collect();
                Kind::ListValue(ListValue { values: values.into_iter().collect::<Option<_>>()? })
            }
            Value::Mapping(mapping) => {
                let fields = self.fields(mapping);
                let entries: Vec<_> =
                    fields.entries.iter().map(|(key, node, _)| Some((key.text.clone(), self.json(node)?))).collect();
                Kind::StructValue(Struct { fields: entries.into_iter().collect::<Option<_>>()? })
            }
        };
        Some(prost_types::Value { kind: Some(kind) })
    }
}
