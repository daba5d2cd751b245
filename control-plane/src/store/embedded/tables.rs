//! What is in the file, and what a transaction does to it.
//!
//! Three tables. Keys are kept as bytes, so that a prefix is a range whatever follows it.

use std::{ops::Bound, path::Path};

use bytes::Bytes;
use redb::{
    AccessGuard, Database, ReadTransaction, ReadableDatabase, ReadableTable, Table, TableDefinition, TableError,
    WriteTransaction,
};

use super::{error::Error as FileError, problem::Problem};
use crate::store::{Condition, Entry, Lease, Outcome, Range, Transaction, Version, Write};

/// The format of what is in the tables. Goes up when a version before could not read it.
pub(super) const FORMAT: u64 = 1;

/// Text and numbers about the store itself.
const STORE: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("switchtower store");
/// Key to version, lease (0: none) and value.
pub(super) const ENTRIES: TableDefinition<'static, &[u8], (u64, u64, &[u8])> = TableDefinition::new("entries");
/// Lease and key of the entries that are under one.
pub(super) const LEASED: TableDefinition<'static, (u64, &[u8]), ()> = TableDefinition::new("leased");

/// What the store's own table says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) epoch: String,
    pub(super) version: Version,
    pub(super) backup: bool,
}

/// Makes the tables of a store in an empty database.
pub(super) fn create(write: &WriteTransaction, head: &Head) -> Result<(), Problem> {
    write.open_table(ENTRIES)?;
    write.open_table(LEASED)?;
    write_head(write, head)
}

/// Writes all that the store's own table says.
pub(super) fn write_head(write: &WriteTransaction, head: &Head) -> Result<(), Problem> {
    let mut store = write.open_table(STORE)?;
    store.insert("format", FORMAT.to_le_bytes().as_slice())?;
    store.insert("epoch", head.epoch.as_bytes())?;
    store.insert("version", head.version.0.to_le_bytes().as_slice())?;
    store.insert("backup", [u8::from(head.backup)].as_slice())?;
    Ok(())
}

/// What a later version may write.
#[cfg(test)]
pub(super) fn write_format(write: &WriteTransaction, format: u64) -> Result<(), Problem> {
    write.open_table(STORE)?.insert("format", format.to_le_bytes().as_slice())?;
    Ok(())
}

/// Reads what the store's own table says, and whether there is one that this version understands.
pub(super) fn head(database: &Database, path: &Path) -> Result<Head, FileError> {
    let read = database.begin_read().map_err(|error| FileError::database(path, error))?;
    let store = match read.open_table(STORE) {
        Ok(store) => store,
        Err(TableError::Storage(error)) => return Err(FileError::database(path, error)),
        Err(_) => {
            return Err(FileError::Foreign {
                path: path.to_owned(),
                what: "it is another program's database".to_owned(),
            });
        }
    };
    match number(&store, "format") {
        Ok(found) if found > FORMAT => Err(FileError::Newer { path: path.to_owned(), found, known: FORMAT }),
        Ok(_) => read_head(&read).map_err(|problem| FileError::problem(path, problem)),
        Err(problem) => Err(FileError::problem(path, problem)),
    }
}

/// What the store's own table says, where it is known to be there.
pub(super) fn read_head(read: &ReadTransaction) -> Result<Head, Problem> {
    let store = read.open_table(STORE)?;
    let epoch = store.get("epoch")?.and_then(|found| String::from_utf8(found.value().to_vec()).ok());
    Ok(Head {
        epoch: epoch.filter(|epoch| !epoch.is_empty()).ok_or_else(|| senseless("epoch"))?,
        version: Version(number(&store, "version")?),
        backup: store.get("backup")?.is_none_or(|found| found.value() != [0]),
    })
}

fn number(store: &impl ReadableTable<&'static str, &'static [u8]>, name: &str) -> Result<u64, Problem> {
    let number = store.get(name)?.and_then(|found| Some(u64::from_le_bytes(found.value().try_into().ok()?)));
    // So high that counting on would end is not a number that was counted to.
    number.filter(|number| *number < u64::MAX / 2).ok_or_else(|| senseless(name))
}

fn senseless(what: &str) -> Problem {
    Problem::Damaged(format!("its {what} makes no sense"))
}

