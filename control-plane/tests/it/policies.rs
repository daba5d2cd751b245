//! Policies: applied, looked at, compared, promoted, taken back.

use switchtower_control_plane::revisions::CannotRead;
use switchtower_policy::items;
use switchtower_proto::{
    control::v1::{
        ApplyRequest, DiffRevisionsRequest, GetRevisionRequest, ListEnvironmentsRequest, ListRevisionsRequest,
        PromoteRequest, RevisionName, RollbackRequest, WatchEventsRequest, change::Kind, diff_revisions_request::Other,
        policy_service_client::PolicyServiceClient,
    },
    policy::v1::{Content, Item},
};
use tokio_stream::StreamExt;
use tonic::{Code, Request};

use crate::support::{Plane, applying, fields, number, policy, prod, reason, told};

fn again(items: Vec<Item>) -> ApplyRequest {
    ApplyRequest { again: true, ..applying(items, None) }
}

fn promoting(number: u64, parent: Option<u64>) -> PromoteRequest {
    let (from, to) = ("dev".to_owned(), "prod".to_owned());
    PromoteRequest { from, number, to, parent, ..PromoteRequest::default() }
}

/// The numbers of all revisions, with `*` where assigned and `!` where rolled back; newest first.
async fn history(plane: &Plane) -> String {
    let request = ListRevisionsRequest { environment: "prod".to_owned(), ..Default::default() };
    let page = plane.policies().list_revisions(request).await.unwrap().into_inner();
    let shown = page.revisions.iter().map(|revision| {
        let number = revision.record.as_ref().unwrap().number;
        let assigned = if revision.assigned { "*" } else { "" };
        format!("{number}{assigned}{}", if revision.rolled_back { "!" } else { "" })
    });
    shown.collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn a_policy_becomes_a_revision_that_is_assigned_and_told() {
    let plane = Plane::new().await;
    let mut request = Request::new(applying(prod(1), Some(0)));
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    request.metadata_mut().insert("traceparent", trace.parse().unwrap());
    request.metadata_mut().insert("x-switchtower-author", "Zoe".parse().unwrap());
    let applied = plane.policies().apply(request).await.unwrap().into_inner();
    let revision = applied.revision.clone().unwrap();
    let record = revision.record.unwrap();
    assert_eq!((record.number, record.parent, applied.assignment, applied.unchanged), (1, 0, 1, false));
    assert_eq!((record.author.as_str(), record.message.as_str()), ("Zoe (via ann)", "why not"));
    assert_eq!(record.content_digest, items::digest(&prod(1)));
    // The same trace, in the span of the act itself.
    assert_eq!(record.traceparent[..36], trace[..36]);
    assert_ne!(record.traceparent[36..52], trace[36..52]);
    assert!(revision.assigned && !revision.rolled_back && revision.digest.len() == 32);
    assert!(record.created_at.is_some());
    assert_eq!(applied.diff.unwrap().changes.len(), prod(1).len());

    let (latest, _) = plane.events.follow();
    let event = latest.last().unwrap();
    assert_eq!(
        (event.kind.as_str(), event.actor.as_str(), event.subject.as_str()),
        ("revision_applied", "Zoe (via ann)", "1")
    );
    let kept = plane.store.all().await.into_iter().filter(|entry| entry.key.starts_with("event/")).count();
    assert_eq!(kept, 1);
    plane.is_whole("prod").await;
}

#[tokio::test]
async fn numbers_are_without_gaps_and_records_are_chained() {
    let plane = Plane::new().await;
    for limit in 1..=5 {
        assert_eq!(plane.applied(limit, Some(u64::from(limit) - 1)).await.unwrap(), u64::from(limit));
    }
    let request = ListRevisionsRequest { environment: "prod".to_owned(), ..Default::default() };
    let page = plane.policies().list_revisions(request).await.unwrap().into_inner();
    for pair in page.revisions.windows(2) {
        assert_eq!(pair[0].record.as_ref().unwrap().previous_digest, pair[1].digest);
    }
    assert_eq!(history(&plane).await, "5* 4 3 2 1");
    plane.is_whole("prod").await;
}

#[tokio::test]
async fn what_is_assigned_already_is_not_made_again_whatever_the_parent() {
    let plane = Plane::new().await;
    plane.applied(1, None).await.unwrap();
    let version = plane.store.version();
    for parent in [None, Some(0), Some(1), Some(9)] {
        let applied = plane.apply(applying(prod(1), parent)).await.unwrap();
        assert!(applied.unchanged);
        assert_eq!((number(&applied), applied.assignment, applied.diff.unwrap().changes.len()), (1, 0, 0));
    }
    assert_eq!(plane.store.version(), version);
}

#[tokio::test]
async fn validate_only_says_what_would_be_and_makes_nothing() {
    let plane = Plane::new().await;
    plane.applied(1, None).await.unwrap();
    plane.applied(2, None).await.unwrap();
    let version = plane.store.version();
    let request = ApplyRequest { validate_only: true, ..applying(prod(3), Some(2)) };
    let would_be = plane.apply(request.clone()).await.unwrap();
    let revision = would_be.revision.clone().unwrap();
    assert_eq!((number(&would_be), would_be.assignment, revision.digest.len(), revision.assigned), (3, 0, 0, false));
    assert_eq!(revision.record.unwrap().created_at, None);
    assert_eq!(would_be.diff.unwrap().changes.len(), 1);
    let refused = plane.apply(ApplyRequest { parent: Some(1), ..request }).await.unwrap_err();
    assert_eq!(reason(&refused), "HEAD_MOVED");

    let rollback = RollbackRequest { environment: "prod".to_owned(), validate_only: true, ..Default::default() };
    let would_be = plane.policies().rollback(rollback).await.unwrap().into_inner();
    assert_eq!((would_be.revision.unwrap().record.unwrap().number, would_be.assignment, would_be.from), (1, 0, 2));
    assert_eq!(would_be.diff.unwrap().changes.len(), 1);
    assert_eq!(plane.store.version(), version);
    assert_eq!(plane.events.follow().0.len(), 2);
}

#[tokio::test]
async fn a_policy_that_is_wrong_is_refused_with_all_that_is_wrong() {
    let plane = Plane::new().await;
    let check = async |request: ApplyRequest, expected: &[&str]| {
        let refused = plane.apply(request).await.unwrap_err();
        assert_eq!(
            (refused.code(), reason(&refused).as_str()),
            (Code::InvalidArgument, "POLICY_INVALID"),
            "{refused:?}"
        );
        let fields = fields(&refused);
        expected.iter().for_each(|field| assert!(fields.iter().any(|told| told == field), "{field} in {fields:?}"));
    };
    check(applying(policy("dev", 1), None), &["environment"]).await;
    check(applying(Vec::new(), None), &["environment"]).await;
    let without_models = prod(1).into_iter().filter(|item| item.kind != "model").collect();
    check(applying(without_models, None), &["routes.chat.tiers[0]"]).await;
    // Members that nobody knows, by name and by place.
    let mut unknown = prod(1);
    let route = unknown.iter_mut().find(|item| item.kind == "route").unwrap();
    route.body = [&route.body[..], &[0xf8, 0x7f, 1]].concat().into();
    let refused = plane.apply(applying(unknown, None)).await.unwrap_err();
    assert_eq!(reason(&refused), "POLICY_INVALID");
    assert!(fields(&refused)[0].starts_with("routes.chat"), "{refused:?}");
    assert!(refused.message().contains("2047"), "{refused:?}");
    let mut kind = prod(1);
    kind[0].kind = "gadget".to_owned();
    let refused = plane.apply(applying(kind, None)).await.unwrap_err();
    assert!(refused.message().contains("gadget"), "{refused:?}");
    assert_eq!(plane.store.all().await, []);
}

#[tokio::test]
async fn words_that_cannot_be_kept_are_refused_with_their_field() {
    let plane = Plane::new().await;
    let check = async |change: fn(&mut ApplyRequest), field: &str| {
        let mut request = applying(prod(1), None);
        change(&mut request);
        let refused = plane.apply(request).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::InvalidArgument, "REQUEST_INVALID"));
        assert_eq!(fields(&refused), [field]);
    };
    check(|request| request.message = "ü".repeat(1025), "message").await;
    check(|request| request.message = "a\u{1b}[31mb".to_owned(), "message").await;
    check(|request| request.environment = "a/b".to_owned(), "environment").await;
    check(|request| request.environment.clear(), "environment").await;
    let request = ApplyRequest { message: "ü".repeat(1024), ..applying(prod(1), None) };
    plane.apply(request).await.unwrap();
}

