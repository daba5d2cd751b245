//! The one key of `dev`: whose it is follows the policy.
//!
//! It speaks for the first caller of the policy, and where that one is renamed or removed for the one that is first
//! then: whoever tries things out is not to make a key for every edit.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use switchtower_data_plane::{auth::Keyring, infer::Node};
use switchtower_keys::{IssuedKey, Pepper, Peppers, Record, known_key, new_key, random};
use tokio_util::sync::CancellationToken;

use super::first::{self, First};
use crate::output::{Exit, Failure};

/// How often the policy in service is looked at; the node itself looks at the files twice a second.
const POLL: Duration = Duration::from_millis(200);
/// Hashes of this process's one key are stored nowhere, so there is nothing for a secret pepper to guard; a fixed one
/// gives the same AWS pair for the same `--api-key`, run after run.
const PEPPER: [u8; 32] = *b"switchtower dev: never on a disk";

/// The key, and whose it is.
pub(super) struct DevKey {
    /// Its secrets.
    pub(super) issued: IssuedKey,
    record: Record,
    caller: Option<String>,
    revision: Option<Arc<str>>,
}

impl DevKey {
    /// A given key, or a new one. It is nobody's yet.
    pub(super) fn new(given: Option<&str>) -> Result<Self, Failure> {
        let pepper = Pepper::new(PEPPER);
        // Until a policy names a caller the record is in no keyring, so this name lets nobody in.
        let (now, nobody) = (SystemTime::now(), "nobody");
        let made = match given {
            Some(bearer) => known_key(bearer, nobody, &pepper, now, None),
            None => {
                let bytes = random().map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
                new_key(nobody, &pepper, now, None, &bytes)
            }
        };
        let (record, issued) = made.map_err(|invalid| {
            Failure::usage(format!("--api-key: {invalid}")).next(
                "leave it out for a new one, or make one: `switchtower key new --file keys.yaml --caller NAME` (`dev` \
                 takes the key alone and not the file)",
            )
        })?;
        Ok(DevKey { issued, record, caller: None, revision: None })
    }

    /// The caller it speaks for; `None`: the policy has none, or there is no policy yet.
    pub(super) fn caller(&self) -> Option<&str> {
        self.caller.as_deref()
    }

    /// A keyring that lets nobody in.
    pub(super) fn nobodys(&self) -> Result<Keyring, Failure> {
        keyring(&[])
    }

    /// Follows the policy in service: gives what is shown first where the caller is another now.
    pub(super) fn bind(&mut self, policy: &Path, node: &Node) -> Option<First> {
        let snapshot = node.current.load()?;
        if self.revision.as_ref() == Some(snapshot.revision()) {
            return None;
        }
        self.revision = Some(snapshot.revision().clone());
        if self.caller().is_some_and(|caller| snapshot.caller(caller).is_some()) {
            return None;
        }
        let first = first::of(policy, &snapshot)?;
        self.record.caller.clone_from(&first.caller);
        let keyring = keyring(std::slice::from_ref(&self.record)).ok()?;
        node.keys.store(Arc::new(keyring));
        self.caller = Some(first.caller.clone());
        Some(first)
    }

    /// Goes on to follow it until cancelled; tells whenever the caller is another.
    pub(super) async fn follow(
        mut self,
        policy: PathBuf,
        node: Arc<Node>,
        stop: CancellationToken,
        tell: impl Fn(&DevKey, &First),
    ) {
        while stop.run_until_cancelled(tokio::time::sleep(POLL)).await.is_some() {
            if let Some(first) = self.bind(&policy, &node) {
                tracing::info!(caller = first.caller, route = first.route, "the key speaks for this caller now");
                tell(&self, &first);
            }
        }
    }
}

fn keyring(records: &[Record]) -> Result<Keyring, Failure> {
    Keyring::new(records, &Peppers::first(Pepper::new(PEPPER)))
        .map_err(|problems| Failure::new(Exit::Failed, "the key of `dev` cannot be used").details(problems))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "swt_ABCDEFGHIJKLMNOP_ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

    #[test]
    fn a_given_key_is_kept_and_its_aws_pair_is_the_same_every_time() {
        let (a, b) = (DevKey::new(Some(KEY)).unwrap(), DevKey::new(Some(KEY)).unwrap());
        assert_eq!(a.issued.bearer, KEY);
        assert_eq!(a.issued.access_key_id, "SWTKABCDEFGHIJKLMNOP");
        assert_eq!(a.issued.secret_access_key, b.issued.secret_access_key);
        assert_ne!(DevKey::new(None).unwrap().issued.bearer, DevKey::new(None).unwrap().issued.bearer);
    }

    #[test]
    fn what_is_no_key_is_refused_and_not_repeated() {
        for given in ["", "secret", &KEY[..KEY.len() - 1], &KEY.replace('Z', "!")] {
            let failure = DevKey::new(Some(given)).err().unwrap();
            assert_eq!(failure.exit, Exit::Usage, "{given}");
            assert!(given.is_empty() || !failure.to_string().contains(given), "{failure}");
        }
    }
}
