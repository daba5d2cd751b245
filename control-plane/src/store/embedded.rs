//! A store in one file, on this machine: what a control plane has when nobody set up another.
//!
//! The file is redb's: pages that are never overwritten while in use, two headers of which one is valid, checksums over all.
//! It is this process's alone. Around it:
//!
//! - `writer`: one task that takes transactions in order and makes those that wait durable together, because the disk's
//!   answer takes longer than all else.
//! - `handle`: the open database, which is closed, written anew and verified after a disk failed it, before anything else
//!   is told of it.
//! - `room`: the file, with its room on the disk taken before it is used, so that a full disk is a refusal and not a
//!   half-written page.
//! - `tables`: what is in the file, and what a transaction does to it.
//! - `copy`: files that appear whole or not at all: a new store, a backup, a backup restored.

pub mod error;

mod copy;
#[cfg(test)]
mod crash;
mod handle;
#[cfg(test)]
mod kills;
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
use super::{Answer, Entry, Error, Lease, Outcome, Range, Store, Transaction, Version, check::check, leases::Leases};

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
        room::take_whole(path).map_err(|source| match source.kind() {
            std::io::ErrorKind::WouldBlock => FileError::InUse(path.to_owned()),
            _ => FileError::io(path, "given the room on the disk that it needs", source),
        })?;
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

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt},
        sync::Arc,
    };

    use bytes::Bytes;
    use tempfile::TempDir;

    use super::{super::contract::Subject, *};
    use crate::store::Condition;

    async fn embedded() -> Subject {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let open =
            |folder: &TempDir| Arc::new(Embedded::open(&folder.path().join("store"), Options::default()).unwrap());
        let first = open(&folder);
        let current = Arc::new(Mutex::new(first.clone()));
        Subject::new(first).reopening(Box::new(move || {
            let (folder, current) = (folder.clone(), current.clone());
            Box::pin(async move {
                let last = current.lock().unwrap().clone();
                last.close().await;
                let next = open(&folder);
                *current.lock().unwrap() = next.clone();
                next as Arc<dyn Store>
            })
        }))
    }

    contract!(embedded);

    async fn put(store: &Embedded, key: &str, value: impl Into<Bytes>) -> Result<Outcome, Error> {
        store.commit(Transaction::when(Condition::Absent(key.to_owned())).put(key, value)).await
    }

    fn open(path: &Path) -> Result<Embedded, FileError> {
        Embedded::open(path, Options::default())
    }

    #[tokio::test]
    async fn a_file_belongs_to_one_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        let store = open(&path).unwrap();
        let refused = open(&path).unwrap_err();
        assert!(matches!(refused, FileError::InUse(_)), "{refused:?}");
        assert!(refused.to_string().contains("is in use by another process"), "{refused}");
        let copied = Embedded::restore(&path, &folder.path().join("other")).unwrap_err();
        assert!(matches!(copied, FileError::InUse(_)), "{copied:?}");
        store.close().await;
        assert!(matches!(store.get("a").await, Err(Error::Unavailable(_))));
        assert!(matches!(put(&store, "a", "1").await, Err(Error::Unavailable(_))));
        open(&path).unwrap();
    }

    #[tokio::test]
    async fn a_file_of_something_else_is_refused_and_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let check = |expected: fn(&FileError) -> bool| {
            let before = fs::read(&path).unwrap();
            let refused = open(&path).unwrap_err();
            assert!(expected(&refused), "{refused:?}");
            before
        };
        fs::write(&path, "version: 1\nroutes: []\n".repeat(100)).unwrap();
        let before = check(|error| matches!(error, FileError::Foreign { .. }));
        assert_eq!(fs::read(&path).unwrap(), before);
        fs::remove_file(&path).unwrap();
        let other = redb::Database::create(&path).unwrap();
        other.close().unwrap();
        check(|error| matches!(error, FileError::Foreign { .. }));
        fs::remove_file(&path).unwrap();
        open(&path).unwrap().close().await;
        let newer = redb::Database::open(&path).unwrap();
        let write = newer.begin_write().unwrap();
        tables::write_format(&write, tables::FORMAT + 1).unwrap();
        write.commit().unwrap();
        newer.close().unwrap();
        check(|error| matches!(error, FileError::Newer { found: 2, known: 1, .. }));
        let missing = open(&folder.path().join("no/such/folder")).unwrap_err();
        assert!(matches!(missing, FileError::Io { .. }), "{missing:?}");
    }

    #[tokio::test]
    async fn a_file_that_was_changed_by_others_is_found_damaged() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        let store = open(&path).unwrap();
        let value = vec![0xa5; 100_000];
        put(&store, "a", value.clone()).await.unwrap();
        store.close().await;
        let mut bytes = fs::read(&path).unwrap();
        let at = bytes.windows(1_000).position(|window| window == &value[..1_000]).unwrap();
        bytes[at + 500] ^= 1;
        fs::write(&path, &bytes).unwrap();
        let refused = open(&path).unwrap_err();
        assert!(matches!(refused, FileError::Damaged { .. }), "{refused:?}");
    }

    #[tokio::test]
    async fn a_backup_of_a_running_store_is_restored_with_an_epoch_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let store = open(&at("store")).unwrap();
        put(&store, "a", "1").await.unwrap();
        let lease = store.grant(Duration::from_secs(60)).await.unwrap();
        let leased = Transaction::when(Condition::Absent("l".to_owned())).put_leased("l", "1", lease);
        store.commit(leased).await.unwrap();
        store.backup(&at("backup")).await.unwrap();
        let before = *store.changes().borrow();
        put(&store, "b", "1").await.unwrap();

        assert!(matches!(store.backup(&at("backup")).await, Err(FileError::Exists(_))));
        assert!(matches!(store.backup(&at("store")).await, Err(FileError::Exists(_))));
        assert!(matches!(open(&at("backup")), Err(FileError::Backup(_))));
        assert!(matches!(Embedded::restore(&at("backup"), &at("store")), Err(FileError::Exists(_))));
        Embedded::restore(&at("backup"), &at("restored")).unwrap();
        let restored = open(&at("restored")).unwrap();
        assert_ne!(restored.epoch(), store.epoch());
        let keys: Vec<_> = restored.list(Range::all("")).await.unwrap().into_iter().map(|entry| entry.key).collect();
        assert_eq!(keys, ["a"], "what was under a lease of the other is gone");
        assert!(*restored.changes().borrow() > before);
        let mut files: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
        files.sort();
        assert_eq!(files, ["backup", "restored", "store"], "nothing half-written is left");
    }

    #[tokio::test]
    async fn a_copy_of_a_store_that_was_never_closed_is_restored() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let store = open(&at("store")).unwrap();
        put(&store, "a", "1").await.unwrap();
        fs::copy(at("store"), at("snapshot")).unwrap();
        Embedded::restore(&at("snapshot"), &at("restored")).unwrap();
        let restored = open(&at("restored")).unwrap();
        assert!(restored.get("a").await.unwrap().is_some());
        assert_ne!(restored.epoch(), store.epoch());
    }

    /// Whether the file has the room that its length says, and is its owner's alone.
    fn check_room_and_mode(path: &Path) {
        let metadata = fs::metadata(path).unwrap();
        assert!(metadata.blocks() * 512 >= metadata.len(), "{} has holes", path.display());
        assert_eq!(metadata.mode() & 0o777, 0o600, "{}", path.display());
    }

    #[tokio::test]
    async fn a_store_a_backup_and_what_is_restored_have_their_room_and_are_the_owner_s_alone() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let store = open(&at("store")).unwrap();
        check_room_and_mode(&at("store"));
        put(&store, "a", "1").await.unwrap();
        store.backup(&at("backup")).await.unwrap();
        check_room_and_mode(&at("backup"));
        fs::set_permissions(at("backup"), fs::Permissions::from_mode(0o644)).unwrap();
        Embedded::restore(&at("backup"), &at("restored")).unwrap();
        check_room_and_mode(&at("restored"));
    }

    #[tokio::test]
    async fn a_copy_with_holes_is_given_its_room_when_it_is_opened() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let store = open(&at("store")).unwrap();
        put(&store, "a", vec![0; 100_000]).await.unwrap();
        store.close().await;
        let whole = fs::read(at("store")).unwrap();
        let sparse = fs::File::options().write(true).create_new(true).mode(0o600).open(at("sparse")).unwrap();
        sparse.set_len(whole.len() as u64).unwrap();
        for (number, page) in whole.chunks(4096).enumerate().filter(|(_, page)| page.iter().any(|byte| *byte != 0)) {
            sparse.write_all_at(page, number as u64 * 4096).unwrap();
        }
        let metadata = sparse.metadata().unwrap();
        assert!(metadata.blocks() * 512 < metadata.len(), "or nothing is tested");
        let store = open(&at("sparse")).unwrap();
        check_room_and_mode(&at("sparse"));
        assert!(store.get("a").await.unwrap().is_some());
        assert!(matches!(open(&at("sparse")), Err(FileError::InUse(_))));
    }

    #[tokio::test]
    async fn what_waits_when_a_store_closes_is_carried_out_first() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        let store = Arc::new(open(&path).unwrap());
        let keys: Vec<_> = (0..20).map(|number| format!("a/{number}")).collect();
        let puts = futures_util::future::join_all(keys.iter().map(|key| put(&store, key, "1")));
        let (outcomes, ()) = tokio::join!(puts, store.close());
        assert!(outcomes.iter().all(|outcome| matches!(outcome, Ok(Outcome::Committed(_)))));
        assert_eq!(open(&path).unwrap().list(Range::all("")).await.unwrap().len(), 20);
    }
}
