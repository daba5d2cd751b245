//! The node as a process: what it is started with, what it says, and how it ends.

use std::{
    path::Path,
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use bytes::Bytes;
use http::Request;
use switchtower_fake_bedrock::{Behaviour, FakeBedrock, Options};
use switchtower_keys::{File, IssuedKey, Pepper, Peppers, Record, new_key, random};
use switchtower_system_tests::{
    PATIENCE,
    canary::found,
    events,
    program::beside,
    tower::{EAST, POLICY, SONNET, WEB, WEST, echo, prompt, said},
    until,
    wire::{self, Reply, Version},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::timeout,
};

/// A key that only this machine's files know.
fn keys(folder: &Path) -> (Record, IssuedKey) {
    let pepper = Pepper::new(random().unwrap());
    let (record, key) = new_key(WEB, &pepper, SystemTime::now(), None, &random().unwrap()).unwrap();
    Peppers::first(pepper).write(&folder.join("pepper.yaml")).unwrap();
    write_keys(folder, &record);
    (record, key)
}

fn write_keys(folder: &Path, record: &Record) {
    File { records: vec![record.clone()] }.write(&folder.join("keys.yaml")).unwrap();
}

struct Node {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    folder: TempDir,
    fake: FakeBedrock,
    record: Record,
    key: IssuedKey,
}

const SECRET: &str = "the/nodes+own/secret+access/key+0123456";
const TOKEN: &str = "the-nodes-own-session-token-0123456789";

impl Node {
    async fn start() -> Node {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("policy.yaml"), POLICY).unwrap();
        let (record, key) = keys(folder.path());
        let regions = vec![EAST.to_owned(), WEST.to_owned()];
        let fake = FakeBedrock::start(Options { regions, ..Options::default() }).await.unwrap();
        let mut child = Command::new(beside("switchtower-node"))
            .args([
                "--listen",
                "127.0.0.1:0",
                "--admin-listen",
                "127.0.0.1:0",
                "--log",
                "trace",
                "--drain-seconds",
                "20",
            ])
            .arg("--policy")
            .arg(folder.path().join("policy.yaml"))
            .arg("--keys")
            .arg(folder.path().join("keys.yaml"))
            .args(["--upstream", &fake.endpoint(EAST), "--upstream", &format!("{WEST}={}", fake.endpoint(WEST))])
            .env_clear()
            .envs([("AWS_REGION", EAST), ("AWS_ACCESS_KEY_ID", "AKIDNODE"), ("AWS_SECRET_ACCESS_KEY", SECRET)])
            .envs([("AWS_SESSION_TOKEN", TOKEN), ("AWS_EC2_METADATA_DISABLED", "true")])
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let kept = lines.clone();
        tokio::spawn(async move {
            while let Ok(Some(line)) = said.next_line().await {
                kept.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
        });
        let node = Node { child, lines, folder, fake, record, key };
        until("the node is up", || node.line("node up").is_some()).await;
        node
    }

    fn line(&self, part: &str) -> Option<serde_json::Value> {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let line = lines.iter().find(|line| line.contains(part))?;
        serde_json::from_str(line).ok()
    }

    fn address(&self, port: &str) -> std::net::SocketAddr {
        self.line("node up").unwrap()[port].as_str().unwrap().parse().unwrap()
    }

    fn request(&self, operation: &str, text: &str) -> Request<Bytes> {
        Request::post(format!("/model/chat/{operation}"))
            .header("authorization", format!("Bearer {}", self.key.bearer))
            .body(prompt(text).to_string().into())
            .unwrap()
    }

    async fn ask(&self, text: &str) -> Reply {
        wire::send(self.address("listen"), Version::One, self.request("converse", text)).await
    }

    /// As an orchestrator ends it.
    async fn terminate(&self) {
        let id = self.child.id().unwrap().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().await.unwrap().success());
    }
}

#[tokio::test]
async fn a_node_serves_from_its_files_obeys_a_revoked_key_and_says_no_secret() {
    let mut node = Node::start().await;
    let reply = node.ask("the-prompt-is-secret").await;
    assert_eq!(said(&reply.json()), echo(SONNET, EAST, "the-prompt-is-secret"));
    let admin =
        wire::send(node.address("admin_listen"), Version::One, Request::get("/readyz").body(Bytes::new()).unwrap());
    assert_eq!(admin.await.status, 200);
    let sent = node.fake.requests().pop().unwrap();
    assert!(sent.headers["authorization"].contains("AKIDNODE"), "{sent:?}");
    assert!(sent.headers.contains_key("x-amz-security-token"));

    write_keys(node.folder.path(), &Record { revoked: Some(SystemTime::now()), ..node.record.clone() });
    let revoked = async {
        while node.ask("hi").await.status != 401 {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, revoked).await.expect("a revoked key is refused soon");

    node.terminate().await;
    let status = timeout(PATIENCE, node.child.wait()).await.unwrap().unwrap();
    assert_eq!(status.code(), Some(0));
    let lines = node.lines.lock().unwrap().join("\n");
    assert!(lines.contains("answered by") && lines.contains("refused after"), "{lines}");
    for secret in [&node.key.bearer, &node.key.secret_access_key, SECRET, TOKEN, "the-prompt-is-secret"] {
        assert_eq!(found(secret, &lines), Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_node_that_is_told_to_end_finishes_the_stream_that_is_open() {
    let mut node = Node::start().await;
    let slow = Behaviour { words: Some(30), tokens_per_second: Some(30.0), ..Behaviour::default() };
    node.fake.behave(EAST, slow);
    let mut stream = wire::open(node.address("listen"), Version::One, node.request("converse-stream", "hi")).await;
    let mut heard = stream.next().await.unwrap().to_vec();
    node.terminate().await;
    while let Some(more) = stream.next().await {
        heard.extend_from_slice(&more);
    }
    assert_eq!(events::decode(&heard.into()).last().unwrap().name, "metadata");
    let status = timeout(PATIENCE, node.child.wait()).await.unwrap().unwrap();
    assert_eq!(status.code(), Some(0));
}

#[tokio::test]
async fn what_is_wrong_with_the_command_line_is_all_told_before_anything_is_bound() {
    let run = Command::new(beside("switchtower-node"))
        .args(["--listen", "0.0.0.0:0", "--policy", "/nowhere/policy", "--keys", "/nowhere/keys", "--threads", "0"])
        .args(["--upstream", "nonsense"])
        .env_clear()
        .stdin(Stdio::null())
        .output();
    let run = timeout(PATIENCE, run).await.unwrap().unwrap();
    let told = String::from_utf8_lossy(&run.stderr);
    assert_eq!(run.status.code(), Some(64), "{told}");
    for part in ["--listen 0.0.0.0:0 is not loopback", "--policy /nowhere/policy", "--threads is 0", "`nonsense`"] {
        assert!(told.contains(part), "{part}: {told}");
    }
}
