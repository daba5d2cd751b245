use proptest::prelude::*;
use switchtower_policy::items::delta;
use switchtower_proto::sync::v1::{ItemKey, KeyRecord, KeysDelta};

use super::*;

const EPOCH: &str = "e1";

fn item(name: &str, body: u8) -> Item {
    Item { kind: "route".to_owned(), name: name.to_owned(), body: vec![body].into() }
}

fn content(text: &str) -> Vec<Item> {
    text.bytes().map(|byte| item(&char::from(byte).to_ascii_lowercase().to_string(), byte)).collect()
}

fn served(assignment: u64, text: &str) -> Served {
    let items = content(text);
    Served { epoch: EPOCH.to_owned(), assignment, revision: assignment, digest: digest(&items), items: items.into() }
}

fn state(served: Option<Served>) -> State {
    State { environment: "test".to_owned(), served, keys: Keys::default(), quarantined: vec![digest(&content("q"))] }
}

fn from(base: &str, to: &str) -> ContentDelta {
    let (base, to) = (content(base), content(to));
    let (put, removed) = delta(&base, &to);
    let base_digest = if base.is_empty() { Vec::new() } else { digest(&base).to_vec() };
    let removed = removed.into_iter().map(|(kind, name)| ItemKey { kind, name }).collect();
    ContentDelta { base_digest, put, removed }
}

fn update(number: u64, text: &str, content: Option<ContentDelta>) -> UpdateBody {
    let assignment = Assignment {
        epoch: EPOCH.to_owned(),
        environment: "test".to_owned(),
        number,
        revision: number,
        content_digest: digest(&self::content(text)).to_vec(),
    };
    UpdateBody { assignment: Some(assignment), content, keys: None, traceparent: String::new() }
}

/// `held`: the assignment and content that serve.
#[track_caller]
fn check(held: Option<(u64, &str)>, body: &UpdateBody, expected: &str) {
    let state = state(held.map(|(number, text)| served(number, text)));
    let told = match state.judge(body, EPOCH).policy {
        Decision::Take(served) => {
            assert_eq!(digest(&served.items), served.digest);
            let text = served.items.iter().map(|item| char::from(item.body[0])).collect::<String>();
            format!("take {} {text}", served.assignment)
        }
        Decision::AlreadyHeld => "held".to_owned(),
        Decision::Refuse(refusal) => {
            let again = if refusal.transient { "again" } else { "never" };
            format!("{again}: {}: {}", refusal.violations[0].code, refusal.violations[0].message)
        }
    };
    assert!(told.starts_with(expected), "{told} is not {expected}");
}

#[test]
fn an_update_is_taken_when_its_numbers_and_digests_agree() {
    check(None, &update(1, "ab", Some(from("", "ab"))), "take 1 ab");
    check(Some((1, "ab")), &update(2, "Abc", Some(from("ab", "Abc"))), "take 2 Abc");
    check(Some((1, "ab")), &update(2, "c", Some(from("", "c"))), "take 2 c");
    // A newer assignment of the same content.
    check(Some((1, "ab")), &update(2, "ab", None), "take 2 ab");
    // Again, and from before.
    check(Some((2, "ab")), &update(2, "ab", None), "held");
    check(Some((2, "ab")), &update(2, "ab", Some(from("", "ab"))), "held");
    check(Some((3, "ab")), &update(2, "c", Some(from("", "c"))), "again: damaged: assignment 2 is older");
    check(Some((3, "ab")), &update(3, "c", Some(from("", "c"))), "again: damaged: assignment 3 serves");
}

#[test]
fn what_does_not_fit_is_asked_for_again_and_what_never_will_is_not() {
    check(Some((1, "a")), &update(2, "bc", Some(from("b", "bc"))), "again: damaged: it begins at");
    check(Some((1, "a")), &update(2, "b", None), "again: damaged: it brings no content");
    check(Some((1, "ab")), &update(2, "b", Some(from("ab", "a"))), "again: damaged: the content is not");
    let mut doubled = update(2, "a", Some(from("", "a")));
    doubled.content.as_mut().unwrap().put.push(item("a", b'a'));
    check(None, &doubled, "again: damaged: its changes do not fit");
    check(None, &update(1, "q", Some(from("", "q"))), "never: quarantined");
    let changed = |change: &dyn Fn(&mut Assignment)| {
        let mut body = update(1, "a", Some(from("", "a")));
        change(body.assignment.as_mut().unwrap());
        body
    };
    check(None, &changed(&|assignment| assignment.environment = "prod".to_owned()), "never: damaged: it is for");
    check(None, &changed(&|assignment| assignment.epoch = "e0".to_owned()), "again: damaged: it is of another epoch");
    check(None, &changed(&|assignment| assignment.number = 0), "again: damaged: assignments");
    check(None, &changed(&|assignment| assignment.content_digest.truncate(31)), "again: damaged: the content digest");
    check(None, &UpdateBody::default(), "again: damaged: it assigns nothing");
}

