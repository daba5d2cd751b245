//! What is said to one node: decided here, without bytes, time or a connection.
//!
//! ```text
//!            greeted ──ahead of the store──▶ refused
//!               │
//!               ▼        lacks something          its answer
//!             quiet ───────────────────▶ sending ──────────▶ quiet
//!                                           │  10 s
//!                                           ▼
//!                                        lagging ──its answer, however late──▶ quiet
//! ```
//!
//! At most one update is unacknowledged. What should be may change meanwhile as often as it likes: when the answer is
//! there, what the node lacks then is sent. A content that the node refused for good is not sent again in this stream. Keys
//! wait for no content, refused or large: they go alone, under the assignment that the node has, because a revocation must
//! not wait for a policy.

use std::time::{Duration, Instant};

use crate::desired::{Digest, Holding};

/// How often each side says that it lives.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(15);
/// After this without a word the node is gone: three heartbeats.
pub(crate) const SILENCE: Duration = Duration::from_secs(45);
/// After this without an answer, counted from the last part, the node is lagging.
pub(crate) const ANSWER: Duration = Duration::from_secs(10);
/// First wait before something is sent again that was refused for now; it doubles.
const FIRST_RETRY: Duration = Duration::from_secs(5);
/// Longest such wait.
const LAST_RETRY: Duration = Duration::from_secs(60);
/// How many refused contents are remembered, the newest: a rollback leads back to one of them.
const REFUSED: usize = 16;

/// An update that may be sent: what a node lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Plan {
    /// What the node holds when it has taken it.
    pub(crate) leads_to: Holding,
    /// Its content.
    pub(crate) content: Content,
    /// Version from which on it lacks keys, of which there may be none. `None`: it lacks none.
    pub(crate) keys_from: Option<u64>,
}

/// How a node comes by the content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Content {
    /// It has it.
    Held,
    /// From this revision's, which it has, by the digest.
    From(u64, Digest),
    /// From nothing.
    Whole,
}

/// The node is ahead of the store in the store's own epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ahead;

/// What became of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answered {
    /// It was to the update under way, which led here.
    Update(Plan),
    /// It was to another, and changes nothing.
    Stale,
}

/// What is due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Due {
    /// A heartbeat.
    pub(crate) heartbeat: bool,
    /// To be shown as lagging, and its bytes given back.
    pub(crate) lagging: bool,
    /// The end: the node is silent.
    pub(crate) silent: bool,
}

/// Why what should be is not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Withheld {
    /// The node refused it in this stream.
    Refused,
    /// It ended the process too often.
    Quarantined,
}

/// What is known of one node's stream.
#[derive(Debug)]
pub(crate) struct Session {
    desired: Holding,
    held: Option<Holding>,
    flight: Option<Flight>,
    last_update: u64,
    /// Contents that it will never take, newest last.
    refused: Vec<Digest>,
    quarantined: Box<[Digest]>,
    /// Without a content, so that the content is not to blame.
    refused_update: Option<Holding>,
    retry: Option<Retry>,
    heard_at: Instant,
    spoke_at: Instant,
}

/// The update that is not answered yet.
#[derive(Debug)]
struct Flight {
    update: u64,
    plan: Plan,
    moved_at: Instant,
    lagging: bool,
}

/// Something that was refused for now.
#[derive(Debug)]
struct Retry {
    leads_to: Holding,
    with_content: bool,
    at: Instant,
    wait: Duration,
}

impl Session {
    /// A node says what it holds of this epoch.
    pub(crate) fn greeted(
        held: Option<Holding>,
        quarantined: Box<[Digest]>,
        desired: Holding,
        now: Instant,
    ) -> Result<Self, Ahead> {
        if held.is_some_and(|held| is_ahead(&held, &desired)) {
            return Err(Ahead);
        }
        Ok(Session {
            desired,
            held,
            flight: None,
            last_update: 0,
            refused: Vec::new(),
            quarantined,
            refused_update: None,
            retry: None,
            heard_at: now,
            spoke_at: now,
        })
    }

    /// What the node should hold from now on. `false`: it is older than what it should already, and no news.
    pub(crate) fn desire(&mut self, desired: Holding) -> bool {
        let newer = desired.assignment >= self.desired.assignment && desired.keys >= self.desired.keys;
        if newer {
            self.desired = desired;
        }
        newer
    }

    /// The node said something, whatever it was.
    pub(crate) fn heard(&mut self, now: Instant) {
        self.heard_at = now;
    }

    /// What to send now. `None`: nothing, or not yet.
    pub(crate) fn plan(&self, now: Instant) -> Option<Plan> {
        if self.flight.is_some() {
            return None;
        }
        // Keys need no room and no policy: where a content is lacked too, they go first, under the assignment that is there.
        let lacks_both = |held: &Holding| held.keys != self.desired.keys && held.content != self.desired.content;
        let keys = self.held.filter(lacks_both).map(|held| Holding { keys: self.desired.keys, ..held });
        let all = (!self.is_blocked(now)).then_some(self.desired);
        let sendable = |leads_to: &Holding| {
            self.held != Some(*leads_to) && self.refused_update != Some(*leads_to) && !self.waits_for(leads_to, now)
        };
        let leads_to = keys.into_iter().chain(all).find(sendable)?;
        // What was refused for now may have been so because the node does not hold what it was to start from.
        let from_nothing = self.retry.is_some();
        let content = match &self.held {
            Some(held) if held.content == leads_to.content => Content::Held,
            Some(held) if !from_nothing => Content::From(held.revision, held.content),
            _ => Content::Whole,
        };
        let keys_from = match &self.held {
            // The keys that it may have are another store's: even that there are none here has to be said.
            None => Some(0),
            Some(held) => (held.keys != leads_to.keys).then_some(if from_nothing { 0 } else { held.keys }),
        };
        Some(Plan { leads_to, content, keys_from })
    }

