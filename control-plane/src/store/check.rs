//! What is refused before a store looks at what it holds: the same everywhere, so that what one store takes, all take.

use std::collections::BTreeSet;

use super::{Condition, Error, MAX_KEY_BYTES, MAX_TRANSACTION_BYTES, MAX_VALUE_BYTES, MAX_WRITES, Transaction, Write};

/// Refuses a transaction beyond the contract's limits, or one that writes a key twice.
pub(super) fn check(transaction: &Transaction) -> Result<(), Error> {
    let (conditions, writes) = (transaction.conditions(), transaction.writes());
    for (count, what) in [(conditions.len(), "conditions"), (writes.len(), "writes")] {
        if count > MAX_WRITES {
            return Err(Error::TooLarge(format!("a transaction has {count} {what}: {MAX_WRITES} is the most")));
        }
    }
    for condition in conditions {
        let (Condition::Absent(key) | Condition::Unchanged(key, _)) = condition;
        check_key(key)?;
    }
    let mut written = BTreeSet::new();
    for write in writes {
        let (Write::Put { key, .. } | Write::Delete(key)) = write;
        check_key(key)?;
        if !written.insert(key) {
            return Err(Error::WrittenTwice(key.clone()));
        }
        if let Write::Put { value, .. } = write
            && value.len() > MAX_VALUE_BYTES
        {
            let bytes = value.len();
            return Err(Error::TooLarge(format!(
                "the value of {key:?} is {bytes} bytes: {MAX_VALUE_BYTES} is the most"
            )));
        }
    }
    match size(transaction) {
        bytes if bytes > MAX_TRANSACTION_BYTES => {
            Err(Error::TooLarge(format!("a transaction writes {bytes} bytes: {MAX_TRANSACTION_BYTES} is the most")))
        }
        _ => Ok(()),
    }
}

/// The bytes that a transaction writes: keys and values together.
pub(super) fn size(transaction: &Transaction) -> usize {
    let bytes = |write: &Write| match write {
        Write::Put { key, value, .. } => key.len() + value.len(),
        Write::Delete(key) => key.len(),
    };
    transaction.writes().iter().map(bytes).sum()
}

fn check_key(key: &str) -> Result<(), Error> {
    match key.len() {
        0 => Err(Error::TooLarge("a key is empty: it has at least one byte".to_owned())),
        1..=MAX_KEY_BYTES => Ok(()),
        // The key itself would be a message of any length.
        bytes => Err(Error::TooLarge(format!("a key has {bytes} bytes: {MAX_KEY_BYTES} is the most"))),
    }
}
