//! A control plane, six nodes in two regions and two operators, all processes: what an operator does in a bad week.

use std::{path::Path, process::Stdio, time::Duration};

use serde_json::Value;
use switchtower_system_tests::{
    PATIENCE,
    fleet::{ENVIRONMENT, Fleet, Key, Setup, policy, request, revision},
    load::{Load, Tally},
    program::{Ran, beside},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::Command,
    time::{Instant, sleep, timeout},
};

async fn fleet(nodes: usize) -> (Fleet, Key) {
    let fleet = Fleet::start(Setup { nodes, ..Setup::default() }).await;
    let key = fleet.key().await;
    (fleet, key)
}

#[track_caller]
fn says(ran: &Ran, code: i32, parts: &[&str]) {
    assert_eq!(ran.code, code, "{ran:#?}");
    for part in parts {
        assert!(ran.out.contains(part) || ran.err.contains(part), "no `{part}` in {ran:#?}");
    }
}

/// Every node of these answers with this revision.
async fn all_serve(fleet: &Fleet, key: &Key, nodes: &[usize], expected: u64) {
    for index in nodes {
        for route in ["marked", "canned"] {
            let reply = fleet.nodes[*index].ask(route, key).await;
            assert_eq!(revision(&reply), Ok(expected), "{}", fleet.nodes[*index].id);
        }
    }
}

fn load(fleet: &Fleet, key: &Key, nodes: &[usize], per_second: u32) -> Load {
    let addresses: Vec<_> = nodes.iter().map(|index| fleet.nodes[*index].address).collect();
    let requests = ["marked", "canned"].map(|route| request(route, &key.bearer));
    Load::start(&addresses, &requests, per_second, 2 * u32::try_from(addresses.len()).unwrap(), revision)
}

#[track_caller]
fn unnoticed(tally: &Tally, at_least: u64) {
    assert_eq!((tally.failed, tally.went_back), (0, 0), "{tally:#?}");
    assert!(tally.answered() >= at_least, "{tally:#?}");
}

fn node<'s>(status: &'s Value, id: &str) -> &'s Value {
    let nodes = status["nodes"].as_array().unwrap();
    nodes.iter().find(|node| node["id"] == id).unwrap_or_else(|| panic!("no {id} in {status:#}"))
}

#[tokio::test]
async fn six_nodes_serve_what_is_applied_and_outlive_the_control_plane() {
    let (mut fleet, key) = fleet(6).await;
    let all = [0, 1, 2, 3, 4, 5];
    says(&fleet.apply(&policy(2)).await, 0, &["6 of 6 nodes in 2 regions serve revision 2"]);
    all_serve(&fleet, &key, &all, 2).await;

    // The control plane goes under load, and for a while nobody is there.
    let load = load(&fleet, &key, &all[..5], 50);
    sleep(Duration::from_secs(1)).await;
    fleet.kill_plane().await;
    says(&fleet.cli(&["status", "-e", ENVIRONMENT]).await, 69, &["127.0.0.1"]);
    // A node that starts meanwhile has only its disk.
    fleet.kill_node(5).await;
    fleet.start_node(5).await;
    all_serve(&fleet, &key, &all, 2).await;
    let ready = fleet.nodes[5].admin("/readyz").await;
    assert_eq!((ready.status, &ready.json()["revision"]), (200, &"2".into()), "{:?}", ready.body);
    sleep(Duration::from_secs(2)).await;

    // What was applied is there when it comes back, and so is the fleet.
    let back = Instant::now();
    fleet.start_plane().await;
    fleet.converged(2).await;
    let converged = back.elapsed();
    says(&fleet.apply(&policy(3)).await, 0, &["6 of 6 nodes in 2 regions serve revision 3"]);
    all_serve(&fleet, &key, &all, 3).await;
    sleep(Duration::from_millis(500)).await;
    let tally = load.end().await;
    println!("converged {converged:?} after the control plane was back; {tally:?}");
    unnoticed(&tally, 200);
    assert_eq!(tally.served.keys().copied().collect::<Vec<_>>(), [2, 3]);
    let status = fleet.cli(&["status", "-e", ENVIRONMENT, "--nodes", "--exit-code"]).await;
    says(&status, 0, &["6 of 6 connected nodes serve revision 3", "us-east-1", "us-west-2", "n1", "n6"]);
    assert!(!status.out.contains("lags") && !status.out.contains("problem"), "{status:#?}");
}

