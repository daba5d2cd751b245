//! Reviews of documents.

use super::*;
use crate::{File, items, read};

const BASE: &str = r#"
environment: prod
models:
  sonnet: { bedrock: us.anthropic.claude-sonnet-4-5-20250929-v1:0, regions: [us-east-1, us-west-2] }
  nova-lite: { bedrock: us.amazon.nova-lite-v1:0, regions: [us-east-1] }
routes:
  chat:
    tiers: [sonnet, {split: {sonnet: 90, nova-lite: 10}}, {answer: "busy"}]
    rules:
      - { name: gold, when: 'metadata.tier == "gold"', tiers: [sonnet, inherit] }
      - { when: 'metadata.tier == "free"', tiers: [nova-lite] }
    timeouts: { first_token: 8s, total: 2m }
flags:
  fast: { default: false, rules: [{ percent: 10, serve: true }] }
callers:
  web: { routes: [chat, search], limits: { dollars_per_day: 12.5 } }
guardrails:
  std: { regions: { us-east-1: { id: gr-a, version: "7" } } }
"#;

fn items_of(text: &str) -> Vec<v1::Item> {
    let reading = read(&[File { name: "p.yaml".to_owned(), bytes: text.as_bytes().to_vec() }]);
    assert_eq!(reading.violations, []);
    items::items(&reading.policy)
}

/// What is told when `from` of the document becomes `to`.
#[track_caller]
fn check(from: &str, to: &str, expected: &[&str]) {
    assert!(BASE.contains(from), "{from}");
    let changes = diff(&items_of(BASE), &items_of(&BASE.replacen(from, to, 1)));
    let told: Vec<&str> = changes.iter().map(|change| change.words.as_str()).collect();
    assert_eq!(told, expected);
}

#[test]
fn fields_are_told_in_a_sentence() {
    check("prod", "prod", &[]);
    check("first_token: 8s", "first_token: 5s", &["route chat: timeouts: first_token 8s → 5s"]);
    check("total: 2m", "idle: 3s", &["route chat: timeouts: idle set to 3s", "route chat: timeouts: total 2m removed"]);
    check(
        "    timeouts: { first_token: 8s, total: 2m }\n",
        "",
        &["route chat: timeouts {first_token: 8s, total: 2m} removed"],
    );
    check(
        "    timeouts:",
        "    on_broken_stream: partial\n    timeouts:",
        &["route chat: on_broken_stream set to partial"],
    );
    check("12.5", "20", &["caller web: limits: dollars_per_day 12.5 → 20"]);
    check("id: gr-a", "id: gr-b", &["guardrail std: regions: us-east-1: id gr-a → gr-b"]);
    check(
        "environment: prod",
        "environment: prod\nrollout: { bake: 5m }\nrequirements: { residency: us }",
        &["settings: requirements set to {residency: us}", "settings: rollout set to {bake: 5m}"],
    );
}

#[test]
fn items_are_added_and_removed_whole() {
    check("flags:", "flags:\n  gold: { default: 1 }", &["flag gold: added"]);
    check("  nova-lite: {", "  nova-pro: {", &["model nova-lite: removed", "model nova-pro: added"]);
}

#[test]
fn lists_of_words_are_told_by_word() {
    check("[chat, search]", "[chat, search, billing]", &["caller web: routes: + billing"]);
    check("[chat, search]", "[billing, chat]", &["caller web: routes: - search", "caller web: routes: + billing"]);
    check(
        "[us-east-1, us-west-2]",
        "[us-west-2, us-east-1]",
        &["model sonnet: regions: order [us-east-1, us-west-2] → [us-west-2, us-east-1]"],
    );
    check("[us-east-1, us-west-2]", "[us-west-2]", &["model sonnet: regions: - us-east-1"]);
    check("timeouts:", "needs: [tools]\n    timeouts:", &["route chat: needs: + tools"]);
}

#[test]
fn tiers_are_told_by_their_place() {
    check("[sonnet, {split", "[nova-lite, {split", &["route chat: tier 1: model sonnet → nova-lite"]);
    check("[sonnet, {split", "[{split", &["route chat: tier 1 removed: sonnet"]);
    check("[sonnet, {split", "[nova-lite, sonnet, {split", &["route chat: tier 1 added: nova-lite"]);
    check("sonnet: 90", "sonnet: 80", &["route chat: tier 2: split: sonnet 90 → 80"]);
    check(", nova-lite: 10}", "}", &["route chat: tier 2: split: nova-lite 10 removed"]);
    check(
        "{split: {sonnet: 90, nova-lite: 10}}",
        "nova-lite",
        &["route chat: tier 2: {split: {nova-lite: 10, sonnet: 90}} → nova-lite"],
    );
    check(
        "answer: \"busy\"",
        "answer: \"full up\", when: 'true'",
        &["route chat: tier 3: answer busy → 'full up'", "route chat: tier 3: when set to 'true'"],
    );
}

