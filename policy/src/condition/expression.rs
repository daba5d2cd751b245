//! What a condition becomes: one tree per type, so that evaluating checks no types and allocates nothing.
//!
//! A value is worked out when it is asked for and not before. Strings are borrowed from the condition, the facts or the
//! snapshot.

use std::cmp::Ordering;

use regex::Regex;

use super::Reason;
use crate::{Facts, Snapshot, flag::Value, snapshot::FlagIndex};

/// What an expression is evaluated on.
#[derive(Clone, Copy)]
pub(super) struct On<'a> {
    pub(super) facts: &'a Facts<'a>,
    pub(super) snapshot: &'a Snapshot,
}

type Outcome<'a, T> = Result<T, Reason<'a>>;

/// A `bool`.
#[derive(Debug)]
pub(super) enum Test {
    Constant(bool),
    Fact(BoolFact),
    Flag(FlagIndex),
    Choice(Box<Choice<Test>>),
    Not(Box<Test>),
    All(Vec<Test>),
    Any(Vec<Test>),
    /// Metadata has this key.
    HasKey(Text),
    HasMaxTokens,
    Bools(Compare, Box<(Test, Test)>),
    Texts(Compare, Box<(Text, Text)>),
    Numbers(Compare, Box<(Number, Number)>),
    TextIn(Text, Box<[Box<str>]>),
    NumberIn(Number, Box<[Constant]>),
    Part(Part, Box<(Text, Text)>),
    Matches(Text, Regex),
}

/// A `string`.
#[derive(Debug)]
pub(super) enum Text {
    Constant(Box<str>),
    Fact(TextFact),
    Flag(FlagIndex),
    Choice(Box<Choice<Text>>),
    Metadata(Box<str>),
    /// Metadata under a key that is itself worked out.
    MetadataAt(Box<Text>),
}

/// An `int`.
#[derive(Debug)]
pub(super) enum Int {
    Constant(i64),
    MaxTokens,
    BodyBytes,
    Choice(Box<Choice<Int>>),
    Size(Box<Text>),
    FromText(Box<Text>),
    FromDouble(Box<Double>),
    Negative(Box<Int>),
    Arithmetic(Arithmetic, Box<(Int, Int)>),
}

/// A `double`.
#[derive(Debug)]
pub(super) enum Double {
    Constant(f64),
    Flag(FlagIndex),
    Choice(Box<Choice<Double>>),
    FromText(Box<Text>),
    FromInt(Box<Int>),
    Negative(Box<Double>),
    Arithmetic(Arithmetic, Box<(Double, Double)>),
}

/// An `int` or a `double`: CEL compares them with each other.
#[derive(Debug)]
pub(super) enum Number {
    Int(Int),
    Double(Double),
}

/// A number that is known.
#[derive(Clone, Copy, Debug)]
pub(super) enum Constant {
    Int(i64),
    Double(f64),
}

