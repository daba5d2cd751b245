//! Reading one JSON object strictly: every member known, every problem told at once, each with its place.
//!
//! Serde stops at the first problem; an operator with a broken keys file wants them all. The two files read so are
//! small and flat, so this reads them from a tree.

use serde_json::{Map, Value};

/// The members of one object that nobody has taken yet.
#[derive(Debug)]
pub(super) struct Members<'a> {
    place: String,
    left: Map<String, Value>,
    problems: &'a mut Vec<String>,
}

impl<'a> Members<'a> {
    /// The members of `value`; `None`, with the problem noted, if it is no object.
    pub(super) fn of(place: String, value: Value, problems: &'a mut Vec<String>) -> Option<Self> {
        match value {
            Value::Object(left) => Some(Members { place, left, problems }),
            _ => {
                problems.push(format!("{}: not an object", if place.is_empty() { "the file" } else { &place }));
                None
            }
        }
    }

    /// A member, if it is there and not null.
    pub(super) fn optional(&mut self, name: &str) -> Option<Value> {
        self.left.remove(name).filter(|value| !value.is_null())
    }

    /// A member that must be there.
    pub(super) fn required(&mut self, name: &str) -> Option<Value> {
        let value = self.optional(name);
        if value.is_none() {
            self.problem(name, "missing");
        }
        value
    }

    /// A required text that `read` understands; `what` says what it should have been.
    pub(super) fn text<T>(&mut self, name: &str, what: &str, read: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        let value = self.required(name)?;
        self.understood(name, &value, what, read)
    }

    /// The same for a text that may be missing: `None` is a problem that was noted, `Some(None)` its absence.
    pub(super) fn optional_text<T>(
        &mut self,
        name: &str,
        what: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Option<Option<T>> {
        match self.optional(name) {
            None => Some(None),
            Some(value) => self.understood(name, &value, what, read).map(Some),
        }
    }

    /// Notes a problem with a member. Never the member's value: it may be a secret.
    pub(super) fn problem(&mut self, name: &str, problem: &str) {
        let dot = if self.place.is_empty() { "" } else { "." };
        self.problems.push(format!("{}{dot}{name}: {problem}", self.place));
    }

    /// Notes every member that was not taken.
    pub(super) fn end(mut self) {
        for (name, _) in std::mem::take(&mut self.left) {
            self.problem(&name, "unknown member");
        }
    }

    fn understood<T>(
        &mut self,
        name: &str,
        value: &Value,
        what: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let understood = value.as_str().and_then(read);
        if understood.is_none() {
            self.problem(name, what);
        }
        understood
    }
}

/// The tree of a whole file. A syntax error has its line and column, and hides all other problems.
pub(super) fn parse(bytes: &[u8]) -> Result<Value, Vec<String>> {
    serde_json::from_slice(bytes)
        .map_err(|error| vec![format!("line {}, column {}: not JSON", error.line(), error.column())])
}
