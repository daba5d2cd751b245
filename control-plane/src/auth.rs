//! Who may call: operators and nodes, by bearer tokens of their own from two files.
//!
//! A file has one `NAME:TOKEN` per line; the name is what is recorded as who did it. A name may stand there twice, so that
//! a token can be replaced while the old one is still in use. A token that is in both files would make every node an
//! operator, and is refused.
//!
//! Kept are digests, and they are compared in constant time, all of them: how long it takes tells nothing of any token.

use std::{collections::HashMap, fs, os::unix::fs::MetadataExt, path::Path, sync::Arc};

use anyhow::Context;
use aws_lc_rs::{
    constant_time,
    digest::{SHA256, digest},
};
use tonic::{Request, Status, metadata::MetadataMap, service::Interceptor};

use crate::{layout, revisions::MAX_AUTHOR};

/// Least characters of a token: 128 bits, in hexadecimal digits.
const MIN_TOKEN: usize = 32;
/// Most characters of a token: it travels in a header.
const MAX_TOKEN: usize = 512;
/// Most characters of a token's name, so that an author's name fits beside it.
const MAX_NAME: usize = 64;
/// Most lines of a file: every call compares with each.
const MAX_LINES: usize = 1000;
/// Metadata with the author's name.
const AUTHOR: &str = "x-switchtower-author";

/// Why somebody may not call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is no token.
    #[error("metadata `authorization: Bearer TOKEN` is missing")]
    Missing,
    /// It is none of ours.
    #[error("the token is wrong")]
    Wrong,
    /// The author's name cannot be recorded.
    #[error(
        "metadata `x-switchtower-author` is not text of one line, or too long: with the token's name at most 128 characters"
    )]
    Author,
}

/// Who does something, as it is recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// `NAME` of the token, or `AUTHOR (via NAME)`; at most 128 characters.
    pub author: String,
}

/// The tokens of operators and of the fleet.
#[derive(Debug)]
pub struct Tokens {
    operators: Vec<Token>,
    fleet: Vec<Token>,
}

#[derive(Debug)]
struct Token {
    name: String,
    digest: [u8; 32],
}

impl Tokens {
    /// Reads both files.
    ///
    /// # Errors
    /// All their problems, each with its file and line; none quotes a token.
    pub fn read(operators: &[u8], fleet: &[u8]) -> Result<Self, Vec<String>> {
        let mut problems = Vec::new();
        let mut seen = HashMap::new();
        let operators = lines("operators", operators, &mut seen, &mut problems);
        let fleet = lines("fleet", fleet, &mut seen, &mut problems);
        if problems.is_empty() { Ok(Tokens { operators, fleet }) } else { Err(problems) }
    }

    /// The operator who calls.
    ///
    /// # Errors
    /// UNAUTHENTICATED; INVALID_ARGUMENT for an author's name that cannot be recorded.
    pub fn operator(&self, metadata: &MetadataMap) -> Result<Actor, Status> {
        Ok(authored(&known(&self.operators, metadata)?.name, metadata)?)
    }

    /// Whether a node calls.
    ///
    /// # Errors
    /// UNAUTHENTICATED.
    pub fn node(&self, metadata: &MetadataMap) -> Result<(), Status> {
        known(&self.fleet, metadata)?;
        Ok(())
    }
}

/// Whether every user of this machine can read a file.
///
/// # Errors
/// The file is not there, or cannot be looked at.
pub fn is_open_to_all(path: &Path) -> anyhow::Result<bool> {
    let metadata = fs::metadata(path).with_context(|| format!("{} cannot be read", path.display()))?;
    Ok(metadata.mode() & 0o004 != 0)
}

/// Lets only operators through, before anything of a request's body is read, and says who it is.
#[derive(Clone, Debug)]
pub struct Operators(pub Arc<Tokens>);

impl Interceptor for Operators {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let actor = self.0.operator(request.metadata())?;
        request.extensions_mut().insert(actor);
        Ok(request)
    }
}

