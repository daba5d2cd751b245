//! One stream, from Hello to its end.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime},
};

use switchtower_policy::items;
use switchtower_proto::sync::v1::{
    self, Heartbeat, Hello, SyncRequest, SyncResponse, Update, Welcome, sync_request, sync_response,
    sync_service_client::SyncServiceClient,
};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Code, Request, Status, Streaming,
    metadata::{Ascii, MetadataValue},
    transport::Channel,
};

use super::{
    apply::Applier,
    backoff::{Backoff, between},
    parts::{Broken, Made, Parts},
    state::Refusal,
    status::Connected,
};

/// Most bytes of a message: a part of an update is at most 1 MiB.
const MOST_MESSAGE_BYTES: usize = (1 << 20) + (64 << 10);
/// Answers and heartbeats on their way out. One update is unanswered at most.
const OUTGOING: usize = 4;

/// How a stream ended.
#[derive(Debug)]
pub(super) enum End {
    /// It was lost.
    Lost(String),
    /// The control plane wants the node to come back after this.
    ComeBack(Duration, String),
    /// What the node says of itself is refused; a sentence.
    Refused(String),
    /// There is nothing for the node to serve yet; a sentence.
    Nothing(String),
}

/// Who says Hello.
#[derive(Debug)]
pub(super) struct Identity {
    pub(super) node_id: String,
    pub(super) instance: [u8; 16],
}

/// One stream.
pub(super) struct Stream<'a> {
    pub(super) applier: &'a mut Applier,
    pub(super) identity: &'a Identity,
    pub(super) backoff: &'a mut Backoff,
    pub(super) endpoint: &'a str,
}

impl Stream<'_> {
    /// Runs a stream until it ends.
    pub(super) async fn run(mut self, channel: Channel, authorization: MetadataValue<Ascii>) -> End {
        let pace = self.applier.pace;
        let (sender, outgoing) = mpsc::channel(OUTGOING);
        let hello = self.hello();
        if sender.send(message(sync_request::Kind::Hello(hello))).await.is_err() {
            return End::Lost("the stream ended before it began".to_owned());
        }
        let mut request = Request::new(ReceiverStream::new(outgoing));
        request.metadata_mut().insert("authorization", authorization);
        let mut client = SyncServiceClient::new(channel).max_decoding_message_size(MOST_MESSAGE_BYTES);
        let mut incoming = match timeout(pace.silence, client.sync(request)).await {
            Ok(Ok(response)) => response.into_inner(),
            Ok(Err(status)) => return end_of(&status),
            Err(_) => return silent(pace.silence),
        };
        let follows = AtomicU64::new(self.follows());
        // The heart beats while an update is compiled, too.
        tokio::select! {
            end = self.receive(&mut incoming, &sender, &follows) => end,
            end = beat(&sender, &follows, pace.heartbeat) => end,
        }
    }

    fn hello(&self) -> Hello {
        let Applier { state, node, .. } = &*self.applier;
        let schema = items::schema();
        Hello {
            node_id: self.identity.node_id.clone(),
            instance: self.identity.instance.to_vec(),
            environment: state.environment.clone(),
            region: node.region.to_string(),
            build: env!("CARGO_PKG_VERSION").to_owned(),
            schema: Some(v1::Schema { members: schema.members.clone(), kinds: schema.kinds.clone() }),
            held: state.held(),
            boot: self.applier.boot().wire().into(),
            clock: Some(SystemTime::now().into()),
            quarantined: state.quarantined.iter().map(|digest| digest.to_vec()).collect(),
        }
    }

    fn follows(&self) -> u64 {
        self.applier.state.served.as_ref().map_or(0, |served| served.assignment)
    }

    async fn receive(
        &mut self,
        incoming: &mut Streaming<SyncResponse>,
        sender: &mpsc::Sender<SyncRequest>,
        follows: &AtomicU64,
    ) -> End {
        let silence = self.applier.pace.silence;
        let (mut parts, mut epoch) = (Parts::default(), String::new());
        let mut heard = Instant::now();
        loop {
            let due = parts.due();
            let silent_at = heard + silence;
            let message = tokio::select! {
                message = incoming.message() => message,
                () = tokio::time::sleep_until(due.unwrap_or(silent_at)), if due.is_some() => {
                    if let Some(broken) = parts.give_up()
                        && let Err(end) = answer(sender, self.refuse(&broken), silence).await
                    {
                        return end;
                    }
                    continue;
                }
                () = tokio::time::sleep_until(silent_at) => return silent(silence),
            };
            let kind = match message {
                Ok(Some(message)) => message.kind,
                Ok(None) => return End::Lost("the control plane ended the stream".to_owned()),
                Err(status) => return end_of(&status),
            };
            self.heard();
            match kind {
                Some(sync_response::Kind::Welcome(welcome)) => {
                    epoch.clone_from(&welcome.epoch);
                    self.welcomed(welcome);
                }
                Some(sync_response::Kind::Update(update)) => {
                    if let Some(kind) = self.update(update, &mut parts, &epoch).await {
                        follows.store(self.follows(), Ordering::Relaxed);
                        if let Err(end) = answer(sender, kind, silence).await {
                            return end;
                        }
                    }
                }
                Some(sync_response::Kind::Heartbeat(Heartbeat { assignment })) => {
                    self.applier.status.set(|seen| seen.wanted = assignment);
                }
                Some(sync_response::Kind::Reconnect(reconnect)) => {
                    let duration = |written: Option<prost_types::Duration>| {
                        written.and_then(|written| Duration::try_from(written).ok()).unwrap_or_default()
                    };
                    let wait = between(duration(reconnect.after_min), duration(reconnect.after_max), fastrand::f64());
                    return End::ComeBack(wait, reconnect.why.chars().take(200).collect());
                }
                // A newer control plane says what this program does not know: it can do without.
                None => {}
            }
            heard = Instant::now();
        }
    }

    /// Whatever was said, the control plane is there.
    fn heard(&mut self) {
        self.backoff.reset();
        self.applier.node.telemetry.metrics.sync.heard();
        self.applier.status.set(|seen| seen.last_heard = Some(SystemTime::now()));
    }

    fn welcomed(&mut self, welcome: Welcome) {
        let connected = Connected { endpoint: self.endpoint.to_owned(), replica: welcome.replica };
        tracing::info!(
            endpoint = connected.endpoint,
            replica = connected.replica,
            epoch = welcome.epoch,
            assignment = welcome.assignment,
            "control plane connected"
        );
        self.applier.node.telemetry.metrics.sync.connected(true);
        self.applier.status.set(|seen| {
            seen.connected = Some(connected);
            seen.since = Some(SystemTime::now());
            seen.wanted = welcome.assignment;
            seen.lost.clear();
        });
    }

    /// The answer to an update, once it is whole.
    async fn update(&mut self, update: Update, parts: &mut Parts, epoch: &str) -> Option<sync_request::Kind> {
        let arrived = Instant::now();
        match parts.take(update, arrived) {
            Made::Nothing => None,
            Made::Refused(broken) => Some(self.refuse(&broken)),
            Made::Whole { id, body } => Some(self.applier.apply(id, body, epoch, arrived).await),
        }
    }

    fn refuse(&self, broken: &Broken) -> sync_request::Kind {
        let refusal =
            Refusal::of("damaged", format!("the update was not put together: {}", broken.why), broken.transient);
        self.applier.refuse(broken.id, &v1::Assignment::default(), refusal)
    }
}

