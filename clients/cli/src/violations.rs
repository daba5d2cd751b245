//! Policies as they are read from files, and what is wrong with them as it is shown: a line, the line of the file with a
//! caret on a terminal, or JSON.

use std::{
    fmt::{self, Write},
    path::Path,
};

use serde_json::{Value, json};
use switchtower_data_plane::source::Files;
use switchtower_policy::{File, Severity, Violation, document::Places, violation::Place};

use crate::output::{DIM, ERROR, Exit, Failure, WARNING, printable};

/// Most characters of a line of a file that are shown.
const SHOWN: usize = 110;

/// Reads a folder of policy files, or one file.
pub(crate) fn read(path: &Path) -> Result<Vec<File>, Failure> {
    Files(path.to_owned()).read().map_err(|error| {
        Failure::io("the policy cannot be read", &error).next("name a .yaml file, or a folder that holds some")
    })
}

/// A violation as it is shown, found here or by the control plane.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    severity: Severity,
    pub(crate) code: String,
    pub(crate) path: String,
    place: Option<Place>,
    message: String,
    suggestion: Option<String>,
}

impl Told {
    pub(crate) fn of(violation: &Violation) -> Self {
        Told {
            severity: violation.severity,
            code: violation.code.to_owned(),
            path: violation.path.clone(),
            place: violation.place.clone(),
            message: violation.message.clone(),
            suggestion: violation.suggestion.clone(),
        }
    }

    /// What the control plane says is wrong at a path of the policy, with its place in the files.
    pub(crate) fn error(code: &str, path: &str, message: &str, places: &Places) -> Self {
        Told {
            severity: Severity::Error,
            code: code.to_owned(),
            path: path.to_owned(),
            place: places.of(path),
            message: message.to_owned(),
            suggestion: None,
        }
    }

    /// What the control plane says is to be known.
    pub(crate) fn warning(code: &str, path: &str, message: &str, places: &Places) -> Self {
        Told { severity: Severity::Warning, ..Told::error(code, path, message, places) }
    }

    /// For people, with the line that it is on if `excerpt`.
    pub(crate) fn text(&self, files: &[File], excerpt: bool) -> String {
        let style = match self.severity {
            Severity::Error => ERROR,
            Severity::Warning => WARNING,
        };
        let plain = self.to_string();
        let plain = printable(&plain);
        // The place is in front, and the severity with its code is what the eye looks for.
        let word = self.word();
        let mut text = match plain.split_once(&word) {
            Some((before, after)) => format!("{before}{style}{word}{style:#}{after}\n"),
            None => format!("{plain}\n"),
        };
        if let Some(shown) = self.place.as_ref().filter(|_| excerpt).and_then(|place| line(place, files)) {
            text.push_str(&shown);
        }
        text
    }

    /// For programs.
    pub(crate) fn document(&self) -> Value {
        let place = self.place.as_ref();
        json!({
            "severity": severity(self.severity),
            "code": self.code,
            "path": self.path,
            "file": place.map(|place| &*place.file),
            "line": place.map(|place| place.line),
            "column": place.map(|place| place.column),
            "message": self.message,
            "suggestion": self.suggestion,
        })
    }

    fn word(&self) -> String {
        match self.code.as_str() {
            "" => severity(self.severity).to_owned(),
            code => format!("{}[{code}]", severity(self.severity)),
        }
    }
}

impl fmt::Display for Told {
    /// As the policy's own violations are written.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{}:{}:{}: ", place.file, place.line, place.column)?;
        }
        f.write_str(&self.word())?;
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

fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    }
}

/// The line of a place with a caret below its column. Of a long line the part around the column.
fn line(place: &Place, files: &[File]) -> Option<String> {
    let file = files.iter().find(|file| *file.name == *place.file)?;
    let number = place.line as usize;
    let line = file.bytes.split(|byte| *byte == b'\n').nth(number.checked_sub(1)?)?;
    let line = String::from_utf8_lossy(line);
    let column = (place.column as usize).saturating_sub(1);
    let hidden = column.saturating_sub(SHOWN * 2 / 3);
    let shown: String = line
        .trim_end()
        .chars()
        .skip(hidden)
        .take(SHOWN)
        .map(|c| if c == '\t' || c.is_control() { ' ' } else { c })
        .collect();
    if shown.trim().is_empty() {
        return None;
    }
    let mut text = String::new();
    let caret = column - hidden;
    let _ = writeln!(text, "{DIM}{number:>5} |{DIM:#} {shown}");
    let _ = writeln!(text, "{DIM}      |{DIM:#} {:caret$}{ERROR}^{ERROR:#}", "");
    Some(text)
}

/// The policy does not compile.
pub(crate) fn refused(path: &Path, violations: &[Violation]) -> Failure {
    let errors = violations.iter().filter(|violation| violation.severity == Severity::Error).count();
    let path = path.display();
    Failure::new(Exit::Data, format!("the policy {path} is refused: {}", counted(errors, "error")))
        .details(violations.iter().map(ToString::to_string).collect())
        .next(format!("correct it; `switchtower validate {path}` shows where"))
}

/// `1 error`, `2 errors`.
pub(crate) fn counted(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(content: &str, line_number: u32, column: u32, expected: Option<&str>) {
        let files = [File { name: "a.yaml".to_owned(), bytes: content.as_bytes().to_vec() }];
        let place = Place { file: "a.yaml".into(), line: line_number, column };
        let shown = line(&place, &files).map(|shown| anstream::adapter::strip_str(&shown).to_string());
        assert_eq!(shown.as_deref(), expected);
    }

    #[test]
    fn what_the_control_plane_finds_is_written_as_what_is_found_here() {
        let mut violation = Violation::warning("not_executed", "rollout", "it is stored");
        violation.place = Some(Place { file: "a.yaml".into(), line: 2, column: 1 });
        for suggestion in [None, Some("b".to_owned())] {
            let violation = violation.clone().suggest(suggestion);
            assert_eq!(Told::of(&violation).to_string(), violation.to_string());
        }
        let bare = Told::error("", "", "no", &Places::default());
        assert_eq!(bare.to_string(), "error: no");
    }

    #[test]
    fn a_caret_stands_below_the_column() {
        check("a: 1\nbé: x\n", 2, 5, Some("    2 | bé: x\n      |     ^\n"));
        check("\ta: 1", 1, 2, Some("    1 |  a: 1\n      |  ^\n"));
        check("a: \u{1b}[2J", 1, 4, Some("    1 | a:  [2J\n      |    ^\n"));
    }

    #[test]
    fn what_is_not_there_is_not_shown() {
        check("a: 1\n", 7, 1, None);
        check("a: 1\n\n", 2, 1, None);
        check("a: 1", 0, 1, None);
    }

    #[test]
    fn of_a_long_line_the_part_around_the_column_is_shown() {
        let long = format!("{}X{}", "a".repeat(500), "b".repeat(500));
        let files = [File { name: "a.yaml".to_owned(), bytes: long.into_bytes() }];
        let shown = line(&Place { file: "a.yaml".into(), line: 1, column: 501 }, &files).unwrap();
        let shown = anstream::adapter::strip_str(&shown).to_string();
        let (text, caret) = shown.split_once('\n').unwrap();
        assert_eq!(text.find('X'), caret.find('^'));
        assert_eq!(text.len(), "    1 | ".len() + SHOWN);
    }
}
