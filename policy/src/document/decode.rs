//! Decoding the tree: what every field needs, whatever it is called.
//!
//! A [`Decoder`] walks with the path of the field it stands at. Asking a mapping for a field ([`Fields::take`]) is also
//! what makes its name known, so no list of names can go stale; what was never asked for is unknown at the end
//! ([`Decoder::finish`]).

use super::{
    At, Places,
    scalar::{Typed, kind, typed},
    tree::{Key, Mapping, Node, Value},
    unquoted,
};
use crate::violation::{Violation, Violations, nearest, quoted};
use hashbrown::HashMap;

/// The longest key that a path repeats in full; names are at most 128 characters.
const MOST_OF_A_KEY: usize = 160;

#[derive(Default)]
pub(super) struct Decoder {
    path: String,
    file: u32,
    places: Places,
    violations: Violations,
    refused: Vec<String>,
    file_refused: bool,
}

/// The entries of a mapping, and which of them were asked for.
pub(super) struct Fields<'n> {
    pub(super) entries: Vec<(&'n Key, &'n Node, bool)>,
    asked: Vec<&'static str>,
    /// A condition in it ended at a comma, and the rest of it looks like fields.
    cut: bool,
}

impl Decoder {
    pub(super) fn begin_file(&mut self, name: &str) {
        self.file = self.places.files.len() as u32;
        self.places.files.push(name.into());
    }

    pub(super) fn refuse_file(&mut self, violation: Violation) {
        self.file_refused = true;
        self.violations.push(violation);
    }

    pub(super) fn refuse_file_at(&mut self, at: At, code: &'static str, message: String) {
        let mut violation = Violation::error(code, "", message);
        violation.place = Some(self.places.place(self.file, at));
        self.refuse_file(violation);
    }

    pub(super) fn into_parts(mut self) -> (Places, Vec<Violation>, Vec<String>, bool) {
        self.refused.sort();
        (self.places, self.violations.into_vec(), self.refused, self.file_refused)
    }

    /// Refuses the field it stands at.
    pub(super) fn refuse(&mut self, at: At, code: &'static str, message: String) {
        self.refuse_suggesting(at, code, message, None);
    }

    pub(super) fn refuse_suggesting(
        &mut self,
        at: At,
        code: &'static str,
        message: String,
        suggestion: Option<String>,
    ) {
        let mut violation = Violation::error(code, self.path.clone(), message).suggest(suggestion);
        violation.place = Some(self.places.place(self.file, at));
        self.violations.push(violation);
        self.refused.push(self.path.clone());
    }

    pub(super) fn refuse_kind(&mut self, node: &Node, expected: &str) {
        self.refuse(node.at, "wrong_type", format!("{expected} was expected, and this is {}", kind(node)));
    }

    /// Goes to a field or element, and comes back.
    fn at<T>(&mut self, step: Step<'_>, place: At, visit: impl FnOnce(&mut Self) -> T) -> T {
        let length = self.path.len();
        match step {
            Step::Field(name) => {
                if length > 0 {
                    self.path.push('.');
                }
                self.path.extend(name.chars().take(MOST_OF_A_KEY));
            }
            Step::Element(index) => self.path.push_str(&format!("[{index}]")),
        }
        if !self.places.by_path.contains_key(self.path.as_str()) {
            self.places.by_path.insert(self.path.as_str().into(), (self.file, place));
        }
        let visited = visit(self);
        self.path.truncate(length);
        visited
    }

    /// Refuses tags and missing values, which no field takes.
    pub(super) fn usable(&mut self, node: &Node) -> bool {
        if let Some(tag) = &node.tag {
            let message = format!("{} is a YAML tag, and a policy has none: put the text in quotes", quoted(tag));
            self.refuse(node.at, "tag", message);
            return false;
        }
        if matches!(&node.value, Value::Scalar(scalar) if typed(scalar) == Typed::Null) {
            let message = "a value is missing here: write one, or remove the field".to_owned();
            self.refuse(node.at, "missing_value", message);
            return false;
        }
        true
    }