/// No policy that the control plane accepts fails to compile in a node of the same version. What is left is one that ends
/// the process; here the process is ended while it is not yet sure of it.
#[tokio::test]
async fn a_revision_that_ends_a_node_too_often_is_refused_by_it_and_the_one_before_serves() {
    let (mut fleet, key) = fleet(2).await;
    // It has to serve for a while before a node trusts it.
    let proven = Instant::now();
    let mark = fleet.path("n2").join("pending");
    while mark.exists() {
        assert!(proven.elapsed() < PATIENCE, "revision 1 does not prove itself");
        sleep(Duration::from_millis(100)).await;
    }
    says(&fleet.apply(&policy(2)).await, 0, &["2 of 2 nodes in 2 regions serve revision 2"]);
    for _ in 0..4 {
        assert!(mark.exists(), "the node is not yet sure of what it took");
        fleet.kill_node(1).await;
        fleet.start_node(1).await;
    }
    // Whatever the control plane says, it does not take it a fifth time.
    let given_up = Instant::now() + PATIENCE;
    let status = loop {
        let status = fleet.status().await;
        if status["refused"] == 1 {
            break status;
        }
        assert!(Instant::now() < given_up, "nobody refused it: {status:#}");
        sleep(Duration::from_millis(100)).await;
    };
    assert_eq!((&status["serving"], &status["connected"]), (&1.into(), &2.into()), "{status:#}");
    assert_eq!(node(&status, "n2")["serving"]["revision"], 1, "{status:#}");
    let reason = "ended too often while it took this content";
    says(&fleet.cli(&["status", "-e", ENVIRONMENT, "--exit-code"]).await, 4, &["refused", "n2: revision 2", reason]);
    all_serve(&fleet, &key, &[0], 2).await;
    all_serve(&fleet, &key, &[1], 1).await;
    let ready = fleet.nodes[1].admin("/readyz").await;
    assert_eq!(ready.status, 200);
    let control_plane = &ready.json()["control_plane"];
    assert_eq!(control_plane["quarantined"].as_array().unwrap().len(), 1, "{control_plane:#}");
    assert!(control_plane["start_problems"].to_string().contains("the process ended 4 times"), "{control_plane:#}");
    // What is seen of nodes is written down a moment later.
    let refusal_is_told = async {
        let args = ["events", "-e", ENVIRONMENT, "--output", "json"];
        while !fleet.cli(&args).await.done().contains("revision_refused") {
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(PATIENCE, refusal_is_told).await.expect("an event tells of the refusal");
    // Another content is another matter.
    says(&fleet.apply(&policy(3)).await, 0, &["2 of 2 nodes in 2 regions serve revision 3"]);
    says(&fleet.cli(&["status", "-e", ENVIRONMENT, "--exit-code"]).await, 0, &["2 of 2"]);
    all_serve(&fleet, &key, &[0, 1], 3).await;
}

#[tokio::test]
async fn a_revoked_key_is_refused_by_every_connected_node_within_two_seconds() {
    let (fleet, revoked) = fleet(4).await;
    let kept = fleet.key().await;
    all_serve(&fleet, &revoked, &[0, 1, 2, 3], 1).await;
    says(&fleet.cli(&["key", "revoke", &revoked.id, "-e", ENVIRONMENT]).await, 0, &[]);
    let answered = Instant::now();
    let mut slowest = Duration::ZERO;
    for node in &fleet.nodes {
        while node.ask("canned", &revoked).await.status != 401 {
            assert!(answered.elapsed() < Duration::from_secs(2), "{} still takes it", node.id);
            sleep(Duration::from_millis(10)).await;
        }
        slowest = slowest.max(answered.elapsed());
    }
    println!("refused everywhere {slowest:?} after the command line had said that it is revoked");
    all_serve(&fleet, &kept, &[0, 1, 2, 3], 1).await;
}

/// A key that a node has never heard of as revoked must not come back with its last known good.
#[tokio::test]
async fn a_revoked_key_stays_refused_by_a_node_that_starts_without_the_control_plane() {
    let (mut fleet, revoked) = fleet(1).await;
    let kept = fleet.key().await;
    says(&fleet.cli(&["key", "revoke", &revoked.id, "-e", ENVIRONMENT]).await, 0, &[]);
    timeout(PATIENCE, async {
        while fleet.nodes[0].ask("canned", &revoked).await.status != 401 {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .unwrap();
    // It holds in memory before it is on the disk, which nobody tells us of.
    sleep(Duration::from_millis(500)).await;
    fleet.kill_plane().await;
    fleet.kill_node(0).await;
    fleet.start_node(0).await;
    assert_eq!(fleet.nodes[0].ask("canned", &revoked).await.status, 401);
    all_serve(&fleet, &kept, &[0], 1).await;
}

/// Runs a command on a terminal, so that it can ask.
async fn on_a_terminal(fleet: &Fleet, args: &[&str], asked: &str, meanwhile: impl Future<Output = ()>) -> Ran {
    const PTY: &str = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))";
    let python = std::env::var_os("SWITCHTOWER_PYTHON").expect("run `make test`, which sets it up");
    let mut child = Command::new(Path::new(&python))
        .args(["-c", PTY])
        .arg(beside("switchtower"))
        .args(args)
        .envs(fleet.operator_env())
        .env("NO_COLOR", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let (mut stdin, mut stdout, mut out) = (child.stdin.take().unwrap(), child.stdout.take().unwrap(), Vec::new());
    let asks = async {
        while !String::from_utf8_lossy(&out).contains(asked) {
            assert!(stdout.read_buf(&mut out).await.unwrap() > 0, "{}", String::from_utf8_lossy(&out));
        }
    };
    timeout(PATIENCE, asks).await.unwrap_or_else(|_| panic!("it does not ask: {}", String::from_utf8_lossy(&out)));
    meanwhile.await;
    stdin.write_all(b"y\n").await.unwrap();
    timeout(PATIENCE, stdout.read_to_end(&mut out)).await.unwrap().unwrap();
    let code = child.wait().await.unwrap().code().unwrap();
    Ran { code, out: String::from_utf8_lossy(&out).into_owned(), err: String::new() }
}

#[tokio::test]
async fn of_two_operators_at_once_the_second_is_told_what_the_first_did() {
    let (fleet, key) = fleet(1).await;
    let slow = fleet.policy("slow", &policy(7));
    // She reads what would change while somebody else applies.
    let meanwhile = async {
        says(&fleet.apply(&policy(2)).await, 0, &["1 of 1 node in 1 region serve revision 2"]);
    };
    let ran = on_a_terminal(&fleet, &["apply", &slow], "as revision 2? [y/N]", meanwhile).await;
    let told = "others have assigned revision 2 of `dev` since revision 1 was";
    // The model, the most tokens and the text, as they went from 1 to 2, and what to do.
    says(&ran, 3, &[told, "odd-or-even", "max_output_tokens", "revision 2", "switchtower pull"]);
    all_serve(&fleet, &key, &[0], 2).await;
    let history = fleet.cli(&["history", "-e", ENVIRONMENT]).await.done();
    assert!(!history.contains("revision 3"), "{history}");
}
