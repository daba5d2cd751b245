//! Puts a node together and runs it: the parts, the two ports, and their end.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Context;
use arc_swap::ArcSwap;
use switchtower_provider::Provider;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    admin::Admin,
    auth::Keyring,
    current::Current,
    face::{Faces, grpc},
    infer::Node,
    keys::{self, KeyFiles},
    server::{self, Limits},
    source::{self, Files, Status},
    sync,
    telemetry::Telemetry,
};

/// What a node is made of.
pub struct Options {
    /// Where callers come in.
    pub listen: SocketAddr,
    /// Where `/healthz`, `/readyz` and `/metrics` are.
    pub admin_listen: SocketAddr,
    /// Certificate and key of the callers' port; `None`: in the clear.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// Where policy and keys come from.
    pub source: Source,
    /// Region that the node runs in; empty where it runs in none.
    pub region: Box<str>,
    /// Makes the attempts.
    pub provider: Arc<dyn Provider>,
    /// Where records go.
    pub telemetry: Arc<Telemetry>,
    /// Most bytes of a request's body.
    pub most_body_bytes: usize,
    /// How long open requests may go on when the node ends.
    pub drain: Duration,
}

/// Where policy and keys come from.
pub enum Source {
    /// Files of this machine.
    Files {
        /// The policy, read again when it changes.
        policy: Files,
        /// The keys.
        keys: Keys,
    },
    /// The control plane, and the last known good while it does not answer.
    ControlPlane(Box<sync::Options>),
}

/// Where keys come from.
pub enum Keys {
    /// Files, read again when they change.
    Files(KeyFiles),
    /// These, for ever.
    Fixed(Box<Keyring>),
}

/// A node that runs.
pub struct Running {
    /// Where callers come in.
    pub address: SocketAddr,
    /// Where `/healthz`, `/readyz` and `/metrics` are.
    pub admin_address: SocketAddr,
    /// The request path.
    pub node: Arc<Node>,
    /// What it says of its policy.
    pub policy: Arc<Status>,
    /// What it says of its control plane; `None`: policy and keys come from files.
    pub control_plane: Option<Arc<sync::Status>>,
    admin: Arc<Admin>,
    stop: CancellationToken,
    stop_admin: CancellationToken,
    tasks: JoinSet<()>,
    health: tonic_health::server::HealthReporter,
}

/// Starts a node. It serves when this returns; whether it has a policy, [`Running::policy`] tells: without one it
/// answers that it is not ready, and goes on looking at the files, or waiting for the control plane.
///
/// # Errors
/// A port is taken, keys or the pepper cannot be read, the folder of the last known good cannot be used.
pub async fn start(options: Options) -> anyhow::Result<Running> {
    let listener = bind(options.listen)?;
    let admin_listener = bind(options.admin_listen)?;
    let (address, admin_address) = (listener.local_addr()?, admin_listener.local_addr()?);
    let node = Arc::new(Node {
        current: Current::default(),
        keys: ArcSwap::from_pointee(Keyring::empty()),
        provider: options.provider,
        telemetry: options.telemetry.clone(),
        region: options.region,
    });
    let (policy, key_status) = (Arc::new(Status::default()), Arc::new(keys::Status::default()));
    let (stop, stop_admin) = (CancellationToken::new(), CancellationToken::new());
    let mut tasks = JoinSet::new();
    let control_plane = match options.source {
        Source::Files { policy: files, keys } => {
            if let Some(followed) = first_keys(keys, &node, &key_status)? {
                tasks.spawn(keys::watch(followed, node.clone(), key_status.clone(), stop.clone()));
            }
            let first = first_policy(&files, &node, &policy).await;
            tasks.spawn(source::watch(files, first, node.clone(), policy.clone(), stop.clone()));
            None
        }
        Source::ControlPlane(options) => {
            let (sync, status) = sync::open(*options, node.clone(), policy.clone(), key_status.clone()).await?;
            tasks.spawn(sync.follow(stop.clone()));
            Some(status)
        }
    };
    let admin = Arc::new(Admin {
        telemetry: options.telemetry,
        policy: policy.clone(),
        keys: key_status,
        control_plane: control_plane.clone(),
        draining: AtomicBool::new(false),
    });
    let health = tonic_health::server::HealthReporter::new();
    let most = options.most_body_bytes;
    let faces = Faces::new(node.clone(), most, grpc::routes(node.clone(), health.clone(), most));
    tasks.spawn(report_health(health.clone(), policy.clone(), stop.clone()));
    tasks.spawn(serve_callers(listener, options.tls, faces, stop.clone(), options.drain));
    tasks.spawn(serve_admin(admin_listener, admin.clone(), stop_admin.clone()));
    Ok(Running { address, admin_address, node, policy, control_plane, admin, stop, stop_admin, tasks, health })
}

