//! Which targets are tried, in which order, and what becomes of the request.

use std::time::Duration;

use switchtower_data_plane::{
    call::{Reason, Reply},
    record::Completeness,
};
use switchtower_policy::failure::Class;
use switchtower_provider::{
    Operation,
    scripted::{Outcome, failure},
};
use tokio::time::Instant;

use crate::support::{A_EAST, A_WEST, B_EAST, Tower, USAGE, timed};

fn fails(class: Class) -> Outcome {
    Outcome::fail(failure(class))
}

#[tokio::test(start_paused = true)]
async fn the_first_target_answers_and_the_reply_says_so() {
    let tower = Tower::new();
    tower.provider.always(A_EAST, Outcome::text("hello", USAGE));
    let Ok(Reply::Whole(reply)) = tower.whole("chat").await else { panic!() };
    let (ended, served) = (reply.ended.clone(), reply.served().clone());
    reply.told();
    assert_eq!(served.target.as_deref(), Some(A_EAST));
    assert_eq!((served.tier, served.attempts.len(), served.degraded), (1, 1, false));
    assert_eq!(ended.completeness, Completeness::Complete);
    assert!(ended.cost.is_some_and(|dollars| dollars > 0.0));
    assert_eq!(tower.ended("chat", "complete"), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_tried_next_follows_from_the_failure() {
    /// The targets that are tried when the first fails so and everybody else answers.
    async fn check(class: Class, expected: &[&str]) {
        let tower = Tower::new();
        tower.provider.always(A_EAST, fails(class));
        for target in [A_WEST, B_EAST] {
            tower.provider.always(target, Outcome::text("hello", USAGE));
        }
        let answered = tower.whole("chat").await.is_ok();
        assert_eq!(tower.provider.targets(), expected, "{class:?}");
        assert_eq!(answered, expected.len() > 1, "{class:?}");
    }
    for class in [
        Class::Connect,
        Class::Internal,
        Class::Unavailable,
        Class::ModelTimeout,
        Class::ModelError,
        Class::Throttled,
        Class::QuotaExceeded,
        Class::ModelNotReady,
        Class::Misconfigured,
        Class::Broken,
        Class::Protocol,
    ] {
        check(class, &[A_EAST, A_WEST]).await;
    }
    for class in [Class::Invalid, Class::ContextTooLong, Class::ModelRefused] {
        check(class, &[A_EAST]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_paid_attempt_is_kept_for_the_next_tier() {
    let tower = Tower::new();
    for target in [A_EAST, A_WEST, B_EAST] {
        tower.provider.always(target, fails(Class::Internal));
    }
    let reply = match tower.whole("chat").await {
        Ok(Reply::Whole(reply)) => reply,
        other => panic!("{other:?}"),
    };
    let (ended, served) = (reply.ended.clone(), reply.served().clone());
    let answer = reply.told();
    assert_eq!(tower.provider.targets(), [A_EAST, A_WEST, B_EAST]);
    assert_eq!((served.tier, served.degraded, served.target), (3, true, None));
    assert_eq!(ended.completeness, Completeness::Degraded);
    assert!(std::str::from_utf8(&answer.body).unwrap().contains("Busy, Ada."));
    assert_eq!(tower.ended("chat", "degraded"), 1);
}

#[tokio::test(start_paused = true)]
async fn without_an_answer_tier_the_last_failure_is_the_callers() {
    let tower = Tower::new();
    tower.provider.always(A_EAST, fails(Class::Internal));
    tower.provider.always(A_WEST, fails(Class::Throttled));
    let refusal = tower.whole("plain").await.unwrap_err();
    assert_eq!(refusal.reason, Reason::Upstream { class: Some(Class::Throttled), code: None });
    let served = refusal.served.unwrap();
    assert_eq!(served.attempts.iter().map(|tried| tried.outcome()).collect::<Vec<_>>(), ["internal", "throttled"]);
    assert_eq!(tower.ended("plain", "throttled"), 1);
}

#[tokio::test(start_paused = true)]
async fn the_total_timeout_ends_everything() {
    let tower = Tower::new();
    tower.provider.always(A_EAST, Outcome::hang());
    tower.provider.always(A_WEST, Outcome::text("late", USAGE));
    let (result, took) = timed(tower.whole("plain")).await;
    assert_eq!(result.unwrap_err().reason, Reason::DeadlineExceeded);
    assert_eq!(took.as_secs(), 20);
    assert_eq!(tower.provider.targets(), [A_EAST]);
    assert_eq!(tower.provider.cancelled(A_EAST), 1);
}

#[tokio::test(start_paused = true)]
async fn an_answer_tier_needs_no_time_and_is_reached_when_the_routes_is_up() {
    let tower = Tower::new();
    tower.provider.always(A_EAST, Outcome::hang());
    let (result, took) = timed(tower.whole("chat")).await;
    let Ok(Reply::Whole(reply)) = result else { panic!() };
    assert!(reply.served().degraded);
    assert_eq!((took.as_secs(), tower.provider.targets()), (20, vec![A_EAST.to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_failed_is_tried_again_only_where_there_is_no_other_target() {
    let tower = Tower::new();
    tower.provider.then(A_WEST, [fails(Class::Connect), Outcome::text("hello", USAGE)]);
    assert!(tower.whole("plain").await.is_ok());
    assert_eq!(tower.provider.targets(), [A_EAST, A_WEST, A_WEST]);
}

#[tokio::test(start_paused = true)]
async fn callers_are_not_told_how_targets_are_reached() {
    for class in [Class::Connect, Class::Misconfigured, Class::Credentials] {
        let tower = Tower::new();
        for target in [A_EAST, A_WEST] {
            tower.provider.always(target, fails(class));
        }
        let refusal = tower.whole("plain").await.unwrap_err();
        assert!(refusal.message.starts_with("no target of this route"), "{}", refusal.message);
    }
}

#[tokio::test(start_paused = true)]
async fn the_callers_deadline_is_kept_where_it_is_shorter() {
    let tower = Tower::new();
    tower.provider.always(A_EAST, Outcome::hang());
    let mut call = tower.call("chat", Operation::Converse);
    call.deadline = Some(Instant::now() + Duration::from_secs(5));
    let (result, took) = timed(tower.infer(call, Operation::Converse)).await;
    assert_eq!(result.unwrap_err().reason, Reason::DeadlineExceeded);
    assert_eq!(took.as_secs(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_stream_without_content_in_time_is_replaced() {
    let tower = Tower::new();
    tower.provider.always(A_EAST, Outcome::hang());
    tower.provider.always(A_WEST, Outcome::text("hello", USAGE));
    let (result, took) = timed(tower.stream("chat")).await;
    let Ok(Reply::Stream(stream)) = result else { panic!() };
    assert_eq!(stream.served().target.as_deref(), Some(A_WEST));
    assert_eq!(took.as_secs(), 2);
    assert_eq!(tower.provider.cancelled(A_EAST), 1);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_leaves_cancels_the_attempt_and_ends_the_record() {
    let tower = Tower::new();
    tower.provider.always(A_EAST, Outcome::hang());
    let left = tokio::time::timeout(Duration::from_secs(1), tower.whole("chat")).await;
    assert!(left.is_err());
    assert_eq!(tower.provider.cancelled(A_EAST), 1);
    assert_eq!(tower.provider.open(), 0);
    assert_eq!(tower.ended("chat", "cancelled"), 1);
    assert!(tower.in_flight().ends_with(" 0"), "{}", tower.in_flight());
}

#[tokio::test(start_paused = true)]
async fn a_route_that_is_not_the_callers_looks_like_one_that_is_not_there() {
    let tower = Tower::new();
    let reason = |result: Result<Reply, switchtower_data_plane::call::Refusal>| result.unwrap_err().reason;
    let unknown = reason(tower.whole("plan").await);
    assert_eq!(unknown, Reason::UnknownRoute { nearest: vec!["plain".to_owned()] });
    assert!(tower.provider.attempts().is_empty());
}

#[tokio::test(start_paused = true)]
async fn refused_credentials_are_refreshed_once_and_tried_again() {
    let tower = Tower::new();
    tower.provider.then(A_EAST, [fails(Class::Credentials), Outcome::text("hello", USAGE)]);
    assert!(tower.whole("chat").await.is_ok());
    assert_eq!((tower.provider.targets(), tower.provider.refreshed()), (vec![A_EAST.to_owned(); 2], 1));

    let tower = Tower::new();
    tower.provider.always(A_EAST, fails(Class::Credentials));
    tower.provider.always(A_WEST, fails(Class::Credentials));
    tower.provider.always(B_EAST, Outcome::text("hello", USAGE));
    assert!(tower.whole("chat").await.is_ok());
    assert_eq!(tower.provider.refreshed(), 1);
}

#[tokio::test(start_paused = true)]
async fn each_attempt_carries_the_guardrail_of_its_own_region() {
    let tower = Tower::new();
    tower.provider.always(A_EAST, fails(Class::Internal));
    tower.provider.always(A_WEST, Outcome::text("hello", USAGE));
    assert!(tower.whole("guarded").await.is_ok());
    let bodies: Vec<serde_json::Value> =
        tower.provider.attempts().iter().map(|attempt| serde_json::from_slice(&attempt.body).unwrap()).collect();
    let ids: Vec<_> = bodies.iter().map(|body| body["guardrailConfig"]["guardrailIdentifier"].as_str()).collect();
    assert_eq!(ids, [Some("ge"), Some("gw")]);
}
