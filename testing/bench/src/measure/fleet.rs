//! How a change reaches a fleet of simulated nodes, what a node's stream takes, and what it takes when all come back at
//! once; beside a server of tonic that pushes the same bytes and does nothing else.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::Context;
use switchtower_policy::{File, items, read};
use switchtower_proto::{
    control::v1::{ApplyRequest, policy_service_client::PolicyServiceClient},
    policy::v1::Item,
    sync::v1::{Heartbeat, SyncRequest, sync_request, sync_service_client::SyncServiceClient},
};
use tonic::transport::{Channel, Endpoint};

use super::{Effort, spread};
use crate::{
    bare,
    control::{ControlPlane, ENVIRONMENT},
    fleet::{Door, Resting},
    process::{Process, Start},
    procfs::open_files,
    report::{Goal, Row, Unit},
};

/// Bytes of a change, about.
const CHANGE: usize = 10 * 1024;
/// Bytes of the push that a goal of 1.2 s for 10 000 nodes was set with.
const SMALL: usize = 1024;
/// How long a fleet that came back is watched for updates that it does not need.
const WATCHED: Duration = Duration::from_secs(2);

pub(crate) async fn measure(effort: &Effort, notes: &mut Vec<String>) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for &nodes in effort.fleets {
        // Each node takes a file here and one there; both processes have some of their own.
        if open_files()?.is_some_and(|files| files < nodes as u64 + 200) {
            notes.push(format!("{nodes} nodes are not measured: raise the number of open files (`ulimit -n`)."));
            continue;
        }
        rows.extend(of(nodes, effort).await?);
    }
    notes.push(
        "The simulated nodes are one process with one thread, each node with a connection of its own; they check digests \
         and compile nothing. Times run from the call of apply to the moment when a node has checked and answered."
            .to_owned(),
    );
    Ok(rows)
}

async fn of(nodes: usize, effort: &Effort) -> anyhow::Result<Vec<Row>> {
    let plane = ControlPlane::start().await?;
    let mut operator = Operator::new(&plane).await?;
    operator.apply().await?;
    let before = plane.process.resident()?;
    let mut fleet = Resting::new(nodes).connect_and_serve(&plane.door()).await?;
    tokio::time::sleep(effort.rest).await;
    let each = plane.process.resident()?.saturating_sub(before) as f64 / nodes as f64;
    let (mut tail, mut bytes) = (Vec::new(), 0);
    for _ in 0..effort.rounds {
        let began = Instant::now();
        let assignment = operator.apply().await?;
        let (took, size) = fleet.served_after(assignment - 1, began).await?;
        tail.push(p99(&took)?);
        bytes = size;
    }
    let resting = fleet.rest().await?;
    // Until their sockets are closed: they need as many again.
    tokio::time::sleep(effort.rest).await;
    let (mut fleet, back) = resting.connect(&plane.door()).await?;
    let left_alone = fleet.is_left_alone_for(WATCHED).await;
    fleet.rest().await?;
    drop(plane);
    tokio::time::sleep(effort.rest).await;

    let pushed = bare_pushes(nodes, bytes, effort).await?;
    let goal = match nodes {
        0..=1000 => 150.0,
        // The goal was set for a push of 1 KiB: this is what tonic itself takes longer for these bytes.
        _ => 1200.0 * (spread(&pushed)?.median / spread(&bare_pushes(nodes, SMALL, effort).await?)?.median).max(1.0),
    };
    let what = format!("change of {} KiB at {nodes} nodes, p99", bytes / 1024);
    let changed = Row::new(what, Goal::AtMost(goal.round()), spread(&tail)?, Unit::Milliseconds);
    let memory = Row::new(
        format!("memory per node, {nodes} of them"),
        Goal::AtMost(40.0),
        spread(&[each / 1024.0])?,
        Unit::Kibibytes,
    );
    let what = format!("{nodes} nodes come back at once and are sent nothing");
    let back = Row::new(what, Goal::AtMost(15_000.0), spread(&[milliseconds(back)])?, Unit::Milliseconds);
    let failure = (!left_alone).then(|| "a node that lacked nothing was sent an update".to_owned());
    Ok(vec![changed.beside("bare tonic", spread(&pushed)?), memory, back.unless(failure)])
}

