//! What of an expression is known before there is a request: enough to tell a condition that can only fail.
//!
//! A condition that ends in an error for every request never holds, which nobody means. Only that is looked for: what
//! depends on a request is open, even where every request would make it fail.

use super::{
    Reason,
    expression::{Constant, Double, Int, Number, Test, Text, double_of, int_of},
};

/// `None`: it depends on the request.
type Known<T> = Option<Result<T, Reason<'static>>>;

/// Why a condition fails for every request; `None`: it does not.
pub(super) fn failure(test: &Test) -> Option<Reason<'static>> {
    test.known()?.err()
}

/// Both sides, once both are known; a side that fails makes the whole fail.
fn both<A, B>(left: Known<A>, right: Known<B>) -> Known<(A, B)> {
    match (left, right) {
        (Some(Err(reason)), _) | (_, Some(Err(reason))) => Some(Err(reason)),
        (Some(Ok(left)), Some(Ok(right))) => Some(Ok((left, right))),
        _ => None,
    }
}

/// What takes a value that fails fails; with a value that is known it is still open.
fn open_after<T, U>(known: Known<T>) -> Known<U> {
    known?.err().map(Err)
}

impl Test {
    fn known(&self) -> Known<bool> {
        match self {
            Test::Constant(value) => Some(Ok(*value)),
            Test::Fact(_) | Test::Flag(_) | Test::HasMaxTokens => None,
            Test::Choice(choice) => match choice.test.known()? {
                Ok(true) => choice.then.known(),
                Ok(false) => choice.otherwise.known(),
                Err(reason) => Some(Err(reason)),
            },
            Test::Not(test) => Some(test.known()?.map(|value| !value)),
            Test::All(tests) => decided(tests, false),
            Test::Any(tests) => decided(tests, true),
            Test::HasKey(text) => open_after(text.known()),
            Test::Bools(compare, sides) => {
                let sides = both(sides.0.known(), sides.1.known())?;
                Some(sides.and_then(|(left, right)| compare.holds(Some(left.cmp(&right)))))
            }
            Test::Texts(compare, sides) => {
                let sides = both(sides.0.known(), sides.1.known())?;
                Some(sides.and_then(|(left, right)| compare.holds(Some(left.cmp(right)))))
            }
            Test::Numbers(compare, sides) => {
                let sides = both(sides.0.known(), sides.1.known())?;
                Some(sides.and_then(|(left, right)| compare.holds(left.order(right))))
            }
            Test::TextIn(text, _) | Test::Matches(text, _) => open_after(text.known()),
            Test::NumberIn(number, _) => open_after(number.known()),
            Test::Part(_, sides) => open_after(both(sides.0.known(), sides.1.known())),
        }
    }
}

/// `&&` (decided by `false`) and `||` (decided by `true`): one side that decides is enough, whatever the others are.
fn decided(tests: &[Test], by: bool) -> Known<bool> {
    let known: Vec<Known<bool>> = tests.iter().map(Test::known).collect();
    if known.contains(&Some(Ok(by))) {
        return Some(Ok(by));
    }
    known.into_iter().collect::<Option<Vec<_>>>().map(|all| all.into_iter().find(Result::is_err).unwrap_or(Ok(!by)))
}

impl Text {
    fn known(&self) -> Known<&str> {
        match self {
            Text::Constant(value) => Some(Ok(value)),
            Text::Fact(_) | Text::Flag(_) | Text::Metadata(_) => None,
            Text::Choice(choice) => match choice.test.known()? {
                Ok(true) => choice.then.known(),
                Ok(false) => choice.otherwise.known(),
                Err(reason) => Some(Err(reason)),
            },
            Text::MetadataAt(key) => open_after(key.known()),
        }
    }
}

impl Int {
    fn known(&self) -> Known<i64> {
        match self {
            Int::Constant(value) => Some(Ok(*value)),
            Int::MaxTokens | Int::BodyBytes => None,
            Int::Choice(choice) => match choice.test.known()? {
                Ok(true) => choice.then.known(),
                Ok(false) => choice.otherwise.known(),
                Err(reason) => Some(Err(reason)),
            },
            Int::Size(text) => Some(text.known()?.map(|text| i64::try_from(text.chars().count()).unwrap_or(i64::MAX))),
            Int::FromText(text) => {
                Some(text.known()?.and_then(|text| text.parse().map_err(|_| Reason::NotANumber("int"))))
            }
            Int::FromDouble(double) => Some(double.known()?.and_then(int_of)),
            Int::Negative(int) => Some(int.known()?.and_then(|int| int.checked_neg().ok_or(Reason::Overflow("-")))),
            Int::Arithmetic(arithmetic, sides) => {
                let sides = both(sides.0.known(), sides.1.known())?;
                Some(sides.and_then(|(left, right)| arithmetic.of_ints(left, right)))
            }
        }
    }
}

impl Double {
    fn known(&self) -> Known<f64> {
        match self {
            Double::Constant(value) => Some(Ok(*value)),
            Double::Flag(_) => None,
            Double::Choice(choice) => match choice.test.known()? {
                Ok(true) => choice.then.known(),
                Ok(false) => choice.otherwise.known(),
                Err(reason) => Some(Err(reason)),
            },
            Double::FromText(text) => {
                Some(text.known()?.and_then(|text| double_of(text).ok_or(Reason::NotANumber("double"))))
            }
            Double::FromInt(int) => Some(int.known()?.map(|int| int as f64)),
            Double::Negative(double) => Some(double.known()?.map(|double| -double)),
            Double::Arithmetic(arithmetic, sides) => {
                let sides = both(sides.0.known(), sides.1.known())?;
                Some(sides.map(|(left, right)| arithmetic.of_doubles(left, right)))
            }
        }
    }
}

impl Number {
    fn known(&self) -> Known<Constant> {
        match self {
            Number::Int(int) => Some(int.known()?.map(Constant::Int)),
            Number::Double(double) => Some(double.known()?.map(Constant::Double)),
        }
    }
}
