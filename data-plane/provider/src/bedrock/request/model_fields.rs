//! Refuses members of `additionalModelRequestFields` that would get around what policy sets.
//!
//! Bedrock hands these fields to the model as they are, under the model's own names, and no list of what every model takes
//! exists. So this is a list of what is known to get around policy, not of what is harmless: it stops the names that
//! model families are known to have for a limit of output tokens, for a number of answers to one request, and for a
//! guardrail. A model may know other words. Whoever needs a bound that holds whatever the words bounds spending by
//! quota, too.
//!
//! Limits are looked for at every depth and in arrays, since families keep them in objects of their own
//! (`textGenerationConfig`, `generationConfig`, ...), but not in JSON schemas of tools and answers, whose properties may
//! have any name.

use super::{
    Malformed,
    project::wrong,
    scan::{MAX_DEPTH, Scanner},
};

const FIELDS: &str = "additionalModelRequestFields";

/// Names for a limit of output tokens.
const LIMITS: [&str; 13] = [
    "max_tokens",
    "max_tokens_to_sample",
    "max_completion_tokens",
    "max_output_tokens",
    "max_new_tokens",
    "max_gen_len",
    "max_length",
    "num_predict",
    "maxTokens",
    "maxTokenCount",
    "maxNewTokens",
    "maxOutputTokens",
    "maxCompletionTokens",
];

/// Names for a number of answers: the limit holds for each of them.
const MULTIPLIERS: [&str; 5] = ["num_generations", "numResults", "num_return_sequences", "best_of", "candidateCount"];

/// The same, but so short that further inside it may mean anything.
const SHORT_MULTIPLIER: &str = "n";

/// Members whose value is a JSON schema, or the properties of one.
const SCHEMAS: [&str; 5] = ["properties", "input_schema", "inputSchema", "json_schema", "schema"];

/// Objects that are told in a path by their name. Others are the caller's own words.
const HOLDERS: [&str; 4] = ["inferenceConfig", "textGenerationConfig", "generationConfig", "parameters"];

/// InvokeModel's members for a guardrail all begin with this.
const GUARDRAIL_PREFIX: &str = "amazon-bedrock-guardrail";

/// Reads the value of `additionalModelRequestFields`.
pub(super) fn read(scan: &mut Scanner<'_>) -> Result<(), Malformed> {
    value(scan, 1, FIELDS)
}

/// Reads a value that `outer` objects and arrays stand around. It calls itself for what is inside, so at most
/// [`MAX_DEPTH`] times.
fn value(scan: &mut Scanner<'_>, outer: u32, path: &str) -> Result<(), Malformed> {
    match scan.peek() {
        Some(b'{') if outer < MAX_DEPTH => object(scan, outer, path),
        Some(b'[') if outer < MAX_DEPTH => scan.elements(|scan, _| value(scan, outer + 1, path)),
        _ => {
            scan.value(outer)?;
            Ok(())
        }
    }
}

fn object(scan: &mut Scanner<'_>, outer: u32, path: &str) -> Result<(), Malformed> {
    scan.members(|scan, key| {
        check(&key.name, outer, path)?;
        if SCHEMAS.contains(&&*key.name) {
            scan.value(outer + 1)?;
            return Ok(());
        }
        match HOLDERS.iter().find(|holder| **holder == key.name) {
            Some(holder) => value(scan, outer + 1, &format!("{path}.{holder}")),
            None => value(scan, outer + 1, path),
        }
    })?;
    Ok(())
}

