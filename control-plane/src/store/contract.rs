//! The contract as tests: each implementation passes all of them (`contract!(subject)` in its own tests).

use std::{collections::BTreeMap, future::Future, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};

use super::{
    Condition, Entry, Error, Lease, MAX_KEY_BYTES, MAX_TRANSACTION_BYTES, MAX_VALUE_BYTES, MAX_WRITES, Outcome, Range,
    Store, Transaction, Version,
};

/// Makes a test of each case, for stores that this function makes.
macro_rules! contract {
    ($subject:ident) => {
        contract!($subject; tokio::test;
            a_transaction_happens_only_if_all_its_conditions_hold,
            a_conflict_does_nothing_at_all,
            versions_go_up_also_over_a_reopening,
            what_changes_nothing_has_the_version_of_the_last_that_did,
            a_list_is_cut_by_prefix_start_limit_and_direction,
            what_is_beyond_the_limits_is_refused_and_does_nothing,
            what_is_just_within_the_limits_is_taken,
            a_wake_up_covers_what_was_acknowledged,
            the_epoch_stays,
            compaction_changes_nothing_that_can_be_read,
            a_revoked_lease_takes_its_keys_along_in_one_transaction,
            a_key_put_anew_goes_with_the_lease_of_its_last_put,
            leased_keys_do_not_outlive_the_process);
        contract!($subject; tokio::test(start_paused = true);
            a_lease_that_is_not_kept_ends_and_wakes,
            a_lease_that_is_kept_goes_on);
        contract!($subject; tokio::test(flavor = "multi_thread", worker_threads = 4);
            counting_from_many_tasks_loses_nothing,
            a_list_never_sees_half_a_transaction);

        #[test]
        fn random_transactions_do_what_a_plain_map_does() {
            $crate::store::contract::random_transactions_do_what_a_plain_map_does($subject());
        }
    };
    ($subject:ident; $test:meta; $($case:ident),+) => {
        $(#[$test]
        async fn $case() {
            $crate::store::contract::$case($subject().await).await;
        })+
    };
}

type Reopen = Box<dyn FnMut() -> Pin<Box<dyn Future<Output = Arc<dyn Store>> + Send>> + Send>;

/// A store under test.
pub(super) struct Subject {
    store: Arc<dyn Store>,
    /// `None`: what it holds ends with it.
    reopen: Option<Reopen>,
}

impl Subject {
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        Subject { store, reopen: None }
    }

    /// It can be closed and opened again.
    pub(super) fn reopening(mut self, reopen: Reopen) -> Self {
        self.reopen = Some(reopen);
        self
    }

    /// Closes it and opens it again, where that can be done.
    async fn reopen(&mut self) -> bool {
        let Some(reopen) = &mut self.reopen else { return false };
        self.store = reopen().await;
        true
    }

    async fn put(&self, key: &str, value: &str) -> Version {
        let condition = match self.get(key).await {
            Some(entry) => Condition::Unchanged(key.to_owned(), entry.version),
            None => absent(key),
        };
        self.committed(Transaction::when(condition).put(key, value.to_owned())).await
    }

    async fn committed(&self, transaction: Transaction) -> Version {
        match self.store.commit(transaction).await.unwrap() {
            Outcome::Committed(version) => version,
            Outcome::Conflict => panic!("a conflict"),
        }
    }

    async fn get(&self, key: &str) -> Option<Entry> {
        self.store.get(key).await.unwrap()
    }

    async fn keys(&self, range: Range) -> Vec<String> {
        self.store.list(range).await.unwrap().into_iter().map(|entry| entry.key).collect()
    }
}

fn absent(key: &str) -> Condition {
    Condition::Absent(key.to_owned())
}

fn unchanged(key: &str, version: Version) -> Condition {
    Condition::Unchanged(key.to_owned(), version)
}

