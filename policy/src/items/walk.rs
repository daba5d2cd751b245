//! A walk over an encoded message beside the tables of its members: what it uses, and what of it nobody here knows.

use std::fmt::Write;

use prost::encoding::{WireType, encode_key, encode_varint};
use smallvec::SmallVec;

use super::{
    schema::{Enumeration, Field, Holds, Message, Tables, Value},
    wire::{Raw, parts, varints},
};

/// Deepest nesting that is looked at, as deep as messages are decoded.
const MAX_DEPTH: usize = 100;

/// What is met on the way.
#[derive(Clone, Copy, Debug)]
pub(super) enum Met<'t> {
    Member(&'t Field),
    Value(&'t Value),
    UnknownMember(&'t Message, u32),
    UnknownValue(&'t Enumeration, i32),
}

/// From an item's body to where the walk is: each field, with the position in its list or the key in its map.
#[derive(Debug, Default)]
pub(super) struct Path<'w>(Vec<(&'w Message, &'w Field, Step<'w>)>);

#[derive(Clone, Copy, Debug)]
enum Step<'w> {
    Field,
    Position(u32),
    Key(&'w [u8]),
}

/// Walks over all of a message. What is malformed ends the message that it is in.
pub(super) fn walk<'w>(tables: &'w Tables, message: usize, bytes: &'w [u8], see: &mut impl FnMut(&Path<'w>, Met<'w>)) {
    within(tables, message, bytes, &mut Path::default(), see);
}

fn within<'w>(
    tables: &'w Tables,
    message: usize,
    bytes: &'w [u8],
    path: &mut Path<'w>,
    see: &mut impl FnMut(&Path<'w>, Met<'w>),
) {
    if path.0.len() >= MAX_DEPTH {
        return;
    }
    let message = tables.message(message);
    let mut counts: SmallVec<[(u32, u32); 4]> = SmallVec::new();
    for part in parts(bytes).map_while(Result::ok) {
        let Some(field) = message.field(part.number) else {
            see(path, Met::UnknownMember(message, part.number));
            continue;
        };
        if !message.is_entry {
            see(path, Met::Member(field));
        }
        match (field.holds, part.value) {
            (Holds::Message(inner), Raw::Bytes(bytes)) => {
                let step = if tables.message(inner).is_entry {
                    Step::Key(key(bytes))
                } else if field.repeated {
                    Step::Position(count(&mut counts, field.number))
                } else {
                    Step::Field
                };
                path.0.push((message, field, step));
                within(tables, inner, bytes, path, see);
                path.0.pop();
            }
            (Holds::Enumeration(inner), raw) => {
                let enumeration = tables.enumeration(inner);
                path.0.push((message, field, Step::Field));
                for number in varints(raw) {
                    // As it is decoded: numbers of enumerations are 32 bits wide.
                    let number = number as i32;
                    match enumeration.value(number) {
                        Some(value) => see(path, Met::Value(value)),
                        None => see(path, Met::UnknownValue(enumeration, number)),
                    }
                }
                path.0.pop();
            }
            _ => {}
        }
    }
}

/// How many of this field were there before.
fn count(counts: &mut SmallVec<[(u32, u32); 4]>, number: u32) -> u32 {
    match counts.iter_mut().find(|(counted, _)| *counted == number) {
        Some((_, count)) => {
            *count += 1;
            *count
        }
        None => {
            counts.push((number, 0));
            0
        }
    }
}

/// The key of an encoded entry of a map whose keys are texts, as all of ours are.
fn key(entry: &[u8]) -> &[u8] {
    let key = parts(entry).map_while(Result::ok).find(|part| part.number == 1);
    match key.map(|part| part.value) {
        Some(Raw::Bytes(key)) => key,
        _ => &[],
    }
}

impl Path<'_> {
    /// Added to the path of the item, as violations have it.
    pub(super) fn add_to(&self, item: &str) -> String {
        let mut path = item.to_owned();
        for (message, field, step) in &self.0 {
            // An entry's own value is where its key is, and some members have no place of their own in a document.
            if !message.is_entry && !is_inlined(field) {
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(&field.name);
            }
            let written = match step {
                Step::Field => Ok(()),
                Step::Position(position) => write!(path, "[{position}]"),
                Step::Key(key) => write!(path, ".{}", String::from_utf8_lossy(key)),
            };
            written.expect("a String takes what is written to it");
        }
        path
    }
}

/// Members that a document writes in the place of the message that they are in: `split: {sonnet: 9}`.
fn is_inlined(field: &Field) -> bool {
    field.member == "Split.weights"
}

/// The message without the values of enumerations that are unknown, and else as it is: decoding keeps their numbers, and
/// they are to be ignored. Malformed ends are left out.
pub(super) fn without_unknown_values(tables: &Tables, message: usize, bytes: &[u8]) -> Vec<u8> {
    fn copy(tables: &Tables, message: usize, bytes: &[u8], depth: usize) -> Vec<u8> {
        let message = tables.message(message);
        let mut copied = Vec::with_capacity(bytes.len());
        for part in parts(bytes).map_while(Result::ok) {
            match (message.field(part.number).map(|field| field.holds), part.value) {
                (Some(Holds::Message(inner)), Raw::Bytes(bytes)) if depth < MAX_DEPTH => {
                    let inner = copy(tables, inner, bytes, depth + 1);
                    delimited(part.number, &inner, &mut copied);
                }
                (Some(Holds::Enumeration(inner)), raw) => {
                    let known = |number: &u64| tables.enumeration(inner).value(*number as i32).is_some();
                    for number in varints(raw).filter(known) {
                        encode_key(part.number, WireType::Varint, &mut copied);
                        encode_varint(number, &mut copied);
                    }
                }
                _ => copied.extend_from_slice(part.bytes),
            }
        }
        copied
    }
    copy(tables, message, bytes, 0)
}

fn delimited(number: u32, bytes: &[u8], into: &mut Vec<u8>) {
    encode_key(number, WireType::LengthDelimited, into);
    encode_varint(bytes.len() as u64, into);
    into.extend_from_slice(bytes);
}
