//! Before the first content: what another target mends, and what none does.

use std::time::{Duration, Instant};

use serde_json::json;
use switchtower_fake_bedrock::{Behaviour, Break, Exception, Fail, InStream, Outage};
use switchtower_system_tests::{
    events,
    tower::{EAST, NOVA, SONNET, Setup, Tower, WEST, echo, prompt, said},
    until,
};

use crate::faults::{OVERLOAD, breaking, failing};

/// Where requests went, in order: region and model.
fn tried(tower: &Tower) -> Vec<String> {
    tower
        .fake
        .requests()
        .iter()
        .map(|request| {
            let model = if request.path.contains("nova") { "nova" } else { "sonnet" };
            format!("{model} {}", request.region)
        })
        .collect()
}

#[tokio::test]
async fn what_one_region_refuses_the_other_answers() {
    let tower = Tower::up().await;
    for (exception, outcome) in [
        (Exception::ThrottlingException, "throttled"),
        (Exception::ServiceQuotaExceededException, "quota_exceeded"),
        (Exception::ModelNotReadyException, "model_not_ready"),
        (Exception::ServiceUnavailableException, "unavailable"),
        (Exception::InternalServerException, "internal"),
        (Exception::ModelTimeoutException, "model_timeout"),
        (Exception::ModelErrorException, "model_error"),
        (Exception::AccessDeniedException, "misconfigured"),
        (Exception::ResourceNotFoundException, "misconfigured"),
    ] {
        tower.fake.behave(EAST, failing(exception));
        tower.fake.reset_counts();
        let whole = tower.converse("chat", &prompt("hi")).await;
        let stream = tower.converse_stream("chat", &prompt("hi")).await;
        assert_eq!(said(&whole.json()), echo(SONNET, WEST, "hi"), "{exception:?}");
        assert_eq!(events::text(&events::decode(&stream.body)), echo(SONNET, WEST, "hi"), "{exception:?}");
        for reply in [whole, stream] {
            assert_eq!(reply.header("x-switchtower-attempts"), "2", "{exception:?}");
            assert_eq!(reply.header("x-switchtower-target"), format!("bedrock/{WEST}/{SONNET}"));
            assert_eq!(reply.header("x-switchtower-degraded"), "");
        }
        assert_eq!(tried(&tower), ["sonnet us-east-1", "sonnet us-west-2"].repeat(2), "{exception:?}");
        let line = format!(r#"switchtower_attempts_total{{target="bedrock/{EAST}/{SONNET}",outcome="{outcome}"}}"#);
        assert!(tower.metric(&line).await >= 2.0, "{line}\n{}", tower.metrics().await);
    }
}

#[tokio::test]
async fn credentials_that_are_refused_are_fetched_again_and_tried_there_once_more() {
    let tower = Tower::up().await;
    let once = Fail { times: Some(1), ..Fail::with(Exception::ExpiredTokenException) };
    tower.fake.behave(EAST, Behaviour { fail: Some(once), ..Behaviour::default() });
    let reply = tower.converse("chat", &prompt("hi")).await;
    assert_eq!(said(&reply.json()), echo(SONNET, EAST, "hi"));
    assert_eq!(tried(&tower), ["sonnet us-east-1", "sonnet us-east-1"]);
    // Where they are refused for good, the other region is as good as ever.
    tower.fake.reset_counts();
    tower.fake.behave(EAST, failing(Exception::ExpiredTokenException));
    let reply = tower.converse_stream("chat", &prompt("hi")).await;
    assert_eq!(events::text(&events::decode(&reply.body)), echo(SONNET, WEST, "hi"));
    assert_eq!(tried(&tower), ["sonnet us-east-1", "sonnet us-east-1", "sonnet us-west-2"]);
}

#[tokio::test]
async fn what_is_wrong_everywhere_is_sent_nowhere_else() {
    let tower = Tower::up().await;
    for exception in [Exception::ValidationException, Exception::ConflictException] {
        tower.everywhere(&failing(exception));
        tower.fake.reset_counts();
        let reply = tower.converse("safe", &prompt("hi")).await;
        assert_eq!((reply.status, reply.header("x-amzn-errortype")), (400, "ValidationException"), "{exception:?}");
        assert_eq!(reply.header("x-switchtower-attempts"), "1");
        assert_eq!(tried(&tower), ["sonnet us-east-1"]);
    }
}

#[tokio::test]
async fn a_region_whose_connections_fail_is_left_for_the_other() {
    for outage in [Outage::Refuse, Outage::Reset, Outage::Close, Outage::BlackHole] {
        let tower = Tower::up().await;
        tower.fake.behave(EAST, Behaviour { outage: Some(outage), ..Behaviour::default() });
        // A black hole is noticed by the timer of the first content alone, which whole answers do not have.
        if outage != Outage::BlackHole {
            let reply = tower.converse("impatient", &prompt("hi")).await;
            assert_eq!(said(&reply.json()), echo(SONNET, WEST, "hi"), "{outage:?}");
        }
        let reply = tower.converse_stream("impatient", &prompt("hi")).await;
        assert_eq!(events::text(&events::decode(&reply.body)), echo(SONNET, WEST, "hi"), "{outage:?}");
        assert_eq!(reply.header("x-switchtower-attempts"), "2", "{outage:?}");
    }
}

#[tokio::test]
async fn attempts_that_were_never_sent_cost_none_so_every_tier_is_reached() {
    let tower = Tower::up().await;
    tower.everywhere(&Behaviour { outage: Some(Outage::Refuse), ..Behaviour::default() });
    let reply = tower.converse("safe", &prompt("hi")).await;
    assert_eq!(reply.header("x-switchtower-degraded"), "true", "{reply:?}");
    // Two regions of two models.
    assert_eq!(reply.header("x-switchtower-attempts"), "4");
}

#[tokio::test]
async fn when_all_is_down_the_answer_tier_answers_in_the_form_that_was_asked_for() {
    let tower = Tower::up().await;
    tower.everywhere(&failing(Exception::ServiceUnavailableException));
    let mut asked = prompt("hi");
    asked["requestMetadata"] = json!({ "ticket": "T-1" });
    let expected = "We are busy. Ticket T-1 is in the queue.";
    let whole = tower.converse("safe", &asked).await;
    assert_eq!((whole.status, said(&whole.json())), (200, expected));
    assert_eq!(whole.json()["usage"]["totalTokens"], 0);
    let stream = tower.converse_stream("safe", &asked).await;
    let heard = events::decode(&stream.body);
    assert_eq!(events::text(&heard), expected);
    assert_eq!(
        events::names(&heard),
        ["messageStart", "contentBlockDelta", "contentBlockStop", "messageStop", "metadata"]
    );
    for reply in [&whole, &stream] {
        assert_eq!(reply.header("x-switchtower-degraded"), "true");
        assert_eq!((reply.header("x-switchtower-tier"), reply.header("x-switchtower-target")), ("3", ""));
        // Three paid attempts, the last kept for the next tier.
        assert_eq!(reply.header("x-switchtower-attempts"), "3");
    }
    assert_eq!(tried(&tower), ["sonnet us-east-1", "sonnet us-west-2", "nova us-east-1"].repeat(2));
    // A header's metadata goes before the body's.
    let request = tower.post("/model/safe/converse").header("x-switchtower-metadata-ticket", "T-2");
    let reply = tower.send(request, asked.to_string()).await;
    assert_eq!(said(&reply.json()), "We are busy. Ticket T-2 is in the queue.");
    // Without an answer tier, it is an error.
    let reply = tower.converse("chat", &asked).await;
    assert_eq!((reply.status, reply.header("x-amzn-errortype")), (503, "ServiceUnavailableException"));
    assert_eq!(reply.header("x-switchtower-attempts"), "2");
}

#[tokio::test]
async fn a_stream_that_breaks_before_its_first_content_is_replaced_unseen() {
    let tower = Tower::up().await;
    for broken in
        [OVERLOAD, Break::UnmodelledError, Break::Cut, Break::CutInsideFrame, Break::BadChecksum, Break::AbsurdLength]
    {
        for after in [0, 1] {
            tower.fake.behave(EAST, breaking(after, broken));
            let reply = tower.converse_stream("chat", &prompt("hi")).await;
            let heard = events::decode(&reply.body);
            assert_eq!(events::text(&heard), echo(SONNET, WEST, "hi"), "{broken:?} after {after}");
            assert_eq!(events::names(&heard).iter().filter(|name| **name == "messageStart").count(), 1);
            assert_eq!(reply.header("x-switchtower-attempts"), "2", "{broken:?} after {after}");
        }
    }
}

#[tokio::test]
async fn a_target_that_says_nothing_in_time_is_left_and_the_call_there_cancelled() {
    let tower = Tower::up().await;
    for behaviour in [
        Behaviour { outage: Some(Outage::Hang), ..Behaviour::default() },
        Behaviour { in_stream: Some(InStream::after(1, Break::Hang)), ..Behaviour::default() },
        Behaviour { first_token_delay: Duration::from_secs(60), ..Behaviour::default() },
    ] {
        tower.fake.reset_counts();
        tower.fake.behave(EAST, behaviour.clone());
        let started = Instant::now();
        let reply = tower.converse_stream("impatient", &prompt("hi")).await;
        assert_eq!(events::text(&events::decode(&reply.body)), echo(SONNET, WEST, "hi"), "{behaviour:?}");
        assert!(started.elapsed() >= Duration::from_secs(1), "{behaviour:?}");
        assert_eq!(reply.header("x-switchtower-attempts"), "2");
        until("the slow one is left", || tower.fake.counts().region(EAST).cancelled == 1).await;
    }
}

#[tokio::test]
async fn the_routes_total_bounds_a_whole_answer() {
    let tower = Tower::up().await;
    tower.everywhere(&Behaviour { latency: Duration::from_secs(60), ..Behaviour::default() });
    for path in ["/model/brief/converse", "/model/brief/converse-stream"] {
        let reply = tower.send(tower.post(path), prompt("hi").to_string()).await;
        assert_eq!((reply.status, reply.header("x-amzn-errortype")), (408, "ModelTimeoutException"), "{path}");
    }
    until("both are left", || tower.fake.counts().cancelled() == 2).await;
}

#[tokio::test]
async fn a_guardrails_block_is_an_answer_and_final() {
    let tower = Tower::up().await;
    let mut asked = prompt("a forbidden word");
    // What the caller says of guardrails counts for nothing, whatever it is.
    asked["guardrailConfig"] = json!({ "guardrailIdentifier": "none", "guardrailVersion": "1", "trace": "disabled" });
    let whole = tower.converse("guarded", &asked).await;
    assert_eq!(whole.json()["stopReason"], "guardrail_intervened");
    let stream = tower.converse_stream("guarded", &asked).await;
    let heard = events::decode(&stream.body);
    let stop = heard.iter().find(|event| event.name == "messageStop").unwrap();
    assert_eq!(stop.payload["stopReason"], "guardrail_intervened");
    for reply in [whole, stream] {
        assert_eq!((reply.status, reply.header("x-switchtower-attempts")), (200, "1"));
    }
    assert_eq!(tower.fake.counts().requests(), 2);
    for request in tower.fake.requests() {
        assert_eq!(request.body["guardrailConfig"]["guardrailIdentifier"], "gr-abc123");
        assert_eq!(request.body["guardrailConfig"]["trace"], "enabled");
    }
}

#[tokio::test]
async fn every_target_of_a_route_carries_its_guardrail() {
    let tower = Tower::up().await;
    tower.everywhere(&failing(Exception::ServiceUnavailableException));
    tower.converse("guarded", &prompt("hi")).await;
    let requests = tower.fake.requests();
    assert_eq!(tried(&tower), ["sonnet us-east-1", "sonnet us-west-2", "nova us-east-1"]);
    assert!(requests.iter().all(|request| request.body["guardrailConfig"]["guardrailVersion"] == "7"), "{requests:?}");
}

#[tokio::test]
async fn a_nodes_own_region_comes_first_whatever_the_policys_order() {
    let policy = switchtower_system_tests::tower::POLICY.replace("[us-east-1, us-west-2]", "[us-west-2, us-east-1]");
    let tower = Tower::start(Setup { policy: vec![("tower.yaml", policy)], ..Setup::default() }).await;
    let reply = tower.converse("night-batch", &prompt("hi")).await;
    assert_eq!(reply.status, 404, "another caller's route");
    let reply = tower.converse("chat", &prompt("hi")).await;
    assert_eq!(reply.header("x-switchtower-target"), format!("bedrock/{EAST}/{SONNET}"));
    let request = tower.post("/model/safe/converse").header("x-switchtower-metadata-tier", "gold");
    let reply = tower.send(request, prompt("hi").to_string()).await;
    assert_eq!(reply.header("x-switchtower-target"), format!("bedrock/{EAST}/{NOVA}"));
}
