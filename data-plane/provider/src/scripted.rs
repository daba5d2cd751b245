//! A provider that does as it is told: for tests of whoever makes attempts.
//!
//! Each target has a queue of outcomes, with delays in tokio's time, so that a test under paused time takes none. It
//! counts attempts and what became of them: an attempt that was dropped before its end was cancelled.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use switchtower_policy::{catalogue::Usage, failure::Class};
use tokio::time::{Sleep, sleep};

use crate::{
    Answer, Attempt, Batch, EventSource, Events, Failure, Operation, Provider, Whole,
    bedrock::stream::{Decoder, encode},
};

/// A scripted provider. Clones share the script and the counts.
#[derive(Clone, Default)]
pub struct Scripted(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    queues: HashMap<Box<str>, VecDeque<Outcome>>,
    always: HashMap<Box<str>, Outcome>,
    by: Option<Box<Decide>>,
    seen: Vec<Attempt>,
    cancelled: HashMap<Arc<str>, usize>,
    open: usize,
    refreshed: usize,
}

type Decide = dyn FnMut(&Attempt) -> Outcome + Send;

/// What becomes of an attempt.
#[derive(Clone, Debug)]
pub struct Outcome {
    after: Duration,
    end: End,
}

#[derive(Clone, Debug)]
enum End {
    Whole(Whole),
    Stream(Vec<Step>),
    Text { text: Box<str>, usage: Usage },
    Fail(Failure),
    Hang,
}

/// What a stream does next; after its last step it ends cleanly.
#[expect(clippy::large_enum_variant, reason = "a script is short")]
#[derive(Clone, Debug)]
pub enum Step {
    /// Waits.
    Wait(Duration),
    /// Gives these events.
    Events(Batch),
    /// Ends with this.
    Fail(Failure),
    /// Gives nothing any more, and does not end.
    Hang,
}

impl Outcome {
    /// This answer, whatever operation was asked for.
    #[must_use]
    pub fn whole(whole: Whole) -> Self {
        Outcome::of(End::Whole(whole))
    }

    /// These steps, whatever operation was asked for.
    #[must_use]
    pub fn stream(steps: impl IntoIterator<Item = Step>) -> Self {
        Outcome::of(End::Stream(steps.into_iter().collect()))
    }

    /// A complete answer of this text, whole or streamed as was asked for: one delta, `end_turn`, and this usage.
    #[must_use]
    pub fn text(text: &str, usage: Usage) -> Self {
        Outcome::of(End::Text { text: text.into(), usage })
    }

    /// This failure.
    #[must_use]
    pub fn fail(failure: Failure) -> Self {
        Outcome::of(End::Fail(failure))
    }

    /// No answer, and no end.
    #[must_use]
    pub fn hang() -> Self {
        Outcome::of(End::Hang)
    }

    /// The same, this much later: of a stream, its head is.
    #[must_use]
    pub fn after(mut self, delay: Duration) -> Self {
        self.after += delay;
        self
    }

    fn of(end: End) -> Self {
        Outcome { after: Duration::ZERO, end }
    }

    fn answer(self, operation: Operation, running: Running) -> Result<Answer, Failure> {
        match self.end {
            End::Whole(whole) => Ok(Answer::Whole(running.ended(whole))),
            End::Stream(steps) => Ok(Answer::Stream(Events::new(Source::new(steps, running)))),
            End::Text { text, usage } => Ok(match operation {
                Operation::Converse => Answer::Whole(running.ended(whole(&text, usage))),
                Operation::ConverseStream => {
                    let steps = vec![Step::Events(batch(&complete(&text, usage)))];
                    Answer::Stream(Events::new(Source::new(steps, running)))
                }
            }),
            End::Fail(failure) => Err(running.ended(failure)),
            End::Hang => unreachable!("it is never asked for its answer"),
        }
    }
}

/// A failure of this class, with nothing more known of it. One without a connection was not sent.
#[must_use]
pub fn failure(class: Class) -> Failure {
    let sent = !matches!(class, Class::Connect | Class::Credentials);
    Failure { class, code: None, status: None, message: "as the script says".into(), retry_after: None, sent }
}

/// Events of these types and payloads, in real frames.
///
/// # Panics
/// Where they are not events that Bedrock could send: a script is part of a test.
#[must_use]
pub fn batch<S: AsRef<str>>(events: &[(&str, S)]) -> Batch {
    let mut frames = BytesMut::new();
    for (event_type, payload) in events {
        encode::append_event(&mut frames, event_type, payload.as_ref().as_bytes());
    }
    let mut decoder = Decoder::default();
    decoder.push(frames.freeze());
    decoder.next().expect("a script holds events that can be read").expect("a script's batch holds an event")
}

