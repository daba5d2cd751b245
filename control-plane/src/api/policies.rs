//! Policies, for operators.

mod wire;

use std::{fmt, sync::Arc, time::SystemTime};

use switchtower_policy::{diff, items};
use switchtower_proto::{
    control::v1::{
        ApplyRequest, ApplyResponse, Diff, DiffRevisionsRequest, DiffRevisionsResponse, GetRevisionRequest,
        GetRevisionResponse, ListEnvironmentsRequest, ListEnvironmentsResponse, ListRevisionsRequest,
        ListRevisionsResponse, PromoteRequest, PromoteResponse, RollbackRequest, RollbackResponse,
        diff_revisions_request::Other,
        policy_service_server::{PolicyService, PolicyServiceServer},
    },
    policy::v1::Item,
};
use tonic::{Request, Response, Status, service::interceptor::InterceptedService};

use super::{MAX_REQUEST_BYTES, author, doing, status, to_its_end};
pub use crate::revisions::{CannotRead, Readers};
use crate::{
    auth::Operators,
    events::Events,
    revisions::{Applied, Applying, Head, MAX_PAGE, Refused, Revisions, RolledBack, RollingBack, promote},
    telemetry::Telemetry,
};

/// How many revisions a page has if nobody says.
const PAGE: usize = 50;

/// The service of policies.
#[derive(Clone)]
pub struct Policies {
    revisions: Revisions,
    events: Arc<Events>,
    readers: Arc<dyn Readers>,
    telemetry: Arc<Telemetry>,
}

impl fmt::Debug for Policies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policies").finish_non_exhaustive()
    }
}

impl Policies {
    /// Of these revisions; what is done is told there, and nothing is assigned that these cannot read.
    #[must_use]
    pub fn of(revisions: Revisions, events: Arc<Events>, readers: Arc<dyn Readers>, telemetry: Arc<Telemetry>) -> Self {
        Policies { revisions, events, readers, telemetry }
    }

    /// For a server, behind the check of tokens.
    #[must_use]
    pub fn service(self, operators: Operators) -> InterceptedService<PolicyServiceServer<Self>, Operators> {
        let service = PolicyServiceServer::new(self).max_decoding_message_size(MAX_REQUEST_BYTES);
        InterceptedService::new(service, operators)
    }

    async fn applied(&self, applying: Applying, validate_only: bool) -> Result<ApplyResponse, Status> {
        let (this, environment) = (self.clone(), applying.environment.clone());
        let applied = if validate_only {
            self.revisions.preview(applying, &*self.readers).await?
        } else {
            to_its_end(async move {
                let (now, random) = (SystemTime::now(), fastrand::u32(..));
                let applied = this.revisions.apply(applying, &*this.readers, now, random).await?;
                applied.event.iter().for_each(|event| this.events.tell(event));
                Ok(applied)
            })
            .await?
        };
        let Applied { revision, items, assignment, unchanged, before, head, warnings, event: _ } = applied;
        let diff = if unchanged { Some(Diff::default()) } else { self.diff_to(&environment, before, items).await };
        Ok(ApplyResponse {
            revision: Some(wire::revision(revision, &head)),
            assignment,
            unchanged,
            diff,
            warnings: warnings.iter().map(wire::violation).collect(),
        })
    }

    async fn rolled_back(&self, rolling: RollingBack, validate_only: bool) -> Result<RolledBack, Status> {
        if validate_only {
            return Ok(self.revisions.preview_rollback(rolling, &*self.readers).await?);
        }
        let this = self.clone();
        to_its_end(async move {
            let (now, random) = (SystemTime::now(), fastrand::u32(..));
            let rolled_back = this.revisions.rollback(rolling, &*this.readers, now, random).await?;
            rolled_back.event.iter().for_each(|event| this.events.tell(event));
            Ok(rolled_back)
        })
        .await
    }

    /// What differs from an earlier revision (0: from nothing). What is done is done: where that revision cannot be read,
    /// there is no diff, and the log says why.
    async fn diff_to(&self, environment: &str, before: u64, items: Arc<[Item]>) -> Option<Diff> {
        let diff = async {
            let before = if before == 0 { Vec::new() } else { self.revisions.content(environment, before).await? };
            compared(before.into(), items).await
        };
        diff.await.inspect_err(|error: &Status| tracing::warn!(environment, before, %error, "no diff")).ok()
    }

    async fn head(&self, environment: &str) -> Result<Head, Status> {
        let missing = || Refused::NoRevision { environment: environment.to_owned(), number: 0 };
        Ok(self.revisions.head(environment).await?.ok_or_else(missing)?)
    }

    /// The number of a revision that may be named as 0, the head.
    async fn number(&self, environment: &str, number: u64) -> Result<u64, Status> {
        Ok(if number == 0 { self.head(environment).await?.revision } else { number })
    }
}

#[tonic::async_trait]
impl PolicyService for Policies {
    async fn apply(&self, request: Request<ApplyRequest>) -> Result<Response<ApplyResponse>, Status> {
        let (author, doing) = (author(&request)?, doing("apply", &request));
        let ApplyRequest { environment, items, parent, message, validate_only, again, despite_nodes } =
            request.into_inner();
        let (at, traceparent, promoted_from) = (environment.clone(), doing.traceparent(), String::new());
        let applying =
            Applying { environment, items, parent, author, message, again, despite_nodes, traceparent, promoted_from };
        let applied = self.applied(applying, validate_only).await;
        self.telemetry.done(&doing, &at, &applied, SystemTime::now());
        Ok(Response::new(applied?))
    }

