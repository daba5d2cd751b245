//! What a node holds by the control plane's word, and what an update means for it. Pure: it decides and changes nothing.
//!
//! The stream may repeat, reorder, lose or damage what it carries, a replica may be behind, and a store may have been
//! restored from a copy. So an update is believed only as far as digests and numbers agree: a content is taken whole, if
//! its digest is the one that was assigned; assignments never go back within an epoch; and a revocation, once known,
//! holds whatever comes (see [`Keys`]).

use std::sync::Arc;

use bytes::Bytes;
use switchtower_policy::items::{apply_delta, digest};
use switchtower_proto::{
    policy::v1::Item,
    sync::v1::{Assignment, ContentDelta, Held, UpdateBody, Violation},
};

use super::keys::Keys;
use crate::last_known_good::LIFTED_BY;

/// SHA-256 over a content's items.
pub type Digest = [u8; 32];

/// A policy that was assigned to this node.
#[derive(Clone, Debug, PartialEq)]
pub struct Served {
    /// Epoch of the store that it came from.
    pub epoch: String,
    /// Number of the assignment.
    pub assignment: u64,
    /// Number of the revision.
    pub revision: u64,
    /// The content's digest.
    pub digest: Digest,
    /// The content.
    pub items: Arc<[Item]>,
}

/// What a node holds.
#[derive(Clone, Debug)]
pub struct State {
    /// The environment that it serves.
    pub environment: String,
    /// The policy that serves; `None`: none does.
    pub served: Option<Served>,
    /// The keys.
    pub keys: Keys,
    /// Contents that it will not take.
    pub quarantined: Vec<Digest>,
}

/// What an update means. Keys and policy are judged apart: a policy that does not serve must not hold back a revocation.
#[derive(Debug)]
pub struct Judged {
    /// The keys from now on; `None`: as they are.
    pub keys: Option<Keys>,
    /// What becomes of the policy.
    pub policy: Decision,
}

/// What becomes of the policy.
#[derive(Debug, PartialEq)]
pub enum Decision {
    /// This one is to be taken into service.
    Take(Served),
    /// It serves already.
    AlreadyHeld,
    /// What serves keeps serving.
    Refuse(Refusal),
}

/// Why an update does not serve.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// Why, at least one.
    pub violations: Vec<Violation>,
    /// Whether the same revision may serve at another time.
    pub transient: bool,
}

impl Refusal {
    /// For one reason.
    #[must_use]
    pub fn of(code: &str, message: impl Into<String>, transient: bool) -> Self {
        let violation = Violation { code: code.to_owned(), path: String::new(), message: message.into() };
        Refusal { violations: vec![violation], transient }
    }

    /// What came does not fit what it says of itself, or what is held: it may be sent whole and again.
    fn damaged(message: impl Into<String>) -> Self {
        Refusal::of("damaged", message, true)
    }
}

impl State {
    /// What is told of it on the stream; `None`: it serves nothing.
    #[must_use]
    pub fn held(&self) -> Option<Held> {
        let served = self.served.as_ref()?;
        Some(Held {
            epoch: served.epoch.clone(),
            assignment: served.assignment,
            revision: served.revision,
            content_digest: served.digest.to_vec(),
            // Versions of another epoch count something else.
            keys_version: if self.keys.epoch == served.epoch { self.keys.version } else { 0 },
        })
    }

    /// What an update means that came on a stream of this epoch.
    #[must_use]
    pub fn judge(&self, body: &UpdateBody, epoch: &str) -> Judged {
        let refused = |refusal| Judged { keys: None, policy: Decision::Refuse(refusal) };
        let (assignment, digest) = match self.addressed(body, epoch) {
            Ok(addressed) => addressed,
            Err(refusal) => return refused(refusal),
        };
        let sent = match body.keys.as_ref().map(|delta| self.keys.after(epoch, delta)).transpose() {
            Ok(keys) => keys.flatten(),
            Err(why) => return refused(Refusal::damaged(why)),
        };
        let policy = match self.policy(assignment, digest, body.content.as_ref()) {
            Ok(Some(served)) => Decision::Take(served),
            Ok(None) => Decision::AlreadyHeld,
            Err(refusal) => Decision::Refuse(refusal),
        };
        // Whoever follows a store has its keys: those of another do not live on because this one says nothing of them.
        let foreign = body.keys.is_none() && self.keys.epoch != epoch && !matches!(policy, Decision::Refuse(_));
        Judged { keys: sent.or_else(|| foreign.then(|| self.keys.none_of(epoch))), policy }
    }

