//! The file, and the store, with a trap in every call that changes something.

use std::{future::Future, io, ops::Bound, path::Path, pin::Pin, sync::Arc, time::Duration};

use redb::{BackendError, StorageBackend};
use tokio::sync::watch;

use super::{
    super::{Embedded, FileError, Options, room},
    point::{Call, Trap, When},
};
use crate::store::{Answer, Entry, Error, Lease, Outcome, Range, Store, Transaction, Version, Write};

/// Opens the store of a file with traps in it.
pub(super) fn open(path: &Path, trap: Arc<Trap>) -> Result<Trapped, FileError> {
    if !path.try_exists().unwrap() {
        super::super::copy::create(path)?;
    }
    let (opener, within) = (room::opener(path), trap.clone());
    let opener = Box::new(move || {
        let file = Disk { file: opener()?, trap: within.clone() };
        Ok(Box::new(file) as Box<dyn StorageBackend>)
    });
    Ok(Trapped { store: Embedded::open_on(path, opener, Options::default())?, trap })
}

#[derive(Debug)]
struct Disk {
    file: Box<dyn StorageBackend>,
    trap: Arc<Trap>,
}

impl Disk {
    fn trapped(&self, call: Call, work: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        match self.trap.count(call) {
            None => work(),
            Some(When::Before | When::Within) => self.trap.stop(),
            Some(When::After) => {
                work()?;
                self.trap.stop()
            }
        }
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.trapped(Call::Length, || self.file.set_len(length))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.trapped(Call::Sync, || self.file.sync_data())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let when = self.trap.count(Call::Write);
        match when {
            Some(When::Before) => {}
            Some(When::Within) => self.file.write(offset, &data[..data.len() / 2])?,
            Some(When::After) | None => self.file.write(offset, data)?,
        }
        if when.is_some() { self.trap.stop() } else { Ok(()) }
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.query_lock_range(start, end)
    }
}

/// A store with a trap before and after each transaction.
#[derive(Debug)]
pub(super) struct Trapped {
    store: Embedded,
    trap: Arc<Trap>,
}

impl Store for Trapped {
    fn epoch(&self) -> &str {
        self.store.epoch()
    }

    fn get<'a>(&'a self, key: &'a str) -> Answer<'a, Option<Entry>> {
        self.store.get(key)
    }

    fn list(&self, range: Range) -> Answer<'_, Vec<Entry>> {
        self.store.list(range)
    }

    fn commit(&self, transaction: Transaction) -> Pin<Box<dyn Future<Output = Result<Outcome, Error>> + Send + '_>> {
        Box::pin(async move {
            let is_chunk = |write: &Write| matches!(write, Write::Put { key, .. } if key.starts_with("chunk/"));
            if transaction.writes().iter().all(is_chunk) {
                self.trap.large();
            }
            let when = self.trap.count(Call::Commit);
            if when == Some(When::Before) {
                self.trap.stop_here().await;
            }
            let outcome = self.store.commit(transaction).await;
            if when.is_some() {
                self.trap.stop_here().await;
            }
            outcome
        })
    }

    fn changes(&self) -> watch::Receiver<Version> {
        self.store.changes()
    }

    fn grant(&self, time_to_live: Duration) -> Answer<'_, Lease> {
        self.store.grant(time_to_live)
    }

    fn keep(&self, lease: Lease) -> Answer<'_, ()> {
        self.store.keep(lease)
    }

    fn revoke(&self, lease: Lease) -> Answer<'_, ()> {
        self.store.revoke(lease)
    }

    fn compact(&self) -> Answer<'_, ()> {
        self.store.compact()
    }
}
