//! What is settled at the start of a node: addresses, files, sizes. Everything that an operator tunes is policy.
//!
//! [`Args`] is what was written (flag, environment, default), [`Config`] what it means; all problems are found at once,
//! before anything is bound.

mod source;

use std::{fmt, net::SocketAddr, path::PathBuf, time::Duration};

use clap::Parser;

use switchtower_telemetry::log::Format;

/// Serves requests as the policy says.
#[derive(Clone, Debug, Parser)]
#[command(name = "switchtower-node", version, about)]
pub struct Args {
    /// Where callers come in: gRPC and HTTP on one port.
    #[arg(long, env = "SWITCHTOWER_LISTEN", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// Where /healthz, /readyz and /metrics are. It has no authentication: keep it off public networks.
    #[arg(long, env = "SWITCHTOWER_ADMIN_LISTEN", default_value = "127.0.0.1:9090")]
    pub admin_listen: SocketAddr,
    /// Folder of policy files, or one file; read again when it changes. With --keys, in place of a control plane.
    #[arg(long, env = "SWITCHTOWER_POLICY", help_heading = "From files", value_name = "PATH")]
    pub policy: Option<PathBuf>,
    /// Keys file, as `switchtower key new --file` writes it; read again when it changes.
    #[arg(long, env = "SWITCHTOWER_KEYS", help_heading = "From files", value_name = "FILE")]
    pub keys: Option<PathBuf>,
    /// URL of the control plane that policy and keys come from; may be repeated, one for each of its replicas.
    #[arg(
        long = "control-plane",
        env = "SWITCHTOWER_CONTROL_PLANE",
        value_delimiter = ',',
        help_heading = "From a control plane",
        value_name = "URL"
    )]
    pub control_planes: Vec<String>,
    /// Certificate authority of the control plane, PEM; those that the system trusts unless told otherwise.
    #[arg(long, env = "SWITCHTOWER_CONTROL_PLANE_CA", help_heading = "From a control plane", value_name = "FILE")]
    pub control_plane_ca: Option<PathBuf>,
    /// File with the fleet's token; read at every connection.
    #[arg(long, env = "SWITCHTOWER_TOKEN_FILE", help_heading = "From a control plane", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Environment that this node serves.
    #[arg(long, env = "SWITCHTOWER_ENVIRONMENT", help_heading = "From a control plane", value_name = "NAME")]
    pub environment: Option<String>,
    /// Name of this node in the fleet, another for each; the host's unless told otherwise.
    #[arg(long, env = "SWITCHTOWER_NODE_ID", help_heading = "From a control plane", value_name = "NAME")]
    pub node_id: Option<String>,
    /// Folder for what was served last: a restart begins with it while no control plane answers. Made if it is not
    /// there; each node needs one of its own.
    #[arg(long, env = "SWITCHTOWER_DATA", help_heading = "From a control plane", value_name = "FOLDER")]
    pub data: Option<PathBuf>,
    /// Pepper file: with --keys beside the keys file unless told otherwise, with --control-plane the control plane's.
    #[arg(long, env = "SWITCHTOWER_PEPPER", value_name = "FILE")]
    pub pepper: Option<PathBuf>,
    /// Region that the node runs in: its targets are tried first.
    #[arg(long, env = "AWS_REGION", default_value = "")]
    pub region: String,
    /// Certificate chain of the callers' port, PEM.
    #[arg(long, env = "SWITCHTOWER_TLS_CERT", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// Its private key, PEM.
    #[arg(long, env = "SWITCHTOWER_TLS_KEY", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Serve, and reach the control plane, in the clear on addresses that are not loopback: for a node behind something
    /// that does TLS.
    #[arg(long, env = "SWITCHTOWER_PLAINTEXT")]
    pub plaintext: bool,
    /// Another Bedrock-compatible endpoint, for all regions (URL) or one (REGION=URL); may be repeated.
    #[arg(long = "upstream", env = "SWITCHTOWER_UPSTREAM", value_delimiter = ',')]
    pub upstreams: Vec<String>,
    /// Most bytes of a request's body.
    #[arg(long, env = "SWITCHTOWER_MAX_BODY_BYTES", default_value_t = 25_000_000)]
    pub max_body_bytes: usize,
    /// Seconds that open requests may go on after SIGTERM.
    #[arg(long, env = "SWITCHTOWER_DRAIN_SECONDS", default_value_t = 120)]
    pub drain_seconds: u64,
    /// Threads that serve requests; the number of cores unless told otherwise.
    #[arg(long, env = "SWITCHTOWER_THREADS")]
    pub threads: Option<usize>,
    /// How log lines look.
    #[arg(long, env = "SWITCHTOWER_LOG_FORMAT", value_enum, default_value_t = Format::Json)]
    pub log_format: Format,
    /// Which log lines there are, as `tracing` filters write it; requests are under `switchtower::request`.
    #[arg(long, env = "SWITCHTOWER_LOG", default_value = "info,switchtower::request=warn")]
    pub log: String,
}

/// What was written, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where callers come in.
    pub listen: SocketAddr,
    /// The admin port.
    pub admin_listen: SocketAddr,
    /// Where policy and keys come from.
    pub source: Source,
    /// Region that the node runs in; empty where it runs in none.
    pub region: String,
    /// Certificate chain and private key; `None`: in the clear.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Other endpoints: region (`None`: all) and URL.
    pub upstreams: Vec<(Option<String>, String)>,
    /// Most bytes of a request's body, 1 or more.
    pub max_body_bytes: usize,
    /// How long open requests may go on when the node ends.
    pub drain: Duration,
}

