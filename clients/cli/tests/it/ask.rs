use std::{
    io::Read,
    net::TcpListener,
    path::Path,
    process::{Command, Stdio},
};

use crate::support::{Dev, Ran, command, edit, example, run, run_with, until};

fn dev(folder: &Path) -> Dev {
    let policy = example(folder);
    Dev::start(["--policy", policy.to_str().unwrap()])
}

#[test]
fn an_answer_is_streamed_and_what_served_it_is_told_beside() {
    let folder = tempfile::tempdir().unwrap();
    let mut dev = dev(folder.path());
    let ran = dev.ask(&["quick", "an unusual word: syzygy", "--metadata", "session=s-1"]).exits(0);
    assert!(ran.out.contains("syzygy") && ran.out.ends_with('\n'), "{ran:#?}");
    for told in [
        "served by bedrock/us-east-1/us.amazon.nova-lite-v1:0: route `quick`, tier 1",
        "attempt 1: ",
        "$0.",
        "request ",
    ] {
        assert!(ran.err.contains(told), "{told}: {ran:#?}");
    }
    assert!(!ran.err.contains("syzygy"), "{ran:#?}");
    // A record of it, without what was said or by which key.
    dev.log(&["quick answered by bedrock/", "\"route\":\"quick\"", "\"caller\":\"acme-web\""]);
    let log = dev.logged();
    assert!(!log.contains("syzygy") && !log.contains(&dev.told("api_key")[21..]), "{log}");
}

#[test]
fn an_answer_is_one_document_for_programs() {
    let folder = tempfile::tempdir().unwrap();
    let dev = dev(folder.path());
    for more in [&[][..], &["--no-stream"][..]] {
        let args = ["quick", "hello there", "--output", "json", "--max-tokens", "50", "--temperature", "0.5"];
        let ran = dev.ask(&[&args, more].concat()).exits(0);
        let document = ran.json();
        assert!(document["text"].as_str().unwrap().contains("hello there"), "{ran:#?}");
        assert_eq!(document["completeness"], "complete");
        assert_eq!(document["finish_reason"], "end_turn");
        assert!(document["usage"]["output_tokens"].as_u64().unwrap() > 0);
        assert!(document["cost_usd"].as_f64().unwrap() > 0.0);
        assert_eq!(document["served"]["route"], "quick");
        assert_eq!(document["served"]["attempts"][0]["outcome"], "ok");
        assert_eq!(document["served"]["revision"], dev.up["revision"]);
        assert_eq!(ran.err, "");
    }
}

#[test]
fn the_prompt_may_come_through_a_pipe() {
    let folder = tempfile::tempdir().unwrap();
    let dev = dev(folder.path());
    let address = ["ask", "quick", "--endpoint", dev.told("endpoint"), "--api-key", dev.told("api_key")];
    for dash in [&[][..], &["-"][..]] {
        let ran = run_with(address.iter().chain(dash), "piped words").exits(0);
        assert!(ran.out.contains("piped words"), "{ran:#?}");
    }
}

#[test]
fn a_refusal_says_what_to_do_next() {
    let folder = tempfile::tempdir().unwrap();
    let dev = dev(folder.path());
    let check = |ran: Ran, code: i32, says: &[&str]| {
        let ran = ran.exits(code);
        for says in says {
            assert!(ran.err.contains(says), "{says}: {ran:#?}");
        }
    };
    let endpoint = dev.told("endpoint");
    check(run(["ask", "quick", "hi", "--endpoint", endpoint]), 77, &["SWITCHTOWER_API_KEY", "switchtower key new"]);
    let wrong = format!("swt_AAAAAAAAAAAAAAAA_{}", "A".repeat(32));
    check(run(["ask", "quick", "hi", "--endpoint", endpoint, "--api-key", &wrong]), 77, &["revoked"]);
    check(dev.ask(&["quik", "hi"]), 65, &["quick", "UNKNOWN_ROUTE", "next: "]);
    check(dev.ask(&["quick", "hi", "--timeout", "1ms"]), 75, &["--timeout"]);
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    check(
        run(["ask", "quick", "hi", "--endpoint", &format!("http://{closed}")]),
        69,
        &[&format!("http://{closed}"), "refused", "switchtower dev"],
    );
    check(run(["ask", "quick", "hi", "--endpoint", "127.0.0.1:80"]), 64, &["https:// or http://"]);
    let error = dev.ask(&["quik", "hi", "--output", "json"]).exits(65).error();
    assert_eq!((&error["reason"], &error["exit_code"]), (&"UNKNOWN_ROUTE".into(), &65.into()));
    assert!(error["request_id"].is_string() && error["next"].is_string(), "{error:#}");
}

