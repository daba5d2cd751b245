//! Streams: what the node adds to the time to the first content, and the CPU time that each chunk takes.
//!
//! The CPU time of a stream is divided by its chunks, the request and its authentication included.

use super::{Busy, Effort, Paths, spread};
use crate::{
    report::{Goal, Row},
    scene::{CHUNKS, Scene},
    stage::Stage,
};

pub(crate) async fn measure(stage: &Stage, effort: &Effort, notes: &mut Vec<String>) -> anyhow::Result<Vec<Row>> {
    let mut rows = first_content(stage, effort, notes).await?;
    let ways = [
        (Scene::OneByOne, "arriving one by one", Goal::Times(1.5)),
        (Scene::BackToBack, "back to back", Goal::AtMost(2.0)),
    ];
    for (scene, how, goal) in ways {
        let busy = Busy::measure(stage, effort, scene, |tally| tally.chunks).await?;
        rows.extend(busy.rows(&format!("stream of {CHUNKS} chunks {how}: CPU per chunk"), goal)?);
    }
    Ok(rows)
}

async fn first_content(stage: &Stage, effort: &Effort, notes: &mut Vec<String>) -> anyhow::Result<Vec<Row>> {
    let mut paths = Paths::new(stage).await?;
    let (middle, tail, errors) = paths.added(Scene::First, effort.streams, effort.rounds).await?;
    let (direct, direct_tail) = (spread(&middle.direct)?.median, spread(&tail.direct)?.median);
    notes.push(format!(
        "The first content of a stream straight from the fake takes {direct:.0} µs at p50 and {direct_tail:.0} µs at p99."
    ));
    let failure = errors.told();
    let mut rows = middle.rows("stream: added time to first content p50", Goal::None, failure.as_ref())?.to_vec();
    rows.extend(tail.rows("stream: added time to first content p99", Goal::Times(1.5), failure.as_ref())?);
    Ok(rows)
}