fn known<'a>(tokens: &'a [Token], metadata: &MetadataMap) -> Result<&'a Token, Refused> {
    let mut given = metadata.get_all("authorization").iter();
    let (Some(value), None) = (given.next(), given.next()) else { return Err(Refused::Missing) };
    let (scheme, token) = value.to_str().ok().and_then(|value| value.split_once(' ')).ok_or(Refused::Missing)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(Refused::Missing);
    }
    let given = sha256(token.trim().as_bytes());
    // No early end: see above.
    let same = |token: &Token| constant_time::verify_slices_are_equal(&token.digest, &given).is_ok();
    let found = tokens.iter().fold(None, |found, token| if same(token) { Some(token) } else { found });
    found.ok_or(Refused::Wrong)
}

fn authored(name: &str, metadata: &MetadataMap) -> Result<Actor, Refused> {
    let Some(value) = metadata.get(AUTHOR) else { return Ok(Actor { author: name.to_owned() }) };
    let author = std::str::from_utf8(value.as_bytes()).map_err(|_| Refused::Author)?.trim();
    let author = match author {
        "" => name.to_owned(),
        author if author == name => name.to_owned(),
        author => format!("{author} (via {name})"),
    };
    let legible = author.chars().count() <= MAX_AUTHOR && !author.chars().any(char::is_control);
    if legible { Ok(Actor { author }) } else { Err(Refused::Author) }
}

/// The tokens of a file. `seen` has the place of each so far.
fn lines(
    file: &'static str,
    bytes: &[u8],
    seen: &mut HashMap<[u8; 32], (&'static str, String, usize)>,
    problems: &mut Vec<String>,
) -> Vec<Token> {
    let mut tokens = Vec::new();
    let Ok(text) = std::str::from_utf8(bytes) else {
        problems.push(format!("{file}: not UTF-8"));
        return tokens;
    };
    let count = text.lines().count();
    if count > MAX_LINES {
        problems.push(format!("{file}: {count} lines, and at most {MAX_LINES} are allowed"));
        return tokens;
    }
    let before = problems.len();
    for (index, line) in text.lines().enumerate().map(|(index, line)| (index + 1, line.trim())) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match token(line) {
            Ok(token) => {
                match seen.get(&token.digest) {
                    Some((other, name, at)) if *other != file || *name != token.name => {
                        problems.push(format!("{file}, line {index}: the same token as in {other}, line {at}"));
                    }
                    _ => drop(seen.insert(token.digest, (file, token.name.clone(), index))),
                }
                tokens.push(token);
            }
            Err(problem) => problems.push(format!("{file}, line {index}: {problem}")),
        }
    }
    if tokens.is_empty() && problems.len() == before {
        problems.push(format!("{file}: no token: write a line NAME:TOKEN"));
    }
    tokens
}

