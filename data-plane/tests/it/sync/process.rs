//! The node as a process that is killed while it takes a policy.

use std::{path::Path, process::Stdio};

use switchtower_keys::Peppers;
use switchtower_policy::items;
use switchtower_proto::sync::v1;
use tokio::process::{Child, Command};

use super::{
    control::{Control, PATIENCE, TOKEN, policy, update},
    tower::pepper,
};

fn node(control: &Control, folder: &Path) -> Child {
    let path = |name: &str| folder.join(name).display().to_string();
    Command::new(env!("CARGO_BIN_EXE_switchtower-node"))
        .args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
        .args(["--control-plane", &control.url(), "--environment", "test", "--node-id", "node-1"])
        .args(["--data", &path("data"), "--token-file", &path("token"), "--pepper", &path("pepper.yaml")])
        .args(["--region", "us-east-1", "--upstream", "http://127.0.0.1:9"])
        .env_clear()
        .env("AWS_ACCESS_KEY_ID", "id")
        .env("AWS_SECRET_ACCESS_KEY", "secret")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

/// As an operator ends it.
async fn terminated(mut node: Child) {
    let id = node.id().unwrap().to_string();
    Command::new("kill").args(["-TERM", &id]).status().await.unwrap();
    let status = tokio::time::timeout(PATIENCE, node.wait()).await.unwrap().unwrap();
    assert!(status.success(), "{status}");
}

#[tokio::test]
async fn a_policy_whose_process_is_killed_four_times_is_not_served_a_fifth_time() {
    let mut control = Control::up().await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("token"), TOKEN).unwrap();
    Peppers::first(pepper()).write(&folder.path().join("pepper.yaml")).unwrap();
    let process = node(&control, folder.path());
    control.node().await.update(&update(1, None, &policy(1))).await.unwrap();
    terminated(process).await;

    let mut process = node(&control, folder.path());
    let mut stream = control.node().await;
    assert_eq!(stream.hello.held.as_ref().unwrap().assignment, 1);
    stream.update(&update(2, None, &policy(2))).await.unwrap();
    process.kill().await.unwrap();

    // It may be chance, or somebody outside.
    for _ in 0..3 {
        let mut process = node(&control, folder.path());
        let stream = control.node().await;
        assert_eq!((stream.hello.held.as_ref().unwrap().assignment, stream.hello.boot()), (2, v1::Boot::LastKnownGood));
        process.kill().await.unwrap();
    }

    let poison = items::digest(&policy(2)).to_vec();
    let process = node(&control, folder.path());
    let mut stream = control.node().await;
    assert_eq!((stream.hello.held.as_ref().unwrap().assignment, stream.hello.boot()), (1, v1::Boot::Reverted));
    assert_eq!(stream.hello.quarantined, std::slice::from_ref(&poison));
    let nack = stream.update(&update(2, None, &policy(2))).await.unwrap_err();
    assert_eq!((nack.violations[0].code.as_str(), &nack.content_digest), ("quarantined", &poison));
    terminated(process).await;
}
