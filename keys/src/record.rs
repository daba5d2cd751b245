//! Keys of callers: how they are made, and the file that holds what is left of them.
//!
//! A key is shown once, when it is made. What is stored is its HMAC under the pepper, so neither the keys file nor the
//! pepper alone lets anyone in. The AWS-style pair of the same key cannot be stored like that, as checking a SigV4
//! signature needs the secret itself: it is derived from the record and the pepper instead, and nowhere stored.

use std::{
    fmt, io,
    path::Path,
    time::{Duration, SystemTime},
};

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    pepper::Pepper,
    private_file,
    strict::{self, Members},
};

/// Randomness that one key takes, in bytes: 10 of its id, 20 of its secret.
pub const KEY_RANDOM_BYTES: usize = ID_RANDOM_BYTES + 20;

const ID_RANDOM_BYTES: usize = 10;
/// Characters of an id: 80 bits in base 32.
pub const ID_LEN: usize = 16;
/// Characters of a bearer key's secret: 160 bits in base 32.
pub const SECRET_LEN: usize = 32;

/// What a bearer key begins with: it tells people, and scanners of leaked secrets, what they have found.
pub const BEARER_PREFIX: &str = "swt_";
/// What an access key id begins with; with the key's id after it, it is as long as AWS's own.
pub const ACCESS_KEY_ID_PREFIX: &str = "SWTK";

/// What is stored of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its public id: 16 characters of `A-Z2-7`.
    pub id: String,
    /// HMAC-SHA256 of the id and the secret, under the pepper.
    pub hash: [u8; 32],
    /// Id of that pepper.
    pub pepper: String,
    /// The caller it speaks for, by the policy's name.
    pub caller: String,
    /// When it was made; whole seconds.
    pub created: SystemTime,
    /// From when on it is refused; whole seconds. `None`: never.
    pub expires: Option<SystemTime>,
    /// When it was revoked; refused ever since, whatever time this is. `None`: it was not.
    pub revoked: Option<SystemTime>,
}

/// A new key's secrets, to be shown once and kept nowhere.
pub struct IssuedKey {
    /// For `authorization: Bearer`.
    pub bearer: String,
    /// For AWS SDKs: `aws_access_key_id`.
    pub access_key_id: String,
    /// For AWS SDKs: `aws_secret_access_key`.
    pub secret_access_key: String,
}

impl fmt::Debug for IssuedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IssuedKey").finish_non_exhaustive()
    }
}

/// Why no key can be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// No policy could hold such a caller.
    #[error("a caller's name is 1 to 128 characters of [a-zA-Z0-9._-], beginning with a letter or a digit")]
    Caller,
    /// It would never work.
    #[error("the key would expire before it begins")]
    Expired,
    /// No file could hold it.
    #[error("the key would expire after the year 9999; leave it out for a key that holds until it is revoked")]
    TooLate,
    /// Not what [`new_key`] could have made.
    #[error("a key is `swt_`, 16 characters of A-Z2-7, `_`, and 32 more of them")]
    Bearer,
}

/// Makes a key. `random` must come from a cryptographic generator and never be used again.
///
/// # Errors
/// A name that no caller can have; an expiry that is not after `now`, or after the year 9999.
pub fn new_key(
    caller: &str,
    pepper: &Pepper,
    now: SystemTime,
    expires: Option<SystemTime>,
    random: &[u8; KEY_RANDOM_BYTES],
) -> Result<(Record, IssuedKey), Invalid> {
    let (id, secret) = random.split_at(ID_RANDOM_BYTES);
    issue(base32(id), &base32(secret), caller, pepper, now, expires)
}

/// The record of a bearer key that exists already, and all its forms: for a key that is chosen and not made. The
/// AWS-style pair is the same whenever key and pepper are.
///
/// # Errors
/// As [`new_key`]; a key that it could not have made.
pub fn known_key(
    bearer: &str,
    caller: &str,
    pepper: &Pepper,
    now: SystemTime,
    expires: Option<SystemTime>,
) -> Result<(Record, IssuedKey), Invalid> {
    let parts = bearer.strip_prefix(BEARER_PREFIX).and_then(|key| key.split_once('_'));
    let (id, secret) =
        parts.filter(|(id, secret)| is_base32(id, ID_LEN) && is_base32(secret, SECRET_LEN)).ok_or(Invalid::Bearer)?;
    issue(id.to_owned(), secret, caller, pepper, now, expires)
}

