//! Any policies as messages: not ones that compile, but ones that use every member in every way that the wire allows.

use std::collections::BTreeMap;

use proptest::{
    collection::{btree_map, vec},
    option,
    prelude::*,
    sample::select,
};
use prost_types::{Duration, ListValue, Struct, Value, value::Kind};
use switchtower_proto::policy::v1::{self, tier};

fn name() -> impl Strategy<Value = String> {
    select(&["a", "b", "c", "sonnet", "nova-lite", "9.x_y"][..]).prop_map(str::to_owned)
}

fn text() -> impl Strategy<Value = String> {
    select(&["", "a", "b", "metadata.tier == \"gold\"", "ä\n'"][..]).prop_map(str::to_owned)
}

fn texts() -> impl Strategy<Value = Vec<String>> {
    vec(text(), 0..4)
}

fn named<S: Strategy>(value: S) -> impl Strategy<Value = BTreeMap<String, S::Value>> {
    btree_map(name(), value, 0..4)
}

fn number() -> impl Strategy<Value = f64> {
    select(&[0.0, 1.0, -1.5, 0.1, 1e300, 9_007_199_254_740_993.0][..])
}

fn whole() -> impl Strategy<Value = u32> {
    select(&[0, 1, 127, 128, u32::MAX][..])
}

fn duration() -> impl Strategy<Value = Duration> {
    let seconds = select(&[0_i64, 1, 60, 3600, -1, i64::MAX][..]);
    (seconds, select(&[0, 1, 500_000_000, -1][..])).prop_map(|(seconds, nanos)| Duration { seconds, nanos })
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Kind::NullValue(0)),
        any::<bool>().prop_map(Kind::BoolValue),
        number().prop_map(Kind::NumberValue),
        text().prop_map(Kind::StringValue),
    ];
    let value = |kind| Value { kind: Some(kind) };
    leaf.prop_map(value).prop_recursive(3, 12, 3, move |inner| {
        let list = vec(inner.clone(), 0..3).prop_map(|values| Kind::ListValue(ListValue { values }));
        let object = named(inner).prop_map(|fields| Kind::StructValue(Struct { fields }));
        prop_oneof![list, object].prop_map(value)
    })
}

fn any_tier() -> impl Strategy<Value = v1::Tier> {
    let kind = prop_oneof![
        4 => name().prop_map(tier::Kind::Model),
        2 => named(whole()).prop_map(|weights| tier::Kind::Split(v1::Split { weights })),
        2 => (text(), text()).prop_map(|(template, when)| tier::Kind::Answer(v1::Answer { template, when })),
        1 => Just(tier::Kind::Inherit(v1::Inherit {})),
    ];
    option::weighted(0.95, kind).prop_map(|kind| v1::Tier { kind })
}

fn any_rule() -> impl Strategy<Value = v1::Rule> {
    (text(), vec(any_tier(), 0..3), text()).prop_map(|(when, tiers, name)| v1::Rule { when, tiers, name })
}

fn any_route() -> impl Strategy<Value = v1::Route> {
    let d = || option::of(duration());
    let timeouts = (d(), d(), d(), d()).prop_map(|(connect, first_token, idle, total)| v1::Timeouts {
        connect,
        first_token,
        idle,
        total,
    });
    let lists = (texts(), vec(any_tier(), 0..4), vec(any_rule(), 0..4), texts());
    let words = (text(), text(), text(), text());
    let numbers = (option::of(whole()), option::of(whole()), 0..3_i32, 0..3_i32);
    (lists, words, numbers, option::of(timeouts)).prop_map(|(lists, words, numbers, timeouts)| v1::Route {
        aliases: lists.0,
        tiers: lists.1,
        rules: lists.2,
        needs: lists.3,
        sticky: words.0,
        guardrail: words.1,
        residency: words.2,
        description: words.3,
        max_output_tokens: numbers.0,
        min_context: numbers.1,
        on_broken_stream: numbers.2,
        upstream: numbers.3,
        timeouts,
    })
}

fn any_flag() -> impl Strategy<Value = v1::Flag> {
    let rule = (text(), option::of(number()), option::of(any_value()), named(whole()))
        .prop_map(|(when, percent, serve, split)| v1::FlagRule { when, percent, serve, split });
    (named(any_value()), option::of(any_value()), vec(rule, 0..4), any::<bool>())
        .prop_map(|(variants, default, rules, disabled)| v1::Flag { variants, default, rules, disabled })
}

fn any_guardrail() -> impl Strategy<Value = v1::Guardrail> {
    let regional = (text(), text()).prop_map(|(id, version)| v1::RegionalGuardrail { id, version });
    (text(), text(), 0..4_i32, 0..3_i32, named(regional)).prop_map(|(id, version, trace, stream_mode, regions)| {
        v1::Guardrail { id, version, trace, stream_mode, regions }
    })
}

fn any_caller() -> impl Strategy<Value = v1::Caller> {
    let limits = (option::of(any::<u64>()), option::of(any::<u64>()), option::of(number())).prop_map(|limits| {
        v1::Limits { requests_per_minute: limits.0, tokens_per_minute: limits.1, dollars_per_day: limits.2 }
    });
    (text(), texts(), option::of(limits)).prop_map(|(tenant, routes, limits)| v1::Caller { tenant, routes, limits })
}

fn any_facts() -> impl Strategy<Value = v1::ModelFacts> {
    let price = || option::of(number());
    (option::of(whole()), option::of(whole()), texts(), price(), price(), price(), price()).prop_map(|facts| {
        v1::ModelFacts {
            context: facts.0,
            max_output_tokens: facts.1,
            features: facts.2,
            input_price: facts.3,
            output_price: facts.4,
            cache_read_price: facts.5,
            cache_write_price: facts.6,
        }
    })
}

/// A policy.
pub(crate) fn policy() -> impl Strategy<Value = v1::Policy> {
    let model = (text(), texts(), option::of(any::<u64>())).prop_map(|(bedrock, regions, capacity)| v1::Model {
        bedrock,
        regions,
        capacity_tokens_per_minute: capacity,
    });
    let requirements = (text(), text(), option::of(whole())).prop_map(|(guardrail, residency, max_output_tokens)| {
        v1::Requirements { guardrail, residency, max_output_tokens }
    });
    let rollout = (texts(), option::of(duration()), named(text())).prop_map(|(stages, bake, gates)| v1::Rollout {
        stages,
        bake,
        gates,
    });
    let settings = (text(), option::of(requirements), option::of(rollout));
    let maps = (named(model), named(any_route()), named(any_flag()));
    let more = (named(any_guardrail()), named(any_caller()), named(any_facts()));
    (settings, maps, more).prop_map(|(settings, maps, more)| v1::Policy {
        environment: settings.0,
        requirements: settings.1,
        rollout: settings.2,
        models: maps.0,
        routes: maps.1,
        flags: maps.2,
        guardrails: more.0,
        callers: more.1,
        catalogue: more.2,
    })
}
