//! The program itself, killed from outside while policies are applied to it.
//!
//! When it dies is left to chance: the points of a store's work, one by one, are in the store's own tests of kills.
//! `SWITCHTOWER_KILLS` says how many kills those are; here are so many fewer as a program takes longer.

use std::{
    collections::BTreeMap,
    env,
    path::Path,
    process::Stdio,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use switchtower_policy::{File, items, read};
use switchtower_proto::{
    control::v1::{ApplyRequest, ListRevisionsRequest, Revision, policy_service_client::PolicyServiceClient},
    policy::v1::Item,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    task::JoinSet,
    time::timeout,
};
use tonic::{
    Request, Status,
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint},
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_switchtower-control-plane");
const OPERATOR: &str = "ann-token-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const FLEET: &str = "fleet-token-ffffffffffffffffffffffffffff";
/// Who apply at a time.
const OPERATORS: u32 = 3;
/// How soon it must be there again, in release.
const SOON: Duration = Duration::from_secs(3);
/// How long something is waited for on a machine that has other things to do.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone)]
struct Ann;

impl Interceptor for Ann {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", format!("Bearer {OPERATOR}").parse().unwrap());
        Ok(request)
    }
}

type Client = PolicyServiceClient<InterceptedService<Channel, Ann>>;

struct Program {
    child: Child,
    client: Client,
}

impl Program {
    async fn start(folder: &Path) -> Program {
        let mut child = Command::new(PROGRAM)
            .args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
            .arg("--data")
            .arg(folder.join("data"))
            .arg("--operator-tokens")
            .arg(folder.join("operators"))
            .arg("--fleet-tokens")
            .arg(folder.join("fleet"))
            .arg("--pepper")
            .arg(folder.join("pepper"))
            .env_clear()
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
        let up = async {
            let mut before = Vec::new();
            loop {
                let line = said.next_line().await.unwrap().unwrap_or_else(|| panic!("it ended: {before:#?}"));
                if line.contains("control plane up") {
                    return serde_json::from_str::<serde_json::Value>(&line).unwrap();
                }
                before.push(line);
            }
        };
        let up = timeout(PATIENCE, up).await.expect("it comes up");
        // What it says later must go somewhere.
        tokio::spawn(async move { while let Ok(Some(_)) = said.next_line().await {} });
        let endpoint = Endpoint::from_shared(format!("http://{}", up["listen"].as_str().unwrap())).unwrap();
        Program { child, client: PolicyServiceClient::with_interceptor(endpoint.connect_lazy(), Ann) }
    }

    /// All revisions, oldest first.
    async fn revisions(&mut self) -> Vec<Revision> {
        let (mut revisions, mut before) = (Vec::new(), 0);
        loop {
            let request = ListRevisionsRequest { environment: "prod".to_owned(), before, page_size: 1000 };
            let page = self.client.list_revisions(request).await.unwrap().into_inner();
            revisions.extend(page.revisions);
            before = revisions.last().unwrap().record.as_ref().unwrap().number;
            if !page.more {
                revisions.reverse();
                return revisions;
            }
        }
    }
}

/// What was acknowledged: number and digest by message, which no two have.
type Acknowledged = Arc<Mutex<BTreeMap<String, (u64, Vec<u8>)>>>;

/// Applies one policy after the other until the program is gone.
async fn apply_all(mut client: Client, name: String, acknowledged: Acknowledged) {
    for number in 0.. {
        let message = format!("{name}-{number}");
        let request = ApplyRequest {
            environment: "prod".to_owned(),
            items: policy(&message),
            message: message.clone(),
            ..ApplyRequest::default()
        };
        let Ok(response) = client.apply(request).await else { return };
        let revision = response.into_inner().revision.unwrap();
        let made = (revision.record.unwrap().number, revision.digest.to_vec());
        assert_eq!(acknowledged.lock().unwrap().insert(message, made), None);
    }
}

fn policy(answer: &str) -> Vec<Item> {
    let text = format!(
        "environment: prod\nroutes: {{ chat: {{ tiers: [{{ answer: {answer} }}] }} }}\n\
         callers: {{ web: {{ tenant: acme, routes: [chat] }} }}\n"
    );
    let reading = read(&[File { name: "prod.yaml".into(), bytes: text.into_bytes() }]);
    assert_eq!(reading.violations, []);
    items::items(&reading.policy)
}

/// `switchtower-control-plane verify`: that all is well, and what it says.
async fn verified(folder: &Path) -> String {
    let mut verify = Command::new(PROGRAM);
    verify.arg("verify").arg("--data").arg(folder.join("data"));
    let output = timeout(PATIENCE, verify.output()).await.unwrap().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn check(revisions: &[Revision], acknowledged: &Acknowledged) {
    let mut messages = BTreeMap::new();
    for (expected, revision) in (1..).zip(revisions) {
        let record = revision.record.as_ref().unwrap();
        assert_eq!(record.number, expected, "a gap");
        let before = messages.insert(record.message.clone(), (record.number, revision.digest.to_vec()));
        assert_eq!(before, None, "{} is there twice", record.message);
    }
    for (message, made) in &*acknowledged.lock().unwrap() {
        assert_eq!(messages.get(message), Some(made), "{message} was acknowledged");
    }
}

#[tokio::test]
async fn a_program_that_is_killed_while_policies_are_applied_has_all_it_acknowledged() {
    let kills = env::var("SWITCHTOWER_KILLS").map_or(60, |kills| kills.parse::<u32>().unwrap()).div_ceil(12);
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("operators"), format!("ann:{OPERATOR}\n")).unwrap();
    std::fs::write(folder.path().join("fleet"), format!("fleet:{FLEET}\n")).unwrap();
    let acknowledged = Acknowledged::default();
    let mut started = Vec::new();
    let mut random = fastrand::Rng::with_seed(1);
    let mut program = Program::start(folder.path()).await;
    for kill in 0..kills {
        let before = acknowledged.lock().unwrap().len();
        let mut operators = JoinSet::new();
        for operator in 0..OPERATORS {
            operators.spawn(apply_all(program.client.clone(), format!("a{kill}-{operator}"), acknowledged.clone()));
        }
        let enough = async {
            while acknowledged.lock().unwrap().len() < before + 5 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(PATIENCE, enough).await.expect("policies are acknowledged");
        tokio::time::sleep(Duration::from_micros(random.u64(0..200_000))).await;
        program.child.kill().await.unwrap();
        while let Some(applied) = operators.join_next().await {
            applied.unwrap();
        }
        // Half of the times another process opens the file first.
        if kill % 2 == 1 {
            verified(folder.path()).await;
        }
        let begun = Instant::now();
        program = Program::start(folder.path()).await;
        started.push(begun.elapsed());
        check(&program.revisions().await, &acknowledged);
    }
    let revisions = program.revisions().await.len();
    program.child.kill().await.unwrap();
    assert_eq!(verified(folder.path()).await, format!("prod: {revisions} revisions, all as they were written\n"));
    started.sort();
    let (p50, max) = (started[started.len() / 2], started[started.len() - 1]);
    let acknowledged = acknowledged.lock().unwrap().len();
    println!("{kills} kills, {acknowledged} acknowledged of {revisions} there; up again: p50 {p50:?}, max {max:?}");
    assert!(cfg!(debug_assertions) || max <= SOON, "{max:?}");
}
