//! Where intent is kept: keys and values, changed by transactions.
//!
//! # The contract
//!
//! One text for every implementation, and one suite of tests (`store/contract.rs`) that each of them passes.
//!
//! - **Acknowledged means durable.** When [`Store::commit`] gives [`Outcome::Committed`], the transaction survives whatever
//!   ends the process or the machine. When it fails, the transaction either happened whole or did not happen: whoever
//!   must know reads what is there. It never happens in part, and never later than the failure was told.
//! - **Every write is a compare-and-set.** A transaction has at least one [`Condition`], and happens only if all of them
//!   hold; [`Outcome::Conflict`] says that one did not. Transactions happen one after the other, as if there were no
//!   others at the same time, and whoever reads after an acknowledgement sees it (strict serialisability).
//! - **Versions.** Each transaction that changes something has a [`Version`] higher than every one before, also over
//!   restarts; all that it wrote carries it. One that changes nothing (it writes nothing, or only deletes what is not
//!   there) has the version of the last that did. Versions are compared and never counted with: a store that others write
//!   to as well has gaps.
//! - **A wake-up is not a message.** [`Store::changes`] tells that something changed up to a version, soon after it did. It
//!   may tell of several changes at once, of none of interest, or (when a connection was lost) late. What is true is read
//!   back, and readers read again every minute whether they were woken or not.
//! - **Leases.** What is put under a lease goes when the lease ends: by [`Store::revoke`], or because it was not kept for its
//!   time to live, or because the process that granted it ended, where the store is that process's own. It goes in one
//!   transaction per lease. A holder that was paused may be too late without knowing: what must not happen then is guarded
//!   by a condition on the lease's key in the same transaction, not by the lease.
//! - **Epoch.** [`Store::epoch`] names one unbroken history. A store that is restored from a copy gets another, because what
//!   was acknowledged after the copy is lost, and numbers would be given a second time.
//! - **Compaction.** Values are not kept beyond their deletion or replacement, in the sense that nothing can read them.
//!   [`Store::compact`] gives back the room that they took. It changes nothing that can be read.
//! - **Limits.** A key is 1 to [`MAX_KEY_BYTES`] bytes, a value up to [`MAX_VALUE_BYTES`], a transaction up to
//!   [`MAX_WRITES`] writes, as many conditions, and [`MAX_TRANSACTION_BYTES`]. Beyond, it is refused as
//!   [`Error::TooLarge`], whatever the store could hold: they are those of etcd's defaults, so that what works on one
//!   store works on the others. Two writes of one key are refused as [`Error::WrittenTwice`].
//! - **What is told first.** Limits, then conditions, then leases: a transaction with a condition that does not hold is a
//!   [`Outcome::Conflict`] whether or not its lease is over.

mod check;
#[cfg(test)]
#[macro_use]
mod contract;
pub mod embedded;
mod leases;
pub mod memory;

use std::{fmt, future::Future, pin::Pin, time::Duration};

use bytes::Bytes;
use tokio::sync::watch;

pub use self::{embedded::Embedded, memory::Memory};

/// Longest key in bytes.
pub const MAX_KEY_BYTES: usize = 512;
/// Longest value in bytes: a chunk of 1 MiB and some.
pub const MAX_VALUE_BYTES: usize = (1 << 20) + 4096;
/// Most writes of one transaction, and most conditions.
pub const MAX_WRITES: usize = 100;
/// Most bytes of one transaction: the keys and values that it writes, together.
pub const MAX_TRANSACTION_BYTES: usize = 1_400_000;

/// What a store's calls give. Dropping it before it is done leaves open whether a transaction happened.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

/// A point in a store's history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u64);

/// A key with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Key.
    pub key: String,
    /// Value.
    pub value: Bytes,
    /// Version of the transaction that put it.
    pub version: Version,
}

/// Which entries, in the order of their keys' bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// What their keys begin with.
    pub prefix: String,
    /// Only keys after this one (before it, where `descending`); empty: from the beginning.
    pub after: String,
    /// Most entries, 1 or more.
    pub limit: usize,
    /// In descending order.
    pub descending: bool,
}

impl Range {
    /// All entries under a prefix.
    #[must_use]
    pub fn all(prefix: impl Into<String>) -> Self {
        Range { prefix: prefix.into(), after: String::new(), limit: usize::MAX, descending: false }
    }
}

