//! The pepper's file, held against the keys in the store: under another pepper every key of every caller is wrong, and
//! nothing but the callers would tell.

use std::{collections::BTreeSet, fs, path::Path, time::SystemTime};

use anyhow::{Context, bail};
use prost::Message;
use switchtower_keys::{Pepper, Peppers, random};
use switchtower_proto::store::v1::Key;

use crate::{
    layout,
    store::{Range, Store},
};

/// The peppers of a file. New ones are made, and written there, only where there is neither a file nor any key.
///
/// # Errors
/// The file is none of peppers, or none of those that the keys in the store were made under; the store failed.
pub async fn of(path: &Path, store: &dyn Store, now: SystemTime) -> anyhow::Result<Peppers> {
    let found = Found::in_store(store, now).await.context("the keys in the store cannot be read")?;
    let file = path.display();
    if !path.try_exists().with_context(|| format!("{file} cannot be looked for"))? {
        if found.keys > 0 {
            bail!(
                "{file} is not there, and the store has {} keys made under a pepper: name that pepper's file, or restore \
                 it there; under a new one none of these keys would work",
                found.keys
            );
        }
        let peppers = Peppers::first(Pepper::new(random()?));
        peppers.write(path).with_context(|| format!("{file} cannot be written"))?;
        tracing::warn!(%file, "a new pepper was made: the nodes need this file too");
        return Ok(peppers);
    }
    let bytes = fs::read(path).with_context(|| format!("{file} cannot be read"))?;
    let read = Peppers::read(&bytes).map_err(|problems| anyhow::Error::msg(problems.join("\n")));
    let peppers = read.with_context(|| file.to_string())?;
    let missing: Vec<_> = found.live.iter().filter(|id| peppers.of_id(id).is_none()).map(String::as_str).collect();
    if !missing.is_empty() && missing.len() == found.live.len() {
        bail!(
            "{file} has pepper {}, and every key in the store that holds was made under another ({}): name that one's file",
            peppers.current.id(),
            missing.join(", ")
        );
    }
    if !missing.is_empty() {
        let missing = missing.join(", ");
        tracing::warn!(%file, missing, "keys that hold were made under peppers that the file has not: they do not work");
    }
    Ok(peppers)
}

/// What the store's keys were made under.
#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    /// How many keys there are, in all environments, whether they hold or not.
    keys: usize,
    /// The peppers' ids of those that hold.
    live: BTreeSet<String>,
}

impl Found {
    async fn in_store(store: &dyn Store, now: SystemTime) -> anyhow::Result<Self> {
        let mut found = Found::default();
        for environment in environments(store).await? {
            for entry in store.list(Range::all(layout::keys(&environment))).await? {
                found.keys += 1;
                // One that cannot be read is `verify`'s to tell of; it is there all the same.
                let Ok(key) = Key::decode(&*entry.value) else { continue };
                if holds(&key, now) {
                    found.live.insert(key.pepper);
                }
            }
        }
        Ok(found)
    }
}

fn holds(key: &Key, now: SystemTime) -> bool {
    let expires = key.expires_at.and_then(|at| SystemTime::try_from(at).ok());
    key.revoked_at.is_none() && expires.is_none_or(|expires| expires > now)
}

/// Every environment of which anything is stored: keys can be there before the first revision.
async fn environments(store: &dyn Store) -> anyhow::Result<Vec<String>> {
    let mut environments = Vec::new();
    let mut range = Range { limit: 1, ..Range::all(layout::ENVIRONMENTS) };
    while let Some(entry) = store.list(range.clone()).await?.pop() {
        let rest = entry.key.strip_prefix(layout::ENVIRONMENTS).unwrap_or_default();
        let name = rest.split('/').next().unwrap_or_default().to_owned();
        // Behind all that is stored of this one.
        range.after = format!("{}{name}/{}", layout::ENVIRONMENTS, char::MAX);
        environments.push(name);
    }
    Ok(environments)
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use switchtower_keys::KEY_RANDOM_BYTES;

    use super::*;
    use crate::{
        keys::{Act, Keys},
        store::Memory,
    };

    const NOW: Duration = Duration::from_secs(1_800_000_000);

    fn pepper(number: u8) -> Pepper {
        Pepper::new([number; 32])
    }

    /// A store with a key made under each pepper, in an environment of its own; those of `ending` hold for a minute.
    async fn store(lasting: &[u8], ending: &[u8]) -> Memory {
        let store = Arc::new(Memory::new());
        let all = lasting.iter().map(|number| (*number, None));
        for (number, ends) in all.chain(ending.iter().map(|number| (*number, Some(Duration::from_secs(60))))) {
            let keys = Keys::of(store.clone(), Arc::new(Peppers::first(pepper(number))));
            let act = Act { author: "ann", now: SystemTime::UNIX_EPOCH + NOW, random: u32::from(number) };
            let environment = format!("env{}", "-x".repeat(usize::from(number)));
            keys.issue(&environment, "app", ends, &[number; KEY_RANDOM_BYTES], act).await.unwrap();
        }
        Arc::into_inner(store).unwrap()
    }

    async fn read(path: &Path, store: &Memory) -> Result<Peppers, String> {
        let later = SystemTime::UNIX_EPOCH + NOW + Duration::from_secs(3600);
        of(path, store, later).await.map_err(|error| format!("{error:#}"))
    }

    #[tokio::test]
    async fn a_pepper_is_made_only_for_a_store_without_keys() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pepper.json");
        for (lasting, ending) in [(&[1_u8, 2][..], &[][..]), (&[], &[1])] {
            let refused = read(&path, &store(lasting, ending).await).await.unwrap_err();
            let keys = lasting.len() + ending.len();
            assert!(refused.contains(&format!("is not there, and the store has {keys} keys")), "{refused}");
            assert!(!path.exists());
        }
        let made = read(&path, &store(&[], &[]).await).await.unwrap();
        let again = read(&path, &store(&[], &[]).await).await.unwrap();
        assert_eq!(made.current.id(), again.current.id());
    }

    #[tokio::test]
    async fn a_pepper_that_no_key_was_made_under_is_refused_where_there_are_keys_that_hold() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pepper.json");
        Peppers::first(pepper(1)).rotated(pepper(2)).write(&path).unwrap();
        let check = async |lasting: &[u8], ending: &[u8], fits: bool| {
            let answer = read(&path, &store(lasting, ending).await).await.map(drop);
            assert_eq!(answer.is_ok(), fits, "{lasting:?} {ending:?} {answer:?}");
            assert!(fits || answer.unwrap_err().contains(pepper(3).id()), "it names the pepper that is wanted");
        };
        check(&[], &[], true).await;
        check(&[2], &[], true).await;
        check(&[1], &[], true).await;
        check(&[3, 1], &[], true).await;
        check(&[], &[3], true).await;
        check(&[3], &[], false).await;
        check(&[3, 4], &[1], false).await;
    }
}
