//! What is wrong with a policy, where, and what to do about it.

use std::{fmt, sync::Arc};

/// One thing that is wrong, or that an operator should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Whether the policy is refused for it.
    pub severity: Severity,
    /// Stable word for what it is, such as `unknown_model`.
    pub code: &'static str,
    /// Field path, such as `routes.support-chat.tiers[0].split.sonet`; empty for a whole file.
    pub path: String,
    /// Where it stands; `None` where the policy did not come from files.
    pub place: Option<Place>,
    /// A sentence an operator can act on.
    pub message: String,
    /// What was probably meant, as it would be written.
    pub suggestion: Option<String>,
}

/// Whether a policy is refused for a violation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It is refused.
    Error,
    /// It serves; the operator should know.
    Warning,
}

/// A place in a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Name of the file as it was given.
    pub file: Arc<str>,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

impl Violation {
    /// A violation for which the policy is refused.
    #[must_use]
    pub fn error(code: &'static str, path: impl Into<String>, message: impl Into<String>) -> Self {
        Violation {
            severity: Severity::Error,
            code,
            path: path.into(),
            place: None,
            message: message.into(),
            suggestion: None,
        }
    }

    /// Something an operator should know.
    #[must_use]
    pub fn warning(code: &'static str, path: impl Into<String>, message: impl Into<String>) -> Self {
        Violation { severity: Severity::Warning, ..Violation::error(code, path, message) }
    }

    /// With what was probably meant.
    #[must_use]
    pub fn suggest(mut self, suggestion: Option<String>) -> Self {
        self.suggestion = suggestion;
        self
    }
}

/// Violations as they are found, bounded: a policy of 4 MiB can be wrong in a million places, and nobody reads past the
/// first thousand. Errors and warnings have a bound each, so that no number of warnings hides an error.
#[derive(Debug, Default)]
pub(crate) struct Violations {
    found: Vec<Violation>,
    errors: usize,
    warnings: usize,
    searches: usize,
}

/// Most violations of each severity that are told; the others are counted.
const MOST_TOLD: usize = 1000;

/// Most searches for what was probably meant: each compares with every name there is, up to 10 000.
const MOST_SEARCHES: usize = 50;

impl Violations {
    pub(crate) fn push(&mut self, violation: Violation) {
        let count = match violation.severity {
            Severity::Error => &mut self.errors,
            Severity::Warning => &mut self.warnings,
        };
        *count += 1;
        if *count <= MOST_TOLD {
            self.found.push(violation);
        }
    }

    /// The name that was probably meant, while the budget of searches lasts.
    pub(crate) fn nearest<'a>(&mut self, name: &str, names: impl IntoIterator<Item = &'a str>) -> Option<String> {
        self.searches += 1;
        if self.searches > MOST_SEARCHES { None } else { nearest(name, names) }
    }

    pub(crate) fn errors(&self) -> usize {
        self.errors
    }

    /// All that was found, with a last word on what was not told.
    pub(crate) fn into_vec(mut self) -> Vec<Violation> {
        let more = self.errors.saturating_sub(MOST_TOLD);
        if more > 0 {
            let message = format!("{more} more errors are not shown: repair the ones above first");
            self.found.push(Violation::error("too_many_violations", "", message));
        }
        let more = self.warnings.saturating_sub(MOST_TOLD);
        if more > 0 {
            let message = format!("{more} more warnings are not shown");
            self.found.push(Violation::warning("too_many_violations", "", message));
        }
        self.found
    }
}

/// The name among `names` that was probably meant: the nearest by edits, if at most a third of it differs; of equally
/// near ones the first.
pub(crate) fn nearest<'a>(name: &str, names: impl IntoIterator<Item = &'a str>) -> Option<String> {
    // Longer ones are not names, and the comparison grows with the square of the length.
    if name.len() > 256 {
        return None;
    }
    let length = name.chars().count();
    let allowed = (length / 3).max(1);
    names
        .into_iter()
        .filter(|candidate| candidate.len().abs_diff(name.len()) <= allowed * 4)
        .map(|candidate| (strsim::osa_distance(name, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= allowed && *candidate != name && *distance < length)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate.to_owned())
}

/// Text of the document as a message shows it: in backquotes, on one line, at most 64 characters.
pub(crate) fn quoted(text: &str) -> String {
    let mut shown = String::from("`");
    for (index, c) in text.chars().enumerate() {
        if index == 64 {
            shown.push('…');
            break;
        }
        shown.push(if c.is_control() { ' ' } else { c });
    }
    shown.push('`');
    shown
}

impl fmt::Display for Violation {
    /// `prod.yaml:12:7: error[unknown_model] routes.a.tiers[0]: no model is called `sonet`; did you mean `sonnet`?`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{}:{}:{}: ", place.file, place.line, place.column)?;
        }
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, "{severity}[{}]", self.code)?;
        if !self.path.is_empty() {
            write!(f, " {}", self.path)?;
        }
        write!(f, ": {}", self.message)?;
        match &self.suggestion {
            Some(suggestion) => write!(f, "; did you mean `{suggestion}`?"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_probably_meant_is_the_nearest_name_and_not_any_name() {
        let names = ["sonnet", "nova-lite", "nova-pro", "a"];
        for (name, meant) in [
            ("sonet", Some("sonnet")),
            ("sonnte", Some("sonnet")),
            ("nova-lit", Some("nova-lite")),
            ("haiku", None),
            ("b", None),
            ("", None),
        ] {
            assert_eq!(nearest(name, names).as_deref(), meant, "{name}");
        }
    }

    #[test]
    fn no_number_of_warnings_hides_an_error() {
        let mut violations = Violations::default();
        (0..5000).for_each(|_| violations.push(Violation::warning("w", "", "w")));
        violations.push(Violation::error("e", "", "e"));
        let told = violations.into_vec();
        assert_eq!(told.len(), 1002);
        assert_eq!(told[1000].code, "e");
        assert_eq!(told[1001].message, "4000 more warnings are not shown");
    }

    #[test]
    fn text_of_the_document_is_shown_short_and_on_one_line() {
        assert_eq!(quoted("a\nb"), "`a b`");
        assert_eq!(quoted(&"x".repeat(70)), format!("`{}…`", "x".repeat(64)));
    }
}
