//! What a scalar without quotes is, by YAML 1.2's core schema.

use super::tree::{Node, Scalar, Value};

/// A scalar's type and value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Typed<'a> {
    Null,
    Bool(bool),
    /// Beyond 64 bits it is a `Float`.
    Int(i128),
    Float(f64),
    Text(&'a str),
}

pub(super) fn typed(scalar: &Scalar) -> Typed<'_> {
    let text = scalar.text.as_str();
    if !scalar.plain {
        return Typed::Text(text);
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Typed::Null,
        "true" | "True" | "TRUE" => return Typed::Bool(true),
        "false" | "False" | "FALSE" => return Typed::Bool(false),
        ".nan" | ".NaN" | ".NAN" => return Typed::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Typed::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Typed::Float(f64::NEG_INFINITY),
        _ => {}
    }
    integer(text).or_else(|| float(text)).unwrap_or(Typed::Text(text))
}

fn integer(text: &str) -> Option<Typed<'static>> {
    if let Some(digits) = text.strip_prefix("0x") {
        return i128::from_str_radix(digits, 16).ok().filter(|_| !digits.starts_with(['+', '-'])).map(Typed::Int);
    }
    if let Some(digits) = text.strip_prefix("0o") {
        return i128::from_str_radix(digits, 8).ok().filter(|_| !digits.starts_with(['+', '-'])).map(Typed::Int);
    }
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten().map(Typed::Int)
}

fn float(text: &str) -> Option<Typed<'static>> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte))
        && text.bytes().any(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten().map(Typed::Float)
}

/// What a node is, for a sentence such as "a number was expected, and this is a list".
pub(super) fn kind(node: &Node) -> &'static str {
    match &node.value {
        Value::Mapping(_) => "a mapping",
        Value::Sequence(_) => "a list",
        Value::Scalar(scalar) => match typed(scalar) {
            Typed::Null => "nothing",
            Typed::Bool(_) => "true or false",
            Typed::Int(_) | Typed::Float(_) => "a number",
            Typed::Text(_) => "text",
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_without_quotes_has_the_type_of_the_core_schema() {
        fn check(text: &str, expected: Typed<'_>) {
            let scalar = Scalar { text: text.to_owned(), plain: true, comment: false };
            assert_eq!(typed(&scalar), expected, "{text}");
        }
        check("", Typed::Null);
        check("~", Typed::Null);
        check("true", Typed::Bool(true));
        check("yes", Typed::Text("yes"));
        check("on", Typed::Text("on"));
        check("12", Typed::Int(12));
        check("-12", Typed::Int(-12));
        check("0x1F", Typed::Int(31));
        check("0o17", Typed::Int(15));
        check("0x+1", Typed::Text("0x+1"));
        check("1.5", Typed::Float(1.5));
        check("1e3", Typed::Float(1000.0));
        check("1.3x", Typed::Text("1.3x"));
        check("+1pp", Typed::Text("+1pp"));
        check("10%", Typed::Text("10%"));
        check("8s", Typed::Text("8s"));
        check("e", Typed::Text("e"));
        check("-", Typed::Text("-"));
        check(&"9".repeat(60), Typed::Float(1e60));
    }
}
