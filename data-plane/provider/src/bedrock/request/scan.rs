//! One pass over JSON text without a tree: checks the grammar and tells where values stand.
//!
//! A body is mostly prompt, which we never need as values, so strings are skipped eight bytes at a time and nothing is
//! allocated. Nesting is counted, never recursed into: a body of a million brackets costs a comparison, not the stack.
//! Numbers of any size and escapes of lone surrogates pass: they are JSON by grammar, and Bedrock's to judge.

use std::{borrow::Cow, ops::Range};

/// Most objects and arrays around a value, the outermost included. Bedrock's own parser and those of the SDKs stop at
/// depths from 100 to 1000; a kind of bracket is remembered per bit of a `u128`.
pub(super) const MAX_DEPTH: u32 = 128;

/// Where text stops being JSON that we take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Syntax {
    /// Offset in bytes.
    pub(super) at: usize,
    /// What is wrong there.
    pub(super) what: &'static str,
}

/// Key of a member.
#[derive(Clone, Debug)]
pub(super) struct Key<'a> {
    /// The key with its escapes resolved; as it is spelt where they name no character.
    pub(super) name: Cow<'a, str>,
    /// It is spelt with escapes.
    pub(super) escaped: bool,
}

/// Where an object stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Object {
    /// Offset of the byte behind its `{`.
    pub(super) open: usize,
    /// It has no members.
    pub(super) empty: bool,
}

/// Reads one text from its beginning to its end.
#[derive(Debug)]
pub(super) struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Scanner { text, at: 0 }
    }

    /// First byte of what comes next, whitespace skipped; `None`: the text has ended.
    pub(super) fn peek(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = bytes.get(self.at) {
            self.at += 1;
        }
        bytes.get(self.at).copied()
    }

    /// Nothing but whitespace is left.
    pub(super) fn end(&mut self) -> Result<(), Syntax> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.wrong("something follows the end of the value")),
        }
    }

    /// Walks the members of the object that comes next; `each` takes the value, and exactly the value, of each.
    ///
    /// The caller stands in few known objects when it asks for this, so depth is not counted here.
    pub(super) fn members<E: From<Syntax>>(
        &mut self,
        mut each: impl FnMut(&mut Self, Key<'a>) -> Result<(), E>,
    ) -> Result<Object, E> {
        self.take(b'{', "an object is missing")?;
        let mut object = Object { open: self.at, empty: true };
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(object);
        }
        object.empty = false;
        loop {
            let key = self.key()?;
            each(self, key)?;
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(object);
                }
                _ => return Err(self.wrong("a comma or a closing brace is missing").into()),
            }
        }
    }

    /// Walks the elements of the array that comes next, as [`Scanner::members`] does those of an object.
    pub(super) fn elements<E: From<Syntax>>(
        &mut self,
        mut each: impl FnMut(&mut Self, usize) -> Result<(), E>,
    ) -> Result<(), E> {
        self.take(b'[', "an array is missing")?;
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(());
        }
        for index in 0.. {
            each(self, index)?;
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    break;
                }
                _ => return Err(self.wrong("a comma or a closing bracket is missing").into()),
            }
        }
        Ok(())
    }

    /// Skips the value that comes next, which `outer` objects and arrays stand around, and tells where it stands.
    pub(super) fn value(&mut self, outer: u32) -> Result<Range<usize>, Syntax> {
        self.peek();
        let start = self.at;
        // One bit per open bracket, the innermost lowest: 1 is an object.
        let (mut kinds, mut depth) = (0_u128, 0_u32);
        loop {
            match self.peek() {
                Some(open @ (b'{' | b'[')) => {
                    depth += 1;
                    if outer + depth > MAX_DEPTH {
                        return Err(self.wrong("values are nested deeper than 128 levels"));
                    }
                    self.at += 1;
                    kinds = kinds << 1 | u128::from(open == b'{');
                    // An empty one is closed below, as if a value had ended.
                    if !matches!((open, self.peek()), (b'{', Some(b'}')) | (b'[', Some(b']'))) {
                        if open == b'{' {
                            self.key_range()?;
                        }
                        continue;
                    }
                }
                Some(b'"') => {
                    self.string()?;
                }
                Some(b'-' | b'0'..=b'9') => self.number()?,
                Some(b't') => self.word("true")?,
                Some(b'f') => self.word("false")?,
                Some(b'n') => self.word("null")?,
                _ => return Err(self.wrong("a value is missing")),
            }
            loop {
                if depth == 0 {
                    return Ok(start..self.at);
                }
                match (self.peek(), kinds & 1) {
                    (Some(b','), kind) => {
                        self.at += 1;
                        if kind == 1 {
                            self.key_range()?;
                        }
                        break;
                    }
                    (Some(b'}'), 1) | (Some(b']'), 0) => {
                        self.at += 1;
                        kinds >>= 1;
                        depth -= 1;
                    }
                    _ => return Err(self.wrong("a comma or a closing bracket is missing")),
                }
            }
        }
    }

    /// A key and its colon.
    fn key(&mut self) -> Result<Key<'a>, Syntax> {
        let quoted = &self.text[self.key_range()?];
        let raw = &quoted[1..quoted.len() - 1];
        if !raw.contains('\\') {
            return Ok(Key { name: Cow::Borrowed(raw), escaped: false });
        }
        let name = serde_json::from_str(quoted).map_or(Cow::Borrowed(raw), Cow::Owned);
        Ok(Key { name, escaped: true })
    }

    /// A key and its colon; gives where the key stands, quotes included.
    fn key_range(&mut self) -> Result<Range<usize>, Syntax> {
        if self.peek() != Some(b'"') {
            return Err(self.wrong("a key is missing"));
        }
        let key = self.string()?;
        self.take(b':', "a colon is missing")?;
        Ok(key)
    }

    /// A string; stands on its opening quote. Gives where it stands, quotes included.
    fn string(&mut self) -> Result<Range<usize>, Syntax> {
        let bytes = self.text.as_bytes();
        let start = self.at;
        self.at += 1;
        loop {
            self.at += plain(&bytes[self.at..]);
            match bytes.get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(start..self.at);
                }
                Some(b'\\') => self.escape()?,
                Some(_) => return Err(self.wrong("a string holds a control character")),
                None => return Err(self.wrong("a string does not end")),
            }
        }
    }

    /// An escape; stands on its backslash.
    fn escape(&mut self) -> Result<(), Syntax> {
        let bytes = &self.text.as_bytes()[self.at..];
        let length = match bytes.get(1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => 2,
            Some(b'u') if bytes.get(2..6).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) => 6,
            _ => return Err(self.wrong("a string holds an escape that JSON does not know")),
        };
        self.at += length;
        Ok(())
    }

    /// A number; stands on its first byte.
    fn number(&mut self) -> Result<(), Syntax> {
        if self.here() == Some(b'-') {
            self.at += 1;
        }
        match self.here() {
            Some(b'0') => self.at += 1,
            _ => self.digits()?,
        }
        if self.here() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.here() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.here() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    /// One digit or more.
    fn digits(&mut self) -> Result<(), Syntax> {
        let start = self.at;
        while self.here().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at == start { Err(self.wrong("a number lacks a digit")) } else { Ok(()) }
    }

    fn word(&mut self, word: &str) -> Result<(), Syntax> {
        if !self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            return Err(self.wrong("a value is missing"));
        }
        self.at += word.len();
        Ok(())
    }

    fn take(&mut self, byte: u8, missing: &'static str) -> Result<(), Syntax> {
        if self.peek() != Some(byte) {
            return Err(self.wrong(missing));
        }
        self.at += 1;
        Ok(())
    }

    fn here(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn wrong(&self, what: &'static str) -> Syntax {
        Syntax { at: self.at, what }
    }
}

