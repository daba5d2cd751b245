//! Keys of callers: made, rotated, revoked. They belong to an environment and are part of no revision.
//!
//! What is stored of a key is its HMAC under the pepper, which is a file of the control plane's and not in the store: who
//! has the store alone has no key. The secrets are in one answer and nowhere else.
//!
//! Keys are never deleted: a node that comes back from its last known good must be told that a key is revoked. Each change
//! compares the key's record and has its event in the same transaction.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use prost::Message;
use switchtower_keys::{IssuedKey, KEY_RANDOM_BYTES, Peppers, Record, new_key};
use switchtower_proto::store::v1 as stored;

use crate::{
    events::{Event, Kind},
    layout,
    store::{self, Condition, Entry, Outcome, Range, Store, Transaction, Version},
};

/// Longest time for which a rotated key and its successor hold both.
pub const MAX_OVERLAP: Duration = Duration::from_secs(90 * 24 * 3600);
/// For how long they do if nobody says.
pub const OVERLAP: Duration = Duration::from_secs(24 * 3600);
/// How often a change is decided anew because others changed the same key in between.
const MAX_ATTEMPTS: usize = 20;

/// Why a key was not made or changed.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// No environment can have this name.
    #[error("an environment's name is 1 to 128 characters of [a-zA-Z0-9._-], beginning with a letter or a digit")]
    Environment,
    /// A key that nobody could use.
    #[error("{0}")]
    Invalid(#[from] switchtower_keys::Invalid),
    /// An overlap beyond [`MAX_OVERLAP`].
    #[error("the overlap is at most 90 days")]
    Overlap,
    /// There is no such key.
    #[error("environment {environment} has no key {id}")]
    NoKey {
        /// The environment.
        environment: String,
        /// The key's id.
        id: String,
    },
    /// It is revoked or expired.
    #[error("key {id} {ended}: issue a new one instead")]
    NotLive {
        /// The key's id.
        id: String,
        /// How it ended.
        ended: &'static str,
    },
    /// Two keys of one line hold already.
    #[error("key {old} was rotated to {new} already: rotate that one when {old} has ended, or revoke {old} now")]
    Rotating {
        /// The old key's id.
        old: String,
        /// The new key's id.
        new: String,
    },
    /// Others changed the same key again and again meanwhile.
    #[error("others change the same key all the time: try again")]
    Contended,
    /// What is stored is not what was written.
    #[error("what is stored is damaged: {0}")]
    Damaged(String),
    /// The store failed. Where it did so while it committed, only reading tells whether it happened.
    #[error("the store failed")]
    Store(#[from] store::Error),
}

/// Who does something, when, and what tells its event from others of the same moment.
#[derive(Clone, Copy, Debug)]
pub struct Act<'a> {
    /// Who.
    pub author: &'a str,
    /// When.
    pub now: SystemTime,
    /// Any number.
    pub random: u32,
}

/// A key without its secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// What nodes are told of it.
    pub record: Record,
    /// Id of the key that it was rotated from. Empty: of none.
    pub replaces: String,
    /// Id of the key that it was rotated to. Empty: to none.
    pub replaced_by: String,
}

/// A key that was made.
#[derive(Debug)]
pub struct Issued {
    /// The key.
    pub key: Key,
    /// Its secrets, to be shown once.
    pub secrets: IssuedKey,
    /// What happened, to be told: it is in the store.
    pub event: Event,
}

/// A key that was made in the place of another.
#[derive(Debug)]
pub struct Rotated {
    /// The new one.
    pub issued: Issued,
    /// The old one, with its end.
    pub replaced: Key,
}

/// A key that was revoked.
#[derive(Debug)]
pub struct Revoked {
    /// The key.
    pub key: Key,
    /// What happened, to be told: it is in the store. `None`: it was revoked before.
    pub event: Option<Event>,
}

