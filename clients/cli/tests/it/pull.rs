use std::{collections::BTreeMap, path::Path};

use serde_json::json;
use switchtower_policy::items;
use switchtower_proto::{
    control::v1::{GetRevisionRequest, GetRevisionResponse},
    policy::v1::{Item, Policy},
};
use tonic::Code;

use crate::{
    plane::{Plane, Script, always, refusal},
    scene::{apply, content, policy, revision, serving},
    support::{edit, example},
};

/// The example without its flag and what hangs on it.
fn without_flags() -> Vec<Item> {
    let mut policy: Policy = policy();
    policy.flags.clear();
    policy.routes.values_mut().for_each(|route| route.rules.clear());
    items::items(&policy)
}

/// With revision 85, and 86, which is assigned.
fn plane() -> Plane {
    Plane::start(Script {
        apply: Some(Box::new(|request| Ok(apply(request, &content())))),
        list_environments: always(serving("dev", 86)),
        get_revision: Some(Box::new(|request: &GetRevisionRequest| {
            let answer = |number, items| Ok(GetRevisionResponse { revision: Some(revision("dev", number)), items });
            match request.number {
                85 => answer(85, without_flags()),
                86 => answer(86, content()),
                _ => Err(refusal(Code::NotFound, "NO_REVISION", &[])),
            }
        })),
        ..Script::default()
    })
}

fn files(folder: &Path) -> BTreeMap<String, String> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read_to_string(path).unwrap()))
        .collect()
}

#[test]
fn what_is_pulled_is_applied_unchanged() {
    let plane = plane();
    let folder = tempfile::tempdir().unwrap();
    for name in ["policy", "all.yaml"] {
        let path = folder.path().join(name);
        let path = path.to_str().unwrap();
        let ran = plane.run(["pull", path, "-e", "dev"]).exits(0);
        assert!(ran.out.starts_with("revision 86 of `dev` is in "), "{ran:#?}");
        let ran = plane.run(["apply", path, "--yes"]).exits(0);
        assert_eq!(ran.out, "nothing differs from revision 86 of `dev`\n");
    }
    let names: Vec<String> = files(&folder.path().join("policy")).into_keys().collect();
    assert_eq!(names, ["callers.yaml", "flags.yaml", "guardrails.yaml", "models.yaml", "routes.yaml", "settings.yaml"]);
}

#[test]
fn files_that_say_the_same_are_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = example(folder.path());
    let before = files(&path);
    let ran = plane().run(["pull", path.to_str().unwrap(), "-e", "dev", "--output", "json"]).exits(0);
    assert_eq!((&ran.json()["unchanged"], &ran.json()["revision"]), (&json!(true), &json!(86)));
    assert_eq!(files(&path), before);
}

#[test]
fn files_that_nobody_edited_follow_what_is_assigned() {
    let plane = plane();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policy");
    let path = path.to_str().unwrap();
    plane.run(["pull", path, "-e", "dev"]).exits(0);
    plane.run(["pull", path, "-e", "dev", "--number", "85"]).exits(0);
    // What the older revision does not have is gone.
    assert!(!files(Path::new(path)).contains_key("flags.yaml"));
    plane.run(["pull", path, "-e", "dev"]).exits(0);
    assert!(files(Path::new(path)).contains_key("flags.yaml"));
}

#[test]
fn what_people_wrote_is_overwritten_only_by_force() {
    let plane = plane();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policy");
    let (routes, path) = (path.join("routes.yaml"), path.to_str().unwrap());
    plane.run(["pull", path, "-e", "dev"]).exits(0);
    edit(&routes, "max_output_tokens: 4096", "max_output_tokens: 1000");
    let before = files(Path::new(path));
    let ran = plane.run(["pull", path, "-e", "dev"]).exits(3);
    assert!(ran.err.contains("routes.yaml") && ran.err.contains("--force"), "{ran:#?}");
    assert_eq!(files(Path::new(path)), before);
    plane.run(["pull", path, "-e", "dev", "--force"]).exits(0);
    assert!(std::fs::read_to_string(&routes).unwrap().contains("max_output_tokens: 4096"));
}

#[test]
fn other_policy_files_are_never_overwritten_or_added_to() {
    let folder = tempfile::tempdir().unwrap();
    let other = folder.path().join("mine.yml");
    std::fs::write(&other, "environment: dev\n").unwrap();
    for force in [None, Some("--force")] {
        let args = ["pull", folder.path().to_str().unwrap(), "-e", "dev"].into_iter().chain(force);
        let ran = plane().run(args).exits(3);
        assert!(ran.err.contains("mine.yml"), "{ran:#?}");
        assert_eq!(files(folder.path()).len(), 1);
    }
}
