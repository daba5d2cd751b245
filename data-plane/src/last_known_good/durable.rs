//! Files that are replaced whole and stay replaced.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

/// Replaces a file of a folder, readable by its owner only. When this returns, the new bytes are on the disk; until then,
/// and when it fails, the old ones are.
///
/// # Errors
/// The disk is full, or does not take it for another reason.
pub(super) fn replace(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let temporary = folder.join(format!(".{name}.new"));
    let written = write_new(&temporary, bytes).and_then(|()| fs::rename(&temporary, folder.join(name)));
    if written.is_err() {
        // The first error is the one to tell. On a disk that is full, what is left of the attempt is in the way.
        let _ = fs::remove_file(&temporary);
    }
    written?;
    settle(folder)
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // One process writes here: what is there under this name is a leftover of one that died.
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Removes a file, if it is there; it does not come back.
///
/// # Errors
/// The disk does not take it.
pub(super) fn remove(folder: &Path, name: &str) -> io::Result<()> {
    match fs::remove_file(folder.join(name)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(()) => settle(folder),
    }
}

/// A file's bytes; `None`: there is none.
///
/// # Errors
/// It cannot be read, or is longer than `most`.
pub(super) fn read(folder: &Path, name: &str, most: usize) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(folder.join(name)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut bytes = Vec::new();
    file.take(most as u64 + 1).read_to_end(&mut bytes)?;
    match bytes.len() > most {
        true => Err(io::Error::new(io::ErrorKind::InvalidData, "it is too large to be a file of this program")),
        false => Ok(Some(bytes)),
    }
}

/// Names are kept in the folder, so it must be on the disk too.
fn settle(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_is_replaced_whole_for_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        // A leftover of a process that died.
        fs::write(folder.path().join(".file.new"), "left over, and longer than what comes").unwrap();
        replace(folder.path(), "file", b"one").unwrap();
        replace(folder.path(), "file", b"two").unwrap();
        assert_eq!(read(folder.path(), "file", 3).unwrap().unwrap(), b"two");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(read(folder.path(), "file", 2).is_err());
        remove(folder.path(), "file").unwrap();
        remove(folder.path(), "file").unwrap();
        assert!(read(folder.path(), "file", 3).unwrap().is_none());
    }

    #[test]
    fn a_file_that_cannot_be_replaced_stays_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("taken")).unwrap();
        assert!(replace(folder.path(), "taken", b"new").is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