/// What became of a key that was taken over.
#[derive(Debug)]
pub struct Adopted {
    /// The key as it is held.
    pub key: Key,
    /// What happened, to be told: it is in the store. `None`: it was there before.
    pub event: Option<Event>,
}

/// The keys of all environments.
#[derive(Clone)]
pub struct Keys {
    store: Arc<dyn Store>,
    peppers: Arc<Peppers>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("pepper", &self.peppers.current.id()).finish_non_exhaustive()
    }
}

impl Keys {
    /// Those of a store, hashed under these peppers.
    #[must_use]
    pub fn of(store: Arc<dyn Store>, peppers: Arc<Peppers>) -> Self {
        Keys { store, peppers }
    }

    /// Makes a key, which holds for `expires_after` or until it is revoked. `secret` must come from a cryptographic
    /// generator.
    ///
    /// # Errors
    /// [`Refused::Environment`], [`Refused::Invalid`], the store's.
    pub async fn issue(
        &self,
        environment: &str,
        caller: &str,
        expires_after: Option<Duration>,
        secret: &[u8; KEY_RANDOM_BYTES],
        act: Act<'_>,
    ) -> Result<Issued, Refused> {
        named(environment)?;
        let (record, secrets) = self.made(caller, expires_after, secret, act.now)?;
        let key = Key { record, replaces: String::new(), replaced_by: String::new() };
        let path = layout::key(environment, &key.record.id);
        let message = format!("key {} was made for {caller}", key.record.id);
        let event = event(environment, Kind::KeyIssued, &key, message, act);
        let transaction = Transaction::when(Condition::Absent(path.clone())).put(path, key.encode());
        match self.store.commit(event.kept_in(transaction, act.random)).await? {
            Outcome::Committed(_) => Ok(Issued { key, secrets, event }),
            // 80 random bits were drawn twice.
            Outcome::Conflict => Err(Refused::Contended),
        }
    }

    /// Takes a key that was made elsewhere, as it is; a key that is there already stays as it is there, and no event tells of
    /// it. For a key that is chosen and not drawn.
    ///
    /// # Errors
    /// [`Refused::Environment`], [`Refused::Damaged`], the store's.
    pub async fn adopt(&self, environment: &str, record: Record, act: Act<'_>) -> Result<Adopted, Refused> {
        named(environment)?;
        let key = Key { record, replaces: String::new(), replaced_by: String::new() };
        let path = layout::key(environment, &key.record.id);
        let message = format!("key {} was taken over for {}", key.record.id, key.record.caller);
        let event = event(environment, Kind::KeyIssued, &key, message, act);
        let transaction = Transaction::when(Condition::Absent(path.clone())).put(path, key.encode());
        if let Outcome::Committed(_) = self.store.commit(event.kept_in(transaction, act.random)).await? {
            return Ok(Adopted { key, event: Some(event) });
        }
        let there = self.list(environment).await?.into_iter().find(|there| there.record.id == key.record.id);
        // Keys are never deleted.
        Ok(Adopted { key: there.ok_or(Refused::Contended)?, event: None })
    }

    /// The keys of an environment, oldest first.
    ///
    /// # Errors
    /// [`Refused::Environment`], [`Refused::Damaged`], the store's.
    pub async fn list(&self, environment: &str) -> Result<Vec<Key>, Refused> {
        let mut keys: Vec<Key> = self.all(environment).await?.1.into_iter().map(|(key, _)| key).collect();
        keys.sort_by(|one, other| (one.record.created, &one.record.id).cmp(&(other.record.created, &other.record.id)));
        Ok(keys)
    }

    /// The keys of an environment, each with the version of its last change, and the newest of these versions: whoever
    /// holds that one holds every change.
    ///
    /// # Errors
    /// As [`Keys::list`].
    pub async fn all(&self, environment: &str) -> Result<(Version, Vec<(Key, Version)>), Refused> {
        named(environment)?;
        let entries = self.store.list(Range::all(layout::keys(environment))).await?;
        let keys =
            entries.iter().map(|entry| Ok((Key::read(entry)?, entry.version))).collect::<Result<Vec<_>, Refused>>()?;
        Ok((keys.iter().map(|(_, version)| *version).max().unwrap_or_default(), keys))
    }

