//! Programs of different ages read each other's policies: the newer messages and the older ones of `tests/vectors/evolution`,
//! read by an implementation that is not ours.

use std::{collections::BTreeSet, path::Path};

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, Kind, MapKey, ReflectMessage, Value};
use switchtower_policy::{
    compile,
    diff::diff,
    items::{Schema, Unknown, apply_delta, delta, digest, items, missing, policy, schema, strict, used},
    read,
};
use switchtower_proto::policy::v1;

use crate::support::file;

const POLICY: &str = r#"environment: prod
models:
  sonnet: { bedrock: us.anthropic.claude-sonnet-4-5-20250929-v1:0, regions: [us-east-1] }
guardrails:
  std: { regions: { us-east-1: { id: gr-abc123, version: "7" } }, trace: enabled }
routes:
  chat:
    tiers: [sonnet, answer: busy]
    rules: [{ when: 'metadata.tier == "gold"', tiers: [inherit] }]
    timeouts: { first_token: 8s }
    upstream: unary
    guardrail: std
callers:
  web: { routes: ['*'] }
"#;

fn ours() -> Vec<v1::Item> {
    let reading = read(&[file(POLICY)]);
    assert_eq!(reading.violations, []);
    items(&reading.policy)
}

/// The messages of another time.
struct Messages {
    pool: DescriptorPool,
    schema: Schema,
}

impl Messages {
    fn of(age: &str) -> Messages {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/evolution").join(age);
        let set = protox::compile(["switchtower/policy/v1/policy.proto"], [directory]).unwrap().encode_to_vec();
        let pool = DescriptorPool::decode(set.as_slice()).unwrap();
        Messages { pool, schema: Schema::of(&set).unwrap() }
    }

    fn message(&self, name: &str) -> DynamicMessage {
        DynamicMessage::new(self.pool.get_message_by_name(&format!("switchtower.policy.v1.{name}")).unwrap())
    }

    /// An item's body as a program of that time reads it.
    fn read(&self, item: &v1::Item) -> DynamicMessage {
        let name = match item.kind.as_str() {
            "caller" => "Caller",
            "guardrail" => "Guardrail",
            "model" => "Model",
            "route" => "Route",
            "settings" => "Policy",
            kind => panic!("no {kind} in this policy"),
        };
        DynamicMessage::decode(self.message(name).descriptor(), item.body.clone()).unwrap()
    }
}

fn set(message: &mut DynamicMessage, field: &str, value: Value) {
    message.set_field_by_name(field, value);
}

fn text(text: &str) -> Value {
    Value::String(text.to_owned())
}

/// The message in a field of this message.
fn within<'m>(message: &'m mut DynamicMessage, field: &str) -> &'m mut DynamicMessage {
    message.get_field_by_name_mut(field).and_then(Value::as_message_mut).unwrap()
}

/// The first message of a list.
fn first<'m>(message: &'m mut DynamicMessage, field: &str) -> &'m mut DynamicMessage {
    message.get_field_by_name_mut(field).and_then(Value::as_list_mut).unwrap()[0].as_message_mut().unwrap()
}

/// Our policy with everything that the newer program knows and we do not, but for a kind of tier.
fn newer(messages: &Messages) -> Vec<v1::Item> {
    let mut gadget = messages.message("Gadget");
    set(&mut gadget, "what", text("a gadget"));
    let gadget = v1::Item { kind: "gadget".into(), name: "x".into(), body: gadget.encode_to_vec().into() };
    let mut items: Vec<v1::Item> = ours();
    for item in &mut items {
        let mut message = messages.read(item);
        match item.kind.as_str() {
            "settings" => set(&mut message, "owner", text("platform")),
            "route" => {
                set(&mut message, "upstream", Value::EnumNumber(7));
                let queue = within(&mut message, "timeouts").get_field_by_name("queue").unwrap().into_owned();
                set(within(&mut message, "timeouts"), "queue", queue);
                set(first(&mut message, "rules"), "days", Value::List(vec![text("monday")]));
            }
            "guardrail" => {
                set(&mut message, "trace", Value::EnumNumber(9));
                let regions = message.get_field_by_name_mut("regions").and_then(Value::as_map_mut).unwrap();
                let region = regions.get_mut(&MapKey::String("us-east-1".to_owned())).unwrap();
                set(region.as_message_mut().unwrap(), "owner", text("security"));
            }
            _ => continue,
        }
        item.body = message.encode_to_vec().into();
    }
    items.push(gadget);
    items.sort_by(|a, b| (&a.kind, &a.name).cmp(&(&b.kind, &b.name)));
    items
}

