use proptest::prelude::*;

use super::*;

fn holding(assignment: u64, content: u8, keys: u64) -> Holding {
    Holding { assignment, revision: assignment, content: [content; 32], keys }
}

fn after(start: Instant, seconds: u64) -> Instant {
    start + Duration::from_secs(seconds)
}

fn session(held: Option<Holding>, desired: Holding, now: Instant) -> Session {
    Session::greeted(held, Box::default(), desired, now).unwrap()
}

#[test]
fn only_what_a_node_lacks_is_sent() {
    let start = Instant::now();
    let check = |held: Option<Holding>, desired: Holding, expected: Option<(Content, Option<u64>)>| {
        let plan = session(held, desired, start).plan(start);
        assert_eq!(plan.map(|plan| (plan.content, plan.keys_from)), expected, "{held:?} {desired:?}");
    };
    // What it may have of another store must go, even where there are no keys yet.
    check(None, holding(1, 1, 0), Some((Content::Whole, Some(0))));
    check(None, holding(1, 1, 9), Some((Content::Whole, Some(0))));
    check(Some(holding(5, 1, 9)), holding(5, 1, 9), None);
    check(Some(holding(4, 1, 9)), holding(5, 1, 9), Some((Content::Held, None)));
    check(Some(holding(4, 1, 7)), holding(5, 1, 9), Some((Content::Held, Some(7))));
    check(Some(holding(4, 1, 9)), holding(5, 2, 9), Some((Content::From(4, [1; 32]), None)));
}

#[test]
fn a_node_that_is_ahead_of_the_store_is_refused() {
    let start = Instant::now();
    let check = |held: Holding, expected: bool| {
        let greeted = Session::greeted(Some(held), Box::default(), holding(5, 1, 9), start);
        assert_eq!(greeted.is_err(), expected, "{held:?}");
    };
    check(holding(5, 1, 9), false);
    check(holding(4, 2, 8), false);
    check(holding(6, 1, 9), true);
    check(holding(5, 1, 10), true);
    check(holding(5, 2, 9), true);
}

#[test]
fn newer_ones_only_overwrite_while_an_answer_is_awaited() {
    let now = Instant::now();
    let mut session = session(Some(holding(1, 1, 0)), holding(2, 2, 0), now);
    let plan = session.plan(now).unwrap();
    let update = session.send(plan, now);
    session.desire(holding(3, 3, 0));
    session.desire(holding(4, 4, 0));
    assert_eq!(session.plan(now), None);
    assert_eq!(session.ack(update + 1, Some(holding(2, 2, 0)), now).0, Answered::Stale);
    assert_eq!(session.plan(now), None, "an answer to nothing changes nothing");
    assert_eq!(session.ack(update, Some(holding(2, 2, 0)), now), (Answered::Update(plan), true));
    assert_eq!(session.plan(now).unwrap().leads_to, holding(4, 4, 0));
    session.desire(holding(3, 3, 0));
    assert_eq!(session.desired(), &holding(4, 4, 0), "what should be never goes back");
}

#[test]
fn keys_go_on_under_the_held_assignment_when_the_content_was_refused() {
    let now = Instant::now();
    let mut session = session(Some(holding(1, 1, 3)), holding(2, 2, 3), now);
    let update = session.send(session.plan(now).unwrap(), now);
    session.nack(update, Some(holding(1, 1, 3)), false, now);
    assert_eq!(session.plan(after(now, 3600)), None);
    assert_eq!(session.withheld(), Some(Withheld::Refused));
    session.desire(holding(2, 2, 4));
    let plan = session.plan(now).unwrap();
    assert_eq!((plan.leads_to, plan.content, plan.keys_from), (holding(1, 1, 4), Content::Held, Some(3)));
    let update = session.send(plan, now);
    session.ack(update, Some(holding(1, 1, 4)), now);
    assert_eq!(session.plan(now), None);
    session.desire(holding(3, 2, 4));
    assert_eq!(session.plan(now), None, "another decision for the same bytes does not make them serve");
    session.desire(holding(4, 3, 4));
    assert_eq!(session.plan(now).unwrap().leads_to, holding(4, 3, 4));
}