pub(super) async fn a_transaction_happens_only_if_all_its_conditions_hold(subject: Subject) {
    let commit = |transaction| subject.store.commit(transaction);
    let first = subject.put("a", "1").await;
    assert_eq!(commit(Transaction::when(absent("a")).put("a", "2")).await.unwrap(), Outcome::Conflict);
    let second = subject.committed(Transaction::when(unchanged("a", first)).put("a", "2")).await;
    assert_eq!(
        commit(Transaction::when(unchanged("a", first)).put("a", "3")).await.unwrap(),
        Outcome::Conflict,
        "put since"
    );
    let both = Transaction::when(unchanged("a", second)).and_when(absent("b")).put("b", "1");
    subject.committed(both.clone()).await;
    assert_eq!(commit(both).await.unwrap(), Outcome::Conflict, "one of two does not hold");
    subject.committed(Transaction::when(unchanged("a", second)).delete("a")).await;
    assert_eq!(
        commit(Transaction::when(unchanged("a", second)).put("a", "4")).await.unwrap(),
        Outcome::Conflict,
        "deleted since"
    );
    let again = subject.committed(Transaction::when(absent("a")).put("a", "5")).await;
    assert_eq!(commit(Transaction::when(unchanged("a", second)).put("a", "6")).await.unwrap(), Outcome::Conflict);
    let found = Entry { key: "a".to_owned(), value: Bytes::from("5"), version: again };
    assert_eq!(subject.get("a").await, Some(found));
}

pub(super) async fn a_conflict_does_nothing_at_all(subject: Subject) {
    subject.put("a", "1").await;
    subject.put("b", "1").await;
    let before = subject.store.list(Range::all("")).await.unwrap();
    let version = *subject.store.changes().borrow();
    let conflict = Transaction::when(absent("c")).and_when(absent("a")).put("a", "2").delete("b").put("c", "2");
    assert_eq!(subject.store.commit(conflict).await.unwrap(), Outcome::Conflict);
    assert_eq!(subject.store.list(Range::all("")).await.unwrap(), before);
    assert_eq!(*subject.store.changes().borrow(), version);
    let over = subject.store.grant(Duration::from_secs(60)).await.unwrap();
    subject.store.revoke(over).await.unwrap();
    let refused = Transaction::when(absent("c")).put("a", "2").put_leased("c", "2", over);
    assert!(matches!(subject.store.commit(refused).await, Err(Error::LeaseOver)));
    let conflict = Transaction::when(absent("a")).put_leased("c", "2", over);
    assert_eq!(subject.store.commit(conflict).await.unwrap(), Outcome::Conflict, "conditions are told of first");
    assert_eq!(subject.store.list(Range::all("")).await.unwrap(), before);
}

pub(super) async fn versions_go_up_also_over_a_reopening(mut subject: Subject) {
    let mut last = Version::default();
    for round in 0..3 {
        for number in 0..5 {
            let (a, b) = (format!("a/{round}/{number}"), format!("b/{round}/{number}"));
            let version = subject.committed(Transaction::when(absent(&a)).put(&a, "1").put(&b, "1")).await;
            assert!(version > last);
            last = version;
            for key in [a, b] {
                assert_eq!(subject.get(&key).await.unwrap().version, version, "all that it wrote carries it");
            }
        }
        // The highest version may be of what is no longer there.
        let key = format!("a/{round}/4");
        last = subject.committed(Transaction::when(unchanged(&key, last)).delete(&key)).await;
        let before = subject.store.list(Range::all("")).await.unwrap();
        if !subject.reopen().await {
            return;
        }
        assert_eq!(subject.store.list(Range::all("")).await.unwrap(), before, "all that was acknowledged is there");
        assert!(*subject.store.changes().borrow() >= last);
    }
}

pub(super) async fn what_changes_nothing_has_the_version_of_the_last_that_did(subject: Subject) {
    let version = subject.put("a", "1").await;
    assert_eq!(subject.committed(Transaction::when(unchanged("a", version))).await, version);
    assert_eq!(subject.committed(Transaction::when(absent("b")).delete("b")).await, version);
    assert!(subject.put("a", "1").await > version, "to put the same again is a change");
}

