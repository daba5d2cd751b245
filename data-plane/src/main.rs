//! `switchtower-node`: a node as a process.

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use anyhow::Context;
use clap::Parser;
use switchtower_data_plane::{
    config::{self, Args, Config},
    keys::KeyFiles,
    server::tls,
    source::Files,
    start::{Keys, Options, Source, start},
    sync,
    telemetry::{Telemetry, log::SAID, names::Generation, spans::Spans},
    upstream,
};
use switchtower_provider::bedrock::credentials;
use switchtower_telemetry::{export::Exporter, log};
use tokio::signal::unix::{SignalKind, signal};

// Beside the system's own it takes less memory for each open stream and more at rest, and no difference in CPU time was
// measured; what holds it is that it asks for no huge pages (see the root manifest).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// EX_USAGE of sysexits.h: what was written on the command line, or in its files, is wrong.
const USAGE: u8 = 64;

fn main() -> ExitCode {
    let args = Args::parse();
    let config = match Config::of(&args, &host()) {
        Ok(config) => config,
        Err(problems) => {
            for problem in problems {
                eprintln!("switchtower-node: {problem}");
            }
            return ExitCode::from(USAGE);
        }
    };
    if let Err(error) = log::start(args.log_format, &args.log, false, &SAID) {
        eprintln!("switchtower-node: --log: {error}");
        return ExitCode::from(USAGE);
    }
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if let Some(threads) = args.threads {
        runtime.worker_threads(threads);
    }
    let ran = runtime
        .enable_all()
        .build()
        .context("the runtime cannot be started")
        .and_then(|runtime| runtime.block_on(run(config)));
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The region that was written, else the one that the AWS SDK's chain finds: environment, profile, instance.
async fn region(written: String) -> String {
    if !written.is_empty() {
        return written;
    }
    let found = credentials::region().await.unwrap_or_default();
    match found.is_empty() {
        true => tracing::warn!("this node knows no region of its own: targets are tried in the policy's order"),
        false => tracing::info!(region = found, "region found"),
    }
    found
}

/// This machine's name; empty where it cannot be told.
fn host() -> String {
    let told = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    told.or_else(|| std::env::var("HOSTNAME").ok()).unwrap_or_default().trim().to_owned()
}

/// What the files of the configuration hold that must be there before anything runs.
fn source(config: config::Source) -> anyhow::Result<Source> {
    Ok(match config {
        config::Source::Files { policy, keys, pepper } => {
            Source::Files { policy: Files(policy), keys: Keys::Files(KeyFiles { keys, pepper }) }
        }
        config::Source::ControlPlane { endpoints, ca, token, environment, node_id, data, pepper } => {
            let read = |ca: PathBuf| {
                std::fs::read(&ca).with_context(|| format!("--control-plane-ca {} cannot be read", ca.display()))
            };
            Source::ControlPlane(Box::new(sync::Options {
                endpoints,
                ca: ca.map(read).transpose()?,
                environment,
                node_id,
                data,
                token: sync::Token::File(token),
                pepper: sync::PepperSource::File(pepper),
                pace: sync::Pace::default(),
            }))
        }
    })
}

fn all(problems: Vec<String>) -> anyhow::Error {
    anyhow::Error::msg(problems.join("\n"))
}

async fn run(config: Config) -> anyhow::Result<()> {
    tracing::info!("{config}");
    let var = |name: &str| std::env::var(name).ok();
    let names = Generation::of(var("OTEL_SEMCONV_STABILITY_OPT_IN").as_deref());
    let exporter = Exporter::from_env(&var, "switchtower-node").map_err(anyhow::Error::msg)?;
    let spans = exporter.map(|exporter| Spans::new(exporter, names));
    let provider = upstream::bedrock(&config.upstreams, &var)?;
    let tls = config.tls.as_ref().map(|(cert, key)| tls::read(cert, key)).transpose().map_err(all)?;
    let running = start(Options {
        listen: config.listen,
        admin_listen: config.admin_listen,
        tls,
        source: source(config.source)?,
        region: region(config.region).await.into(),
        provider: Arc::new(provider),
        telemetry: Arc::new(Telemetry::new(names, spans)),
        most_body_bytes: config.max_body_bytes,
        drain: config.drain,
    })
    .await?;
    tracing::info!(listen = %running.address, admin_listen = %running.admin_address, "node up");
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => {}
        interrupted = tokio::signal::ctrl_c() => interrupted?,
    }
    tracing::info!("ending: open requests may finish");
    running.stop().await;
    Ok(())
}
