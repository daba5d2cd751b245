//! A control plane, nodes in two regions that follow it, a fake Bedrock behind them and the command line before it: all of
//! ours as processes, started as the documentation says.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use http::Request;
use serde_json::Value;
use switchtower_client::control::{Client, Options as ClientOptions};
use switchtower_fake_bedrock::{self as fake, FakeBedrock};
use tempfile::TempDir;

use crate::{
    program::{self, Program, Ran, beside, port},
    tower::{EAST, NOVA, SONNET, WEST, prompt},
    wire::{self, Reply, Version},
};

/// The environment that the nodes serve.
pub const ENVIRONMENT: &str = "dev";
/// The caller of [`policy`].
pub const CALLER: &str = "web";
/// Words that are said to the route `marked`: more than it may answer.
const WORDS: usize = 80;

/// What a fleet is set up with.
#[derive(Debug)]
pub struct Setup {
    /// How many nodes; they are called `n1`, `n2`, ..., and their regions take turns.
    pub nodes: usize,
    /// Where all of them export spans to.
    pub collector: Option<String>,
    /// The control plane's data folder; `None`: beside the rest.
    pub data: Option<PathBuf>,
    /// What all of them log.
    pub log: &'static str,
    /// Whether nothing is applied yet, and so no node is started.
    pub bare: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Setup { nodes: 2, collector: None, data: None, log: "info", bare: false }
    }
}

/// A fleet that runs. Dropping it kills it.
pub struct Fleet {
    /// What stands in for Bedrock.
    pub fake: FakeBedrock,
    /// The control plane; `None`: it was killed.
    pub plane: Option<Program>,
    /// Where the control plane is.
    pub control: SocketAddr,
    /// The control plane's admin port.
    pub admin: SocketAddr,
    /// The nodes.
    pub nodes: Vec<Node>,
    /// All logs of programs that have ended.
    pub logs: Vec<String>,
    setup: Setup,
    folder: TempDir,
    operator: String,
    fleet_token: String,
}

/// A node, whether it runs or not.
pub struct Node {
    /// Its name.
    pub id: String,
    /// Where callers come in.
    pub address: SocketAddr,
    /// Its admin port.
    pub admin: SocketAddr,
    /// The process; `None`: it was killed.
    pub program: Option<Program>,
    args: Vec<String>,
}

/// A key as the command line shows it this once.
#[derive(Clone, Debug)]
pub struct Key {
    /// Its id.
    pub id: String,
    /// For `authorization: Bearer`.
    pub bearer: String,
    /// For AWS SDKs.
    pub secret: String,
}

impl Fleet {
    /// Starts one. When it returns, every node serves revision 1 of [`policy`], unless it is to be bare.
    ///
    /// # Panics
    /// Something does not start: in a test there is nothing else to do about it.
    pub async fn start(setup: Setup) -> Fleet {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = |name: &str| folder.path().join(name);
        let (operator, fleet_token) = (token(), token());
        write(&path("operators"), &format!("ada:{operator}\n"));
        write(&path("fleet"), &format!("nodes:{fleet_token}\n"));
        write(&path("operator.token"), &format!("{operator}\n"));
        write(&path("node.token"), &format!("{fleet_token}\n"));
        let regions = vec![EAST.to_owned(), WEST.to_owned()];
        let fake = FakeBedrock::start(fake::Options { regions, ..fake::Options::default() }).await;
        let fake = fake.expect("a fake Bedrock");
        let (control, admin) = (port(), port());
        let mut fleet = Fleet {
            fake,
            plane: None,
            control,
            admin,
            nodes: Vec::new(),
            logs: Vec::new(),
            setup,
            folder,
            operator,
            fleet_token,
        };
        fleet.start_plane().await;
        fleet.nodes = (1..=fleet.setup.nodes).map(|number| fleet.node(number)).collect();
        if !fleet.setup.bare {
            for index in 0..fleet.nodes.len() {
                fleet.start_node(index).await;
            }
            // They are sent away until then, and look again.
            let _ = fleet.apply(&policy(1)).await.done();
            fleet.converged(1).await;
        }
        fleet
    }

