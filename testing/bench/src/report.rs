//! The rows of the report, and whether each goal was met.

use std::fmt;

use serde_json::{Value, json};

use crate::statistics::Spread;

/// What a number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Nanoseconds,
    Microseconds,
    Milliseconds,
    Kibibytes,
    Mebibytes,
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unit::Nanoseconds => "ns",
            Unit::Microseconds => "µs",
            Unit::Milliseconds => "ms",
            Unit::Kibibytes => "KiB",
            Unit::Mebibytes => "MiB",
        })
    }
}

/// What a number should be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Goal {
    /// At most this, in the row's unit.
    AtMost(f64),
    /// At most so many times the baseline.
    Times(f64),
    /// It is reported beside others.
    None,
}

/// What a number is held against.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Baseline {
    pub(crate) name: &'static str,
    pub(crate) spread: Spread,
}

/// How a row ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Met,
    Missed,
    /// There was no goal.
    Reported,
    /// The baseline itself could not be told from noise.
    Unclear,
    /// It was not measured, or with errors among the answers.
    Failed,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verdict::Met => "met",
            Verdict::Missed => "MISSED",
            Verdict::Reported => "–",
            Verdict::Unclear => "unclear: noise",
            Verdict::Failed => "FAILED",
        })
    }
}

/// One line of the table.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    what: String,
    unit: Unit,
    goal: Goal,
    measured: Option<Spread>,
    baseline: Option<Baseline>,
    failure: Option<String>,
}

impl Row {
    /// A number by itself.
    pub(crate) fn new(what: impl Into<String>, goal: Goal, measured: Spread, unit: Unit) -> Row {
        Row { what: what.into(), unit, goal, measured: Some(measured), baseline: None, failure: None }
    }

    /// With what it is held against.
    pub(crate) fn beside(mut self, name: &'static str, spread: Spread) -> Row {
        self.baseline = Some(Baseline { name, spread });
        self
    }

    /// What was not measured, and why.
    pub(crate) fn failed(what: impl Into<String>, why: impl Into<String>) -> Row {
        let failure = Some(why.into());
        Row { what: what.into(), unit: Unit::Nanoseconds, goal: Goal::None, measured: None, baseline: None, failure }
    }

    /// With what went wrong meanwhile, if anything did.
    pub(crate) fn unless(mut self, failure: Option<String>) -> Row {
        self.failure = failure;
        self
    }

    pub(crate) fn ratio(&self) -> Option<f64> {
        let (measured, baseline) = (self.measured?, self.baseline.as_ref()?);
        (baseline.spread.median > 0.0).then(|| measured.median / baseline.spread.median)
    }

    pub(crate) fn verdict(&self) -> Verdict {
        let Some(measured) = self.measured.filter(|_| self.failure.is_none()) else { return Verdict::Failed };
        let met = match self.goal {
            Goal::None => return Verdict::Reported,
            Goal::AtMost(most) => measured.median <= most,
            Goal::Times(most) => match self.ratio() {
                Some(ratio) => ratio <= most,
                None => return Verdict::Unclear,
            },
        };
        if met { Verdict::Met } else { Verdict::Missed }
    }

    fn cells(&self) -> [String; 6] {
        let goal = match (self.goal, &self.baseline) {
            (Goal::AtMost(most), _) => format!("≤ {} {}", plain(most), self.unit),
            (Goal::Times(most), Some(baseline)) => format!("≤ {} × {}", plain(most), baseline.name),
            (Goal::Times(most), None) => format!("≤ {} ×", plain(most)),
            (Goal::None, _) => "–".to_owned(),
        };
        let measured = self.measured.map_or_else(|| "–".to_owned(), |spread| shown(spread, self.unit));
        let baseline = self.baseline.as_ref().map_or_else(
            || "–".to_owned(),
            |baseline| format!("{}: {}", baseline.name, shown(baseline.spread, self.unit)),
        );
        let ratio = self.ratio().map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.2}"));
        let verdict = match &self.failure {
            // A table's cell holds one line and no bar.
            Some(why) => format!("FAILED: {}", why.replace('\n', "; ").replace('|', "/")),
            None => self.verdict().to_string(),
        };
        [self.what.clone(), goal, measured, baseline, ratio, verdict]
    }

    fn json(&self) -> Value {
        let spread = |spread: Spread| json!({ "median": spread.median, "low": spread.low, "high": spread.high });
        let goal = match self.goal {
            Goal::AtMost(most) => json!({ "at_most": most }),
            Goal::Times(most) => json!({ "times_baseline": most }),
            Goal::None => Value::Null,
        };
        let baseline = self.baseline.as_ref().map(|baseline| {
            let mut value = spread(baseline.spread);
            value["name"] = baseline.name.into();
            value
        });
        json!({
            "what": self.what, "unit": self.unit.to_string(), "goal": goal,
            "measured": self.measured.map(spread), "baseline": baseline, "ratio": self.ratio(),
            "verdict": format!("{:?}", self.verdict()).to_lowercase(), "failure": self.failure,
        })
    }
}

