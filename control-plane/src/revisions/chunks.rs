//! A content cut into chunks, and put together again.
//!
//! Chunks are named by their digests, so a chunk that two revisions share is stored once. Where it is cut follows from
//! the items' names and not from their places: after an item that came, went or grew, the cuts are soon where they were.

use aws_lc_rs::digest::{SHA256, digest};
use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use switchtower_policy::items;
use switchtower_proto::policy::v1;

/// Most bytes of a chunk.
pub const MAX_BYTES: usize = 1 << 20;
/// Least bytes of a chunk, the last of a content excepted: 64 and some digests are in the record of the largest one.
const MIN_BYTES: usize = 64 << 10;
/// After the least bytes, one of so many items is the last of its chunk.
const ONE_OF: u8 = 16;

/// A part of an encoded content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// SHA-256 of its bytes.
    pub digest: [u8; 32],
    /// Its bytes, at most [`MAX_BYTES`].
    pub bytes: Bytes,
}

impl Chunk {
    fn of(bytes: Bytes) -> Self {
        Chunk { digest: sha256(&bytes), bytes }
    }
}

/// SHA-256.
pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    digest(&SHA256, bytes).as_ref().try_into().expect("SHA-256 is 32 bytes long")
}

/// The encoded content of these items in chunks. Only an item that is larger than a chunk is cut within.
#[must_use]
pub fn split(items: &[v1::Item]) -> Vec<Chunk> {
    let mut chunks = Vec::new();
    let mut open = BytesMut::new();
    for item in items {
        let before = open.len();
        // As prost writes a repeated member, one after the other.
        prost::encoding::message::encode(1, item, &mut open);
        if open.len() > MAX_BYTES && before > 0 {
            let item = open.split_off(before);
            chunks.push(Chunk::of(std::mem::replace(&mut open, item).freeze()));
        }
        while open.len() > MAX_BYTES {
            chunks.push(Chunk::of(open.split_to(MAX_BYTES).freeze()));
        }
        if open.len() >= MIN_BYTES && is_last(item) {
            chunks.push(Chunk::of(open.split().freeze()));
        }
    }
    if !open.is_empty() {
        chunks.push(Chunk::of(open.freeze()));
    }
    chunks
}

/// Whether an item is the last of its chunk. Its body has no say, so that a change of it changes one chunk.
fn is_last(item: &v1::Item) -> bool {
    sha256(&[item.kind.as_bytes(), b"/", item.name.as_bytes()].concat())[0].is_multiple_of(ONE_OF)
}

/// The items of which `parts` are the chunks, in their order.
///
/// # Errors
/// What is wrong: a part that is not what its digest says, items that have not the digest `expected`.
pub fn join(parts: &[Chunk], expected: &[u8]) -> Result<Vec<v1::Item>, String> {
    let mut whole = BytesMut::with_capacity(parts.iter().map(|part| part.bytes.len()).sum());
    for part in parts {
        if sha256(&part.bytes) != part.digest {
            return Err(format!("chunk {} has not its digest", hex::encode(part.digest)));
        }
        whole.put_slice(&part.bytes);
    }
    let content = v1::Content::decode(whole.freeze()).map_err(|_| "the chunks are no content".to_owned())?;
    match items::digest(&content.items).as_slice() == expected {
        true => Ok(content.items),
        false => Err("the content has not its digest".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn item(name: &str, bytes: usize) -> v1::Item {
        // Bodies that differ, as equal ones would be one chunk.
        let body: Vec<u8> = sha256(name.as_bytes()).into_iter().cycle().take(bytes).collect();
        v1::Item { kind: "route".to_owned(), name: name.to_owned(), body: body.into() }
    }

    fn routes(count: usize, bytes: usize) -> Vec<v1::Item> {
        (0..count).map(|number| item(&format!("r{number:05}"), bytes)).collect()
    }

    fn digests(items: &[v1::Item]) -> BTreeSet<[u8; 32]> {
        split(items).iter().map(|chunk| chunk.digest).collect()
    }

    #[test]
    fn chunks_together_are_the_encoded_content_and_give_its_items() {
        for items in [
            vec![],
            routes(1, 0),
            routes(3, 100),
            routes(9000, 400),
            vec![item("a", 10), item("b", MAX_BYTES + 1), item("c", 3 * MAX_BYTES), item("d", 10)],
            vec![item("a", MAX_BYTES - 10), item("b", 20), item("c", MAX_BYTES)],
        ] {
            let chunks = split(&items);
            let whole: Vec<u8> = chunks.iter().flat_map(|chunk| chunk.bytes.to_vec()).collect();
            assert_eq!(whole, v1::Content { items: items.clone() }.encode_to_vec());
            assert!(chunks.iter().all(|chunk| (1..=MAX_BYTES).contains(&chunk.bytes.len())));
            assert_eq!(join(&chunks, &items::digest(&items)).unwrap(), items);
        }
    }

    #[test]
    fn four_mebibytes_of_small_items_are_few_chunks() {
        let chunks = split(&routes(10_000, 400)).len();
        assert!((30..=64).contains(&chunks), "{chunks}");
    }

    #[test]
    fn what_did_not_change_shares_its_chunks() {
        let items = routes(9000, 400);
        let all = digests(&items).len();
        let check = |what: &str, changed: &[v1::Item]| {
            let shared = digests(&items).intersection(&digests(changed)).count();
            assert!(shared + 4 >= all, "{what}: {shared} of {all}");
        };
        let at = 4000;
        let mut other = items.clone();
        other[at].body = vec![7; 401].into();
        check("changed", &other);
        let mut other = items.clone();
        other.remove(at);
        check("removed", &other);
        let mut other = items.clone();
        other.insert(at, item("r03999a", 400));
        check("added", &other);
    }

    #[test]
    fn a_chunk_that_is_missing_damaged_or_in_another_s_place_is_noticed() {
        let items = routes(1000, 400);
        let (chunks, expected) = (split(&items), items::digest(&items));
        assert!(chunks.len() > 2);
        assert!(join(&chunks[1..], &expected).is_err());
        let mut swapped = chunks.clone();
        swapped.swap(0, 1);
        assert!(join(&swapped, &expected).is_err());
        let mut damaged = chunks;
        let mut bytes = damaged[0].bytes.to_vec();
        bytes[100] ^= 1;
        damaged[0].bytes = bytes.into();
        assert_eq!(
            join(&damaged, &expected).unwrap_err(),
            format!("chunk {} has not its digest", hex::encode(damaged[0].digest))
        );
    }
}
