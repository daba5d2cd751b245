//! What is on its way to a node: encoded, let in, sent part by part.

use std::{future::Future, pin::Pin, sync::Arc};

use switchtower_proto::sync::v1 as sync;
use tokio::sync::mpsc;
use tonic::Status;

use super::{Message, payload::Payload, session::Plan};
use crate::admission::{Permit, Place};

/// What is on its way out.
pub(super) enum Outgoing {
    Idle,
    Encoding(Plan, Pin<Box<dyn Future<Output = Arc<Payload>> + Send>>),
    Queued(Plan, Arc<Payload>, Box<Place>),
    Sending { update: u64, payload: Arc<Payload>, part: usize },
}

/// What has come about of it.
pub(super) enum Step {
    Encoded(Arc<Payload>),
    Admitted(Permit),
    PartSent,
}

impl Outgoing {
    pub(super) fn is_idle(&self) -> bool {
        matches!(self, Outgoing::Idle)
    }

    /// What is being prepared and not sent yet.
    pub(super) fn plan(&self) -> Option<&Plan> {
        match self {
            Outgoing::Encoding(plan, _) | Outgoing::Queued(plan, _, _) => Some(plan),
            Outgoing::Idle | Outgoing::Sending { .. } => None,
        }
    }

    /// Waits for the next thing to come about. May be dropped at any time and called again.
    pub(super) async fn step(&mut self, out: &mpsc::Sender<Message>) -> Result<Step, Status> {
        match self {
            Outgoing::Idle => std::future::pending().await,
            Outgoing::Encoding(_, encoded) => Ok(Step::Encoded(encoded.await)),
            Outgoing::Queued(_, _, place) => Ok(Step::Admitted(place.await)),
            Outgoing::Sending { update, payload, part } => {
                let room = out.reserve().await.map_err(|_| gone())?;
                let update = sync::Update {
                    update_id: *update,
                    part: number(*part),
                    parts: number(payload.parts.len()),
                    body: payload.parts[*part].clone(),
                };
                room.send(Box::new(Ok(message(sync::sync_response::Kind::Update(update)))));
                *part += 1;
                Ok(Step::PartSent)
            }
        }
    }
}

pub(super) fn message(kind: sync::sync_response::Kind) -> sync::SyncResponse {
    sync::SyncResponse { kind: Some(kind) }
}

/// The stream is not there any more, so that nobody reads this.
pub(super) fn gone() -> Status {
    Status::cancelled("the node is gone")
}

/// Parts are counted in ones, of a few mebibytes.
fn number(part: usize) -> u32 {
    u32::try_from(part).unwrap_or(u32::MAX)
}
