//! What is settled at the start of a control plane: addresses, files. What nodes serve is policy.
//!
//! [`Args`] is what was written (flag, environment, default), [`Config`] what it means; all problems are found at once,
//! before anything is bound.

use std::{fmt, net::SocketAddr, path::PathBuf, time::Duration};

use clap::Parser;
use switchtower_telemetry::log::Format;

/// Stores what operators intend, and brings it to the nodes.
#[derive(Clone, Debug, Parser)]
#[command(name = "switchtower-control-plane", version, about, args_conflicts_with_subcommands = true)]
pub struct Args {
    /// What to do instead of serving.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// What serving takes.
    #[command(flatten)]
    pub serve: Serve,
}

/// What to do instead of serving. The store must not be in use.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Command {
    /// Make a store from a copy of another. It gets an epoch of its own, so that nodes take from it whatever it holds, and
    /// not only what is newer than what they have.
    Restore {
        /// The copy.
        #[arg(long, value_name = "FILE")]
        from: PathBuf,
        /// Folder of the new store; it must hold none.
        #[arg(long, env = "SWITCHTOWER_DATA", value_name = "DIR")]
        data: PathBuf,
    },
    /// Check every revision of a store: numbers, chain of digests, contents.
    Verify {
        /// Folder of the store.
        #[arg(long, env = "SWITCHTOWER_DATA", value_name = "DIR")]
        data: PathBuf,
    },
}

/// What serving takes.
#[derive(Clone, Debug, clap::Args)]
pub struct Serve {
    /// Where operators and nodes come in: gRPC.
    #[arg(long, env = "SWITCHTOWER_LISTEN", default_value = "127.0.0.1:7070")]
    pub listen: SocketAddr,
    /// Where /healthz, /readyz and /metrics are. It has no authentication: keep it off public networks.
    #[arg(long, env = "SWITCHTOWER_ADMIN_LISTEN", default_value = "127.0.0.1:7071")]
    pub admin_listen: SocketAddr,
    /// Folder of the store; made if it is not there.
    #[arg(long, env = "SWITCHTOWER_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Tokens of operators, a line NAME:TOKEN each.
    #[arg(long, env = "SWITCHTOWER_OPERATOR_TOKENS", value_name = "FILE")]
    pub operator_tokens: Option<PathBuf>,
    /// Tokens of nodes, a line NAME:TOKEN each: two of them while one is replaced.
    #[arg(long, env = "SWITCHTOWER_FLEET_TOKENS", value_name = "FILE")]
    pub fleet_tokens: Option<PathBuf>,
    /// Pepper that keys are hashed under; the nodes have the same file. Made if it is not there.
    #[arg(long, env = "SWITCHTOWER_PEPPER", value_name = "FILE")]
    pub pepper: Option<PathBuf>,
    /// Certificate chain, PEM.
    #[arg(long, env = "SWITCHTOWER_TLS_CERT", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// Its private key, PEM.
    #[arg(long, env = "SWITCHTOWER_TLS_KEY", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Serve in the clear on an address that is not loopback: for a control plane behind something that ends TLS.
    #[arg(long, env = "SWITCHTOWER_PLAINTEXT")]
    pub plaintext: bool,
    /// Name of this replica, as nodes and operators see it; the host's unless told otherwise.
    #[arg(long, env = "SWITCHTOWER_REPLICA", value_name = "NAME")]
    pub replica: Option<String>,
    /// Seconds over which nodes are sent away when it ends.
    #[arg(long, env = "SWITCHTOWER_DRAIN_SECONDS", default_value_t = 10)]
    pub drain_seconds: u64,
    /// How log lines look.
    #[arg(long, env = "SWITCHTOWER_LOG_FORMAT", value_enum, default_value_t = Format::Json)]
    pub log_format: Format,
    /// Which log lines there are, as `tracing` filters write it.
    #[arg(long, env = "SWITCHTOWER_LOG", default_value = "info")]
    pub log: String,
}

/// What was written, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where operators and nodes come in.
    pub listen: SocketAddr,
    /// The admin port.
    pub admin_listen: SocketAddr,
    /// Folder of the store.
    pub data: PathBuf,
    /// Tokens of operators.
    pub operator_tokens: PathBuf,
    /// Tokens of nodes.
    pub fleet_tokens: PathBuf,
    /// The pepper.
    pub pepper: PathBuf,
    /// Certificate chain and private key; `None`: in the clear.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Name of this replica.
    pub replica: String,
    /// Over how long nodes are sent away when it ends.
    pub drain: Duration,
}

