//! The parser's tree -> an expression of ours: every name is looked up, every type checked.

use cel::{
    IdedExpr, Program,
    common::ast::{Expr, LiteralValue, SelectExpr, SourceInfo, operators},
};

use super::{
    Error, FlagLookup, Scope,
    expression::{Double, Int, Number, Test, Text},
    limits::{Kind, Token},
    schema::{self, Fact},
};
use crate::{flag, snapshot::FlagIndex};

mod call;

/// What `has()` takes, for whoever gave it something else.
pub(super) const HAS_TAKES: &str =
    "`has()` takes one member, such as `has(metadata.tier)`; of a key that is no name ask `\"x-y\" in metadata`";

/// An expression by its type.
#[derive(Debug)]
pub(super) enum Typed {
    Bool(Test),
    String(Text),
    Int(Int),
    Double(Double),
}

impl Typed {
    /// Its type with an article.
    fn described(&self) -> &'static str {
        match self {
            Typed::Bool(_) => "a bool",
            Typed::String(_) => "a string",
            Typed::Int(_) => "an int",
            Typed::Double(_) => "a double",
        }
    }

    fn into_number(self) -> Result<Number, Typed> {
        match self {
            Typed::Int(int) => Ok(Number::Int(int)),
            Typed::Double(double) => Ok(Number::Double(double)),
            other => Err(other),
        }
    }
}

/// The condition that a program is, and the flags it names.
pub(super) fn condition(
    text: &str,
    tokens: &[Token],
    program: &Program,
    scope: &Scope<'_>,
) -> Result<(Test, Vec<FlagIndex>), Error> {
    let mut lowering = Lowering { text, tokens, source: program.source_info(), scope, flags: Vec::new() };
    let whole = program.expression();
    let test = lowering.test(whole, "a condition")?;
    Ok((test, lowering.flags))
}

struct Lowering<'a> {
    text: &'a str,
    tokens: &'a [Token],
    source: &'a SourceInfo,
    scope: &'a Scope<'a>,
    flags: Vec<FlagIndex>,
}