    /// A file or folder of this fleet.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The operator's token.
    #[must_use]
    pub fn operator(&self) -> &str {
        &self.operator
    }

    /// The nodes' token.
    #[must_use]
    pub fn fleet_token(&self) -> &str {
        &self.fleet_token
    }

    /// The folder of the store.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.setup.data.clone().unwrap_or_else(|| self.path("store"))
    }

    fn envs(&self, service: &str) -> Vec<(&'static str, String)> {
        let mut envs = vec![
            ("AWS_ACCESS_KEY_ID", "AKIDNODE".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "the/nodes+own/secret+access/key+0123456".to_owned()),
        ];
        if let Some(url) = &self.setup.collector {
            envs.push(("OTEL_EXPORTER_OTLP_ENDPOINT", url.clone()));
            envs.push(("OTEL_TRACES_SAMPLER", "parentbased_always_on".to_owned()));
            envs.push(("OTEL_BSP_SCHEDULE_DELAY", "100".to_owned()));
            envs.push(("OTEL_SERVICE_NAME", service.to_owned()));
        }
        envs
    }

    /// Starts the control plane, for the first time or again, with what it has on disk.
    ///
    /// # Panics
    /// It does not start.
    pub async fn start_plane(&mut self) {
        let path = |name: &str| self.path(name).display().to_string();
        let args = [
            ("--data", self.data().display().to_string()),
            ("--operator-tokens", path("operators")),
            ("--fleet-tokens", path("fleet")),
            ("--pepper", path("pepper")),
            ("--listen", self.control.to_string()),
            ("--admin-listen", self.admin.to_string()),
            ("--replica", "c1".to_owned()),
            ("--log", self.setup.log.to_owned()),
        ];
        let args = args.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]);
        let mut plane = Program::start("switchtower-control-plane", args, &self.envs("control-plane"));
        plane.says("control plane up").await;
        self.plane = Some(plane);
    }

    /// Kills the control plane (SIGKILL).
    ///
    /// # Panics
    /// It does not run.
    pub async fn kill_plane(&mut self) {
        let log = self.plane.take().expect("it runs").kill().await;
        self.logs.push(log);
    }

    fn node(&self, number: usize) -> Node {
        let id = format!("n{number}");
        let (address, admin) = (port(), port());
        let region = if number % 2 == 1 { EAST } else { WEST };
        let path = |name: &str| self.path(name).display().to_string();
        let upstream = |region: &str| format!("{region}={}", self.fake.endpoint(region));
        let args = [
            ("--control-plane", format!("http://{}", self.control)),
            ("--environment", ENVIRONMENT.to_owned()),
            ("--node-id", id.clone()),
            ("--data", path(&id)),
            ("--token-file", path("node.token")),
            ("--pepper", path("pepper")),
            ("--region", region.to_owned()),
            ("--listen", address.to_string()),
            ("--admin-listen", admin.to_string()),
            ("--upstream", upstream(EAST)),
            ("--upstream", upstream(WEST)),
            ("--threads", "1".to_owned()),
            ("--log", self.setup.log.to_owned()),
        ];
        let args = args.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]).collect();
        Node { id, address, admin, program: None, args }
    }

    /// Starts a node, for the first time or again, with what it has on disk.
    ///
    /// # Panics
    /// It does not start.
    pub async fn start_node(&mut self, index: usize) {
        let node = &self.nodes[index];
        let mut program = Program::start("switchtower-node", &node.args, &self.envs(&node.id));
        program.says("node up").await;
        self.nodes[index].program = Some(program);
    }

    /// Kills a node (SIGKILL).
    ///
    /// # Panics
    /// It does not run.
    pub async fn kill_node(&mut self, index: usize) {
        let log = self.nodes[index].program.take().expect("it runs").kill().await;
        self.logs.push(log);
    }

    /// What an operator's command line is run with.
    #[must_use]
    pub fn operator_env(&self) -> Vec<(&'static str, String)> {
        vec![
            ("SWITCHTOWER_CONTROL_PLANE", format!("http://{}", self.control)),
            ("SWITCHTOWER_TOKEN_FILE", self.path("operator.token").display().to_string()),
        ]
    }

    /// Runs the command line to its end.
    pub async fn cli(&self, args: &[&str]) -> Ran {
        program::run(&beside("switchtower"), args, &self.operator_env()).await
    }

    /// Writes a policy into a folder of this name, and gives its path.
    ///
    /// # Panics
    /// It cannot be written.
    #[must_use]
    pub fn policy(&self, folder: &str, text: &str) -> String {
        let folder = self.path(folder);
        fs::create_dir_all(&folder).expect("a folder in a temporary folder");
        fs::write(folder.join("policy.yaml"), text).expect("a file in it");
        folder.display().to_string()
    }

    /// Applies a policy by the command line, and waits for the nodes.
    pub async fn apply(&self, text: &str) -> Ran {
        let folder = self.policy("policy", text);
        self.cli(&["apply", &folder, "--yes", "--wait"]).await
    }

    /// Makes a key by the command line. When this returns, all nodes take it.
    ///
    /// # Panics
    /// It cannot be made, or a node does not take it in time.
    pub async fn key(&self) -> Key {
        let made = self.cli(&["key", "new", "-e", ENVIRONMENT, "--caller", CALLER, "--output", "json"]).await.json();
        let text = |name: &str| made[name].as_str().expect("a text").to_owned();
        let key = Key { id: text("id"), bearer: text("api_key"), secret: text("aws_secret_access_key") };
        let taken = async {
            for node in &self.nodes {
                while node.ask("canned", &key).await.status != 200 {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        };
        tokio::time::timeout(crate::PATIENCE, taken).await.expect("nodes that are connected take a new key");
        key
    }

    /// `switchtower status`, for programs.
    pub async fn status(&self) -> Value {
        self.cli(&["status", "-e", ENVIRONMENT, "--output", "json"]).await.json()
    }

    /// Waits until `status` says that all nodes are connected and serve this revision.
    ///
    /// # Panics
    /// They do not in time.
    pub async fn converged(&self, revision: u64) {
        let given_up = tokio::time::Instant::now() + crate::PATIENCE;
        loop {
            let status = self.status().await;
            let all = self.nodes.len();
            if status["revision"] == revision && status["connected"] == all && status["serving"] == all {
                return;
            }
            assert!(tokio::time::Instant::now() < given_up, "waited in vain for {revision} on {all} nodes: {status:#}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// The client that others use.
    ///
    /// # Panics
    /// It does not connect.
    pub async fn client(&self) -> Client {
        let options = ClientOptions::new(format!("http://{}", self.control)).token(&self.operator);
        Client::connect(options).await.expect("the control plane listens")
    }

    /// Everything that all programs have logged, those that have ended too.
    #[must_use]
    pub fn all_logs(&self) -> String {
        let running = self.nodes.iter().filter_map(|node| node.program.as_ref()).chain(&self.plane).map(Program::log);
        self.logs.iter().cloned().chain(running).collect::<Vec<_>>().join("\n")
    }
}

impl Node {
    /// Asks a route on this node.
    pub async fn ask(&self, route: &str, key: &Key) -> Reply {
        wire::send(self.address, Version::One, request(route, &key.bearer)).await
    }

    /// A page of the admin port.
    ///
    /// # Panics
    /// Nobody listens there.
    pub async fn admin(&self, path: &str) -> Reply {
        page(self.admin, path).await
    }
}

/// A page of an admin port.
///
/// # Panics
/// Nobody listens there.
pub async fn page(address: SocketAddr, path: &str) -> Reply {
    let request = Request::get(path).body(Bytes::new()).expect("the parts of a request");
    wire::send(address, Version::One, request).await
}

/// A request for a route of [`policy`].
///
/// # Panics
/// Never: its parts are of this file.
#[must_use]
pub fn request(route: &str, bearer: &str) -> Request<Bytes> {
    Request::post(format!("/model/{route}/converse"))
        .header("content-type", "application/json")
        .header("authorization", format!("Bearer {bearer}"))
        .body(prompt(&"so ".repeat(WORDS)).to_string().into())
        .expect("the parts of a request")
}

/// The policy of a revision. Its number stands in it at three places that are items of their own or travel apart: the
/// model behind route `marked`, the most tokens that this route may answer, and the text of route `canned`.
#[must_use]
pub fn policy(revision: u64) -> String {
    format!(
        "environment: {ENVIRONMENT}\n\
         models:\n  odd-or-even: {{ bedrock: {}, regions: [{EAST}, {WEST}] }}\n\
         callers:\n  {CALLER}: {{ routes: [marked, canned] }}\n\
         routes:\n  marked: {{ tiers: [odd-or-even], max_output_tokens: {} }}\n  \
         canned: {{ tiers: [{{ answer: \"revision {revision}\" }}] }}\n",
        model(revision),
        tokens(revision),
    )
}

fn model(revision: u64) -> &'static str {
    if revision.is_multiple_of(2) { NOVA } else { SONNET }
}

/// From 10 on, as many as the model would rather say more than.
fn tokens(revision: u64) -> u64 {
    10 + revision % 50
}

/// The revision that served an answer, if everything in it is of that revision's [`policy`].
///
/// # Errors
/// It is no good answer, or of two revisions.
pub fn revision(reply: &Reply) -> Result<u64, String> {
    let told = || format!("{} {:?} {:?}", reply.status, reply.headers, reply.body);
    if reply.status != 200 || reply.cut {
        return Err(format!("not answered: {}", told()));
    }
    let revision: u64 = reply.header("x-switchtower-revision").parse().map_err(|_| told())?;
    let body: Value = serde_json::from_slice(&reply.body).map_err(|_| told())?;
    let is_of_it = match reply.header("x-switchtower-route") {
        "canned" => crate::tower::said(&body) == format!("revision {revision}"),
        _ => {
            body["usage"]["outputTokens"] == tokens(revision)
                && reply.header("x-switchtower-target").ends_with(&format!("/{}", model(revision)))
        }
    };
    if is_of_it { Ok(revision) } else { Err(format!("of two revisions: {}", told())) }
}

fn token() -> String {
    let random: [u8; 24] = switchtower_keys::random().expect("randomness");
    hex::encode(random)
}

/// A file that only its owner may read.
fn write(path: &Path, text: &str) {
    fs::write(path, text).expect("a file in a temporary folder");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("it is ours");
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(status: u16, route: &str, revision: &str, target: &str, body: &Value, expected: Option<u64>) {
        let headers = [("route", route), ("revision", revision), ("target", target)];
        let headers = headers.map(|(name, value)| {
            (format!("x-switchtower-{name}").parse().unwrap(), HeaderValue::from_str(value).unwrap())
        });
        let headers = HeaderMap::from_iter(headers);
        let body = body.to_string().into();
        let reply = Reply { status, headers, body, trailers: HeaderMap::new(), cut: false };
        assert_eq!(super::revision(&reply).ok(), expected);
    }

    #[test]
    fn an_answer_of_two_revisions_is_told_from_one_of_one() {
        let (even, odd) = (format!("bedrock/{EAST}/{NOVA}"), format!("bedrock/{WEST}/{SONNET}"));
        let counted = |tokens: u64| json!({ "usage": { "outputTokens": tokens } });
        check(200, "marked", "4", &even, &counted(14), Some(4));
        check(200, "marked", "5", &odd, &counted(15), Some(5));
        check(200, "marked", "5", &even, &counted(15), None);
        check(200, "marked", "5", &odd, &counted(14), None);
        check(200, "marked", "4", &odd, &counted(15), None);
        check(503, "marked", "5", &odd, &counted(15), None);
        check(200, "marked", "", &odd, &counted(15), None);
        let text = |text: &str| json!({ "output": { "message": { "content": [{ "text": text }] } } });
        check(200, "canned", "5", "", &text("revision 5"), Some(5));
        check(200, "canned", "5", "", &text("revision 4"), None);
    }
}
