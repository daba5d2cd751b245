//! Conditions decide as the `cel` crate's interpreter does: both true, both false, or both an error.
//!
//! Random well-typed conditions over random facts. The crate deviates from CEL's specification in two places, where
//! ours follows the specification, and which the generator therefore leaves out:
//!
//! - An `int` is compared with a `double` after a conversion, which skips ints from 2^53 on; the specification compares
//!   "as though on a continuous number line". Here a comparison of both types has a small int on its one side.
//! - `double("1e400")` is infinity; it is an error here, as in cel-go, since no such number was written.
//!
//! Where types do not fit, the interpreter finds out when it meets them and ours when it reads the condition: such
//! conditions are tables in `tests`.

use std::{collections::HashMap, sync::Arc};

use cel::{Context, Program};
use proptest::prelude::*;

use super::tests;
use crate::{
    Facts,
    facts::RequestFacts,
    flag,
    snapshot::{Allowed, Caller, FlagIndex},
};

const KEYS: [&str; 5] = ["a", "b", "n", "x", "absent"];
const WORDS: [&str; 10] = ["", "a", "b", "gold", "7", "-3", "1.5", "1e3", "é☂", "inf"];
const DEPTH: usize = 3;

/// A finite stream of choices: what is generated is a function of it, so that proptest can shrink it. Once it has run
/// dry every choice is the first, which is a leaf.
struct Choices(std::vec::IntoIter<u16>);

impl Choices {
    fn below(&mut self, count: usize) -> usize {
        usize::from(self.0.next().unwrap_or(0)) % count
    }

