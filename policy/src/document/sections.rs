//! The sections of a policy file, field by field. Fields are called as in the policy's messages; where YAML has a shorter
//! form, the function says so.

use std::collections::BTreeMap;

use switchtower_proto::policy::v1;

use super::{
    decode::Decoder,
    scalar::kind,
    tree::{Node, Value},
};
use crate::violation::quoted;

/// Adds what one file says to the policy.
pub(super) fn policy(d: &mut Decoder, root: &Node, policy: &mut v1::Policy) {
    // A file of comments alone says nothing, which is no mistake.
    if kind(root) == "nothing" && root.tag.is_none() {
        return;
    }
    let Some(mut fields) = d.open(root, "a mapping with the sections of a policy") else { return };
    let first_environment = d.known_place("environment");
    d.field(&mut fields, "environment", |d, node| {
        let environment = d.text(node)?;
        if policy.environment.is_empty() {
            policy.environment = environment;
        } else if policy.environment != environment {
            let first = first_environment.unwrap_or_default();
            let message = format!(
                "this file is for {}, and {first} is for {}: apply them apart",
                quoted(&environment),
                quoted(&policy.environment)
            );
            d.refuse(node.at, "environment_conflict", message);
        }
        Some(())
    });
    let first = d.known_place("requirements");
    d.field(&mut fields, "requirements", |d, node| once(d, node, first, &mut policy.requirements, requirements));
    d.field(&mut fields, "models", |d, node| d.named(node, &mut policy.models, or_default(model)));
    d.field(&mut fields, "routes", |d, node| d.named(node, &mut policy.routes, or_default(route)));
    d.field(&mut fields, "flags", |d, node| d.named(node, &mut policy.flags, or_default(flag)));
    d.field(&mut fields, "guardrails", |d, node| d.named(node, &mut policy.guardrails, or_default(guardrail)));
    d.field(&mut fields, "callers", |d, node| d.named(node, &mut policy.callers, or_default(caller)));
    let first = d.known_place("rollout");
    d.field(&mut fields, "rollout", |d, node| once(d, node, first, &mut policy.rollout, rollout));
    d.field(&mut fields, "catalogue", |d, node| d.named(node, &mut policy.catalogue, or_default(facts)));
    d.finish(fields);
}

/// A name whose value was refused is still a name: what refers to it is not wrong.
fn or_default<T: Default>(
    mut decode: impl FnMut(&mut Decoder, &Node) -> Option<T>,
) -> impl FnMut(&mut Decoder, &Node) -> Option<T> {
    move |d, node| Some(decode(d, node).unwrap_or_default())
}

/// A section that one file alone may hold.
fn once<T>(
    d: &mut Decoder,
    node: &Node,
    first: Option<String>,
    into: &mut Option<T>,
    decode: impl FnOnce(&mut Decoder, &Node) -> Option<T>,
) -> Option<()> {
    match first {
        Some(first) => {
            let message = format!("this section stands twice, first in {first}: keep one");
            d.refuse(node.at, "duplicate", message);
        }
        None => *into = decode(d, node),
    }
    Some(())
}

fn requirements(d: &mut Decoder, node: &Node) -> Option<v1::Requirements> {
    let mut f = d.open(node, "a mapping")?;
    let requirements = v1::Requirements {
        guardrail: d.field(&mut f, "guardrail", Decoder::text).unwrap_or_default(),
        residency: d.field(&mut f, "residency", Decoder::text).unwrap_or_default(),
        max_output_tokens: d.field(&mut f, "max_output_tokens", Decoder::u32),
    };
    d.finish(f);
    Some(requirements)
}

fn model(d: &mut Decoder, node: &Node) -> Option<v1::Model> {
    let mut f = d.open(node, "a mapping with `bedrock` and `regions`")?;
    let model = v1::Model {
        bedrock: d.field(&mut f, "bedrock", Decoder::text).unwrap_or_default(),
        regions: d.field(&mut f, "regions", texts).unwrap_or_default(),
        capacity_tokens_per_minute: d.field(&mut f, "capacity_tokens_per_minute", Decoder::u64),
    };
    d.finish(f);
    Some(model)
}

fn texts(d: &mut Decoder, node: &Node) -> Option<Vec<String>> {
    d.list(node, Decoder::text)
}

