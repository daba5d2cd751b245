//! The messages of a policy as tables, read from their descriptors: what the wire is compared with.
//!
//! By hand and not by reflection: a node compares a thousand items when it starts, reflection builds a tree of each
//! before it can say anything, and drops what it does not know inside the entries of maps. One pass over the bytes needs
//! only these tables.

use std::{collections::BTreeSet, sync::LazyLock};

use hashbrown::HashMap;
use prost::Message as _;
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet,
    field_descriptor_proto::{Label, Type},
};

use super::kind::Kind;

/// What a program understands of policies, as nodes advertise it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schema {
    /// Every `Message.field` and `Enumeration.VALUE` that an item can hold, without the package; sorted.
    pub members: Vec<String>,
    /// Kinds of items, sorted.
    pub kinds: Vec<String>,
}

impl Schema {
    /// The schema of a set of messages, from the encoded `FileDescriptorSet` of their files.
    ///
    /// # Errors
    /// These bytes are no such set.
    pub fn of(descriptors: &[u8]) -> Result<Schema, prost::DecodeError> {
        Ok(Tables::of(&FileDescriptorSet::decode(descriptors)?).schema())
    }
}

/// What this program understands.
#[must_use]
pub fn schema() -> &'static Schema {
    static SCHEMA: LazyLock<Schema> = LazyLock::new(|| tables().schema());
    &SCHEMA
}

/// This program's own messages.
pub(crate) fn tables() -> &'static Tables {
    static TABLES: LazyLock<Tables> = LazyLock::new(|| {
        let set = FileDescriptorSet::decode(switchtower_proto::DESCRIPTORS);
        Tables::of(&set.expect("the descriptors were encoded when this program was built"))
    });
    &TABLES
}

/// Messages and enumerations, found by number.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    messages: Vec<Message>,
    enumerations: Vec<Enumeration>,
    /// By full name, such as `.switchtower.policy.v1.Route`.
    names: HashMap<String, usize>,
}

/// A message.
#[derive(Debug)]
pub(crate) struct Message {
    /// Name without the package.
    pub(crate) name: String,
    /// In ascending order of their numbers.
    pub(crate) fields: Vec<Field>,
    /// One entry of a map: the key is its field 1, the value its field 2.
    pub(crate) is_entry: bool,
}

/// A field.
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) number: u32,
    pub(crate) name: String,
    /// `Message.field`.
    pub(crate) member: String,
    pub(crate) repeated: bool,
    pub(crate) holds: Holds,
}

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holds {
    Scalar(Type),
    /// Index of the enumeration.
    Enumeration(usize),
    /// Index of the message; of the entry, for a map.
    Message(usize),
}

/// An enumeration.
#[derive(Debug)]
pub(crate) struct Enumeration {
    /// Name without the package.
    pub(crate) name: String,
    values: Vec<Value>,
}

/// A value of an enumeration.
#[derive(Debug)]
pub(crate) struct Value {
    number: i32,
    pub(crate) name: String,
    /// `Enumeration.VALUE`.
    pub(crate) member: String,
}

impl Message {
    pub(crate) fn field(&self, number: u32) -> Option<&Field> {
        // Most messages number their fields without gaps.
        let guess = self.fields.get(number.wrapping_sub(1) as usize).filter(|field| field.number == number);
        guess.or_else(|| self.fields.iter().find(|field| field.number == number))
    }
}

impl Enumeration {
    pub(crate) fn value(&self, number: i32) -> Option<&Value> {
        self.values.iter().find(|value| value.number == number)
    }
}

impl Tables {
    pub(crate) fn message(&self, index: usize) -> &Message {
        &self.messages[index]
    }

    pub(crate) fn enumeration(&self, index: usize) -> &Enumeration {
        &self.enumerations[index]
    }

    /// The message of an item's body.
    pub(crate) fn of_kind(&self, kind: Kind) -> usize {
        self.policy_message(kind.message()).expect("this program's own messages hold those of its kinds")
    }

    fn policy_message(&self, name: &str) -> Option<usize> {
        self.names.get(&format!(".switchtower.policy.v1.{name}")).copied()
    }

