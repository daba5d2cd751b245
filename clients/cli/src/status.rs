//! `switchtower status`: what nodes serve now, and what is wrong with which.

use std::time::SystemTime;

use serde_json::Value;
use switchtower_client::control::wire::GetFleetRequest;

use crate::{
    control::{Connection, Environment},
    fleet::{self, Sums},
    output::{Exit, Failure, Output},
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// List the nodes.
    #[arg(long)]
    nodes: bool,
    /// Only nodes of this region.
    #[arg(long, value_name = "REGION", default_value = "", hide_default_value = true)]
    region: String,
    /// End with 4 if nodes refused the revision, and with 5 if they do not all serve it yet.
    #[arg(long)]
    exit_code: bool,
    #[command(flatten)]
    environment: Environment,
    #[command(flatten)]
    connection: Connection,
}

pub(crate) async fn run(args: Args, output: Output) -> Result<Exit, Failure> {
    let client = args.connection.client().await?;
    let request = GetFleetRequest {
        environment: args.environment.name.clone(),
        summary_only: false,
        region: args.region.clone(),
    };
    let answer = client.get_fleet(request).await.map_err(|error| args.connection.failure(&error))?;
    let summary = answer.summary.unwrap_or_default();
    if output.is_json() {
        let mut document = fleet::document(&summary);
        if let Value::Object(members) = &mut document {
            members.insert("nodes".to_owned(), answer.nodes.iter().map(fleet::node).collect());
        }
        output.json(&document)?;
    } else {
        let now = SystemTime::now();
        let mut text = fleet::table(&summary);
        let problems = fleet::problems(&answer.nodes, now);
        if !problems.is_empty() {
            text.push_str(&format!("\n{problems}"));
        }
        if args.nodes && !answer.nodes.is_empty() {
            text.push_str(&format!("\n{}", fleet::nodes(&answer.nodes, now)));
        }
        output.text(text)?;
    }
    Ok(if args.exit_code { Sums::of(&summary).exit() } else { Exit::Success })
}
