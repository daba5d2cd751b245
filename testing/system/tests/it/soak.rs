//! A policy that changes every second under load: no request fails, is served by two revisions, or by an older one than
//! a request before it.
//!
//! It takes a minute beside the other tests; `SWITCHTOWER_SOAK_SECONDS` says otherwise, and `make soak` runs it for ten.

use std::{env, time::Duration};

use switchtower_client::control::wire::ApplyRequest;
use switchtower_policy::{File, items, read};
use switchtower_system_tests::{
    fleet::{ENVIRONMENT, Fleet, Setup, policy, request, revision},
    load::Load,
};
use tokio::time::{Instant, MissedTickBehavior, interval};

/// Requests a second.
const PER_SECOND: u32 = 500;
/// Connections that they come over.
const LANES: u32 = 32;

fn seconds() -> u64 {
    let told = env::var("SWITCHTOWER_SOAK_SECONDS").ok();
    told.map_or(60, |text| text.parse().expect("SWITCHTOWER_SOAK_SECONDS is a number of seconds"))
}

fn apply(number: u64) -> ApplyRequest {
    let files = [File { name: "policy.yaml".to_owned(), bytes: policy(number).into_bytes() }];
    ApplyRequest {
        environment: ENVIRONMENT.to_owned(),
        items: items::items(&read(&files).policy),
        parent: Some(number - 1),
        message: format!("change {number}"),
        ..ApplyRequest::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_requests_a_second_do_not_notice_a_change_every_second() {
    let fleet = Fleet::start(Setup {
        nodes: 1,
        log: "warn,switchtower_node=info,switchtower_control_plane=info",
        ..Setup::default()
    })
    .await;
    let key = fleet.key().await;
    let requests = ["marked", "canned"].map(|route| request(route, &key.bearer));
    let client = fleet.client().await;
    let load = Load::start(&[fleet.nodes[0].address], &requests, PER_SECOND, LANES, revision);
    let (began, mut newest) = (Instant::now(), 1);
    let mut ticks = interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    while began.elapsed() < Duration::from_secs(seconds()) {
        ticks.tick().await;
        let applied = client.apply(apply(newest + 1)).await.unwrap();
        newest += 1;
        assert_eq!(applied.revision.unwrap().record.unwrap().number, newest);
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let tally = load.end().await;
    let took = began.elapsed();
    let per_second = tally.answered() as f64 / took.as_secs_f64();
    println!("{newest} revisions in {took:?}, {per_second:.0} answers a second, the slowest in {:?}", tally.slowest);
    assert_eq!((tally.failed, tally.went_back), (0, 0), "{tally:#?}");
    // Each revision came to serve, the last at the latest.
    let seen: Vec<u64> = tally.served.keys().copied().collect();
    assert_eq!(seen, (1..=newest).collect::<Vec<_>>(), "{tally:#?}");
    // On a machine that is busy with other tests there may be fewer, but it must have been a load.
    assert!(per_second >= f64::from(PER_SECOND) / 5.0, "only {per_second:.0} answers a second: {tally:#?}");
}
