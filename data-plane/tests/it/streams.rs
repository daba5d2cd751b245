//! What becomes of a stream: held back until content, never replaced after it, never ended cleanly when it broke.

use std::time::Duration;

use switchtower_data_plane::{call::Reply, record::Completeness, reply::ReplyStream};
use switchtower_policy::failure::Class;
use switchtower_provider::{
    Failure, Kind,
    scripted::{Outcome, Step, batch, complete, failure},
};

use crate::support::{A_EAST, A_WEST, Tower, USAGE, timed};

fn start() -> Step {
    Step::Events(batch(&[("messageStart", r#"{"role":"assistant"}"#)]))
}

fn delta(text: &str) -> Step {
    Step::Events(batch(&[("contentBlockDelta", format!(r#"{{"contentBlockIndex":0,"delta":{{"text":"{text}"}}}}"#))]))
}

async fn begun(tower: &Tower, route: &str) -> ReplyStream {
    match tower.stream(route).await {
        Ok(Reply::Stream(stream)) => stream,
        other => panic!("{other:?}"),
    }
}

/// The kinds of all events, and the failure at the end if there is one.
async fn drained(stream: &mut ReplyStream) -> (Vec<Kind>, Option<Failure>) {
    let mut kinds = Vec::new();
    while let Some(next) = stream.next().await {
        match next {
            Ok(batch) => kinds.extend(batch.events.into_iter().map(|event| event.kind)),
            Err(failure) => return (kinds, Some(failure)),
        }
    }
    (kinds, None)
}

#[tokio::test(start_paused = true)]
async fn a_whole_stream_ends_with_what_it_cost() {
    let tower = Tower::new();
    tower.provider.always(A_EAST, Outcome::text("hello", USAGE));
    let mut stream = begun(&tower, "plain").await;
    let (kinds, failure) = drained(&mut stream).await;
    assert_eq!((kinds.len(), failure), (5, None));
    let ended = stream.ended().unwrap();
    assert_eq!((ended.completeness, ended.usage), (Completeness::Complete, Some(USAGE)));
    assert_eq!(ended.stop_reason.as_deref(), Some("end_turn"));
    assert_eq!(tower.ended("plain", "complete"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_failure_after_the_start_and_before_content_is_replaced_unseen() {
    let tower = Tower::new();
    tower.provider.always(A_EAST, Outcome::stream([start(), Step::Fail(failure(Class::Throttled))]));
    tower.provider.always(A_WEST, Outcome::text("hello", USAGE));
    let mut stream = begun(&tower, "plain").await;
    let (kinds, failure) = drained(&mut stream).await;
    assert_eq!(failure, None);
    assert_eq!(kinds.iter().filter(|kind| **kind == Kind::MessageStart).count(), 1, "the first start is never seen");
    assert_eq!(stream.served().attempts.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn after_content_nothing_is_tried_again() {
    for broken in [Step::Fail(failure(Class::Unavailable)), Step::Hang] {
        let tower = Tower::new();
        tower.provider.always(A_EAST, Outcome::stream([start(), delta("he"), broken]));
        tower.provider.always(A_WEST, Outcome::text("hello", USAGE));
        let mut stream = begun(&tower, "plain").await;
        let (kinds, failure) = drained(&mut stream).await;
        assert_eq!(kinds, [Kind::MessageStart, Kind::BlockDelta]);
        assert!(matches!(failure.unwrap().class, Class::Unavailable | Class::IdleTimeout));
        assert!(stream.next().await.is_none());
        assert!(stream.ended().is_none());
        assert_eq!(tower.provider.targets(), [A_EAST]);
        assert_eq!(tower.ended("plain", "broken"), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_clean_end_without_a_stop_is_a_break() {
    let tower = Tower::new();
    tower.provider.always(A_EAST, Outcome::stream([start(), delta("he")]));
    let mut stream = begun(&tower, "plain").await;
    assert_eq!(drained(&mut stream).await.1.unwrap().class, Class::Broken);
}

#[tokio::test(start_paused = true)]
async fn what_is_missing_after_the_stop_is_not_missed_by_the_caller() {
    let told = Failure { status: Some(429), ..failure(Class::Throttled) };
    for end in [None, Some(Step::Hang), Some(Step::Fail(failure(Class::Broken))), Some(Step::Fail(told))] {
        let tower = Tower::new();
        let events = complete("hello", USAGE);
        let without_metadata = Step::Events(batch(&events[..4]));
        tower.provider.always(A_EAST, Outcome::stream([without_metadata].into_iter().chain(end)));
        let mut stream = begun(&tower, "plain").await;
        assert_eq!(drained(&mut stream).await.1, None);
        let ended = stream.ended().unwrap();
        assert_eq!((ended.completeness, ended.usage, ended.cost), (Completeness::Complete, None, None));
    }
}

#[tokio::test(start_paused = true)]
async fn a_partial_stream_ends_as_truncated() {
    let tower = Tower::new();
    tower.provider.always(A_EAST, Outcome::stream([start(), delta("he"), Step::Fail(failure(Class::Broken))]));
    let mut stream = begun(&tower, "partial").await;
    let (kinds, failure) = drained(&mut stream).await;
    assert_eq!(failure, None);
    let stop = Kind::MessageStop("max_tokens".into());
    assert_eq!(kinds, [Kind::MessageStart, Kind::BlockDelta, Kind::BlockStop, stop]);
    assert_eq!(stream.ended().unwrap().completeness, Completeness::Truncated);
    assert_eq!(tower.ended("partial", "truncated"), 1);
}

#[tokio::test(start_paused = true)]
async fn idle_counts_between_events_and_not_while_the_caller_reads() {
    let tower = Tower::new();
    let slow = (0..5).flat_map(|_| [Step::Wait(Duration::from_millis(2900)), delta("x")]);
    tower.provider.always(A_EAST, Outcome::stream([delta("x")].into_iter().chain(slow).chain([Step::Hang])));
    let mut stream = begun(&tower, "plain").await;
    for _ in 0..3 {
        assert!(matches!(stream.next().await, Some(Ok(_))));
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    for _ in 0..2 {
        assert!(matches!(stream.next().await, Some(Ok(_))), "the caller's pause is not the upstream's");
    }
    let (_, took) = timed(drained(&mut stream)).await;
    assert!((3000..6000).contains(&took.as_millis()), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn the_total_timeout_bounds_a_stream_that_never_pauses() {
    let tower = Tower::new();
    let endless = (0..100).flat_map(|_| [Step::Wait(Duration::from_secs(1)), delta("x")]);
    tower.provider.always(A_EAST, Outcome::stream(endless));
    let mut stream = begun(&tower, "plain").await;
    let ((_, failure), took) = timed(drained(&mut stream)).await;
    assert_eq!(failure.unwrap().class, Class::TotalTimeout);
    assert!(took <= Duration::from_secs(20), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_never_pauses_does_not_outrun_the_deadline() {
    let tower = Tower::new();
    let endless = (0..10_000).map(|_| delta("x"));
    tower.provider.always(A_EAST, Outcome::stream(endless));
    let mut stream = begun(&tower, "plain").await;
    assert!(matches!(stream.next().await, Some(Ok(_))));
    tokio::time::sleep(Duration::from_secs(21)).await;
    assert_eq!(drained(&mut stream).await.1.unwrap().class, Class::TotalTimeout);
}

#[tokio::test(start_paused = true)]
async fn what_the_face_cannot_tell_breaks_the_stream_as_the_policy_says() {
    for (route, outcome) in [("plain", "broken"), ("partial", "truncated")] {
        let tower = Tower::new();
        tower.provider.always(A_EAST, Outcome::stream([start(), delta("he"), delta("llo"), Step::Hang]));
        let mut stream = begun(&tower, route).await;
        assert!(matches!(stream.next().await, Some(Ok(_))));
        stream.break_with(failure(Class::Protocol));
        let (_, failure) = drained(&mut stream).await;
        assert_eq!(failure.map(|failure| failure.class), (route == "plain").then_some(Class::Protocol));
        assert_eq!((tower.ended(route, outcome), tower.provider.cancelled(A_EAST)), (1, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_dropped_is_cancelled_and_recorded() {
    let tower = Tower::new();
    tower.provider.always(A_EAST, Outcome::stream([start(), delta("he"), Step::Hang]));
    let mut stream = begun(&tower, "plain").await;
    assert!(stream.next().await.is_some());
    drop(stream);
    assert_eq!((tower.provider.cancelled(A_EAST), tower.provider.open()), (1, 0));
    assert_eq!(tower.ended("plain", "cancelled"), 1);
}

#[tokio::test(start_paused = true)]
async fn an_answer_tier_streams_when_a_stream_was_asked_for() {
    let tower = Tower::new();
    let mut stream = begun(&tower, "chat").await;
    let (kinds, failure) = drained(&mut stream).await;
    assert_eq!((kinds.len(), failure), (5, None));
    assert_eq!(stream.ended().unwrap().completeness, Completeness::Degraded);
    assert!(stream.served().degraded);
}

#[tokio::test(start_paused = true)]
async fn too_much_before_content_is_a_failure_of_the_target() {
    let tower = Tower::new();
    let flood = (0..2000).map(|_| start());
    tower.provider.always(A_EAST, Outcome::stream(flood));
    tower.provider.always(A_WEST, Outcome::text("hello", USAGE));
    let stream = begun(&tower, "plain").await;
    assert_eq!(stream.served().attempts[0].failure, Some(Class::Protocol));
}
