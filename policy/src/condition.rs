//! Conditions: CEL text over a fixed schema, checked once, evaluated without allocation.
//!
//! A condition goes through five steps, each of which may refuse it: `limits` cuts the text into tokens and bounds
//! them, `shape` checks that the tokens stand in CEL's order, the `cel` crate parses, `lower` looks every name up in
//! the [`schema`] and checks the types, and what is left is an `expression` of ours. The first two come before the
//! crate sees the text, because its parser recurses with the text's nesting and overflows the stack of a thread on
//! hostile input; the last two come after it, because running the crate's own tree allocates, costs more than a routing
//! decision may, and finds an unknown name only when a request meets it.
//!
//! An error while evaluating, such as a metadata key that is missing, is an error as in CEL: `&&` and `||` absorb it
//! where the other side decides alone, and a condition that ends in an error does not hold, negated or not. One that ends
//! in an error whatever the request is (`constant`) is refused.
//!
//! What is deliberately left out of CEL: comprehensions (`all`, `exists`, `map`, ...), maps, messages, `bytes`, `uint`,
//! `null`, lists anywhere but right of `in`, and whatever builds a new string.

mod constant;
mod expression;
mod limits;
mod lower;
#[cfg(test)]
mod oracle;
pub mod schema;
mod shape;
#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc};

use crate::{Facts, Snapshot, flag, snapshot::FlagIndex};

/// A checked condition. Cloning it shares it.
#[derive(Clone, Debug)]
pub struct Condition(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    text: Box<str>,
    test: expression::Test,
    flags: Box<[FlagIndex]>,
}

/// What a condition may name besides the schema.
#[derive(Clone, Copy)]
pub struct Scope<'a> {
    flags: Option<&'a dyn Fn(&str) -> FlagLookup>,
}

/// What is known of the name of a flag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FlagLookup {
    /// There is such a flag.
    Found {
        /// Its place.
        index: FlagIndex,
        /// The type of its values.
        kind: flag::Type,
    },
    /// There is none.
    Unknown {
        /// The name that was probably meant.
        nearest: Option<String>,
    },
}

/// Why a text is not a condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// Where in the text, in bytes, on the boundary of a character.
    pub offset: usize,
    /// Stable word for it: `condition_limit`, `condition_syntax`, `condition_unsupported`, `condition_type`,
    /// `condition_constant`, `unknown_name`, `unknown_flag`.
    pub code: &'static str,
    /// A sentence an operator can act on.
    pub message: String,
    /// What was probably meant, as it would be written.
    pub suggestion: Option<String>,
}

/// Why a condition ended in an error for one request. It repeats what the policy says, never a value of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason<'a> {
    /// Metadata has no such key.
    NoKey(&'a str),
    /// Metadata has no key of the name that was worked out.
    NoComputedKey,
    /// The request does not say how many tokens it wants.
    NoMaxTokens,
    /// The result of this operator or function does not fit an `int`.
    Overflow(&'static str),
    /// An `int` was divided by zero.
    DivisionByZero,
    /// A string is not a number of the type that was asked for.
    NotANumber(&'static str),
    /// An order was asked for between numbers of which one is not a number.
    Unordered,
    /// A flag gave a value of another type than it was declared with.
    FlagType,
}

impl Condition {
    /// Reads and checks a condition.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong with it.
    pub fn parse(text: &str, scope: &Scope<'_>) -> Result<Condition, Error> {
        let tokens = limits::tokens(text)?;
        shape::check(text, &tokens)?;
        let program = cel::Program::compile(text).map_err(|errors| refused_by_parser(text, &tokens, &errors))?;
        let (test, flags) = lower::condition(text, &tokens, &program, scope)?;
        if let Some(reason) = constant::failure(&test) {
            let message = format!("this can only fail, whatever the request is: {reason}");
            return Err(Error::new(0, "condition_constant", message));
        }
        Ok(Condition(Arc::new(Inner { text: text.into(), test, flags: flags.into() })))
    }

    /// The text it was made from.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0.text
    }

    /// Whether it holds for a request.
    ///
    /// # Errors
    ///
    /// Why it ended in an error; the same as `false` for whoever decides by it.
    pub fn evaluate<'a>(&'a self, facts: &'a Facts<'_>, snapshot: &'a Snapshot) -> Result<bool, Reason<'a>> {
        self.0.test.value(expression::On { facts, snapshot })
    }

    /// Whether it holds for a request; one that ends in an error does not.
    #[must_use]
    pub fn holds(&self, facts: &Facts<'_>, snapshot: &Snapshot) -> bool {
        self.evaluate(facts, snapshot) == Ok(true)
    }

    /// The flags that it asks for, each once.
    pub fn flags(&self) -> impl Iterator<Item = FlagIndex> + '_ {
        self.0.flags.iter().copied()
    }
}

