//! What is told of nodes: many of a kind within a moment are told as one, or a fleet that reconnects would drive every
//! other event out of sight.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use crate::events::{Event, Events, Kind};

/// So many of a kind are told one by one.
const ONE_BY_ONE: usize = 3;

/// What was seen since it was told last.
#[derive(Debug, Default)]
pub(super) struct Tale(Mutex<BTreeMap<Same, Many>>);

/// What is told as one: of an environment, by kind, and by the revision that it is about.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Same {
    environment: String,
    kind: &'static str,
    revision: String,
}

#[derive(Debug, Default)]
struct Many {
    first: Vec<Event>,
    node: String,
    count: usize,
}

impl Tale {
    /// Something was seen of a node.
    pub(super) fn note(&self, node: &str, event: Event) {
        let revision = if event.kind == Kind::RevisionRefused { event.subject.clone() } else { String::new() };
        let same = Same { environment: event.environment.clone(), kind: event.kind.as_str(), revision };
        let mut tale = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let many = tale.entry(same).or_default();
        if many.count == 0 {
            node.clone_into(&mut many.node);
        }
        many.count += 1;
        if many.first.len() < ONE_BY_ONE {
            many.first.push(event);
        }
    }

    /// Tells what was seen, in the order in which it was.
    pub(super) fn tell(&self, events: &Events) {
        let tale = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let mut told: Vec<Event> = tale.into_values().flat_map(Many::told).collect();
        told.sort_by_key(|event| event.at);
        told.iter().for_each(|event| events.tell(event));
    }
}

impl Many {
    fn told(mut self) -> Vec<Event> {
        if self.count <= ONE_BY_ONE {
            return self.first;
        }
        let mut first = self.first.swap_remove(0);
        let (count, node) = (self.count, self.node);
        let what = match first.kind {
            Kind::NodeConnected => "connected".to_owned(),
            Kind::NodeGone => "are gone; what they serve is not known".to_owned(),
            Kind::RevisionRefused => format!("refused revision {}", first.subject),
            Kind::NodeLagging => "do not answer".to_owned(),
            _ => "have a problem".to_owned(),
        };
        if first.kind != Kind::RevisionRefused {
            first.subject = String::new();
        }
        let example = if matches!(first.kind, Kind::NodeConnected | Kind::NodeGone) {
            node
        } else {
            std::mem::take(&mut first.message)
        };
        first.message = format!("{count} nodes {what}; the first: {example}");
        vec![first]
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    /// What is told of these, as kind, subject and message.
    fn told(seen: &[(Kind, &str, &str)]) -> Vec<(String, String)> {
        let tale = Tale::default();
        for (n, (kind, node, subject)) in seen.iter().enumerate() {
            tale.note(
                node,
                Event {
                    at: SystemTime::UNIX_EPOCH + Duration::from_secs(n as u64),
                    environment: "prod".to_owned(),
                    kind: *kind,
                    actor: String::new(),
                    subject: (*subject).to_owned(),
                    message: format!("{node} …"),
                },
            );
        }
        let mut told: Vec<Event> = tale.0.into_inner().unwrap().into_values().flat_map(Many::told).collect();
        told.sort_by_key(|event| event.at);
        told.into_iter().map(|event| (event.subject, event.message)).collect()
    }

    #[test]
    fn few_are_told_one_by_one_and_many_as_one() {
        let check = |seen: &[(Kind, &str, &str)], expected: &[(&str, &str)]| {
            let expected: Vec<_> = expected.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
            assert_eq!(told(seen), expected);
        };
        let connected = |node| (Kind::NodeConnected, node, node);
        check(&[connected("a"), connected("b")], &[("a", "a …"), ("b", "b …")]);
        check(&["a", "b", "c", "d"].map(connected), &[("", "4 nodes connected; the first: a")]);
        let refused = |node| (Kind::RevisionRefused, node, "7");
        check(&["a", "b", "c", "d"].map(refused), &[("7", "4 nodes refused revision 7; the first: a …")]);
        check(
            &[refused("a"), (Kind::RevisionRefused, "a", "8"), connected("c")],
            &[("7", "a …"), ("8", "a …"), ("c", "c …")],
        );
    }
}
