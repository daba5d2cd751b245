//! Every bad input, and what the operator is told: all of it at once, with the place and what to do.

use switchtower_policy::{File, Severity, load};

use crate::support::{GOOD, file, named, told};

/// What is told of a policy in one file.
#[track_caller]
fn check(text: &str, expected: &[&str]) {
    assert_eq!(told(&[file(text)]), expected, "{text}");
}

/// What is told of [`GOOD`] with something added from line 7 on.
#[track_caller]
fn added(text: &str, expected: &[&str]) {
    check(&format!("{GOOD}{text}"), expected);
}

mod yaml {
    use super::*;

    #[test]
    fn a_file_that_is_no_yaml_is_told_beside_what_is_wrong_in_the_others() {
        let files = [
            named("a.yaml", "environment: test\nmodels: [unclosed\n"),
            named("b.yaml", "routes:\n  a: { tiers: [sonnet], tirs: [] }\n"),
            named("c.yaml", "models:\n\tm: {}\n"),
            File { name: "d.yaml".to_owned(), bytes: b"environment: test\nmodels: \xff\n".to_vec() },
        ];
        assert_eq!(
            told(&files),
            [
                "a.yaml:2:9: error[malformed_yaml]: this is not YAML: unclosed bracket '['",
                "b.yaml:2:25: error[unknown_field] routes.a.tirs: there is no field `tirs` here; there are aliases, tiers, rules, sticky, timeouts, max_output_tokens, on_broken_stream, guardrail, residency, upstream, needs, min_context, description; did you mean `tiers`?",
                "c.yaml:2:2: error[tab]: a tab stands in the indentation: YAML is indented with spaces",
                "d.yaml:2:9: error[not_utf8]: this is not UTF-8: save the file as UTF-8 text"
            ]
        );
    }

    #[test]
    fn one_document_a_file() {
        added(
            "---\nroutes: {}\n",
            &[
                "policy.yaml:7:1: error[several_documents]: a second document begins here: a file holds one; put the others into files of their own",
            ],
        );
    }

    #[test]
    fn what_yaml_can_do_and_a_policy_cannot() {
        added(
            "routes: { a: { tiers: [!model sonnet] } }",
            &[
                "policy.yaml:7:31: error[tag] routes.a.tiers[0]: `!model` is a YAML tag, and a policy has none: put the text in quotes",
            ],
        );
        added(
            "routes: { a: &a { tiers: [sonnet] }, b: { <<: *a } }",
            &[
                "policy.yaml:7:43: error[unknown_field] routes.b.<<: merge keys (`<<`) are not supported: write the fields out, or use an anchor for a whole value",
            ],
        );
        added(
            "routes: { ? [a] : b }",
            &[
                "policy.yaml:7:13: error[malformed_yaml]: a name was expected before `:`, and this is a list or a mapping; a text that begins with `{` or `[` must stand in quotes",
            ],
        );
        added(
            "routes: { a: { tiers: ~ } }",
            &[
                "policy.yaml:7:23: error[missing_value] routes.a.tiers: a value is missing here: write one, or remove the field",
            ],
        );
        added(
            "routes:\n  a:\n",
            &[
                "policy.yaml:8:4: error[missing_value] routes.a: a value is missing here: write one, or remove the field",
            ],
        );
        added(
            "- a\n",
            &[
                "policy.yaml:7:3: error[malformed_yaml]: this is not YAML: while parsing a block mapping, did not find expected key",
            ],
        );
        check(
            "just text",
            &[
                "policy.yaml:1:1: error[wrong_type]: a mapping with the sections of a policy was expected, and this is text",
                "policy.yaml:1:1: error[required] environment: the environment's name is required, such as `environment: prod`",
            ],
        );
        check(
            "",
            &[
                "policy.yaml:1:1: error[required] environment: the environment's name is required, such as `environment: prod`",
            ],
        );
    }

    #[test]
    fn anchors_stand_for_what_they_name_within_bounds() {
        let shared = format!("{GOOD}routes: {{ a: {{ tiers: &t [sonnet] }}, b: {{ tiers: *t }} }}");
        assert!(load(&[file(&shared)]).is_ok());
        let mut laughs = String::from("environment: test\na0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
        for level in 1..10 {
            let name = format!("*a{}", level - 1);
            laughs.push_str(&format!("a{level}: &a{level} [{}]\n", [name.as_str(); 10].join(",")));
        }
        check(
            &laughs,
            &[
                "policy.yaml:7:34: error[too_large]: with its anchors expanded the policy is larger than 1000000 values or 4194304 bytes",
            ],
        );
        let long = format!("environment: test\na: &a {}\nb: [{}]\n", "x".repeat(100_000), ["*a"; 100].join(","));
        check(
            &long,
            &[
                "policy.yaml:3:125: error[too_large]: with its anchors expanded the policy is larger than 1000000 values or 4194304 bytes",
            ],
        );
    }

    #[test]
    fn nesting_and_size_are_bounded() {
        added(
            &format!("flags: {{ a: {{ default: {}{} }} }}", "{a: ".repeat(40), "}".repeat(40)),
            &["policy.yaml:7:140: error[too_deep]: this is nested deeper than 32 levels"],
        );
        added(
            &format!("flags: {}", "[".repeat(100_000)),
            &["policy.yaml:7:40: error[too_deep]: this is nested deeper than 32 levels"],
        );
        let block: String = (0..40).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
        added(
            &format!("flags:\n{}", block.replace("\n", "\n ").trim_end()),
            &["policy.yaml:40:34: error[too_deep]: this is nested deeper than 32 levels"],
        );
        let half = "x".repeat(3 << 20);
        let files = [named("a.yaml", &format!("# {half}")), named("b.yaml", &format!("# {half}"))];
        assert_eq!(
            told(&files),
            [
                "b.yaml:1:1: error[too_large]: with this file the policy is longer than 4194304 bytes: remove what is not needed"
            ]
        );
        let many = format!("environment: test\nmodels: [{}]", "[],".repeat(1_100_000));
        check(
            &many,
            &[
                "policy.yaml:2:2999995: error[too_large]: with its anchors expanded the policy is larger than 1000000 values or 4194304 bytes",
            ],
        );
    }
}

mod conditions {
    use super::*;

