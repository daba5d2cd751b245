//! The services over a store in memory, and clients of them that need no socket.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::SystemTime,
};

use switchtower_control_plane::{
    api::{self, fleet::FleetApi, sync::Allow},
    auth::{Operators, Tokens},
    desired::Cells,
    events::Events,
    fleet::Fleet,
    keys::Keys,
    revisions::{CannotRead, Readers, Revisions},
    store::Store,
    telemetry::Telemetry,
};
use switchtower_keys::{Pepper, Peppers};
use switchtower_policy::{File, items, read};
use switchtower_proto::{
    control::v1::{
        ApplyRequest, ApplyResponse, RollbackRequest, RollbackResponse, event_service_client::EventServiceClient,
        key_service_client::KeyServiceClient, policy_service_client::PolicyServiceClient,
    },
    policy::v1::Item,
};
use tokio_util::sync::CancellationToken;
use tonic::{
    Request, Status,
    service::{Interceptor, Routes, interceptor::InterceptedService},
};
use tonic_types::StatusExt;

pub(crate) use crate::support_store::{Failure, Shared};

/// Tokens of operators and of the fleet.
pub(crate) const ANN: &str = "ann-token-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
pub(crate) const FLEET: &str = "fleet-token-ffffffffffffffffffffffffffff";

/// Secret of the pepper.
pub(crate) const PEPPER: [u8; 32] = [0x5a; 32];

/// Nodes that understand everything but some members.
#[derive(Debug, Default)]
pub(crate) struct Nodes(pub(crate) Mutex<Vec<CannotRead>>);

impl Readers for Nodes {
    fn cannot_read(&self, _: &str, used: &BTreeSet<String>) -> Vec<CannotRead> {
        let nodes = self.0.lock().unwrap();
        nodes.iter().filter(|node| node.members.iter().any(|member| used.contains(member))).cloned().collect()
    }
}

/// A control plane's services.
#[derive(Clone)]
pub(crate) struct Plane {
    pub(crate) store: Arc<Shared>,
    pub(crate) nodes: Arc<Nodes>,
    pub(crate) events: Arc<Events>,
    pub(crate) revisions: Revisions,
    pub(crate) keys: Keys,
    pub(crate) ending: CancellationToken,
    tokens: Arc<Tokens>,
    fleet: FleetApi,
}

pub(crate) type Called = InterceptedService<Routes, Bearer>;

/// Sends a token with every request.
#[derive(Clone)]
pub(crate) struct Bearer(pub(crate) &'static str);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", format!("Bearer {}", self.0).parse().unwrap());
        Ok(request)
    }
}

impl Plane {
    pub(crate) async fn new() -> Self {
        let shared = Arc::new(Shared::default());
        let store: Arc<dyn Store> = shared.clone();
        let tokens = Tokens::read(format!("ann:{ANN}").as_bytes(), format!("fleet:{FLEET}").as_bytes()).unwrap();
        let (tokens, ending) = (Arc::new(tokens), CancellationToken::new());
        let events = Arc::new(Events::of(&*store).await.unwrap());
        let told = Box::new(|_: &str, _| {});
        let fleet = Fleet::of(store.clone(), events.clone(), told, SystemTime::now()).await.unwrap();
        let operators = tokens.clone();
        let allow: Allow = Arc::new(move |metadata| operators.operator(metadata).map(drop));
        let cells = Arc::new(Cells::new(store.clone()));
        Plane {
            fleet: FleetApi::new(cells, fleet, allow, ending.clone()),
            events,
            revisions: Revisions::of(store.clone()),
            keys: Keys::of(store, Arc::new(Peppers::first(Pepper::new(PEPPER)))),
            store: shared,
            nodes: Arc::default(),
            ending,
            tokens,
        }
    }

    fn operators(&self) -> Operators {
        Operators(self.tokens.clone())
    }

