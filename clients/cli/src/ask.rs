//! `switchtower ask`: one request, its answer as it comes, and what served it.

use std::{
    io::{self, IsTerminal, Read},
    path::PathBuf,
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use switchtower_client::{
    CallOptions, Client, Event, Options, Request, text,
    wire::{End, block_delta::Delta},
};

use self::shown::Shown;
use crate::{
    args::pair,
    duration,
    output::{Exit, Failure, Output},
};

mod refusal;
mod served;
mod shown;

/// How long connecting may take, where the whole request may take longer.
const CONNECT: Duration = Duration::from_secs(5);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Route or alias to ask.
    route: String,
    /// What to ask; `-`, or nothing at all: what is on standard input.
    prompt: Option<String>,
    /// Where a node is.
    #[arg(long, env = "SWITCHTOWER_ENDPOINT", value_name = "URL", default_value = "http://127.0.0.1:8080")]
    endpoint: String,
    /// Key to show, as `switchtower key new` makes one.
    #[arg(long, env = "SWITCHTOWER_API_KEY", value_name = "KEY", hide_env_values = true)]
    api_key: Option<String>,
    /// Certificates (PEM) to trust instead of the system's.
    #[arg(long, env = "SWITCHTOWER_CA", value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Instructions above the conversation.
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// A fact for the policy's conditions, such as session=s-17; may be repeated.
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    metadata: Vec<(String, String)>,
    /// Most output tokens; without it, as many as the route allows.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_tokens: Option<u32>,
    /// Randomness, 0 to 1; without it, the model's own.
    #[arg(long, value_name = "F", value_parser = temperature)]
    temperature: Option<f32>,
    /// How long to wait for the whole answer; without it, as long as the route allows.
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    timeout: Option<Duration>,
    /// Ask for the whole answer at once.
    #[arg(long)]
    no_stream: bool,
}

fn temperature(text: &str) -> Result<f32, String> {
    text.parse().ok().filter(|f| (0.0..=1.0).contains(f)).ok_or_else(|| "write a number from 0 to 1".to_owned())
}

pub(crate) async fn run(args: Args, output: Output) -> Result<Exit, Failure> {
    let prompt = prompt(args.prompt.as_deref())?;
    tokio::select! {
        ended = ask(&args, prompt, output) => ended.map(|()| Exit::Success),
        interrupted = tokio::signal::ctrl_c() => match interrupted {
            // The call is dropped, and with it cancelled at the node.
            Ok(()) => Ok(Exit::Interrupted),
            Err(error) => Err(Failure::new(Exit::Failed, format!("Ctrl-C cannot be watched: {error}"))),
        },
    }
}

fn prompt(written: Option<&str>) -> Result<String, Failure> {
    let prompt = match written {
        Some(prompt) if prompt != "-" => prompt.to_owned(),
        None if io::stdin().is_terminal() => {
            return Err(Failure::usage("there is nothing to ask")
                .next("write the prompt after the route, or pipe it in: `echo hello | switchtower ask ROUTE`"));
        }
        _ => {
            let mut read = String::new();
            let stdin = io::stdin().lock().read_to_string(&mut read);
            stdin.map_err(|error| Failure::io("the prompt cannot be read from standard input", &error))?;
            read
        }
    };
    match prompt.trim().is_empty() {
        true => Err(Failure::usage("the prompt is empty").next("write what to ask after the route")),
        false => Ok(prompt),
    }
}

async fn ask(args: &Args, prompt: String, output: Output) -> Result<(), Failure> {
    let mut options = CallOptions::new();
    if let Some(timeout) = args.timeout {
        options = options.deadline(timeout);
    }
    let asked = Instant::now();
    let client = connect(args).await?;
    let (answer, end) = match args.no_stream {
        true => {
            let answer = client.generate(request(args, prompt), options).await;
            let answer = answer.map_err(|error| refusal::failure(&error, args))?;
            let mut shown = Shown::new(output);
            shown.more(&text(&answer))?;
            (shown.end()?, answer.end.unwrap_or_default())
        }
        false => stream(&client, request(args, prompt), options, args, output).await?,
    };
    let took = asked.elapsed();
    match output.is_json() {
        true => output.json(&served::document(&answer, &end, took)),
        false => {
            output.note(served::words(&end, took));
            Ok(())
        }
    }
}

async fn connect(args: &Args) -> Result<Client, Failure> {
    let timeout = args.timeout.map_or(CONNECT, |timeout| timeout.min(CONNECT));
    let mut options = Options::new(&args.endpoint)
        .connect_timeout(timeout)
        .user_agent(concat!("switchtower-cli/", env!("CARGO_PKG_VERSION")));
    if let Some(key) = &args.api_key {
        options = options.api_key(key);
    }
    if let Some(ca) = &args.ca {
        let pem = std::fs::read_to_string(ca).map_err(|error| Failure::io(ca.display(), &error))?;
        options = options.ca(pem);
    }
    Client::connect(options).await.map_err(|error| refusal::failure(&error, args))
}

fn request(args: &Args, prompt: String) -> Request {
    let mut request = Request::text(&args.route, prompt);
    if let Some(system) = &args.system {
        request = request.system(system);
    }
    if let Some(tokens) = args.max_tokens {
        request = request.max_tokens(tokens);
    }
    if let Some(temperature) = args.temperature {
        request = request.temperature(temperature);
    }
    args.metadata.iter().fold(request, |request, (key, value)| request.metadata(key, value))
}

/// Shows the answer as it comes; gives its text and its end.
async fn stream(
    client: &Client,
    request: Request,
    options: CallOptions,
    args: &Args,
    output: Output,
) -> Result<(String, End), Failure> {
    let mut events = client.stream(request, options).await.map_err(|error| refusal::failure(&error, args))?;
    let mut shown = Shown::new(output);
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::BlockDelta(delta)) => {
                if let Some(Delta::Text(text)) = delta.delta {
                    shown.more(&text)?;
                }
            }
            Ok(Event::End(end)) => return Ok((shown.end()?, end)),
            Ok(_) => {}
            Err(error) => {
                shown.end()?;
                return Err(refusal::failure(&error, args));
            }
        }
    }
    // The client makes an error of a stream without an end, so this says only what the compiler cannot know.
    shown.end()?;
    Err(Failure::new(Exit::Again, "the stream stopped before its end"))
}