/// The events of a complete answer of this text: start, one delta, stop with `end_turn`, usage.
#[must_use]
pub fn complete(text: &str, usage: Usage) -> Vec<(&'static str, String)> {
    let text = serde_json::Value::from(text);
    vec![
        ("messageStart", r#"{"role":"assistant"}"#.into()),
        ("contentBlockDelta", format!(r#"{{"contentBlockIndex":0,"delta":{{"text":{text}}}}}"#)),
        ("contentBlockStop", r#"{"contentBlockIndex":0}"#.into()),
        ("messageStop", r#"{"stopReason":"end_turn"}"#.into()),
        ("metadata", format!(r#"{{"usage":{},"metrics":{{"latencyMs":1}}}}"#, tokens(usage))),
    ]
}

fn whole(text: &str, usage: Usage) -> Whole {
    let text = serde_json::Value::from(text);
    let body = format!(
        r#"{{"output":{{"message":{{"role":"assistant","content":[{{"text":{text}}}]}}}},"stopReason":"end_turn","usage":{},"metrics":{{"latencyMs":1}}}}"#,
        tokens(usage)
    );
    Whole { body: Bytes::from(body), stop_reason: Some("end_turn".into()), usage: Some(usage) }
}

fn tokens(usage: Usage) -> String {
    let Usage { input, output, cache_read, cache_write } = usage;
    let total = input + output + cache_read + cache_write;
    format!(
        r#"{{"inputTokens":{input},"outputTokens":{output},"totalTokens":{total},"cacheReadInputTokens":{cache_read},"cacheWriteInputTokens":{cache_write}}}"#
    )
}

impl Scripted {
    /// A provider that knows no target: an attempt fails as [`Class::Connect`] until it is told otherwise.
    #[must_use]
    pub fn new() -> Self {
        Scripted::default()
    }

    /// Adds outcomes to the queue of a target (`bedrock/REGION/MODEL`): one for each attempt at it.
    pub fn then(&self, target: &str, outcomes: impl IntoIterator<Item = Outcome>) {
        self.state().queues.entry(target.into()).or_default().extend(outcomes);
    }

    /// What a target does whenever its queue is empty.
    pub fn always(&self, target: &str, outcome: Outcome) {
        self.state().always.insert(target.into(), outcome);
    }

    /// Decides every attempt, before queues and the rest. It must not call this provider.
    pub fn by(&self, decide: impl FnMut(&Attempt) -> Outcome + Send + 'static) {
        self.state().by = Some(Box::new(decide));
    }

    /// Every attempt so far, in order.
    #[must_use]
    pub fn attempts(&self) -> Vec<Attempt> {
        self.state().seen.clone()
    }

    /// The targets of every attempt so far, in order.
    #[must_use]
    pub fn targets(&self) -> Vec<String> {
        self.state().seen.iter().map(|attempt| attempt.target.id.to_string()).collect()
    }

    /// How many attempts at a target were dropped before their end.
    #[must_use]
    pub fn cancelled(&self, target: &str) -> usize {
        self.state().cancelled.get(target).copied().unwrap_or(0)
    }

    /// How often its credentials were refreshed.
    #[must_use]
    pub fn refreshed(&self) -> usize {
        self.state().refreshed
    }

    /// How many attempts are neither ended nor cancelled.
    #[must_use]
    pub fn open(&self) -> usize {
        self.state().open
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A script that panicked fails its own test; the counts stay readable.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, attempt: &Attempt) -> (Outcome, Running) {
        let mut state = self.state();
        let target = &*attempt.target.id;
        let outcome = match &mut state.by {
            Some(decide) => decide(attempt),
            None => match state.queues.get_mut(target).and_then(VecDeque::pop_front) {
                Some(outcome) => outcome,
                None => state.always.get(target).cloned().unwrap_or_else(|| Outcome::fail(failure(Class::Connect))),
            },
        };
        state.seen.push(attempt.clone());
        state.open += 1;
        (outcome, Running { provider: self.clone(), target: Arc::from(target), is_ended: false })
    }
}

impl fmt::Debug for Scripted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scripted").field("targets", &self.targets()).finish_non_exhaustive()
    }
}

impl Provider for Scripted {
    fn attempt(&self, attempt: Attempt) -> BoxFuture<'_, Result<Answer, Failure>> {
        Box::pin(async move {
            let (outcome, running) = self.begin(&attempt);
            if !outcome.after.is_zero() {
                sleep(outcome.after).await;
            }
            if matches!(outcome.end, End::Hang) {
                return std::future::pending().await;
            }
            outcome.answer(attempt.operation, running)
        })
    }

    fn refresh(&self) -> BoxFuture<'_, Result<(), Failure>> {
        self.state().refreshed += 1;
        Box::pin(async { Ok(()) })
    }
}

/// An attempt that is on; dropped before its end, it was cancelled.
struct Running {
    provider: Scripted,
    target: Arc<str>,
    is_ended: bool,
}

impl Running {
    fn ended<T>(mut self, with: T) -> T {
        self.is_ended = true;
        with
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut state = self.provider.state();
        state.open -= 1;
        if !self.is_ended {
            *state.cancelled.entry(Arc::clone(&self.target)).or_default() += 1;
        }
    }
}

struct Source {
    steps: std::vec::IntoIter<Step>,
    waiting: Option<Pin<Box<Sleep>>>,
    hangs: bool,
    running: Running,
}

impl Source {
    fn new(steps: Vec<Step>, running: Running) -> Self {
        Source { steps: steps.into_iter(), waiting: None, hangs: false, running }
    }
}

impl EventSource for Source {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Batch>, Failure>> {
        loop {
            if let Some(waiting) = &mut self.waiting {
                if waiting.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                self.waiting = None;
            }
            if self.hangs {
                return Poll::Pending;
            }
            match self.steps.next() {
                Some(Step::Wait(delay)) => self.waiting = Some(Box::pin(sleep(delay))),
                Some(Step::Events(batch)) => return Poll::Ready(Ok(Some(batch))),
                Some(Step::Hang) => self.hangs = true,
                Some(Step::Fail(failure)) => {
                    self.running.is_ended = true;
                    return Poll::Ready(Err(failure));
                }
                None => {
                    self.running.is_ended = true;
                    return Poll::Ready(Ok(None));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use switchtower_policy::snapshot::Target;
    use tokio::time::Instant;

    use super::*;
    use crate::Kind;

    const A: &str = "bedrock/us-east-1/a";
    const SECOND: Duration = Duration::from_secs(1);

    fn attempt(operation: Operation) -> Attempt {
        let target = Target {
            index: Default::default(),
            model: Default::default(),
            region: "us-east-1".into(),
            bedrock: "a".into(),
            id: A.into(),
        };
        Attempt { target: target.into(), operation, body: Bytes::new(), connect_timeout: None, trace: None }
    }

    #[tokio::test(start_paused = true)]
    async fn outcomes_come_in_the_order_of_the_queue_and_then_what_is_always() {
        let provider = Scripted::new();
        provider.then(A, [Outcome::fail(failure(Class::Throttled)).after(SECOND)]);
        provider.always(A, Outcome::text("hi", Usage { input: 3, output: 1, ..Usage::default() }));
        let start = Instant::now();
        assert_eq!(provider.attempt(attempt(Operation::Converse)).await.unwrap_err().class, Class::Throttled);
        assert_eq!(start.elapsed(), SECOND);
        for _ in 0..2 {
            let Answer::Whole(whole) = provider.attempt(attempt(Operation::Converse)).await.unwrap() else { panic!() };
            assert_eq!((whole.stop_reason.as_deref(), whole.usage.unwrap().input), (Some("end_turn"), 3));
        }
        assert_eq!((provider.targets(), provider.open(), provider.cancelled(A)), (vec![A.to_owned(); 3], 0, 0));
    }

    #[tokio::test]
    async fn a_target_that_the_script_does_not_know_cannot_be_reached() {
        let failure = Scripted::new().attempt(attempt(Operation::Converse)).await.unwrap_err();
        assert_eq!((failure.class, failure.sent), (Class::Connect, false));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_takes_its_steps_and_ends_cleanly() {
        let provider = Scripted::new();
        provider.by(|attempt| {
            assert_eq!(&*attempt.target.id, A);
            let events = complete("hi", Usage::default());
            Outcome::stream([Step::Events(batch(&events[..1])), Step::Wait(SECOND), Step::Events(batch(&events[1..]))])
        });
        let Answer::Stream(mut events) = provider.attempt(attempt(Operation::ConverseStream)).await.unwrap() else {
            panic!()
        };
        let start = Instant::now();
        assert_eq!(events.next().await.unwrap().unwrap().events[0].kind, Kind::MessageStart);
        assert_eq!(start.elapsed(), Duration::ZERO);
        assert_eq!(events.next().await.unwrap().unwrap().events.len(), 4);
        assert_eq!((start.elapsed(), provider.open()), (SECOND, 1));
        assert!(events.next().await.unwrap().is_none());
        drop(events);
        assert_eq!((provider.open(), provider.cancelled(A)), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_dropped_before_its_end_was_cancelled() {
        let provider = Scripted::new();
        let hanging = Outcome::stream([Step::Hang]);
        provider.then(A, [Outcome::hang(), hanging, Outcome::stream([Step::Fail(failure(Class::Broken))])]);
        tokio::time::timeout(SECOND, provider.attempt(attempt(Operation::Converse))).await.unwrap_err();
        assert_eq!((provider.open(), provider.cancelled(A)), (0, 1));
        let Answer::Stream(mut events) = provider.attempt(attempt(Operation::ConverseStream)).await.unwrap() else {
            panic!()
        };
        tokio::time::timeout(SECOND, events.next()).await.unwrap_err();
        drop(events);
        assert_eq!((provider.open(), provider.cancelled(A)), (0, 2));
        let Answer::Stream(mut events) = provider.attempt(attempt(Operation::ConverseStream)).await.unwrap() else {
            panic!()
        };
        assert_eq!(events.next().await.unwrap_err().class, Class::Broken);
        drop(events);
        assert_eq!((provider.open(), provider.cancelled(A)), (0, 2));
    }
}
