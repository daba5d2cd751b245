use std::collections::BTreeMap;

use proptest::{collection::btree_map, collection::vec, option, prelude::*};
use prost_types::{Duration, ListValue, Struct, Value, value::Kind};
use switchtower_policy::load;

use super::*;

/// Names and texts, with all that YAML could take for something else.
fn text() -> impl Strategy<Value = String> {
    const ODD: &[&str] = &[
        "",
        "~",
        "null",
        "true",
        "No",
        "7",
        "-1",
        "1e5",
        "0x1f",
        ".inf",
        "inherit",
        "*",
        "&a",
        "!t",
        "- a",
        "? a",
        "a: b",
        "a #b",
        "'",
        "\"",
        "\\",
        "{",
        "[a]",
        "%",
        "@",
        "`",
        "<<",
        "---",
        "...",
        "a\nb",
        "a\n b\n",
        "\n",
        "a\n\n\nb",
        " a",
        "a ",
        "\t",
        "a\r\nb",
        "\u{0}",
        "\u{85}",
        "\u{2028}",
        "\u{feff}",
        "ä€😀",
        "8s",
        "10%",
        "us.amazon.nova-lite-v1:0",
    ];
    prop_oneof![
        3 => "[a-zA-Z0-9][a-zA-Z0-9._-]{0,12}",
        2 => proptest::sample::select(ODD).prop_map(str::to_owned),
        1 => vec(any::<char>(), 0..12).prop_map(|chars| chars.into_iter().collect::<String>()),
        1 => vec(proptest::sample::select(ODD), 0..4).prop_map(|parts| parts.concat()),
    ]
}

fn some_text() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), text()]
}

fn duration() -> impl Strategy<Value = Option<Duration>> {
    let millis = prop_oneof![any::<u32>().prop_map(u64::from), Just(0), Just(60_000), Just(7_200_000)];
    let of = |millis: u64| Duration { seconds: (millis / 1000) as i64, nanos: (millis % 1000) as i32 * 1_000_000 };
    option::of(millis.prop_map(of))
}

fn number() -> impl Strategy<Value = f64> {
    let whole = any::<i32>().prop_map(f64::from);
    prop_oneof![whole, proptest::num::f64::NORMAL, Just(-0.0), Just(0.0), Just(1e300), Just(9_007_199_254_740_992.0)]
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Kind::BoolValue),
        text().prop_map(Kind::StringValue),
        number().prop_map(Kind::NumberValue),
    ];
    let inner =
        prop_oneof![4 => leaf.clone(), 1 => Just(Kind::NullValue(0))].prop_map(|kind| Value { kind: Some(kind) });
    let nested = inner.prop_recursive(4, 16, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(|values| Kind::ListValue(ListValue { values })),
            btree_map(text(), inner, 0..4).prop_map(|fields| Kind::StructValue(Struct { fields })),
        ]
        .prop_map(|kind| Value { kind: Some(kind) })
    });
    // The reader takes no `null` at the top.
    nested.prop_filter("a value", |value| !matches!(value.kind, Some(Kind::NullValue(_))))
}

fn tier() -> impl Strategy<Value = v1::Tier> {
    use v1::tier::Kind;
    let answer = (text(), some_text()).prop_map(|(template, when)| Kind::Answer(v1::Answer { template, when }));
    prop_oneof![
        text().prop_map(Kind::Model),
        btree_map(text(), any::<u32>(), 0..4).prop_map(|weights| Kind::Split(v1::Split { weights })),
        answer,
        Just(Kind::Inherit(v1::Inherit {})),
    ]
    .prop_map(|kind| v1::Tier { kind: Some(kind) })
}

fn route() -> impl Strategy<Value = v1::Route> {
    let rule =
        (some_text(), vec(tier(), 0..3), some_text()).prop_map(|(when, tiers, name)| v1::Rule { when, tiers, name });
    let timeouts = (duration(), duration(), duration(), duration())
        .prop_map(|(connect, first_token, idle, total)| v1::Timeouts { connect, first_token, idle, total });
    let words = (some_text(), some_text(), some_text(), some_text());
    let lists = (vec(text(), 0..3), vec(tier(), 0..4), vec(rule, 0..3), vec(text(), 0..3));
    let numbers = (option::of(timeouts), option::of(any::<u32>()), 0..3_i32, 0..3_i32, option::of(any::<u32>()));
    (words, lists, numbers).prop_map(|(words, lists, numbers)| v1::Route {
        sticky: words.0,
        guardrail: words.1,
        residency: words.2,
        description: words.3,
        aliases: lists.0,
        tiers: lists.1,
        rules: lists.2,
        needs: lists.3,
        timeouts: numbers.0,
        max_output_tokens: numbers.1,
        on_broken_stream: numbers.2,
        upstream: numbers.3,
        min_context: numbers.4,
    })
}

