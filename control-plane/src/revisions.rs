//! Revisions: policies that were applied, numbered, chained, and assigned to an environment's nodes.
//!
//! A policy is checked, cut into chunks and appended: chunks first, where they do not fit beside it, then the record, the
//! head and the event in one transaction that compares the head. So numbers have no gaps, whoever is at it at the same
//! time; what is half written is chunks that nobody names; and an operator whose start was overtaken is told instead of
//! undoing what others did.
//!
//! What was made is never changed: going back is a newer assignment of an older revision. Reading checks every digest on
//! the way, and [`Revisions::verify`] the whole chain.
//!
//! Nothing here knows a clock, randomness or gRPC.

mod append;
mod checked;
pub mod chunks;
mod decide;
mod head;
pub mod promote;
mod readers;
mod refused;
mod roll_back;
mod verify;

use std::{collections::BTreeSet, sync::Arc};

use prost::Message;
use switchtower_policy::Violation;
use switchtower_proto::policy::v1;

use self::chunks::{Chunk, sha256};
pub use self::{
    head::{Assignment, Head},
    readers::{CannotRead, Readers},
    refused::Refused,
};
use crate::{
    events::Event,
    layout,
    store::{Condition, Entry, Range, Store, Transaction, Version},
};

/// Most characters of an author's name.
pub const MAX_AUTHOR: usize = 128;
/// Most characters of a message.
pub const MAX_MESSAGE: usize = 1024;
/// Most revisions of a page.
pub const MAX_PAGE: usize = 1000;
/// A page ends at the revision that makes it larger than this, so that gRPC clients read it with their defaults of 4 MiB.
const MAX_PAGE_BYTES: usize = 2 << 20;
/// How often a change is decided anew because others changed the same environment in between. One of those who are at it
/// always gets through, so this is how many may be.
const MAX_ATTEMPTS: usize = 100;

/// A policy that is to become a revision.
#[derive(Clone, Debug, Default)]
pub struct Applying {
    /// Environment; it comes to be with its first revision.
    pub environment: String,
    /// The whole policy.
    pub items: Vec<v1::Item>,
    /// Number of the revision that it was made from, which must be the assigned one. 0: there is none yet. `None`:
    /// whatever it is.
    pub parent: Option<u64>,
    /// Who applies it, 1 to [`MAX_AUTHOR`] characters.
    pub author: String,
    /// Why, at most [`MAX_MESSAGE`] characters.
    pub message: String,
    /// Whether content that was rolled back may be applied.
    pub again: bool,
    /// Whether it is assigned although connected nodes do not understand all of it.
    pub despite_nodes: bool,
    /// W3C trace context; empty: none.
    pub traceparent: String,
    /// Environment and number that it is promoted from, such as `dev/12`; empty: it is not.
    pub promoted_from: String,
}

/// A revision that is to be assigned again.
#[derive(Clone, Debug, Default)]
pub struct RollingBack {
    /// Environment.
    pub environment: String,
    /// Number of the revision. 0: the one that was assigned before the present one, and where that was rolled back itself,
    /// the newest below the present one that was not.
    pub to: u64,
    /// Number of the revision that is to be taken back, which must be the assigned one. `None`: whatever it is.
    pub from: Option<u64>,
    /// Who does it, 1 to [`MAX_AUTHOR`] characters.
    pub author: String,
    /// Why, at most [`MAX_MESSAGE`] characters.
    pub message: String,
    /// W3C trace context; empty: none.
    pub traceparent: String,
}

/// A revision without its content.
#[derive(Clone, Debug, PartialEq)]
pub struct Revision {
    /// Its record.
    pub record: v1::RevisionRecord,
    /// SHA-256 of the record's stored bytes. `None`: it is not stored, it only would be.
    pub digest: Option<[u8; 32]>,
}

/// What became of a policy that was applied.
#[derive(Debug)]
pub struct Applied {
    /// The revision that was made; the assigned one where nothing differs.
    pub revision: Revision,
    /// Its content.
    pub items: Arc<[v1::Item]>,
    /// Number of the assignment. 0: nothing was made.
    pub assignment: u64,
    /// Whether nothing differs from what was assigned, so that nothing was made.
    pub unchanged: bool,
    /// Number of the revision that was assigned before. 0: none was.
    pub before: u64,
    /// The head as it is now, or would be.
    pub head: Head,
    /// What an operator should know.
    pub warnings: Vec<Violation>,
    /// What happened, to be told: it is in the store. `None`: nothing did.
    pub event: Option<Event>,
}

