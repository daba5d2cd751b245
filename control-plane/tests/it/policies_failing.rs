//! A store that fails, at whichever call.

use switchtower_proto::control::v1::{ApplyRequest, RollbackRequest};
use tonic::Code;

use crate::support::{Failure, Plane, applying, number, prod, reason};

fn large() -> ApplyRequest {
    // Half as much again as a transaction takes.
    applying(crate::policies_large::of_routes(120, 0), Some(2))
}

async fn plane() -> Plane {
    let plane = Plane::new().await;
    plane.applied(1, None).await.unwrap();
    plane.applied(2, None).await.unwrap();
    plane
}

/// Applies with a store that fails at each of its calls in turn, and so many are there.
async fn fails_at_each_call(failure: Failure, request: ApplyRequest) -> usize {
    for nth in 0.. {
        let plane = plane().await;
        plane.store.fail(nth, failure);
        let result = plane.apply(request.clone()).await;
        plane.store.heal();
        plane.is_whole("prod").await;
        let head = plane.revisions.head("prod").await.unwrap().unwrap();
        let events = plane.store.all().await.iter().filter(|entry| entry.key.starts_with("event/")).count() as u64;
        assert_eq!(events, head.revision, "an act without its event, or an event without its act");
        match result {
            // Only what was not asked for any more can have failed: the diff.
            Ok(applied) => {
                assert_eq!((number(&applied), head.revision), (3, 3));
                if applied.diff.is_some() {
                    return nth;
                }
            }
            Err(status) => {
                assert_eq!((status.code(), reason(&status).as_str()), (Code::Unavailable, "STORE_UNAVAILABLE"));
                assert!(failure == Failure::After || head.revision == 2);
                // Whoever asks again gets what they asked for, once.
                let applied = plane.apply(request.clone()).await.unwrap();
                assert_eq!(number(&applied), 3);
                assert_eq!(applied.unchanged, head.revision == 3);
                assert_eq!(plane.revisions.head("prod").await.unwrap().unwrap().revision, 3);
            }
        }
    }
    unreachable!("it stops failing");
}

#[tokio::test]
async fn an_apply_whose_store_fails_leaves_nothing_half_and_can_be_asked_again() {
    for failure in [Failure::Before, Failure::After] {
        // The head, the chunk, the commit, and the record and chunk of the diff.
        assert_eq!(fails_at_each_call(failure, applying(prod(3), Some(2))).await, 5, "{failure:?}");
    }
}

#[tokio::test]
async fn an_apply_in_many_transactions_whose_store_fails_leaves_nothing_half() {
    for failure in [Failure::Before, Failure::After] {
        // The head, the chunks and their transactions (six), the commit, and the record and chunk of the diff.
        assert_eq!(fails_at_each_call(failure, large()).await, 10, "{failure:?}");
    }
}

#[tokio::test]
async fn a_rollback_whose_store_fails_happened_whole_or_not() {
    for failure in [Failure::Before, Failure::After] {
        for nth in 0..4 {
            let plane = plane().await;
            plane.store.fail(nth, failure);
            let request =
                RollbackRequest { environment: "prod".to_owned(), number: 1, from: Some(2), ..Default::default() };
            let refused = plane.policies().rollback(request.clone()).await.unwrap_err();
            assert_eq!(refused.code(), Code::Unavailable, "{nth} {failure:?}");
            plane.store.heal();
            plane.is_whole("prod").await;
            let again = plane.policies().rollback(request).await;
            let head = plane.revisions.head("prod").await.unwrap().unwrap();
            assert_eq!((head.assignment.revision, head.assignment.number), (1, 3));
            assert_eq!(again.is_ok(), nth < 3 || failure == Failure::Before, "{nth} {failure:?}");
        }
    }
}

#[tokio::test]
async fn whatever_is_damaged_is_told() {
    let check = async |key: &str, change: fn(&mut Vec<u8>), expected: &str| {
        let plane = plane().await;
        plane.store.damage(key, change).await;
        let problems = plane.revisions.verify("prod").await.unwrap();
        assert!(problems.iter().any(|problem| problem.contains(expected)), "{key}: {problems:?}");
    };
    let first = "environment/prod/revision/00000000000000000001";
    let second = "environment/prod/revision/00000000000000000002";
    check(first, |bytes| bytes.truncate(3), "is no such revision").await;
    check(first, |bytes| bytes.extend([0x32, 1, b'x']), "does not follow from the record before it").await;
    check(second, |bytes| bytes.extend([0x32, 1, b'x']), "the head has another digest of revision 2").await;
    check(second, |bytes| bytes.extend([0x10, 3]), "is no such revision").await;
    check(second, |bytes| bytes.extend([0x20, 7]), "was made from revision 7").await;
    check(second, |bytes| bytes.extend([0x48, 7]), "not as long as its record says").await;
    check("environment/prod/head", |bytes| bytes.clear(), "environment/prod/head is no head").await;
    check("environment/prod/head", |bytes| bytes[1] = 3, "the head is revision 3, and the last one there is 2").await;
}