    async fn get_revision(
        &self,
        request: Request<GetRevisionRequest>,
    ) -> Result<Response<GetRevisionResponse>, Status> {
        author(&request)?;
        let GetRevisionRequest { environment, number } = request.into_inner();
        let head = self.head(&environment).await?;
        let revision = self.revisions.get(&environment, if number == 0 { head.revision } else { number }).await?;
        let items = self.revisions.content_of(&revision).await?;
        Ok(Response::new(GetRevisionResponse { revision: Some(wire::revision(revision, &head)), items }))
    }

    async fn list_revisions(
        &self,
        request: Request<ListRevisionsRequest>,
    ) -> Result<Response<ListRevisionsResponse>, Status> {
        author(&request)?;
        let ListRevisionsRequest { environment, before, page_size } = request.into_inner();
        let size = match usize::try_from(page_size).unwrap_or(usize::MAX) {
            0 => PAGE,
            size => size.min(MAX_PAGE),
        };
        let page = self.revisions.list(&environment, before, size).await?;
        let revisions = page.revisions.into_iter().map(|revision| wire::revision(revision, &page.head)).collect();
        Ok(Response::new(ListRevisionsResponse { revisions, more: page.more }))
    }

    async fn diff_revisions(
        &self,
        request: Request<DiffRevisionsRequest>,
    ) -> Result<Response<DiffRevisionsResponse>, Status> {
        author(&request)?;
        let DiffRevisionsRequest { environment, number, other } = request.into_inner();
        let Some(other) = other else { return Err(status::malformed("other", "say what it is compared with")) };
        let number = self.number(&environment, number).await?;
        let before = self.revisions.content(&environment, number).await?;
        let after = match other {
            Other::Revision(other) => {
                let number = self.number(&other.environment, other.number).await?;
                self.revisions.content(&other.environment, number).await?
            }
            Other::Content(content) => read(content.items).await?,
        };
        let diff = compared(before.into(), after.into()).await?;
        Ok(Response::new(DiffRevisionsResponse { diff: Some(diff) }))
    }

    async fn promote(&self, request: Request<PromoteRequest>) -> Result<Response<PromoteResponse>, Status> {
        let (author, doing) = (author(&request)?, doing("promote", &request));
        let PromoteRequest { from, number, to, parent, message, validate_only, again } = request.into_inner();
        let number = if number == 0 { self.head(&from).await?.assignment.revision } else { number };
        let items = self.revisions.content(&from, number).await?;
        let nameless = || Refused::Damaged(format!("revision {number} of {from} has no settings"));
        let items = promote::renamed(items, &to).ok_or_else(nameless)?;
        let promoted_from = format!("{from}/{number}");
        let message = if message.is_empty() { format!("promoted from {promoted_from}") } else { message };
        let (at, traceparent) = (to.clone(), doing.traceparent());
        let despite_nodes = false;
        let applying = Applying {
            environment: to,
            items,
            parent,
            author,
            message,
            again,
            despite_nodes,
            traceparent,
            promoted_from,
        };
        let applied = self.applied(applying, validate_only).await;
        self.telemetry.done(&doing, &at, &applied, SystemTime::now());
        Ok(Response::new(PromoteResponse { applied: Some(applied?), number }))
    }

    async fn rollback(&self, request: Request<RollbackRequest>) -> Result<Response<RollbackResponse>, Status> {
        let (author, doing) = (author(&request)?, doing("rollback", &request));
        let RollbackRequest { environment, number: to, message, validate_only, from } = request.into_inner();
        let (at, traceparent) = (environment.clone(), doing.traceparent());
        let rolling = RollingBack { environment: at, to, from, author, message, traceparent };
        let rolled_back = self.rolled_back(rolling, validate_only).await;
        self.telemetry.done(&doing, &environment, &rolled_back, SystemTime::now());
        let rolled_back = rolled_back?;
        let diff = self.diff_to(&environment, rolled_back.from, rolled_back.items).await;
        Ok(Response::new(RollbackResponse {
            revision: Some(wire::revision(rolled_back.revision, &rolled_back.head)),
            assignment: rolled_back.assignment,
            from: rolled_back.from,
            diff,
        }))
    }

    async fn list_environments(
        &self,
        request: Request<ListEnvironmentsRequest>,
    ) -> Result<Response<ListEnvironmentsResponse>, Status> {
        author(&request)?;
        let environments = self.revisions.environments().await?;
        let environments = environments.into_iter().map(|(name, head)| wire::environment(name, &head)).collect();
        Ok(Response::new(ListEnvironmentsResponse { environments }))
    }
}

/// A policy that is not applied: it may not compile yet, but it is one.
async fn read(items: Vec<Item>) -> Result<Vec<Item>, Status> {
    blocking(move || match items::strict(&items) {
        Ok(_) => Ok(items),
        Err(violations) => Err(Refused::Policy(violations).into()),
    })
    .await
}

async fn compared(before: Arc<[Item]>, after: Arc<[Item]>) -> Result<Diff, Status> {
    blocking(move || Ok(wire::diff(diff::diff(&before, &after)))).await
}

/// Work that would hold up others on a thread of the runtime.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Status> + Send + 'static) -> Result<T, Status> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(status::internal(&error)))
}
