//! What `dev` prints when it is up: where everything is, the key, and three things to try.

use std::{collections::BTreeMap, fmt, net::SocketAddr, path::Path};

use serde_json::{Value, json};
use switchtower_data_plane::start::Running;

use super::{
    REGION,
    first::First,
    key::DevKey,
    tries::{Try, tries},
    upstream::Upstream,
};
use crate::output::{DIM, STRONG, WARNING};

/// What there is.
pub(super) struct Welcome {
    address: SocketAddr,
    admin: SocketAddr,
    policy: String,
    revision: Option<String>,
    upstream: String,
    fake: BTreeMap<String, String>,
    control: Option<String>,
    caller: Option<String>,
    key: String,
    access_key_id: String,
    secret_access_key: String,
    tries: Vec<Try>,
}

impl Welcome {
    pub(super) fn of(
        running: &Running,
        key: &DevKey,
        policy: &Path,
        upstream: &Upstream,
        first: Option<First>,
    ) -> Self {
        let fake = upstream.fake.as_ref();
        let endpoints =
            fake.map(|fake| fake.regions().iter().map(|region| (region.clone(), fake.endpoint(region))).collect());
        let policy = policy.display().to_string();
        Welcome {
            address: running.address,
            admin: running.admin_address,
            revision: running.policy.now().revision.map(|revision| revision.to_string()),
            upstream: upstream.words.clone(),
            fake: endpoints.unwrap_or_default(),
            control: fake.and_then(|fake| fake.control_url()),
            caller: key.caller().map(str::to_owned),
            key: key.issued.bearer.clone(),
            access_key_id: key.issued.access_key_id.clone(),
            secret_access_key: key.issued.secret_access_key.clone(),
            tries: first.map(|first| tries(running.address, key, &first, &policy)).unwrap_or_default(),
            policy,
        }
    }

    /// Whether there is something to try yet.
    pub(super) fn tells_tries(&self) -> bool {
        !self.tries.is_empty()
    }

    /// What to try, where it could not be told at first.
    pub(super) fn tries(&self, key: &DevKey, first: &First) -> String {
        Tries(&tries(self.address, key, first, &self.policy)).to_string()
    }

    /// For programs.
    pub(super) fn document(&self) -> Value {
        json!({
            "event": "up",
            "endpoint": format!("http://{}", self.address),
            "admin": format!("http://{}", self.admin),
            "policy": self.policy,
            "revision": self.revision,
            "region": REGION,
            "upstream": self.upstream,
            "fake": self.fake,
            "fake_control": self.control,
            "caller": self.caller,
            "api_key": self.key,
            "aws_access_key_id": self.access_key_id,
            "aws_secret_access_key": self.secret_access_key,
            "try": self.tries,
        })
    }
}

impl fmt::Display for Welcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n{STRONG}switchtower dev{STRONG:#}: a node in {REGION}, answered by {}\n", self.upstream)?;
        writeln!(f, "  callers       http://{}  {DIM}gRPC and Bedrock Runtime{DIM:#}", self.address)?;
        writeln!(f, "  admin         http://{}  {DIM}/readyz /metrics{DIM:#}", self.admin)?;
        for (region, url) in &self.fake {
            writeln!(f, "  fake          {url}  {DIM}{region}{DIM:#}")?;
        }
        if let Some(control) = &self.control {
            let fault = r#"{"fail":{"error":"ServiceUnavailableException"}}"#;
            writeln!(f, "  its control   {control}")?;
            writeln!(
                f,
                "                {DIM}break a region: curl -X PATCH {control}/region/{REGION} -d '{fault}'{DIM:#}"
            )?;
            writeln!(f, "                {DIM}mend all: curl -X POST {control}/heal{DIM:#}")?;
        }
        match &self.revision {
            Some(revision) => writeln!(f, "  policy        {}, revision {revision}", self.policy)?,
            None => writeln!(
                f,
                "  policy        {WARNING}{} is refused, as told above{WARNING:#}: correct it, and it serves about a second later",
                self.policy
            )?,
        }
        match &self.caller {
            Some(caller) => writeln!(f, "  key           {}  {DIM}for caller `{caller}`{DIM:#}", self.key)?,
            None => writeln!(f, "  key           {}  {DIM}for the policy's first caller{DIM:#}", self.key)?,
        }
        writeln!(f, "  its AWS pair  {} {}", self.access_key_id, self.secret_access_key)?;
        write!(f, "{}", Tries(&self.tries))?;
        writeln!(f, "\n{DIM}The policy is read again when it changes. Ctrl-C ends everything.{DIM:#}\n")
    }
}

struct Tries<'a>(&'a [Try]);

impl fmt::Display for Tries<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, Try { what, command, or }) in (1..).zip(self.0) {
            writeln!(f, "\n{STRONG}{number}.{STRONG:#} {what}")?;
            if let Some(command) = command {
                writeln!(f, "   {command}")?;
            }
            if let Some(or) = or {
                writeln!(f, "   {DIM}or {}:{DIM:#}\n   {DIM}{}{DIM:#}", or.what, or.command)?;
            }
        }
        Ok(())
    }
}
