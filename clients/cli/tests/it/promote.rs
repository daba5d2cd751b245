//! Revisions of elsewhere and of earlier.

use serde_json::json;
use switchtower_proto::control::v1::{
    ApplyResponse, AwaitAssignmentRequest, PromoteRequest, PromoteResponse, RollbackRequest, RollbackResponse,
    await_assignment_response::Verdict,
};
use tonic::Code;

use crate::{
    plane::{Plane, Script, always, refusal, refuse, stream},
    scene::{a_diff, answered, applied, region, revision, serving},
};

fn promoting() -> Script {
    let applied = ApplyResponse { revision: Some(revision("prod", 7)), ..applied(7, 91) };
    Script {
        promote: always(PromoteResponse { applied: Some(applied), number: 12 }),
        list_environments: always(serving("prod", 5)),
        await_assignment: stream(vec![answered(Verdict::Served, vec![region("", 1, 1, 0)], Vec::new())]),
        ..Script::default()
    }
}

#[test]
fn what_is_promoted_is_what_was_shown() {
    let plane = Plane::start(promoting());
    let ran = plane.run(["promote", "dev", "prod", "--yes", "--wait"]).exits(0);
    let expected = "\
+ route chat: added
~ route chat: tier 1 is nova, was sonnet
revision 7 of `prod` is revision 12 of `dev`
1 of 1 node serve revision 87, 640 ms
";
    assert_eq!(ran.out, expected);
    let [would, does] = <[PromoteRequest; 2]>::try_from(plane.seen::<PromoteRequest>()).unwrap();
    assert!(would.validate_only && would.number == 0 && would.parent == Some(5));
    // What was compared, whatever is assigned by now.
    assert!(!does.validate_only && does.number == 12 && does.parent == Some(5));
    assert_eq!(plane.seen::<AwaitAssignmentRequest>()[0].environment, "prod");
    let document = plane.run(["promote", "dev", "prod", "--yes", "--output", "json"]).exits(0).json();
    assert_eq!((&document["promoted_from"], &document["assignment"]), (&json!("dev/12"), &json!(91)));
    plane.run(["promote", "dev", "prod", "--validate-only", "--number", "3"]).exits(0);
    assert_eq!(plane.seen::<PromoteRequest>().last().unwrap().number, 3);
}

#[test]
fn a_promotion_that_others_were_faster_than_says_so() {
    let script = Script {
        promote: Some(Box::new(|request: &PromoteRequest| match request.validate_only {
            true => Ok(PromoteResponse { applied: Some(applied(7, 0)), number: 12 }),
            false => Err(refusal(Code::Aborted, "HEAD_MOVED", &[("assigned", "9"), ("head", "9")])),
        })),
        ..promoting()
    };
    let ran = Plane::start(script).run(["promote", "dev", "prod", "--yes"]).exits(3);
    assert!(ran.err.contains("revision 9 of `prod`"), "{ran:#?}");
}

#[test]
fn a_rollback_goes_to_the_revision_that_was_shown() {
    let back =
        RollbackResponse { revision: Some(revision("prod", 86)), assignment: 92, from: 87, diff: Some(a_diff()) };
    let plane = Plane::start(Script { rollback: always(back), ..promoting() });
    let ran = plane.run(["rollback", "-e", "prod", "--yes", "-m", "too slow"]).exits(0);
    assert!(ran.out.ends_with("\nrevision 86 of `prod` is assigned, after 87\n"), "{ran:#?}");
    let requests = plane.seen::<RollbackRequest>();
    assert_eq!((requests[0].number, requests[0].validate_only), (0, true));
    assert_eq!((requests[1].number, requests[1].validate_only, requests[1].message.as_str()), (86, false, "too slow"));
    assert_eq!((requests[0].from, requests[1].from), (None, Some(87)));
    let document = plane.run(["rollback", "86", "-e", "prod", "--yes", "--wait", "--output", "json"]).exits(0).json();
    assert_eq!((&document["from"], &document["assignment"]), (&json!(87), &json!(92)));
    assert_eq!(document["waited"]["verdict"], "served");
    let ran = plane.run(["rollback", "-e", "prod", "--validate-only"]).exits(0);
    assert!(ran.out.ends_with("possible: `prod` would go from revision 87 to 86\n"), "{ran:#?}");
}

#[test]
fn where_there_is_nothing_to_go_back_to_it_is_said() {
    let status = refusal(Code::FailedPrecondition, "NOTHING_TO_ROLL_BACK", &[]);
    let plane = Plane::start(Script { rollback: refuse(status), ..Script::default() });
    assert!(plane.run(["rollback", "-e", "prod", "--yes"]).exits(3).err.contains("switchtower history"));
}