#[test]
fn rules_that_move_or_come_between_are_told_as_that() {
    let free = "      - { when: 'metadata.tier == \"free\"', tiers: [nova-lite] }\n";
    check(
        "    rules:\n",
        "    rules:\n      - { when: 'metadata.a == \"b\"', tiers: [inherit] }\n",
        &["route chat: rule 1 added: {when: 'metadata.a == \"b\"', tiers: [inherit]}"],
    );
    check(free, "", &["route chat: rule 2 removed: {when: 'metadata.tier == \"free\"', tiers: [nova-lite]}"]);
    // The first rule becomes the second.
    let swapped = BASE.replace(free, "").replace("    rules:\n", &format!("    rules:\n{free}"));
    let changes = diff(&items_of(BASE), &items_of(&swapped));
    let told: Vec<_> = changes.iter().map(|change| (change.path.as_str(), change.words.as_str())).collect();
    assert_eq!(told, [("rules[1]", "route chat: rule 2 was rule 1 before")]);
    assert_eq!(changes[0].before, changes[0].after);
    // A new one in front of one that changed: the changed one is found by its name, or by its condition.
    let before_gold = "    rules:\n      - { when: 'metadata.x == \"1\"', tiers: [inherit] }\n";
    let changed = BASE
        .replace("    rules:\n", before_gold)
        .replace("\"gold\"", "\"silver\"")
        .replace("[nova-lite] }", "[sonnet] }");
    let told: Vec<String> = diff(&items_of(BASE), &items_of(&changed)).into_iter().map(|change| change.words).collect();
    assert_eq!(
        told,
        [
            "route chat: rule 1 added: {when: 'metadata.x == \"1\"', tiers: [inherit]}",
            "route chat: rule 2: when 'metadata.tier == \"gold\"' → 'metadata.tier == \"silver\"'",
            "route chat: rule 3: tier 1: model nova-lite → sonnet",
        ]
    );
    check("percent: 10, serve: true", "percent: 20, serve: true", &["flag fast: rule 1: percent 10 → 20"]);
}

#[test]
fn values_of_flags_are_told_as_they_are_written() {
    check(
        "default: false, rules: [{ percent: 10, serve: true }]",
        "default: { a: [1, 'x'], b: null }",
        &["flag fast: default false → {a: [1, x], b: null}", "flag fast: rule 1 removed: {percent: 10, serve: true}"],
    );
    check("flags:", "flags:\n  x: { variants: { on: true, off: false }, default: 'off' }", &["flag x: added"]);
}

#[test]
fn a_change_has_its_path_and_its_values_as_json() {
    let changed = BASE.replace("[sonnet, {split", "[nova-lite, {split").replace("fast:", "slow:");
    let changes = diff(&items_of(BASE), &items_of(&changed));
    let flag = Some(r#"{"default":false,"rules":[{"percent":10,"serve":true}]}"#);
    let told: Vec<_> = changes
        .iter()
        .map(|c| (c.what, &*c.item_kind, &*c.item_name, &*c.path, c.before.as_deref(), c.after.as_deref()))
        .collect();
    assert_eq!(
        told,
        [
            (What::Removed, "flag", "fast", "", flag, None),
            (What::Added, "flag", "slow", "", None, flag),
            (What::Changed, "route", "chat", "tiers[0].model", Some("\"sonnet\""), Some("\"nova-lite\"")),
        ]
    );
}

#[test]
fn what_nobody_here_knows_is_told_as_changed() {
    let item =
        |kind: &str, body: &[u8]| v1::Item { kind: kind.to_owned(), name: "x".to_owned(), body: body.to_vec().into() };
    #[track_caller]
    fn check(before: v1::Item, after: v1::Item, path: &str, values: (Option<&str>, Option<&str>), words: &str) {
        let changes = diff(&[before], &[after]);
        assert_eq!(changes.len(), 1, "{changes:?}");
        assert_eq!(changes[0].words, words);
        assert_eq!(changes[0].path, path);
        assert_eq!((changes[0].before.as_deref(), changes[0].after.as_deref()), values);
    }
    // Field 99 of a route: key, then a varint.
    let (none, one, two): (&[u8], &[u8], &[u8]) = (&[], &[0x98, 0x06, 1], &[0x98, 0x06, 2]);
    let words = "route x: field 99 changed, which this version does not know";
    check(item("route", one), item("route", two), "field 99", (Some("\"980601\""), Some("\"980602\"")), words);
    check(item("route", none), item("route", two), "field 99", (None, Some("\"980602\"")), words);
    // The same inside its timeouts.
    let within = |inner: &[u8]| [&[0x2a, inner.len() as u8], inner].concat();
    let words = "route x: timeouts: field 99 changed, which this version does not know";
    let (before, after) = (item("route", &within(one)), item("route", &within(two)));
    check(before, after, "timeouts.field 99", (Some("\"980601\""), Some("\"980602\"")), words);
    let words = "route x: upstream unary → 'value 7'";
    check(
        item("route", &[0x50, 1]),
        item("route", &[0x50, 7]),
        "upstream",
        (Some("\"unary\""), Some("\"value 7\"")),
        words,
    );
    let words = "gadget x: changed, in a way that this version cannot read";
    check(item("gadget", one), item("gadget", two), "", (Some("\"980601\""), Some("\"980602\"")), words);
    let words = "route x: encoded in another way, and says the same";
    check(
        item("route", &[0x50, 1]),
        item("route", &[0x50, 0x81, 0]),
        "",
        (Some("\"5001\""), Some("\"508100\"")),
        words,
    );
}
