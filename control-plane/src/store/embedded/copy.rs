//! Files that appear whole or not at all, and never over another: a new store, a backup, a backup restored.
//!
//! Each is written under a name of its own beside where it is to be, made durable, and then given its name by a hard link,
//! which fails where there is such a file already: two processes that start at once cannot replace each other's store.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use aws_lc_rs::rand;
use redb::{Builder, Database, ReadTransaction, ReadableTable, TableDefinition, WriteTransaction};

use super::{
    error::Error as FileError,
    handle::Handle,
    problem::Problem,
    room::{self, Attached, Room},
    tables::{self, ENTRIES, Head, LEASED},
};
use crate::store::Version;

/// Makes an empty store, of an epoch of its own.
pub(super) fn create(path: &Path) -> Result<(), FileError> {
    let head = Head { epoch: new_epoch(path)?, version: Version::default(), backup: false };
    match publish(path, |new| fill(new, |write| tables::create(write, &head))) {
        // Another process made one at the same moment: opening tells who has it.
        Err(FileError::Exists(_)) => Ok(()),
        created => created,
    }
}

/// Copies what a store holds at one version.
pub(super) fn backup(store: &Handle, to: &Path) -> Result<(), FileError> {
    let copy = |new: &Path| {
        let copied = store.read(|read| {
            // A copy that was begun before a failed read is begun anew.
            fs::write(new, b"")?;
            fill(new, |write| copy_tables(read, write)).map_err(|error| Problem::File(error.into()))
        });
        copied.map_err(|problem| FileError::problem(to, problem))
    };
    publish(to, copy)
}

/// Makes a store of a copy.
pub(super) fn restore(backup: &Path, to: &Path) -> Result<(), FileError> {
    let source = File::open(backup).map_err(|source| FileError::io(backup, "opened", source))?;
    // A store that is open changes while it is copied.
    source.try_lock_shared().map_err(|error| match error {
        fs::TryLockError::WouldBlock => FileError::InUse(backup.to_owned()),
        fs::TryLockError::Error(source) => FileError::io(backup, "locked", source),
    })?;
    let epoch = new_epoch(to)?;
    publish(to, |new| {
        copy(&source, new).map_err(|source| FileError::io(to, "written", source))?;
        let database = open(new).map_err(|error| error.of(backup))?;
        let mut head = tables::head(&database, backup)?;
        (head.epoch, head.backup) = (epoch, false);
        change(&database, |write| tables::write_head(write, &head)).map_err(|error| FileError::problem(to, error))?;
        database.close().map_err(|error| FileError::database(to, error))
    })
}

fn copy_tables(read: &ReadTransaction, write: &WriteTransaction) -> Result<(), Problem> {
    tables::create(write, &Head { backup: true, ..tables::read_head(read)? })?;
    copy_table(read, write, ENTRIES)?;
    copy_table(read, write, LEASED)
}

fn copy_table<K: redb::Key + 'static, V: redb::Value + 'static>(
    read: &ReadTransaction,
    write: &WriteTransaction,
    table: TableDefinition<'static, K, V>,
) -> Result<(), Problem> {
    let mut to = write.open_table(table)?;
    for found in read.open_table(table)?.iter()? {
        let (key, value) = found?;
        to.insert(key.value(), value.value())?;
    }
    Ok(())
}

/// Writes a new database in one transaction, and closes it.
fn fill(new: &Path, work: impl FnOnce(&WriteTransaction) -> Result<(), Problem>) -> Result<(), FileError> {
    let database = open(new)?;
    change(&database, work).map_err(|problem| FileError::problem(new, problem))?;
    database.close().map_err(|error| FileError::database(new, error))
}

fn open(path: &Path) -> Result<Database, FileError> {
    let room = room::opener(path)().and_then(|file| Room::new(file, Arc::default()));
    let room = Attached(Arc::new(room.map_err(|source| FileError::io(path, "opened", source))?));
    let opened = Builder::new().set_check_integrity_on_open(true).create_with_backend(room);
    opened.map_err(|error| FileError::database(path, error))
}

/// Writes every byte: a copy that the file system makes may have holes, or share its room with the backup.
fn copy(mut from: &File, to: &Path) -> io::Result<()> {
    let mut to = File::options().write(true).open(to)?;
    let mut bytes = vec![0; room::STEP];
    loop {
        match from.read(&mut bytes) {
            Ok(0) => return Ok(()),
            Ok(read) => to.write_all(&bytes[..read])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn change(database: &Database, work: impl FnOnce(&WriteTransaction) -> Result<(), Problem>) -> Result<(), Problem> {
    let write = database.begin_write()?;
    work(&write)?;
    Ok(write.commit()?)
}

/// Lets a file be written under another name, then gives it its own.
fn publish(to: &Path, write: impl FnOnce(&Path) -> Result<(), FileError>) -> Result<(), FileError> {
    let failed = |source| FileError::io(to, "written", source);
    if to.try_exists().map_err(failed)? {
        return Err(FileError::Exists(to.to_owned()));
    }
    let new = beside(to)?;
    // What is kept is nobody else's to read: who is given what, and what keys are compared with.
    let created = File::options().write(true).create_new(true).mode(0o600).open(&new);
    let published = created.map_err(failed).and_then(|_| write(&new)).and_then(|()| {
        File::open(&new).and_then(|file| file.sync_all()).map_err(failed)?;
        fs::hard_link(&new, to).map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => FileError::Exists(to.to_owned()),
            _ => failed(source),
        })
    });
    // Its other name, or what was written before it failed; where it stays, it is in nobody's way.
    let _ = fs::remove_file(&new);
    published?;
    File::open(folder(to)).and_then(|folder| folder.sync_all()).map_err(failed)
}

/// A name in the same folder that no other file has.
fn beside(path: &Path) -> Result<PathBuf, FileError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".new-{}", &new_epoch(path)?[..8]));
    Ok(folder(path).join(name))
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn new_epoch(path: &Path) -> Result<String, FileError> {
    let mut bytes = [0; 16];
    let failed = |_| FileError::io(path, "named", io::Error::other("the system gives no random numbers"));
    rand::fill(&mut bytes).map_err(failed)?;
    Ok(hex::encode(bytes))
}