/// The 99th percentile of a push to so many streams of a bare server, in milliseconds, a value per run.
async fn bare_pushes(nodes: usize, bytes: usize, effort: &Effort) -> anyhow::Result<Vec<f64>> {
    let (_process, address) = start_bare(bytes).await?;
    let door = Door { address, token: String::new(), environment: String::new() };
    let (mut fleet, _) = Resting::new(nodes).connect(&door).await?;
    let mut tail = Vec::new();
    for run in 0..effort.rounds as u64 {
        let began = Instant::now();
        push(address).await?;
        let (took, _) = fleet.served_after(run, began).await?;
        tail.push(p99(&took)?);
    }
    fleet.rest().await?;
    // Until their sockets are closed: the next need as many.
    tokio::time::sleep(effort.rest).await;
    Ok(tail)
}

/// Makes the bare server push.
async fn push(address: SocketAddr) -> anyhow::Result<()> {
    let channel = Endpoint::from_shared(format!("http://{address}"))?.connect().await?;
    let heartbeat = SyncRequest { kind: Some(sync_request::Kind::Heartbeat(Heartbeat::default())) };
    let requests = tokio_stream::iter([heartbeat]);
    let mut responses = SyncServiceClient::new(channel).sync(requests).await?.into_inner();
    // Until its stream ends, so that what it said was heard.
    while responses.message().await?.is_some() {}
    Ok(())
}

async fn start_bare(bytes: usize) -> anyhow::Result<(Process, SocketAddr)> {
    let arguments = vec![bare::SUBCOMMAND.to_owned(), "--bytes".to_owned(), bytes.to_string()];
    let start = Start { program: "switchtower-bench", arguments, environment: Vec::new() };
    start.until(|line| line.strip_prefix(bare::READY)?.parse().ok()).await.context("the bare server")
}

/// Who applies changes.
struct Operator {
    client: PolicyServiceClient<Channel>,
    token: String,
    applied: usize,
}

impl Operator {
    async fn new(plane: &ControlPlane) -> anyhow::Result<Operator> {
        let channel = Endpoint::from_shared(format!("http://{}", plane.address))?.connect().await?;
        Ok(Operator { client: PolicyServiceClient::new(channel), token: plane.operator_token.clone(), applied: 0 })
    }

    /// Applies the next policy; gives the number of the assignment.
    async fn apply(&mut self) -> anyhow::Result<u64> {
        self.applied += 1;
        let request = ApplyRequest {
            environment: ENVIRONMENT.to_owned(),
            items: policy(self.applied)?,
            ..ApplyRequest::default()
        };
        let mut request = tonic::Request::new(request);
        request.metadata_mut().insert("authorization", format!("Bearer {}", self.token).parse()?);
        Ok(self.client.apply(request).await?.into_inner().assignment)
    }
}

/// A policy whose routes all differ from those of the one before, by [`CHANGE`] bytes together.
pub(super) fn policy(number: usize) -> anyhow::Result<Vec<Item>> {
    const SAID: usize = 450;
    let mut text = format!(
        "environment: {ENVIRONMENT}\nmodels:\n  a: {{ bedrock: \"amazon.nova-lite-v1:0\", regions: [us-east-1] }}\n\
         callers:\n  web: {{ routes: [\"*\"] }}\nroutes:\n"
    );
    for route in 0..CHANGE / SAID {
        let said = format!("{number} ").repeat(SAID).chars().take(SAID).collect::<String>();
        text.push_str(&format!("  r{route}: {{ tiers: [a], description: \"{said}\" }}\n"));
    }
    let reading = read(&[File { name: "bench.yaml".to_owned(), bytes: text.into_bytes() }]);
    anyhow::ensure!(reading.violations.is_empty(), "{:?}", reading.violations);
    Ok(items::items(&reading.policy))
}

fn p99(sorted: &[Duration]) -> anyhow::Result<f64> {
    let at = (sorted.len() * 99).div_ceil(100).saturating_sub(1);
    Ok(milliseconds(*sorted.get(at).context("no node answered")?))
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_about_as_large_as_it_says() {
        let (one, other) = (policy(1).unwrap(), policy(2).unwrap());
        let (put, removed) = items::delta(&one, &other);
        let bytes: usize = put.iter().map(|item| item.body.len()).sum();
        assert!((CHANGE * 9 / 10..CHANGE * 12 / 10).contains(&bytes), "{bytes}");
        assert!(removed.is_empty());
    }
}
