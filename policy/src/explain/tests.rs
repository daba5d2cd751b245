use super::*;
use crate::fixture::{Asking, asking, build};

fn snapshot() -> Snapshot {
    build()
        .model("nova", &["us-west-2", "us-east-1"])
        .model("sonnet", &["us-east-1", "us-west-2"])
        .flag("beta", &["caller.name == 'x'", "metadata.ring == 'a'", "@ 0"])
        .route("chat", "nova:10 sonnet:90 | nova | *metadata.tier == 'free' | *")
        .alias("model/x")
        .rule("metadata.tier == 'gold'", "sonnet")
        .rule("metadata.tier == 'silver' && flag('beta')", "nova | *")
        .rule("caller.name == 'nobody'", "nova")
        .caller("web", &["chat"])
        .done()
}

fn check(asking: &Asking, without: &[u32], expected: &str) {
    let snapshot = snapshot();
    let health = HealthView::without(without.iter().map(|target| TargetIndex(*target)));
    let text = explain(&snapshot, &asking.facts(&snapshot), &health, 0).to_string();
    let text: Vec<&str> = text.lines().map(str::trim_end).collect();
    assert_eq!(text.join("\n"), expected);
}

const LIMITS: &str = "
Limits
  at most 4096 output tokens
  no guardrail
  may leave any geography
  first content of a stream within 30s, then at most 30s between events
  the whole request within 600s
  a stream that breaks after its first content ends in an error";

#[test]
fn a_split_its_alternatives_and_what_is_left_out_are_told_in_words() {
    let expected = "\
`web` of tenant `web-tenant` asks for `model/x` in us-west-2, under revision abc123 of `test`.

Route `chat`, by its alias `model/x`
  rule `rule 1` is passed over, because metadata has no key `tier`: metadata.tier == 'gold'
  rule `rule 2` is passed over, because it is false: metadata.tier == 'silver' && flag('beta')
  rule `rule 3` is passed over, because it is false: caller.name == 'nobody'
  No rule matches, so the route's own tiers hold.

Flags
  `beta` is false (variant `false`, DEFAULT)
    passed over rule 1: its condition is false
    passed over rule 2: its condition ends in an error: metadata has no key `ring`
    passed over rule 3: the targeting key's bucket 98507 is outside its 0 %

Tier 1: `nova` 10, `sonnet` 90
  `sonnet` is first, by the targeting key `s-1\\n` (bucket 98414 of 100000)
  1. bedrock/us-west-2/id.sonnet (`sonnet`, in the node's own region)
     bedrock/us-east-1/id.sonnet (`sonnet`) is left out, because it is unavailable
  2. bedrock/us-west-2/id.nova (`nova`, an alternative, in the node's own region)
  3. bedrock/us-east-1/id.nova (`nova`, an alternative)
Tier 2: `nova`
     `nova` was in an earlier tier
Tier 3: an answer of our own when metadata.tier == 'free'
     left out, because metadata has no key `tier`
Tier 4: an answer of our own
  4. always answers
Steps are tried in the order of their numbers until one answers, at most 3 of them sent to a model, the last of these \
kept for the next tier.
";
    let asking = asking("model/x").by("web").from("us-west-2").with("session", "s-1\n");
    check(&asking, &[2], &format!("{expected}{LIMITS}"));
}

#[test]
fn a_matching_rule_ends_the_search_and_a_plan_of_nothing_says_so() {
    let expected = "\
`all` of tenant `all-tenant` asks for `chat`, under revision abc123 of `test`.

Route `chat`, by its name
  rule `rule 1` matches: metadata.tier == 'gold'
  rule `rule 2` is not reached: metadata.tier == 'silver' && flag('beta')
  rule `rule 3` is not reached: caller.name == 'nobody'
  So the tiers of rule `rule 1` hold.

Tier 1: `sonnet`
     bedrock/us-east-1/id.sonnet (`sonnet`) is left out, because it is unavailable
     bedrock/us-west-2/id.sonnet (`sonnet`) is left out, because it is unavailable
Nothing can be tried: no target is available, and no answer's condition holds.
";
    check(&asking("chat").with("tier", "gold"), &[2, 3], &format!("{expected}{LIMITS}"));
}

#[test]
fn an_unknown_route_is_told_with_what_was_probably_meant() {
    check(
        &asking("chta\u{1b}[2J").by("web"),
        &[],
        "`web` of tenant `web-tenant` asks for `chta\\u{1b}[2J`, under revision abc123 of `test`.\n\
         No route of this name is open to this caller: the request is refused.",
    );
    check(
        &asking("chta").by("web"),
        &[],
        "`web` of tenant `web-tenant` asks for `chta`, under revision abc123 of `test`.\n\
         No route of this name is open to this caller: the request is refused.\n\
         Perhaps it means `chat`.",
    );
}

#[test]
fn as_data_it_says_the_same() {
    let snapshot = snapshot();
    let asking = asking("chat").with("tier", "silver").with("ring", "a").from("us-east-1");
    let told = explain(&snapshot, &asking.facts(&snapshot), &HealthView::default(), 0);
    let json = serde_json::to_value(&told).expect("an explanation is JSON");
    let decision = &json["decision"];
    assert_eq!(decision["rule"], "rule 2");
    assert_eq!(decision["rules"][0]["outcome"], "false");
    assert_eq!(decision["rules"][1]["outcome"], "matched");
    assert_eq!(decision["rules"][2]["outcome"], "not_reached");
    assert_eq!(decision["flags"][0]["value"], true);
    assert_eq!(decision["flags"][0]["reason"], "TARGETING_MATCH");
    assert_eq!(decision["flags"][0]["rule"], 2);
    assert_eq!(decision["tiers"][0]["kind"], "models");
    assert_eq!(decision["tiers"][0]["chosen_by"], "only_one");
    assert_eq!(decision["tiers"][0]["targets"][0]["target"], "bedrock/us-east-1/id.nova");
    assert_eq!(decision["tiers"][0]["targets"][0]["step"], 1);
    assert_eq!(decision["tiers"][1]["kind"], "answer");
    assert_eq!(decision["tiers"][1]["step"], 3);
    assert_eq!(decision["limits"]["max_output_tokens"], 4096);
}
