//! Two trees of one item, compared.

use std::collections::BTreeSet;

use super::{
    Change, What,
    list::{self, Fate},
    tree::{Entry, Key, Node, Object},
    words::{plain, shown},
};

/// A comparison of one item: where it is, and what was different so far.
pub(super) struct Compare<'i> {
    kind: &'i str,
    name: &'i str,
    path: String,
    /// The path in words, such as `route chat: tier 1: model`.
    label: String,
    pub(super) changes: Vec<Change>,
}

impl<'i> Compare<'i> {
    pub(super) fn new(kind: &'i str, name: &'i str, label: String) -> Self {
        Compare { kind, name, path: String::new(), label, changes: Vec::new() }
    }

    /// A difference of the whole item.
    pub(super) fn whole(&mut self, what: What, before: Option<String>, after: Option<String>, how: &str) {
        self.push(what, before, after, &format!(": {how}"));
    }

    fn push(&mut self, what: What, before: Option<String>, after: Option<String>, words: &str) {
        self.changes.push(Change {
            what,
            item_kind: self.kind.to_owned(),
            item_name: self.name.to_owned(),
            path: self.path.clone(),
            before,
            after,
            words: format!("{}{words}", self.label),
        });
    }

    fn tell(&mut self, before: Option<&Node>, after: Option<&Node>, words: &str) {
        let what = match (before, after) {
            (None, _) => What::Added,
            (_, None) => What::Removed,
            _ => What::Changed,
        };
        let json = |node: &Node| node.json().to_string();
        self.push(what, before.map(json), after.map(json), words);
    }

    /// Compares what is at a step from here.
    fn at(&mut self, step: &str, label: &str, compare: impl FnOnce(&mut Self)) {
        let (path, labels) = (self.path.len(), self.label.len());
        if !self.path.is_empty() && !step.starts_with('[') {
            self.path.push('.');
        }
        self.path.push_str(step);
        self.label.push_str(": ");
        self.label.push_str(label);
        compare(self);
        self.path.truncate(path);
        self.label.truncate(labels);
    }

    /// Compares two values.
    pub(super) fn nodes(&mut self, before: &Node, after: &Node) {
        match (before, after) {
            _ if before == after => {}
            (Node::Object(before), Node::Object(after)) if !are_of_two_kinds(before, after) => {
                self.objects(before, after);
            }
            (Node::List(before), Node::List(after)) => self.lists(before, after),
            _ => {
                // A whole tier has no name of its own before its value.
                let colon = if self.path.ends_with(']') { ":" } else { "" };
                let words = format!("{colon} {} → {}", shown(before), shown(after));
                self.tell(Some(before), Some(after), &words);
            }
        }
    }

    fn objects(&mut self, before: &Object, after: &Object) {
        let keys: BTreeSet<&Key> = before.entries.keys().chain(after.entries.keys()).collect();
        for key in keys {
            let name = plain(&key.name);
            self.at(&name, &name, |within| within.entries(before.entries.get(key), after.entries.get(key)));
        }
    }

    fn entries(&mut self, before: Option<&Entry>, after: Option<&Entry>) {
        let is_unknown = before.or(after).is_some_and(|entry| entry.is_unknown);
        match (before.map(|entry| &entry.node), after.map(|entry| &entry.node)) {
            (before, after) if is_unknown => {
                if before != after {
                    self.tell(before, after, " changed, which this version does not know");
                }
            }
            (Some(before), Some(after)) => self.nodes(before, after),
            // A list that is empty is a list that is absent, but for one inside a flag's value.
            (None, Some(Node::List(after))) if !after.is_empty() => self.lists(&[], after),
            (Some(Node::List(before)), None) if !before.is_empty() => self.lists(before, &[]),
            (None, Some(after)) => self.tell(None, Some(after), &format!(" set to {}", shown(after))),
            (Some(before), None) => self.tell(Some(before), None, &format!(" {} removed", shown(before))),
            (None, None) => {}
        }
    }

    fn lists(&mut self, before: &[Node], after: &[Node]) {
        if before.iter().chain(after).all(Node::is_scalar) {
            self.scalars(before, after);
        } else {
            self.positions(before, after);
        }
    }

    /// Lists of words: which are new, which are gone, and whether the others stand in another order.
    fn scalars(&mut self, before: &[Node], after: &[Node]) {
        let (gone, kept_before) = list::without(before, after);
        let (new, kept_after) = list::without(after, before);
        for node in gone {
            self.tell(Some(node), None, &format!(": - {}", shown(node)));
        }
        for node in new {
            self.tell(None, Some(node), &format!(": + {}", shown(node)));
        }
        if kept_before != kept_after {
            let (before, after) = (Node::List(before.to_vec()), Node::List(after.to_vec()));
            let words = format!(": order {} → {}", shown(&before), shown(&after));
            self.tell(Some(&before), Some(&after), &words);
        }
    }

    /// Lists of tiers or rules: by position.
    fn positions(&mut self, before: &[Node], after: &[Node]) {
        let field = self.label.rsplit(": ").next().unwrap_or_default();
        let one = match field {
            "tiers" => "tier",
            "rules" => "rule",
            _ => "item",
        };
        // `tiers: tier 1` says it twice.
        let label = self.label.clone();
        if one != "item" {
            self.label.truncate(label.len() - field.len() - ": ".len());
        }
        for fate in list::align(before, after) {
            let position = match fate {
                Fate::Kept { after, .. } | Fate::New { after } => after,
                Fate::Gone { before } => before,
            };
            self.at(&format!("[{position}]"), &format!("{one} {}", position + 1), |within| match fate {
                Fate::Kept { before: old, after: new, moved } => {
                    let (old_node, new_node) = (&before[old], &after[new]);
                    if moved {
                        within.tell(Some(old_node), Some(new_node), &format!(" was {one} {} before", old + 1));
                    }
                    within.nodes(old_node, new_node);
                }
                Fate::Gone { before: old } => {
                    within.tell(Some(&before[old]), None, &format!(" removed: {}", shown(&before[old])));
                }
                Fate::New { after: new } => {
                    within.tell(None, Some(&after[new]), &format!(" added: {}", shown(&after[new])));
                }
            });
        }
        self.label = label;
    }
}

/// Tiers of two kinds: field by field would tell that one thing is gone and another is new, where one was replaced.
fn are_of_two_kinds(before: &Object, after: &Object) -> bool {
    before.is_tier && after.is_tier && !before.entries.keys().any(|key| after.entries.contains_key(key))
}
