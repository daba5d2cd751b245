//! The keys that the control plane sent: every record up to a version, and above all every revocation.
//!
//! Whatever an update, another epoch or an older file says, a key that was once known as revoked stays revoked: a store
//! that was restored from a copy, or a replay, must not let anybody in whom someone has locked out. For the same reason a
//! key never expires later than was once known: a rotation ends the old key so.

use std::{collections::BTreeMap, sync::Arc, time::SystemTime};

use bytes::Bytes;
use prost_types::Timestamp;
use switchtower_keys::{ID_LEN, Record};
use switchtower_proto::sync::v1;

/// The keys as they are known.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Keys {
    /// Epoch that the version counts in. Empty: there were none yet.
    pub epoch: String,
    /// Every change up to this one is in the records; 0: none.
    pub version: u64,
    records: Arc<BTreeMap<String, v1::KeyRecord>>,
}

impl Keys {
    /// Keys as they were kept.
    #[must_use]
    pub fn kept(epoch: String, version: u64, records: Vec<v1::KeyRecord>) -> Self {
        let records = records.into_iter().map(|record| (record.id.clone(), record)).collect();
        Keys { epoch, version, records: Arc::new(records) }
    }

    /// All records, in the order of their ids.
    pub fn records(&self) -> impl ExactSizeIterator<Item = &v1::KeyRecord> {
        self.records.values()
    }

    /// How many records there are, revoked ones among them.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The keys after a change; `None`: it is in them already.
    ///
    /// # Errors
    /// A sentence: the change begins after what is held.
    pub fn after(&self, epoch: &str, delta: &v1::KeysDelta) -> Result<Option<Keys>, String> {
        let held = if self.epoch == epoch { Some(self.version) } else { None };
        if held.is_some_and(|held| delta.to_version <= held) {
            return Ok(None);
        }
        if delta.from_version > held.unwrap_or(0) {
            let held = held.unwrap_or(0);
            return Err(format!("the keys begin at version {}, and this node holds {held}", delta.from_version));
        }
        let mut records = if delta.from_version == 0 { BTreeMap::new() } else { (*self.records).clone() };
        for record in &delta.put {
            // In memory of its own: as it was received, it would keep the whole update.
            let hash = Bytes::copy_from_slice(&record.hash);
            put(&mut records, v1::KeyRecord { hash, ..record.clone() });
        }
        for known in self.records.values() {
            end(&mut records, known);
        }
        Ok(Some(Keys { epoch: epoch.to_owned(), version: delta.to_version, records: Arc::new(records) }))
    }

    /// What is left where the store of this epoch has no keys: the revocations.
    #[must_use]
    pub(super) fn none_of(&self, epoch: &str) -> Keys {
        let revoked = self.records.iter().filter(|(_, record)| record.revoked_at.is_some());
        let records = revoked.map(|(id, record)| (id.clone(), record.clone())).collect();
        Keys { epoch: epoch.to_owned(), version: 0, records: Arc::new(records) }
    }

    /// These keys with every end that `others` know: their revocations, those of unknown keys too, and where they expire
    /// earlier, that. Gives whether this changed anything.
    #[must_use]
    pub fn ended_as_in(&self, others: &Keys) -> (Keys, bool) {
        let mut records = (*self.records).clone();
        let mut changed = false;
        for known in others.records() {
            changed |= end(&mut records, known);
        }
        (Keys { records: Arc::new(records), ..self.clone() }, changed)
    }

    /// Whether the same keys end at the same times.
    #[must_use]
    pub fn end_as(&self, others: &Keys) -> bool {
        self.ends().eq(others.ends())
    }

    fn ends(&self) -> impl Iterator<Item = (&str, Option<Timestamp>, Option<Timestamp>)> {
        let ends = self.records().map(|record| (record.id.as_str(), record.expires_at, record.revoked_at));
        ends.filter(|(_, expires, revoked)| expires.is_some() || revoked.is_some())
    }

