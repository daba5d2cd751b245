//! `switchtower-bench`: how fast a node is, beside what is next to it in the same run.
//!
//! Speed is asserted nowhere in the tests, because a number by itself says more about the machine than about the
//! program. Here it is measured as a ratio to a baseline in the same run (a [bare proxy](proxy), or a smaller policy),
//! as medians of several runs, and with absolute goals only where those are what was promised.
//!
//! The fake Bedrock, the proxy and the node are processes of their own; the callers are this one. Everything stays on
//! loopback and ends by itself.

mod bare;
mod caller;
mod collector;
mod control;
mod fleet;
mod load;
mod measure;
mod policy;
mod process;
mod procfs;
mod proxy;
mod report;
mod scene;
mod stage;
mod statistics;

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context;
use clap::{Parser, Subcommand, ValueEnum};
use time::{OffsetDateTime, macros::format_description};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::timeout,
};

use crate::{
    measure::Effort,
    report::{Report, Row},
    stage::Stage,
};

// The proxy is this binary too, and gets what the node has.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures a node beside its baselines, and prints the table of the README.
#[derive(Debug, Parser)]
#[command(name = "switchtower-bench", version, about)]
struct Args {
    #[command(subcommand)]
    role: Option<Role>,
    /// Measure less, to see within a minute that all of it works; the numbers are rough.
    #[arg(long)]
    quick: bool,
    /// Measure this part only; may be repeated.
    #[arg(long, value_enum, value_name = "PART")]
    only: Vec<Part>,
    /// How many runs the medians are of.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=100))]
    rounds: Option<u16>,
    /// Threads of the node and of the proxy; without it, one for each core.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// The day that the report names; today unless told.
    #[arg(long, value_name = "DATE")]
    date: Option<String>,
    /// Also write the report to this file, with all numbers unrounded.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// The baseline: a reverse proxy of hyper and nothing else.
    #[command(name = proxy::SUBCOMMAND, hide = true)]
    Proxy {
        #[arg(long)]
        upstream: SocketAddr,
        #[arg(long)]
        threads: usize,
    },
    /// The fleet's baseline: a server of tonic that pushes bytes and nothing else.
    #[command(name = bare::SUBCOMMAND, hide = true)]
    BareSync {
        #[arg(long)]
        bytes: usize,
    },
}

/// Several times what the longest part takes with the usual number of runs: something stands still then.
const LONGEST_PART: Duration = Duration::from_secs(15 * 60);

/// A part of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// What route, flag and plan cost.
    Decision,
    /// Answers in one piece.
    Unary,
    /// Streams.
    Stream,
    /// What is resident.
    Memory,
    /// How long until the first answer.
    Start,
    /// How a policy reaches a fleet.
    Fleet,
    /// What applying one takes.
    Apply,
}

impl Part {
    /// Whether a node is measured, and what stands around one is needed.
    fn is_of_a_node(self) -> bool {
        matches!(self, Part::Unary | Part::Stream | Part::Memory | Part::Start)
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    if let Some(role) = args.role {
        return match be(role) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error),
        };
    }
    // One thread asks and reads: it is no process that is measured, and leaves the cores to those that are.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let measured = runtime.map_err(Into::into).and_then(|runtime| runtime.block_on(measure_or_be_stopped(&args)));
    match measured.and_then(|report| finish(&args, &report)) {
        Ok(code) => code,
        Err(error) => fail(&error),
    }
}

/// One of the baselines, until it is killed.
fn be(role: Role) -> anyhow::Result<()> {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    match role {
        Role::Proxy { upstream, threads } => {
            runtime.worker_threads(threads).enable_all().build()?.block_on(proxy::run(upstream))
        }
        Role::BareSync { bytes } => runtime.enable_all().build()?.block_on(bare::run(bytes)),
    }
}

fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("switchtower-bench: {error:#}");
    ExitCode::FAILURE
}

