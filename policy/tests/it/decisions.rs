//! From YAML to decisions, through the public doors alone: what a node and the CLI's `explain` do.

use switchtower_policy::{
    Facts, File, RequestFacts, Snapshot,
    explain::explain,
    flag::{ErrorCode, Reason, Type, Value},
    load,
    plan::{HealthView, StepKind, Walk},
};

const POLICY: &str = r#"
environment: test
models:
  sonnet:    { bedrock: us.anthropic.claude-sonnet-4-5-20250929-v1:0, regions: [us-east-1, us-west-2] }
  nova-lite: { bedrock: us.amazon.nova-lite-v1:0, regions: [us-east-1, us-west-2] }
callers:
  acme-web: { tenant: acme, routes: [support-chat] }
  other:    { routes: ["*"] }
routes:
  support-chat:
    aliases: [anthropic.claude-3-5-sonnet-20240620-v1:0]
    tiers:
      - split: { sonnet: 100, nova-lite: 0 }
      - nova-lite
      - answer: "We are very busy."
    rules:
      - when: 'metadata.tier == "gold" && flag("gold-on-nova")'
        tiers: [nova-lite, inherit]
    sticky: metadata.session
  internal:
    tiers: [nova-lite]
flags:
  gold-on-nova:
    default: false
    rules:
      - { when: 'caller.tenant == "acme"', serve: true }
      - { percent: 100, serve: true }
  prompt:
    variants: { short: "Be brief.", long: "Explain." }
    default: long
    rules:
      - { percent: 50, split: { short: 1, long: 0 } }
"#;

fn snapshot() -> Snapshot {
    let file = File { name: "test.yaml".to_owned(), bytes: POLICY.as_bytes().to_vec() };
    load(&[file]).expect("the policy compiles").snapshot
}

fn metadata(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn facts<'a>(snapshot: &'a Snapshot, caller: &str, asked: &'a str, metadata: &'a [(String, String)]) -> Facts<'a> {
    Facts {
        caller: snapshot.caller(caller).expect("a caller"),
        asked,
        metadata,
        region: "us-west-2",
        request_id: "0123456789abcdef0123456789abcdef",
        request: RequestFacts::default(),
    }
}

/// The plan in words, after checking that its explanation is about the same plan.
fn plan(caller: &str, asked: &str, pairs: &[(&str, &str)]) -> Vec<String> {
    let snapshot = snapshot();
    let metadata = metadata(pairs);
    let facts = facts(&snapshot, caller, asked, &metadata);
    let health = HealthView::default();
    let resolved = snapshot.resolve(&facts).expect("the route is open");
    let plan = snapshot.plan(resolved, &facts, &health, 0);
    let decision = explain(&snapshot, &facts, &health, 0).decision.expect("the route is open");
    assert_eq!(decision.plan, plan);
    let word = |kind| match kind {
        StepKind::Target(target) => {
            let target = snapshot.target(target);
            format!("{}@{}", snapshot.model(target.model).name, target.region)
        }
        StepKind::Answer(_) => "answer".to_owned(),
    };
    plan.steps.iter().map(|step| word(step.kind)).collect()
}

#[test]
fn a_request_gets_the_plan_that_the_policy_says() {
    let own = ["sonnet@us-west-2", "sonnet@us-east-1", "nova-lite@us-west-2", "nova-lite@us-east-1", "answer"];
    let gold = ["nova-lite@us-west-2", "nova-lite@us-east-1", "sonnet@us-west-2", "sonnet@us-east-1", "answer"];
    assert_eq!(plan("acme-web", "support-chat", &[]), own);
    assert_eq!(plan("acme-web", "anthropic.claude-3-5-sonnet-20240620-v1:0", &[("tier", "gold")]), gold);
    // By the percentage, which needs a key.
    assert_eq!(plan("other", "support-chat", &[("tier", "gold"), ("session", "s-1")]), gold);
    assert_eq!(plan("other", "support-chat", &[("tier", "gold")]), own);
}