#[tokio::test]
async fn what_connected_nodes_do_not_understand_is_not_assigned() {
    let plane = Plane::new().await;
    plane.applied(1, None).await.unwrap();
    plane.applied(2, None).await.unwrap();
    plane.apply(ApplyRequest { environment: "dev".to_owned(), ..applying(policy("dev", 3), None) }).await.unwrap();
    let old = |index: usize| CannotRead {
        node: format!("node-{index}"),
        members: vec!["Route.max_output_tokens".to_owned()],
    };
    *plane.nodes.0.lock().unwrap() = (0..25).map(old).collect();
    let version = plane.store.version();
    let refusals = [
        plane.apply(applying(prod(3), Some(2))).await.unwrap_err(),
        plane.apply(ApplyRequest { validate_only: true, ..applying(prod(3), None) }).await.unwrap_err(),
        plane.policies().promote(promoting(0, None)).await.unwrap_err(),
    ];
    for refused in refusals {
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::FailedPrecondition, "NODES_CANNOT_READ"));
        assert_eq!(told(&refused, "nodes_in_all"), "25");
        assert!(told(&refused, "nodes").starts_with("node-0, node-1, "));
        assert_eq!(told(&refused, "nodes").split(", ").count(), 20);
        assert_eq!(told(&refused, "members"), "Route.max_output_tokens");
    }
    assert_eq!(plane.store.version(), version);
    // What is there already needs no permission, and neither has the way back one.
    assert!(plane.apply(applying(prod(2), None)).await.unwrap().unchanged);
    assert_eq!(plane.rollback(1).await.unwrap().from, 2);
    // An operator may insist.
    let insisting = ApplyRequest { despite_nodes: true, ..applying(prod(3), None) };
    assert!(plane.apply(insisting).await.unwrap().assignment > 0);
}

