//! What an update carries: encoded once for all nodes that lack the same, and shared by them.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use hashbrown::HashMap;
use prost::Message;
use switchtower_policy::items;
use switchtower_proto::{policy::v1::Item, sync::v1 as sync};
use tokio::sync::OnceCell;

use super::session::{Content, Plan};
use crate::desired::{Cells, Desired};

/// Longest part of an update. A node's limit for a message is 4 MiB, and heartbeats must go between.
const PART: usize = 1 << 20;
/// How many bytes of payloads are kept per environment. Beyond, what comes back is encoded again.
const KEPT: usize = 64 << 20;

/// An encoded update, in parts.
#[derive(Debug)]
pub(super) struct Payload {
    pub(super) parts: Box<[Bytes]>,
    pub(super) bytes: usize,
}

/// The payloads of what nodes should hold now.
#[derive(Debug)]
pub(super) struct Payloads {
    cells: Arc<Cells>,
    environments: Mutex<BTreeMap<Arc<str>, Made>>,
    encoded: AtomicU64,
}

/// The payloads that lead to what one environment's nodes should hold.
#[derive(Debug)]
struct Made {
    desired: Arc<Desired>,
    payloads: HashMap<Plan, Arc<OnceCell<Arc<Payload>>>>,
    bytes: usize,
}

impl Payloads {
    pub(super) fn new(cells: Arc<Cells>) -> Self {
        Payloads { cells, environments: Mutex::default(), encoded: AtomicU64::new(0) }
    }

    /// How many were encoded since the start.
    pub(super) fn encoded(&self) -> u64 {
        self.encoded.load(Ordering::Relaxed)
    }

    /// The payload of a plan that was made for `desired`.
    pub(super) async fn of(&self, desired: &Arc<Desired>, plan: &Plan) -> Arc<Payload> {
        let shared = self.shared(desired, plan);
        shared.get_or_init(|| self.encode(desired, plan)).await.clone()
    }

    /// Where the payload is, or will be when the first who wants it has encoded it.
    fn shared(&self, desired: &Arc<Desired>, plan: &Plan) -> Arc<OnceCell<Arc<Payload>>> {
        let mut environments = self.lock();
        let new = || Made { desired: desired.clone(), payloads: HashMap::new(), bytes: 0 };
        let made = environments.entry(desired.environment.clone()).or_insert_with(new);
        if !Arc::ptr_eq(&made.desired, desired) {
            let version = |desired: &Desired| (desired.assignment, desired.keys.version);
            if version(desired) < version(&made.desired) {
                // Whoever still asks for what was before will ask for what is now.
                return Arc::default();
            }
            *made = new();
        }
        made.payloads.entry(*plan).or_default().clone()
    }

