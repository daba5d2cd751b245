//! The beginning of a stream: who the node is, and whether it may go on.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use switchtower_proto::sync::v1 as sync;
use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};
use tonic::{Status, Streaming};

use super::{
    Message, Shared,
    hello::{self, Hello},
    outgoing::{gone, message},
    session::Session,
    stream::{Node, now},
};
use crate::{
    desired::{Desired, Found, Holding},
    fleet::Newcomer,
};

/// How long a node has to say who it is.
const HELLO: Duration = Duration::from_secs(10);
/// Hears who the node is, and answers.
pub(super) async fn greet(
    shared: &Arc<Shared>,
    inbound: &mut Streaming<sync::SyncRequest>,
    out: &mpsc::Sender<Message>,
) -> Result<(Node, watch::Receiver<Arc<Desired>>), Status> {
    let first = timeout(HELLO, inbound.message()).await;
    let first = first.map_err(|_| Status::invalid_argument("no Hello came within 10 s"))??;
    let Some(sync::SyncRequest { kind: Some(sync::sync_request::Kind::Hello(hello)) }) = first else {
        return Err(Status::invalid_argument("the first message must be Hello"));
    };
    let hello = Hello::read(hello).map_err(Status::invalid_argument)?;
    let held = held(shared, hello.held.as_ref())?;
    let mut cell = find(shared, &hello.environment)?;
    let mut begun = begin(&hello, held, &mut cell);
    if begun.is_err() {
        // Another control plane may have decided what this one has not read yet.
        let read = shared.cells.read_again().await;
        read.map_err(|error| Status::unavailable(error.to_string()))?;
        begun = begin(&hello, held, &mut cell);
    }
    let (session, desired) = begun.map_err(|desired| {
        let why = format!(
            "the node holds assignment {} and keys {} of epoch {}, where the store knows assignment {} and keys {}: the \
             store went back, as one does that is restored from a copy without a new epoch; give it a new epoch",
            held.map_or(0, |held| held.assignment),
            held.map_or(0, |held| held.keys),
            desired.epoch,
            desired.assignment,
            desired.keys.version,
        );
        shared.fleet.complain(&desired.environment, &hello.node, &why, SystemTime::now());
        Status::failed_precondition(why)
    })?;
    let welcome = sync::Welcome {
        epoch: desired.epoch.as_ref().to_owned(),
        replica: shared.replica.clone(),
        assignment: desired.assignment,
        clock: Some(SystemTime::now().into()),
    };
    let welcome = message(sync::sync_response::Kind::Welcome(welcome));
    out.send(Box::new(Ok(welcome))).await.map_err(|_| gone())?;
    let newcomer = Newcomer {
        id: hello.node.as_ref().to_owned(),
        instance: hello.instance,
        region: hello.region,
        build: hello.build,
        schema: hello.schema,
        held,
        clock: hello.clock,
        came_back_older: hello.came_back_older,
    };
    let presence = shared.fleet.connect(newcomer, &desired, SystemTime::now());
    Ok((Node::new(shared.clone(), session, desired, presence), cell))
}

/// Begins the session by what should be now, and gives that too. An error: the node is ahead of it.
fn begin(
    hello: &Hello,
    held: Option<Holding>,
    cell: &mut watch::Receiver<Arc<Desired>>,
) -> Result<(Session, Arc<Desired>), Arc<Desired>> {
    let desired = cell.borrow_and_update().clone();
    match Session::greeted(held, hello.quarantined.clone(), desired.holding(), now()) {
        Ok(session) => Ok((session, desired)),
        Err(_ahead) => Err(desired),
    }
}

fn find(shared: &Shared, environment: &str) -> Result<watch::Receiver<Arc<Desired>>, Status> {
    match shared.cells.find(environment) {
        Found::Cell(cell) => Ok(cell),
        Found::Absent => Err(Status::not_found(format!(
            "there is no environment {environment}; it comes to be when a policy is applied to it"
        ))),
        Found::Unknown => Err(Status::unavailable("the store could not be read; try again after a while")),
    }
}

pub(super) fn held(shared: &Shared, held: Option<&sync::Held>) -> Result<Option<Holding>, Status> {
    hello::holding(held, shared.cells.epoch()).map_err(Status::invalid_argument)
}