/// How many bytes from the start stand for themselves in a string: neither quote, backslash nor control character.
fn plain(bytes: &[u8]) -> usize {
    /// Names and short words end before this; only what is longer is worth the wider step, which finds whether a block
    /// has such a byte but not where.
    const SHORT: usize = 16;
    let short = plain_by_words(&bytes[..bytes.len().min(SHORT)]);
    if short < SHORT {
        return short;
    }
    let (blocks, _) = bytes[SHORT..].as_chunks::<32>();
    let clear = |block: &&[u8; 32]| !block.iter().fold(false, |found, byte| found | is_special(*byte));
    let at = SHORT + 32 * blocks.iter().take_while(clear).count();
    at + plain_by_words(&bytes[at..])
}

/// The same in steps of eight bytes.
fn plain_by_words(bytes: &[u8]) -> usize {
    const LOW: u64 = u64::from_le_bytes([0x01; 8]);
    const HIGH: u64 = u64::from_le_bytes([0x80; 8]);
    const QUOTES: u64 = u64::from_le_bytes([b'"'; 8]);
    const BACKSLASHES: u64 = u64::from_le_bytes([b'\\'; 8]);
    const SPACES: u64 = u64::from_le_bytes([b' '; 8]);
    // Marks the bytes of `word` below those of `than`. A borrow may mark a byte above a marked one falsely, so only
    // the lowest mark counts, and that one is true.
    let below = |word: u64, than: u64| word.wrapping_sub(than) & !word & HIGH;
    let (words, _) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let marks = below(word ^ QUOTES, LOW) | below(word ^ BACKSLASHES, LOW) | below(word, SPACES);
        if marks != 0 {
            return index * 8 + marks.trailing_zeros() as usize / 8;
        }
    }
    let tail = words.len() * 8;
    bytes[tail..].iter().position(|byte| is_special(*byte)).map_or(bytes.len(), |index| tail + index)
}

