//! Which nodes there are, in the store: written when a node is first seen or says something else of itself, so that a
//! control plane that starts knows whom to expect.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use prost::Message;
use switchtower_proto::store::v1 as stored;

use super::state::State;
use crate::{
    desired::environments,
    layout,
    store::{self, Condition, Entry, MAX_WRITES, Outcome, Range, Store, Transaction, Version},
};

/// Most transactions of one environment at a time: a fleet that is new is written within some seconds, and operators'
/// transactions go in between.
const TRANSACTIONS: usize = 10;

/// What the store says of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) version: Version,
    pub(super) region: Arc<str>,
    pub(super) build: Arc<str>,
    pub(super) first_seen_at: SystemTime,
    pub(super) last_seen_at: SystemTime,
}

/// What the store should say of a node.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) id: Arc<str>,
    /// What it says now was written by this. `None`: it says nothing.
    pub(super) before: Option<Version>,
    /// Region, build, first and last sight. `None`: the node is forgotten.
    pub(super) kept: Option<(Arc<str>, Arc<str>, SystemTime, SystemTime)>,
}

/// All nodes that the store knows, by environment.
pub(super) async fn read(store: &dyn Store) -> Result<Vec<(String, Vec<(String, Kept)>)>, store::Error> {
    let mut read = Vec::new();
    for environment in environments(store).await? {
        let prefix = layout::nodes(&environment);
        let entries = store.list(Range::all(prefix.clone())).await?;
        let kept = entries.iter().filter_map(|entry| {
            let id = entry.key.strip_prefix(&prefix).filter(|id| layout::is_name(id))?;
            Some((id.to_owned(), kept(entry)?))
        });
        read.push((environment, kept.collect()));
    }
    Ok(read)
}

/// Writes what the store lacks of an environment's nodes. What fails is tried again at the next call.
pub(super) async fn write(store: &dyn Store, environment: &str, state: &Mutex<State>, now: SystemTime) {
    for _ in 0..TRANSACTIONS {
        let changes = lock(state).unwritten(MAX_WRITES, now);
        let Some(transaction) = transaction(environment, &changes) else { return };
        match store.commit(transaction).await {
            Ok(Outcome::Committed(version)) => {
                let mut state = lock(state);
                state.fails(false);
                changes.iter().for_each(|change| state.written(&change.id, change.written(version), now));
            }
            Ok(Outcome::Conflict) => {
                // Another control plane wrote one of them.
                lock(state).not_written(&changes);
                if let Err(error) = read_again(store, environment, state, &changes, now).await {
                    tracing::debug!(environment, %error, "which nodes there are could not be read");
                }
                return;
            }
            Err(error) => {
                let mut state = lock(state);
                state.not_written(&changes);
                if state.fails(true) {
                    let nodes = changes.len();
                    tracing::warn!(environment, nodes, %error, "which nodes there are cannot be written; it is tried on");
                }
                return;
            }
        }
    }
}

async fn read_again(
    store: &dyn Store,
    environment: &str,
    state: &Mutex<State>,
    changes: &[Change],
    now: SystemTime,
) -> Result<(), store::Error> {
    for change in changes {
        let entry = store.get(&layout::node(environment, &change.id)).await?;
        lock(state).written(&change.id, entry.as_ref().and_then(kept), now);
    }
    Ok(())
}

fn transaction(environment: &str, changes: &[Change]) -> Option<Transaction> {
    let condition = |change: &Change| {
        let key = layout::node(environment, &change.id);
        match change.before {
            Some(version) => Condition::Unchanged(key, version),
            None => Condition::Absent(key),
        }
    };
    let (first, rest) = changes.split_first()?;
    let mut transaction = Transaction::when(condition(first));
    for change in rest {
        transaction = transaction.and_when(condition(change));
    }
    Some(changes.iter().fold(transaction, |transaction, change| {
        let key = layout::node(environment, &change.id);
        match &change.kept {
            None => transaction.delete(key),
            Some((region, build, first_seen_at, last_seen_at)) => {
                let node = stored::Node {
                    id: change.id.as_ref().to_owned(),
                    region: region.as_ref().to_owned(),
                    build: build.as_ref().to_owned(),
                    first_seen_at: Some((*first_seen_at).into()),
                    last_seen_at: Some((*last_seen_at).into()),
                };
                transaction.put(key, node.encode_to_vec())
            }
        }
    }))
}

impl Change {
    fn written(&self, version: Version) -> Option<Kept> {
        let (region, build, first_seen_at, last_seen_at) = self.kept.clone()?;
        Some(Kept { version, region, build, first_seen_at, last_seen_at })
    }
}

/// What an entry says. `None`: it cannot be read, as one that a newer control plane wrote.
fn kept(entry: &Entry) -> Option<Kept> {
    let node = stored::Node::decode(&*entry.value).ok()?;
    let at = |at: Option<prost_types::Timestamp>| at.and_then(|at| SystemTime::try_from(at).ok());
    let first_seen_at = at(node.first_seen_at).unwrap_or(SystemTime::UNIX_EPOCH);
    let last_seen_at = at(node.last_seen_at).unwrap_or(first_seen_at);
    let (region, build) = (node.region.into(), node.build.into());
    Some(Kept { version: entry.version, region, build, first_seen_at, last_seen_at })
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
