//! What is done with an update: keys first, then the policy, then the disk, then the answer.
//!
//! The order is the promise. Keys hold before anything that may take long or fail. The taking of a content is marked on
//! disk before it is compiled, in case that ends the process. What served is replaced only by what has compiled. The
//! answer comes last, so that what was acknowledged survives a restart, or says why it would not.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use bytes::Bytes;
use prost::Message;
use switchtower_policy::{
    Compiled, Severity, Violation, compile,
    items::{self, Unknown},
};
use switchtower_proto::sync::v1::{self, UpdateBody, sync_request::Kind};
use tokio::{sync::watch, time::Instant};

use super::{
    Pace,
    aside::{Failed, aside},
    ring::Ring,
    state::{Decision, Digest, Judged, Refusal, Served, State},
    status::{Boot, Refused, Status},
};
use crate::{
    infer::Node,
    last_known_good::{Generation, LastKnownGood},
    source,
    telemetry::metrics::sync::Outcome,
    trace::TraceContext,
};

/// Most violations of a NACK, and most unknown members of an ACK.
const MOST_TOLD: usize = 20;
/// Most bytes of a violation's path and of its sentence: 512 together, and the code is short.
const MOST_PATH: usize = 128;
const MOST_MESSAGE: usize = 320;

/// What a node holds, and everything that changes with it.
pub(super) struct Applier {
    pub(super) node: Arc<Node>,
    pub(super) state: State,
    pub(super) kept: Arc<Mutex<LastKnownGood>>,
    pub(super) ring: Arc<Ring>,
    pub(super) status: Arc<Status>,
    pub(super) policy: Arc<source::Status>,
    /// The content that has to prove itself now.
    pub(super) proving: watch::Sender<Option<Digest>>,
    pub(super) pace: Pace,
}

/// A policy that is ready to serve.
pub(super) struct Ready {
    compiled: Compiled,
    ignored: Vec<Unknown>,
}

/// Compiles a content; for a thread of its own.
pub(super) fn ready(served: &Served) -> Result<Ready, Vec<Violation>> {
    let read = items::policy(&served.items)?;
    let Compiled { snapshot, warnings } = compile(&read.policy)?;
    Ok(Ready { compiled: Compiled { snapshot: snapshot.numbered(served.revision), warnings }, ignored: read.ignored })
}

impl Applier {
    /// Applies a whole update that came on a stream of this epoch, and gives the answer to it.
    ///
    /// Dropping the future leaves what is held as it was or as it is to be, and the update unanswered.
    pub(super) async fn apply(&mut self, id: u64, body: Bytes, epoch: &str, arrived: Instant) -> Kind {
        let (state, epoch) = (self.state.clone(), epoch.to_owned());
        let judged = aside(self.pace.compile_within, move || {
            let body = UpdateBody::decode(body).ok()?;
            Some((state.judge(&body, &epoch), body.assignment.unwrap_or_default(), body.traceparent))
        });
        let (judged, assignment, traceparent) = match judged.await {
            Ok(Some(judged)) => judged,
            Ok(None) => {
                let refusal = Refusal::of("damaged", "it is no update", true);
                return self.refuse(id, &v1::Assignment::default(), refusal);
            }
            Err(failed) => return self.refuse(id, &v1::Assignment::default(), internal(failed)),
        };
        let Judged { keys, policy } = judged;
        let keys_changed = keys.is_some();
        if let Some(keys) = keys {
            self.ring.take(&keys);
            tracing::info!(keys = keys.len(), version = keys.version, "keys in service");
            self.state.keys = keys;
        }
        match policy {
            Decision::Refuse(refusal) => {
                if keys_changed {
                    self.keep().await;
                }
                self.refuse(id, &assignment, refusal)
            }
            Decision::AlreadyHeld => {
                let (outcome, problem) = match keys_changed {
                    true => (Outcome::Keys, self.keep().await),
                    false => (Outcome::Held, self.status.now().disk),
                };
                self.told();
                self.node.telemetry.metrics.sync.update(outcome);
                self.ack(id, arrived.elapsed(), &[], problem)
            }
            Decision::Take(served) => match self.take(served, arrived, &traceparent).await {
                Ok(taken) => self.ack(id, taken.took, &taken.ignored, taken.problem),
                Err(refusal) => {
                    if keys_changed {
                        self.keep().await;
                    }
                    self.refuse(id, &assignment, refusal)
                }
            },
        }
    }

