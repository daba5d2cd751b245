//! A Converse body, the projection of it that routing needs, and the members that policy sets.
//!
//! Bodies are megabytes of prompt of which routing needs four facts, and Bedrock gains members every month: so a body is
//! read in one pass that checks its grammar and remembers where a few members stand, and is sent on as it came but for
//! those that policy sets. What the rest of it means is Bedrock's to judge.

mod content;
mod model_fields;
mod project;
mod scan;
mod splice;

use bytes::Bytes;
use switchtower_policy::{facts::RequestFacts, snapshot::RegionalGuardrail};

use crate::Operation;

/// A Converse request: its bytes, and what was read of them.
#[derive(Clone, Debug)]
pub struct Request {
    /// What it does.
    pub operation: Operation,
    /// The body as it came. Not to be changed: what was read of it says where its members stand.
    pub body: Bytes,
    /// What routing needs of it.
    pub facts: RequestFacts,
    /// `requestMetadata`, in the order of the body.
    pub metadata: Vec<(String, String)>,
    /// Where the members stand that policy sets.
    seen: project::Projection,
}

/// What is wrong with a body. Its text quotes no value of the body.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Malformed {
    /// Path of the member that is wrong, such as `inferenceConfig.maxTokens`; `None`: the body as a whole.
    pub field: Option<String>,
    /// A sentence for the caller: what is wrong and what to do.
    pub message: String,
}

/// What policy sets on every request of a route.
#[derive(Clone, Copy, Debug)]
pub struct Settings<'a> {
    /// Replaces whatever guardrail the body names, the trace it asks for included; `None`: the body's own stays.
    pub guardrail: Option<RegionalGuardrail<'a>>,
    /// Upper bound of `inferenceConfig.maxTokens`, 1 or more, set where the body has none or more.
    pub max_output_tokens: u32,
}