fn token(line: &str) -> Result<Token, String> {
    let (name, token) = line.split_once(':').ok_or("not NAME:TOKEN")?;
    if !layout::is_name(name) || name.len() > MAX_NAME {
        return Err(format!(
            "a name is 1 to {MAX_NAME} characters of [a-zA-Z0-9._-], beginning with a letter or a digit"
        ));
    }
    if !(MIN_TOKEN..=MAX_TOKEN).contains(&token.len()) || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(format!(
            "a token is {MIN_TOKEN} to {MAX_TOKEN} visible ASCII characters without spaces; draw one with \
             `openssl rand -hex 32`"
        ));
    }
    Ok(Token { name: name.to_owned(), digest: sha256(token.as_bytes()) })
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    digest(&SHA256, bytes).as_ref().try_into().expect("SHA-256 is 32 bytes long")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use tonic::{Code, metadata::MetadataValue};

    use super::*;

    const ANN: &str = "ann-token-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const CI: &str = "ci-token:with-a-colon-cccccccccccccccccc";
    const FLEET: &str = "fleet-token-ffffffffffffffffffffffffffff";

    fn tokens() -> Tokens {
        let operators = format!("# people\n\nann:{ANN}\r\n  ci:{CI}\n");
        Tokens::read(operators.as_bytes(), format!("fleet:{FLEET}").as_bytes()).unwrap()
    }

    fn metadata(authorization: &[&str], author: Option<&[u8]>) -> MetadataMap {
        let mut metadata = MetadataMap::new();
        for value in authorization {
            metadata.append("authorization", value.parse().unwrap());
        }
        if let Some(author) = author {
            metadata.insert(AUTHOR, MetadataValue::try_from(author).unwrap());
        }
        metadata
    }

    #[test]
    fn an_operator_is_known_by_the_token_and_recorded_with_the_author() {
        let check = |token: &str, author: Option<&str>, expected: Result<&str, Code>| {
            let metadata = metadata(&[&format!("Bearer {token}")], author.map(str::as_bytes));
            let actor = tokens().operator(&metadata).map(|actor| actor.author);
            assert_eq!(actor.as_deref().map_err(Status::code), expected, "{token} {author:?}");
        };
        check(ANN, None, Ok("ann"));
        check(CI, None, Ok("ci"));
        check(CI, Some("Bob Ö"), Ok("Bob Ö (via ci)"));
        check(CI, Some("ci"), Ok("ci"));
        check(CI, Some(" "), Ok("ci"));
        check(CI, Some(&"x".repeat(119)), Ok(&format!("{} (via ci)", "x".repeat(119))));
        check(CI, Some(&"x".repeat(120)), Err(Code::InvalidArgument));
        check(CI, Some("a\tb"), Err(Code::InvalidArgument));
        check(FLEET, None, Err(Code::Unauthenticated));
        check(&ANN[1..], Some("ann"), Err(Code::Unauthenticated));
        check("", None, Err(Code::Unauthenticated));
    }

    #[test]
    fn a_node_is_known_by_the_fleet_s_token_and_not_by_an_operator_s() {
        let check = |authorization: &[&str], expected: bool| {
            assert_eq!(tokens().node(&metadata(authorization, None)).is_ok(), expected, "{authorization:?}");
        };
        let bearer = format!("Bearer {FLEET}");
        check(&[&bearer], true);
        check(&[&format!("bearer {FLEET}")], true);
        check(&[&bearer, &bearer], false);
        check(&[&format!("Basic {FLEET}")], false);
        check(&[FLEET], false);
        check(&[&format!("Bearer {ANN}")], false);
        check(&[], false);
    }

    #[test]
    fn an_author_s_name_that_is_no_text_is_refused() {
        let metadata = metadata(&[&format!("Bearer {ANN}")], Some(&[0xff, 0xfe]));
        assert_eq!(tokens().operator(&metadata).unwrap_err().code(), Code::InvalidArgument);
    }

    #[test]
    fn all_problems_of_both_files_are_told_at_once_and_quote_no_token() {
        let operators = format!("ann:{ANN}\nann\nb c:{ANN}\ndan:short\neve:{ANN}\nann:{ANN}\nfay:{} x", "y".repeat(32));
        let problems = Tokens::read(operators.as_bytes(), format!("n:{ANN}").as_bytes()).unwrap_err();
        let places: Vec<_> = problems.iter().map(|problem| problem.split(':').next().unwrap()).collect();
        let expected =
            ["operators, line 2", "operators, line 3", "operators, line 4", "operators, line 5", "operators, line 7"];
        assert_eq!(places[..5], expected);
        assert_eq!(places[5..], ["fleet, line 1"]);
        assert!(problems[3].ends_with("the same token as in operators, line 1"), "{problems:?}");
        assert!(!problems.iter().any(|problem| problem.contains(ANN) || problem.contains("yyy")), "{problems:?}");
    }

    #[test]
    fn a_file_without_tokens_with_too_many_lines_or_that_is_no_text_is_refused() {
        let check = |operators: &[u8], expected: &str| {
            let problems = Tokens::read(operators, format!("fleet:{FLEET}").as_bytes()).unwrap_err();
            assert_eq!(problems, [expected]);
        };
        check(b"", "operators: no token: write a line NAME:TOKEN");
        check(b"# none yet\n", "operators: no token: write a line NAME:TOKEN");
        check(b"\xff", "operators: not UTF-8");
        check(&b"\n".repeat(1001), "operators: 1001 lines, and at most 1000 are allowed");
    }

    #[test]
    fn a_file_that_everybody_can_read_is_found() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let check = |mode: u32, expected: bool| {
            fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(is_open_to_all(file.path()).unwrap(), expected, "{mode:o}");
        };
        check(0o644, true);
        check(0o604, true);
        check(0o640, false);
        check(0o600, false);
        assert!(is_open_to_all(Path::new("/no/such/file")).is_err());
    }

    #[test]
    fn debug_shows_no_token() {
        assert!(!format!("{:?}", tokens()).contains(ANN));
    }
}
