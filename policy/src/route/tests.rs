use crate::{
    Snapshot,
    fixture::{Asking, asking, build},
};

fn snapshot() -> Snapshot {
    build()
        .model("sonnet", &["us-east-1"])
        .model("nova", &["us-east-1"])
        .flag("beta", &["caller.name == 'acme'"])
        .route("support-chat", "sonnet | nova")
        .alias("anthropic.claude-3-5-sonnet-20240620-v1:0")
        .rule("metadata.tier == 'gold'", "sonnet")
        .rule("flag('beta')", "nova")
        .rule("!(metadata.tier == 'iron')", "nova | sonnet")
        .route("support-mail", "sonnet")
        .route("suport-chat-internal", "sonnet")
        .route("batch", "nova")
        .caller("acme", &["support-chat", "batch"])
        .done()
}

#[test]
fn the_first_rule_whose_condition_holds_is_taken() {
    let snapshot = snapshot();
    let check = |asking: Asking, expected: Option<u16>| {
        let facts = asking.facts(&snapshot);
        let resolved = snapshot.resolve(&facts).expect("the route is open");
        assert_eq!(&*snapshot.route(resolved.route).name, "support-chat");
        assert_eq!(resolved.rule, expected, "{asking:?}");
        let tiers = snapshot.tiers(resolved).len();
        assert_eq!(tiers, if matches!(expected, Some(0 | 1)) { 1 } else { 2 }, "{asking:?}");
    };
    check(asking("support-chat").with("tier", "gold"), Some(0));
    check(asking("support-chat").with("tier", "gold").by("acme"), Some(0));
    check(asking("support-chat").with("tier", "silver").by("acme"), Some(1));
    check(asking("support-chat").with("tier", "silver"), Some(2));
    check(asking("support-chat").with("tier", "iron"), None);
    // A key that is missing is an error, and a condition that ends in one does not hold, negated or not.
    check(asking("support-chat"), None);
    check(asking("anthropic.claude-3-5-sonnet-20240620-v1:0").with("tier", "gold"), Some(0));
}

#[test]
fn an_unknown_route_is_told_with_the_nearest_that_are_open_to_the_caller() {
    let snapshot = snapshot();
    let check = |asking: Asking, expected: &[&str]| {
        let unknown = snapshot.resolve(&asking.facts(&snapshot)).expect_err("unknown");
        assert_eq!(unknown.nearest, expected, "{asking:?}");
    };
    check(asking("suport-chat"), &["suport-chat-internal", "support-chat", "support-mail"][..2]);
    check(asking("suport-chat").by("acme"), &["support-chat"]);
    check(asking("support"), &["support-chat", "support-mail"]);
    check(asking("Batch"), &["batch"]);
    check(asking("bacth"), &["batch"]);
    check(asking("anthropic.claude-3-5-sonnet-20240620-v2:0"), &["anthropic.claude-3-5-sonnet-20240620-v1:0"]);
    check(asking("something-else-entirely"), &[]);
    check(asking(""), &[]);
    check(asking(&"support-chat".repeat(1000)), &[]);
    check(asking("日本語"), &[]);
}

#[test]
fn a_route_that_is_not_open_looks_like_one_that_does_not_exist() {
    let with = snapshot();
    let without = build()
        .model("sonnet", &["us-east-1"])
        .route("support-chat", "sonnet")
        .alias("anthropic.claude-3-5-sonnet-20240620-v1:0")
        .route("batch", "sonnet")
        .caller("acme", &["support-chat", "batch"])
        .done();
    for asked in ["support-mail", "suport-chat-internal", "support-mai"] {
        let asking = asking(asked).by("acme");
        assert_eq!(with.resolve(&asking.facts(&with)), without.resolve(&asking.facts(&without)), "{asked}");
        assert!(with.resolve(&asking.facts(&with)).is_err());
    }
}