    #[track_caller]
    fn check_when(when: &str, expected: &[&str]) {
        added(
            &format!("routes:\n  a:\n    tiers: [sonnet]\n    rules:\n      - when: {when}\n        tiers: [sonnet]\n"),
            expected,
        );
    }

    #[test]
    fn one_that_yaml_took_apart_must_be_put_in_single_quotes() {
        for when in [
            "flag(\"x\") == {a: b}",
            "metadata.a == \"x\" # y",
            "metadata.a == \"x #y\"",
            "metadata.a == \"x: y\"",
            "!x",
            "!flag(\"x\")",
            "!(metadata.a == \"b\")",
            "\"a\" == \"b\"",
            "'a' == 'b'",
            "[\"a\"][0] == \"b\"",
            "{a: b}",
            "[a, b]",
            "*x",
            "@x",
        ] {
            let text = format!(
                "{GOOD}routes:\n  a:\n    tiers: [sonnet]\n    rules:\n      - when: {when}\n        tiers: [sonnet]\n"
            );
            let violations = load(&[file(&text)]).unwrap_err();
            let codes: Vec<&str> = violations.iter().map(|violation| violation.code).collect();
            assert_eq!(codes, ["unquoted_condition"], "{when}: {violations:#?}");
            assert!(violations[0].message.contains("single quote"), "{}", violations[0]);
            assert_eq!(violations[0].place.as_ref().map(|place| place.line), Some(11), "{when}");
        }
        check_when(
            "flag(\"x\") == {a: b}",
            &[
                "policy.yaml:11:15: error[unquoted_condition]: this condition is not YAML: put the whole condition in single quotes, as in `when: 'metadata.tier == \"gold\"'`",
            ],
        );
        check_when(
            "metadata.a == \"x\" # y",
            &[
                "policy.yaml:11:15: error[unquoted_condition] routes.a.rules[0].when: YAML read the rest of this line as a comment: put the whole condition in single quotes, as in `when: 'metadata.tier == \"gold\"'`",
            ],
        );
        check_when(
            "!x",
            &[
                "policy.yaml:11:17: error[unquoted_condition] routes.a.rules[0].when: YAML read `!x` as a tag: put the whole condition in single quotes, as in `when: 'metadata.tier == \"gold\"'`",
            ],
        );
        check_when(
            "'it's'",
            &[
                "policy.yaml:11:15: error[unquoted_condition]: this is not YAML; a single quote inside a condition is written twice, or use double quotes there: put the whole condition in single quotes, as in `when: 'metadata.tier == \"gold\"'`",
            ],
        );
        added(
            "flags: { f: { default: 1, rules: [ { when: f(a, b) == 1, serve: 2 } ] } }",
            &[
                "policy.yaml:7:44: error[unquoted_condition] flags.f.rules[0].when: YAML ended this condition in the middle: put the whole condition in single quotes, as in `when: 'metadata.tier == \"gold\"'`",
            ],
        );
    }

    #[test]
    fn one_without_quotes_that_yaml_left_whole_is_a_condition() {
        for when in ["metadata.a == \"x\"", "request.stream", "metadata.a == 'x' && request.tools"] {
            let text = format!(
                "{GOOD}routes:\n  a:\n    tiers: [sonnet]\n    rules:\n      - when: {when}\n        tiers: [sonnet]\n"
            );
            assert!(load(&[file(&text)]).is_ok(), "{when}");
        }
    }

    #[test]
    fn one_that_is_wrong_says_where() {
        check_when(
            "'metadata.a = \"x\"'",
            &[
                "policy.yaml:11:15: error[condition_syntax] routes.a.rules[0].when: `=` is not an operator (at character 12 of the condition); did you mean `==`?",
            ],
        );
        check_when(
            "'caller.tenat == \"x\"'",
            &[
                "policy.yaml:11:15: error[unknown_name] routes.a.rules[0].when: `caller` has no member `tenat`; it has caller.name, caller.tenant (at character 8 of the condition); did you mean `caller.tenant`?",
            ],
        );
        check_when(
            "'flag(\"gold\")'",
            &[
                "policy.yaml:11:15: error[unknown_flag] routes.a.rules[0].when: no flag is called `gold` (at character 1 of the condition)",
            ],
        );
        check_when(
            "''",
            &[
                "policy.yaml:11:15: error[required] routes.a.rules[0].when: the condition that selects requests is required",
            ],
        );
        check_when(
            "7",
            &[
                "policy.yaml:11:15: error[condition_type] routes.a.rules[0].when: a condition is true or false, and this is an int (at character 1 of the condition)",
            ],
        );
        added(
            "flags: { a: { default: 1, rules: [{ when: 'flag(\"a\") == 1', serve: 2 }] } }",
            &[
                "policy.yaml:7:43: error[condition_unsupported] flags.a.rules[0].when: a flag's own rules name no flags: they could never be decided if two named each other (at character 1 of the condition)",
            ],
        );
    }

