//! A control plane as a process, over a store of its own.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
};

use serde_json::Value;
use switchtower_keys::random;
use tempfile::TempDir;

use crate::{
    fleet::Door,
    process::{Process, Start},
};

/// The only environment.
pub(crate) const ENVIRONMENT: &str = "bench";

/// A control plane. Dropping it ends it and removes its store.
pub(crate) struct ControlPlane {
    pub(crate) process: Process,
    pub(crate) address: SocketAddr,
    pub(crate) operator_token: String,
    fleet_token: String,
    _directory: TempDir,
}

impl ControlPlane {
    pub(crate) async fn start() -> anyhow::Result<ControlPlane> {
        let directory = tempfile::tempdir()?;
        let file = |name: &str| directory.path().join(name);
        let operator_token = write_token(&file("operators"))?;
        let fleet_token = write_token(&file("fleet"))?;
        let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).to_string();
        let arguments = [
            ("--listen", loopback.clone()),
            ("--admin-listen", loopback),
            ("--data", file("data").display().to_string()),
            ("--operator-tokens", file("operators").display().to_string()),
            ("--fleet-tokens", file("fleet").display().to_string()),
            ("--pepper", file("pepper.yaml").display().to_string()),
        ];
        let start = Start {
            program: "switchtower-control-plane",
            arguments: arguments.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect(),
            environment: Vec::new(),
        };
        let (process, address) = start.until(up).await?;
        Ok(ControlPlane { process, address, operator_token, fleet_token, _directory: directory })
    }

    /// Where nodes connect.
    pub(crate) fn door(&self) -> Door {
        Door { address: self.address, token: self.fleet_token.clone(), environment: ENVIRONMENT.to_owned() }
    }
}

fn write_token(path: &Path) -> anyhow::Result<String> {
    let token = random::<24>()?.map(|byte| format!("{byte:02x}")).concat();
    std::fs::write(path, format!("bench:{token}\n"))?;
    Ok(token)
}

/// Where it listens, by the line of its log that says so.
fn up(line: &str) -> Option<SocketAddr> {
    let line: Value = serde_json::from_str(line).ok()?;
    (line["message"] == "control plane up").then(|| line["listen"].as_str()?.parse().ok())?
}
