//! What serves, and the operator should know.

use crate::support::{GOOD, file, told};

#[track_caller]
fn check(added: &str, expected: &[&str]) {
    assert_eq!(told(&[file(&format!("{GOOD}{added}"))]), expected, "{added}");
}

#[test]
fn what_is_stored_and_not_executed_is_told() {
    check(
        "rollout: { stages: [1 node, 1 region, 10%], bake: 5m, gates: { error_rate: +1pp } }",
        &["policy.yaml:7:1: warning[not_executed] rollout: the rollout: stored, and not executed by this version yet"],
    );
    check(
        "routes: { a: { tiers: [sonnet], upstream: stream } }",
        &[
            "policy.yaml:7:43: warning[not_executed] routes.a.upstream: `upstream: stream`: stored, and not executed by this version yet",
        ],
    );
    let limits = GOOD.replace("routes: ['*']", "routes: ['*'], limits: { tokens_per_minute: 5 }");
    assert_eq!(
        told(&[file(&limits)]),
        [
            "policy.yaml:6:26: warning[not_executed] callers.acme.limits: a caller's limits: stored, and not executed by this version yet",
        ]
    );
    let capacity = GOOD.replace("regions: [us-east-1] }", "regions: [us-east-1], capacity_tokens_per_minute: 5 }");
    assert_eq!(
        told(&[file(&capacity)]),
        [
            "policy.yaml:4:101: warning[not_executed] models.nova-lite.capacity_tokens_per_minute: a model's capacity: stored, and not executed by this version yet",
        ]
    );
}

#[test]
fn what_is_not_known_or_not_used_is_told() {
    let light = GOOD.replace("us.amazon.nova-lite-v1:0", "us.amazon.nova-light-v1:0");
    assert_eq!(
        told(&[file(&light)]),
        [
            "policy.yaml:4:25: warning[unknown_model_id] models.nova-lite.bedrock: the catalogue does not know `us.amazon.nova-light-v1:0`: it works, and its cost and limits are unknown; say them under `catalogue`; did you mean `us.amazon.nova-lite-v1:0`?",
        ]
    );
    let region = GOOD.replace("[us-east-1]", "[us-esat-1]");
    assert_eq!(
        told(&[file(&region)]),
        [
            "policy.yaml:4:61: warning[unknown_region] models.nova-lite.regions[0]: `us-esat-1` is not a region that this version knows; did you mean `us-east-1`?",
        ]
    );
    let europe = GOOD.replace("[us-east-1]", "[eu-west-1]");
    assert_eq!(
        told(&[file(&europe)]),
        [
            "policy.yaml:4:61: warning[profile_region] models.nova-lite.regions[0]: AWS does not offer this inference profile in eu-west-1",
        ]
    );
    let nobody = GOOD.replace("callers:\n  acme: { routes: ['*'] }\n", "routes: { a: { tiers: [sonnet] } }\n");
    assert_eq!(
        told(&[file(&nobody)]),
        ["policy.yaml:1:1: warning[no_callers] callers: there are no callers: nobody may use any route"]
    );
    let one = GOOD.replace("['*']", "[a]");
    let routes = "routes: { a: { tiers: [sonnet] }, b: { tiers: [sonnet] } }";
    assert_eq!(
        told(&[file(&format!("{one}{routes}"))]),
        ["policy.yaml:7:35: warning[unused_route] routes.b: no caller may use this route",]
    );
}

#[test]
fn a_guardrail_that_may_not_exist_in_a_region_and_one_that_changes_by_itself_are_told() {
    check(
        r#"guardrails: { g: { id: gr-1, version: DRAFT }, h: { id: gr-2, version: "1" } }
routes: { a: { tiers: [sonnet], guardrail: g }, b: { tiers: [nova-lite], guardrail: h } }"#,
        &[
            "policy.yaml:7:24: warning[guardrail_regions] guardrails.g.id: `gr-1` is called in us-east-1, us-west-2, and Bedrock makes a guardrail in one region, with an id of its own: where it does not exist every call is refused; give an id for each region under `guardrails.g.regions`",
            "policy.yaml:7:39: warning[guardrail_draft] guardrails.g.version: `DRAFT` changes with every edit of the guardrail, for all requests at once: name a version",
        ],
    );
}