    #[test]
    fn one_that_is_too_long_or_too_deep_is_a_violation_and_no_crash() {
        let sum = format!("'1{} == 0'", " + 1".repeat(1499));
        let short_sum = format!("'1{} == 0'", "+1".repeat(400));
        let brackets = format!("'{}true{}'", "(".repeat(500), ")".repeat(500));
        let unclosed = format!("'{}'", "(".repeat(500));
        let nots = format!("'{}true'", "!".repeat(900));
        let minuses = format!("'{}1 == 1'", "-".repeat(900));
        let lists = format!("'1 in {}1{}'", "[".repeat(400), "]".repeat(400));
        let chain = format!("'metadata{}'", ".a".repeat(400));
        let ternaries = format!("'{}true'", "true ? true : ".repeat(60));
        let huge = format!("'{}'", "a".repeat(1 << 20));
        for when in [sum, short_sum, brackets, unclosed, nots, minuses, lists, chain, ternaries, huge] {
            for text in [
                format!("{GOOD}routes: {{ a: {{ tiers: [sonnet], rules: [{{ when: {when}, tiers: [sonnet] }}] }} }}"),
                format!("{GOOD}routes: {{ a: {{ tiers: [{{ answer: x, when: {when} }}] }} }}"),
                format!("{GOOD}flags: {{ a: {{ default: 1, rules: [{{ when: {when}, serve: 2 }}] }} }}"),
            ] {
                let violations = load(&[file(&text)]).unwrap_err();
                assert_eq!(violations.len(), 1, "{violations:#?}");
                assert!(violations[0].code.starts_with("condition_"), "{}", violations[0]);
                assert!(violations[0].path.ends_with(".when"), "{}", violations[0]);
            }
        }
    }
}

mod fields {
    use super::*;

    #[test]
    fn unknown_ones_are_told_with_what_was_meant_and_nothing_that_follows() {
        check(
            "enviroment: test\nmodells: {}\nnonsense: 1\n",
            &[
                "policy.yaml:1:1: error[unknown_field] enviroment: there is no field `enviroment` here; there are environment, requirements, models, routes, flags, guardrails, callers, rollout, catalogue; did you mean `environment`?",
                "policy.yaml:2:1: error[unknown_field] modells: there is no field `modells` here; there are environment, requirements, models, routes, flags, guardrails, callers, rollout, catalogue; did you mean `models`?",
                "policy.yaml:3:1: error[unknown_field] nonsense: there is no field `nonsense` here; there are environment, requirements, models, routes, flags, guardrails, callers, rollout, catalogue",
            ],
        );
        added(
            "routes: { a: { tier: [sonnet], maxoutput: 5 } }",
            &[
                "policy.yaml:7:16: error[unknown_field] routes.a.tier: there is no field `tier` here; there are aliases, tiers, rules, sticky, timeouts, max_output_tokens, on_broken_stream, guardrail, residency, upstream, needs, min_context, description; did you mean `tiers`?",
                "policy.yaml:7:32: error[unknown_field] routes.a.maxoutput: there is no field `maxoutput` here; there are aliases, tiers, rules, sticky, timeouts, max_output_tokens, on_broken_stream, guardrail, residency, upstream, needs, min_context, description",
            ],
        );
        added(
            "requirments: { residency: us }",
            &[
                "policy.yaml:7:1: error[unknown_field] requirments: there is no field `requirments` here; there are environment, requirements, models, routes, flags, guardrails, callers, rollout, catalogue; did you mean `requirements`?",
            ],
        );
    }

    #[test]
    fn wrong_types_say_what_was_expected_and_what_is_there() {
        let text = r#"environment: 7
models:
  a: text
  b: { bedrock: [x], regions: us-east-1 }
  c: { bedrock: us.amazon.nova-lite-v1:0, regions: [us-east-1, 5] }
routes:
  a: { tiers: sonnet, aliases: { a: b }, max_output_tokens: many, min_context: 1.5 }
  b: { tiers: [a], max_output_tokens: -1, timeouts: { total: 30, idle: 1.5s, connect: soon } }
  c: { tiers: [[a], { split: { a: x } }, { split: [a] }, 5] }
flags:
  a: { default: 1, disabled: maybe, rules: [{ percent: 10%, serve: 2 }] }
guardrails:
  g: { id: x, version: 7, trace: on, stream_mode: async }
callers:
  c: { routes: "*", limits: { tokens_per_minute: 1e3, dollars_per_day: .inf } }
"#;
        check(
            text,
            &[
                "policy.yaml:1:14: error[wrong_type] environment: text was expected, and `7` is a number: put it in quotes",
                "policy.yaml:3:6: error[wrong_type] models.a: a mapping with `bedrock` and `regions` was expected, and this is text",
                "policy.yaml:4:17: error[wrong_type] models.b.bedrock: text was expected, and this is a list",
                "policy.yaml:4:31: error[wrong_type] models.b.regions: a list was expected, and this is text",
                "policy.yaml:5:64: error[wrong_type] models.c.regions[1]: text was expected, and `5` is a number: put it in quotes",
                "policy.yaml:7:15: error[wrong_type] routes.a.tiers: a list was expected, and this is text",
                "policy.yaml:7:32: error[wrong_type] routes.a.aliases: a list was expected, and this is a mapping",
                "policy.yaml:7:61: error[wrong_type] routes.a.max_output_tokens: a whole number was expected, and this is text",
                "policy.yaml:7:80: error[wrong_type] routes.a.min_context: a whole number was expected, and this is `1.5`",
                "policy.yaml:8:39: error[out_of_range] routes.b.max_output_tokens: a whole number from 0 to 4294967295 was expected, and this is `-1`",
                "policy.yaml:8:62: error[bad_duration] routes.b.timeouts.total: a whole number with a unit, such as `500ms`, `8s`, `2m` or `1h` was expected, and this is `30`",
                "policy.yaml:8:72: error[bad_duration] routes.b.timeouts.idle: a whole number with a unit, such as `500ms`, `8s`, `2m` or `1h` was expected, and this is `1.5s`",
                "policy.yaml:8:87: error[bad_duration] routes.b.timeouts.connect: a whole number with a unit, such as `500ms`, `8s`, `2m` or `1h` was expected, and this is `soon`",
                "policy.yaml:9:16: error[wrong_type] routes.c.tiers[0]: a model's name, `inherit`, or a mapping with `model`, `split` or `answer` was expected, and this is a list",
                "policy.yaml:9:35: error[wrong_type] routes.c.tiers[1].split.a: a whole number was expected, and this is text",
                "policy.yaml:9:51: error[wrong_type] routes.c.tiers[2].split: a mapping from names was expected, and this is a list",
                "policy.yaml:9:58: error[wrong_type] routes.c.tiers[3]: text was expected, and `5` is a number: put it in quotes",
                "policy.yaml:11:30: error[wrong_type] flags.a.disabled: true or false was expected, and this is text",
                "policy.yaml:11:56: error[wrong_type] flags.a.rules[0].percent: a number was expected: leave out the `%`",
                "policy.yaml:13:24: error[wrong_type] guardrails.g.version: text was expected, and `7` is a number: put it in quotes",
                "policy.yaml:13:34: error[unknown_word] guardrails.g.trace: `on` is not one of disabled, enabled, enabled_full",
                "policy.yaml:15:16: error[wrong_type] callers.c.routes: a list was expected, and this is text",
                "policy.yaml:15:21: warning[not_executed] callers.c.limits: a caller's limits: stored, and not executed by this version yet",
                "policy.yaml:15:50: error[wrong_type] callers.c.limits.tokens_per_minute: a whole number was expected, and this is `1e3`",
                "policy.yaml:15:72: error[out_of_range] callers.c.limits.dollars_per_day: a finite number was expected, and this is `.inf`",
            ],
        );
    }

