//! What a condition may name: one table of variables, one of functions.
//!
//! Error messages, `explain` and documentation list these tables, so a name that is not in them does not exist.

use super::expression::{BoolFact, TextFact};

/// A variable that conditions may name.
#[derive(Clone, Copy, Debug)]
pub struct Variable {
    /// Its name in full, such as `caller.tenant`.
    pub name: &'static str,
    /// Its type, in CEL's words.
    pub kind: &'static str,
    /// What it says.
    pub meaning: &'static str,
    pub(super) fact: Fact,
}

/// A function or method that conditions may call.
#[derive(Clone, Copy, Debug)]
pub struct Function {
    /// Its name.
    pub name: &'static str,
    /// How it is called and what it gives, in CEL's words.
    pub signature: &'static str,
    /// What it says.
    pub meaning: &'static str,
}

/// Where the value of a variable comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fact {
    Metadata,
    Text(TextFact),
    Bool(BoolFact),
    MaxTokens,
    BodyBytes,
}

const fn variable(name: &'static str, kind: &'static str, fact: Fact, meaning: &'static str) -> Variable {
    Variable { name, kind, meaning, fact }
}

/// Every variable.
pub const VARIABLES: [Variable; 11] = [
    variable(
        "metadata",
        "map(string, string)",
        Fact::Metadata,
        "what the caller sent along; a missing key is an error",
    ),
    variable("caller.name", "string", Fact::Text(TextFact::CallerName), "the caller that the key was issued for"),
    variable("caller.tenant", "string", Fact::Text(TextFact::CallerTenant), "the tenant of the caller"),
    variable("route", "string", Fact::Text(TextFact::Route), "the route or alias as it was asked for"),
    variable("region", "string", Fact::Text(TextFact::Region), "the region of the node; empty where it runs in none"),
    variable("environment", "string", Fact::Text(TextFact::Environment), "the environment of the policy"),
    variable("request.id", "string", Fact::Text(TextFact::RequestId), "the id of the request"),
    variable("request.stream", "bool", Fact::Bool(BoolFact::Stream), "the caller wants a stream"),
    variable("request.max_tokens", "int", Fact::MaxTokens, "output tokens asked for; an error where none are"),
    variable("request.tools", "bool", Fact::Bool(BoolFact::Tools), "tools are offered to the model"),
    variable("request.body_bytes", "int", Fact::BodyBytes, "length of the body in bytes"),
];

const fn function(name: &'static str, signature: &'static str, meaning: &'static str) -> Function {
    Function { name, signature, meaning }
}

/// Every function.
pub const FUNCTIONS: [Function; 9] = [
    function("has", "has(metadata.key) -> bool", "the member exists"),
    function("flag", "flag(\"name\") -> bool, string or double", "the variant of a flag for this request"),
    function("startsWith", "string.startsWith(string) -> bool", "begins with"),
    function("endsWith", "string.endsWith(string) -> bool", "ends with"),
    function("contains", "string.contains(string) -> bool", "has within it"),
    function("matches", "string.matches(\"regex\") -> bool", "has a part that the expression describes"),
    function("size", "string.size() -> int", "number of characters"),
    function("int", "int(string or double) -> int", "as a whole number, rounded towards zero"),
    function("double", "double(string or int) -> double", "as a number with a fraction"),
];

/// The variable of this full name.
pub(super) fn find(name: &str) -> Option<&'static Variable> {
    VARIABLES.iter().find(|variable| variable.name == name)
}

/// The names of the members of `root`, where it has members that are known beforehand.
pub(super) fn members(root: &str) -> impl Iterator<Item = &'static str> {
    VARIABLES.iter().filter_map(move |v| v.name.split_once('.').filter(|(first, _)| *first == root).map(|_| v.name))
}

/// The variable that an unknown name probably meant: one spelt nearly so, or one whose last part is that name.
pub(super) fn nearest_variable(name: &str) -> Option<String> {
    let last = VARIABLES.iter().find(|v| v.name.split_once('.').is_some_and(|(_, member)| member == name));
    last.map(|v| v.name.to_owned()).or_else(|| {
        let roots = VARIABLES.iter().map(|v| v.name.split_once('.').map_or(v.name, |(root, _)| root));
        nearest(name, VARIABLES.iter().map(|v| v.name).chain(roots))
    })
}

/// The function that an unknown name probably meant.
pub(super) fn nearest_function(name: &str) -> Option<String> {
    nearest(name, FUNCTIONS.iter().map(|f| f.name))
}

/// The nearest of some names, if one is near: a third of its letters may differ, at least one.
pub(super) fn nearest(name: &str, among: impl Iterator<Item = &'static str>) -> Option<String> {
    let distance = |other: &str| strsim::damerau_levenshtein(&name.to_ascii_lowercase(), &other.to_ascii_lowercase());
    among
        .map(|other| (distance(other), other))
        .filter(|(distance, other)| *distance <= (other.len() / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, other)| other.to_owned())
}
