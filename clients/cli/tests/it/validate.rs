use std::path::Path;

use tempfile::TempDir;

use crate::support::{edit, example, run};

fn copied() -> (TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let policy = example(folder.path());
    let policy = policy.to_str().unwrap().to_owned();
    (folder, policy)
}

#[test]
fn a_good_policy_is_told_in_one_line() {
    let (_folder, policy) = copied();
    let ran = run(["validate", &policy]).exits(0);
    assert!(ran.out.starts_with("valid: `dev`, revision "), "{ran:#?}");
    assert!(ran.out.ends_with(": 2 routes, 4 targets, 1 flag, 1 caller in 2 files\n"), "{ran:#?}");
    assert_eq!(ran.err, "");
    assert_eq!(run(["validate", &policy, "--output", "json"]).exits(0).json(), serde_json::json!([]));
}

#[test]
fn the_files_of_a_policy_may_be_named_one_by_one() {
    let (_folder, policy) = copied();
    let (models, routes) = (format!("{policy}/models.yaml"), format!("{policy}/routes.yaml"));
    let ran = run(["validate", &models, &routes]).exits(0);
    assert!(ran.out.contains("in 2 files"), "{ran:#?}");
    run(["validate", &routes]).exits(65);
}

#[test]
fn everything_that_is_wrong_is_told_at_once_with_its_place() {
    let (_folder, policy) = copied();
    let routes = Path::new(&policy).join("routes.yaml");
    edit(&routes, "    tiers: [nova-lite]", "    tiers: [nova-lit]");
    edit(&routes, "total: 120s", "totl: 120s");
    let text = std::fs::read_to_string(&routes).unwrap();
    let line = |of: &str| 1 + text.lines().position(|line| line.contains(of)).unwrap();
    let column = |of: &str| 1 + text.lines().find_map(|line| line.find(of)).unwrap();
    let ran = run(["validate", &policy]).exits(65);
    let file = routes.display();
    let expected =
        format!("{file}:{}:{}: error[unknown_field] routes.support-chat.timeouts.totl: ", line("totl"), column("totl"));
    let told: Vec<&str> = ran.out.lines().collect();
    assert_eq!(told.len(), 2, "{ran:#?}");
    assert!(told[0].starts_with(&expected) && told[0].ends_with("did you mean `total`?"), "{ran:#?}");
    let expected =
        format!("{file}:{}:{}: error[unknown_model] routes.quick.tiers[0]: ", line("[nova-lit]"), column("nova-lit]"));
    assert!(told[1].starts_with(&expected) && told[1].ends_with("did you mean `nova-lite`?"), "{ran:#?}");
    assert_eq!(ran.err, "2 errors, 0 warnings\n");

    let document = run(["validate", &policy, "--output", "json"]).exits(65).json();
    assert_eq!(document.as_array().unwrap().len(), 2);
    assert_eq!(document[1]["code"], "unknown_model");
    assert_eq!(document[1]["severity"], "error");
    assert_eq!(document[1]["path"], "routes.quick.tiers[0]");
    assert_eq!(document[1]["file"], routes.to_str().unwrap());
    assert_eq!(document[1]["line"], line("[nova-lit]"));
    assert_eq!(document[1]["suggestion"], "nova-lite");
}

#[test]
fn warnings_refuse_nothing_unless_they_are_to() {
    let (_folder, policy) = copied();
    // A section that is stored and not executed yet.
    std::fs::write(Path::new(&policy).join("rollout.yaml"), "environment: dev\nrollout: { stages: [10%] }\n").unwrap();
    let ran = run(["validate", &policy]).exits(0);
    assert!(ran.out.contains("warning[not_executed]") && ran.out.contains("valid: `dev`"), "{ran:#?}");
    assert_eq!(ran.err, "0 errors, 1 warning\n");
    let ran = run(["validate", "--strict", &policy]).exits(65);
    assert!(ran.out.contains("error[not_executed]") && !ran.out.contains("valid: `dev`"), "{ran:#?}");
}

#[test]
fn what_cannot_be_read_is_an_io_error_that_says_what_to_do() {
    let ran = run(["validate", "/does/not/exist.yaml"]).exits(74);
    assert!(ran.err.contains("/does/not/exist.yaml") && ran.err.contains("next: "), "{ran:#?}");
    let error = run(["validate", "/does/not/exist.yaml", "--output", "json"]).exits(74).error();
    assert_eq!(error["exit_code"], 74);
    let empty = tempfile::tempdir().unwrap();
    run(["validate", empty.path().to_str().unwrap()]).exits(74);
}
