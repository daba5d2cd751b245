//! What conditions say when they are wrong, and what they decide when they are right.

use std::thread;

use hashbrown::HashMap;
use proptest::prelude::*;

use super::*;
use crate::{
    answer::Answers,
    facts::RequestFacts,
    flag::{Flag, Rule, Serve, Type, Value, VariantIndex},
    snapshot::{Allowed, Caller},
};

/// A snapshot with flags of every type; `beta` is on for everybody but acme.
pub(super) fn snapshot() -> Snapshot {
    let acme = Condition::parse("caller.tenant == \"acme\"", &Scope::without_flags()).unwrap();
    let off_for_acme = Rule { when: Some(acme), share: None, serve: Serve::Variant(VariantIndex(1)) };
    let beta = vec![("on".into(), Value::Bool(true)), ("off".into(), Value::Bool(false))];
    let constant = |name: &str, value: Value| {
        Flag::new(name.into(), value.kind(), vec![("only".into(), value)], VariantIndex(0), Vec::new(), false)
    };
    Snapshot {
        revision: "0123456789ab".into(),
        environment: "prod".into(),
        routes: Vec::new(),
        route_names: HashMap::new(),
        models: Vec::new(),
        targets: Vec::new(),
        flags: vec![
            Flag::new("beta".into(), Type::Bool, beta, VariantIndex(0), vec![off_for_acme], false),
            constant("colour", Value::String("red".into())),
            constant("limit", Value::Number(2.5)),
            constant("shape", Value::Object(serde_json::json!({}))),
        ],
        flag_names: HashMap::new(),
        callers: HashMap::new(),
        answers: Answers::default(),
    }
}

/// Finds the flags of [`snapshot`].
pub(super) fn lookup(name: &str) -> FlagLookup {
    let kinds = [("beta", Type::Bool), ("colour", Type::String), ("limit", Type::Number), ("shape", Type::Object)];
    match (0..).zip(kinds).find(|(_, (known, _))| *known == name) {
        Some((index, (_, kind))) => FlagLookup::Found { index: FlagIndex(index), kind },
        None => FlagLookup::Unknown { nearest: (name == "betta").then(|| "beta".to_owned()) },
    }
}

pub(super) fn parse(text: &str) -> Result<Condition, Error> {
    Condition::parse(text, &Scope::with_flags(&lookup))
}

fn caller() -> Caller {
    Caller { name: "acme-web".into(), tenant: "acme".into(), routes: Allowed::All }
}

fn evaluate(text: &str) -> String {
    let (snapshot, caller) = (snapshot(), caller());
    let metadata = [
        ("tier", "old"),
        ("tier", "gold"),
        ("n", "7"),
        ("x-y", "é☂"),
        ("pick", "tier"),
        ("word", "seven"),
        ("big", "1e400"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()));
    let facts = Facts {
        caller: &caller,
        asked: "support-chat",
        metadata: &metadata,
        region: "eu-central-1",
        request_id: "r-1",
        request: RequestFacts { stream: true, max_tokens: None, tools: false, body_bytes: 2048 },
    };
    let condition = parse(text).unwrap_or_else(|error| panic!("{text}: {} {error}", error.offset));
    let outcome = condition.evaluate(&facts, &snapshot);
    assert_eq!(condition.holds(&facts, &snapshot), outcome == Ok(true), "{text}");
    match outcome {
        Ok(value) => value.to_string(),
        Err(reason) => reason.to_string(),
    }
}

