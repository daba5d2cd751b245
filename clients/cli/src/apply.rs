//! `switchtower apply`: policy files become a revision that nodes serve.
//!
//! What is wrong is found here, with the places in the files, before anything is sent. Then the control plane says what
//! would change, whoever applies it says yes, and it is applied as made from the revision that it was compared with:
//! whatever others apply in between is not taken back unseen.

use std::{io::IsTerminal, path::PathBuf};

use serde_json::{Map, Value};
use switchtower_client::control::{
    Client, Error, Refusal,
    wire::{self, ApplyRequest, ApplyResponse, DiffRevisionsRequest, RevisionName, diff_revisions_request::Other},
};
use switchtower_policy::{File, Reading, items, load, read};

use crate::{
    changes, confirm,
    control::{self, Connection},
    made::{self, Made},
    output::{Exit, Failure, GOOD, Output},
    revisions,
    violations::{self, Told},
    wait,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder of policy files, or one file.
    path: PathBuf,
    /// Why, for the history.
    #[arg(long, short, default_value = "", hide_default_value = true)]
    message: String,
    /// Apply without asking.
    #[arg(long, short)]
    yes: bool,
    /// Tell what would change and whether it would be refused, and make nothing.
    #[arg(long, conflicts_with_all = ["yes", "wait"])]
    validate_only: bool,
    /// Apply content that was rolled back before.
    #[arg(long)]
    again: bool,
    /// Assign it although connected nodes do not understand all of it: they ignore what they do not know.
    #[arg(long)]
    despite_nodes: bool,
    #[command(flatten)]
    wait: wait::Wait,
    /// Environment; it must be the policy's own, which it is without this.
    #[arg(long, short = 'e', env = "SWITCHTOWER_ENVIRONMENT", value_name = "NAME")]
    environment: Option<String>,
    #[command(flatten)]
    connection: Connection,
}

pub(crate) async fn run(args: Args, output: Output) -> Result<Exit, Failure> {
    if !args.validate_only {
        confirm::possible(args.yes, output)?;
    }
    let policy = Files::read(&args.path, args.environment.as_deref(), output)?;
    let client = args.connection.client().await?;
    let seen = control::assigned(&client, policy.environment()).await;
    let seen = seen.map_err(|error| args.connection.failure(&error))?;
    let would = match ask(&client, &args, &policy, seen, true).await {
        Ok(would) => would,
        Err(error) => return Err(not_applied(&client, &args, &policy, seen, &error, output).await),
    };
    let revision = would.revision.clone().unwrap_or_default();
    let record = revisions::record(&revision);
    let environment = policy.environment();
    let warnings = policy.warnings(&would.warnings);
    tell(&warnings, &policy.files, output)?;
    let diff = would.diff.clone().unwrap_or_default();
    if would.unchanged {
        let words = unchanged(environment, &revision);
        let made = Made { environment, revision: &revision, assignment: 0, diff: &diff, more: more(&would, &warnings) };
        return made.end(&words, Some(&args.wait), &client, &args.connection, output).await;
    }
    if !output.is_json() {
        output.text(changes::text(&diff))?;
    }
    let number = record.number;
    if args.validate_only {
        let words = format!("{GOOD}valid{GOOD:#}: it would be revision {number} of `{environment}`\n");
        let mut more = more(&would, &warnings);
        more.insert("validate_only".to_owned(), true.into());
        let made = Made { environment, revision: &revision, assignment: 0, diff: &diff, more };
        return made.end(&words, None, &client, &args.connection, output).await;
    }
    let question = format!("Apply {} to `{environment}` as revision {number}?", changes::counted_in(&diff));
    if !confirm::confirmed(args.yes, &question)? {
        return Ok(made::declined(output));
    }
    let applied = match ask(&client, &args, &policy, seen, false).await {
        Ok(applied) => applied,
        Err(error) => return Err(not_applied(&client, &args, &policy, seen, &error, output).await),
    };
    let revision = applied.revision.clone().unwrap_or_default();
    let number = revisions::record(&revision).number;
    let words = match applied.unchanged {
        true => unchanged(environment, &revision),
        false => format!("{GOOD}revision {number}{GOOD:#} of `{environment}` is applied\n"),
    };
    let diff = applied.diff.clone().unwrap_or_default();
    let more = more(&applied, &warnings);
    let made = Made { environment, revision: &revision, assignment: applied.assignment, diff: &diff, more };
    made.end(&words, Some(&args.wait), &client, &args.connection, output).await
}

async fn ask(
    client: &Client,
    args: &Args,
    policy: &Files,
    parent: u64,
    validate_only: bool,
) -> Result<ApplyResponse, Error> {
    let request = ApplyRequest {
        environment: policy.environment().to_owned(),
        items: items::items(&policy.reading.policy),
        parent: Some(parent),
        message: args.message.clone(),
        validate_only,
        again: args.again,
        despite_nodes: args.despite_nodes,
    };
    client.apply(request).await
}