    /// Begins to send a plan; gives the update's id.
    pub(crate) fn send(&mut self, plan: Plan, now: Instant) -> u64 {
        debug_assert!(self.flight.is_none(), "one update at a time");
        self.last_update += 1;
        self.flight = Some(Flight { update: self.last_update, plan, moved_at: now, lagging: false });
        self.last_update
    }

    /// A part of the update has gone.
    pub(crate) fn part_sent(&mut self, now: Instant) {
        self.spoke_at = now;
        if let Some(flight) = &mut self.flight {
            flight.moved_at = now;
        }
    }

    /// An update serves, and the node holds this. `false` beside the answer: it is not what the update leads to.
    pub(crate) fn ack(&mut self, update: u64, held: Option<Holding>, now: Instant) -> (Answered, bool) {
        let Some(plan) = self.landed(update) else { return (Answered::Stale, true) };
        self.held = held;
        let as_sent = held == Some(plan.leads_to);
        if !as_sent {
            self.again_later(&plan, now);
        } else if self
            .retry
            .as_ref()
            .is_some_and(|retry| plan.leads_to.content == retry.leads_to.content || plan.leads_to == self.desired)
        {
            self.retry = None;
        }
        (Answered::Update(plan), as_sent)
    }

    /// An update does not serve, now or ever, and the node goes on to hold this.
    pub(crate) fn nack(&mut self, update: u64, held: Option<Holding>, for_now: bool, now: Instant) -> Answered {
        let Some(plan) = self.landed(update) else { return Answered::Stale };
        self.held = held;
        match (for_now, plan.content) {
            (true, _) => self.again_later(&plan, now),
            (false, Content::Held) => self.refused_update = Some(plan.leads_to),
            (false, _) => {
                if self.refused.len() == REFUSED {
                    self.refused.remove(0);
                }
                self.refused.push(plan.leads_to.content);
            }
        }
        Answered::Update(plan)
    }

    /// What is due now. Each is told once.
    pub(crate) fn tick(&mut self, now: Instant) -> Due {
        let heartbeat = now >= self.spoke_at + HEARTBEAT;
        if heartbeat {
            self.spoke_at = now;
        }
        let late = self.flight.as_mut().filter(|flight| !flight.lagging && now >= flight.moved_at + ANSWER);
        let lagging = late.map(|flight| flight.lagging = true).is_some();
        Due { heartbeat, lagging, silent: now >= self.heard_at + SILENCE }
    }

    /// When to tick next, unless something happens before.
    pub(crate) fn wake_at(&self, now: Instant) -> Instant {
        let beat = (self.spoke_at + HEARTBEAT).min(self.heard_at + SILENCE);
        let late = self.flight.as_ref().filter(|flight| !flight.lagging).map(|flight| flight.moved_at + ANSWER);
        let retry = self.retry.as_ref().map(|retry| retry.at).filter(|at| *at > now);
        [late, retry].into_iter().flatten().fold(beat, Instant::min)
    }

    /// What the node holds.
    pub(crate) fn held(&self) -> Option<&Holding> {
        self.held.as_ref()
    }

    /// What the node should hold.
    pub(crate) fn desired(&self) -> &Holding {
        &self.desired
    }

    /// Why what should be is not sent and will not be. `None`: it is, or it is there, or it is only not yet.
    pub(crate) fn withheld(&self) -> Option<Withheld> {
        if self.held.is_some_and(|held| held.content == self.desired.content) {
            None
        } else if self.quarantined.contains(&self.desired.content) {
            Some(Withheld::Quarantined)
        } else if self.refused.contains(&self.desired.content) {
            Some(Withheld::Refused)
        } else {
            None
        }
    }

    /// Whether the content that should be must not be sent, for now or for good.
    fn is_blocked(&self, now: Instant) -> bool {
        let waits =
            |retry: &Retry| retry.with_content && retry.leads_to.content == self.desired.content && now < retry.at;
        let lacked = self.held.is_none_or(|held| held.content != self.desired.content);
        self.withheld().is_some() || lacked && self.retry.as_ref().is_some_and(waits)
    }

    /// Whether just this was refused for now.
    fn waits_for(&self, leads_to: &Holding, now: Instant) -> bool {
        self.retry.as_ref().is_some_and(|retry| retry.leads_to == *leads_to && now < retry.at)
    }

    fn again_later(&mut self, plan: &Plan, now: Instant) {
        let wait = self.retry.as_ref().map_or(FIRST_RETRY, |retry| (retry.wait * 2).min(LAST_RETRY));
        let with_content = plan.content != Content::Held;
        self.retry = Some(Retry { leads_to: plan.leads_to, with_content, at: now + wait, wait });
    }

    fn landed(&mut self, update: u64) -> Option<Plan> {
        self.flight.take_if(|flight| flight.update == update).map(|flight| flight.plan)
    }
}

/// Whether a node holds what this store does not know of. Numbers are never given twice within an epoch.
fn is_ahead(held: &Holding, desired: &Holding) -> bool {
    let same = (held.revision, held.content) == (desired.revision, desired.content);
    held.assignment > desired.assignment || held.keys > desired.keys || held.assignment == desired.assignment && !same
}

#[cfg(test)]
mod tests;