fn route(d: &mut Decoder, node: &Node) -> Option<v1::Route> {
    use v1::{OnBrokenStream, Upstream};
    let mut f = d.open(node, "a mapping with `tiers`")?;
    let broken = [("error", OnBrokenStream::Error as i32), ("partial", OnBrokenStream::Partial as i32)];
    let upstream = [("unary", Upstream::Unary as i32), ("stream", Upstream::Stream as i32)];
    let route = v1::Route {
        aliases: d.field(&mut f, "aliases", texts).unwrap_or_default(),
        tiers: d.field(&mut f, "tiers", |d, node| d.list(node, tier)).unwrap_or_default(),
        rules: d.field(&mut f, "rules", |d, node| d.list(node, rule)).unwrap_or_default(),
        sticky: d.field(&mut f, "sticky", Decoder::text).unwrap_or_default(),
        timeouts: d.field(&mut f, "timeouts", timeouts),
        max_output_tokens: d.field(&mut f, "max_output_tokens", Decoder::u32),
        on_broken_stream: d.field(&mut f, "on_broken_stream", |d, n| d.word(n, &broken)).unwrap_or_default(),
        guardrail: d.field(&mut f, "guardrail", Decoder::text).unwrap_or_default(),
        residency: d.field(&mut f, "residency", Decoder::text).unwrap_or_default(),
        upstream: d.field(&mut f, "upstream", |d, n| d.word(n, &upstream)).unwrap_or_default(),
        needs: d.field(&mut f, "needs", texts).unwrap_or_default(),
        min_context: d.field(&mut f, "min_context", Decoder::u32),
        description: d.field(&mut f, "description", Decoder::text).unwrap_or_default(),
    };
    d.finish(f);
    Some(route)
}

/// `NAME`, `inherit`, `{model: NAME}`, `{split: {NAME: WEIGHT}}` or `{answer: TEXT, when: CONDITION}`.
fn tier(d: &mut Decoder, node: &Node) -> Option<v1::Tier> {
    use v1::tier::Kind;
    const FORMS: [&str; 3] = ["model", "split", "answer"];
    if matches!(node.value, Value::Scalar(_)) {
        let name = d.text(node)?;
        let kind = if name == "inherit" { Kind::Inherit(v1::Inherit {}) } else { Kind::Model(name) };
        return Some(v1::Tier { kind: Some(kind) });
    }
    let mut f = d.open(node, "a model's name, `inherit`, or a mapping with `model`, `split` or `answer`")?;
    let present = f.present(&FORMS);
    let kind = match present.as_slice() {
        ["model"] => d.field(&mut f, "model", Decoder::text).map(Kind::Model),
        ["split"] => d.field(&mut f, "split", |d, node| {
            let mut weights = BTreeMap::new();
            d.named(node, &mut weights, Decoder::u32)?;
            Some(Kind::Split(v1::Split { weights }))
        }),
        ["answer"] => {
            let template = d.field(&mut f, "answer", Decoder::text);
            let when = d.field(&mut f, "when", Decoder::condition).unwrap_or_default();
            template.map(|template| Kind::Answer(v1::Answer { template, when }))
        }
        [] => {
            let message = "a tier is one of `model`, `split` and `answer`, and none of them stands here".to_owned();
            d.refuse(node.at, "wrong_tier", message);
            None
        }
        several => {
            d.refuse(
                node.at,
                "wrong_tier",
                format!("a tier is one thing, and this is {}: make them tiers", several.join(" and ")),
            );
            for form in FORMS {
                d.field(&mut f, form, |_, _| Some(()));
            }
            None
        }
    };
    if present != ["answer"] {
        let message = "only an `answer` has a condition here; for models, write a rule with `when` and `tiers`";
        d.misplaced(&mut f, "when", message);
    }
    d.finish(f);
    Some(v1::Tier { kind: Some(kind?) })
}

fn rule(d: &mut Decoder, node: &Node) -> Option<v1::Rule> {
    let mut f = d.open(node, "a mapping with `when` and `tiers`")?;
    let rule = v1::Rule {
        when: d.field(&mut f, "when", Decoder::condition).unwrap_or_default(),
        tiers: d.field(&mut f, "tiers", |d, node| d.list(node, tier)).unwrap_or_default(),
        name: d.field(&mut f, "name", Decoder::text).unwrap_or_default(),
    };
    d.finish(f);
    Some(rule)
}

fn timeouts(d: &mut Decoder, node: &Node) -> Option<v1::Timeouts> {
    let mut f = d.open(node, "a mapping")?;
    let timeouts = v1::Timeouts {
        connect: d.field(&mut f, "connect", Decoder::duration),
        first_token: d.field(&mut f, "first_token", Decoder::duration),
        idle: d.field(&mut f, "idle", Decoder::duration),
        total: d.field(&mut f, "total", Decoder::duration),
    };
    d.finish(f);
    Some(timeouts)
}

fn flag(d: &mut Decoder, node: &Node) -> Option<v1::Flag> {
    let mut f = d.open(node, "a mapping with `default`")?;
    let mut variants = BTreeMap::new();
    d.field(&mut f, "variants", |d, node| d.named(node, &mut variants, or_default(Decoder::any)));
    let flag = v1::Flag {
        variants,
        default: d.field(&mut f, "default", Decoder::any),
        rules: d.field(&mut f, "rules", |d, node| d.list(node, flag_rule)).unwrap_or_default(),
        disabled: d.field(&mut f, "disabled", Decoder::boolean).unwrap_or_default(),
    };
    d.finish(f);
    Some(flag)
}