pub(super) async fn a_list_is_cut_by_prefix_start_limit_and_direction(subject: Subject) {
    for key in ["a", "a/1", "a/2", "a/3", "a/é", "a/\u{10ffff}", "a0", "b/1", "\u{10ffff}x"] {
        subject.put(key, key).await;
    }
    let check = async |prefix: &str, after: &str, limit, descending, expected: &[&str]| {
        let range = Range { prefix: prefix.to_owned(), after: after.to_owned(), limit, descending };
        assert_eq!(subject.keys(range.clone()).await, expected, "{range:?}");
    };
    check("a/", "", usize::MAX, false, &["a/1", "a/2", "a/3", "a/é", "a/\u{10ffff}"]).await;
    check("a/", "", 2, false, &["a/1", "a/2"]).await;
    check("a/", "a/2", 2, false, &["a/3", "a/é"]).await;
    check("a/", "a/20", 1, false, &["a/3"]).await;
    check("a/", "A", 1, false, &["a/1"]).await;
    check("a/", "b", 1, false, &[]).await;
    check("a/", "", 2, true, &["a/\u{10ffff}", "a/é"]).await;
    check("a/", "a/3", usize::MAX, true, &["a/2", "a/1"]).await;
    check("a/", "b", 1, true, &["a/\u{10ffff}"]).await;
    check("a/", "A", 9, true, &[]).await;
    check("a", "", 3, false, &["a", "a/1", "a/2"]).await;
    check("", "a0", 9, false, &["b/1", "\u{10ffff}x"]).await;
    check("", "", 1, true, &["\u{10ffff}x"]).await;
    check("\u{10ffff}", "", 9, false, &["\u{10ffff}x"]).await;
    check("c", "", 9, false, &[]).await;
}

pub(super) async fn what_is_beyond_the_limits_is_refused_and_does_nothing(subject: Subject) {
    let long = "k".repeat(MAX_KEY_BYTES + 1);
    let start = || Transaction::when(absent("a")).put("a", "1");
    let large = Bytes::from(vec![0; MAX_VALUE_BYTES + 1]);
    let half = Bytes::from(vec![0; MAX_TRANSACTION_BYTES / 2]);
    let refused = [
        start().put("", "1"),
        start().delete(""),
        start().and_when(absent("")),
        start().put(&long, "1"),
        start().and_when(unchanged(&long, Version(1))),
        start().put("b", large),
        start().put("b", half.clone()).put("c", half),
        (0..MAX_WRITES).fold(start(), |transaction, number| transaction.put(format!("b/{number}"), "1")),
        (0..MAX_WRITES).fold(start(), |transaction, number| transaction.and_when(absent(&format!("b/{number}")))),
    ];
    for transaction in refused {
        let outcome = subject.store.commit(transaction).await;
        assert!(matches!(outcome, Err(Error::TooLarge(_))), "{outcome:?}");
    }
    for twice in [start().put("a", "2"), start().put("b", "1").delete("b")] {
        assert!(matches!(subject.store.commit(twice).await, Err(Error::WrittenTwice(_))));
    }
    assert_eq!(subject.keys(Range::all("")).await, Vec::<String>::new());
}

pub(super) async fn what_is_just_within_the_limits_is_taken(mut subject: Subject) {
    let key = "k".repeat(MAX_KEY_BYTES);
    let value = Bytes::from(vec![7; MAX_VALUE_BYTES]);
    subject.committed(Transaction::when(absent(&key)).put(&key, value.clone())).await;
    let many = (0..MAX_WRITES).fold(Transaction::when(absent("m/0")), |transaction, number| {
        transaction.put(format!("m/{number:02}"), Bytes::from(vec![7; MAX_TRANSACTION_BYTES / MAX_WRITES - 4]))
    });
    subject.committed(many).await;
    subject.reopen().await;
    assert_eq!(subject.get(&key).await.unwrap().value, value);
    assert_eq!(subject.keys(Range::all("m/")).await.len(), MAX_WRITES);
}

pub(super) async fn a_wake_up_covers_what_was_acknowledged(subject: Subject) {
    let mut changes = subject.store.changes();
    for number in 0..5 {
        changes.mark_unchanged();
        let version = subject.put("a", &number.to_string()).await;
        changes.changed().await.unwrap();
        assert!(*changes.borrow() >= version);
        assert_eq!(subject.get("a").await.unwrap().value, number.to_string(), "it comes after the commit");
    }
    assert!(*subject.store.changes().borrow() >= *changes.borrow(), "who asks later knows as much");
}

