//! The control plane of `dev` and its nodes, in this process: started by the same functions as the processes of
//! production, and over the same wire.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::{HeaderMap, HeaderValue, header};
use switchtower_client::control::{Client, Options as ClientOptions};
use switchtower_control_plane::{
    auth::Tokens,
    start as plane,
    store::{Embedded, embedded},
    telemetry::Telemetry as PlaneTelemetry,
};
use switchtower_data_plane::{
    start::{Options, Running, Source, start},
    sync::{self, Pace, PepperSource, Token},
    telemetry::{Telemetry, names::Generation, spans::Spans},
};
use switchtower_telemetry::export::Exporter;

use super::{place::Place, upstream::Upstream};
use crate::output::{Exit, Failure};

/// The regions that nodes say they run in: those of the examples.
pub(super) const REGIONS: [&str; 2] = ["us-east-1", "us-west-2"];
/// How long open requests may go on after Ctrl-C: nobody but whoever pressed it waits for them.
const DRAIN: Duration = Duration::from_secs(5);
/// As the node's own default.
const MOST_BODY_BYTES: usize = 25_000_000;
/// How long a node waits before it comes back to a control plane of the same process.
const COME_BACK: Duration = Duration::from_millis(200);

/// A node of the tower.
pub(super) struct Node {
    /// Its name.
    pub(super) id: String,
    /// Region that it says it runs in.
    pub(super) region: &'static str,
    pub(super) running: Running,
}

/// A control plane and its nodes.
pub(super) struct Tower {
    pub(super) plane: plane::Running,
    pub(super) nodes: Vec<Node>,
}

impl Tower {
    /// Starts the control plane.
    pub(super) async fn start(place: &Place, listen: SocketAddr) -> Result<Self, Failure> {
        Ok(Tower { plane: control_plane(place, listen).await?, nodes: Vec::new() })
    }

    /// Starts so many nodes in each region. The first of them listens where it is told, the others where they can.
    pub(super) async fn start_nodes(
        &mut self,
        per_region: u16,
        first: (SocketAddr, SocketAddr),
        place: &Place,
        environment: &str,
        upstream: &Upstream,
    ) -> Result<(), Failure> {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        for number in 1..=per_region {
            for region in REGIONS {
                let listen = if self.nodes.is_empty() { first } else { (any, any) };
                let id = format!("{region}-{number}");
                let options = node(place, environment, &id, region, listen, self.plane.address, upstream)?;
                let running = start(options).await.map_err(|error| {
                    Failure::new(Exit::Failed, format!("node {id} cannot start: {error:#}"))
                        .next("give --listen or --admin-listen another address; port 0 takes any that is free")
                })?;
                self.nodes.push(Node { id, region, running });
            }
        }
        Ok(())
    }

    /// A client of the control plane, for what `dev` does itself.
    pub(super) async fn client(&self, place: &Place) -> Result<Client, Failure> {
        let options = ClientOptions::new(format!("http://{}", self.plane.address)).token(&place.operator_token);
        Client::connect(options)
            .await
            .map_err(|error| Failure::new(Exit::Failed, format!("the control plane of `dev` does not answer: {error}")))
    }

    /// Waits until every node serves, or for so long. Gives whether they do.
    pub(super) async fn serves_within(&self, patience: Duration) -> bool {
        let serving = async {
            while self.nodes.iter().any(|node| node.running.policy.now().revision.is_none()) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(patience, serving).await.is_ok()
    }

    /// Waits until every node lets this key in, or for so long.
    pub(super) async fn lets_in_within(&self, bearer: &str, patience: Duration) -> bool {
        let mut headers = HeaderMap::new();
        if let Ok(value) = HeaderValue::from_str(&format!("Bearer {bearer}")) {
            headers.insert(header::AUTHORIZATION, value);
        }
        let known = |node: &Node| node.running.node.keys.load().may_be(&headers, SystemTime::now());
        let known_everywhere = async {
            while !self.nodes.iter().all(known) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(patience, known_everywhere).await.is_ok()
    }

    /// Ends the nodes, and then the control plane.
    pub(super) async fn stop(self) {
        let mut ending = tokio::task::JoinSet::new();
        for node in self.nodes {
            ending.spawn(node.running.stop());
        }
        while ending.join_next().await.is_some() {}
        self.plane.stop().await;
    }
}

async fn control_plane(place: &Place, listen: SocketAddr) -> Result<plane::Running, Failure> {
    let failed = |what: String| Failure::new(Exit::Failed, format!("the control plane cannot start: {what}"));
    let path = place.store()?;
    let store = Embedded::open(&path, embedded::Options::default())
        .map_err(|error| failed(error.to_string()).next("name another folder with --data DIR"))?;
    let (operators, fleet) = place.tokens();
    let tokens =
        Tokens::read(&operators, &fleet).map_err(|problems| failed("its tokens".to_owned()).details(problems))?;
    let options = plane::Options {
        listen,
        admin_listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        tls: None,
        store: Arc::new(store),
        tokens: Arc::new(tokens),
        peppers: Arc::new(place.peppers.clone()),
        replica: "dev".to_owned(),
        telemetry: Arc::new(PlaneTelemetry::new(exporter("switchtower-control-plane")?)),
        drain: DRAIN,
    };
    plane::start(options)
        .await
        .map_err(|error| failed(format!("{error:#}")).next("give --control-listen another address; port 0 takes any"))
}

fn node(
    place: &Place,
    environment: &str,
    id: &str,
    region: &str,
    (listen, admin_listen): (SocketAddr, SocketAddr),
    control_plane: SocketAddr,
    upstream: &Upstream,
) -> Result<Options, Failure> {
    let names = Generation::of(std::env::var("OTEL_SEMCONV_STABILITY_OPT_IN").ok().as_deref());
    let spans = exporter("switchtower-node")?.map(|exporter| Spans::new(exporter, names));
    Ok(Options {
        listen,
        admin_listen,
        tls: None,
        source: Source::ControlPlane(Box::new(sync::Options {
            endpoints: vec![format!("http://{control_plane}")],
            ca: None,
            environment: environment.to_owned(),
            node_id: id.to_owned(),
            data: place.node(id),
            token: Token::Fixed(place.fleet_token.clone()),
            pepper: PepperSource::Fixed(place.peppers.clone()),
            // Nobody else is there whom they could overwhelm.
            pace: Pace {
                start_within: Duration::ZERO,
                first_wait: COME_BACK,
                longest_wait: COME_BACK,
                ..Pace::default()
            },
        })),
        region: region.into(),
        provider: upstream.provider.clone(),
        telemetry: Arc::new(Telemetry::new(names, spans)),
        most_body_bytes: MOST_BODY_BYTES,
        drain: DRAIN,
    })
}

fn exporter(service: &'static str) -> Result<Option<Exporter>, Failure> {
    Exporter::from_env(&|name| std::env::var(name).ok(), service).map_err(Failure::usage)
}
