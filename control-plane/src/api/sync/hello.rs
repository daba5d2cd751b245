//! What a node says of itself, checked once.

use std::{sync::Arc, time::SystemTime};

use switchtower_proto::sync::v1 as sync;

use crate::{
    desired::{Digest, Holding},
    fleet::Schema,
    layout,
};

/// Longest name of a region, and longest version of a program, in characters.
const WORD: usize = 128;
/// Most contents that a node can say it will not take.
const QUARANTINED: usize = 16;

/// A Hello that says what it must.
#[derive(Debug, PartialEq)]
pub(super) struct Hello {
    pub(super) node: Arc<str>,
    pub(super) instance: [u8; 16],
    pub(super) environment: String,
    pub(super) region: String,
    pub(super) build: String,
    pub(super) schema: Schema,
    pub(super) held: Option<sync::Held>,
    pub(super) clock: Option<SystemTime>,
    pub(super) came_back_older: bool,
    pub(super) quarantined: Box<[Digest]>,
}

impl Hello {
    /// # Errors
    /// A sentence on what is wrong.
    pub(super) fn read(hello: sync::Hello) -> Result<Self, String> {
        let name = |name: &str, what: &str| {
            let rule = "1 to 128 characters of [a-zA-Z0-9._-], beginning with a letter or a digit";
            if layout::is_name(name) { Ok(()) } else { Err(format!("{what} must be {rule}")) }
        };
        name(&hello.node_id, "node_id")?;
        name(&hello.environment, "environment")?;
        let came_back_older = hello.boot() == sync::Boot::Reverted;
        let mut schema = hello.schema.unwrap_or_default();
        for names in [&mut schema.members, &mut schema.kinds] {
            names.sort_unstable();
            names.dedup();
        }
        if hello.quarantined.len() > QUARANTINED {
            return Err(format!("quarantined must have at most {QUARANTINED} digests"));
        }
        let quarantined: Result<_, _> =
            hello.quarantined.iter().map(|content| digest(content, "quarantined")).collect();
        Ok(Hello {
            instance: hello.instance.try_into().map_err(|_| "instance must have 16 bytes".to_owned())?,
            node: hello.node_id.into(),
            environment: hello.environment,
            region: word(hello.region, "region")?,
            build: word(hello.build, "build")?,
            schema: Schema { members: schema.members, kinds: schema.kinds },
            held: hello.held,
            clock: hello.clock.and_then(|clock| clock.try_into().ok()),
            came_back_older,
            quarantined: quarantined?,
        })
    }
}

/// What a node holds of this epoch. `None`: nothing, or something of another.
///
/// # Errors
/// A sentence on what is wrong.
pub(super) fn holding(held: Option<&sync::Held>, epoch: &str) -> Result<Option<Holding>, String> {
    let Some(held) = held.filter(|held| held.epoch == epoch) else { return Ok(None) };
    let content = digest(&held.content_digest, "held.content_digest")?;
    let sync::Held { assignment, revision, keys_version: keys, .. } = *held;
    Ok(Some(Holding { assignment, revision, content, keys }))
}

fn digest(bytes: &[u8], what: &str) -> Result<Digest, String> {
    bytes.try_into().map_err(|_| format!("{what} must have 32 bytes"))
}

/// A word that people read in a table.
fn word(word: String, what: &str) -> Result<String, String> {
    if word.chars().count() <= WORD && !word.chars().any(char::is_control) {
        Ok(word)
    } else {
        Err(format!("{what} must have at most {WORD} characters and no control characters"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello() -> sync::Hello {
        sync::Hello {
            node_id: "node-1".to_owned(),
            instance: vec![7; 16],
            environment: "prod".to_owned(),
            ..sync::Hello::default()
        }
    }

    #[test]
    fn a_hello_that_says_nothing_is_told_what_it_lacks() {
        let check = |change: fn(&mut sync::Hello), expected: Result<(), &str>| {
            let mut hello = hello();
            change(&mut hello);
            match (Hello::read(hello), expected) {
                (Ok(_), Ok(())) => {}
                (Err(told), Err(expected)) => assert!(told.starts_with(expected), "{told:?} for {expected:?}"),
                (read, expected) => panic!("{read:?} for {expected:?}"),
            }
        };
        check(|_| {}, Ok(()));
        check(|hello| hello.node_id.clear(), Err("node_id must be"));
        check(|hello| hello.node_id = "a/b".to_owned(), Err("node_id must be"));
        check(|hello| hello.environment.clear(), Err("environment must be"));
        check(|hello| hello.instance.truncate(15), Err("instance must have 16"));
        check(|hello| hello.region = "a\nb".to_owned(), Err("region must have"));
        check(|hello| hello.build = "b".repeat(129), Err("build must have"));
        check(|hello| hello.quarantined = vec![vec![0; 31]], Err("quarantined must have 32"));
        check(|hello| hello.quarantined = vec![vec![0; 32]; 17], Err("quarantined must have at most"));
    }

    #[test]
    fn what_is_held_of_another_epoch_counts_as_nothing() {
        let held = |epoch: &str, bytes| sync::Held {
            epoch: epoch.to_owned(),
            assignment: 3,
            revision: 2,
            content_digest: vec![1; bytes],
            keys_version: 9,
        };
        let expected = Holding { assignment: 3, revision: 2, content: [1; 32], keys: 9 };
        assert_eq!(holding(Some(&held("a", 32)), "a"), Ok(Some(expected)));
        assert_eq!(holding(Some(&held("b", 32)), "a"), Ok(None));
        assert_eq!(holding(None, "a"), Ok(None));
        assert!(holding(Some(&held("a", 0)), "a").is_err());
    }
}