#[test]
fn keys_do_not_wait_for_the_room_that_a_content_needs() {
    let now = Instant::now();
    let mut session = session(Some(holding(1, 1, 3)), holding(2, 2, 4), now);
    let keys = session.plan(now).unwrap();
    assert_eq!((keys.leads_to, keys.content, keys.keys_from), (holding(1, 1, 4), Content::Held, Some(3)));
    let update = session.send(keys, now);
    session.ack(update, Some(keys.leads_to), now);
    let content = session.plan(now).unwrap();
    assert_eq!((content.leads_to, content.keys_from), (holding(2, 2, 4), None));
}

#[test]
fn a_quarantined_content_is_not_sent() {
    let now = Instant::now();
    let quarantined = Box::new([[2; 32]]);
    let mut session = Session::greeted(None, quarantined, holding(2, 2, 3), now).unwrap();
    assert_eq!((session.plan(now), session.withheld()), (None, Some(Withheld::Quarantined)));
    session.desire(holding(3, 3, 3));
    assert_eq!(session.plan(now).unwrap().leads_to, holding(3, 3, 3));
}

#[test]
fn what_is_refused_for_now_is_sent_whole_and_ever_later() {
    let start = Instant::now();
    let mut session = session(Some(holding(1, 1, 3)), holding(2, 2, 3), start);
    let mut now = start;
    for wait in [5, 10, 20, 40, 60, 60] {
        let update = session.send(session.plan(now).unwrap(), now);
        session.nack(update, Some(holding(1, 1, 3)), true, now);
        assert_eq!(session.plan(after(now, wait - 1)), None, "{wait}");
        assert!(session.wake_at(now) <= after(now, wait));
        now = after(now, wait);
        assert_eq!(session.plan(now).unwrap().content, Content::Whole);
    }
    session.desire(holding(3, 3, 3));
    let plan = session.plan(now).unwrap();
    let update = session.send(plan, now);
    session.ack(update, Some(holding(3, 3, 3)), now);
    session.desire(holding(4, 4, 3));
    assert_eq!(session.plan(now).unwrap().content, Content::From(3, [3; 32]), "what serves is a base again");
}

#[test]
fn a_node_that_acknowledges_something_else_is_not_sent_it_in_a_loop() {
    let now = Instant::now();
    let mut session = session(None, holding(2, 2, 3), now);
    let update = session.send(session.plan(now).unwrap(), now);
    assert!(!session.ack(update, Some(holding(2, 9, 3)), now).1);
    assert_eq!(session.plan(now), None);
    assert_eq!(session.plan(after(now, 5)).unwrap().content, Content::Whole);
}

#[test]
fn what_is_due_is_told_once_and_in_time() {
    let start = Instant::now();
    let mut session = session(None, holding(1, 1, 0), start);
    let due = |heartbeat, lagging, silent| Due { heartbeat, lagging, silent };
    session.send(session.plan(start).unwrap(), start);
    session.part_sent(after(start, 4));
    assert_eq!(session.wake_at(start), after(start, 14));
    assert_eq!(session.tick(after(start, 13)), due(false, false, false));
    assert_eq!(session.tick(after(start, 14)), due(false, true, false));
    assert_eq!(session.tick(after(start, 15)), due(false, false, false));
    assert_eq!(session.wake_at(after(start, 15)), after(start, 19));
    assert_eq!(session.tick(after(start, 19)), due(true, false, false));
    session.heard(after(start, 20));
    assert_eq!(session.tick(after(start, 64)), due(true, false, false));
    assert_eq!(session.tick(after(start, 65)), due(false, false, true));
    assert!(matches!(session.ack(1, Some(holding(1, 1, 0)), after(start, 66)), (Answered::Update(_), true)));
}

/// What may happen in a stream.
#[derive(Clone, Debug)]
enum Step {
    /// Another content is assigned, and keys change or not.
    Assign(u8, bool),
    /// Only keys change.
    Keys,
    /// The node answers to what it was sent.
    Answer,
    /// It cannot take anything now.
    NotNow,
    /// It answers to something that it was not sent.
    Stale,
    /// Seconds go by.
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0..6_u8, any::<bool>()).prop_map(|(content, keys)| Step::Assign(content, keys)),
        2 => Just(Step::Keys),
        5 => Just(Step::Answer),
        1 => Just(Step::NotNow),
        1 => Just(Step::Stale),
        1 => (1..70_u64).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 0..80)
}

