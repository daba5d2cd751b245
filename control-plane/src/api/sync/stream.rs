//! One node's stream: moves bytes and time, and leaves what to say to the session.
//!
//! Nothing here waits for the node: while a part cannot leave, its answers, the clock and what should be go on being heard.
//! What is rare is boxed, because there are ten thousand of these.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant, SystemTime},
};

use switchtower_proto::sync::v1 as sync;
use tokio::{
    sync::mpsc,
    time::{sleep_until, timeout},
};
use tonic::{Status, Streaming};

use super::{
    Message, Shared,
    greet::{greet, held},
    outgoing::{Outgoing, Step, message},
    payload::Payload,
    session::{Answered, Content, Plan, Session, Withheld},
};
use crate::{
    admission::{Permit, Rank, SMALL},
    desired::Desired,
    fleet::Presence,
};

/// How long the last word to a node may take to leave.
const LAST_WORD: Duration = Duration::from_secs(1);

/// Serves one node until either side ends it.
pub(super) async fn run(shared: Arc<Shared>, inbound: Streaming<sync::SyncRequest>, out: mpsc::Sender<Message>) {
    let open = Open::count(&shared);
    if let Err(status) = serve(&shared, inbound, &out).await {
        // A node that does not read its last word sees the end of the stream.
        let _ = timeout(LAST_WORD, out.send(Box::new(Err(status)))).await;
    }
    drop(open);
}

/// Counts a stream for as long as it is there.
struct Open<'a>(&'a Shared);

