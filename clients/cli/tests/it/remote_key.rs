//! Keys of the control plane.

use serde_json::json;
use switchtower_proto::control::v1::{
    IssueKeyRequest, IssueKeyResponse, Key, KeySecrets, ListKeysRequest, ListKeysResponse, RevokeKeyRequest,
    RevokeKeyResponse, RotateKeyRequest, RotateKeyResponse,
};
use tonic::Code;

use crate::{
    plane::{Plane, Script, always, refusal, refuse},
    scene::TEN,
};

fn key(id: &str) -> Key {
    Key {
        id: id.to_owned(),
        environment: "prod".to_owned(),
        caller: "web".to_owned(),
        created_at: Some(TEN),
        pepper: "p1".to_owned(),
        ..Key::default()
    }
}

fn secrets() -> KeySecrets {
    KeySecrets {
        bearer: "swt_the-bearer".to_owned(),
        access_key_id: "SWTKAAAA".to_owned(),
        secret_access_key: "the-secret".to_owned(),
    }
}

fn plane() -> Plane {
    let (key, mut old) = (key("AAAAAAAAAAAAAAAA"), key("BBBBBBBBBBBBBBBB"));
    old.replaced_by = key.id.clone();
    old.expires_at = Some(prost_types::Timestamp { seconds: 32_503_680_000, nanos: 0 });
    let mut revoked = self::key("CCCCCCCCCCCCCCCC");
    revoked.revoked_at = Some(TEN);
    Plane::start(Script {
        issue_key: always(IssueKeyResponse { key: Some(key.clone()), secrets: Some(secrets()) }),
        rotate_key: always(RotateKeyResponse {
            key: Some(key.clone()),
            secrets: Some(secrets()),
            replaced: Some(old.clone()),
        }),
        revoke_key: always(RevokeKeyResponse { key: Some(revoked.clone()) }),
        list_keys: Some(Box::new(move |request: &ListKeysRequest| {
            Ok(match request.after.as_str() {
                "" => ListKeysResponse { keys: vec![key.clone(), old.clone()], more: true },
                after => {
                    assert_eq!(after, old.id);
                    ListKeysResponse { keys: vec![revoked.clone()], more: false }
                }
            })
        })),
        ..Script::default()
    })
}

#[test]
fn a_new_key_is_shown_once_and_how_to_use_it() {
    let plane = plane();
    let ran = plane.run(["key", "new", "-e", "prod", "--caller", "web", "--expires", "30d"]).exits(0);
    let expected = "\
key AAAAAAAAAAAAAAAA for caller `web` in `prod`

bearer key             swt_the-bearer
AWS access key id      SWTKAAAA
AWS secret access key  the-secret
";
    assert_eq!(ran.out, expected);
    assert!(ran.err.contains("shown this once") && ran.err.contains("SWITCHTOWER_API_KEY"), "{ran:#?}");
    assert!(!ran.err.contains("the-bearer"), "{ran:#?}");
    let request = &plane.seen::<IssueKeyRequest>()[0];
    assert_eq!((request.caller.as_str(), request.expires_after.unwrap().seconds), ("web", 2_592_000));
    let document = plane.run(["key", "new", "-e", "prod", "--caller", "web", "--output", "json"]).exits(0).json();
    assert_eq!((&document["api_key"], &document["expires"]), (&json!("swt_the-bearer"), &json!(null)));
}

#[test]
fn keys_are_listed_with_what_becomes_of_them() {
    let plane = plane();
    let ran = plane.run(["key", "list", "-e", "prod", "--caller", "web"]).exits(0);
    let expected = "\
ID                CALLER  STATE    MADE                  ENDS
AAAAAAAAAAAAAAAA  web     live     2026-11-23T10:00:00Z  never
BBBBBBBBBBBBBBBB  web     ending   2026-11-23T10:00:00Z  3000-01-01T00:00:00Z  now AAAAAAAAAAAAAAAA
CCCCCCCCCCCCCCCC  web     revoked  2026-11-23T10:00:00Z  2026-11-23T10:00:00Z
";
    assert_eq!(ran.out, expected);
    assert_eq!(plane.seen::<ListKeysRequest>()[0].caller, "web");
    let document = plane.run(["key", "list", "-e", "prod", "--output", "json"]).exits(0).json();
    assert_eq!((&document[1]["state"], &document[1]["replaced_by"]), (&json!("ending"), &json!("AAAAAAAAAAAAAAAA")));
}

#[test]
fn a_key_is_rotated_with_an_overlap_and_revoked_without() {
    let plane = plane();
    let rotate = ["key", "rotate", "BBBBBBBBBBBBBBBB", "-e", "prod"];
    let ran = plane.run(rotate).exits(0);
    assert!(ran.out.contains("swt_the-bearer") && ran.err.contains("until 3000-01-01T00:00:00Z"), "{ran:#?}");
    plane.run(rotate.iter().chain(&["--overlap", "0s"])).exits(0);
    let requests = plane.seen::<RotateKeyRequest>();
    let overlaps: Vec<i64> = requests.iter().map(|request| request.overlap.unwrap().seconds).collect();
    assert_eq!(overlaps, [86_400, 0]);
    let document = plane.run(rotate.iter().chain(&["--output", "json"])).exits(0).json();
    assert_eq!(document["replaced"]["id"], "BBBBBBBBBBBBBBBB");

    let ran = plane.run(["key", "revoke", "CCCCCCCCCCCCCCCC", "-e", "prod"]).exits(0);
    assert!(ran.out.starts_with("revoked CCCCCCCCCCCCCCCC of caller `web`"), "{ran:#?}");
    assert_eq!(plane.seen::<RevokeKeyRequest>()[0].id, "CCCCCCCCCCCCCCCC");
}

#[test]
fn refusals_of_keys_say_what_to_do_next() {
    let check = |code: Code, reason: &str, exit: i32, says: &str| {
        let plane = Plane::start(Script { rotate_key: refuse(refusal(code, reason, &[])), ..Script::default() });
        let ran = plane.run(["key", "rotate", "AAAAAAAAAAAAAAAA", "-e", "prod"]).exits(exit);
        assert!(ran.err.contains(says), "{ran:#?}");
    };
    check(Code::NotFound, "NO_KEY", 65, "switchtower key list");
    check(Code::FailedPrecondition, "NOT_LIVE", 3, "switchtower key new");
    check(Code::FailedPrecondition, "ROTATING", 3, "switchtower key list");
    check(Code::InvalidArgument, "KEY_INVALID", 64, "--expires");
}

#[test]
fn a_keys_file_is_not_asked_of_the_control_plane() {
    let plane = plane();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.yaml");
    plane.run(["key", "new", "--caller", "web", "--file", file.to_str().unwrap()]).exits(0);
    assert!(file.exists() && plane.seen::<IssueKeyRequest>().is_empty());
}
