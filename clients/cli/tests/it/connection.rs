//! How any command reaches the control plane, and as whom.

use switchtower_proto::control::v1::{ListRevisionsRequest, ListRevisionsResponse};
use tonic::Code;

use crate::{
    plane::{Plane, Script, TOKEN, always, refusal, refuse},
    support::{Ran, run},
};

fn script() -> Script {
    Script { list_revisions: always(ListRevisionsResponse::default()), ..Script::default() }
}

#[test]
fn a_token_comes_from_a_file_or_the_environment() {
    let plane = Plane::start(script());
    plane.run(["history", "-e", "prod"]).exits(0);
    assert_eq!(plane.header("authorization"), format!("Bearer {TOKEN}"));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "swo_other\n").unwrap();
    plane.run(["history", "-e", "prod", "--token-file", file.to_str().unwrap()]).exits(0);
    assert_eq!(plane.header("authorization"), "Bearer swo_other");
    assert!(plane.header("user-agent").starts_with("switchtower-cli/"));
    assert!(!plane.header("grpc-timeout").is_empty());
    std::fs::write(&file, "\n").unwrap();
    let ran = plane.run(["history", "-e", "prod", "--token-file", file.to_str().unwrap()]).exits(64);
    assert!(ran.err.contains("empty"), "{ran:#?}");
    plane.run(["history", "-e", "prod", "--token-file", "/does/not/exist"]).exits(74);
    assert_eq!(plane.seen::<ListRevisionsRequest>().len(), 2);
}

#[test]
fn a_trace_goes_on_in_the_control_plane() {
    let plane = Plane::start(script());
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let ran = Ran::of(plane.command(["history", "-e", "prod"]).env("TRACEPARENT", trace).output().unwrap());
    ran.exits(0);
    assert_eq!(plane.header("traceparent"), trace);
}

#[test]
fn without_a_token_it_is_said_how_to_give_one() {
    let plane = Plane::start(Script {
        list_revisions: refuse(refusal(Code::Unauthenticated, "NO_TOKEN", &[])),
        ..Script::default()
    });
    let url = plane.url();
    let ran = run(["history", "-e", "prod", "--control-plane", &url]).exits(77);
    assert!(ran.err.contains("--token-file FILE"), "{ran:#?}");
    assert_eq!(plane.header("authorization"), "");
    let error = run(["history", "-e", "prod", "--control-plane", &url, "--output", "json"]).exits(77).error();
    assert_eq!(error["reason"], "NO_TOKEN");
}

#[test]
fn where_nobody_answers_it_is_said_where_that_is() {
    let ran = run(["status", "-e", "prod", "--control-plane", "http://127.0.0.1:1"]).exits(69);
    assert!(ran.err.contains("http://127.0.0.1:1") && ran.err.contains("refused"), "{ran:#?}");
    assert!(ran.err.contains("SWITCHTOWER_CONTROL_PLANE"), "{ran:#?}");
    run(["status", "-e", "prod", "--control-plane", "nonsense"]).exits(64);
}
