//! What is read of a Converse body: where the members stand that policy sets, and what routing needs.
//!
//! The members that policy sets must leave no doubt which value counts, or a caller could smuggle one past it: each
//! stands at most once, is spelt as it is, and is not null. Case makes another member, as it does for Bedrock.

use std::ops::Range;

use super::{
    Malformed, content, model_fields,
    scan::{Key, Object, Scanner, Syntax},
};

/// Bedrock's own bound on `requestMetadata`.
const MAX_METADATA: usize = 16;

/// What was read.
#[derive(Clone, Debug, Default)]
pub(super) struct Projection {
    pub(super) body: Object,
    /// Value of `guardrailConfig`.
    pub(super) guardrail: Option<Range<usize>>,
    pub(super) inference: Option<Inference>,
    /// Tools are offered.
    pub(super) tools: bool,
    pub(super) metadata: Vec<(String, String)>,
    /// Path of the first `guardContent`.
    pub(super) guard_content: Option<String>,
}

/// `inferenceConfig`.
#[derive(Clone, Debug)]
pub(super) struct Inference {
    pub(super) object: Object,
    pub(super) max_tokens: Option<MaxTokens>,
}

/// `inferenceConfig.maxTokens`.
#[derive(Clone, Debug)]
pub(super) struct MaxTokens {
    pub(super) range: Range<usize>,
    pub(super) value: u32,
}

impl From<Syntax> for Malformed {
    fn from(syntax: Syntax) -> Self {
        let message = format!("The body is not JSON that can be read: {} at byte {}.", syntax.what, syntax.at);
        Malformed { field: None, message }
    }
}

/// Reads a body.
pub(super) fn read(text: &str) -> Result<Projection, Malformed> {
    let mut scan = Scanner::new(text);
    if scan.peek() != Some(b'{') {
        return Err(Malformed { field: None, message: "The body must be one JSON object.".into() });
    }
    let mut seen = Projection::default();
    let body = scan.members(|scan, key| {
        match &*key.name {
            "inferenceConfig" => {
                set_by_policy("inferenceConfig", &key, seen.inference.is_some())?;
                seen.inference = Some(inference(scan, text)?);
            }
            "guardrailConfig" => {
                set_by_policy("guardrailConfig", &key, seen.guardrail.is_some())?;
                seen.guardrail = Some(start(scan, b'{', "guardrailConfig", "an object").map(|()| scan.value(1))??);
            }
            // Of members that stand twice Bedrock takes the last, so routing does.
            "requestMetadata" => seen.metadata = metadata(scan, text)?,
            "toolConfig" => seen.tools = tools(scan, text)?,
            "additionalModelRequestFields" => model_fields::read(scan)?,
            "messages" => {
                start(scan, b'[', "messages", "an array")?;
                content::messages(scan, &mut seen.guard_content)?;
            }
            "system" => content::system(scan, &mut seen.guard_content)?,
            _ => {
                scan.value(1)?;
            }
        }
        Ok::<_, Malformed>(())
    })?;
    scan.end()?;
    Ok(Projection { body, ..seen })
}

/// Refuses a key that leaves doubt which value of a member counts.
fn set_by_policy(name: &str, key: &Key<'_>, twice: bool) -> Result<(), Malformed> {
    if key.escaped {
        return Err(wrong(name, format!("The name of the member {name} must be written without escapes.")));
    }
    if twice {
        return Err(wrong(name, format!("The member {name} stands twice; send it once.")));
    }
    Ok(())
}

/// Refuses a value that does not begin as it must.
fn start(scan: &mut Scanner<'_>, first: u8, name: &str, what: &str) -> Result<(), Malformed> {
    match scan.peek() {
        Some(byte) if byte == first => Ok(()),
        _ => Err(wrong(name, format!("The member {name} must be {what}; leave it out if there is none."))),
    }
}

fn inference(scan: &mut Scanner<'_>, text: &str) -> Result<Inference, Malformed> {
    start(scan, b'{', "inferenceConfig", "an object")?;
    let mut max_tokens = None;
    let object = scan.members(|scan, key| {
        if key.name == "maxTokens" {
            set_by_policy("inferenceConfig.maxTokens", &key, max_tokens.is_some())?;
            let range = scan.value(2)?;
            max_tokens = Some(MaxTokens { value: positive(&text[range.clone()])?, range });
        } else {
            scan.value(2)?;
        }
        Ok::<_, Malformed>(())
    })?;
    Ok(Inference { object, max_tokens })
}

/// A whole number from 1 to 2³¹ − 1, in digits: `1.0` and `1e3` are numbers that parsers disagree about.
fn positive(value: &str) -> Result<u32, Malformed> {
    let digits = value.bytes().all(|byte| byte.is_ascii_digit());
    match value.parse::<i32>() {
        Ok(number @ 1..) if digits => Ok(number.unsigned_abs()),
        _ => {
            let name = "inferenceConfig.maxTokens";
            Err(wrong(name, format!("The member {name} must be a whole number from 1 to 2147483647, in digits.")))
        }
    }
}

