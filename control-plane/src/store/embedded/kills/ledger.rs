//! All that the children ever said, and whether a store is as they said.
//!
//! An act and its event are one transaction, so the store's events tell which acts happened. What was acknowledged is
//! there; what was only begun is there or not, but once it was seen to be absent it stays absent, and once it was seen it
//! stays; what nobody began is not there. And what each made is there exactly where its event is.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message;
use switchtower_proto::store::v1 as stored;

use super::{ENVIRONMENTS, Told};
use crate::{
    keys::Keys,
    layout,
    revisions::{Refused, Revisions},
    store::{Range, Store, Version},
};

/// What is known of an act.
#[derive(Debug)]
struct Known {
    act: String,
    environment: String,
    /// Content digest of an apply, id of the key of a revocation.
    more: String,
    state: State,
}

#[derive(Clone, Debug, PartialEq)]
enum State {
    /// Nobody knows.
    Begun,
    /// It was acknowledged: on what, its assignment (0: none), the record's digest (empty: none).
    Done { subject: String, assignment: u64, digest: String },
    /// It was not acknowledged, and is there.
    There,
    /// It did not happen, and never will.
    Absent,
}

#[derive(Debug, Default)]
pub(super) struct Ledger {
    acts: BTreeMap<String, Known>,
    /// Which revision an assignment is of: of each that was acknowledged or seen.
    assigned: BTreeMap<(String, u64), u64>,
    epoch: Option<String>,
    version: Version,
    pub(super) opened: u64,
}

impl Ledger {
    /// Notes a line of a child.
    pub(super) fn hear(&mut self, line: &str) {
        if let Some(words) = line.strip_prefix("begin ") {
            let [act, who, environment, more] = split(words);
            let known = Known { act, environment, more, state: State::Begun };
            assert!(self.acts.insert(who, known).is_none(), "begun twice: {line}");
        } else if let Some(words) = line.strip_prefix("done ") {
            let [_, who, subject, assignment, digest] = split(words);
            let assignment = assignment.parse().unwrap();
            let known = self.acts.get_mut(&who).unwrap_or_else(|| panic!("never begun: {line}"));
            assert_eq!(known.state, State::Begun, "{line}");
            if assignment > 0 {
                let key = (known.environment.clone(), assignment);
                let other = self.assigned.insert(key, subject.parse().unwrap());
                assert_eq!(other, None, "the number of an assignment was given twice: {line}");
            }
            known.state = State::Done { subject, assignment, digest };
        } else if let Some(who) = line.strip_prefix("refused ") {
            self.acts.get_mut(who).unwrap().state = State::Absent;
        } else if line == "opened" {
            self.opened += 1;
        } else if line.starts_with("failed ") {
            panic!("the child failed: {line}");
        }
    }

    /// Compares a store that was opened after a kill with all that was said.
    pub(super) async fn compare(&mut self, store: &std::sync::Arc<dyn Store>, keys: &Keys, told: &mut Told) {
        let epoch = self.epoch.get_or_insert_with(|| store.epoch().to_owned());
        assert_eq!(epoch, store.epoch());
        let version = *store.changes().borrow();
        assert!(version >= self.version, "the version went back: {version:?} after {:?}", self.version);
        self.version = version;
        assert_eq!(store.list(Range::all(layout::REPLICAS)).await.unwrap(), [], "under a lease of the killed one");

        let events = events(&**store).await;
        for (who, event) in &events {
            let known = self.acts.get(who).unwrap_or_else(|| panic!("nobody began {event:?}"));
            assert_eq!(event.environment, known.environment, "{event:?}");
        }
        for (who, known) in &mut self.acts {
            let event = events.get(who);
            known.state = match (&known.state, event) {
                (State::Begun, Some(_)) => {
                    told.there += 1;
                    State::There
                }
                (State::Begun, None) => {
                    told.absent += 1;
                    State::Absent
                }
                (State::Absent, Some(event)) => panic!("it did not happen, and then it had: {event:?}"),
                (State::Done { .. } | State::There, None) => panic!("lost: {who}, {known:?}"),
                (State::Done { subject, .. }, Some(event)) => {
                    assert_eq!(*subject, event.subject, "{event:?}");
                    known.state.clone()
                }
                (state, _) => state.clone(),
            };
        }
        let revisions = Revisions::of(store.clone());
        for environment in ENVIRONMENTS {
            self.compare_revisions(&revisions, environment, &events).await;
            self.compare_keys(keys, environment, &events).await;
        }
    }