    /// The assignment, if it is one and for this node.
    fn addressed<'b>(&self, body: &'b UpdateBody, epoch: &str) -> Result<(&'b Assignment, Digest), Refusal> {
        let assignment = body.assignment.as_ref().ok_or_else(|| Refusal::damaged("it assigns nothing"))?;
        if assignment.environment != self.environment {
            let message = format!("it is for another environment, and this node serves `{}`", self.environment);
            return Err(Refusal::of("damaged", message, false));
        }
        if epoch.is_empty() || assignment.epoch != epoch {
            return Err(Refusal::damaged("it is of another epoch than the stream that it came on"));
        }
        if assignment.number == 0 || assignment.revision == 0 {
            return Err(Refusal::damaged("assignments and revisions are numbered from 1"));
        }
        let digest = assignment.content_digest.as_slice().try_into();
        Ok((assignment, digest.map_err(|_| Refusal::damaged("the content digest is not 32 bytes long"))?))
    }

    /// The policy to take; `None`: it serves already.
    fn policy(
        &self,
        assignment: &Assignment,
        digest: Digest,
        delta: Option<&ContentDelta>,
    ) -> Result<Option<Served>, Refusal> {
        if let Some(served) = self.served.as_ref().filter(|served| served.epoch == assignment.epoch) {
            let (number, held) = (assignment.number, served.assignment);
            if number < held {
                return Err(Refusal::damaged(format!("assignment {number} is older than {held}, which serves")));
            }
            if number == held {
                return match (served.revision, served.digest) == (assignment.revision, digest) {
                    true => Ok(None),
                    false => Err(Refusal::damaged(format!("assignment {number} serves, and was of another revision"))),
                };
            }
        }
        if self.quarantined.contains(&digest) {
            let message = format!("this process ended too often while it took this content; {LIFTED_BY}");
            return Err(Refusal::of("quarantined", message, false));
        }
        Ok(Some(Served {
            epoch: assignment.epoch.clone(),
            assignment: assignment.number,
            revision: assignment.revision,
            digest,
            items: self.content(digest, delta)?,
        }))
    }

    fn content(&self, wanted: Digest, delta: Option<&ContentDelta>) -> Result<Arc<[Item]>, Refusal> {
        // Digests name contents, whatever epoch they came in.
        let held = |base: &[u8]| self.served.as_ref().filter(|served| served.digest == base);
        let Some(delta) = delta else {
            let served =
                held(&wanted).ok_or_else(|| Refusal::damaged("it brings no content, and this node lacks it"))?;
            return Ok(served.items.clone());
        };
        let base: &[Item] = match delta.base_digest.is_empty() {
            true => &[],
            false => {
                let lacks = || Refusal::damaged("it begins at a content that this node does not hold");
                &held(&delta.base_digest).ok_or_else(lacks)?.items
            }
        };
        let removed: Vec<_> = delta.removed.iter().map(|key| (key.kind.clone(), key.name.clone())).collect();
        let put = delta.put.iter().map(unshared).collect();
        let items = apply_delta(base, put, &removed)
            .map_err(|_| Refusal::damaged("its changes do not fit the content that they begin at"))?;
        match digest(&items) == wanted {
            true => Ok(items.into()),
            false => Err(Refusal::damaged("the content is not the one that its digest names")),
        }
    }
}

/// An item in memory of its own: as it was received, it would keep the whole update for as long as it is held itself.
fn unshared(item: &Item) -> Item {
    Item { body: Bytes::copy_from_slice(&item.body), ..item.clone() }
}

#[cfg(test)]
mod tests;