fn metadata(scan: &mut Scanner<'_>, text: &str) -> Result<Vec<(String, String)>, Malformed> {
    let refuse = || {
        let message =
            "The member requestMetadata must be an object of at most 16 strings; leave it out if there is none.";
        wrong("requestMetadata", message.into())
    };
    if scan.peek() != Some(b'{') {
        return Err(refuse());
    }
    let mut pairs = Vec::new();
    scan.members(|scan, key| {
        let string = scan.peek() == Some(b'"');
        let range = scan.value(2)?;
        if !string || pairs.len() == MAX_METADATA {
            return Err(refuse());
        }
        // It fails for an escape that names no character.
        let value = serde_json::from_str(&text[range]).map_err(|_| refuse())?;
        pairs.push((key.name.into_owned(), value));
        Ok(())
    })?;
    Ok(pairs)
}

/// Whether `toolConfig` offers a tool. Whether it is right is Bedrock's to say.
fn tools(scan: &mut Scanner<'_>, text: &str) -> Result<bool, Malformed> {
    if scan.peek() != Some(b'{') {
        scan.value(1)?;
        return Ok(false);
    }
    let mut tools = false;
    scan.members(|scan, key| {
        let value = &text[scan.value(2)?];
        if key.name == "tools" {
            tools = value.strip_prefix('[').is_some_and(|inside| !inside.trim_ascii_start().starts_with(']'));
        }
        Ok::<_, Malformed>(())
    })?;
    Ok(tools)
}

