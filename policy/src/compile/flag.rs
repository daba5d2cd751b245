//! Flags: one type of value each, and rules that cannot name flags.

use switchtower_proto::policy::v1;

use super::{
    Compiler,
    limits::{MAX_LONG, MAX_WEIGHT},
};
use crate::{
    bucket::Share,
    condition::{Condition, Scope},
    document::MAX_NESTING,
    flag::{Flag, Rule, Serve, Type, Unnamed, Value, VariantIndex},
    snapshot::FlagIndex,
    violation::quoted,
};

impl Compiler<'_> {
    /// The flags in the order of their names; `None` if one of them is wrong.
    pub(super) fn flags(&mut self) -> Option<Vec<Flag>> {
        let mut flags = Vec::with_capacity(self.policy.flags.len());
        for (index, (name, flag)) in self.policy.flags.iter().enumerate() {
            let path = format!("flags.{name}");
            self.name(&path, name);
            let mut values = Values { path: &path, kind: None, variants: Variants::of(flag) };
            let compiled = self.flag(name, flag, &mut values);
            // The name of a wrong flag is no mistake in the conditions that ask for it.
            let kind = values.kind.unwrap_or(Type::Bool);
            self.flag_kinds.insert(name, (FlagIndex(index as u32), kind));
            flags.push(compiled);
        }
        flags.into_iter().collect()
    }

    fn flag(&mut self, name: &str, flag: &v1::Flag, values: &mut Values<'_>) -> Option<Flag> {
        let path = values.path.to_owned();
        self.at_most(&format!("{path}.variants"), flag.variants.len(), MAX_LONG);
        let named: Vec<_> = flag
            .variants
            .iter()
            .map(|(variant, value)| {
                let path = format!("{path}.variants.{variant}");
                self.name(&path, variant);
                Some((variant.as_str().into(), self.value(&path, value, values)?))
            })
            .collect();
        if let Variants::Named(into) = &mut values.variants {
            *into = named.into_iter().flatten().collect();
        }
        let default_path = format!("{path}.default");
        let default = match &flag.default {
            Some(value) => self.variant(&default_path, "default", value, values),
            None => {
                self.error("required", &default_path, "what is served when no rule matches is required");
                None
            }
        };
        let rules_path = format!("{path}.rules");
        let within = self.at_most(&rules_path, flag.rules.len(), MAX_LONG);
        let rules: Vec<Option<Rule>> = (flag.rules.iter().take(MAX_LONG).enumerate())
            .map(|(index, rule)| self.flag_rule(&format!("{rules_path}[{index}]"), index, rule, values))
            .collect();
        let (default, rules) = (default?, rules.into_iter().collect::<Option<Vec<_>>>()?);
        let variants = match std::mem::replace(&mut values.variants, Variants::Named(Vec::new())) {
            Variants::Named(variants) if variants.len() == flag.variants.len() => variants,
            Variants::Named(_) => return None,
            Variants::Unnamed(unnamed) => unnamed.into_variants(),
        };
        within
            .then(|| Flag::new(name.into(), values.kind.unwrap_or(Type::Bool), variants, default, rules, flag.disabled))
    }

    fn flag_rule(&mut self, path: &str, index: usize, rule: &v1::FlagRule, values: &mut Values<'_>) -> Option<Rule> {
        let when = (!rule.when.is_empty()).then(|| self.flag_condition(&format!("{path}.when"), &rule.when));
        let share = rule.percent.map(|percent| {
            let share = Share::from_percent(percent);
            if share.is_none() {
                let message = format!("a percentage is 0 to 100 in steps of 0.001, and this is {percent}");
                self.error("out_of_range", format!("{path}.percent"), message);
            }
            share
        });
        if rule.when.is_empty() && rule.percent.is_none() && rule.split.is_empty() {
            let message =
                "a rule says whom it is for, by `when`, `percent` or `split`; for everybody, change `default`";
            self.error("required", path, message);
        }
        let serve = match (&rule.serve, rule.split.is_empty()) {
            (Some(value), true) => {
                let place = format!("rule {}", index + 1);
                self.variant(&format!("{path}.serve"), &place, value, values).map(Serve::Variant)
            }
            (None, false) => self.flag_split(&format!("{path}.split"), rule, values),
            (Some(_), false) => {
                self.error("conflict", path, "a rule has either `serve` or `split`: remove one");
                None
            }
            (None, true) => {
                self.error("required", format!("{path}.serve"), "what the rule serves is required: `serve` or `split`");
                None
            }
        };
        let when = match when {
            Some(condition) => Some(condition?),
            None => None,
        };
        let share = match share {
            Some(share) => Some(share?),
            None => None,
        };
        Some(Rule { when, share, serve: serve? })
    }

    fn flag_condition(&mut self, path: &str, text: &str) -> Option<Condition> {
        match Condition::parse(text, &Scope::without_flags()) {
            Ok(condition) => Some(condition),
            Err(error) => {
                self.condition_error(path, text, error);
                None
            }
        }
    }

    fn flag_split(&mut self, path: &str, rule: &v1::FlagRule, values: &Values<'_>) -> Option<Serve> {
        let Variants::Named(variants) = &values.variants else {
            self.error("required", path, "a split names variants: give the flag `variants`");
            return None;
        };
        let mut weights = Vec::with_capacity(rule.split.len());
        for (name, weight) in &rule.split {
            let path = format!("{path}.{name}");
            if *weight > MAX_WEIGHT {
                self.error("out_of_range", &path, format!("a weight is 0 to {MAX_WEIGHT}"));
            }
            weights.push(self.named_variant(&path, name, variants).map(|index| (index, *weight)));
        }
        if rule.split.values().all(|weight| *weight == 0) {
            self.error("zero_weights", path, "all weights are 0: nobody would be served anything");
            return None;
        }
        weights.into_iter().collect::<Option<Vec<_>>>().map(Serve::Split)
    }

    /// The variant for a value or, where the flag has variants, for the name of one.
    fn variant(
        &mut self,
        path: &str,
        place: &str,
        value: &prost_types::Value,
        values: &mut Values<'_>,
    ) -> Option<VariantIndex> {
        use prost_types::value::Kind;
        if let Variants::Named(variants) = &values.variants {
            return match &value.kind {
                Some(Kind::StringValue(name)) => self.named_variant(path, name, variants),
                _ => {
                    let message = "this flag has variants: the name of one was expected here, and this is no text";
                    self.error("wrong_type", path, message);
                    None
                }
            };
        }
        let value = self.value(path, value, values)?;
        match &mut values.variants {
            Variants::Unnamed(unnamed) => Some(unnamed.add(value, place)),
            Variants::Named(_) => None,
        }
    }

    fn named_variant(&mut self, path: &str, name: &str, variants: &[(Box<str>, Value)]) -> Option<VariantIndex> {
        let index = variants.iter().position(|(variant, _)| **variant == *name);
        if index.is_none() {
            let names = variants.iter().map(|(variant, _)| &**variant);
            self.unknown("unknown_variant", path, format!("no variant is called {}", quoted(name)), name, names);
        }
        index.map(|index| VariantIndex(index as u16))
    }

    /// A value that is of the flag's type; the first one decides which that is.
    fn value(&mut self, path: &str, value: &prost_types::Value, values: &mut Values<'_>) -> Option<Value> {
        use prost_types::value::Kind;
        let value = match &value.kind {
            Some(Kind::BoolValue(value)) => Value::Bool(*value),
            Some(Kind::StringValue(value)) => Value::String(value.as_str().into()),
            Some(Kind::NumberValue(value)) if value.is_finite() => Value::Number(*value),
            Some(Kind::StructValue(_)) => match json(value, MAX_NESTING) {
                Some(object) => Value::Object(object),
                None => {
                    let message = format!("an object is nested at most {MAX_NESTING} levels deep, of finite numbers");
                    self.error("too_deep", path, message);
                    return None;
                }
            },
            _ => {
                let message = "a flag's value is true or false, a text, a finite number or an object (a mapping)";
                self.error("wrong_type", path, message);
                return None;
            }
        };
        let kind = *values.kind.get_or_insert(value.kind());
        if value.kind() != kind {
            let (is, expected) = (value.kind().as_str(), kind.as_str());
            let message =
                format!("all values of a flag have one type: this is a {is}, and the ones before are a {expected}");
            self.error("wrong_type", path, message);
            return None;
        }
        Some(value)
    }
}