    /// Makes a key for the same caller as another, and ends that one after `overlap`, unless it ends before.
    ///
    /// # Errors
    /// [`Refused::NoKey`], [`Refused::NotLive`], [`Refused::Rotating`], [`Refused::Overlap`], [`Refused::Invalid`], the
    /// store's.
    pub async fn rotate(
        &self,
        environment: &str,
        id: &str,
        overlap: Duration,
        expires_after: Option<Duration>,
        secret: &[u8; KEY_RANDOM_BYTES],
        act: Act<'_>,
    ) -> Result<Rotated, Refused> {
        if overlap > MAX_OVERLAP {
            return Err(Refused::Overlap);
        }
        for _ in 0..MAX_ATTEMPTS {
            let (old, version) = self.get(environment, id).await?;
            self.may_rotate(environment, &old, act.now).await?;
            let (record, secrets) = self.made(&old.record.caller, expires_after, secret, act.now)?;
            let new = Key { record, replaces: id.to_owned(), replaced_by: String::new() };
            let replaced = old.replaced(&new, act.now + overlap);
            let message = format!("key {} was made in the place of {id}, for {}", new.record.id, new.record.caller);
            let event = event(environment, Kind::KeyRotated, &new, message, act);
            let (path, new_path) = (layout::key(environment, id), layout::key(environment, &new.record.id));
            let transaction = Transaction::when(Condition::Unchanged(path.clone(), version))
                .and_when(Condition::Absent(new_path.clone()))
                .put(path, replaced.encode())
                .put(new_path, new.encode());
            if let Outcome::Committed(_) = self.store.commit(event.kept_in(transaction, act.random)).await? {
                return Ok(Rotated { issued: Issued { key: new, secrets, event }, replaced });
            }
        }
        Err(Refused::Contended)
    }

    /// Ends a key at once and for ever. One that is revoked already stays as it is.
    ///
    /// # Errors
    /// [`Refused::NoKey`], the store's.
    pub async fn revoke(&self, environment: &str, id: &str, act: Act<'_>) -> Result<Revoked, Refused> {
        for _ in 0..MAX_ATTEMPTS {
            let (mut key, version) = self.get(environment, id).await?;
            if key.record.revoked.is_some() {
                return Ok(Revoked { key, event: None });
            }
            key.record.revoked = Some(whole_seconds(act.now));
            let message = format!("key {id} of {} was revoked", key.record.caller);
            let event = event(environment, Kind::KeyRevoked, &key, message, act);
            let path = layout::key(environment, id);
            let transaction = Transaction::when(Condition::Unchanged(path.clone(), version)).put(path, key.encode());
            if let Outcome::Committed(_) = self.store.commit(event.kept_in(transaction, act.random)).await? {
                return Ok(Revoked { key, event: Some(event) });
            }
        }
        Err(Refused::Contended)
    }

