//! The contents that were served lately: what nodes hold that are behind, and so what a delta starts from.

use std::{collections::VecDeque, sync::Arc};

use prost::Message;
use switchtower_proto::policy::v1::Item;

use super::Digest;

/// A node that is more revisions behind has its base read from the store.
const CONTENTS: usize = 8;
/// Of one environment, in bytes: four of the largest contents.
const BYTES: usize = 16 << 20;

/// The latest contents, newest last.
#[derive(Debug, Default)]
pub(super) struct Recent(VecDeque<(Digest, Arc<[Item]>, usize)>);

impl Recent {
    pub(super) fn get(&self, digest: &Digest) -> Option<Arc<[Item]>> {
        self.0.iter().find(|(known, _, _)| known == digest).map(|(_, items, _)| items.clone())
    }

    /// Keeps a content as the newest, in the place of the oldest that there is no room for. The newest always has room:
    /// it is served anyway.
    pub(super) fn keep(&mut self, digest: Digest, items: Arc<[Item]>) {
        self.0.retain(|(known, _, _)| *known != digest);
        let bytes = items.iter().map(Message::encoded_len).sum();
        self.0.push_back((digest, items, bytes));
        while self.0.len() > 1 && (self.0.len() > CONTENTS || self.bytes() > BYTES) {
            self.0.pop_front();
        }
    }

    fn bytes(&self) -> usize {
        self.0.iter().map(|(_, _, bytes)| bytes).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items(bytes: usize) -> Arc<[Item]> {
        [Item { kind: "route".to_owned(), name: "chat".to_owned(), body: vec![0; bytes].into() }].into()
    }

    fn kept(recent: &Recent) -> Vec<u8> {
        recent.0.iter().map(|(digest, _, _)| digest[0]).collect()
    }

    #[test]
    fn the_oldest_makes_room_for_the_newest() {
        let mut recent = Recent::default();
        (0..10).for_each(|n| recent.keep([n; 32], items(10)));
        assert_eq!(kept(&recent), [2, 3, 4, 5, 6, 7, 8, 9]);
        recent.keep([3; 32], items(10));
        assert_eq!(kept(&recent), [2, 4, 5, 6, 7, 8, 9, 3], "a content that is served again is the newest");
        recent.keep([10; 32], items(BYTES - 100));
        assert_eq!(kept(&recent), [8, 9, 3, 10], "three small ones fit beside it");
        recent.keep([11; 32], items(2 * BYTES));
        assert_eq!(kept(&recent), [11], "the newest is kept however large it is");
        assert!(recent.get(&[11; 32]).is_some());
        assert!(recent.get(&[10; 32]).is_none());
    }
}