/// Where policy and keys come from.
#[derive(Clone, Debug)]
pub enum Source {
    /// Files of this machine.
    Files {
        /// Policy files.
        policy: PathBuf,
        /// Keys file.
        keys: PathBuf,
        /// Pepper file.
        pepper: PathBuf,
    },
    /// A control plane.
    ControlPlane {
        /// URLs of its replicas.
        endpoints: Vec<String>,
        /// Its certificate authority; `None`: those that the system trusts.
        ca: Option<PathBuf>,
        /// The fleet's token.
        token: PathBuf,
        /// Environment that the node serves.
        environment: String,
        /// The node's name.
        node_id: String,
        /// Folder of the last known good.
        data: PathBuf,
        /// Pepper file.
        pepper: PathBuf,
    },
}

impl Config {
    /// Checks what was written. `host` is this machine's name; empty: it has none.
    ///
    /// # Errors
    /// A sentence about everything that is wrong.
    pub fn of(args: &Args, host: &str) -> Result<Self, Vec<String>> {
        let mut problems = Vec::new();
        let tls = args.tls_cert.clone().zip(args.tls_key.clone());
        if tls.is_none() && !args.plaintext && !args.listen.ip().is_loopback() {
            problems.push(format!(
                "--listen {} is not loopback, and keys would travel in the clear: give --tls-cert and --tls-key, or \
                 --plaintext where something in front ends TLS",
                args.listen
            ));
        }
        if args.listen == args.admin_listen && args.listen.port() != 0 {
            problems.push(format!("--listen and --admin-listen are both {}: give them two ports", args.listen));
        }
        let source = source::of(args, host, &mut problems);
        if args.max_body_bytes == 0 {
            problems.push("--max-body-bytes is 0: no request would fit; write 1 or more".to_owned());
        }
        if args.threads == Some(0) {
            problems.push("--threads is 0: write 1 or more, or leave it out".to_owned());
        }
        let mut upstreams = Vec::new();
        for written in &args.upstreams {
            match upstream(written) {
                Ok(upstream) => upstreams.push(upstream),
                Err(problem) => problems.push(problem),
            }
        }
        let Some(source) = source.filter(|_| problems.is_empty()) else { return Err(problems) };
        Ok(Config {
            listen: args.listen,
            admin_listen: args.admin_listen,
            source,
            region: args.region.clone(),
            tls,
            upstreams,
            max_body_bytes: args.max_body_bytes,
            drain: Duration::from_secs(args.drain_seconds),
        })
    }
}

/// `URL` or `REGION=URL` taken apart.
///
/// # Errors
/// A sentence about what is wrong.
pub fn upstream(written: &str) -> Result<(Option<String>, String), String> {
    let (region, url) = match written.split_once('=') {
        Some((region, url)) if !region.contains("://") => (Some(region.to_owned()), url),
        _ => (None, written),
    };
    let valid = url.parse::<http::Uri>().is_ok_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some_and(|host| !host.is_empty())
    });
    match valid && region.as_ref().is_none_or(|region| !region.is_empty()) {
        true => Ok((region, url.to_owned())),
        false => Err(format!("--upstream `{written}`: write http(s)://HOST[:PORT], or REGION=http(s)://HOST[:PORT]")),
    }
}

impl fmt::Display for Config {
    /// The effective configuration. It names files and addresses; what is in the files is not read here.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tls = self.tls.as_ref().map_or("off".to_owned(), |(cert, _)| cert.display().to_string());
        write!(
            f,
            "listen={} admin_listen={} {} region={} tls={tls} upstreams={} max_body_bytes={} drain_seconds={}",
            self.listen,
            self.admin_listen,
            self.source,
            if self.region.is_empty() { "none" } else { &self.region },
            self.upstreams.len(),
            self.max_body_bytes,
            self.drain.as_secs()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(more: &[&str]) -> Args {
        let basic = ["switchtower-node", "--policy", "/", "--keys", "/k/keys.yaml"];
        Args::try_parse_from(basic.iter().chain(more)).unwrap()
    }

    fn config(more: &[&str]) -> Result<Config, Vec<String>> {
        Config::of(&args(more), "host")
    }

    #[test]
    fn all_problems_are_found_at_once() {
        let problems =
            config(&["--listen", "0.0.0.0:8080", "--max-body-bytes", "0", "--upstream", "nonsense", "--threads", "0"])
                .unwrap_err();
        assert_eq!(problems.len(), 4, "{problems:#?}");
    }

    #[test]
    fn a_public_address_needs_tls_or_a_word() {
        assert!(config(&["--listen", "0.0.0.0:1", "--plaintext"]).is_ok());
        assert!(config(&["--listen", "0.0.0.0:1", "--tls-cert", "c", "--tls-key", "k"]).is_ok());
        assert!(config(&["--listen", "[::1]:1"]).is_ok());
    }

    #[test]
    fn upstreams_are_for_all_regions_or_for_one() {
        let check = |written: &str, expected: Option<(Option<&str>, &str)>| {
            let got = upstream(written).ok();
            let got = got.as_ref().map(|(region, url)| (region.as_deref(), url.as_str()));
            assert_eq!(got, expected, "{written}");
        };
        check("http://127.0.0.1:9", Some((None, "http://127.0.0.1:9")));
        check("us-east-1=https://x", Some((Some("us-east-1"), "https://x")));
        check("http://x/?a=b", Some((None, "http://x/?a=b")));
        check("=http://x", None);
        check("ftp://x", None);
        check("us-east-1", None);
    }
}
