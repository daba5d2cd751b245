//! What a store promises, on a disk that does the worst it may.
//!
//! What was written and not synced may be lost, in any part and any order, when the power goes; a call may fail; a sync that
//! failed loses what it was to make safe, and the next says that all is well; the disk may be full.

use std::{
    collections::BTreeSet,
    io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard},
};

use bytes::Bytes;
use fastrand::Rng;
use futures_util::future::join_all;
use redb::StorageBackend;

use super::{Embedded, FileError, Options, room, tables};
use crate::store::{Condition, Error, Outcome, Range, Store, Transaction, Version};

/// What a disk writes in one piece.
const SECTOR: usize = 512;

/// A disk that outlives the stores on it.
#[derive(Clone, Debug)]
struct Disk(Arc<Mutex<Platter>>);

#[derive(Debug)]
struct Platter {
    /// What is there when the power comes back.
    durable: Vec<u8>,
    /// What is read.
    cached: Vec<u8>,
    /// What was done since the last sync, in order.
    unsynced: Vec<Change>,
    random: Rng,
    /// Which of the calls that change it come to nothing, counted from now on.
    failing: std::ops::Range<u64>,
    /// At which of them the power goes; then all calls fail.
    power_loss: u64,
    calls: u64,
    syncs: u64,
    capacity: usize,
    /// How often the power came back: a store from before cannot reach it.
    life: u64,
}

#[derive(Debug)]
enum Change {
    Write(usize, Vec<u8>),
    Length(usize),
}

impl Disk {
    /// A disk with an empty store.
    fn new(seed: u64) -> Self {
        let disk = Disk(Arc::new(Mutex::new(Platter {
            durable: Vec::new(),
            cached: Vec::new(),
            unsynced: Vec::new(),
            random: Rng::with_seed(seed),
            failing: 0..0,
            power_loss: u64::MAX,
            calls: 0,
            syncs: 0,
            capacity: usize::MAX,
            life: 0,
        })));
        let backend = room::Attached(Arc::new(room::Room::new(disk.attach(), Arc::default()).unwrap()));
        let database = redb::Builder::new().create_with_backend(backend).unwrap();
        let write = database.begin_write().unwrap();
        let head = tables::Head { epoch: "e".to_owned(), version: Version::default(), backup: false };
        tables::create(&write, &head).unwrap();
        write.commit().unwrap();
        database.close().unwrap();
        disk
    }

    fn platter(&self) -> MutexGuard<'_, Platter> {
        self.0.lock().unwrap()
    }

    fn attach(&self) -> Box<dyn StorageBackend> {
        Box::new(Attachment { disk: self.clone(), life: self.platter().life })
    }

    fn open(&self) -> Result<Embedded, FileError> {
        let disk = self.clone();
        Embedded::open_on(Path::new("disk"), Box::new(move || Ok(disk.attach())), Options { cache_bytes: 1 << 20 })
    }

    /// The process on it ends without warning. What it wrote is read as written, safe or not.
    fn kill(&self) {
        let mut platter = self.platter();
        (platter.failing, platter.calls) = (0..0, 0);
        platter.life += 1;
    }

    /// The power goes, if it has not, and comes back.
    fn power_cycle(&self) {
        let mut platter = self.platter();
        let platter = &mut *platter;
        let unsynced = std::mem::take(&mut platter.unsynced);
        lose_some(&mut platter.durable, unsynced, &mut platter.random);
        platter.cached = platter.durable.clone();
        (platter.failing, platter.power_loss, platter.calls) = (0..0, u64::MAX, 0);
        platter.life += 1;
    }
}