fn issue(
    id: String,
    secret: &str,
    caller: &str,
    pepper: &Pepper,
    now: SystemTime,
    expires: Option<SystemTime>,
) -> Result<(Record, IssuedKey), Invalid> {
    caller_name(caller).ok_or(Invalid::Caller)?;
    let (created, expires) = (whole_seconds(now), expires.map(whole_seconds));
    if expires.is_some_and(|expires| expires <= created) {
        return Err(Invalid::Expired);
    }
    if expires.is_some_and(|expires| rfc3339(expires).is_none()) {
        return Err(Invalid::TooLate);
    }
    let key = pepper.key();
    let hash = hash(&key, id.as_bytes(), secret.as_bytes());
    let issued = IssuedKey {
        bearer: format!("{BEARER_PREFIX}{id}_{secret}"),
        access_key_id: format!("{ACCESS_KEY_ID_PREFIX}{id}"),
        secret_access_key: secret_access_key(&key, id.as_bytes(), &hash),
    };
    let pepper = pepper.id().to_owned();
    Ok((Record { id, hash, pepper, caller: caller.to_owned(), created, expires, revoked: None }, issued))
}

/// What is hashed of a bearer key. The lengths of id and secret are fixed, so the two cannot run into each other.
#[must_use]
pub fn hashed(id: &[u8], secret: &[u8]) -> Vec<u8> {
    [b"switchtower key v1 ", id, secret].concat()
}

fn hash(pepper: &hmac::Key, id: &[u8], secret: &[u8]) -> [u8; 32] {
    let tag = hmac::sign(pepper, &hashed(id, secret));
    tag.as_ref().try_into().expect("a tag of HMAC-SHA256 is 32 bytes")
}

/// The secret of the AWS-style pair: 40 characters, as AWS's own.
#[must_use]
pub fn secret_access_key(pepper: &hmac::Key, id: &[u8], hash: &[u8; 32]) -> String {
    let tag = hmac::sign(pepper, &[b"switchtower aws v1 ", id, hash].concat());
    STANDARD.encode(&tag.as_ref()[..30])
}

/// A keys file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct File {
    /// In the order they were made.
    pub records: Vec<Record>,
}

impl File {
    /// Reads a keys file.
    ///
    /// # Errors
    /// All its problems, each with its place; none quotes a value.
    pub fn read(bytes: &[u8]) -> Result<Self, Vec<String>> {
        let mut problems = Vec::new();
        let Some(mut members) = Members::of(String::new(), strict::parse(bytes)?, &mut problems) else {
            return Err(problems);
        };
        let keys = members.required("keys").and_then(|keys| match keys {
            Value::Array(keys) => Some(keys),
            _ => {
                members.problem("keys", "not a list");
                None
            }
        });
        members.end();
        let mut records: Vec<Record> = Vec::new();
        let mut seen = std::collections::HashMap::new();
        for (index, value) in keys.unwrap_or_default().into_iter().enumerate() {
            let Some(record) = record(index, value, &mut problems) else { continue };
            if let Some(first) = seen.insert(record.id.clone(), index) {
                problems.push(format!("keys[{index}].id: the same as keys[{first}].id"));
            }
            records.push(record);
        }
        if problems.is_empty() { Ok(File { records }) } else { Err(problems) }
    }

    /// Writes a keys file: whole or not at all, mode 0600.
    ///
    /// # Errors
    /// The file system's; a time after the year 9999.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let keys = self.records.iter().map(document).collect::<Option<Vec<_>>>();
        let keys = keys.ok_or_else(|| io::Error::other("a time of a key is after the year 9999"))?;
        private_file::write(path, format!("{:#}\n", json!({ "keys": keys })).as_bytes())
    }

    /// Revokes the key of this id, unless it is already; false if there is none.
    pub fn revoke(&mut self, id: &str, now: SystemTime) -> bool {
        let Some(record) = self.records.iter_mut().find(|record| record.id == id) else { return false };
        record.revoked.get_or_insert(whole_seconds(now));
        true
    }
}

fn record(index: usize, value: Value, problems: &mut Vec<String>) -> Option<Record> {
    const TIME: &str = "not a time such as 2026-11-22T21:25:42Z";
    let mut members = Members::of(format!("keys[{index}]"), value, problems)?;
    let id = members.text("id", "not 16 characters of A-Z2-7", id);
    let hash = members.text("hash", "not 64 hexadecimal digits", |text| hex::decode(text).ok()?.try_into().ok());
    let pepper = members.text("pepper", "empty", |text| (!text.is_empty()).then(|| text.to_owned()));
    let caller = members.text("caller", "not a caller's name", |text| caller_name(text).map(str::to_owned));
    let created = members.text("created", TIME, read_time);
    let expires = members.optional_text("expires", TIME, read_time);
    let revoked = members.optional_text("revoked", TIME, read_time);
    members.end();
    Some(Record {
        id: id?,
        hash: hash?,
        pepper: pepper?,
        caller: caller?,
        created: created?,
        expires: expires?,
        revoked: revoked?,
    })
}

