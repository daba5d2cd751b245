//! What can be wrong with a store's file. Told to whoever started the process, so each says what to do.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::problem::Problem;

/// Why a file is not opened, written, or restored.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process has it open.
    #[error("{} is in use by another process: a store's file belongs to one; stop that one first", .0.display())]
    InUse(PathBuf),
    /// It is something else.
    #[error("{} is not a control plane's store: {what}; name another file, or move this one away", .path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What shows that.
        what: String,
    },
    /// It was written by a version after this one.
    #[error("{} has format {found}, this version reads up to {known}: start the version that wrote it", .path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u64,
        /// The last that this version knows.
        known: u64,
    },
    /// It is a backup: opened as it is, numbers that were given after it would be given again.
    #[error("{} is a backup: restore it to a new file, and open that", .0.display())]
    Backup(PathBuf),
    /// It does not hold what was written.
    #[error("{} is damaged: {what}; restore a backup to a new file", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What shows that.
        what: String,
    },
    /// It is there already, and is not overwritten.
    #[error("{} is there already, and is not overwritten: name another file", .0.display())]
    Exists(PathBuf),
    /// The disk or its file system refused.
    #[error("{} could not be {doing}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was done with it, as in "it could not be …".
        doing: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Any other error of the database.
    #[error("{} could not be opened", .0.display())]
    Database(PathBuf, #[source] Arc<redb::Error>),
    /// The work ended in a panic.
    #[error("the work on the file stopped: {0}")]
    Stopped(String),
}

impl Error {
    pub(super) fn io(path: &Path, doing: &'static str, source: io::Error) -> Self {
        Error::Io { path: path.to_owned(), doing, source }
    }

    /// The same, told of the file that whoever asked had named.
    pub(super) fn of(self, path: &Path) -> Self {
        match self {
            Error::Foreign { what, .. } => Error::Foreign { path: path.to_owned(), what },
            Error::Damaged { what, .. } => Error::Damaged { path: path.to_owned(), what },
            other => other,
        }
    }

    /// What the database said of this file.
    pub(super) fn database(path: &Path, error: impl Into<redb::Error>) -> Self {
        let path = path.to_owned();
        match error.into() {
            redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch => Error::InUse(path),
            redb::Error::Corrupted(what) => Error::Damaged { path, what },
            redb::Error::Io(source) if source.kind() == io::ErrorKind::InvalidData => {
                Error::Foreign { path, what: source.to_string() }
            }
            redb::Error::Io(source) => Error::Io { path, doing: "read or written", source },
            other => Error::Database(path, Arc::new(other)),
        }
    }

    /// What was wrong with what is in this file.
    pub(super) fn problem(path: &Path, problem: Problem) -> Self {
        match problem {
            Problem::Damaged(what) => Error::Damaged { path: path.to_owned(), what },
            Problem::Database(error) => match Arc::try_unwrap(error) {
                Ok(error) => Error::database(path, error),
                Err(shared) => Error::Database(path.to_owned(), shared),
            },
            Problem::File(error) => Error::Stopped(error.to_string()),
            Problem::Closed => Error::Stopped("the store was closed".to_owned()),
        }
    }
}
