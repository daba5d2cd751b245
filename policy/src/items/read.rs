//! Items -> policy, leniently or strictly.

use std::collections::BTreeMap;

use hashbrown::HashSet;
use prost::Message;
use switchtower_proto::policy::v1;

use super::{
    Unknown,
    kind::{Kind, is_name},
    schema::tables,
    unknown_name,
    walk::{Met, walk, without_unknown_values},
};
use crate::violation::{Violation, Violations, quoted};

/// Most bytes of all items together, as they are encoded in a `Content`.
pub const MAX_BYTES: usize = 4 << 20;

/// Most unknown members that are told of one content: bytes may hold a million different numbers.
pub const MAX_TOLD: usize = 1000;

/// What was read leniently.
#[derive(Clone, Debug, PartialEq)]
pub struct Lenient {
    /// What this program knows of it. A value that it does not know is as if it were not there.
    pub policy: v1::Policy,
    /// What it does not know, each once per item, in the order of the items; at most [`MAX_TOLD`].
    pub ignored: Vec<Unknown>,
}

/// Puts a policy together as a node does: unknown kinds, members and values of enumerations are ignored and told, at every
/// depth.
///
/// That it can be read says nothing of what it means: [`compile`](crate::compile()) tells that.
///
/// # Errors
/// All that is wrong: bytes that are no message, items out of order or twice, bad names, more than [`MAX_BYTES`].
pub fn policy(items: &[v1::Item]) -> Result<Lenient, Vec<Violation>> {
    Reader::new(false).read(items)
}

/// Puts a policy together as the control plane does when it is applied: what is unknown is wrong, and so is every way of
/// writing it but the canonical one, so that [`items`](super::items) of the policy gives the same bytes again.
///
/// # Errors
/// All that is wrong, as for [`policy()`], with the paths that the compiler uses.
pub fn strict(items: &[v1::Item]) -> Result<v1::Policy, Vec<Violation>> {
    Reader::new(true).read(items).map(|read| read.policy)
}

struct Reader {
    strict: bool,
    policy: v1::Policy,
    ignored: Vec<Unknown>,
    violations: Violations,
}

impl Reader {
    fn new(strict: bool) -> Self {
        Reader { strict, policy: v1::Policy::default(), ignored: Vec::new(), violations: Violations::default() }
    }

    fn read(mut self, items: &[v1::Item]) -> Result<Lenient, Vec<Violation>> {
        let bytes: usize = items.iter().map(length).sum();
        if bytes > MAX_BYTES {
            let message = format!("the items are {bytes} bytes long, and at most {MAX_BYTES} are allowed");
            return Err(vec![Violation::error("too_large", "", message)]);
        }
        let mut previous = None;
        for item in items {
            let key = (item.kind.as_str(), item.name.as_str());
            if previous >= Some(key) {
                self.out_of_order(item, previous == Some(key));
            }
            previous = Some(key);
            self.item(item);
        }
        if self.strict && !items.iter().any(|item| item.kind == Kind::Settings.name()) {
            self.error("required", "environment", "the settings are missing, and the environment's name with them");
        }
        if self.violations.errors() > 0 {
            return Err(self.violations.into_vec());
        }
        Ok(Lenient { policy: self.policy, ignored: self.ignored })
    }

    fn error(&mut self, code: &'static str, path: impl Into<String>, message: impl Into<String>) {
        self.violations.push(Violation::error(code, path, message));
    }

    fn out_of_order(&mut self, item: &v1::Item, twice: bool) {
        let (kind, name) = (quoted(&item.kind), quoted(&item.name));
        if twice {
            self.error("duplicate", path(item), format!("the item {kind} {name} stands twice: keep one"));
        } else {
            let message = format!("the item {kind} {name} is out of order: sort items by kind, then name");
            self.error("wrong_order", path(item), message);
        }
    }

    fn item(&mut self, item: &v1::Item) {
        let Some(kind) = Kind::of(&item.kind) else { return self.unknown_kind(item) };
        if !kind.may_be_called(&item.name) {
            let message = match kind {
                Kind::Settings => format!("settings have no name, and this is {}", quoted(&item.name)),
                _ => format!("{} is not a name of a {}", quoted(&item.name), kind.name()),
            };
            self.error("bad_name", path(item), message);
        }
        if let (Kind::Settings, Some(section)) = (kind, filled_section(&item.body)) {
            let message = format!("settings hold no {section}: each of them is an item of its own");
            return self.error("misplaced", section, message);
        }
        let mut found = self.decode(kind, &item.name, &item.body);
        if found.is_err() {
            let message = format!("the body of {} {} is no encoded message", kind.name(), quoted(&item.name));
            return self.error("malformed", path(item), message);
        }
        let unknown = self.unknown(kind, item);
        if unknown.values && !self.strict {
            let known = without_unknown_values(tables(), tables().of_kind(kind), &item.body);
            found = self.decode(kind, &item.name, &known);
        }
        if found == Ok(false) && !unknown.any {
            let message = "these bytes are not canonical: fields and map keys in ascending order, each once, and nothing \
                           that has its default";
            self.error("not_canonical", path(item), message);
        }
    }