    #[test]
    fn a_name_stands_once_in_all_files() {
        let files = [
            named(
                "a.yaml",
                "environment: test\nmodels:\n  m: { bedrock: us.amazon.nova-lite-v1:0, regions: [us-east-1] }\n",
            ),
            named(
                "b.yaml",
                "environment: prod\nmodels:\n  m: { bedrock: us.amazon.nova-lite-v1:0, regions: [us-east-1] }\n",
            ),
            named("c.yaml", "requirements: { residency: us }\nenvironment: test\n"),
            named("d.yaml", "requirements: { residency: us }\n"),
        ];
        assert_eq!(
            told(&files),
            [
                "b.yaml:1:14: error[environment_conflict] environment: this file is for `prod`, and a.yaml:1 is for `test`: apply them apart",
                "b.yaml:3:3: error[duplicate] models.m: `m` stands twice, first in a.yaml:3: keep one",
                "d.yaml:1:15: error[duplicate] requirements: this section stands twice, first in c.yaml:1: keep one"
            ]
        );
        added(
            "models: {}\n",
            &["policy.yaml:7:1: error[duplicate] models: `models` stands twice here, first in line 2: keep one"],
        );
        added(
            "routes:\n  a: { tiers: [sonnet] }\n  a: { tiers: [sonnet], tiers: [nova-lite] }\n",
            &["policy.yaml:9:3: error[duplicate] routes.a: `a` stands twice here, first in line 8: keep one"],
        );
    }

    #[test]
    fn tiers_are_one_thing_each() {
        added(
            "routes: { a: { tiers: [{ model: sonnet, answer: x }, {}, { model: sonnet, when: 'true' }, { inherit: yes }] } }",
            &[
                "policy.yaml:7:24: error[wrong_tier] routes.a.tiers[0]: a tier is one thing, and this is model and answer: make them tiers",
                "policy.yaml:7:54: error[wrong_tier] routes.a.tiers[1]: a tier is one of `model`, `split` and `answer`, and none of them stands here",
                "policy.yaml:7:75: error[misplaced_field] routes.a.tiers[2].when: only an `answer` has a condition here; for models, write a rule with `when` and `tiers`",
                "policy.yaml:7:91: error[wrong_tier] routes.a.tiers[3]: a tier is one of `model`, `split` and `answer`, and none of them stands here",
                "policy.yaml:7:93: error[unknown_field] routes.a.tiers[3].inherit: there is no field `inherit` here; there are model, split, answer, when",
            ],
        );
    }
}

mod meaning {
    use super::*;

    #[test]
    fn names_are_names() {
        let long = "x".repeat(129);
        let text = format!(
            "environment: 'a b'\nmodels: {{ inherit: {{ bedrock: us.amazon.nova-lite-v1:0, regions: [us-east-1] }} }}\nflags: {{ -a: {{ default: 1 }}, {long}: {{ default: 1 }} }}\n"
        );
        check(
            &text,
            &[
                "policy.yaml:1:14: error[bad_name] environment: `a b` is not a name: 1 to 128 characters, of letters, digits, `.`, `_` and `-`, beginning with a letter or a digit",
                "policy.yaml:2:11: error[reserved_name] models.inherit: no model can be called `inherit`: in a tier it stands for the route's own tiers",
                "policy.yaml:3:10: error[bad_name] flags.-a: `-a` is not a name: 1 to 128 characters, of letters, digits, `.`, `_` and `-`, beginning with a letter or a digit",
                "policy.yaml:3:30: error[bad_name] flags.xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx: `xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…` is not a name: 1 to 128 characters, of letters, digits, `.`, `_` and `-`, beginning with a letter or a digit",
            ],
        );
        check(
            "{}",
            &[
                "policy.yaml:1:1: error[required] environment: the environment's name is required, such as `environment: prod`",
            ],
        );
    }

