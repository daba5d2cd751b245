//! Reads what should be out of the store, and believes nothing of it that a digest can check.

use std::{sync::Arc, time::SystemTime};

use aws_lc_rs::digest;
use bytes::{Bytes, BytesMut};
use prost::Message;
use switchtower_policy::items;
use switchtower_proto::{
    policy::v1::{Content, Item, RevisionRecord},
    store::v1 as stored,
    sync::v1::KeyRecord,
};

use super::{Desired, Digest, Error, Keys};
use crate::{
    layout,
    store::{self, Range, Store},
};

/// No content is longer: a record that says so is damaged, and is not worth the memory.
const MAX_CONTENT_BYTES: u64 = 8 << 20;

/// The names of all environments that have something in the store, by stepping from one to the next: what an environment
/// has may be thousands of records.
pub(crate) async fn environments(store: &dyn Store) -> Result<Vec<String>, store::Error> {
    let mut names = Vec::new();
    let mut after = String::new();
    loop {
        let prefix = layout::ENVIRONMENTS.to_owned();
        let next = store.list(Range { prefix, after, limit: 1, descending: false }).await?;
        let Some(entry) = next.first() else { return Ok(names) };
        let rest = entry.key.strip_prefix(layout::ENVIRONMENTS).unwrap_or_default();
        let name = rest.split('/').next().unwrap_or_default().to_owned();
        // After everything that begins with the name and a slash: the byte after the slash's is `0`.
        after = format!("{}{name}0", layout::ENVIRONMENTS);
        if layout::is_name(&name) {
            names.push(name);
        }
    }
}

/// Reads a store.
pub(super) struct Read<'a> {
    pub(super) store: &'a dyn Store,
}

impl Read<'_> {
    /// What an environment's nodes should hold; what is the same as in `known` is not read again. `None`: it has no head.
    pub(super) async fn desired(
        &self,
        epoch: &Arc<str>,
        environment: &str,
        known: Option<&Desired>,
    ) -> Result<Option<Desired>, Error> {
        let key = layout::head(environment);
        let Some(entry) = self.store.get(&key).await? else {
            return match known {
                Some(_) => Err(damaged(&key, "it was there and is gone")),
                None => Ok(None),
            };
        };
        let head = stored::Head::decode(entry.value).map_err(|error| damaged(&key, error.to_string()))?;
        let assignment = head.assignment.ok_or_else(|| damaged(&key, "it assigns nothing"))?;
        let content_digest: Digest = exact(&key, &assignment.content_digest)?;
        if let Some(known) = known.filter(|known| known.assignment > assignment.number) {
            let what = format!("assignment {} where {} was before", assignment.number, known.assignment);
            return Err(damaged(&key, what));
        }
        let items = match known.filter(|known| known.content_digest == content_digest) {
            Some(known) => known.items.clone(),
            None => self
                .content_of(environment, assignment.revision, &content_digest)
                .await?
                .ok_or_else(|| damaged(&key, format!("revision {} is missing or another", assignment.revision)))?,
        };
        Ok(Some(Desired {
            epoch: epoch.clone(),
            environment: known.map_or_else(|| environment.into(), |known| known.environment.clone()),
            assignment: assignment.number,
            revision: assignment.revision,
            content_digest,
            items,
            keys: self.keys(environment, known.map(|known| &known.keys)).await?,
            made_at: assignment.made_at.and_then(|at| at.try_into().ok()).unwrap_or(SystemTime::UNIX_EPOCH),
            traceparent: assignment.traceparent,
        }))
    }

    /// The content of a revision. `None`: there is no such revision, or it has another content.
    pub(super) async fn content_of(
        &self,
        environment: &str,
        revision: u64,
        digest: &Digest,
    ) -> Result<Option<Arc<[Item]>>, Error> {
        let key = layout::revision(environment, revision);
        let Some(entry) = self.store.get(&key).await? else { return Ok(None) };
        let record = RevisionRecord::decode(entry.value).map_err(|error| damaged(&key, error.to_string()))?;
        if record.content_digest != digest {
            return Ok(None);
        }
        if record.size_bytes > MAX_CONTENT_BYTES {
            return Err(damaged(&key, format!("a content of {} bytes", record.size_bytes)));
        }
        let content = self.joined(&record).await?;
        let content = Content::decode(content).map_err(|error| damaged(&key, error.to_string()))?;
        if items::digest(&content.items) != *digest {
            return Err(damaged(&key, "its content has another digest"));
        }
        Ok(Some(content.items.into()))
    }

    /// The chunks of a record's content in one.
    async fn joined(&self, record: &RevisionRecord) -> Result<Bytes, Error> {
        let mut joined = BytesMut::new();
        for expected in &record.chunks {
            let key = layout::chunk(expected);
            let chunk = self.store.get(&key).await?.ok_or_else(|| damaged(&key, "it is missing"))?.value;
            if digest::digest(&digest::SHA256, &chunk).as_ref() != expected.as_slice() {
                return Err(damaged(&key, "it has another digest"));
            }
            joined.extend_from_slice(&chunk);
            if joined.len() as u64 > record.size_bytes {
                return Err(damaged(&key, "it is longer than its record says"));
            }
        }
        Ok(joined.freeze())
    }

    /// The keys. They are never deleted and every change has a higher version: where number and newest version are the
    /// same, they are.
    async fn keys(&self, environment: &str, known: Option<&Arc<Keys>>) -> Result<Arc<Keys>, Error> {
        let entries = self.store.list(Range::all(layout::keys(environment))).await?;
        let version = entries.iter().map(|entry| entry.version.0).max().unwrap_or_default();
        if let Some(known) = known.filter(|known| (known.version, known.records.len()) == (version, entries.len())) {
            return Ok(known.clone());
        }
        let mut records = Vec::with_capacity(entries.len());
        for entry in entries {
            let key = stored::Key::decode(entry.value).map_err(|error| damaged(&entry.key, error.to_string()))?;
            records.push((entry.version.0, record(key)));
        }
        records.sort_by_key(|(changed, _)| *changed);
        Ok(Arc::new(Keys { version, records }))
    }
}

