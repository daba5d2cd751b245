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
    let mut child = command([
        "dev",
        "--listen",
        "127.0.0.1:0",
        "--admin-listen",
        "127.0.0.1:0",
        "--control-listen",
        "127.0.0.1:0",
        "--policy",
    ])
    .arg(&policy)
    .stdout(std::fs::File::create(folder.path().join("out")).unwrap())
    .stderr(std::fs::File::create(folder.path().join("err")).unwrap())
    .spawn()
    .unwrap();
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    until("it is up", || read("out").contains("Ctrl-C").then_some(()));
    let out = read("out");
    let ask = out.lines().find(|line| line.trim_start().starts_with(PROGRAM)).unwrap().to_owned();
    for told in [
        "control plane ",
        "node ",
        "admin ",
        "fake ",
        "us-west-2",
        "its control",
        "key ",
        " apply ",
        "AWS_ENDPOINT_URL_BEDROCK_RUNTIME",
    ] {
        assert!(out.contains(told), "{told}: {out}");
    }
    shell(&ask).exits(0);
    until("the request is told", || read("err").contains(" answered by ").then_some(()));
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(!read("out").contains('\u{1b}') && !read("err").contains('\u{1b}'));
}

#[test]
fn an_applied_edit_serves_on_every_node() {
    let folder = tempfile::tempdir().unwrap();
    let policy = example(folder.path());
    let dev = Dev::start(["--policy", policy.to_str().unwrap(), "--nodes-per-region", "2"]);
    assert_eq!(dev.up["nodes"].as_array().unwrap().len(), 4);
    assert!(dev.target("quick").contains("nova-lite"));
    edit(&policy.join("routes.yaml"), "    tiers: [nova-lite]", "    tiers: [sonnet]");
    // Nothing is applied by itself.
    assert!(dev.target("quick").contains("nova-lite"));
    let ran = dev.operate(&["apply", policy.to_str().unwrap(), "--yes", "--wait"]).exits(0);
    assert!(ran.out.contains("4 of 4 nodes in 2 regions serve revision 2"), "{ran:#?}");
    for node in dev.up["nodes"].as_array().unwrap() {
        let endpoint = node["endpoint"].as_str().unwrap();
        let asked =
            ["ask", "quick", "hi", "--output", "json", "--endpoint", endpoint, "--api-key", dev.told("api_key")];
        let answer = run(asked).exits(0).json();
        assert!(answer["served"]["target"].as_str().unwrap().contains("sonnet"), "{answer:#}");
    }
}

#[test]
fn a_refused_edit_is_explained_and_the_old_policy_serves() {
    let folder = tempfile::tempdir().unwrap();
    let policy = example(folder.path());
    let dev = start(&policy);
    edit(&policy.join("routes.yaml"), "    tiers: [nova-lite]", "    tiers: [nova-lit]");
    let ran = dev.operate(&["apply", policy.to_str().unwrap(), "--yes"]).exits(65);
    assert!(ran.out.contains("routes.yaml") && ran.out.contains("did you mean `nova-lite`"), "{ran:#?}");
    assert!(dev.target("quick").contains("nova-lite"));
    assert_eq!(dev.ready().1["revision"], "1");
}

#[test]
fn a_policy_that_is_bad_at_first_serves_when_it_is_corrected_and_applied() {
    let folder = tempfile::tempdir().unwrap();
    let policy = example(folder.path());
    edit(&policy.join("routes.yaml"), "    tiers: [nova-lite]", "    tiers: [nova-lit]");
    let mut dev = start(&policy);
    assert!(dev.up["caller"].is_null() && dev.up["revision"].is_null());
    assert_eq!(dev.ready().0, 503);
    dev.log(&["unknown_model", "routes.quick.tiers[0]", "nova-lite"]);
    edit(&policy.join("routes.yaml"), "    tiers: [nova-lit]", "    tiers: [nova-lite]");
    dev.operate(&["apply", policy.to_str().unwrap(), "--yes", "--wait"]).exits(0);
    until("it is ready", || (dev.ready().0 == 200).then_some(()));
    let made = dev.operate(&["key", "new", "--caller", "acme-web", "--output", "json"]).exits(0).json();
    let key = made["api_key"].as_str().unwrap();
    let asked = ["ask", "quick", "hi", "--endpoint", dev.told("endpoint"), "--api-key", key];
    until("the key is known", || (run(asked).code == Some(0)).then_some(()));
}

#[test]
fn its_state_is_found_again() {
    let folder = tempfile::tempdir().unwrap();
    let policy = example(folder.path());
    let data = folder.path().join("tower");
    let args = ["--policy", policy.to_str().unwrap(), "--data", data.to_str().unwrap()];
    let dev = Dev::start(args);
    let key = dev.told("api_key").to_owned();
    edit(&policy.join("routes.yaml"), "    tiers: [nova-lite]", "    tiers: [sonnet]");
    dev.operate(&["apply", policy.to_str().unwrap(), "--yes", "--wait"]).exits(0);
    assert_eq!(dev.end("-TERM"), Some(0));
    let dev = Dev::start(args);
    assert_eq!(dev.told("api_key"), key);
    assert_eq!(dev.told("revision"), "2");
    assert!(dev.target("quick").contains("sonnet"));
}

#[test]
fn a_given_key_is_the_one() {
    let folder = tempfile::tempdir().unwrap();
    let policy = example(folder.path());
    let key = format!("swt_ABCDEFGHIJKLMNOP_{}", "A".repeat(32));
    let dev = Dev::start(["--policy", policy.to_str().unwrap(), "--api-key", &key]);
    assert_eq!(dev.told("api_key"), key);
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
    let free = "127.0.0.1:0";
    let listen = ["dev", "--listen", &address, "--admin-listen", free, "--control-listen", free];
    let args = listen.into_iter().chain(["--policy", policy.to_str().unwrap()]);
    let ran = command(args).stdin(Stdio::null()).output().unwrap();
    let err = String::from_utf8(ran.stderr).unwrap();
    assert_eq!(ran.status.code(), Some(1), "{err}");
    assert!(err.contains(&address) && err.contains("--listen"), "{err}");
}
