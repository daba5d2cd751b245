//! What operators see of nodes.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures_util::{Stream, stream};
use switchtower_proto::control::v1::{
    AwaitAssignmentRequest, AwaitAssignmentResponse, GetFleetRequest, GetFleetResponse, Summary, WatchFleetRequest,
    WatchFleetResponse,
    await_assignment_response::Verdict,
    fleet_service_server::{FleetService, FleetServiceServer},
};
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status};
use tonic_types::{ErrorDetails, StatusExt};

use super::sync::Allow;
use crate::{
    desired::{Cells, Desired, Found},
    fleet::{Fleet, Progress, Which},
};

/// Shortest time between two messages of a stream: five a second are as many as people see.
const APART: Duration = Duration::from_millis(200);
/// How long an assignment is awaited, unless told otherwise.
const AWAITED: Duration = Duration::from_secs(60);
/// How long it is waited for somebody to come, where nobody is connected: nodes that were there before their environment
/// look again within two seconds.
const ALONE: Duration = Duration::from_secs(5);
/// Longest time that an assignment is awaited.
const AWAITED_AT_MOST: Duration = Duration::from_secs(3600);
/// Most nodes that are told of one by one while an assignment is awaited.
const TOLD: usize = 100;

type Answer<T> = Result<Response<T>, Status>;
type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The service that operators see the fleet by.
#[derive(Clone)]
pub struct FleetApi {
    cells: Arc<Cells>,
    fleet: Arc<Fleet>,
    allow: Allow,
    stop: CancellationToken,
}

impl fmt::Debug for FleetApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FleetApi").finish_non_exhaustive()
    }
}

impl FleetApi {
    /// The service. `allow` checks the operator's token; streams end after `stop`.
    #[must_use]
    pub fn new(cells: Arc<Cells>, fleet: Arc<Fleet>, allow: Allow, stop: CancellationToken) -> Self {
        FleetApi { cells, fleet, allow, stop }
    }

    /// For a server.
    #[must_use]
    pub fn into_server(self) -> FleetServiceServer<Self> {
        FleetServiceServer::new(self)
    }

    fn find(&self, environment: &str) -> Result<watch::Receiver<Arc<Desired>>, Status> {
        match self.cells.find(environment) {
            Found::Cell(cell) => Ok(cell),
            Found::Absent => Err(no_assignment(format!(
                "there is no environment {environment:?}, or no policy was applied to it yet"
            ))),
            Found::Unknown => Err(Status::unavailable("the store could not be read; try again after a while")),
        }
    }
}

#[tonic::async_trait]
impl FleetService for FleetApi {
    type WatchFleetStream = Answers<WatchFleetResponse>;
    type AwaitAssignmentStream = Answers<AwaitAssignmentResponse>;

    async fn get_fleet(&self, request: Request<GetFleetRequest>) -> Answer<GetFleetResponse> {
        (self.allow)(request.metadata())?;
        let GetFleetRequest { environment, summary_only, region } = request.into_inner();
        let desired = self.find(&environment)?.borrow().clone();
        let nodes =
            if summary_only { Vec::new() } else { self.fleet.nodes(&desired, Which::Region(&region), usize::MAX) };
        Ok(Response::new(GetFleetResponse { summary: Some(self.fleet.summary(&desired)), nodes }))
    }

    async fn watch_fleet(&self, request: Request<WatchFleetRequest>) -> Answer<Self::WatchFleetStream> {
        (self.allow)(request.metadata())?;
        let environment = request.into_inner().environment;
        let watching = Watching { changes: self.changes(&environment)?, shown: None };
        Ok(Response::new(Box::pin(stream::try_unfold(watching, Watching::next))))
    }

    async fn await_assignment(&self, request: Request<AwaitAssignmentRequest>) -> Answer<Self::AwaitAssignmentStream> {
        (self.allow)(request.metadata())?;
        let AwaitAssignmentRequest { environment, assignment, timeout } = request.into_inner();
        let timeout = match timeout.map(Duration::try_from) {
            None => AWAITED,
            Some(Ok(timeout)) if timeout <= AWAITED_AT_MOST => timeout,
            Some(_) => return Err(Status::invalid_argument("timeout must be 0 s to 1 h")),
        };
        // The assignment may have been made a moment ago, here or elsewhere. What cannot be read now is as it was.
        if self.cells.get(&environment).is_none_or(|desired| desired.assignment < assignment) {
            let _ = self.cells.read_again().await;
        }
        let changes = self.changes(&environment)?;
        let present = changes.cell.borrow().assignment;
        if assignment > present {
            let why = format!("there is no assignment {assignment} in {environment}; the newest is {present}");
            return Err(no_assignment(why));
        }
        let awaited = if assignment == 0 { present } else { assignment };
        let now = Instant::now();
        let (deadline, alone_until) = (now + timeout, now + ALONE.min(timeout));
        let awaiting = Awaiting { changes, awaited, alone_until, deadline, shown: None, over: false };
        Ok(Response::new(Box::pin(stream::try_unfold(awaiting, Awaiting::next))))
    }
}

impl FleetApi {
    fn changes(&self, environment: &str) -> Result<Changes, Status> {
        let cell = self.find(environment)?;
        let fleet = self.fleet.clone();
        Ok(Changes { seen: fleet.changes(environment), cell, fleet, stop: self.stop.clone() })
    }
}