impl Config {
    /// Checks what was written. `host` is this machine's name.
    ///
    /// # Errors
    /// A sentence about everything that is wrong.
    pub fn of(args: &Serve, host: &str) -> Result<Self, Vec<String>> {
        let mut problems = Vec::new();
        let tls = args.tls_cert.clone().zip(args.tls_key.clone());
        if tls.is_none() && !args.plaintext && !args.listen.ip().is_loopback() {
            problems.push(format!(
                "--listen {} is not loopback, and tokens would travel in the clear: give --tls-cert and --tls-key, or \
                 --plaintext where something in front ends TLS",
                args.listen
            ));
        }
        if args.listen == args.admin_listen && args.listen.port() != 0 {
            problems.push(format!("--listen and --admin-listen are both {}: give them two ports", args.listen));
        }
        let mut needed = |path: &Option<PathBuf>, flag: &str, what: &str| {
            path.clone().unwrap_or_else(|| {
                problems.push(format!("{flag} is missing: name {what}"));
                PathBuf::new()
            })
        };
        let data = needed(&args.data, "--data", "a folder for the store");
        let operator_tokens = needed(&args.operator_tokens, "--operator-tokens", "a file with a line NAME:TOKEN each");
        let fleet_tokens = needed(&args.fleet_tokens, "--fleet-tokens", "a file with a line NAME:TOKEN each");
        let pepper = needed(&args.pepper, "--pepper", "the file that the nodes have too");
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(Config {
            listen: args.listen,
            admin_listen: args.admin_listen,
            data,
            operator_tokens,
            fleet_tokens,
            pepper,
            tls,
            replica: args.replica.clone().unwrap_or_else(|| host.to_owned()),
            drain: Duration::from_secs(args.drain_seconds),
        })
    }
}

impl fmt::Display for Config {
    /// The effective configuration. It names files and addresses; what is in the files is not read here.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tls = self.tls.as_ref().map_or("off".to_owned(), |(cert, _)| cert.display().to_string());
        write!(
            f,
            "listen={} admin_listen={} data={} operator_tokens={} fleet_tokens={} pepper={} tls={tls} replica={} \
             drain_seconds={}",
            self.listen,
            self.admin_listen,
            self.data.display(),
            self.operator_tokens.display(),
            self.fleet_tokens.display(),
            self.pepper.display(),
            self.replica,
            self.drain.as_secs()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(more: &[&str]) -> Result<Config, Vec<String>> {
        let args = Args::try_parse_from(["switchtower-control-plane"].iter().chain(more)).unwrap();
        Config::of(&args.serve, "host-1")
    }

    const FILES: [&str; 8] = ["--data", "/d", "--operator-tokens", "/o", "--fleet-tokens", "/f", "--pepper", "/p"];

    #[test]
    fn all_problems_are_found_at_once() {
        let problems = config(&["--listen", "0.0.0.0:7070", "--admin-listen", "0.0.0.0:7070"]).unwrap_err();
        assert_eq!(problems.len(), 6, "{problems:#?}");
    }

    #[test]
    fn a_public_address_needs_tls_or_a_word() {
        let with = |more: &[&str]| config(&[&FILES[..], more].concat());
        assert!(with(&["--listen", "0.0.0.0:1"]).is_err());
        assert!(with(&["--listen", "0.0.0.0:1", "--plaintext"]).is_ok());
        assert!(with(&["--listen", "0.0.0.0:1", "--tls-cert", "c", "--tls-key", "k"]).is_ok());
        assert_eq!(with(&[]).unwrap().replica, "host-1");
    }

    #[test]
    fn restoring_takes_a_copy_and_a_folder() {
        let parse = |more: &[&str]| Args::try_parse_from(["switchtower-control-plane"].iter().chain(more));
        assert!(matches!(
            parse(&["restore", "--from", "/copy", "--data", "/d"]).unwrap().command,
            Some(Command::Restore { .. })
        ));
        assert!(parse(&["restore", "--data", "/d"]).is_err());
    }
}