    #[test]
    fn unknown_names_are_told_with_what_was_meant() {
        let text = "routes:\n  a: { tiers: [sonet, { split: { nova-lit: 1, haiku: 1 } }], guardrail: standrd, needs: [tool] }\nguardrails: { standard: { id: g, version: '1' } }\n";
        added(
            text,
            &[
                "policy.yaml:8:16: error[unknown_model] routes.a.tiers[0]: no model is called `sonet`; models are defined under `models`; did you mean `sonnet`?",
                "policy.yaml:8:34: error[unknown_model] routes.a.tiers[1].split.nova-lit: no model is called `nova-lit`; models are defined under `models`; did you mean `nova-lite`?",
                "policy.yaml:8:47: error[unknown_model] routes.a.tiers[1].split.haiku: no model is called `haiku`; models are defined under `models`",
                "policy.yaml:8:73: error[unknown_guardrail] routes.a.guardrail: no guardrail is called `standrd`; define it under `guardrails`; did you mean `standard`?",
                "policy.yaml:8:90: error[unknown_feature] routes.a.needs[0]: no feature is called `tool`; there are adaptive_thinking, assistant_prefill, audio_in, computer_use, image_embed, native_structured_output, output_config, parallel_tools_config, pdf, prompt_cache, reasoning, response_schema, thinking_always_on, tool_choice, tools, video_in, vision; did you mean `tools`?",
            ],
        );
        let callers = GOOD.replace("['*']", "[suport, '*', alias, suppport]");
        check(
            &format!("{callers}routes: {{ support: {{ tiers: [sonnet], aliases: [alias] }} }}"),
            &[
                "policy.yaml:6:20: error[unknown_route] callers.acme.routes[0]: no route is called `suport`; did you mean `support`?",
                "policy.yaml:6:28: error[conflict] callers.acme.routes[1]: `*` means every route: let it stand alone, or leave it out",
                "policy.yaml:6:33: error[unknown_route] callers.acme.routes[2]: `alias` is an alias: name the route itself; did you mean `support`?",
                "policy.yaml:6:40: error[unknown_route] callers.acme.routes[3]: no route is called `suppport`; did you mean `support`?",
                "policy.yaml:7:11: warning[unused_route] routes.support: no caller may use this route",
            ],
        );
    }

    #[test]
    fn inherit_stands_once_and_only_in_rules() {
        added(
            "routes:\n  a:\n    tiers: [sonnet, inherit]\n    rules:\n      - { when: 'true', tiers: [inherit, nova-lite, inherit] }\n",
            &[
                "policy.yaml:9:21: error[inherit_cycle] routes.a.tiers[1]: `inherit` stands for the route's own tiers, and these are they: a cycle; it belongs in the tiers of a rule",
                "policy.yaml:11:53: error[inherit_twice] routes.a.rules[0].tiers[2]: `inherit` stands here a second time: keep one",
            ],
        );
        added(
            "routes:\n  a:\n    tiers: [inherit]\n",
            &[
                "policy.yaml:9:13: error[inherit_cycle] routes.a.tiers[0]: `inherit` stands for the route's own tiers, and these are they: a cycle; it belongs in the tiers of a rule",
            ],
        );
    }

    #[test]
    fn weights_and_lists_are_bounded() {
        added(
            "routes:\n  a: { tiers: [{ split: { sonnet: 0, nova-lite: 0 } }, { split: {} }, { split: { sonnet: 1000001 } }] }\n  b: { tiers: [] }\n  c: {}\n",
            &[
                "policy.yaml:8:18: error[zero_weights] routes.a.tiers[0].split: all weights are 0: no model would be chosen; give one a weight",
                "policy.yaml:8:58: error[required] routes.a.tiers[1].split: at least one model with its weight is required",
                "policy.yaml:8:82: error[out_of_range] routes.a.tiers[2].split.sonnet: a weight is 0 to 1000000",
                "policy.yaml:9:8: error[required] routes.b.tiers: a list of at least one tier is required",
                "policy.yaml:10:3: error[required] routes.c.tiers: a list of at least one tier is required",
            ],
        );
        let many = |count: usize, item: &str| vec![item; count].join(", ");
        added(
            &format!("routes:\n  a: {{ tiers: [{}] }}\n", many(17, "sonnet")),
            &["policy.yaml:8:8: error[limit] routes.a.tiers: there are 17 here, and at most 16 are allowed"],
        );
        added(
            &format!(
                "routes:\n  a: {{ tiers: [sonnet], rules: [{}] }}\n",
                many(65, "{ when: 'true', tiers: [sonnet] }")
            ),
            &["policy.yaml:8:25: error[limit] routes.a.rules: there are 65 here, and at most 64 are allowed"],
        );
        added(
            &format!("routes:\n  a: {{ tiers: [sonnet], description: {} }}\n", "x".repeat(501)),
            &[
                "policy.yaml:8:38: error[limit] routes.a.description: this is 501 characters long, and at most 500 are allowed",
            ],
        );
        added(
            &format!("routes:\n  a: {{ tiers: [{{ answer: {} }}] }}\n", "x".repeat(16_385)),
            &[
                "policy.yaml:8:26: error[limit] routes.a.tiers[0].answer: this is 16385 characters long, and at most 16384 are allowed",
            ],
        );
    }

    #[test]
    fn aliases_are_unique() {
        added(
            "routes:\n  a: { tiers: [sonnet], aliases: [b, x, a, 'y z'] }\n  b: { tiers: [sonnet], aliases: [x] }\n",
            &[
                "policy.yaml:8:35: error[alias_collision] routes.a.aliases[0]: `b` is the name of the route `b` already: keep one",
                "policy.yaml:8:41: error[alias_collision] routes.a.aliases[2]: `a` is the name of the route `a` already: keep one",
                "policy.yaml:8:44: error[bad_name] routes.a.aliases[3]: `y z` is not a name: 1 to 128 characters, of letters, digits, `.`, `_`, `-`, `:` and `/`, beginning with a letter or a digit",
                "policy.yaml:9:35: error[alias_collision] routes.b.aliases[0]: `x` is an alias of the route `a` already: keep one",
            ],
        );
    }

