use std::{
    path::Path,
    process::{Command, Stdio},
};

use crate::support::{Dev, PROGRAM, command, edit, example, run, shell, until};

fn start(policy: &Path) -> Dev {
    Dev::start(["--policy", policy.to_str().unwrap()])
}

#[test]
fn the_commands_it_prints_work_as_they_are_printed() {
    let folder = tempfile::tempdir().unwrap();
    let policy = example(folder.path());
    let dev = start(&policy);
    assert_eq!(dev.told("caller"), "acme-web");
    let tries = dev.up["try"].as_array().unwrap();
    let command = |number: usize| tries[number]["command"].as_str().unwrap();
    assert!(command(0).starts_with(PROGRAM), "{}", command(0));
    let ran = shell(command(0)).exits(0);
    assert!(ran.out.contains("hello") && ran.err.contains("route `support-chat`"), "{ran:#?}");
    let ran = shell(command(1)).exits(0);
    assert!(ran.json()["output"]["message"]["content"][0]["text"].as_str().unwrap().contains("hello"), "{ran:#?}");
    assert!(dev.target("quick").contains("nova-lite"));
    let ran = shell(command(2)).exits(0);
    assert!(ran.err.contains("sonnet") && ran.err.contains("route `quick`"), "{ran:#?}");
    assert!(dev.target("quick").contains("sonnet"));
}

#[test]
fn people_are_told_the_same_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let policy = example(folder.path());
    let mut child = command(["dev", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--policy"])
        .arg(&policy)
        .stdout(std::fs::File::create(folder.path().join("out")).unwrap())
        .stderr(std::fs::File::create(folder.path().join("err")).unwrap())
        .spawn()
        .unwrap();
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    until("it is up", || read("out").contains("Ctrl-C").then_some(()));
    let out = read("out");
    let ask = out.lines().find(|line| line.trim_start().starts_with(PROGRAM)).unwrap().to_owned();
    for told in ["callers ", "admin ", "fake ", "us-west-2", "its control", "key ", "AWS_ENDPOINT_URL_BEDROCK_RUNTIME"]
    {
        assert!(out.contains(told), "{told}: {out}");
    }
    shell(&ask).exits(0);
    until("the request is told", || read("err").contains(" answered by ").then_some(()));
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(!read("out").contains('\u{1b}') && !read("err").contains('\u{1b}'));
}

#[test]
fn an_edited_policy_serves_without_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let policy = example(folder.path());
    let dev = start(&policy);
    assert!(dev.target("quick").contains("nova-lite"));
    edit(&policy.join("routes.yaml"), "    tiers: [nova-lite]", "    tiers: [sonnet]");
    until("the edit serves", || dev.target("quick").contains("sonnet").then_some(()));
    assert_ne!(dev.ready().1["revision"], dev.up["revision"]);
}

#[test]
fn a_policy_turned_bad_leaves_the_old_one_serving_and_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let policy = example(folder.path());
    let mut dev = start(&policy);
    edit(&policy.join("routes.yaml"), "    tiers: [nova-lite]", "    tiers: [nova-lit]");
    dev.log(&["unknown_model", "routes.quick.tiers[0]", "nova-lite"]);
    let ready = until("it is told", || {
        let (status, body) = dev.ready();
        assert_eq!(status, 200);
        (!body["policy_problems"].as_array().unwrap().is_empty()).then_some(body)
    });
    assert_eq!(ready["revision"], dev.up["revision"]);
    assert!(ready["policy_problems"][0].as_str().unwrap().contains("unknown_model"), "{ready:#}");
    assert!(dev.target("quick").contains("nova-lite"));
    edit(&policy.join("routes.yaml"), "    tiers: [nova-lit]", "    tiers: [sonnet]");
    until("the correction serves", || dev.target("quick").contains("sonnet").then_some(()));
    assert_eq!(dev.ready().1["policy_problems"], serde_json::json!([]));
}

