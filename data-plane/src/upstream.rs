//! The provider of a node, as the environment and the command line say.

use std::{sync::Arc, time::SystemTime};

use anyhow::Context;
use switchtower_provider::bedrock::{
    Bedrock, Config,
    credentials::{Credentials, Trust},
    endpoint::Endpoints,
};

/// Bedrock by the ordinary AWS environment: credential chain or API key, CA bundle, endpoint URLs; `upstreams` (region,
/// `None`: all, and URL) go before the environment's endpoints.
///
/// # Errors
/// What of it cannot be used.
pub fn bedrock(
    upstreams: &[(Option<String>, String)],
    var: &impl Fn(&str) -> Option<String>,
) -> anyhow::Result<Bedrock> {
    let mut endpoints = Endpoints::from_env(var)?;
    for (region, url) in upstreams {
        endpoints = match region {
            Some(region) => endpoints.region(region, url)?,
            None => endpoints.everywhere(url)?,
        };
    }
    let credentials = Credentials::from_env(var).context("AWS_BEARER_TOKEN_BEDROCK")?;
    let config = Config { endpoints, credentials, trust: Trust::from_env(var), clock: Arc::new(SystemTime::now) };
    Bedrock::new(config).context("Bedrock cannot be reached")
}
