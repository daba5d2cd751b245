//! No token, key, pepper or prompt in anything that a control plane and its nodes write: logs, metrics, spans, pages,
//! events, the store, the last known good. The files that tokens and pepper are given in are the exception.

use std::{fs, path::Path};

use base64::{Engine, engine::general_purpose::STANDARD};
use http::Request;
use serde_json::Value;
use switchtower_system_tests::{
    canary::found,
    collector::Collector,
    fleet::{CALLER, ENVIRONMENT, Fleet, Setup, page, policy},
    program::{self, Ran, beside},
    tower::prompt,
    until,
    wire::{self, Version},
};

fn planted(place: &str) -> String {
    let id: [u8; 12] = switchtower_keys::random().unwrap();
    format!("canary{}{place}", hex::encode(id))
}

/// All files of a folder, as text as far as they are.
fn files(folder: &Path) -> String {
    let mut text = String::new();
    for entry in fs::read_dir(folder).unwrap() {
        text.push_str(&String::from_utf8_lossy(&fs::read(entry.unwrap().path()).unwrap()));
    }
    text
}

fn bytes(folder: &Path) -> Vec<u8> {
    fs::read_dir(folder).unwrap().flat_map(|entry| fs::read(entry.unwrap().path()).unwrap()).collect()
}

/// What a key consists of, that only its owner has.
fn secrets(made: &Value) -> Vec<String> {
    let text = |name: &str| made[name].as_str().unwrap_or_else(|| panic!("no {name} in {made:#}")).to_owned();
    let bearer = text("api_key");
    let secret = bearer.rsplit('_').next().unwrap().to_owned();
    vec![bearer, secret, text("aws_secret_access_key")]
}

#[tokio::test]
async fn no_secret_of_a_fleet_comes_out_anywhere() {
    let collector = Collector::start().await.unwrap();
    let setup =
        Setup { nodes: 2, collector: Some(collector.url()), log: "debug,switchtower=trace", ..Setup::default() };
    let mut fleet = Fleet::start(setup).await;
    let (said, guess, wrong_operator) = (planted("prompt"), planted("guess"), planted("operator"));
    let key = fleet.key().await;
    let mut keys = vec![key.bearer.clone(), key.bearer.rsplit('_').next().unwrap().to_owned(), key.secret.clone()];
    let told = do_everything(&mut fleet, &key.id, &wrong_operator, &mut keys).await;

    // Prompts, and keys that are none of ours, on nodes and on the control plane.
    let wrong_key = format!("swt_{}_{}", "QUESSQUESSQUESSQ", "Z2".repeat(16));
    for (bearer, expected) in [(&key.bearer, 200), (&wrong_key, 401), (&guess, 401)] {
        for node in &fleet.nodes {
            let request = Request::post("/model/marked/converse")
                .header("authorization", format!("Bearer {bearer}"))
                .body(prompt(&said).to_string().into())
                .unwrap();
            assert_eq!(wire::send(node.address, Version::One, request).await.status, expected);
        }
    }
    // A node that shows what it must not, and one that begins with its disk.
    fleet.kill_node(1).await;
    fs::write(fleet.path("node.token"), format!("{guess}\n")).unwrap();
    fleet.start_node(1).await;
    fleet.nodes[1].program.as_mut().unwrap().says("token").await;

    let mut pages = String::new();
    for address in [fleet.admin, fleet.nodes[0].admin, fleet.nodes[1].admin] {
        for path in ["/metrics", "/readyz", "/healthz"] {
            pages.push_str(&String::from_utf8_lossy(&page(address, path).await.body));
        }
    }
    until("spans have come", || collector.all().contains("follow assignment")).await;
    let mut logs = vec![fleet.all_logs()];
    let programs: Vec<_> = fleet.nodes.iter_mut().filter_map(|node| node.program.take()).collect();
    for program in programs.into_iter().chain(fleet.plane.take()) {
        logs.push(program.terminate().await.1);
    }
    let disks = [fleet.data(), fleet.path("n1"), fleet.path("n2")];
    let places = [
        ("logs", logs.join("\n")),
        ("pages", pages),
        ("spans", collector.all()),
        ("what the command line said", told),
        ("store", files(&disks[0])),
        ("last known good", files(&disks[1]) + &files(&disks[2])),
    ];
    // What is searched is what was written: each tells of what was done here.
    let contains =
        |index: usize, part: &str| assert!(places[index].1.contains(part), "no {part} in the {}", places[index].0);
    contains(0, "keys in service");
    contains(0, "last known good in service");
    contains(1, "switchtower_requests_total");
    contains(1, "c1");
    contains(2, "follow assignment");
    contains(2, "switchtower.outcome");
    contains(3, "key_revoked");
    contains(4, &key.id);
    contains(4, CALLER);
    contains(5, "odd-or-even");

    let pepper_file: Value = serde_json::from_slice(&fs::read(fleet.path("pepper")).unwrap()).unwrap();
    let pepper = pepper_file["current"]["secret"].as_str().unwrap().to_owned();
    let raw = STANDARD.decode(&pepper).unwrap();
    for disk in &disks {
        assert!(!bytes(disk).windows(raw.len()).any(|window| window == raw), "the pepper is in {}", disk.display());
    }
    let mut sought = keys;
    sought.extend([said, guess, wrong_operator, wrong_key, pepper.trim_end_matches('=').to_owned(), hex::encode(raw)]);
    sought.extend([fleet.operator().to_owned(), fleet.fleet_token().to_owned()]);
    sought.push("the/nodes+own/secret+access/key+0123456".to_owned());
    let hits: Vec<String> = sought
        .iter()
        .flat_map(|secret| {
            places.iter().flat_map(move |(place, text)| {
                found(secret, text).into_iter().map(move |hit| format!("{secret} in the {place}, {hit}"))
            })
        })
        .collect();
    assert!(hits.is_empty(), "{} secrets came out:\n{}", hits.len(), hits.join("\n"));
}

