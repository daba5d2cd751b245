//! Several operators at the same time.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use switchtower_proto::control::v1::{
    DiffRevisionsRequest, RevisionName, RollbackRequest, diff_revisions_request::Other,
};
use tonic::Code;

use crate::support::{Plane, prod, reason, told};

#[tokio::test]
async fn twenty_who_apply_at_once_without_a_parent_make_twenty_revisions_without_gaps() {
    let plane = Plane::new().await;
    let numbers = join_all((1..=20).map(|limit| plane.applied(limit, None))).await;
    let numbers: BTreeSet<u64> = numbers.into_iter().map(Result::unwrap).collect();
    assert_eq!(numbers, (1..=20).collect());
    assert!(plane.store.conflicts() > 0, "nobody was in anybody's way");
    plane.is_whole("prod").await;
    assert_eq!(plane.events.follow().0.len(), 20);
}

#[tokio::test]
async fn of_twenty_who_start_from_one_revision_one_gets_through() {
    let plane = Plane::new().await;
    for head in 0..5_u64 {
        let base = 1 + 20 * u32::try_from(head).unwrap();
        let results = join_all((base..base + 20).map(|limit| plane.applied(limit, Some(head)))).await;
        let (made, refused): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
        assert_eq!(made.into_iter().map(Result::unwrap).collect::<Vec<_>>(), [head + 1]);
        for status in refused.into_iter().map(Result::unwrap_err) {
            assert_eq!((status.code(), reason(&status).as_str()), (Code::Aborted, "HEAD_MOVED"));
            assert_eq!(told(&status, "head"), (head + 1).to_string());
        }
    }
    plane.is_whole("prod").await;
}

#[tokio::test]
async fn the_second_of_two_operators_is_told_and_sees_what_the_first_did() {
    let plane = Plane::new().await;
    plane.applied(1, None).await.unwrap();
    plane.applied(2, Some(1)).await.unwrap();
    let refused = plane.applied(3, Some(1)).await.unwrap_err();
    assert_eq!(reason(&refused), "HEAD_MOVED");
    let assigned = told(&refused, "assigned").parse().unwrap();
    let other = RevisionName { environment: "prod".to_owned(), number: assigned };
    let request =
        DiffRevisionsRequest { environment: "prod".to_owned(), number: 1, other: Some(Other::Revision(other)) };
    let diff = plane.policies().diff_revisions(request).await.unwrap().into_inner().diff.unwrap();
    assert_eq!(diff.changes.len(), 1);
    assert_eq!((diff.changes[0].before.as_str(), diff.changes[0].after.as_str()), ("1", "2"));
    assert_eq!(plane.applied(3, Some(assigned)).await.unwrap(), 3);
}

#[tokio::test]
async fn two_who_go_back_at_once_go_back_once() {
    let plane = Plane::new().await;
    for limit in 1..=3 {
        plane.applied(limit, None).await.unwrap();
    }
    let (one, other) = tokio::join!(plane.rollback(0), plane.rollback(0));
    let (done, refused) = if one.is_ok() { (one, other) } else { (other, one) };
    assert_eq!(done.unwrap().revision.unwrap().record.unwrap().number, 2);
    assert_eq!(reason(&refused.unwrap_err()), "HEAD_MOVED");

    // Also when the second comes later, if it says what it takes back.
    let late = RollbackRequest { environment: "prod".to_owned(), from: Some(3), ..Default::default() };
    let refused = plane.policies().rollback(late).await.unwrap_err();
    assert_eq!((reason(&refused).as_str(), told(&refused, "assigned").as_str()), ("HEAD_MOVED", "2"));
    assert_eq!(plane.revisions.content("prod", 2).await.unwrap(), prod(2));
}

#[tokio::test]
async fn who_applies_and_who_goes_back_at_once_leave_a_whole_history() {
    let plane = Plane::new().await;
    plane.applied(1, None).await.unwrap();
    plane.applied(2, None).await.unwrap();
    let appliers = join_all((3..=12).map(|limit| plane.applied(limit, None)));
    let backwards = join_all((0..10).map(|number| plane.rollback(1 + number % 2)));
    let (applied, _) = tokio::join!(appliers, backwards);
    assert!(applied.iter().all(Result::is_ok));
    let head = plane.revisions.head("prod").await.unwrap().unwrap();
    assert_eq!(head.revision, 12);
    plane.is_whole("prod").await;
}
