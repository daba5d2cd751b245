//! `switchtower rollback`: nodes serve an earlier revision again.

use serde_json::Map;
use switchtower_client::control::{
    Client, Error,
    wire::{RollbackRequest, RollbackResponse},
};

use crate::{
    changes, confirm,
    control::{Connection, Environment},
    made::{self, Made},
    output::{Exit, Failure, GOOD, Output},
    revisions, wait,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Revision to go back to; without it, the one that was assigned before.
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    number: Option<u64>,
    /// Why, for the history.
    #[arg(long, short, default_value = "", hide_default_value = true)]
    message: String,
    /// Roll back without asking.
    #[arg(long, short)]
    yes: bool,
    /// Tell what would change, and make nothing.
    #[arg(long, conflicts_with_all = ["yes", "wait"])]
    validate_only: bool,
    #[command(flatten)]
    wait: wait::Wait,
    #[command(flatten)]
    environment: Environment,
    #[command(flatten)]
    connection: Connection,
}

pub(crate) async fn run(args: Args, output: Output) -> Result<Exit, Failure> {
    if !args.validate_only {
        confirm::possible(args.yes, output)?;
    }
    let client = args.connection.client().await?;
    let would = ask(&client, &args, args.number.unwrap_or_default(), None, true).await;
    let would = would.map_err(|error| args.connection.failure(&error))?;
    let diff = would.diff.clone().unwrap_or_default();
    if !output.is_json() {
        output.text(changes::text(&diff))?;
    }
    if args.validate_only {
        return end(&args, &would, &client, output).await;
    }
    let to = revisions::record(&would.revision.clone().unwrap_or_default()).number;
    let question = format!("Roll `{}` back from revision {} to {to}?", args.environment.name, would.from);
    if !confirm::confirmed(args.yes, &question)? {
        return Ok(made::declined(output));
    }
    // To the revision that was shown, from the one that it was compared with.
    let back = ask(&client, &args, to, Some(would.from), false).await;
    let back = back.map_err(|error| args.connection.failure_of_change(&error))?;
    end(&args, &back, &client, output).await
}

async fn ask(
    client: &Client,
    args: &Args,
    number: u64,
    from: Option<u64>,
    validate_only: bool,
) -> Result<RollbackResponse, Error> {
    let (environment, message) = (args.environment.name.clone(), args.message.clone());
    client.rollback(RollbackRequest { environment, number, message, validate_only, from }).await
}

async fn end(args: &Args, answer: &RollbackResponse, client: &Client, output: Output) -> Result<Exit, Failure> {
    let revision = answer.revision.clone().unwrap_or_default();
    let (environment, number) = (&args.environment.name, revisions::record(&revision).number);
    let words = match args.validate_only {
        true => format!("{GOOD}possible{GOOD:#}: `{environment}` would go from revision {} to {number}\n", answer.from),
        false => format!("{GOOD}revision {number}{GOOD:#} of `{environment}` is assigned, after {}\n", answer.from),
    };
    let more = Map::from_iter([
        ("from".to_owned(), answer.from.into()),
        ("validate_only".to_owned(), args.validate_only.into()),
    ]);
    let diff = answer.diff.clone().unwrap_or_default();
    let made = Made { environment, revision: &revision, assignment: answer.assignment, diff: &diff, more };
    made.end(&words, Some(&args.wait), client, &args.connection, output).await
}
