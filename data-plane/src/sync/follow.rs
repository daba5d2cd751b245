//! The life of a node with a control plane: its last known good first, then one stream after another.

use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::SystemTime,
};

use anyhow::Context;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::transport::Endpoint;

use super::{
    Options, Token,
    apply::{Applier, disk_problem, ready, with_disk},
    aside::aside,
    backoff::Backoff,
    channel,
    keys::Keys,
    ring::Ring,
    state::{Digest, State},
    status::{Boot, Status},
    stream::{End, Identity, Stream},
};
use crate::{
    infer::Node,
    keys,
    last_known_good::{Candidate, Found, LIFTED_BY, LastKnownGood},
    source,
};

/// The stream to the control plane, to be followed.
pub struct Sync {
    applier: Applier,
    identity: Identity,
    endpoints: Vec<Endpoint>,
    token: Token,
    proving: watch::Receiver<Option<Digest>>,
}

/// Takes the last known good into service, if there is one, and gives what to follow from here on, and what is told of
/// it. Nothing is connected yet.
///
/// # Errors
/// Sentences: the endpoints, the pepper or the folder cannot be used. What is wrong with the last known good is none.
pub async fn open(
    options: Options,
    node: Arc<Node>,
    policy: Arc<source::Status>,
    key_status: Arc<keys::Status>,
) -> anyhow::Result<(Sync, Arc<Status>)> {
    let endpoints = channel::endpoints(&options).map_err(anyhow::Error::msg)?;
    anyhow::ensure!(!endpoints.is_empty(), "there is no endpoint of a control plane");
    let ring = Ring::new(options.pepper, node.clone(), key_status)
        .map_err(|problems| anyhow::Error::msg(problems.join("\n")))?;
    let (kept, found) = opened(&options.data, &options.environment)
        .await
        .with_context(|| format!("the last known good in {} cannot be opened", options.data.display()))?;
    let instance = fastrand::u128(..).to_be_bytes();
    let status = Arc::new(Status::default());
    status.set(|seen| {
        seen.environment.clone_from(&options.environment);
        seen.node_id.clone_from(&options.node_id);
        seen.quarantined = kept.quarantined().iter().map(hex::encode).collect();
        seen.since = Some(SystemTime::now());
    });
    let state = State {
        environment: options.environment,
        served: None,
        keys: Keys::default(),
        quarantined: kept.quarantined().to_vec(),
    };
    let (proving, to_prove) = watch::channel(None);
    let kept = Arc::new(Mutex::new(kept));
    let pace = options.pace;
    node.telemetry.metrics.sync.connected(false);
    let applier = Applier { node, state, kept, ring: Arc::new(ring), status: status.clone(), policy, proving, pace };
    let identity = Identity { node_id: options.node_id, instance };
    let mut sync = Sync { applier, identity, endpoints, token: options.token, proving: to_prove };
    sync.begin(found).await;
    Ok((sync, status))
}

async fn opened(folder: &Path, environment: &str) -> std::io::Result<(LastKnownGood, Found)> {
    let (folder, environment) = (folder.to_owned(), environment.to_owned());
    let open = move || LastKnownGood::open(&folder, &environment, env!("CARGO_PKG_VERSION"));
    tokio::task::spawn_blocking(open).await.unwrap_or_else(|panic| Err(std::io::Error::other(panic)))
}

impl Sync {
    /// Takes into service what was kept.
    async fn begin(&mut self, found: Found) {
        let Found { candidates, keys, mut reverted, mut problems } = found;
        self.applier.ring.take(&keys);
        self.applier.state.keys = keys;
        for candidate in candidates {
            match self.begin_with(candidate).await {
                Ok(()) => break,
                Err(problem) => problems.push(problem),
            }
            reverted = true;
        }
        for digest in &self.applier.status.now().quarantined {
            tracing::warn!(digest, "a content is in quarantine, and not taken; {LIFTED_BY}");
        }
        for problem in &problems {
            tracing::error!("last known good: {problem}");
        }
        let boot = match (&self.applier.state.served, reverted) {
            (None, _) => Boot::Nothing,
            (Some(_), false) => Boot::LastKnownGood,
            (Some(_), true) => Boot::Reverted,
        };
        self.applier.told();
        self.applier.status.set(|seen| (seen.boot, seen.problems) = (boot, problems));
    }

    async fn begin_with(&mut self, candidate: Candidate) -> Result<(), String> {
        let served = candidate.generation.served.clone();
        let (marked, candidate) =
            with_disk(&self.applier.kept, move |kept| Ok((kept.begin_kept(&candidate), candidate)))
                .await
                .map_err(|error| error.to_string())?;
        if let Err(error) = marked {
            tracing::error!("last known good: a crash would not be counted: {error}");
        }
        let content = served.clone();
        let compiled = aside(self.applier.pace.compile_within, move || ready(&content)).await;
        let (digest, revision) = (served.digest, served.revision);
        let problem = match compiled {
            Ok(Ok(ready)) => {
                self.applier.serve_kept(served, ready);
                // What cannot be marked as served counts as an end before, at worst.
                let _ = with_disk(&self.applier.kept, move |kept| kept.serves_kept(&candidate)).await;
                self.applier.proving.send_replace(Some(digest));
                return Ok(());
            }
            Ok(Err(violations)) => {
                let first = violations.first().map(ToString::to_string).unwrap_or_default();
                format!("revision {revision} does not compile any more: {first}")
            }
            Err(failed) => format!("revision {revision} could not be compiled: {failed}"),
        };
        let _ = with_disk(&self.applier.kept, LastKnownGood::ended).await;
        Err(problem)
    }

