//! `switchtower dev`: a node and a fake Bedrock in one process on loopback, from policy files that are read again when
//! they change.
//!
//! It is the node that production runs, started by the same function. What differs is its identity (one key, made here
//! and shown in the clear, so it listens on loopback only) and, unless told otherwise, who answers.

use std::{
    future::Future,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use switchtower_data_plane::{
    source::Files,
    start::{Keys, Options, Running, Source, start},
    telemetry::{Telemetry, log::SAID, names::Generation, spans::Spans},
};
use switchtower_telemetry::{export::Exporter, log};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use self::{key::DevKey, upstream::Upstream, welcome::Welcome};
use crate::output::{Exit, Failure, Output};

mod first;
mod key;
mod listen;
mod tries;
mod upstream;
mod welcome;

/// Region that the node says it runs in; the examples have targets there.
const REGION: &str = "us-east-1";
/// How long open requests may go on after Ctrl-C: nobody but whoever pressed it waits for them.
const DRAIN: Duration = Duration::from_secs(5);
/// As the node's own default.
const MOST_BODY_BYTES: usize = 25_000_000;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder of policy files, or one file; without it examples/dev, with --real examples/real.
    #[arg(long, env = "SWITCHTOWER_POLICY", value_name = "DIR")]
    policy: Option<PathBuf>,
    /// Where callers come in, on loopback; without it 127.0.0.1:8080, or another port if that one is taken.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Where /healthz, /readyz and /metrics are, on loopback; without it 127.0.0.1:9090, or another port.
    #[arg(long, value_name = "ADDRESS")]
    admin_listen: Option<SocketAddr>,
    /// Key that callers show, in place of a new one.
    #[arg(long, value_name = "KEY")]
    api_key: Option<String>,
    /// Another Bedrock-compatible endpoint in the fake's place, for all regions (URL) or one (REGION=URL); may be
    /// repeated. Requests are signed with made-up credentials, unless --real is given too.
    #[arg(long = "upstream", value_name = "URL")]
    upstreams: Vec<String>,
    /// Real Bedrock in the fake's place, with the AWS credentials that the SDKs would find. Requests cost money.
    #[arg(long)]
    real: bool,
    /// What the fake does, in YAML or JSON; without it, it echoes at a model's pace.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["real", "upstreams"])]
    script: Option<PathBuf>,
    /// Which log lines there are, as `tracing` filters write it; requests are under `switchtower::request`.
    #[arg(long, env = "SWITCHTOWER_LOG", value_name = "FILTER", default_value = "info")]
    log: String,
}

pub(crate) async fn run(args: Args, output: Output) -> Result<Exit, Failure> {
    let policy = policy(&args)?;
    let listen = listen::callers(args.listen, output)?;
    let admin_listen = listen::admin(args.admin_listen, output)?;
    let key = DevKey::new(args.api_key.as_deref())?;
    start_log(&args.log, output)?;
    // Before anything runs that would have to be ended.
    let interrupted = interruption()?;
    let upstream = Upstream::start(&args).await?;
    let running = start(Options {
        listen,
        admin_listen,
        tls: None,
        source: Source::Files { policy: Files(policy.clone()), keys: Keys::Fixed(Box::new(key.nobodys()?)) },
        region: REGION.into(),
        provider: upstream.provider.clone(),
        telemetry: telemetry()?,
        most_body_bytes: MOST_BODY_BYTES,
        drain: DRAIN,
    })
    .await
    .map_err(|error| {
        Failure::new(Exit::Failed, format!("the node cannot start: {error:#}"))
            .next("give --listen or --admin-listen another address; port 0 takes any that is free")
    })?;
    serve(&running, key, &policy, &upstream, interrupted, output).await?;
    output.note("ending: open requests may finish; Ctrl-C again ends at once");
    let hurried = interruption()?;
    tokio::select! {
        () = end(running, upstream) => Ok(Exit::Success),
        () = hurried => Ok(Exit::Interrupted),
    }
}

/// Tells what there is, and serves until interrupted.
async fn serve(
    running: &Running,
    mut key: DevKey,
    policy: &Path,
    upstream: &Upstream,
    interrupted: impl Future<Output = ()>,
    output: Output,
) -> Result<(), Failure> {
    let first = key.bind(policy, &running.node);
    let welcome = Welcome::of(running, &key, policy, upstream, first);
    match output.is_json() {
        true => output.json(&welcome.document())?,
        false => output.text(&welcome)?,
    }
    let stop = CancellationToken::new();
    let told = welcome.tells_tries();
    let follow = key.follow(policy.to_owned(), running.node.clone(), stop.clone(), move |key, first| {
        // What could not be told at first, because there was no policy.
        if !told && !output.is_json() {
            let _ = output.text(welcome.tries(key, first));
        }
    });
    let follow = tokio::spawn(follow);
    interrupted.await;
    stop.cancel();
    // It ends by the token; a panic in it has been told already.
    let _ = follow.await;
    Ok(())
}

async fn end(running: Running, upstream: Upstream) {
    running.stop().await;
    upstream.stop().await;
}

fn policy(args: &Args) -> Result<PathBuf, Failure> {
    let example = if args.real { "examples/real" } else { "examples/dev" };
    match &args.policy {
        Some(policy) if policy.exists() => Ok(policy.clone()),
        Some(policy) => Err(Failure::usage(format!("--policy {} does not exist", policy.display()))
            .next("name a folder of .yaml files, or one file")),
        None if Path::new(example).is_dir() => Ok(example.into()),
        None => Err(Failure::usage(format!("there is no folder {example} here to take the policy from"))
            .next("give --policy DIR, a folder of policy files, or go where the examples are")),
    }
}

fn start_log(filter: &str, output: Output) -> Result<(), Failure> {
    let format = if output.is_json() { log::Format::Json } else { log::Format::Text };
    let colours = anstream::AutoStream::choice(&std::io::stderr()) != anstream::ColorChoice::Never;
    log::start(format, filter, colours, &SAID).map_err(|error| {
        Failure::usage(format!("--log: {error}"))
            .next("write a filter such as `info` or `warn,switchtower::request=info`")
    })
}

fn telemetry() -> Result<Arc<Telemetry>, Failure> {
    let var = |name: &str| std::env::var(name).ok();
    let names = Generation::of(var("OTEL_SEMCONV_STABILITY_OPT_IN").as_deref());
    let exporter = Exporter::from_env(&var, "switchtower-dev").map_err(Failure::usage)?;
    let spans = exporter.map(|exporter| Spans::new(exporter, names));
    Ok(Arc::new(Telemetry::new(names, spans)))
}

/// Resolves at the next Ctrl-C or SIGTERM from now on.
fn interruption() -> Result<impl Future<Output = ()>, Failure> {
    let failed = |error| Failure::new(Exit::Failed, format!("signals cannot be watched: {error}"));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}
