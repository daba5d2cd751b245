//! Runs a plan: one attempt after the other, until one answers or none is left.
//!
//! The commit point is a type. Until the first content is there an attempt is `Pending` and can be replaced; what
//! comes out is [`Committed`], and by then plan and body are gone: nothing that holds it could try again. What a failure
//! means is `policy`'s table ([`switchtower_policy::failure`]); how many attempts are paid is the plan's walk.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::Bytes;
use switchtower_policy::{
    failure::{Class, OtherTarget, Phase, SameTarget, consequence},
    plan::{Plan, Step, StepKind, Walk},
    snapshot::{AnswerIndex, RouteIndex, Snapshot, Target},
};
use switchtower_provider::{
    Answer, Attempt, Batch, Events, Failure, Kind, Operation, Provider, Whole,
    bedrock::request::{Malformed, Request, Settings},
};
use tokio::time::{Instant, timeout_at};

use crate::{
    call::{Reason, Refusal},
    record::Record,
};

/// Most bytes of lifecycle frames that are held back while no content has come: real streams hold back one frame of
/// some hundred bytes.
const MOST_HELD: usize = 64 * 1024;

/// What there is to do for one request.
#[derive(Debug)]
pub struct Job<'a> {
    /// The policy that it was planned with.
    pub policy: Arc<Snapshot>,
    /// The route that it was planned for.
    pub route: RouteIndex,
    /// The steps, in order.
    pub plan: Plan,
    /// What is asked.
    pub request: &'a Request,
    /// When everything ends.
    pub deadline: Deadline,
}

impl Job<'_> {
    /// The body as it goes to a target: a guardrail may have an id for each region.
    fn body(&self, target: &Target) -> Result<Bytes, Malformed> {
        let route = self.policy.route(self.route);
        let guardrail = route.guardrail.as_ref().map(|guardrail| guardrail.in_region(&target.region));
        self.request.with(Settings { guardrail, max_output_tokens: route.max_output_tokens })
    }
}

/// When a request ends, whatever it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline {
    /// The point in time.
    pub at: Instant,
    /// The caller set it; otherwise the route's total timeout did.
    pub callers: bool,
}

impl Deadline {
    /// The earlier of the caller's deadline and the route's total timeout.
    #[must_use]
    pub fn of(received: Instant, total: Duration, callers: Option<Instant>) -> Self {
        let total = received + total;
        match callers {
            Some(at) if at < total => Deadline { at, callers: true },
            _ => Deadline { at: total, callers: false },
        }
    }

    /// The failure of an attempt that it cut short.
    #[must_use]
    pub fn passed(self) -> Failure {
        let (class, message) = match self.callers {
            true => (Class::CallerDeadline, "the caller's deadline passed"),
            false => (Class::TotalTimeout, "the route's total timeout passed"),
        };
        own_failure(class, message)
    }
}

/// What a plan came to.
#[derive(Debug)]
pub enum Answered {
    /// A target gave the whole answer.
    Whole(Whole, Arc<Target>),
    /// A target's stream has content.
    Stream(Committed, Arc<Target>),
    /// An `answer` tier's turn: the number of the tier, from 1, and the template.
    Degraded(u16, AnswerIndex),
}

/// A stream that has content: it is the caller's now, and can no longer be replaced.
#[derive(Debug)]
pub struct Committed {
    /// What was held back, and the first content.
    pub held: VecDeque<Batch>,
    /// What follows.
    pub events: Events,
}

/// A stream that has no content yet: it can still be replaced.
#[derive(Debug)]
struct Pending {
    held: VecDeque<Batch>,
    bytes: usize,
    events: Events,
}

/// Runs the plan.
///
/// Cancel safe: dropping the future cancels the attempt that runs.
///
/// # Errors
/// The body cannot carry what policy sets; a failure that no other target would mend, or the last one when no step is
/// left.
pub async fn run(provider: &dyn Provider, job: Job<'_>, record: &mut Record) -> Result<Answered, Refusal> {
    let mut walk = Walk::new();
    let mut refreshed = false;
    let mut last: Option<Failure> = None;
    let mut next = walk.next(&job.plan);
    while let Some(step) = next {
        let target = match step.kind {
            StepKind::Answer(answer) => return Ok(Answered::Degraded(step.tier + 1, answer)),
            StepKind::Target(index) => job.policy.target(index),
        };
        let body = job.body(target).map_err(|malformed| Refusal::invalid(&[malformed]))?;
        let failure = match attempt(provider, &job, target, body, step, record).await {
            Ok(answered) => return Ok(answered),
            Err(failure) => failure,
        };
        match failure.sent {
            true => walk.paid(),
            false => walk.unsent(),
        }
        let means = consequence(failure.class, Phase::BeforeContent);
        if means.other_target == OtherTarget::WithAlarm {
            alarm(target, &failure);
        }
        let late = Instant::now() >= job.deadline.at;
        next = if late && !job.deadline.callers {
            // The route's own time is up, and the caller still waits: an answer of our own takes none.
            walk.next_where(&job.plan, |_| false)
        } else if late || means.other_target == OtherTarget::Never {
            None
        } else if means.same_target == SameTarget::AfterRefresh && !refreshed {
            refreshed = true;
            let again = refresh(provider, job.deadline).await;
            again.then(|| walk.again(&job.plan)).flatten().or_else(|| walk.next(&job.plan))
        } else if !failure.sent && means.same_target == SameTarget::OnceAtOnce && walk.clone().next(&job.plan).is_none()
        {
            // Another target goes before the same again.
            walk.again(&job.plan)
        } else {
            walk.next(&job.plan)
        };
        last = Some(failure);
    }
    Err(refusal(last))
}