    #[test]
    fn every_tier_keeps_the_guardrail() {
        let text = r#"guardrails: { g: { regions: { us-east-1: &g { id: g, version: "1" }, us-west-2: *g } }, h: { id: h, version: "1" } }
requirements: { guardrail: g }
models:
  old: { bedrock: amazon.titan-embed-g1-text-02, regions: [us-east-1] }
routes:
  a: { tiers: [sonnet], guardrail: h }
  b: { tiers: [sonnet], guardrail: g, rules: [{ when: 'true', tiers: [old] }] }
"#;
        let good = GOOD
            .replace("models:\n", "models:\n  old: { bedrock: amazon.titan-embed-g1-text-02, regions: [us-east-1] }\n");
        let text =
            text.replace("models:\n  old: { bedrock: amazon.titan-embed-g1-text-02, regions: [us-east-1] }\n", "");
        check(
            &format!("{good}{text}"),
            &[
                "policy.yaml:11:36: error[guardrail_conflict] routes.a.guardrail: `requirements` sets the guardrail `g` on every route: leave it out here, or name the same",
                "policy.yaml:12:71: error[guardrail_unsupported] routes.b.rules[0].tiers[0]: `old` takes no Converse calls, so it cannot carry the guardrail `g`: use another model here",
            ],
        );
    }

    #[test]
    fn a_guardrail_is_in_every_region_where_it_is_carried() {
        added(
            r#"guardrails: { g: { regions: { us-east-1: { id: gr-1, version: "1" } } } }
requirements: { guardrail: g }
routes:
  a: { tiers: [nova-lite, { split: { sonnet: 1 } }], rules: [{ when: 'true', tiers: [sonnet] }] }
"#,
            &[
                "policy.yaml:10:38: error[guardrail_region] routes.a.tiers[1].split.sonnet: `sonnet` is called in us-west-2, where the guardrail `g` has no id: add it under `guardrails.g.regions`, or take the region from the model",
                "policy.yaml:10:86: error[guardrail_region] routes.a.rules[0].tiers[0]: `sonnet` is called in us-west-2, where the guardrail `g` has no id: add it under `guardrails.g.regions`, or take the region from the model",
            ],
        );
        added(
            r#"guardrails: { g: { id: "arn:aws:bedrock:us-east-1:1:guardrail/gr-1", version: "1" } }
routes:
  a: { tiers: [nova-lite, sonnet], guardrail: g }
"#,
            &[
                "policy.yaml:9:27: error[arn_region] routes.a.tiers[1]: the ARN of the guardrail `g` is of us-east-1, and `sonnet` is called in us-west-2 too: give an id for each region under `guardrails.g.regions`",
            ],
        );
        added(
            r#"guardrails:
  g:
    id: gr-1
    regions:
      us-east-1: { id: "arn:aws:bedrock:us-west-2:1:guardrail/gr-1", version: "1" }
      us-west-2: {}
      moon: { id: gr-1, version: "1" }
"#,
            &[
                "policy.yaml:9:9: error[bad_guardrail] guardrails.g.id: `id` stands under `regions` for each region: remove this one",
                "policy.yaml:11:24: error[arn_region] guardrails.g.regions.us-east-1.id: the ARN is of us-west-2, and cannot be called in us-east-1",
                "policy.yaml:12:7: error[required] guardrails.g.regions.us-west-2.id: the guardrail's id or ARN is required",
                "policy.yaml:12:7: error[required] guardrails.g.regions.us-west-2.version: a version number or `DRAFT` is required",
                "policy.yaml:13:7: error[bad_region] guardrails.g.regions.moon: `moon` is not a region",
            ],
        );
    }

    #[test]
    fn every_tier_keeps_the_residency() {
        let models = r#"models:
  global: { bedrock: global.amazon.nova-2-lite-v1:0, regions: [us-east-1] }
  europe: { bedrock: eu.amazon.nova-lite-v1:0, regions: [eu-west-1, eu-west-3] }
  bare: { bedrock: amazon.nova-lite-v1:0, regions: [us-east-1, ap-northeast-1] }
  hidden: { bedrock: 'arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc', regions: [us-east-1, us-west-2] }
"#;
        let text = GOOD.replace("models:\n", models)
            + "requirements: { residency: us }\nroutes:\n  a: { tiers: [sonnet, global, { split: { europe: 1, bare: 1 } }], rules: [{ when: 'true', tiers: [hidden] }] }\n  b: { tiers: [sonnet], residency: eu }\n  c: { tiers: [sonnet], residency: mars }\n";
        check(
            &text,
            &[
                "policy.yaml:6:22: warning[unknown_model_id] models.hidden.bedrock: the catalogue does not know `arn:aws:bedrock:us-east-1:123456789012:application-inference-pro…`: it works, and its cost and limits are unknown; say them under `catalogue`",
                "policy.yaml:6:119: error[arn_region] models.hidden.regions[1]: the ARN is of us-east-1, and cannot be called in us-west-2",
                "policy.yaml:13:24: error[residency] routes.a.tiers[1]: `global` leaves `us`: its `global.` profile may work in regions outside `us`",
                "policy.yaml:13:43: error[residency] routes.a.tiers[2].split.europe: `europe` leaves `us`: it is called in eu-west-1, outside `us`",
                "policy.yaml:13:43: error[residency] routes.a.tiers[2].split.europe: `europe` leaves `us`: it is called in eu-west-3, outside `us`",
                "policy.yaml:13:54: error[residency] routes.a.tiers[2].split.bare: `bare` leaves `us`: it is called in ap-northeast-1, outside `us`",
                "policy.yaml:13:100: error[residency] routes.a.rules[0].tiers[0]: `hidden` leaves `us`: its ARN does not show where it works; only a model id or an inference profile id can be shown to stay in `us`",
                "policy.yaml:14:36: error[residency_conflict] routes.b.residency: `requirements` keeps every route in `us`, and `eu` is not within it",
                "policy.yaml:15:36: error[unknown_residency] routes.c.residency: `mars` is not a geography; there are us, eu, apac, jp, au, in, ca, us-gov",
            ],
        );
    }