/// The entry of a key.
pub(super) fn get(read: &ReadTransaction, key: &str) -> Result<Option<Entry>, Problem> {
    let found = read.open_table(ENTRIES)?.get(key.as_bytes())?;
    Ok(found.map(|found| entry(key.to_owned(), &found)))
}

/// The entries of a range.
pub(super) fn list(read: &ReadTransaction, range: &Range) -> Result<Vec<Entry>, Problem> {
    let (from, to) = bounds(range);
    let nothing = match (&from, &to) {
        (Bound::Included(from) | Bound::Excluded(from), Bound::Excluded(to)) => from >= to,
        _ => false,
    };
    if nothing {
        return Ok(Vec::new());
    }
    let entries = read.open_table(ENTRIES)?;
    let mut found = entries.range::<&[u8]>((from.as_ref().map(Vec::as_slice), to.as_ref().map(Vec::as_slice)))?;
    let mut chosen = Vec::new();
    while chosen.len() < range.limit {
        let Some(next) = (if range.descending { found.next_back() } else { found.next() }) else { break };
        let (key, value) = next?;
        let key =
            String::from_utf8(key.value().to_vec()).map_err(|_| Problem::Damaged("a key is not text".to_owned()))?;
        chosen.push(entry(key, &value));
    }
    Ok(chosen)
}

fn entry(key: String, found: &AccessGuard<'_, (u64, u64, &[u8])>) -> Entry {
    let (version, _, value) = found.value();
    Entry { key, value: Bytes::copy_from_slice(value), version: Version(version) }
}

/// Between which keys a range lies.
fn bounds(range: &Range) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
    let mut from = Bound::Included(range.prefix.clone().into_bytes());
    // Before the first key that begins with something greater.
    let mut end = range.prefix.clone().into_bytes();
    while end.pop_if(|last| *last == u8::MAX).is_some() {}
    let mut to = match end.last_mut() {
        Some(last) => {
            *last += 1;
            Bound::Excluded(end)
        }
        None => Bound::Unbounded,
    };
    let after = range.after.clone().into_bytes();
    if range.descending {
        if !after.is_empty() && !matches!(&to, Bound::Excluded(end) if *end <= after) {
            to = Bound::Excluded(after);
        }
    } else if after.as_slice() >= range.prefix.as_bytes() && !after.is_empty() {
        from = Bound::Excluded(after);
    }
    (from, to)
}

/// What became of a transaction within a batch that is not durable yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judged {
    Outcome(Outcome),
    LeaseOver,
}

/// The tables while a batch of transactions is carried out, one after the other.
pub(super) struct Batch<'w> {
    write: &'w WriteTransaction,
    entries: Table<'w, &'static [u8], (u64, u64, &'static [u8])>,
    leased: Table<'w, (u64, &'static [u8]), ()>,
    before: Version,
    version: Version,
}

impl<'w> Batch<'w> {
    pub(super) fn begin(write: &'w WriteTransaction) -> Result<Self, Problem> {
        let version = Version(number(&write.open_table(STORE)?, "version")?);
        let (entries, leased) = (write.open_table(ENTRIES)?, write.open_table(LEASED)?);
        Ok(Batch { write, entries, leased, before: version, version })
    }

    /// The version so far; and whether it is another than when the batch began.
    pub(super) fn version(&self) -> (Version, bool) {
        (self.version, self.version != self.before)
    }

    /// Writes the version down. What comes then is the database's commit.
    pub(super) fn finish(self) -> Result<(), Problem> {
        self.write.open_table(STORE)?.insert("version", self.version.0.to_le_bytes().as_slice())?;
        Ok(())
    }

    /// Carries out a transaction that was checked, as if those before it were the past.
    pub(super) fn judge(
        &mut self,
        transaction: &Transaction,
        holds: impl Fn(Lease) -> bool,
    ) -> Result<Judged, Problem> {
        for condition in transaction.conditions() {
            if !self.is_so(condition)? {
                return Ok(Judged::Outcome(Outcome::Conflict));
            }
        }
        for write in transaction.writes() {
            if matches!(write, Write::Put { lease: Some(lease), .. } if !holds(*lease)) {
                return Ok(Judged::LeaseOver);
            }
        }
        let version = Version(self.version.0 + 1);
        let mut changed = false;
        for write in transaction.writes() {
            changed |= match write {
                Write::Put { key, value, lease } => {
                    self.put(key.as_bytes(), version, *lease, value)?;
                    true
                }
                Write::Delete(key) => self.delete(key.as_bytes())?,
            };
        }
        if changed {
            self.version = version;
        }
        Ok(Judged::Outcome(Outcome::Committed(self.version)))
    }

