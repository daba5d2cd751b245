//! What is wrong with the fields of a request: all of it at once, within what a caller's gRPC library takes.

use std::fmt;

use switchtower_provider::bedrock::request::Malformed;

/// Most violations that are told. Statuses travel as headers, and grpc-java takes 8 KiB of them in all.
const TOLD: usize = 16;
/// Most bytes of one field path: paths have numbers and our own names in them, so only abuse is longer.
const PATH_BYTES: usize = 96;

/// Where in the request something stands: a step, and the way to it. Made on the way down at no cost, written out only
/// where something is wrong.
#[derive(Clone, Copy, Debug)]
pub(super) struct At<'a> {
    up: Option<&'a At<'a>>,
    step: Step,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Root,
    Field(&'static str),
    Index(usize),
}

impl At<'_> {
    /// The request itself.
    pub(super) const ROOT: At<'static> = At { up: None, step: Step::Root };

    /// A field of it.
    pub(super) fn field(&self, name: &'static str) -> At<'_> {
        At { up: Some(self), step: Step::Field(name) }
    }

    /// An element of it.
    pub(super) fn index(&self, index: usize) -> At<'_> {
        At { up: Some(self), step: Step::Index(index) }
    }
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(up) = self.up {
            up.fmt(f)?;
            if matches!((up.step, self.step), (Step::Field(_) | Step::Index(_), Step::Field(_))) {
                f.write_str(".")?;
            }
        }
        match self.step {
            Step::Root => Ok(()),
            Step::Field(name) => f.write_str(name),
            Step::Index(index) => write!(f, "[{index}]"),
        }
    }
}

/// What is wrong with one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Violation {
    /// Path of the field in the message that was sent; empty: the message as a whole.
    pub(super) field: String,
    /// What is wrong and what would be right. Quotes no value.
    pub(super) description: String,
}

/// Everything that is wrong with a request, as far as it is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Violations {
    told: Vec<Violation>,
    untold: usize,
}

impl Violations {
    /// One violation alone.
    pub(super) fn one(field: impl Into<String>, description: impl Into<String>) -> Self {
        let mut violations = Violations::default();
        violations.push(field.into(), description.into());
        violations
    }

    /// One more.
    pub(super) fn add(&mut self, at: &At<'_>, description: impl Into<String>) {
        if self.told.len() == TOLD {
            self.untold += 1;
        } else {
            self.push(at.to_string(), description.into());
        }
    }

    /// One more unless something holds.
    pub(super) fn unless(&mut self, holds: bool, at: &At<'_>, description: &str) {
        if !holds {
            self.add(at, description);
        }
    }

    fn push(&mut self, mut field: String, description: String) {
        if field.len() > PATH_BYTES {
            let end = (0..=PATH_BYTES).rev().find(|end| field.is_char_boundary(*end)).unwrap_or(0);
            field.truncate(end);
        }
        self.told.push(Violation { field, description });
    }

    /// The request, if nothing is wrong with it.
    ///
    /// # Errors
    /// What is wrong.
    pub(super) fn or<T>(self, request: T) -> Result<T, Violations> {
        if self.told.is_empty() { Ok(request) } else { Err(self) }
    }

    /// Those that are told, in the order in which they were found, and how many are not.
    pub(super) fn into_problems(self) -> Vec<Malformed> {
        let untold = (self.untold > 0)
            .then(|| Malformed { field: None, message: format!("and {} more fields are wrong", self.untold) });
        let told = self.told.into_iter().map(|Violation { field, description }| Malformed {
            field: Some(field).filter(|field| !field.is_empty()),
            message: description,
        });
        told.chain(untold).collect()
    }

    /// Those that are told, in the order in which they were found.
    #[cfg(test)]
    pub(super) fn told(&self) -> &[Violation] {
        &self.told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_read_like_the_message() {
        let root = At::ROOT;
        let (messages, content);
        let at = {
            messages = root.field("messages");
            content = messages.index(0);
            content.field("content")
        };
        assert_eq!(root.to_string(), "");
        assert_eq!(at.index(1).field("image").field("format").to_string(), "messages[0].content[1].image.format");
    }

    #[test]
    fn a_request_of_nothing_but_mistakes_tells_the_first_and_counts_the_rest() {
        let mut violations = Violations::default();
        let messages = At::ROOT.field("messages");
        for index in 0..100_000 {
            violations.add(&messages.index(index), "is wrong");
        }
        let problems = violations.into_problems();
        assert_eq!(problems.len(), TOLD + 1);
        assert_eq!(problems[0].field.as_deref(), Some("messages[0]"));
        assert_eq!(problems[TOLD].message, "and 99984 more fields are wrong");
    }

    #[test]
    fn a_path_is_cut_between_characters() {
        let violations = Violations::one("ä".repeat(100), "is wrong");
        assert_eq!(violations.told()[0].field, "ä".repeat(48));
    }
}