/// Makes any part of what was not synced durable, sector by sector, in any order.
fn lose_some(durable: &mut Vec<u8>, unsynced: Vec<Change>, random: &mut Rng) {
    // Mostly lost, mostly kept, or anything between: each finds other mistakes.
    let kept = [0.0, 0.1, 0.5, 0.9, 1.0][random.usize(..5)];
    let mut pieces = Vec::new();
    for change in unsynced {
        match change {
            Change::Length(length) => pieces.push(Change::Length(length)),
            Change::Write(at, bytes) => {
                // Sectors are those of the disk, not of the write.
                let mut from = 0;
                while from < bytes.len() {
                    let to = bytes.len().min((at + from) / SECTOR * SECTOR + SECTOR - at);
                    pieces.push(Change::Write(at + from, bytes[from..to].to_vec()));
                    from = to;
                }
            }
        }
    }
    if random.bool() {
        random.shuffle(&mut pieces);
    }
    for piece in pieces {
        if random.f64() < kept {
            apply(durable, &piece);
        }
    }
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Length(length) => bytes.resize(*length, 0),
        Change::Write(at, written) => {
            if bytes.len() < at + written.len() {
                bytes.resize(at + written.len(), 0);
            }
            bytes[*at..at + written.len()].copy_from_slice(written);
        }
    }
}

#[derive(Debug)]
struct Attachment {
    disk: Disk,
    life: u64,
}

impl Attachment {
    fn platter(&self) -> io::Result<MutexGuard<'_, Platter>> {
        let platter = self.disk.platter();
        if platter.life != self.life || platter.calls >= platter.power_loss {
            return Err(io::Error::other("the power is gone"));
        }
        Ok(platter)
    }

    /// Counts a call that changes the disk; whether it fails.
    fn call(&self) -> io::Result<(MutexGuard<'_, Platter>, bool)> {
        let mut platter = self.platter()?;
        let fails = platter.failing.contains(&platter.calls);
        platter.calls += 1;
        Ok((platter, fails))
    }

    fn change(&self, change: Change) -> io::Result<()> {
        let (mut platter, fails) = self.call()?;
        if fails {
            return Err(io::Error::other("the disk failed"));
        }
        if let Change::Write(at, bytes) = &change
            && at + bytes.len() > platter.capacity
        {
            return Err(io::ErrorKind::StorageFull.into());
        }
        apply(&mut platter.cached, &change);
        platter.unsynced.push(change);
        Ok(())
    }
}

