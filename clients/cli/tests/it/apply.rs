use std::{io::Read, path::Path, process::Stdio};

use serde_json::json;
use switchtower_proto::control::v1::{
    ApplyRequest, ApplyResponse, AwaitAssignmentRequest, Diff, DiffRevisionsResponse, Violation,
    await_assignment_response::Verdict,
};
use tempfile::TempDir;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};

use crate::{
    plane::{Plane, Script, always, refusal, refuse, stream, stream_on},
    scene::{a_diff, answered, applied, content, refusing, region, revision, serving},
    support::{edit, example, until},
};

fn copied() -> (TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let policy = example(folder.path()).to_str().unwrap().to_owned();
    (folder, policy)
}

fn served() -> Script {
    let regions = vec![region("eu-west-1", 200, 200, 0), region("us-east-1", 212, 212, 0)];
    Script {
        apply: always(applied(87, 91)),
        list_environments: always(serving("dev", 86)),
        await_assignment: stream(vec![answered(Verdict::Served, regions, Vec::new())]),
        ..Script::default()
    }
}

#[test]
fn a_policy_is_shown_and_applied_as_made_from_what_it_was_compared_with() {
    let (_folder, policy) = copied();
    let plane = Plane::start(served());
    let ran = plane.run(["apply", &policy, "--yes", "-m", "more nova", "--author", "ada"]).exits(0);
    let expected = "+ route chat: added\n~ route chat: tier 1 is nova, was sonnet\nrevision 87 of `dev` is applied\n";
    assert_eq!((ran.out.as_str(), ran.err.as_str()), (expected, ""));
    let [would, does] = <[ApplyRequest; 2]>::try_from(plane.seen::<ApplyRequest>()).unwrap();
    // The assigned one, which after a rollback is not the newest.
    assert!(would.validate_only && would.parent == Some(86));
    assert!(!does.validate_only && does.parent == Some(86));
    assert_eq!((does.environment.as_str(), does.message.as_str()), ("dev", "more nova"));
    assert_eq!(does.items, content());
    assert_eq!(plane.header("x-switchtower-author"), "ada");
    assert!(plane.header("authorization").starts_with("Bearer swo_"));
    assert!(plane.seen::<AwaitAssignmentRequest>().is_empty());
}

#[test]
fn waiting_ends_with_what_the_fleet_did() {
    let (_folder, policy) = copied();
    let plane = Plane::start(served());
    let ran = plane.run(["apply", &policy, "--yes", "--wait", "--timeout", "10s"]).exits(0);
    assert!(ran.out.ends_with("\n412 of 412 nodes in 2 regions serve revision 87, 640 ms\n"), "{ran:#?}");
    let request = &plane.seen::<AwaitAssignmentRequest>()[0];
    assert_eq!((request.environment.as_str(), request.assignment), ("dev", 91));
    assert!((8..=10).contains(&request.timeout.unwrap().seconds), "{request:?}");

    let document = plane.run(["apply", &policy, "--yes", "--wait", "--output", "json"]).exits(0).json();
    assert_eq!(document["revision"]["number"], 87);
    assert_eq!((&document["assignment"], &document["unchanged"]), (&json!(91), &json!(false)));
    assert_eq!(document["changes"][1]["after"], "nova");
    assert_eq!((&document["waited"]["verdict"], &document["waited"]["serving"]), (&json!("served"), &json!(412)));
}

#[test]
fn what_nodes_refuse_is_told_with_the_reason() {
    let (_folder, policy) = copied();
    let refused = answered(
        Verdict::Refused,
        vec![region("eu-west-1", 2, 0, 2), region("us-east-1", 3, 3, 0)],
        vec![refusing("node-a", "eu-west-1"), refusing("node-b", "eu-west-1")],
    );
    let plane = Plane::start(Script { await_assignment: stream(vec![refused]), ..served() });
    let ran = plane.run(["apply", &policy, "--yes", "--wait"]).exits(4);
    let expected = "3 of 5 nodes in 2 regions serve revision 87, 640 ms; 2 refused it, because routes.chat: no guardrail \
                    in eu-west-1 (node-a, node-b)\n";
    assert!(ran.out.ends_with(expected), "{ran:#?}");
    let document = plane.run(["apply", &policy, "--yes", "--wait", "--output", "json"]).exits(4).json();
    assert_eq!(document["waited"]["refused_by"][1]["id"], "node-b");
}

#[test]
fn what_is_not_answered_in_time_has_an_exit_code_of_its_own() {
    let (_folder, policy) = copied();
    let mut late = answered(Verdict::TimedOut, vec![region("", 3, 2, 0)], Vec::new());
    late.missing = vec![crate::scene::node("node-c", "", 86)];
    let plane = Plane::start(Script { await_assignment: stream(vec![late]), ..served() });
    let ran = plane.run(["apply", &policy, "--yes", "--wait"]).exits(5);
    assert!(ran.out.ends_with("2 of 3 nodes serve revision 87, 640 ms; 1 has not answered: node-c\n"), "{ran:#?}");
    let newer = answered(Verdict::Superseded, vec![region("", 3, 2, 0)], Vec::new());
    let plane = Plane::start(Script { await_assignment: stream(vec![newer]), ..served() });
    let ran = plane.run(["apply", &policy, "--yes", "--wait"]).exits(3);
    assert!(ran.out.ends_with("; a newer assignment has taken its place\n"), "{ran:#?}");
}

