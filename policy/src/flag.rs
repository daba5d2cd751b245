//! Rules and splits -> a variant, with the reason, in the words of OpenFeature.
//!
//! The first rule that matches decides; a disabled flag, and one that no rule matches, gives its default. A rule with a
//! percentage or a split needs a targeting key. Without one it is passed over, and if no later rule matches either, the
//! evaluation gives the default's value with the reason `ERROR` and the code `TARGETING_KEY_MISSING`: OpenFeature's
//! form for an abnormal evaluation, in which an SDK gives its caller the caller's own default and the code. (A rule
//! whose condition does not hold asks for no key.)
//!
//! OpenFeature's other codes cannot come from here: what could be a `PARSE_ERROR` does not compile, a condition that
//! ends in an error does not match instead of failing the flag (so no `INVALID_CONTEXT`), and nothing else can go wrong
//! (`GENERAL`). Conditions of flags name no flags, so evaluating one ends.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::{
    Facts, Snapshot,
    bucket::{Bucket, Salt, Share},
    condition::Condition,
};

mod variants;

pub use variants::Unnamed;

/// A value decided per request.
#[derive(Debug)]
pub struct Flag {
    /// Its name.
    pub name: Box<str>,
    /// The type of all its values.
    pub kind: Type,
    variants: Vec<(Box<str>, Value)>,
    default: VariantIndex,
    rules: Vec<Rule>,
    disabled: bool,
}

/// The type of a flag's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Type {
    /// `true` or `false`.
    Bool,
    /// Text.
    String,
    /// A double.
    Number,
    /// A JSON object.
    Object,
}

/// A value of a flag.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `true` or `false`.
    Bool(bool),
    /// Text.
    String(Box<str>),
    /// A finite double.
    Number(f64),
    /// A JSON object.
    Object(serde_json::Value),
}

/// A variant by its place in its flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct VariantIndex(pub(crate) u16);

/// Who, how many of them, and what they get.
#[derive(Debug)]
pub struct Rule {
    /// Whom it is for; `None`: everybody.
    pub when: Option<Condition>,
    /// How many of their targeting keys; `None`: all, and no key is needed.
    pub share: Option<Share>,
    /// What they get.
    pub serve: Serve,
}

/// What a rule gives.
#[derive(Debug)]
pub enum Serve {
    /// One variant.
    Variant(VariantIndex),
    /// One variant by targeting key and weight, in the order of the variants' names; the sum of the weights at least 1.
    Split(Vec<(VariantIndex, u32)>),
}

/// What a flag gives one request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evaluation<'s> {
    /// Name of the variant.
    pub variant: &'s str,
    /// Its value.
    pub value: &'s Value,
    /// Why it.
    pub reason: Reason,
    /// What was wrong; `Some` exactly where the reason is [`Reason::Error`].
    pub error: Option<ErrorCode>,
    /// The rule that matched, by its place in the flag; `None`: none did.
    pub rule: Option<u16>,
}

/// OpenFeature's reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The flag has no rules.
    Static,
    /// No rule matched.
    Default,
    /// A rule matched by its condition.
    TargetingMatch,
    /// A rule matched by its percentage, or chose by its split.
    Split,
    /// The flag is disabled.
    Disabled,
    /// See [`Evaluation::error`].
    Error,
}

/// OpenFeature's error codes, as far as they can occur.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// There is no flag of this name.
    FlagNotFound,
    /// The flag is of another type than was asked for.
    TypeMismatch,
    /// A rule would have needed a targeting key, and no other matched.
    TargetingKeyMissing,
}

/// Why a rule was passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PassedOver {
    /// Its condition is false, or ended in an error.
    Condition,
    /// There is no targeting key.
    NoTargetingKey,
    /// The targeting key falls outside its share.
    OutsideShare(Bucket),
}

impl Flag {
    /// A flag whose parts fit together: the indices are places in `variants`, of which there is at least one, every
    /// value is of type `kind`, and the weights of each split have a sum of at least 1. [`crate::compile`] sees to it.
    #[must_use]
    pub(crate) fn new(
        name: Box<str>,
        kind: Type,
        variants: Vec<(Box<str>, Value)>,
        default: VariantIndex,
        rules: Vec<Rule>,
        disabled: bool,
    ) -> Flag {
        Flag { name, kind, variants, default, rules, disabled }
    }