/// A target that we may not use, or that is not there, is the operators' to mend.
fn alarm(target: &Target, failure: &Failure) {
    let (class, error_code) = (failure.class.as_str(), failure.code.as_deref().unwrap_or("-"));
    // Only our own sentence: a provider's may quote the request.
    let message = if failure.status.is_none() { &*failure.message } else { "" };
    tracing::warn!(target_id = &*target.id, class, error_code, "a target cannot be used: see to it. {message}");
}

/// Whether the provider has other credentials now.
async fn refresh(provider: &dyn Provider, deadline: Deadline) -> bool {
    timeout_at(deadline.at, provider.refresh()).await.is_ok_and(|refreshed| refreshed.is_ok())
}

async fn attempt(
    provider: &dyn Provider,
    job: &Job<'_>,
    target: &Arc<Target>,
    body: Bytes,
    step: Step,
    record: &mut Record,
) -> Result<Answered, Failure> {
    let started = Instant::now();
    let trace = record.attempt_begins(target, step.tier + 1, started);
    let timeouts = &job.policy.route(job.route).timeouts;
    let attempt = Attempt {
        target: target.clone(),
        operation: job.request.operation,
        body,
        connect_timeout: timeouts.connect,
        trace,
    };
    let result = match job.request.operation {
        Operation::Converse => whole(provider, attempt, job.deadline).await.map(|w| Answered::Whole(w, target.clone())),
        Operation::ConverseStream => stream(provider, attempt, job.deadline, started + timeouts.first_token)
            .await
            .map(|committed| Answered::Stream(committed, target.clone())),
    };
    match &result {
        Ok(_) => record.attempt_answers(Instant::now()),
        Err(failure) => {
            record.attempt_failed(failure, Instant::now());
            if may_be_billed(failure) {
                record.used(None);
            }
        }
    }
    result
}

/// Whether a failed attempt may appear on the bill: it was sent, and no answer said that it failed (one that cannot be
/// read did not).
fn may_be_billed(failure: &Failure) -> bool {
    failure.sent && failure.status.is_none_or(|status| status < 400)
}

async fn whole(provider: &dyn Provider, attempt: Attempt, deadline: Deadline) -> Result<Whole, Failure> {
    match timeout_at(deadline.at, provider.attempt(attempt)).await {
        Ok(Ok(Answer::Whole(whole))) => Ok(whole),
        Ok(Ok(Answer::Stream(_))) => Err(own_failure(Class::Protocol, "a unary call was answered by a stream")),
        Ok(Err(failure)) => Err(failure),
        Err(_) => Err(deadline.passed()),
    }
}

async fn stream(
    provider: &dyn Provider,
    attempt: Attempt,
    deadline: Deadline,
    first_token: Instant,
) -> Result<Committed, Failure> {
    let until_content = async {
        match provider.attempt(attempt).await? {
            Answer::Stream(events) => Pending { held: VecDeque::new(), bytes: 0, events }.until_content().await,
            Answer::Whole(_) => Err(own_failure(Class::Protocol, "a stream was answered by a whole answer")),
        }
    };
    match timeout_at(deadline.at.min(first_token), until_content).await {
        Ok(result) => result,
        Err(_) if first_token < deadline.at => {
            Err(own_failure(Class::FirstTokenTimeout, "no content came within the first-token timeout"))
        }
        Err(_) => Err(deadline.passed()),
    }
}

impl Pending {
    async fn until_content(mut self) -> Result<Committed, Failure> {
        loop {
            let Some(batch) = self.events.next().await? else {
                return Err(own_failure(Class::Broken, "the stream ended before any content"));
            };
            // A stream may end without content (an empty answer): its last word commits like content.
            let commits = batch.events.iter().any(|e| matches!(e.kind, Kind::BlockDelta | Kind::MessageStop(_)));
            self.bytes += batch.bytes.len();
            self.held.push_back(batch);
            if commits {
                return Ok(Committed { held: self.held, events: self.events });
            }
            if self.bytes > MOST_HELD {
                return Err(own_failure(Class::Protocol, "too much came before any content"));
            }
        }
    }
}

/// A failure that we saw, not one that a provider told.
pub(crate) fn own_failure(class: Class, message: &str) -> Failure {
    Failure { class, code: None, status: None, message: message.into(), retry_after: None, sent: true }
}

fn refusal(last: Option<Failure>) -> Refusal {
    let Some(failure) = last else {
        return Refusal {
            reason: Reason::Upstream { class: None, code: None },
            message: "the route has no target that can be tried now".to_owned(),
            retry_after: None,
            served: None,
        };
    };
    let message = told(&failure);
    let reason = match failure.class {
        Class::CallerDeadline | Class::TotalTimeout => Reason::DeadlineExceeded,
        class => Reason::Upstream { class: Some(class), code: failure.code },
    };
    Refusal { reason, message, retry_after: failure.retry_after, served: None }
}

/// What a caller is told of the last failure. How targets are reached and as whom is the operators' business.
fn told(failure: &Failure) -> String {
    match failure.class {
        Class::Connect => "no target of this route could be reached".to_owned(),
        Class::Misconfigured | Class::Credentials => {
            "no target of this route can be used as it is configured: its operators have to see to it".to_owned()
        }
        _ => failure.message.to_string(),
    }
}