fn flag_rule(d: &mut Decoder, node: &Node) -> Option<v1::FlagRule> {
    let mut f = d.open(node, "a mapping with `serve` or `split`")?;
    let mut split = BTreeMap::new();
    let when = d.field(&mut f, "when", Decoder::condition).unwrap_or_default();
    d.field(&mut f, "split", |d, node| d.named(node, &mut split, Decoder::u32));
    let rule = v1::FlagRule {
        when,
        percent: d.field(&mut f, "percent", Decoder::number),
        serve: d.field(&mut f, "serve", Decoder::any),
        split,
    };
    d.finish(f);
    Some(rule)
}

fn guardrail(d: &mut Decoder, node: &Node) -> Option<v1::Guardrail> {
    use v1::guardrail::{StreamMode, Trace};
    let mut f = d.open(node, "a mapping with `id` and `version`, or with `regions`")?;
    let mut regions = BTreeMap::new();
    d.field(&mut f, "regions", |d, node| d.named(node, &mut regions, or_default(regional_guardrail)));
    let traces = [
        ("disabled", Trace::Disabled as i32),
        ("enabled", Trace::Enabled as i32),
        ("enabled_full", Trace::EnabledFull as i32),
    ];
    let modes = [("sync", StreamMode::Sync as i32), ("async", StreamMode::Async as i32)];
    let guardrail = v1::Guardrail {
        id: d.field(&mut f, "id", Decoder::text).unwrap_or_default(),
        version: d.field(&mut f, "version", Decoder::text).unwrap_or_default(),
        trace: d.field(&mut f, "trace", |d, node| d.word(node, &traces)).unwrap_or_default(),
        stream_mode: d.field(&mut f, "stream_mode", |d, node| d.word(node, &modes)).unwrap_or_default(),
        regions,
    };
    d.finish(f);
    Some(guardrail)
}

fn regional_guardrail(d: &mut Decoder, node: &Node) -> Option<v1::RegionalGuardrail> {
    let mut f = d.open(node, "a mapping with `id` and `version`")?;
    let guardrail = v1::RegionalGuardrail {
        id: d.field(&mut f, "id", Decoder::text).unwrap_or_default(),
        version: d.field(&mut f, "version", Decoder::text).unwrap_or_default(),
    };
    d.finish(f);
    Some(guardrail)
}

fn caller(d: &mut Decoder, node: &Node) -> Option<v1::Caller> {
    let mut f = d.open(node, "a mapping with `routes`")?;
    let caller = v1::Caller {
        tenant: d.field(&mut f, "tenant", Decoder::text).unwrap_or_default(),
        routes: d.field(&mut f, "routes", texts).unwrap_or_default(),
        limits: d.field(&mut f, "limits", limits),
    };
    d.finish(f);
    Some(caller)
}

fn limits(d: &mut Decoder, node: &Node) -> Option<v1::Limits> {
    let mut f = d.open(node, "a mapping")?;
    let limits = v1::Limits {
        requests_per_minute: d.field(&mut f, "requests_per_minute", Decoder::u64),
        tokens_per_minute: d.field(&mut f, "tokens_per_minute", Decoder::u64),
        dollars_per_day: d.field(&mut f, "dollars_per_day", Decoder::number),
    };
    d.finish(f);
    Some(limits)
}

fn rollout(d: &mut Decoder, node: &Node) -> Option<v1::Rollout> {
    let mut f = d.open(node, "a mapping")?;
    let mut gates = BTreeMap::new();
    d.field(&mut f, "gates", |d, node| d.named(node, &mut gates, Decoder::text));
    let rollout = v1::Rollout {
        stages: d.field(&mut f, "stages", texts).unwrap_or_default(),
        bake: d.field(&mut f, "bake", Decoder::duration),
        gates,
    };
    d.finish(f);
    Some(rollout)
}

fn facts(d: &mut Decoder, node: &Node) -> Option<v1::ModelFacts> {
    let mut f = d.open(node, "a mapping")?;
    let facts = v1::ModelFacts {
        context: d.field(&mut f, "context", Decoder::u32),
        max_output_tokens: d.field(&mut f, "max_output_tokens", Decoder::u32),
        features: d.field(&mut f, "features", texts).unwrap_or_default(),
        input_price: d.field(&mut f, "input_price", Decoder::number),
        output_price: d.field(&mut f, "output_price", Decoder::number),
        cache_read_price: d.field(&mut f, "cache_read_price", Decoder::number),
        cache_write_price: d.field(&mut f, "cache_write_price", Decoder::number),
    };
    d.finish(f);
    Some(facts)
}
