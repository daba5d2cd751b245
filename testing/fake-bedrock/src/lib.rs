//! A scripted Bedrock Runtime, for tests, benchmarks and `switchtower dev`.
//!
//! It is a server and not a trait's second implementation, because what breaks in a provider breaks on the wire: in
//! frames, checksums, connections and time. So the whole path of the data plane is tested against it, the adapter
//! included. It serves Converse and ConverseStream over HTTP/1.1 and HTTP/2 (by prior knowledge), one port for each
//! region, does what the [`Script`] says, and counts what reached it.
//!
//! It checks no signature, knows no model's limits, and takes no InvokeModel: what is signed is kept for tests to look
//! at ([`FakeBedrock::requests`]). Apart from latencies it is deterministic: chance comes from a seed.
#![warn(missing_docs)]

mod answer;
mod body;
mod control;
mod counts;
mod door;
mod duration;
mod exception;
mod fleet;
mod frame;
mod play;
mod region;
mod request;
mod runtime;
mod script;
mod throttle;

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use arc_swap::ArcSwap;
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{counts::Ring, door::Door, fleet::Fleet, region::Region};
pub use crate::{
    counts::{Captured, Counts, RegionCounts},
    exception::Exception,
    frame::StreamException,
    script::{Behaviour, Break, Fail, InStream, Invalid, Outage, RegionScript, Script, Throttle, Usage},
};

/// What a fake is started with.
#[derive(Clone, Debug)]
pub struct Options {
    /// Their names, each once.
    pub regions: Vec<String>,
    /// The address of all ports.
    pub listen: IpAddr,
    /// One for each region, in their order; `None`: the system chooses.
    pub ports: Option<Vec<u16>>,
    /// Where the control endpoint listens; `None`: there is none.
    pub control: Option<SocketAddr>,
    /// What is played at first.
    pub script: Script,
    /// What chance, request ids and ids of tool calls follow from.
    pub seed: u64,
    /// How many of the last requests are kept; 0: none, as benchmarks want it.
    pub keep_requests: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            regions: vec!["us-east-1".to_owned()],
            listen: Ipv4Addr::LOCALHOST.into(),
            ports: None,
            control: None,
            script: Script::default(),
            seed: 0,
            keep_requests: 256,
        }
    }
}

