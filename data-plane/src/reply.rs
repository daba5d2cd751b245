//! An answer on its way to the caller: its record ends with it, as it ends.
//!
//! A stream has content, so it is never replaced; it ends in an end or in an error.
//! Two timers guard it, in one sleep that is moved and never made anew: idle (between two events, counted only while we
//! wait for the upstream, not while the caller reads) and the request's deadline.

use std::{
    collections::VecDeque,
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use switchtower_policy::{
    catalogue::Usage,
    failure::Class,
    snapshot::{OnBrokenStream, Snapshot, Target},
};
use switchtower_provider::{Batch, Events, Failure, Kind, Whole};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::{
    attempts::{Committed, Deadline, own_failure},
    frames,
    record::{Completeness, Ended, Outcome, Record, Served},
};

/// How long after its last event an upstream may keep the connection open before the stream counts as ended.
const LAST_WORD: Duration = Duration::from_secs(1);

/// A whole answer on its way to the caller. Its record ends when a face has told it, or cannot.
#[derive(Debug)]
pub struct WholeReply {
    /// The answer, in the dialect of the request.
    pub answer: Whole,
    /// How it ended.
    pub ended: Ended,
    record: Record,
}

impl WholeReply {
    pub(crate) fn of(answer: Whole, completeness: Completeness, record: Record) -> Self {
        let (stop_reason, usage) = (answer.stop_reason.clone(), answer.usage);
        let ended = Ended { completeness, stop_reason, usage, cost: record.cost() };
        WholeReply { answer, ended, record }
    }

    /// What served it.
    #[must_use]
    pub fn served(&self) -> &Served {
        self.record.served()
    }

    /// The face tells it, and has read all of it that it has to.
    pub fn told(self) -> Whole {
        self.record.end(&Outcome::Answered(self.ended));
        self.answer
    }

    /// The face cannot tell it.
    #[must_use]
    pub fn untold(self, failure: &Failure) -> Served {
        let served = self.served().clone();
        self.record.broken(failure);
        served
    }
}

/// A stream on its way to the caller. Dropping it cancels the call upstream and ends the record.
#[derive(Debug)]
pub struct ReplyStream {
    queued: VecDeque<Batch>,
    upstream: Option<Upstream>,
    seen: Seen,
    completeness: Completeness,
    served: Box<Served>,
    record: Option<Record>,
    ended: Option<Ended>,
    /// What the face found wrong with an event.
    broken: Option<Failure>,
}

/// What a stream still gets its events from.
#[derive(Debug)]
struct Upstream {
    events: Events,
    timer: Pin<Box<Sleep>>,
    /// Since when nothing has come although we asked.
    waiting_since: Option<Instant>,
    origin: Origin,
    guard: Guard,
}

/// Which target a stream comes from, and by which policy.
#[derive(Debug)]
pub(crate) struct Origin {
    /// The policy that names the target.
    pub(crate) policy: Arc<Snapshot>,
    /// The target.
    pub(crate) target: Arc<Target>,
}

/// The bounds of a stream, and what becomes of it when it breaks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Guard {
    /// Longest time between two events.
    pub(crate) idle: Duration,
    /// When everything ends.
    pub(crate) deadline: Deadline,
    /// What it becomes when it breaks.
    pub(crate) on_broken: OnBrokenStream,
}

/// What the events said so far.
#[derive(Debug, Default)]
struct Seen {
    stop_reason: Option<Box<str>>,
    metadata: bool,
    usage: Option<Usage>,
    /// The payload of the last event of the block that is open, where it may have to be closed; `None`: none is open.
    /// A copy: a slice would keep the whole buffer that it came in.
    open_block: Option<Box<[u8]>>,
    /// Whether open blocks are kept.
    keeps_open: bool,
}

impl ReplyStream {
    /// A stream that a target serves.
    pub(crate) fn of(committed: Committed, origin: Origin, guard: Guard, record: Record) -> Self {
        let timer = Box::pin(sleep_until(guard.deadline.at.min(Instant::now() + guard.idle)));
        let upstream = Upstream { events: committed.events, timer, waiting_since: None, origin, guard };
        ReplyStream {
            queued: committed.held,
            upstream: Some(upstream),
            seen: Seen { keeps_open: guard.on_broken == OnBrokenStream::Partial, ..Seen::default() },
            completeness: Completeness::Complete,
            served: Box::new(record.served().clone()),
            record: Some(record),
            ended: None,
            broken: None,
        }
    }

    /// A stream that an `answer` tier serves.
    pub(crate) fn degraded(text: &str, record: Record) -> Self {
        ReplyStream {
            queued: VecDeque::from([frames::answer(text)]),
            upstream: None,
            seen: Seen::default(),
            completeness: Completeness::Degraded,
            served: Box::new(record.served().clone()),
            record: Some(record),
            ended: None,
            broken: None,
        }
    }

    /// What serves it.
    #[must_use]
    pub fn served(&self) -> &Served {
        &self.served
    }

    /// How it ended; `None` before it has.
    #[must_use]
    pub fn ended(&self) -> Option<&Ended> {
        self.ended.as_ref()
    }

    /// The next events; `None` after the last, when it ended as it should ([`ReplyStream::ended`] then tells how). An
    /// error is the last thing it gives. Cancel safe.
    pub async fn next(&mut self) -> Option<Result<Batch, Failure>> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// The face cannot tell an event: from here on the stream is as broken as if the upstream had failed so.
    pub fn break_with(&mut self, failure: Failure) {
        self.queued.clear();
        self.broken = Some(failure);
    }

