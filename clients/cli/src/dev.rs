//! `switchtower dev`: a control plane, nodes in two regions and a fake Bedrock in one process on loopback.
//!
//! They are what production runs, started by the same functions and talking over the same wire. What differs is identity (one
//! operator, one key, made here and shown in the clear, so it listens on loopback only), where the state is, and, unless told
//! otherwise, who answers.

use std::{
    future::Future,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use switchtower_client::control::{Client, wire};
use switchtower_data_plane::{source::Files, telemetry::log::SAID};
use switchtower_policy::{File, Snapshot, Violation, items, load, read};
use switchtower_telemetry::log;
use tokio::signal::unix::{SignalKind, signal};

use self::{first::First, key::DevKey, place::Place, tower::Tower, upstream::Upstream, welcome::Welcome};
use crate::output::{Exit, Failure, Output};

mod first;
mod key;
mod listen;
mod place;
mod tower;
mod tries;
mod upstream;
mod welcome;

/// How long nodes may take to serve what is there at the start.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder of policy files, or one file, that is applied where nothing is yet; without it examples/dev, with --real
    /// examples/real.
    #[arg(long, env = "SWITCHTOWER_POLICY", value_name = "DIR")]
    policy: Option<PathBuf>,
    /// Folder of its state: the store, the nodes' last known good, tokens, the pepper; a temporary one unless told.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// How many nodes run in each of the two regions.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=50))]
    nodes_per_region: u16,
    /// Where operators and nodes reach the control plane, on loopback; without it 127.0.0.1:7070, or another port.
    #[arg(long, value_name = "ADDRESS")]
    control_listen: Option<SocketAddr>,
    /// Where callers come in at the first node, on loopback; without it 127.0.0.1:8080, or another port if that one is taken.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Where the first node's /healthz, /readyz and /metrics are, on loopback; without it 127.0.0.1:9090, or another port.
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
    let first_node = (listen::callers(args.listen, output)?, listen::admin(args.admin_listen, output)?);
    let control = listen::control(args.control_listen, output)?;
    let place = Place::of(args.data.as_deref())?;
    key::check(args.api_key.as_deref(), &place.peppers)?;
    start_log(&args.log, output)?;
    // Before anything runs that would have to be ended.
    let interrupted = interruption()?;
    let upstream = Upstream::start(&args).await?;
    let written = Written::of(&policy)?;
    let mut tower = Tower::start(&place, control).await?;
    let serves = applied(&tower, &place, &written).await?;
    tower.start_nodes(args.nodes_per_region, first_node, &place, &written.environment, &upstream).await?;
    let begun = begin(&tower, &place, &written, serves, args.api_key.as_deref()).await?;
    let welcome = Welcome::of(&tower, &place, &written, &policy, &upstream, begun);
    match output.is_json() {
        true => output.json(&welcome.document())?,
        false => output.text(&welcome)?,
    }
    interrupted.await;
    output.note("ending: open requests may finish; Ctrl-C again ends at once");
    let hurried = interruption()?;
    tokio::select! {
        () = end(tower, upstream) => Ok(Exit::Success),
        () = hurried => Ok(Exit::Interrupted),
    }
}

/// The policy as it is written in its files.
struct Written {
    /// The environment that it is for, `dev` where that cannot be read.
    environment: String,
    files: Vec<File>,
    items: Vec<switchtower_client::control::policy::Item>,
    /// Its compiled form, or why there is none.
    snapshot: Result<Snapshot, Vec<Violation>>,
}

impl Written {
    fn of(policy: &Path) -> Result<Self, Failure> {
        let files: Vec<File> =
            Files(policy.to_owned()).read().map_err(|error| Failure::io(policy.display(), &error))?;
        let reading = read(&files);
        let environment = match reading.policy.environment.as_str() {
            "" => "dev".to_owned(),
            name => name.to_owned(),
        };
        let snapshot = load(&files).map(|compiled| compiled.snapshot);
        Ok(Written { environment, items: items::items(&reading.policy), files, snapshot })
    }
}

/// What there is to try at the start.
struct Begun {
    key: Option<DevKey>,
    first: Option<First>,
}

/// Applies the policy where nothing is applied yet. Gives whether something is.
async fn applied(tower: &Tower, place: &Place, written: &Written) -> Result<bool, Failure> {
    let client = tower.client(place).await?;
    if is_applied(&client, &written.environment).await? {
        return Ok(true);
    }
    match &written.snapshot {
        Ok(_) => apply(&client, written).await?,
        Err(violations) => violations.iter().for_each(|violation| tracing::error!("{violation}")),
    }
    Ok(written.snapshot.is_ok())
}

/// Waits for the nodes where they have something to serve, and makes the key.
async fn begin(
    tower: &Tower,
    place: &Place,
    written: &Written,
    serves: bool,
    api_key: Option<&str>,
) -> Result<Begun, Failure> {
    if serves {
        // Whoever does not serve by then says why in the log.
        tower.serves_within(PATIENCE).await;
    }
    let serving = tower.nodes.iter().find_map(|node| node.running.node.current.load());
    let first = serving.as_ref().and_then(|serving| first::of(&written.files, serving));
    let key = match &first {
        Some(first) => Some(key::of(&first.caller, &written.environment, api_key, place, &tower.plane).await?),
        None => None,
    };
    if let Some(key) = &key {
        tower.lets_in_within(&key.issued.bearer, PATIENCE).await;
    }
    Ok(Begun { key, first })
}

async fn is_applied(client: &Client, environment: &str) -> Result<bool, Failure> {
    let answer = client.list_environments(wire::ListEnvironmentsRequest {}).await.map_err(|error| asked(&error))?;
    Ok(answer.environments.iter().any(|there| there.name == environment))
}

async fn apply(client: &Client, written: &Written) -> Result<(), Failure> {
    let request = wire::ApplyRequest {
        environment: written.environment.clone(),
        items: written.items.clone(),
        parent: Some(0),
        message: "what `switchtower dev` began with".to_owned(),
        ..wire::ApplyRequest::default()
    };
    client.apply(request).await.map(drop).map_err(|error| asked(&error))
}

fn asked(error: &switchtower_client::control::Error) -> Failure {
    Failure::new(Exit::Failed, format!("the control plane of `dev`: {error}"))
}

async fn end(tower: Tower, upstream: Upstream) {
    tower.stop().await;
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