    /// The records as the keyring takes them, and what is wrong with the others: they let nobody in.
    #[must_use]
    pub fn read(&self) -> (Vec<Record>, Vec<String>) {
        let mut problems = Vec::new();
        let mut read = Vec::with_capacity(self.records.len());
        for record in self.records.values() {
            match self::read(record) {
                Some(record) => read.push(record),
                // Its id may be anything: it is not quoted.
                None => problems.push("a key of the control plane is malformed: it lets nobody in".to_owned()),
            }
        }
        problems.dedup();
        (read, problems)
    }
}

/// Puts a record, which ends no later than it was known to.
fn put(records: &mut BTreeMap<String, v1::KeyRecord>, mut record: v1::KeyRecord) {
    if let Some(known) = records.get(&record.id) {
        (record.expires_at, record.revoked_at) = ends(&record, known);
    }
    records.insert(record.id.clone(), record);
}

/// Ends a key as it is known to end elsewhere. What is revoked there and unknown here is taken, so that nothing older lets
/// it in later. Gives whether anything changed.
fn end(records: &mut BTreeMap<String, v1::KeyRecord>, known: &v1::KeyRecord) -> bool {
    let Some(record) = records.get_mut(&known.id) else {
        let revoked = known.revoked_at.is_some();
        if revoked {
            records.insert(known.id.clone(), known.clone());
        }
        return revoked;
    };
    let ends = ends(record, known);
    let changed = ends != (record.expires_at, record.revoked_at);
    (record.expires_at, record.revoked_at) = ends;
    changed
}

/// When a key of two records expires and was revoked. A rotation ends a key by its expiry, and none is ever put off: the
/// earlier one holds. Of two revocations the one that was known first is told.
fn ends(record: &v1::KeyRecord, known: &v1::KeyRecord) -> (Option<Timestamp>, Option<Timestamp>) {
    let order = |at: &Timestamp| (at.seconds, at.nanos);
    let expires = [record.expires_at, known.expires_at].into_iter().flatten().min_by_key(order);
    (expires, known.revoked_at.or(record.revoked_at))
}

