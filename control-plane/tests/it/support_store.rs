//! A store in memory that gives way to others at every call, so that what happens at the same time really does, and that
//! can fail.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use switchtower_control_plane::store::{
    Answer, Entry, Error, Lease, Outcome, Range, Store, Transaction, Version, memory::Memory,
};
use tokio::sync::watch;

/// How a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// It did not happen.
    Before,
    /// It happened, and nobody was told.
    After,
}

/// The store.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    inner: Memory,
    calls: AtomicUsize,
    conflicts: AtomicUsize,
    failing: Mutex<Option<(usize, Failure)>>,
}

impl Shared {
    /// The call that is `nth` from now on, from 0, fails so.
    pub(crate) fn fail(&self, nth: usize, failure: Failure) {
        *self.failing.lock().unwrap() = Some((self.calls() + nth, failure));
    }

    /// No call fails.
    pub(crate) fn heal(&self) {
        *self.failing.lock().unwrap() = None;
    }

    /// How many calls there were.
    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    /// How many commits found that a condition did not hold.
    pub(crate) fn conflicts(&self) -> usize {
        self.conflicts.load(Ordering::SeqCst)
    }

    /// All that is stored.
    pub(crate) async fn all(&self) -> Vec<Entry> {
        self.inner.list(Range::all("")).await.unwrap()
    }

    /// The version of the last change.
    pub(crate) fn version(&self) -> Version {
        *self.inner.changes().borrow()
    }

    /// Puts other bytes in the place of a value, as a damaged disk would.
    pub(crate) async fn damage(&self, key: &str, change: impl FnOnce(&mut Vec<u8>)) {
        use switchtower_control_plane::store::Condition;
        let entry = self.inner.get(key).await.unwrap().unwrap();
        let mut value = entry.value.to_vec();
        change(&mut value);
        let transaction = Transaction::when(Condition::Unchanged(key.to_owned(), entry.version)).put(key, value);
        assert!(matches!(self.inner.commit(transaction).await, Ok(Outcome::Committed(_))));
    }

    async fn call<T>(&self, call: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        tokio::task::yield_now().await;
        let number = self.calls.fetch_add(1, Ordering::SeqCst);
        let failure = self.failing.lock().unwrap().filter(|(at, _)| *at == number).map(|(_, failure)| failure);
        let failed = || Error::Unavailable("the test wants it".into());
        match failure {
            Some(Failure::Before) => Err(failed()),
            Some(Failure::After) => {
                call.await?;
                Err(failed())
            }
            None => call.await,
        }
    }
}

impl Store for Shared {
    fn epoch(&self) -> &str {
        self.inner.epoch()
    }

    fn get<'a>(&'a self, key: &'a str) -> Answer<'a, Option<Entry>> {
        Box::pin(self.call(self.inner.get(key)))
    }

    fn list(&self, range: Range) -> Answer<'_, Vec<Entry>> {
        Box::pin(self.call(self.inner.list(range)))
    }

    fn commit(&self, transaction: Transaction) -> Answer<'_, Outcome> {
        Box::pin(async move {
            let outcome = self.call(self.inner.commit(transaction)).await;
            self.conflicts.fetch_add(usize::from(matches!(outcome, Ok(Outcome::Conflict))), Ordering::SeqCst);
            outcome
        })
    }

    fn changes(&self) -> watch::Receiver<Version> {
        self.inner.changes()
    }

    fn grant(&self, time_to_live: Duration) -> Answer<'_, Lease> {
        self.inner.grant(time_to_live)
    }

    fn keep(&self, lease: Lease) -> Answer<'_, ()> {
        self.inner.keep(lease)
    }

    fn revoke(&self, lease: Lease) -> Answer<'_, ()> {
        self.inner.revoke(lease)
    }

    fn compact(&self) -> Answer<'_, ()> {
        self.inner.compact()
    }
}
