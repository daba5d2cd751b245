//! All live keys of a node, by id.
//!
//! Built whole from the records and replaced whole when they change. What is derived for signatures is kept beside
//! its key, so it goes when the key goes.

use std::{collections::HashMap, fmt, sync::Arc, time::SystemTime};

use arc_swap::ArcSwap;
use aws_lc_rs::hmac;
use http::HeaderMap;
use switchtower_keys::{self as keys, ACCESS_KEY_ID_PREFIX, ID_LEN, PEPPER_BYTES, Pepper, Peppers, Record};

use super::{Bearer, Credentials, Signed, sigv4};

/// Signing keys kept per key: one holds for a day and a region, and around midnight two days are in use.
const SIGNING_KEYS: usize = 4;

/// Why credentials let nobody in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// None, unreadable, unknown, wrong, revoked, or a key past its expiry: all the same.
    #[error("the key or signature is missing or wrong")]
    Wrong,
    /// The signature is right, but made more than five minutes before or after now.
    #[error("the signature is too old or from the future")]
    Expired,
}

/// The keys that let someone in.
pub struct Keyring {
    entries: HashMap<[u8; ID_LEN], Entry>,
    /// Stands in for an unknown id, so that a bearer key of one takes as long as a wrong secret. (A signature may take
    /// longer by the derivation of its key: what that tells, the access key id, is no secret.)
    nobody: Entry,
}

struct Entry {
    caller: Box<str>,
    pepper: hmac::Key,
    hash: [u8; 32],
    expires: Option<SystemTime>,
    /// Newest first. Only a right signature adds one: strangers who know an id cannot push out what is in use.
    signing_keys: ArcSwap<Vec<Arc<SigningKey>>>,
}

struct SigningKey {
    date: Box<str>,
    region: Box<str>,
    key: hmac::Key,
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring").field("keys", &self.entries.len()).finish_non_exhaustive()
    }
}

impl Keyring {
    /// The keyring of a node that knows no keys yet: it lets nobody in.
    #[must_use]
    pub fn empty() -> Self {
        // Nothing is ever compared under this pepper but what stands in for an unknown id.
        Self::of_what_holds(&[], &Peppers::first(Pepper::new([0; PEPPER_BYTES]))).0
    }

    /// The keyring of these records, for which every one of them must hold. Revoked ones are left out.
    ///
    /// # Errors
    /// All the records that no live pepper fits, or that have the same id.
    pub fn new(records: &[Record], peppers: &Peppers) -> Result<Self, Vec<String>> {
        let (keyring, problems) = Self::of_what_holds(records, peppers);
        if problems.is_empty() { Ok(keyring) } else { Err(problems) }
    }

    /// The keyring of those records that hold, and what is wrong with the others: they let nobody in. One that is wrong
    /// must not keep the others from being revoked.
    #[must_use]
    pub fn of_what_holds(records: &[Record], peppers: &Peppers) -> (Self, Vec<String>) {
        let mut problems = Vec::new();
        let mut entries = HashMap::with_capacity(records.len());
        let mut twice = Vec::new();
        for record in records.iter().filter(|record| record.revoked.is_none()) {
            match entry(record, peppers) {
                Err(problem) => problems.push(problem),
                Ok((id, entry)) => {
                    if entries.insert(id, entry).is_some() {
                        problems.push(format!("key {}: there are two of it", record.id));
                        twice.push(id);
                    }
                }
            }
        }
        // Which of them was meant is not ours to choose.
        twice.iter().for_each(|id| drop(entries.remove(id)));
        let nobody = Entry {
            caller: "".into(),
            pepper: peppers.current.key(),
            hash: [0; 32],
            expires: Some(SystemTime::UNIX_EPOCH),
            signing_keys: ArcSwap::default(),
        };
        (Keyring { entries, nobody }, problems)
    }

    /// The caller that these credentials speak for.
    ///
    /// # Errors
    /// Why they let nobody in.
    pub fn authenticate(&self, credentials: &Credentials, now: SystemTime) -> Result<&str, Denied> {
        match credentials {
            Credentials::None | Credentials::Unreadable => Err(Denied::Wrong),
            Credentials::Bearer(bearer) => self.bearer(bearer, now),
            Credentials::Signed(signed) => self.signed(signed, now),
        }
    }

