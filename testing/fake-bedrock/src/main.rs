//! `fake-bedrock`: the fake as a program, for people and for benchmarks.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use anyhow::{Context, bail};
use clap::Parser;
use switchtower_fake_bedrock::{FakeBedrock, Options, Script};
use tracing_subscriber::EnvFilter;

/// A scripted Bedrock Runtime: Converse and ConverseStream in as many regions as you like, with scripted faults.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// A region and where it listens, such as us-east-1=127.0.0.1:9001; repeat it for more, on the same address.
    #[arg(long = "region", value_name = "NAME=ADDRESS", required = true, value_parser = region)]
    regions: Vec<(String, SocketAddr)>,
    /// Where to take scripts and give counts over HTTP; without it the fake cannot be changed while it runs.
    #[arg(long, value_name = "ADDRESS")]
    control: Option<SocketAddr>,
    /// A script in YAML or JSON.
    #[arg(long, value_name = "FILE")]
    script: Option<PathBuf>,
    /// What chance follows from.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// How many of the last requests to keep; 0 for benchmarks.
    #[arg(long, value_name = "N", default_value_t = 256)]
    keep_requests: usize,
    /// Worker threads; without it, one for each core.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
}

/// A mistake in how it was called, as sysexits.h has it.
const USAGE: u8 = 64;

fn main() -> ExitCode {
    let args = Args::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let threads = args.threads;
    let options = match options(args) {
        Ok(options) => options,
        Err(error) => return fail(&error, USAGE),
    };
    match runtime(threads).and_then(|runtime| runtime.block_on(run(options))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error, 1),
    }
}

fn fail(error: &anyhow::Error, code: u8) -> ExitCode {
    eprintln!("fake-bedrock: {error:#}");
    ExitCode::from(code)
}

fn runtime(threads: Option<u16>) -> anyhow::Result<tokio::runtime::Runtime> {
    let mut builder = match threads {
        Some(1) => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    if let Some(threads) = threads.filter(|threads| *threads > 1) {
        builder.worker_threads(threads.into());
    }
    builder.enable_all().build().context("cannot start the runtime")
}

async fn run(options: Options) -> anyhow::Result<()> {
    let fake = FakeBedrock::start(options).await?;
    for region in fake.regions() {
        println!("{region} {}", fake.endpoint(region));
    }
    if let Some(url) = fake.control_url() {
        println!("control {url}");
    }
    tokio::signal::ctrl_c().await.context("cannot wait for ctrl-c")?;
    fake.shutdown().await;
    Ok(())
}

fn options(args: Args) -> anyhow::Result<Options> {
    let listen = args.regions.first().context("there must be a region")?.1.ip();
    if let Some((name, address)) = args.regions.iter().find(|(_, address)| address.ip() != listen) {
        bail!("region {name} listens on {}, others on {listen}: give all regions the same address", address.ip());
    }
    let script = match args.script {
        Some(path) => {
            let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            Script::read(&text).with_context(|| format!("{} is no script", path.display()))?
        }
        None => Script::default(),
    };
    let (regions, addresses): (Vec<String>, Vec<SocketAddr>) = args.regions.into_iter().unzip();
    let ports = Some(addresses.iter().map(SocketAddr::port).collect());
    let (control, seed, keep_requests) = (args.control, args.seed, args.keep_requests);
    Ok(Options { regions, listen, ports, control, script, seed, keep_requests })
}

fn region(text: &str) -> Result<(String, SocketAddr), String> {
    let (name, address) = text.split_once('=').ok_or("write it like us-east-1=127.0.0.1:9001")?;
    let address = address.parse().map_err(|_| format!("`{address}` is no address with a port"))?;
    Ok((name.to_owned(), address))
}
