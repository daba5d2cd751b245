//! A store in memory: for tests, and to try things without a file. What it holds ends with it.
//!
//! It is written to be seen through, not to be fast: the other stores are compared with it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep_until},
};
use tokio_util::task::AbortOnDropHandle;

use super::{
    Answer, Condition, Entry, Error, Lease, Outcome, Range, Store, Transaction, Version, Write, check::check,
    leases::Leases,
};

/// A store in memory.
#[derive(Debug)]
pub struct Memory {
    epoch: String,
    shared: Arc<Shared>,
    /// Ends leases. Begun with the first one: until then nothing needs a runtime.
    sweeper: OnceLock<AbortOnDropHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    held: Mutex<Held>,
    changes: watch::Sender<Version>,
    /// A lease was granted or kept: the sweeper looks anew which is due first.
    leases_changed: Notify,
}

#[derive(Debug, Default)]
struct Held {
    version: Version,
    entries: BTreeMap<String, Stored>,
    leases: Leases,
}

#[derive(Debug)]
struct Stored {
    value: Bytes,
    version: Version,
    lease: Option<Lease>,
}

impl Memory {
    /// An empty store, of an epoch of its own.
    #[must_use]
    pub fn new() -> Self {
        let shared = Shared {
            held: Mutex::default(),
            changes: watch::Sender::new(Version::default()),
            leases_changed: Notify::new(),
        };
        Memory {
            epoch: format!("memory-{:016x}", fastrand::u64(..)),
            shared: Arc::new(shared),
            sweeper: OnceLock::new(),
        }
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

impl Store for Memory {
    fn epoch(&self) -> &str {
        &self.epoch
    }

    fn get<'a>(&'a self, key: &'a str) -> Answer<'a, Option<Entry>> {
        Box::pin(async move { Ok(self.shared.lock().entries.get(key).map(|stored| stored.entry(key))) })
    }

    fn list(&self, range: Range) -> Answer<'_, Vec<Entry>> {
        Box::pin(async move { Ok(self.shared.lock().list(&range)) })
    }

    fn commit(&self, transaction: Transaction) -> Answer<'_, Outcome> {
        Box::pin(async move {
            check(&transaction)?;
            self.shared.change(|held| held.commit(Instant::now(), &transaction))
        })
    }

    fn changes(&self) -> watch::Receiver<Version> {
        self.shared.changes.subscribe()
    }

    fn grant(&self, time_to_live: Duration) -> Answer<'_, Lease> {
        Box::pin(async move {
            self.sweeper
                .get_or_init(|| AbortOnDropHandle::new(tokio::spawn(Shared::end_due_leases(self.shared.clone()))));
            let lease = self.shared.lock().leases.grant(Instant::now(), time_to_live);
            self.shared.leases_changed.notify_one();
            Ok(lease)
        })
    }

    fn keep(&self, lease: Lease) -> Answer<'_, ()> {
        Box::pin(async move {
            let kept = self.shared.lock().leases.keep(Instant::now(), lease);
            if kept { Ok(()) } else { Err(Error::LeaseOver) }
        })
    }

    fn revoke(&self, lease: Lease) -> Answer<'_, ()> {
        Box::pin(async move {
            self.shared.change(|held| held.end(lease));
            Ok(())
        })
    }

    fn compact(&self) -> Answer<'_, ()> {
        // A map gives back what is removed by itself.
        Box::pin(async { Ok(()) })
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Held> {
        // Nothing under the lock panics half-way through a change.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what is held, and wakes whoever waits if the version went up.
    fn change<T>(&self, change: impl FnOnce(&mut Held) -> T) -> T {
        let mut held = self.lock();
        let answer = change(&mut held);
        let version = held.version;
        // Under the lock, or two changes could be told of in the wrong order.
        self.changes.send_if_modified(|told| std::mem::replace(told, version) < version);
        answer
    }

    async fn end_due_leases(self: Arc<Self>) {
        loop {
            let next = self.lock().leases.next_due();
            tokio::select! {
                () = self.leases_changed.notified() => {}
                () = async { sleep_until(next.unwrap_or_else(Instant::now)).await }, if next.is_some() => {
                    let due = self.lock().leases.take_due(Instant::now());
                    for lease in due {
                        self.change(|held| held.end(lease));
                    }
                }
            }
        }
    }
}

impl Held {
    fn list(&self, range: &Range) -> Vec<Entry> {
        let after = |key: &str| match range.after.as_str() {
            "" => true,
            after if range.descending => key < after,
            after => key > after,
        };
        let all = self.entries.range(range.prefix.clone()..);
        let chosen = all.take_while(|(key, _)| key.starts_with(&range.prefix)).filter(|(key, _)| after(key));
        let entry = |(key, stored): (&String, &Stored)| stored.entry(key);
        if range.descending {
            let chosen: Vec<_> = chosen.collect();
            chosen.into_iter().rev().take(range.limit).map(entry).collect()
        } else {
            chosen.take(range.limit).map(entry).collect()
        }
    }

    fn commit(&mut self, now: Instant, transaction: &Transaction) -> Result<Outcome, Error> {
        if !transaction.conditions().iter().all(|condition| self.holds(condition)) {
            return Ok(Outcome::Conflict);
        }
        for write in transaction.writes() {
            if let Write::Put { lease: Some(lease), .. } = write
                && !self.leases.holds(now, *lease)
            {
                return Err(Error::LeaseOver);
            }
        }
        let version = Version(self.version.0 + 1);
        let mut changed = false;
        for write in transaction.writes() {
            changed |= match write {
                Write::Put { key, value, lease } => {
                    let stored = Stored { value: value.clone(), version, lease: *lease };
                    self.entries.insert(key.clone(), stored);
                    true
                }
                Write::Delete(key) => self.entries.remove(key).is_some(),
            };
        }
        if changed {
            self.version = version;
        }
        Ok(Outcome::Committed(self.version))
    }

    fn holds(&self, condition: &Condition) -> bool {
        match condition {
            Condition::Absent(key) => !self.entries.contains_key(key),
            Condition::Unchanged(key, version) => {
                self.entries.get(key).is_some_and(|stored| stored.version == *version)
            }
        }
    }

    fn end(&mut self, lease: Lease) {
        self.leases.end(lease);
        let before = self.entries.len();
        self.entries.retain(|_, stored| stored.lease != Some(lease));
        if self.entries.len() < before {
            self.version.0 += 1;
        }
    }
}

impl Stored {
    fn entry(&self, key: &str) -> Entry {
        Entry { key: key.to_owned(), value: self.value.clone(), version: self.version }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::contract::Subject, *};

    async fn memory() -> Subject {
        Subject::new(Arc::new(Memory::new()))
    }

    contract!(memory);
}
