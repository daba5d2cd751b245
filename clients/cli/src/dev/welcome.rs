//! What `dev` prints when it is up: where everything is, the key, and three things to try.

use std::{collections::BTreeMap, fmt, path::Path};

use serde_json::{Value, json};

use super::{
    Begun, Written,
    place::Place,
    tower::{REGIONS, Tower},
    tries::{About, Try, program, tries, word},
    upstream::Upstream,
};
use crate::output::{DIM, STRONG, WARNING};

/// What there is.
pub(super) struct Welcome {
    environment: String,
    control: String,
    control_admin: String,
    token_file: String,
    nodes: Vec<Shown>,
    policy: String,
    refused: bool,
    upstream: String,
    fake: BTreeMap<String, String>,
    fake_control: Option<String>,
    key: Option<Key>,
    tries: Vec<Try>,
}

/// A node.
struct Shown {
    id: String,
    region: &'static str,
    endpoint: String,
    admin: String,
    revision: Option<String>,
}

/// The key.
struct Key {
    caller: String,
    bearer: String,
    access_key_id: String,
    secret_access_key: String,
}

impl Welcome {
    pub(super) fn of(
        tower: &Tower,
        place: &Place,
        written: &Written,
        policy: &Path,
        upstream: &Upstream,
        begun: Begun,
    ) -> Self {
        let fake = upstream.fake.as_ref();
        let endpoints =
            fake.map(|fake| fake.regions().iter().map(|region| (region.clone(), fake.endpoint(region))).collect());
        let policy = policy.display().to_string();
        let token_file = place.operator_token_file();
        let callers = tower.nodes[0].running.address;
        let about = About { callers, control: tower.plane.address, token_file: &token_file, policy: &policy };
        let tries = match (&begun.key, &begun.first) {
            (Some(key), Some(first)) => tries(&about, key, first),
            _ => Vec::new(),
        };
        let nodes = tower.nodes.iter().map(|node| Shown {
            id: node.id.clone(),
            region: node.region,
            endpoint: format!("http://{}", node.running.address),
            admin: format!("http://{}", node.running.admin_address),
            revision: node.running.policy.now().revision.map(|revision| revision.to_string()),
        });
        Welcome {
            environment: written.environment.clone(),
            control: format!("http://{}", tower.plane.address),
            control_admin: format!("http://{}", tower.plane.admin_address),
            token_file: token_file.display().to_string(),
            nodes: nodes.collect(),
            refused: written.snapshot.is_err(),
            upstream: upstream.words.clone(),
            fake: endpoints.unwrap_or_default(),
            fake_control: fake.and_then(|fake| fake.control_url()),
            key: begun.key.map(|key| Key {
                caller: key.caller,
                bearer: key.issued.bearer,
                access_key_id: key.issued.access_key_id,
                secret_access_key: key.issued.secret_access_key,
            }),
            tries,
            policy,
        }
    }

    /// For programs.
    pub(super) fn document(&self) -> Value {
        let nodes = self.nodes.iter().map(|node| {
            json!({
                "id": node.id,
                "region": node.region,
                "endpoint": node.endpoint,
                "admin": node.admin,
                "revision": node.revision,
            })
        });
        let first = &self.nodes[0];
        let key = self.key.as_ref();
        json!({
            "event": "up",
            "environment": self.environment,
            "control_plane": self.control,
            "control_plane_admin": self.control_admin,
            "token_file": self.token_file,
            "nodes": nodes.collect::<Vec<_>>(),
            "endpoint": first.endpoint,
            "admin": first.admin,
            "revision": first.revision,
            "policy": self.policy,
            "upstream": self.upstream,
            "fake": self.fake,
            "fake_control": self.fake_control,
            "caller": key.map(|key| &key.caller),
            "api_key": key.map(|key| &key.bearer),
            "aws_access_key_id": key.map(|key| &key.access_key_id),
            "aws_secret_access_key": key.map(|key| &key.secret_access_key),
            "try": self.tries,
        })
    }
}

impl fmt::Display for Welcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.nodes.len();
        writeln!(
            f,
            "\n{STRONG}switchtower dev{STRONG:#}: a control plane and {count} nodes, answered by {}\n",
            self.upstream
        )?;
        writeln!(f, "  control plane  {}  {DIM}operators and nodes{DIM:#}", self.control)?;
        for node in &self.nodes {
            let serving = node.revision.as_ref().map_or("serves nothing yet".to_owned(), |it| format!("revision {it}"));
            writeln!(
                f,
                "  node           {}  {DIM}{}, {serving}; admin {}{DIM:#}",
                node.endpoint, node.id, node.admin
            )?;
        }
        self.fake(f)?;
        match self.refused {
            false => writeln!(f, "  policy         {}, environment `{}`", self.policy, self.environment)?,
            true => writeln!(
                f,
                "  policy         {WARNING}{} is refused, as told above{WARNING:#}: correct it, then apply it",
                self.policy
            )?,
        }
        match &self.key {
            Some(key) => {
                writeln!(f, "  key            {}  {DIM}for caller `{}`{DIM:#}", key.bearer, key.caller)?;
                writeln!(f, "  its AWS pair   {} {}", key.access_key_id, key.secret_access_key)?;
            }
            None => {
                writeln!(f, "  key            {DIM}none yet: `switchtower key new --caller NAME` makes one{DIM:#}")?
            }
        }
        for (number, Try { what, command, or }) in (1..).zip(&self.tries) {
            writeln!(f, "\n{STRONG}{number}.{STRONG:#} {what}")?;
            if let Some(command) = command {
                writeln!(f, "   {command}")?;
            }
            if let Some(or) = or {
                writeln!(f, "   {DIM}or {}:{DIM:#}\n   {DIM}{}{DIM:#}", or.what, or.command)?;
            }
        }
        writeln!(f, "\n{DIM}For more from another terminal (status, history, diff, rollback, key, events, watch):")?;
        writeln!(
            f,
            "   export SWITCHTOWER_CONTROL_PLANE={} SWITCHTOWER_TOKEN_FILE={} SWITCHTOWER_ENVIRONMENT={}",
            self.control,
            word(&self.token_file),
            self.environment
        )?;
        writeln!(f, "   {} status\nCtrl-C ends everything.{DIM:#}\n", word(&program()))
    }
}

impl Welcome {
    fn fake(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (region, url) in &self.fake {
            writeln!(f, "  fake           {url}  {DIM}{region}{DIM:#}")?;
        }
        if let Some(control) = &self.fake_control {
            let fault = r#"{"fail":{"error":"ServiceUnavailableException"}}"#;
            let region = REGIONS[0];
            writeln!(f, "  its control    {control}")?;
            writeln!(
                f,
                "                 {DIM}break a region: curl -X PATCH {control}/region/{region} -d '{fault}'{DIM:#}"
            )?;
            writeln!(f, "                 {DIM}mend all: curl -X POST {control}/heal{DIM:#}")?;
        }
        Ok(())
    }
}
