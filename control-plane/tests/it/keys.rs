//! The life of keys, and that their secrets are in one answer and nowhere else.

use std::{
    io::Write,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use prost::Message;
use switchtower_control_plane::keys::{Act, Refused};
use switchtower_keys::{KEY_RANDOM_BYTES, Pepper, hashed};
use switchtower_proto::control::v1::{
    IssueKeyRequest, IssueKeyResponse, Key, ListKeysRequest, ListKeysResponse, RevokeKeyRequest, RotateKeyRequest,
    RotateKeyResponse,
};
use tonic::{Code, Status};

use crate::support::{PEPPER, Plane, fields, reason};

fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

fn prod() -> String {
    "prod".to_owned()
}

impl Plane {
    async fn issue(
        &self,
        caller: &str,
        expires_after: Option<prost_types::Duration>,
    ) -> Result<IssueKeyResponse, Status> {
        let request = IssueKeyRequest { environment: prod(), caller: caller.to_owned(), expires_after };
        Ok(self.key_client().issue_key(request).await?.into_inner())
    }

    async fn issued(&self, caller: &str) -> Key {
        self.issue(caller, None).await.unwrap().key.unwrap()
    }

    async fn rotate(&self, id: &str, overlap: Option<prost_types::Duration>) -> Result<RotateKeyResponse, Status> {
        let request = RotateKeyRequest { environment: prod(), id: id.to_owned(), overlap, expires_after: None };
        Ok(self.key_client().rotate_key(request).await?.into_inner())
    }

    async fn revoke(&self, id: &str) -> Result<Key, Status> {
        let request = RevokeKeyRequest { environment: prod(), id: id.to_owned() };
        Ok(self.key_client().revoke_key(request).await?.into_inner().key.unwrap())
    }

    async fn list(&self, caller: &str, after: &str, page_size: u32) -> Result<ListKeysResponse, Status> {
        let (caller, after) = (caller.to_owned(), after.to_owned());
        let request = ListKeysRequest { environment: prod(), caller, after, page_size };
        Ok(self.key_client().list_keys(request).await?.into_inner())
    }

    fn kinds(&self) -> Vec<String> {
        self.events.follow().0.iter().map(|event| event.kind.clone()).collect()
    }
}

fn refused(status: &Status, code: Code, expected: &str) {
    assert_eq!((status.code(), reason(status).as_str()), (code, expected), "{status:?}");
}

#[tokio::test]
async fn an_issued_key_is_one_that_nodes_can_check() {
    let plane = Plane::new().await;
    let issued = plane.issue("web", seconds(3600)).await.unwrap();
    let (key, secrets) = (issued.key.unwrap(), issued.secrets.unwrap());
    assert_eq!((key.environment.as_str(), key.caller.as_str()), ("prod", "web"));
    let length = key.expires_at.unwrap().seconds - key.created_at.unwrap().seconds;
    assert!((3599..=3600).contains(&length), "{length}");
    let (version, records) = plane.keys.all("prod").await.unwrap();
    let (stored, at) = &records[0];
    assert_eq!((records.len(), *at, &stored.record.id), (1, version, &key.id));
    let parts: Vec<&str> = secrets.bearer.split('_').collect();
    let pepper = Pepper::new(PEPPER);
    let tag = aws_lc_rs::hmac::sign(&pepper.key(), &hashed(parts[1].as_bytes(), parts[2].as_bytes()));
    assert_eq!(tag.as_ref(), stored.record.hash);
    let secret = switchtower_keys::secret_access_key(&pepper.key(), key.id.as_bytes(), &stored.record.hash);
    assert_eq!((secrets.secret_access_key, secrets.access_key_id), (secret, format!("SWTK{}", key.id)));
    assert_eq!(key.pepper, pepper.id());
    assert_eq!(plane.kinds(), ["key_issued"]);
}

#[tokio::test]
async fn a_key_that_nobody_could_use_is_refused() {
    let plane = Plane::new().await;
    let check = async |caller: &str, expires_after, code: Code, expected: &str| {
        refused(&plane.issue(caller, expires_after).await.unwrap_err(), code, expected);
    };
    check("a b", None, Code::InvalidArgument, "KEY_INVALID").await;
    check("web", seconds(0), Code::InvalidArgument, "KEY_INVALID").await;
    let half = Some(prost_types::Duration { seconds: 0, nanos: 500_000_000 });
    check("web", half, Code::InvalidArgument, "KEY_INVALID").await;
    check("web", seconds(315_576_000_000), Code::InvalidArgument, "KEY_INVALID").await;
    check("web", seconds(i64::MAX), Code::InvalidArgument, "KEY_INVALID").await;
    check("web", seconds(-1), Code::InvalidArgument, "REQUEST_INVALID").await;
    let elsewhere = IssueKeyRequest { environment: "a/b".to_owned(), caller: "web".to_owned(), expires_after: None };
    let status = plane.key_client().issue_key(elsewhere).await.unwrap_err();
    refused(&status, Code::InvalidArgument, "REQUEST_INVALID");
    assert_eq!(fields(&status), ["environment"]);
    assert_eq!(plane.store.all().await, []);
}

#[tokio::test]
async fn a_rotated_key_and_its_successor_hold_both_until_the_overlap_ends() {
    let plane = Plane::new().await;
    let old = plane.issued("web").await;
    let rotated = plane.rotate(&old.id, seconds(60)).await.unwrap();
    let (new, replaced) = (rotated.key.unwrap(), rotated.replaced.unwrap());
    assert_eq!((new.caller.as_str(), &new.replaces, &replaced.replaced_by), ("web", &old.id, &new.id));
    let left = replaced.expires_at.unwrap().seconds - new.created_at.unwrap().seconds;
    assert!((59..=61).contains(&left), "{left}");
    assert_eq!((new.expires_at, replaced.revoked_at), (None, None));
    assert_ne!(rotated.secrets.unwrap().bearer, "");
    assert_eq!(plane.kinds(), ["key_issued", "key_rotated"]);

    // There would be three.
    refused(&plane.rotate(&old.id, None).await.unwrap_err(), Code::FailedPrecondition, "ROTATING");
    let status = plane.rotate(&new.id, None).await.unwrap_err();
    refused(&status, Code::FailedPrecondition, "ROTATING");
    assert!(status.message().contains(&format!("revoke {} now", old.id)), "{status:?}");
    plane.revoke(&old.id).await.unwrap();
    plane.rotate(&new.id, seconds(0)).await.unwrap();
    refused(&plane.rotate(&new.id, None).await.unwrap_err(), Code::FailedPrecondition, "NOT_LIVE");
}

#[tokio::test]
async fn an_overlap_lengthens_no_key_s_life_and_has_a_bound() {
    let plane = Plane::new().await;
    let old = plane.issue("web", seconds(30)).await.unwrap().key.unwrap();
    let status = plane.rotate(&old.id, seconds(90 * 24 * 3600 + 1)).await.unwrap_err();
    refused(&status, Code::InvalidArgument, "REQUEST_INVALID");
    let rotated = plane.rotate(&old.id, None).await.unwrap();
    assert_eq!(rotated.replaced.unwrap().expires_at, old.expires_at);
}

#[tokio::test]
async fn a_revoked_key_stays_revoked_and_cannot_be_rotated() {
    let plane = Plane::new().await;
    let key = plane.issued("web").await;
    let revoked = plane.revoke(&key.id).await.unwrap();
    assert!(revoked.revoked_at.is_some());
    let version = plane.store.version();
    assert_eq!(plane.revoke(&key.id).await.unwrap(), revoked);
    assert_eq!(plane.store.version(), version);
    refused(&plane.rotate(&key.id, None).await.unwrap_err(), Code::FailedPrecondition, "NOT_LIVE");
    assert_eq!(plane.kinds(), ["key_issued", "key_revoked"]);
    for id in ["AAAAAAAAAAAAAAAA", "", "../head", &"A".repeat(1000)] {
        refused(&plane.revoke(id).await.unwrap_err(), Code::NotFound, "NO_KEY");
        refused(&plane.rotate(id, None).await.unwrap_err(), Code::NotFound, "NO_KEY");
    }
}

#[tokio::test]
async fn an_expired_key_cannot_be_rotated() {
    let plane = Plane::new().await;
    let now = SystemTime::now();
    let act = |after: u64| Act { author: "ann", now: now + Duration::from_secs(after), random: 1 };
    let second = Some(Duration::from_secs(1));
    let issued = plane.keys.issue("prod", "web", second, &[1; KEY_RANDOM_BYTES], act(0)).await.unwrap();
    let id = &issued.key.record.id;
    let rotated = plane.keys.rotate("prod", id, Duration::ZERO, None, &[2; KEY_RANDOM_BYTES], act(1)).await;
    assert!(matches!(rotated, Err(Refused::NotLive { .. })), "{rotated:?}");
}

#[tokio::test]
async fn two_who_rotate_one_key_at_once_make_one_key() {
    let plane = Plane::new().await;
    let old = plane.issued("web").await;
    let (one, other) = tokio::join!(plane.rotate(&old.id, None), plane.rotate(&old.id, None));
    let (done, lost) = if one.is_ok() { (one, other) } else { (other, one) };
    done.unwrap();
    refused(&lost.unwrap_err(), Code::FailedPrecondition, "ROTATING");
    assert_eq!(plane.list("", "", 0).await.unwrap().keys.len(), 2);
}

#[tokio::test]
async fn keys_are_listed_oldest_first_by_caller_and_in_pages() {
    let plane = Plane::new().await;
    let now = SystemTime::now();
    for (index, caller) in ["web", "batch", "web", "web"].into_iter().enumerate() {
        let index = u8::try_from(index).unwrap();
        // Ids descend while times ascend.
        let secret = [0xff - index; KEY_RANDOM_BYTES];
        let act = Act { author: "ann", now: now + Duration::from_secs(index.into()), random: index.into() };
        plane.keys.issue("prod", caller, None, &secret, act).await.unwrap();
    }
    let all = plane.list("", "", 0).await.unwrap();
    let times: Vec<i64> = all.keys.iter().map(|key| key.created_at.unwrap().seconds).collect();
    assert!(times.is_sorted() && times.len() == 4 && !all.more);
    let web = plane.list("web", "", 2).await.unwrap();
    assert!(web.keys.len() == 2 && web.more);
    let rest = plane.list("web", &web.keys[1].id, 2).await.unwrap();
    assert!(rest.keys.len() == 1 && !rest.more && rest.keys[0] == all.keys[3]);
    refused(&plane.list("web", "AAAAAAAAAAAAAAAA", 2).await.unwrap_err(), Code::InvalidArgument, "REQUEST_INVALID");
    assert_eq!(plane.list("nobody", "", 0).await.unwrap().keys, []);
}

#[tokio::test]
async fn the_version_of_keys_tells_of_every_change() {
    let plane = Plane::new().await;
    assert_eq!(plane.keys.all("prod").await.unwrap().0.0, 0);
    let (one, other) = (plane.issued("web").await, plane.issued("web").await);
    let before = plane.keys.all("prod").await.unwrap().0;
    plane.revoke(&one.id).await.unwrap();
    let (version, keys) = plane.keys.all("prod").await.unwrap();
    assert!(version > before);
    let newer: Vec<_> = keys.iter().filter(|(_, at)| *at > before).map(|(key, _)| &key.record.id).collect();
    assert_eq!(newer, [&one.id]);
    assert_ne!(one.id, other.id);
    // Another environment's keys are its own.
    assert_eq!(plane.keys.all("dev").await.unwrap(), Default::default());
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn secrets_are_in_no_store_event_or_log() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(move || writer.clone());
    let _guard = tracing::subscriber::set_default(subscriber.finish());
    let plane = Plane::new().await;
    let issued = plane.issue("web", None).await.unwrap();
    let rotated = plane.rotate(&issued.key.as_ref().unwrap().id, None).await.unwrap();
    plane.revoke(&issued.key.unwrap().id).await.unwrap();
    plane.issue("a b", None).await.unwrap_err();
    plane.list("", "", 0).await.unwrap();

    let mut everywhere: Vec<u8> = log.0.lock().unwrap().clone();
    assert!(String::from_utf8_lossy(&everywhere).contains("key_rotated"), "the log was not seen");
    plane.store.all().await.iter().for_each(|entry| everywhere.extend([entry.key.as_bytes(), &entry.value].concat()));
    plane.events.follow().0.iter().for_each(|event| everywhere.extend(event.encode_to_vec()));
    everywhere.extend(format!("{:?}", plane.keys).bytes());
    for secrets in [issued.secrets.unwrap(), rotated.secrets.unwrap()] {
        let secret = secrets.bearer.rsplit('_').next().unwrap();
        for secret in [secret, &secrets.secret_access_key, crate::support::ANN] {
            assert!(!everywhere.windows(secret.len()).any(|window| window == secret.as_bytes()));
        }
    }
    assert!(!everywhere.windows(32).any(|window| window == PEPPER));
}
