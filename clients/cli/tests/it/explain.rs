use crate::support::{example, run};

/// With the example's policy, as its caller.
fn explain(args: &[&str]) -> crate::support::Ran {
    let folder = tempfile::tempdir().unwrap();
    let policy = example(folder.path());
    let who = ["explain", "--policy", policy.to_str().unwrap(), "--caller", "acme-web"];
    run(who.iter().chain(args))
}

#[test]
fn a_decision_is_told_in_words() {
    let ran = explain(&[
        "support-chat",
        "--metadata",
        "tier=gold",
        "--metadata",
        "session=s-1",
        "--region",
        "us-west-2",
        "--stream",
    ])
    .exits(0);
    for words in [
        "`acme-web` of tenant `acme` asks for `support-chat` in us-west-2",
        "rule `gold on sonnet` matches",
        "`gold-on-sonnet` is true",
        "1. bedrock/us-west-2/us.anthropic.claude-sonnet-4-5-20250929-v1:0",
        "at most 4096 output tokens",
        "guardrail `standard`",
    ] {
        assert!(ran.out.contains(words), "{words}: {ran:#?}");
    }
}

#[test]
fn a_decision_is_data_too() {
    let document = explain(&["quick", "--output", "json"]).exits(0).json();
    assert_eq!(document["decision"]["route"], "quick");
    assert_eq!(document["decision"]["tiers"][0]["chosen"], "nova-lite");
    assert_eq!(document["environment"], "dev");
}

#[test]
fn what_is_unavailable_is_left_out() {
    let steps = |unavailable: &str| {
        let document = explain(&["quick", "--unavailable", unavailable, "--output", "json"]).exits(0).json();
        let targets = document["decision"]["tiers"][0]["targets"].as_array().unwrap().clone();
        targets.iter().filter(|target| !target["step"].is_null()).count()
    };
    assert_eq!(steps("bedrock/us-east-1/us.amazon.nova-lite-v1:0"), 1);
    assert_eq!(steps("us-west-2"), 1);
    assert_eq!(steps("nova-lite"), 0);
    assert_eq!(steps("sonnet"), 2);
    let ran = explain(&["quick", "--unavailable", "mars"]).exits(65);
    assert!(ran.err.contains("bedrock/us-east-1/us.amazon.nova-lite-v1:0"), "{ran:#?}");
}

#[test]
fn a_split_goes_by_the_request_id_that_is_given() {
    let chosen = |id: &str| {
        let document = explain(&["support-chat", "--request-id", id, "--output", "json"]).exits(0).json();
        assert_eq!(document["decision"]["tiers"][0]["chosen_by"], "request_id");
        document["decision"]["tiers"][0]["bucket"].clone()
    };
    assert_eq!(chosen("a"), chosen("a"));
    assert_ne!(chosen("a"), chosen("b"));
}

#[test]
fn unknown_names_come_with_the_ones_that_are_known() {
    let ran = explain(&["support-chatt"]).exits(65);
    assert!(ran.out.contains("Perhaps it means `support-chat`"), "{ran:#?}");
    let folder = tempfile::tempdir().unwrap();
    let policy = example(folder.path());
    let ran = run(["explain", "quick", "--policy", policy.to_str().unwrap(), "--caller", "acme"]).exits(65);
    assert!(ran.err.contains("acme-web"), "{ran:#?}");
    std::fs::write(policy.join("more.yaml"), "environment: prod\n").unwrap();
    let ran = run(["explain", "quick", "--policy", policy.to_str().unwrap(), "--caller", "acme-web"]).exits(65);
    assert!(ran.err.contains("is refused: 1 error") && ran.err.contains("switchtower validate"), "{ran:#?}");
}