    async fn encode(&self, desired: &Arc<Desired>, plan: &Plan) -> Arc<Payload> {
        let base = match &plan.content {
            Content::From(revision, digest) => {
                match self.cells.content(&desired.environment, *revision, digest).await {
                    Ok(base) => base,
                    Err(error) => {
                        tracing::warn!(%error, revision, "a revision cannot be read; nodes that hold it get the whole");
                        None
                    }
                }
            }
            Content::Held | Content::Whole => None,
        };
        let payload = Arc::new(encode(desired, plan, base.as_deref()));
        self.encoded.fetch_add(1, Ordering::Relaxed);
        if let Some(made) = self.lock().get_mut(&desired.environment).filter(|made| Arc::ptr_eq(&made.desired, desired))
        {
            made.bytes += payload.bytes;
            if made.bytes > KEPT {
                made.payloads.clear();
                made.bytes = 0;
            }
        }
        payload
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Made>> {
        self.environments.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Encodes a plan; `base`: the content that a delta starts from, if it is known.
fn encode(desired: &Desired, plan: &Plan, base: Option<&[Item]>) -> Payload {
    let leads_to = &plan.leads_to;
    let content = match plan.content {
        Content::Held => None,
        Content::From(_, digest) => Some(smaller(base.map(|base| (base, &digest[..])), &desired.items)),
        Content::Whole => Some(smaller(None, &desired.items)),
    };
    let keys = plan.keys_from.map(|from_version| sync::KeysDelta {
        from_version,
        to_version: leads_to.keys,
        put: desired.keys.since(from_version).cloned().collect(),
    });
    // What the node goes on to follow was not led to by this call.
    let newest = leads_to.assignment == desired.assignment;
    let body = sync::UpdateBody {
        assignment: Some(sync::Assignment {
            epoch: desired.epoch.as_ref().to_owned(),
            environment: desired.environment.as_ref().to_owned(),
            number: leads_to.assignment,
            revision: leads_to.revision,
            content_digest: leads_to.content.to_vec(),
        }),
        content,
        keys,
        traceparent: if newest { desired.traceparent.clone() } else { String::new() },
    };
    cut(body.encode_to_vec().into())
}

/// The delta from a base with its digest, or the whole where there is no base or the delta is not smaller.
fn smaller(base: Option<(&[Item], &[u8])>, to: &[Item]) -> sync::ContentDelta {
    let whole = || sync::ContentDelta { base_digest: Vec::new(), put: to.to_vec(), removed: Vec::new() };
    let Some((from, digest)) = base else { return whole() };
    let (put, removed) = items::delta(from, to);
    let removed = removed.into_iter().map(|(kind, name)| sync::ItemKey { kind, name }).collect();
    let delta = sync::ContentDelta { base_digest: digest.to_vec(), put, removed };
    let whole = whole();
    if delta.encoded_len() < whole.encoded_len() { delta } else { whole }
}

fn cut(body: Bytes) -> Payload {
    let bytes = body.len();
    let parts = (0..bytes).step_by(PART).map(|from| body.slice(from..bytes.min(from + PART))).collect();
    Payload { parts, bytes }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::desired::{Holding, Keys};

    fn item(name: &str, body: &[u8]) -> Item {
        Item { kind: "route".to_owned(), name: name.to_owned(), body: body.to_vec().into() }
    }

    fn desired(items: Vec<Item>, keys: &[u64]) -> Desired {
        let record = |id: &u64| sync::KeyRecord { id: id.to_string(), ..sync::KeyRecord::default() };
        Desired {
            epoch: "e".into(),
            environment: "prod".into(),
            assignment: 5,
            revision: 4,
            content_digest: items::digest(&items),
            items: items.into(),
            keys: Arc::new(Keys {
                version: keys.last().copied().unwrap_or_default(),
                records: keys.iter().map(|version| (*version, record(version))).collect(),
            }),
            made_at: SystemTime::UNIX_EPOCH,
            traceparent: "00-1".to_owned(),
        }
    }

    fn body(payload: &Payload) -> sync::UpdateBody {
        sync::UpdateBody::decode(&*payload.parts.concat()).unwrap()
    }

    #[test]
    fn an_update_carries_what_is_lacked_and_nothing_else() {
        let base = [item("a", &[1; 100]), item("b", &[2; 100]), item("c", &[3; 100])];
        let desired = desired(vec![item("a", &[1; 100]), item("b", &[9; 100])], &[3, 7, 8]);
        let check = |content, keys_from, expected: Option<(usize, usize, usize)>, keys: &[&str]| {
            let plan = Plan { leads_to: desired.holding(), content, keys_from };
            let body = body(&encode(&desired, &plan, Some(&base)));
            let sizes = body.content.map(|delta| (delta.base_digest.len(), delta.put.len(), delta.removed.len()));
            assert_eq!(sizes, expected, "{plan:?}");
            let ids: Vec<String> = body.keys.into_iter().flat_map(|keys| keys.put).map(|key| key.id).collect();
            assert_eq!(ids, keys, "{plan:?}");
        };
        check(Content::Held, None, None, &[]);
        check(Content::Held, Some(7), None, &["8"]);
        check(Content::Held, Some(5), None, &["7", "8"]);
        check(Content::From(3, [1; 32]), None, Some((32, 1, 1)), &[]);
        check(Content::Whole, Some(0), Some((0, 2, 0)), &["3", "7", "8"]);
    }

    #[test]
    fn a_delta_that_is_not_smaller_is_not_worth_its_base() {
        let desired = desired(vec![item("a", b"1")], &[]);
        let base: Vec<Item> = (0..9).map(|n| item(&n.to_string(), b"")).collect();
        let plan = Plan { leads_to: desired.holding(), content: Content::From(1, [1; 32]), keys_from: None };
        assert!(body(&encode(&desired, &plan, Some(&base))).content.unwrap().base_digest.is_empty());
        assert!(body(&encode(&desired, &plan, None)).content.unwrap().base_digest.is_empty(), "no base is known");
    }

    #[test]
    fn keys_alone_go_under_the_assignment_that_the_node_has() {
        let desired = desired(vec![item("a", b"1")], &[3]);
        let held = Holding { assignment: 4, revision: 3, content: [8; 32], keys: 3 };
        let body = body(&encode(&desired, &Plan { leads_to: held, content: Content::Held, keys_from: Some(0) }, None));
        let assignment = body.assignment.unwrap();
        assert_eq!((assignment.number, assignment.revision), (4, 3));
        assert_eq!((assignment.content_digest, body.traceparent), (vec![8; 32], String::new()));
    }

    #[test]
    fn parts_are_a_mebibyte_and_make_the_whole_again() {
        let check = |bytes: usize, expected: &[usize]| {
            let whole: Vec<u8> = (0..bytes).map(|n| n as u8).collect();
            let payload = cut(whole.clone().into());
            assert_eq!(payload.parts.iter().map(Bytes::len).collect::<Vec<_>>(), expected);
            assert!(payload.parts.concat() == whole);
        };
        check(1, &[1]);
        check(PART, &[PART]);
        check(2 * PART + 1, &[PART, PART, 1]);
    }
}
