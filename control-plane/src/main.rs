//! `switchtower-control-plane`: a control plane as a process.

use std::{fs, os::unix::fs::DirBuilderExt, path::Path, process::ExitCode, sync::Arc, time::SystemTime};

use anyhow::Context;
use clap::Parser;
use switchtower_control_plane::{
    auth::{self, Tokens},
    config::{Args, Command, Config},
    peppers,
    revisions::Revisions,
    start::{Options, start},
    store::{Embedded, embedded},
    telemetry::Telemetry,
};
use switchtower_telemetry::{export::Exporter, log};
use tokio::signal::unix::{SignalKind, signal};

// As the node's, which was measured.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// EX_USAGE of sysexits.h: what was written on the command line, or in its files, is wrong.
const USAGE: u8 = 64;
/// Name of the store's file in its folder.
const STORE: &str = "store.redb";

fn main() -> ExitCode {
    let args = Args::parse();
    let ran = match &args.command {
        Some(Command::Restore { from, data }) => restore(from, data),
        Some(Command::Verify { data }) => runtime().and_then(|runtime| runtime.block_on(verify(data))),
        None => return serve(&args),
    };
    match ran {
        Ok(code) => code,
        Err(error) => {
            eprintln!("switchtower-control-plane: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn serve(args: &Args) -> ExitCode {
    let config = match Config::of(&args.serve, &host()) {
        Ok(config) => config,
        Err(problems) => {
            for problem in problems {
                eprintln!("switchtower-control-plane: {problem}");
            }
            return ExitCode::from(USAGE);
        }
    };
    if let Err(error) = log::start(args.serve.log_format, &args.serve.log, false, &[]) {
        eprintln!("switchtower-control-plane: --log: {error}");
        return ExitCode::from(USAGE);
    }
    match runtime().and_then(|runtime| runtime.block_on(run(config))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("the runtime cannot be started")
}

/// This machine's name; `control-plane` where it has none.
fn host() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        "" => "control-plane".to_owned(),
        name => name.to_owned(),
    }
}

async fn run(config: Config) -> anyhow::Result<()> {
    tracing::info!("{config}");
    folder(&config.data)?;
    let store = Arc::new(Embedded::open(&config.data.join(STORE), embedded::Options::default())?);
    let tls = match &config.tls {
        Some((certificates, key)) => Some((read(certificates)?, read(key)?)),
        None => None,
    };
    for file in [&config.operator_tokens, &config.fleet_tokens] {
        if auth::is_open_to_all(file)? {
            tracing::warn!(file = %file.display(), "every user of this machine can read these tokens: chmod 600");
        }
    }
    let tokens = Tokens::read(&read(&config.operator_tokens)?, &read(&config.fleet_tokens)?);
    let peppers = peppers::of(&config.pepper, &*store, SystemTime::now()).await?;
    let var = |name: &str| std::env::var(name).ok();
    let exporter = Exporter::from_env(&var, "switchtower-control-plane").map_err(anyhow::Error::msg)?;
    let running = start(Options {
        listen: config.listen,
        admin_listen: config.admin_listen,
        tls,
        store,
        tokens: Arc::new(tokens.map_err(all)?),
        peppers: Arc::new(peppers),
        replica: config.replica,
        telemetry: Arc::new(Telemetry::new(exporter)),
        drain: config.drain,
    })
    .await?;
    tracing::info!(listen = %running.address, admin_listen = %running.admin_address, "control plane up");
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => {}
        interrupted = tokio::signal::ctrl_c() => interrupted?,
    }
    tracing::info!("ending: nodes are asked to come back");
    running.stop().await;
    Ok(())
}

fn all(problems: Vec<String>) -> anyhow::Error {
    anyhow::Error::msg(problems.join("\n"))
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("{} cannot be read", path.display()))
}

/// Makes a folder that is its owner's alone; one that is there stays as it is.
fn folder(path: &Path) -> anyhow::Result<()> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.with_context(|| format!("{} cannot be made", path.display()))
}

fn restore(from: &Path, data: &Path) -> anyhow::Result<ExitCode> {
    folder(data)?;
    Embedded::restore(from, &data.join(STORE))?;
    println!("restored, with a new epoch; check it with `switchtower-control-plane verify --data {}`", data.display());
    Ok(ExitCode::SUCCESS)
}

async fn verify(data: &Path) -> anyhow::Result<ExitCode> {
    let path = data.join(STORE);
    anyhow::ensure!(path.exists(), "{} is not there", path.display());
    let revisions = Revisions::of(Arc::new(Embedded::open(&path, embedded::Options::default())?));
    let mut wrong = 0;
    for (environment, head) in revisions.environments().await? {
        let problems = revisions.verify(&environment).await?;
        wrong += problems.len();
        for problem in &problems {
            println!("{environment}: {problem}");
        }
        if problems.is_empty() {
            println!("{environment}: {} revisions, all as they were written", head.revision);
        }
    }
    Ok(if wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
