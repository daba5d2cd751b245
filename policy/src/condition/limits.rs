//! Cuts a condition into tokens, and bounds it before any parser sees it.
//!
//! The tokens are CEL's own, cut as its grammar cuts them; where the two could differ (an unterminated quote, a digit
//! against a letter) this one refuses. What conditions have no use for (`bytes`, `uint`, `null`, braces, backticks) ends
//! here too, so that the parser behind it is never asked.

use super::Error;

/// Longest text, in bytes: a rule that needs more is a flag or a route of its own.
const MAX_BYTES: usize = 1024;
/// Deepest nesting of brackets. The parser takes about eight calls per bracket: with these limits it stays within 256 KiB
/// of stack, where it is built with `opt-level = 1`; unoptimised, eleven brackets overflow the 2 MiB of a test's thread.
pub(super) const MAX_DEPTH: usize = 8;
/// Most operands and operators. Chains of them nest in the parser's tree without any bracket.
const MAX_TERMS: usize = 64;

/// A token and where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) start: usize,
    pub(super) end: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Name,
    Number,
    /// A string, `true` or `false`.
    Literal,
    /// An operator that only stands between two operands; `in` is one.
    Binary,
    Minus,
    Not,
    Question,
    Colon,
    Comma,
    Dot,
    Open(u8),
    Close(u8),
}

/// The tokens of a text that is within the limits.
pub(super) fn tokens(text: &str) -> Result<Vec<Token>, Error> {
    if text.len() > MAX_BYTES {
        let message = format!("a condition has at most {MAX_BYTES} bytes, this one has {}", text.len());
        return Err(limit(text.floor_char_boundary(MAX_BYTES), message));
    }
    let (mut tokens, mut terms, mut depth) = (Vec::new(), 0usize, 0usize);
    let mut at = 0;
    while let Some(token) = next(text, at, &tokens)? {
        match token.kind {
            Kind::Open(_) => depth += 1,
            Kind::Close(_) => depth = depth.saturating_sub(1),
            Kind::Colon | Kind::Comma | Kind::Dot => {}
            _ => terms += 1,
        }
        if depth > MAX_DEPTH {
            return Err(limit(token.start, format!("brackets nest at most {MAX_DEPTH} deep")));
        }
        if terms > MAX_TERMS {
            let message = format!(
                "a condition has at most {MAX_TERMS} operands and operators; move a part of it into a flag's rules"
            );
            return Err(limit(token.start, message));
        }
        tokens.push(token);
        at = token.end;
    }
    Ok(tokens)
}

fn limit(offset: usize, message: String) -> Error {
    Error::new(offset, "condition_limit", message)
}

/// The token at or after `at`.
fn next(text: &str, at: usize, before: &[Token]) -> Result<Option<Token>, Error> {
    let bytes = text.as_bytes();
    let start = skip_blanks(bytes, at);
    let Some(&first) = bytes.get(start) else { return Ok(None) };
    let second = bytes.get(start + 1).copied().unwrap_or(0);
    let (kind, end) = match first {
        b'a'..=b'z' | b'A'..=b'Z' | b'_' => word(text, start)?,
        b'0'..=b'9' => (Kind::Number, number(text, start, before)?),
        b'.' if second.is_ascii_digit() => (Kind::Number, number(text, start, before)?),
        b'"' | b'\'' => (Kind::Literal, string(text, start, start, false)?),
        b'(' | b'[' => (Kind::Open(first), start + 1),
        b')' | b']' => (Kind::Close(first), start + 1),
        b'&' | b'|' if second == first => (Kind::Binary, start + 2),
        b'=' | b'!' | b'<' | b'>' if second == b'=' => (Kind::Binary, start + 2),
        b'<' | b'>' | b'+' | b'*' | b'/' | b'%' => (Kind::Binary, start + 1),
        b'-' => (Kind::Minus, start + 1),
        b'!' => (Kind::Not, start + 1),
        b'?' => (Kind::Question, start + 1),
        b':' => (Kind::Colon, start + 1),
        b',' => (Kind::Comma, start + 1),
        b'.' => (Kind::Dot, start + 1),
        _ => return Err(unexpected(text, start)),
    };
    Ok(Some(Token { kind, start, end }))
}

fn skip_blanks(bytes: &[u8], mut at: usize) -> usize {
    loop {
        match bytes.get(at) {
            Some(b' ' | b'\t' | b'\r' | b'\n' | 0x0c) => at += 1,
            Some(b'/') if bytes.get(at + 1) == Some(&b'/') => {
                at = bytes[at..].iter().position(|b| *b == b'\n').map_or(bytes.len(), |line| at + line);
            }
            _ => return at,
        }
    }
}