pub(super) async fn the_epoch_stays(mut subject: Subject) {
    let epoch = subject.store.epoch().to_owned();
    assert!((1..=64).contains(&epoch.len()), "{epoch}");
    assert!(epoch.chars().all(|c| matches!(c, 'a'..='z' | '0'..='9' | '-')), "{epoch}");
    subject.put("a", "1").await;
    subject.store.compact().await.unwrap();
    subject.reopen().await;
    assert_eq!(subject.store.epoch(), epoch);
}

pub(super) async fn compaction_changes_nothing_that_can_be_read(subject: Subject) {
    for number in 0..30 {
        subject.put(&format!("a/{number:02}"), &"x".repeat(5_000)).await;
    }
    for number in (0..30).step_by(2) {
        let key = format!("a/{number:02}");
        let version = subject.get(&key).await.unwrap().version;
        subject.committed(Transaction::when(unchanged(&key, version)).delete(&key)).await;
    }
    let before = subject.store.list(Range::all("")).await.unwrap();
    assert_eq!(before.len(), 15);
    subject.store.compact().await.unwrap();
    assert_eq!(subject.store.list(Range::all("")).await.unwrap(), before);
    let last = before.iter().map(|entry| entry.version).max().unwrap();
    assert!(subject.put("a/00", "1").await > last);
}

pub(super) async fn a_lease_that_is_not_kept_ends_and_wakes(subject: Subject) {
    let stays = subject.put("b", "1").await;
    let lease = subject.store.grant(Duration::from_secs(10)).await.unwrap();
    let put = Transaction::when(absent("a/1")).put_leased("a/1", "1", lease).put_leased("a/2", "1", lease);
    let version = subject.committed(put).await;
    let mut changes = subject.store.changes();
    changes.mark_unchanged();
    tokio::time::advance(Duration::from_millis(9_900)).await;
    assert_eq!(subject.keys(Range::all("")).await, ["a/1", "a/2", "b"]);
    changes.changed().await.unwrap();
    let woken = *changes.borrow();
    assert!(woken > version);
    assert_eq!(subject.keys(Range::all("")).await, ["b"], "both went in one transaction");
    assert_eq!(subject.get("b").await.unwrap().version, stays);
    assert!(matches!(subject.store.keep(lease).await, Err(Error::LeaseOver)));
    let late = Transaction::when(absent("a/1")).put_leased("a/1", "1", lease);
    assert!(matches!(subject.store.commit(late).await, Err(Error::LeaseOver)));
    subject.store.revoke(lease).await.unwrap();
    assert_eq!(*subject.store.changes().borrow(), woken);
}

pub(super) async fn a_lease_that_is_kept_goes_on(subject: Subject) {
    let lease = subject.store.grant(Duration::from_secs(10)).await.unwrap();
    subject.committed(Transaction::when(absent("a")).put_leased("a", "1", lease)).await;
    for _ in 0..5 {
        tokio::time::advance(Duration::from_secs(9)).await;
        subject.store.keep(lease).await.unwrap();
        assert!(subject.get("a").await.is_some());
    }
    let mut changes = subject.store.changes();
    changes.mark_unchanged();
    changes.changed().await.unwrap();
    assert_eq!(subject.get("a").await, None);
}

pub(super) async fn a_revoked_lease_takes_its_keys_along_in_one_transaction(subject: Subject) {
    let (lease, other) = (
        subject.store.grant(Duration::from_secs(60)).await.unwrap(),
        subject.store.grant(Duration::from_secs(60)).await.unwrap(),
    );
    assert_ne!(lease, other);
    let put = Transaction::when(absent("a"));
    let version = subject
        .committed(put.put_leased("a", "1", lease).put_leased("b", "1", lease).put_leased("c", "1", other))
        .await;
    subject.store.revoke(lease).await.unwrap();
    assert_eq!(subject.keys(Range::all("")).await, ["c"]);
    assert!(*subject.store.changes().borrow() > version, "it wakes");
    assert!(matches!(subject.store.keep(lease).await, Err(Error::LeaseOver)));
    subject.store.keep(other).await.unwrap();
    subject.store.revoke(lease).await.unwrap();
    subject.store.revoke(Lease(u64::MAX)).await.unwrap();
}