const UNKNOWN: [&str; 7] = [
    "gadget/x: unknown kind",
    "guardrail/std: Guardrail.Trace value 9",
    "guardrail/std: RegionalGuardrail.field 90",
    "route/chat: Rule.field 90",
    "route/chat: Timeouts.field 90",
    "route/chat: Upstream value 7",
    "settings: Policy.field 90",
];

#[test]
fn a_newer_policy_serves_what_we_know_and_tells_each_thing_that_we_do_not() {
    let newer = newer(&Messages::of("newer"));
    let read = policy(&newer).unwrap();
    let mut told: Vec<String> = read.ignored.iter().map(Unknown::to_string).collect();
    told.sort();
    assert_eq!(told, UNKNOWN);

    // All that we know is as it would be without the rest; values that we do not know are as if they were not there.
    let mut known = strict(&ours()).unwrap();
    known.routes.get_mut("chat").unwrap().upstream = 0;
    known.guardrails.get_mut("std").unwrap().trace = 0;
    assert_eq!(read.policy, known);
    let snapshot = compile(&read.policy).unwrap().snapshot.numbered(7);
    assert_eq!(snapshot.route_named("chat").map(|route| route.rules.len()), Some(1));
}

#[test]
fn a_newer_policy_goes_through_our_hands_as_it_was() {
    let messages = Messages::of("newer");
    let newer = newer(&messages);
    let (put, removed) = delta(&ours(), &newer);
    let forwarded = apply_delta(&ours(), put, &removed).unwrap();
    assert_eq!(forwarded, newer);
    assert_eq!(digest(&forwarded), digest(&newer));
    assert_ne!(digest(&newer), digest(&ours()));
    // The newer program finds there what it wrote.
    let settings = messages.read(forwarded.last().unwrap());
    assert_eq!(settings.get_field_by_name("owner").unwrap().as_str(), Some("platform"));
}

#[test]
fn a_newer_policy_is_not_applied_here() {
    let violations = strict(&newer(&Messages::of("newer"))).unwrap_err();
    let told: BTreeSet<String> = violations.iter().map(|v| format!("{} {}", v.code, v.path)).collect();
    let expected = [
        "unknown_kind gadget.x",
        "unknown_member ",
        "unknown_member guardrails.std.regions.us-east-1",
        "unknown_member routes.chat.rules[0]",
        "unknown_member routes.chat.timeouts",
        "unknown_word guardrails.std.trace",
        "unknown_word routes.chat.upstream",
    ];
    assert_eq!(told, expected.map(str::to_owned).into());
}

#[test]
fn the_difference_of_a_newer_policy_is_shown_although_nobody_here_knows_what_it_means() {
    let words: Vec<String> = diff(&ours(), &newer(&Messages::of("newer"))).into_iter().map(|c| c.words).collect();
    assert_eq!(
        words,
        [
            "gadget x: added",
            "guardrail std: trace enabled → 'value 9'",
            "guardrail std: regions: us-east-1: field 90 changed, which this version does not know",
            "route chat: rule 1: field 90 changed, which this version does not know",
            "route chat: timeouts: field 90 changed, which this version does not know",
            "route chat: upstream unary → 'value 7'",
            "settings: field 90 changed, which this version does not know",
        ]
    );
}

#[test]
fn what_a_fleet_of_our_age_cannot_read_of_a_newer_policy_is_named() {
    let names = missing(&used(&newer(&Messages::of("newer"))), &schema().members, &schema().kinds);
    let expected = [
        "Guardrail.Trace value 9",
        "Policy.field 90",
        "RegionalGuardrail.field 90",
        "Rule.field 90",
        "Timeouts.field 90",
        "Upstream value 7",
        "kind:gadget",
    ];
    assert_eq!(names, expected);
}