fn unexpected(text: &str, start: usize) -> Error {
    let found = text[start..].chars().next().unwrap_or(' ');
    match found {
        '&' => Error::syntax(start, "`&` is not an operator").suggest(Some("&&".into())),
        '|' => Error::syntax(start, "`|` is not an operator").suggest(Some("||".into())),
        '=' => Error::syntax(start, "`=` is not an operator").suggest(Some("==".into())),
        '{' | '}' => Error::unsupported(start, "a condition builds no maps and no messages"),
        '`' => Error::unsupported(start, "a key that is no name stands in brackets, such as `metadata[\"x-y\"]`"),
        _ => Error::syntax(start, format!("`{}` means nothing here", found.escape_debug())),
    }
}

/// A name, a word of the language, or a string with a prefix.
fn word(text: &str, start: usize) -> Result<(Kind, usize), Error> {
    let rest = &text[start..];
    let end = start + rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
    let name = &text[start..end];
    let quoted = matches!(text.as_bytes().get(end), Some(b'"' | b'\''));
    match name {
        "r" | "R" if quoted => Ok((Kind::Literal, string(text, start, end, true)?)),
        "b" | "B" | "br" | "bR" | "Br" | "BR" if quoted => {
            Err(Error::unsupported(start, "there are no bytes in a condition; write a string, without the `b`"))
        }
        "null" => Err(Error::unsupported(start, "nothing is ever null; ask for a key with `has(metadata.key)`")),
        "true" | "false" => Ok((Kind::Literal, end)),
        "in" => Ok((Kind::Binary, end)),
        _ => Ok((Kind::Name, end)),
    }
}

/// The end of a number.
fn number(text: &str, start: usize, before: &[Token]) -> Result<usize, Error> {
    let bytes = text.as_bytes();
    let digits = |mut at: usize| {
        while bytes.get(at).is_some_and(u8::is_ascii_digit) {
            at += 1;
        }
        at
    };
    let hexadecimal = text[start..].starts_with("0x");
    let (mut end, mut whole) = (digits(start), true);
    if hexadecimal {
        end = start + 2;
        while bytes.get(end).is_some_and(u8::is_ascii_hexdigit) {
            end += 1;
        }
    } else {
        if bytes.get(end) == Some(&b'.') && bytes.get(end + 1).is_some_and(u8::is_ascii_digit) {
            (end, whole) = (digits(end + 1), false);
        }
        if matches!(bytes.get(end), Some(b'e' | b'E')) {
            let signed = matches!(bytes.get(end + 1), Some(b'+' | b'-'));
            let exponent = end + 1 + usize::from(signed);
            if digits(exponent) > exponent {
                (end, whole) = (digits(exponent), false);
            }
        }
    }
    match bytes.get(end) {
        Some(b'u' | b'U') => return Err(Error::unsupported(end, "there are no unsigned numbers; leave the `u` out")),
        Some(b) if b.is_ascii_alphabetic() || *b == b'_' => return Err(Error::syntax(start, "this is not a number")),
        _ => {}
    }
    let digits = &text[start..end];
    let fits = if whole {
        let value = match digits.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16),
            None => digits.parse(),
        };
        let negative = before.last().is_some_and(|token| token.kind == Kind::Minus);
        value.is_ok_and(|value| value <= i64::MAX as u64 + u64::from(negative))
    } else {
        digits.parse::<f64>().is_ok_and(f64::is_finite)
    };
    if fits { Ok(end) } else { Err(Error::syntax(start, "this number is too large, or is none")) }
}

/// The end of a string whose quote stands at `quote`; `start` is where its prefix stands.
fn string(text: &str, start: usize, quote: usize, raw: bool) -> Result<usize, Error> {
    let bytes = text.as_bytes();
    let mark = bytes[quote];
    let triple = [mark; 3];
    let long = bytes[quote..].starts_with(&triple);
    let mut at = quote + if long { 3 } else { 1 };
    loop {
        match bytes.get(at) {
            None => return Err(Error::syntax(start, "this string has no end")),
            Some(b'\n' | b'\r') if !long => return Err(Error::syntax(start, "this string does not end on its line")),
            Some(b'\\') if !raw => at = escape(text, at)?,
            Some(b) if *b == mark && !long => return Ok(at + 1),
            Some(_) if long && bytes[at..].starts_with(&triple) => return Ok(at + 3),
            Some(_) => at += 1,
        }
    }
}