    async fn take(&mut self, served: Served, arrived: Instant, traceparent: &str) -> Result<Taken, Refusal> {
        let another = self.state.served.as_ref().is_none_or(|serving| serving.digest != served.digest);
        let digest = served.digest;
        let mut marked = Ok(());
        if another {
            marked = self.with_disk(move |kept| kept.begin(digest)).await;
        }
        let content = served.clone();
        let compiled = match aside(self.pace.compile_within, move || ready(&content)).await {
            Ok(compiled) => compiled.map_err(|violations| Refusal { violations: told(&violations), transient: false }),
            Err(failed) => Err(internal(failed)),
        };
        if compiled.is_err() {
            // It did not end the process, and what cannot be unmarked is counted once too often at worst.
            let _ = self.with_disk(LastKnownGood::ended).await;
        }
        let Ready { compiled, ignored } = compiled?;
        let took = self.serve(served, compiled, &ignored, arrived, traceparent);
        if another {
            // What cannot be marked as served counts as an end before, at worst.
            let _ = self.with_disk(move |kept| kept.serves(digest)).await;
        }
        let kept = self.keep().await;
        // The disk's problem with the file is the one that matters; with the mark, what it would have guarded against.
        let problem = kept.or_else(|| marked.err().map(|error| format!("a crash would not be counted: {error}")));
        if another {
            self.proving.send_replace(Some(digest));
        }
        self.told();
        Ok(Taken { took, ignored, problem })
    }

    /// Swaps a policy into service.
    fn serve(
        &mut self,
        served: Served,
        compiled: Compiled,
        ignored: &[Unknown],
        arrived: Instant,
        traceparent: &str,
    ) -> std::time::Duration {
        for warning in &compiled.warnings {
            tracing::warn!("{warning}");
        }
        for unknown in ignored.iter().take(MOST_TOLD) {
            tracing::warn!(%unknown, "this program does not know a part of the policy, and ignores it");
        }
        source::swap(compiled.snapshot, &self.node, &self.policy);
        let (took, ended) = (arrived.elapsed(), SystemTime::now());
        let trace = trace(traceparent);
        let trace_id = trace.as_ref().map(|trace| trace.trace.to_string());
        tracing::info!(
            epoch = served.epoch,
            assignment = served.assignment,
            revision = served.revision,
            took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            trace_id,
            "assignment followed"
        );
        if let Some(trace) = trace {
            self.node.telemetry.swapped(&trace, ended - took, ended, &served);
        }
        self.node.telemetry.metrics.sync.update(Outcome::Taken);
        self.node.telemetry.metrics.sync.swapped(took);
        self.state.served = Some(served);
        self.status.set(|seen| {
            seen.refused = None;
            // A stream that is lost now finds a node that never stopped.
            seen.boot = Boot::LastKnownGood;
        });
        took
    }

    /// Keeps what is held now on disk. Gives the problem that the disk has with it.
    async fn keep(&mut self) -> Option<String> {
        // Keys alone let nobody in, and come again with the first policy.
        let served = self.state.served.clone()?;
        let generation =
            Generation { environment: self.state.environment.clone(), served, keys: self.state.keys.clone() };
        let written = self.with_disk(move |kept| kept.keep(generation)).await;
        let problem = written.err().map(|error| disk_problem(&error));
        if let Some(problem) = &problem {
            self.node.telemetry.metrics.sync.not_kept();
            tracing::error!("{problem}");
        }
        self.status.set(|seen| seen.disk.clone_from(&problem));
        problem
    }