#[test]
fn another_epoch_is_accepted_whatever_its_numbers() {
    let state = state(Some(served(9, "ab")));
    let mut body = update(1, "ab", None);
    body.assignment.as_mut().unwrap().epoch = "e2".to_owned();
    let Decision::Take(taken) = state.judge(&body, "e2").policy else { panic!("it was not taken") };
    assert_eq!((taken.epoch.as_str(), taken.assignment, taken.digest), ("e2", 1, state.served.unwrap().digest));
}

#[test]
fn keys_hold_whatever_becomes_of_the_policy_beside_them() {
    let with_keys = |mut body: UpdateBody, from_version: u64| {
        let put = vec![KeyRecord { id: "K".to_owned(), ..KeyRecord::default() }];
        body.keys = Some(KeysDelta { from_version, to_version: 5, put });
        state(Some(served(3, "ab"))).judge(&body, EPOCH)
    };
    let quarantined = with_keys(update(4, "q", Some(from("", "q"))), 0);
    assert!(matches!(quarantined.policy, Decision::Refuse(_)) && quarantined.keys.unwrap().version == 5);
    let alone = with_keys(update(3, "ab", None), 0);
    assert!(alone.policy == Decision::AlreadyHeld && alone.keys.is_some());
    // What begins after what is held is not half taken.
    let gap = with_keys(update(4, "c", Some(from("", "c"))), 4);
    assert!(matches!(gap.policy, Decision::Refuse(Refusal { transient: true, .. })) && gap.keys.is_none());
}

#[test]
fn the_keys_of_another_store_end_with_the_first_update_of_this_one() {
    let record = |id: &str, revoked_at| KeyRecord { id: id.to_owned(), revoked_at, ..KeyRecord::default() };
    let check = |held_epoch: &str, body: UpdateBody, expected: Option<&[&str]>| {
        let revoked = Some(prost_types::Timestamp::default());
        let mut state = state(Some(served(3, "ab")));
        state.keys = Keys::kept(held_epoch.to_owned(), 9, vec![record("a", None), record("b", revoked)]);
        let keys = state.judge(&body, EPOCH).keys;
        let told = keys.as_ref().map(|keys| {
            assert_eq!((keys.epoch.as_str(), keys.version), (EPOCH, 0));
            keys.records().map(|record| record.id.as_str()).collect::<Vec<_>>()
        });
        assert_eq!(told.as_deref(), expected);
    };
    let none = KeysDelta { from_version: 0, to_version: 0, put: Vec::new() };
    check("e0", UpdateBody { keys: Some(none), ..update(4, "ab", None) }, Some(&["b"]));
    check("e0", update(4, "ab", None), Some(&["b"]));
    check("e0", update(3, "ab", None), Some(&["b"]));
    check("e0", update(4, "q", Some(from("", "q"))), None);
    check(EPOCH, update(4, "ab", None), None);
}

/// A step of what the control plane did before: assignment, content, which keys are revoked.
#[derive(Clone, Debug)]
struct Step {
    epoch: usize,
    number: u64,
    text: String,
    keys: u64,
    revoked: Vec<bool>,
}

/// The history of a store that was restored once: numbers begin again, and revocations are lost.
fn history(contents: &[String], restored_at: usize) -> Vec<Step> {
    let mut steps = Vec::new();
    let (mut number, mut keys, mut revoked) = (0, 0, vec![false; 4]);
    for (index, text) in contents.iter().enumerate() {
        if index == restored_at {
            (number, keys, revoked) = (0, 0, vec![false; 4]);
        }
        (number, keys) = (number + 1, keys + 1);
        if index % 2 == 1 {
            revoked[index % 4] = true;
        }
        let epoch = usize::from(index >= restored_at);
        steps.push(Step { epoch, number, text: text.clone(), keys, revoked: revoked.clone() });
    }
    steps
}