/// Takes the keys into service for the first time, and gives what to follow.
fn first_keys(keys: Keys, node: &Node, status: &keys::Status) -> anyhow::Result<Option<keys::Followed>> {
    let (keyring, followed) = match keys {
        Keys::Fixed(keyring) => (*keyring, None),
        Keys::Files(files) => {
            let (keyring, followed) = files.open(status).map_err(all)?;
            (keyring, Some(followed))
        }
    };
    node.keys.store(Arc::new(keyring));
    Ok(followed)
}

impl Running {
    /// Ends the node: it says that it is no longer ready, takes nothing new, and lets what runs finish within the drain
    /// time.
    pub async fn stop(mut self) {
        self.admin.draining.store(true, Ordering::Relaxed);
        set_health(&self.health, false).await;
        self.stop.cancel();
        // The admin port answers to the last: whoever asks is told that the node drains.
        while self.tasks.len() > 1 && self.tasks.join_next().await.is_some() {}
        self.stop_admin.cancel();
        while self.tasks.join_next().await.is_some() {}
        let telemetry = self.node.telemetry.clone();
        // What cannot be flushed within the exporter's own bounds is lost, and said to be.
        let _ = tokio::task::spawn_blocking(move || telemetry.flush()).await;
    }
}

fn all(problems: Vec<String>) -> anyhow::Error {
    anyhow::anyhow!("{}", problems.join("\n"))
}

fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    server::listen(address, false).with_context(|| format!("cannot listen on {address}"))
}

async fn first_policy(files: &Files, node: &Node, status: &Status) -> Option<Arc<[switchtower_policy::File]>> {
    let read = files.read();
    match read {
        Ok(read) => {
            let read: Arc<[_]> = read.into();
            source::serve(read.clone(), node, status).await;
            Some(read)
        }
        Err(error) => {
            tracing::error!(%error, "the policy files cannot be read");
            None
        }
    }
}

async fn serve_callers(
    listener: TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
    faces: Faces,
    stop: CancellationToken,
    drain: Duration,
) {
    let faces = Arc::new(faces);
    // Boxed: a connection holds the room of its handler's future for as long as it lives, a stream's connection too, and
    // the way of a request is long.
    let handler = move |request| {
        let faces = faces.clone();
        Box::pin(async move { faces.answer(request).await })
    };
    let drained = server::serve(listener, tls, Limits::default(), handler, stop, drain).await;
    if drained.aborted > 0 {
        tracing::warn!(connections = drained.aborted, "cut: they were still open when the drain time was over");
    }
}

async fn serve_admin(listener: TcpListener, admin: Arc<Admin>, stop: CancellationToken) {
    let handler = move |request| {
        let admin = admin.clone();
        async move { admin.answer(&request) }
    };
    server::serve(listener, None, Limits::default(), handler, stop, Duration::from_secs(1)).await;
}

/// gRPC's own health service says what `/readyz` says.
async fn report_health(health: tonic_health::server::HealthReporter, policy: Arc<Status>, stop: CancellationToken) {
    let mut serving = None;
    loop {
        let now = policy.now().revision.is_some();
        if serving != Some(now) {
            set_health(&health, now).await;
            serving = Some(now);
        }
        if stop.run_until_cancelled(tokio::time::sleep(Duration::from_millis(250))).await.is_none() {
            return;
        }
    }
}

async fn set_health(health: &tonic_health::server::HealthReporter, serving: bool) {
    use tonic_health::ServingStatus::{NotServing, Serving};
    for service in ["", "switchtower.inference.v1.InferenceService"] {
        health.set_service_status(service, if serving { Serving } else { NotServing }).await;
    }
}
