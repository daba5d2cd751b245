//! What is different between two contents, field by field, in the names in which operators write policies and in words
//! that a review can be read by.
//!
//! It works on the bytes and the tables of members, not on decoded messages: a member that this program does not know is
//! different too, and a review that did not show it would be a lie. For the same reason no difference of bytes is passed
//! over in silence, even one that says the same in another way.

mod compare;
mod list;
mod tree;
mod words;

use switchtower_proto::policy::v1;

use self::{compare::Compare, tree::Node, words::hexadecimal};
use crate::items::{Kind, pairs, tables};

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What happened.
    pub what: What,
    /// The item's kind.
    pub item_kind: String,
    /// The item's name; empty for settings.
    pub item_name: String,
    /// Field path inside the item, as a document writes it, such as `tiers[0].model`; positions are those after the
    /// change, or before it for what was removed. Empty: the whole item.
    pub path: String,
    /// What was there, as JSON; a member that this version does not know as its bytes in hexadecimal. `None`: nothing.
    pub before: Option<String>,
    /// What is there now, as JSON. The same as before for what only moved. `None`: nothing.
    pub after: Option<String>,
    /// One line for people, such as `route chat: tier 1: model sonnet → nova-lite`. Long values are cut.
    pub words: String,
}

/// What happened to an item or a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum What {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// It is another, or elsewhere.
    Changed,
}

/// All differences, in the order of the items and their fields; none if and only if the items are the same.
#[must_use]
pub fn diff(before: &[v1::Item], after: &[v1::Item]) -> Vec<Change> {
    let mut changes = Vec::new();
    for ((kind, name), before, after) in pairs(before, after) {
        let label = if name.is_empty() { words::plain(kind) } else { words::plain(&format!("{kind} {name}")) };
        let mut item = Compare::new(kind, name, label);
        match (before, after) {
            (Some(before), Some(after)) if before.body == after.body => {}
            (Some(before), Some(after)) => {
                if let Some(kind) = Kind::of(kind) {
                    item.nodes(&node(kind, before), &node(kind, after));
                }
                if item.changes.is_empty() {
                    let how = match Kind::of(kind) {
                        Some(_) => "encoded in another way, and says the same",
                        None => "changed, in a way that this version cannot read",
                    };
                    item.whole(What::Changed, Some(raw(before)), Some(raw(after)), how);
                }
            }
            (Some(before), None) => item.whole(What::Removed, Some(json(before)), None, "removed"),
            (None, Some(after)) => item.whole(What::Added, None, Some(json(after)), "added"),
            (None, None) => {}
        }
        changes.append(&mut item.changes);
    }
    changes
}

fn node(kind: Kind, item: &v1::Item) -> Node {
    tree::read(tables(), tables().of_kind(kind), &item.body)
}

fn json(item: &v1::Item) -> String {
    Kind::of(&item.kind).map_or_else(|| raw(item), |kind| node(kind, item).json().to_string())
}

fn raw(item: &v1::Item) -> String {
    serde_json::Value::String(hexadecimal(&item.body)).to_string()
}

#[cfg(test)]
mod tests;