pub(super) fn wrong(field: &str, message: String) -> Malformed {
    Malformed { field: Some(field.to_owned()), message }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The field that is complained of; `Ok` for a body that is taken, `None` for the body as a whole.
    #[track_caller]
    fn check(body: &str, expected: Result<(), Option<&str>>) {
        let found = read(body).map(|_| ()).map_err(|malformed| malformed.field);
        assert_eq!(found, expected.map_err(|field| field.map(str::to_owned)), "{body}");
    }

    #[test]
    fn a_body_is_one_object_to_its_last_byte() {
        for body in
            ["", " ", "[]", "null", "1", "\"a\"", "{", "{}}", "{} {}", "{}x", "{\"a\":1,}", "{\"a\":[}", "\u{feff}{}"]
        {
            check(body, Err(None));
        }
        for body in ["{}", " {} ", "\n{\t}\r", r#"{"messages":[]}"#, r#"{"messages":[{"role":"user"}],"new":[null]}"#] {
            check(body, Ok(()));
        }
    }

    #[test]
    fn nesting_counts_from_the_body_down() {
        let within = |member: &str, outer: usize, depth: usize| {
            let inner = "[".repeat(depth - outer) + &"]".repeat(depth - outer);
            member.replace('*', &inner)
        };
        for (member, outer) in [
            (r#"{"a":*}"#, 1),
            (r#"{"messages":*}"#, 1),
            (r#"{"guardrailConfig":{"a":*}}"#, 2),
            (r#"{"inferenceConfig":{"a":*}}"#, 2),
            (r#"{"toolConfig":{"a":*}}"#, 2),
            (r#"{"toolConfig":*}"#, 1),
            (r#"{"additionalModelRequestFields":*}"#, 1),
            (r#"{"additionalModelRequestFields":{"a":*}}"#, 2),
            (r#"{"additionalModelRequestFields":{"parameters":*}}"#, 2),
            (r#"{"additionalModelRequestFields":{"parameters":{"a":*}}}"#, 3),
        ] {
            check(&within(member, outer, 128), Ok(()));
            check(&within(member, outer, 129), Err(None));
        }
        check(&("{\"a\":".to_owned() + &"[".repeat(1_000_000)), Err(None));
    }

    #[test]
    fn a_member_that_policy_sets_leaves_no_doubt() {
        let guardrail = Err(Some("guardrailConfig"));
        check(r#"{"guardrailConfig":{}}"#, Ok(()));
        for body in [
            r#"{"guardrailConfig":null}"#,
            r#"{"guardrailConfig":"x"}"#,
            r#"{"guardrailConfig":[]}"#,
            r#"{"guardrailConfig":{},"a":1,"guardrailConfig":{}}"#,
            r#"{"guardrail\u0043onfig":null}"#,
            r#"{"guardrailConfi\u0067":{}}"#,
            r#"{"\u0067uardrailConfig":{}}"#,
        ] {
            check(body, guardrail);
        }
        let inference = Err(Some("inferenceConfig"));
        for body in [
            r#"{"inferenceConfig":null}"#,
            r#"{"inferenceConfig":7}"#,
            r#"{"inferenceConfig":{},"inferenceConfig":{}}"#,
            r#"{"inference\u0043onfig":{}}"#,
        ] {
            check(body, inference);
        }
        let max = Err(Some("inferenceConfig.maxTokens"));
        for value in
            ["null", "0", "-1", "1.0", "1e3", "1.5", "\"1\"", "true", "[]", "{}", "2147483648", "99999999999999999999"]
        {
            check(&format!(r#"{{"inferenceConfig":{{"maxTokens":{value}}}}}"#), max);
        }
        check(r#"{"inferenceConfig":{"maxTokens":1,"maxTokens":1}}"#, max);
        check(r#"{"inferenceConfig":{"max\u0054okens":1}}"#, max);
        for value in ["1", "2147483647", " 7 "] {
            check(&format!(r#"{{"inferenceConfig":{{"maxTokens":{value}}}}}"#), Ok(()));
        }
    }

    #[test]
    fn other_spellings_are_other_members() {
        for body in [
            r#"{"GuardrailConfig":null,"guardrailconfig":1,"guardrailConfig ":2,"guardrailConfig\u0000":3}"#,
            r#"{"InferenceConfig":null,"inferenceConfig":{"maxtokens":null,"MaxTokens":null}}"#,
            r#"{"guardrailConfig\ud800":null,"\ud800":1,"messages\udc00":2}"#,
            r#"{"a":{"guardrailConfig":null,"inferenceConfig":null,"maxTokens":null}}"#,
        ] {
            check(body, Ok(()));
        }
    }

    #[test]
    fn messages_are_an_array_if_they_are_there() {
        for value in ["null", "{}", "\"a\"", "1"] {
            check(&format!(r#"{{"messages":{value}}}"#), Err(Some("messages")));
            check(&format!(r#"{{"mess\u0061ges":{value}}}"#), Err(Some("messages")));
        }
    }

    #[test]
    fn metadata_are_strings_and_few() {
        #[track_caller]
        fn check(value: &str, expected: Option<&[(&str, &str)]>) {
            let found = read(&format!(r#"{{"requestMetadata":{value}}}"#));
            match (&found, expected) {
                (Ok(found), Some(expected)) => {
                    let expected: Vec<_> = expected.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
                    assert_eq!(found.metadata, expected);
                }
                (Err(malformed), None) => assert_eq!(malformed.field.as_deref(), Some("requestMetadata")),
                _ => panic!("{value}: {found:?}"),
            }
        }
        check("{}", Some(&[]));
        check(r#"{"b":"1", "a":"\u00e9\n"}"#, Some(&[("b", "1"), ("a", "é\n")]));
        check(r#"{"a":"1","\u0061":"2"}"#, Some(&[("a", "1"), ("a", "2")]));
        for value in ["null", "[]", "\"a\"", r#"{"a":1}"#, r#"{"a":null}"#, r#"{"a":{"b":"c"}}"#, r#"{"a":"\ud800"}"#] {
            check(value, None);
        }
        let pairs = |count: usize| format!("{{{}}}", vec![r#""a":"b""#; count].join(","));
        check(&pairs(16), Some(&[("a", "b"); 16]));
        check(&pairs(17), None);
    }

    #[test]
    fn tools_are_there_when_one_is_offered() {
        for (config, expected) in [
            (r#"{"tools":[{}]}"#, true),
            (r#"{ "toolChoice":{"auto":{}}, "tools" : [ 1 ] }"#, true),
            (r#"{"tools":[]}"#, false),
            (r#"{"tools":[ ]}"#, false),
            (r#"{"tools":{}}"#, false),
            (r#"{"tools":null}"#, false),
            ("{}", false),
            ("null", false),
            (r#"{"tools":[1],"tools":[]}"#, false),
        ] {
            assert_eq!(read(&format!(r#"{{"toolConfig":{config}}}"#)).unwrap().tools, expected, "{config}");
        }
        assert!(!read(r#"{"tools":[1]}"#).unwrap().tools);
    }

    #[test]
    fn no_value_of_the_body_is_quoted() {
        for body in [
            r#"{"inferenceConfig":{"maxTokens":"hunter2"}}"#,
            r#"{"guardrailConfig":"hunter2"}"#,
            r#"{"requestMetadata":{"hunter2":7}}"#,
            r#"{"additionalModelRequestFields":{"max_tokens":"hunter2"}}"#,
            r#"{"additionalModelRequestFields":{"amazon-bedrock-guardrail-hunter2":1}}"#,
            r#"{"a":hunter2}"#,
            r#"{"hunter2""#,
        ] {
            let malformed = read(body).unwrap_err();
            assert!(!format!("{malformed:?}").contains("hunter2"), "{malformed:?}");
        }
    }
}