impl Request {
    /// Reads a body.
    ///
    /// A member that policy sets (`guardrailConfig`, `inferenceConfig`, its `maxTokens`) must stand at most once, be
    /// spelt without escapes and not be null; `maxTokens` must be a whole number in digits (`1.0` and `1e3` are refused).
    /// A limit of output tokens, a number of answers or a guardrail under a model's own name in
    /// `additionalModelRequestFields` is refused as far as the name is known, since it would get around the policy's.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(operation: Operation, body: Bytes) -> Result<Request, Malformed> {
        let text = std::str::from_utf8(&body).map_err(|error| Malformed {
            field: None,
            message: format!("The body must be UTF-8; it is not at byte {}.", error.valid_up_to()),
        })?;
        let mut seen = project::read(text)?;
        let max_tokens = seen.inference.as_ref().and_then(|inference| inference.max_tokens.as_ref());
        let facts = RequestFacts {
            stream: operation == Operation::ConverseStream,
            max_tokens: max_tokens.map(|max| max.value),
            tools: seen.tools,
            body_bytes: body.len() as u64,
        };
        let metadata = std::mem::take(&mut seen.metadata);
        Ok(Request { operation, body, facts, metadata, seen })
    }

    /// The body as it goes upstream: the same bytes, uncopied, where nothing must be set. Elsewhere `guardrailConfig` and
    /// `inferenceConfig.maxTokens` are replaced or put in and every other byte is kept.
    ///
    /// # Errors
    /// Policy sets a guardrail and the body has a `guardContent` block: with one there, Bedrock would check what is in such
    /// blocks and nothing else.
    pub fn with(&self, settings: Settings<'_>) -> Result<Bytes, Malformed> {
        if let (Some(_), Some(field)) = (settings.guardrail, &self.seen.guard_content) {
            let message =
                "The guardrail of this route checks everything: leave guardContent out and send text instead.";
            return Err(Malformed { field: Some(field.clone()), message: message.into() });
        }
        Ok(splice::splice(&self.body, &self.seen, self.operation, settings))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn guardrail(trace: &'static str) -> RegionalGuardrail<'static> {
        RegionalGuardrail { id: "gr-\"1\"", version: "3", trace, stream_mode: "async" }
    }

    fn request(operation: Operation, body: &str) -> Request {
        Request::read(operation, Bytes::copy_from_slice(body.as_bytes())).unwrap()
    }

    /// A unary body with a limit of 100 tokens and no guardrail by policy.
    #[track_caller]
    fn limited(body: &str, expected: &str) {
        let with =
            request(Operation::Converse, body).with(Settings { guardrail: None, max_output_tokens: 100 }).unwrap();
        assert_eq!(std::str::from_utf8(&with).unwrap(), expected);
    }

    /// The same with a guardrail by policy.
    #[track_caller]
    fn guarded(operation: Operation, trace: &'static str, body: &str, expected: &str) {
        let guardrail = guardrail(trace);
        let with =
            request(operation, body).with(Settings { guardrail: Some(guardrail), max_output_tokens: 100 }).unwrap();
        assert_eq!(std::str::from_utf8(&with).unwrap(), expected);
    }

    #[test]
    fn the_limit_is_lowered_or_put_in_and_all_else_kept() {
        limited("{}", r#"{"inferenceConfig":{"maxTokens":100}}"#);
        limited(" {\n} ", " {\"inferenceConfig\":{\"maxTokens\":100}\n} ");
        limited(r#"{ "a" : 1.50 }"#, r#"{"inferenceConfig":{"maxTokens":100}, "a" : 1.50 }"#);
        limited(r#"{"inferenceConfig":{}}"#, r#"{"inferenceConfig":{"maxTokens":100}}"#);
        limited(r#"{"inferenceConfig":{ }}"#, r#"{"inferenceConfig":{"maxTokens":100 }}"#);
        limited(
            r#"{"a":1,"inferenceConfig" : { "topP":1e-1},"b":"\u00e9"}"#,
            r#"{"a":1,"inferenceConfig" : {"maxTokens":100, "topP":1e-1},"b":"\u00e9"}"#,
        );
        limited(r#"{"inferenceConfig":{"maxTokens": 101 }}"#, r#"{"inferenceConfig":{"maxTokens": 100 }}"#);
        limited(r#"{"inferenceConfig":{"maxTokens":100}}"#, r#"{"inferenceConfig":{"maxTokens":100}}"#);
        limited(
            r#"{"a":1,"inferenceConfig":{"maxTokens":1},"a":2}"#,
            r#"{"a":1,"inferenceConfig":{"maxTokens":1},"a":2}"#,
        );
        limited(r#"{"guardrailConfig":{"x":1}}"#, r#"{"inferenceConfig":{"maxTokens":100},"guardrailConfig":{"x":1}}"#);
    }

    #[test]
    fn the_guardrail_replaces_the_bodys_own_wholly() {
        use Operation::{Converse, ConverseStream};
        let max = r#""inferenceConfig":{"maxTokens":1}"#;
        let unary = r#"{"guardrailIdentifier":"gr-\"1\"","guardrailVersion":"3"}"#;
        let traced = r#"{"guardrailIdentifier":"gr-\"1\"","guardrailVersion":"3","trace":"enabled"}"#;
        let streamed = r#"{"guardrailIdentifier":"gr-\"1\"","guardrailVersion":"3","streamProcessingMode":"async"}"#;
        for (operation, trace, wanted) in
            [(Converse, "disabled", unary), (Converse, "enabled", traced), (ConverseStream, "disabled", streamed)]
        {
            let put_in = format!("{{\"guardrailConfig\":{wanted},{max}}}");
            guarded(operation, trace, &format!("{{{max}}}"), &put_in);
            for own in [
                "{}",
                r#"{"guardrailIdentifier":"other","guardrailVersion":"3","trace":"enabled_full"}"#,
                r#"{"guardrailIdentifier":"x","guardrailIdentifier":"gr-\"1\"","guardrailVersion":"3"}"#,
                r#"{"guardrailIdentifier":"gr-\"1\"","guardrailVersion":"3","trace":null}"#,
                r#"{"guardrailIdentifier":"gr-\"1\"","guardrailVersion":"3","new":1}"#,
                r#"{"guardrailIdentifier":"gr-\"1\"","guardrailVersion":3}"#,
            ] {
                let body = format!("{{{max} , \"guardrailConfig\" : {own} ,\"a\":1}}");
                let expected = format!("{{{max} , \"guardrailConfig\" : {wanted} ,\"a\":1}}");
                guarded(operation, trace, &body, &expected);
            }
        }
        guarded(
            Converse,
            "disabled",
            "{}",
            &format!("{{\"guardrailConfig\":{unary},\"inferenceConfig\":{{\"maxTokens\":100}}}}"),
        );
    }

    #[test]
    fn where_nothing_must_be_set_the_same_bytes_go_on() {
        let same = |operation, body: &str, settings: Settings<'_>| {
            let request = request(operation, body);
            let with = request.with(settings).unwrap();
            assert_eq!((with.as_ptr(), with.len()), (request.body.as_ptr(), request.body.len()), "{body}");
        };
        let own = r#"{"inferenceConfig":{"maxTokens":100},"guardrailConfig":{"a":1}}"#;
        same(Operation::Converse, own, Settings { guardrail: None, max_output_tokens: 100 });
        let guardrail = guardrail("enabled");
        let settings = Settings { guardrail: Some(guardrail), max_output_tokens: 100 };
        let equal = r#"{"guardrailConfig":{ "trace" : "enabled", "guardrailVersion":"\u0033",
            "guardrailIdentifier":"gr-\u00221\u0022"},"inferenceConfig":{"maxTokens":7}}"#;
        same(Operation::Converse, equal, settings);
        let streamed = equal.replace("{ ", r#"{"streamProcessingMode":"async","#);
        same(Operation::ConverseStream, &streamed, settings);
    }

    #[test]
    fn a_guardrail_by_policy_takes_no_guard_content_and_another_does() {
        let body = r#"{"messages":[{"role":"user","content":[{"text":"a"},{"guardContent":{"text":{"text":"b"}}}]}]}"#;
        let request = request(Operation::Converse, body);
        assert!(request.with(Settings { guardrail: None, max_output_tokens: 100 }).is_ok());
        let guardrail = guardrail("disabled");
        let refused = request.with(Settings { guardrail: Some(guardrail), max_output_tokens: 100 }).unwrap_err();
        assert_eq!(refused.field.as_deref(), Some("messages[0].content[1].guardContent"));
    }

    #[test]
    fn the_facts_are_read() {
        let body =
            r#"{"inferenceConfig":{"maxTokens":7},"toolConfig":{"tools":[{}]},"requestMetadata":{"b":"1","a":"2"}}"#;
        let request = request(Operation::ConverseStream, body);
        let facts = RequestFacts { stream: true, max_tokens: Some(7), tools: true, body_bytes: body.len() as u64 };
        assert_eq!(request.facts, facts);
        assert_eq!(request.metadata, [("b".to_owned(), "1".to_owned()), ("a".to_owned(), "2".to_owned())]);
        let bare = super::Request::read(Operation::Converse, Bytes::from_static(b"{}")).unwrap();
        assert_eq!(bare.facts, RequestFacts { body_bytes: 2, ..RequestFacts::default() });
    }

    #[test]
    fn a_body_that_is_not_utf8_is_refused() {
        let malformed = Request::read(Operation::Converse, Bytes::from_static(b"{\"a\":\"\xff\"}")).unwrap_err();
        assert_eq!(malformed.message, "The body must be UTF-8; it is not at byte 6.");
    }

    /// Any JSON value.
    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".{0,12}".prop_map(Value::from),
            r#"[\\"{}\[\],:]{0,8}"#.prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(".{0,6}", inner, 0..4).prop_map(|map| json!(map)),
            ]
        })
    }

    /// Any body that is taken: members that we know and others, in any order.
    fn body() -> impl Strategy<Value = Value> {
        let object = |strategy: BoxedStrategy<Option<Value>>, name: &'static str| {
            strategy.prop_map(move |value| value.map(|value| (name.to_owned(), value))).boxed()
        };
        let config = (prop::option::of(1..300_u32), prop::collection::btree_map("[a-z]{1,3}", value(), 0..3)).prop_map(
            |(max, mut members)| {
                members.extend(max.map(|max| ("maxTokens".to_owned(), json!(max))));
                json!(members)
            },
        );
        let own = prop_oneof![
            Just(json!({"guardrailIdentifier": "gr-\"1\"", "guardrailVersion": "3", "trace": "enabled"})),
            prop::collection::btree_map("[a-z]{1,3}", value(), 0..3).prop_map(|map| json!(map)),
        ];
        let known = [
            object(prop::option::of(config).boxed(), "inferenceConfig"),
            object(prop::option::of(own).boxed(), "guardrailConfig"),
            object(prop::option::of(prop::collection::vec(value(), 0..3).prop_map(Value::from)).boxed(), "messages"),
        ];
        let others =
            prop::collection::btree_map(".{0,6}", value(), 0..5).prop_map(|map| map.into_iter().map(Some).collect());
        (known, others)
            .prop_map(|(known, others): (_, Vec<_>)| known.into_iter().chain(others).flatten().collect::<Vec<_>>())
            .prop_shuffle()
            .prop_map(|members| members.into_iter().collect::<serde_json::Map<_, _>>().into())
    }

    /// Writes a value with whitespace and escapes chosen by `seed`; names that we know stay as they are.
    fn render(value: &Value, seed: &mut u64, text: &mut String) {
        let mut next = |bound: u64| {
            *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (*seed >> 33) % bound
        };
        let mut space = |text: &mut String| text.push_str(["", "", " ", "\n", "\t\r ", ""][next(6) as usize]);
        space(text);
        match value {
            Value::Array(items) => {
                text.push('[');
                for (index, item) in items.iter().enumerate() {
                    text.push_str(if index > 0 { "," } else { "" });
                    render(item, seed, text);
                }
                text.push(']');
            }
            Value::Object(members) => {
                text.push('{');
                for (index, (key, member)) in members.iter().enumerate() {
                    text.push_str(if index > 0 { "," } else { "" });
                    let known = ["inferenceConfig", "maxTokens", "guardrailConfig"].contains(&key.as_str());
                    text.push_str(&if known { format!("\"{key}\"") } else { quoted(key, *seed >> 32) });
                    text.push(':');
                    render(member, seed, text);
                }
                text.push(' ');
                text.push('}');
            }
            Value::String(string) => text.push_str(&quoted(string, *seed >> 32)),
            other => text.push_str(&other.to_string()),
        }
    }

    /// A string, some of its UTF-16 units as escapes.
    fn quoted(string: &str, choice: u64) -> String {
        if !choice.is_multiple_of(3) {
            return Value::from(string).to_string();
        }
        let units: String = string.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
        format!("\"{units}\"")
    }

    /// What `with` must mean, done on the tree.
    fn edited(mut body: Value, guardrail: Option<Value>, most: u32) -> Value {
        let members = body.as_object_mut().unwrap();
        if let Some(guardrail) = guardrail {
            members.insert("guardrailConfig".into(), guardrail);
        }
        let config = members.entry("inferenceConfig").or_insert(json!({})).as_object_mut().unwrap();
        let max = config.get("maxTokens").and_then(Value::as_u64).map_or(most, |max| most.min(max.try_into().unwrap()));
        config.insert("maxTokens".into(), max.into());
        body
    }

    proptest! {
        #[test]
        fn the_splice_means_what_an_edit_of_the_tree_means(
            body in body(), seed in any::<u64>(), guarded in any::<bool>(), stream in any::<bool>(), most in 1..300_u32
        ) {
            let mut text = String::new();
            render(&body, &mut seed.clone(), &mut text);
            let operation = if stream { Operation::ConverseStream } else { Operation::Converse };
            let guardrail = guardrail("enabled");
            let settings = Settings { guardrail: guarded.then_some(guardrail), max_output_tokens: most };
            let with = request(operation, &text).with(settings).unwrap();

            let mut wire = json!({"guardrailIdentifier": "gr-\"1\"", "guardrailVersion": "3", "trace": "enabled"});
            if stream {
                wire["streamProcessingMode"] = "async".into();
            }
            let parsed: Value = serde_json::from_str(&text).unwrap();
            let expected = edited(parsed, guarded.then_some(wire), most);
            prop_assert_eq!(serde_json::from_slice::<Value>(&with).unwrap(), expected);

            // What was set stands once, or reading again would refuse it; and then nothing is left to set.
            let again = Request::read(operation, with.clone()).unwrap();
            prop_assert_eq!(again.with(settings).unwrap().as_ptr(), with.as_ptr());
        }

        #[test]
        fn a_body_with_one_byte_changed_is_refused_or_still_json(
            at in any::<prop::sample::Index>(), byte in prop_oneof![prop::sample::select(&br#"{}[]",:\0 n"#[..]), any::<u8>()],
            remove in any::<bool>()
        ) {
            let mut text = br#"{"inferenceConfig":{"maxTokens":7,"topP":1},"guardrailConfig":{"a":"b\\"},"messages":[],
                "toolConfig":{"tools":[{}]},"requestMetadata":{"a":"b"},"additionalModelRequestFields":{"a":[1,{}]}}"#.to_vec();
            let at = at.index(text.len());
            text.splice(at..=at, (!remove).then_some(byte));
            let guardrail = guardrail("enabled");
            let settings = Settings { guardrail: Some(guardrail), max_output_tokens: 5 };
            let grammar = |text: &[u8]| {
                std::str::from_utf8(text).is_ok_and(|text| serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok())
            };
            match Request::read(Operation::Converse, text.clone().into()) {
                Ok(request) => prop_assert!(grammar(&text) && grammar(&request.with(settings).unwrap())),
                Err(malformed) => prop_assert!(malformed.field.is_some() || !grammar(&text)),
            }
        }
    }
}
