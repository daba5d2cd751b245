//! Who answers `dev`: a fake Bedrock in this process, another endpoint, or real Bedrock.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use aws_credential_types::provider::SharedCredentialsProvider;
use switchtower_data_plane::{config, upstream};
use switchtower_fake_bedrock::{Behaviour, FakeBedrock, Options, RegionScript, Script};
use switchtower_provider::{
    Provider,
    bedrock::{
        Bedrock, Config,
        credentials::{Credentials, Trust},
        endpoint::Endpoints,
    },
};

use super::Args;
use crate::output::{Exit, Failure};

/// The fake's regions: those of the examples.
const REGIONS: [&str; 2] = ["us-east-1", "us-west-2"];

/// Who answers.
pub(super) struct Upstream {
    /// Makes the attempts.
    pub(super) provider: Arc<dyn Provider>,
    /// The fake, where it is the one.
    pub(super) fake: Option<FakeBedrock>,
    /// In words.
    pub(super) words: String,
}

impl Upstream {
    pub(super) async fn start(args: &Args) -> Result<Self, Failure> {
        let given = given(&args.upstreams)?;
        if args.real {
            let provider = upstream::bedrock(&given, &|name| std::env::var(name).ok())
                .map_err(|error| Failure::new(Exit::Failed, format!("Bedrock cannot be reached: {error:#}")))?;
            let words = "real Bedrock, with the AWS credentials that the SDKs find: requests cost money".to_owned();
            return Ok(Upstream { provider: Arc::new(provider), fake: None, words });
        }
        if !given.is_empty() {
            let provider = Arc::new(made_up(&given)?);
            return Ok(Upstream { provider, fake: None, words: args.upstreams.join(", ") });
        }
        let fake = FakeBedrock::start(Options {
            regions: REGIONS.map(str::to_owned).to_vec(),
            control: Some((std::net::Ipv4Addr::LOCALHOST, 0).into()),
            script: script(args)?,
            ..Options::default()
        })
        .await
        .map_err(|error| failed(&error, args))?;
        // A region that the fake does not have is answered by its first: no request must leave for AWS from here.
        let everywhere = (None, fake.endpoint(REGIONS[0]));
        let endpoints = REGIONS.iter().map(|region| (Some((*region).to_owned()), fake.endpoint(region)));
        let endpoints: Vec<_> = endpoints.chain([everywhere]).collect();
        let provider = Arc::new(made_up(&endpoints)?);
        Ok(Upstream { provider, fake: Some(fake), words: "a fake Bedrock in this process".to_owned() })
    }

    /// Ends the fake.
    pub(super) async fn stop(self) {
        if let Some(fake) = self.fake {
            fake.shutdown().await;
        }
    }
}

fn given(upstreams: &[String]) -> Result<Vec<(Option<String>, String)>, Failure> {
    upstreams.iter().map(|written| config::upstream(written).map_err(Failure::usage)).collect()
}

/// At these endpoints, with credentials that open nothing. Regions that have none are refused, unless there is one for
/// all: they would be AWS's own.
fn made_up(upstreams: &[(Option<String>, String)]) -> Result<Bedrock, Failure> {
    let mut endpoints = Endpoints::default();
    if upstreams.iter().all(|(region, _)| region.is_some()) {
        // Nothing listens on this port of loopback, so the attempt fails as a connection that is refused.
        endpoints = endpoints.everywhere("http://127.0.0.1:1").map_err(|error| Failure::usage(error.to_string()))?;
    }
    for (region, url) in upstreams {
        let set = match region {
            Some(region) => endpoints.region(region, url),
            None => endpoints.everywhere(url),
        };
        endpoints = set.map_err(|error| Failure::usage(format!("--upstream: {error}")))?;
    }
    let keys = aws_credential_types::Credentials::new("SWITCHTOWERDEV", "made up", None, None, "switchtower dev");
    let credentials = Credentials::Provider(SharedCredentialsProvider::new(keys));
    Bedrock::new(Config { endpoints, credentials, trust: Trust::default(), clock: Arc::new(SystemTime::now) })
        .map_err(|error| Failure::new(Exit::Failed, format!("the upstream cannot be reached: {error}")))
}

fn script(args: &Args) -> Result<Script, Failure> {
    let Some(path) = &args.script else { return Ok(paced()) };
    let text = std::fs::read_to_string(path).map_err(|error| Failure::io(path.display(), &error))?;
    Script::read(&text).map_err(|error| failed(&error, args))
}

/// Echoes that come as a model's words do, so that streams look like streams.
fn paced() -> Script {
    let behaviour = Behaviour {
        first_token_delay: Duration::from_millis(150),
        tokens_per_second: Some(40.0),
        ..Behaviour::default()
    };
    let region = RegionScript { behaviour, ..RegionScript::default() };
    Script { regions: REGIONS.map(|name| (name.to_owned(), region.clone())).into(), ..Script::default() }
}

fn failed(error: &dyn std::error::Error, args: &Args) -> Failure {
    let causes = std::iter::successors(error.source(), |cause| cause.source()).map(ToString::to_string);
    let (exit, what) = match &args.script {
        Some(path) => (Exit::Data, format!("the fake cannot follow {}: {error}", path.display())),
        None => (Exit::Failed, format!("the fake cannot start: {error}")),
    };
    Failure::new(exit, what).details(causes.collect())
}