    /// Every revision has its event and every event its revision, their numbers are dense and their chain holds.
    async fn compare_revisions(&mut self, revisions: &Revisions, environment: &str, events: &Events) {
        assert_eq!(revisions.verify(environment).await.unwrap(), Vec::<String>::new());
        let of = |kind: &str| {
            let of = |event: &&stored::Event| event.environment == environment && event.kind == kind;
            events.values().filter(of).collect::<Vec<_>>()
        };
        let (applied, rolled_back) = (of("revision_applied"), of("revision_rolled_back"));
        let mut found = Vec::new();
        let mut before = 0;
        loop {
            let page = match revisions.list(environment, before, 1000).await {
                Err(Refused::NoRevision { .. }) if before == 0 => break,
                page => page.unwrap(),
            };
            before = page.revisions.last().map_or(0, |last| last.record.number);
            found.extend(page.revisions);
            if !page.more {
                break;
            }
        }
        found.reverse();
        for (expected, revision) in (1..).zip(&found) {
            let record = &revision.record;
            assert_eq!(record.number, expected, "{environment}");
            let event = events.get(&record.author).unwrap_or_else(|| panic!("without an event: {record:?}"));
            assert_eq!(event.subject, record.number.to_string(), "one act made two revisions: {record:?}");
            let known = &self.acts[&record.author];
            assert_eq!(hex::encode(&record.content_digest), known.more, "another content: {record:?}");
            if let State::Done { digest, .. } = &known.state {
                assert_eq!(*digest, hex::encode(revision.digest.unwrap()), "another record: {record:?}");
            }
        }
        assert_eq!(found.len(), applied.len(), "{environment}: revisions, and events of them");
        let Some(head) = revisions.head(environment).await.unwrap() else { return assert_eq!(found.len(), 0) };
        assert_eq!(head.revision, found.len() as u64);
        let assignment = head.assignment;
        // Every act that assigns takes the next number.
        assert_eq!(assignment.number, (applied.len() + rolled_back.len()) as u64, "{environment}");
        let known = *self.assigned.entry((environment.to_owned(), assignment.number)).or_insert(assignment.revision);
        assert_eq!(known, assignment.revision, "{environment}: assignment {} is another now", assignment.number);
    }

    /// Every key has the event of its making, and is revoked if and only if it has that event, too.
    async fn compare_keys(&self, keys: &Keys, environment: &str, events: &Events) {
        let subjects = |kind: &str| {
            let of = |event: &&stored::Event| event.environment == environment && event.kind == kind;
            events.values().filter(of).map(|event| event.subject.clone()).collect::<BTreeSet<_>>()
        };
        let found = keys.list(environment).await.unwrap();
        let revoked = found.iter().filter(|key| key.record.revoked.is_some());
        assert_eq!(revoked.map(|key| key.record.id.clone()).collect::<BTreeSet<_>>(), subjects("key_revoked"));
        assert_eq!(found.into_iter().map(|key| key.record.id).collect::<BTreeSet<_>>(), subjects("key_issued"));
    }

    /// How many acts were acknowledged.
    pub(super) fn tell(&self, told: &mut Told) {
        let act = |known: &Known| match &*known.act {
            "apply" => "apply",
            "apply large" => "apply large",
            "rollback" => "rollback",
            "issue" => "issue",
            "revoke" => "revoke",
            other => panic!("{other}"),
        };
        for known in self.acts.values().filter(|known| matches!(known.state, State::Done { .. })) {
            *told.acknowledged.entry(act(known)).or_default() += 1;
        }
    }
}

/// Events by who did it, who does nothing else.
type Events = BTreeMap<String, stored::Event>;

async fn events(store: &dyn Store) -> Events {
    let mut events = Events::new();
    for entry in store.list(Range::all(layout::EVENTS)).await.unwrap() {
        let event = stored::Event::decode(&*entry.value).unwrap();
        let twice = events.insert(event.actor.clone(), event);
        assert!(twice.is_none(), "one act happened twice: {twice:?}");
    }
    events
}

fn split<const N: usize>(words: &str) -> [String; N] {
    let words: Vec<_> = words.split('|').map(str::to_owned).collect();
    words.try_into().unwrap_or_else(|words| panic!("not {N} words: {words:?}"))
}