/// What became of a rollback.
#[derive(Debug)]
pub struct RolledBack {
    /// The revision that is assigned now, or would be.
    pub revision: Revision,
    /// Its content.
    pub items: Arc<[v1::Item]>,
    /// Number of the assignment. 0: nothing was made.
    pub assignment: u64,
    /// Number of the revision that was assigned before.
    pub from: u64,
    /// The head as it is now, or would be.
    pub head: Head,
    /// What happened, to be told: it is in the store. `None`: nothing did.
    pub event: Option<Event>,
}

/// Revisions, newest first.
#[derive(Debug)]
pub struct Page {
    /// The revisions.
    pub revisions: Vec<Revision>,
    /// Whether there are older ones.
    pub more: bool,
    /// The environment's head.
    pub head: Head,
}

/// The revisions of all environments.
#[derive(Clone, Debug)]
pub struct Revisions {
    store: Arc<dyn Store>,
}

impl Revisions {
    /// Those of a store.
    #[must_use]
    pub fn of(store: Arc<dyn Store>) -> Self {
        Revisions { store }
    }

    /// An environment's head. `None`: it has no revisions.
    ///
    /// # Errors
    /// The store's; [`Refused::Damaged`].
    pub async fn head(&self, environment: &str) -> Result<Option<Head>, Refused> {
        Ok(self.head_at(environment).await?.map(|(head, _)| head))
    }

    /// The head, and the version to which a change of it is compared.
    async fn head_at(&self, environment: &str) -> Result<Option<(Head, Version)>, Refused> {
        self.store.get(&layout::head(environment)).await?.as_ref().map(Head::read).transpose()
    }

    /// A revision.
    ///
    /// # Errors
    /// [`Refused::NoRevision`], [`Refused::Damaged`], the store's.
    pub async fn get(&self, environment: &str, number: u64) -> Result<Revision, Refused> {
        let missing = || Refused::NoRevision { environment: environment.to_owned(), number };
        if number == 0 || !layout::is_name(environment) {
            return Err(missing());
        }
        let entry = self.store.get(&layout::revision(environment, number)).await?.ok_or_else(missing)?;
        Revision::read(&entry, environment, number)
    }

    /// A revision's content, every digest of it checked.
    ///
    /// # Errors
    /// As [`Revisions::get`].
    pub async fn content(&self, environment: &str, number: u64) -> Result<Vec<v1::Item>, Refused> {
        let revision = self.get(environment, number).await?;
        self.content_of(&revision).await
    }

    /// The content of a revision at hand.
    ///
    /// # Errors
    /// As [`Revisions::get`].
    pub async fn content_of(&self, revision: &Revision) -> Result<Vec<v1::Item>, Refused> {
        let record = &revision.record;
        let damaged =
            |what: String| Refused::Damaged(format!("revision {} of {}: {what}", record.number, record.environment));
        let mut parts = Vec::new();
        for digest in &record.chunks {
            let entry = self.store.get(&layout::chunk(digest)).await?;
            let bytes = entry.ok_or_else(|| damaged(format!("chunk {} is missing", hex::encode(digest))))?.value;
            let digest = digest.as_slice().try_into().map_err(|_| damaged("a digest is not 32 bytes".to_owned()))?;
            parts.push(Chunk { digest, bytes });
        }
        if parts.iter().map(|part| part.bytes.len() as u64).sum::<u64>() != record.size_bytes {
            return Err(damaged("the chunks are not as long as its record says".to_owned()));
        }
        let expected = record.content_digest.clone();
        // 4 MiB are hashed twice and decoded.
        blocking(move || chunks::join(&parts, &expected)).await?.map_err(damaged)
    }

