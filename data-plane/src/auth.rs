//! Credentials -> the name of a caller.
//!
//! A caller shows a bearer key, or signs with the AWS-style pair of the same key. Every way to be wrong looks the same
//! from outside: which key exists is nobody's to find out. A face reads the [`Credentials`] off the wire, as only it
//! has the raw request; [`Keyring::authenticate`] judges them.
//!
//! The peppers are static and the keys are not: whoever reads both files (a stolen node) can forge every caller until
//! the pepper is rotated.

mod keyring;
mod sigv4;

use std::fmt;

use http::{HeaderMap, header, request::Parts};
use switchtower_keys as keys;

pub use self::{
    keyring::{Denied, Keyring},
    sigv4::Signed,
};

/// What a caller showed. Its `Debug` says the kind alone.
pub enum Credentials {
    /// Nothing.
    None,
    /// A key of our form.
    Bearer(Bearer),
    /// A signature.
    Signed(Box<Signed>),
    /// Something that cannot be right, whatever keys there are: malformed, twice, or not of this request.
    Unreadable,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Credentials::None => "None",
            Credentials::Bearer(_) => "Bearer(..)",
            Credentials::Signed(_) => "Signed(..)",
            Credentials::Unreadable => "Unreadable",
        })
    }
}

impl Credentials {
    /// Those of a request whose body is whole. Hashes the body if the request is signed.
    #[must_use]
    pub fn of(parts: &Parts, body: &[u8]) -> Self {
        Self::read(&parts.headers, |signed| Signed::of(signed, parts, body))
    }

    /// Those of a request whose body is not ours to hash, such as a gRPC call: a bearer key or nothing.
    #[must_use]
    pub fn of_headers(headers: &HeaderMap) -> Self {
        Self::read(headers, |_| None)
    }

    fn read(headers: &HeaderMap, signed: impl FnOnce(&str) -> Option<Signed>) -> Self {
        let mut values = headers.get_all(header::AUTHORIZATION).iter();
        let Some(value) = values.next() else { return Credentials::None };
        // Two of them: which one was meant is not ours to choose.
        let (None, Ok(value)) = (values.next(), value.to_str()) else { return Credentials::Unreadable };
        let read = if value.starts_with(sigv4::ALGORITHM) {
            signed(value).map(|signed| Credentials::Signed(Box::new(signed)))
        } else {
            Bearer::of(value).map(Credentials::Bearer)
        };
        read.unwrap_or(Credentials::Unreadable)
    }
}

/// A bearer key, taken apart.
pub struct Bearer {
    id: [u8; keys::ID_LEN],
    secret: [u8; keys::SECRET_LEN],
}

impl fmt::Debug for Bearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bearer").finish_non_exhaustive()
    }
}

impl Bearer {
    fn of(authorization: &str) -> Option<Self> {
        let (scheme, key) = authorization.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let (id, secret) = key.trim().strip_prefix(keys::BEARER_PREFIX)?.split_once('_')?;
        Some(Bearer { id: id.as_bytes().try_into().ok()?, secret: secret.as_bytes().try_into().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, Request};

    use super::*;

    #[test]
    fn credentials_are_told_apart_and_shown_without_a_secret() {
        let key = format!("swt_ABCDEFGHIJKLMNOP_{}", "S".repeat(32));
        let check = |values: &[&[u8]], expected: &str| {
            let mut request = Request::new(());
            for value in values {
                let value = HeaderValue::from_bytes(value).unwrap();
                request.headers_mut().append(header::AUTHORIZATION, value);
            }
            let (parts, ()) = request.into_parts();
            let shown = format!("{:?}", Credentials::of(&parts, b""));
            assert_eq!(shown, expected, "{values:?}");
            assert_eq!(format!("{:?}", Credentials::of_headers(&parts.headers)), expected, "{values:?}");
        };
        let bearer = |scheme: &str, key: &str| format!("{scheme}{key}").into_bytes();
        check(&[], "None");
        check(&[&bearer("Bearer ", &key)], "Bearer(..)");
        check(&[&bearer("bearer  ", &key)], "Bearer(..)");
        check(&[&bearer("Bearer ", &key), &bearer("Bearer ", &key)], "Unreadable");
        check(&[&bearer("Bearer", &key)], "Unreadable");
        check(&[&bearer("Basic ", &key)], "Unreadable");
        check(&[&bearer("Bearer ", &key[..key.len() - 1])], "Unreadable");
        check(&[&bearer("Bearer ", &format!("{key}A"))], "Unreadable");
        check(&[b"Bearer sk-something"], "Unreadable");
        check(&[b"Bearer "], "Unreadable");
        check(&[b""], "Unreadable");
        check(&[b"Bearer \xff\xfe"], "Unreadable");
        check(&[b"AWS4-HMAC-SHA256 Credential=x"], "Unreadable");
    }
}