async fn answer(sender: &mpsc::Sender<SyncRequest>, kind: sync_request::Kind, silence: Duration) -> Result<(), End> {
    match timeout(silence, sender.send(message(kind))).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(End::Lost("the control plane takes no answers any more".to_owned())),
        Err(_) => Err(silent(silence)),
    }
}

/// Says that the node lives, for as long as the stream does.
async fn beat(sender: &mpsc::Sender<SyncRequest>, follows: &AtomicU64, every: Duration) -> End {
    loop {
        tokio::time::sleep(every).await;
        let heartbeat = Heartbeat { assignment: follows.load(Ordering::Relaxed) };
        // Where there is no room, answers are on their way, which say as much. A stream that is closed tells its end
        // to whoever receives.
        let _ = sender.try_send(message(sync_request::Kind::Heartbeat(heartbeat)));
    }
}

fn message(kind: sync_request::Kind) -> SyncRequest {
    SyncRequest { kind: Some(kind) }
}

fn silent(silence: Duration) -> End {
    End::Lost(format!("the control plane has said nothing for {} s", silence.as_secs()))
}

fn end_of(status: &Status) -> End {
    let message: String = status.message().chars().take(200).collect();
    match status.code() {
        Code::Unauthenticated => End::Refused(format!("the control plane does not take this node's token: {message}")),
        Code::PermissionDenied => End::Refused(format!("the control plane does not let this node in: {message}")),
        Code::NotFound => End::Nothing(format!("the control plane has no such environment: {message}")),
        Code::InvalidArgument => {
            End::Refused(format!("the control plane does not understand what this node says of itself: {message}"))
        }
        Code::FailedPrecondition => End::Refused(format!("this node is ahead of the control plane: {message}")),
        Code::Unimplemented => End::Refused(format!("what answers there is no control plane: {message}")),
        code => End::Lost(format!("{code:?}: {message}")),
    }
}