/// The update to a step for a node that is thought to hold another, or nothing.
fn update_to(steps: &[Step], to: usize, thought: Option<usize>) -> UpdateBody {
    let step = &steps[to];
    let base = thought.map_or("", |held| steps[held].text.as_str());
    let same_epoch = thought.is_some_and(|held| steps[held].epoch == step.epoch && held <= to);
    let mut body = update(step.number, &step.text, Some(from(base, &step.text)));
    body.assignment.as_mut().unwrap().epoch = format!("e{}", step.epoch);
    let put = step.revoked.iter().enumerate().map(|(id, revoked)| KeyRecord {
        id: id.to_string(),
        revoked_at: revoked.then(prost_types::Timestamp::default),
        ..KeyRecord::default()
    });
    let from_version = if same_epoch { thought.map_or(0, |held| steps[held].keys) } else { 0 };
    body.keys = Some(KeysDelta { from_version, to_version: step.keys, put: put.collect() });
    body
}

fn revoked(keys: &Keys) -> Vec<String> {
    keys.records().filter(|record| record.revoked_at.is_some()).map(|record| record.id.clone()).collect()
}

/// What is done to an update on its way.
fn damaged(body: &UpdateBody, how: u8) -> UpdateBody {
    let mut body = body.clone();
    let content = body.content.get_or_insert_default();
    match how {
        0 => drop(content.put.pop()),
        1 => content.put.push(item("z", b'z')),
        2 => drop(content.removed.pop()),
        3 => content.base_digest = vec![0; 32],
        4 => body.content = None,
        5 => body.assignment.get_or_insert_default().content_digest.reverse(),
        6 => body.assignment.get_or_insert_default().number += 1,
        _ => body.assignment.get_or_insert_default().revision += 1,
    }
    body
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    /// Updates come doubled, in any order, from the past, made for another base, of an epoch that is over, and damaged.
    #[test]
    fn no_stream_of_updates_makes_a_mix_goes_back_or_revives_a_key(
        contents in prop::collection::vec("[aA]?[bB]?[cC]?", 2..8),
        restored_at in 0usize..8,
        moves in prop::collection::vec((0usize..8, prop::option::of(0usize..8), any::<bool>(), prop::option::of(0u8..8)), 0..40),
    ) {
        let steps = history(&contents, restored_at);
        let known: Vec<Digest> = steps.iter().map(|step| digest(&content(&step.text))).collect();
        let mut state = state(None);
        state.quarantined.clear();
        let mut epoch = 0;
        for (to, thought, over, damage) in moves {
            let (to, thought) = (to % steps.len(), thought.map(|held| held % steps.len()));
            // The stream is of the epoch that the store is in now, and that does not go back.
            epoch = epoch.max(if over { 0 } else { steps[to].epoch });
            let mut body = update_to(&steps, to, thought);
            if let Some(how) = damage {
                body = damaged(&body, how);
            }
            let before = state.clone();
            let judged = state.judge(&body, &format!("e{epoch}"));
            if let Some(keys) = judged.keys {
                prop_assert!(keys.epoch != before.keys.epoch || keys.version > before.keys.version);
                state.keys = keys;
            }
            if let Decision::Take(served) = judged.policy {
                prop_assert_eq!(&served.epoch, &format!("e{epoch}"));
                state.served = Some(served);
            }
            for id in revoked(&before.keys) {
                prop_assert!(revoked(&state.keys).contains(&id), "key {id} was revived");
            }
            if let Some(served) = &state.served {
                prop_assert_eq!(digest(&served.items), served.digest);
                prop_assert!(known.contains(&served.digest), "a content that nobody made");
            }
            if let (Some(was), Some(is)) = (&before.served, &state.served) {
                prop_assert!(is.epoch > was.epoch || is.assignment >= was.assignment, "it went back");
            }
        }
        // What a store says that starts over, because nothing of the above is to be relied on. Damage may have raised the
        // number of the last assignment by one, and a store's numbers only ascend.
        let last = steps.len() - 1;
        let mut body = update_to(&steps, last, None);
        let assignment = body.assignment.as_mut().unwrap();
        assignment.number += 2;
        assignment.revision = assignment.number;
        let epoch = assignment.epoch.clone();
        body.keys.as_mut().unwrap().to_version += 1;
        let judged = state.judge(&body, &epoch);
        prop_assert_eq!(judged.keys.map(|keys| keys.version), Some(steps[last].keys + 1));
        match judged.policy {
            Decision::Take(served) => prop_assert_eq!(&*served.items, &content(&steps[last].text)[..]),
            other => prop_assert!(false, "{other:?}"),
        }
    }
}
