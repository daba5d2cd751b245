//! An encoded message as a document would write it: fields by name, words for enumerations, units for lengths of time.

use std::collections::BTreeMap;

use prost_types::field_descriptor_proto::Type;
use serde_json::{Number, Value};

use super::words::{hexadecimal, time};
use crate::items::{Field, Holds, Raw, Table, Tables, parts, varints};

/// Deepest nesting that is looked at, as deep as messages are decoded.
const MAX_DEPTH: usize = 100;

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    Scalar(Value),
    List(Vec<Node>),
    Object(Object),
}

/// A message or a map.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Object {
    pub(super) entries: BTreeMap<Key, Entry>,
    /// It is a tier, which has shorter forms.
    pub(super) is_tier: bool,
}

/// Fields are in the order of their numbers, entries of a map in the order of their keys.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    /// The field's number; the same for all entries of a map.
    rank: u32,
    pub(super) name: String,
}

/// A field of a message or an entry of a map.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    pub(super) node: Node,
    /// A field that this program does not know: its bytes in hexadecimal.
    pub(super) is_unknown: bool,
}

impl Node {
    pub(super) fn is_scalar(&self) -> bool {
        matches!(self, Node::Scalar(_))
    }

    pub(super) fn json(&self) -> Value {
        match self {
            Node::Scalar(value) => value.clone(),
            Node::List(nodes) => nodes.iter().map(Node::json).collect(),
            Node::Object(object) => {
                object.entries.iter().map(|(key, entry)| (key.name.clone(), entry.node.json())).collect::<Value>()
            }
        }
    }
}

impl Object {
    pub(super) fn get(&self, name: &str) -> Option<&Node> {
        self.entries.iter().find(|(key, _)| key.name == name).map(|(_, entry)| &entry.node)
    }

    fn at(&mut self, rank: u32, name: &str) -> &mut Entry {
        let nothing = || Entry { node: Node::Scalar(Value::Null), is_unknown: false };
        self.entries.entry(Key { rank, name: name.to_owned() }).or_insert_with(nothing)
    }

    /// The last of what stands twice holds, as on the wire.
    fn set(&mut self, rank: u32, name: &str, node: Node) {
        self.at(rank, name).node = node;
    }

    fn push(&mut self, rank: u32, name: &str, node: Node) {
        match &mut self.at(rank, name).node {
            Node::List(nodes) => nodes.push(node),
            none => *none = Node::List(vec![node]),
        }
    }

    /// The map that is a field's value, to be added to.
    fn map(&mut self, rank: u32, name: &str) -> &mut Object {
        let node = &mut self.at(rank, name).node;
        if !matches!(node, Node::Object(_)) {
            *node = Node::Object(Object::default());
        }
        match node {
            Node::Object(map) => map,
            _ => unreachable!("it was made an object above"),
        }
    }

    fn unknown(&mut self, number: u32, bytes: &[u8]) {
        let entry = self.at(number, &format!("field {number}"));
        entry.is_unknown = true;
        match &mut entry.node {
            Node::Scalar(Value::String(text)) => text.push_str(&hexadecimal(bytes)),
            none => *none = Node::Scalar(Value::String(hexadecimal(bytes))),
        }
    }
}

/// Reads a message. What is malformed ends the message that it is in.
pub(super) fn read(tables: &Tables, message: usize, bytes: &[u8]) -> Node {
    Reader { tables }.message(message, bytes, 0)
}

struct Reader<'t> {
    tables: &'t Tables,
}

impl<'t> Reader<'t> {
    fn message(&self, message: usize, bytes: &[u8], depth: usize) -> Node {
        if depth >= MAX_DEPTH {
            return Node::Scalar(Value::String(hexadecimal(bytes)));
        }
        let table = self.tables.message(message);
        match table.name.as_str() {
            "Duration" => Node::Scalar(Value::String(duration(bytes))),
            "Value" | "ListValue" | "Struct" => self.any(table, bytes, depth),
            _ => Node::Object(self.object(table, bytes, depth)),
        }
    }

    fn object(&self, table: &Table, bytes: &[u8], depth: usize) -> Object {
        let mut object = Object { is_tier: table.name == "Tier", ..Object::default() };
        for part in parts(bytes).map_while(Result::ok) {
            let Some(field) = table.field(part.number) else {
                object.unknown(part.number, part.bytes);
                continue;
            };
            match (field.member.as_str(), part.value) {
                // Written in the place of the message that they are in.
                ("Split.weights", Raw::Bytes(bytes)) => self.entry(field, bytes, &mut object, depth),
                ("Tier.answer", Raw::Bytes(bytes)) => self.answer(field, bytes, &mut object, depth),
                _ => self.field(field, part.value, &mut object, depth),
            }
        }
        object
    }

    fn field(&self, field: &Field, raw: Raw<'_>, object: &mut Object, depth: usize) {
        let (rank, name) = (field.number, field.name.as_str());
        match (field.holds, raw) {
            (Holds::Message(inner), Raw::Bytes(bytes)) if self.tables.message(inner).is_entry => {
                self.entry(field, bytes, object.map(rank, name), depth);
            }
            (Holds::Message(inner), Raw::Bytes(bytes)) => {
                let node = self.message(inner, bytes, depth + 1);
                if field.repeated { object.push(rank, name, node) } else { object.set(rank, name, node) }
            }
            (Holds::Message(_), _) => {}
            (holds, raw) if field.repeated && is_packed(holds, raw) => {
                varints(raw).for_each(|number| object.push(rank, name, self.scalar(holds, Raw::Varint(number))));
            }
            (holds, raw) => {
                let node = self.scalar(holds, raw);
                if field.repeated { object.push(rank, name, node) } else { object.set(rank, name, node) }
            }
        }
    }