/// `test ? then : otherwise`.
#[derive(Debug)]
pub(super) struct Choice<T> {
    pub(super) test: Test,
    pub(super) then: T,
    pub(super) otherwise: T,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BoolFact {
    Stream,
    Tools,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TextFact {
    CallerName,
    CallerTenant,
    Route,
    Region,
    Environment,
    RequestId,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compare {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// What a string may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Start,
    End,
    Within,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    /// Of `int` only.
    Remainder,
}

impl Test {
    pub(super) fn value<'a>(&'a self, on: On<'a>) -> Outcome<'a, bool> {
        match self {
            Test::Constant(value) => Ok(*value),
            Test::Fact(BoolFact::Stream) => Ok(on.facts.request.stream),
            Test::Fact(BoolFact::Tools) => Ok(on.facts.request.tools),
            Test::Flag(flag) => match on.flag(*flag) {
                Value::Bool(value) => Ok(*value),
                _ => Err(Reason::FlagType),
            },
            Test::Choice(choice) => choice.taken(on)?.value(on),
            Test::Not(test) => Ok(!test.value(on)?),
            Test::All(tests) => decided(tests, on, false),
            Test::Any(tests) => decided(tests, on, true),
            Test::HasKey(key) => Ok(on.facts.metadata(key.value(on)?).is_some()),
            Test::HasMaxTokens => Ok(on.facts.request.max_tokens.is_some()),
            Test::Bools(compare, sides) => {
                let (left, right) = (sides.0.value(on)?, sides.1.value(on)?);
                compare.holds(Some(left.cmp(&right)))
            }
            Test::Texts(compare, sides) => {
                // UTF-8 sorts bytewise as its code points do, which is CEL's order.
                let (left, right) = (sides.0.value(on)?, sides.1.value(on)?);
                compare.holds(Some(left.cmp(right)))
            }
            Test::Numbers(compare, sides) => {
                let (left, right) = (sides.0.value(on)?, sides.1.value(on)?);
                compare.holds(left.order(right))
            }
            Test::TextIn(text, list) => {
                let text = text.value(on)?;
                Ok(list.iter().any(|item| **item == *text))
            }
            Test::NumberIn(number, list) => {
                let number = number.value(on)?;
                Ok(list.iter().any(|item| number.order(*item) == Some(Ordering::Equal)))
            }
            Test::Part(part, sides) => {
                let (whole, part_of) = (sides.0.value(on)?, sides.1.value(on)?);
                Ok(match part {
                    Part::Start => whole.starts_with(part_of),
                    Part::End => whole.ends_with(part_of),
                    Part::Within => whole.contains(part_of),
                })
            }
            Test::Matches(text, regex) => Ok(regex.is_match(text.value(on)?)),
        }
    }
}

/// `&&` (decided by `false`) and `||` (decided by `true`): one side that decides is enough, and absorbs the other's
/// error.
fn decided<'a>(tests: &'a [Test], on: On<'a>, by: bool) -> Outcome<'a, bool> {
    let mut outcome = Ok(!by);
    for test in tests {
        match test.value(on) {
            Ok(value) if value == by => return Ok(by),
            Ok(_) => {}
            Err(reason) => outcome = outcome.and(Err(reason)),
        }
    }
    outcome
}

impl<T> Choice<T> {
    fn taken<'a>(&'a self, on: On<'a>) -> Outcome<'a, &'a T> {
        Ok(if self.test.value(on)? { &self.then } else { &self.otherwise })
    }
}

impl Text {
    fn value<'a>(&'a self, on: On<'a>) -> Outcome<'a, &'a str> {
        match self {
            Text::Constant(value) => Ok(value),
            Text::Fact(fact) => Ok(match fact {
                TextFact::CallerName => &on.facts.caller.name,
                TextFact::CallerTenant => &on.facts.caller.tenant,
                TextFact::Route => on.facts.asked,
                TextFact::Region => on.facts.region,
                TextFact::Environment => on.snapshot.environment(),
                TextFact::RequestId => on.facts.request_id,
            }),
            Text::Flag(flag) => match on.flag(*flag) {
                Value::String(value) => Ok(value),
                _ => Err(Reason::FlagType),
            },
            Text::Choice(choice) => choice.taken(on)?.value(on),
            Text::Metadata(key) => on.facts.metadata(key).ok_or(Reason::NoKey(key)),
            Text::MetadataAt(key) => on.facts.metadata(key.value(on)?).ok_or(Reason::NoComputedKey),
        }
    }
}

impl Int {
    fn value<'a>(&'a self, on: On<'a>) -> Outcome<'a, i64> {
        match self {
            Int::Constant(value) => Ok(*value),
            Int::MaxTokens => on.facts.request.max_tokens.map(i64::from).ok_or(Reason::NoMaxTokens),
            Int::BodyBytes => Ok(i64::try_from(on.facts.request.body_bytes).unwrap_or(i64::MAX)),
            Int::Choice(choice) => choice.taken(on)?.value(on),
            Int::Size(text) => Ok(i64::try_from(text.value(on)?.chars().count()).unwrap_or(i64::MAX)),
            Int::FromText(text) => text.value(on)?.parse().map_err(|_| Reason::NotANumber("int")),
            Int::FromDouble(double) => int_of(double.value(on)?),
            Int::Negative(int) => int.value(on)?.checked_neg().ok_or(Reason::Overflow("-")),
            Int::Arithmetic(arithmetic, sides) => {
                let (left, right) = (sides.0.value(on)?, sides.1.value(on)?);
                arithmetic.of_ints(left, right)
            }
        }
    }
}

impl Double {
    fn value<'a>(&'a self, on: On<'a>) -> Outcome<'a, f64> {
        match self {
            Double::Constant(value) => Ok(*value),
            Double::Flag(flag) => match on.flag(*flag) {
                Value::Number(value) => Ok(*value),
                _ => Err(Reason::FlagType),
            },
            Double::Choice(choice) => choice.taken(on)?.value(on),
            Double::FromText(text) => double_of(text.value(on)?).ok_or(Reason::NotANumber("double")),
            Double::FromInt(int) => Ok(int.value(on)? as f64),
            Double::Negative(double) => Ok(-double.value(on)?),
            Double::Arithmetic(arithmetic, sides) => {
                let (left, right) = (sides.0.value(on)?, sides.1.value(on)?);
                Ok(arithmetic.of_doubles(left, right))
            }
        }
    }
}

/// An int from a double, cut towards zero.
pub(super) fn int_of(value: f64) -> Outcome<'static, i64> {
    // CEL excludes both ends: the upper is no int, and the lower, which is one, stands for what rounds to it.
    let fits = value > i64::MIN as f64 && value < i64::MAX as f64;
    if fits { Ok(value as i64) } else { Err(Reason::Overflow("int()")) }
}

/// A double from its digits; `None` too where digits without end were not meant and their number is beyond a double.
pub(super) fn double_of(text: &str) -> Option<f64> {
    let value: f64 = text.parse().ok()?;
    (value.is_finite() || !text.bytes().any(|b| b.is_ascii_digit())).then_some(value)
}