fn document(record: &Record) -> Option<Value> {
    let mut document = Map::new();
    let mut set = |name: &str, text: String| document.insert(name.to_owned(), Value::String(text));
    set("id", record.id.clone());
    set("hash", hex::encode(record.hash));
    set("pepper", record.pepper.clone());
    set("caller", record.caller.clone());
    set("created", rfc3339(record.created)?);
    if let Some(expires) = record.expires {
        set("expires", rfc3339(expires)?);
    }
    if let Some(revoked) = record.revoked {
        set("revoked", rfc3339(revoked)?);
    }
    Some(Value::Object(document))
}

fn id(text: &str) -> Option<String> {
    is_base32(text, ID_LEN).then(|| text.to_owned())
}

fn is_base32(text: &str, length: usize) -> bool {
    let known = |byte: u8| byte.is_ascii_uppercase() || (b'2'..=b'7').contains(&byte);
    text.len() == length && text.bytes().all(known)
}

/// The rule that the policy has for its names.
fn caller_name(text: &str) -> Option<&str> {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let begins = text.bytes().next()?.is_ascii_alphanumeric();
    (begins && text.len() <= 128 && text.bytes().all(known)).then_some(text)
}

/// The time that [`rfc3339`] writes so; `None` for any other text.
#[must_use]
pub fn read_time(text: &str) -> Option<SystemTime> {
    let time = OffsetDateTime::parse(text, &Rfc3339).ok().map(SystemTime::from)?;
    // An offset can carry it over the edge of what is written.
    rfc3339(time).map(|_| time)
}

/// Such as `2026-11-22T21:25:42Z`; `None` before the year 0 and after 9999, which have no such form.
#[must_use]
pub fn rfc3339(at: SystemTime) -> Option<String> {
    let since = match at.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => time::Duration::try_from(after).ok()?,
        Err(before) => -time::Duration::try_from(before.duration()).ok()?,
    };
    OffsetDateTime::UNIX_EPOCH.checked_add(since)?.format(&Rfc3339).ok()
}

/// Without the fraction, which a file would not keep for anyone's good.
fn whole_seconds(at: SystemTime) -> SystemTime {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    SystemTime::UNIX_EPOCH + Duration::from_secs(since.as_secs())
}

