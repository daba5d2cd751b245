use super::*;
use crate::{fleet::Which, store::Version};

const DAY: Duration = Duration::from_secs(24 * 3600);

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 + seconds)
}

fn holding(assignment: u64) -> Holding {
    Holding { assignment, revision: assignment * 10, content: [0; 32], keys: 1 }
}

fn desired(assignment: u64, made_at: u64) -> Desired {
    Desired {
        epoch: "e".into(),
        environment: "prod".into(),
        assignment,
        revision: assignment * 10,
        content_digest: [0; 32],
        items: [].into(),
        keys: Arc::default(),
        made_at: at(made_at),
        traceparent: String::new(),
    }
}

fn newcomer(id: &str, instance: u8, region: &str, held: Option<u64>) -> Newcomer {
    Newcomer {
        id: id.to_owned(),
        instance: [instance; 16],
        region: region.to_owned(),
        build: "0.1.0".to_owned(),
        schema: Schema { members: vec!["Route.name".to_owned()], kinds: vec!["route".to_owned()] },
        held: held.map(holding),
        clock: None,
        came_back_older: false,
    }
}

/// Regions as region, connected, serving, refused, unknown.
fn regions(state: &State) -> Vec<(String, u64, u64, u64, u64)> {
    let region = |r: control::RegionSummary| (r.region, r.connected, r.serving, r.refused, r.unknown);
    state.tally.regions().into_iter().map(region).collect()
}

fn revisions(state: &State) -> Vec<(u64, u64)> {
    state.tally.revisions().iter().map(|count| (count.revision, count.nodes)).collect()
}

fn kinds(told: &[Told]) -> Vec<Kind> {
    told.iter().map(|told| told.kind).collect()
}

fn nodes(state: &State) -> Vec<control::Node> {
    state.nodes("prod", Which::Region(""), usize::MAX)
}

/// Numbers as they would be if they were counted now.
fn counted(state: &State) -> Vec<(String, u64, u64, u64, u64)> {
    let mut tally = Tally::default();
    let nodes = state.names.values().flat_map(|name| &name.nodes);
    nodes.for_each(|node| tally.add(&node.share(&state.desires)));
    regions(&State { tally, ..State::default() })
}

#[test]
fn numbers_follow_the_nodes() {
    let mut state = State::default();
    state.desire(&desired(1, 0));
    state.connect(newcomer("a", 1, "us", Some(1)), 1, at(1));
    state.connect(newcomer("b", 1, "eu", None), 2, at(1));
    assert_eq!(regions(&state), [("eu".into(), 1, 0, 0, 0), ("us".into(), 1, 1, 0, 0)]);
    assert_eq!(revisions(&state), [(0, 1), (10, 1)]);
    state.desire(&desired(2, 5));
    assert_eq!(regions(&state), [("eu".into(), 1, 0, 0, 0), ("us".into(), 1, 0, 0, 0)]);
    let (took, told) = state.acked("a", 1, Some(&holding(2)), "", at(7));
    assert_eq!((took, told), (Some(Duration::from_secs(2)), Vec::new()));
    assert_eq!(state.acked("a", 1, Some(&holding(2)), "", at(8)).0, None, "keys alone are no convergence");
    let told = state.refused("b", 2, &holding(2), Vec::new(), true, at(8));
    assert_eq!(kinds(&told), [Kind::RevisionRefused]);
    assert_eq!(regions(&state), [("eu".into(), 1, 0, 1, 0), ("us".into(), 1, 1, 0, 0)]);
    assert_eq!(state.refused("b", 2, &holding(2), Vec::new(), true, at(9)), []);
    let told = state.gone("b", 2, at(9));
    assert_eq!(kinds(&told), [Kind::NodeGone, Kind::FleetConverged], "whoever is left serves it");
    assert_eq!(told[1].message, "1 of 1 node in 1 region serve revision 20, 3s");
    assert_eq!(regions(&state), [("eu".into(), 0, 0, 0, 1), ("us".into(), 1, 1, 0, 0)]);
    assert_eq!(counted(&state), regions(&state));
}

#[test]
fn a_fleet_converges_once_and_only_by_an_answer() {
    let mut state = State::default();
    state.desire(&desired(1, 0));
    assert_eq!(kinds(&state.connect(newcomer("a", 1, "", Some(1)), 1, at(1))), [Kind::NodeConnected]);
    assert_eq!(kinds(&state.gone("a", 1, at(2))), [Kind::NodeGone], "it served before it came");
    state.connect(newcomer("a", 1, "", None), 2, at(3));
    state.connect(newcomer("b", 1, "", None), 3, at(3));
    assert_eq!(kinds(&state.acked("a", 2, Some(&holding(1)), "", at(4)).1), []);
    assert_eq!(kinds(&state.acked("b", 3, Some(&holding(1)), "", at(4)).1), [Kind::FleetConverged]);
    state.connect(newcomer("c", 1, "", None), 4, at(5));
    assert_eq!(kinds(&state.acked("c", 4, Some(&holding(1)), "", at(6)).1), []);
}

