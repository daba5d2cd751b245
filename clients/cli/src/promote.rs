//! `switchtower promote`: a revision of one environment, applied to another.

use serde_json::Map;
use switchtower_client::control::{
    Client, Error, Refusal,
    wire::{PromoteRequest, PromoteResponse},
};

use crate::{
    changes, confirm,
    control::{self, Connection},
    made::{self, Made},
    output::{Exit, Failure, GOOD, Output},
    revisions, wait,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Environment that the revision is of.
    from: String,
    /// Environment that it is applied to.
    to: String,
    /// Number of the revision; without it, the one that is assigned.
    #[arg(long, value_name = "REVISION", value_parser = clap::value_parser!(u64).range(1..))]
    number: Option<u64>,
    /// Why, for the history; without it, what was promoted.
    #[arg(long, short, default_value = "", hide_default_value = true)]
    message: String,
    /// Promote without asking.
    #[arg(long, short)]
    yes: bool,
    /// Tell what would change and whether it would be refused, and make nothing.
    #[arg(long, conflicts_with_all = ["yes", "wait"])]
    validate_only: bool,
    /// Apply content that was rolled back there before.
    #[arg(long)]
    again: bool,
    #[command(flatten)]
    wait: wait::Wait,
    #[command(flatten)]
    connection: Connection,
}

pub(crate) async fn run(args: Args, output: Output) -> Result<Exit, Failure> {
    if !args.validate_only {
        confirm::possible(args.yes, output)?;
    }
    let client = args.connection.client().await?;
    let seen = control::assigned(&client, &args.to).await.map_err(|error| args.connection.failure(&error))?;
    let would = ask(&client, &args, args.number.unwrap_or_default(), seen, true).await;
    let would = would.map_err(|error| failure(&error, &args))?;
    let (number, applied) = (would.number, would.applied.clone().unwrap_or_default());
    let diff = applied.diff.clone().unwrap_or_default();
    if !output.is_json() {
        output.text(changes::text(&diff))?;
    }
    if args.validate_only || applied.unchanged {
        return end(&args, &would, &client, output).await;
    }
    let (from, to) = (&args.from, &args.to);
    let question = format!("Promote revision {number} of `{from}` to `{to}`, {}?", changes::counted_in(&diff));
    if !confirm::confirmed(args.yes, &question)? {
        return Ok(made::declined(output));
    }
    // What was shown, to what it was compared with.
    let promoted = ask(&client, &args, number, seen, false).await.map_err(|error| failure(&error, &args))?;
    end(&args, &promoted, &client, output).await
}

fn failure(error: &Error, args: &Args) -> Failure {
    let failure = args.connection.failure_of_change(error);
    match error.refusal() {
        Refusal::HeadMoved { assigned, .. } => failure.next(format!(
            "others have assigned revision {assigned} of `{}` meanwhile: look at it, and promote again",
            args.to
        )),
        _ => failure,
    }
}

async fn ask(
    client: &Client,
    args: &Args,
    number: u64,
    parent: u64,
    validate_only: bool,
) -> Result<PromoteResponse, Error> {
    let request = PromoteRequest {
        from: args.from.clone(),
        number,
        to: args.to.clone(),
        parent: Some(parent),
        message: args.message.clone(),
        validate_only,
        again: args.again,
    };
    client.promote(request).await
}

async fn end(args: &Args, answer: &PromoteResponse, client: &Client, output: Output) -> Result<Exit, Failure> {
    let applied = answer.applied.clone().unwrap_or_default();
    let revision = applied.revision.unwrap_or_default();
    let (to, number) = (&args.to, revisions::record(&revision).number);
    let words = if applied.unchanged {
        format!("nothing differs from revision {number} of `{to}`\n")
    } else if args.validate_only {
        format!("{GOOD}valid{GOOD:#}: it would be revision {number} of `{to}`\n")
    } else {
        format!("{GOOD}revision {number}{GOOD:#} of `{to}` is revision {} of `{}`\n", answer.number, args.from)
    };
    let more = Map::from_iter([
        ("promoted_from".to_owned(), format!("{}/{}", args.from, answer.number).into()),
        ("unchanged".to_owned(), applied.unchanged.into()),
        ("validate_only".to_owned(), args.validate_only.into()),
    ]);
    let diff = applied.diff.unwrap_or_default();
    let made = Made { environment: to, revision: &revision, assignment: applied.assignment, diff: &diff, more };
    made.end(&words, Some(&args.wait), client, &args.connection, output).await
}