    /// Whether a request with this head can be a caller's, as far as that can be told before its body is there: a bearer
    /// key is judged wholly, of a signature only whether the key that it names is live. What is `false` here is denied by
    /// [`Keyring::authenticate`], so its body need not be waited for.
    #[must_use]
    pub fn may_be(&self, headers: &HeaderMap, now: SystemTime) -> bool {
        let mut signed_with = None;
        let credentials = Credentials::read(headers, |authorization| {
            signed_with = sigv4::access_key_id(authorization).and_then(id_of);
            None
        });
        let live = |id: [u8; ID_LEN]| self.entries.get(&id).is_some_and(|entry| entry.caller_at(now).is_ok());
        match credentials {
            Credentials::Bearer(bearer) => self.bearer(&bearer, now).is_ok(),
            Credentials::None | Credentials::Signed(_) | Credentials::Unreadable => signed_with.is_some_and(live),
        }
    }

    /// How many keys are live.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it lets nobody in at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn bearer(&self, bearer: &Bearer, now: SystemTime) -> Result<&str, Denied> {
        let entry = self.entries.get(&bearer.id).unwrap_or(&self.nobody);
        hmac::verify(&entry.pepper, &keys::hashed(&bearer.id, &bearer.secret), &entry.hash)
            .map_err(|_| Denied::Wrong)?;
        entry.caller_at(now)
    }

    fn signed(&self, signed: &Signed, now: SystemTime) -> Result<&str, Denied> {
        let id = id_of(signed.access_key_id()).ok_or(Denied::Wrong)?;
        let entry = self.entries.get(&id).unwrap_or(&self.nobody);
        let kept = entry.signing_keys.load();
        let right = match kept.iter().find(|kept| *kept.date == *signed.date() && *kept.region == *signed.region()) {
            Some(kept) => signed.is_by(&kept.key),
            None => {
                let key = signed.signing_key(&keys::secret_access_key(&entry.pepper, &id, &entry.hash));
                let right = signed.is_by(&key);
                if right {
                    entry.keep(signed, key);
                }
                right
            }
        };
        let caller = if right { entry.caller_at(now)? } else { return Err(Denied::Wrong) };
        if signed.is_of(now) { Ok(caller) } else { Err(Denied::Expired) }
    }
}

impl Entry {
    fn caller_at(&self, now: SystemTime) -> Result<&str, Denied> {
        if self.expires.is_some_and(|expires| expires <= now) { Err(Denied::Wrong) } else { Ok(&self.caller) }
    }

    fn keep(&self, signed: &Signed, key: hmac::Key) {
        let new = Arc::new(SigningKey { date: signed.date().into(), region: signed.region().into(), key });
        self.signing_keys.rcu(|kept| {
            let others = kept.iter().filter(|kept| (&kept.date, &kept.region) != (&new.date, &new.region));
            std::iter::once(&new).chain(others).take(SIGNING_KEYS).cloned().collect::<Vec<_>>()
        });
    }
}

/// The id in an access key id; `None`: it is none of ours.
fn id_of(access_key_id: &str) -> Option<[u8; ID_LEN]> {
    access_key_id.strip_prefix(ACCESS_KEY_ID_PREFIX)?.as_bytes().try_into().ok()
}