#[test]
fn a_route_that_is_not_open_is_unknown() {
    let snapshot = snapshot();
    assert!(snapshot.resolve(&facts(&snapshot, "other", "internal", &[])).is_ok());
    let refused = snapshot.resolve(&facts(&snapshot, "acme-web", "internal", &[])).expect_err("it is not open");
    assert_eq!(refused.nearest, Vec::<String>::new());
    let refused = snapshot.resolve(&facts(&snapshot, "acme-web", "suport-chat", &[])).expect_err("unknown");
    assert_eq!(refused.nearest, ["support-chat"]);
}

#[test]
fn a_flag_gives_a_variant_with_the_reason() {
    let snapshot = snapshot();
    let none = metadata(&[]);
    let keyless = facts(&snapshot, "other", "support-chat", &none);
    let evaluation = snapshot.evaluate_flag("prompt", Type::String, &keyless).expect("a flag of text");
    assert_eq!((evaluation.variant, evaluation.reason), ("long", Reason::Error));
    assert_eq!(evaluation.error, Some(ErrorCode::TargetingKeyMissing));
    let mut short = 0;
    for number in 0..1000 {
        let metadata = metadata(&[("session", &format!("s-{number}"))]);
        let facts = facts(&snapshot, "other", "support-chat", &metadata);
        let evaluation = snapshot.evaluate_flag("prompt", Type::String, &facts).expect("a flag of text");
        match evaluation.reason {
            Reason::Split => assert_eq!(evaluation.value, &Value::String("Be brief.".into())),
            reason => assert_eq!((evaluation.variant, reason), ("long", Reason::Default)),
        }
        short += u32::from(evaluation.variant == "short");
    }
    // Four standard deviations of a binomial.
    assert!((436..=564).contains(&short), "{short} of 1000");
    assert_eq!(snapshot.evaluate_flag("prompt", Type::Bool, &keyless), Err(ErrorCode::TypeMismatch));
}

#[test]
fn a_walk_along_it_ends_with_the_answer() {
    let snapshot = snapshot();
    let facts = facts(&snapshot, "acme-web", "support-chat", &[]);
    let resolved = snapshot.resolve(&facts).expect("the route is open");
    let plan = snapshot.plan(resolved, &facts, &HealthView::default(), 0);
    let mut walk = Walk::new();
    let mut paid = 0;
    let last = loop {
        match walk.next(&plan).expect("an answer ends it").kind {
            StepKind::Target(_) => {
                walk.paid();
                paid += 1;
            }
            StepKind::Answer(answer) => break snapshot.answer(answer, "support-chat", &facts),
        }
    };
    assert_eq!((paid, last.as_str()), (3, "We are very busy."));
}

#[test]
fn a_guardrail_has_the_id_of_the_region_it_is_called_in() {
    let check = |guardrail: &str, region: &str, id: &str, version: &str| {
        let guarded = format!("{POLICY}guardrails:\n  g: {guardrail}\nrequirements: {{ guardrail: g }}\n");
        let file = File { name: "test.yaml".to_owned(), bytes: guarded.into_bytes() };
        let snapshot = load(&[file]).expect("the policy compiles").snapshot;
        let guardrail = snapshot.route_named("internal").unwrap().guardrail.as_ref().unwrap();
        let regional = guardrail.in_region(region);
        assert_eq!((regional.id, regional.version), (id, version), "{region}");
        assert_eq!((regional.trace, regional.stream_mode), ("enabled", "async"));
    };
    let settings = "trace: enabled, stream_mode: async";
    let each = format!(
        "{{ regions: {{ us-east-1: {{ id: gr-e, version: '1' }}, us-west-2: {{ id: gr-w, version: '2' }} }}, {settings} }}"
    );
    check(&each, "us-east-1", "gr-e", "1");
    check(&each, "us-west-2", "gr-w", "2");
    let one = format!("{{ id: gr-1, version: '7', {settings} }}");
    check(&one, "us-east-1", "gr-1", "7");
    check(&one, "us-west-2", "gr-1", "7");
}
