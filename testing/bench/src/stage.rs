//! What a measurement needs around it: a fake Bedrock, the proxy and the node before it, keys, policies, a collector.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::SystemTime,
};

use anyhow::Context;
use serde_json::Value;
use switchtower_keys::{File, Pepper, Peppers, new_key, random};
use tempfile::TempDir;

use crate::{
    caller::Way,
    collector::Collector,
    policy::{self, CALLER, REGION},
    process::{Process, Start},
    proxy,
    scene::{self, Scene},
};

/// Routes of the policy that the measured node serves.
pub(crate) const ROUTES: usize = 1000;

/// What all measurements share. Dropping it ends the fake and removes the files.
pub(crate) struct Stage {
    directory: TempDir,
    fake: SocketAddr,
    _fake: Process,
    pub(crate) collector: Collector,
    key: String,
    /// Threads of the node, and of the proxy.
    threads: usize,
}

/// A node as a process.
pub(crate) struct Node {
    pub(crate) process: Process,
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
}

impl Stage {
    pub(crate) async fn new(threads: usize) -> anyhow::Result<Stage> {
        let directory = tempfile::tempdir()?;
        let key = write_keys(directory.path())?;
        std::fs::write(directory.path().join("small.yaml"), policy::with_routes(Scene::ALL.len()))?;
        std::fs::write(directory.path().join("large.yaml"), policy::with_routes(ROUTES))?;
        let script = directory.path().join("script.json");
        std::fs::write(&script, scene::script(REGION))?;
        let (process, fake) = start_fake(&script).await?;
        Ok(Stage { directory, fake, _fake: process, collector: Collector::start().await?, key, threads })
    }

    /// With a handful of routes.
    pub(crate) fn small_policy(&self) -> PathBuf {
        self.directory.path().join("small.yaml")
    }

    /// With [`ROUTES`] routes.
    pub(crate) fn large_policy(&self) -> PathBuf {
        self.directory.path().join("large.yaml")
    }

    /// Straight to the fake.
    pub(crate) fn direct(&self) -> Way {
        Way::Model(self.fake)
    }

    /// The bare proxy before the fake.
    pub(crate) async fn proxy(&self) -> anyhow::Result<(Process, Way)> {
        let (process, address) = proxy::start(self.fake, self.threads).await?;
        Ok((process, Way::Model(address)))
    }

    /// A node before the fake, as it would run anywhere: it checks keys, reads the policy, signs what it sends, counts,
    /// and exports one trace in a hundred.
    pub(crate) async fn node(&self, policy: &Path) -> anyhow::Result<Node> {
        let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).to_string();
        let keys = self.directory.path().join("keys.yaml");
        let arguments = [
            ("--listen", loopback.clone()),
            ("--admin-listen", loopback),
            ("--policy", policy.display().to_string()),
            ("--keys", keys.display().to_string()),
            ("--region", REGION.to_owned()),
            ("--upstream", format!("http://{}", self.fake)),
            ("--threads", self.threads.to_string()),
        ];
        let environment = [
            ("HOME", self.directory.path().display().to_string()),
            ("AWS_ACCESS_KEY_ID", "AKIDBENCHMARK0000000".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "no-secret-the-fake-checks-no-signature".to_owned()),
            ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{}", self.collector.address)),
            ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio".to_owned()),
            ("OTEL_TRACES_SAMPLER_ARG", "0.01".to_owned()),
        ];
        let start = Start {
            program: "switchtower-node",
            arguments: arguments.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect(),
            environment: environment.into(),
        };
        let (process, (address, admin)) = start.until(node_up).await?;
        Ok(Node { process, address, admin })
    }

    /// A node's Bedrock face.
    pub(crate) fn bedrock_face(&self, node: &Node) -> Way {
        Way::Route(node.address, self.key.clone())
    }

    /// A node's gRPC face.
    pub(crate) fn grpc_face(&self, node: &Node) -> Way {
        Way::Grpc(node.address, self.key.clone())
    }
}

/// Pepper and keys file, where the node looks for them; gives the bearer key.
fn write_keys(directory: &Path) -> anyhow::Result<String> {
    let peppers = Peppers::first(Pepper::new(random()?));
    peppers.write(&directory.join("pepper.yaml"))?;
    let (record, issued) = new_key(CALLER, &peppers.current, SystemTime::now(), None, &random()?)?;
    File { records: vec![record] }.write(&directory.join("keys.yaml"))?;
    Ok(issued.bearer)
}

async fn start_fake(script: &Path) -> anyhow::Result<(Process, SocketAddr)> {
    let arguments = [
        ("--region", format!("{REGION}={}:0", Ipv4Addr::LOCALHOST)),
        ("--script", script.display().to_string()),
        ("--keep-requests", "0".to_owned()),
        // One thread is faster than what is measured, and leaves it the other cores.
        ("--threads", "1".to_owned()),
    ];
    let arguments = arguments.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect();
    let start = Start { program: "fake-bedrock", arguments, environment: Vec::new() };
    start
        .until(|line| line.strip_prefix(REGION)?.trim().strip_prefix("http://")?.parse().ok())
        .await
        .context("the fake")
}

/// Where the node listens, by the line of its log that says so.
fn node_up(line: &str) -> Option<(SocketAddr, SocketAddr)> {
    let line: Value = serde_json::from_str(line).ok()?;
    if line["message"] != "node up" {
        return None;
    }
    let address = |member: &str| line[member].as_str()?.parse().ok();
    Some((address("listen")?, address("admin_listen")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_up_when_it_says_so() {
        let check = |line: &str, expected: Option<&str>| {
            let got = node_up(line).map(|(listen, admin)| format!("{listen} {admin}"));
            assert_eq!(got.as_deref(), expected, "{line}");
        };
        check(
            r#"{"level":"INFO","message":"node up","listen":"127.0.0.1:1","admin_listen":"127.0.0.1:2"}"#,
            Some("127.0.0.1:1 127.0.0.1:2"),
        );
        check(r#"{"level":"INFO","message":"policy in service"}"#, None);
        check("node up", None);
    }
}