    /// The fields of a mapping; `None`: it is none, and that is told.
    pub(super) fn open<'n>(&mut self, node: &'n Node, expected: &str) -> Option<Fields<'n>> {
        if !self.usable(node) {
            return None;
        }
        match &node.value {
            Value::Mapping(mapping) => Some(self.fields(mapping)),
            _ => {
                self.refuse_kind(node, expected);
                None
            }
        }
    }

    pub(super) fn fields<'n>(&mut self, mapping: &'n Mapping) -> Fields<'n> {
        let mut seen: HashMap<&str, At> = HashMap::with_capacity(mapping.entries.len());
        let mut entries = Vec::with_capacity(mapping.entries.len());
        for (key, node) in &mapping.entries {
            if let Some(first) = seen.insert(&key.text, key.at) {
                seen.insert(&key.text, first);
                let message =
                    format!("{} stands twice here, first in line {}: keep one", quoted(&key.text), first.line);
                self.at(Step::Field(&key.text), key.at, |decoder| decoder.refuse(key.at, "duplicate", message));
            } else {
                entries.push((key, node, false));
            }
        }
        Fields { entries, asked: Vec::new(), cut: unquoted::cut_at_comma(mapping) }
    }

    /// Decodes a field if it is there. The place of a text or number is its own, that of anything larger its name's.
    pub(super) fn field<'n, T>(
        &mut self,
        fields: &mut Fields<'n>,
        name: &'static str,
        decode: impl FnOnce(&mut Self, &'n Node) -> Option<T>,
    ) -> Option<T> {
        let (key, node) = fields.take(name)?;
        let place = if matches!(node.value, Value::Scalar(_)) { node.at } else { key.at };
        self.at(Step::Field(name), place, |decoder| decode(decoder, node))
    }

    /// Tells of the fields that nobody asked for.
    pub(super) fn finish(&mut self, fields: Fields<'_>) {
        for (key, node, taken) in &fields.entries {
            let half = fields.cut && kind(node) == "nothing";
            if *taken || half {
                continue;
            }
            let meant = nearest(&key.text, fields.asked.iter().copied());
            if let Some(meant) = &meant {
                // What compiling would miss is what was misspelt here.
                let dot = if self.path.is_empty() { "" } else { "." };
                self.refused.push(format!("{}{dot}{meant}", self.path));
            }
            let message = if key.text == "<<" {
                // Any field may have been meant to come with it.
                self.refused.push(self.path.clone());
                "merge keys (`<<`) are not supported: write the fields out, or use an anchor for a whole value"
                    .to_owned()
            } else {
                format!("there is no field {} here; there are {}", quoted(&key.text), fields.asked.join(", "))
            };
            self.at(Step::Field(&key.text), key.at, |decoder| {
                decoder.refuse_suggesting(key.at, "unknown_field", message, meant);
            });
        }
    }

    /// Decodes the entries of a mapping from names; a name whose value was refused is left out unless `decode` gives
    /// something in its place.
    pub(super) fn named<'n, T>(
        &mut self,
        node: &'n Node,
        into: &mut std::collections::BTreeMap<String, T>,
        mut decode: impl FnMut(&mut Self, &'n Node) -> Option<T>,
    ) -> Option<()> {
        let fields = self.open(node, "a mapping from names")?;
        for (key, node, _) in fields.entries {
            let first = into.contains_key(&key.text).then(|| self.known_place(&key.text)).flatten();
            self.at(Step::Field(&key.text), key.at, |decoder| match first {
                Some(first) => {
                    let message = format!("{} stands twice, first in {first}: keep one", quoted(&key.text));
                    decoder.refuse(key.at, "duplicate", message);
                }
                None => {
                    if let Some(value) = decode(decoder, node) {
                        into.insert(key.text.clone(), value);
                    }
                }
            });
        }
        Some(())
    }

    /// Where a field of the mapping it stands at was first seen: in an earlier file, or earlier in this one.
    pub(super) fn known_place(&mut self, name: &str) -> Option<String> {
        let length = self.path.len();
        if length > 0 {
            self.path.push('.');
        }
        self.path.extend(name.chars().take(MOST_OF_A_KEY));
        let place = self.places.by_path.get(self.path.as_str());
        let shown = place.map(|(file, at)| format!("{}:{}", self.places.files[*file as usize], at.line));
        self.path.truncate(length);
        shown
    }

    /// Decodes the elements of a list. One that was refused is there as its default, so that the others keep their
    /// places.
    pub(super) fn list<'n, T: Default>(
        &mut self,
        node: &'n Node,
        mut decode: impl FnMut(&mut Self, &'n Node) -> Option<T>,
    ) -> Option<Vec<T>> {
        if !self.usable(node) {
            return None;
        }
        let Value::Sequence(items) = &node.value else {
            self.refuse_kind(node, "a list");
            return None;
        };
        let element = |(index, item): (usize, &'n Node)| {
            self.at(Step::Element(index), item.at, |decoder| decode(decoder, item)).unwrap_or_default()
        };
        Some(items.iter().enumerate().map(element).collect())
    }

    /// Tells of a field that stands here and should not.
    pub(super) fn misplaced(&mut self, fields: &mut Fields<'_>, name: &'static str, message: &str) {
        if let Some((key, _)) = fields.take(name) {
            self.at(Step::Field(name), key.at, |decoder| decoder.refuse(key.at, "misplaced_field", message.to_owned()));
        }
    }
}

impl<'n> Fields<'n> {
    /// The field of this name, if it is there.
    fn take(&mut self, name: &'static str) -> Option<(&'n Key, &'n Node)> {
        if !self.asked.contains(&name) {
            self.asked.push(name);
        }
        let entry = self.entries.iter_mut().find(|(key, _, _)| key.text == name)?;
        entry.2 = true;
        Some((entry.0, entry.1))
    }

    /// Those of these names that are there; asking makes them known.
    pub(super) fn present(&mut self, names: &[&'static str]) -> Vec<&'static str> {
        let mut present = Vec::new();
        for name in names {
            if !self.asked.contains(name) {
                self.asked.push(name);
            }
            if self.entries.iter().any(|(key, _, _)| key.text == *name) {
                present.push(*name);
            }
        }
        present
    }
}

enum Step<'a> {
    Field(&'a str),
    Element(usize),
}
