//! What is known of one node, by one start of its process.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use switchtower_proto::control::v1 as control;

use super::{
    state::{Desires, Schema},
    tally::{Counts, Share},
};

/// A wall clock that is off by more is a problem: keys would expire at another time than they should.
const CLOCK_OFF: u64 = 60_000;

/// What is known of a node.
#[derive(Debug)]
pub(super) struct Node {
    /// The stream that it has. 0: it has none, and whatever it serves is not known.
    pub(super) stream: u64,
    /// Absent: it was not seen since this control plane started.
    pub(super) instance: Option<[u8; 16]>,
    pub(super) region: Arc<str>,
    pub(super) build: Arc<str>,
    pub(super) schema: Option<Arc<Schema>>,
    /// Since when it has a stream, or has none.
    pub(super) since: SystemTime,
    pub(super) last_heard_at: SystemTime,
    pub(super) offered: Option<control::Offer>,
    pub(super) serving: Option<control::Serving>,
    pub(super) refused: Option<Refused>,
    /// In milliseconds. Absent: it did not say.
    pub(super) clock_ahead: Option<i64>,
    pub(super) came_back_older: bool,
    pub(super) lagging: bool,
    /// In its own words.
    pub(super) problem: Option<Box<str>>,
}

/// What a node refused last.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) assignment: u64,
    pub(super) revision: u64,
    pub(super) at: SystemTime,
    pub(super) violations: Arc<[control::Violation]>,
    /// Otherwise it may take it at another time.
    pub(super) for_good: bool,
}

impl Node {
    pub(super) fn is_connected(&self) -> bool {
        self.stream != 0
    }

    /// Whether it serves what it should.
    pub(super) fn serves(&self, desires: &Desires) -> bool {
        self.serving.as_ref().is_some_and(|serving| serving.assignment == desires.assignment)
    }

    /// Whether it refused what it should serve.
    pub(super) fn refuses(&self, desires: &Desires) -> bool {
        let refused = |refused: &Refused| refused.for_good && refused.assignment == desires.assignment;
        !self.serves(desires) && self.refused.as_ref().is_some_and(refused)
    }

    pub(super) fn share(&self, desires: &Desires) -> Share {
        let connected = self.is_connected();
        let counts = Counts {
            connected: u64::from(connected),
            serving: u64::from(connected && self.serves(desires)),
            refused: u64::from(connected && self.refuses(desires)),
            unknown: u64::from(!connected),
        };
        let revision = connected.then(|| self.serving.as_ref().map_or(0, |serving| serving.revision));
        Share { region: self.region.clone(), counts, revision }
    }

    /// What is wrong with it; `alone`: no other connected node has its name.
    pub(super) fn problems(&self, alone: bool) -> Vec<String> {
        let mut problems = Vec::new();
        if !self.is_connected() {
            return problems;
        }
        if !alone {
            problems.push("another node has its name: give each a name of its own".to_owned());
        }
        if let Some(ahead) = self.clock_ahead.filter(|ahead| ahead.unsigned_abs() > CLOCK_OFF) {
            let (seconds, way) = (ahead.unsigned_abs() / 1000, if ahead > 0 { "ahead" } else { "behind" });
            problems.push(format!("its clock is {seconds} s {way}: keys expire at another time than they should"));
        }
        if self.came_back_older {
            problems.push("it came back from an older generation of its last known good".to_owned());
        }
        if self.lagging {
            problems.push("it does not answer".to_owned());
        }
        problems.extend(self.problem.as_deref().map(str::to_owned));
        problems
    }

    pub(super) fn wire(&self, id: &str, environment: &str, alone: bool, desires: &Desires) -> control::Node {
        let connected = self.is_connected();
        let behind = connected && !self.serves(desires) && desires.assignment > 0;
        let refusal = |refused: &Refused| control::Refusal {
            revision: refused.revision,
            at: Some(refused.at.into()),
            violations: refused.violations.to_vec(),
        };
        control::Node {
            id: id.to_owned(),
            instance: self.instance.map(hex::encode).unwrap_or_default(),
            environment: environment.to_owned(),
            region: self.region.as_ref().to_owned(),
            build: self.build.as_ref().to_owned(),
            connection: if connected { control::Connection::Connected } else { control::Connection::Unknown }.into(),
            since: Some(self.since.into()),
            last_heard_at: Some(self.last_heard_at.into()),
            offered: self.offered,
            serving: self.serving.filter(|_| connected),
            refused: self.refused.as_ref().map(refusal),
            clock_ahead: self.clock_ahead.map(duration),
            problems: self.problems(alone),
            lagging_since: behind.then(|| self.since.max(desires.made_at).into()),
        }
    }
}

/// Milliseconds as the wire has them.
fn duration(milliseconds: i64) -> prost_types::Duration {
    // Remainders have their sign, as both members of the wire's must.
    let nanos = i32::try_from(milliseconds % 1000 * 1_000_000).unwrap_or_default();
    prost_types::Duration { seconds: milliseconds / 1000, nanos }
}

/// How far one clock is ahead of the other, in milliseconds.
pub(super) fn ahead(theirs: SystemTime, ours: SystemTime) -> i64 {
    let whole = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
    match theirs.duration_since(ours) {
        Ok(ahead) => whole(ahead),
        Err(behind) => -whole(behind.duration()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_are_compared_both_ways() {
        let epoch = SystemTime::UNIX_EPOCH;
        let check = |theirs: u64, ours: u64, expected: (i64, i32)| {
            let ahead = duration(ahead(epoch + Duration::from_millis(theirs), epoch + Duration::from_millis(ours)));
            assert_eq!((ahead.seconds, ahead.nanos), expected, "{theirs} {ours}");
        };
        check(61_500, 0, (61, 500_000_000));
        check(0, 61_500, (-61, -500_000_000));
        check(5, 5, (0, 0));
    }
}
