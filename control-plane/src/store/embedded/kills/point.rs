//! Where the child stops, to be killed there.

use std::{
    future, io,
    io::Write,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::Duration,
};

use fastrand::Rng;

/// Says a line to the parent. A pipe takes a short line whole or not at all, and what it took outlives the process.
pub(super) fn say(line: &str) {
    // The test runner has begun a line of its own.
    let line = format!("\n@{line}\n");
    let mut out = io::stdout().lock();
    // A parent that is gone wants to know nothing more.
    let _ = out.write_all(line.as_bytes()).and_then(|()| out.flush());
}

/// What the child stops at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    /// The file is written.
    Write,
    /// It is synced.
    Sync,
    /// It is made longer or shorter.
    Length,
    /// A transaction goes into the store.
    Commit,
}

/// Where in a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    /// Nothing of it happened.
    Before,
    /// Half of what is written is.
    Within,
    /// It happened, and nobody knows.
    After,
}

/// A point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Point {
    /// At the call of this number since the child began, from 0 on.
    At(Call, When, u64),
    /// The same, counted from the first chunks on that go before the head's transaction.
    AtLarge(Call, When, u64),
    /// This long after the child began, wherever it is.
    Time(Duration),
}

impl Point {
    /// A point for the kill of this number: each call in its turn, and the place in it by chance. Some are among the
    /// first calls of a child, which are those of opening the store.
    pub(super) fn of(kill: u64, random: &mut Rng) -> Self {
        let when = if random.bool() { When::Before } else { When::After };
        match kill % 10 {
            0 => Point::At(Call::Write, when, random.u64(0..200)),
            1 => Point::At(Call::Sync, when, random.u64(0..4)),
            2 => Point::At(Call::Commit, when, random.u64(0..30)),
            3 => Point::At(Call::Write, When::Within, random.u64(0..200)),
            4 => Point::At(Call::Length, when, random.u64(0..2)),
            5 => Point::At(Call::Write, when, random.u64(0..8)),
            6 => Point::At(Call::Sync, when, random.u64(0..30)),
            7 => Point::Time(Duration::from_millis(random.u64(0..300))),
            8 if kill % 20 == 8 => Point::AtLarge(Call::Commit, when, random.u64(0..4)),
            8 => Point::AtLarge(Call::Write, When::Within, random.u64(0..40)),
            _ => Point::At(Call::Write, When::Within, random.u64(0..50)),
        }
    }

    /// Its words.
    pub(super) fn kind(self) -> &'static str {
        match self {
            Point::At(Call::Write, When::Before, _) => "before a write",
            Point::At(Call::Write, When::Within, _) => "within a write",
            Point::At(Call::Write, When::After, _) => "after a write",
            Point::At(Call::Sync, When::Before, _) => "before a sync",
            Point::At(Call::Sync, _, _) => "after a sync",
            Point::At(Call::Length, When::Before, _) => "before a change of length",
            Point::At(Call::Length, _, _) => "after a change of length",
            Point::At(Call::Commit, When::Before, _) => "before a commit",
            Point::At(Call::Commit, _, _) => "after a commit",
            Point::AtLarge(Call::Commit, _, _) => "at a large commit",
            Point::AtLarge(..) => "within a large write",
            Point::Time(_) => "at some time",
        }
    }
}

/// Counts calls, and stops for good at one.
#[derive(Debug)]
pub(super) struct Trap {
    point: Point,
    counts: AtomicBool,
    calls: [AtomicU64; 4],
}

impl Trap {
    pub(super) fn new(point: Point) -> Self {
        let counts = AtomicBool::new(!matches!(point, Point::AtLarge(..)));
        Trap { point, counts, calls: Default::default() }
    }

    /// A transaction of chunks alone begins.
    pub(super) fn large(&self) {
        self.counts.store(true, Ordering::Relaxed);
    }

    /// Counts a call. Where in it the child stops; `None`: it goes on.
    pub(super) fn count(&self, call: Call) -> Option<When> {
        if !self.counts.load(Ordering::Relaxed) {
            return None;
        }
        let number = self.calls[call as usize].fetch_add(1, Ordering::Relaxed);
        match self.point {
            Point::At(at, when, which) | Point::AtLarge(at, when, which) if at == call && which == number => Some(when),
            _ => None,
        }
    }

    /// Lets the parent know, and waits for the end.
    pub(super) fn stop(&self) -> ! {
        say("stopped");
        loop {
            thread::park();
        }
    }

    /// As [`Trap::stop`], for a task.
    pub(super) async fn stop_here(&self) {
        say("stopped");
        future::pending().await
    }
}
