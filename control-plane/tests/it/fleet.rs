//! What operators see of the fleet, from outside.

use std::collections::BTreeSet;

use switchtower_control_plane::revisions::Readers;
use switchtower_proto::control::v1::{
    AwaitAssignmentRequest, GetFleetRequest, WatchFleetRequest, await_assignment_response::Verdict,
    fleet_service_client::FleetServiceClient,
};
use tonic::{Code, Request};

use crate::{
    sync_node::{Memory, Node, hello},
    sync_plane::{Plane, routes},
};

async fn connected(plane: &Plane, id: &str, region: &str) -> Node {
    let memory = Memory::default();
    let mut hello = hello(id, 1, &memory);
    hello.region = region.to_owned();
    Node::connect(plane.channel().await, hello, memory).await.unwrap()
}

#[tokio::test]
async fn the_fleet_is_shown_by_region_and_name() {
    let plane = Plane::new().await;
    plane.publish(routes(b"1")).await;
    plane.cells.read_again().await.unwrap();
    let mut nodes = Vec::new();
    for (id, region) in [("b", "us"), ("a", "us"), ("c", "eu")] {
        let mut node = connected(&plane, id, region).await;
        let update = node.update().await;
        if id != "b" {
            node.ack(&update).await;
        }
        nodes.push(node);
    }
    plane.until("two serve", |plane| plane.summary().revisions.len() == 2).await;
    plane.until("two serve", |plane| plane.summary().revisions[1].nodes == 2).await;
    let mut client = FleetServiceClient::new(plane.channel().await);
    let get = |region: &str, summary_only| GetFleetRequest {
        environment: "prod".to_owned(),
        summary_only,
        region: region.to_owned(),
    };
    let fleet = client.get_fleet(get("", false)).await.unwrap().into_inner();
    let shown: Vec<_> = fleet.nodes.iter().map(|node| (&*node.region, &*node.id)).collect();
    assert_eq!(shown, [("eu", "c"), ("us", "a"), ("us", "b")]);
    assert!(fleet.nodes[2].lagging_since.is_some() && fleet.nodes[2].offered.is_some());
    assert_eq!(client.get_fleet(get("eu", false)).await.unwrap().into_inner().nodes.len(), 1);
    let summary = client.get_fleet(get("", true)).await.unwrap().into_inner();
    assert!(summary.nodes.is_empty());
    let regions: Vec<_> =
        summary.summary.unwrap().regions.into_iter().map(|r| (r.region, r.connected, r.serving)).collect();
    assert_eq!(regions, [("eu".to_owned(), 1, 1), ("us".to_owned(), 2, 1)]);
    let absent = GetFleetRequest { environment: "dev".to_owned(), ..GetFleetRequest::default() };
    assert_eq!(client.get_fleet(absent).await.unwrap_err().code(), Code::NotFound);
    let mut wrong = Request::new(get("", true));
    wrong.metadata_mut().insert("authorization", "Bearer wrong".parse().unwrap());
    assert_eq!(client.get_fleet(wrong).await.unwrap_err().code(), Code::Unauthenticated);
}

#[tokio::test]
async fn a_fleet_is_watched_as_it_changes() {
    let plane = Plane::new().await;
    plane.publish(routes(b"1")).await;
    plane.cells.read_again().await.unwrap();
    let mut client = FleetServiceClient::new(plane.channel().await);
    let watch = WatchFleetRequest { environment: "prod".to_owned() };
    let mut watched = client.watch_fleet(watch).await.unwrap().into_inner();
    let first = watched.message().await.unwrap().unwrap().summary.unwrap();
    assert_eq!((first.assignment, first.regions.len()), (1, 0));
    let mut node = connected(&plane, "a", "us").await;
    let update = node.update().await;
    node.ack(&update).await;
    loop {
        let summary = watched.message().await.unwrap().unwrap().summary.unwrap();
        if summary.regions.first().is_some_and(|region| region.serving == 1) {
            break;
        }
    }
    plane.publish(routes(b"2")).await;
    let moved = watched.message().await.unwrap().unwrap().summary.unwrap();
    assert_eq!((moved.assignment, moved.regions[0].serving), (2, 0));
    plane.stop();
    let end = loop {
        if let Err(status) = watched.message().await {
            break status;
        }
    };
    assert_eq!(end.code(), Code::Unavailable);
}

