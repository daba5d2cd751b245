//! Resident memory: of a node that does nothing, and what an open stream takes.

use std::path::Path;

use anyhow::Context;

use super::{Effort, spread};
use crate::{
    caller::{Caller, Held, Way},
    process::Process,
    procfs::{huge_pages, open_files},
    report::{Goal, Row, Unit},
    stage::{ROUTES, Stage},
};

const MIB: f64 = 1024.0 * 1024.0;
const KIB: f64 = 1024.0;
/// A node takes 100 streams on one connection.
const STREAMS_OF_A_CONNECTION: usize = 100;
/// The share of the streams that is opened before anything is counted: what a process takes once for all of them, and
/// what its allocator had lying about, is no stream's.
const FIRST_SHARE: usize = 4;
/// Runs of each: memory hardly varies.
const RUNS: usize = 3;

pub(crate) async fn measure(stage: &Stage, effort: &Effort, notes: &mut Vec<String>) -> anyhow::Result<Vec<Row>> {
    let runs = RUNS.min(effort.rounds);
    let held = affordable(effort.held)?;
    if held < effort.held {
        notes.push(format!(
            "Only {held} streams are held open: for more, raise the number of open files (`ulimit -n 4096`)."
        ));
    }
    if let Some(when) = huge_pages() {
        // A process whose heap is of huge pages has whole ones resident where it uses some KiB.
        notes.push(format!("The kernel makes transparent huge pages: `{when}`."));
    }
    let mut rows = vec![
        idle(stage, effort, &stage.small_policy(), "node, resident, idle".to_owned(), runs).await?,
        idle(stage, effort, &stage.large_policy(), format!("node, resident, idle, {ROUTES} routes"), runs).await?,
    ];
    let (mut proxy, mut http, mut grpc) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..runs {
        let (process, way) = stage.proxy().await?;
        proxy.push(per_stream(&process, &way, held, effort).await?);
        let node = stage.node(&stage.small_policy()).await?;
        http.push(per_stream(&node.process, &stage.bedrock_face(&node), held, effort).await?);
        let node = stage.node(&stage.small_policy()).await?;
        grpc.push(per_stream(&node.process, &stage.grpc_face(&node), held, effort).await?);
    }
    for (face, runs) in [("Bedrock face", http), ("gRPC face", grpc)] {
        let what = format!("memory per open stream, {held} of them, {face}");
        let row = Row::new(what, Goal::AtMost(40.0), spread(&runs)?.times(1.0 / KIB), Unit::Kibibytes);
        rows.push(row.beside("proxy", spread(&proxy)?.times(1.0 / KIB)));
    }
    Ok(rows)
}

async fn idle(stage: &Stage, effort: &Effort, policy: &Path, what: String, runs: usize) -> anyhow::Result<Row> {
    let mut resident = Vec::new();
    for _ in 0..runs {
        let node = stage.node(policy).await?;
        tokio::time::sleep(effort.rest).await;
        resident.push(node.process.resident()? as f64);
    }
    Ok(Row::new(what, Goal::AtMost(30.0), spread(&resident)?.times(1.0 / MIB), Unit::Mebibytes))
}

/// Bytes that each of so many open streams adds to what is resident.
async fn per_stream(process: &Process, way: &Way, count: usize, effort: &Effort) -> anyhow::Result<f64> {
    let mut open = Open { way, connections: Vec::new(), held: Vec::new() };
    open.more(count / FIRST_SHARE).await?;
    tokio::time::sleep(effort.rest).await;
    let before = process.resident()?;
    open.more(count).await?;
    tokio::time::sleep(effort.rest).await;
    let after = process.resident()?;
    Ok(after.saturating_sub(before) as f64 / count as f64)
}

/// Streams that are open until this is dropped.
struct Open<'a> {
    way: &'a Way,
    connections: Vec<Caller>,
    held: Vec<Held>,
}

impl Open<'_> {
    async fn more(&mut self, count: usize) -> anyhow::Result<()> {
        for _ in 0..count {
            if self.held.len().is_multiple_of(STREAMS_OF_A_CONNECTION) {
                self.connections.push(Caller::new(self.way).await?);
            }
            let caller = self.connections.last_mut().context("the first stream opens the first connection")?;
            self.held.push(caller.hold().await?);
        }
        Ok(())
    }
}

/// As many streams as there may be files: what is measured has two sockets for each.
fn affordable(wanted: usize) -> anyhow::Result<usize> {
    let Some(files) = open_files()? else { return Ok(wanted) };
    let streams = usize::try_from(files.saturating_sub(100) / 2).unwrap_or(usize::MAX);
    Ok(wanted.min(streams - streams / (FIRST_SHARE + 1)))
}