#[tokio::test]
async fn a_rollback_is_a_newer_assignment_of_an_older_revision() {
    let plane = Plane::new().await;
    for limit in 1..=3 {
        plane.applied(limit, None).await.unwrap();
    }
    let rolled_back = plane.rollback(0).await.unwrap();
    let revision = rolled_back.revision.unwrap();
    assert_eq!((rolled_back.assignment, rolled_back.from, revision.record.unwrap().number), (4, 3, 2));
    assert_eq!(rolled_back.diff.unwrap().changes.len(), 1);
    assert_eq!(history(&plane).await, "3! 2* 1");
    let event = plane.events.follow().0.last().unwrap().clone();
    assert_eq!((event.kind.as_str(), event.subject.as_str()), ("revision_rolled_back", "2"));
    plane.is_whole("prod").await;
}

#[tokio::test]
async fn going_back_twice_goes_further_back_and_never_to_what_was_bad() {
    let plane = Plane::new().await;
    for limit in 1..=3 {
        plane.applied(limit, None).await.unwrap();
    }
    plane.rollback(0).await.unwrap();
    plane.rollback(0).await.unwrap();
    assert_eq!(history(&plane).await, "3! 2! 1*");
    let refused = plane.rollback(0).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::FailedPrecondition, "NOTHING_TO_ROLL_BACK"));
    // Somebody may want it back, and says so.
    plane.rollback(3).await.unwrap();
    assert_eq!(history(&plane).await, "3* 2! 1");
    plane.is_whole("prod").await;
}

#[tokio::test]
async fn a_rollback_goes_to_what_was_assigned_before_and_not_to_the_number_before() {
    let plane = Plane::new().await;
    for limit in 1..=3 {
        plane.applied(limit, None).await.unwrap();
    }
    plane.rollback(1).await.unwrap();
    plane.applied(4, Some(1)).await.unwrap();
    assert_eq!(history(&plane).await, "4* 3! 2 1");
    let rolled_back = plane.rollback(0).await.unwrap();
    assert_eq!(rolled_back.revision.unwrap().record.unwrap().number, 1);
}