pub(super) async fn a_key_put_anew_goes_with_the_lease_of_its_last_put(subject: Subject) {
    let (first, second) = (
        subject.store.grant(Duration::from_secs(60)).await.unwrap(),
        subject.store.grant(Duration::from_secs(60)).await.unwrap(),
    );
    for key in ["stays", "moves", "deleted"] {
        subject.committed(Transaction::when(absent(key)).put_leased(key, "1", first)).await;
    }
    let version = async |key| subject.get(key).await.unwrap().version;
    subject.put("stays", "2").await;
    let moves = Transaction::when(unchanged("moves", version("moves").await)).put_leased("moves", "2", second);
    subject.committed(moves).await;
    subject.committed(Transaction::when(unchanged("deleted", version("deleted").await)).delete("deleted")).await;
    subject.put("deleted", "2").await;
    subject.store.revoke(first).await.unwrap();
    assert_eq!(subject.keys(Range::all("")).await, ["deleted", "moves", "stays"]);
    subject.store.revoke(second).await.unwrap();
    assert_eq!(subject.keys(Range::all("")).await, ["deleted", "stays"]);
}

pub(super) async fn leased_keys_do_not_outlive_the_process(mut subject: Subject) {
    for number in 0..2 {
        let lease = subject.store.grant(Duration::from_secs(60)).await.unwrap();
        let key = format!("a/{number}");
        subject
            .committed(Transaction::when(absent(&key)).put_leased(&key, "1", lease).put(format!("b{key}"), "1"))
            .await;
    }
    let before = *subject.store.changes().borrow();
    if subject.reopen().await {
        assert_eq!(subject.keys(Range::all("")).await, ["ba/0", "ba/1"]);
        assert!(*subject.store.changes().borrow() > before, "each lease's end is a transaction");
    }
}