impl<'a> Scope<'a> {
    /// Flags may be named, and are looked up by this.
    #[must_use]
    pub fn with_flags(lookup: &'a dyn Fn(&str) -> FlagLookup) -> Self {
        Scope { flags: Some(lookup) }
    }
}

impl Scope<'static> {
    /// Flags may not be named: the scope of a flag's own rules.
    #[must_use]
    pub fn without_flags() -> Self {
        Scope { flags: None }
    }
}

impl fmt::Debug for Scope<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope").field("flags", &self.flags.is_some()).finish()
    }
}

impl Error {
    fn new(offset: usize, code: &'static str, message: impl Into<String>) -> Self {
        Error { offset, code, message: message.into(), suggestion: None }
    }

    fn syntax(offset: usize, message: impl Into<String>) -> Self {
        Error::new(offset, "condition_syntax", message)
    }

    fn unsupported(offset: usize, message: impl Into<String>) -> Self {
        Error::new(offset, "condition_unsupported", message)
    }

    fn suggest(mut self, suggestion: Option<String>) -> Self {
        self.suggestion = suggestion;
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.suggestion {
            Some(suggestion) => write!(f, "; did you mean `{suggestion}`?"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::NoKey(key) => write!(f, "metadata has no key `{key}`"),
            Reason::NoComputedKey => f.write_str("metadata has no key of the name that was worked out"),
            Reason::NoMaxTokens => f.write_str("the request sets no max_tokens"),
            Reason::Overflow(what) => write!(f, "the result of `{what}` does not fit an int"),
            Reason::DivisionByZero => f.write_str("division by zero"),
            Reason::NotANumber(kind) => write!(f, "a string is not a number that `{kind}()` can read"),
            Reason::Unordered => f.write_str("NaN is neither less nor greater than another number"),
            Reason::FlagType => f.write_str("a flag gave a value of another type than it was declared with"),
        }
    }
}

/// What `shape` lets through and the parser still refuses: the argument of `has()`, and numbers at the edge.
fn refused_by_parser(text: &str, tokens: &[limits::Token], errors: &cel::ParseErrors) -> Error {
    let Some(error) = errors.errors.first() else {
        return Error::syntax(0, "this is not CEL");
    };
    let line = usize::try_from(error.pos.0).unwrap_or(1).max(1) - 1;
    let column = usize::try_from(error.pos.1).unwrap_or(1).max(1) - 1;
    let before: usize = text.split_inclusive('\n').take(line).map(str::len).sum();
    let offset = before + text[before..].chars().take(column).map(char::len_utf8).sum::<usize>();
    if error.msg.contains("has()") {
        // The parser points at the argument.
        let calls = tokens.iter().filter(|token| token.start <= offset && &text[token.start..token.end] == "has");
        return Error::syntax(
            calls.max_by_key(|token| token.start).map_or(offset, |token| token.start),
            lower::HAS_TAKES,
        );
    }
    let message = match error.msg.as_str() {
        "invalid int literal" => "this number is too large".to_owned(),
        other => format!("this is not CEL: {other}"),
    };
    Error::syntax(offset, message)
}