#[tokio::test]
async fn a_rollback_to_nothing_or_to_what_is_there_is_refused() {
    let plane = Plane::new().await;
    let check = async |number: u64, code: Code, expected: &str| {
        let refused = plane.rollback(number).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (code, expected), "{refused:?}");
    };
    check(0, Code::NotFound, "NO_REVISION").await;
    check(1, Code::NotFound, "NO_REVISION").await;
    plane.applied(1, None).await.unwrap();
    check(0, Code::FailedPrecondition, "NOTHING_TO_ROLL_BACK").await;
    check(1, Code::FailedPrecondition, "NOTHING_TO_ROLL_BACK").await;
    check(2, Code::NotFound, "NO_REVISION").await;
    check(u64::MAX, Code::NotFound, "NO_REVISION").await;
}

#[tokio::test]
async fn content_that_was_rolled_back_is_applied_only_again() {
    let plane = Plane::new().await;
    plane.applied(1, None).await.unwrap();
    plane.applied(2, None).await.unwrap();
    plane.rollback(1).await.unwrap();
    for validate_only in [false, true] {
        let refused = plane.apply(ApplyRequest { validate_only, ..applying(prod(2), None) }).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::FailedPrecondition, "ROLLED_BACK"));
    }
    assert_eq!(number(&plane.apply(again(prod(2))).await.unwrap()), 3);
    // It is forgiven: the content is what nodes should serve.
    assert_eq!(history(&plane).await, "3* 2 1");
    plane.applied(1, None).await.unwrap();
    plane.applied(2, None).await.unwrap();
    plane.is_whole("prod").await;
}

#[tokio::test]
async fn who_started_from_what_was_rolled_back_meanwhile_does_not_bring_it_back() {
    let plane = Plane::new().await;
    plane.applied(1, None).await.unwrap();
    plane.applied(2, None).await.unwrap();
    plane.rollback(1).await.unwrap();
    let refused = plane.applied(3, Some(2)).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::Aborted, "HEAD_MOVED"));
    assert_eq!((told(&refused, "assigned").as_str(), told(&refused, "head").as_str()), ("1", "2"));
    assert!(refused.message().contains("was rolled back to 1"), "{refused:?}");
    assert_eq!(plane.applied(3, Some(1)).await.unwrap(), 3);
}

#[tokio::test]
async fn a_revision_of_one_environment_is_promoted_to_another() {
    let plane = Plane::new().await;
    let dev = |limit| ApplyRequest { environment: "dev".to_owned(), ..applying(policy("dev", limit), None) };
    plane.apply(dev(1)).await.unwrap();
    plane.apply(dev(2)).await.unwrap();
    let promoted = plane.policies().promote(promoting(1, Some(0))).await.unwrap().into_inner();
    let record = promoted.applied.unwrap().revision.unwrap().record.unwrap();
    assert_eq!((promoted.number, record.number, record.environment.as_str()), (1, 1, "prod"));
    assert_eq!((record.promoted_from.as_str(), record.message.as_str()), ("dev/1", "promoted from dev/1"));
    assert_eq!(plane.revisions.content("prod", 1).await.unwrap(), prod(1));

    let refused = plane.policies().promote(promoting(0, Some(0))).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::Aborted, "HEAD_MOVED"));
    let version = plane.store.version();
    let would_be = PromoteRequest { validate_only: true, ..promoting(0, Some(1)) };
    assert_eq!(plane.policies().promote(would_be).await.unwrap().into_inner().number, 2);
    assert_eq!(plane.store.version(), version);
    plane.policies().promote(promoting(0, Some(1))).await.unwrap();
    assert_eq!(plane.revisions.content("prod", 2).await.unwrap(), prod(2));

    plane.rollback(1).await.unwrap();
    let refused = plane.policies().promote(promoting(2, None)).await.unwrap_err();
    assert_eq!(reason(&refused), "ROLLED_BACK");
    let refused = plane.policies().promote(promoting(7, None)).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::NotFound, "NO_REVISION"));
    plane.is_whole("prod").await;
    plane.is_whole("dev").await;
}

