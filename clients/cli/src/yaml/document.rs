//! Policy -> tree, field by field, in the forms that the reader knows. Fields stand in the order in which people write
//! them, names in their own.

use std::collections::BTreeMap;

use prost_types::value::Kind;
use serde_json::{Map, Number, Value, json};
use switchtower_proto::policy::v1;

/// The fields of one message; those that say nothing are left out.
#[derive(Default)]
struct Fields(Map<String, Value>);

impl Fields {
    fn put(mut self, name: &str, value: Option<impl Into<Value>>) -> Self {
        if let Some(value) = value {
            self.0.insert(name.to_owned(), value.into());
        }
        self
    }

    fn text(self, name: &str, text: &str) -> Self {
        self.put(name, (!text.is_empty()).then_some(text))
    }

    fn texts(self, name: &str, texts: &[String]) -> Self {
        self.put(name, (!texts.is_empty()).then_some(texts))
    }

    fn list<T>(self, name: &str, items: &[T], of: impl Fn(&T) -> Value) -> Self {
        self.put(name, (!items.is_empty()).then(|| items.iter().map(of).collect::<Vec<_>>()))
    }

    fn map<T>(self, name: &str, entries: &BTreeMap<String, T>, of: impl Fn(&T) -> Value) -> Self {
        self.put(name, (!entries.is_empty()).then(|| mapping(entries, of)))
    }

    fn number(self, name: &str, number: Option<f64>) -> Self {
        self.put(name, number.map(float))
    }

