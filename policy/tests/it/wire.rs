//! Policies that come as messages: what no YAML can say is refused too.

use std::collections::BTreeMap;

use proptest::prelude::*;
use prost::Message;
use prost_types::{Duration, ListValue, Struct, Value, value::Kind};
use switchtower_policy::{Severity, compile};
use switchtower_proto::policy::v1::{self, tier};

fn good() -> v1::Policy {
    let tier = v1::Tier { kind: Some(tier::Kind::Model("m".to_owned())) };
    let model = v1::Model {
        bedrock: "us.amazon.nova-lite-v1:0".into(),
        regions: vec!["us-east-1".into()],
        ..Default::default()
    };
    v1::Policy {
        environment: "test".to_owned(),
        models: BTreeMap::from([("m".to_owned(), model)]),
        routes: BTreeMap::from([("r".to_owned(), v1::Route { tiers: vec![tier], ..Default::default() })]),
        callers: BTreeMap::from([("c".to_owned(), v1::Caller { routes: vec!["*".to_owned()], ..Default::default() })]),
        ..Default::default()
    }
}

/// What is told of the good policy once it is changed.
#[track_caller]
fn check(change: impl FnOnce(&mut v1::Policy), expected: &[&str]) {
    let mut policy = good();
    change(&mut policy);
    let violations = compile(&policy).unwrap_err();
    let told: Vec<String> =
        violations.iter().map(|violation| format!("{} {}", violation.code, violation.path)).collect();
    assert_eq!(told, expected);
    assert!(violations.iter().all(|violation| violation.place.is_none()));
}

fn flag(default: Kind) -> v1::Flag {
    v1::Flag { default: Some(Value { kind: Some(default) }), ..Default::default() }
}

#[test]
fn what_yaml_cannot_say_is_refused() {
    assert!(compile(&good()).is_ok());
    let route = |change: fn(&mut v1::Route)| {
        move |policy: &mut v1::Policy| {
            if let Some(route) = policy.routes.get_mut("r") {
                change(route);
            }
        }
    };
    check(route(|route| route.tiers[0].kind = None), &["required routes.r.tiers[0]"]);
    check(route(|route| route.on_broken_stream = 9), &["unknown_word routes.r.on_broken_stream"]);
    check(route(|route| route.upstream = -1), &["unknown_word routes.r.upstream"]);
    for (seconds, nanos) in [(-1, 0), (0, 0), (0, -1), (1, i32::MAX), (i64::MAX, 0), (3600, 1)] {
        let timeouts = v1::Timeouts { total: Some(Duration { seconds, nanos }), ..Default::default() };
        check(
            |policy| policy.routes.values_mut().for_each(|route| route.timeouts = Some(timeouts)),
            &["out_of_range routes.r.timeouts.total"],
        );
    }
    let deep = (0..90).fold(Value { kind: Some(Kind::BoolValue(true)) }, |value, level| {
        let list = ListValue { values: vec![value] };
        if level % 2 == 0 {
            Value { kind: Some(Kind::ListValue(list)) }
        } else {
            Value {
                kind: Some(Kind::StructValue(Struct {
                    fields: BTreeMap::from([("a".to_owned(), list.values[0].clone())]),
                })),
            }
        }
    });
    let flags: [(Kind, &str); 4] = [
        (deep.kind.unwrap(), "too_deep flags.f.default"),
        (Kind::NumberValue(f64::NAN), "wrong_type flags.f.default"),
        (Kind::NullValue(0), "wrong_type flags.f.default"),
        (Kind::ListValue(ListValue::default()), "wrong_type flags.f.default"),
    ];
    for (default, expected) in flags {
        check(|policy| drop(policy.flags.insert("f".to_owned(), flag(default))), &[expected]);
    }
    check(|policy| policy.environment = "x".repeat(5 << 20), &["too_large "]);
    check(
        |policy| drop(policy.models.insert(String::new(), policy.models["m"].clone())),
        &["bad_name models.", "same_target models.m"],
    );
}

#[test]
fn a_change_of_anything_changes_the_revision() {
    let revision = |policy: &v1::Policy| compile(policy).unwrap().snapshot.revision().to_string();
    let mut policy = good();
    let first = revision(&policy);
    assert_eq!(revision(&good()), first);
    policy.routes.values_mut().for_each(|route| route.description = "other".to_owned());
    assert_ne!(revision(&policy), first);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_message_compiles_or_is_refused(
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        more in proptest::collection::vec(any::<u8>(), 0..40),
    ) {
        let mut bytes = good().encode_to_vec();
        for (at, byte) in edits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.extend(more);
        if let Ok(policy) = v1::Policy::decode(bytes.as_slice())
            && let Err(violations) = compile(&policy)
        {
            prop_assert!(violations.iter().any(|violation| violation.severity == Severity::Error));
        }
    }
}