/// What must be so for a transaction to happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// There is no such key.
    Absent(String),
    /// The key is there, and was last put at this version.
    Unchanged(String, Version),
}

/// One change of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// The key has this value from now on.
    Put {
        /// Key.
        key: String,
        /// Value.
        value: Bytes,
        /// Goes with this lease; `None`: stays.
        lease: Option<Lease>,
    },
    /// The key is gone. Not an error where it was not there.
    Delete(String),
}

/// Changes that happen together or not at all, if their conditions hold. No key is written twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    conditions: Vec<Condition>,
    writes: Vec<Write>,
}

impl Transaction {
    /// A transaction under this condition.
    #[must_use]
    pub fn when(condition: Condition) -> Self {
        Transaction { conditions: vec![condition], writes: Vec::new() }
    }

    /// And under this one.
    #[must_use]
    pub fn and_when(mut self, condition: Condition) -> Self {
        self.conditions.push(condition);
        self
    }

    /// It puts a value.
    #[must_use]
    pub fn put(mut self, key: impl Into<String>, value: impl Into<Bytes>) -> Self {
        self.writes.push(Write::Put { key: key.into(), value: value.into(), lease: None });
        self
    }

    /// It puts a value that goes with a lease.
    #[must_use]
    pub fn put_leased(mut self, key: impl Into<String>, value: impl Into<Bytes>, lease: Lease) -> Self {
        self.writes.push(Write::Put { key: key.into(), value: value.into(), lease: Some(lease) });
        self
    }

    /// It deletes a key.
    #[must_use]
    pub fn delete(mut self, key: impl Into<String>) -> Self {
        self.writes.push(Write::Delete(key.into()));
        self
    }

    /// Its conditions, at least one.
    #[must_use]
    pub fn conditions(&self) -> &[Condition] {
        &self.conditions
    }

    /// Its changes.
    #[must_use]
    pub fn writes(&self) -> &[Write] {
        &self.writes
    }
}

/// What became of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It happened, and is durable.
    Committed(Version),
    /// A condition did not hold: nothing happened.
    Conflict,
}

/// The right to have keys in the store for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lease(pub u64);

/// Why a store did not answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Too large for any store: see the contract's limits. Nothing happened.
    #[error("{0}")]
    TooLarge(String),
    /// It writes this key twice: which one counts, nobody said. Nothing happened.
    #[error("a transaction writes {0:?} twice: write it once")]
    WrittenTwice(String),
    /// There is no room. Nothing happened; reading goes on.
    #[error("the store has no room left: free some on its disk, then try again")]
    Full(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It cannot be reached, or does not work now.
    #[error("the store does not answer")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// What it holds is not what was written.
    #[error("the store is damaged: {0}")]
    Damaged(String),
    /// The lease is over.
    #[error("the lease is over")]
    LeaseOver,
}

/// A store. See the contract above.
pub trait Store: fmt::Debug + Send + Sync + 'static {
    /// Its epoch: 1 to 64 characters of `[a-z0-9-]`, the same for as long as it is open.
    fn epoch(&self) -> &str;

    /// The entry of a key.
    fn get<'a>(&'a self, key: &'a str) -> Answer<'a, Option<Entry>>;

    /// Entries of a range, as they are together at one version.
    fn list(&self, range: Range) -> Answer<'_, Vec<Entry>>;

    /// Makes a transaction happen, if its conditions hold.
    fn commit(&self, transaction: Transaction) -> Answer<'_, Outcome>;

    /// The version up to which something changed, now and whenever it does.
    fn changes(&self) -> watch::Receiver<Version>;

    /// A new lease.
    fn grant(&self, time_to_live: Duration) -> Answer<'_, Lease>;

    /// Starts a lease's time to live anew. [`Error::LeaseOver`]: it ended before.
    fn keep(&self, lease: Lease) -> Answer<'_, ()>;

    /// Ends a lease. Not an error where it ended before.
    fn revoke(&self, lease: Lease) -> Answer<'_, ()>;

    /// Gives back room. Takes as long as it takes; reading and committing may wait for it.
    fn compact(&self) -> Answer<'_, ()>;
}