/// The values of one flag while it is compiled.
struct Values<'a> {
    path: &'a str,
    kind: Option<Type>,
    variants: Variants,
}

enum Variants {
    Named(Vec<(Box<str>, Value)>),
    Unnamed(Unnamed),
}

impl Variants {
    fn of(flag: &v1::Flag) -> Variants {
        if flag.variants.is_empty() { Variants::Unnamed(Unnamed::default()) } else { Variants::Named(Vec::new()) }
    }
}

/// A value as JSON; whole numbers without a fraction. `None`: too deep, or not JSON.
fn json(value: &prost_types::Value, levels: usize) -> Option<serde_json::Value> {
    use prost_types::value::Kind;
    use serde_json::Value as Json;
    let levels = levels.checked_sub(1)?;
    Some(match value.kind.as_ref()? {
        Kind::NullValue(_) => Json::Null,
        Kind::BoolValue(value) => Json::Bool(*value),
        Kind::StringValue(value) => Json::String(value.clone()),
        Kind::NumberValue(value) if value.is_finite() => Value::Number(*value).to_json(),
        Kind::NumberValue(_) => return None,
        Kind::ListValue(list) => {
            Json::Array(list.values.iter().map(|value| json(value, levels)).collect::<Option<_>>()?)
        }
        Kind::StructValue(object) => {
            let fields = object.fields.iter().map(|(key, value)| Some((key.clone(), json(value, levels)?)));
            Json::Object(fields.collect::<Option<_>>()?)
        }
    })
}
