//! What every node of an environment should hold: one cell per environment, in which the latest wins.
//!
//! A cell and not a queue: whoever is slow finds the latest when it looks, and never what came between. It is filled by
//! reading the store back. The store's changes only say when to look, and a minute without any says so too, so that a
//! wake-up that was lost costs a minute and nothing else. When reading fails, what was known stays: the fleet goes on with
//! it, and [`Cells::failure`] says so.
//!
//! Keys are in the cell beside the revision: they are never staged, and a change of keys alone is a new value.

mod read;
mod recent;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use switchtower_proto::{policy::v1::Item, sync::v1::KeyRecord};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub(crate) use self::read::environments;
use self::{read::Read, recent::Recent};
use crate::store::{self, Store};

/// How long what is in the cells is believed without a look.
const EVERY: Duration = Duration::from_secs(60);
/// How long a reading follows another at the earliest: changes that come together are read together.
const APART: Duration = Duration::from_millis(10);
/// After this, a reading that failed is tried again.
const AFTER_FAILURE: Duration = Duration::from_secs(1);
/// How long whoever asks for a reading waits for it.
const PATIENCE: Duration = Duration::from_secs(5);

/// SHA-256 of a content.
pub type Digest = [u8; 32];

/// What the nodes of an environment should hold.
#[derive(Debug)]
pub struct Desired {
    /// Epoch of the store.
    pub epoch: Arc<str>,
    /// The environment.
    pub environment: Arc<str>,
    /// Number of the assignment, 1 or more; never lower than one that was here before.
    pub assignment: u64,
    /// Number of the revision.
    pub revision: u64,
    /// Its content digest; [`Desired::items`] were checked against it.
    pub content_digest: Digest,
    /// Its content.
    pub items: Arc<[Item]>,
    /// The keys, of whatever assignment.
    pub keys: Arc<Keys>,
    /// When the assignment was made, by the clock of the control plane that made it.
    pub made_at: SystemTime,
    /// W3C trace context of the call that made it. Empty: it had none.
    pub traceparent: String,
}

impl Desired {
    /// What a node holds that holds all of it.
    #[must_use]
    pub fn holding(&self) -> Holding {
        let Desired { assignment, revision, content_digest: content, .. } = *self;
        Holding { assignment, revision, content, keys: self.keys.version }
    }
}

/// What a node holds, or should hold, of the store's epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Holding {
    /// Number of the assignment.
    pub assignment: u64,
    /// Number of the revision.
    pub revision: u64,
    /// Its content digest.
    pub content: Digest,
    /// Version of the keys; 0: none.
    pub keys: u64,
}

/// The keys of an environment.
#[derive(Debug, Default, PartialEq)]
pub struct Keys {
    /// Version of the newest change; 0: there never was a key.
    pub version: u64,
    /// Every key that there ever was, with the version of its newest change, ascending by that.
    pub records: Vec<(u64, KeyRecord)>,
}

impl Keys {
    /// What changed after a version.
    pub fn since(&self, version: u64) -> impl Iterator<Item = &KeyRecord> {
        let first = self.records.partition_point(|(changed, _)| *changed <= version);
        self.records[first..].iter().map(|(_, record)| record)
    }
}

/// Why what should be is not known.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store did not answer.
    #[error("the store could not be read")]
    Store(#[from] store::Error),
    /// What the store holds is not what was written.
    #[error("{key}: {what}; restore the store from a copy")]
    Damaged {
        /// Where.
        key: String,
        /// What is wrong there.
        what: String,
    },
    /// Nobody read within some seconds.
    #[error("the store was not read within {} s", PATIENCE.as_secs())]
    Late,
    /// Somebody's reading failed.
    #[error("{0}")]
    Failed(Arc<str>),
}

/// The cells of all environments.
pub struct Cells {
    store: Arc<dyn Store>,
    epoch: Arc<str>,
    environments: Mutex<BTreeMap<Arc<str>, Environment>>,
    /// Readings that were asked for.
    asked: watch::Sender<u64>,
    /// The last reading.
    done: watch::Sender<Done>,
}

/// An environment that has a head.
struct Environment {
    /// Absent while nothing of it could be read.
    cell: Option<watch::Sender<Arc<Desired>>>,
    recent: Recent,
    failure: Option<Arc<str>>,
}

/// How a reading went.
#[derive(Clone, Debug, Default)]
struct Done {
    /// All that was asked for up to here was read. `None`: nothing was read ever.
    asked: Option<u64>,
    /// Why something was not.
    failure: Option<Arc<str>>,
}

/// What there is of an environment.
#[derive(Debug)]
pub enum Found {
    /// Its cell.
    Cell(watch::Receiver<Arc<Desired>>),
    /// There is no such environment.
    Absent,
    /// It is not known whether there is, or what it holds.
    Unknown,
}

impl fmt::Debug for Cells {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cells").field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

impl Cells {
    /// Cells of what the store holds. Nothing is known before [`Cells::run`] has read it.
    #[must_use]
    pub fn new(store: Arc<dyn Store>) -> Self {
        let epoch = store.epoch().into();
        let (asked, done) = (watch::channel(0).0, watch::channel(Done::default()).0);
        Cells { store, epoch, environments: Mutex::default(), asked, done }
    }

    /// Epoch of the store.
    #[must_use]
    pub fn epoch(&self) -> &Arc<str> {
        &self.epoch
    }

