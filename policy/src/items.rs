//! A policy taken apart into items, and put together again.
//!
//! Items are what is stored, hashed and sent: a change of one route moves one route. Their bytes are written once, by
//! whoever applies them, and never again: a program in between that decoded and encoded them would lose every member
//! that it does not know.
//!
//! Two ways to read them. The control plane reads what is applied [`strict`]ly: whoever applies a member that nobody
//! knows has misspelt it, or has a newer program than the one that would have to keep its promise. A node reads what it
//! is sent leniently ([`policy()`]): it may be the older program, and it serves what it knows, tells what it does not, and
//! keeps the bytes. So that what it does not know is not missed, the control plane asks beforehand what an applied policy
//! uses ([`used`]) and which node does not know that ([`missing`]).

mod delta;
mod kind;
mod read;
mod schema;
mod walk;
mod wire;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use aws_lc_rs::digest;
use hashbrown::HashSet;
use prost::Message;
use switchtower_proto::policy::v1;

pub(crate) use self::{
    delta::pairs,
    kind::Kind,
    schema::{Field, Holds, Message as Table, Tables, tables},
    wire::{Raw, parts, varints},
};
pub use self::{
    delta::{Mismatch, apply_delta, delta},
    read::{Lenient, MAX_BYTES, MAX_TOLD, policy, strict},
    schema::{Schema, schema},
};

/// Takes a policy apart: one item for its settings and one for each of its names, in canonical bytes, ascending by kind,
/// then name.
#[must_use]
pub fn items(policy: &v1::Policy) -> Vec<v1::Item> {
    let v1::Policy { environment, requirements, models, routes, flags, guardrails, callers, rollout, catalogue } =
        policy;
    let settings = v1::Policy {
        environment: environment.clone(),
        requirements: requirements.clone(),
        rollout: rollout.clone(),
        ..v1::Policy::default()
    };
    let mut items = Vec::new();
    add(&mut items, Kind::Caller, callers);
    add(&mut items, Kind::Catalogue, catalogue);
    add(&mut items, Kind::Flag, flags);
    add(&mut items, Kind::Guardrail, guardrails);
    add(&mut items, Kind::Model, models);
    add(&mut items, Kind::Route, routes);
    items.push(item(Kind::Settings, "", &settings));
    items
}

fn add<M: Message>(items: &mut Vec<v1::Item>, kind: Kind, entries: &BTreeMap<String, M>) {
    items.extend(entries.iter().map(|(name, message)| item(kind, name, message)));
}

fn item(kind: Kind, name: &str, message: &impl Message) -> v1::Item {
    v1::Item { kind: kind.name().to_owned(), name: name.to_owned(), body: message.encode_to_vec().into() }
}

/// SHA-256 over the items: for each the length of kind, name and body as 64-bit big-endian numbers, and then these three.
#[must_use]
pub fn digest(items: &[v1::Item]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    for v1::Item { kind, name, body } in items {
        let parts = [kind.as_bytes(), name.as_bytes(), body];
        parts.iter().for_each(|part| context.update(&(part.len() as u64).to_be_bytes()));
        parts.iter().for_each(|part| context.update(part));
    }
    context.finish().as_ref().try_into().expect("SHA-256 is 32 bytes long")
}

/// What these items use: members as `Message.field`, values of enumerations as `Enumeration.VALUE`, kinds as `kind:NAME`.
/// Members and values that this program does not know are named as [`Unknown`] names them; inside a kind that it does not
/// know it sees nothing.
#[must_use]
pub fn used(items: &[v1::Item]) -> BTreeSet<String> {
    let tables = tables();
    let mut kinds = HashSet::new();
    let mut members = HashSet::new();
    let mut used = BTreeSet::new();
    for item in items {
        kinds.insert(item.kind.as_str());
        let Some(kind) = Kind::of(&item.kind) else { continue };
        walk::walk(tables, tables.of_kind(kind), &item.body, &mut |_, met| match met {
            walk::Met::Member(field) => drop(members.insert(field.member.as_str())),
            walk::Met::Value(value) => drop(members.insert(value.member.as_str())),
            unknown => {
                // Bytes may hold a million different numbers.
                if used.len() < MAX_TOLD {
                    used.extend(unknown_name(unknown));
                }
            }
        });
    }
    used.extend(members.into_iter().map(str::to_owned));
    used.extend(kinds.into_iter().map(|kind| format!("kind:{kind}")));
    used
}

/// What of `used` a node does not know that advertised these members and kinds, both sorted; in the words of [`used`].
#[must_use]
pub fn missing(used: &BTreeSet<String>, members: &[String], kinds: &[String]) -> Vec<String> {
    let known = |name: &String| match name.strip_prefix("kind:") {
        Some(kind) => has(kinds, kind),
        None => has(members, name),
    };
    used.iter().filter(|name| !known(name)).cloned().collect()
}

fn has(sorted: &[String], name: &str) -> bool {
    sorted.binary_search_by(|known| known.as_str().cmp(name)).is_ok()
}

/// What this program does not know of an item, and ignored.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Unknown {
    /// The item's kind.
    pub kind: String,
    /// The item's name.
    pub name: String,
    /// `Message.field NUMBER` or `Enumeration value NUMBER`. `None`: the kind itself.
    pub member: Option<String>,
}

impl fmt::Display for Unknown {
    /// `route/chat: Route.field 99`, `route/chat: Upstream value 7`, `gadget/x: unknown kind`, `settings: Policy.field 99`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.kind)?;
        if !self.name.is_empty() {
            write!(f, "/{}", self.name)?;
        }
        write!(f, ": {}", self.member.as_deref().unwrap_or("unknown kind"))
    }
}

/// What is unknown, by the name of what it is in; none for what is known.
fn unknown_name(met: walk::Met<'_>) -> Option<String> {
    match met {
        walk::Met::UnknownMember(message, number) => Some(format!("{}.field {number}", message.name)),
        walk::Met::UnknownValue(enumeration, number) => Some(format!("{} value {number}", enumeration.name)),
        walk::Met::Member(_) | walk::Met::Value(_) => None,
    }
}