/// What a stream of an environment's fleet looks at.
struct Changes {
    fleet: Arc<Fleet>,
    cell: watch::Receiver<Arc<Desired>>,
    seen: watch::Receiver<()>,
    stop: CancellationToken,
}

impl Changes {
    /// What should be now. What changes from here on is not missed.
    fn desired(&mut self) -> Arc<Desired> {
        self.seen.borrow_and_update();
        self.cell.borrow_and_update().clone()
    }

    /// Waits until something changed.
    async fn wait(&mut self) -> Result<(), Status> {
        tokio::select! {
            () = self.stop.cancelled() => Err(Status::unavailable("this control plane is stopping")),
            Ok(()) = self.cell.changed() => Ok(()),
            Ok(()) = self.seen.changed() => Ok(()),
            else => Err(Status::unavailable("this control plane is stopping")),
        }
    }
}

/// A fleet that is watched.
struct Watching {
    changes: Changes,
    /// Absent: nothing was.
    shown: Option<Summary>,
}

impl Watching {
    async fn next(mut self) -> Result<Option<(WatchFleetResponse, Self)>, Status> {
        if self.shown.is_some() {
            sleep(APART).await;
        }
        loop {
            let desired = self.changes.desired();
            let summary = self.changes.fleet.summary(&desired);
            if self.shown.as_ref() != Some(&summary) {
                self.shown = Some(summary.clone());
                return Ok(Some((WatchFleetResponse { summary: Some(summary) }, self)));
            }
            self.changes.wait().await?;
        }
    }
}

/// An assignment that is awaited.
struct Awaiting {
    changes: Changes,
    awaited: u64,
    /// How long nobody being there is waited out.
    alone_until: Instant,
    deadline: Instant,
    shown: Option<Progress>,
    over: bool,
}

impl Awaiting {
    async fn next(mut self) -> Result<Option<(AwaitAssignmentResponse, Self)>, Status> {
        if self.over {
            return Ok(None);
        }
        if self.shown.is_some() {
            tokio::select! {
                () = sleep(APART) => {}
                () = sleep_until(self.deadline) => {}
            }
        }
        loop {
            let desired = self.changes.desired();
            let progress = self.changes.fleet.progress(&desired);
            let now = Instant::now();
            let verdict = match progress.connected == 0 && now < self.alone_until {
                true => Verdict::Unspecified,
                false => verdict(&progress, self.awaited, now >= self.deadline),
            };
            self.over = verdict != Verdict::Unspecified;
            if self.over || self.shown.as_ref() != Some(&progress) {
                let message = told(&self.changes.fleet, &desired, &progress, verdict, SystemTime::now());
                self.shown = Some(progress);
                return Ok(Some((message, self)));
            }
            tokio::select! {
                changed = self.changes.wait() => changed?,
                () = sleep_until(self.alone_until), if Instant::now() < self.alone_until => {}
                () = sleep_until(self.deadline) => {}
            }
        }
    }
}

/// Whether waiting is over.
fn verdict(progress: &Progress, awaited: u64, late: bool) -> Verdict {
    let Progress { assignment, connected, serving, refused, .. } = *progress;
    if assignment > awaited {
        Verdict::Superseded
    } else if serving >= connected {
        Verdict::Served
    } else if serving + refused >= connected {
        Verdict::Refused
    } else if late {
        Verdict::TimedOut
    } else {
        Verdict::Unspecified
    }
}

fn told(
    fleet: &Fleet,
    desired: &Desired,
    progress: &Progress,
    verdict: Verdict,
    now: SystemTime,
) -> AwaitAssignmentResponse {
    let all_answered = matches!(verdict, Verdict::Served | Verdict::Refused);
    let until = if all_answered { progress.answered_at.unwrap_or(progress.made_at) } else { now };
    let elapsed = until.duration_since(progress.made_at).unwrap_or_default();
    let nodes = |which, any: bool| if any { fleet.nodes(desired, which, TOLD) } else { Vec::new() };
    AwaitAssignmentResponse {
        assignment: progress.assignment,
        revision: progress.revision,
        regions: progress.regions.clone(),
        elapsed: elapsed.try_into().ok(),
        verdict: verdict.into(),
        refused: nodes(Which::Refused, progress.refused > 0),
        missing: nodes(Which::Missing, verdict == Verdict::TimedOut),
    }
}

fn no_assignment(why: String) -> Status {
    let details = ErrorDetails::with_error_info("NO_ASSIGNMENT", "switchtower", std::collections::HashMap::new());
    Status::with_error_details(Code::NotFound, why, details)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_is_over_when_every_connected_node_has_answered() {
        let check = |(assignment, connected, serving, refused), late, expected: Verdict| {
            let progress = Progress {
                assignment,
                revision: 1,
                made_at: SystemTime::UNIX_EPOCH,
                answered_at: None,
                connected,
                serving,
                refused,
                regions: Vec::new(),
            };
            assert_eq!(verdict(&progress, 5, late), expected, "{progress:?} {late}");
        };
        check((5, 3, 3, 0), false, Verdict::Served);
        check((5, 3, 3, 0), true, Verdict::Served);
        check((5, 0, 0, 0), false, Verdict::Served);
        check((5, 3, 2, 1), false, Verdict::Refused);
        check((5, 3, 0, 2), false, Verdict::Unspecified);
        check((5, 3, 0, 2), true, Verdict::TimedOut);
        check((6, 3, 3, 0), false, Verdict::Superseded);
    }
}
