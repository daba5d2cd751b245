//! Callers at work: one after another, or many at once. Closed loops: who has no answer yet asks nothing more, so the
//! load is bounded by the number of callers.

use std::time::{Duration, Instant};

use anyhow::Context;
use futures_util::future::join_all;
use tokio::time::timeout;

use crate::{
    caller::{Caller, Errors, Way},
    process::Process,
    scene::Scene,
    statistics::percentile,
};

/// Longer than any answer takes; an answer that does not come in time is an error, so that every run ends.
const PATIENCE: Duration = Duration::from_secs(20);
/// After so many errors a caller gives up: the run has failed, and need not be long.
const MOST_ERRORS: u64 = 20;

/// What callers got.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Complete answers.
    pub(crate) answers: u64,
    /// Chunks of content in them.
    pub(crate) chunks: u64,
    /// How long each caller waited for content, in microseconds.
    pub(crate) waited: Vec<f64>,
    pub(crate) errors: Errors,
}

impl Tally {
    pub(crate) fn take_up(&mut self, other: Tally) {
        self.answers += other.answers;
        self.chunks += other.chunks;
        self.waited.extend(other.waited);
        self.errors.take_up(other.errors);
    }

    /// A percentile of the waiting times, in microseconds.
    pub(crate) fn percentile(&mut self, percent: f64) -> anyhow::Result<f64> {
        let told = self.errors.told().unwrap_or_else(|| "none was asked for".to_owned());
        percentile(&mut self.waited, percent).with_context(|| format!("there is no answer to measure: {told}"))
    }

    async fn ask(&mut self, caller: &mut Caller, scene: Scene) {
        let answered =
            timeout(PATIENCE, caller.ask(scene)).await.context("no answer in time").and_then(|answer| answer);
        match answered {
            Ok(answered) => {
                self.answers += 1;
                self.chunks += u64::from(answered.chunks);
                self.waited.push(answered.waited.as_secs_f64() * 1e6);
            }
            Err(error) => self.errors.add(&error),
        }
    }
}

/// Asks so many times, one after another.
pub(crate) async fn in_turn(caller: &mut Caller, scene: Scene, times: usize) -> Tally {
    let mut tally = Tally::default();
    for _ in 0..times {
        tally.ask(caller, scene).await;
        if tally.errors.count >= MOST_ERRORS {
            break;
        }
    }
    tally
}

/// All callers ask, again and again, for so long; then each reads its answer to the end.
pub(crate) async fn together(callers: &mut [Caller], scene: Scene, span: Duration) -> Tally {
    let end = Instant::now() + span;
    let each = callers.iter_mut().map(async |caller| {
        let mut tally = Tally::default();
        while Instant::now() < end && tally.errors.count < MOST_ERRORS {
            tally.ask(caller, scene).await;
        }
        tally
    });
    let mut all = Tally::default();
    join_all(each).await.into_iter().for_each(|tally| all.take_up(tally));
    all
}

/// So many callers, each with a connection of its own.
pub(crate) async fn callers(way: &Way, count: usize) -> anyhow::Result<Vec<Caller>> {
    let mut callers = Vec::with_capacity(count);
    for _ in 0..count {
        callers.push(Caller::new(way).await?);
    }
    Ok(callers)
}

/// CPU time that a process used while callers were at work, in microseconds, and what they got.
pub(crate) async fn cpu_of(
    process: &Process,
    callers: &mut [Caller],
    scene: Scene,
    span: Duration,
) -> anyhow::Result<(f64, Tally)> {
    let before = process.cpu()?;
    let tally = together(callers, scene, span).await;
    let used = process.cpu()?.saturating_sub(before);
    Ok((used.as_secs_f64() * 1e6, tally))
}
