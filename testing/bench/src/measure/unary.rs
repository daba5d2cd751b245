//! Answers in one piece: what the node adds to them, and the CPU time that each takes.

use super::{Busy, Effort, MANY, Paths, spread};
use crate::{
    report::{Goal, Row},
    scene::Scene,
    stage::Stage,
};

pub(crate) async fn measure(stage: &Stage, effort: &Effort, notes: &mut Vec<String>) -> anyhow::Result<Vec<Row>> {
    let mut rows = latency(stage, effort, notes).await?;
    rows.extend(cpu(stage, effort, notes).await?);
    Ok(rows)
}

async fn latency(stage: &Stage, effort: &Effort, notes: &mut Vec<String>) -> anyhow::Result<Vec<Row>> {
    let mut paths = Paths::new(stage).await?;
    let (middle, tail, errors) = paths.added(Scene::Whole, effort.answers, effort.rounds).await?;
    let (direct, direct_tail) = (spread(&middle.direct)?.median, spread(&tail.direct)?.median);
    notes
        .push(format!("A unary call straight to the fake takes {direct:.0} µs at p50 and {direct_tail:.0} µs at p99."));
    let failure = errors.told();
    let mut rows = middle.rows("unary, 1 caller: added p50", Goal::Times(1.5), failure.as_ref())?.to_vec();
    rows.extend(tail.rows("unary, 1 caller: added p99", Goal::Times(1.5), failure.as_ref())?);
    Ok(rows)
}

async fn cpu(stage: &Stage, effort: &Effort, notes: &mut Vec<String>) -> anyhow::Result<Vec<Row>> {
    let busy = Busy::measure(stage, effort, Scene::Whole, |tally| tally.answers).await?;
    let [proxy, node, grpc] = &busy.rates;
    notes.push(format!(
        "{MANY} callers got {:.0} unary answers per second through the proxy, {:.0} through the Bedrock face and {:.0} \
         through the gRPC face, with a connection each, all processes on this machine together.",
        spread(proxy)?.median,
        spread(node)?.median,
        spread(grpc)?.median
    ));
    busy.rows(&format!("unary, {MANY} callers: CPU per request"), Goal::Times(2.0))
}
