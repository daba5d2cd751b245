//! A policy that changes under a running node.

use switchtower_system_tests::{
    logs,
    tower::{POLICY, Tower, WEST, prompt},
    until,
};

#[tokio::test]
async fn a_policy_that_turns_bad_leaves_the_old_one_serving_until_a_good_one_comes() {
    let tower = Tower::up().await;
    let before = tower.admin("/readyz").await;
    assert_eq!(before.status, 200);
    let revision = before.json()["revision"].clone();
    assert_eq!(before.json()["policy_problems"], serde_json::json!([]));

    // Two mistakes at once: both are told, with file, line and column.
    let bad = POLICY.replace("tiers: [sonnet, nova]", "tiers: [sonet, nova]").replace("idle: 1s", "idle: soon");
    tower.write_policy("tower.yaml", &bad);
    until("the bad policy is seen", || !tower.node.policy.now().problems.is_empty()).await;
    let state = tower.admin("/readyz").await;
    assert_eq!((state.status, &state.json()["revision"]), (200, &revision), "what served before keeps serving");
    let problems = state.json()["policy_problems"].to_string();
    for part in ["tower.yaml:", "sonet", "sonnet", "soon"] {
        assert!(problems.contains(part), "{part}: {problems}");
    }
    assert!(tower.metric("switchtower_policy_violations").await >= 2.0);
    assert_eq!(tower.metric("switchtower_policy_refusals_total").await, 1.0);
    let folder = tower.policy_folder();
    let lines = logs::lines_with(&[folder.to_str().unwrap(), "sonet"]);
    assert!(lines.iter().any(|line| line["level"] == "ERROR"), "{lines:?}");
    tower.assert_serves().await;

    // What is not even YAML, and what is not there at all.
    tower.write_policy("tower.yaml", "routes: [unclosed");
    let problems = || tower.node.policy.now().problems.join(" ");
    until("it is refused", || problems().contains("tower.yaml") && !problems().contains("sonet")).await;
    std::fs::remove_file(folder.join("tower.yaml")).unwrap();
    until("its absence is seen", || problems().contains("no .yaml file")).await;
    tower.assert_serves().await;

    let good = POLICY.replace("[us-east-1, us-west-2]", "[us-west-2]");
    tower.write_policy("tower.yaml", &good);
    until("the good one serves", || tower.node.policy.now().problems.is_empty()).await;
    let after = tower.admin("/readyz").await;
    assert_ne!(after.json()["revision"], revision);
    let reply = tower.converse("chat", &prompt("hi")).await;
    assert!(reply.header("x-switchtower-target").contains(WEST), "{reply:?}");
    assert_eq!(reply.header("x-switchtower-revision"), after.json()["revision"]);
    assert_eq!(tower.metric("switchtower_policy_violations").await, 0.0);
}

#[tokio::test]
async fn a_stream_that_began_under_one_revision_ends_under_it() {
    let tower = Tower::up().await;
    tower.everywhere(&crate::faults::breaking(2, switchtower_fake_bedrock::Break::Hang));
    let mut stream = tower.open_stream("chat", &prompt("hi")).await;
    let revision = stream.response.headers()["x-switchtower-revision"].clone();
    assert!(stream.next().await.is_some());
    tower.write_policy("tower.yaml", &POLICY.replace("  chat:\n", "  chatter:\n").replace("[chat,", "[chatter,"));
    until("the new policy serves", || tower.node.policy.now().revision.as_deref() != revision.to_str().ok()).await;
    assert_eq!(tower.converse("chat", &prompt("hi")).await.status, 404);
    assert_eq!(tower.fake.counts().cancelled(), 0, "the stream of the old policy goes on");
}

#[tokio::test]
async fn a_node_without_a_policy_says_so_and_begins_to_serve_when_one_comes() {
    let setup = switchtower_system_tests::tower::Setup {
        policy: vec![("tower.yaml", "environment: [".to_owned())],
        ..Default::default()
    };
    let tower = Tower::start(setup).await;
    let state = tower.admin("/readyz").await;
    assert_eq!((state.status, &state.json()["ready"]), (503, &serde_json::json!(false)));
    assert_eq!(tower.admin("/healthz").await.status, 200);
    let reply = tower.converse("chat", &prompt("hi")).await;
    assert_eq!((reply.status, reply.header("x-amzn-errortype")), (503, "ServiceUnavailableException"));
    tower.write_policy("tower.yaml", POLICY);
    until("it serves", || tower.node.policy.now().revision.is_some()).await;
    tower.assert_serves().await;
}