    fn of(set: &FileDescriptorSet) -> Tables {
        let mut found = Found::default();
        for file in &set.file {
            let package = format!(".{}", file.package());
            file.message_type.iter().for_each(|message| found.message(&package, "", message));
            file.enum_type.iter().for_each(|enumeration| found.enumeration(&package, "", enumeration));
        }
        let names = found.messages.iter().enumerate().map(|(index, (full, ..))| (full.clone(), index)).collect();
        let numbers: HashMap<&str, usize> =
            found.enumerations.iter().enumerate().map(|(index, (full, _))| (full.as_str(), index)).collect();
        let messages = found.messages.iter().map(|(_, name, message)| table(name, message, &names, &numbers)).collect();
        drop(numbers);
        let enumerations = found.enumerations.into_iter().map(|(_, enumeration)| enumeration).collect();
        Tables { messages, enumerations, names }
    }

    fn schema(&self) -> Schema {
        let policy = self.policy_message(Kind::Settings.message());
        let has = |kind: &Kind| {
            policy.is_some_and(|policy| {
                kind.section().is_none_or(|section| self.message(policy).fields.iter().any(|f| f.name == section))
            })
        };
        let kinds: BTreeSet<String> = Kind::ALL.iter().filter(|kind| has(kind)).map(|k| k.name().to_owned()).collect();
        let mut members = BTreeSet::new();
        let mut seen = vec![false; self.messages.len()];
        let mut next: Vec<usize> = policy.into_iter().collect();
        while let Some(index) = next.pop() {
            if std::mem::replace(&mut seen[index], true) {
                continue;
            }
            let message = self.message(index);
            for field in &message.fields {
                if !message.is_entry {
                    members.insert(field.member.clone());
                }
                match field.holds {
                    Holds::Message(index) => next.push(index),
                    Holds::Enumeration(index) => {
                        members.extend(self.enumeration(index).values.iter().map(|value| value.member.clone()));
                    }
                    Holds::Scalar(_) => {}
                }
            }
        }
        Schema { members: members.into_iter().collect(), kinds: kinds.into_iter().collect() }
    }
}

/// Messages and enumerations with those inside them, each with its full name.
#[derive(Default)]
struct Found<'s> {
    messages: Vec<(String, String, &'s DescriptorProto)>,
    enumerations: Vec<(String, Enumeration)>,
}

impl<'s> Found<'s> {
    fn message(&mut self, package: &str, within: &str, message: &'s DescriptorProto) {
        let name = format!("{within}{}", message.name());
        let inside = format!("{name}.");
        message.nested_type.iter().for_each(|message| self.message(package, &inside, message));
        message.enum_type.iter().for_each(|enumeration| self.enumeration(package, &inside, enumeration));
        self.messages.push((format!("{package}.{name}"), name, message));
    }

    fn enumeration(&mut self, package: &str, within: &str, enumeration: &EnumDescriptorProto) {
        let name = format!("{within}{}", enumeration.name());
        let values = enumeration.value.iter().map(|value| Value {
            number: value.number(),
            name: value.name().to_owned(),
            member: format!("{name}.{}", value.name()),
        });
        let values = values.collect();
        self.enumerations.push((format!("{package}.{name}"), Enumeration { name, values }));
    }
}

fn table(
    name: &str,
    message: &DescriptorProto,
    messages: &HashMap<String, usize>,
    enumerations: &HashMap<&str, usize>,
) -> Message {
    let holds = |field: &FieldDescriptorProto| match field.r#type() {
        Type::Message | Type::Group => messages.get(field.type_name()).map(|index| Holds::Message(*index)),
        Type::Enum => enumerations.get(field.type_name()).map(|index| Holds::Enumeration(*index)),
        scalar => Some(Holds::Scalar(scalar)),
    };
    // A field whose type is in no file of the set is one that cannot be read: unknown.
    let fields = message.field.iter().filter_map(|field| {
        Some(Field {
            number: u32::try_from(field.number()).ok()?,
            name: field.name().to_owned(),
            member: format!("{name}.{}", field.name()),
            repeated: field.label() == Label::Repeated,
            holds: holds(field)?,
        })
    });
    let mut fields: Vec<Field> = fields.collect();
    fields.sort_by_key(|field| field.number);
    let is_entry = message.options.as_ref().is_some_and(|options| options.map_entry());
    Message { name: name.to_owned(), fields, is_entry }
}