#[tokio::test]
async fn revisions_are_listed_in_pages_and_read_one_by_one() {
    let plane = Plane::new().await;
    for limit in 1..=5 {
        plane.applied(limit, None).await.unwrap();
    }
    let page = async |before: u64, page_size: u32| {
        let request = ListRevisionsRequest { environment: "prod".to_owned(), before, page_size };
        let page = plane.policies().list_revisions(request).await.unwrap().into_inner();
        let numbers = page.revisions.into_iter().map(|revision| revision.record.unwrap().number);
        (numbers.collect::<Vec<_>>(), page.more)
    };
    assert_eq!(page(0, 2).await, (vec![5, 4], true));
    assert_eq!(page(4, 3).await, (vec![3, 2, 1], false));
    assert_eq!(page(1, 3).await, (vec![], false));
    assert_eq!(page(0, u32::MAX).await, (vec![5, 4, 3, 2, 1], false));

    let get = async |environment: &str, number: u64| {
        let request = GetRevisionRequest { environment: environment.to_owned(), number };
        plane.policies().get_revision(request).await.map(tonic::Response::into_inner)
    };
    assert_eq!(get("prod", 0).await.unwrap().items, prod(5));
    assert_eq!(get("prod", 3).await.unwrap().items, prod(3));
    for (environment, number) in [("prod", 6), ("dev", 0), ("dev", 1), ("prod/head", 1), ("", 0)] {
        let refused = get(environment, number).await.unwrap_err();
        assert_eq!(reason(&refused), "NO_REVISION", "{environment} {number}");
    }
    let request = ListRevisionsRequest { environment: "dev".to_owned(), ..Default::default() };
    assert_eq!(reason(&plane.policies().list_revisions(request).await.unwrap_err()), "NO_REVISION");
}

#[tokio::test]
async fn a_page_of_long_messages_ends_before_clients_cannot_read_it() {
    let plane = Plane::new().await;
    // Some 4 KiB each, so that 600 of them are more than the bound.
    for number in 0..600_u32 {
        let message = "\u{1F6A6}".repeat(1024);
        plane.apply(ApplyRequest { message, ..applying(prod(1 + number % 2), None) }).await.unwrap();
    }
    let mut client = switchtower_client_of(&plane);
    let request = ListRevisionsRequest { environment: "prod".to_owned(), page_size: 1000, before: 0 };
    let page = client.list_revisions(request).await.unwrap().into_inner();
    assert!(page.more && page.revisions.len() > 400, "{}", page.revisions.len());
}

/// A client with gRPC's own limits.
fn switchtower_client_of(plane: &Plane) -> PolicyServiceClient<crate::support::Called> {
    plane.policies().max_decoding_message_size(4 << 20)
}

#[tokio::test]
async fn revisions_are_compared_with_each_other_and_with_what_is_not_applied() {
    let plane = Plane::new().await;
    plane.applied(1, None).await.unwrap();
    plane.applied(2, None).await.unwrap();
    let dev = ApplyRequest { environment: "dev".to_owned(), ..applying(policy("dev", 2), None) };
    plane.apply(dev).await.unwrap();
    let diff = async |number: u64, other: Option<Other>| {
        let request = DiffRevisionsRequest { environment: "prod".to_owned(), number, other };
        plane.policies().diff_revisions(request).await.map(|response| response.into_inner().diff.unwrap())
    };
    let revision =
        |environment: &str, number| Some(Other::Revision(RevisionName { environment: environment.to_owned(), number }));
    let change = diff(1, revision("prod", 0)).await.unwrap().changes.remove(0);
    assert_eq!((change.kind(), change.item_kind.as_str(), change.item_name.as_str()), (Kind::Changed, "route", "chat"));
    assert_eq!((change.path.as_str(), change.before.as_str(), change.after.as_str()), ("max_output_tokens", "1", "2"));
    assert_eq!(diff(2, revision("dev", 1)).await.unwrap().changes[0].item_kind, "settings");
    let content = |items| Some(Other::Content(Content { items }));
    assert_eq!(diff(0, content(prod(2))).await.unwrap().changes, []);
    assert_eq!(diff(0, content(prod(3))).await.unwrap().changes.len(), 1);
    let mut broken = prod(3);
    broken[0].body = vec![0xff].into();
    assert_eq!(reason(&diff(0, content(broken)).await.unwrap_err()), "POLICY_INVALID");
    assert_eq!(reason(&diff(0, revision("test", 0)).await.unwrap_err()), "NO_REVISION");
    assert_eq!(reason(&diff(0, None).await.unwrap_err()), "REQUEST_INVALID");
}