#[test]
fn a_node_without_a_stream_is_unknown_and_what_it_serves_is_too() {
    let mut state = State::default();
    state.desire(&desired(1, 0));
    state.connect(newcomer("a", 1, "us", Some(1)), 1, at(1));
    state.heard("a", 1, at(4));
    state.gone("a", 1, at(5));
    let node = &nodes(&state)[0];
    assert_eq!((node.connection(), node.serving, node.problems.len()), (control::Connection::Unknown, None, 0));
    assert_eq!((node.since, node.last_heard_at), (Some(at(5).into()), Some(at(4).into())));
    state.acked("a", 1, Some(&holding(1)), "", at(6));
    assert_eq!(nodes(&state)[0].connection(), control::Connection::Unknown, "its stream is over");
    state.connect(newcomer("a", 2, "us", Some(1)), 2, at(7));
    assert_eq!(nodes(&state).len(), 1, "it is the same node after a restart");
    assert_eq!(nodes(&state)[0].connection(), control::Connection::Connected);
    assert_eq!(counted(&state), regions(&state));
}

#[test]
fn the_same_process_on_a_new_stream_takes_the_place_of_its_old_one() {
    let mut state = State::default();
    state.desire(&desired(1, 0));
    state.connect(newcomer("a", 1, "us", None), 1, at(1));
    state.refused("a", 1, &holding(1), Vec::new(), true, at(2));
    state.connect(newcomer("a", 1, "us", None), 2, at(3));
    assert_eq!(state.gone("a", 1, at(4)), [], "the old stream's end is late news");
    assert_eq!(regions(&state), [("us".into(), 1, 0, 1, 0)], "what it refused it still refuses");
    assert_eq!(nodes(&state)[0].problems, Vec::<String>::new());
}

#[test]
fn two_nodes_of_one_name_are_both_shown_with_the_problem() {
    let mut state = State::default();
    state.desire(&desired(1, 0));
    state.connect(newcomer("a", 1, "us", Some(1)), 1, at(1));
    assert_eq!(kinds(&state.connect(newcomer("a", 2, "us", None), 2, at(2))), [Kind::NodeConnected, Kind::NodeProblem]);
    let nodes_now = nodes(&state);
    assert_eq!(nodes_now.len(), 2);
    assert!(nodes_now.iter().all(|node| node.problems[0].starts_with("another node has its name")));
    assert_eq!(regions(&state), [("us".into(), 2, 1, 0, 0)]);
    state.gone("a", 1, at(3));
    assert_eq!(nodes(&state).len(), 1);
    assert_eq!(nodes(&state)[0].problems, Vec::<String>::new());
    assert_eq!(counted(&state), regions(&state));
}

#[test]
fn problems_are_told_in_sentences() {
    let check = |change: fn(&mut Newcomer), expected: Option<&str>| {
        let mut state = State::default();
        state.desire(&desired(1, 0));
        let mut newcomer = newcomer("a", 1, "us", None);
        change(&mut newcomer);
        let told = state.connect(newcomer, 1, at(0));
        assert_eq!(told.len(), 1 + usize::from(expected.is_some()));
        assert_eq!(nodes(&state)[0].problems.first().map(String::as_str), expected);
    };
    check(|_| {}, None);
    check(|newcomer| newcomer.clock = Some(at(60)), None);
    let ahead = "its clock is 61 s ahead: keys expire at another time than they should";
    check(|newcomer| newcomer.clock = Some(at(61)), Some(ahead));
    let behind = "its clock is 3600 s behind: keys expire at another time than they should";
    check(|newcomer| newcomer.clock = Some(at(0) - Duration::from_secs(3600)), Some(behind));
    let older = "it came back from an older generation of its last known good";
    check(|newcomer| newcomer.came_back_older = true, Some(older));
}

#[test]
fn a_node_that_does_not_answer_is_shown_until_it_does() {
    let mut state = State::default();
    state.desire(&desired(1, 0));
    state.connect(newcomer("a", 1, "us", None), 1, at(1));
    state.offered("a", 1, &holding(1), at(2));
    assert_eq!(kinds(&state.lagging("a", 1)), [Kind::NodeLagging]);
    let node = nodes(&state).remove(0);
    assert_eq!(node.problems, ["it does not answer"]);
    assert_eq!(node.lagging_since, Some(at(1).into()), "since it is here: what it should is older");
    assert_eq!(node.offered.unwrap().assignment, 1);
    let (_, told) = state.acked("a", 1, Some(&holding(1)), "the disk is full", at(60));
    assert_eq!(kinds(&told), [Kind::NodeProblem, Kind::FleetConverged]);
    let node = nodes(&state).remove(0);
    assert_eq!((node.problems, node.lagging_since), (vec!["the disk is full".to_owned()], None));
    assert_eq!(kinds(&state.acked("a", 1, Some(&holding(1)), "the disk is full", at(61)).1), []);
}