/// Refuses a name. `path` is that of what it stands in.
fn check(name: &str, outer: u32, path: &str) -> Result<(), Malformed> {
    if let Some(limit) = LIMITS.iter().find(|limit| **limit == name) {
        let field = format!("{path}.{limit}");
        let message = format!("The member {field} is not taken: use inferenceConfig.maxTokens.");
        return Err(wrong(&field, message));
    }
    let short = (name == SHORT_MULTIPLIER && outer <= 2).then_some(&SHORT_MULTIPLIER);
    if let Some(multiplier) = MULTIPLIERS.iter().find(|multiplier| **multiplier == name).or(short) {
        let field = format!("{path}.{multiplier}");
        let message = format!("The member {field} is not taken: ask for one answer per request.");
        return Err(wrong(&field, message));
    }
    if outer == 1 && (name == "guardrailConfig" || name.starts_with(GUARDRAIL_PREFIX)) {
        let message = format!("A guardrail in {FIELDS} is not taken: use guardrailConfig.");
        return Err(wrong(FIELDS, message));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{super::project, *};

    /// The field that is complained of, behind `additionalModelRequestFields`; `None`: the fields are taken.
    #[track_caller]
    fn check(fields: &str, expected: Option<&str>) {
        let found = project::read(&format!(r#"{{"additionalModelRequestFields":{fields}}}"#)).map(|_| ());
        let expected = expected.map_or(Ok(()), |field| Err(format!("{FIELDS}{field}")));
        assert_eq!(found.map_err(|malformed| malformed.field.unwrap_or_default()), expected, "{fields}");
    }

    #[test]
    fn a_models_own_limit_is_refused_at_every_depth() {
        for name in LIMITS.iter().chain(&MULTIPLIERS) {
            check(&format!(r#"{{"top_k":1,"{name}":9}}"#), Some(&format!(".{name}")));
            for holder in HOLDERS {
                check(&format!(r#"{{"{holder}":{{"a":[],"{name}":9}}}}"#), Some(&format!(".{holder}.{name}")));
            }
            check(&format!(r#"{{"a":{{"b":[1,[{{"c":{{"{name}":null}}}}]]}}}}"#), Some(&format!(".{name}")));
            check(&format!(r#"[{{"{name}":9}}]"#), Some(&format!(".{name}")));
        }
        check(r#"{"thinking":{"type":"enabled","max\u005ftokens":1}}"#, Some(".max_tokens"));
    }

    #[test]
    fn the_fields_are_found_however_they_are_spelt_and_as_often_as_they_stand() {
        for body in [
            r#"{"additional\u004dodelRequestFields":{"max\u005ftokens":9}}"#,
            r#"{"additionalModelRequestFields":{"max_tokens":9},"additionalModelRequestFields":{}}"#,
        ] {
            let field = project::read(body).unwrap_err().field;
            assert_eq!(field.as_deref(), Some("additionalModelRequestFields.max_tokens"));
        }
    }

    #[test]
    fn one_letter_counts_where_a_model_would_look_for_it() {
        check(r#"{"n":2}"#, Some(".n"));
        check(r#"{"parameters":{"n":2}}"#, Some(".parameters.n"));
        check(r#"{"a":{"b":{"n":2}}}"#, None);
    }

    #[test]
    fn a_schema_may_have_properties_of_any_name() {
        for schema in SCHEMAS {
            check(&format!(r#"{{"{schema}":{{"max_tokens":{{"type":"integer"}},"n":{{}}}}}}"#), None);
            check(&format!(r#"{{"tools":[{{"name":"a","{schema}":{{"a":{{"max_length":{{}}}}}}}}]}}"#), None);
        }
        check(r#"{"schema":{"n":1},"max_tokens":1}"#, Some(".max_tokens"));
    }

    #[test]
    fn a_guardrail_in_the_models_fields_is_refused() {
        for name in ["guardrailConfig", "amazon-bedrock-guardrailConfig", "amazon-bedrock-guardrailAction"] {
            check(&format!(r#"{{"{name}":{{}}}}"#), Some(""));
        }
    }

    #[test]
    fn other_fields_of_the_model_pass() {
        for fields in [
            "null",
            "[]",
            "\"max_tokens\"",
            "{}",
            r#"{"top_k":1,"thinking":{"type":"enabled","budget_tokens":1024}}"#,
            r#"{"inferenceConfig":{"topK":5},"parameters":null,"anthropic_beta":["max_tokens"]}"#,
            r#"{"tools":[{"type":"web_search_20250305","name":"web_search","max_uses":5}]}"#,
        ] {
            check(fields, None);
        }
    }
}
