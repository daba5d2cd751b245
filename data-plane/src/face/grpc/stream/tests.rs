use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use futures_util::{FutureExt, StreamExt};
use serde_json::json;
use switchtower_policy::failure::Class;
use switchtower_proto::inference::v1::generate_stream_response::Event;
use switchtower_provider::Kind;
use tonic::Code;

use super::*;
use crate::{face::grpc::response::tests::batch, record::Completeness};

/// A reply by script: batches, then what follows them for ever.
struct Script {
    /// What it gives when it is broken; `None`: the failure itself.
    on_broken: Option<Batch>,
    batches: VecDeque<Result<Batch, Failure>>,
    served: Served,
    ended: Option<Ended>,
    dropped: Arc<AtomicBool>,
}

impl Source for Script {
    async fn next(&mut self) -> Option<Result<Batch, Failure>> {
        match self.batches.pop_front() {
            Some(batch) => Some(batch),
            None if self.ended.is_some() => None,
            None => std::future::pending().await,
        }
    }
    fn break_with(&mut self, failure: Failure) {
        self.batches = [self.on_broken.take().ok_or(failure)].into();
    }
    fn served(&self) -> &Served {
        &self.served
    }
    fn ended(&self) -> Option<&Ended> {
        self.ended.as_ref()
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        self.dropped.store(true, Ordering::Relaxed);
    }
}

fn script(batches: impl IntoIterator<Item = Result<Batch, Failure>>) -> Script {
    Script {
        on_broken: None,
        batches: batches.into_iter().collect(),
        served: Served {
            request_id: "00ff".into(),
            route: "support-chat".into(),
            rule: None,
            tier: 1,
            target: None,
            revision: "0123456789ab".into(),
            attempts: Vec::new(),
            degraded: false,
        },
        ended: Some(Ended {
            completeness: Completeness::Complete,
            stop_reason: Some("end_turn".into()),
            usage: None,
            cost: None,
        }),
        dropped: Arc::default(),
    }
}

fn text(text: &str) -> (Kind, serde_json::Value) {
    (Kind::BlockDelta, json!({ "contentBlockIndex": 0, "delta": { "text": text } }))
}

fn failure() -> Failure {
    Failure {
        class: Class::Broken,
        code: None,
        status: None,
        message: "the connection broke".into(),
        retry_after: None,
        sent: true,
    }
}

/// What a stream gives, in one word each.
#[track_caller]
fn check(script: Script, expected: &[&str]) {
    let words = messages(script).map(|message| match message {
        Ok(message) => match message.event {
            Some(Event::BlockDelta(_)) => "delta",
            Some(Event::End(_)) => "end",
            _ => "something else",
        },
        Err(status) if status.code() == Code::Aborted => "aborted",
        Err(_) => "another error",
    });
    let words = words.collect::<Vec<_>>().now_or_never().expect("it waits for something");
    assert_eq!(words, expected);
}

#[test]
fn a_stream_ends_in_an_end_or_in_a_status_and_never_in_both() {
    check(script([Ok(batch(&[text("a"), text("b")])), Ok(batch(&[text("c")]))]), &["delta", "delta", "delta", "end"]);
    check(script([Ok(batch(&[text("a")])), Err(failure()), Ok(batch(&[text("c")]))]), &["delta", "aborted"]);
    check(script([]), &["end"]);
}

#[test]
fn an_event_that_cannot_be_read_breaks_the_reply_which_then_says_how_it_ends() {
    let malformed = || (Kind::BlockDelta, json!({}));
    let unreadable = || script([Ok(batch(&[text("a"), malformed(), text("c")])), Ok(batch(&[text("d")]))]);
    check(unreadable(), &["delta", "aborted"]);
    let stop = (Kind::MessageStop("max_tokens".into()), json!({ "stopReason": "max_tokens" }));
    let ending_in = |end| {
        let mut script = unreadable();
        script.on_broken = Some(batch(&[end]));
        script
    };
    check(ending_in(stop), &["delta", "end"]);
    // An end that cannot be read either ends it all the same.
    check(ending_in(malformed()), &["delta", "aborted"]);
}

#[test]
fn a_stream_that_nobody_ended_is_a_broken_one() {
    struct Lost(Script);
    impl Source for Lost {
        async fn next(&mut self) -> Option<Result<Batch, Failure>> {
            self.0.batches.pop_front()
        }
        fn break_with(&mut self, failure: Failure) {
            self.0.break_with(failure);
        }
        fn served(&self) -> &Served {
            &self.0.served
        }
        fn ended(&self) -> Option<&Ended> {
            None
        }
    }
    let given: Vec<_> = messages(Lost(script([]))).collect::<Vec<_>>().now_or_never().unwrap();
    assert_eq!(given.len(), 1);
    assert_eq!(given[0].as_ref().unwrap_err().code(), Code::Aborted);
}

#[test]
fn messages_of_one_batch_are_ready_together_and_dropping_the_stream_drops_the_reply() {
    let mut script = script([Ok(batch(&[text("a"), text("b"), text("c")]))]);
    script.ended = None;
    let dropped = script.dropped.clone();
    let mut messages = Box::pin(messages(script));
    for _ in 0..3 {
        assert!(messages.next().now_or_never().is_some());
    }
    assert!(messages.next().now_or_never().is_none());
    assert!(!dropped.load(Ordering::Relaxed));
    drop(messages);
    assert!(dropped.load(Ordering::Relaxed));
}