#[test]
fn every_variable_and_function_has_its_value() {
    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(evaluate(text), expected, "{text}");
    }
    check(r#"metadata.tier == "gold""#, "true");
    check(r#"metadata["x-y"] == "é☂" && metadata['x-y'] == r"é☂""#, "true");
    check(r#"metadata["x-y"] == "\u00e9\u2602""#, "true");
    check(r#""x-y" in metadata && !("x-z" in metadata)"#, "true");
    check("has(metadata.tier) && !has(metadata.tear)", "true");
    check(r#"metadata[metadata.pick] == "gold""#, "true");
    check("metadata.pick in metadata", "true");
    check(r#"caller.name == "acme-web" && caller.tenant == "acme""#, "true");
    check(
        r#"route == "support-chat" && region == "eu-central-1" && environment == "prod" && request.id == "r-1""#,
        "true",
    );
    check("request.stream && !request.tools", "true");
    check("request.body_bytes == 2048", "true");
    check("has(request.max_tokens)", "false");
    check("has(request.id) && has(caller.name)", "true");
    check(r#"region.startsWith("eu-")"#, "true");
    check(r#"region.endsWith("-1") && region.contains("central")"#, "true");
    check(r#"region.matches("^eu-(central|west)-[0-9]$") && matches(route, "chat")"#, "true");
    check(r#"metadata["x-y"].size() == 2 && size(metadata.n) == 1"#, "true");
    check("int(metadata.n) > 3 && double(metadata.n) == 7.0", "true");
    check("int(2.9) == 2 && int(-2.9) == -2 && double(3) / 2.0 == 1.5 && int(5) == 5", "true");
    check(r#"caller.tenant in ["acme", "other"]"#, "true");
    check("request.body_bytes in [1, 2048.0] && -1 in [-1]", "true");
    check(r#"flag("colour") == "red" && flag("limit") > 2 && flag("limit") < 3"#, "true");
    check(r#"flag("beta")"#, "false");
    check(r#"request.stream ? metadata.tier == "gold" : metadata.absent == "x""#, "true");
    check(
        r#"(request.tools ? 1 : 2) == 2 && (request.tools ? "a" : "b") == "b" && (request.tools ? 1.0 : 2.0) == 2.0"#,
        "true",
    );
    check("7 / 2 == 3 && -7 % 2 == -1 && 2 * 3 - 1 == 5 && 1.0 / 0.0 > 1e308", "true");
    check("0x10 == 16 && 1 < 1.5 && 1 == 1.0 && \"a\" < \"b\" && false < true", "true");
    check("!!request.stream && --1 == 1", "true");
    check("request.stream // what a comment says (", "true");
}

#[test]
fn an_error_is_absorbed_where_the_other_side_decides_and_otherwise_says_why() {
    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(evaluate(text), expected, "{text}");
    }
    check(r#"metadata.absent == "x""#, "metadata has no key `absent`");
    check(r#"!(metadata.absent == "x")"#, "metadata has no key `absent`");
    check(r#"metadata.absent == "x" && false"#, "false");
    check(r#"false && metadata.absent == "x""#, "false");
    check(r#"metadata.absent == "x" || true"#, "true");
    check(r#"metadata.absent == "x" && true"#, "metadata has no key `absent`");
    check(r#"metadata.absent == "x" || request.max_tokens > 1"#, "metadata has no key `absent`");
    check(r#"metadata.absent == "x" && request.stream && false && 1 / 0 == 1"#, "false");
    check(r#"(metadata.absent == "x") == (metadata.absent == "x")"#, "metadata has no key `absent`");
    check(r#"metadata.absent == "x" ? true : true"#, "metadata has no key `absent`");
    check(r#"metadata[metadata.tier] == "x""#, "metadata has no key of the name that was worked out");
    check("request.max_tokens > 1", "the request sets no max_tokens");
    check("has(request.max_tokens) && request.max_tokens > 1", "false");
    check("int(metadata.word) == 7", "a string is not a number that `int()` can read");
    check("double(metadata.big) > 1.0", "a string is not a number that `double()` can read");
    check("1 / (request.body_bytes - 2048) == 1", "division by zero");
    check("request.body_bytes % 0 == 1", "division by zero");
    check("request.body_bytes + 9223372036854775807 > 0", "the result of `+` does not fit an int");
    check("-9223372036854775808 - request.body_bytes > 0", "the result of `-` does not fit an int");
    check("int(double(request.body_bytes) * 1e30) > 0", "the result of `int()` does not fit an int");
    check("double(request.body_bytes) * 0.0 / 0.0 < 1.0", "NaN is neither less nor greater than another number");
    check("0.0 / 0.0 == 0.0 / 0.0", "false");
    check("0.0 / 0.0 != 0.0 / 0.0", "true");
}

#[test]
fn a_condition_that_can_only_fail_is_refused() {
    #[track_caller]
    fn check(text: &str, expected: Option<&str>) {
        let told = parse(text).err().map(|error| (error.code, error.message));
        let expected =
            expected.map(|why| ("condition_constant", format!("this can only fail, whatever the request is: {why}")));
        assert_eq!(told, expected, "{text}");
    }
    check("1 / 0 == 1", Some("division by zero"));
    check("!(1 % 0 == 1)", Some("division by zero"));
    check("9223372036854775807 + 1 > 0", Some("the result of `+` does not fit an int"));
    check("-9223372036854775808 - 1 > 0", Some("the result of `-` does not fit an int"));
    check("-(-9223372036854775808) > 0", Some("the result of `-` does not fit an int"));
    check("int(1e30) > 0", Some("the result of `int()` does not fit an int"));
    check(r#"int("x") == 1"#, Some("a string is not a number that `int()` can read"));
    check(r#"double("x") in [1.0]"#, Some("a string is not a number that `double()` can read"));
    check("0.0 / 0.0 < 1.0", Some("NaN is neither less nor greater than another number"));
    check("request.body_bytes / (1 / 0) == 1", Some("division by zero"));
    check("true ? 1 / 0 == 1 : request.stream", Some("division by zero"));
    check("1 / 0 == 1 && true", Some("division by zero"));
    check("1 / 0 == 1 || false", Some("division by zero"));
    // What a request decides, or what absorbs the error, stays.
    check("request.stream || 1 / 0 == 1", None);
    check("1 / 0 == 1 && request.stream", None);
    check("1 / 0 == 1 || true", None);
    check("request.stream ? 1 / 0 == 1 : true", None);
    check("1 / request.body_bytes == 1", None);
    check("0.0 / 0.0 == 1.0", None);
    check("size(\"ab\") == 3", None);
}

#[test]
fn a_condition_tells_which_flags_it_asks_for_once_each() {
    let condition = parse(r#"flag("limit") > 1 && (flag("beta") || flag("limit") < 9)"#).unwrap();
    assert_eq!(condition.flags().collect::<Vec<_>>(), [FlagIndex(2), FlagIndex(0)]);
    assert_eq!(condition.text(), r#"flag("limit") > 1 && (flag("beta") || flag("limit") < 9)"#);
}

#[track_caller]
fn refused(text: &str, expected: &str) {
    let error = parse(text).map(|condition| format!("{condition:?}")).expect_err(text);
    assert!(text.is_char_boundary(error.offset), "{text}: {error:?}");
    assert_eq!(format!("{} {}: {error}", error.offset, error.code), expected, "{text}");
}

#[test]
fn unknown_names_are_refused_with_what_was_probably_meant() {
    refused(
        r#"metdata.tier == "x""#,
        "0 unknown_name: conditions know no variable `metdata`; did you mean `metadata`?",
    );
    refused(
        "metadata.tier == tenant",
        "17 unknown_name: conditions know no variable `tenant`; did you mean `caller.tenant`?",
    );
    refused(
        r#""ü" == "ü" && tier == "gold""#,
        "16 unknown_name: conditions know no variable `tier`; a key of the metadata is written `metadata.tier`",
    );
    refused(
        r#"metadata.x-y == "a""#,
        r#"11 unknown_name: `-y` subtracts here; a key with a dash stands in brackets; did you mean `metadata["x-y"]`?"#,
    );
    refused(
        r#"caller.tennant == "acme""#,
        "7 unknown_name: `caller` has no member `tennant`; it has caller.name, caller.tenant; did you mean `caller.tenant`?",
    );
    refused("caller.limits", "7 unknown_name: `caller` has no member `limits`; it has caller.name, caller.tenant");
    refused(
        "has(request . Stream)",
        "14 unknown_name: `request` has no member `Stream`; it has request.id, request.stream, request.max_tokens, request.tools, request.body_bytes; did you mean `request.stream`?",
    );
    refused(r#"route.name == "x""#, "6 unknown_name: `route` is a string and has no member `name`");
    refused("has(metadata.a.b)", "15 unknown_name: only variables have members; nothing here has a member `b`");
    refused(
        r#"(metadata.tier).x == "a""#,
        "16 unknown_name: only variables have members; nothing here has a member `x`",
    );
    refused(
        r#"region.startswith("eu")"#,
        "7 unknown_name: conditions know no function `startswith`; did you mean `startsWith`?",
    );
    refused(r#"lower(region) == "x""#, "0 unknown_name: conditions know no function `lower`");
    refused(r#"!flag("betta")"#, "1 unknown_flag: no flag is called `betta`; did you mean `beta`?");
    refused(r#"flag("nothing")"#, "0 unknown_flag: no flag is called `nothing`");
}

#[test]
fn types_that_do_not_fit_are_refused_with_what_to_do() {
    refused(
        "metadata.beta",
        r#"0 condition_type: a condition is true or false, and this is a string: compare it, such as `== "true"`"#,
    );
    refused(
        "request.tools && metadata.beta",
        r#"17 condition_type: each side of `&&` is true or false, and this is a string: compare it, such as `== "true"`"#,
    );
    refused("request.max_tokens", "0 condition_type: a condition is true or false, and this is an int");
    refused(
        "!metadata.beta",
        r#"1 condition_type: what `!` negates is true or false, and this is a string: compare it, such as `== "true"`"#,
    );
    refused(
        "metadata.n > 3",
        "11 condition_type: a string and an int cannot be compared; read the string with `int(...)`, or quote the number",
    );
    refused(
        "metadata.n > 1.5",
        "11 condition_type: a string and a double cannot be compared; read the string with `double(...)`",
    );
    refused(
        "metadata.beta == true",
        r#"14 condition_type: a string and a bool cannot be compared; metadata is text: compare with "true""#,
    );
    refused(r#"flag("beta") == "on""#, "13 condition_type: a bool and a string cannot be compared");
    refused("1 < 2 < 3", "6 condition_type: a bool and an int cannot be compared");
    refused(
        r#"region + "x" == "y""#,
        "7 condition_unsupported: a condition builds no strings; compare the parts one by one",
    );
    refused(
        r#"flag("limit") * 2 > 4.0"#,
        "14 condition_type: `*` takes two ints or two doubles, and these are a double and an int; write `1.0` for `1`, or convert with `double(...)` or `int(...)`",
    );
    refused("1.5 % 1.0 > 0.0", "4 condition_type: `%` takes two ints, and these are a double and a double");
    refused(r#"-region == "a""#, "1 condition_type: `-` takes a number, and this is a string");
    refused("1 ? true : false", "0 condition_type: what stands before `?` is true or false, and this is an int");
    refused(
        "(request.tools ? 1 : 1.5) > 1",
        "15 condition_type: `? :` chooses between two values of one type, and these are an int and a double",
    );
    refused(r#"caller == "x""#, "0 condition_type: `caller` is not a value; name a member: caller.name, caller.tenant");
    refused(r#"metadata == "x""#, "0 condition_type: `metadata` is a map; name a key, such as `metadata.tier`");
    refused(r#"metadata[1] == "a""#, "9 condition_type: a key of metadata is a string, and this is an int");
    refused(r#"route["a"] == "a""#, "0 condition_type: only `metadata` has keys in brackets");
    refused(
        r#"region in ["a", 1]"#,
        "16 condition_type: this list holds strings, as what is looked for in it, and this is an int",
    );
    refused("region in []", "10 condition_type: this list is empty, so nothing is ever in it");
    refused(
        "region in [metadata.a]",
        "11 condition_type: a list holds constants; compare what is worked out with `==`",
    );
    refused(
        "region in caller.name",
        r#"10 condition_type: right of `in` stands a list, such as `["a", "b"]`, or `metadata`"#,
    );
    refused(
        "request.stream in [true]",
        "0 condition_type: left of `in` stands a string or a number, and this is a bool",
    );
    refused(
        "[1, 2] == [1, 2]",
        r#"0 condition_unsupported: a list only stands right of `in`, such as `x in ["a", "b"]`"#,
    );
    refused(
        r#"flag("shape") == "x""#,
        "0 condition_type: flag `shape` gives objects, which a condition cannot look into",
    );
    refused("flag(metadata.name)", r#"0 condition_type: `flag()` takes a name in quotes, such as `flag("new-model")`"#);
    refused("region.startsWith(1)", "18 condition_type: what `startsWith()` looks for is a string, and this is an int");
    refused(
        r#"startsWith(region, "a")"#,
        "0 condition_type: `startsWith` is called as `string.startsWith(string) -> bool`",
    );
    refused(r#"region.flag("a")"#, r#"7 condition_type: `flag` is called as `flag("name") -> bool, string or double`"#);
    refused(
        "region.matches(metadata.pattern)",
        "15 condition_type: `matches()` takes a constant, so that it is compiled once",
    );
    refused(r#"region.matches("(")"#, "15 condition_syntax: this is not a regular expression: unclosed group");
    refused(
        r#"region.matches(r"\w{200}")"#,
        "15 condition_limit: this regular expression compiles to more than 256 KiB",
    );
    refused("int(true) == 1", "4 condition_type: `int()` takes a string or a number, and this is a bool");
    refused("size(metadata) == 1", "5 condition_type: `metadata` is a map; name a key, such as `metadata.tier`");
}

#[test]
fn what_is_not_cel_is_refused_where_it_goes_wrong() {
    refused("", "0 condition_syntax: the condition is empty; leave it out where it always holds");
    refused("a ==", "4 condition_syntax: the condition ends after `==`, where a value is due");
    refused("== a", "0 condition_syntax: a value is missing before `==`");
    refused("()", "1 condition_syntax: a value is missing before `)`");
    refused(
        "request.stream and request.tools",
        "15 condition_syntax: an operator is missing before `and`; did you mean `&&`?",
    );
    refused("not request.stream", "0 condition_syntax: CEL negates with a sign; did you mean `!`?");
    refused(r#"metadata.tier = "gold""#, "14 condition_syntax: `=` is not an operator; did you mean `==`?");
    refused("metadata.tier == “gold”", "17 condition_syntax: `“` means nothing here");
    refused("metadata.tier == 'gold", "17 condition_syntax: this string has no end");
    refused("(request.stream", "0 condition_syntax: this bracket is never closed");
    refused("request.stream)", "14 condition_syntax: `)` closes nothing");
    refused("(request.stream]", "15 condition_syntax: `]` stands where `)` is due");
    refused(r#"metadata. == "a""#, "10 condition_syntax: a name is missing after `.`");
    refused(
        r#"metadata.in == "a""#,
        r#"9 condition_syntax: `in` is a word of CEL; as a key it stands in brackets: `["in"]`"#,
    );
    refused("a ? b", "5 condition_syntax: `:` and what to take otherwise are missing");
    refused("(a ? b)", "6 condition_syntax: `:` and what to take otherwise are missing");
    refused("a ? b ? c : d : e", "6 condition_syntax: a choice inside a choice stands in brackets of its own");
    refused("a, b", "1 condition_syntax: `,` belongs to nothing here");
    refused("1 in [,]", "6 condition_syntax: a value is missing before `,`");
    refused("-!a", "1 condition_syntax: `!` and `-` do not mix; put brackets between them");
    refused("for == 1", "0 condition_syntax: `for` is a word that CEL reserves");
    refused("1 - 9223372036854775808 < 0", "4 condition_syntax: this number is too large");
    refused(
        r#"region == "a" && has(metadata["a"])"#,
        r#"17 condition_syntax: `has()` takes one member, such as `has(metadata.tier)`; of a key that is no name ask `"x-y" in metadata`"#,
    );
    refused(
        "[1, 2].exists(x, x > 1)",
        r#"7 condition_unsupported: `exists()` loops, and conditions do not; name the values one by one, such as `x in ["a", "b"]`"#,
    );
    refused(r#"{"a": 1}"#, "0 condition_unsupported: a condition builds no maps and no messages");
}

#[test]
fn a_flags_own_rules_name_no_flags() {
    let error = Condition::parse(r#"request.stream && flag("beta")"#, &Scope::without_flags()).unwrap_err();
    assert_eq!((error.offset, error.code), (18, "condition_unsupported"), "{error}");
}

/// The texts that make the parser recurse the most, within the limits.
#[test]
fn the_worst_texts_within_the_limits_fit_the_stack_of_a_test_thread() {
    let choices = "true?true:".repeat(20) + "true";
    let brackets = "(".repeat(8) + "true" + &")".repeat(8);
    let mixed = "true?true:!(".repeat(8) + "true" + &")".repeat(8);
    let negations = "(!!!!!!".repeat(8) + "true" + &")".repeat(8);
    let members = "a".to_owned() + &".a".repeat(63);
    let indices = "metadata[".repeat(8) + "route" + &"]".repeat(8) + "==route";
    let calls = "int(double(".repeat(4) + "route" + &"))".repeat(4) + "==1";
    let sum = "1".to_owned() + &"+1".repeat(30) + "==1";
    let and = "true".to_owned() + &"&&true".repeat(31);
    let relations = "1".to_owned() + &"<1".repeat(31);
    let texts = [choices, brackets, mixed, negations, members, indices, calls, sum, and, relations];
    let worst = thread::Builder::new().stack_size(2 << 20).spawn(move || {
        for text in texts {
            if let Err(error) = parse(&text) {
                assert_ne!((error.code, text.len() < 1024), ("condition_limit", true), "{text}: {error}");
            }
        }
    });
    worst.unwrap().join().unwrap();
}

#[test]
fn hostile_texts_are_refused_without_being_parsed() {
    let texts = [
        "1".to_owned() + &"+1".repeat(1_499),
        "(".repeat(500),
        "(".repeat(500) + "1" + &")".repeat(500),
        "[".repeat(500),
        "!".repeat(1_000) + "true",
        "true?".repeat(200),
        "a".to_owned() + &".a".repeat(500),
        "metadata[".repeat(100),
        "f(".repeat(500),
    ];
    for text in texts {
        assert_eq!(parse(&text).unwrap_err().code, "condition_limit", "{text}");
    }
}

/// Tokens that, strung together at random, are sometimes a condition.
const SOUP: [&str; 52] = [
    "metadata",
    ".",
    "tier",
    "\"gold\"",
    "==",
    "&&",
    "||",
    "!",
    "(",
    ")",
    "[",
    "]",
    "request",
    ".stream",
    "true",
    "1",
    "-",
    "2.5",
    "?",
    ":",
    ",",
    "in",
    "has",
    "(",
    ")",
    "flag",
    "(\"beta\")",
    "caller.name",
    "+",
    "<",
    "size",
    "'",
    "\"",
    "\\",
    "//",
    "\n",
    " ",
    "{",
    "}",
    "`",
    "0x",
    "9223372036854775808",
    "r'",
    "'''",
    "matches",
    "exists",
    "null",
    "1u",
    "é",
    ".5",
    "for",
    "int(",
];

const GRAMMAR: [&str; 21] = [
    "a", ".", "b", "\"s\"", "==", "&&", "!", "(", ")", "[", "]", "1", "-", "?", ":", ",", "in", "f(", "+", "for",
    "true",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_parsing_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let text = String::from_utf8_lossy(&bytes);
        if let Err(error) = parse(&text) {
            prop_assert!(text.is_char_boundary(error.offset));
        }
    }

    #[test]
    fn no_tokens_make_parsing_panic(places in proptest::collection::vec(0..SOUP.len(), 0..14), spaced: bool) {
        let tokens: Vec<&str> = places.iter().map(|place| SOUP[*place]).collect();
        let text = tokens.join(if spaced { " " } else { "" });
        if let Err(error) = parse(&text) {
            prop_assert!(text.is_char_boundary(error.offset), "{text}");
            // Whatever is not CEL is found before the parser, whose sentences name rules of its grammar.
            prop_assert!(!error.message.starts_with("this is not CEL"), "{}: {}", text, error);
        }
    }

    /// The order of tokens that we let through is the order that the crate's parser takes, but for names that begin with
    /// a dot.
    #[test]
    fn our_grammar_is_the_parsers(places in proptest::collection::vec(0..GRAMMAR.len(), 1..9)) {
        let text = places.iter().map(|place| GRAMMAR[*place]).collect::<Vec<_>>().join(" ");
        if let Ok(tokens) = limits::tokens(&text) {
            let theirs = cel::Program::compile(&text).is_ok();
            match shape::check(&text, &tokens) {
                Ok(()) => prop_assert!(theirs, "{}", text),
                Err(error) => prop_assert!(!theirs || error.message.ends_with("before `.`"), "{}: {}", text, error),
            }
        }
    }
}
