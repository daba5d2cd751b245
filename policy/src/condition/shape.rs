//! Checks that tokens stand in the order that CEL's grammar allows, without recursing.
//!
//! The parser behind it would find the same, but recovers from every error it finds (which is where such parsers spend
//! their time and keep their panics) and names grammar rules where an operator needs to know which bracket is open.
//! Only texts that are CEL reach it.

use super::{
    Error,
    limits::{Kind, MAX_DEPTH, Token},
};

/// Words that CEL keeps for languages around it, and that its parser refuses as names.
const RESERVED: [&str; 17] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];
/// Macros that loop.
const COMPREHENSIONS: [&str; 5] = ["all", "exists", "exists_one", "map", "filter"];

/// What an open bracket is for, and whether a `?` inside it still waits for its `:`.
#[derive(Clone, Copy)]
struct Frame {
    opened: usize,
    closer: u8,
    what: Bracket,
    choosing: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Bracket {
    Whole,
    Group,
    Call,
    Index,
    List,
}

struct Shape<'a> {
    text: &'a str,
    tokens: &'a [Token],
    frames: Vec<Frame>,
}

pub(super) fn check(text: &str, tokens: &[Token]) -> Result<(), Error> {
    let mut frames = Vec::with_capacity(MAX_DEPTH + 1);
    frames.push(Frame { opened: 0, closer: 0, what: Bracket::Whole, choosing: false });
    let mut shape = Shape { text, tokens, frames };
    // Walks from operand to operator and back; each step says how many tokens it took, and which of the two is next.
    let (mut at, mut operand) = (0, true);
    while at < tokens.len() || operand {
        let taken = if operand { shape.operand(at)? } else { shape.operator(at)? };
        (at, operand) = (at + taken.0, taken.1);
    }
    shape.end()
}

/// How many tokens a step took, and whether an operand comes next.
type Step = Result<(usize, bool), Error>;

