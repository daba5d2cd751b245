use super::*;
use crate::fixture::{Asking, asking, build};

const OFF: VariantIndex = VariantIndex(0);
const ON: VariantIndex = VariantIndex(1);

fn rule(when: &str, percent: Option<f64>, serve: Serve) -> Rule {
    let scope = crate::condition::Scope::without_flags();
    let when = (!when.is_empty()).then(|| Condition::parse(when, &scope).expect("a condition"));
    Rule { when, share: percent.map(|percent| Share::from_percent(percent).expect("a share")), serve }
}

fn flag(rules: Vec<Rule>, disabled: bool) -> Flag {
    let variants = vec![
        ("off".into(), Value::String("old".into())),
        ("on".into(), Value::String("new".into())),
        ("third".into(), Value::String("newest".into())),
    ];
    Flag::new("prompt".into(), Type::String, variants, OFF, rules, disabled)
}

fn check(rules: Vec<Rule>, asking: &Asking, expected: (&str, Reason, Option<u16>)) {
    let snapshot = build().model("m", &["r"]).route("chat", "m").caller("acme", &["chat"]).done();
    let flag = flag(rules, false);
    let evaluation = flag.evaluate(&asking.facts(&snapshot), &snapshot);
    assert_eq!((evaluation.variant, evaluation.reason, evaluation.rule), expected);
    assert_eq!(evaluation.error.is_some(), evaluation.reason == Reason::Error);
}

#[test]
fn the_first_rule_that_matches_decides_and_says_why() {
    let all = || Serve::Variant(ON);
    let by_caller = || rule("caller.name == 'acme'", None, all());
    let acme = asking("chat").by("acme").with("session", "s-1");
    let other = asking("chat").with("session", "s-1");
    check(vec![], &acme, ("off", Reason::Static, None));
    check(vec![by_caller()], &acme, ("on", Reason::TargetingMatch, Some(0)));
    check(vec![by_caller()], &other, ("off", Reason::Default, None));
    check(
        vec![by_caller(), rule("", None, Serve::Variant(VariantIndex(2)))],
        &other,
        ("third", Reason::TargetingMatch, Some(1)),
    );
    check(vec![rule("", Some(100.0), all())], &other, ("on", Reason::Split, Some(0)));
    check(vec![rule("", Some(0.0), all())], &other, ("off", Reason::Default, None));
    check(vec![rule("caller.name == 'acme'", Some(100.0), all())], &acme, ("on", Reason::Split, Some(0)));
    check(vec![rule("caller.name == 'acme'", Some(100.0), all())], &other, ("off", Reason::Default, None));
    let split = Serve::Split(vec![(OFF, 0), (VariantIndex(2), 5)]);
    check(vec![rule("", None, split)], &other, ("third", Reason::Split, Some(0)));
    // A condition that ends in an error does not match.
    check(vec![rule("metadata.tier != 'x'", None, all())], &other, ("off", Reason::Default, None));
}

#[test]
fn without_a_targeting_key_shares_and_splits_are_passed_over() {
    let keyless = asking("chat");
    let share = || rule("", Some(100.0), Serve::Variant(ON));
    let split = || rule("", None, Serve::Split(vec![(ON, 1)]));
    check(vec![share()], &keyless, ("off", Reason::Error, None));
    check(vec![split()], &keyless, ("off", Reason::Error, None));
    check(vec![share()], &keyless.clone().with("session", ""), ("off", Reason::Error, None));
    // A later rule that needs no key matches as ever, and nothing was wrong.
    check(vec![share(), rule("", None, Serve::Variant(ON))], &keyless, ("on", Reason::TargetingMatch, Some(1)));
    // A rule that is not for this request asks for no key.
    check(
        vec![rule("caller.name == 'acme'", Some(100.0), Serve::Variant(ON))],
        &keyless,
        ("off", Reason::Default, None),
    );
    // `targeting_key` goes before `session`.
    let both = keyless.with("session", "s-1").with("targeting_key", "user-1");
    let expected = Bucket::of(Salt::Flag("prompt"), "user-1").number();
    let just_in = f64::from(expected + 1) / 1000.0;
    check(vec![rule("", Some(just_in), Serve::Variant(ON))], &both, ("on", Reason::Split, Some(0)));
    let just_out = f64::from(expected) / 1000.0;
    check(vec![rule("", Some(just_out), Serve::Variant(ON))], &both, ("off", Reason::Default, None));
}

#[test]
fn a_disabled_flag_gives_its_default_whatever_the_rules_say() {
    let snapshot = build().done();
    let flag = flag(vec![rule("", None, Serve::Variant(ON))], true);
    let asking = asking("chat");
    let evaluation = flag.evaluate(&asking.facts(&snapshot), &snapshot);
    assert_eq!((evaluation.variant, evaluation.reason, evaluation.error), ("off", Reason::Disabled, None));
}

#[test]
fn a_flag_is_found_by_name_and_type() {
    let snapshot = build().flag("beta", &["caller.name == 'all'"]).done();
    let asking = asking("chat");
    let facts = asking.facts(&snapshot);
    let evaluation = snapshot.evaluate_flag("beta", Type::Bool, &facts).expect("a boolean flag");
    assert_eq!((evaluation.variant, evaluation.value), ("true", &Value::Bool(true)));
    assert_eq!(snapshot.evaluate_flag("beta", Type::String, &facts), Err(ErrorCode::TypeMismatch));
    assert_eq!(snapshot.evaluate_flag("alpha", Type::Bool, &facts), Err(ErrorCode::FlagNotFound));
}

#[test]
fn growing_a_percentage_keeps_whom_it_had_and_converges_to_it() {
    let snapshot = build().done();
    let mut before = 0;
    let mut had = [false; 10_000];
    for percent in [0.0, 0.5, 1.0, 10.0, 50.0, 99.9, 100.0] {
        let flag = flag(vec![rule("", Some(percent), Serve::Variant(ON))], false);
        let mut count = 0;
        for (number, had) in had.iter_mut().enumerate() {
            let asking = asking("chat").with("session", &format!("session-{number}"));
            let has = flag.evaluate(&asking.facts(&snapshot), &snapshot).variant == "on";
            assert!(has || !*had, "session-{number} had it and has lost it at {percent} %");
            *had = has;
            count += u32::from(has);
        }
        assert!(count >= before);
        before = count;
        // Four standard deviations of a binomial of 10 000.
        let share = percent / 100.0;
        let off = (f64::from(count) - 10_000.0 * share).abs();
        assert!(off <= 4.0 * (10_000.0 * share * (1.0 - share)).sqrt(), "{count} of 10000 at {percent} %");
    }
}