#[test]
fn a_refusal_is_shown_until_something_newer_serves() {
    let mut state = State::default();
    state.desire(&desired(2, 0));
    state.connect(newcomer("a", 1, "us", Some(1)), 1, at(1));
    let violation = |message: &str| sync::Violation { message: message.to_owned(), ..sync::Violation::default() };
    state.refused("a", 1, &holding(2), vec![violation("no memory")], false, at(2));
    assert_eq!(state.tally.all().refused, 0, "it may take it at another time");
    assert_eq!(nodes(&state)[0].refused.as_ref().unwrap().violations[0].message, "no memory");
    let told = state.refused("a", 1, &holding(2), vec![violation(&"é".repeat(600)); 30], true, at(3));
    assert!(told[0].message.starts_with("a refused revision 20: é"));
    let refused = nodes(&state)[0].refused.clone().unwrap();
    assert_eq!((refused.violations.len(), refused.violations[0].message.len()), (20, 512));
    state.desire(&desired(3, 0));
    assert_eq!(state.tally.all().refused, 0);
    state.refuses_still("a", 1, &holding(3));
    assert_eq!(state.tally.all().refused, 1);
    assert_eq!(nodes(&state)[0].refused.as_ref().unwrap().revision, 30);
    state.acked("a", 1, Some(&holding(3)), "", at(4));
    assert_eq!((nodes(&state)[0].refused.as_ref(), state.tally.all().refused), (None, 0));
}

#[test]
fn equal_schemas_regions_and_reasons_are_there_once() {
    let mut state = State::default();
    state.desire(&desired(1, 0));
    for n in 0..100 {
        state.connect(newcomer(&format!("n{n}"), 1, "us", None), n + 1, at(1));
        let violation = sync::Violation { code: "damaged".to_owned(), ..sync::Violation::default() };
        state.refused(&format!("n{n}"), n + 1, &holding(1), vec![violation], true, at(2));
    }
    assert_eq!((state.schemas.len(), state.texts.len()), (1, 2));
    assert_eq!(Arc::strong_count(&state.violations), 101);
    assert_eq!(state.schemas().iter().map(|(_, nodes)| nodes.len()).collect::<Vec<_>>(), [100]);
}

#[test]
fn the_store_is_told_what_is_new_and_nothing_twice() {
    let mut state = State::default();
    let kept = |version, seen| Kept {
        version: Version(version),
        region: "us".into(),
        build: "0.1.0".into(),
        first_seen_at: at(0),
        last_seen_at: seen,
    };
    state.remember(vec![("known".to_owned(), kept(1, at(0))), ("old".to_owned(), kept(2, at(0) - 8 * DAY))], at(0));
    assert_eq!(regions(&state), [("us".into(), 0, 0, 0, 2)]);
    state.connect(newcomer("known", 1, "us", None), 1, at(10));
    assert!(state.unwritten(10, at(10)).is_empty(), "the store says it already");
    state.connect(newcomer("new", 1, "us", None), 2, at(10));
    state.connect(newcomer("known", 1, "eu", None), 3, at(10));
    let changes = state.unwritten(10, at(10));
    let before: Vec<_> = changes.iter().map(|change| (&*change.id, change.before)).collect();
    assert_eq!(before, [("known", Some(Version(1))), ("new", None)]);
    state.not_written(&changes);
    assert_eq!(state.unwritten(1, at(10)).len(), 1);
    assert_eq!(state.unwritten(1, at(10)).len(), 1);
    state.written("new", Some(kept(3, at(10))), at(10));
    state.written("known", Some(Kept { region: "eu".into(), ..kept(3, at(10)) }), at(10));
    state.sweep(at(10));
    let changes = state.unwritten(10, at(10));
    assert_eq!(changes.len(), 1, "{changes:?}");
    assert!(&*changes[0].id == "old" && changes[0].kept.is_none(), "it was not seen for a week");
    state.written("old", None, at(10));
    assert_eq!(nodes(&state).len(), 2);
    state.sweep(at(10) + 2 * DAY);
    assert_eq!(state.unwritten(10, at(10) + 2 * DAY).len(), 2, "they are still here");
    assert_eq!(counted(&state), regions(&state));
}
