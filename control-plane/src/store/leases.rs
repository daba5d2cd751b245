//! Who may have keys in a store for how long: the bookkeeping of stores that are one process's own.
//!
//! Pure: the time is an argument. What a lease's end does to keys is the store's.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

use super::Lease;

/// The leases that are not over.
#[derive(Debug, Default)]
pub(super) struct Leases {
    last: u64,
    held: BTreeMap<u64, Held>,
}

#[derive(Debug)]
struct Held {
    time_to_live: Duration,
    /// `None`: later than the clock can tell.
    until: Option<Instant>,
}

impl Leases {
    /// A new one.
    pub(super) fn grant(&mut self, now: Instant, time_to_live: Duration) -> Lease {
        self.last += 1;
        self.held.insert(self.last, Held { time_to_live, until: now.checked_add(time_to_live) });
        Lease(self.last)
    }

    /// Starts its time to live anew; `false`: it is over.
    pub(super) fn keep(&mut self, now: Instant, lease: Lease) -> bool {
        if !self.holds(now, lease) {
            return false;
        }
        if let Some(held) = self.held.get_mut(&lease.0) {
            held.until = now.checked_add(held.time_to_live);
        }
        true
    }

    /// Whether it is not over.
    pub(super) fn holds(&self, now: Instant, lease: Lease) -> bool {
        self.held.get(&lease.0).is_some_and(|held| held.until.is_none_or(|until| now < until))
    }

    /// It is over from now on.
    pub(super) fn end(&mut self, lease: Lease) {
        self.held.remove(&lease.0);
    }

    /// Those whose time has passed; they are over from now on.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<Lease> {
        let due = self.held.extract_if(.., |_, held| held.until.is_some_and(|until| until <= now));
        due.map(|(lease, _)| Lease(lease)).collect()
    }

    /// When the next one is due; `None`: no lease will be, unless one is granted.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.held.values().filter_map(|held| held.until).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_over_when_it_was_not_kept_for_its_time_to_live() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut leases = Leases::default();
        let (short, long) =
            (leases.grant(start, Duration::from_secs(10)), leases.grant(start, Duration::from_secs(60)));
        assert_eq!(leases.next_due(), Some(at(10)));
        assert!(leases.keep(at(9), short));
        assert_eq!(leases.next_due(), Some(at(19)));
        assert!(leases.holds(at(18), short));
        assert!(!leases.holds(at(19), short) && !leases.keep(at(19), short), "over before anybody looked");
        assert_eq!(leases.take_due(at(19)), [short]);
        assert_eq!(leases.take_due(at(19)), []);
        leases.end(long);
        assert!(!leases.holds(at(20), long));
        assert_eq!(leases.next_due(), None);
    }

    #[test]
    fn a_time_to_live_beyond_the_clock_never_ends_and_none_at_all_is_over_at_once() {
        let now = Instant::now();
        let mut leases = Leases::default();
        let (endless, none) = (leases.grant(now, Duration::MAX), leases.grant(now, Duration::ZERO));
        assert!(leases.keep(now, endless) && leases.holds(now, endless));
        assert!(!leases.holds(now, none));
        assert_eq!(leases.take_due(now), [none]);
        assert_eq!(leases.next_due(), None);
    }
}
