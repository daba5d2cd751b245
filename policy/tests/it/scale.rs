//! The largest policies that are allowed load.

use std::{fmt::Write, time::Instant};

use switchtower_policy::{
    File,
    diff::diff,
    items::{digest, items, policy, strict, used},
    load, read,
};
use switchtower_proto::policy::v1;

use crate::support::file;

/// `count` routes, each with a flag of its own in a rule.
fn policy_with(count: usize) -> File {
    let mut text = String::from("environment: big\nmodels:\n");
    for index in 0..100 {
        writeln!(text, "  m{index}: {{ bedrock: us.amazon.nova-{index}-v1:0, regions: [us-east-1, us-west-2] }}")
            .unwrap();
    }
    text.push_str("callers: { acme: { routes: ['*'] } }\nflags:\n");
    for index in 0..100 {
        writeln!(text, "  f{index}: {{ default: false, rules: [{{ percent: 10, serve: true }}] }}").unwrap();
    }
    text.push_str("routes:\n");
    for index in 0..count {
        let (model, flag) = (index % 100, index % 100);
        write!(
            text,
            "  route-{index}:\n    aliases: [alias-{index}]\n    tiers:\n      - split: {{ m{model}: 9, m{}: 1 }}\n      - \
             answer: busy\n    rules:\n      - when: 'metadata.tier == \"gold\" && flag(\"f{flag}\")'\n        tiers: \
             [m{model}, inherit]\n    timeouts: {{ total: 60s }}\n",
            (model + 1) % 100
        )
        .unwrap();
    }
    file(&text)
}

#[expect(clippy::disallowed_methods, reason = "it tells how long loading takes")]
#[test]
fn ten_thousand_routes_load() {
    let policy = policy_with(10_000);
    let begun = Instant::now();
    let compiled = load(std::slice::from_ref(&policy)).unwrap_or_else(|violations| panic!("{}", violations[0]));
    let loaded = begun.elapsed();
    let begun = Instant::now();
    let reading = read(std::slice::from_ref(&policy));
    println!("10 000 routes, {} bytes: {loaded:?}, of which reading {:?}", policy.bytes.len(), begun.elapsed());
    assert_eq!(reading.policy.routes.len(), 10_000);
    assert_eq!(compiled.snapshot.routes().len(), 10_000);
}

#[expect(clippy::disallowed_methods, reason = "it tells how long reading takes")]
#[test]
fn ten_thousand_items_are_taken_apart_read_and_compared() {
    let written = read(&[policy_with(10_000)]).policy;
    let mut begun = Instant::now();
    let mut told = String::new();
    let mut lap = |what: &str| {
        write!(told, " {what} {:?}", begun.elapsed()).unwrap();
        begun = Instant::now();
    };
    let apart = items(&written);
    lap("items");
    assert_ne!(digest(&apart), digest(&[]));
    lap("digest");
    let together = policy(&apart).unwrap();
    lap("policy");
    strict(&apart).unwrap();
    lap("strict");
    let used = used(&apart);
    lap("used");
    let changes = diff(&[], &apart);
    lap("diff");
    println!("{} items:{told}", apart.len());
    assert_eq!(together.policy, written);
    assert_eq!(changes.len(), apart.len());
    assert!(used.contains("Split.weights"));
}

/// Two lists of rules that have nothing in common, the longest that a message can hold: told in bounded time.
#[test]
fn the_longest_lists_are_compared() {
    let route = |when: &str| {
        let rule = v1::Rule { when: when.to_owned(), ..Default::default() };
        let route = v1::Route { rules: vec![rule; 200_000], ..Default::default() };
        items(&v1::Policy { routes: [("r".to_owned(), route)].into(), ..Default::default() })
    };
    assert_eq!(diff(&route("a"), &route("b")).len(), 200_000);
}

#[test]
fn one_route_more_than_allowed_is_a_violation() {
    let violations = load(&[policy_with(10_001)]).unwrap_err();
    assert_eq!(violations.len(), 1);
    assert_eq!((violations[0].code, &*violations[0].path), ("limit", "routes"));
}
