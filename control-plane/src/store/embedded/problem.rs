//! Why something was not read or written: told to every transaction of a batch, so it can be told many times.

use std::{
    io::ErrorKind::{QuotaExceeded, StorageFull},
    sync::Arc,
};

use super::error::Error as FileError;
use crate::store::Error;

/// Why something was not read or written.
#[derive(Clone, Debug)]
pub(super) enum Problem {
    /// What the database said.
    Database(Arc<redb::Error>),
    /// What is in the tables makes no sense, although its checksums are right.
    Damaged(String),
    /// The file could not be opened anew.
    File(Arc<FileError>),
    /// The store is closed.
    Closed,
}

impl Problem {
    /// Whether there is no room.
    pub(super) fn is_full(&self) -> bool {
        let kind = match self {
            Problem::Database(error) => match &**error {
                redb::Error::Io(io) => io.kind(),
                _ => return false,
            },
            Problem::File(error) => match &**error {
                FileError::Io { source, .. } => source.kind(),
                _ => return false,
            },
            _ => return false,
        };
        matches!(kind, StorageFull | QuotaExceeded)
    }
}

impl<E: Into<redb::Error>> From<E> for Problem {
    fn from(error: E) -> Self {
        Problem::Database(Arc::new(error.into()))
    }
}

impl From<Problem> for Error {
    fn from(problem: Problem) -> Self {
        let full = problem.is_full();
        match problem {
            Problem::Database(error) if full => Error::Full(error.into()),
            Problem::Database(error) => match &*error {
                redb::Error::Corrupted(what) => Error::Damaged(what.clone()),
                _ => Error::Unavailable(error.into()),
            },
            Problem::Damaged(what) => Error::Damaged(what),
            Problem::File(error) => match &*error {
                FileError::Damaged { what, .. } => Error::Damaged(what.clone()),
                // Full or not: whether something happened is not known until the file can be opened.
                _ => Error::Unavailable(error.into()),
            },
            Problem::Closed => Error::Unavailable("the store was closed".into()),
        }
    }
}