    #[test]
    fn every_tier_meets_the_needs_and_the_limits() {
        let text = "routes:\n  a: { tiers: [sonnet, nova-lite], needs: [computer_use], min_context: 250000, max_output_tokens: 20000 }\n  b: { tiers: [sonnet], max_output_tokens: 0, min_context: 0 }\n";
        added(
            text,
            &[
                "policy.yaml:8:16: error[context_too_small] routes.a.tiers[0]: `sonnet` has a context of 200000, and this route asks for 250000 tokens",
                "policy.yaml:8:24: error[needs_not_met] routes.a.tiers[1]: `nova-lite` cannot do `computer_use`, which this route needs",
                "policy.yaml:8:99: error[max_output_tokens] routes.a.max_output_tokens: `nova-lite` gives at most 10000 output tokens: lower this, or use another model",
                "policy.yaml:9:44: error[out_of_range] routes.b.max_output_tokens: this must be 1 or more",
                "policy.yaml:9:60: error[out_of_range] routes.b.min_context: this must be 1 or more",
            ],
        );
        let unknown = GOOD.replace("us.amazon.nova-lite-v1:0", "nobody.knows-v1:0");
        check(
            &format!("{unknown}routes: {{ a: {{ tiers: [nova-lite], needs: [tools], min_context: 1 }} }}"),
            &[
                "policy.yaml:4:25: warning[unknown_model_id] models.nova-lite.bedrock: the catalogue does not know `nobody.knows-v1:0`: it works, and its cost and limits are unknown; say them under `catalogue`",
                "policy.yaml:7:24: error[needs_not_met] routes.a.tiers[0]: `nova-lite` is not known by the catalogue to do `tools`, which this route needs",
                "policy.yaml:7:24: error[context_too_small] routes.a.tiers[0]: `nova-lite` has a context that the catalogue does not know, and this route asks for 1 tokens",
            ],
        );
    }

    #[test]
    fn timeouts_are_possible() {
        added(
            "routes:\n  a: { tiers: [sonnet], timeouts: { connect: 0s, first_token: 15m, idle: 2h } }\n  b: { tiers: [sonnet], timeouts: { first_token: 20s, idle: 10s, total: 15s } }\n",
            &[
                "policy.yaml:8:46: error[out_of_range] routes.a.timeouts.connect: a timeout is 1 ms to 1 h",
                "policy.yaml:8:63: error[timeout_conflict] routes.a.timeouts.first_token: 900s is longer than `total`, 600s (the default): it could never run out",
                "policy.yaml:8:74: error[out_of_range] routes.a.timeouts.idle: a timeout is 1 ms to 1 h",
                "policy.yaml:9:50: error[timeout_conflict] routes.b.timeouts.first_token: 20s is longer than `total`, 15s: it could never run out",
            ],
        );
    }

    #[test]
    fn flags_have_one_type_and_rules_that_say_whom() {
        let text = r#"flags:
  a: { default: true, rules: [{ serve: false }, { percent: 101, serve: 1 }, { percent: 0.0001, serve: true }] }
  b: { variants: { x: 1, y: text }, default: z, rules: [{ percent: 5, split: { x: 0 } }, { percent: 5, serve: 1 }, { percent: 5 }] }
  c: { default: [1] }
  d: { rules: [] }
  e: { default: 1, rules: [{ split: { a: 1 } }, { when: 'true', serve: 2, split: { a: 1 } }] }
  f: { default: 9007199254740993 }
"#;
        added(
            text,
            &[
                "policy.yaml:8:31: error[required] flags.a.rules[0]: a rule says whom it is for, by `when`, `percent` or `split`; for everybody, change `default`",
                "policy.yaml:8:60: error[out_of_range] flags.a.rules[1].percent: a percentage is 0 to 100 in steps of 0.001, and this is 101",
                "policy.yaml:8:72: error[wrong_type] flags.a.rules[1].serve: all values of a flag have one type: this is a number, and the ones before are a boolean",
                "policy.yaml:8:88: error[out_of_range] flags.a.rules[2].percent: a percentage is 0 to 100 in steps of 0.001, and this is 0.0001",
                "policy.yaml:9:26: error[wrong_type] flags.b.variants.y: all values of a flag have one type: this is a string, and the ones before are a number",
                "policy.yaml:9:46: error[unknown_variant] flags.b.default: no variant is called `z`",
                "policy.yaml:9:71: error[zero_weights] flags.b.rules[0].split: all weights are 0: nobody would be served anything",
                "policy.yaml:9:111: error[wrong_type] flags.b.rules[1].serve: this flag has variants: the name of one was expected here, and this is no text",
                "policy.yaml:9:116: error[required] flags.b.rules[2].serve: what the rule serves is required: `serve` or `split`",
                "policy.yaml:10:8: error[wrong_type] flags.c.default: a flag's value is true or false, a text, a finite number or an object (a mapping)",
                "policy.yaml:11:3: error[required] flags.d.default: what is served when no rule matches is required",
                "policy.yaml:12:30: error[required] flags.e.rules[0].split: a split names variants: give the flag `variants`",
                "policy.yaml:12:49: error[conflict] flags.e.rules[1]: a rule has either `serve` or `split`: remove one",
                "policy.yaml:13:17: error[out_of_range] flags.f.default: `9007199254740993` cannot be kept exactly as a number: put it in quotes",
            ],
        );
    }

