//! Checking AWS Signature Version 4 on requests as Bedrock's clients sign them.
//!
//! No crate verifies: the AWS ones only sign. What is signed is read from the request as it stood on the wire, so the
//! path is taken raw and encoded once more, as clients do (`%3A` becomes `%253A`, a raw `:` becomes `%3A`).
//!
//! Deliberately refused: presigned URLs, unsigned and chunk-signed payloads, unsigned metadata for routing, services other
//! than `bedrock`. Paths are not normalised: one with empty or dot segments leads to no face, so whether its signature is right does not matter.

use std::{
    borrow::Cow,
    fmt,
    time::{Duration, SystemTime},
};

use aws_lc_rs::{
    digest::{SHA256, digest},
    hmac,
};
use http::{HeaderMap, header, request::Parts};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode, percent_encode};
use time::{
    OffsetDateTime, PrimitiveDateTime, UtcOffset,
    format_description::{BorrowedFormatItem, well_known::Rfc2822},
    macros::format_description,
};

use crate::face::headers::METADATA_PREFIX;

/// How an `authorization` header begins whose rest is for this module.
pub(super) const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// How far a signature's time may be off ours, both ways: what AWS allows.
const SKEW: Duration = Duration::from_secs(5 * 60);
const SERVICE: &str = "bedrock";
const BASIC: &[BorrowedFormatItem<'_>] = format_description!("[year][month][day]T[hour][minute][second]Z");

/// All but RFC 3986's unreserved characters.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
const RESERVED_IN_PATH: &AsciiSet = &RESERVED.remove(b'/');

/// Whose key an `authorization` header claims that the request is signed with; `None`: it is not of this form.
pub(super) fn access_key_id(authorization: &str) -> Option<&str> {
    Authorization::of(authorization).map(|authorization| authorization.scope.access_key_id)
}

/// A signature, and what it signs.
pub struct Signed {
    access_key_id: Box<str>,
    /// `YYYYMMDD`.
    date: Box<str>,
    region: Box<str>,
    at: SystemTime,
    string_to_sign: String,
    signature: [u8; 32],
}

impl fmt::Debug for Signed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signed").finish_non_exhaustive()
    }
}

impl Signed {
    /// Reads a signed request whose `authorization` is given; `None` if it cannot be right under any key.
    pub(super) fn of(authorization: &str, parts: &Parts, body: &[u8]) -> Option<Self> {
        let Authorization { scope, signed_headers, signature } = Authorization::of(authorization)?;
        let names = || signed_headers.split(';');
        let signs = |name: &str| names().any(|signed| signed == name);
        if !signs("host") && !signs(":authority") {
            return None;
        }
        // They choose the route's rule: nobody on the way may add one.
        let metadata = |name: &str| name.starts_with(METADATA_PREFIX);
        if parts.headers.keys().any(|name| metadata(name.as_str()) && !signs(name.as_str())) {
            return None;
        }
        let time = SigningTime::of(&parts.headers)?;
        if !signs(time.header) || time.stamp.get(..8) != Some(scope.date) {
            return None;
        }
        let payload = hex::encode(digest(&SHA256, body));
        if let Some(told) = parts.headers.get("x-amz-content-sha256")
            && told.as_bytes() != payload.as_bytes()
        {
            return None;
        }
        let request = canonical_request(parts, names(), signed_headers, &payload)?;
        let request = hex::encode(digest(&SHA256, &request));
        let Scope { access_key_id, date, region } = scope;
        Some(Signed {
            string_to_sign: format!("{ALGORITHM}\n{}\n{date}/{region}/{SERVICE}/aws4_request\n{request}", time.stamp),
            access_key_id: access_key_id.into(),
            date: date.into(),
            region: region.into(),
            at: time.at,
            signature,
        })
    }

    /// Whose key it claims to be made with.
    pub(super) fn access_key_id(&self) -> &str {
        &self.access_key_id
    }

    /// The day it was made on, `YYYYMMDD`: with the region, what a signing key holds for.
    pub(super) fn date(&self) -> &str {
        &self.date
    }

    /// The region that the client thinks it speaks to. Any is right.
    pub(super) fn region(&self) -> &str {
        &self.region
    }

    /// The key that a secret gives for this day and region; 4 HMACs, so worth keeping.
    pub(super) fn signing_key(&self, secret_access_key: &str) -> hmac::Key {
        let first = hmac::Key::new(hmac::HMAC_SHA256, format!("AWS4{secret_access_key}").as_bytes());
        [self.date(), self.region(), SERVICE, "aws4_request"].into_iter().fold(first, |key, part| {
            let tag = hmac::sign(&key, part.as_bytes());
            hmac::Key::new(hmac::HMAC_SHA256, tag.as_ref())
        })
    }

    /// Whether the signature was made with this signing key. Takes as long for a wrong one as for a right one.
    pub(super) fn is_by(&self, signing_key: &hmac::Key) -> bool {
        hmac::verify(signing_key, self.string_to_sign.as_bytes(), &self.signature).is_ok()
    }

    /// Whether it was made within five minutes of `now`.
    pub(super) fn is_of(&self, now: SystemTime) -> bool {
        now.duration_since(self.at).unwrap_or_else(|ahead| ahead.duration()) <= SKEW
    }
}

/// The header, taken apart.
#[derive(Debug)]
struct Authorization<'a> {
    scope: Scope<'a>,
    signed_headers: &'a str,
    signature: [u8; 32],
}

