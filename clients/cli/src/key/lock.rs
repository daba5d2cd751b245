//! One change of the key files at a time: each is read, changed and written whole, so of two changes at once the first
//! would be lost.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use crate::output::Failure;

/// Held while the files of this keys file are read, changed and written; given back when dropped, or when the process
/// ends in whatever way.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// Waits until nobody else holds it. The lock is on a file of its own beside the keys file, which is replaced with
    /// every change, and it stays there: whoever removed it might remove the one that another holds.
    pub(super) fn of(keys: &Path) -> Result<Self, Failure> {
        let mut name = keys.as_os_str().to_owned();
        name.push(".lock");
        let path = PathBuf::from(name);
        let open = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        let locked = open.and_then(|file| file.lock().map(|()| Lock { _file: file }));
        locked.map_err(|error| Failure::io(path.display(), &error))
    }
}