    /// Takes an item into the policy, and tells whether its bytes are the ones that we would have written.
    fn decode(&mut self, kind: Kind, name: &str, body: &[u8]) -> Result<bool, prost::DecodeError> {
        fn entry<M: Message + Default>(
            entries: &mut BTreeMap<String, M>,
            name: &str,
            body: &[u8],
            strict: bool,
        ) -> Result<bool, prost::DecodeError> {
            let message = M::decode(body)?;
            let canonical = !strict || message.encode_to_vec() == body;
            entries.insert(name.to_owned(), message);
            Ok(canonical)
        }
        let (policy, strict) = (&mut self.policy, self.strict);
        match kind {
            Kind::Caller => entry(&mut policy.callers, name, body, strict),
            Kind::Catalogue => entry(&mut policy.catalogue, name, body, strict),
            Kind::Flag => entry(&mut policy.flags, name, body, strict),
            Kind::Guardrail => entry(&mut policy.guardrails, name, body, strict),
            Kind::Model => entry(&mut policy.models, name, body, strict),
            Kind::Route => entry(&mut policy.routes, name, body, strict),
            Kind::Settings => {
                let v1::Policy { environment, requirements, rollout, .. } = v1::Policy::decode(body)?;
                let settings = v1::Policy { environment, requirements, rollout, ..v1::Policy::default() };
                let canonical = !strict || settings.encode_to_vec() == body;
                (policy.environment, policy.requirements, policy.rollout) =
                    (settings.environment, settings.requirements, settings.rollout);
                Ok(canonical)
            }
        }
    }

    fn unknown_kind(&mut self, item: &v1::Item) {
        // A newer program may have other rules for names; what it may not do is break the words in which we tell of it.
        let named = item.name.is_empty() || is_name(&item.name, "._-:/", 2048);
        if !is_name(&item.kind, "._-", 128) || !named {
            let message = format!("{} {} is no kind and name of an item", quoted(&item.kind), quoted(&item.name));
            self.error("bad_name", path(item), message);
        } else if self.strict {
            let message = format!("{} is a kind of item that this version does not know", quoted(&item.kind));
            let meant = self.violations.nearest(&item.kind, Kind::ALL.map(Kind::name));
            self.violations.push(Violation::error("unknown_kind", path(item), message).suggest(meant));
        } else {
            self.tell(Unknown { kind: item.kind.clone(), name: item.name.clone(), member: None });
        }
    }

    fn tell(&mut self, unknown: Unknown) {
        if self.ignored.len() < MAX_TOLD {
            self.ignored.push(unknown);
        }
    }

    /// Tells what of an item is unknown.
    fn unknown(&mut self, kind: Kind, item: &v1::Item) -> Found {
        let mut found = Found::default();
        let mut told = HashSet::new();
        walk(tables(), tables().of_kind(kind), &item.body, &mut |within, met| {
            if matches!(met, Met::Member(_) | Met::Value(_)) {
                return;
            }
            let is_value = matches!(met, Met::UnknownValue(..));
            found.any = true;
            found.values |= is_value;
            let Some(member) = unknown_name(met).filter(|_| told.len() < MAX_TOLD) else { return };
            if self.strict {
                let code = if is_value { "unknown_word" } else { "unknown_member" };
                let place = within.add_to(&path(item));
                if told.insert(format!("{place} {member}")) {
                    let message = format!("`{member}` is nothing that this version knows");
                    self.error(code, place, message);
                }
            } else if told.insert(member.clone()) {
                self.tell(Unknown { kind: item.kind.clone(), name: item.name.clone(), member: Some(member) });
            }
        });
        found
    }
}

/// What of an item is unknown.
#[derive(Clone, Copy, Debug, Default)]
struct Found {
    any: bool,
    /// Values of enumerations are among it.
    values: bool,
}

/// Length of an item inside an encoded `Content`.
fn length(item: &v1::Item) -> usize {
    let length = item.encoded_len();
    1 + prost::length_delimiter_len(length) + length
}

/// The item's path, as violations have it.
fn path(item: &v1::Item) -> String {
    // What is no name may hold anything, and violations are lines.
    let shown = |text: &str| if is_name(text, "._-:/", 2048) { text.to_owned() } else { quoted(text) };
    match Kind::of(&item.kind).map(|kind| kind.section().unwrap_or_default()) {
        Some("") => String::new(),
        Some(section) => format!("{section}.{}", shown(&item.name)),
        None => format!("{}.{}", shown(&item.kind), shown(&item.name)),
    }
}

/// A section whose entries stand in the settings.
fn filled_section(settings: &[u8]) -> Option<&'static str> {
    let table = tables().message(tables().of_kind(Kind::Settings));
    let fields = super::wire::parts(settings).map_while(Result::ok).filter_map(|part| table.field(part.number));
    let mut sections = fields
        .filter_map(|field| Kind::ALL.into_iter().filter_map(Kind::section).find(|section| *section == field.name));
    sections.next()
}