fn entry(record: &Record, peppers: &Peppers) -> Result<([u8; ID_LEN], Entry), String> {
    let id = record.id.as_bytes().try_into().map_err(|_| format!("key {}: not an id", record.id))?;
    let pepper = peppers
        .of_id(&record.pepper)
        .ok_or_else(|| format!("key {}: made under pepper {}, which is not live", record.id, record.pepper))?;
    let entry = Entry {
        caller: record.caller.as_str().into(),
        pepper: pepper.key(),
        hash: record.hash,
        expires: record.expires,
        signing_keys: ArcSwap::default(),
    };
    Ok((id, entry))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use switchtower_keys::{IssuedKey, KEY_RANDOM_BYTES, new_key};

    use super::{super::sigv4::signed_request, *};

    const PEPPER: [u8; 32] = [7; 32];

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn now() -> SystemTime {
        at(1_790_000_000)
    }

    fn key(caller: &str, random: u8) -> (Record, IssuedKey) {
        new_key(caller, &Pepper::new(PEPPER), at(1_000_000_000), None, &[random; KEY_RANDOM_BYTES]).unwrap()
    }

    fn keyring(records: &[Record]) -> Keyring {
        Keyring::new(records, &Peppers::first(Pepper::new(PEPPER))).unwrap()
    }

    fn bearer(key: &str) -> Credentials {
        let request = http::Request::builder().header("authorization", format!("Bearer {key}")).body(()).unwrap();
        let credentials = Credentials::of_headers(request.headers());
        assert!(matches!(credentials, Credentials::Bearer(_)), "{credentials:?}");
        credentials
    }

    fn signed(key: &IssuedKey, region: &str, at: SystemTime) -> Credentials {
        let request = signed_request(&key.access_key_id, &key.secret_access_key, region, at);
        let (parts, body) = request.into_parts();
        let credentials = Credentials::of(&parts, &body);
        assert!(matches!(credentials, Credentials::Signed(_)), "{credentials:?}");
        credentials
    }

    #[test]
    fn a_key_speaks_for_its_caller_both_ways() {
        let ((web, web_key), (batch, batch_key)) = (key("web", 1), key("batch", 2));
        let keyring = keyring(&[web, batch]);
        for (key, caller) in [(&web_key, "web"), (&batch_key, "batch")] {
            assert_eq!(keyring.authenticate(&bearer(&key.bearer), now()), Ok(caller));
            for _ in 0..2 {
                assert_eq!(keyring.authenticate(&signed(key, "eu-west-1", now()), now()), Ok(caller));
            }
        }
    }

    #[test]
    fn whatever_is_wrong_is_refused_alike() {
        let ((web, web_key), (batch, batch_key), (_, unknown)) = (key("web", 1), key("batch", 2), key("x", 3));
        let keyring = keyring(&[web, batch]);
        let check = |credentials: &Credentials| {
            assert_eq!(keyring.authenticate(credentials, now()), Err(Denied::Wrong), "{credentials:?}");
        };
        check(&Credentials::None);
        check(&Credentials::Unreadable);
        check(&bearer(&unknown.bearer));
        check(&signed(&unknown, "eu-west-1", now()));
        // One key's id with another's secret.
        check(&bearer(&format!("{}{}", &web_key.bearer[..21], &batch_key.bearer[21..])));
        let mixed = IssuedKey { access_key_id: web_key.access_key_id.clone(), ..batch_key };
        check(&signed(&mixed, "eu-west-1", now()));
        // A signing key that is kept makes a wrong signature no better.
        assert_eq!(keyring.authenticate(&signed(&web_key, "eu-west-1", now()), now()), Ok("web"));
        check(&signed(&mixed, "eu-west-1", now()));
        for id in ["SWTK", "SWTKABCDEFGHIJKLMNO", "AKIAABCDEFGHIJKLMNOP", "SWTKÄÄÄÄÄÄÄÄ"] {
            let foreign = IssuedKey { access_key_id: id.to_owned(), ..key("web", 1).1 };
            let request = signed_request(&foreign.access_key_id, &foreign.secret_access_key, "eu-west-1", now());
            let (parts, body) = request.into_parts();
            check(&Credentials::of(&parts, &body));
        }
    }

    #[test]
    fn a_key_holds_until_it_expires_or_is_revoked() {
        let check = |expires: Option<u64>, revoked: Option<u64>, expected: Result<&str, Denied>| {
            let (mut record, issued) = key("web", 1);
            (record.expires, record.revoked) = (expires.map(at), revoked.map(at));
            let keyring = keyring(&[record]);
            assert_eq!(keyring.authenticate(&bearer(&issued.bearer), now()), expected, "{expires:?} {revoked:?}");
            let signed = signed(&issued, "eu-west-1", now());
            assert_eq!(keyring.authenticate(&signed, now()), expected, "{expires:?} {revoked:?}");
        };
        check(None, None, Ok("web"));
        check(Some(1_790_000_001), None, Ok("web"));
        check(Some(1_790_000_000), None, Err(Denied::Wrong));
        check(None, Some(1_000_000_000), Err(Denied::Wrong));
        check(None, Some(1_800_000_000), Err(Denied::Wrong));
    }

    #[test]
    fn a_head_tells_who_can_be_no_caller() {
        let ((record, issued), (_, unknown)) = (key("web", 1), key("x", 3));
        let expired = Record { expires: Some(now()), ..record.clone() };
        let head = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append("authorization", value.parse().unwrap());
            }
            headers
        };
        let check = |record: &Record, values: &[&str], expected: bool| {
            assert_eq!(keyring(std::slice::from_ref(record)).may_be(&head(values), now()), expected, "{values:?}");
        };
        let bearer = |key: &IssuedKey| format!("Bearer {}", key.bearer);
        let signature = |id: &str| {
            let request = signed_request(id, "a wrong secret", "eu-west-1", now());
            request.headers()["authorization"].to_str().unwrap().to_owned()
        };
        let signed = signature(&issued.access_key_id);
        check(&record, &[&bearer(&issued)], true);
        check(&record, &[&signed], true);
        check(&record, &[], false);
        check(&record, &[&bearer(&unknown)], false);
        check(&record, &[&signature(&unknown.access_key_id)], false);
        check(&record, &[&signature("AKIAABCDEFGHIJKLMNOP")], false);
        check(&record, &[&signed[..signed.len() - 1]], false);
        check(&record, &["Basic eDp5"], false);
        check(&record, &[&signed, &signed], false);
        check(&record, &[&bearer(&issued), &signed], false);
        check(&expired, &[&bearer(&issued)], false);
        check(&expired, &[&signed], false);
    }

    #[test]
    fn a_right_signature_holds_for_five_minutes_both_ways_and_a_wrong_one_never_tells_its_age() {
        let (record, issued) = key("web", 1);
        let keyring = keyring(&[record]);
        let check = |made: u64, expected: Result<&str, Denied>| {
            assert_eq!(keyring.authenticate(&signed(&issued, "eu-west-1", at(made)), now()), expected, "{made}");
        };
        check(1_790_000_000 - 300, Ok("web"));
        check(1_790_000_000 + 300, Ok("web"));
        check(1_790_000_000 - 301, Err(Denied::Expired));
        check(1_790_000_000 + 301, Err(Denied::Expired));
        let forged = IssuedKey { secret_access_key: "guess".to_owned(), ..issued };
        assert_eq!(keyring.authenticate(&signed(&forged, "eu-west-1", at(1)), now()), Err(Denied::Wrong));
    }

    #[test]
    fn signing_keys_are_kept_for_right_signatures_only_and_no_more_than_a_few() {
        let (record, issued) = key("web", 1);
        let keyring = keyring(&[record]);
        let kept = |keyring: &Keyring| -> Vec<String> {
            let entry = keyring.entries.values().next().unwrap();
            entry.signing_keys.load().iter().map(|kept| kept.region.to_string()).collect()
        };
        let forged = IssuedKey { secret_access_key: "guess".to_owned(), ..key("web", 1).1 };
        for region in ["a", "b", "c", "d", "e", "d"] {
            assert_eq!(keyring.authenticate(&signed(&issued, region, now()), now()), Ok("web"));
            assert!(keyring.authenticate(&signed(&forged, "f", now()), now()).is_err());
        }
        assert_eq!(kept(&keyring), ["e", "d", "c", "b"]);
    }

    #[test]
    fn two_generations_of_the_pepper_are_live_and_no_third() {
        let (record, issued) = key("web", 1);
        let once = Peppers::first(Pepper::new(PEPPER)).rotated(Pepper::new([8; 32]));
        let keyring = Keyring::new(std::slice::from_ref(&record), &once).unwrap();
        assert_eq!(keyring.authenticate(&bearer(&issued.bearer), now()), Ok("web"));
        assert_eq!(keyring.authenticate(&signed(&issued, "eu-west-1", now()), now()), Ok("web"));
        let twice = once.rotated(Pepper::new([9; 32]));
        let problems = Keyring::new(&[record.clone(), Record { revoked: Some(now()), ..record.clone() }], &twice);
        let pepper = &record.pepper;
        assert_eq!(
            problems.unwrap_err(),
            [format!("key {}: made under pepper {pepper}, which is not live", record.id)]
        );
    }

    #[test]
    fn a_record_that_does_not_hold_keeps_no_other_from_holding() {
        let ((lost, lost_key), (web, web_key), (twice, twice_key)) = (key("web", 1), key("web", 2), key("web", 3));
        let lost = Record { pepper: "00000000".to_owned(), ..lost };
        let records = [lost.clone(), web, twice.clone(), twice.clone()];
        let (keyring, problems) = Keyring::of_what_holds(&records, &Peppers::first(Pepper::new(PEPPER)));
        let expected = [
            format!("key {}: made under pepper 00000000, which is not live", lost.id),
            format!("key {}: there are two of it", twice.id),
        ];
        assert_eq!(problems, expected);
        assert_eq!(keyring.authenticate(&bearer(&web_key.bearer), now()), Ok("web"));
        assert_eq!(keyring.authenticate(&bearer(&lost_key.bearer), now()), Err(Denied::Wrong));
        assert_eq!(keyring.authenticate(&bearer(&twice_key.bearer), now()), Err(Denied::Wrong));
    }

    #[test]
    fn two_records_of_one_id_make_no_keyring() {
        let (record, _) = key("web", 1);
        let peppers = Peppers::first(Pepper::new(PEPPER));
        let problems = Keyring::new(&[record.clone(), record.clone()], &peppers).unwrap_err();
        assert_eq!(problems, [format!("key {}: there are two of it", record.id)]);
    }

    #[test]
    fn debug_counts_the_keys_and_shows_none() {
        assert_eq!(format!("{:?}", keyring(&[key("web", 1).0])), "Keyring { keys: 1, .. }");
    }
}