#[test]
fn a_connection_that_is_lost_while_waiting_is_tried_again() {
    let (_folder, policy) = copied();
    let tries = std::sync::atomic::AtomicU32::new(0);
    let script = Script {
        await_assignment: Some(Box::new(move |_| {
            let progress = answered(Verdict::Unspecified, vec![region("", 3, 2, 0)], Vec::new());
            let end = answered(Verdict::Served, vec![region("", 3, 3, 0)], Vec::new());
            // The first ends as a control plane that is shut down does.
            Ok(match tries.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
                0 => (vec![Ok(progress)], false),
                1 => (vec![Err(Status::unavailable("going down"))], false),
                _ => (vec![Ok(end)], false),
            })
        })),
        ..served()
    };
    let plane = Plane::start(script);
    let ran = plane.run(["apply", &policy, "--yes", "--wait"]).exits(0);
    assert!(ran.out.ends_with("3 of 3 nodes serve revision 87, 640 ms\n"), "{ran:#?}");
    assert_eq!(plane.seen::<AwaitAssignmentRequest>().len(), 3);
}

#[test]
fn whoever_stops_waiting_is_told_that_it_is_applied() {
    let (_folder, policy) = copied();
    let progress = answered(Verdict::Unspecified, vec![region("", 3, 2, 0)], Vec::new());
    let plane = Plane::start(Script { await_assignment: stream_on(vec![progress]), ..served() });
    let mut command = plane.command(["apply", &policy, "--yes", "--wait"]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    until("it waits", || plane.seen::<AwaitAssignmentRequest>().pop());
    let sent = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    let code = until("it ends", || child.try_wait().unwrap());
    let mut err = String::new();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    assert_eq!(code.code(), Some(130), "{err}");
    assert!(err.contains("it is assigned") && err.contains("switchtower watch -e dev"), "{err}");
}

#[test]
fn what_others_applied_meanwhile_is_shown_and_not_taken_back() {
    let (_folder, policy) = copied();
    let script = Script {
        apply: Some(Box::new(|request: &ApplyRequest| match request.validate_only {
            true => Ok(applied(87, 0)),
            false => Err(refusal(Code::Aborted, "HEAD_MOVED", &[("assigned", "87"), ("head", "87")])),
        })),
        diff_revisions: always(DiffRevisionsResponse { diff: Some(a_diff()) }),
        ..served()
    };
    let plane = Plane::start(script);
    let ran = plane.run(["apply", &policy, "--yes"]).exits(3);
    let expected = "\
error: others have assigned revision 87 of `dev` since revision 86 was looked at
  + route chat: added
  ~ route chat: tier 1 is nova, was sonnet
  reason HEAD_MOVED
next: take what they changed into your files (`switchtower pull` writes what is assigned), and apply them again
";
    assert_eq!(ran.err, expected);
    let error = plane.run(["apply", &policy, "--yes", "--output", "json"]).exits(3).error();
    assert_eq!((&error["reason"], &error["exit_code"]), (&json!("HEAD_MOVED"), &json!(3)));
    assert_eq!(error["details"].as_array().unwrap().len(), 2);
}

#[test]
fn what_is_wrong_is_told_with_its_place_before_anything_is_sent() {
    let (_folder, policy) = copied();
    edit(&Path::new(&policy).join("routes.yaml"), "    tiers: [nova-lite]", "    tiers: [nova-lit]");
    let plane = Plane::start(served());
    let ran = plane.run(["apply", &policy, "--yes"]).exits(65);
    assert!(
        ran.out.contains("routes.yaml:") && ran.out.contains("error[unknown_model] routes.quick.tiers[0]"),
        "{ran:#?}"
    );
    assert!(ran.err.contains("1 error"), "{ran:#?}");
    let error = plane.run(["apply", &policy, "--yes", "--output", "json"]).exits(65).error();
    assert!(error["details"][0].as_str().unwrap().contains("routes.yaml:"), "{error:#}");
    assert!(plane.seen::<ApplyRequest>().is_empty());
}

#[test]
fn what_only_the_control_plane_finds_has_its_place_too() {
    let (_folder, policy) = copied();
    let mut details = ErrorDetails::with_error_info("POLICY_INVALID", "switchtower", std::collections::HashMap::new());
    let mut wrong = FieldViolation::new("routes.quick.tiers[0]", "this control plane has no such thing");
    wrong.reason = "unknown_member".to_owned();
    details.set_bad_request(vec![wrong]);
    let status = Status::with_error_details(Code::InvalidArgument, "the policy is refused", details);
    let plane = Plane::start(Script { apply: refuse(status), ..served() });
    let text = std::fs::read_to_string(Path::new(&policy).join("routes.yaml")).unwrap();
    let line = 1 + text.lines().position(|line| line == "    tiers: [nova-lite]").unwrap();
    let ran = plane.run(["apply", &policy, "--yes"]).exits(65);
    let expected =
        format!("routes.yaml:{line}:13: error[unknown_member] routes.quick.tiers[0]: this control plane has");
    assert!(ran.out.contains(&expected), "{ran:#?}");
    assert!(ran.err.starts_with("error: the policy is refused\n"), "{ran:#?}");
    let error = plane.run(["apply", &policy, "--yes", "--output", "json"]).exits(65).error();
    assert!(error["details"][0].as_str().unwrap().contains(&expected), "{error:#}");
}

#[test]
fn nothing_is_applied_where_nothing_differs() {
    let (_folder, policy) = copied();
    let unchanged = ApplyResponse {
        unchanged: true,
        revision: Some(revision("dev", 86)),
        diff: Some(Diff::default()),
        ..applied(86, 0)
    };
    let plane = Plane::start(Script { apply: always(unchanged), ..served() });
    let ran = plane.run(["apply", &policy, "--yes", "--wait"]).exits(0);
    assert!(ran.out.starts_with("nothing differs from revision 86 of `dev`\n412 of 412"), "{ran:#?}");
    assert_eq!(plane.seen::<ApplyRequest>().len(), 1);
    // The present one, whatever its number is.
    assert_eq!(plane.seen::<AwaitAssignmentRequest>()[0].assignment, 0);
    let document = plane.run(["apply", &policy, "--yes", "--output", "json"]).exits(0).json();
    assert_eq!((&document["unchanged"], &document["assignment"]), (&json!(true), &json!(null)));
}

#[test]
fn validating_makes_nothing_and_asks_nobody() {
    let (_folder, policy) = copied();
    let warning = Violation {
        code: "not_executed".to_owned(),
        path: "routes.quick".to_owned(),
        message: "it is stored only".to_owned(),
    };
    let plane =
        Plane::start(Script { apply: always(ApplyResponse { warnings: vec![warning], ..applied(87, 0) }), ..served() });
    let ran = plane.run(["apply", &policy, "--validate-only"]).exits(0);
    assert!(ran.out.ends_with("valid: it would be revision 87 of `dev`\n"), "{ran:#?}");
    assert!(ran.out.contains("warning[not_executed] routes.quick: it is stored only"), "{ran:#?}");
    assert!(plane.seen::<ApplyRequest>().iter().all(|request| request.validate_only));
    let document = plane.run(["apply", &policy, "--validate-only", "--output", "json"]).exits(0).json();
    assert_eq!((&document["validate_only"], &document["warnings"][0]["code"]), (&json!(true), &json!("not_executed")));
}

#[test]
fn a_policy_goes_to_no_environment_but_its_own() {
    let (_folder, policy) = copied();
    let plane = Plane::start(served());
    let ran = plane.run(["apply", &policy, "--yes", "-e", "prod"]).exits(65);
    assert!(ran.err.contains("`dev`") && ran.err.contains("`prod`") && ran.err.contains("promote"), "{ran:#?}");
    assert!(plane.seen::<ApplyRequest>().is_empty());
}

#[test]
fn other_refusals_say_what_to_do_next() {
    let (_folder, policy) = copied();
    let check = |status: Status, code: i32, says: &[&str]| {
        let plane = Plane::start(Script { apply: refuse(status), ..served() });
        let ran = plane.run(["apply", &policy, "--yes"]).exits(code);
        assert!(says.iter().all(|says| ran.err.contains(says)), "{ran:#?}");
    };
    check(refusal(Code::FailedPrecondition, "ROLLED_BACK", &[]), 3, &["--again", "switchtower history"]);
    let metadata = [("nodes", "node-a, node-b"), ("members", "Route.shadow")];
    let says = ["node-a, node-b", "Route.shadow", "update these nodes"];
    check(refusal(Code::FailedPrecondition, "NODES_CANNOT_READ", &metadata), 4, &says);
    check(refusal(Code::Unauthenticated, "NO_TOKEN", &[]), 77, &["check the token"]);
    check(Status::internal("oh"), 1, &["oh"]);
}

#[test]
fn an_answer_that_was_lost_may_have_been_one() {
    let (_folder, policy) = copied();
    let script = Script {
        apply: Some(Box::new(|request: &ApplyRequest| match request.validate_only {
            true => Ok(applied(87, 0)),
            false => Err(Status::unavailable("the connection went away")),
        })),
        ..served()
    };
    let ran = Plane::start(script).run(["apply", &policy, "--yes"]).exits(69);
    assert!(ran.err.contains("it may have been done"), "{ran:#?}");
}
