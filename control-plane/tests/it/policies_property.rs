//! Whatever operators do, in whatever order: histories stay whole.

use proptest::{prelude::*, test_runner::Config};
use switchtower_proto::control::v1::{ApplyRequest, PromoteRequest, RollbackRequest};

use crate::support::{Plane, applying, policy};

#[derive(Clone, Debug)]
enum Act {
    Apply { environment: &'static str, limit: u32, parent: Option<u64>, again: bool },
    Rollback { environment: &'static str, number: u64, from: Option<u64> },
    Promote { from: &'static str, to: &'static str, number: u64, again: bool },
}

fn environment() -> impl Strategy<Value = &'static str> {
    prop_oneof![Just("dev"), Just("prod")]
}

fn act() -> impl Strategy<Value = Act> {
    let parent = || prop_oneof![3 => Just(None), 1 => (0..6_u64).prop_map(Some)];
    prop_oneof![
        4 => (environment(), 1..5_u32, parent(), any::<bool>())
            .prop_map(|(environment, limit, parent, again)| Act::Apply { environment, limit, parent, again }),
        2 => (environment(), 0..6_u64, parent())
            .prop_map(|(environment, number, from)| Act::Rollback { environment, number, from }),
        1 => (environment(), environment(), 0..4_u64, any::<bool>())
            .prop_map(|(from, to, number, again)| Act::Promote { from, to, number, again }),
    ]
}

/// Does it, and says whether something was made.
async fn done(plane: &Plane, act: &Act) -> bool {
    let mut client = plane.policies();
    match act.clone() {
        Act::Apply { environment, limit, parent, again } => {
            let request = applying(policy(environment, limit), parent);
            let request = ApplyRequest { environment: environment.to_owned(), again, ..request };
            client.apply(request).await.is_ok_and(|applied| !applied.get_ref().unchanged)
        }
        Act::Rollback { environment, number, from } => {
            let request = RollbackRequest { environment: environment.to_owned(), number, from, ..Default::default() };
            client.rollback(request).await.is_ok()
        }
        Act::Promote { from, to, number, again } => {
            let (from, to) = (from.to_owned(), to.to_owned());
            let request = PromoteRequest { from, to, number, again, ..Default::default() };
            let promoted = client.promote(request).await;
            promoted.is_ok_and(|promoted| !promoted.into_inner().applied.unwrap().unchanged)
        }
    }
}

/// Newest revision, assigned one and assignment of both environments.
async fn heads(plane: &Plane) -> Vec<(u64, u64, u64)> {
    let mut heads = Vec::new();
    for environment in ["dev", "prod"] {
        let head = plane.revisions.head(environment).await.unwrap();
        heads.push(head.map_or((0, 0, 0), |head| {
            let assigned = head.assignment;
            assert!(!head.rolled_back.contains(&assigned.content_digest), "what is assigned is not rolled back");
            (head.revision, assigned.revision, assigned.number)
        }));
    }
    heads
}

proptest! {
    #![proptest_config(Config { cases: 48, failure_persistence: None, ..Config::default() })]

    #[test]
    fn whatever_operators_do_histories_stay_whole_and_assignments_ascend(acts in prop::collection::vec(act(), 1..16)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let plane = Plane::new().await;
            let mut before = heads(&plane).await;
            for act in acts {
                let made = done(&plane, &act).await;
                let after = heads(&plane).await;
                let assignments = |heads: &[(u64, u64, u64)]| heads.iter().map(|head| head.2).sum::<u64>();
                assert_eq!(assignments(&after), assignments(&before) + u64::from(made), "{act:?}");
                for (after, before) in after.iter().zip(&before) {
                    assert!(after.0 == before.0 || after.0 == before.0 + 1 && after.1 == after.0, "{act:?}");
                }
                before = after;
            }
            plane.is_whole("dev").await;
            plane.is_whole("prod").await;
        });
    }
}
