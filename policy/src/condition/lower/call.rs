//! Operators, functions and methods.

use cel::{
    IdedExpr,
    common::ast::{CallExpr, Expr, LiteralValue, operators},
};
use regex::{Regex, RegexBuilder};

use super::{HAS_TAKES, Lowering, Typed};
use crate::condition::{
    Error,
    expression::{Arithmetic, Choice, Compare, Constant, Double, Int, Number, Part, Test, Text},
    schema,
};

/// Most memory that one regular expression, and its table of states, may take, in bytes: ten times what `\w+` needs.
const REGEX_BYTES: usize = 256 << 10;
/// Deepest nesting inside a regular expression: compiling one recurses.
const REGEX_DEPTH: u32 = 32;

impl Lowering<'_> {
    pub(super) fn call(&mut self, expr: &IdedExpr, call: &CallExpr) -> Result<Typed, Error> {
        if let Some(target) = &call.target {
            return self.method(expr, &call.func_name, target, &call.args);
        }
        match (call.func_name.as_str(), call.args.as_slice()) {
            (operators::LOGICAL_AND, [left, right]) => {
                let tests = self.joined("&&", left, right)?;
                Ok(Typed::Bool(Test::All(tests)))
            }
            (operators::LOGICAL_OR, [left, right]) => {
                let tests = self.joined("||", left, right)?;
                Ok(Typed::Bool(Test::Any(tests)))
            }
            (operators::LOGICAL_NOT, [of]) => Ok(Typed::Bool(Test::Not(Box::new(self.test(of, "what `!` negates")?)))),
            (operators::NEGATE, [of]) => self.negative(of),
            (operators::CONDITIONAL, [test, then, otherwise]) => self.choice(expr, test, then, otherwise),
            (operators::IN, [item, list]) => self.membership(item, list),
            (operators::INDEX, [whole, key]) => self.index(whole, key),
            (name, [left, right]) if compare(name).is_some() => {
                let compare = compare(name).expect("the guard has just seen it");
                self.comparison(expr, compare, left, right)
            }
            (name, [left, right]) if arithmetic(name).is_some() => {
                let arithmetic = arithmetic(name).expect("the guard has just seen it");
                self.arithmetic(expr, arithmetic, left, right)
            }
            (name, args) => self.function(expr, name, args),
        }
    }

    /// Both sides of `&&` or `||`; those of sides that are not true or false are refused.
    fn joined(&mut self, operator: &str, left: &IdedExpr, right: &IdedExpr) -> Result<Vec<Test>, Error> {
        let what = format!("each side of `{operator}`");
        let left = self.test(left, &what)?;
        let right = self.test(right, &what)?;
        // The parser balances long chains into a tree; the order of the sides, and so the first error, stays.
        let mut tests = Vec::new();
        for side in [left, right] {
            match (operator, side) {
                ("&&", Test::All(sides)) | ("||", Test::Any(sides)) => tests.extend(sides),
                (_, side) => tests.push(side),
            }
        }
        Ok(tests)
    }

    fn negative(&mut self, of: &IdedExpr) -> Result<Typed, Error> {
        match self.typed(of)? {
            Typed::Int(Int::Constant(int)) if int != i64::MIN => Ok(Typed::Int(Int::Constant(-int))),
            Typed::Double(Double::Constant(double)) => Ok(Typed::Double(Double::Constant(-double))),
            Typed::Int(int) => Ok(Typed::Int(Int::Negative(Box::new(int)))),
            Typed::Double(double) => Ok(Typed::Double(Double::Negative(Box::new(double)))),
            other => {
                let message = format!("`-` takes a number, and this is {}", other.described());
                Err(self.mistyped(self.start(of), message))
            }
        }
    }

    fn choice(
        &mut self,
        expr: &IdedExpr,
        test: &IdedExpr,
        then: &IdedExpr,
        otherwise: &IdedExpr,
    ) -> Result<Typed, Error> {
        let test = self.test(test, "what stands before `?`")?;
        match (self.typed(then)?, self.typed(otherwise)?) {
            (Typed::Bool(then), Typed::Bool(otherwise)) => {
                Ok(Typed::Bool(Test::Choice(Box::new(Choice { test, then, otherwise }))))
            }
            (Typed::String(then), Typed::String(otherwise)) => {
                Ok(Typed::String(Text::Choice(Box::new(Choice { test, then, otherwise }))))
            }
            (Typed::Int(then), Typed::Int(otherwise)) => {
                Ok(Typed::Int(Int::Choice(Box::new(Choice { test, then, otherwise }))))
            }
            (Typed::Double(then), Typed::Double(otherwise)) => {
                Ok(Typed::Double(Double::Choice(Box::new(Choice { test, then, otherwise }))))
            }
            (then, otherwise) => {
                let (then, otherwise) = (then.described(), otherwise.described());
                let message =
                    format!("`? :` chooses between two values of one type, and these are {then} and {otherwise}");
                Err(self.mistyped(self.own_offset(expr), message))
            }
        }
    }

    fn comparison(
        &mut self,
        expr: &IdedExpr,
        compare: Compare,
        left: &IdedExpr,
        right: &IdedExpr,
    ) -> Result<Typed, Error> {
        let test = match (self.typed(left)?, self.typed(right)?) {
            (Typed::Bool(left), Typed::Bool(right)) => Test::Bools(compare, Box::new((left, right))),
            (Typed::String(left), Typed::String(right)) => Test::Texts(compare, Box::new((left, right))),
            (left, right) => {
                let described = (left.described(), right.described());
                let (Ok(left), Ok(right)) = (left.into_number(), right.into_number()) else {
                    let hint = match described {
                        ("a string", "an int") => "; read the string with `int(...)`, or quote the number",
                        ("an int", "a string") => "; read the string with `int(...)`",
                        ("a string", "a double") | ("a double", "a string") => "; read the string with `double(...)`",
                        ("a string", "a bool") => "; metadata is text: compare with \"true\"",
                        _ => "",
                    };
                    let message = format!("{} and {} cannot be compared{hint}", described.0, described.1);
                    return Err(self.mistyped(self.own_offset(expr), message));
                };
                Test::Numbers(compare, Box::new((left, right)))
            }
        };
        Ok(Typed::Bool(test))
    }

    fn arithmetic(
        &mut self,
        expr: &IdedExpr,
        arithmetic: Arithmetic,
        left: &IdedExpr,
        right: &IdedExpr,
    ) -> Result<Typed, Error> {
        let operator = arithmetic.as_str();
        match (self.typed(left)?, self.typed(right)?) {
            (Typed::Int(left), Typed::Int(right)) => {
                Ok(Typed::Int(Int::Arithmetic(arithmetic, Box::new((left, right)))))
            }
            (Typed::Double(left), Typed::Double(right)) if arithmetic != Arithmetic::Remainder => {
                Ok(Typed::Double(Double::Arithmetic(arithmetic, Box::new((left, right)))))
            }
            (Typed::String(_), Typed::String(_)) if arithmetic == Arithmetic::Add => {
                let message = "a condition builds no strings; compare the parts one by one";
                Err(Error::unsupported(self.own_offset(expr), message))
            }
            (left, right) => {
                let takes = match arithmetic {
                    Arithmetic::Remainder => "two ints",
                    _ => "two ints or two doubles",
                };
                let hint = match (&left, &right) {
                    (Typed::Int(_), Typed::Double(_)) | (Typed::Double(_), Typed::Int(_)) => {
                        "; write `1.0` for `1`, or convert with `double(...)` or `int(...)`"
                    }
                    _ => "",
                };
                let (left, right) = (left.described(), right.described());
                let message = format!("`{operator}` takes {takes}, and these are {left} and {right}{hint}");
                Err(self.mistyped(self.own_offset(expr), message))
            }
        }
    }

    /// `item in list` or `key in metadata`.
    fn membership(&mut self, item: &IdedExpr, list: &IdedExpr) -> Result<Typed, Error> {
        let items = match &list.expr {
            Expr::Ident(name) if name == "metadata" => {
                return Ok(Typed::Bool(Test::HasKey(self.string(item, "a key of metadata")?)));
            }
            Expr::List(items) => &items.elements,
            _ => {
                let message = "right of `in` stands a list, such as `[\"a\", \"b\"]`, or `metadata`";
                return Err(self.mistyped(self.start(list), message.into()));
            }
        };
        if items.is_empty() {
            return Err(self.mistyped(self.start(list), "this list is empty, so nothing is ever in it".into()));
        }
        let test = match self.typed(item)? {
            Typed::String(text) => Test::TextIn(text, self.strings(items)?),
            Typed::Int(int) => Test::NumberIn(Number::Int(int), self.numbers(items)?),
            Typed::Double(double) => Test::NumberIn(Number::Double(double), self.numbers(items)?),
            Typed::Bool(_) => {
                let message = "left of `in` stands a string or a number, and this is a bool";
                return Err(self.mistyped(self.start(item), message.into()));
            }
        };
        Ok(Typed::Bool(test))
    }

    fn strings(&mut self, items: &[IdedExpr]) -> Result<Box<[Box<str>]>, Error> {
        let string = |item: &IdedExpr| match self.typed(item)? {
            Typed::String(Text::Constant(text)) => Ok(text),
            other => Err(self.not_listed(item, &other, matches!(other, Typed::String(_)), "strings")),
        };
        items.iter().map(string).collect()
    }

    fn numbers(&mut self, items: &[IdedExpr]) -> Result<Box<[Constant]>, Error> {
        let number = |item: &IdedExpr| match self.typed(item)? {
            Typed::Int(Int::Constant(int)) => Ok(Constant::Int(int)),
            Typed::Double(Double::Constant(double)) => Ok(Constant::Double(double)),
            other => Err(self.not_listed(item, &other, matches!(other, Typed::Int(_) | Typed::Double(_)), "numbers")),
        };
        items.iter().map(number).collect()
    }

    fn not_listed(&self, item: &IdedExpr, typed: &Typed, right_type: bool, expected: &str) -> Error {
        let message = if right_type {
            "a list holds constants; compare what is worked out with `==`".to_owned()
        } else {
            format!("this list holds {expected}, as what is looked for in it, and this is {}", typed.described())
        };
        self.mistyped(self.start(item), message)
    }

    /// `metadata["key"]`.
    fn index(&mut self, whole: &IdedExpr, key: &IdedExpr) -> Result<Typed, Error> {
        match &whole.expr {
            Expr::Ident(name) if name == "metadata" => {}
            _ => {
                self.typed(whole)?;
                let message = "only `metadata` has keys in brackets";
                return Err(self.mistyped(self.start(whole), message.into()));
            }
        }
        Ok(Typed::String(match self.string(key, "a key of metadata")? {
            Text::Constant(key) => Text::Metadata(key),
            key => Text::MetadataAt(Box::new(key)),
        }))
    }

    fn function(&mut self, expr: &IdedExpr, name: &str, args: &[IdedExpr]) -> Result<Typed, Error> {
        let offset = self.name_offset(expr);
        match (name, args) {
            ("flag", [IdedExpr { expr: Expr::Literal(LiteralValue::String(name)), .. }]) => {
                self.flag(name.inner(), offset)
            }
            ("flag", _) => {
                Err(self.mistyped(offset, "`flag()` takes a name in quotes, such as `flag(\"new-model\")`".into()))
            }
            ("size", [of]) => self.size(of),
            ("matches", [of, pattern]) => self.matches(of, pattern),
            ("int" | "double", [of]) => self.conversion(name, of),
            ("has", _) => Err(Error::syntax(offset, HAS_TAKES)),
            ("startsWith" | "endsWith" | "contains" | "size" | "matches" | "int" | "double", _) => {
                Err(self.called_otherwise(offset, name))
            }
            _ => Err(self.unknown_function(offset, name)),
        }
    }

    fn method(&mut self, expr: &IdedExpr, name: &str, target: &IdedExpr, args: &[IdedExpr]) -> Result<Typed, Error> {
        let part = match (name, args) {
            ("startsWith", [_]) => Part::Start,
            ("endsWith", [_]) => Part::End,
            ("contains", [_]) => Part::Within,
            ("size", []) => return self.size(target),
            ("matches", [pattern]) => return self.matches(target, pattern),
            _ => {
                let offset = self.name_offset(expr);
                let known = schema::FUNCTIONS.iter().any(|function| function.name == name);
                return Err(if known {
                    self.called_otherwise(offset, name)
                } else {
                    self.unknown_function(offset, name)
                });
            }
        };
        let whole = self.string(target, &format!("what `{name}()` is asked of"))?;
        let [argument] = args else { return Err(self.called_otherwise(self.name_offset(expr), name)) };
        let argument = self.string(argument, &format!("what `{name}()` looks for"))?;
        Ok(Typed::Bool(Test::Part(part, Box::new((whole, argument)))))
    }

    fn size(&mut self, of: &IdedExpr) -> Result<Typed, Error> {
        let text = self.string(of, "what `size()` counts")?;
        Ok(Typed::Int(Int::Size(Box::new(text))))
    }

    fn matches(&mut self, of: &IdedExpr, pattern: &IdedExpr) -> Result<Typed, Error> {
        let text = self.string(of, "what `matches()` is asked of")?;
        let offset = self.start(pattern);
        match self.string(pattern, "what `matches()` looks for")? {
            Text::Constant(pattern) => Ok(Typed::Bool(Test::Matches(text, self.regex(&pattern, offset)?))),
            _ => Err(self.mistyped(offset, "`matches()` takes a constant, so that it is compiled once".into())),
        }
    }

    fn regex(&self, pattern: &str, offset: usize) -> Result<Regex, Error> {
        let built = RegexBuilder::new(pattern)
            .size_limit(REGEX_BYTES)
            .dfa_size_limit(REGEX_BYTES)
            .nest_limit(REGEX_DEPTH)
            .build();
        built.map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => {
                let message = format!("this regular expression compiles to more than {} KiB", REGEX_BYTES >> 10);
                Error::new(offset, "condition_limit", message)
            }
            // The crate draws its error over several lines; the last says what it is.
            error => {
                let drawn = error.to_string();
                let last = drawn.lines().last().unwrap_or_default();
                let why = last.trim_start_matches("error: ");
                Error::syntax(offset, format!("this is not a regular expression: {why}"))
            }
        })
    }

    fn conversion(&mut self, name: &str, of: &IdedExpr) -> Result<Typed, Error> {
        match (name, self.typed(of)?) {
            ("int", Typed::String(text)) => Ok(Typed::Int(Int::FromText(Box::new(text)))),
            ("int", Typed::Double(double)) => Ok(Typed::Int(Int::FromDouble(Box::new(double)))),
            (_, Typed::String(text)) => Ok(Typed::Double(Double::FromText(Box::new(text)))),
            ("double", Typed::Int(int)) => Ok(Typed::Double(Double::FromInt(Box::new(int)))),
            (_, Typed::Bool(_)) => {
                Err(self.mistyped(self.start(of), format!("`{name}()` takes a string or a number, and this is a bool")))
            }
            // It has that type already.
            (_, number) => Ok(number),
        }
    }

    fn called_otherwise(&self, offset: usize, name: &str) -> Error {
        let signature = schema::FUNCTIONS.iter().find(|function| function.name == name).map_or("", |f| f.signature);
        self.mistyped(offset, format!("`{name}` is called as `{signature}`"))
    }

    fn unknown_function(&self, offset: usize, name: &str) -> Error {
        let message = format!("conditions know no function `{name}`");
        Error::new(offset, "unknown_name", message).suggest(schema::nearest_function(name))
    }
}

fn compare(function: &str) -> Option<Compare> {
    Some(match function {
        operators::EQUALS => Compare::Equal,
        operators::NOT_EQUALS => Compare::NotEqual,
        operators::LESS => Compare::Less,
        operators::LESS_EQUALS => Compare::LessOrEqual,
        operators::GREATER => Compare::Greater,
        operators::GREATER_EQUALS => Compare::GreaterOrEqual,
        _ => return None,
    })
}

fn arithmetic(function: &str) -> Option<Arithmetic> {
    Some(match function {
        operators::ADD => Arithmetic::Add,
        operators::SUBSTRACT => Arithmetic::Subtract,
        operators::MULTIPLY => Arithmetic::Multiply,
        operators::DIVIDE => Arithmetic::Divide,
        operators::MODULO => Arithmetic::Remainder,
        _ => return None,
    })
}