fn more(response: &ApplyResponse, warnings: &[Told]) -> Map<String, Value> {
    let warnings = warnings.iter().map(Told::document).collect::<Vec<_>>();
    Map::from_iter([
        ("unchanged".to_owned(), response.unchanged.into()),
        ("validate_only".to_owned(), false.into()),
        ("warnings".to_owned(), warnings.into()),
    ])
}

fn unchanged(environment: &str, revision: &wire::Revision) -> String {
    format!("nothing differs from revision {} of `{environment}`\n", revisions::record(revision).number)
}

fn tell(warnings: &[Told], files: &[File], output: Output) -> Result<(), Failure> {
    if output.is_json() {
        return Ok(());
    }
    let excerpt = std::io::stdout().is_terminal();
    warnings.iter().try_for_each(|warning| output.text(warning.text(files, excerpt)))
}

/// What the control plane refuses of a policy that compiles here, with its places.
fn refused(error: &Error, args: &Args, policy: &Files, output: Output) -> Failure {
    let failure = args.connection.failure_of_change(error);
    let Refusal::PolicyInvalid { violations } = error.refusal() else { return failure };
    let told: Vec<Told> = violations
        .iter()
        .map(|violation| Told::error(&violation.code, &violation.path, &violation.message, &policy.reading.places))
        .collect();
    if output.is_json() {
        return failure.details(told.iter().map(ToString::to_string).collect());
    }
    match tell(&told, &policy.files, output) {
        Ok(()) => failure.details(Vec::new()),
        Err(broken) => broken,
    }
}

/// Why it was not applied, or would not be.
async fn not_applied(
    client: &Client,
    args: &Args,
    policy: &Files,
    seen: u64,
    error: &Error,
    output: Output,
) -> Failure {
    match error.refusal() {
        Refusal::HeadMoved { assigned, .. } => {
            moved(client, policy.environment(), seen, *assigned, args.connection.failure(error)).await
        }
        _ => refused(error, args, policy, output),
    }
}

/// Others were faster: what they applied is what has to be looked at.
async fn moved(client: &Client, environment: &str, seen: u64, now: u64, failure: Failure) -> Failure {
    let mut failure = Failure {
        message: format!("others have assigned revision {now} of `{environment}` since revision {seen} was looked at"),
        ..failure
    };
    let next =
        "take what they changed into your files (`switchtower pull` writes what is assigned), and apply them again";
    // Of an environment without a revision nobody has seen anything.
    if seen == 0 || now == 0 {
        return failure.next(next);
    }
    let request = DiffRevisionsRequest {
        environment: environment.to_owned(),
        number: seen,
        other: Some(Other::Revision(RevisionName { environment: environment.to_owned(), number: now })),
    };
    if let Ok(answer) = client.diff_revisions(request).await {
        failure = failure.details(changes::details(&answer.diff.unwrap_or_default()));
    }
    failure.next(next)
}

/// Policy files that compile.
pub(crate) struct Files {
    pub(crate) files: Vec<File>,
    pub(crate) reading: Reading,
    warnings: Vec<Told>,
}

impl Files {
    /// Reads and compiles them; everything that is wrong is told as `validate` does.
    pub(crate) fn read(path: &std::path::Path, environment: Option<&str>, output: Output) -> Result<Self, Failure> {
        let files = violations::read(path)?;
        let warnings = match load(&files) {
            Ok(compiled) => compiled.warnings,
            Err(wrong) => {
                let failure = violations::refused(path, &wrong);
                if output.is_json() {
                    return Err(failure);
                }
                let told: Vec<Told> = wrong.iter().map(Told::of).collect();
                tell(&told, &files, output)?;
                return Err(failure.details(Vec::new()).next("correct it, and apply it again"));
            }
        };
        let reading = read(&files);
        let own = reading.policy.environment.as_str();
        if let Some(environment) = environment.filter(|environment| *environment != own) {
            let message = format!("the policy is for `{own}`, and --environment says `{environment}`");
            let next = "leave out --environment (and SWITCHTOWER_ENVIRONMENT); `switchtower promote` takes a revision \
                        from one environment to another";
            return Err(Failure::new(Exit::Data, message).next(next));
        }
        Ok(Files { warnings: warnings.iter().map(Told::of).collect(), files, reading })
    }

    pub(crate) fn environment(&self) -> &str {
        &self.reading.policy.environment
    }

    /// What is to be known of them, here and there, each once.
    fn warnings(&self, theirs: &[wire::Violation]) -> Vec<Told> {
        let mut warnings = self.warnings.clone();
        for violation in theirs {
            if !warnings.iter().any(|known| known.code == violation.code && known.path == violation.path) {
                let wire::Violation { code, path, message } = violation;
                warnings.push(Told::warning(code, path, message, &self.reading.places));
            }
        }
        warnings
    }
}