#[test]
fn a_tier_that_nobody_here_knows_does_not_serve() {
    let messages = Messages::of("newer");
    let mut items = ours();
    let route = items.iter_mut().find(|item| item.kind == "route").unwrap();
    let mut message = messages.read(route);
    let gadget = messages.message("Gadget");
    set(first(&mut message, "tiers"), "gadget", Value::Message(gadget));
    route.body = message.encode_to_vec().into();
    let read = policy(&items).unwrap();
    assert_eq!(read.ignored.iter().map(Unknown::to_string).collect::<Vec<_>>(), ["route/chat: Tier.field 90"]);
    let violations = compile(&read.policy).unwrap_err();
    assert_eq!((violations[0].code, &*violations[0].path), ("required", "routes.chat.tiers[0]"));
}

#[test]
fn what_an_older_node_cannot_read_of_ours_is_named_before_it_is_sent() {
    let older = Messages::of("older");
    let names = missing(&used(&ours()), &older.schema.members, &older.schema.kinds);
    assert_eq!(names, ["Guardrail.regions", "RegionalGuardrail.id", "RegionalGuardrail.version"]);
    // A policy without them goes through.
    let single =
        POLICY.replace(r#"regions: { us-east-1: { id: gr-abc123, version: "7" } }"#, "id: gr-abc123, version: '7'");
    let single = items(&read(&[file(&single)]).policy);
    assert_eq!(missing(&used(&single), &older.schema.members, &older.schema.kinds), Vec::<String>::new());
}

#[test]
fn an_older_program_reads_ours_and_lacks_exactly_what_was_named() {
    let older = Messages::of("older");
    for item in ours() {
        let read = older.read(&item);
        let unknown: Vec<u32> = read.unknown_fields().map(prost_reflect::UnknownField::number).collect();
        let expected: &[u32] = if item.kind == "guardrail" { &[5] } else { &[] };
        assert_eq!(unknown, expected, "{}", item.kind);
        if item.kind == "route" {
            assert!(read.get_field_by_name("tiers").unwrap().as_list().is_some_and(|tiers| tiers.len() == 2));
        }
    }
}

/// What a released program knows stays as it knows it: nothing is renamed, renumbered, taken away, made another type.
#[test]
fn no_member_that_was_ever_released_changed_its_shape() {
    let older = Messages::of("older");
    let now = DescriptorPool::decode(switchtower_proto::DESCRIPTORS).unwrap();
    let mut compared = 0;
    let type_of = |kind: Kind| match kind {
        Kind::Message(message) => message.full_name().to_owned(),
        Kind::Enum(enumeration) => enumeration.full_name().to_owned(),
        scalar => format!("{scalar:?}"),
    };
    for message in older.pool.all_messages().filter(|message| message.package_name() == "switchtower.policy.v1") {
        let today = now.get_message_by_name(message.full_name()).expect("messages stay");
        for field in message.fields() {
            let same = today.get_field(field.number()).expect("fields stay");
            assert_eq!(same.full_name(), field.full_name());
            assert_eq!(type_of(same.kind()), type_of(field.kind()), "{}", field.full_name());
            assert_eq!(same.cardinality(), field.cardinality(), "{}", field.full_name());
            assert_eq!(same.supports_presence(), field.supports_presence(), "{}", field.full_name());
            assert_eq!(
                same.containing_oneof().map(|oneof| oneof.name().to_owned()),
                field.containing_oneof().map(|oneof| oneof.name().to_owned()),
                "{}",
                field.full_name()
            );
            compared += 1;
        }
    }
    for enumeration in older.pool.all_enums().filter(|e| e.package_name() == "switchtower.policy.v1") {
        let today = now.get_enum_by_name(enumeration.full_name()).expect("enumerations stay");
        for value in enumeration.values() {
            assert_eq!(today.get_value(value.number()).expect("values stay").name(), value.name());
            compared += 1;
        }
    }
    assert!(compared > 60, "{compared}");
    let known: BTreeSet<&String> = schema().members.iter().collect();
    assert!(older.schema.members.iter().all(|member| known.contains(member)));
    assert!(older.schema.members.len() < schema().members.len());
}
