//! Puts a control plane together and runs it: the parts, the two ports, and their end.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::Context;
use serde_json::json;
use switchtower_keys::Peppers;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Identity, Server, ServerTlsConfig};

use crate::{
    admin::{self, Shown},
    admission::{self, Admission},
    api,
    auth::{Operators, Tokens},
    desired::Cells,
    events::Events,
    fleet::{Fleet, Which},
    keys::Keys,
    layout,
    listener::{self, Bounds},
    revisions::Revisions,
    store::{Condition, Lease, Outcome, Store, Transaction},
    telemetry::Telemetry,
};

/// What is served here, as reflection tells it.
const SERVICES: [&str; 7] = [
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "switchtower.control.v1.EventService",
    "switchtower.control.v1.FleetService",
    "switchtower.control.v1.KeyService",
    "switchtower.control.v1.PolicyService",
    "switchtower.sync.v1.SyncService",
];
/// How long a replica's entry outlives it.
const LEASE: Duration = Duration::from_secs(30);

/// What a control plane is made of.
pub struct Options {
    /// Where operators and nodes come in.
    pub listen: SocketAddr,
    /// Where `/healthz`, `/readyz` and `/metrics` are.
    pub admin_listen: SocketAddr,
    /// Certificate chain and key, PEM; `None`: in the clear.
    pub tls: Option<(Vec<u8>, Vec<u8>)>,
    /// What it keeps.
    pub store: Arc<dyn Store>,
    /// Who may come.
    pub tokens: Arc<Tokens>,
    /// What keys are hashed under.
    pub peppers: Arc<Peppers>,
    /// Name of this replica.
    pub replica: String,
    /// What it tells of itself.
    pub telemetry: Arc<Telemetry>,
    /// Over how long nodes are sent away when it ends.
    pub drain: Duration,
}

/// A control plane that runs.
pub struct Running {
    /// Where operators and nodes come in.
    pub address: SocketAddr,
    /// Where `/healthz`, `/readyz` and `/metrics` are.
    pub admin_address: SocketAddr,
    /// The revisions, for who is in the same process.
    pub revisions: Revisions,
    /// The keys.
    pub keys: Keys,
    /// The events.
    pub events: Arc<Events>,
    parts: Arc<Parts>,
    stop: CancellationToken,
    stop_admin: CancellationToken,
    tasks: JoinSet<()>,
    drain: Duration,
}

/// What the admin port shows.
struct Parts {
    store: Arc<dyn Store>,
    cells: Arc<Cells>,
    fleet: Arc<Fleet>,
    sync: api::sync::SyncApi,
    telemetry: Arc<Telemetry>,
    replica: String,
    stop: CancellationToken,
}