impl<'a> Open<'a> {
    fn count(shared: &'a Shared) -> Self {
        shared.open.fetch_add(1, Ordering::Relaxed);
        Open(shared)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn serve(
    shared: &Arc<Shared>,
    mut inbound: Streaming<sync::SyncRequest>,
    out: &mpsc::Sender<Message>,
) -> Result<(), Status> {
    // Once per stream, and much larger than what comes after it.
    let (mut node, mut cell) = tokio::select! {
        () = shared.stop.cancelled() => return Err(Status::unavailable("this control plane is stopping")),
        greeted = Box::pin(greet(shared, &mut inbound, out)) => greeted?,
    };
    loop {
        node.decide();
        let wake_at = node.session.wake_at(now());
        tokio::select! {
            biased;
            () = shared.stop.cancelled() => {
                let goodbye = reconnect(shared.come_back_within());
                let _ = timeout(LAST_WORD, out.send(Box::new(Ok(goodbye)))).await;
                return Ok(());
            }
            message = inbound.message() => match message? {
                Some(message) => node.hear(message)?,
                None => return Ok(()),
            },
            Ok(()) = cell.changed() => node.desire(cell.borrow_and_update().clone()),
            step = node.outgoing.step(out), if !node.outgoing.is_idle() => node.advance(step?),
            () = sleep_until(wake_at.into()) => node.tick(out)?,
        }
    }
}

/// A node whose stream this is.
pub(super) struct Node {
    shared: Arc<Shared>,
    session: Session,
    /// What the session decides by.
    desired: Arc<Desired>,
    presence: Presence,
    outgoing: Outgoing,
    /// The permit for what is sent or not answered yet.
    room: Option<Permit>,
}

impl Node {
    /// A node whose session was decided by `desired`.
    pub(super) fn new(shared: Arc<Shared>, session: Session, desired: Arc<Desired>, presence: Presence) -> Self {
        let node = Node { shared, session, desired, presence, outgoing: Outgoing::Idle, room: None };
        node.tell_withheld();
        node
    }

    /// Starts what should be sent now, unless it is under way.
    fn decide(&mut self) {
        if matches!(self.outgoing, Outgoing::Sending { .. }) {
            return;
        }
        let plan = self.session.plan(now());
        if self.outgoing.plan() == plan.as_ref() {
            return;
        }
        match (plan, &self.outgoing) {
            (None, _) => {
                self.outgoing = Outgoing::Idle;
                self.room = None;
            }
            // It keeps its place, and takes what is to be sent by then.
            (Some(plan), Outgoing::Queued(..)) if plan.content != Content::Held => {}
            (Some(plan), _) => self.encode(plan),
        }
    }

    fn encode(&mut self, plan: Plan) {
        let (shared, desired) = (self.shared.clone(), self.desired.clone());
        let encoded = async move { shared.payloads.of(&desired, &plan).await };
        self.outgoing = Outgoing::Encoding(plan, Box::pin(encoded));
    }

    fn advance(&mut self, step: Step) {
        match (step, std::mem::replace(&mut self.outgoing, Outgoing::Idle)) {
            (Step::Encoded(payload), Outgoing::Encoding(plan, _)) => self.admit(plan, payload),
            (Step::Admitted(permit), Outgoing::Queued(plan, payload, _)) => {
                self.room = Some(permit);
                match self.session.plan(now()) {
                    Some(current) if current == plan => self.send(plan, payload),
                    Some(current) => self.encode(current),
                    None => self.room = None,
                }
            }
            (Step::PartSent, Outgoing::Sending { update, payload, part }) => {
                self.session.part_sent(now());
                if part < payload.parts.len() {
                    self.outgoing = Outgoing::Sending { update, payload, part };
                }
            }
            // A step is of what was going out.
            (_, outgoing) => self.outgoing = outgoing,
        }
    }

    /// Sends a payload, or gets in line for it.
    fn admit(&mut self, plan: Plan, payload: Arc<Payload>) {
        if let Some(room) = &mut self.room {
            room.resize(payload.bytes);
        } else if payload.bytes > SMALL {
            let rank = if self.session.held().is_some() { Rank::Serving } else { Rank::Empty };
            let place = self.shared.admission.ask(rank, payload.bytes);
            self.outgoing = Outgoing::Queued(plan, payload, Box::new(place));
            return;
        }
        self.send(plan, payload);
    }

    fn send(&mut self, plan: Plan, payload: Arc<Payload>) {
        let update = self.session.send(plan, now());
        self.presence.offered(&plan.leads_to, SystemTime::now());
        self.outgoing = Outgoing::Sending { update, payload, part: 0 };
    }

    /// What should be is another.
    fn desire(&mut self, desired: Arc<Desired>) {
        // The session decides by just this value, whose bytes are sent.
        if self.session.desire(desired.holding()) {
            self.desired = desired;
            self.presence.desire(&self.desired);
            self.tell_withheld();
        }
    }

    /// Tells the fleet if what should be will not be sent.
    fn tell_withheld(&self) {
        let desired = self.session.desired();
        match self.session.withheld() {
            None => {}
            Some(Withheld::Refused) => self.presence.refuses_still(desired),
            Some(Withheld::Quarantined) => {
                let why = sync::Violation {
                    code: "quarantined".to_owned(),
                    path: String::new(),
                    message: "the node's process ended too often while it took this content".to_owned(),
                };
                self.presence.refused(desired, self.session.held(), vec![why], true, SystemTime::now());
            }
        }
    }

    fn hear(&mut self, message: sync::SyncRequest) -> Result<(), Status> {
        use sync::sync_request::Kind;
        self.session.heard(now());
        self.presence.heard(SystemTime::now());
        match message.kind {
            Some(Kind::Ack(ack)) => self.acked(&ack),
            Some(Kind::Nack(nack)) => self.refused(nack),
            Some(Kind::Heartbeat(_)) => Ok(()),
            Some(Kind::Hello(_)) => Err(Status::invalid_argument("a second Hello")),
            // A newer node may say what this control plane does not know.
            None => Ok(()),
        }
    }

    fn acked(&mut self, ack: &sync::Ack) -> Result<(), Status> {
        let held = held(&self.shared, ack.held.as_ref())?;
        let (Answered::Update(plan), as_sent) = self.session.ack(ack.update_id, held, now()) else { return Ok(()) };
        self.landed();
        let odd = format!("it acknowledged assignment {} and holds something else", plan.leads_to.assignment);
        let mut problem = if as_sent { ack.problem.clone() } else { odd };
        if !ack.ignored.is_empty() {
            let and = if problem.is_empty() { "" } else { "; " };
            problem = format!("{problem}{and}it ignores what it does not know: {}", ack.ignored.join(", "));
        }
        self.presence.acked(held.as_ref(), &problem, SystemTime::now());
        Ok(())
    }

    fn refused(&mut self, nack: sync::Nack) -> Result<(), Status> {
        let held = held(&self.shared, nack.held.as_ref())?;
        let answered = self.session.nack(nack.update_id, held, nack.transient, now());
        let Answered::Update(plan) = answered else { return Ok(()) };
        self.landed();
        let (leads_to, for_good) = (&plan.leads_to, !nack.transient);
        self.presence.refused(leads_to, held.as_ref(), nack.violations, for_good, SystemTime::now());
        self.tell_withheld();
        Ok(())
    }

    /// The update under way is answered, and whatever of it has not left need not leave.
    fn landed(&mut self) {
        self.outgoing = Outgoing::Idle;
        self.room = None;
    }

    fn tick(&mut self, out: &mpsc::Sender<Message>) -> Result<(), Status> {
        let due = self.session.tick(now());
        if due.silent {
            return Err(Status::deadline_exceeded("nothing was heard of the node for 45 s"));
        }
        if due.heartbeat {
            let heartbeat = sync::Heartbeat { assignment: self.session.desired().assignment };
            // Whoever does not read has something to read.
            let _ = out.try_send(Box::new(Ok(message(sync::sync_response::Kind::Heartbeat(heartbeat)))));
        }
        if due.lagging {
            self.room = None;
            self.presence.lagging(SystemTime::now());
        }
        Ok(())
    }
}

fn reconnect(within: Duration) -> sync::SyncResponse {
    let duration = |duration: Duration| prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: 0,
    };
    message(sync::sync_response::Kind::Reconnect(sync::Reconnect {
        after_min: Some(duration(Duration::ZERO)),
        after_max: Some(duration(within)),
        why: "this control plane is stopping".to_owned(),
    }))
}

/// By tokio's clock, which tests can stop.
pub(super) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a future of this function takes, without one.
    fn size<A, B, C, F: Future>(_: fn(A, B, C) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_stream_is_small_because_there_are_ten_thousand() {
        let bytes = size(run);
        assert!(bytes <= 3 << 10, "{bytes} bytes");
    }
}