/// All that an operator can do, well and badly. Gives what was said, but for keys that are shown once; these are added.
async fn do_everything(fleet: &mut Fleet, id: &str, wrong: &str, keys: &mut Vec<String>) -> String {
    let made = fleet.cli(&["key", "new", "-e", ENVIRONMENT, "--caller", CALLER, "--output", "json"]).await.json();
    keys.extend(secrets(&made));
    let other = made["id"].as_str().unwrap();
    let rotated = fleet.cli(&["key", "rotate", other, "-e", ENVIRONMENT, "--output", "json"]).await.json();
    keys.extend(secrets(if rotated["api_key"].is_null() { &rotated["key"] } else { &rotated }));
    let mut told = Vec::new();
    let mut tell = |ran: Ran| told.push(format!("{}\n{}", ran.out, ran.err));
    let mut traced = fleet.operator_env();
    traced.push(("TRACEPARENT", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()));
    let folder = fleet.policy("policy", &policy(2));
    tell(program::run(&beside("switchtower"), ["apply", &folder, "--yes", "--wait"], &traced).await);
    tell(fleet.apply("environment: dev\nroutes: { a: { tiers: [nothing] } }\n").await);
    for args in [
        &["key", "revoke", other, "-e", ENVIRONMENT][..],
        &["key", "revoke", "NOSUCHKEYNOSUCHK", "-e", ENVIRONMENT],
        &["key", "list", "-e", ENVIRONMENT, "--output", "json"],
        &["history", "-e", ENVIRONMENT, "--output", "json"],
        &["get", "-e", ENVIRONMENT],
        &["rollback", "-e", ENVIRONMENT, "--yes", "--wait"],
        &["promote", ENVIRONMENT, "live", "--yes"],
        &["status", "-e", ENVIRONMENT, "--nodes"],
        &["status", "-e", ENVIRONMENT, "--output", "json"],
        &["events", "-e", ENVIRONMENT],
        &["events", "-e", ENVIRONMENT, "--output", "json"],
    ] {
        tell(fleet.cli(args).await);
    }
    let envs =
        [("SWITCHTOWER_CONTROL_PLANE", format!("http://{}", fleet.control)), ("SWITCHTOWER_TOKEN", wrong.to_owned())];
    let refused = program::run(&beside("switchtower"), ["key", "revoke", id, "-e", ENVIRONMENT], &envs).await;
    assert_eq!(refused.code, 77, "{refused:#?}");
    tell(refused);
    told.join("\n")
}