impl Shape<'_> {
    fn kind(&self, at: usize) -> Option<Kind> {
        self.tokens.get(at).map(|token| token.kind)
    }

    fn word(&self, at: usize) -> &str {
        self.tokens.get(at).map_or("", |token| &self.text[token.start..token.end])
    }

    fn offset(&self, at: usize) -> usize {
        self.tokens.get(at).map_or(self.text.len(), |token| token.start)
    }

    fn top(&mut self) -> &mut Frame {
        self.frames.last_mut().expect("the frame of the whole condition is never closed")
    }

    fn open(&mut self, at: usize, closer: u8, what: Bracket) {
        let opened = self.offset(at);
        self.frames.push(Frame { opened, closer, what, choosing: false });
    }

    /// What may stand where an operand is due: prefixes, brackets, names, literals, the end of an empty list.
    fn operand(&mut self, at: usize) -> Step {
        match self.kind(at) {
            Some(Kind::Number | Kind::Literal) => Ok((1, false)),
            Some(Kind::Name) if self.kind(at + 1) == Some(Kind::Open(b'(')) => {
                self.name(at)?;
                self.call(at)
            }
            Some(Kind::Name) => {
                self.name(at)?;
                Ok((1, false))
            }
            Some(Kind::Not) => match self.kind(at + 1) {
                Some(Kind::Minus) if self.kind(at + 2) != Some(Kind::Number) => Err(self.mixed(at + 1)),
                _ => Ok((1, true)),
            },
            Some(Kind::Minus) => match self.kind(at + 1) {
                Some(Kind::Not) => Err(self.mixed(at + 1)),
                _ => Ok((1, true)),
            },
            Some(Kind::Open(b'(')) => {
                self.open(at, b')', Bracket::Group);
                Ok((1, true))
            }
            Some(Kind::Open(_)) => {
                self.open(at, b']', Bracket::List);
                Ok((1, true))
            }
            Some(Kind::Close(b']')) if self.top().what == Bracket::List && !self.top().choosing => {
                // `[]` and `[1,]`: after anything but a comma or its own bracket an operand is missing.
                match at.checked_sub(1).and_then(|before| self.kind(before)) {
                    Some(Kind::Open(_) | Kind::Comma) => self.close(at),
                    _ => Err(self.missing(at)),
                }
            }
            _ => Err(self.missing(at)),
        }
    }

    /// What may stand after an operand.
    fn operator(&mut self, at: usize) -> Step {
        match self.kind(at) {
            Some(Kind::Binary | Kind::Minus) => Ok((1, true)),
            Some(Kind::Dot) => match (self.kind(at + 1), self.kind(at + 2)) {
                (Some(Kind::Name), Some(Kind::Open(b'('))) => {
                    let (taken, operand) = self.call(at + 1)?;
                    Ok((taken + 1, operand))
                }
                (Some(Kind::Name), _) => Ok((2, false)),
                (Some(Kind::Literal | Kind::Binary), _)
                    if self.word(at + 1).starts_with(|c: char| c.is_alphabetic()) =>
                {
                    let word = self.word(at + 1);
                    let message = format!("`{word}` is a word of CEL; as a key it stands in brackets: `[\"{word}\"]`");
                    Err(Error::syntax(self.offset(at + 1), message))
                }
                _ => Err(Error::syntax(self.offset(at + 1), "a name is missing after `.`")),
            },
            Some(Kind::Open(b'[')) => {
                self.open(at, b']', Bracket::Index);
                Ok((1, true))
            }
            Some(Kind::Question) if self.top().choosing => {
                Err(Error::syntax(self.offset(at), "a choice inside a choice stands in brackets of its own"))
            }
            Some(Kind::Question) => {
                self.top().choosing = true;
                Ok((1, true))
            }
            Some(Kind::Colon) if self.top().choosing => {
                self.top().choosing = false;
                Ok((1, true))
            }
            Some(Kind::Comma) if matches!(self.top().what, Bracket::Call | Bracket::List) && !self.top().choosing => {
                Ok((1, true))
            }
            Some(Kind::Close(_)) => self.close(at),
            _ => Err(self.surplus(at)),
        }
    }

    /// A function's name and its bracket; closes it too where nothing stands inside.
    fn call(&mut self, at: usize) -> Step {
        let name = self.word(at);
        if COMPREHENSIONS.contains(&name) {
            let message = format!(
                "`{name}()` loops, and conditions do not; name the values one by one, such as `x in [\"a\", \"b\"]`"
            );
            return Err(Error::unsupported(self.offset(at), message));
        }
        if self.kind(at + 2) == Some(Kind::Close(b')')) {
            return Ok((3, false));
        }
        self.open(at + 1, b')', Bracket::Call);
        Ok((2, true))
    }

    fn name(&self, at: usize) -> Result<(), Error> {
        let name = self.word(at);
        if RESERVED.contains(&name) {
            return Err(Error::syntax(self.offset(at), format!("`{name}` is a word that CEL reserves")));
        }
        Ok(())
    }

    fn close(&mut self, at: usize) -> Step {
        let top = *self.top();
        if self.kind(at) != Some(Kind::Close(top.closer)) {
            let message = match top.what {
                Bracket::Whole => format!("`{}` closes nothing", self.word(at)),
                _ => format!("`{}` stands where `{}` is due", self.word(at), char::from(top.closer)),
            };
            return Err(Error::syntax(self.offset(at), message));
        }
        if top.choosing {
            return Err(Error::syntax(self.offset(at), "`:` and what to take otherwise are missing"));
        }
        self.frames.pop();
        Ok((1, false))
    }

    fn end(mut self) -> Result<(), Error> {
        let top = *self.top();
        if top.choosing {
            return Err(Error::syntax(self.text.len(), "`:` and what to take otherwise are missing"));
        }
        if top.what != Bracket::Whole {
            return Err(Error::syntax(top.opened, "this bracket is never closed"));
        }
        Ok(())
    }

    fn mixed(&self, at: usize) -> Error {
        Error::syntax(self.offset(at), "`!` and `-` do not mix; put brackets between them")
    }

    /// An operand is due and something else stands there.
    fn missing(&self, at: usize) -> Error {
        let offset = self.offset(at);
        match self.kind(at) {
            None if at == 0 => Error::syntax(offset, "the condition is empty; leave it out where it always holds"),
            None => {
                Error::syntax(offset, format!("the condition ends after `{}`, where a value is due", self.word(at - 1)))
            }
            Some(_) => Error::syntax(offset, format!("a value is missing before `{}`", self.word(at))),
        }
    }

    /// An operator is due and something else stands there.
    fn surplus(&self, at: usize) -> Error {
        let word = self.word(at);
        if let "not" | "NOT" = self.word(at - 1) {
            return Error::syntax(self.offset(at - 1), "CEL negates with a sign").suggest(Some("!".into()));
        }
        let error = Error::syntax(self.offset(at), format!("an operator is missing before `{word}`"));
        match word {
            "and" | "AND" => error.suggest(Some("&&".into())),
            "or" | "OR" => error.suggest(Some("||".into())),
            ":" | "," => Error::syntax(self.offset(at), format!("`{word}` belongs to nothing here")),
            _ => error,
        }
    }
}
