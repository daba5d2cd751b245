//! `switchtower history`: the revisions of an environment.

use serde_json::Value;
use switchtower_client::control::{
    Refusal,
    wire::{ListRevisionsRequest, ListRevisionsResponse, Revision},
};

use crate::{
    control::{Connection, Environment},
    output::{DIM, ERROR, Exit, Failure, GOOD, Output, STRONG, printable},
    revisions, when,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Most revisions, newest first.
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    number: u32,
    /// Only revisions before this one.
    #[arg(long, value_name = "REVISION", value_parser = clap::value_parser!(u64).range(1..))]
    before: Option<u64>,
    #[command(flatten)]
    environment: Environment,
    #[command(flatten)]
    connection: Connection,
}

pub(crate) async fn run(args: Args, output: Output) -> Result<Exit, Failure> {
    let client = args.connection.client().await?;
    let request = ListRevisionsRequest {
        environment: args.environment.name.clone(),
        before: args.before.unwrap_or_default(),
        page_size: args.number,
    };
    let answer = match client.list_revisions(request).await {
        Err(error) if *error.refusal() == Refusal::NoRevision => ListRevisionsResponse::default(),
        answer => answer.map_err(|error| args.connection.failure(&error))?,
    };
    if output.is_json() {
        output.json(&answer.revisions.iter().map(revisions::document).collect::<Value>())?;
        return Ok(Exit::Success);
    }
    if answer.revisions.is_empty() {
        output.note(format!("`{}` has no revisions: `switchtower apply` makes the first", args.environment.name));
        return Ok(Exit::Success);
    }
    output.text(table(&answer.revisions))?;
    if let Some(oldest) = answer.revisions.last().filter(|_| answer.more) {
        output.note(format!("there are older ones: --before {}", revisions::record(oldest).number));
    }
    Ok(Exit::Success)
}

fn table(revisions: &[Revision]) -> String {
    let rows: Vec<_> = revisions.iter().map(|revision| (revision, revisions::record(revision))).collect();
    let width = rows.iter().map(|(_, record)| record.author.chars().count()).max().unwrap_or_default().max("BY".len());
    let mut text = format!("{STRONG}REVISION  {:20}  {:width$}  WHY{STRONG:#}\n", "MADE", "BY");
    for (revision, record) in &rows {
        let mark = match (revision.assigned, revision.rolled_back) {
            (true, _) => format!("  {GOOD}(assigned){GOOD:#}"),
            (false, true) => format!("  {ERROR}(rolled back){ERROR:#}"),
            (false, false) => String::new(),
        };
        let promoted = match record.promoted_from.as_str() {
            "" => String::new(),
            from => format!("  {DIM}from {}{DIM:#}", printable(from)),
        };
        let (made, why) = (when::shown(record.created_at.as_ref()), record.message.replace(['\n', '\t'], " "));
        let line = format!(
            "{:>8}  {made:20}  {:width$}  {}{promoted}{mark}",
            record.number,
            printable(&record.author),
            printable(&why)
        );
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}