    /// Keeps the cells filled, until `stop`.
    pub async fn run(&self, stop: CancellationToken) {
        let mut changes = self.store.changes();
        let mut asked = self.asked.subscribe();
        loop {
            let number = *asked.borrow_and_update();
            changes.borrow_and_update();
            tokio::select! {
                () = stop.cancelled() => return,
                failure = self.read_all() => {
                    self.done.send_replace(Done { asked: Some(number), failure });
                }
            }
            let wait = if self.done.borrow().failure.is_some() { AFTER_FAILURE } else { APART };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
            tokio::select! {
                () = stop.cancelled() => return,
                // A store that is gone changes no more, and is looked at every minute all the same.
                Ok(()) = changes.changed() => {}
                Ok(()) = asked.changed() => {}
                () = tokio::time::sleep(if self.done.borrow().failure.is_some() { AFTER_FAILURE } else { EVERY }) => {}
            }
        }
    }

    /// Waits until all that was in the store by now is in the cells. Any number of callers cost one reading.
    ///
    /// # Errors
    /// Something could not be read, or [`Cells::run`] is not there to do it.
    pub async fn read_again(&self) -> Result<(), Error> {
        let mut done = self.done.subscribe();
        let mut mine = 0;
        self.asked.send_modify(|asked| {
            *asked += 1;
            mine = *asked;
        });
        let read = done.wait_for(|done| done.asked >= Some(mine));
        let done = tokio::time::timeout(PATIENCE, read).await.map_err(|_| Error::Late)?.map_err(|_| Error::Late)?;
        done.failure.clone().map_or(Ok(()), |failure| Err(Error::Failed(failure)))
    }

    /// Why the last reading failed, in whole or in part. `None`: it did not, or there was none yet.
    #[must_use]
    pub fn failure(&self) -> Option<Arc<str>> {
        self.done.borrow().failure.clone()
    }

    /// Whether the store was read, with whatever result: before that nothing is known of any environment.
    #[must_use]
    pub fn has_read(&self) -> bool {
        self.done.borrow().asked.is_some()
    }

    /// The cell of an environment.
    #[must_use]
    pub fn find(&self, environment: &str) -> Found {
        match (self.lock().get(environment), &*self.done.borrow()) {
            (Some(Environment { cell: Some(cell), .. }), _) => Found::Cell(cell.subscribe()),
            (None, Done { asked: Some(_), failure: None }) => Found::Absent,
            _ => Found::Unknown,
        }
    }

    /// What the nodes of an environment should hold now. `None`: there is no such environment, or nothing of it is known.
    #[must_use]
    pub fn get(&self, environment: &str) -> Option<Arc<Desired>> {
        self.lock().get(environment)?.cell.as_ref().map(|cell| cell.borrow().clone())
    }

    /// The environments of which something is known, ascending.
    #[must_use]
    pub fn environments(&self) -> Vec<Arc<str>> {
        self.lock().iter().filter(|(_, known)| known.cell.is_some()).map(|(name, _)| name.clone()).collect()
    }

    /// A content that was served before, from memory or else from the store. `None`: it is no revision of this store.
    ///
    /// # Errors
    /// As [`Cells::read_again`].
    pub async fn content(
        &self,
        environment: &str,
        revision: u64,
        digest: &Digest,
    ) -> Result<Option<Arc<[Item]>>, Error> {
        let recent = self.lock().get(environment).and_then(|known| known.recent.get(digest));
        match recent {
            Some(items) => Ok(Some(items)),
            None => Read { store: &*self.store }.content_of(environment, revision, digest).await,
        }
    }

    /// Reads every environment; why the first that could not be read was not.
    async fn read_all(&self) -> Option<Arc<str>> {
        let names = match environments(&*self.store).await.map_err(Error::Store) {
            Ok(names) => names,
            Err(error) => return Some(self.tell("", &error)),
        };
        let read = Read { store: &*self.store };
        let mut failure = None;
        for name in names {
            let known = self.get(&name);
            match read.desired(&self.epoch, &name, known.as_deref()).await {
                Ok(read) => self.keep(name, known, read),
                Err(error) => {
                    let why = self.tell(&name, &error);
                    self.lock().entry(name.into()).or_insert_with(Environment::empty).failure = Some(why.clone());
                    failure.get_or_insert(why);
                }
            }
        }
        failure
    }

    /// Puts what was read into its cell, if it is another than before.
    fn keep(&self, name: String, known: Option<Arc<Desired>>, read: Option<Desired>) {
        let mut environments = self.lock();
        let Some(desired) = read else {
            // Without a head it has keys at most, and no node that could hold anything.
            environments.remove(name.as_str());
            return;
        };
        let environment = environments.entry(name.into()).or_insert_with(Environment::empty);
        environment.failure = None;
        if known
            .is_some_and(|known| (known.assignment, known.keys.version) == (desired.assignment, desired.keys.version))
        {
            return;
        }
        environment.recent.keep(desired.content_digest, desired.items.clone());
        let desired = Arc::new(desired);
        match &environment.cell {
            Some(cell) => drop(cell.send_replace(desired)),
            None => environment.cell = Some(watch::channel(desired).0),
        }
    }

    /// Tells of a failure, once for as long as it is the same.
    fn tell(&self, environment: &str, error: &Error) -> Arc<str> {
        let why: Arc<str> = with_causes(error).into();
        let told = match self.lock().get(environment) {
            Some(known) => known.failure.clone(),
            None => self.failure(),
        };
        if told.as_deref() != Some(&*why) {
            tracing::error!(environment, why = &*why, "what nodes should serve cannot be read; what was known stays");
        }
        why
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Environment>> {
        self.environments.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Environment {
    fn empty() -> Self {
        Environment { cell: None, recent: Recent::default(), failure: None }
    }
}

/// An error and what caused it, in one line.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut told = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        told = format!("{told}: {error}");
        cause = error.source();
    }
    told
}
