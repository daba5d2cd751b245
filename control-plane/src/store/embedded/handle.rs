//! The open database, and what is done when the disk failed it.
//!
//! After any failure of its file the database refuses everything until it is opened anew: what it holds in memory and what
//! is on the disk may differ. Opening anew decides what happened: a transaction whose commit failed is there whole, or is
//! not there. So nobody reads or commits in between, and nobody is told of a failure before it is decided, or before
//! everybody else is refused, too. That is how "never later than the failure was told" is kept.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, TryLockError,
        atomic::{AtomicU64, Ordering},
    },
};

use redb::{Builder, Database, ReadTransaction, ReadableDatabase, StorageBackend, WriteTransaction};

use super::{
    error::Error as FileError,
    problem::Problem,
    room::{Attached, Room, Troubles},
    tables,
};
use crate::store::Version;

/// Opens the file under the database, each time anew.
pub(super) type Opener = Box<dyn Fn() -> io::Result<Box<dyn StorageBackend>> + Send + Sync>;

/// The database of one store, for as long as that is open.
pub(super) struct Handle {
    path: PathBuf,
    opener: Opener,
    cache_bytes: usize,
    epoch: String,
    troubles: Arc<Troubles>,
    /// Up to which version somebody was told that it happened.
    acknowledged: AtomicU64,
    state: RwLock<State>,
}

enum State {
    Open {
        database: Database,
        room: Arc<Room>,
    },
    /// The disk failed, and opening anew did, too; it is tried again by whoever comes next.
    Failed(Problem),
    Closed,
}

impl Handle {
    /// Opens and verifies a store's file, and deletes what a process before had put under leases. Gives its version.
    pub(super) fn open(path: &Path, opener: Opener, cache_bytes: usize) -> Result<(Self, Version), FileError> {
        let troubles = Arc::default();
        let (database, room) = attach(path, &opener, cache_bytes, &troubles)?;
        let head = tables::head(&database, path)?;
        if head.backup {
            return Err(FileError::Backup(path.to_owned()));
        }
        let version = tables::end_all_leases(&database).map_err(|problem| FileError::problem(path, problem))?;
        let state = RwLock::new(State::Open { database, room });
        let (path, acknowledged) = (path.to_owned(), AtomicU64::new(version.0));
        Ok((Handle { path, opener, cache_bytes, epoch: head.epoch, troubles, acknowledged, state }, version))
    }

    pub(super) fn epoch(&self) -> &str {
        &self.epoch
    }

    /// Reads, unless that would have to wait, or fails.
    pub(super) fn read_if_free<T>(&self, read: impl Fn(&ReadTransaction) -> Result<T, Problem>) -> Option<T> {
        let state = match self.state.try_read() {
            Ok(state) => state,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        let State::Open { database, .. } = &*state else { return None };
        read(&database.begin_read().ok()?).ok()
    }

    /// Reads; waits for the disk, and for whoever opens the database anew. A read that fails is tried again once, on a
    /// database opened anew: it has no effect that could happen twice.
    pub(super) fn read<T>(&self, read: impl Fn(&ReadTransaction) -> Result<T, Problem>) -> Result<T, Problem> {
        self.at_second_try(|database| read(&database.begin_read()?))
    }

    /// Begins a transaction that writes. [`Self::acknowledge`] or [`Self::reopen`] come after it.
    pub(super) fn write(&self) -> Result<WriteTransaction, Problem> {
        self.at_second_try(|database| Ok(database.begin_write()?))
    }

    fn at_second_try<T>(&self, work: impl Fn(&Database) -> Result<T, Problem>) -> Result<T, Problem> {
        match self.with(|database, _| work(database)) {
            Err(Problem::Database(_) | Problem::File(_)) => {
                self.reopen()?;
                self.with(|database, _| work(database))
            }
            answer => answer,
        }
    }

    /// Takes the room that was missing before.
    pub(super) fn make_room(&self) -> Result<(), Problem> {
        self.with(|_, room| Ok(room.make()?))
    }

    /// What was committed up to this version was told: a database that knows less, when it is opened anew, has lost it.
    pub(super) fn acknowledge(&self, version: Version) {
        self.acknowledged.store(version.0, Ordering::Release);
    }

    /// Opens the database anew, and verifies it. Gives the version that it holds: what was to have a higher one did not
    /// happen.
    ///
    /// # Errors
    /// Where it does not open. Until it does, everything is refused.
    pub(super) fn reopen(&self) -> Result<Version, Problem> {
        let mut state = self.exclusive();
        if matches!(*state, State::Closed) {
            return Err(Problem::Closed);
        }
        // Gives the file free, without which it cannot be opened again.
        *state = State::Failed(Problem::Closed);
        let opened = self.attach_again().map_err(|error| Problem::File(Arc::new(error)));
        match opened {
            Ok((database, room, version)) => {
                *state = State::Open { database, room };
                Ok(version)
            }
            Err(problem) => {
                *state = State::Failed(problem.clone());
                Err(problem)
            }
        }
    }

    fn attach_again(&self) -> Result<(Database, Arc<Room>, Version), FileError> {
        let (database, room) = attach(&self.path, &self.opener, self.cache_bytes, &self.troubles)?;
        let head = tables::head(&database, &self.path)?;
        if head.epoch != self.epoch || head.version.0 < self.acknowledged.load(Ordering::Acquire) {
            let what = "it is not, or no longer, the store that was opened".to_owned();
            return Err(FileError::Damaged { path: self.path.clone(), what });
        }
        Ok((database, room, head.version))
    }

    /// Gives back room at the file's end. Nobody reads or writes meanwhile.
    pub(super) fn compact(&self) -> Result<(), Problem> {
        let compacted = match &mut *self.exclusive() {
            State::Open { database, .. } => database.compact(),
            State::Failed(problem) => return Err(problem.clone()),
            State::Closed => return Err(Problem::Closed),
        };
        match compacted {
            Ok(_) => Ok(()),
            Err(error) => {
                self.reopen()?;
                Err(error.into())
            }
        }
    }

    /// Closes the database, and gives the file free.
    pub(super) fn close(&self) {
        *self.exclusive() = State::Closed;
    }

    fn with<T>(&self, work: impl FnOnce(&Database, &Room) -> Result<T, Problem>) -> Result<T, Problem> {
        match &*self.shared() {
            State::Open { database, room } => work(database, room),
            State::Failed(problem) => Err(problem.clone()),
            State::Closed => Err(Problem::Closed),
        }
    }

    // A panic under the lock leaves a state that is as it was, or `Failed`: both are true.
    fn shared(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn exclusive(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle").field("path", &self.path).field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

fn attach(
    path: &Path,
    opener: &Opener,
    cache_bytes: usize,
    troubles: &Arc<Troubles>,
) -> Result<(Database, Arc<Room>), FileError> {
    let file = opener().map_err(|source| FileError::io(path, "opened", source))?;
    let room = Room::new(file, troubles.clone()).map_err(|source| FileError::io(path, "read", source))?;
    room.renew().map_err(|source| match source.kind() {
        io::ErrorKind::WouldBlock => FileError::InUse(path.to_owned()),
        _ => FileError::io(path, "written anew", source),
    })?;
    let room = Arc::new(room);
    let opened = Builder::new()
        .set_cache_size(cache_bytes)
        .set_check_integrity_on_open(true)
        .create_with_backend(Attached(room.clone()));
    Ok((opened.map_err(|error| FileError::database(path, error))?, room))
}
