//! Stable hash -> bucket: who is in a share, and which of several weighted things a key gets.
//!
//! The same key falls into the same bucket in every language, on every node, for ever: the hash is MurmurHash3 (x86,
//! 32 bit, seed 0) over UTF-8 bytes, all arithmetic is on integers, and `tests/vectors/bucket.json` pins the results
//! for whoever writes it again.
//!
//! What is hashed is `name`, purpose, a zero byte, `key` ([`Salt`]). flagd joins flag and key without anything between
//! them, so its flag `a` with key `bc` is its flag `ab` with key `c`; the zero byte, which no name holds, keeps them
//! apart. The purpose begins with `/`, which no name holds either: a flag and a route of one name, and the share and
//! the split of one rule, fall independently of each other. Without that, the keys in "10 %" would all lie in the first
//! tenth of every other split too.

/// How many buckets there are: the smallest share is 0.001 %.
pub const BUCKETS: u32 = 100_000;

/// Where a key falls: 0 to 99 999.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bucket(u32);

/// What a key is bucketed for, so that being early in one thing does not mean being early in another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Salt<'a> {
    /// The percentages of a flag: hashed as its name. All of a flag's rules share it, so a later rule with a greater
    /// percentage takes in whom an earlier one took.
    Flag(&'a str),
    /// The splits of a flag: hashed as its name and `/split`.
    FlagSplit(&'a str),
    /// The splits of a route: hashed as its name and `/models`. All of its tiers and rules share it, so a change of
    /// rule keeps as many keys on their model as it can.
    Route(&'a str),
}

/// A share of all keys, in steps of 0.001 %.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share(u32);

impl Share {
    /// A share from percent; `None` unless it is 0 to 100 in steps of 0.001.
    #[must_use]
    pub fn from_percent(percent: f64) -> Option<Share> {
        if !(0.0..=100.0).contains(&percent) {
            return None;
        }
        let steps = (percent * 1000.0).round();
        // 0.001 has no exact double, so a product may miss its step by some 1e-11; whoever wrote 0.0015 misses by 0.5.
        ((percent * 1000.0 - steps).abs() < 1e-6).then_some(Share(steps as u32))
    }

    /// The share in percent.
    #[must_use]
    pub fn percent(self) -> f64 {
        f64::from(self.0) / 1000.0
    }
}

impl Bucket {
    /// Where `key` falls.
    #[must_use]
    pub fn of(salt: Salt<'_>, key: &str) -> Bucket {
        let (name, purpose) = match salt {
            Salt::Flag(name) => (name, ""),
            Salt::FlagSplit(name) => (name, "/split"),
            Salt::Route(name) => (name, "/models"),
        };
        Bucket::of_hash(murmur3_32(&[name.as_bytes(), purpose.as_bytes(), &[0], key.as_bytes()]))
    }

    /// Where a request falls that has nothing to hash: by a random number of its own.
    #[must_use]
    pub fn of_seed(seed: u64) -> Bucket {
        Bucket::of_hash((seed >> 32) as u32)
    }

    /// Multiplying takes the hash's high bits and needs no division; buckets are 42 949 or 42 950 hashes wide.
    fn of_hash(hash: u32) -> Bucket {
        Bucket(((u64::from(hash) * u64::from(BUCKETS)) >> 32) as u32)
    }

    /// Its number, 0 to 99 999.
    #[must_use]
    pub fn number(self) -> u32 {
        self.0
    }

    /// Whether it is among the first `share` of buckets. A share that grows keeps whom it had.
    #[must_use]
    pub fn is_within(self, share: Share) -> bool {
        self.0 < share.0
    }

    /// The place of the weight it falls on; `None` where all weights are 0. At most 2^32 weights.
    ///
    /// The weights lie side by side in their order, stretched over all buckets: weight `i` owns the buckets `b` with
    /// `before(i) <= b * total / 100000 < before(i + 1)`, where `before(i)` is the sum of the weights before it. So
    /// shares are exact to one bucket, and a weight below a hundred-thousandth of the total may own none.
    ///
    /// Between two weights, changing either moves keys in one direction only. Among more, the borders between the
    /// others move as well, each by no more than the shares changed: growing one weight can move keys between its
    /// neighbours. Rendezvous hashing would not, but needs logarithms, which languages do not agree on to the last bit.
    #[must_use]
    pub fn choose(self, weights: impl Iterator<Item = u32> + Clone) -> Option<usize> {
        let total: u64 = weights.clone().map(u64::from).sum();
        let point = u64::from(self.0) * total / u64::from(BUCKETS);
        let mut before = 0;
        weights
            .map(|weight| {
                before += u64::from(weight);
                before
            })
            .position(|after| point < after)
    }
}

/// MurmurHash3 x86 32 with seed 0 over the parts as if they were one, without joining them.
#[must_use]
pub fn murmur3_32(parts: &[&[u8]]) -> u32 {
    fn mixed(block: u32) -> u32 {
        block.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593)
    }

    let (mut hash, mut block, mut length) = (0_u32, 0_u32, 0_u32);
    for &byte in parts.iter().copied().flatten() {
        block |= u32::from(byte) << (8 * (length % 4));
        length = length.wrapping_add(1);
        if length.is_multiple_of(4) {
            hash = (hash ^ mixed(block)).rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64);
            block = 0;
        }
    }
    // An empty tail mixes to 0 and changes nothing.
    hash ^= mixed(block);
    hash ^= length;
    hash = (hash ^ (hash >> 16)).wrapping_mul(0x85eb_ca6b);
    hash = (hash ^ (hash >> 13)).wrapping_mul(0xc2b2_ae35);
    hash ^ (hash >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_read_in_thousandths_of_a_percent() {
        fn check(percent: f64, expected: Option<u32>) {
            assert_eq!(Share::from_percent(percent), expected.map(Share), "{percent} %");
        }
        check(0.0, Some(0));
        check(0.001, Some(1));
        check(0.07, Some(70));
        check(1.005, Some(1005));
        check(33.333, Some(33_333));
        check(99.999, Some(99_999));
        check(100.0, Some(100_000));
        check(0.0005, None);
        check(33.3333, None);
        check(-0.001, None);
        check(100.001, None);
        check(f64::NAN, None);
        check(f64::INFINITY, None);
    }

    #[test]
    fn every_bucket_is_in_the_whole_and_none_is_in_nothing() {
        for number in [0, 1, 50_000, BUCKETS - 1] {
            assert!(Bucket(number).is_within(Share(BUCKETS)));
            assert!(!Bucket(number).is_within(Share(0)));
        }
    }

    #[test]
    fn parts_are_hashed_as_if_they_were_one() {
        let whole = murmur3_32(&[b"gold-on-sonnet\0session-1"]);
        for cut in 0..24 {
            let (left, right) = b"gold-on-sonnet\0session-1".split_at(cut);
            assert_eq!(murmur3_32(&[left, right]), whole, "cut at {cut}");
        }
    }

    #[test]
    fn a_weight_of_zero_is_never_chosen_and_weights_of_zero_choose_nothing() {
        for number in 0..BUCKETS {
            assert_eq!(Bucket(number).choose([0, 7, 0].into_iter()), Some(1));
        }
        assert_eq!(Bucket(0).choose([0, 0].into_iter()), None);
        assert_eq!(Bucket(0).choose([].into_iter()), None);
    }

    #[test]
    fn seeds_reach_the_first_and_the_last_bucket() {
        assert_eq!(Bucket::of_seed(0), Bucket(0));
        assert_eq!(Bucket::of_seed(u64::MAX), Bucket(BUCKETS - 1));
    }

    #[test]
    fn shares_and_splits_of_one_name_fall_independently() {
        // The overlap of two independent tenths is a hundredth of 20 000 keys: 200, standard deviation 14.
        let tenth = Share(10_000);
        let both = |a: fn(&'static str) -> Salt<'static>, b: fn(&'static str) -> Salt<'static>| {
            (0..20_000)
                .map(|i| format!("session-{i}"))
                .filter(|key| Bucket::of(a("x"), key).is_within(tenth) && Bucket::of(b("x"), key).is_within(tenth))
                .count()
        };
        for (a, b) in [(Salt::Flag as fn(_) -> _, Salt::FlagSplit as fn(_) -> _), (Salt::Flag, Salt::Route)] {
            let overlap = both(a, b);
            assert!((140..=260).contains(&overlap), "{overlap} of 20000 keys are in both tenths");
        }
    }
}