impl Number {
    fn value<'a>(&'a self, on: On<'a>) -> Outcome<'a, Constant> {
        match self {
            Number::Int(int) => int.value(on).map(Constant::Int),
            Number::Double(double) => double.value(on).map(Constant::Double),
        }
    }
}

impl Constant {
    /// The order of two numbers as if on one line, whatever their types; `None` where one is not a number.
    pub(super) fn order(self, other: Constant) -> Option<Ordering> {
        match (self, other) {
            (Constant::Int(left), Constant::Int(right)) => Some(left.cmp(&right)),
            (Constant::Double(left), Constant::Double(right)) => left.partial_cmp(&right),
            (Constant::Int(left), Constant::Double(right)) => order_of_mixed(left, right),
            (Constant::Double(left), Constant::Int(right)) => order_of_mixed(right, left).map(Ordering::reverse),
        }
    }
}

/// Exact, unlike a comparison after a conversion: a double skips ints from 2^53 on.
fn order_of_mixed(int: i64, double: f64) -> Option<Ordering> {
    const BEYOND: f64 = 9_223_372_036_854_775_808.0;
    if double.is_nan() {
        None
    } else if double >= BEYOND {
        Some(Ordering::Less)
    } else if double < -BEYOND {
        Some(Ordering::Greater)
    } else {
        let whole = double.trunc();
        Some(int.cmp(&(whole as i64)).then(whole.partial_cmp(&double)?))
    }
}

impl Compare {
    pub(super) fn holds(self, order: Option<Ordering>) -> Outcome<'static, bool> {
        match self {
            Compare::Equal => Ok(order == Some(Ordering::Equal)),
            Compare::NotEqual => Ok(order != Some(Ordering::Equal)),
            Compare::Less => order.map(Ordering::is_lt).ok_or(Reason::Unordered),
            Compare::LessOrEqual => order.map(Ordering::is_le).ok_or(Reason::Unordered),
            Compare::Greater => order.map(Ordering::is_gt).ok_or(Reason::Unordered),
            Compare::GreaterOrEqual => order.map(Ordering::is_ge).ok_or(Reason::Unordered),
        }
    }
}

impl Arithmetic {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Arithmetic::Add => "+",
            Arithmetic::Subtract => "-",
            Arithmetic::Multiply => "*",
            Arithmetic::Divide => "/",
            Arithmetic::Remainder => "%",
        }
    }

    pub(super) fn of_ints(self, left: i64, right: i64) -> Outcome<'static, i64> {
        let result = match self {
            Arithmetic::Add => left.checked_add(right),
            Arithmetic::Subtract => left.checked_sub(right),
            Arithmetic::Multiply => left.checked_mul(right),
            Arithmetic::Divide | Arithmetic::Remainder if right == 0 => return Err(Reason::DivisionByZero),
            Arithmetic::Divide => left.checked_div(right),
            Arithmetic::Remainder => left.checked_rem(right),
        };
        result.ok_or(Reason::Overflow(self.as_str()))
    }

    pub(super) fn of_doubles(self, left: f64, right: f64) -> f64 {
        match self {
            Arithmetic::Add => left + right,
            Arithmetic::Subtract => left - right,
            Arithmetic::Multiply => left * right,
            Arithmetic::Divide => left / right,
            Arithmetic::Remainder => left % right,
        }
    }
}

impl<'a> On<'a> {
    fn flag(&self, index: FlagIndex) -> &'a Value {
        self.snapshot.flag(index).evaluate(self.facts, self.snapshot).value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ints_and_doubles_are_ordered_as_if_on_one_line() {
        #[track_caller]
        fn check(int: i64, double: f64, expected: Option<Ordering>) {
            assert_eq!(order_of_mixed(int, double), expected, "{int} {double}");
        }
        check(1, 1.0, Some(Ordering::Equal));
        check(0, -0.0, Some(Ordering::Equal));
        check(1, 1.5, Some(Ordering::Less));
        check(2, 1.5, Some(Ordering::Greater));
        check(-1, -1.5, Some(Ordering::Greater));
        check(-2, -1.5, Some(Ordering::Less));
        check((1 << 53) + 1, 9_007_199_254_740_992.0, Some(Ordering::Greater));
        check(i64::MAX, 9_223_372_036_854_775_808.0, Some(Ordering::Less));
        check(i64::MIN, -9_223_372_036_854_775_808.0, Some(Ordering::Equal));
        check(i64::MIN, f64::NEG_INFINITY, Some(Ordering::Greater));
        check(i64::MAX, f64::INFINITY, Some(Ordering::Less));
        check(0, f64::NAN, None);
    }

    #[test]
    fn a_string_of_digits_beyond_a_double_is_an_error_and_infinity_by_name_is_not() {
        assert_eq!(double_of("1e400"), None);
        assert_eq!(double_of("-1e400"), None);
        assert_eq!(double_of(""), None);
        assert_eq!(double_of("inf"), Some(f64::INFINITY));
        assert_eq!(double_of("1.5e3"), Some(1500.0));
    }
}