#[tokio::test]
async fn an_assignment_is_awaited_until_all_have_answered() {
    let plane = Plane::new().await;
    let first = plane.publish(routes(b"1")).await;
    plane.cells.read_again().await.unwrap();
    let mut client = FleetServiceClient::new(plane.channel().await);
    let request = |assignment, seconds| AwaitAssignmentRequest {
        environment: "prod".to_owned(),
        assignment,
        timeout: Some(prost_types::Duration { seconds, nanos: 0 }),
    };
    let mut nodes = Vec::new();
    for id in ["a", "b"] {
        let mut node = connected(&plane, id, "us").await;
        let update = node.update().await;
        nodes.push((node, update));
    }
    let missing = last(&mut client, request(first, 0)).await;
    assert_eq!((missing.verdict(), missing.missing.len()), (Verdict::TimedOut, 2));

    let mut awaited = client.await_assignment(request(0, 20)).await.unwrap().into_inner();
    assert_eq!(awaited.message().await.unwrap().unwrap().verdict(), Verdict::Unspecified);
    let (mut b, update_b) = nodes.pop().unwrap();
    let (mut a, update_a) = nodes.pop().unwrap();
    a.ack(&update_a).await;
    b.nack(&update_b, false).await;
    let done = loop {
        let message = awaited.message().await.unwrap().unwrap();
        if message.verdict() != Verdict::Unspecified {
            break message;
        }
    };
    assert_eq!(done.verdict(), Verdict::Refused);
    assert_eq!((&*done.refused[0].id, done.refused.len(), done.missing.len()), ("b", 1, 0));
    assert_eq!((done.regions[0].serving, done.regions[0].refused), (1, 1));
    assert!(awaited.message().await.unwrap().is_none(), "the verdict is the last word");

    let mut awaited = client.await_assignment(request(0, 20)).await.unwrap().into_inner();
    assert_eq!(awaited.message().await.unwrap().unwrap().verdict(), Verdict::Refused);
    // Nothing has read the second yet: whoever awaits it makes it be read.
    let second = plane.publish(routes(b"2")).await;
    let mut awaited = client.await_assignment(request(second, 20)).await.unwrap().into_inner();
    for node in [&mut a, &mut b] {
        let update = node.update().await;
        node.ack(&update).await;
    }
    let done = loop {
        let message = awaited.message().await.unwrap().unwrap();
        if message.verdict() != Verdict::Unspecified {
            break message;
        }
    };
    assert_eq!((done.verdict(), done.revision), (Verdict::Served, 2));
    assert_eq!(last(&mut client, request(first, 20)).await.verdict(), Verdict::Superseded);
    let absent = client.await_assignment(request(9, 20)).await.unwrap_err();
    assert_eq!(absent.code(), Code::NotFound);
    assert_eq!(client.await_assignment(request(0, 3601)).await.unwrap_err().code(), Code::InvalidArgument);
}

async fn last(
    client: &mut FleetServiceClient<tonic::transport::Channel>,
    request: AwaitAssignmentRequest,
) -> switchtower_proto::control::v1::AwaitAssignmentResponse {
    let mut awaited = client.await_assignment(request).await.unwrap().into_inner();
    let mut last = None;
    while let Some(message) = awaited.message().await.unwrap() {
        last = Some(message);
    }
    last.unwrap()
}

#[tokio::test]
async fn nodes_that_cannot_read_a_policy_are_named() {
    let plane = Plane::new().await;
    plane.publish(routes(b"1")).await;
    plane.cells.read_again().await.unwrap();
    let _old = connected(&plane, "old", "us").await;
    let memory = Memory::default();
    let mut newer = hello("new", 1, &memory);
    let schema = newer.schema.as_mut().unwrap();
    schema.members.extend(["Route.tomorrow".to_owned(), "Route.a".to_owned()]);
    let _new = Node::connect(plane.channel().await, newer, memory).await.unwrap();
    plane.until("both are here", |plane| plane.nodes().len() == 2).await;
    let used: BTreeSet<String> = ["Route.models", "Route.tomorrow", "kind:route"].map(str::to_owned).into();
    let cannot = plane.fleet.cannot_read("prod", &used);
    assert_eq!(cannot.len(), 1);
    assert_eq!((&*cannot[0].node, &*cannot[0].members), ("old", &["Route.tomorrow".to_owned()][..]));
    assert!(plane.fleet.cannot_read("dev", &used).is_empty());
}
