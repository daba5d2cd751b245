//! An environment's head, as it is stored and as it is used.

use std::time::SystemTime;

use prost::Message;
use switchtower_proto::store::v1 as stored;

use super::Refused;
use crate::store::{Entry, Version};

/// Most rolled back contents that are remembered.
const MAX_ROLLED_BACK: usize = 100;

/// The newest revision of an environment, and what nodes should serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Number of the newest revision, 1 or more.
    pub revision: u64,
    /// Digest of its record.
    pub record_digest: [u8; 32],
    /// What nodes should serve.
    pub assignment: Assignment,
    /// Digests of contents that were assigned and then rolled back, newest first.
    pub rolled_back: Vec<[u8; 32]>,
}

/// A decision what nodes should serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// Its number, 1 or more; ascending.
    pub number: u64,
    /// Number of the revision.
    pub revision: u64,
    /// Number of the revision that was assigned before. 0: none was.
    pub previous_revision: u64,
    /// The revision's content digest.
    pub content_digest: [u8; 32],
    /// When it was made.
    pub made_at: SystemTime,
    /// W3C trace context of the call that made it. Empty: it had none.
    pub traceparent: String,
}

impl Head {
    /// The head that an entry holds, and the version to which a change of it is compared.
    ///
    /// # Errors
    /// [`Refused::Damaged`].
    pub fn read(entry: &Entry) -> Result<(Self, Version), Refused> {
        let head = stored::Head::decode(&*entry.value).ok().and_then(Head::of);
        let head = head.ok_or_else(|| Refused::Damaged(format!("{} is no head", entry.key)))?;
        Ok((head, entry.version))
    }

    fn of(head: stored::Head) -> Option<Self> {
        let assignment = head.assignment?;
        let assignment = Assignment {
            number: assignment.number,
            revision: assignment.revision,
            previous_revision: assignment.previous_revision,
            content_digest: assignment.content_digest.try_into().ok()?,
            made_at: assignment.made_at?.try_into().ok()?,
            traceparent: assignment.traceparent,
        };
        let rolled_back = head.rolled_back.into_iter().map(|digest| digest.try_into().ok()).collect::<Option<_>>()?;
        let record_digest = head.record_digest.try_into().ok()?;
        let inside = (1..=head.revision).contains(&assignment.revision) && assignment.number > 0;
        inside.then_some(Head { revision: head.revision, record_digest, assignment, rolled_back })
    }

    /// As it is stored.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let assignment = &self.assignment;
        let assignment = stored::Assignment {
            number: assignment.number,
            revision: assignment.revision,
            previous_revision: assignment.previous_revision,
            content_digest: assignment.content_digest.to_vec(),
            made_at: Some(assignment.made_at.into()),
            traceparent: assignment.traceparent.clone(),
        };
        let head = stored::Head {
            revision: self.revision,
            record_digest: self.record_digest.to_vec(),
            assignment: Some(assignment),
            rolled_back: self.rolled_back.iter().map(|digest| digest.to_vec()).collect(),
        };
        head.encode_to_vec()
    }

    /// Whether this content was assigned and then rolled back.
    #[must_use]
    pub fn was_rolled_back(&self, content_digest: &[u8]) -> bool {
        self.rolled_back.iter().any(|digest| digest == content_digest)
    }

    /// What is remembered as rolled back after `bad` was taken back and `good` assigned.
    pub(super) fn rolled_back_with(&self, bad: Option<[u8; 32]>, good: [u8; 32]) -> Vec<[u8; 32]> {
        let others = self.rolled_back.iter().copied().filter(|digest| Some(*digest) != bad);
        bad.into_iter().chain(others).filter(|digest| *digest != good).take(MAX_ROLLED_BACK).collect()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn head() -> Head {
        let assignment = Assignment {
            number: 7,
            revision: 3,
            previous_revision: 4,
            content_digest: [3; 32],
            made_at: SystemTime::UNIX_EPOCH,
            traceparent: String::new(),
        };
        Head { revision: 4, record_digest: [4; 32], assignment, rolled_back: vec![[4; 32], [2; 32]] }
    }

    fn entry(value: Vec<u8>) -> Entry {
        Entry { key: "environment/prod/head".to_owned(), value: Bytes::from(value), version: Version(9) }
    }

    #[test]
    fn a_stored_head_reads_back_with_its_version() {
        assert_eq!(Head::read(&entry(head().encode())).unwrap(), (head(), Version(9)));
    }

    #[test]
    fn a_head_that_cannot_be_is_damaged() {
        let check = |change: fn(&mut Head)| {
            let mut head = head();
            change(&mut head);
            assert!(matches!(Head::read(&entry(head.encode())), Err(Refused::Damaged(_))), "{head:?}");
        };
        check(|head| head.assignment.revision = 5);
        check(|head| head.assignment.revision = 0);
        check(|head| head.assignment.number = 0);
        assert!(Head::read(&entry(b"\xff".to_vec())).is_err());
        assert!(Head::read(&entry(Vec::new())).is_err());
    }

    #[test]
    fn what_is_assigned_is_not_remembered_as_rolled_back() {
        let check = |bad: Option<[u8; 32]>, good: [u8; 32], expected: &[u8]| {
            let left = head().rolled_back_with(bad, good);
            assert_eq!(left.iter().map(|digest| digest[0]).collect::<Vec<_>>(), expected);
        };
        check(None, [1; 32], &[4, 2]);
        check(None, [4; 32], &[2]);
        check(Some([3; 32]), [1; 32], &[3, 4, 2]);
        check(Some([2; 32]), [1; 32], &[2, 4]);
        check(Some([3; 32]), [2; 32], &[3, 4]);
        let full = Head { rolled_back: (0..100).map(|byte| [byte; 32]).collect(), ..head() };
        let left = full.rolled_back_with(Some([200; 32]), [201; 32]);
        assert_eq!((left.len(), left[0], left[99]), (100, [200; 32], [98; 32]));
    }
}
