//! What was applied: differences, the history, a revision.

use serde_json::json;
use switchtower_policy::{File, items, read};
use switchtower_proto::{
    control::v1::{
        ApplyRequest, Diff, DiffRevisionsRequest, DiffRevisionsResponse, GetRevisionRequest, GetRevisionResponse,
        ListEnvironmentsResponse, ListRevisionsRequest, ListRevisionsResponse, diff_revisions_request::Other,
    },
    policy::v1::Item,
};
use tonic::Code;

use crate::{
    plane::{Plane, Script, always, refusal, refuse},
    scene::{a_diff, apply, content, revision, serving},
    support::example,
};

fn differing() -> Plane {
    Plane::start(Script {
        diff_revisions: always(DiffRevisionsResponse { diff: Some(a_diff()) }),
        list_environments: Some(Box::new(|_| {
            let environments = [serving("dev", 11), serving("prod", 13)].into_iter();
            Ok(ListEnvironmentsResponse { environments: environments.flat_map(|one| one.environments).collect() })
        })),
        ..Script::default()
    })
}

#[test]
fn files_are_compared_with_what_is_assigned_in_their_environment() {
    let folder = tempfile::tempdir().unwrap();
    let policy = example(folder.path());
    let plane = differing();
    let ran = plane.run(["diff".as_ref(), policy.as_os_str()]).exits(0);
    assert_eq!(ran.out, "+ route chat: added\n~ route chat: tier 1 is nova, was sonnet\n");
    assert_eq!(ran.err, "2 changes\n");
    let request = &plane.seen::<DiffRevisionsRequest>()[0];
    assert_eq!((request.environment.as_str(), request.number), ("dev", 11));
    let Some(Other::Content(sent)) = &request.other else { panic!("{request:?}") };
    assert_eq!(sent.items, content());
    let path = policy.to_str().unwrap();
    plane.run(["diff", path, "--exit-code"]).exits(1);
    let document = plane.run(["diff", path, "--output", "json"]).exits(0).json();
    let expected = json!({
        "change": "changed", "kind": "route", "name": "chat", "path": "tiers[0].model",
        "before": "sonnet", "after": "nova", "words": "route chat: tier 1 is nova, was sonnet",
    });
    assert_eq!(document[1], expected);
    let coloured = plane.run(["diff", path, "--color", "always"]).exits(0);
    assert!(coloured.out.contains('\u{1b}'), "{coloured:#?}");
}

#[test]
fn revisions_are_compared_within_and_across_environments() {
    let check = |args: &[&str], from: (&str, u64), to: (&str, u64)| {
        let plane = differing();
        plane.run(["diff"].iter().chain(args)).exits(0);
        let request = plane.seen::<DiffRevisionsRequest>().pop().unwrap();
        assert_eq!((request.environment.as_str(), request.number), from, "{args:?}");
        let Some(Other::Revision(other)) = request.other else { panic!("{args:?}") };
        assert_eq!((other.environment.as_str(), other.number), to, "{args:?}");
    };
    check(&["--from", "12", "--to", "13", "-e", "prod"], ("prod", 12), ("prod", 13));
    check(&["--from", "dev/12", "--to", "prod/7"], ("dev", 12), ("prod", 7));
    check(&["--from", "dev/head", "--to", "7", "-e", "prod"], ("dev", 0), ("prod", 7));
    // What is not named is what nodes should serve, which after a rollback is not the newest.
    check(&["--from", "12", "-e", "prod"], ("prod", 12), ("prod", 13));
    check(&["--to", "prod/head", "-e", "dev"], ("dev", 11), ("prod", 0));
}

#[test]
fn where_nothing_differs_nothing_is_printed() {
    let nothing = DiffRevisionsResponse { diff: Some(Diff::default()) };
    let plane = Plane::start(Script { diff_revisions: always(nothing), ..Script::default() });
    let ran = plane.run(["diff", "--from", "1", "--to", "2", "-e", "prod", "--exit-code"]).exits(0);
    assert_eq!((ran.out.as_str(), ran.err.as_str()), ("", "nothing differs\n"));
}

#[test]
fn before_the_first_revision_everything_is_new() {
    let folder = tempfile::tempdir().unwrap();
    let policy = example(folder.path());
    let plane = Plane::start(Script {
        diff_revisions: refuse(refusal(Code::NotFound, "NO_REVISION", &[])),
        apply: Some(Box::new(|request| Ok(apply(request, &[])))),
        list_environments: always(ListEnvironmentsResponse::default()),
        ..Script::default()
    });
    let ran = plane.run(["diff", policy.to_str().unwrap()]).exits(0);
    assert!(ran.out.lines().any(|line| line.contains("route quick: added")), "{ran:#?}");
    assert!(plane.seen::<ApplyRequest>()[0].validate_only);
}