    #[test]
    fn the_other_sections_are_checked_too() {
        let text = r#"guardrails: { g: { id: 'a b', version: '07' }, h: {} }
rollout: { stages: [1 house, 0%], bake: 25h, gates: { error_rate: 1pp } }
catalogue: { amazon.nova-lite-v1:0: { context: 0, input_price: -1, features: [tool] }, nobody.knows: { input_price: 1 } }
routes: { a: { tiers: [{ answer: "{{ metdata.x }}" }, { answer: "a\nb {{" }], sticky: metadata., on_broken_stream: part } }
"#;
        added(
            text,
            &[
                "policy.yaml:7:24: error[bad_guardrail] guardrails.g.id: `a b` is not a guardrail's id or ARN",
                "policy.yaml:7:40: error[bad_guardrail] guardrails.g.version: `07` is not a version: write a number in quotes, or `DRAFT`",
                "policy.yaml:7:48: error[required] guardrails.h.id: the guardrail's id or ARN, or one for each region under `regions`, is required",
                "policy.yaml:7:48: error[required] guardrails.h.version: a version number or `DRAFT` is required",
                "policy.yaml:8:1: warning[not_executed] rollout: the rollout: stored, and not executed by this version yet",
                "policy.yaml:8:21: error[bad_stage] rollout.stages[0]: `1 house` is not a stage: write `1 node`, `2 regions` or `10%`",
                "policy.yaml:8:30: error[bad_stage] rollout.stages[1]: `0%` is not a stage: write `1 node`, `2 regions` or `10%`",
                "policy.yaml:8:41: error[out_of_range] rollout.bake: a stage is watched for 0 to 24 hours",
                "policy.yaml:8:55: error[bad_gate] rollout.gates.error_rate: `1pp` is not a bound: write `+1pp` (percentage points) or `1.3x`",
                "policy.yaml:9:48: error[out_of_range] catalogue.amazon.nova-lite-v1:0.context: this must be 1 or more",
                "policy.yaml:9:64: error[out_of_range] catalogue.amazon.nova-lite-v1:0.input_price: a price is in US dollars per million tokens, 0 or more",
                "policy.yaml:9:79: error[unknown_feature] catalogue.amazon.nova-lite-v1:0.features[0]: no feature is called `tool`; there are adaptive_thinking, assistant_prefill, audio_in, computer_use, image_embed, native_structured_output, output_config, parallel_tools_config, pdf, prompt_cache, reasoning, response_schema, thinking_always_on, tool_choice, tools, video_in, vision; did you mean `tools`?",
                "policy.yaml:9:88: error[required] catalogue.nobody.knows: no price of this model is shipped: give both `input_price` and `output_price`",
                "policy.yaml:10:34: error[bad_template] routes.a.tiers[0].answer: this template is wrong: no variable is called `metdata`; there are metadata, route, caller, request_id; did you mean `metadata`?",
                "policy.yaml:10:65: error[bad_template] routes.a.tiers[1].answer: this template is wrong in its line 2: unexpected end of input, expected expression",
                "policy.yaml:10:87: error[bad_sticky] routes.a.sticky: `metadata.` is neither `caller` nor `metadata.KEY`",
                "policy.yaml:10:116: error[unknown_word] routes.a.on_broken_stream: `part` is not one of error, partial",
            ],
        );
        let models = GOOD.replace(
            "models:\n",
            "models:\n  a: { bedrock: 'x y', regions: [] }\n  b: { bedrock: 'arn:aws:bedrock:us-east-1:1:prompt/ABC', regions: [us-east-1] }\n  c: { bedrock: 'arn:aws:bedrock:us-east-1:1:inference-profile/us.amazon.nova-lite-v1:0', regions: [us-west-2, us-west-2, moon] }\n",
        );
        check(
            &models,
            &[
                "policy.yaml:3:17: error[bad_model_id] models.a.bedrock: `x y` is not a model id, profile id or ARN",
                "policy.yaml:3:24: error[required] models.a.regions: a list of at least one region is required",
                "policy.yaml:4:17: error[unsupported_model] models.b.bedrock: a prompt's ARN takes no limit of output tokens, which every request is sent with: name the model itself",
                "policy.yaml:5:101: error[arn_region] models.c.regions[0]: the ARN is of us-east-1, and cannot be called in us-west-2",
                "policy.yaml:5:112: error[duplicate] models.c.regions[1]: `us-west-2` stands twice: keep one",
                "policy.yaml:5:112: error[arn_region] models.c.regions[1]: the ARN is of us-east-1, and cannot be called in us-west-2",
                "policy.yaml:5:123: error[bad_region] models.c.regions[2]: `moon` is not a region",
            ],
        );
    }
}

#[test]
fn two_names_for_one_model_in_one_region_are_refused() {
    let models = "  nova: { bedrock: us.amazon.nova-lite-v1:0, regions: [us-west-2, us-east-1] }\ncallers:\n";
    check(
        &GOOD.replace("callers:\n", models),
        &[
            "policy.yaml:4:3: error[same_target] models.nova-lite: this is the same model in the same region (us-east-1) as `nova`: keep one of the two, and use its name",
        ],
    );
}

#[test]
fn a_condition_that_can_only_fail_is_refused_wherever_it_stands() {
    added(
        "routes: { a: { tiers: [sonnet], rules: [{ when: '1 / 0 == 1', tiers: [inherit] }] } }\nflags: { f: { default: 1, rules: [{ when: '9223372036854775807 + 1 > 0', serve: 2 }] } }\n",
        &[
            "policy.yaml:7:49: error[condition_constant] routes.a.rules[0].when: this can only fail, whatever the request is: division by zero (at character 1 of the condition)",
            "policy.yaml:8:43: error[condition_constant] flags.f.rules[0].when: this can only fail, whatever the request is: the result of `+` does not fit an int (at character 1 of the condition)",
        ],
    );
}

#[test]
fn a_thousand_mistakes_are_told_and_the_rest_counted() {
    let routes: String = (0..3000).map(|index| format!("  r{index}: {{ tiers: [nobody] }}\n")).collect();
    let violations = load(&[file(&format!("{GOOD}routes:\n{routes}"))]).unwrap_err();
    assert_eq!(violations.len(), 1001);
    assert!(violations.iter().all(|violation| violation.severity == Severity::Error));
    assert_eq!(violations[1000].message, "2000 more errors are not shown: repair the ones above first");
}
