use super::*;
use crate::fixture::{Asking, asking, build};

fn snapshot() -> Snapshot {
    build()
        .model("big", &["us-east-1", "us-west-2", "eu-west-1"])
        .model("mid", &["us-west-2", "us-east-1"])
        .model("small", &["eu-west-1"])
        .route("one", "big")
        .route("tiers", "big | mid | small")
        .route("overlap", "small | big:1 small:1 | mid")
        .route("canary", "big:0 mid:7 small:0 | small")
        .route("split", "big:60 mid:30 small:10")
        .route("by-user", "big:60 mid:30 small:10")
        .sticky(Sticky::Metadata("user".into()))
        .route("by-caller", "big:60 mid:30 small:10")
        .sticky(Sticky::Caller)
        .route("answers", "*metadata.tier == 'free' | big | *")
        .done()
}

/// The plan in words: `0:big@us-east-1`, `1:*`.
fn words(snapshot: &Snapshot, asking: &Asking, health: &HealthView, seed: u64) -> Vec<String> {
    let facts = asking.facts(snapshot);
    let resolved = snapshot.resolve(&facts).expect("the route exists");
    let plan = snapshot.plan(resolved, &facts, health, seed);
    let word = |step: &Step| match step.kind {
        StepKind::Answer(_) => format!("{}:*", step.tier),
        StepKind::Target(target) => {
            let target = snapshot.target(target);
            format!("{}:{}@{}", step.tier, snapshot.model(target.model).name, target.region)
        }
    };
    plan.steps.iter().map(word).collect()
}

fn check(asking: Asking, without: &[&str], expected: &str) {
    let snapshot = snapshot();
    let unavailable = snapshot.targets().iter().filter(|target| {
        let model = &snapshot.model(target.model).name;
        without.contains(&format!("{model}@{}", target.region).as_str())
    });
    let health = HealthView::without(unavailable.map(|target| target.index));
    assert_eq!(words(&snapshot, &asking, &health, 0).join(" "), expected);
}

#[test]
fn the_nodes_own_region_is_first_then_the_policys_order_holds() {
    check(asking("one"), &[], "0:big@us-east-1 0:big@us-west-2 0:big@eu-west-1");
    check(asking("one").from("eu-west-1"), &[], "0:big@eu-west-1 0:big@us-east-1 0:big@us-west-2");
    check(asking("one").from("sa-east-1"), &[], "0:big@us-east-1 0:big@us-west-2 0:big@eu-west-1");
}

#[test]
fn tiers_follow_each_other_and_a_target_stands_in_the_first_that_has_it() {
    check(
        asking("tiers").from("us-east-1"),
        &[],
        "0:big@us-east-1 0:big@us-west-2 0:big@eu-west-1 1:mid@us-east-1 1:mid@us-west-2 2:small@eu-west-1",
    );
    check(
        asking("overlap"),
        &[],
        "0:small@eu-west-1 1:big@us-east-1 1:big@us-west-2 1:big@eu-west-1 2:mid@us-west-2 2:mid@us-east-1",
    );
}

#[test]
fn a_model_without_weight_comes_only_after_the_others() {
    check(
        asking("canary"),
        &[],
        "0:mid@us-west-2 0:mid@us-east-1 0:big@us-east-1 0:big@us-west-2 0:big@eu-west-1 0:small@eu-west-1",
    );
}

#[test]
fn what_is_unavailable_is_left_out_and_the_next_tier_takes_over() {
    check(asking("one"), &["big@us-east-1"], "0:big@us-west-2 0:big@eu-west-1");
    check(
        asking("tiers"),
        &["big@us-east-1", "big@us-west-2", "big@eu-west-1", "mid@us-west-2"],
        "1:mid@us-east-1 2:small@eu-west-1",
    );
    check(asking("one"), &["big@us-east-1", "big@us-west-2", "big@eu-west-1"], "");
}

#[test]
fn answers_stand_where_their_conditions_hold() {
    check(asking("answers"), &[], "1:big@us-east-1 1:big@us-west-2 1:big@eu-west-1 2:*");
    check(asking("answers").with("tier", "free"), &[], "0:* 1:big@us-east-1 1:big@us-west-2 1:big@eu-west-1 2:*");
}

fn first(snapshot: &Snapshot, asking: &Asking, seed: u64) -> String {
    words(snapshot, asking, &HealthView::default(), seed).remove(0)
}

#[test]
fn the_sticky_key_picks_the_model() {
    let snapshot = snapshot();
    let picked = |key: &str, route: &str| {
        let place = Bucket::of(Salt::Route(route), key).choose([60, 30, 10].into_iter()).expect("weights");
        ["0:big@us-east-1", "0:mid@us-west-2", "0:small@eu-west-1"][place]
    };
    for number in 0..50 {
        let key = &format!("key-{number}");
        let check = |asking: Asking, expected: &str| assert_eq!(first(&snapshot, &asking, 0), expected, "{asking:?}");
        check(asking("split").with("session", key), picked(key, "split"));
        check(asking("split").with("session", "x").with("targeting_key", key), picked(key, "split"));
        check(asking("split").id(key), picked(key, "split"));
        check(asking("by-user").with("user", key).with("session", "x"), picked(key, "by-user"));
        check(asking("by-user").with("session", "x").id(key), picked(key, "by-user"));
        check(asking("by-user").with("user", "").id(key), picked(key, "by-user"));
        check(asking("by-caller").with("session", key), picked("all", "by-caller"));
    }
    // Chance decides only where there is nothing else.
    assert_eq!(first(&snapshot, &asking("split"), 0), first(&snapshot, &asking("split"), u64::MAX));
    assert_eq!(first(&snapshot, &asking("split").id(""), 0), "0:big@us-east-1");
    assert_eq!(first(&snapshot, &asking("split").id(""), u64::MAX), "0:small@eu-west-1");
}

#[test]
fn a_split_converges_to_its_weights_and_its_alternatives_follow_by_weight() {
    let snapshot = snapshot();
    let mut counts = [0_u32; 3];
    for number in 0..10_000 {
        let asking = asking("split").with("session", &format!("session-{number}"));
        let words = words(&snapshot, &asking, &HealthView::default(), 0);
        let order: String = ["big", "mid", "small"]
            .map(|model| (words.iter().position(|word| word.contains(model)), &model[..1]))
            .into_iter()
            .collect::<std::collections::BTreeMap<_, _>>()
            .into_values()
            .collect();
        match order.as_str() {
            "bms" => counts[0] += 1,
            "mbs" => counts[1] += 1,
            "sbm" => counts[2] += 1,
            other => panic!("{other}"),
        }
    }
    for (count, weight) in counts.into_iter().zip([0.6, 0.3, 0.1]) {
        let expected = 10_000.0 * weight;
        // Four standard deviations of a binomial.
        assert!((f64::from(count) - expected).abs() <= 4.0 * (expected * (1.0 - weight)).sqrt(), "{counts:?}");
    }
}
