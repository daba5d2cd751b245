//! What holds of every plan and every walk, on random snapshots and requests.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::{
    explain::explain,
    fixture::{Asking, asking, build},
};

const MODELS: [&str; 5] = ["a", "b", "c", "d", "e"];
const REGIONS: [&str; 4] = ["us-east-1", "us-west-2", "eu-west-1", "ap-south-1"];

/// A tier in the builder's words.
fn tier() -> impl Strategy<Value = String> {
    let models = prop::collection::btree_map(0..MODELS.len(), 0_u32..4, 1..4).prop_map(|mut weights| {
        if weights.values().all(|weight| *weight == 0) {
            weights.values_mut().for_each(|weight| *weight = 1);
        }
        weights.into_iter().map(|(model, weight)| format!("{}:{weight} ", MODELS[model])).collect::<String>()
    });
    prop_oneof![
        4 => models,
        1 => prop_oneof![Just("*"), Just("*metadata.tier == 'free'")].prop_map(str::to_owned),
    ]
}

fn tiers() -> impl Strategy<Value = String> {
    prop::collection::vec(tier(), 1..5).prop_map(|tiers| tiers.join("|"))
}

fn snapshots() -> impl Strategy<Value = Snapshot> {
    let regions = prop::sample::subsequence(REGIONS.to_vec(), 1..=REGIONS.len()).prop_shuffle();
    (prop::collection::vec(regions, MODELS.len()), tiers(), tiers(), 0..3_u8).prop_map(
        |(regions, own, ruled, sticky)| {
            let mut builder = build();
            for (model, regions) in MODELS.iter().zip(&regions) {
                builder = builder.model(model, regions);
            }
            let sticky = match sticky {
                0 => Sticky::TargetingKey,
                1 => Sticky::Metadata("user".into()),
                _ => Sticky::Caller,
            };
            builder.flag("half", &["@ 50"]).route("r", &own).rule("flag('half')", &ruled).sticky(sticky).done()
        },
    )
}

fn requests() -> impl Strategy<Value = Asking> {
    let maybe = |key: &'static str, value: &'static str| prop::option::of((Just(key), value));
    let metadata = (maybe("session", "[a-z]{0,3}"), maybe("user", "[a-z]{0,3}"), prop::option::of(Just("free")));
    (metadata, prop::sample::select(vec!["", "us-east-1", "eu-west-1", "elsewhere"]), "[0-9]{0,3}").prop_map(
        |((session, user, tier), region, id)| {
            let mut asking = asking("r").from(region).id(&id);
            for (key, value) in session.into_iter().chain(user) {
                asking = asking.with(key, &value);
            }
            match tier {
                Some(tier) => asking.with("tier", tier),
                None => asking,
            }
        },
    )
}

fn unavailable() -> impl Strategy<Value = Vec<u32>> {
    prop::collection::vec(0..20_u32, 0..15)
}

fn planned(snapshot: &Snapshot, asking: &Asking, unavailable: &[u32], seed: u64) -> (Plan, Resolved) {
    let health = HealthView::without(unavailable.iter().copied().map(TargetIndex));
    let facts = asking.facts(snapshot);
    let resolved = snapshot.resolve(&facts).expect("the route exists");
    (snapshot.plan(resolved, &facts, &health, seed), resolved)
}