    /// Deletes what is under a lease, as a transaction of its own.
    pub(super) fn end(&mut self, lease: u64) -> Result<(), Problem> {
        let mut keys = Vec::new();
        for found in self.leased.range((lease, [].as_slice())..)? {
            let found = found?.0;
            let (of, key) = found.value();
            if of != lease {
                break;
            }
            keys.push(key.to_vec());
        }
        for key in &keys {
            self.delete(key)?;
        }
        if !keys.is_empty() {
            self.version.0 += 1;
        }
        Ok(())
    }

    fn first_lease(&self) -> Result<Option<u64>, Problem> {
        Ok(self.leased.first()?.map(|(first, _)| first.value().0))
    }

    fn is_so(&self, condition: &Condition) -> Result<bool, Problem> {
        Ok(match condition {
            Condition::Absent(key) => self.entries.get(key.as_bytes())?.is_none(),
            Condition::Unchanged(key, version) => {
                self.entries.get(key.as_bytes())?.is_some_and(|found| found.value().0 == version.0)
            }
        })
    }

    fn put(&mut self, key: &[u8], version: Version, lease: Option<Lease>, value: &[u8]) -> Result<(), Problem> {
        let lease = lease.map_or(0, |lease| lease.0);
        let before = self.entries.insert(key, (version.0, lease, value))?.map_or(0, |before| before.value().1);
        if before != lease {
            self.unlease(before, key)?;
            if lease != 0 {
                self.leased.insert((lease, key), ())?;
            }
        }
        Ok(())
    }

    fn delete(&mut self, key: &[u8]) -> Result<bool, Problem> {
        let before = self.entries.remove(key)?.map(|before| before.value().1);
        if let Some(lease) = before {
            self.unlease(lease, key)?;
        }
        Ok(before.is_some())
    }

    fn unlease(&mut self, lease: u64, key: &[u8]) -> Result<(), Problem> {
        if lease != 0 {
            self.leased.remove((lease, key))?;
        }
        Ok(())
    }
}

/// Ends every lease: those that granted them are gone. Gives the version.
pub(super) fn end_all_leases(database: &Database) -> Result<Version, Problem> {
    let write = database.begin_write()?;
    let mut batch = Batch::begin(&write)?;
    while let Some(lease) = batch.first_lease()? {
        batch.end(lease)?;
    }
    let (version, changed) = batch.version();
    batch.finish()?;
    if changed {
        write.commit()?
    } else {
        write.abort()?
    }
    Ok(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(prefix: &str, after: &str, descending: bool, expected: (Bound<&[u8]>, Bound<&[u8]>)) {
        let range = Range { prefix: prefix.to_owned(), after: after.to_owned(), limit: 1, descending };
        let (from, to) = bounds(&range);
        let found = (from.as_ref().map(Vec::as_slice), to.as_ref().map(Vec::as_slice));
        assert_eq!(found, expected, "{range:?}");
    }

    #[test]
    fn a_range_lies_between_what_its_prefix_and_its_start_allow() {
        use Bound::{Excluded, Included, Unbounded};
        check("", "", false, (Included(b""), Unbounded));
        check("a/", "", false, (Included(b"a/"), Excluded(b"a0")));
        check("a/", "a/k", false, (Excluded(b"a/k"), Excluded(b"a0")));
        check("a/", "A", false, (Included(b"a/"), Excluded(b"a0")));
        check("a/", "a/k", true, (Included(b"a/"), Excluded(b"a/k")));
        check("a/", "z", true, (Included(b"a/"), Excluded(b"a0")));
        check("", "z", true, (Included(b""), Excluded(b"z")));
        // The last byte of a character goes up to what no text has: as bytes it is in order.
        check("\u{7f}", "", false, (Included(b"\x7f"), Excluded(b"\x80")));
    }
}