    fn one(&mut self, of: &[&'static str]) -> &'static str {
        of[self.below(of.len())]
    }

    /// Chooses between leaves and nodes; deep down only leaves are left.
    fn kind(&mut self, depth: usize, leaves: usize, nodes: usize) -> usize {
        self.below(if depth == 0 { leaves } else { leaves + nodes })
    }

    fn test(&mut self, depth: usize) -> String {
        let deeper = depth.saturating_sub(1);
        match self.kind(depth, 6, 13) {
            0 => self.one(&["true", "false"]).into(),
            1 => self.one(&["request.stream", "request.tools"]).into(),
            2 => format!("has(metadata.{})", self.one(&KEYS)),
            3 => "has(request.max_tokens)".into(),
            4 => format!("\"{}\" in metadata", self.one(&KEYS)),
            5 => "flag(\"beta\")".into(),
            6 | 7 => format!("({} && {})", self.test(deeper), self.test(deeper)),
            8 | 9 => format!("({} || {})", self.test(deeper), self.test(deeper)),
            10 => format!("!({})", self.test(deeper)),
            11 => format!("({} ? {} : {})", self.test(deeper), self.test(deeper), self.test(deeper)),
            12 => format!("{} {} {}", self.text(deeper), self.comparison(), self.text(deeper)),
            13 => format!("{} {} {}", self.int(deeper), self.comparison(), self.int(deeper)),
            14 => format!("{} {} {}", self.double(deeper), self.comparison(), self.double(deeper)),
            15 if self.below(2) == 0 => format!("{} {} {}", self.small_int(), self.comparison(), self.double(deeper)),
            15 => format!("{} {} {}", self.double(deeper), self.comparison(), self.small_int()),
            16 => match self.below(3) {
                0 => format!("{} in [\"gold\", \"7\", {:?}]", self.text(deeper), self.one(&WORDS)),
                1 => format!("{} in [0, 7, -1, 2.5]", self.small_int()),
                _ => format!("{} in [0, 1000, 2.5]", self.double(deeper)),
            },
            17 => match self.below(5) {
                0 => format!("{}.startsWith({})", self.text(deeper), self.text(deeper)),
                1 => format!("{}.endsWith({})", self.text(deeper), self.text(deeper)),
                2 => format!("{}.contains({})", self.text(deeper), self.text(deeper)),
                3 => {
                    format!("{}.matches(\"{}\")", self.text(deeper), self.one(&["o", "^a?$", "[0-9]+", "(?i)GOLD", ""]))
                }
                _ => format!("{} in metadata", self.text(deeper)),
            },
            _ => format!("({}) {} ({})", self.test(deeper), self.comparison(), self.test(deeper)),
        }
    }

    fn comparison(&mut self) -> &'static str {
        self.one(&["==", "!=", "<", "<=", ">", ">="])
    }

    fn text(&mut self, depth: usize) -> String {
        let deeper = depth.saturating_sub(1);
        match self.kind(depth, 6, 2) {
            0 => format!("{:?}", self.one(&WORDS)),
            1 | 2 => format!("metadata.{}", self.one(&KEYS)),
            3 => format!("metadata[\"{}\"]", self.one(&KEYS)),
            4 => self.one(&["caller.name", "caller.tenant", "route", "region", "environment", "request.id"]).into(),
            5 => "flag(\"colour\")".into(),
            6 => format!("({} ? {} : {})", self.test(deeper), self.text(deeper), self.text(deeper)),
            _ => format!("metadata[{}]", self.text(deeper)),
        }
    }

    fn small_int(&mut self) -> String {
        self.one(&["0", "1", "-1", "7", "1000", "request.max_tokens", "request.body_bytes", "metadata.a.size()"]).into()
    }

    fn int(&mut self, depth: usize) -> String {
        let deeper = depth.saturating_sub(1);
        match self.kind(depth, 3, 6) {
            0 | 1 => self.small_int(),
            2 => self.one(&["9223372036854775807", "-9223372036854775808", "0x7f"]).into(),
            3 => format!("size({})", self.text(deeper)),
            4 => format!("int({})", self.text(deeper)),
            5 => format!("int({})", self.double(deeper)),
            6 => format!("-({})", self.int(deeper)),
            7 => format!("({} ? {} : {})", self.test(deeper), self.int(deeper), self.int(deeper)),
            _ => format!("({} {} {})", self.int(deeper), self.one(&["+", "-", "*", "/", "%"]), self.int(deeper)),
        }
    }

    fn double(&mut self, depth: usize) -> String {
        let deeper = depth.saturating_sub(1);
        match self.kind(depth, 2, 5) {
            0 => self.one(&["0.0", "1.5", "-2.5", "7.0", "1e300", ".5"]).into(),
            1 => "flag(\"limit\")".into(),
            2 => format!("double({})", self.text(deeper)),
            3 => format!("double({})", self.int(deeper)),
            4 => format!("-({})", self.double(deeper)),
            5 => format!("({} ? {} : {})", self.test(deeper), self.double(deeper), self.double(deeper)),
            _ => format!("({} {} {})", self.double(deeper), self.one(&["+", "-", "*", "/"]), self.double(deeper)),
        }
    }
}

/// What random facts are made of.
#[derive(Debug)]
struct Given {
    tenant: &'static str,
    metadata: Vec<(String, String)>,
    request: RequestFacts,
}

fn given(choices: &mut Choices) -> Given {
    let mut metadata = Vec::new();
    for key in &KEYS[..4] {
        if choices.below(3) > 0 {
            metadata.push(((*key).to_owned(), choices.one(&WORDS).to_owned()));
        }
    }
    Given {
        tenant: choices.one(&["acme", "other"]),
        metadata,
        request: RequestFacts {
            stream: choices.below(2) == 0,
            max_tokens: (choices.below(2) == 0).then(|| [0, 7, u32::MAX][choices.below(3)]),
            tools: choices.below(2) == 0,
            body_bytes: [0, 1000, 1 << 52][choices.below(3)],
        },
    }
}

/// What the crate's interpreter makes of it; `None`: an error.
fn by_the_crate(text: &str, facts: &Facts<'_>) -> Option<bool> {
    let int = |value: u64| cel::Value::Int(i64::try_from(value).expect("facts here are small"));
    let mut context = Context::default();
    let metadata: HashMap<String, String> = facts.metadata.iter().cloned().collect();
    let caller = HashMap::from([("name", &facts.caller.name), ("tenant", &facts.caller.tenant)]);
    let caller: HashMap<String, String> = caller.into_iter().map(|(k, v)| (k.to_owned(), v.to_string())).collect();
    let mut request: HashMap<String, cel::Value> = HashMap::from([
        ("id".to_owned(), facts.request_id.into()),
        ("stream".to_owned(), facts.request.stream.into()),
        ("tools".to_owned(), facts.request.tools.into()),
        ("body_bytes".to_owned(), int(facts.request.body_bytes)),
    ]);
    if let Some(tokens) = facts.request.max_tokens {
        request.insert("max_tokens".to_owned(), int(tokens.into()));
    }
    context.add_variable_from_value("metadata", metadata);
    context.add_variable_from_value("caller", caller);
    context.add_variable_from_value("request", request);
    context.add_variable_from_value("route", facts.asked.to_owned());
    context.add_variable_from_value("region", facts.region.to_owned());
    context.add_variable_from_value("environment", "prod".to_owned());
    let snapshot = tests::snapshot();
    let values: HashMap<&str, cel::Value> =
        HashMap::from([("beta", 0), ("colour", 1), ("limit", 2)].map(|(name, index)| {
            (
                name,
                match snapshot.flag(FlagIndex(index)).evaluate(facts, &snapshot).value {
                    flag::Value::Bool(value) => (*value).into(),
                    flag::Value::String(value) => value.to_string().into(),
                    flag::Value::Number(value) => (*value).into(),
                    flag::Value::Object(_) => cel::Value::Null,
                },
            )
        }));
    context
        .add_function("flag", move |name: Arc<String>| values[name.as_str()].clone())
        .expect("no function is called flag");
    match Program::compile(text).expect("what parses here parses there").execute(&context) {
        Ok(cel::Value::Bool(value)) => Some(value),
        Ok(other) => panic!("{text} is {other:?}, not a bool"),
        Err(_) => None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn conditions_decide_as_the_crates_interpreter_does(choices in proptest::collection::vec(any::<u16>(), 20..120)) {
        let mut choices = Choices(choices.into_iter());
        let given = given(&mut choices);
        let text = choices.test(DEPTH);
        let condition = match tests::parse(&text) {
            Ok(condition) => Some(condition),
            // What we refuse because it can only fail must fail there too.
            Err(error) if error.code == "condition_constant" => None,
            Err(error) => {
                prop_assert_eq!(error.code, "condition_limit", "{}: {}", text, error);
                return Ok(());
            }
        };
        let caller = Caller { name: "web".into(), tenant: given.tenant.into(), routes: Allowed::All };
        let facts = Facts {
            caller: &caller,
            asked: "gold",
            metadata: &given.metadata,
            region: "",
            request_id: "7",
            request: given.request,
        };
        let snapshot = tests::snapshot();
        let ours = condition.as_ref().map(|condition| condition.evaluate(&facts, &snapshot));
        prop_assert_eq!(ours.and_then(Result::ok), by_the_crate(&text, &facts), "{} on {:?}: {:?}", text, given, ours);
    }

    /// Text that was nearly a condition reaches furthest into the parser.
    #[test]
    fn no_damaged_condition_makes_parsing_panic(
        choices in proptest::collection::vec(any::<u16>(), 20..60),
        cut in any::<prop::sample::Index>(),
        length in 0usize..6,
        instead in "[a-z0-9.,:?!&|=<>()\\[\\]\"' -]{0,3}",
    ) {
        let text = Choices(choices.into_iter()).test(DEPTH);
        let chars: Vec<char> = text.chars().collect();
        let cut = cut.index(chars.len());
        let after = &chars[(cut + length).min(chars.len())..];
        let damaged: String = chars[..cut].iter().copied().chain(instead.chars()).chain(after.iter().copied()).collect();
        if let Err(error) = tests::parse(&damaged) {
            prop_assert!(damaged.is_char_boundary(error.offset), "{damaged}");
            prop_assert!(!error.message.starts_with("this is not CEL"), "{}: {}", damaged, error);
        }
    }
}