/// Starts a control plane. It serves when this returns.
///
/// # Errors
/// A port is taken, the certificate is none, the store does not answer.
pub async fn start(options: Options) -> anyhow::Result<Running> {
    let listener = bind(options.listen)?;
    let admin_listener = bind(options.admin_listen)?;
    let (address, admin_address) = (listener.local_addr()?, admin_listener.local_addr()?);
    let (stop, stop_admin) = (CancellationToken::new(), CancellationToken::new());
    let events = Arc::new(Events::of(&*options.store).await?);
    let cells = Arc::new(Cells::new(options.store.clone()));
    let telemetry = options.telemetry.clone();
    let on_ack = Box::new(move |environment: &str, after| telemetry.acked(environment, after));
    let fleet = Fleet::of(options.store.clone(), events.clone(), on_ack, SystemTime::now()).await?;
    let tokens = options.tokens.clone();
    let sync = api::sync::SyncApi::new(
        cells.clone(),
        fleet.clone(),
        Admission::new(admission::BYTES),
        Arc::new(move |metadata| tokens.node(metadata)),
        options.replica.clone(),
        stop.clone(),
    );
    let revisions = Revisions::of(options.store.clone());
    let keys = Keys::of(options.store.clone(), options.peppers);
    let mut tasks = JoinSet::new();
    let (filled, stopped) = (cells.clone(), stop.clone());
    tasks.spawn(async move { filled.run(stopped).await });
    let (told, stopped) = (fleet.clone(), stop.clone());
    tasks.spawn(async move { told.run(stopped).await });
    tasks.spawn(be_listed(options.store.clone(), options.replica.clone(), address, stop.clone()));
    let parts = Arc::new(Parts {
        store: options.store,
        cells: cells.clone(),
        fleet: fleet.clone(),
        sync: sync.clone(),
        telemetry: options.telemetry.clone(),
        replica: options.replica,
        stop: stop.clone(),
    });
    tasks.spawn(admin::serve(admin_listener, parts.clone(), stop_admin.clone()));

    let tokens = options.tokens.clone();
    let allow: api::sync::Allow = Arc::new(move |metadata| tokens.operator(metadata).map(drop));
    let operators = Operators(options.tokens);
    let health = tonic_health::server::HealthReporter::new();
    let described = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(switchtower_proto::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        // What the details of refusals are.
        .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET);
    let reflection = SERVICES.iter().fold(described, |described, service| described.with_service_name(*service));
    let policies =
        api::policies::Policies::of(revisions.clone(), events.clone(), fleet.clone(), options.telemetry.clone());
    let mut server = api::sync::configured(Server::builder());
    if let Some((certificates, key)) = options.tls {
        let identity = Identity::from_pem(certificates, key);
        let tls = ServerTlsConfig::new().identity(identity).timeout(listener::FIRST_BYTE);
        server = server.tls_config(tls).context("the certificate or its key")?;
    }
    let served = server
        .add_service(tonic_health::pb::health_server::HealthServer::new(
            tonic_health::server::HealthService::from_health_reporter(health.clone()),
        ))
        .add_service(reflection.build_v1()?)
        .add_service(policies.service(operators.clone()))
        .add_service(api::keys::Keys::of(keys.clone(), events.clone(), options.telemetry).service(operators.clone()))
        .add_service(api::events::Events::of(events.clone(), stop.clone()).service(operators))
        .add_service(api::fleet::FleetApi::new(cells, fleet, allow, stop.clone()).into_server())
        .add_service(sync.into_server())
        .serve_with_incoming_shutdown(
            listener::incoming(listener, bounds(), stop.clone()),
            stop.clone().cancelled_owned(),
        );
    tasks.spawn(async move {
        if let Err(error) = served.await {
            tracing::error!(error = &error as &dyn std::error::Error, "the server ended");
        }
    });
    for service in ["", "switchtower.control.v1.PolicyService", "switchtower.sync.v1.SyncService"] {
        health.set_service_status(service, tonic_health::ServingStatus::Serving).await;
    }
    Ok(Running {
        address,
        admin_address,
        revisions,
        keys,
        events,
        parts,
        stop,
        stop_admin,
        tasks,
        drain: options.drain,
    })
}

impl Running {
    /// Ends it: nodes are asked to come back after a while, calls that run may finish within the drain time, and what is
    /// left then is cut.
    pub async fn stop(mut self) {
        self.stop.cancel();
        let drained = async {
            self.parts.sync.ended().await;
            // The admin port answers to the last.
            while self.tasks.len() > 1 && self.tasks.join_next().await.is_some() {}
        };
        if tokio::time::timeout(self.drain, drained).await.is_err() {
            tracing::warn!("cut: calls were still open when the drain time was over");
        }
        self.stop_admin.cancel();
        self.tasks.abort_all();
        while self.tasks.join_next().await.is_some() {}
        let telemetry = self.parts.telemetry.clone();
        // What cannot be flushed within the exporter's own bounds is lost, and said to be.
        let _ = tokio::task::spawn_blocking(move || telemetry.flush()).await;
    }
}