fn is_special(byte: u8) -> bool {
    (byte == b'"') | (byte == b'\\') | (byte < b' ')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scan(text: &str) -> Result<Range<usize>, Syntax> {
        let mut scanner = Scanner::new(text);
        let range = scanner.value(0)?;
        scanner.end()?;
        Ok(range)
    }

    /// Whether serde_json takes it by grammar alone; it is used as a judge only where depth is small.
    fn oracle(text: &str) -> bool {
        serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
    }

    #[test]
    fn the_grammar_is_that_of_json() {
        let texts = [
            "{}",
            "[]",
            " [ ] ",
            "{ }",
            "[[],{}]",
            "[1,2]",
            "[1,]",
            "[,1]",
            "[1 2]",
            "{\"a\":1}",
            "{\"a\":1,}",
            "{\"a\"}",
            "{a:1}",
            "{\"a\":}",
            "{,}",
            "{\"a\":1 \"b\":2}",
            "[1}",
            "{\"a\":1]",
            "[",
            "{",
            "]",
            "}",
            "",
            " ",
            "[1]]",
            "1 2",
            "null",
            "nul",
            "nullx",
            "true",
            "tru",
            "false",
            "False",
            "NaN",
            "Infinity",
            "0",
            "-0",
            "-",
            "+1",
            "01",
            "1.",
            ".5",
            "1.5",
            "1e3",
            "1E+3",
            "1e-3",
            "1e",
            "1e+",
            "1.5e",
            "1e999",
            "-1.0e-0",
            "\"\"",
            "\"a\"",
            "\"",
            "\"\\\"",
            "\"\\\"\"",
            "\"\\u12g4\"",
            "\"\\u1234\"",
            "\"\\ud800\"",
            "\"\\x41\"",
            "\"\\u123\"",
            "\"\\/\\b\\f\\n\\r\\t\\\\\"",
            "\"a\nb\"",
            "\"12345678\n\"",
            "\"1234567\u{1f}89\"",
            "\"é漢🦀\"",
            "\"aaaaaaaaaaaaaaaa\\\\\"",
            "\u{feff}1",
            "\u{a0}1",
            "/**/1",
            "'a'",
            "[\"a\",\"b\":1]",
            "{\"a\":{\"b\":[]}}",
        ];
        for text in texts {
            assert_eq!(scan(text).is_ok(), oracle(text), "{text:?}: {:?}", scan(text));
        }
    }

    #[test]
    fn nesting_is_bounded_without_recursion() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(scan(&nested(128)).is_ok());
        assert_eq!(scan(&nested(129)).unwrap_err().at, 128);
        assert_eq!(scan(&"[".repeat(1_000_000)).unwrap_err().at, 128);
        let objects = |depth: usize| "{\"a\":".repeat(depth) + "1" + &"}".repeat(depth);
        assert!(scan(&objects(128)).is_ok());
        assert!(scan(&objects(129)).is_err());
        assert!(scan(&format!("\"{}\"", "[".repeat(1000))).is_ok(), "brackets in strings are none");
        let wide = format!("[{}]", ["[[]]"; 1000].join(","));
        assert!(scan(&wide).is_ok(), "closed brackets count no more");
    }

    #[test]
    fn the_end_of_plain_text_is_found_at_every_place_and_for_every_byte() {
        for byte in 0..=u8::MAX {
            let special = matches!(byte, b'"' | b'\\' | 0..0x20);
            for length in [0, 1, 7, 8, 9, 15, 16, 17, 24, 47, 48, 49, 60, 90] {
                for stop in 0..length {
                    let mut bytes = vec![b'a'; length];
                    bytes[stop..].fill(byte);
                    assert_eq!(plain(&bytes), if special { stop } else { length }, "byte {byte} at {stop} of {length}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn whatever_is_cut_or_changed_it_is_judged_as_serde_json_judges(
            text in r#"[\[\]{}",:0-9a-fu\\ .e+\-tn]{0,24}"#, wrap in any::<bool>()
        ) {
            let text = if wrap { format!("{{\"a\":[{text}]}}") } else { text };
            prop_assert_eq!(scan(&text).is_ok(), oracle(&text), "{}", text);
        }

        #[test]
        fn strings_are_judged_as_serde_json_judges(text in "\"(\\PC|[\\\\\"ubn0-9\u{0}-\u{1f}]){0,40}\"") {
            prop_assert_eq!(scan(&text).is_ok(), oracle(&text), "{}", text);
        }
    }
}
