//! Policies that do not fit into one value of a store.

use switchtower_control_plane::store::MAX_VALUE_BYTES;
use switchtower_policy::items;
use switchtower_proto::{control::v1::GetRevisionRequest, policy::v1::Item};

use crate::support::{Plane, applying, of_yaml, prod};

/// A policy of nearly 4 MiB. `other` is in one of its routes.
pub(crate) fn large(other: u32) -> Vec<Item> {
    of_routes(255, other)
}

/// A policy of so many routes of 16 KiB each. `other` is in one of them.
pub(crate) fn of_routes(routes: u64, other: u32) -> Vec<Item> {
    let mut text = String::from("environment: prod\nroutes:\n");
    for route in 0..routes {
        // Answers that are not the same, so that no two chunks are by chance.
        let words: String = (0..1600).map(|word| format!("{:09x} ", (route + 1) * 7_919 * (word + 1))).collect();
        let other = if route == routes / 2 { other } else { 0 };
        text += &format!("  r{route:03}: {{ tiers: [{{ answer: \"{other} {}\" }}] }}\n", words.trim_end());
    }
    text += "callers: { web: { tenant: acme, routes: [r000] } }\n";
    of_yaml(text)
}

async fn chunks(plane: &Plane) -> usize {
    plane.store.all().await.iter().filter(|entry| entry.key.starts_with("chunk/")).count()
}

#[tokio::test]
async fn four_mebibytes_go_through_chunks_and_come_back_as_they_were() {
    let plane = Plane::new().await;
    let items = large(0);
    let bytes: usize = items.iter().map(|item| item.body.len()).sum();
    assert!((4_000_000..4 << 20).contains(&bytes), "{bytes}");
    plane.apply(applying(items.clone(), Some(0))).await.unwrap();
    let get = GetRevisionRequest { environment: "prod".to_owned(), number: 1 };
    let got = plane.policies().get_revision(get).await.unwrap().into_inner();
    assert_eq!(got.items, items);
    let record = got.revision.unwrap().record.unwrap();
    assert_eq!(record.content_digest, items::digest(&items));
    assert_eq!(record.chunks.len(), chunks(&plane).await);
    assert!(record.chunks.len() > 8, "{}", record.chunks.len());
    assert!(plane.store.all().await.iter().all(|entry| entry.value.len() <= MAX_VALUE_BYTES));
    plane.is_whole("prod").await;
}

#[tokio::test]
async fn a_change_of_one_route_stores_one_chunk_more() {
    let plane = Plane::new().await;
    plane.apply(applying(large(0), None)).await.unwrap();
    let before = chunks(&plane).await;
    plane.apply(applying(large(1), None)).await.unwrap();
    assert_eq!(chunks(&plane).await, before + 1);
    plane.is_whole("prod").await;
}

#[tokio::test]
async fn two_who_apply_the_same_large_policy_at_once_make_one_revision() {
    let plane = Plane::new().await;
    plane.applied(1, None).await.unwrap();
    let (one, other) = tokio::join!(plane.apply(applying(large(0), None)), plane.apply(applying(large(0), None)));
    let unchanged = [one.unwrap().unchanged, other.unwrap().unchanged];
    assert!(unchanged.contains(&true) && unchanged.contains(&false), "{unchanged:?}");
    plane.is_whole("prod").await;
}

#[tokio::test]
async fn a_damaged_chunk_is_told_and_mended_by_applying_the_content_again() {
    let plane = Plane::new().await;
    plane.apply(applying(large(0), None)).await.unwrap();
    let keys = plane.store.all().await.into_iter().map(|entry| entry.key);
    let chunk = keys.into_iter().find(|key| key.starts_with("chunk/")).unwrap();
    plane.store.damage(&chunk, |bytes| bytes[1000] ^= 1).await;
    let problems = plane.revisions.verify("prod").await.unwrap();
    let digest = chunk.strip_prefix("chunk/").unwrap();
    assert_eq!(problems, [format!("revision 1 of prod: chunk {digest} has not its digest")]);
    // Another policy can be applied, although there is nothing to compare it with.
    let applied = plane.apply(applying(prod(1), Some(1))).await.unwrap();
    assert_eq!(applied.diff, None);
    plane.apply(applying(large(0), Some(2))).await.unwrap();
    plane.is_whole("prod").await;
}
