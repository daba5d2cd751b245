//! The file under the database, with its room on the disk taken before it is used.
//!
//! A file that is made longer takes no room by that alone: the disk says that it is full when a page is written, in the
//! middle of a commit, and after that the database can be used no more until it is opened anew, which writes, too. So room
//! is taken (zeros are written) when the file grows: what is full is then told before anything was changed, and every
//! write within the file's length succeeds, the ones that opening needs among them. The price: growth writes twice, and
//! "full" is told when the file cannot grow by its next step, of up to its own size. File systems that copy on write can
//! still refuse later; what [`super::handle`] does then is right there, too, only slower.

use std::{
    fs::{File, TryLockError},
    io,
    ops::Bound,
    os::unix::fs::{FileExt, MetadataExt},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use redb::{BackendError, StorageBackend, backends::FileBackend};

use super::handle::Opener;

/// How much is written at once when room is taken or the file is written anew.
pub(super) const STEP: usize = 1 << 20;

/// In what the system counts the room that a file has.
const BLOCK: u64 = 512;

/// Where the database's file says that it was not closed: which byte, which bit (`recovery_required` in redb's format 3).
const UNCLEAN: (u64, u8) = (9, 2);

/// What went wrong before, kept over openings.
#[derive(Debug, Default)]
pub(super) struct Troubles {
    /// The length to which the file could not grow; 0: it could.
    wanted: AtomicU64,
    /// What was written may be only in memory, marked as if it was on the disk: so it is after a sync failed, perhaps in
    /// a process before this one.
    unsynced: AtomicBool,
}

/// The file.
#[derive(Debug)]
pub(super) struct Room {
    file: Box<dyn StorageBackend>,
    /// What the database takes for its length.
    length: AtomicU64,
    /// Up to where room is taken, `length` or more.
    taken: AtomicU64,
    troubles: Arc<Troubles>,
}

/// Opens the file at a path, which must be there.
pub(super) fn opener(path: &Path) -> Opener {
    let path = path.to_owned();
    Box::new(move || {
        let file = File::options().read(true).write(true).open(&path)?;
        Ok(Box::new(FileBackend::new(file).map_err(io::Error::other)?))
    })
}

/// Takes the room that a file has not, although its length says so: it was copied with holes, or made so by a version
/// before this one. Nothing that is read there changes.
///
/// # Errors
/// [`io::ErrorKind::WouldBlock`]: another process has the file. [`io::ErrorKind::StorageFull`]: there is not enough.
pub(super) fn take_whole(path: &Path) -> io::Result<()> {
    let file = File::options().read(true).write(true).open(path)?;
    let metadata = file.metadata()?;
    if metadata.blocks() * BLOCK >= metadata.len() {
        return Ok(());
    }
    // Whoever has it may write between the two.
    file.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => io::ErrorKind::WouldBlock.into(),
        TryLockError::Error(error) => error,
    })?;
    let mut page = vec![0; STEP];
    for (from, bytes) in steps(0, metadata.len()) {
        file.read_exact_at(&mut page[..bytes], from)?;
        file.write_all_at(&page[..bytes], from)?;
    }
    file.sync_data()
}

impl Room {
    pub(super) fn new(file: Box<dyn StorageBackend>, troubles: Arc<Troubles>) -> io::Result<Self> {
        let length = file.len()?;
        if length > UNCLEAN.0 {
            let mut flags = [0];
            file.read(UNCLEAN.0, &mut flags)?;
            troubles.unsynced.fetch_or(flags[0] & UNCLEAN.1 != 0, Ordering::AcqRel);
        }
        Ok(Room { file, length: AtomicU64::new(length), taken: AtomicU64::new(length), troubles })
    }

    /// Takes the room that was not to be had before. Cheap where there was always enough.
    pub(super) fn make(&self) -> io::Result<()> {
        match self.troubles.wanted.load(Ordering::Acquire) {
            0 => Ok(()),
            wanted => self.take(wanted),
        }
    }

    /// Where a sync failed, or may have (the file was not closed), writes every page anew and syncs. The system forgets
    /// which pages it failed to write: they read as written until the power goes. It must come before the database reads,
    /// and believes, any of them.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`]: another process has the file.
    pub(super) fn renew(&self) -> io::Result<()> {
        if !self.troubles.unsynced.load(Ordering::Acquire) {
            return Ok(());
        }
        // Another process may have taken the file in between: writing over what it wrote would undo it.
        let whole = (Bound::Unbounded, Bound::Unbounded);
        let locked = match self.file.try_lock_range(whole.0, whole.1) {
            Ok(true) => true,
            Ok(false) => return Err(io::Error::new(io::ErrorKind::WouldBlock, "another process has taken the file")),
            Err(BackendError::Unsupported) => false,
            Err(error) => return Err(error.into()),
        };
        let renewed = self.rewrite();
        if locked {
            self.file.unlock_range(whole.0, whole.1)?;
        }
        renewed?;
        self.troubles.unsynced.store(false, Ordering::Release);
        Ok(())
    }

    fn rewrite(&self) -> io::Result<()> {
        let mut page = vec![0; STEP];
        for (from, bytes) in steps(0, self.length.load(Ordering::Acquire)) {
            self.file.read(from, &mut page[..bytes])?;
            self.file.write(from, &page[..bytes])?;
        }
        self.file.sync_data()
    }

    fn take(&self, length: u64) -> io::Result<()> {
        let taken = self.taken.load(Ordering::Acquire);
        if length > taken {
            if let Err(error) = self.fill(taken, length) {
                self.troubles.wanted.fetch_max(length, Ordering::AcqRel);
                // What was had of it is of use to others. That it fails, too, changes nothing: it is found on opening.
                let _ = self.file.set_len(taken);
                return Err(error);
            }
            self.taken.store(length, Ordering::Release);
        }
        self.troubles.wanted.store(0, Ordering::Release);
        Ok(())
    }

    fn fill(&self, from: u64, to: u64) -> io::Result<()> {
        self.file.set_len(to)?;
        // Before anything is written there, or a crash may leave a length between the two, which the database refuses.
        self.file.sync_data()?;
        let zeros = vec![0; STEP];
        for (from, bytes) in steps(from, to) {
            self.file.write(from, &zeros[..bytes])?;
        }
        Ok(())
    }
}

/// Cuts a stretch into pieces of at most [`STEP`] bytes: where each begins, and how long it is.
fn steps(from: u64, to: u64) -> impl Iterator<Item = (u64, usize)> {
    let bytes = move |start: u64| usize::try_from(to - start).map_or(STEP, |left| left.min(STEP));
    (from..to).step_by(STEP).map(move |start| (start, bytes(start)))
}

/// The file as the database has it.
#[derive(Debug)]
pub(super) struct Attached(pub(super) Arc<Room>);

impl StorageBackend for Attached {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.length.load(Ordering::Acquire))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.file.read(offset, out)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let room = &self.0;
        if length < room.length.load(Ordering::Acquire) {
            room.file.set_len(length)?;
            room.taken.store(length, Ordering::Release);
        } else {
            room.take(length)?;
        }
        room.length.store(length, Ordering::Release);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let synced = self.0.file.sync_data();
        if synced.is_err() {
            self.0.troubles.unsynced.store(true, Ordering::Release);
        }
        synced
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.file.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.0.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.file.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.file.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.file.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.file.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.file.query_lock_range(start, end)
    }
}
