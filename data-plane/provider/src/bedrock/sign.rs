//! Signature Version 4 for the one shape of request that is sent here: `POST`, JSON, no query.
//!
//! The signing key of a day is derived once and kept, the canonical request is hashed as it is written and never put
//! together: a quarter of what the general `aws-sigv4` costs. That crate is the reference that the tests hold this one
//! against.

use std::{sync::Arc, time::SystemTime};

use arc_swap::ArcSwapOption;
use aws_lc_rs::{digest, hmac};
use http::HeaderValue;
use time::OffsetDateTime;

use super::credentials::Keys;

/// The type of every body that is sent.
pub(super) const CONTENT_TYPE: &str = "application/json";
/// Name that Bedrock Runtime is signed under.
const SERVICE: &str = "bedrock";
const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// What of a request is signed. `traceparent` is not: proxies on the way rewrite it.
#[derive(Clone, Copy)]
pub(super) struct Parts<'a> {
    /// Its `Host`.
    pub(super) host: &'a HeaderValue,
    /// Its path as it is signed.
    pub(super) path: &'a str,
    /// Its body.
    pub(super) body: &'a [u8],
}

/// Headers that make a request a signed one.
pub(super) struct Signature {
    /// `x-amz-date`.
    pub(super) date: HeaderValue,
    /// `authorization`.
    pub(super) authorization: HeaderValue,
}

/// Signs for one region, and keeps the key of the day.
pub(super) struct Signer {
    region: Box<str>,
    key: ArcSwapOption<DayKey>,
}

/// The key derived from one set of keys for one day.
struct DayKey {
    /// Of the keys that it was derived from.
    generation: u64,
    day: [u8; 8],
    key: hmac::Key,
}

impl Signer {
    pub(super) fn new(region: &str) -> Self {
        Signer { region: region.into(), key: ArcSwapOption::empty() }
    }

    /// Signs a request with keys, at a time.
    pub(super) fn sign(&self, keys: &Keys, now: SystemTime, parts: Parts<'_>) -> Signature {
        let at = Timestamp::of(now);
        let cached = self.key.load();
        let signature = match &*cached {
            Some(day) if day.generation == keys.generation && day.day == at.day() => {
                self.signature(&day.key, at, keys, parts)
            }
            _ => {
                let key = self.derive(keys, at);
                let signature = self.signature(&key, at, keys, parts);
                self.key.store(Some(Arc::new(DayKey { generation: keys.generation, day: at.day(), key })));
                signature
            }
        };
        let mut authorization = HeaderValue::from_str(&self.authorization(keys, at, &signature))
            .expect("keys hold visible ASCII only: that was checked when they were fetched");
        authorization.set_sensitive(true);
        let date = HeaderValue::from_bytes(&at.0).expect("a timestamp is digits, T and Z");
        Signature { date, authorization }
    }

    fn authorization(&self, keys: &Keys, at: Timestamp, signature: &str) -> String {
        let mut text = String::with_capacity(256);
        for part in [
            ALGORITHM,
            " Credential=",
            &keys.access_key,
            "/",
            std::str::from_utf8(&at.day()).expect("digits"),
            "/",
            &self.region,
            "/",
            SERVICE,
            "/aws4_request, SignedHeaders=",
            signed_headers(keys),
            ", Signature=",
            signature,
        ] {
            text.push_str(part);
        }
        text
    }

    fn derive(&self, keys: &Keys, at: Timestamp) -> hmac::Key {
        let secret = [b"AWS4", keys.secret_key.as_bytes()].concat();
        let mut key = hmac::Key::new(hmac::HMAC_SHA256, &secret);
        for part in [at.day().as_slice(), self.region.as_bytes(), SERVICE.as_bytes(), b"aws4_request"] {
            key = hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&key, part).as_ref());
        }
        key
    }

    fn signature(&self, key: &hmac::Key, at: Timestamp, keys: &Keys, parts: Parts<'_>) -> String {
        let mut context = hmac::Context::with_key(key);
        for part in [
            ALGORITHM.as_bytes(),
            b"\n",
            &at.0,
            b"\n",
            &at.day(),
            b"/",
            self.region.as_bytes(),
            b"/",
            SERVICE.as_bytes(),
            b"/aws4_request\n",
            hex::encode(canonical_request(at, keys, parts)).as_bytes(),
        ] {
            context.update(part);
        }
        hex::encode(context.sign())
    }
}

/// Digest of the canonical request.
fn canonical_request(at: Timestamp, keys: &Keys, parts: Parts<'_>) -> digest::Digest {
    let mut context = digest::Context::new(&digest::SHA256);
    let mut add = |parts: &[&[u8]]| parts.iter().for_each(|part| context.update(part));
    add(&[b"POST\n", parts.path.as_bytes(), b"\n\ncontent-type:", CONTENT_TYPE.as_bytes(), b"\nhost:"]);
    add(&[parts.host.as_bytes(), b"\nx-amz-date:", &at.0]);
    if let Some(token) = &keys.session_token {
        add(&[b"\nx-amz-security-token:", token.as_bytes()]);
    }
    add(&[b"\n\n", signed_headers(keys).as_bytes(), b"\n"]);
    add(&[hex::encode(digest::digest(&digest::SHA256, parts.body)).as_bytes()]);
    context.finish()
}