/// The end of an escape whose backslash stands at `at`.
fn escape(text: &str, at: usize) -> Result<usize, Error> {
    let rest = &text.as_bytes()[at + 1..];
    let hexadecimal = |count: usize| {
        let digits = rest.get(1..=count).and_then(|digits| std::str::from_utf8(digits).ok())?;
        let all = digits.bytes().all(|b| b.is_ascii_hexdigit());
        all.then(|| u32::from_str_radix(digits, 16).ok().and_then(char::from_u32)).flatten().map(|_| count + 1)
    };
    let length = match rest.first() {
        Some(b'a' | b'b' | b'f' | b'n' | b'r' | b't' | b'v' | b'"' | b'\'' | b'\\' | b'?' | b'`') => Some(1),
        Some(b'x' | b'X') => hexadecimal(2),
        Some(b'u') => hexadecimal(4),
        Some(b'U') => hexadecimal(8),
        Some(b'0'..=b'3') => rest.get(1..3).filter(|two| two.iter().all(|b| (b'0'..=b'7').contains(b))).map(|_| 3),
        _ => None,
    };
    match length {
        Some(length) => Ok(at + 1 + length),
        None => {
            Err(Error::syntax(at, "this is no escape of CEL; write `\\\\` for a backslash, or the string as r\"...\""))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn cut(text: &str, expected: &[&str]) {
        let tokens = tokens(text).unwrap_or_else(|e| panic!("{text}: {e}"));
        let cut: Vec<&str> = tokens.iter().map(|token| &text[token.start..token.end]).collect();
        assert_eq!(cut, expected, "{text}");
    }

    #[test]
    fn texts_are_cut_as_cel_cuts_them() {
        cut("", &[]);
        cut("a.b==\"c\"", &["a", ".", "b", "==", "\"c\""]);
        cut("a // b \" (\n&& c", &["a", "&&", "c"]);
        cut("1.5e3-.5 + 1.size() + 0x1F", &["1.5e3", "-", ".5", "+", "1", ".", "size", "(", ")", "+", "0x1F"]);
        cut(
            r#"r"\" + '\'(' + """a " ((
             b""" "#,
            &[r#"r"\""#, "+", r"'\'('", "+", "\"\"\"a \" ((\n             b\"\"\""],
        );
        cut("!!a ? b : c", &["!", "!", "a", "?", "b", ":", "c"]);
        cut("\"\"+''+\"\"\"\"\"\"", &["\"\"", "+", "''", "+", "\"\"\"\"\"\""]);
        cut("r in br", &["r", "in", "br"]);
        cut("\"é ☂\" == x", &["\"é ☂\"", "==", "x"]);
    }

    #[test]
    fn brackets_inside_strings_and_comments_do_not_count() {
        assert!(tokens(&format!("a == \"{}\" // {}", "(".repeat(100), "[".repeat(100))).is_ok());
    }

    #[track_caller]
    fn refused(text: &str, offset: usize, code: &str) {
        let error = tokens(text).expect_err(text);
        assert_eq!((error.offset, error.code), (offset, code), "{text}: {error}");
    }

    #[test]
    fn what_is_beyond_the_limits_is_refused_before_it_is_parsed() {
        refused(&"a".repeat(1025), 1024, "condition_limit");
        refused(&format!("\"{}", "é".repeat(512)), 1023, "condition_limit");
        refused(&"(".repeat(500), 8, "condition_limit");
        refused(&"([".repeat(250), 8, "condition_limit");
        refused(&format!("{}1", "1+".repeat(500)), 64, "condition_limit");
        refused(&"!".repeat(500), 64, "condition_limit");
        refused(&"-".repeat(500), 64, "condition_limit");
        refused(&"a.".repeat(500), 128, "condition_limit");
        refused(&"a?b:".repeat(200), 85, "condition_limit");
    }

    #[test]
    fn what_conditions_have_no_use_for_is_refused_before_it_is_parsed() {
        refused("b\"x\" == c", 0, "condition_unsupported");
        refused("a == br'x'", 5, "condition_unsupported");
        refused("a == 1u", 6, "condition_unsupported");
        refused("a == null", 5, "condition_unsupported");
        refused("{}", 0, "condition_unsupported");
        refused("a.`b`", 2, "condition_unsupported");
    }

    #[test]
    fn what_is_not_a_token_is_refused_where_it_stands() {
        refused("a = b", 2, "condition_syntax");
        refused("a & b", 2, "condition_syntax");
        refused("a == \"b", 5, "condition_syntax");
        refused("a == \"b\n\"", 5, "condition_syntax");
        refused("a == '''b''", 5, "condition_syntax");
        refused(r#"a == "\q""#, 6, "condition_syntax");
        refused(r#"a == "\u12""#, 6, "condition_syntax");
        refused(r#"a == "\ud800""#, 6, "condition_syntax");
        refused(r#"a == "\9""#, 6, "condition_syntax");
        refused(r#"a == "\"#, 6, "condition_syntax");
        refused("1x", 0, "condition_syntax");
        refused("0x", 0, "condition_syntax");
        refused("1e999", 0, "condition_syntax");
        refused("9223372036854775808", 0, "condition_syntax");
        refused("-9223372036854775809", 1, "condition_syntax");
        refused("é", 0, "condition_syntax");
        refused("a\u{0}", 1, "condition_syntax");
    }
}
