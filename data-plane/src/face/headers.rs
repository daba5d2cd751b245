//! The headers that every face speaks: what callers are told of how they were served, and the metadata they may give
//! beside the body. One place, so that no face has words of its own.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use crate::record::Served;

/// Id of the request, as in logs and traces.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-switchtower-request-id");
/// Name of the route.
pub const ROUTE: HeaderName = HeaderName::from_static("x-switchtower-route");
/// Revision of the policy.
pub const REVISION: HeaderName = HeaderName::from_static("x-switchtower-revision");
/// Target that answered; absent: none did.
pub const TARGET: HeaderName = HeaderName::from_static("x-switchtower-target");
/// Number of the tier that answered, from 1; absent: none did.
pub const TIER: HeaderName = HeaderName::from_static("x-switchtower-tier");
/// How many attempts were made.
pub const ATTEMPTS: HeaderName = HeaderName::from_static("x-switchtower-attempts");
/// `true`: an `answer` tier answered, not a model; absent otherwise.
pub const DEGRADED: HeaderName = HeaderName::from_static("x-switchtower-degraded");

/// What precedes the key in a header of metadata.
pub(crate) const METADATA_PREFIX: &str = "x-switchtower-metadata-";
/// Most characters of a metadata key, and of a value.
pub const METADATA_CHARACTERS: usize = 256;
/// Most pairs of metadata in one place: the body, or the headers.
pub const METADATA_PAIRS: usize = 16;

/// What a header cannot carry, and the sign that says so.
const NOT_PLAIN: &AsciiSet = &CONTROLS.add(b'%');

/// Tells what served a request, or what was tried.
pub fn served_headers(served: &Served, headers: &mut HeaderMap) {
    headers.insert(REQUEST_ID, value(&served.request_id));
    headers.insert(ROUTE, value(&served.route));
    headers.insert(REVISION, value(&served.revision));
    if let Some(target) = &served.target {
        headers.insert(TARGET, value(target));
    }
    if served.tier > 0 {
        headers.insert(TIER, HeaderValue::from(served.tier));
    }
    headers.insert(ATTEMPTS, HeaderValue::from(served.attempts.len()));
    if served.degraded {
        headers.insert(DEGRADED, HeaderValue::from_static("true"));
    }
}

/// Tells the id of a request of which nothing more is known.
pub fn request_id_header(request_id: &str, headers: &mut HeaderMap) {
    headers.insert(REQUEST_ID, value(request_id));
}

/// A text as it is where it is printable ASCII, else percent-encoded.
fn value(text: &str) -> HeaderValue {
    // `from_str` takes UTF-8 too, which most clients cannot read.
    let plain = text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    let encoded = if plain { Cow::Borrowed(text) } else { utf8_percent_encode(text, NOT_PLAIN).into() };
    HeaderValue::from_str(&encoded).expect("percent-encoded text is printable ASCII")
}

/// Metadata in the headers that is not metadata. It quotes no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadMetadata {
    /// A header's value is not text.
    #[error("`{0}` is not UTF-8 text")]
    NotText(String),
    /// A key or a value is too long, or the key is empty.
    #[error("`{0}` must have a key of 1 to 256 characters and a value of at most 256")]
    Length(String),
    /// There are too many.
    #[error("more than 16 headers of metadata")]
    TooMany,
}

/// The pairs in `x-switchtower-metadata-KEY: VALUE`, in the order of the headers; keys in lower case, as headers are.
///
/// # Errors
/// The first header that breaks a bound.
pub fn metadata_of(headers: &HeaderMap) -> Result<Vec<(String, String)>, BadMetadata> {
    let mut pairs = Vec::new();
    for (name, value) in headers {
        let Some(key) = name.as_str().strip_prefix(METADATA_PREFIX) else { continue };
        let short = |text: &str| text.chars().take(80).collect::<String>();
        let Ok(value) = std::str::from_utf8(value.as_bytes()) else {
            return Err(BadMetadata::NotText(short(name.as_str())));
        };
        // A header's name is ASCII: its bytes are its characters.
        if key.is_empty() || key.len() > METADATA_CHARACTERS || value.chars().count() > METADATA_CHARACTERS {
            return Err(BadMetadata::Length(short(name.as_str())));
        }
        if pairs.len() == METADATA_PAIRS {
            return Err(BadMetadata::TooMany);
        }
        pairs.push((key.to_owned(), value.to_owned()));
    }
    Ok(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served() -> Served {
        Served {
            request_id: "00ff".into(),
            route: "support-chat".into(),
            rule: None,
            tier: 0,
            target: None,
            revision: "0123456789ab".into(),
            attempts: Vec::new(),
            degraded: false,
        }
    }

    #[track_caller]
    fn check(served: &Served, expected: &str) {
        let mut headers = HeaderMap::new();
        served_headers(served, &mut headers);
        let told: Vec<_> = headers
            .iter()
            .map(|(name, value)| format!("{}={}", &name.as_str()[14..], value.to_str().unwrap()))
            .collect();
        assert_eq!(told.join(" "), expected);
    }

    #[test]
    fn headers_tell_what_is_known_and_nothing_else() {
        check(&served(), "request-id=00ff route=support-chat revision=0123456789ab attempts=0");
        check(
            &Served { tier: 2, target: Some("bedrock/us-east-1/amazon.nova-lite-v1:0".into()), ..served() },
            "request-id=00ff route=support-chat revision=0123456789ab target=bedrock/us-east-1/amazon.nova-lite-v1:0 \
             tier=2 attempts=0",
        );
        check(
            &Served { tier: 3, degraded: true, ..served() },
            "request-id=00ff route=support-chat revision=0123456789ab tier=3 attempts=0 degraded=true",
        );
    }

    #[test]
    fn a_name_that_a_header_cannot_carry_is_percent_encoded() {
        check(
            &Served { route: "größe 100%".into(), ..served() },
            "request-id=00ff route=gr%C3%B6%C3%9Fe 100%25 revision=0123456789ab attempts=0",
        );
    }

    #[track_caller]
    fn check_metadata(headers: &[(&str, &[u8])], expected: Result<&[(&str, &str)], BadMetadata>) {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_bytes(value).unwrap());
        }
        let expected = expected
            .map(|pairs| pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect::<Vec<_>>());
        assert_eq!(metadata_of(&map), expected);
    }

    #[test]
    fn metadata_headers_become_pairs_or_an_error_that_quotes_no_value() {
        check_metadata(&[("accept", b"x")], Ok(&[]));
        check_metadata(
            &[("X-Switchtower-Metadata-Targeting_Key", b"u1"), ("x-switchtower-metadata-tier", "größe".as_bytes())],
            Ok(&[("targeting_key", "u1"), ("tier", "größe")]),
        );
        check_metadata(
            &[("x-switchtower-metadata-tier", b"\xff")],
            Err(BadMetadata::NotText("x-switchtower-metadata-tier".to_owned())),
        );
        check_metadata(
            &[("x-switchtower-metadata-tier", &[b'a'; 257])],
            Err(BadMetadata::Length("x-switchtower-metadata-tier".to_owned())),
        );
        check_metadata(&[("x-switchtower-metadata-", b"a")], Err(BadMetadata::Length(METADATA_PREFIX.to_owned())));
        let many: Vec<(&str, &[u8])> = vec![("x-switchtower-metadata-a", b"1"); 17];
        check_metadata(&many, Err(BadMetadata::TooMany));
        assert!(metadata_of(&HeaderMap::new()).unwrap().is_empty());
    }
}