/// The whole report.
pub(crate) struct Report {
    pub(crate) date: String,
    pub(crate) machine: String,
    /// How it was measured, in sentences.
    pub(crate) notes: Vec<String>,
    pub(crate) rows: Vec<Row>,
}

impl Report {
    /// Whether something was not measured, or with errors.
    pub(crate) fn has_failed(&self) -> bool {
        self.rows.iter().any(|row| row.verdict() == Verdict::Failed)
    }

    pub(crate) fn json(&self) -> Value {
        let rows: Vec<Value> = self.rows.iter().map(Row::json).collect();
        json!({ "date": self.date, "machine": self.machine, "notes": self.notes, "rows": rows })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} on {}.\n", self.date, self.machine)?;
        writeln!(f, "| what | goal | measured | baseline | ratio | met |")?;
        writeln!(f, "|---|---|---|---|---|---|")?;
        for row in &self.rows {
            writeln!(f, "| {} |", row.cells().join(" | "))?;
        }
        if !self.notes.is_empty() {
            writeln!(f)?;
        }
        self.notes.iter().try_for_each(|note| writeln!(f, "- {note}"))
    }
}

/// The median, and in brackets how far the runs lie apart.
fn shown(spread: Spread, unit: Unit) -> String {
    if spread.low == spread.high {
        return format!("{} {unit}", plain(spread.median));
    }
    format!("{} {unit} ({} to {})", plain(spread.median), plain(spread.low), plain(spread.high))
}

/// Three digits that count, no more: the fourth is noise.
fn plain(number: f64) -> String {
    let digits = match number.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        _ => 2,
    };
    let text = format!("{number:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(median: f64) -> Spread {
        Spread { median, low: median, high: median }
    }

    #[test]
    fn a_verdict_is_about_the_goal() {
        let check = |goal: Goal, measured: f64, baseline: Option<f64>, expected: Verdict| {
            let mut row = Row::new("x", goal, spread(measured), Unit::Microseconds);
            if let Some(baseline) = baseline {
                row = row.beside("proxy", spread(baseline));
            }
            assert_eq!(row.verdict(), expected, "{goal:?} {measured} {baseline:?}");
            assert_eq!(row.unless(Some("3 errors".to_owned())).verdict(), Verdict::Failed);
        };
        check(Goal::AtMost(2.0), 2.0, None, Verdict::Met);
        check(Goal::AtMost(2.0), 2.1, None, Verdict::Missed);
        check(Goal::Times(1.5), 15.0, Some(10.0), Verdict::Met);
        check(Goal::Times(1.5), 15.1, Some(10.0), Verdict::Missed);
        check(Goal::Times(1.5), -3.0, Some(10.0), Verdict::Met);
        check(Goal::Times(1.5), 15.0, Some(-1.0), Verdict::Unclear);
        check(Goal::Times(1.5), 15.0, None, Verdict::Unclear);
        check(Goal::None, 15.0, Some(10.0), Verdict::Reported);
    }

    #[test]
    fn numbers_have_three_digits() {
        let check = |number: f64, expected: &str| assert_eq!(plain(number), expected);
        check(1234.5, "1234");
        check(123.4, "123");
        check(12.34, "12.3");
        check(1.234, "1.23");
        check(1.5, "1.5");
        check(30.0, "30");
        check(100.0, "100");
        check(0.0, "0");
    }

    #[test]
    fn a_row_is_one_line_of_the_table() {
        let wide = Spread { median: 20.0, low: 10.0, high: 30.0 };
        let row = Row::new("added", Goal::Times(1.5), wide, Unit::Microseconds).beside("proxy", spread(16.0));
        assert_eq!(row.cells().join(" | "), "added | ≤ 1.5 × proxy | 20 µs (10 to 30) | proxy: 16 µs | 1.25 | met");
        let failed = Row::failed("added", "a | b\nc");
        assert_eq!(failed.cells().join(" | "), "added | – | – | – | – | FAILED: a / b; c");
    }
}