fn signed_headers(keys: &Keys) -> &'static str {
    if keys.session_token.is_some() {
        "content-type;host;x-amz-date;x-amz-security-token"
    } else {
        "content-type;host;x-amz-date"
    }
}

/// `YYYYMMDDThhmmssZ`.
#[derive(Clone, Copy)]
struct Timestamp([u8; 16]);

impl Timestamp {
    fn of(now: SystemTime) -> Self {
        let now = OffsetDateTime::from(now);
        let mut text = *b"00000000T000000Z";
        let mut put = |at: usize, digits: usize, mut value: u32| {
            for place in text[at..at + digits].iter_mut().rev() {
                *place = b'0' + u8::try_from(value % 10).expect("one digit");
                value /= 10;
            }
        };
        put(0, 4, now.year().unsigned_abs());
        put(4, 2, u8::from(now.month()).into());
        put(6, 2, now.day().into());
        put(9, 2, now.hour().into());
        put(11, 2, now.minute().into());
        put(13, 2, now.second().into());
        Timestamp(text)
    }

    fn day(self) -> [u8; 8] {
        std::array::from_fn(|i| self.0[i])
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use aws_sigv4::{
        http_request::{SignableBody, SignableRequest, SigningSettings, sign},
        sign::v4,
    };
    use proptest::prelude::*;

    use super::*;

    /// What `aws-sigv4` makes of the same request.
    fn reference(keys: &Keys, region: &str, now: SystemTime, host: &str, path: &str, body: &[u8]) -> String {
        let credentials = aws_credential_types::Credentials::new(
            keys.access_key.to_string(),
            keys.secret_key.to_string(),
            keys.session_token.as_ref().map(|token| token.to_str().unwrap().to_owned()),
            None,
            "test",
        );
        let identity = credentials.into();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(region)
            .name(SERVICE)
            .time(now)
            .settings(SigningSettings::default())
            .build()
            .unwrap()
            .into();
        let headers = [("content-type", CONTENT_TYPE), ("host", host)];
        let uri = format!("http://{host}{path}");
        let request = SignableRequest::new("POST", &uri, headers.into_iter(), SignableBody::Bytes(body)).unwrap();
        let (instructions, _) = sign(request, &params).unwrap().into_parts();
        let (headers, _) = instructions.into_parts();
        headers.iter().find(|header| header.name() == "authorization").unwrap().value().to_owned()
    }

    fn keys(generation: u64, access: &str, secret: &str, token: Option<&str>) -> Keys {
        Keys {
            generation,
            access_key: access.into(),
            secret_key: secret.into(),
            session_token: token.map(|token| HeaderValue::from_str(token).unwrap()),
        }
    }

    proptest! {
        #[test]
        fn a_signature_is_the_one_that_aws_sigv4_makes(
            access in "[A-Z0-9]{16,20}",
            secret in "[A-Za-z0-9/+]{40}",
            token in proptest::option::of("[A-Za-z0-9/+=]{1,900}"),
            region in "[a-z]{2}-[a-z]{4}-[1-9]",
            model in "[a-z]\\PC{0,60}",
            host in "[a-z]{1,20}(:[1-9][0-9]{1,3})?",
            body in proptest::collection::vec(any::<u8>(), 0..2000),
            seconds in 0u64..4_000_000_000,
        ) {
            let now = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            let keys = keys(1, &access, &secret, token.as_deref());
            let endpoint = super::super::endpoint::Endpoints::default()
                .everywhere(&format!("http://{host}")).unwrap().of(&region).unwrap();
            let path = endpoint.path(&model, crate::Operation::Converse);
            let host_value = HeaderValue::from_str(&host).unwrap();
            let signer = Signer::new(&region);
            let parts = Parts { host: &host_value, path: &path.canonical, body: &body };
            let expected = reference(&keys, &region, now, &host, &path.wire, &body);
            // The second one signs with the key that the first one left.
            for _ in 0..2 {
                let signature = signer.sign(&keys, now, parts);
                prop_assert_eq!(signature.authorization.to_str().unwrap(), &expected);
            }
        }
    }

    #[test]
    fn the_kept_key_is_not_used_for_another_day_or_other_keys() {
        let signer = Signer::new("us-east-1");
        let host = HeaderValue::from_static("h");
        let noon = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let day = Duration::from_secs(86_400);
        let first = keys(1, "AKIDEXAMPLE", "secret-one", None);
        let second = keys(2, "AKIDEXAMPLE", "secret-two", None);
        for (keys, now) in [(&first, noon), (&first, noon + day), (&second, noon + day), (&first, noon)] {
            let parts = Parts { host: &host, path: "/model/m/converse", body: b"{}" };
            assert_eq!(
                signer.sign(keys, now, parts).authorization.to_str().unwrap(),
                reference(keys, "us-east-1", now, "h", "/model/m/converse", b"{}")
            );
        }
    }

    #[test]
    fn a_timestamp_is_written_as_iso_8601_basic() {
        let check = |seconds, expected: &str| {
            let at = Timestamp::of(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
            assert_eq!(std::str::from_utf8(&at.0).unwrap(), expected);
        };
        check(0, "19700101T000000Z");
        check(951_827_696, "20000229T123456Z");
        check(253_402_300_799, "99991231T235959Z");
    }
}