impl Lowering<'_> {
    fn typed(&mut self, expr: &IdedExpr) -> Result<Typed, Error> {
        match &expr.expr {
            Expr::Literal(literal) => self.literal(expr, literal),
            Expr::Ident(name) => self.variable(name, self.own_offset(expr)),
            Expr::Select(select) => self.select(expr, select),
            Expr::Call(call) => self.call(expr, call),
            Expr::List(_) => Err(Error::unsupported(
                self.start(expr),
                "a list only stands right of `in`, such as `x in [\"a\", \"b\"]`",
            )),
            Expr::Unspecified | Expr::Comprehension(_) | Expr::Map(_) | Expr::Struct(_) => {
                Err(Error::unsupported(self.start(expr), "this part of CEL has no meaning in a condition"))
            }
        }
    }

    /// An expression that has to be a `bool`, being what `what` says.
    fn test(&mut self, expr: &IdedExpr, what: &str) -> Result<Test, Error> {
        match self.typed(expr)? {
            Typed::Bool(test) => Ok(test),
            other => {
                let offset = self.start(expr);
                let example = match &other {
                    Typed::String(Text::Metadata(_)) => ": compare it, such as `== \"true\"`",
                    _ => "",
                };
                Err(self
                    .mistyped(offset, format!("{what} is true or false, and this is {}{example}", other.described())))
            }
        }
    }

    fn string(&mut self, expr: &IdedExpr, what: &str) -> Result<Text, Error> {
        match self.typed(expr)? {
            Typed::String(text) => Ok(text),
            other => {
                Err(self.mistyped(self.start(expr), format!("{what} is a string, and this is {}", other.described())))
            }
        }
    }

    fn literal(&self, expr: &IdedExpr, literal: &LiteralValue) -> Result<Typed, Error> {
        Ok(match literal {
            LiteralValue::Boolean(value) => Typed::Bool(Test::Constant(*value.inner())),
            LiteralValue::Int(value) => Typed::Int(Int::Constant(*value.inner())),
            LiteralValue::Double(value) => Typed::Double(Double::Constant(*value.inner())),
            LiteralValue::String(value) => Typed::String(Text::Constant(value.inner().into())),
            LiteralValue::Bytes(_) | LiteralValue::UInt(_) | LiteralValue::Null => {
                return Err(Error::unsupported(self.start(expr), "this part of CEL has no meaning in a condition"));
            }
        })
    }

    fn variable(&self, name: &str, offset: usize) -> Result<Typed, Error> {
        if let Some(variable) = schema::find(name) {
            return self.fact(variable.fact, offset);
        }
        let members: Vec<&str> = schema::members(name).collect();
        if !members.is_empty() {
            let message = format!("`{name}` is not a value; name a member: {}", members.join(", "));
            return Err(self.mistyped(offset, message));
        }
        if let Some(key) = self.dashed_key(offset) {
            let message = format!("`-{name}` subtracts here; a key with a dash stands in brackets");
            return Err(Error::new(offset, "unknown_name", message).suggest(Some(key)));
        }
        let suggestion = schema::nearest_variable(name);
        let message = match &suggestion {
            Some(_) => format!("conditions know no variable `{name}`"),
            None => format!("conditions know no variable `{name}`; a key of the metadata is written `metadata.{name}`"),
        };
        Err(Error::new(offset, "unknown_name", message).suggest(suggestion))
    }

    /// `metadata["x-y"]`, where `metadata.x-y` was written and `y` stands at `offset`.
    fn dashed_key(&self, offset: usize) -> Option<String> {
        let at = self.tokens.iter().position(|token| token.start == offset)?;
        let written = self.tokens.get(at.checked_sub(4)?..=at)?;
        let words = written.iter().map(|token| &self.text[token.start..token.end]).collect::<Vec<_>>();
        let joined = written.windows(2).all(|pair| pair[0].end == pair[1].start);
        match words.as_slice() {
            ["metadata", ".", key, "-", rest] if joined => Some(format!("metadata[\"{key}-{rest}\"]")),
            _ => None,
        }
    }

    fn fact(&self, fact: Fact, offset: usize) -> Result<Typed, Error> {
        Ok(match fact {
            Fact::Metadata => {
                let message = "`metadata` is a map; name a key, such as `metadata.tier`";
                return Err(self.mistyped(offset, message.into()));
            }
            Fact::Text(fact) => Typed::String(Text::Fact(fact)),
            Fact::Bool(fact) => Typed::Bool(Test::Fact(fact)),
            Fact::MaxTokens => Typed::Int(Int::MaxTokens),
            Fact::BodyBytes => Typed::Int(Int::BodyBytes),
        })
    }

    /// `a.b`, or `has(a.b)`.
    fn select(&self, expr: &IdedExpr, select: &SelectExpr) -> Result<Typed, Error> {
        let field = select.field.as_str();
        let Expr::Ident(root) = &select.operand.expr else {
            let message = format!("only variables have members; nothing here has a member `{field}`");
            return Err(Error::new(self.field_offset(expr, select), "unknown_name", message));
        };
        if root == "metadata" {
            let key = field.into();
            let has = |key| Typed::Bool(Test::HasKey(Text::Constant(key)));
            return Ok(if select.test { has(key) } else { Typed::String(Text::Metadata(key)) });
        }
        let fact = self.member(root, field, expr, select)?;
        match (fact, select.test) {
            (Fact::MaxTokens, true) => Ok(Typed::Bool(Test::HasMaxTokens)),
            // Every other member is always there.
            (_, true) => Ok(Typed::Bool(Test::Constant(true))),
            (fact, false) => self.fact(fact, self.start(expr)),
        }
    }

    fn member(&self, root: &str, field: &str, expr: &IdedExpr, select: &SelectExpr) -> Result<Fact, Error> {
        let name = format!("{root}.{field}");
        if let Some(variable) = schema::find(&name) {
            return Ok(variable.fact);
        }
        let root_offset = self.own_offset(&select.operand);
        if schema::members(root).next().is_some() {
            let members = schema::members(root).collect::<Vec<_>>().join(", ");
            let message = format!("`{root}` has no member `{field}`; it has {members}");
            let nearest = schema::nearest(&name, schema::members(root));
            return Err(Error::new(self.field_offset(expr, select), "unknown_name", message).suggest(nearest));
        }
        if schema::find(root).is_some() {
            let message = format!("`{root}` is a string and has no member `{field}`");
            return Err(Error::new(self.field_offset(expr, select), "unknown_name", message));
        }
        let message = format!("conditions know no variable `{root}`");
        let nearest = schema::nearest_variable(root).filter(|nearest| !nearest.contains('.'));
        Err(Error::new(root_offset, "unknown_name", message).suggest(nearest))
    }

    fn flag(&mut self, name: &str, offset: usize) -> Result<Typed, Error> {
        let Some(lookup) = self.scope.flags else {
            let message = "a flag's own rules name no flags: they could never be decided if two named each other";
            return Err(Error::unsupported(offset, message));
        };
        match lookup(name) {
            FlagLookup::Found { index, kind } => {
                let typed = match kind {
                    flag::Type::Bool => Typed::Bool(Test::Flag(index)),
                    flag::Type::String => Typed::String(Text::Flag(index)),
                    flag::Type::Number => Typed::Double(Double::Flag(index)),
                    flag::Type::Object => {
                        let message = format!("flag `{name}` gives objects, which a condition cannot look into");
                        return Err(self.mistyped(offset, message));
                    }
                };
                if !self.flags.contains(&index) {
                    self.flags.push(index);
                }
                Ok(typed)
            }
            FlagLookup::Unknown { nearest } => {
                Err(Error::new(offset, "unknown_flag", format!("no flag is called `{name}`")).suggest(nearest))
            }
        }
    }

    fn mistyped(&self, offset: usize, message: String) -> Error {
        Error::new(offset, "condition_type", message)
    }

    /// Where the parser says that an expression stands: a name and a literal where they begin, an operator where it
    /// stands itself, a call at its bracket, a member at its dot.
    fn own_offset(&self, expr: &IdedExpr) -> usize {
        let offset = self.source.offset_for(expr.id).map_or(0, |(start, _)| start as usize);
        if self.text.is_char_boundary(offset) { offset } else { 0 }
    }

    /// Where an expression begins.
    fn start(&self, expr: &IdedExpr) -> usize {
        match &expr.expr {
            Expr::Select(select) => self.start(&select.operand),
            Expr::Call(call) => match (&call.target, call.args.first()) {
                (Some(target), _) => self.start(target),
                (None, Some(first)) if is_infix(&call.func_name) => self.start(first),
                (None, _) if is_prefix(&call.func_name) => self.own_offset(expr),
                _ => self.name_offset(expr),
            },
            _ => self.own_offset(expr),
        }
    }

    /// Where the name of a called function stands: before its bracket.
    fn name_offset(&self, call: &IdedExpr) -> usize {
        let bracket = self.own_offset(call);
        let names = self.tokens.iter().take_while(|token| token.start < bracket);
        names.filter(|token| token.kind == Kind::Name).last().map_or(bracket, |token| token.start)
    }

    /// Where the name of a selected member stands: after its dot.
    fn field_offset(&self, expr: &IdedExpr, select: &SelectExpr) -> usize {
        let after = |offset: usize| self.tokens.iter().filter(move |token| token.start > offset);
        // In `has()` the parser says that the member stands where the call does.
        let dot = match select.test {
            true => {
                after(self.own_offset(&select.operand)).find(|token| token.kind == Kind::Dot).map(|token| token.start)
            }
            false => Some(self.own_offset(expr)),
        };
        dot.and_then(|dot| after(dot).next()).map_or_else(|| self.start(expr), |token| token.start)
    }
}

fn is_infix(function: &str) -> bool {
    function.starts_with('_') || function == operators::IN
}

fn is_prefix(function: &str) -> bool {
    function == operators::LOGICAL_NOT || function == operators::NEGATE
}
