//! The connection, and the calls.

use std::future::Future;

use switchtower_proto::control::v1::{
    ApplyRequest, ApplyResponse, AwaitAssignmentRequest, AwaitAssignmentResponse, DiffRevisionsRequest,
    DiffRevisionsResponse, GetFleetRequest, GetFleetResponse, GetRevisionRequest, GetRevisionResponse, IssueKeyRequest,
    IssueKeyResponse, ListEnvironmentsRequest, ListEnvironmentsResponse, ListKeysRequest, ListKeysResponse,
    ListRevisionsRequest, ListRevisionsResponse, PromoteRequest, PromoteResponse, RevokeKeyRequest, RevokeKeyResponse,
    RollbackRequest, RollbackResponse, RotateKeyRequest, RotateKeyResponse, WatchEventsRequest, WatchEventsResponse,
    WatchFleetRequest, WatchFleetResponse, await_assignment_response::Verdict,
    event_service_client::EventServiceClient, fleet_service_client::FleetServiceClient,
    key_service_client::KeyServiceClient, policy_service_client::PolicyServiceClient,
};
use tokio::time::Instant;
use tonic::{Code, Response, Status, Streaming, transport::Channel};

use super::{
    error::{Error, Refusal},
    options::{Options, Said},
    updates::Updates,
};
use crate::transport::MESSAGE_BYTES;

/// A connection to the control plane. Clones share it, and it opens itself again after a loss.
///
/// Every method is one call of [`wire`](super::wire), whose comments say what it does; dropping its future ends the
/// call. Their errors are [`Error`]'s: see [`Refusal`].
#[derive(Clone, Debug)]
pub struct Client {
    policies: PolicyServiceClient<Channel>,
    keys: KeyServiceClient<Channel>,
    fleet: FleetServiceClient<Channel>,
    events: EventServiceClient<Channel>,
    said: Said,
}

/// A call for each line.
macro_rules! calls {
    ($($(#[$doc:meta])* $name:ident($service:ident, $request:ty) -> $response:ty;)*) => {
        $(
            $(#[$doc])*
            ///
            /// # Errors
            /// See [`Refusal`].
            pub async fn $name(&self, request: $request) -> Result<$response, Error> {
                let mut service = self.$service.clone();
                let request = self.said.unary(request)?;
                self.within(service.$name(request)).await
            }
        )*
    };
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// [`Refusal::Options`] for options that cannot be used, [`Refusal::Unavailable`] where nobody answers.
    pub async fn connect(options: Options) -> Result<Self, Error> {
        let endpoint = options.transport.endpoint().map_err(Error::unusable)?;
        let said = options.said()?;
        let channel = endpoint
            .connect()
            .await
            .map_err(|error| Error::new(Refusal::Unavailable, "no connection to the control plane").caused_by(error))?;
        let most = MESSAGE_BYTES;
        Ok(Client {
            policies: PolicyServiceClient::new(channel.clone())
                .max_decoding_message_size(most)
                .max_encoding_message_size(most),
            keys: KeyServiceClient::new(channel.clone()).max_decoding_message_size(most),
            fleet: FleetServiceClient::new(channel.clone()).max_decoding_message_size(most),
            events: EventServiceClient::new(channel),
            said,
        })
    }

    calls! {
        /// Makes a revision of a policy and assigns it.
        apply(policies, ApplyRequest) -> ApplyResponse;
        /// A revision with its content.
        get_revision(policies, GetRevisionRequest) -> GetRevisionResponse;
        /// Revisions, newest first.
        list_revisions(policies, ListRevisionsRequest) -> ListRevisionsResponse;
        /// What differs between a revision and another, or a policy that is not applied.
        diff_revisions(policies, DiffRevisionsRequest) -> DiffRevisionsResponse;
        /// Applies a revision of one environment to another.
        promote(policies, PromoteRequest) -> PromoteResponse;
        /// Assigns an earlier revision.
        rollback(policies, RollbackRequest) -> RollbackResponse;
        /// The environments that there are.
        list_environments(policies, ListEnvironmentsRequest) -> ListEnvironmentsResponse;
        /// Makes a key.
        issue_key(keys, IssueKeyRequest) -> IssueKeyResponse;
        /// The keys of an environment, without secrets.
        list_keys(keys, ListKeysRequest) -> ListKeysResponse;
        /// Makes a key in place of another, which ends after an overlap.
        rotate_key(keys, RotateKeyRequest) -> RotateKeyResponse;
        /// Ends a key.
        revoke_key(keys, RevokeKeyRequest) -> RevokeKeyResponse;
        /// The fleet now.
        get_fleet(fleet, GetFleetRequest) -> GetFleetResponse;
    }

    /// The fleet's summary, now and whenever it changes, without an end.
    ///
    /// # Errors
    /// See [`Refusal`].
    pub async fn watch_fleet(&self, request: WatchFleetRequest) -> Result<Updates<WatchFleetResponse>, Error> {
        let mut fleet = self.fleet.clone();
        let request = self.said.stream(request)?;
        Ok(Updates::new(self.within(fleet.watch_fleet(request)).await?, false, |_| false))
    }

    /// How an assignment reaches the fleet, until its last message, which has a verdict.
    ///
    /// # Errors
    /// See [`Refusal`].
    pub async fn await_assignment(
        &self,
        request: AwaitAssignmentRequest,
    ) -> Result<Updates<AwaitAssignmentResponse>, Error> {
        let mut fleet = self.fleet.clone();
        let request = self.said.stream(request)?;
        let answers = self.within(fleet.await_assignment(request)).await?;
        Ok(Updates::new(answers, false, |answer| answer.verdict() != Verdict::Unspecified))
    }

    /// The latest events, and with `follow` those that come, without an end.
    ///
    /// # Errors
    /// See [`Refusal`].
    pub async fn watch_events(&self, request: WatchEventsRequest) -> Result<Updates<WatchEventsResponse>, Error> {
        let mut events = self.events.clone();
        let follow = request.follow;
        let request = self.said.stream(request)?;
        let answers: Streaming<WatchEventsResponse> = self.within(events.watch_events(request)).await?;
        Ok(match follow {
            true => Updates::new(answers, false, |_| false),
            false => Updates::new(answers, true, |_| true),
        })
    }

    /// A call, as long as its deadline lasts.
    async fn within<T>(&self, call: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, Error> {
        let ends = Instant::now().checked_add(self.said.deadline);
        let answered = match ends {
            Some(ends) => tokio::time::timeout_at(ends, call).await.map_err(|_| Error::deadline())?,
            None => call.await,
        };
        answered.map(Response::into_inner).map_err(|status| match ends {
            // The connection keeps the time too, and its word for it is another one.
            Some(ends) if status.code() == Code::Cancelled && Instant::now() >= ends => Error::deadline(),
            _ => Error::of(status),
        })
    }
}