impl Shown for Parts {
    fn ready(&self) -> (bool, String) {
        let failure = self.cells.failure();
        let ready = self.cells.has_read() && !self.stop.is_cancelled();
        let document = json!({
            "ready": ready,
            "draining": self.stop.is_cancelled(),
            "replica": self.replica,
            "epoch": self.store.epoch(),
            "streams": self.sync.open(),
            "problems": failure.as_deref().into_iter().collect::<Vec<_>>(),
        });
        (ready, format!("{document}\n"))
    }

    async fn metrics(&self) -> String {
        let mut fleet = Vec::new();
        for environment in self.cells.environments() {
            let Some(desired) = self.cells.get(&environment) else { continue };
            let nodes = self.fleet.nodes(&desired, Which::Region(""), usize::MAX);
            fleet.push((self.fleet.summary(&desired), nodes));
        }
        self.telemetry.count(&fleet, self.sync.open(), self.sync.encoded(), SystemTime::now());
        self.telemetry.text()
    }
}

/// As many connections as are served, or as this process has descriptors for.
fn bounds() -> Bounds {
    // Empty where the system has no such file: then nothing is known of a limit.
    Bounds::default().within(&std::fs::read_to_string("/proc/self/limits").unwrap_or_default())
}

fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listening = || {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener)
    };
    listening().with_context(|| format!("cannot listen on {address}"))
}

/// Keeps this replica's entry in the store, so that others and operators see who is there, until stopped.
async fn be_listed(store: Arc<dyn Store>, replica: String, address: SocketAddr, stop: CancellationToken) {
    let mut held = None;
    while !stop.is_cancelled() {
        held = match held {
            None => listed(&*store, &replica, address).await,
            Some(lease) => store.keep(lease).await.is_ok().then_some(lease),
        };
        stop.run_until_cancelled(tokio::time::sleep(LEASE / 3)).await;
    }
    if let Some(lease) = held {
        // It ends by itself where the store does not answer.
        let _ = store.revoke(lease).await;
    }
}

async fn listed(store: &dyn Store, replica: &str, address: SocketAddr) -> Option<Lease> {
    let lease = store.grant(LEASE).await.ok()?;
    let key = layout::replica(replica);
    let condition = match store.get(&key).await.ok()? {
        None => Condition::Absent(key.clone()),
        Some(entry) => Condition::Unchanged(key.clone(), entry.version),
    };
    let put = Transaction::when(condition).put_leased(key, address.to_string(), lease);
    matches!(store.commit(put).await, Ok(Outcome::Committed(_))).then_some(lease)
}

#[cfg(test)]
mod tests {
    use switchtower_keys::Pepper;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
    };

    use super::*;
    use crate::store::Memory;

    async fn plane() -> Running {
        let any = "127.0.0.1:0".parse().unwrap();
        let tokens =
            Tokens::read(&[b"ann:".as_slice(), &[b'a'; 40]].concat(), &[b"node:".as_slice(), &[b'n'; 40]].concat());
        let options = Options {
            listen: any,
            admin_listen: any,
            tls: None,
            store: Arc::new(Memory::new()),
            tokens: Arc::new(tokens.unwrap()),
            peppers: Arc::new(Peppers::first(Pepper::new([1; 32]))),
            replica: "a".to_owned(),
            telemetry: Arc::new(Telemetry::new(None)),
            drain: Duration::from_secs(60),
        };
        start(options).await.unwrap()
    }

    #[tokio::test]
    async fn connections_without_a_call_do_not_delay_the_end() {
        let plane = plane().await;
        let mut silent = TcpStream::connect(plane.address).await.unwrap();
        let mut begun = TcpStream::connect(plane.address).await.unwrap();
        begun.write_all(b"PRI * HT").await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        tokio::time::timeout(Duration::from_secs(5), plane.stop())
            .await
            .expect("it ends before the drain time is over");
        for stream in [&mut silent, &mut begun] {
            // What the server says of its settings comes before its end.
            let mut settings = Vec::new();
            let ended = stream.read_to_end(&mut settings);
            assert!(tokio::time::timeout(Duration::from_secs(5), ended).await.is_ok());
        }
    }
}