pub(super) async fn counting_from_many_tasks_loses_nothing(subject: Subject) {
    const TASKS: u64 = 8;
    const EACH: u64 = 15;
    subject.put("counter", "0").await;
    let tasks = (0..TASKS).map(|_| {
        let store = subject.store.clone();
        tokio::spawn(async move {
            let mut counted = 0;
            let mut last = Version::default();
            while counted < EACH {
                let entry = store.get("counter").await.unwrap().unwrap();
                assert!(entry.version >= last, "what was acknowledged is seen");
                let next = std::str::from_utf8(&entry.value).unwrap().parse::<u64>().unwrap() + 1;
                let add = Transaction::when(unchanged("counter", entry.version)).put("counter", next.to_string());
                if let Outcome::Committed(version) = store.commit(add).await.unwrap() {
                    (counted, last) = (counted + 1, version);
                }
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    assert_eq!(subject.get("counter").await.unwrap().value, (TASKS * EACH).to_string());
}

pub(super) async fn a_list_never_sees_half_a_transaction(subject: Subject) {
    let mut version = subject.committed(Transaction::when(absent("a")).put("a", "0").put("b", "0")).await;
    let store = subject.store.clone();
    let writing = tokio::spawn(async move {
        for number in 1..40 {
            let number = number.to_string();
            let put = Transaction::when(unchanged("a", version)).put("a", number.clone()).put("b", number);
            let Outcome::Committed(next) = store.commit(put).await.unwrap() else { panic!("a conflict") };
            version = next;
        }
    });
    while !writing.is_finished() {
        let found = subject.store.list(Range::all("")).await.unwrap();
        assert_eq!((&found[0].value, found[0].version), (&found[1].value, found[1].version));
        tokio::task::yield_now().await;
    }
    writing.await.unwrap();
}

/// One step of a random history. Keys are few, so that steps meet.
#[derive(Clone, Debug)]
enum Step {
    Commit { conditions: Vec<(u8, Guess)>, writes: BTreeMap<u8, Option<(u8, bool)>> },
    EndLease,
    List { after: u8, limit: usize, descending: bool },
}

#[derive(Clone, Copy, Debug)]
enum Guess {
    Absent,
    Current,
    Stale,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let guess = prop_oneof![1 => Just(Guess::Absent), 4 => Just(Guess::Current), 1 => Just(Guess::Stale)];
    let write = prop::option::weighted(0.7, (any::<u8>(), prop::bool::weighted(0.3)));
    let commit = (prop::collection::vec((0..5_u8, guess), 1..3), prop::collection::btree_map(0..5_u8, write, 0..4))
        .prop_map(|(conditions, writes)| Step::Commit { conditions, writes });
    let list = (0..6_u8, 0..4_usize, any::<bool>()).prop_map(|(after, limit, descending)| Step::List {
        after,
        limit,
        descending,
    });
    prop::collection::vec(prop_oneof![8 => commit, 1 => Just(Step::EndLease), 2 => list], 1..25)
}

pub(super) fn random_transactions_do_what_a_plain_map_does(subject: impl Future<Output = Subject>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let subject = runtime.block_on(subject);
    let mut runner = TestRunner::new(Config { cases: 60, failure_persistence: None, ..Config::default() });
    let cases = std::cell::Cell::new(0);
    let history = runner.run(&steps(), |steps| {
        // Each on keys of its own, so that all can have one store.
        cases.set(cases.get() + 1);
        runtime.block_on(replay(&*subject.store, &format!("{}/", cases.get()), steps));
        Ok(())
    });
    history.unwrap();
}

async fn replay(store: &dyn Store, prefix: &str, steps: Vec<Step>) {
    let key = |number: u8| format!("{prefix}{number}");
    let mut model: BTreeMap<String, (Bytes, Version, bool)> = BTreeMap::new();
    let mut lease = store.grant(Duration::from_secs(3600)).await.unwrap();
    let mut last = *store.changes().borrow();
    for step in steps {
        match step {
            Step::Commit { conditions, writes } => {
                let current = |number| model.get(&key(number)).map(|(_, version, _)| *version);
                let (mut holds, mut of) = (true, Vec::new());
                for (number, guess) in conditions {
                    let (condition, is_so) = match (guess, current(number)) {
                        (Guess::Absent, found) => (absent(&key(number)), found.is_none()),
                        (Guess::Current, Some(version)) => (unchanged(&key(number), version), true),
                        (Guess::Current, None) => (absent(&key(number)), true),
                        (Guess::Stale, found) => {
                            (unchanged(&key(number), Version(found.unwrap_or(last).0.wrapping_sub(1))), false)
                        }
                    };
                    holds &= is_so;
                    of.push(condition);
                }
                let mut transaction = Transaction { conditions: of, writes: Vec::new() };
                for (number, write) in &writes {
                    transaction = match *write {
                        Some((value, true)) => transaction.put_leased(key(*number), vec![value], lease),
                        Some((value, false)) => transaction.put(key(*number), vec![value]),
                        None => transaction.delete(key(*number)),
                    };
                }
                let changes = writes.iter().any(|(number, write)| write.is_some() || model.contains_key(&key(*number)));
                match store.commit(transaction).await.unwrap() {
                    Outcome::Conflict => assert!(!holds),
                    Outcome::Committed(version) => {
                        assert!(holds);
                        assert!(if changes { version > last } else { version == last });
                        last = version;
                        for (number, write) in writes {
                            match write {
                                Some((value, leased)) => {
                                    model.insert(key(number), (Bytes::from(vec![value]), version, leased));
                                }
                                None => drop(model.remove(&key(number))),
                            }
                        }
                    }
                }
            }
            Step::EndLease => {
                store.revoke(lease).await.unwrap();
                lease = store.grant(Duration::from_secs(3600)).await.unwrap();
                model.retain(|_, (_, _, leased)| !*leased);
                last = *store.changes().borrow();
            }
            Step::List { after, limit, descending } => {
                let after = if after == 5 { String::new() } else { key(after) };
                let range = Range { prefix: prefix.to_owned(), after: after.clone(), limit, descending };
                let mut expected: Vec<_> = model.keys().cloned().collect();
                if descending {
                    expected.reverse();
                }
                expected.retain(|key| after.is_empty() || if descending { *key < after } else { *key > after });
                expected.truncate(limit);
                let found: Vec<_> = store.list(range).await.unwrap().into_iter().map(|entry| entry.key).collect();
                assert_eq!(found, expected);
            }
        }
        let entry = |(key, (value, version, _)): (&String, &(Bytes, Version, bool))| Entry {
            key: key.clone(),
            value: value.clone(),
            version: *version,
        };
        let expected: Vec<Entry> = model.iter().map(entry).collect();
        assert_eq!(store.list(Range::all(prefix)).await.unwrap(), expected);
    }
    store.revoke(lease).await.unwrap();
}
