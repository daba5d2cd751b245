//! What nodes do, and what happened.

use serde_json::{Value, json};
use switchtower_proto::control::v1::{
    Event, GetFleetRequest, GetFleetResponse, Node, Summary, WatchEventsRequest, WatchEventsResponse,
    WatchFleetResponse,
};

use crate::{
    plane::{Plane, Script, always, stream},
    scene::{TEN, node, refusing, summary},
    support::Ran,
};

fn fleet(summary: Summary, nodes: Vec<Node>) -> Plane {
    let answer = GetFleetResponse { summary: Some(summary), nodes };
    Plane::start(Script { get_fleet: always(answer), ..Script::default() })
}

#[test]
fn the_status_tells_regions_refusals_and_problems() {
    let mut lagging = node("node-b", "eu-west-1", 86);
    lagging.lagging_since = Some(TEN);
    lagging.problems = vec!["its clock is 40 s ahead".to_owned()];
    let nodes = vec![refusing("node-a", "eu-west-1"), lagging, node("node-c", "us-east-1", 87)];
    let plane = fleet(summary(0, 1), nodes);
    let ran = plane.run(["status", "-e", "prod", "--nodes", "--region", "eu-west-1"]).exits(0);
    let expected = "\
prod: 3 of 5 connected nodes serve revision 87, 1 refused it

REGION     CONNECTED  SERVING  REFUSED  WAITING  NOT CONNECTED
eu-west-1          2        0        1        1              0
us-east-1          3        3        0        0              0

served: revision 86 on 2, 87 on 3

refused  node-a: revision 87 since 2026-11-23T10:00:00Z: routes.chat: no guardrail in eu-west-1
";
    assert!(ran.out.starts_with(expected), "{ran:#?}");
    for part in ["lags     node-b: for ", "serves revision 86", "problem  node-b: its clock is 40 s ahead", "\nNODE  "]
    {
        assert!(ran.out.contains(part), "{part}: {ran:#?}");
    }
    let rows: Vec<&str> = ran.out.lines().filter(|line| line.contains("0.1.0")).collect();
    assert!(rows.len() == 3 && rows[0].contains("refused") && rows[1].contains("lags"), "{ran:#?}");
    assert_eq!(plane.seen::<GetFleetRequest>()[0].region, "eu-west-1");

    let document = plane.run(["status", "-e", "prod", "--output", "json"]).exits(0).json();
    assert_eq!((&document["converged"], &document["serving"]), (&json!(false), &json!(3)));
    assert_eq!(document["nodes"][0]["refused"]["violations"][0]["code"], "guardrail_region");
    assert_eq!(document["nodes"][1]["lagging_since"], "2026-11-23T10:00:00Z");
}

#[test]
fn scripts_can_ask_whether_the_fleet_has_converged() {
    let check = |serving: u64, refused: u64, code: i32| {
        let plane = fleet(summary(serving, refused), Vec::new());
        plane.run(["status", "-e", "prod"]).exits(0);
        plane.run(["status", "-e", "prod", "--exit-code"]).exits(code);
    };
    check(2, 0, 0);
    check(1, 1, 4);
    check(1, 0, 5);
}

#[test]
fn an_environment_without_a_revision_is_told_as_such() {
    let ran = fleet(Summary { environment: "new".to_owned(), ..Summary::default() }, Vec::new())
        .run(["status", "-e", "new"])
        .exits(0);
    assert_eq!(ran.out, "new: no revision is assigned, 0 nodes are connected\n");
}

fn lines(ran: &Ran) -> Vec<Value> {
    ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn changes_of_the_fleet_are_lines_where_nobody_draws() {
    let update = |serving| WatchFleetResponse { summary: Some(summary(serving, 0)) };
    let answers = vec![update(0), update(0), update(2)];
    let plane = Plane::start(Script { watch_fleet: stream(answers), ..Script::default() });
    // It goes on for ever, so its end is a control plane that went away.
    let ran = plane.run(["watch", "-e", "prod"]).exits(69);
    let expected = "\
prod: 3 of 5 connected nodes serve revision 87
prod: 5 of 5 connected nodes serve revision 87
";
    assert_eq!(ran.out, expected);
    let ran = plane.run(["watch", "-e", "prod", "--output", "json"]).exits(69);
    let told: Vec<bool> = lines(&ran).iter().map(|line| line["converged"].as_bool().unwrap()).collect();
    assert_eq!(told, [false, true]);
}

fn event(kind: &str, actor: &str, subject: &str, message: &str) -> WatchEventsResponse {
    let event = Event {
        at: Some(TEN),
        environment: "prod".to_owned(),
        kind: kind.to_owned(),
        actor: actor.to_owned(),
        subject: subject.to_owned(),
        message: message.to_owned(),
    };
    WatchEventsResponse { event: Some(event) }
}

#[test]
fn events_are_lines() {
    let answers = vec![
        event("revision_applied", "ada", "87", "more nova"),
        event("node_gone", "", "node-a", "its stream\u{1b}[2J broke\nagain"),
    ];
    let plane = Plane::start(Script { watch_events: stream(answers), ..Script::default() });
    let ran = plane.run(["events"]).exits(0);
    let expected = "\
2026-11-23T10:00:00Z  prod  revision_applied  87  by ada  more nova
2026-11-23T10:00:00Z  prod  node_gone  node-a  its stream\u{fffd}[2J broke again
";
    assert_eq!(ran.out, expected);
    let request = plane.seen::<WatchEventsRequest>().pop().unwrap();
    assert_eq!((request.environment.as_str(), request.latest, request.follow), ("", 20, false));
    let ran = plane.run(["events", "-e", "prod", "-n", "5", "--output", "json"]).exits(0);
    let told = lines(&ran);
    assert_eq!((told.len(), &told[0]["actor"], &told[1]["actor"]), (2, &json!("ada"), &json!(null)));
    // One that should go on and ends is no end.
    plane.run(["events", "--follow"]).exits(69);
    assert!(plane.seen::<WatchEventsRequest>().pop().unwrap().follow);
}
