//! The pepper: the secret without which stored keys are of no use, and with which they are all forgeable.
//!
//! It stands in a file of its own, so that a leaked keys file (or, later, the control plane's store) tells nothing.
//! Two generations are live: rotating makes the current one the previous, so that keys can be issued anew one by one;
//! the next rotation ends whatever still hangs on the oldest.

use std::{fmt, io, path::Path};

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::{
    private_file,
    strict::{self, Members},
};

/// Length of a pepper's secret in bytes: as much as HMAC-SHA256 can use.
pub const PEPPER_BYTES: usize = 32;

/// One generation.
#[derive(Clone)]
pub struct Pepper {
    id: String,
    secret: [u8; PEPPER_BYTES],
}

impl Pepper {
    /// A pepper from randomness, which must be a cryptographic generator's.
    #[must_use]
    pub fn new(random: [u8; PEPPER_BYTES]) -> Self {
        // The id follows from the secret, so a file whose halves were mixed up is noticed before a caller is refused.
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &random), b"switchtower pepper id");
        Pepper { id: hex::encode(&tag.as_ref()[..4]), secret: random }
    }

    /// Its public name, 8 hexadecimal digits.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The key under which keys are hashed.
    #[must_use]
    pub fn key(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, &self.secret)
    }

    fn document(&self) -> Value {
        json!({ "id": self.id, "secret": STANDARD.encode(self.secret) })
    }

    fn of(place: &str, value: Value, problems: &mut Vec<String>) -> Option<Self> {
        let mut members = Members::of(place.to_owned(), value, problems)?;
        let id = members.text("id", "not text", |text| Some(text.to_owned()));
        let secret =
            members.text("secret", "not 32 bytes in base64", |text| STANDARD.decode(text).ok()?.try_into().ok());
        let pepper = secret.map(Pepper::new);
        if let (Some(id), Some(pepper)) = (&id, &pepper)
            && *id != pepper.id
        {
            members.problem("id", "does not belong to this secret");
        }
        members.end();
        pepper
    }
}

impl fmt::Debug for Pepper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pepper").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The live generations: what a pepper file holds.
#[derive(Clone, Debug)]
pub struct Peppers {
    /// New keys are made under this one.
    pub current: Pepper,
    /// Keys made under this one still hold. `None`: the pepper was never rotated.
    pub previous: Option<Pepper>,
}

impl Peppers {
    /// The first pepper of a deployment.
    #[must_use]
    pub fn first(current: Pepper) -> Self {
        Peppers { current, previous: None }
    }

    /// `next` becomes the current one; keys of the generation before the present one stop working.
    #[must_use]
    pub fn rotated(self, next: Pepper) -> Self {
        Peppers { current: next, previous: Some(self.current) }
    }

    /// Reads a pepper file.
    ///
    /// # Errors
    /// All its problems, each with its place; none quotes a secret.
    pub fn read(bytes: &[u8]) -> Result<Self, Vec<String>> {
        let mut problems = Vec::new();
        let Some(mut members) = Members::of(String::new(), strict::parse(bytes)?, &mut problems) else {
            return Err(problems);
        };
        let (current, previous) = (members.required("current"), members.optional("previous"));
        members.end();
        let current = current.and_then(|value| Pepper::of("current", value, &mut problems));
        let previous = previous.and_then(|value| Pepper::of("previous", value, &mut problems));
        if let (Some(current), Some(previous)) = (&current, &previous)
            && current.id == previous.id
        {
            problems.push("previous: the same as current".to_owned());
        }
        match current {
            Some(current) if problems.is_empty() => Ok(Peppers { current, previous }),
            _ => Err(problems),
        }
    }

    /// Writes a pepper file: whole or not at all, mode 0600.
    ///
    /// # Errors
    /// The file system's.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        private_file::write(path, format!("{:#}\n", self.document()).as_bytes())
    }

    fn document(&self) -> Value {
        match &self.previous {
            None => json!({ "current": self.current.document() }),
            Some(previous) => json!({ "current": self.current.document(), "previous": previous.document() }),
        }
    }

    /// The generation of this id.
    #[must_use]
    pub fn of_id(&self, id: &str) -> Option<&Pepper> {
        [Some(&self.current), self.previous.as_ref()].into_iter().flatten().find(|pepper| pepper.id == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_file_reads_back_over_two_rotations() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pepper.json");
        let peppers = Peppers::first(Pepper::new([1; 32])).rotated(Pepper::new([2; 32])).rotated(Pepper::new([3; 32]));
        peppers.write(&path).unwrap();
        let read = Peppers::read(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(read.current.secret, [3; 32]);
        assert_eq!(read.previous.unwrap().secret, [2; 32]);
    }

    #[test]
    fn debug_shows_the_id_and_no_secret() {
        let pepper = Pepper::new([0x41; 32]);
        let shown = format!("{pepper:?}");
        assert!(shown.contains(pepper.id()), "{shown}");
        assert!(!shown.contains("65, 65") && !shown.contains("secret"), "{shown}");
    }

    #[test]
    fn all_problems_of_a_file_are_told_at_once_with_their_place() {
        let secret = STANDARD.encode([1; 32]);
        let check = |text: &str, expected: &[&str]| {
            assert_eq!(Peppers::read(text.as_bytes()).unwrap_err(), expected, "{text}");
        };
        check("{\n x", &["line 2, column 2: not JSON"]);
        check("[]", &["the file: not an object"]);
        check("{}", &["current: missing"]);
        check(r#"{"current": 1, "more": 2}"#, &["more: unknown member", "current: not an object"]);
        check(
            r#"{"current": {"secret": "c2hvcnQ="}, "previous": {"id": "x", "secret": 7, "x": 1}}"#,
            &[
                "current.id: missing",
                "current.secret: not 32 bytes in base64",
                "previous.secret: not 32 bytes in base64",
                "previous.x: unknown member",
            ],
        );
        check(
            &format!(r#"{{"current": {{"id": "00000000", "secret": "{secret}"}}}}"#),
            &["current.id: does not belong to this secret"],
        );
        let twice = Pepper::new([1; 32]).document();
        check(&json!({ "current": twice, "previous": twice }).to_string(), &["previous: the same as current"]);
    }
}
