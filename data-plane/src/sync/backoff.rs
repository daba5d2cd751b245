//! How long a node waits before it comes back.
//!
//! Full jitter: thousands of nodes lose a control plane at the same moment, and what spreads their return is chance, not
//! the length of the wait. It grows until the control plane has said something, because a connection that is accepted
//! and then dropped is no success.

use std::time::Duration;

/// The wait before the next try.
#[derive(Clone, Debug)]
pub(super) struct Backoff {
    first: Duration,
    most: Duration,
    failures: u32,
}

impl Backoff {
    /// A wait that begins below `first` and doubles up to `most`.
    #[must_use]
    pub(super) fn new(first: Duration, most: Duration) -> Self {
        Backoff { first, most, failures: 0 }
    }

    /// The wait after one more failure; `random` is from 0 to 1.
    pub(super) fn next(&mut self, random: f64) -> Duration {
        let doubled = self.first.saturating_mul(2u32.saturating_pow(self.failures));
        self.failures = self.failures.saturating_add(1);
        doubled.min(self.most).mul_f64(random.clamp(0.0, 1.0))
    }

    /// The wait after an answer that trying again soon would not change.
    #[must_use]
    pub(super) fn slowly(&self, random: f64) -> Duration {
        self.most.mul_f64(random.clamp(0.0, 1.0) / 2.0 + 0.5)
    }

    /// The wait after an answer that somebody is about to change.
    #[must_use]
    pub(super) fn shortly(&self, random: f64) -> Duration {
        self.first.saturating_mul(4).min(self.most).mul_f64(random.clamp(0.0, 1.0) / 2.0 + 0.5)
    }

    /// The control plane has said something.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }
}

/// A moment between two; `random` is from 0 to 1. The later is at most an hour away, whoever asks.
#[must_use]
pub(super) fn between(least: Duration, most: Duration, random: f64) -> Duration {
    const LONGEST: Duration = Duration::from_secs(3600);
    let least = least.min(LONGEST);
    least + most.min(LONGEST).saturating_sub(least).mul_f64(random.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_most_and_begin_again_after_a_word() {
        let seconds = |mut backoff: Backoff, random: f64, count: usize| -> Vec<f64> {
            (0..count).map(|_| backoff.next(random).as_secs_f64()).collect()
        };
        let backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));
        assert_eq!(seconds(backoff.clone(), 1.0, 9), [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]);
        assert_eq!(seconds(backoff.clone(), 0.5, 3), [0.25, 0.5, 1.0]);
        assert_eq!(seconds(backoff.clone(), 0.0, 40), [0.0; 40]);
        let mut worn = backoff;
        for _ in 0..100 {
            worn.next(1.0);
        }
        assert_eq!(worn.next(1.0), Duration::from_secs(30));
        assert_eq!((worn.slowly(0.0), worn.slowly(1.0)), (Duration::from_secs(15), Duration::from_secs(30)));
        worn.reset();
        assert_eq!(worn.next(1.0), Duration::from_millis(500));
    }

    #[test]
    fn a_hint_is_drawn_from_and_bounded() {
        let check = |least: u64, most: u64, random: f64, expected: u64| {
            let drawn = between(Duration::from_secs(least), Duration::from_secs(most), random);
            assert_eq!(drawn, Duration::from_secs(expected), "{least} {most} {random}");
        };
        check(2, 4, 0.0, 2);
        check(2, 4, 0.5, 3);
        check(2, 4, 1.0, 4);
        check(4, 2, 1.0, 4);
        check(0, u64::MAX, 1.0, 3600);
        check(u64::MAX, u64::MAX, 1.0, 3600);
    }

    #[test]
    fn nodes_without_an_environment_look_again_within_seconds_and_not_all_at_once() {
        let backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));
        assert_eq!(backoff.shortly(0.0), Duration::from_secs(1));
        assert_eq!(backoff.shortly(1.0), Duration::from_secs(2));
    }
}