#[test]
fn the_policys_own_answer_says_that_it_is_one() {
    let folder = tempfile::tempdir().unwrap();
    let policy = example(folder.path());
    edit(&policy.join("routes.yaml"), "    tiers: [nova-lite]", "    tiers: [{ answer: Later. }]");
    let dev = Dev::start(["--policy", policy.to_str().unwrap()]);
    let ran = dev.ask(&["quick", "hi"]).exits(0);
    assert_eq!(ran.out, "Later.\n");
    assert!(ran.err.contains("degraded"), "{ran:#?}");
}

#[test]
fn a_throttled_answer_is_worth_trying_again() {
    let folder = tempfile::tempdir().unwrap();
    let policy = example(folder.path());
    let script = folder.path().join("script.yaml");
    let region = "{ behaviour: { fail: { error: ThrottlingException } } }";
    std::fs::write(&script, format!("regions: {{ us-east-1: {region}, us-west-2: {region} }}\n")).unwrap();
    let mut dev = Dev::start(["--policy", policy.to_str().unwrap(), "--script", script.to_str().unwrap()]);
    let ran = dev.ask(&["quick", "hi"]).exits(75);
    assert!(ran.err.contains("THROTTLED") && ran.err.contains("try again"), "{ran:#?}");
    dev.log(&["quick refused after", "throttled"]);
}

#[test]
fn a_stream_that_breaks_is_not_taken_for_an_answer() {
    let folder = tempfile::tempdir().unwrap();
    let policy = example(folder.path());
    let script = folder.path().join("script.yaml");
    let region = "{ behaviour: { text: some words and more, in_stream: { after_events: 3, error: cut } } }";
    std::fs::write(&script, format!("regions: {{ us-east-1: {region}, us-west-2: {region} }}\n")).unwrap();
    let dev = Dev::start(["--policy", policy.to_str().unwrap(), "--script", script.to_str().unwrap()]);
    let ran = until("the stream breaks after its first word", || {
        let ran = dev.ask(&["quick", "hi"]);
        (!ran.out.is_empty()).then_some(ran)
    });
    let ran = ran.exits(75);
    assert!(ran.out.starts_with("some") && ran.err.contains("not the whole answer"), "{ran:#?}");
}

#[test]
fn ctrl_c_cancels_the_request_at_the_node() {
    let folder = tempfile::tempdir().unwrap();
    let policy = example(folder.path());
    let script = folder.path().join("script.yaml");
    let region = "{ behaviour: { words: 1000, tokens_per_second: 5 } }";
    std::fs::write(&script, format!("regions: {{ us-east-1: {region} }}\n")).unwrap();
    let mut dev = Dev::start(["--policy", policy.to_str().unwrap(), "--script", script.to_str().unwrap()]);
    let args = ["ask", "quick", "hi", "--endpoint", dev.told("endpoint"), "--api-key", dev.told("api_key")];
    let mut child = command(args).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    // It shows words as they come, long before the last.
    child.stdout.as_mut().unwrap().read_exact(&mut [0; 1]).unwrap();
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    dev.log(&["quick left by its caller"]);
}
