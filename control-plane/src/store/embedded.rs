//! A store in one file, on this machine: what a control plane has when nobody set up another.
//!
//! The file is redb's: pages that are never overwritten while in use, two headers of which one is valid, checksums over all.
//! It is this process's alone. Around it:
//!
//! - [`writer`]: one task that takes transactions in order and makes those that wait durable together, because the disk's
//!   answer takes longer than all else.
//! - [`handle`]: the open database, which is closed, written anew and verified after a disk failed it, before anything else
//!   is told of it.
//! - [`room`]: the file, with its room on the disk taken before it is used, so that a full disk is a refusal and not a
//!   half-written page.
//! - [`tables`]: what is in the file, and what a transaction does to it.
//! - [`copy`]: files that appear whole or not at all: a new store, a backup, a backup restored.

pub mod error;

mod copy;
#[cfg(test)]
mod crash;
mod handle;
mod problem;
mod room;
mod tables;
mod writer;

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Notify, mpsc, oneshot, watch},
    task::spawn_blocking,
    time::Instant,
};

pub use self::error::Error as FileError;
use self::{
    handle::{Handle, Opener},
    problem::Problem,
    writer::Order,
};
use super::{
    Answer, Entry, Error, Lease, Outcome, Range, Store, Transaction, Version, check::check, leases::Leases,
};

/// What can be chosen about an embedded store.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Memory for pages of the file, in bytes. More than the file has is not used.
    pub cache_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        // A control plane's whole intent, in most places.
        Options { cache_bytes: 64 << 20 }
    }
}

/// A store in one file.
#[derive(Debug)]
pub struct Embedded {
    shared: Arc<Shared>,
    orders: mpsc::Sender<Order>,
}

/// What the store and its writer share.
#[derive(Debug)]
struct Shared {
    handle: Handle,
    changes: watch::Sender<Version>,
    leases: Mutex<Leases>,
    /// A lease was granted or kept: the writer looks anew which is due first.
    leases_changed: Notify,
}

impl Embedded {
    /// Opens the store of a file, which is made if it is not there. Reads all of the file to verify it, and deletes what
    /// was put under leases, as the process that granted them is gone. It blocks for as long as that takes.
    ///
    /// # Errors
    /// See [`FileError`]: each says what to do.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn open(path: &Path, options: Options) -> Result<Self, FileError> {
        if !path.try_exists().map_err(|source| FileError::io(path, "looked for", source))? {
            copy::create(path)?;
        }
        Self::open_on(path, room::opener(path), options)
    }

    fn open_on(path: &Path, opener: Opener, options: Options) -> Result<Self, FileError> {
        let (handle, version) = Handle::open(path, opener, options.cache_bytes)?;
        let shared = Arc::new(Shared {
            handle,
            changes: watch::Sender::new(version),
            leases: Mutex::default(),
            leases_changed: Notify::new(),
        });
        let (orders, receiver) = mpsc::channel(writer::MOST_WAITING);
        tokio::spawn(writer::run(shared.clone(), receiver));
        Ok(Embedded { shared, orders })
    }

    /// Writes what is held at one version to a new file, while the store goes on. The file appears when it is whole; it is
    /// a backup, which is opened only after [`Embedded::restore`].
    ///
    /// # Errors
    /// Where the file is there already, or cannot be written.
    pub async fn backup(&self, to: &Path) -> Result<(), FileError> {
        let (shared, to) = (self.shared.clone(), to.to_owned());
        let done = spawn_blocking(move || copy::backup(&shared.handle, &to)).await;
        done.unwrap_or_else(|panicked| Err(FileError::Stopped(panicked.to_string())))
    }

    /// Makes a store of a backup, or of a copy of a store's file that was taken while no process had it open or at one
    /// instant (a snapshot of its disk). It gets an epoch of its own. It blocks for as long as it takes.
    ///
    /// # Errors
    /// Where there is a file already, or the backup is not one or is damaged.
    pub fn restore(backup: &Path, to: &Path) -> Result<(), FileError> {
        copy::restore(backup, to)
    }

    /// Finishes what was begun, and gives the file free. After it every call is [`Error::Unavailable`]. A store that is
    /// dropped instead does the same, a little later.
    pub async fn close(&self) {
        // An answer that does not come is a writer that is gone, and the file with it.
        let _ = self.ask(Order::Close).await;
    }

    async fn ask<T>(&self, order: impl FnOnce(oneshot::Sender<Result<T, Error>>) -> Order) -> Result<T, Error> {
        let (answer, answered) = oneshot::channel();
        let closed = || Error::Unavailable("the store was closed".into());
        self.orders.send(order(answer)).await.map_err(|_| closed())?;
        answered.await.unwrap_or_else(|_| Err(Error::Unavailable("the writer stopped before it answered".into())))
    }
}

impl Store for Embedded {
    fn epoch(&self) -> &str {
        self.shared.handle.epoch()
    }

    fn get<'a>(&'a self, key: &'a str) -> Answer<'a, Option<Entry>> {
        Box::pin(async move {
            // A few pages, nearly always in memory: less than the way to another thread and back.
            if let Some(answer) = self.shared.handle.read_if_free(|read| tables::get(read, key)) {
                return Ok(answer);
            }
            let key = key.to_owned();
            self.shared.read(move |read| tables::get(read, &key)).await
        })
    }

    fn list(&self, range: Range) -> Answer<'_, Vec<Entry>> {
        Box::pin(self.shared.read(move |read| tables::list(read, &range)))
    }

    fn commit(&self, transaction: Transaction) -> Answer<'_, Outcome> {
        Box::pin(async move {
            check(&transaction)?;
            self.ask(|answer| Order::Commit { transaction, answer }).await
        })
    }

    fn changes(&self) -> watch::Receiver<Version> {
        self.shared.changes.subscribe()
    }

    fn grant(&self, time_to_live: Duration) -> Answer<'_, Lease> {
        Box::pin(async move {
            let lease = self.shared.with_leases(|leases| leases.grant(Instant::now(), time_to_live));
            self.shared.leases_changed.notify_one();
            Ok(lease)
        })
    }

    fn keep(&self, lease: Lease) -> Answer<'_, ()> {
        Box::pin(async move {
            let kept = self.shared.with_leases(|leases| leases.keep(Instant::now(), lease));
            if kept { Ok(()) } else { Err(Error::LeaseOver) }
        })
    }

    fn revoke(&self, lease: Lease) -> Answer<'_, ()> {
        Box::pin(self.ask(move |answer| Order::Revoke { lease, answer }))
    }

    fn compact(&self) -> Answer<'_, ()> {
        Box::pin(self.ask(Order::Compact))
    }
}

impl Shared {
    fn with_leases<T>(&self, change: impl FnOnce(&mut Leases) -> T) -> T {
        // Nothing under the lock panics half-way through a change.
        change(&mut self.leases.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads on a thread that may wait for the disk.
    async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl Fn(&redb::ReadTransaction) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Error> {
        let shared = self.clone();
        let done = spawn_blocking(move || shared.handle.read(read)).await;
        done.map_err(|panicked| Error::Unavailable(panicked.into()))?.map_err(Error::from)
    }
}