fn read(record: &v1::KeyRecord) -> Option<Record> {
    let id = (record.id.len() == ID_LEN).then(|| record.id.clone())?;
    // A time that no clock has must not turn into none, which would be for ever.
    let time = |at: Option<prost_types::Timestamp>| at.map(SystemTime::try_from).transpose().ok();
    Some(Record {
        id,
        hash: record.hash.as_ref().try_into().ok()?,
        pepper: record.pepper.clone(),
        caller: record.caller.clone(),
        created: time(record.created_at)?.unwrap_or(SystemTime::UNIX_EPOCH),
        expires: time(record.expires_at)?,
        revoked: time(record.revoked_at)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `X`, or `X!`, which is revoked, or `X<5`, which expires at 5.
    fn record(text: &str) -> v1::KeyRecord {
        let at = |seconds| Timestamp { seconds, nanos: 0 };
        let (text, revoked_at) = match text.strip_suffix('!') {
            Some(text) => (text, Some(at(7))),
            None => (text, None),
        };
        let (id, expires_at) = match text.split_once('<') {
            Some((id, seconds)) => (id, Some(at(seconds.parse().unwrap()))),
            None => (text, None),
        };
        v1::KeyRecord { id: id.to_owned(), expires_at, revoked_at, ..v1::KeyRecord::default() }
    }

    fn keys(epoch: &str, version: u64, text: &str) -> Keys {
        Keys::kept(epoch.to_owned(), version, text.split_whitespace().map(record).collect())
    }

    fn told(keys: &Keys) -> String {
        let names = keys.records().map(|record| {
            let mark = if record.revoked_at.is_some() { "!" } else { "" };
            let expires = record.expires_at.map(|at| format!("<{}", at.seconds)).unwrap_or_default();
            format!("{}{expires}{mark}", record.id)
        });
        names.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn changes_are_taken_once_in_order_and_never_revive_a_key() {
        /// Held (epoch, version, records), change (epoch, from, to, records), and what is held then.
        #[track_caller]
        fn check(held: (&str, u64, &str), change: (&str, u64, u64, &str), expected: Result<Option<&str>, ()>) {
            let delta = v1::KeysDelta {
                from_version: change.1,
                to_version: change.2,
                put: change.3.split_whitespace().map(record).collect(),
            };
            let after = keys(held.0, held.1, held.2).after(change.0, &delta);
            if let Ok(Some(after)) = &after {
                assert_eq!((after.epoch.as_str(), after.version), (change.0, change.2));
            }
            let after = after.map(|after| after.as_ref().map(told)).map_err(|_| ());
            assert_eq!(after, expected.map(|expected| expected.map(str::to_owned)));
        }
        check(("", 0, ""), ("e", 0, 3, "a b"), Ok(Some("a b")));
        check(("e", 3, "a b"), ("e", 3, 4, "b! c"), Ok(Some("a b! c")));
        check(("e", 3, "a b"), ("e", 2, 4, "b! c"), Ok(Some("a b! c")));
        // Replayed, and from the future.
        check(("e", 4, "a b!"), ("e", 3, 4, "b"), Ok(None));
        check(("e", 4, "a b!"), ("e", 0, 4, "b"), Ok(None));
        check(("e", 4, "a b!"), ("e", 5, 6, "b"), Err(()));
        // From nothing, what is not named is gone; what was revoked is not.
        check(("e", 4, "a b!"), ("e", 0, 5, "b c"), Ok(Some("b! c")));
        check(("e", 4, "a b!"), ("e", 0, 5, "c"), Ok(Some("b! c")));
        // Another epoch counts anew.
        check(("e", 4, "a b!"), ("f", 0, 1, "a b"), Ok(Some("a b!")));
        check(("e", 4, "a b!"), ("f", 0, 0, ""), Ok(Some("b!")));
        check(("e", 4, "a b!"), ("f", 4, 5, "a"), Err(()));
        // A store that was restored from a copy does not know that a key was rotated.
        check(("e", 4, "a<5 b<5"), ("f", 0, 1, "a b<9"), Ok(Some("a<5 b<5")));
        check(("e", 4, "a<9"), ("e", 4, 5, "a<5"), Ok(Some("a<5")));
        // Twice in one change.
        check(("e", 4, "a"), ("e", 4, 5, "b! b"), Ok(Some("a b!")));
    }

    #[test]
    fn an_older_generation_takes_the_ends_that_the_newer_knows() {
        let check = |ours: &str, theirs: &str, expected: (&str, bool)| {
            let (keys, changed) = keys("e", 1, ours).ended_as_in(&keys("f", 9, theirs));
            assert_eq!((told(&keys).as_str(), changed, keys.version), (expected.0, expected.1, 1));
        };
        check("a b", "a! b", ("a! b", true));
        check("a! b", "a b", ("a! b", false));
        check("a", "a b!", ("a b!", true));
        check("a!", "a!", ("a!", false));
        // A rotation.
        check("a b<9 c<5", "a<5 b<5 c", ("a<5 b<5 c<5", true));
        check("a<5", "a<9 d<9", ("a<5", false));
    }

    #[test]
    fn a_record_that_cannot_be_read_lets_nobody_in_and_is_told() {
        let good = v1::KeyRecord {
            id: "A".repeat(16),
            hash: vec![1; 32].into(),
            pepper: "p".to_owned(),
            caller: "c".to_owned(),
            created_at: Some(prost_types::Timestamp { seconds: 1, nanos: 0 }),
            ..v1::KeyRecord::default()
        };
        let check = |change: &dyn Fn(&mut v1::KeyRecord), holds: bool| {
            let mut record = good.clone();
            change(&mut record);
            let (read, problems) = Keys::kept("e".to_owned(), 1, vec![record]).read();
            assert_eq!((read.len(), problems.len()), if holds { (1, 0) } else { (0, 1) });
        };
        check(&|_| {}, true);
        check(&|record| record.id.push('A'), false);
        check(&|record| record.hash = vec![1; 31].into(), false);
        check(&|record| record.expires_at = Some(prost_types::Timestamp { seconds: i64::MIN, nanos: 0 }), false);
        check(&|record| record.revoked_at = Some(prost_types::Timestamp { seconds: 5, nanos: 0 }), true);
    }
}