    async fn with_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut LastKnownGood) -> std::io::Result<T> + Send + 'static,
    ) -> std::io::Result<T> {
        with_disk(&self.kept, work).await
    }

    /// Tells what is held in the status and the metrics.
    pub(super) fn told(&self) {
        let held = self.state.held();
        if let Some(held) = &held {
            self.node.telemetry.metrics.sync.holds(held.assignment, held.revision, held.keys_version);
        }
        self.status.set(|seen| seen.held = held);
    }

    fn ack(&self, id: u64, took: std::time::Duration, ignored: &[Unknown], problem: Option<String>) -> Kind {
        Kind::Ack(v1::Ack {
            update_id: id,
            held: self.state.held(),
            took: took.try_into().ok(),
            ignored: ignored
                .iter()
                .take(MOST_TOLD)
                .map(|unknown| bounded(&unknown.to_string(), MOST_MESSAGE))
                .collect(),
            problem: problem.unwrap_or_default(),
        })
    }

    /// The NACK for what was refused before it could be judged, or after.
    pub(super) fn refuse(&self, id: u64, assignment: &v1::Assignment, refusal: Refusal) -> Kind {
        let Refusal { violations, transient } = refusal;
        let reasons: Vec<String> = violations.iter().map(sentence).collect();
        for reason in &reasons {
            tracing::error!(revision = assignment.revision, "{reason}");
        }
        let serving = self.state.served.as_ref().map(|served| served.revision);
        tracing::error!(
            revision = assignment.revision,
            assignment = assignment.number,
            serving,
            transient,
            "update refused; what served before keeps serving"
        );
        self.node.telemetry.metrics.sync.update(if transient { Outcome::Transient } else { Outcome::Refused });
        if !transient {
            self.policy.refused(reasons.clone());
        }
        let held = self.state.held();
        self.status.set(|seen| {
            seen.held.clone_from(&held);
            seen.refused = Some(Refused { revision: assignment.revision, reasons, transient });
        });
        Kind::Nack(v1::Nack {
            update_id: id,
            held,
            revision: assignment.revision,
            content_digest: assignment.content_digest.clone(),
            violations,
            transient,
        })
    }

    /// What was kept serves.
    pub(super) fn serve_kept(&mut self, served: Served, ready: Ready) {
        let Ready { compiled, ignored } = ready;
        for unknown in ignored.iter().take(MOST_TOLD) {
            tracing::warn!(%unknown, "this program does not know a part of the policy, and ignores it");
        }
        source::swap(compiled.snapshot, &self.node, &self.policy);
        tracing::info!(
            epoch = served.epoch,
            assignment = served.assignment,
            revision = served.revision,
            "last known good in service"
        );
        self.state.served = Some(served);
    }

    /// What the node says first on a stream.
    pub(super) fn boot(&self) -> Boot {
        self.status.now().boot
    }
}

struct Taken {
    took: std::time::Duration,
    ignored: Vec<Unknown>,
    problem: Option<String>,
}

/// The trace of whoever applied the policy; `None`: they told none, and one that begins here would lead nowhere.
fn trace(traceparent: &str) -> Option<TraceContext> {
    Some(TraceContext::of_parent(traceparent)).filter(|trace| trace.parent.is_some())
}

/// Works with the disk, which blocks.
pub(super) async fn with_disk<T: Send + 'static>(
    kept: &Arc<Mutex<LastKnownGood>>,
    work: impl FnOnce(&mut LastKnownGood) -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    let kept = kept.clone();
    let worked = move || work(&mut kept.lock().unwrap_or_else(PoisonError::into_inner));
    tokio::task::spawn_blocking(worked).await.unwrap_or_else(|panic| Err(std::io::Error::other(panic)))
}

/// What is told of a disk that does not take the last known good.
pub(super) fn disk_problem(error: &std::io::Error) -> String {
    format!("what serves cannot be kept on disk, so a restart would begin with what was kept before: {error}")
}

fn internal(failed: Failed) -> Refusal {
    // What broke this program once breaks it again; a lack of threads may pass.
    Refusal::of("internal", format!("the policy could not be compiled: {failed}"), failed == Failed::NoThread)
}

/// What a NACK tells of a policy that does not compile: errors only, as warnings are no reason.
fn told(violations: &[Violation]) -> Vec<v1::Violation> {
    let errors = violations.iter().filter(|violation| violation.severity == Severity::Error);
    errors
        .take(MOST_TOLD)
        .map(|violation| v1::Violation {
            code: violation.code.to_owned(),
            path: bounded(&violation.path, MOST_PATH),
            message: bounded(&violation.message, MOST_MESSAGE),
        })
        .collect()
}

fn sentence(violation: &v1::Violation) -> String {
    let v1::Violation { code, path, message } = violation;
    match path.is_empty() {
        true => format!("{message} [{code}]"),
        false => format!("{path}: {message} [{code}]"),
    }
}

/// The beginning of a text, at most so many bytes.
fn bounded(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(most - '…'.len_utf8());
    format!("{}…", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nack_is_bounded_whatever_is_wrong() {
        let mut violations = vec![Violation::warning("unused", "x", "a warning is no reason")];
        violations.extend((0..50).map(|_| Violation::error("unknown_model", "p".repeat(4000), "ä".repeat(4000))));
        let told = told(&violations);
        assert_eq!(told.len(), 20);
        for violation in told {
            assert_eq!(violation.code, "unknown_model");
            assert!(violation.encoded_len() <= 512, "{}", violation.encoded_len());
        }
        assert_eq!((bounded("abc", 3), bounded("abcdef", 5)), ("abc".to_owned(), "ab…".to_owned()));
    }
}
