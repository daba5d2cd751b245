//! THE request path. It knows no face and no provider's wire; the order of things is the order of lines.
//!
//! authenticate → load the policy once → route, flags, plan (pure) → attempts → the reply, whose record ends with it.
//!
//! The record comes with the call: the face began it when the head was there, for requests that never come so far.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use switchtower_policy::{Facts, Snapshot, plan::HealthView, route::UnknownRoute, snapshot::Caller};
use switchtower_provider::{Operation, Provider, Whole};

use crate::{
    attempts::{self, Answered, Committed, Deadline, Job},
    auth::{Denied, Keyring},
    call::{Call, Reason, Refusal, Reply},
    current::Current,
    frames,
    record::{Completeness, Record},
    reply::{Guard, Origin, ReplyStream, WholeReply},
    telemetry::Telemetry,
};

/// What every request needs.
pub struct Node {
    /// The policy being served.
    pub current: Current,
    /// The keys that callers show.
    pub keys: ArcSwap<Keyring>,
    /// Makes the attempts.
    pub provider: Arc<dyn Provider>,
    /// Where records go.
    pub telemetry: Arc<Telemetry>,
    /// Region that the node runs in; empty where it runs in none.
    pub region: Box<str>,
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("region", &self.region).finish_non_exhaustive()
    }
}

impl Node {
    /// Answers one request, whose record its face has begun.
    ///
    /// Cancel safe: dropping the future, or the stream of the reply, cancels the call upstream and ends the record.
    ///
    /// # Errors
    /// Why there is no answer; it is recorded already.
    pub async fn infer(&self, call: Call, mut record: Record) -> Result<Reply, Refusal> {
        match self.run(call, &mut record).await {
            Ok(answer) => Ok(answer.until_the_end_of(record)),
            Err(refusal) => Err(record.refused(refusal)),
        }
    }

    async fn run(&self, call: Call, record: &mut Record) -> Result<Begun, Refusal> {
        let policy = self.current.load().ok_or_else(unready)?;
        let caller = self.authenticate(&call, &policy)?;
        record.authenticated(&policy, caller);
        let id = record.id().clone();
        let request = call.request.as_ref().map_err(|problems| Refusal::invalid(problems))?;
        let facts = Facts {
            caller,
            asked: &call.route,
            metadata: &call.metadata,
            region: &self.region,
            request_id: &id,
            request: request.facts,
        };
        let resolved = policy.resolve(&facts).map_err(|unknown| unknown_route(&call.route, &unknown))?;
        let route = policy.route(resolved.route);
        record.routed(route, resolved.rule);
        let plan = policy.plan(resolved, &facts, &HealthView::default(), fastrand::u64(..));
        let deadline = Deadline::of(record.received(), route.timeouts.total, call.deadline);
        let job = Job { policy: policy.clone(), route: resolved.route, plan, request, deadline };
        Ok(match attempts::run(&*self.provider, job, record).await? {
            Answered::Whole(answer, target) => {
                record.used(answer.usage.and_then(|usage| policy.cost(&target, &usage)));
                Begun::Whole(answer, Completeness::Complete)
            }
            Answered::Stream(committed, target) => {
                let guard = Guard { idle: route.timeouts.idle, deadline, on_broken: route.on_broken_stream };
                Begun::Stream(committed, Origin { policy: policy.clone(), target }, guard)
            }
            Answered::Degraded(tier, answer) => {
                record.degraded(tier);
                let text = policy.answer(answer, &route.name, &facts);
                match request.operation {
                    Operation::Converse => Begun::Whole(frames::whole(&text), Completeness::Degraded),
                    Operation::ConverseStream => Begun::Answer(text),
                }
            }
        })
    }
}

impl Node {
    /// Whose key it is. A key whose caller the policy does not know is as wrong as any other.
    fn authenticate<'p>(&self, call: &Call, policy: &'p Snapshot) -> Result<&'p Caller, Refusal> {
        let keys = self.keys.load();
        let name = keys.authenticate(&call.credentials, SystemTime::now()).map_err(denied)?;
        policy.caller(name).ok_or_else(|| denied(Denied::Wrong))
    }
}

/// An answer whose record has not ended yet.
enum Begun {
    Whole(Whole, Completeness),
    Stream(Committed, Origin, Guard),
    Answer(String),
}

impl Begun {
    /// The reply, with which the record ends: when its face has told it.
    fn until_the_end_of(self, record: Record) -> Reply {
        match self {
            Begun::Whole(answer, completeness) => Reply::Whole(WholeReply::of(answer, completeness, record)),
            Begun::Stream(committed, origin, guard) => Reply::Stream(ReplyStream::of(committed, origin, guard, record)),
            Begun::Answer(text) => Reply::Stream(ReplyStream::degraded(&text, record)),
        }
    }
}

fn refusal(reason: Reason, message: impl Into<String>) -> Refusal {
    Refusal { reason, message: message.into(), retry_after: None, served: None }
}

/// One sentence for a missing and for a wrong key: which of both it was helps only whoever is guessing.
fn denied(denied: Denied) -> Refusal {
    match denied {
        Denied::Wrong => refusal(
            Reason::Unauthenticated,
            "no valid key: send `authorization: Bearer KEY`, or sign with the key's AWS pair",
        ),
        Denied::Expired => refusal(
            Reason::SignatureExpired,
            "the signature is too old or from the future: check the clock of the caller, or sign again",
        ),
    }
}

fn unready() -> Refusal {
    let message = "this node has no policy yet; `/readyz` on its admin port tells why";
    Refusal { retry_after: Some(Duration::from_secs(1)), ..refusal(Reason::Unready, message) }
}

fn unknown_route(asked: &str, unknown: &UnknownRoute) -> Refusal {
    let nearest = match unknown.nearest.as_slice() {
        [] => String::new(),
        names => format!("; the nearest that are: {}", names.join(", ")),
    };
    let asked: String = asked.chars().take(100).collect();
    let message = format!("no route or alias `{asked}` is open to this caller{nearest}");
    refusal(Reason::UnknownRoute { nearest: unknown.nearest.clone() }, message)
}