#[derive(Debug)]
struct Scope<'a> {
    access_key_id: &'a str,
    date: &'a str,
    region: &'a str,
}

impl<'a> Authorization<'a> {
    fn of(header: &'a str) -> Option<Self> {
        let rest = header.strip_prefix(ALGORITHM)?.strip_prefix([' ', '\t'])?;
        let (mut credential, mut signed_headers, mut signature) = (None, None, None);
        for pair in rest.split(',') {
            let (name, value) = pair.trim_matches([' ', '\t']).split_once('=')?;
            let slot = match name {
                "Credential" => &mut credential,
                "SignedHeaders" => &mut signed_headers,
                "Signature" => &mut signature,
                _ => return None,
            };
            if slot.replace(value).is_some() {
                return None;
            }
        }
        let mut decoded = [0; 32];
        hex::decode_to_slice(signature?, &mut decoded).ok()?;
        let signed_headers = signed_headers.filter(|names| are_in_order(names))?;
        Some(Authorization { scope: Scope::of(credential?)?, signed_headers, signature: decoded })
    }
}

/// Signers sort them; that also rules out a name that stands twice.
fn are_in_order(names: &str) -> bool {
    names.split(';').zip(names.split(';').skip(1)).all(|(one, next)| one < next)
}

impl<'a> Scope<'a> {
    fn of(credential: &'a str) -> Option<Self> {
        let mut parts = credential.split('/');
        let scope = Scope { access_key_id: parts.next()?, date: parts.next()?, region: parts.next()? };
        let ends = parts.next() == Some(SERVICE) && parts.next() == Some("aws4_request") && parts.next().is_none();
        (ends && !scope.access_key_id.is_empty() && !scope.region.is_empty()).then_some(scope)
    }
}

/// When the request says it was signed.
struct SigningTime<'a> {
    /// The header that says so.
    header: &'static str,
    at: SystemTime,
    /// As it is signed: `YYYYMMDDTHHMMSSZ`.
    stamp: Cow<'a, str>,
}

impl<'a> SigningTime<'a> {
    fn of(headers: &'a HeaderMap) -> Option<Self> {
        if let Some(stamp) = headers.get("x-amz-date") {
            // The parser would take a sign before the year.
            let stamp = stamp.to_str().ok().filter(|stamp| stamp.len() == 16)?;
            let at = PrimitiveDateTime::parse(stamp, BASIC).ok()?.assume_utc().into();
            return Some(SigningTime { header: "x-amz-date", at, stamp: stamp.into() });
        }
        // botocore leaves `x-amz-date` out when the caller set `date` by hand.
        let date = OffsetDateTime::parse(headers.get(header::DATE)?.to_str().ok()?, &Rfc2822).ok()?;
        let stamp = date.to_offset(UtcOffset::UTC).format(BASIC).ok()?.into();
        Some(SigningTime { header: "date", at: date.into(), stamp })
    }
}

fn canonical_request<'a>(
    parts: &Parts,
    names: impl Iterator<Item = &'a str>,
    signed_headers: &str,
    payload: &str,
) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(1024);
    out.extend_from_slice(parts.method.as_str().as_bytes());
    out.push(b'\n');
    percent_encode(parts.uri.path().as_bytes(), RESERVED_IN_PATH)
        .for_each(|part| out.extend_from_slice(part.as_bytes()));
    out.push(b'\n');
    if let Some(query) = parts.uri.query() {
        canonical_query(query, &mut out);
    }
    out.push(b'\n');
    for name in names {
        out.extend_from_slice(name.as_bytes());
        out.push(b':');
        canonical_values(parts, name, &mut out)?;
        out.push(b'\n');
    }
    out.push(b'\n');
    out.extend_from_slice(signed_headers.as_bytes());
    out.push(b'\n');
    out.extend_from_slice(payload.as_bytes());
    Some(out)
}

/// Sorted by name, then value, after encoding. A `+` is a space: so do clients write it, and sign `%20`.
fn canonical_query(query: &str, out: &mut Vec<u8>) {
    let encoded = |part: &str| {
        let spaced = part.replace('+', " ");
        percent_encode(&percent_decode(spaced.as_bytes()).collect::<Vec<u8>>(), RESERVED).to_string()
    };
    let mut pairs: Vec<(String, String)> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (encoded(name), encoded(value)))
        .collect();
    pairs.sort_unstable();
    for (index, (name, value)) in pairs.iter().enumerate() {
        if index > 0 {
            out.push(b'&');
        }
        out.extend_from_slice(name.as_bytes());
        out.push(b'=');
        out.extend_from_slice(value.as_bytes());
    }
}

/// All values of a signed header, comma between them, runs of spaces made one. `None`: the request has none.
fn canonical_values(parts: &Parts, name: &str, out: &mut Vec<u8>) -> Option<()> {
    let mut values = parts.headers.get_all(name).iter().peekable();
    if name == ":authority" || (name == "host" && values.peek().is_none()) {
        // Over HTTP/2 the host stands in the target; what a client then signs as either name is the same.
        out.extend_from_slice(parts.uri.authority()?.as_str().as_bytes());
        return Some(());
    }
    values.peek()?;
    for (index, value) in values.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        let mut words = value.as_bytes().split(|byte| matches!(byte, b' ' | b'\t')).filter(|word| !word.is_empty());
        out.extend_from_slice(words.next().unwrap_or_default());
        for word in words {
            out.push(b' ');
            out.extend_from_slice(word);
        }
    }
    Some(())
}

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(super) use tests::signed_request;