    async fn get(&self, environment: &str, id: &str) -> Result<(Key, Version), Refused> {
        named(environment)?;
        let missing = || Refused::NoKey { environment: environment.to_owned(), id: id.chars().take(32).collect() };
        // What is no id could reach into other keys of the store.
        if id.len() != switchtower_keys::ID_LEN || !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(missing());
        }
        let entry = self.store.get(&layout::key(environment, id)).await?.ok_or_else(missing)?;
        Ok((Key::read(&entry)?, entry.version))
    }

    /// Whether a key may be rotated: it is live, and of its line no other is.
    async fn may_rotate(&self, environment: &str, key: &Key, now: SystemTime) -> Result<(), Refused> {
        let id = &key.record.id;
        if let Some(ended) = key.ended(now) {
            return Err(Refused::NotLive { id: id.clone(), ended });
        }
        if !key.replaced_by.is_empty() {
            return Err(Refused::Rotating { old: id.clone(), new: key.replaced_by.clone() });
        }
        if !key.replaces.is_empty() {
            let (before, _) = self.get(environment, &key.replaces).await?;
            if before.ended(now).is_none() {
                return Err(Refused::Rotating { old: before.record.id, new: id.clone() });
            }
        }
        Ok(())
    }

    fn made(
        &self,
        caller: &str,
        expires_after: Option<Duration>,
        secret: &[u8; KEY_RANDOM_BYTES],
        now: SystemTime,
    ) -> Result<(Record, IssuedKey), Refused> {
        let expires = match expires_after.map(|after| now.checked_add(after)) {
            Some(_) if expires_after < Some(Duration::from_secs(1)) => {
                return Err(switchtower_keys::Invalid::Expired.into());
            }
            Some(None) => return Err(switchtower_keys::Invalid::TooLate.into()),
            expires => expires.flatten(),
        };
        Ok(new_key(caller, &self.peppers.current, now, expires, secret)?)
    }
}

impl Key {
    fn read(entry: &Entry) -> Result<Self, Refused> {
        let key = stored::Key::decode(&*entry.value).ok().and_then(Key::of);
        let key = key.filter(|key| entry.key.rsplit('/').next() == Some(&*key.record.id));
        key.ok_or_else(|| Refused::Damaged(format!("{} is no such key", entry.key)))
    }

    fn of(key: stored::Key) -> Option<Self> {
        let time = |at: prost_types::Timestamp| SystemTime::try_from(at).ok();
        let optional = |at: Option<prost_types::Timestamp>| match at {
            None => Some(None),
            // A revocation that cannot be read is not one that was not made.
            Some(at) => time(at).map(Some),
        };
        let record = Record {
            id: key.id,
            hash: key.hash.try_into().ok()?,
            pepper: key.pepper,
            caller: key.caller,
            created: time(key.created_at?)?,
            expires: optional(key.expires_at)?,
            revoked: optional(key.revoked_at)?,
        };
        Some(Key { record, replaces: key.replaces, replaced_by: key.replaced_by })
    }

    fn encode(&self) -> Vec<u8> {
        let Record { id, hash, pepper, caller, created, expires, revoked } = &self.record;
        let key = stored::Key {
            id: id.clone(),
            hash: hash.to_vec(),
            pepper: pepper.clone(),
            caller: caller.clone(),
            created_at: Some((*created).into()),
            expires_at: expires.map(Into::into),
            revoked_at: revoked.map(Into::into),
            replaces: self.replaces.clone(),
            replaced_by: self.replaced_by.clone(),
        };
        key.encode_to_vec()
    }

    /// How the key ended; `None`: it holds.
    fn ended(&self, now: SystemTime) -> Option<&'static str> {
        match &self.record {
            Record { revoked: Some(_), .. } => Some("is revoked"),
            Record { expires: Some(expires), .. } if *expires <= now => Some("is expired"),
            _ => None,
        }
    }

    fn replaced(&self, by: &Key, end: SystemTime) -> Key {
        let mut key = self.clone();
        let end = whole_seconds(end);
        key.record.expires = Some(key.record.expires.map_or(end, |expires| expires.min(end)));
        key.replaced_by = by.record.id.clone();
        key
    }
}

fn event(environment: &str, kind: Kind, key: &Key, message: String, act: Act<'_>) -> Event {
    Event {
        at: act.now,
        environment: environment.to_owned(),
        kind,
        actor: act.author.to_owned(),
        subject: key.record.id.clone(),
        message,
    }
}

fn named(environment: &str) -> Result<(), Refused> {
    if layout::is_name(environment) { Ok(()) } else { Err(Refused::Environment) }
}

/// Without the fraction, as records have it.
fn whole_seconds(at: SystemTime) -> SystemTime {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    SystemTime::UNIX_EPOCH + Duration::from_secs(since.as_secs())
}
