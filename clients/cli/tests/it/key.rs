use std::{os::unix::fs::PermissionsExt, path::Path, process::Stdio};

use crate::support::{Ran, command, run};

fn key(folder: &Path, args: &[&str]) -> Ran {
    let file = folder.join("keys.yaml");
    let (command, rest) = args.split_first().unwrap();
    let begin = ["key", command, "--file", file.to_str().unwrap()];
    run(begin.iter().chain(rest))
}

#[test]
fn a_new_key_is_shown_once_and_its_files_are_their_owners() {
    let folder = tempfile::tempdir().unwrap();
    let ran = key(folder.path(), &["new", "--caller", "web"]).exits(0);
    assert!(ran.err.contains("shown this once"), "{ran:#?}");
    let value = |label: &str| {
        let line = ran.out.lines().find(|line| line.starts_with(label)).unwrap();
        line.split_whitespace().last().unwrap().to_owned()
    };
    let (bearer, id, secret) = (value("bearer key"), value("AWS access key id"), value("AWS secret access key"));
    assert_eq!((bearer.len(), id.len(), secret.len()), (53, 20, 40));
    for name in ["keys.yaml", "pepper.yaml"] {
        let path = folder.path().join(name);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600, "{name}");
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.contains(&bearer[21..]) && !text.contains(&secret), "{name}");
    }
}

#[test]
fn keys_are_listed_without_their_secrets_and_revoked_by_their_ids() {
    let folder = tempfile::tempdir().unwrap();
    let web = key(folder.path(), &["new", "--caller", "web", "--output", "json"]).exits(0).json();
    let batch = ["new", "--caller", "batch", "--expires", "30d", "--output", "json"];
    let batch = key(folder.path(), &batch).exits(0).json();
    let ran = key(folder.path(), &["list"]).exits(0);
    for (made, caller) in [(&web, "web"), (&batch, "batch")] {
        let line = ran.out.lines().find(|line| line.starts_with(made["id"].as_str().unwrap())).unwrap();
        assert!(line.contains(caller) && line.contains("live"), "{line}");
        assert!(!ran.out.contains(&made["api_key"].as_str().unwrap()[21..]), "{ran:#?}");
    }
    key(folder.path(), &["revoke", web["id"].as_str().unwrap()]).exits(0);
    let list = key(folder.path(), &["list", "--output", "json"]).exits(0).json();
    assert_eq!((&list[0]["state"], &list[1]["state"]), (&"revoked".into(), &"live".into()));
    assert!(list[1]["expires"].is_string() && list[0]["expires"].is_null());
    let ran = key(folder.path(), &["revoke", "AAAAAAAAAAAAAAAA"]).exits(65);
    assert!(ran.err.contains("switchtower key list"), "{ran:#?}");
}

#[test]
fn the_pepper_rotates_as_long_as_no_live_key_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let first = key(folder.path(), &["new", "--caller", "web", "--output", "json"]).exits(0).json();
    key(folder.path(), &["rotate-pepper"]).exits(0);
    key(folder.path(), &["new", "--caller", "web"]).exits(0);
    // The first key hangs on the generation that would go.
    let ran = key(folder.path(), &["rotate-pepper"]).exits(65);
    assert!(ran.err.contains(first["id"].as_str().unwrap()), "{ran:#?}");
    key(folder.path(), &["revoke", first["id"].as_str().unwrap()]).exits(0);
    key(folder.path(), &["rotate-pepper"]).exits(0);
}

#[test]
fn what_would_leave_keys_unusable_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    assert!(key(folder.path(), &["new", "--caller", "no name"]).exits(64).err.contains("--caller"));
    assert!(key(folder.path(), &["list"]).exits(74).err.contains("switchtower key new"));
    assert!(!folder.path().join("pepper.yaml").exists());
    key(folder.path(), &["new", "--caller", "web"]).exits(0);
    std::fs::remove_file(folder.path().join("pepper.yaml")).unwrap();
    let ran = key(folder.path(), &["new", "--caller", "web"]).exits(74);
    assert!(ran.err.contains("--pepper"), "{ran:#?}");
    std::fs::write(folder.path().join("keys.yaml"), "{}").unwrap();
    let error = key(folder.path(), &["list", "--output", "json"]).exits(65).error();
    assert_eq!(error["details"][0], "keys: missing");
}

#[test]
fn keys_made_at_the_same_time_are_all_kept() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.yaml");
    let new = ["key", "new", "--caller", "web", "--output", "json", "--file", file.to_str().unwrap()];
    let running: Vec<_> = (0..20).map(|_| command(new).stdout(Stdio::piped()).spawn().unwrap()).collect();
    let made: Vec<String> = running
        .into_iter()
        .map(|child| {
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success());
            let made: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
            made["id"].as_str().unwrap().to_owned()
        })
        .collect();
    let list = key(folder.path(), &["list", "--output", "json"]).exits(0).json();
    let list = list.as_array().unwrap();
    assert_eq!(list.len(), 20);
    assert!(made.iter().all(|id| list.iter().any(|key| key["id"] == **id && key["pepper"] == list[0]["pepper"])));
    // Revoking some while others are made loses neither.
    let revoke = made.iter().map(|id| command(["key", "revoke", id, "--file", file.to_str().unwrap()]));
    let running: Vec<_> = revoke
        .chain((0..5).map(|_| command(new)))
        .map(|mut command| command.stdout(Stdio::null()).spawn().unwrap())
        .collect();
    running.into_iter().for_each(|mut child| assert!(child.wait().unwrap().success()));
    let list = key(folder.path(), &["list", "--output", "json"]).exits(0).json();
    let count = |state: &str| list.as_array().unwrap().iter().filter(|key| key["state"] == state).count();
    assert_eq!((count("revoked"), count("live")), (20, 5));
}

#[test]
fn an_expiry_that_no_file_can_hold_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for expires in ["99999999999d", "213503982334d", "3000000d", "18446744073709551615ms"] {
        let ran = key(folder.path(), &["new", "--caller", "web", "--expires", expires]).exits(64);
        assert!(ran.err.contains("--expires") && !ran.err.contains("panicked"), "{ran:#?}");
    }
    assert!(!folder.path().join("keys.yaml").exists());
}
