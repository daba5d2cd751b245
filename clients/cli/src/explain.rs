//! `switchtower explain`: what happens to a request, and why, decided by the functions that nodes serve requests with.

use std::path::PathBuf;

use switchtower_policy::{
    Facts, RequestFacts, Snapshot, explain::explain, load, plan::HealthView, snapshot::TargetIndex,
};

use crate::{
    args::pair,
    output::{Exit, Failure, Output},
    violations,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Route or alias that is asked for.
    route: String,
    /// Folder of policy files, or one file.
    #[arg(long, env = "SWITCHTOWER_POLICY", value_name = "PATH")]
    policy: PathBuf,
    /// Who asks.
    #[arg(long, value_name = "NAME")]
    caller: String,
    /// A fact of the request; may be repeated.
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    metadata: Vec<(String, String)>,
    /// Region that the node runs in; without it, none.
    #[arg(long, default_value = "")]
    region: String,
    /// A stream is asked for.
    #[arg(long)]
    stream: bool,
    /// Output tokens that are asked for; without it, as many as the route allows.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_tokens: Option<u32>,
    /// Tools are offered to the model.
    #[arg(long)]
    tools: bool,
    /// Length of the request's body.
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    body_bytes: u64,
    /// What is not to be had: a target (bedrock/REGION/MODEL ID), all of a region, or all of a model of the policy; may
    /// be repeated.
    #[arg(long, value_name = "TARGET")]
    unavailable: Vec<String>,
    /// Id of the request, which decides splits that have no other key; without it, a new one.
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
}

pub(crate) fn run(args: Args, output: Output) -> Result<Exit, Failure> {
    let files = violations::read(&args.policy)?;
    let compiled = load(&files).map_err(|violations| violations::refused(&args.policy, &violations))?;
    let snapshot = compiled.snapshot;
    let caller = snapshot.caller(&args.caller).ok_or_else(|| unknown_caller(&args.caller, &snapshot))?;
    let health = HealthView::without(unavailable(&args.unavailable, &snapshot)?);
    let request_id = args.request_id.unwrap_or_else(|| format!("{:032x}", fastrand::u128(..)));
    let facts = Facts {
        caller,
        asked: &args.route,
        metadata: &args.metadata,
        region: &args.region,
        request_id: &request_id,
        request: RequestFacts {
            stream: args.stream,
            max_tokens: args.max_tokens,
            tools: args.tools,
            body_bytes: args.body_bytes,
        },
    };
    let explanation = explain(&snapshot, &facts, &health, fastrand::u64(..));
    match output.is_json() {
        true => output.json(&explanation)?,
        false => output.text(&explanation)?,
    }
    Ok(if explanation.decision.is_some() { Exit::Success } else { Exit::Data })
}

fn unknown_caller(name: &str, snapshot: &Snapshot) -> Failure {
    let mut names: Vec<&str> = snapshot.callers().map(|caller| &*caller.name).collect();
    names.sort_unstable();
    Failure::new(Exit::Data, format!("the policy has no caller `{name}`"))
        .next(format!("give --caller one of those it has: {}", shortened(&names)))
}

/// The targets that these words mean.
fn unavailable(words: &[String], snapshot: &Snapshot) -> Result<Vec<TargetIndex>, Failure> {
    let mut out = Vec::new();
    for word in words {
        let before = out.len();
        let meant = snapshot.targets().iter().filter(|target| {
            [&*target.id, &*target.region, &*snapshot.model(target.model).name].contains(&word.as_str())
        });
        out.extend(meant.map(|target| target.index));
        if out.len() == before {
            let ids: Vec<&str> = snapshot.targets().iter().map(|target| &*target.id).collect();
            return Err(Failure::new(Exit::Data, format!("--unavailable {word} is no target, region or model here"))
                .next(format!("give one of the targets: {}", shortened(&ids))));
        }
    }
    Ok(out)
}

/// As many names as can be read at a glance.
fn shortened(names: &[&str]) -> String {
    const SHOWN: usize = 10;
    let more = names.len().saturating_sub(SHOWN);
    let shown = names[..names.len().min(SHOWN)].join(", ");
    if more > 0 { format!("{shown} and {more} more") } else { shown }
}