    /// What it gives this request. Allocates nothing.
    #[must_use]
    pub fn evaluate(&self, facts: &Facts<'_>, snapshot: &Snapshot) -> Evaluation<'_> {
        self.evaluate_telling(facts, snapshot, |_, _| ())
    }

    /// Its variants with their values, in the order that [`VariantIndex`] counts.
    #[must_use]
    pub fn variants(&self) -> &[(Box<str>, Value)] {
        &self.variants
    }

    /// Its rules, in order.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// As `evaluate`, telling which rules were passed over, in order, and why.
    pub(crate) fn evaluate_telling(
        &self,
        facts: &Facts<'_>,
        snapshot: &Snapshot,
        mut passed_over: impl FnMut(u16, PassedOver),
    ) -> Evaluation<'_> {
        if self.disabled {
            return self.given(self.default, Reason::Disabled, None);
        }
        if self.rules.is_empty() {
            return self.given(self.default, Reason::Static, None);
        }
        let key = facts.targeting_key();
        let mut key_missing = false;
        for (number, rule) in (0..).zip(&self.rules) {
            match self.matched(rule, key, facts, snapshot) {
                Ok((variant, reason)) => return self.given(variant, reason, Some(number)),
                Err(why) => {
                    key_missing |= why == PassedOver::NoTargetingKey;
                    passed_over(number, why);
                }
            }
        }
        let reason = if key_missing { Reason::Error } else { Reason::Default };
        self.given(self.default, reason, None)
    }

    fn matched(
        &self,
        rule: &Rule,
        key: Option<&str>,
        facts: &Facts<'_>,
        snapshot: &Snapshot,
    ) -> Result<(VariantIndex, Reason), PassedOver> {
        if rule.when.as_ref().is_some_and(|when| !when.holds(facts, snapshot)) {
            return Err(PassedOver::Condition);
        }
        if let Some(share) = rule.share {
            let bucket = Bucket::of(Salt::Flag(&self.name), key.ok_or(PassedOver::NoTargetingKey)?);
            if !bucket.is_within(share) {
                return Err(PassedOver::OutsideShare(bucket));
            }
        }
        match &rule.serve {
            Serve::Variant(variant) if rule.share.is_none() => Ok((*variant, Reason::TargetingMatch)),
            Serve::Variant(variant) => Ok((*variant, Reason::Split)),
            Serve::Split(weights) => {
                let bucket = Bucket::of(Salt::FlagSplit(&self.name), key.ok_or(PassedOver::NoTargetingKey)?);
                let place = bucket.choose(weights.iter().map(|(_, weight)| *weight));
                Ok((weights[place.expect("compiling refuses weights without a sum")].0, Reason::Split))
            }
        }
    }

    fn given(&self, variant: VariantIndex, reason: Reason, rule: Option<u16>) -> Evaluation<'_> {
        let (variant, value) = &self.variants[usize::from(variant.0)];
        let error = (reason == Reason::Error).then_some(ErrorCode::TargetingKeyMissing);
        Evaluation { variant, value, reason, error, rule }
    }
}

impl Snapshot {
    /// What the flag of this name gives this request, if it is of the type that is asked for.
    ///
    /// # Errors
    /// [`ErrorCode::FlagNotFound`] or [`ErrorCode::TypeMismatch`]: there is no value of that name and type to give. A
    /// missing targeting key is not among them: it leaves the default's value ([`Evaluation::error`]).
    pub fn evaluate_flag(&self, name: &str, kind: Type, facts: &Facts<'_>) -> Result<Evaluation<'_>, ErrorCode> {
        let flag = self.flag_named(name).ok_or(ErrorCode::FlagNotFound)?;
        if flag.kind != kind {
            return Err(ErrorCode::TypeMismatch);
        }
        Ok(flag.evaluate(facts, self))
    }
}

impl Type {
    /// Its word for people.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Type::Bool => "boolean",
            Type::String => "string",
            Type::Number => "number",
            Type::Object => "object",
        }
    }
}

impl Value {
    /// Its type.
    #[must_use]
    pub fn kind(&self) -> Type {
        match self {
            Value::Bool(_) => Type::Bool,
            Value::String(_) => Type::String,
            Value::Number(_) => Type::Number,
            Value::Object(_) => Type::Object,
        }
    }

    /// As JSON. A whole number is written without a fraction, as it was in the policy.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        /// Above it a double skips integers, and writing it as one would claim digits that it does not have.
        const EXACT: f64 = 9_007_199_254_740_992.0;
        match self {
            Value::Bool(value) => (*value).into(),
            Value::String(value) => (**value).into(),
            Value::Number(value) if value.fract() == 0.0 && value.abs() <= EXACT => (*value as i64).into(),
            Value::Number(value) => (*value).into(),
            Value::Object(value) => value.clone(),
        }
    }
}

impl fmt::Display for Value {
    /// Its JSON text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_json().fmt(f)
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_json().serialize(serializer)
    }
}

impl Reason {
    /// OpenFeature's word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Static => "STATIC",
            Reason::Default => "DEFAULT",
            Reason::TargetingMatch => "TARGETING_MATCH",
            Reason::Split => "SPLIT",
            Reason::Disabled => "DISABLED",
            Reason::Error => "ERROR",
        }
    }
}

impl ErrorCode {
    /// OpenFeature's word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            ErrorCode::FlagNotFound => "FLAG_NOT_FOUND",
            ErrorCode::TypeMismatch => "TYPE_MISMATCH",
            ErrorCode::TargetingKeyMissing => "TARGETING_KEY_MISSING",
        }
    }
}

#[cfg(test)]
mod tests;