/// Why a fake did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The script names other regions than there are, or asks for what cannot be.
    #[error("the script cannot be followed")]
    Script(#[source] Invalid),
    /// There is no region, one is named twice, or there are more or fewer ports than regions.
    #[error("{0}")]
    Regions(String),
    /// A port cannot be had.
    #[error("cannot listen on {address}")]
    Listen {
        /// The port.
        address: SocketAddr,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

/// A fake that runs. Dropping it ends it: its ports close, and its connections with them.
#[derive(Debug)]
pub struct FakeBedrock {
    fleet: Arc<Fleet>,
    control: Option<SocketAddr>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl FakeBedrock {
    /// Listens in every region. When it returns, clients can connect.
    ///
    /// # Errors
    /// See [`StartError`]; then nothing is left listening.
    pub async fn start(options: Options) -> Result<FakeBedrock, StartError> {
        let addresses = addresses(&options)?;
        options.script.check(Some(&options.regions)).map_err(StartError::Script)?;
        let known_models = Arc::new(ArcSwap::from_pointee(options.script.known_models.clone()));
        let ring = Arc::new(Ring::new(options.keep_requests));
        let (mut regions, mut listeners) = (BTreeMap::new(), Vec::new());
        for (index, (name, address)) in options.regions.iter().zip(addresses).enumerate() {
            let listened = Door::open(address).map_err(|source| StartError::Listen { address, source })?;
            let nothing = RegionScript::default();
            let script = options.script.regions.get(name).unwrap_or(&nothing);
            let seed = options.seed.wrapping_add(index as u64 * 0x1000_0001);
            let region = Region::new(name, script, Arc::clone(&known_models), Arc::clone(&ring), seed);
            regions.insert(name.clone(), (Arc::new(region), Arc::new(listened.0)));
            listeners.push((name, listened.1));
        }
        let control = match options.control {
            Some(address) => {
                let bound = TcpListener::bind(address).await;
                Some(bound.map_err(|source| StartError::Listen { address, source })?)
            }
            None => None,
        };
        let given = ArcSwap::from_pointee(options.script);
        let fleet = Arc::new(Fleet { names: options.regions.clone(), regions, ring, known_models, given });
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        for (name, listener) in listeners {
            let (region, door) = fleet.regions[name].clone();
            tasks.spawn(door.run(listener, region, tasks.clone(), stop.clone()));
        }
        let address = control.as_ref().and_then(|listener| listener.local_addr().ok());
        if let Some(listener) = control {
            tasks.spawn(control::run(listener, Arc::clone(&fleet), tasks.clone(), stop.clone()));
        }
        Ok(FakeBedrock { fleet, control: address, tasks, stop })
    }

    /// The URL of a region, such as `http://127.0.0.1:9001`.
    ///
    /// # Panics
    /// There is no such region.
    #[must_use]
    pub fn endpoint(&self, region: &str) -> String {
        match self.fleet.regions.get(region) {
            Some((_, door)) => format!("http://{}", door.address()),
            None => panic!("there is no region {region} here, only {}", self.fleet.names.join(", ")),
        }
    }

    /// The URL of the control endpoint, where there is one.
    #[must_use]
    pub fn control_url(&self) -> Option<String> {
        self.control.map(|address| format!("http://{address}"))
    }

    /// The names of the regions, in the order of the options.
    #[must_use]
    pub fn regions(&self) -> &[String] {
        &self.fleet.names
    }

    /// Replaces what a region does for models without a behaviour of their own.
    ///
    /// It holds for every request that arrives after this returns. Of an outage, what is connected hears at once but
    /// in its own time; a connection that races with it is reset instead of refused. After the end of one, clients
    /// can connect when this returns.
    ///
    /// # Panics
    /// There is no such region, or the behaviour cannot be: this is for tests, where [`FakeBedrock::try_behave`] would
    /// be unwrapped.
    pub fn behave(&self, region: &str, behaviour: Behaviour) {
        if let Err(invalid) = self.try_behave(region, None, behaviour) {
            panic!("{invalid}");
        }
    }

    /// Replaces what a region does for one model.
    ///
    /// # Panics
    /// As [`FakeBedrock::behave`].
    pub fn behave_model(&self, region: &str, model: &str, behaviour: Behaviour) {
        if let Err(invalid) = self.try_behave(region, Some(model), behaviour) {
            panic!("{invalid}");
        }
    }

    /// Replaces what a region does for one model, or for all that have no behaviour of their own.
    ///
    /// # Errors
    /// There is no such region, or the behaviour cannot be; then nothing changed.
    pub fn try_behave(&self, region: &str, model: Option<&str>, behaviour: Behaviour) -> Result<(), Invalid> {
        self.fleet.behave(region, model, behaviour)
    }

    /// Replaces the whole script.
    ///
    /// # Errors
    /// It names other regions than there are, or asks for what cannot be; then nothing changed.
    pub fn play(&self, script: Script) -> Result<(), Invalid> {
        self.fleet.play(script)
    }

    /// Goes back to the script that was given last as a whole, without its quotas, failures, breaks and outages.
    pub fn heal(&self) {
        self.fleet.heal();
    }

    /// What was counted.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.fleet.counts()
    }

    /// The last requests, the oldest first, as many as [`Options::keep_requests`] says.
    #[must_use]
    pub fn requests(&self) -> Vec<Captured> {
        self.fleet.requests(usize::MAX)
    }

    /// Counts anew, and forgets the requests. What is going on stays counted as going on.
    pub fn reset_counts(&self) {
        self.fleet.reset_counts();
    }

    /// Ends it, and waits until its ports are closed and its connections are gone.
    pub async fn shutdown(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for FakeBedrock {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn addresses(options: &Options) -> Result<Vec<SocketAddr>, StartError> {
    let count = options.regions.len();
    if count == 0 {
        return Err(StartError::Regions("there must be at least one region".to_owned()));
    }
    for (index, name) in options.regions.iter().enumerate() {
        if name.is_empty() || options.regions[..index].contains(name) {
            return Err(StartError::Regions(format!("each region needs a name of its own, unlike `{name}`")));
        }
    }
    let ports = options.ports.clone().unwrap_or_else(|| vec![0; count]);
    if ports.len() != count {
        let message = format!("there are {count} regions and {} ports", ports.len());
        return Err(StartError::Regions(message));
    }
    Ok(ports.into_iter().map(|port| SocketAddr::new(options.listen, port)).collect())
}
