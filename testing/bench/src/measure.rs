//! What is measured, a module for each part of the table.

pub(crate) mod apply;
pub(crate) mod decision;
pub(crate) mod fleet;
pub(crate) mod memory;
pub(crate) mod start;
pub(crate) mod stream;
pub(crate) mod unary;

use std::time::Duration;

use anyhow::Context;

use crate::{
    caller::{Caller, Errors},
    load::{Tally, callers, cpu_of, in_turn},
    process::Process,
    report::{Goal, Row, Unit},
    scene::Scene,
    stage::{Node, Stage},
    statistics::Spread,
};

/// How much is measured: enough for medians that hold still, or just enough to see that all of it works.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    /// Runs of everything; what is reported is their median.
    pub(crate) rounds: usize,
    /// How long many callers at once ask in each run.
    pub(crate) span: Duration,
    /// Answers in one piece that one caller asks for in each run.
    pub(crate) answers: usize,
    /// Streams that one caller asks for in each run.
    pub(crate) streams: usize,
    /// Decisions that each run makes of each kind.
    pub(crate) decisions: usize,
    /// Streams that are held open.
    pub(crate) held: usize,
    /// Nodes of the fleets that a change is brought to.
    pub(crate) fleets: &'static [usize],
    /// Policies that are applied in each run, of each kind.
    pub(crate) applies: usize,
    /// How long a process is left alone before its memory is looked at.
    pub(crate) rest: Duration,
}

impl Effort {
    pub(crate) fn full() -> Effort {
        Effort {
            rounds: 5,
            span: Duration::from_secs(3),
            answers: 3000,
            streams: 400,
            decisions: 50_000,
            held: 1000,
            fleets: &[1000, 10_000],
            applies: 40,
            rest: Duration::from_secs(2),
        }
    }

    pub(crate) fn quick() -> Effort {
        Effort {
            rounds: 2,
            span: Duration::from_millis(500),
            answers: 200,
            streams: 50,
            decisions: 5000,
            held: 100,
            fleets: &[200],
            applies: 5,
            rest: Duration::from_millis(500),
        }
    }
}

/// Callers at once, where there are many.
const MANY: usize = 32;
/// In how many turns each way gets its requests in a run. What disturbs the machine for a moment then disturbs all ways
/// alike, not the one whose turn it was.
const TURNS: usize = 10;
/// Answers before anything is measured: connections, caches and credentials are there then.
const WARM_UP: usize = 50;

/// The ways whose times are compared, in the order in which they take turns.
struct Paths {
    direct: Caller,
    proxy: Caller,
    node: Caller,
    grpc: Caller,
    _processes: (Process, Node),
}

/// What proxy, node and gRPC face added to the direct way, a value per run, in microseconds.
#[derive(Default)]
struct Added {
    direct: Vec<f64>,
    proxy: Vec<f64>,
    node: Vec<f64>,
    grpc: Vec<f64>,
}

impl Added {
    fn push(&mut self, percent: f64, tallies: &mut [Tally; 4]) -> anyhow::Result<()> {
        let [direct, proxy, node, grpc] = tallies;
        let base = direct.percentile(percent)?;
        self.direct.push(base);
        self.proxy.push(proxy.percentile(percent)? - base);
        self.node.push(node.percentile(percent)? - base);
        self.grpc.push(grpc.percentile(percent)? - base);
        Ok(())
    }

    /// One row for each face.
    fn rows(&self, what: &str, goal: Goal, failure: Option<&String>) -> anyhow::Result<[Row; 2]> {
        let proxy = spread(&self.proxy)?;
        let row = |face: &str, goal: Goal, added: &[f64]| {
            let row = Row::new(format!("{what}, {face}"), goal, spread(added)?, Unit::Microseconds);
            anyhow::Ok(row.beside("proxy", proxy).unless(failure.cloned()))
        };
        Ok([row("Bedrock face", goal, &self.node)?, row("gRPC face", Goal::None, &self.grpc)?])
    }
}