fn target(step: &Step) -> Option<TargetIndex> {
    match step.kind {
        StepKind::Target(target) => Some(target),
        StepKind::Answer(_) => None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_plan_has_every_available_target_of_its_tiers_once_in_the_order_of_tiers(
        snapshot in snapshots(), asking in requests(), unavailable in unavailable(), seed: u64
    ) {
        let (plan, resolved) = planned(&snapshot, &asking, &unavailable, seed);
        prop_assert!(plan.steps.is_sorted_by_key(|step| step.tier));
        let targets: Vec<_> = plan.steps.iter().filter_map(target).collect();
        let once: BTreeSet<_> = targets.iter().copied().collect();
        prop_assert_eq!(once.len(), targets.len(), "a target comes twice");
        let expected: BTreeSet<_> = snapshot
            .tiers(resolved)
            .iter()
            .flat_map(|tier| match tier {
                Tier::Models(weights) => weights.clone(),
                Tier::Answer { .. } => Vec::new(),
            })
            .flat_map(|(model, _)| snapshot.model(model).targets.clone())
            .filter(|target| !unavailable.contains(&target.0))
            .collect();
        prop_assert_eq!(once, expected);
    }

    #[test]
    fn a_model_is_followed_by_its_other_regions_and_a_weightless_one_by_nobody_with_a_weight(
        snapshot in snapshots(), asking in requests(), unavailable in unavailable(), seed: u64
    ) {
        let (plan, resolved) = planned(&snapshot, &asking, &unavailable, seed);
        let region = &*asking.region;
        let mut done: Vec<(u16, ModelIndex)> = Vec::new();
        for step in &plan.steps {
            let Some(target) = target(step).map(|target| snapshot.target(target)) else { continue };
            if done.last() != Some(&(step.tier, target.model)) {
                prop_assert!(!done.iter().any(|(_, model)| *model == target.model), "a model is interrupted");
                done.push((step.tier, target.model));
            } else {
                prop_assert!(*target.region != *region, "the node's own region is not first");
            }
            let Tier::Models(weights) = &snapshot.tiers(resolved)[usize::from(step.tier)] else { panic!() };
            let weight = |model| weights.iter().find(|(other, _)| *other == model).expect("of the tier").1;
            let of_tier: Vec<_> = done.iter().filter(|(tier, _)| *tier == step.tier).collect();
            // After the first, which the split picked, weights fall.
            prop_assert!(of_tier.iter().skip(1).is_sorted_by_key(|(_, model)| std::cmp::Reverse(weight(*model))));
            if weight(target.model) == 0 {
                let available =
                    |model| snapshot.model(model).targets.iter().any(|target| !unavailable.contains(&target.0));
                for (other, weight) in weights {
                    let before = done.iter().any(|(_, model)| model == other);
                    prop_assert!(*weight == 0 || before || !available(*other), "a weightless model came first");
                }
            }
        }
    }

    #[test]
    fn the_same_request_has_the_same_plan_and_chance_has_no_part_in_one_that_has_an_id(
        snapshot in snapshots(), asking in requests(), unavailable in unavailable(), seeds: (u64, u64)
    ) {
        let plan = |seed| planned(&snapshot, &asking, &unavailable, seed).0;
        prop_assert_eq!(plan(seeds.0), plan(seeds.0));
        if !asking.request_id.is_empty() {
            prop_assert_eq!(plan(seeds.0), plan(seeds.1));
        }
    }

    #[test]
    fn an_explanation_tells_the_plan_that_a_node_makes(
        snapshot in snapshots(), asking in requests(), unavailable in unavailable(), seed: u64
    ) {
        let (plan, resolved) = planned(&snapshot, &asking, &unavailable, seed);
        let health = HealthView::without(unavailable.iter().copied().map(TargetIndex));
        let explanation = explain(&snapshot, &asking.facts(&snapshot), &health, seed);
        let decision = explanation.decision.expect("the route exists");
        prop_assert_eq!(&decision.plan, &plan);
        prop_assert_eq!(decision.rule.is_some(), resolved.rule.is_some());
        prop_assert_eq!(decision.tiers.len(), snapshot.tiers(resolved).len());
        // What is told step by step is the plan too.
        let mut told = vec![None; plan.steps.len()];
        for tier in &decision.tiers {
            match tier {
                crate::explain::Tier::Models { targets, .. } => {
                    for target in targets {
                        match target.step {
                            Some(step) => told[step - 1] = Some(target.target.clone()),
                            None => {
                                let is_it = |index: &u32| {
                                    snapshot.targets().get(*index as usize).is_some_and(|it| *it.id == target.target)
                                };
                                prop_assert!(unavailable.iter().any(is_it));
                            }
                        }
                    }
                }
                crate::explain::Tier::Answer { step, .. } => {
                    if let Some(step) = step {
                        told[step - 1] = Some("answer".to_owned());
                    }
                }
            }
        }
        let expected: Vec<_> = plan
            .steps
            .iter()
            .map(|step| Some(target(step).map_or("answer".to_owned(), |target| snapshot.target(target).id.to_string())))
            .collect();
        prop_assert_eq!(told, expected);
    }

    #[test]
    fn a_walk_pays_for_three_at_most_never_goes_back_and_leaves_the_last_to_the_next_tier(
        snapshot in snapshots(), asking in requests(), unavailable in unavailable(),
        script in prop::collection::vec((any::<bool>(), any::<bool>(), any::<u32>()), 40)
    ) {
        let plan = planned(&snapshot, &asking, &unavailable, 0).0;
        let mut walk = Walk::new();
        let mut walked: Vec<Step> = Vec::new();
        // (tier, step's place in `walked`) of every attempt that was paid for.
        let mut paid: Vec<u16> = Vec::new();
        for (is_sent, is_repeated, mask) in script {
            // About three targets of four may be tried.
            let may_be_tried = |target: TargetIndex| (mask | mask >> 7) & (1 << (target.0 % 32)) != 0;
            let Some(step) = walk.next_where(&plan, may_be_tried) else { break };
            let Some(target) = target(&step) else { walked.push(step); continue };
            prop_assert!(may_be_tried(target));
            prop_assert!(paid.len() < 3, "a fourth attempt may be paid for");
            if let [.., last] = paid[..] && paid.len() == 2 && last == step.tier {
                let place = plan.steps.iter().position(|other| *other == step).expect("of the plan");
                let later = plan.steps[place + 1..].iter().take_while(|step| super::properties::target(step).is_some());
                let waits = later.filter_map(|later| (later.tier > step.tier).then_some(super::properties::target(later)?));
                prop_assert!(!waits.into_iter().any(may_be_tried), "the next tier's attempt was taken");
            }
            walked.push(step);
            let mut attempts = 1;
            let mut unsent = 0;
            let mut attempt = |walk: &mut Walk, is_sent: bool| {
                if is_sent {
                    walk.paid();
                    paid.push(step.tier);
                } else {
                    unsent += 1;
                    walk.unsent();
                    if unsent > 1 {
                        paid.push(step.tier);
                    }
                }
                walk.attempts_paid()
            };
            attempt(&mut walk, is_sent);
            if is_repeated && let Some(again) = walk.again(&plan) {
                prop_assert_eq!(again, step);
                attempts += 1;
                attempt(&mut walk, !is_sent);
                prop_assert_eq!(walk.again(&plan), None);
            }
            prop_assert!(attempts <= 2);
            prop_assert!(paid.len() <= 3);
            prop_assert_eq!(usize::from(walk.attempts_paid()), paid.len());
        }
        // Always forwards: what was walked is a part of the plan, in its order, so no target comes twice.
        let mut rest = plan.steps.iter();
        prop_assert!(walked.iter().all(|step| rest.any(|other| other == step)));
    }
}