    /// The face cannot tell any of it. The call upstream is cancelled.
    #[must_use]
    pub fn untold(mut self, failure: &Failure) -> Served {
        self.settle();
        if let Some(record) = self.record.take() {
            record.broken(failure);
        }
        (*self.served).clone()
    }

    /// See [`ReplyStream::next`].
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Batch, Failure>>> {
        if let Some(batch) = self.queued.pop_front() {
            self.seen.observe(&batch);
            return Poll::Ready(Some(Ok(batch)));
        }
        let Some(upstream) = &mut self.upstream else {
            self.finish();
            return Poll::Ready(None);
        };
        let next = match self.broken.take() {
            Some(failure) => return self.broke(failure),
            None => match upstream.poll_next(cx, self.seen.is_whole()) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(next) => next,
            },
        };
        match next {
            Ok(Some(batch)) => {
                self.seen.observe(&batch);
                Poll::Ready(Some(Ok(batch)))
            }
            Ok(None) if self.seen.stop_reason.is_some() => self.complete(),
            Ok(None) => self.broke(own_failure(Class::Broken, "the stream ended without a stop")),
            // The model had its last word: what is missing after it is the bill, not the answer.
            Err(_) if self.seen.stop_reason.is_some() => self.complete(),
            Err(failure) => self.broke(failure),
        }
    }

    fn complete(&mut self) -> Poll<Option<Result<Batch, Failure>>> {
        self.finish();
        Poll::Ready(None)
    }

    fn broke(&mut self, failure: Failure) -> Poll<Option<Result<Batch, Failure>>> {
        let on_broken = self.upstream.as_ref().map_or(OnBrokenStream::Error, |upstream| upstream.guard.on_broken);
        match on_broken {
            OnBrokenStream::Partial => {
                let end = frames::truncated_end(self.seen.open_block.as_deref());
                self.seen.observe(&end);
                self.completeness = Completeness::Truncated;
                self.settle();
                self.upstream = None;
                if let Some(record) = &mut self.record {
                    record.answer_broke(&failure, Instant::now());
                    *self.served = record.served().clone();
                }
                Poll::Ready(Some(Ok(end)))
            }
            OnBrokenStream::Error => {
                self.settle();
                self.upstream = None;
                if let Some(record) = self.record.take() {
                    record.broken(&failure);
                }
                Poll::Ready(Some(Err(failure)))
            }
        }
    }

    /// Adds what the attempt cost to the record; once.
    fn settle(&mut self) {
        if let (Some(upstream), Some(record)) = (&self.upstream, &mut self.record) {
            let Origin { policy, target } = &upstream.origin;
            record.used(self.seen.usage.and_then(|usage| policy.cost(target, &usage)));
        }
    }

    fn finish(&mut self) {
        self.settle();
        self.upstream = None;
        let Some(record) = self.record.take() else { return };
        let ended = Ended {
            completeness: self.completeness,
            stop_reason: self.seen.stop_reason.clone(),
            usage: self.seen.usage,
            cost: record.cost(),
        };
        record.end(&Outcome::Answered(ended.clone()));
        self.ended = Some(ended);
    }
}

impl Drop for ReplyStream {
    /// A caller that leaves has still used what the upstream told so far, or nobody knows how much.
    fn drop(&mut self) {
        self.settle();
    }
}

impl Upstream {
    fn poll_next(&mut self, cx: &mut Context<'_>, last_word: bool) -> Poll<Result<Option<Batch>, Failure>> {
        let now = Instant::now();
        // An upstream that never pauses must not outrun the deadline.
        if now >= self.guard.deadline.at {
            return Poll::Ready(Err(self.guard.deadline.passed()));
        }
        if let Poll::Ready(next) = self.events.poll_next(cx) {
            self.waiting_since = None;
            return Poll::Ready(next);
        }
        let since = *self.waiting_since.get_or_insert(now);
        let Guard { idle, deadline, .. } = self.guard;
        let idle = since + if last_word { LAST_WORD.min(idle) } else { idle };
        let due = idle.min(deadline.at);
        if self.timer.deadline() > due {
            self.timer.as_mut().reset(due);
        }
        // The timer may stand earlier than it has to, never later: it is moved when it fires, not at every event.
        while self.timer.as_mut().poll(cx).is_ready() {
            if Instant::now() < due {
                self.timer.as_mut().reset(due);
                continue;
            }
            return Poll::Ready(Err(match idle < deadline.at {
                true => own_failure(Class::IdleTimeout, "nothing came within the idle timeout"),
                false => deadline.passed(),
            }));
        }
        Poll::Pending
    }
}

impl Seen {
    /// Nothing more is to come.
    fn is_whole(&self) -> bool {
        self.stop_reason.is_some() && self.metadata
    }

    fn observe(&mut self, batch: &Batch) {
        // Only the last event of a block decides whether it is open, so only that one's payload is kept.
        let mut open = None;
        let mut closed = false;
        for event in &batch.events {
            match &event.kind {
                Kind::BlockStart | Kind::BlockDelta => (open, closed) = (Some(event.payload.clone()), false),
                Kind::BlockStop => (open, closed) = (None, true),
                Kind::MessageStop(reason) => {
                    self.stop_reason = Some(reason.clone());
                }
                Kind::Metadata(usage) => {
                    self.metadata = true;
                    self.usage = *usage;
                }
                Kind::MessageStart | Kind::Other => {}
            }
        }
        match open.filter(|_| self.keeps_open) {
            Some(payload) => self.open_block = Some(batch.bytes[payload].into()),
            None if closed => self.open_block = None,
            None => {}
        }
    }
}