impl Paths {
    /// With a proxy and a node of their own.
    async fn new(stage: &Stage) -> anyhow::Result<Paths> {
        let (process, proxy) = stage.proxy().await?;
        let node = stage.node(&stage.large_policy()).await?;
        Ok(Paths {
            direct: Caller::new(&stage.direct()).await?,
            proxy: Caller::new(&proxy).await?,
            node: Caller::new(&stage.bedrock_face(&node)).await?,
            grpc: Caller::new(&stage.grpc_face(&node)).await?,
            _processes: (process, node),
        })
    }

    /// A run: each way in turn, until each had its share.
    async fn run(&mut self, scene: Scene, times: usize) -> [Tally; 4] {
        let mut tallies: [Tally; 4] = Default::default();
        for _ in 0..TURNS {
            let callers = [&mut self.direct, &mut self.proxy, &mut self.node, &mut self.grpc];
            for (caller, tally) in callers.into_iter().zip(&mut tallies) {
                tally.take_up(in_turn(caller, scene, times.div_ceil(TURNS)).await);
            }
        }
        tallies
    }

    /// Added times at the median and at the 99th percentile, and the errors meanwhile.
    async fn added(&mut self, scene: Scene, times: usize, rounds: usize) -> anyhow::Result<(Added, Added, Errors)> {
        let (mut middle, mut tail, mut errors) = (Added::default(), Added::default(), Errors::default());
        self.run(scene, WARM_UP).await;
        for _ in 0..rounds {
            let mut tallies = self.run(scene, times).await;
            middle.push(50.0, &mut tallies)?;
            tail.push(99.0, &mut tallies)?;
            tallies.into_iter().for_each(|tally| errors.take_up(tally.errors));
        }
        Ok((middle, tail, errors))
    }
}

/// CPU time of proxy, Bedrock face and gRPC face (in this order) with [`MANY`] callers at once, a value per run.
#[derive(Default)]
struct Busy {
    /// For each unit of work, in microseconds.
    cpu: [Vec<f64>; 3],
    /// Answers per second.
    rates: [Vec<f64>; 3],
    errors: Errors,
}

impl Busy {
    /// `work` counts what was done.
    async fn measure(stage: &Stage, effort: &Effort, scene: Scene, work: fn(&Tally) -> u64) -> anyhow::Result<Busy> {
        let (proxy_process, proxy) = stage.proxy().await?;
        let node = stage.node(&stage.large_policy()).await?;
        let faces = [stage.bedrock_face(&node), stage.grpc_face(&node)];
        let processes = [&proxy_process, &node.process, &node.process];
        let mut crowds = Vec::new();
        for (process, way) in processes.into_iter().zip([&proxy].into_iter().chain(&faces)) {
            let mut crowd = callers(way, MANY).await?;
            for caller in &mut crowd {
                in_turn(caller, Scene::Whole, WARM_UP).await;
            }
            crowds.push((process, crowd));
        }
        let mut busy = Busy::default();
        for _ in 0..effort.rounds {
            for (index, (process, crowd)) in crowds.iter_mut().enumerate() {
                let (used, tally) = cpu_of(process, crowd, scene, effort.span).await?;
                busy.cpu[index].push(used / work(&tally).max(1) as f64);
                busy.rates[index].push(tally.answers as f64 / effort.span.as_secs_f64());
                busy.errors.take_up(tally.errors);
            }
        }
        Ok(busy)
    }

    /// One row for each face.
    fn rows(&self, what: &str, goal: Goal) -> anyhow::Result<Vec<Row>> {
        let [proxy, node, grpc] = &self.cpu;
        let proxy = spread(proxy)?;
        let row = |face: &str, goal: Goal, used: &[f64]| {
            let row = Row::new(format!("{what}, {face}"), goal, spread(used)?, Unit::Microseconds);
            anyhow::Ok(row.beside("proxy", proxy).unless(self.errors.told()))
        };
        Ok(vec![row("Bedrock face", goal, node)?, row("gRPC face", Goal::None, grpc)?])
    }
}

fn spread(runs: &[f64]) -> anyhow::Result<Spread> {
    Spread::of(runs).context("there was no run")
}