#[test]
fn the_history_tells_who_did_what_and_why() {
    let mut revisions = vec![revision("prod", 3), revision("prod", 2), revision("prod", 1)];
    revisions[1].assigned = false;
    revisions[1].rolled_back = true;
    revisions[2].assigned = false;
    let first = revisions[2].record.as_mut().unwrap();
    (first.message, first.promoted_from) = ("two\nlines \u{1b}[2J".to_owned(), "dev/12".to_owned());
    let plane = Plane::start(Script {
        list_revisions: always(ListRevisionsResponse { revisions, more: true }),
        ..Script::default()
    });
    let ran = plane.run(["history", "-e", "prod", "-n", "3", "--before", "4"]).exits(0);
    let expected = "\
REVISION  MADE                  BY   WHY
       3  2026-11-23T10:00:00Z  ada  more nova  (assigned)
       2  2026-11-23T10:00:00Z  ada  more nova  (rolled back)
       1  2026-11-23T10:00:00Z  ada  two lines \u{fffd}[2J  from dev/12
";
    assert_eq!((ran.out.as_str(), ran.err.as_str()), (expected, "there are older ones: --before 1\n"));
    let request = &plane.seen::<ListRevisionsRequest>()[0];
    assert_eq!((request.before, request.page_size), (4, 3));
    let document = plane.run(["history", "-e", "prod", "--output", "json"]).exits(0).json();
    assert_eq!((&document[0]["number"], &document[0]["created_at"]), (&json!(3), &json!("2026-11-23T10:00:00Z")));
    assert_eq!((&document[1]["rolled_back"], &document[2]["promoted_from"]), (&json!(true), &json!("dev/12")));
    assert_eq!(document[0]["digest"], "ab".repeat(32));
}

#[test]
fn an_environment_without_revisions_has_no_history() {
    let none = refusal(Code::NotFound, "NO_REVISION", &[]);
    let plane = Plane::start(Script { list_revisions: refuse(none), ..Script::default() });
    let ran = plane.run(["history", "-e", "new"]).exits(0);
    assert!(ran.err.contains("switchtower apply") && ran.out.is_empty(), "{ran:#?}");
}

fn answering(items: Vec<Item>) -> Plane {
    let answer = GetRevisionResponse { revision: Some(revision("dev", 7)), items };
    let environments = always(serving("dev", 7));
    Plane::start(Script { get_revision: always(answer), list_environments: environments, ..Script::default() })
}

#[test]
fn a_revision_is_shown_as_yaml_that_says_the_same() {
    let plane = answering(content());
    let ran = plane.run(["get", "7", "-e", "dev"]).exits(0);
    assert!(ran.out.starts_with("# Revision 7 of dev, 2026-11-23T10:00:00Z by ada: more nova\nenvironment: dev\n"));
    let reading = read(&[File { name: "a.yaml".to_owned(), bytes: ran.out.into_bytes() }]);
    assert_eq!(reading.violations, []);
    assert_eq!(items::items(&reading.policy), content());
    assert_eq!(plane.seen::<GetRevisionRequest>()[0].number, 7);
    let document = plane.run(["get", "-e", "dev", "--output", "json"]).exits(0).json();
    assert_eq!(document["policy"]["routes"]["support-chat"]["timeouts"]["first_token"], "8s");
    assert_eq!(document["revision"]["number"], 7);
    assert_eq!(document["unknown"], json!([]));
    assert_eq!(plane.seen::<GetRevisionRequest>()[1].number, 7);
    let none =
        Plane::start(Script { get_revision: refuse(refusal(Code::NotFound, "NO_REVISION", &[])), ..Script::default() });
    assert!(none.run(["get", "9", "-e", "dev"]).exits(65).err.contains("switchtower history"));
}

#[test]
fn what_this_program_does_not_know_is_told() {
    let mut items = content();
    items.push(Item { kind: "zebra".to_owned(), name: "z".to_owned(), body: Vec::new().into() });
    let plane = answering(items);
    let ran = plane.run(["get", "-e", "dev"]).exits(0);
    assert!(ran.err.contains("zebra/z") && ran.err.contains("update it"), "{ran:#?}");
    let folder = tempfile::tempdir().unwrap();
    let into = folder.path().join("p");
    let ran = plane.run(["pull", into.to_str().unwrap(), "-e", "dev"]).exits(65);
    assert!(ran.err.contains("zebra/z") && !into.exists(), "{ran:#?}");
}