#[tokio::test]
async fn environments_are_listed_past_all_that_is_in_them() {
    let plane = Plane::new().await;
    for environment in ["prod", "prod-eu", "prod.us", "a", "prod0"] {
        for limit in 1..=2 {
            let request =
                ApplyRequest { environment: environment.to_owned(), ..applying(policy(environment, limit), None) };
            plane.apply(request).await.unwrap();
        }
    }
    // One with keys and no revisions yet.
    let secret = [7; switchtower_keys::KEY_RANDOM_BYTES];
    let act = switchtower_control_plane::keys::Act { author: "ann", now: std::time::SystemTime::now(), random: 1 };
    plane.keys.issue("prod-new", "web", None, &secret, act).await.unwrap();
    plane.rollback(1).await.unwrap();
    let environments = plane.policies().list_environments(ListEnvironmentsRequest {}).await.unwrap().into_inner();
    let shown = environments.environments.iter();
    let shown: Vec<_> = shown.map(|one| (one.name.as_str(), one.head, one.assigned, one.assignment)).collect();
    assert_eq!(
        shown,
        [("a", 2, 2, 2), ("prod-eu", 2, 2, 2), ("prod.us", 2, 2, 2), ("prod", 2, 1, 3), ("prod0", 2, 2, 2)]
    );
}

#[tokio::test]
async fn events_are_watched_from_the_latest_on_by_environment_until_the_server_ends() {
    let plane = Plane::new().await;
    for limit in 1..=3 {
        plane.applied(limit, None).await.unwrap();
    }
    let watch = async |environment: &str, latest: u32, follow: bool| {
        let request = WatchEventsRequest { environment: environment.to_owned(), latest, follow };
        plane.event_client().watch_events(request).await.map(tonic::Response::into_inner)
    };
    let subjects = async |environment: &str, latest: u32| {
        let events: Vec<_> = watch(environment, latest, false).await.unwrap().collect().await;
        events.into_iter().map(|event| event.unwrap().event.unwrap().subject).collect::<Vec<_>>()
    };
    assert_eq!(subjects("", 1000).await, ["1", "2", "3"]);
    assert_eq!(subjects("prod", 2).await, ["2", "3"]);
    assert_eq!(subjects("dev", 2).await, [""; 0]);
    assert_eq!(reason(&watch("", 1001, false).await.unwrap_err()), "REQUEST_INVALID");

    let mut following = watch("prod", 1, true).await.unwrap();
    plane.apply(ApplyRequest { environment: "dev".to_owned(), ..applying(policy("dev", 1), None) }).await.unwrap();
    plane.rollback(1).await.unwrap();
    plane.ending.cancel();
    let mut kinds = Vec::new();
    while let Some(event) = following.next().await {
        kinds.push(event.unwrap().event.unwrap().kind);
    }
    assert_eq!(kinds[..1], ["revision_applied"]);
}

#[tokio::test]
async fn a_listener_that_missed_events_is_told_so_and_ended() {
    let plane = Plane::new().await;
    let request = WatchEventsRequest { follow: true, ..Default::default() };
    let mut following = plane.event_client().watch_events(request).await.unwrap().into_inner();
    plane.applied(1, None).await.unwrap();
    let event = (*plane.events.follow().0[0]).clone();
    let told = switchtower_control_plane::events::Event {
        at: std::time::SystemTime::now(),
        environment: event.environment,
        kind: switchtower_control_plane::events::Kind::NodeGone,
        actor: String::new(),
        subject: "n".to_owned(),
        message: "n is gone".to_owned(),
    };
    (0..1100).for_each(|_| plane.events.tell(&told));
    let mut last = None;
    while let Some(event) = following.next().await {
        assert!(last.is_none(), "nothing comes after the end");
        last = event.err();
    }
    let last = last.unwrap();
    assert_eq!((last.code(), reason(&last).as_str(), told_missed(&last)), (Code::Aborted, "FELL_BEHIND", true));
}

fn told_missed(status: &tonic::Status) -> bool {
    told(status, "missed").parse::<u64>().is_ok_and(|missed| missed > 0)
}