    /// Adds an entry of a map.
    fn entry(&self, field: &Field, bytes: &[u8], map: &mut Object, depth: usize) {
        let Holds::Message(entry) = field.holds else { return };
        let table = self.tables.message(entry);
        let mut read = Object::default();
        for part in parts(bytes).map_while(Result::ok) {
            match table.field(part.number) {
                Some(field) => self.field(field, part.value, &mut read, depth + 1),
                None => read.unknown(part.number, part.bytes),
            }
        }
        let (mut key, mut value) = (String::new(), None);
        for (Key { rank, .. }, entry) in read.entries {
            match (rank, entry.node) {
                (1, Node::Scalar(Value::String(text))) => key = text,
                (2, node) => value = Some(node),
                _ => {}
            }
        }
        let Some(value) = value.or_else(|| Some(self.default(table.field(2)?.holds))) else { return };
        map.set(0, &key, value);
    }

    /// What an entry of a map holds that holds nothing.
    fn default(&self, holds: Holds) -> Node {
        match holds {
            Holds::Message(inner) => self.message(inner, &[], 0),
            Holds::Scalar(Type::String | Type::Bytes) => Node::Scalar(Value::String(String::new())),
            holds => self.scalar(holds, Raw::Varint(0)),
        }
    }

    /// `{answer: TEXT, when: CONDITION}`
    fn answer(&self, field: &Field, bytes: &[u8], tier: &mut Object, depth: usize) {
        let Holds::Message(answer) = field.holds else { return };
        tier.set(field.number, "answer", Node::Scalar(Value::String(String::new())));
        for (key, entry) in self.object(self.tables.message(answer), bytes, depth + 1).entries {
            let name = if key.name == "template" { "answer" } else { &key.name };
            *tier.at(field.number, name) = entry;
        }
    }

    /// A value of any type, as a flag serves it.
    fn any(&self, table: &Table, bytes: &[u8], depth: usize) -> Node {
        let mut object = self.object(table, bytes, depth);
        let known = object.entries.iter().rev().find(|(_, entry)| !entry.is_unknown).map(|(key, _)| key.clone());
        let inner = known.and_then(|key| Some((object.entries.remove(&key)?.node, key.name)));
        match (table.name.as_str(), inner) {
            ("Value", Some((_, name))) if name == "null_value" => Node::Scalar(Value::Null),
            (_, Some((node, _))) => node,
            ("ListValue", None) if object.entries.is_empty() => Node::List(Vec::new()),
            (_, None) => Node::Object(object),
        }
    }

    fn scalar(&self, holds: Holds, raw: Raw<'_>) -> Node {
        Node::Scalar(match (holds, raw) {
            (Holds::Enumeration(inner), Raw::Varint(number)) => self.word(inner, number as i32),
            (Holds::Scalar(Type::Bool), Raw::Varint(number)) => Value::Bool(number != 0),
            (Holds::Scalar(Type::Int32 | Type::Int64), Raw::Varint(number)) => (number as i64).into(),
            (Holds::Scalar(Type::Sint32 | Type::Sint64), Raw::Varint(number)) => {
                ((number >> 1) as i64 ^ -((number & 1) as i64)).into()
            }
            (_, Raw::Varint(number)) => number.into(),
            (Holds::Scalar(Type::Double), Raw::Fixed64(bits)) => number(f64::from_bits(bits)),
            (Holds::Scalar(Type::Float), Raw::Fixed32(bits)) => number(f64::from(f32::from_bits(bits))),
            (_, Raw::Fixed64(number)) => number.into(),
            (_, Raw::Fixed32(number)) => number.into(),
            (Holds::Scalar(Type::String), Raw::Bytes(text)) => String::from_utf8_lossy(text).into_owned().into(),
            (_, Raw::Bytes(bytes)) => hexadecimal(bytes).into(),
            (_, Raw::Group) => Value::Null,
        })
    }

    /// `partial` for ON_BROKEN_STREAM_PARTIAL.
    fn word(&self, enumeration: usize, number: i32) -> Value {
        let enumeration = self.tables.enumeration(enumeration);
        let Some(value) = enumeration.value(number) else { return format!("value {number}").into() };
        let own = enumeration.name.rsplit('.').next().unwrap_or_default();
        // The words in common with the enumeration's own name are not said again.
        let mut said = value.name.as_str();
        let mut prefix = String::new();
        for (index, c) in own.chars().enumerate() {
            if c.is_ascii_uppercase() && index > 0 {
                prefix.push('_');
            }
            prefix.push(c.to_ascii_uppercase());
        }
        if let Some(rest) = said.strip_prefix(&prefix).and_then(|rest| rest.strip_prefix('_')) {
            said = rest;
        }
        said.to_ascii_lowercase().into()
    }
}

fn is_packed(holds: Holds, raw: Raw<'_>) -> bool {
    matches!(raw, Raw::Bytes(_)) && !matches!(holds, Holds::Scalar(Type::String | Type::Bytes))
}

/// A number as it is written: without a point where it is whole.
fn number(value: f64) -> Value {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if value.fract() == 0.0 && value.abs() <= EXACT {
        return (value as i64).into();
    }
    Number::from_f64(value).map_or_else(|| value.to_string().into(), Value::Number)
}

fn duration(bytes: &[u8]) -> String {
    let (mut seconds, mut nanos) = (0_i64, 0_i32);
    for part in parts(bytes).map_while(Result::ok) {
        match (part.number, part.value) {
            (1, Raw::Varint(number)) => seconds = number as i64,
            (2, Raw::Varint(number)) => nanos = number as i32,
            _ => {}
        }
    }
    time(seconds, nanos)
}
