//! What changed between two contents, item by item, and one content made of another and that.

use std::collections::{BTreeMap, BTreeSet};

use switchtower_proto::policy::v1;

/// An item's kind and name.
type Key<'i> = (&'i str, &'i str);

/// A delta that was not made for the content that it is applied to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// The delta removes an item that is not there.
    #[error("{kind}/{name} is removed, and the base has none: this delta is of another base")]
    NotThere {
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
    },
    /// The delta puts one item twice, or puts and removes it.
    #[error("{kind}/{name} stands twice in the delta: each item is put once or removed once")]
    Twice {
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
    },
}

fn key(item: &v1::Item) -> Key<'_> {
    (&item.kind, &item.name)
}

/// Each item that is in one of two contents, with what it is in each; ascending.
pub(crate) fn pairs<'i>(
    before: &'i [v1::Item],
    after: &'i [v1::Item],
) -> impl Iterator<Item = (Key<'i>, Option<&'i v1::Item>, Option<&'i v1::Item>)> {
    let mut pairs: BTreeMap<Key<'i>, (Option<&v1::Item>, Option<&v1::Item>)> = BTreeMap::new();
    before.iter().for_each(|item| pairs.entry(key(item)).or_default().0 = Some(item));
    after.iter().for_each(|item| pairs.entry(key(item)).or_default().1 = Some(item));
    pairs.into_iter().map(|(key, (before, after))| (key, before, after))
}

/// What makes `to` of `from`: the items to put, new or with other bytes, and the kinds and names to remove; both
/// ascending.
#[must_use]
pub fn delta(from: &[v1::Item], to: &[v1::Item]) -> (Vec<v1::Item>, Vec<(String, String)>) {
    let (mut put, mut removed) = (Vec::new(), Vec::new());
    for ((kind, name), before, after) in pairs(from, to) {
        match after {
            Some(item) if before != Some(item) => put.push(item.clone()),
            Some(_) => {}
            None => removed.push((kind.to_owned(), name.to_owned())),
        }
    }
    (put, removed)
}

/// The content that a delta makes of `base`, ascending. Whether it is the content that was meant only its
/// [`digest`](super::digest) tells.
///
/// # Errors
/// The delta contradicts itself or the base. The base is as it was.
pub fn apply_delta(
    base: &[v1::Item],
    put: Vec<v1::Item>,
    removed: &[(String, String)],
) -> Result<Vec<v1::Item>, Mismatch> {
    let mut named = BTreeSet::new();
    for (kind, name) in put.iter().map(key).chain(removed.iter().map(|(kind, name)| (kind.as_str(), name.as_str()))) {
        if !named.insert((kind, name)) {
            return Err(Mismatch::Twice { kind: kind.to_owned(), name: name.to_owned() });
        }
    }
    let mut items: BTreeMap<Key<'_>, &v1::Item> = base.iter().map(|item| (key(item), item)).collect();
    for (kind, name) in removed {
        if items.remove(&(kind.as_str(), name.as_str())).is_none() {
            return Err(Mismatch::NotThere { kind: kind.clone(), name: name.clone() });
        }
    }
    items.extend(put.iter().map(|item| (key(item), item)));
    Ok(items.into_values().cloned().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items(text: &str) -> Vec<v1::Item> {
        let item = |item: &str| {
            let (name, body) = item.split_once('=').unwrap();
            v1::Item { kind: "route".to_owned(), name: name.to_owned(), body: body.to_owned().into() }
        };
        text.split_whitespace().map(item).collect()
    }

    #[test]
    fn a_delta_holds_what_changed_and_nothing_else() {
        #[track_caller]
        fn check(from: &str, to: &str, put: &str, removed: &[&str]) {
            let (from, to) = (items(from), items(to));
            let removed: Vec<_> = removed.iter().map(|name| ("route".to_owned(), (*name).to_owned())).collect();
            assert_eq!(delta(&from, &to), (items(put), removed.clone()));
            assert_eq!(apply_delta(&from, items(put), &removed), Ok(to));
        }
        check("", "", "", &[]);
        check("a=1 b=2", "a=1 b=2", "", &[]);
        check("", "a=1", "a=1", &[]);
        check("a=1 b=2 c=3", "b=9 c=3 d=4", "b=9 d=4", &["a"]);
        check("a=1", "", "", &["a"]);
    }

    #[test]
    fn a_delta_of_another_base_is_refused() {
        #[track_caller]
        fn check(base: &str, put: &str, removed: &str, expected: &str) {
            let removed: Vec<_> =
                removed.split_whitespace().map(|name| ("route".to_owned(), name.to_owned())).collect();
            assert_eq!(apply_delta(&items(base), items(put), &removed).unwrap_err().to_string(), expected);
        }
        check("a=1", "", "b", "route/b is removed, and the base has none: this delta is of another base");
        let twice = "route/a stands twice in the delta: each item is put once or removed once";
        check("a=1", "a=2 a=3", "", twice);
        check("a=1", "a=2", "a", twice);
        check("a=1", "", "a a", twice);
    }
}