/// A goal that is missed is a result; what could not be measured is a failure.
fn finish(args: &Args, report: &Report) -> anyhow::Result<ExitCode> {
    print!("{report}");
    if let Some(path) = &args.json {
        let text = format!("{:#}\n", report.json());
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(if report.has_failed() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Whatever ends the measurement, the processes it started end with it.
async fn measure_or_be_stopped(args: &Args) -> anyhow::Result<Report> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        report = measure(args) => report,
        _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted"),
        _ = terminate.recv() => anyhow::bail!("terminated"),
    }
}

async fn measure(args: &Args) -> anyhow::Result<Report> {
    let mut effort = if args.quick { Effort::quick() } else { Effort::full() };
    effort.rounds = args.rounds.map_or(effort.rounds, usize::from);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = args.threads.map_or(cores, usize::from);
    let parts: Vec<Part> = Part::value_variants()
        .iter()
        .copied()
        .filter(|part| args.only.is_empty() || args.only.contains(part))
        .collect();
    let mut notes = notes(args, &effort, threads);
    let stage = match parts.iter().any(|part| part.is_of_a_node()) {
        true => Some(Stage::new(threads).await?),
        false => None,
    };
    let mut rows = Vec::new();
    for part in parts {
        eprintln!("measuring: {part:?}");
        let measured = timeout(LONGEST_PART, async {
            match (part, &stage) {
                (Part::Unary, Some(stage)) => measure::unary::measure(stage, &effort, &mut notes).await,
                (Part::Stream, Some(stage)) => measure::stream::measure(stage, &effort, &mut notes).await,
                (Part::Memory, Some(stage)) => measure::memory::measure(stage, &effort, &mut notes).await,
                (Part::Start, Some(stage)) => measure::start::measure(stage, &effort).await,
                (Part::Fleet, _) => measure::fleet::measure(&effort, &mut notes).await,
                (Part::Apply, _) => measure::apply::measure(&effort, &mut notes).await,
                _ => measure::decision::measure(&effort),
            }
        });
        match measured.await.unwrap_or_else(|_| Err(anyhow::anyhow!("not done within {LONGEST_PART:?}"))) {
            Ok(measured) => rows.extend(measured),
            Err(error) => rows.push(Row::failed(format!("{part:?}").to_lowercase(), format!("{error:#}"))),
        }
    }
    if let Some(stage) = &stage {
        notes.push(format!("{} spans were exported meanwhile.", stage.collector.spans()));
    }
    Ok(Report { date: date(args)?, machine: procfs::machine(), notes, rows })
}

/// How it is measured, for who reads the table.
fn notes(args: &Args, effort: &Effort, threads: usize) -> Vec<String> {
    let mut notes = Vec::new();
    if cfg!(debug_assertions) {
        notes.push("**This is a debug build: the numbers mean nothing.** `make bench` measures.".to_owned());
    }
    if args.quick {
        notes.push("Measured with `--quick`: the numbers are rough.".to_owned());
    }
    notes.push(format!(
        "Medians of {} runs (decisions, memory and starts: of others), in brackets the lowest and the highest; direct way, \
         proxy and faces take turns within a run. Nothing is pinned: callers, fake and what is measured share the cores; \
         node and proxy have {threads} threads each.",
        effort.rounds
    ));
    notes.push(
        "The proxy is hyper and nothing else. The node checks the caller's key, evaluates a policy of 1000 routes, signs \
         (SigV4) what it sends, counts metrics, and exports one trace in a hundred."
            .to_owned(),
    );
    notes
}

fn date(args: &Args) -> anyhow::Result<String> {
    match &args.date {
        Some(date) => Ok(date.clone()),
        None => Ok(OffsetDateTime::now_utc().format(format_description!("[year]-[month]-[day]"))?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_fit_together() {
        use clap::CommandFactory;
        Args::command().debug_assert();
        let args = Args::try_parse_from(["bench", "--only", "unary", "--only", "start", "--quick"]).unwrap();
        assert_eq!(args.only, [Part::Unary, Part::Start]);
    }
}
