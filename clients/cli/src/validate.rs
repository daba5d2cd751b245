//! `switchtower validate`: everything that is wrong with policies, found by the function that nodes ask before they
//! serve one.

use std::{io::IsTerminal, path::PathBuf};

use serde_json::Value;
use switchtower_policy::{File, Severity, Snapshot, Violation, load};

use crate::{
    output::{Exit, Failure, GOOD, Output},
    violations::{self, Told, counted},
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Files that make one policy together, or folders that each hold one (`*.yaml` and `*.yml`, not in subfolders).
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Refuse what is only warned of, too.
    #[arg(long)]
    strict: bool,
}

/// What was found.
#[derive(Default)]
struct Found {
    documents: Vec<Value>,
    errors: usize,
    warnings: usize,
}

pub(crate) fn run(args: &Args, output: Output) -> Result<Exit, Failure> {
    let mut found = Found::default();
    for policy in policies(&args.paths)? {
        let (snapshot, violations) = match load(&policy) {
            Ok(compiled) => (Some(compiled.snapshot), compiled.warnings),
            Err(violations) => (None, violations),
        };
        found.tell(&violations, &policy, args.strict, output)?;
        if let (Some(snapshot), false) = (snapshot, output.is_json()) {
            let accepted = violations.is_empty() || !args.strict;
            if accepted {
                output.text(summary(&snapshot, &policy))?;
            }
        }
    }
    if output.is_json() {
        output.json(&found.documents)?;
    } else if found.errors + found.warnings > 0 {
        output.note(format!("{}, {}", counted(found.errors, "error"), counted(found.warnings, "warning")));
    }
    Ok(if found.errors > 0 { Exit::Data } else { Exit::Success })
}

impl Found {
    fn tell(&mut self, violations: &[Violation], files: &[File], strict: bool, output: Output) -> Result<(), Failure> {
        let excerpt = std::io::stdout().is_terminal();
        for violation in violations {
            let mut violation = violation.clone();
            if strict {
                violation.severity = Severity::Error;
            }
            match violation.severity {
                Severity::Error => self.errors += 1,
                Severity::Warning => self.warnings += 1,
            }
            match output.is_json() {
                true => self.documents.push(Told::of(&violation).document()),
                false => output.text(Told::of(&violation).text(files, excerpt))?,
            }
        }
        Ok(())
    }
}

/// Each folder is a policy of its own; the files are one together, as a shell's `*.yaml` names them.
fn policies(paths: &[PathBuf]) -> Result<Vec<Vec<File>>, Failure> {
    let mut policies = Vec::new();
    let mut loose = Vec::new();
    for path in paths {
        match path.is_dir() {
            true => policies.push(violations::read(path)?),
            false => loose.extend(violations::read(path)?),
        }
    }
    if !loose.is_empty() {
        policies.push(loose);
    }
    Ok(policies)
}

fn summary(snapshot: &Snapshot, files: &[File]) -> String {
    format!(
        "{GOOD}valid{GOOD:#}: `{}`, revision {}: {}, {}, {}, {} in {}\n",
        snapshot.environment(),
        snapshot.revision(),
        counted(snapshot.routes().len(), "route"),
        counted(snapshot.targets().len(), "target"),
        counted(snapshot.flags().len(), "flag"),
        counted(snapshot.callers().count(), "caller"),
        counted(files.len(), "file"),
    )
}