    /// Follows the control plane until stopped. When this returns, the disk knows that the process ended as it should.
    pub async fn follow(self, stop: CancellationToken) {
        let Sync { mut applier, identity, endpoints, token, proving } = self;
        let kept = applier.kept.clone();
        let (ring, status, node, pace) =
            (applier.ring.clone(), applier.status.clone(), applier.node.clone(), applier.pace);
        let work = async {
            tokio::join!(
                streams(&mut applier, &identity, &endpoints, &token),
                watch_pepper(&ring),
                prove(&kept, proving, pace.proven_after),
                mend(&kept, &status, pace.heartbeat),
            )
        };
        stop.run_until_cancelled(work).await;
        node.telemetry.metrics.sync.connected(false);
        if let Err(error) = with_disk(&kept, LastKnownGood::ended).await {
            tracing::warn!(%error, "the disk does not take it that this process ends as it should");
        }
    }
}

/// One stream after another.
async fn streams(applier: &mut Applier, identity: &Identity, endpoints: &[Endpoint], token: &Token) {
    let pace = applier.pace;
    let mut backoff = Backoff::new(pace.first_wait, pace.longest_wait);
    let mut next = fastrand::usize(..endpoints.len());
    let mut told = String::new();
    // A node with nothing serves nobody until it is answered.
    if applier.state.served.is_some() {
        tokio::time::sleep(pace.start_within.mul_f64(fastrand::f64())).await;
    }
    loop {
        let endpoint = &endpoints[next];
        let url = endpoint.uri().to_string();
        let end = match (channel::authorization(token).await, channel::connect(endpoint).await) {
            (Ok(authorization), Ok(channel)) => {
                let backoff = &mut backoff;
                Stream { applier: &mut *applier, identity, backoff, endpoint: &url }.run(channel, authorization).await
            }
            (Err(why), _) => End::Refused(why),
            (_, Err(why)) => End::Lost(why),
        };
        let was_connected = applier.status.now().connected.is_some();
        if was_connected {
            told.clear();
        }
        let random = fastrand::f64();
        let (wait, why) = match end {
            End::Lost(why) => {
                // Another replica may be there.
                next = (next + 1) % endpoints.len();
                (backoff.next(random), why)
            }
            End::ComeBack(wait, why) => {
                next = (next + 1) % endpoints.len();
                (wait, format!("the control plane sent this node away for a while: {why}"))
            }
            End::Refused(why) => (backoff.slowly(random), why),
            // Whoever applies the first policy of an environment waits for the nodes that are there already.
            End::Nothing(why) => (backoff.shortly(random), why),
        };
        lost(applier, &url, &why, was_connected, &mut told);
        tokio::time::sleep(wait).await;
    }
}

/// Tells that there is no stream, in the log once for each reason.
fn lost(applier: &Applier, endpoint: &str, why: &str, was_connected: bool, told: &mut String) {
    applier.node.telemetry.metrics.sync.connected(false);
    applier.status.set(|seen| {
        seen.lost = format!("{endpoint}: {why}");
        if was_connected {
            seen.connected = None;
            seen.since = Some(SystemTime::now());
        }
    });
    if told == why {
        tracing::debug!(endpoint, why, "no stream to the control plane");
        return;
    }
    why.clone_into(told);
    let serving = applier.state.served.as_ref().map(|served| served.revision);
    tracing::warn!(endpoint, why, serving, "no stream to the control plane; what serves keeps serving");
}

async fn watch_pepper(ring: &Arc<Ring>) {
    let Some(path) = ring.pepper_file() else { return };
    loop {
        tokio::time::sleep(keys::POLL).await;
        ring.take_pepper(tokio::fs::read(&path).await);
    }
}

/// Tells the disk of a content that has served for a while that it did not end the process.
async fn prove(
    kept: &Arc<Mutex<LastKnownGood>>,
    mut proving: watch::Receiver<Option<Digest>>,
    after: std::time::Duration,
) {
    loop {
        let digest = *proving.borrow_and_update();
        if let Some(digest) = digest {
            tokio::select! {
                () = tokio::time::sleep(after) => {
                    // The mark that stays counts once too often at worst.
                    if let Err(error) = with_disk(kept, move |kept| kept.proven(digest)).await {
                        tracing::warn!(%error, "the mark of a revision that serves well cannot be removed");
                    }
                }
                changed = proving.changed() => match changed {
                    Ok(()) => continue,
                    Err(_) => return,
                },
            }
        }
        if proving.changed().await.is_err() {
            return;
        }
    }
}

/// Writes what the disk did not take, until it does.
async fn mend(kept: &Arc<Mutex<LastKnownGood>>, status: &Arc<Status>, every: std::time::Duration) {
    loop {
        tokio::time::sleep(every).await;
        if status.now().disk.is_none() {
            continue;
        }
        let problem = with_disk(kept, LastKnownGood::write_again).await.err().map(|error| disk_problem(&error));
        if problem.is_none() {
            tracing::info!("what serves is on disk again");
        }
        status.set(|seen| seen.disk = problem);
    }
}