fn flag() -> impl Strategy<Value = v1::Flag> {
    let rule = (some_text(), option::of(number()), option::of(value()), btree_map(text(), any::<u32>(), 0..3))
        .prop_map(|(when, percent, serve, split)| v1::FlagRule { when, percent, serve, split });
    (btree_map(text(), value(), 0..3), option::of(value()), vec(rule, 0..3), any::<bool>())
        .prop_map(|(variants, default, rules, disabled)| v1::Flag { variants, default, rules, disabled })
}

fn guardrail() -> impl Strategy<Value = v1::Guardrail> {
    let regional = (some_text(), some_text()).prop_map(|(id, version)| v1::RegionalGuardrail { id, version });
    (some_text(), some_text(), 0..4_i32, 0..3_i32, btree_map(text(), regional, 0..3)).prop_map(
        |(id, version, trace, stream_mode, regions)| v1::Guardrail { id, version, trace, stream_mode, regions },
    )
}

fn caller() -> impl Strategy<Value = v1::Caller> {
    let limits = (option::of(any::<u64>()), option::of(any::<u64>()), option::of(number())).prop_map(
        |(requests_per_minute, tokens_per_minute, dollars_per_day)| v1::Limits {
            requests_per_minute,
            tokens_per_minute,
            dollars_per_day,
        },
    );
    (some_text(), vec(text(), 0..4), option::of(limits)).prop_map(|(tenant, routes, limits)| v1::Caller {
        tenant,
        routes,
        limits,
    })
}

fn policy() -> impl Strategy<Value = v1::Policy> {
    let requirements =
        (some_text(), some_text(), option::of(any::<u32>())).prop_map(|(guardrail, residency, max_output_tokens)| {
            v1::Requirements { guardrail, residency, max_output_tokens }
        });
    let model = (some_text(), vec(text(), 0..4), option::of(any::<u64>())).prop_map(
        |(bedrock, regions, capacity_tokens_per_minute)| v1::Model { bedrock, regions, capacity_tokens_per_minute },
    );
    let rollout = (vec(text(), 0..3), duration(), btree_map(text(), text(), 0..3))
        .prop_map(|(stages, bake, gates)| v1::Rollout { stages, bake, gates });
    let prices = (option::of(number()), option::of(number()), option::of(number()), option::of(number()));
    let facts = (option::of(any::<u32>()), option::of(any::<u32>()), vec(text(), 0..3), prices).prop_map(
        |(context, max_output_tokens, features, prices)| v1::ModelFacts {
            context,
            max_output_tokens,
            features,
            input_price: prices.0,
            output_price: prices.1,
            cache_read_price: prices.2,
            cache_write_price: prices.3,
        },
    );
    let few = (option::of(requirements), option::of(rollout), btree_map(text(), facts, 0..2));
    let maps = (
        btree_map(text(), model, 0..3),
        btree_map(text(), route(), 0..3),
        btree_map(text(), flag(), 0..3),
        btree_map(text(), guardrail(), 0..2),
        btree_map(text(), caller(), 0..3),
    );
    // A section of a policy is refused without an environment's name in no other way than by compiling.
    (text(), few, maps).prop_map(|(environment, few, maps)| v1::Policy {
        environment,
        requirements: few.0,
        rollout: few.1,
        catalogue: few.2,
        models: maps.0,
        routes: maps.1,
        flags: maps.2,
        guardrails: maps.3,
        callers: maps.4,
    })
}