    /// All services, as a server has them.
    pub(crate) fn routes(&self) -> Routes {
        let telemetry = Arc::new(Telemetry::new(None));
        let policies = api::policies::Policies::of(
            self.revisions.clone(),
            self.events.clone(),
            self.nodes.clone(),
            telemetry.clone(),
        );
        let keys = api::keys::Keys::of(self.keys.clone(), self.events.clone(), telemetry);
        let events = api::events::Events::of(self.events.clone(), self.ending.clone());
        Routes::new(policies.service(self.operators()))
            .add_service(keys.service(self.operators()))
            .add_service(events.service(self.operators()))
            .add_service(self.fleet.clone().into_server())
    }

    pub(crate) fn policies(&self) -> PolicyServiceClient<Called> {
        PolicyServiceClient::with_interceptor(self.routes(), Bearer(ANN)).max_decoding_message_size(8 << 20)
    }

    pub(crate) fn key_client(&self) -> KeyServiceClient<Called> {
        KeyServiceClient::with_interceptor(self.routes(), Bearer(ANN))
    }

    pub(crate) fn event_client(&self) -> EventServiceClient<Called> {
        EventServiceClient::with_interceptor(self.routes(), Bearer(ANN))
    }

    pub(crate) async fn apply(&self, request: ApplyRequest) -> Result<ApplyResponse, Status> {
        Ok(self.policies().apply(request).await?.into_inner())
    }

    /// Applies [`prod`] with this limit from this parent, and gives the revision's number.
    pub(crate) async fn applied(&self, limit: u32, parent: Option<u64>) -> Result<u64, Status> {
        Ok(number(&self.apply(applying(prod(limit), parent)).await?))
    }

    pub(crate) async fn rollback(&self, number: u64) -> Result<RollbackResponse, Status> {
        let environment = "prod".to_owned();
        let message = "it was bad".to_owned();
        let request = RollbackRequest { environment, number, message, validate_only: false, from: None };
        Ok(self.policies().rollback(request).await?.into_inner())
    }

    /// Nothing is wrong with an environment's history.
    pub(crate) async fn is_whole(&self, environment: &str) {
        assert_eq!(self.revisions.verify(environment).await.unwrap(), Vec::<String>::new());
    }
}

/// A small policy that differs from others of its environment by one limit.
pub(crate) fn policy(environment: &str, limit: u32) -> Vec<Item> {
    let text = format!(
        "environment: {environment}
models: {{ nova: {{ bedrock: us.amazon.nova-lite-v1:0, regions: [us-east-1] }} }}
routes: {{ chat: {{ tiers: [nova], max_output_tokens: {limit} }} }}
callers: {{ web: {{ tenant: acme, routes: [chat] }} }}
"
    );
    of_yaml(text)
}

pub(crate) fn prod(limit: u32) -> Vec<Item> {
    policy("prod", limit)
}

pub(crate) fn of_yaml(text: String) -> Vec<Item> {
    let reading = read(&[File { name: "prod.yaml".into(), bytes: text.into_bytes() }]);
    assert_eq!(reading.violations, []);
    items::items(&reading.policy)
}

pub(crate) fn applying(items: Vec<Item>, parent: Option<u64>) -> ApplyRequest {
    ApplyRequest { environment: "prod".to_owned(), items, parent, message: "why not".to_owned(), ..Default::default() }
}

pub(crate) fn number(response: &ApplyResponse) -> u64 {
    response.revision.as_ref().unwrap().record.as_ref().unwrap().number
}

/// The reason of a refusal, and a word of its metadata.
pub(crate) fn reason(status: &Status) -> String {
    let details = status.get_error_details();
    let info = details.error_info().unwrap_or_else(|| panic!("no reason: {status:?}"));
    assert_eq!(info.domain, "switchtower");
    info.reason.clone()
}

pub(crate) fn told(status: &Status, key: &str) -> String {
    status.get_error_details().error_info().unwrap().metadata[key].clone()
}

/// The fields that a refusal names.
pub(crate) fn fields(status: &Status) -> Vec<String> {
    let details = status.get_error_details();
    let violations = details.bad_request().map(|bad| bad.field_violations.clone()).unwrap_or_default();
    violations.into_iter().map(|violation| violation.field).collect()
}
