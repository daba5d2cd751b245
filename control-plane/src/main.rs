//! `switchtower-control-plane`: a control plane as a process.

use std::{fs, path::Path, process::ExitCode, sync::Arc};

use anyhow::Context;
use clap::Parser;
use switchtower_control_plane::{
    auth::Tokens,
    config::{Args, Command, Config},
    revisions::Revisions,
    start::{Options, start},
    store::{Embedded, embedded},
    telemetry::Telemetry,
};
use switchtower_keys::{Pepper, Peppers, random};
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
    fs::create_dir_all(&config.data).with_context(|| format!("{} cannot be made", config.data.display()))?;
    let store = Embedded::open(&config.data.join(STORE), embedded::Options::default())?;
    let tls = match &config.tls {
        Some((certificates, key)) => Some((read(certificates)?, read(key)?)),
        None => None,
    };
    let tokens = Tokens::read(&read(&config.operator_tokens)?, &read(&config.fleet_tokens)?);
    let var = |name: &str| std::env::var(name).ok();
    let exporter = Exporter::from_env(&var, "switchtower-control-plane").map_err(anyhow::Error::msg)?;
    let running = start(Options {
        listen: config.listen,
        admin_listen: config.admin_listen,
        tls,
        store: Arc::new(store),
        tokens: Arc::new(tokens.map_err(all)?),
        peppers: Arc::new(peppers(&config.pepper)?),
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

/// The peppers of the file; new ones, written there, where there is none.
fn peppers(path: &Path) -> anyhow::Result<Peppers> {
    if path.exists() {
        return Peppers::read(&read(path)?).map_err(all).with_context(|| path.display().to_string());
    }
    let peppers = Peppers::first(Pepper::new(random()?));
    peppers.write(path).with_context(|| format!("{} cannot be written", path.display()))?;
    tracing::warn!(file = %path.display(), "a new pepper was made: the nodes need this file too");
    Ok(peppers)
}

fn restore(from: &Path, data: &Path) -> anyhow::Result<ExitCode> {
    fs::create_dir_all(data).with_context(|| format!("{} cannot be made", data.display()))?;
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
