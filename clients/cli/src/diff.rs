//! `switchtower diff`: what differs between policy files, what is applied, and what was.

use std::path::PathBuf;

use switchtower_client::control::{
    Client, Error, Refusal,
    policy::Content,
    wire::{ApplyRequest, Diff, DiffRevisionsRequest, RevisionName, diff_revisions_request::Other},
};
use switchtower_policy::items;

use crate::{
    apply::Files,
    changes,
    control::{self, Connection},
    output::{Exit, Failure, Output},
    revisions::{self, Name},
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder of policy files, or one file, that a revision is compared with: the assigned one, or --from.
    #[arg(required_unless_present_any = ["from", "to"], conflicts_with = "to")]
    path: Option<PathBuf>,
    /// Revision that changes are counted from: 12, dev/12, head (the newest); without it, the assigned one.
    #[arg(long, value_name = "REVISION", value_parser = revisions::name)]
    from: Option<Name>,
    /// Revision that they lead to; without it, the assigned one.
    #[arg(long, value_name = "REVISION", value_parser = revisions::name)]
    to: Option<Name>,
    /// End with 1 if anything differs.
    #[arg(long)]
    exit_code: bool,
    /// Environment of revisions that are named without one; for files, their own.
    #[arg(long, short = 'e', env = "SWITCHTOWER_ENVIRONMENT", value_name = "NAME")]
    environment: Option<String>,
    #[command(flatten)]
    connection: Connection,
}

pub(crate) async fn run(args: Args, output: Output) -> Result<Exit, Failure> {
    let diff = match &args.path {
        Some(path) => with_files(path, &args, output).await?,
        None => between(&args).await?,
    };
    match output.is_json() {
        true => output.json(&changes::document(&diff))?,
        false if diff.changes.is_empty() => output.note("nothing differs"),
        false => {
            output.text(changes::text(&diff))?;
            output.note(changes::counted_in(&diff));
        }
    }
    let differs = !diff.changes.is_empty();
    Ok(if args.exit_code && differs { Exit::Failed } else { Exit::Success })
}

async fn between(args: &Args) -> Result<Diff, Failure> {
    let named = |name: &Option<Name>| {
        let own = name.as_ref().and_then(|name| name.environment.clone());
        own.or_else(|| args.environment.clone())
    };
    let (Some(environment), Some(other)) = (named(&args.from), named(&args.to)) else {
        return Err(Failure::usage("it is not said of which environment these revisions are")
            .next("give --environment NAME (or SWITCHTOWER_ENVIRONMENT), or write dev/12 for 12"));
    };
    let client = args.connection.client().await?;
    let diff = async {
        let from = number(&client, &environment, args.from.as_ref()).await?;
        let to = number(&client, &other, args.to.as_ref()).await?;
        diff(&client, environment, from, Other::Revision(RevisionName { environment: other, number: to })).await
    };
    diff.await.map_err(|error| args.connection.failure(&error))
}

async fn with_files(path: &std::path::Path, args: &Args, output: Output) -> Result<Diff, Failure> {
    // The files' environment is what counts, unless the revision is of another.
    let policy = Files::read(path, None, output)?;
    let environment = args.from.as_ref().and_then(|from| from.environment.clone());
    let environment = environment.unwrap_or_else(|| policy.environment().to_owned());
    let content = items::items(&policy.reading.policy);
    let client = args.connection.client().await?;
    let other = Other::Content(Content { items: content.clone() });
    let from = number(&client, &environment, args.from.as_ref()).await;
    let from = from.map_err(|error| args.connection.failure(&error))?;
    let found = match diff(&client, environment.clone(), from, other).await {
        // Before the first revision everything is new.
        Err(error) if *error.refusal() == Refusal::NoRevision && from == 0 => {
            let first =
                ApplyRequest { environment, items: content, validate_only: true, again: true, ..Default::default() };
            client.apply(first).await.map(|answer| answer.diff.unwrap_or_default())
        }
        found => found,
    };
    found.map_err(|error| args.connection.failure(&error))
}

/// The number of a revision that may not have been named.
async fn number(client: &Client, environment: &str, name: Option<&Name>) -> Result<u64, Error> {
    match name {
        Some(name) => Ok(name.number),
        None => control::assigned(client, environment).await,
    }
}

async fn diff(client: &Client, environment: String, number: u64, other: Other) -> Result<Diff, Error> {
    let request = DiffRevisionsRequest { environment, number, other: Some(other) };
    Ok(client.diff_revisions(request).await?.diff.unwrap_or_default())
}