#[test]
fn a_policy_that_is_bad_at_first_serves_when_it_is_corrected() {
    let folder = tempfile::tempdir().unwrap();
    let policy = example(folder.path());
    edit(&policy.join("routes.yaml"), "    tiers: [nova-lite]", "    tiers: [nova-lit]");
    let mut dev = start(&policy);
    assert!(dev.up["caller"].is_null() && dev.up["revision"].is_null());
    assert_eq!(dev.ready().0, 503);
    dev.ask(&["quick", "hi"]).exits(69);
    edit(&policy.join("routes.yaml"), "    tiers: [nova-lit]", "    tiers: [nova-lite]");
    dev.log(&["the key speaks for this caller now", "acme-web"]);
    assert!(dev.target("quick").contains("nova-lite"));
}

#[test]
fn the_key_follows_the_policys_first_caller() {
    let folder = tempfile::tempdir().unwrap();
    let policy = example(folder.path());
    let key = format!("swt_ABCDEFGHIJKLMNOP_{}", "A".repeat(32));
    let mut dev = Dev::start(["--policy", policy.to_str().unwrap(), "--api-key", &key]);
    assert_eq!(dev.told("api_key"), key);
    edit(&policy.join("routes.yaml"), "  acme-web: {", "  acme-app: {");
    dev.log(&["the key speaks for this caller now", "acme-app"]);
    dev.target("quick");
}

#[test]
fn a_region_that_fails_is_failed_over_from() {
    let folder = tempfile::tempdir().unwrap();
    let policy = example(folder.path());
    let dev = start(&policy);
    let break_it = format!(
        "curl -sSf -X PATCH {}/region/us-east-1 -d '{{\"fail\":{{\"error\":\"ServiceUnavailableException\"}}}}'",
        dev.told("fake_control")
    );
    shell(&break_it).exits(0);
    let ran = dev.ask(&["quick", "hi"]).exits(0);
    assert!(ran.err.contains("served by bedrock/us-west-2/"), "{ran:#?}");
    assert!(ran.err.contains("attempt 1: bedrock/us-east-1/") && ran.err.contains("attempt 2: "), "{ran:#?}");
}

#[test]
fn another_upstream_stands_in_for_the_fake() {
    let folder = tempfile::tempdir().unwrap();
    let policy = example(folder.path());
    let behind = start(&policy);
    let upstream = format!("us-east-1={}", behind.up["fake"]["us-east-1"].as_str().unwrap());
    let dev = Dev::start(["--policy", policy.to_str().unwrap(), "--upstream", &upstream]);
    assert_eq!(dev.up["fake"], serde_json::json!({}));
    assert!(dev.target("quick").starts_with("bedrock/us-east-1/"));
}

#[test]
fn a_key_made_with_other_files_is_not_let_in() {
    let folder = tempfile::tempdir().unwrap();
    let dev = start(&example(folder.path()));
    let keys = folder.path().join("keys.yaml");
    let made = run(["key", "new", "--caller", "acme-web", "--output", "json", "--file", keys.to_str().unwrap()]);
    let made = made.exits(0).json();
    let key = made["api_key"].as_str().unwrap();
    run(["ask", "quick", "hi", "--endpoint", dev.told("endpoint"), "--api-key", key]).exits(77);
}

#[test]
fn signals_end_it_as_planned() {
    for signal in ["-INT", "-TERM"] {
        let folder = tempfile::tempdir().unwrap();
        let dev = start(&example(folder.path()));
        dev.target("quick");
        assert_eq!(dev.end(signal), Some(0), "{signal}");
    }
}

#[test]
fn a_port_that_is_taken_is_an_error_if_it_was_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let policy = example(folder.path());
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let args = ["dev", "--listen", &address, "--admin-listen", "127.0.0.1:0", "--policy", policy.to_str().unwrap()];
    let ran = command(args).stdin(Stdio::null()).output().unwrap();
    let err = String::from_utf8(ran.stderr).unwrap();
    assert_eq!(ran.status.code(), Some(1), "{err}");
    assert!(err.contains(&address) && err.contains("--listen"), "{err}");
}
