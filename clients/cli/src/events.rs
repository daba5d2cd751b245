//! `switchtower events`: what happened, and what happens.

use futures_util::StreamExt;
use serde_json::{Value, json};
use switchtower_client::control::wire::{Event, WatchEventsRequest};

use crate::{
    control::Connection,
    output::{DIM, ERROR, Exit, Failure, GOOD, Output, STRONG, WARNING, printable},
    watch::interruptible,
    when,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How many of the latest.
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(0..=1000))]
    number: u32,
    /// Go on with those that come, until Ctrl-C.
    #[arg(long, short)]
    follow: bool,
    /// Only of this environment; without it, of all.
    #[arg(
        long = "environment",
        short = 'e',
        env = "SWITCHTOWER_ENVIRONMENT",
        value_name = "NAME",
        default_value = "",
        hide_default_value = true
    )]
    environment: String,
    #[command(flatten)]
    connection: Connection,
}

pub(crate) async fn run(args: Args, output: Output) -> Result<Exit, Failure> {
    let client = args.connection.client().await?;
    let request =
        WatchEventsRequest { environment: args.environment.clone(), latest: args.number, follow: args.follow };
    let events = client.watch_events(request).await;
    let mut events = events.map_err(|error| args.connection.failure(&error))?;
    let told = async {
        while let Some(event) = events.next().await {
            let event = event.map_err(|error| args.connection.failure(&error))?;
            let Some(event) = event.event else { continue };
            match output.is_json() {
                true => output.json(&document(&event))?,
                false => output.text(line(&event))?,
            }
        }
        Ok(Exit::Success)
    };
    interruptible(told).await
}

fn line(event: &Event) -> String {
    let style = match event.kind.as_str() {
        "revision_refused" => ERROR,
        "revision_rolled_back" | "node_gone" | "node_lagging" | "node_problem" | "key_revoked" => WARNING,
        "revision_applied" | "fleet_converged" => GOOD,
        _ => STRONG,
    };
    let at = when::shown(event.at.as_ref());
    let actor = match event.actor.as_str() {
        "" => String::new(),
        actor => format!("  {DIM}by {}{DIM:#}", printable(actor)),
    };
    let (environment, kind, subject) =
        (printable(&event.environment), printable(&event.kind), printable(&event.subject));
    let message = event.message.replace(['\n', '\t'], " ");
    format!("{at}  {environment}  {style}{kind}{style:#}  {subject}{actor}  {}\n", printable(&message))
}

fn document(event: &Event) -> Value {
    json!({
        "at": when::document(event.at.as_ref()),
        "environment": event.environment,
        "kind": event.kind,
        "actor": (!event.actor.is_empty()).then_some(&event.actor),
        "subject": event.subject,
        "message": event.message,
    })
}
