//! Changes are shown before they are made, and whoever asked for them says yes.

use std::io::{self, BufRead, IsTerminal, Write};

use crate::output::{Failure, Output, STRONG};

/// Before anything is sent: without `--yes` there must be somebody to ask.
pub(crate) fn possible(yes: bool, output: Output) -> Result<(), Failure> {
    let terminal = io::stdin().is_terminal() && io::stderr().is_terminal();
    if yes || (terminal && !output.is_json()) {
        return Ok(());
    }
    let why = if output.is_json() { "--output json asks nobody" } else { "there is no terminal to ask on" };
    Err(Failure::usage(format!("this changes what nodes serve, and {why}"))
        .next("give --yes to do it without asking; `switchtower diff` shows what it would do"))
}

/// Asks, unless `yes` says it already; anything but a yes is a no.
pub(crate) fn confirmed(yes: bool, question: &str) -> Result<bool, Failure> {
    if yes {
        return Ok(true);
    }
    let asked = || {
        let mut err = anstream::stderr().lock();
        write!(err, "{STRONG}{question}{STRONG:#} [y/N] ")?;
        err.flush()?;
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer)?;
        Ok(is_yes(&answer))
    };
    asked().map_err(|error: io::Error| Failure::io("the answer cannot be read", &error))
}

fn is_yes(answer: &str) -> bool {
    ["y", "yes"].iter().any(|yes| answer.trim().eq_ignore_ascii_case(yes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anything_but_a_yes_is_a_no() {
        for yes in ["y", "Y\n", " yes \n", "YES"] {
            assert!(is_yes(yes), "{yes:?}");
        }
        for no in ["", "\n", "n", "no", "yy", "yes please", "ok"] {
            assert!(!is_yes(no), "{no:?}");
        }
    }
}