/// RFC 4648, without padding: whole groups of 5 bytes only.
fn base32(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let mut text = String::with_capacity(bytes.len() / 5 * 8);
    for group in bytes.chunks_exact(5) {
        let bits = group.iter().fold(0u64, |bits, byte| bits << 8 | u64::from(*byte));
        text.extend((0..8).rev().map(|at| char::from(ALPHABET[(bits >> (5 * at) & 31) as usize])));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn key(random: u8) -> (Record, IssuedKey) {
        new_key("web", &Pepper::new([7; 32]), at(1_000_000_000), None, &[random; KEY_RANDOM_BYTES]).unwrap()
    }

    #[test]
    fn base32_is_that_of_rfc_4648() {
        let check = |input: &str, expected: &str| assert_eq!(base32(input.as_bytes()), expected);
        check("", "");
        check("fooba", "MZXW6YTB");
        check("foobarfoob", "MZXW6YTBOJTG633C");
    }

    #[test]
    fn a_key_has_the_form_that_its_readers_expect() {
        let (record, issued) = key(0xff);
        assert_eq!(record.id, "7777777777777777");
        assert_eq!(issued.bearer, format!("swt_7777777777777777_{}", "7".repeat(32)));
        assert_eq!(issued.access_key_id, "SWTK7777777777777777");
        assert_eq!(issued.secret_access_key.len(), 40);
    }

    #[test]
    fn a_known_key_is_the_one_that_was_made() {
        let (made, issued) = key(1);
        let known = |bearer: &str| known_key(bearer, "web", &Pepper::new([7; 32]), at(1_000_000_000), None);
        let (record, shown) = known(&issued.bearer).unwrap();
        assert_eq!(record, made);
        assert_eq!((&shown.bearer, &shown.access_key_id), (&issued.bearer, &issued.access_key_id));
        assert_eq!(shown.secret_access_key, issued.secret_access_key);
        let key = issued.bearer.as_str();
        let lower = key.to_ascii_lowercase();
        for other in ["", "swt_", &key[1..], &key[..key.len() - 1], &format!("{key}A"), &key[..20], &lower] {
            assert_eq!(known(other).err(), Some(Invalid::Bearer), "{other}");
        }
    }

    #[test]
    fn hash_and_secret_hang_on_the_pepper_and_on_each_other() {
        let (one, shown) = key(1);
        let (other, other_shown) =
            new_key("web", &Pepper::new([8; 32]), at(1_000_000_000), None, &[1; KEY_RANDOM_BYTES]).unwrap();
        assert_ne!(one.hash, other.hash);
        assert_ne!(shown.secret_access_key, other_shown.secret_access_key);
        assert_eq!(shown.bearer, other_shown.bearer);
    }

    #[test]
    fn a_key_that_nobody_could_use_is_not_made() {
        let check = |caller: &str, expires: Option<u64>, expected: Option<Invalid>| {
            let made = new_key(caller, &Pepper::new([7; 32]), at(100), expires.map(at), &[0; KEY_RANDOM_BYTES]);
            assert_eq!(made.err(), expected, "{caller} {expires:?}");
        };
        check("web-1.eu_x", Some(101), None);
        check(&"a".repeat(128), None, None);
        check("", None, Some(Invalid::Caller));
        check(".web", None, Some(Invalid::Caller));
        check("a b", None, Some(Invalid::Caller));
        check(&"a".repeat(129), None, Some(Invalid::Caller));
        check("web", Some(100), Some(Invalid::Expired));
        check("web", Some(253_402_300_799), None);
        check("web", Some(253_402_300_800), Some(Invalid::TooLate));
        check("web", Some(8_640_000_000_000_000), Some(Invalid::TooLate));
        check("web", Some(i64::MAX as u64), Some(Invalid::TooLate));
    }

    #[test]
    fn debug_shows_no_secret() {
        assert_eq!(format!("{:?}", key(1).1), "IssuedKey { .. }");
    }

    #[test]
    fn a_written_file_reads_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys.json");
        let mut file = File { records: vec![key(1).0, key(2).0] };
        file.records[0].expires = Some(at(2_000_000_000));
        assert!(file.revoke(&key(2).0.id, at(1_100_000_000)));
        assert!(file.revoke(&key(2).0.id, at(1_200_000_000)));
        assert!(!file.revoke("AAAAAAAAAAAAAAAA", at(1)));
        assert_eq!(file.records[1].revoked, Some(at(1_100_000_000)));
        file.write(&path).unwrap();
        assert_eq!(File::read(&std::fs::read(&path).unwrap()).unwrap(), file);
    }

    #[test]
    fn a_time_that_could_not_be_written_is_not_read() {
        let check = |text: &str, expected: bool| assert_eq!(read_time(text).is_some(), expected, "{text}");
        check("2026-11-22T21:25:42Z", true);
        check("9999-12-31T23:59:59Z", true);
        check("9999-12-31T23:59:59-23:59", false);
        check("0000-01-01T00:00:00Z", true);
        check("0000-01-01T00:00:00+23:59", false);
        check("10000-01-01T00:00:00Z", false);
        check("yesterday", false);
    }

    #[test]
    fn all_problems_of_a_file_are_told_at_once_with_their_place() {
        let check = |value: Value, expected: &[&str]| {
            assert_eq!(File::read(value.to_string().as_bytes()).unwrap_err(), expected, "{value}");
        };
        let good = document(&key(1).0).unwrap();
        check(json!(7), &["the file: not an object"]);
        check(json!({ "key": [] }), &["keys: missing", "key: unknown member"]);
        check(json!({ "keys": {} }), &["keys: not a list"]);
        check(
            json!({ "keys": [good, { "id": "short", "hash": "xyz", "created": "yesterday", "expires": 5, "oops": 1 }, 3] }),
            &[
                "keys[1].id: not 16 characters of A-Z2-7",
                "keys[1].hash: not 64 hexadecimal digits",
                "keys[1].pepper: missing",
                "keys[1].caller: missing",
                "keys[1].created: not a time such as 2026-11-22T21:25:42Z",
                "keys[1].expires: not a time such as 2026-11-22T21:25:42Z",
                "keys[1].oops: unknown member",
                "keys[2]: not an object",
            ],
        );
        check(json!({ "keys": [good, good] }), &["keys[1].id: the same as keys[0].id"]);
    }
}