/// What the text reads as.
fn read_back(text: &str) -> (v1::Policy, Vec<String>) {
    let reading = read(&[File { name: "a.yaml".to_owned(), bytes: text.as_bytes().to_vec() }]);
    (reading.policy, reading.violations.iter().map(ToString::to_string).collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_reads_as_the_same_policy(policy in policy()) {
        let written = emit::document(&document(&policy));
        let (read, violations) = read_back(&written);
        prop_assert_eq!(violations, Vec::<String>::new(), "{}", written);
        prop_assert_eq!(items::items(&read), items::items(&policy), "{}", written);
        prop_assert_eq!(read, policy);
    }

    #[test]
    fn so_do_several_files(policy in policy()) {
        prop_assume!(!policy.environment.is_empty());
        prop_assert!(files(&policy, "# Why.").is_ok());
    }
}

#[test]
fn a_policy_is_written_as_people_write_it() {
    let yaml = concat!(include_str!("../../../../examples/dev/models.yaml"), "\n");
    let routes = include_str!("../../../../examples/dev/routes.yaml").replace("environment: dev", "");
    let (policy, violations) = read_back(&format!("{yaml}{routes}"));
    assert_eq!(violations, Vec::<String>::new());
    let expected = r#"environment: dev

requirements: { guardrail: standard, residency: us }

models:
  nova-lite:
    bedrock: us.amazon.nova-lite-v1:0
    regions: [us-east-1, us-west-2]
  sonnet:
    bedrock: us.anthropic.claude-sonnet-4-5-20250929-v1:0
    regions: [us-east-1, us-west-2]

guardrails:
  standard:
    regions:
      us-east-1: { id: gr-abc123, version: '7' }
      us-west-2: { id: gr-def456, version: '7' }
    trace: disabled
    stream_mode: sync

callers:
  acme-web:
    tenant: acme
    routes: [support-chat, quick]

routes:
  quick:
    tiers: [nova-lite]
  support-chat:
    description: 'Chat with customers; must always answer something.'
    aliases: [anthropic.claude-3-5-sonnet-20240620-v1:0]
    tiers:
      - split: { nova-lite: 10, sonnet: 90 }
      - nova-lite
      - { answer: 'We are very busy. Ticket {{ metadata.ticket }} is in the queue.' }
    rules:
      - name: gold on sonnet
        when: 'metadata.tier == "gold" && flag("gold-on-sonnet")'
        tiers: [sonnet, inherit]
    sticky: metadata.session
    timeouts: { first_token: 8s, idle: 30s, total: 2m }
    max_output_tokens: 4096
    on_broken_stream: error

flags:
  gold-on-sonnet:
    default: false
    rules:
      - { when: 'caller.tenant == "acme"', serve: true }
      - { percent: 10, serve: true }
"#;
    assert_eq!(super::text(&policy).unwrap(), expected);
    let written = files(&policy, "# Why.").unwrap();
    let names: Vec<&str> = written.iter().map(|file| file.name.as_str()).collect();
    assert_eq!(names, ["settings.yaml", "models.yaml", "guardrails.yaml", "callers.yaml", "routes.yaml", "flags.yaml"]);
    assert!(written[0].bytes.starts_with(b"# Why.\nenvironment: dev\n\nrequirements: "));
    assert_eq!(load(&written).unwrap().warnings, []);
}

#[test]
fn what_yaml_cannot_say_is_told_and_not_written() {
    let timeouts = v1::Timeouts { total: Some(Duration { seconds: 0, nanos: 1_500_001 }), ..Default::default() };
    let route = v1::Route { timeouts: Some(timeouts), ..Default::default() };
    let routes = BTreeMap::from([("chat".to_owned(), route)]);
    let policy = v1::Policy { environment: "prod".to_owned(), routes, ..Default::default() };
    assert_eq!(super::text(&policy), Err(vec!["route/chat".to_owned()]));
    assert_eq!(files(&policy, "#").map(|_| ()), Err(vec!["route/chat".to_owned()]));
}

#[test]
fn a_key_longer_than_yaml_likes_still_reads_back() {
    let fields = BTreeMap::from([("k".repeat(1500), Value { kind: Some(Kind::BoolValue(true)) })]);
    let flag =
        v1::Flag { default: Some(Value { kind: Some(Kind::StructValue(Struct { fields })) }), ..Default::default() };
    let flags = BTreeMap::from([("f".to_owned(), flag)]);
    let policy = v1::Policy { environment: "prod".to_owned(), flags, ..Default::default() };
    super::text(&policy).unwrap();
}