impl StorageBackend for Attachment {
    fn len(&self) -> io::Result<u64> {
        Ok(self.platter()?.cached.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let at = usize::try_from(offset).unwrap();
        let platter = self.platter()?;
        let found = platter.cached.get(at..at + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(found);
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.change(Change::Length(usize::try_from(length).unwrap()))
    }

    fn sync_data(&self) -> io::Result<()> {
        let (mut platter, fails) = self.call()?;
        let platter = &mut *platter;
        platter.syncs += 1;
        let unsynced = std::mem::take(&mut platter.unsynced);
        if fails {
            // The system believes from now on that it was written.
            lose_some(&mut platter.durable, unsynced, &mut platter.random);
            return Err(io::Error::other("the disk failed"));
        }
        for change in &unsynced {
            apply(&mut platter.durable, change);
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.change(Change::Write(usize::try_from(offset).unwrap(), data.to_vec()))
    }
}

/// What one caller, who alone writes its two keys, knows of them.
struct Caller {
    keys: [String; 2],
    /// The numbers that may be there: one, unless the last attempt's outcome is not known. 0: nothing.
    possible: BTreeSet<u64>,
    attempts: u64,
}

impl Caller {
    fn new(number: usize) -> Self {
        let keys = [format!("a/{number}"), format!("b/{number}")];
        Caller { keys, possible: [0].into(), attempts: 0 }
    }

    /// Reads its keys, which must be as it knows them; now it knows. Gives the version of what is there.
    async fn look(&mut self, store: &Embedded) -> Result<Option<Version>, Error> {
        let found = (store.get(&self.keys[0]).await?, store.get(&self.keys[1]).await?);
        let (number, version) = match &found {
            (None, None) => (0, None),
            (Some(a), Some(b)) => {
                assert_eq!((&a.value, a.version), (&b.value, b.version), "half a transaction");
                (u64::from_le_bytes(a.value[..8].try_into().unwrap()), Some(a.version))
            }
            half => panic!("half a transaction: {half:?}"),
        };
        assert!(self.possible.contains(&number), "{number} is there, {:?} may be", self.possible);
        self.possible = [number].into();
        Ok(version)
    }

    /// Writes both keys; `None` where nothing was acknowledged.
    async fn attempt(&mut self, store: &Embedded, bytes: usize) -> Option<Version> {
        let before = self.look(store).await.ok()?;
        let condition = match before {
            Some(version) => Condition::Unchanged(self.keys[0].clone(), version),
            None => Condition::Absent(self.keys[0].clone()),
        };
        self.attempts += 1;
        let mut value = self.attempts.to_le_bytes().to_vec();
        value.resize(8 + bytes, u8::try_from(self.attempts % 251).unwrap());
        let value = Bytes::from(value);
        let [a, b] = &self.keys;
        match store.commit(Transaction::when(condition).put(a, value.clone()).put(b, value)).await {
            Ok(Outcome::Committed(version)) => {
                self.possible = [self.attempts].into();
                Some(version)
            }
            Ok(Outcome::Conflict) => panic!("nobody else writes these keys"),
            Err(_) => {
                self.possible.insert(self.attempts);
                None
            }
        }
    }
}

/// Lets callers write while the disk fails, then lets the power go; twice.
async fn survive(seed: u64) {
    let disk = Disk::new(seed);
    let mut random = Rng::with_seed(seed);
    let mut callers: Vec<_> = (0..3).map(Caller::new).collect();
    let mut seen = Version::default();
    for _ in 0..2 {
        {
            let mut platter = disk.platter();
            platter.power_loss = random.u64(0..80);
            if random.bool() {
                let from = random.u64(0..60);
                platter.failing = from..from + random.u64(1..4);
            }
        }
        if let Ok(store) = disk.open() {
            for _ in 0..6 {
                let bytes = *random.choice([10, 10, 3_000, 3_000, 40_000, 200_000].iter()).unwrap();
                let attempts = callers.iter_mut().map(|caller| caller.attempt(&store, bytes));
                let versions: BTreeSet<_> = join_all(attempts).await.into_iter().flatten().collect();
                if let (Some(first), Some(last)) = (versions.first(), versions.last()) {
                    assert!(*first > seen, "a version was given twice");
                    seen = *last;
                }
            }
            store.close().await;
        }
        disk.power_cycle();
        let store = disk.open().unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        for caller in &mut callers {
            if let Some(version) = caller.look(&store).await.unwrap() {
                seen = seen.max(version);
            }
        }
        assert!(*store.changes().borrow() >= seen);
        let version = callers[0].attempt(&store, 10).await.expect("the disk works again");
        assert!(version > seen, "a version was given twice");
        seen = version;
        store.close().await;
    }
}

fn survive_all(seeds: std::ops::Range<u64>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for seed in seeds {
        let survived = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| runtime.block_on(survive(seed))));
        assert!(survived.is_ok(), "seed {seed}");
    }
}

#[test]
fn what_was_acknowledged_survives_any_crash_and_the_rest_is_whole_or_absent() {
    survive_all(0..150);
}

#[test]
fn what_was_acknowledged_survives_any_other_crash_too() {
    survive_all(1_000..1_150);
}

async fn put(store: &Embedded, key: &str, bytes: usize) -> Result<Outcome, Error> {
    store.commit(Transaction::when(Condition::Absent(key.to_owned())).put(key, vec![1; bytes])).await
}

#[tokio::test]
async fn a_full_disk_refuses_whole_transactions_and_works_again_by_itself() {
    let disk = Disk::new(1);
    let store = disk.open().unwrap();
    put(&store, "before", 10).await.unwrap();
    let size = disk.platter().cached.len();
    disk.platter().capacity = size;
    let mut filled = 0;
    let full = loop {
        match put(&store, &format!("fill/{filled}"), 300_000).await {
            Ok(_) => filled += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(full, Error::Full(_)), "{full:?}");
    let opened = disk.platter().calls;
    for _ in 0..3 {
        let full = put(&store, "once more", 300_000).await.unwrap_err();
        assert!(matches!(full, Error::Full(_)), "{full:?}");
        assert_eq!(store.list(Range::all("fill/")).await.unwrap().len(), filled, "reading goes on");
    }
    assert!(disk.platter().calls - opened < 20, "the file is not opened anew for each");
    put(&store, "small", 10).await.unwrap();
    disk.platter().capacity = usize::MAX;
    put(&store, "once more", 300_000).await.unwrap();
    assert_eq!(store.list(Range::all("")).await.unwrap().len(), filled + 3);
    store.close().await;
    assert_eq!(disk.open().unwrap().list(Range::all("")).await.unwrap().len(), filled + 3);
}

#[tokio::test]
async fn a_commit_that_failed_did_not_happen_or_is_told_to_have() {
    let mut told = BTreeSet::new();
    for (seed, call) in (0..8).flat_map(|seed| (0..16).map(move |call| (seed, call))) {
        let disk = Disk::new(seed);
        let store = disk.open().unwrap();
        put(&store, "before", 10).await.unwrap();
        {
            let mut platter = disk.platter();
            platter.failing = platter.calls + call..platter.calls + call + 1;
        }
        // Pages of its own, which no later transaction writes again.
        let outcome = put(&store, "a", 20_000).await;
        disk.platter().failing = 0..0;
        let found = store.get("a").await.unwrap();
        assert_eq!(found.is_some(), outcome.is_ok(), "{seed} {call}: {outcome:?}");
        told.insert(outcome.is_ok());
        assert!(store.get("before").await.unwrap().is_some());
        put(&store, "after", 10).await.unwrap();
        // Without an orderly end: what a failed sync had lost must have been written anew.
        disk.power_cycle();
        drop(store);
        let store = disk.open().unwrap();
        assert_eq!(store.get("a").await.unwrap(), found, "{seed} {call}");
        assert!(store.get("after").await.unwrap().is_some());
    }
    assert_eq!(told, [false, true].into(), "both were seen");
}

#[tokio::test]
async fn what_a_killed_process_may_not_have_made_safe_is_written_anew_by_the_next() {
    for (seed, call) in (0..8).flat_map(|seed| (0..16).map(move |call| (seed, call))) {
        let disk = Disk::new(seed);
        let store = disk.open().unwrap();
        {
            let mut platter = disk.platter();
            platter.failing = platter.calls + call..u64::MAX;
        }
        let outcome = put(&store, "a", 20_000).await;
        disk.kill();
        drop(store);
        let store = disk.open().unwrap();
        let found = store.get("a").await.unwrap();
        assert!(found.is_some() || outcome.is_err(), "{seed} {call}");
        put(&store, "after", 10).await.unwrap();
        disk.power_cycle();
        drop(store);
        let store = disk.open().unwrap_or_else(|error| panic!("{seed} {call}: {error}"));
        assert_eq!(store.get("a").await.unwrap(), found, "{seed} {call}");
    }
}

#[tokio::test]
async fn a_disk_that_stays_away_is_told_of_until_it_is_back() {
    let disk = Disk::new(3);
    let store = disk.open().unwrap();
    put(&store, "before", 10).await.unwrap();
    disk.platter().failing = 0..u64::MAX;
    for _ in 0..3 {
        assert!(matches!(put(&store, "a", 10).await, Err(Error::Unavailable(_))));
    }
    assert!(matches!(store.get("before").await, Err(Error::Unavailable(_))), "nobody knows what is there");
    disk.platter().failing = 0..0;
    assert!(store.get("before").await.unwrap().is_some());
    put(&store, "b", 10).await.unwrap();
}

#[tokio::test]
async fn transactions_that_wait_are_made_durable_together() {
    let disk = Disk::new(4);
    let store = disk.open().unwrap();
    let before = disk.platter().syncs;
    let keys: Vec<_> = (0..100).map(|number| format!("a/{number}")).collect();
    let outcomes = join_all(keys.iter().map(|key| put(&store, key, 10))).await;
    let versions: BTreeSet<_> = outcomes
        .into_iter()
        .map(|outcome| match outcome.unwrap() {
            Outcome::Committed(version) => version,
            Outcome::Conflict => panic!("a conflict"),
        })
        .collect();
    assert_eq!(versions.len(), 100, "each has a version of its own");
    let syncs = disk.platter().syncs - before;
    assert!(syncs < 10, "{syncs} syncs");
}