/// A node that refuses the contents 0 and 1 for good.
struct Node {
    held: Option<Holding>,
    sent: Option<(u64, Plan)>,
    /// The newest assignment that it took.
    newest: u64,
    refused: Vec<Digest>,
}

impl Node {
    /// Sends what the session wants sent, and checks that it may be.
    fn send(&mut self, session: &mut Session, now: Instant) {
        let Some(plan) = session.plan(now) else { return };
        assert!(self.sent.is_none(), "two at a time");
        assert!(plan.leads_to.assignment >= self.newest, "{plan:?} where {} serves", self.newest);
        assert!(!self.refused.contains(&plan.leads_to.content), "{plan:?} was refused");
        match plan.content {
            Content::From(revision, digest) => {
                assert_eq!(self.held.map(|held| (held.revision, held.content)), Some((revision, digest)));
            }
            Content::Held => assert_eq!(self.held.map(|held| held.content), Some(plan.leads_to.content)),
            Content::Whole => {}
        }
        match (plan.keys_from, self.held.map(|held| held.keys)) {
            (from, None) => assert_eq!(from, Some(0), "it may have another store's"),
            (Some(from), Some(keys)) => assert!(from <= keys && plan.leads_to.keys > keys),
            (None, Some(keys)) => assert_eq!(plan.leads_to.keys, keys),
        }
        self.sent = Some((session.send(plan, now), plan));
    }

    fn answer(&mut self, session: &mut Session, not_now: bool, now: Instant) {
        let Some((update, plan)) = self.sent.take() else { return };
        let bad = plan.content != Content::Held && plan.leads_to.content[0] < 2;
        if not_now || bad {
            if bad && !not_now {
                self.refused.push(plan.leads_to.content);
            }
            assert_eq!(session.nack(update, self.held, not_now, now), Answered::Update(plan));
        } else {
            self.held = Some(plan.leads_to);
            self.newest = plan.leads_to.assignment;
            assert_eq!(session.ack(update, self.held, now), (Answered::Update(plan), true));
        }
    }
}

proptest! {
    #[test]
    fn a_node_comes_to_hold_what_it_should_whatever_happens_on_the_way(
        steps in steps(),
        first in 2..6_u8,
        holds in any::<bool>(),
    ) {
        let mut now = Instant::now();
        let mut desired = holding(1, first, 1);
        let held = holds.then_some(desired);
        let mut session = session(held, desired, now);
        let mut node = Node { held, sent: None, newest: 0, refused: Vec::new() };
        for step in steps {
            match step {
                Step::Assign(content, keys) => {
                    desired = holding(desired.assignment + 1, content, desired.keys + u64::from(keys));
                    session.desire(desired);
                }
                Step::Keys => {
                    desired.keys += 1;
                    session.desire(desired);
                }
                Step::Answer => node.answer(&mut session, false, now),
                Step::NotNow => node.answer(&mut session, true, now),
                Step::Stale => {
                    let stale = node.sent.map_or(1, |(update, _)| update + 1);
                    assert_eq!(session.ack(stale, node.held, now).0, Answered::Stale);
                    assert_eq!(session.nack(stale, node.held, false, now), Answered::Stale);
                }
                Step::Wait(seconds) => {
                    now = after(now, seconds);
                    session.heard(now);
                    assert!(!session.tick(now).silent);
                    assert!(session.wake_at(now) > now);
                }
            }
            node.send(&mut session, now);
        }
        // From here on the node answers at once, and time goes by.
        for _ in 0..10 {
            node.answer(&mut session, false, now);
            now = after(now, 60);
            node.send(&mut session, now);
        }
        if node.refused.contains(&desired.content) && node.held.is_none_or(|held| held.content != desired.content) {
            prop_assert_eq!(session.withheld(), Some(Withheld::Refused));
            prop_assert!(node.held.is_none_or(|held| held.keys == desired.keys), "keys wait for nothing");
        } else {
            prop_assert_eq!(node.held, Some(desired));
        }
    }
}