    /// Revisions below `before` (0: from the head on), newest first, at most `limit` of them and [`MAX_PAGE`].
    ///
    /// # Errors
    /// [`Refused::NoRevision`] for an environment without any, [`Refused::Damaged`], the store's.
    pub async fn list(&self, environment: &str, before: u64, limit: usize) -> Result<Page, Refused> {
        let missing = || Refused::NoRevision { environment: environment.to_owned(), number: 0 };
        let head = self.head(environment).await?.ok_or_else(missing)?;
        let after = if before == 0 { String::new() } else { layout::revision(environment, before) };
        let limit = limit.clamp(1, MAX_PAGE);
        let range = Range { prefix: layout::revisions(environment), after, limit: limit + 1, descending: true };
        let entries = self.store.list(range).await?;
        let (mut revisions, mut bytes) = (Vec::new(), 0);
        for entry in entries.iter().take(limit) {
            bytes += entry.value.len();
            if bytes > MAX_PAGE_BYTES && !revisions.is_empty() {
                break;
            }
            let number = entry.key.rsplit('/').next().and_then(|number| number.parse().ok()).unwrap_or_default();
            revisions.push(Revision::read(entry, environment, number)?);
        }
        Ok(Page { more: revisions.len() < entries.len(), revisions, head })
    }

    /// The environments that have revisions, in the order of their names, with their heads.
    ///
    /// # Errors
    /// [`Refused::Damaged`], the store's.
    pub async fn environments(&self) -> Result<Vec<(String, Head)>, Refused> {
        let mut environments = Vec::new();
        let mut after = String::new();
        loop {
            let range = Range { prefix: layout::ENVIRONMENTS.to_owned(), after, limit: 1, descending: false };
            let Some(entry) = self.store.list(range).await?.pop() else { return Ok(environments) };
            let rest = entry.key.strip_prefix(layout::ENVIRONMENTS).unwrap_or_default();
            let name = rest.split('/').next().unwrap_or_default();
            if let Some(head) = self.head(name).await? {
                environments.push((name.to_owned(), head));
            }
            // An environment may have a million keys and revisions: they are passed over. All are below `~`.
            after = format!("{}{name}/~", layout::ENVIRONMENTS);
        }
    }
}

impl Revision {
    fn read(entry: &Entry, environment: &str, number: u64) -> Result<Self, Refused> {
        let record = v1::RevisionRecord::decode(&*entry.value).ok();
        let record = record.filter(|record| record.environment == environment && record.number == number);
        let record = record.ok_or_else(|| Refused::Damaged(format!("{} is no such revision", entry.key)))?;
        Ok(Revision { record, digest: Some(sha256(&entry.value)) })
    }

    fn content_digest(&self) -> Result<[u8; 32], Refused> {
        let digest = self.record.content_digest.as_slice().try_into();
        digest.map_err(|_| Refused::Damaged(format!("revision {} has no content digest", self.record.number)))
    }
}

/// Whether the words of an operator can be kept.
fn legible(author: &str, message: &str) -> Result<(), Refused> {
    let check = |field: &'static str, text: &str, least: usize, most: usize| {
        let characters = text.chars().count();
        let problem = if !(least..=most).contains(&characters) {
            format!("it has {characters} characters, and {least} to {most} are allowed")
        } else if text.chars().any(|c| c.is_control() && c != '\n' && c != '\t') {
            "it has control characters".to_owned()
        } else {
            return Ok(());
        };
        Err(Refused::Malformed { field, problem })
    };
    check("author", author, 1, MAX_AUTHOR)?;
    check("message", message, 0, MAX_MESSAGE)
}

fn named(environment: &str) -> Result<(), Refused> {
    if layout::is_name(environment) {
        return Ok(());
    }
    let problem = "an environment's name is 1 to 128 characters of [a-zA-Z0-9._-], beginning with a letter or a digit";
    Err(Refused::Malformed { field: "environment", problem: problem.to_owned() })
}

/// Whether all connected nodes understand what is `used`.
fn understood(readers: &dyn Readers, environment: &str, used: &BTreeSet<String>) -> Result<(), Refused> {
    let nodes = readers.cannot_read(environment, used);
    if nodes.is_empty() { Ok(()) } else { Err(Refused::NodesCannotRead(nodes)) }
}

/// A transaction that happens if the key is as it was seen; `None`: it was not there.
fn compared(key: String, seen: Option<Version>) -> Transaction {
    Transaction::when(match seen {
        Some(version) => Condition::Unchanged(key, version),
        None => Condition::Absent(key),
    })
}

/// Work that would hold up others on a thread of the runtime.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Refused> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Refused::Internal(error.to_string()))
}