    /// One of a few words; the first stands for nothing, and so does a number that no word has.
    fn word(self, name: &str, number: i32, words: &[&'static str]) -> Self {
        let word = usize::try_from(number).ok().and_then(|number| number.checked_sub(1)).and_then(|at| words.get(at));
        self.put(name, word.copied())
    }

    fn into_value(self) -> Value {
        Value::Object(self.0)
    }
}

fn mapping<T>(entries: &BTreeMap<String, T>, of: impl Fn(&T) -> Value) -> Value {
    Value::Object(entries.iter().map(|(name, entry)| (name.clone(), of(entry))).collect())
}

/// The whole policy.
pub(crate) fn document(policy: &v1::Policy) -> Map<String, Value> {
    let mut fields = Fields::default();
    fields.0.insert("environment".to_owned(), policy.environment.as_str().into());
    fields
        .put("requirements", policy.requirements.as_ref().map(requirements))
        .map("models", &policy.models, model)
        .map("guardrails", &policy.guardrails, guardrail)
        .map("callers", &policy.callers, caller)
        .map("routes", &policy.routes, route)
        .map("flags", &policy.flags, flag)
        .put("rollout", policy.rollout.as_ref().map(rollout))
        .map("catalogue", &policy.catalogue, facts)
        .0
}

fn requirements(requirements: &v1::Requirements) -> Value {
    Fields::default()
        .text("guardrail", &requirements.guardrail)
        .text("residency", &requirements.residency)
        .put("max_output_tokens", requirements.max_output_tokens)
        .into_value()
}

fn model(model: &v1::Model) -> Value {
    Fields::default()
        .text("bedrock", &model.bedrock)
        .texts("regions", &model.regions)
        .put("capacity_tokens_per_minute", model.capacity_tokens_per_minute)
        .into_value()
}

fn route(route: &v1::Route) -> Value {
    Fields::default()
        .text("description", &route.description)
        .texts("aliases", &route.aliases)
        .list("tiers", &route.tiers, tier)
        .list("rules", &route.rules, rule)
        .text("sticky", &route.sticky)
        .put("timeouts", route.timeouts.as_ref().map(timeouts))
        .put("max_output_tokens", route.max_output_tokens)
        .word("on_broken_stream", route.on_broken_stream, &["error", "partial"])
        .text("guardrail", &route.guardrail)
        .text("residency", &route.residency)
        .word("upstream", route.upstream, &["unary", "stream"])
        .texts("needs", &route.needs)
        .put("min_context", route.min_context)
        .into_value()
}

fn tier(tier: &v1::Tier) -> Value {
    use v1::tier::Kind;
    match &tier.kind {
        // Without a mapping this name is the other thing.
        Some(Kind::Model(name)) if name == "inherit" => json!({ "model": name }),
        Some(Kind::Model(name)) => name.as_str().into(),
        Some(Kind::Inherit(_)) => "inherit".into(),
        Some(Kind::Split(split)) => json!({ "split": split.weights }),
        Some(Kind::Answer(answer)) => {
            Fields::default().put("answer", Some(answer.template.as_str())).text("when", &answer.when).into_value()
        }
        None => json!({}),
    }
}

fn rule(rule: &v1::Rule) -> Value {
    Fields::default().text("name", &rule.name).text("when", &rule.when).list("tiers", &rule.tiers, tier).into_value()
}

fn timeouts(timeouts: &v1::Timeouts) -> Value {
    Fields::default()
        .put("connect", timeouts.connect.as_ref().map(duration))
        .put("first_token", timeouts.first_token.as_ref().map(duration))
        .put("idle", timeouts.idle.as_ref().map(duration))
        .put("total", timeouts.total.as_ref().map(duration))
        .into_value()
}

/// In the largest unit that is exact.
fn duration(duration: &prost_types::Duration) -> String {
    let millis = i128::from(duration.seconds) * 1000 + i128::from(duration.nanos) / 1_000_000;
    let units = [(3_600_000, "h"), (60_000, "m"), (1000, "s")];
    match units.into_iter().find(|(unit, _)| millis != 0 && millis % unit == 0) {
        Some((unit, name)) => format!("{}{name}", millis / unit),
        None if millis == 0 => "0s".to_owned(),
        None => format!("{millis}ms"),
    }
}

fn flag(flag: &v1::Flag) -> Value {
    Fields::default()
        .map("variants", &flag.variants, any)
        .put("default", flag.default.as_ref().map(any))
        .list("rules", &flag.rules, flag_rule)
        .put("disabled", flag.disabled.then_some(true))
        .into_value()
}

fn flag_rule(rule: &v1::FlagRule) -> Value {
    Fields::default()
        .text("when", &rule.when)
        .number("percent", rule.percent)
        .put("serve", rule.serve.as_ref().map(any))
        .map("split", &rule.split, |weight| (*weight).into())
        .into_value()
}

fn guardrail(guardrail: &v1::Guardrail) -> Value {
    Fields::default()
        .text("id", &guardrail.id)
        .text("version", &guardrail.version)
        .map("regions", &guardrail.regions, |regional| {
            Fields::default().text("id", &regional.id).text("version", &regional.version).into_value()
        })
        .word("trace", guardrail.trace, &["disabled", "enabled", "enabled_full"])
        .word("stream_mode", guardrail.stream_mode, &["sync", "async"])
        .into_value()
}

fn caller(caller: &v1::Caller) -> Value {
    Fields::default()
        .text("tenant", &caller.tenant)
        .texts("routes", &caller.routes)
        .put("limits", caller.limits.as_ref().map(limits))
        .into_value()
}

fn limits(limits: &v1::Limits) -> Value {
    Fields::default()
        .put("requests_per_minute", limits.requests_per_minute)
        .put("tokens_per_minute", limits.tokens_per_minute)
        .number("dollars_per_day", limits.dollars_per_day)
        .into_value()
}

fn rollout(rollout: &v1::Rollout) -> Value {
    Fields::default()
        .texts("stages", &rollout.stages)
        .put("bake", rollout.bake.as_ref().map(duration))
        .map("gates", &rollout.gates, |gate| gate.as_str().into())
        .into_value()
}

fn facts(facts: &v1::ModelFacts) -> Value {
    Fields::default()
        .put("context", facts.context)
        .put("max_output_tokens", facts.max_output_tokens)
        .texts("features", &facts.features)
        .number("input_price", facts.input_price)
        .number("output_price", facts.output_price)
        .number("cache_read_price", facts.cache_read_price)
        .number("cache_write_price", facts.cache_write_price)
        .into_value()
}

/// A value of any type, as a flag serves it. Policies that compile are nested less deep than a stack.
fn any(value: &prost_types::Value) -> Value {
    match &value.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(value)) => (*value).into(),
        Some(Kind::NumberValue(value)) => float(*value),
        Some(Kind::StringValue(value)) => value.as_str().into(),
        Some(Kind::ListValue(list)) => list.values.iter().map(any).collect(),
        Some(Kind::StructValue(object)) => mapping(&object.fields, any),
    }
}

/// A whole number without its point, where it is exact so.
fn float(value: f64) -> Value {
    const EXACT: f64 = (1_u64 << 53) as f64;
    if value.fract() == 0.0 && value.abs() <= EXACT && (value != 0.0 || value.is_sign_positive()) {
        return (value as i64).into();
    }
    Number::from_f64(value).map_or(Value::Null, Value::Number)
}
