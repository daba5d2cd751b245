//! The buckets of `tests/vectors/bucket.json`, which another implementation made, and what holds of every bucket.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde::Deserialize;
use switchtower_policy::bucket::{BUCKETS, Bucket, Salt, Share, murmur3_32};

#[derive(Deserialize)]
struct Vectors {
    hash: Vec<Hash>,
    salted: Vec<Salted>,
    choices: Vec<Choice>,
    owned: Vec<Owned>,
}

#[derive(Deserialize)]
struct Hash {
    key: String,
    hash: u32,
    bucket: u32,
}

#[derive(Deserialize)]
struct Salted {
    purpose: String,
    name: String,
    key: String,
    bucket: u32,
}

#[derive(Deserialize)]
struct Choice {
    name: String,
    key: String,
    weights: Vec<u32>,
    bucket: u32,
    chosen: Option<usize>,
}

#[derive(Deserialize)]
struct Owned {
    weights: Vec<u32>,
    buckets: Vec<u32>,
}

fn vectors() -> Vectors {
    serde_json::from_str(include_str!("../vectors/bucket.json")).expect("the vectors are JSON")
}

#[test]
fn keys_hash_to_what_other_languages_hash_them_to() {
    for Hash { key, hash, bucket } in vectors().hash {
        assert_eq!(murmur3_32(&[key.as_bytes()]), hash, "{key:?}");
        assert_eq!(Bucket::of_seed(u64::from(hash) << 32).number(), bucket, "{key:?}");
    }
}

#[test]
fn keys_fall_into_the_buckets_that_other_languages_find() {
    for Salted { purpose, name, key, bucket } in vectors().salted {
        let salt = match purpose.as_str() {
            "flag" => Salt::Flag(&name),
            "flag_split" => Salt::FlagSplit(&name),
            "route" => Salt::Route(&name),
            other => panic!("unknown purpose {other}"),
        };
        assert_eq!(Bucket::of(salt, &key).number(), bucket, "{purpose} {name} {key:?}");
    }
}

#[test]
fn buckets_choose_what_other_languages_choose() {
    for Choice { name, key, weights, bucket, chosen } in vectors().choices {
        let found = Bucket::of(Salt::Route(&name), &key);
        assert_eq!(found.number(), bucket, "{name} {key}");
        assert_eq!(found.choose(weights.iter().copied()), chosen, "{key} of {weights:?}");
    }
}

/// A seed that falls into this bucket.
fn bucket(number: u32) -> Bucket {
    let hash = (u64::from(number) << 32).div_ceil(u64::from(BUCKETS));
    let bucket = Bucket::of_seed(hash << 32);
    assert_eq!(bucket.number(), number);
    bucket
}

#[test]
fn every_weight_owns_its_share_of_the_buckets() {
    for Owned { weights, buckets } in vectors().owned {
        let mut owned = vec![0; weights.len()];
        for number in 0..BUCKETS {
            owned[bucket(number).choose(weights.iter().copied()).expect("some weight")] += 1;
        }
        assert_eq!(owned, buckets, "{weights:?}");
    }
}

#[test]
fn keys_of_every_shape_converge_to_the_weights() {
    let weights = [60_u32, 30, 10];
    let shapes: BTreeMap<&str, fn(u32) -> String> = BTreeMap::from([
        ("counted", (|i| format!("session-{i}")) as fn(u32) -> String),
        ("numbers", |i| i.to_string()),
        ("hexadecimal", |i| format!("{:032x}", u128::from(i).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835))),
        ("addresses", |i| format!("user{}@example{}.com", i % 997, i / 997)),
    ]);
    for (shape, key) in shapes {
        let mut counts = [0_u32; 3];
        for i in 0..20_000 {
            let bucket = Bucket::of(Salt::Route("support-chat"), &key(i));
            counts[bucket.choose(weights.into_iter()).expect("some weight")] += 1;
        }
        for (count, weight) in counts.into_iter().zip(weights) {
            let share = f64::from(weight) / 100.0;
            // Four standard deviations of a binomial of 20 000.
            let most = 4.0 * (20_000.0 * share * (1.0 - share)).sqrt();
            assert!((f64::from(count) - 20_000.0 * share).abs() <= most, "{shape}: {counts:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_same_key_falls_into_the_same_bucket(name in "[a-z.-]{1,20}", key in any::<String>()) {
        let bucket = Bucket::of(Salt::Flag(&name), &key);
        prop_assert!(bucket.number() < BUCKETS);
        prop_assert_eq!(bucket, Bucket::of(Salt::Flag(&name.clone()), &key.clone()));
    }

    #[test]
    fn a_growing_share_keeps_whom_it_had(key in any::<String>(), a in 0..=BUCKETS, b in 0..=BUCKETS) {
        let share = |steps: u32| Share::from_percent(f64::from(steps) / 1000.0).expect("a share");
        let bucket = Bucket::of(Salt::Flag("flag"), &key);
        let (less, more) = (share(a.min(b)), share(a.max(b)));
        prop_assert!(less <= more);
        prop_assert!(!bucket.is_within(less) || bucket.is_within(more));
        prop_assert_eq!(bucket.is_within(less), bucket.number() < a.min(b));
    }

    #[test]
    fn of_two_weights_growing_one_only_moves_keys_into_it(
        seed: u64, weights in (0..1000_u32, 1..1000_u32), more in 1..1000_u32
    ) {
        let bucket = Bucket::of_seed(seed);
        let (first, second) = weights;
        let before = bucket.choose([first, second].into_iter());
        if before == Some(0) {
            prop_assert_eq!(bucket.choose([first + more, second].into_iter()), Some(0));
        } else {
            prop_assert_eq!(bucket.choose([first, second + more].into_iter()), Some(1));
        }
    }

    #[test]
    fn the_last_and_the_first_of_many_weights_keep_whom_they_had_when_they_grow(
        seed: u64, weights in prop::collection::vec(0..1_000_000_u32, 1..16), more in 1..1_000_000_u32
    ) {
        let bucket = Bucket::of_seed(seed);
        for place in [0, weights.len() - 1] {
            let mut grown = weights.clone();
            grown[place] += more;
            let (before, after) = (bucket.choose(weights.iter().copied()), bucket.choose(grown.iter().copied()));
            prop_assert!(before != Some(place) || after == Some(place));
        }
    }

    #[test]
    fn what_is_chosen_has_a_weight(seed: u64, weights in prop::collection::vec(0..5_u32, 0..16)) {
        match Bucket::of_seed(seed).choose(weights.iter().copied()) {
            Some(place) => prop_assert!(weights[place] > 0),
            None => prop_assert!(weights.iter().all(|weight| *weight == 0)),
        }
    }
}
