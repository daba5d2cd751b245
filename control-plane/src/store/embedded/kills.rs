//! What was acknowledged, of a process that is killed again and again in the middle of what it does.
//!
//! The test starts itself as a child, which applies policies (small ones, and ones whose chunks go before the head's
//! transaction), rolls back, makes keys and revokes them, several at once, so that they are made durable together. It
//! says on a pipe what it begins, and what was acknowledged before it goes on. At one point of its work it stops for good
//! and says so: before, within or after a call of the file or of the store. Then it gets SIGKILL. The next opens the same
//! file, goes on, and is killed at another point, so that a history of many kills comes together; in between it is
//! compared with all that was ever said.
//!
//! This shows that no order of writes leaves anything half done behind. A killed process does not lose what it wrote and
//! the system has not brought to the disk: that is lost in `crash`, whose disk forgets what was not synced.
//!
//! `SWITCHTOWER_KILLS` says how many kills (`make kills`: 1000), `SWITCHTOWER_KILLS_SEED` with which seed to begin. A
//! seed gives the same points and the same acts; how the threads of the child take turns is not in it.

mod child;
mod disk;
mod ledger;
mod parent;
mod point;

use std::{
    collections::BTreeMap,
    env, panic,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Duration,
};

use self::parent::History;

/// Kills of one history: its file is then so large that opening it is most of the work.
const KILLS_OF_ONE: u64 = 20;
/// Histories at a time: mostly they wait for the disk.
const AT_ONCE: u64 = 3;
/// How soon a store must be there again, in release.
const SOON: Duration = Duration::from_secs(3);

/// The environments that are changed.
const ENVIRONMENTS: [&str; 2] = ["dev", "prod"];

fn number(name: &str, otherwise: u64) -> u64 {
    env::var(name).map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

#[test]
fn what_was_acknowledged_is_there_after_every_kill_and_the_rest_is_whole_or_absent() {
    if let Ok(order) = env::var(child::ORDER) {
        return child::run(&order);
    }
    let kills = number("SWITCHTOWER_KILLS", 60);
    let first = number("SWITCHTOWER_KILLS_SEED", 1);
    let histories = kills.div_ceil(KILLS_OF_ONE);
    let next = AtomicU64::new(0);
    let take = || {
        let history = next.fetch_add(1, Ordering::Relaxed);
        (history < histories).then(|| (first + history, KILLS_OF_ONE.min(kills - history * KILLS_OF_ONE)))
    };
    let survive_some = || {
        let mut told = Vec::new();
        while let Some((seed, kills)) = take() {
            told.push(survive(seed, kills));
        }
        told
    };
    let told: Vec<Told> = thread::scope(|scope| {
        let threads: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(survive_some)).collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap_or_else(|failure| panic::resume_unwind(failure)))
            .collect()
    });
    Told::sum(told).check(kills);
}

/// One history of so many kills.
fn survive(seed: u64, kills: u64) -> Told {
    let survived = panic::catch_unwind(|| History::new(seed).survive(kills));
    survived.unwrap_or_else(|failure| {
        eprintln!("once more: SWITCHTOWER_KILLS_SEED={seed} SWITCHTOWER_KILLS={KILLS_OF_ONE}");
        panic::resume_unwind(failure)
    })
}

/// What a history tells of itself.
#[derive(Debug, Default)]
struct Told {
    /// How often it was killed where.
    kills: BTreeMap<&'static str, u64>,
    /// Acts that were acknowledged.
    acknowledged: BTreeMap<&'static str, u64>,
    /// Acts that were begun, never acknowledged, and are there all the same.
    there: u64,
    /// Acts that were begun, and are not there.
    absent: u64,
    /// How long opening the killed store took each time.
    opened: Vec<Duration>,
    /// Bytes of the largest file.
    largest: u64,
}

impl Told {
    fn sum(all: Vec<Told>) -> Told {
        let mut sum = Told::default();
        for told in all {
            told.kills.into_iter().for_each(|(point, count)| *sum.kills.entry(point).or_default() += count);
            told.acknowledged.into_iter().for_each(|(act, count)| *sum.acknowledged.entry(act).or_default() += count);
            sum.there += told.there;
            sum.absent += told.absent;
            sum.opened.extend(told.opened);
            sum.largest = sum.largest.max(told.largest);
        }
        sum.opened.sort();
        sum
    }

    /// Tells it, and whether so much happened that it shows something.
    fn check(&self, kills: u64) {
        let (p50, max) = (self.opened[self.opened.len() / 2], self.opened[self.opened.len() - 1]);
        println!("kills: {:?}", self.kills);
        println!("acknowledged: {:?}", self.acknowledged);
        println!("not acknowledged: {} there whole, {} absent", self.there, self.absent);
        println!("opened {} times: p50 {p50:?}, max {max:?}, up to {} MiB", self.opened.len(), self.largest >> 20);
        assert_eq!(self.kills.values().sum::<u64>(), kills);
        assert!(cfg!(debug_assertions) || max <= SOON, "{max:?}");
        if kills >= 60 {
            for call in ["write", "sync", "length", "commit", "time", "large commit", "large write"] {
                assert!(self.kills.keys().any(|point| point.ends_with(call)), "nothing was killed at a {call}");
            }
            for act in ["apply", "rollback", "issue", "revoke"] {
                assert!(self.acknowledged.contains_key(act), "no {act} was acknowledged");
            }
            assert!(self.absent > 0 && self.there > 0, "both were seen");
        }
    }
}