/// What nodes are told of a key.
fn record(key: stored::Key) -> KeyRecord {
    let stored::Key { id, hash, pepper, caller, created_at, expires_at, revoked_at, replaces: _, replaced_by: _ } = key;
    KeyRecord { id, hash: hash.into(), pepper, caller, created_at, expires_at, revoked_at }
}

fn exact(key: &str, digest: &[u8]) -> Result<Digest, Error> {
    digest.try_into().map_err(|_| damaged(key, format!("a digest of {} bytes", digest.len())))
}

fn damaged(key: &str, what: impl Into<String>) -> Error {
    Error::Damaged { key: key.to_owned(), what: what.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Condition, Outcome, Transaction, memory::Memory};

    async fn put(store: &Memory, key: &str, value: Vec<u8>) {
        let condition = match store.get(key).await.unwrap() {
            None => Condition::Absent(key.to_owned()),
            Some(entry) => Condition::Unchanged(key.to_owned(), entry.version),
        };
        let outcome = store.commit(Transaction::when(condition).put(key, value)).await.unwrap();
        assert!(matches!(outcome, Outcome::Committed(_)));
    }

    #[tokio::test]
    async fn environments_are_found_whatever_they_hold_and_whatever_their_names_begin_with() {
        let store = Memory::new();
        assert!(environments(&store).await.unwrap().is_empty());
        for key in [
            layout::head("dev"),
            layout::revision("dev", 1),
            layout::node("dev", "n"),
            layout::key("dev-2", "K"),
            layout::head("dev.a"),
            layout::head("dev0"),
            layout::head("prod"),
            layout::event(1, 1),
        ] {
            put(&store, &key, Vec::new()).await;
        }
        assert_eq!(environments(&store).await.unwrap(), ["dev-2", "dev.a", "dev", "dev0", "prod"]);
    }

    /// A revision of one item in two chunks, and the head that assigns it.
    async fn publish(store: &Memory) -> Digest {
        let item = Item { kind: "route".to_owned(), name: "chat".to_owned(), body: vec![7; 100].into() };
        let content_digest = items::digest(std::slice::from_ref(&item));
        let content = Content { items: vec![item] }.encode_to_vec();
        let mut chunks = Vec::new();
        for chunk in content.chunks(60) {
            let of = digest::digest(&digest::SHA256, chunk).as_ref().to_vec();
            put(store, &layout::chunk(&of), chunk.to_vec()).await;
            chunks.push(of);
        }
        let record = RevisionRecord {
            number: 1,
            content_digest: content_digest.to_vec(),
            size_bytes: content.len() as u64,
            chunks,
            ..RevisionRecord::default()
        };
        put(store, &layout::revision("prod", 1), record.encode_to_vec()).await;
        assign(store, 1, &content_digest).await;
        content_digest
    }

    async fn assign(store: &Memory, number: u64, digest: &Digest) {
        let content_digest = digest.to_vec();
        let assignment = stored::Assignment { number, revision: 1, content_digest, ..stored::Assignment::default() };
        let head = stored::Head { revision: 1, assignment: Some(assignment), ..stored::Head::default() };
        put(store, &layout::head("prod"), head.encode_to_vec()).await;
    }

    #[tokio::test]
    async fn what_a_digest_does_not_confirm_is_not_believed() {
        let store = Memory::new();
        let read = Read { store: &store };
        let epoch: Arc<str> = "e".into();
        assert!(read.desired(&epoch, "prod", None).await.unwrap().is_none());
        let content = publish(&store).await;
        let good = read.desired(&epoch, "prod", None).await.unwrap().unwrap();
        assert_eq!((good.assignment, good.content_digest, good.items.len()), (1, content, 1));
        assert!(read.content_of("prod", 1, &[0; 32]).await.unwrap().is_none());
        assert!(read.content_of("prod", 2, &content).await.unwrap().is_none());

        assign(&store, 2, &[0; 32]).await;
        let error = read.desired(&epoch, "prod", None).await.unwrap_err().to_string();
        assert!(error.starts_with("environment/prod/head: revision 1 is missing or another"), "{error}");
        assign(&store, 2, &content).await;
        let entry = store.list(Range::all("chunk/")).await.unwrap().remove(0);
        put(&store, &entry.key, b"other".to_vec()).await;
        let error = read.desired(&epoch, "prod", None).await.unwrap_err().to_string();
        assert!(error.starts_with(&format!("{}: it has another digest", entry.key)), "{error}");
        let again = read.desired(&epoch, "prod", Some(&good)).await.unwrap().unwrap();
        assert_eq!(again.assignment, 2, "a content that is known is not read again");
        assert!(Arc::ptr_eq(&again.items, &good.items));
        let error =
            read.desired(&epoch, "prod", Some(&Desired { assignment: 3, ..good })).await.unwrap_err().to_string();
        assert!(error.contains("assignment 2 where 3 was before"), "{error}");
    }

    #[tokio::test]
    async fn keys_are_read_again_only_when_one_changed() {
        let store = Memory::new();
        let read = Read { store: &store };
        assert_eq!(read.keys("prod", None).await.unwrap().version, 0);
        for id in ["A", "B", "A"] {
            let key = stored::Key { id: id.to_owned(), ..stored::Key::default() };
            put(&store, &layout::key("prod", id), key.encode_to_vec()).await;
        }
        let keys = read.keys("prod", None).await.unwrap();
        let ids = |from| keys.since(from).map(|key| key.id.as_str()).collect::<Vec<_>>();
        assert_eq!((ids(0), ids(2), ids(3)), (vec!["B", "A"], vec!["A"], vec![]));
        put(&store, &layout::head("prod"), Vec::new()).await;
        assert!(Arc::ptr_eq(&keys, &read.keys("prod", Some(&keys)).await.unwrap()));
        put(&store, &layout::key("prod", "C"), Vec::new()).await;
        assert_eq!(read.keys("prod", Some(&keys)).await.unwrap().records.len(), 3);
    }
}
