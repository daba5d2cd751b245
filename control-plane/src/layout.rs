//! Where things stand in the store.
//!
//! ```text
//! chunk/SHA256                            a part of a revision's encoded content, at most 1 MiB; never changed or deleted
//! environment/NAME/head                   store.v1.Head: newest revision, assignment; every change compares it
//! environment/NAME/revision/NUMBER        policy.v1.RevisionRecord, as it was hashed; never changed or deleted
//! environment/NAME/key/ID                 store.v1.Key; never deleted
//! environment/NAME/node/ID                store.v1.Node
//! event/TIME-RANDOM                       store.v1.Event; never changed
//! replica/NAME                            a control plane that runs, under its lease
//! ```
//!
//! Numbers have twenty digits, so that the order of keys is theirs.

/// Prefix of all environments.
pub const ENVIRONMENTS: &str = "environment/";
/// Prefix of all events, in the order of their times.
pub const EVENTS: &str = "event/";
/// Prefix of all replicas.
pub const REPLICAS: &str = "replica/";

/// Of a chunk, by its digest.
#[must_use]
pub fn chunk(digest: &[u8]) -> String {
    format!("chunk/{}", hex::encode(digest))
}

/// Of an environment's head.
#[must_use]
pub fn head(environment: &str) -> String {
    format!("{ENVIRONMENTS}{environment}/head")
}

/// The environment whose head this is.
#[must_use]
pub fn environment_of_head(key: &str) -> Option<&str> {
    key.strip_prefix(ENVIRONMENTS)?.strip_suffix("/head").filter(|name| !name.contains('/'))
}

/// Prefix of an environment's revisions.
#[must_use]
pub fn revisions(environment: &str) -> String {
    format!("{ENVIRONMENTS}{environment}/revision/")
}

/// Of a revision.
#[must_use]
pub fn revision(environment: &str, number: u64) -> String {
    format!("{}{number:020}", revisions(environment))
}

/// Prefix of an environment's keys.
#[must_use]
pub fn keys(environment: &str) -> String {
    format!("{ENVIRONMENTS}{environment}/key/")
}

/// Of a key.
#[must_use]
pub fn key(environment: &str, id: &str) -> String {
    format!("{}{id}", keys(environment))
}

/// Prefix of an environment's nodes.
#[must_use]
pub fn nodes(environment: &str) -> String {
    format!("{ENVIRONMENTS}{environment}/node/")
}

/// Of a node.
#[must_use]
pub fn node(environment: &str, id: &str) -> String {
    format!("{}{id}", nodes(environment))
}

/// Of an event: `at` in nanoseconds since 1970, and something that no other event of that moment has.
#[must_use]
pub fn event(at: u64, random: u32) -> String {
    format!("{EVENTS}{at:020}-{random:08x}")
}

/// Of a replica.
#[must_use]
pub fn replica(name: &str) -> String {
    format!("{REPLICAS}{name}")
}

/// Whether an environment may have this name: it stands in keys, and it is the policy's rule for names.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    name.len() <= 128
        && name.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
        && name.bytes().all(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_in_the_order_of_their_numbers_and_times() {
        assert!(revision("prod", 9) < revision("prod", 10));
        assert!(event(9, u32::MAX) < event(10, 0));
    }

    #[test]
    fn no_name_reaches_into_another_s_keys() {
        let check = |name: &str, expected: bool| assert_eq!(is_name(name), expected, "{name}");
        check("prod", true);
        check("prod-eu_1.2", true);
        check("", false);
        check(".prod", false);
        check("prod/head", false);
        check(&"a".repeat(129), false);
        assert_eq!(environment_of_head(&head("prod")), Some("prod"));
        assert_eq!(environment_of_head(&revision("prod", 1)), None);
        assert_eq!(environment_of_head("environment/a/b/head"), None);
    }
}
