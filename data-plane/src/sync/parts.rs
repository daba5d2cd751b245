//! One update put together from its parts.
//!
//! Parts come in order; whatever else comes is refused once per update, and nothing is kept of it. What is kept is
//! bounded: a sender that never ends costs no more than the largest update.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use switchtower_proto::sync::v1::Update;
use tokio::time::Instant;

/// Most bytes of a whole update: a policy of 4 MiB, and keys.
pub(super) const MAX_BYTES: usize = 8 << 20;
/// Most parts of an update: enough for the largest in parts of 16 KiB.
pub(super) const MAX_PARTS: u32 = 512;
/// How long an update may take from its first part to its last.
pub(super) const MAX_TIME: Duration = Duration::from_secs(30);

/// An update that is not whole yet.
#[derive(Debug, Default)]
pub(super) struct Parts {
    unfinished: Option<Unfinished>,
    /// The update whose parts are passed over, because it was refused.
    refused: Option<u64>,
}

#[derive(Debug)]
struct Unfinished {
    id: u64,
    parts: u32,
    /// The part that must come next.
    next: u32,
    body: BytesMut,
    began: Instant,
}

/// What a part made of an update.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Made {
    /// Parts are missing, or it was refused before.
    Nothing,
    /// It is whole.
    Whole {
        /// The update's id.
        id: u64,
        /// Its encoded body.
        body: Bytes,
    },
    /// It will not be whole.
    Refused(Broken),
}

/// Why an update is not put together.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Broken {
    /// The update's id.
    pub id: u64,
    /// A sentence.
    pub why: &'static str,
    /// Whether the same update, sent whole and again, may do better.
    pub transient: bool,
}

impl Parts {
    /// Takes a part.
    pub(super) fn take(&mut self, update: Update, now: Instant) -> Made {
        if update.part == 0 {
            self.refused = None;
            let replaced = self.unfinished.take();
            if let Some(problem) = announced(&update) {
                return self.refuse(update.update_id, problem, false);
            }
            // What is replaced was never answered; its sender has given it up by sending another.
            drop(replaced);
            self.unfinished = Some(Unfinished {
                id: update.update_id,
                parts: update.parts,
                next: 0,
                body: BytesMut::new(),
                began: now,
            });
        } else if self.refused == Some(update.update_id) {
            return Made::Nothing;
        }
        let id = update.update_id;
        let Some(unfinished) = self.unfinished.as_mut() else {
            return self.refuse(id, "a part came without the parts before it", true);
        };
        if unfinished.id != id || unfinished.parts != update.parts || unfinished.next != update.part {
            let id = unfinished.id;
            return self.refuse(id, "its parts came out of order", true);
        }
        if unfinished.body.len() + update.body.len() > MAX_BYTES {
            return self.refuse(id, "it is larger than 8 MiB", false);
        }
        unfinished.next += 1;
        if unfinished.parts == 1 {
            self.unfinished = None;
            return Made::Whole { id, body: update.body };
        }
        unfinished.body.extend_from_slice(&update.body);
        if unfinished.next < unfinished.parts {
            return Made::Nothing;
        }
        match self.unfinished.take() {
            Some(whole) => Made::Whole { id, body: whole.body.freeze() },
            None => Made::Nothing,
        }
    }

    /// Until when the parts that are missing must have come; `None`: none are.
    #[must_use]
    pub(super) fn due(&self) -> Option<Instant> {
        self.unfinished.as_ref().map(|unfinished| unfinished.began + MAX_TIME)
    }

    /// Gives up what has not become whole.
    pub(super) fn give_up(&mut self) -> Option<Broken> {
        let id = self.unfinished.as_ref()?.id;
        match self.refuse(id, "its parts did not all come within 30 seconds", true) {
            Made::Refused(broken) => Some(broken),
            Made::Nothing | Made::Whole { .. } => None,
        }
    }

    fn refuse(&mut self, id: u64, why: &'static str, transient: bool) -> Made {
        self.unfinished = None;
        self.refused = Some(id);
        Made::Refused(Broken { id, why, transient })
    }
}

/// What is wrong with what a first part says of the others.
fn announced(first: &Update) -> Option<&'static str> {
    match first.parts {
        0 => Some("it says that it has no parts"),
        parts if parts > MAX_PARTS => Some("it says that it has more than 512 parts"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(id: u64, part: u32, parts: u32, body: &str) -> Update {
        Update { update_id: id, part, parts, body: Bytes::copy_from_slice(body.as_bytes()) }
    }

    #[tokio::test(start_paused = true)]
    async fn parts_make_an_update_only_in_order() {
        #[track_caller]
        fn check(parts: &[(u64, u32, u32, &str)], expected: &[&str]) {
            let mut assembling = Parts::default();
            let made = parts.iter().filter_map(|(id, number, of, body)| {
                match assembling.take(part(*id, *number, *of, body), Instant::now()) {
                    Made::Nothing => None,
                    Made::Whole { id, body } => Some(format!("{id}:{}", String::from_utf8_lossy(&body))),
                    Made::Refused(broken) => Some(format!("{} refused", broken.id)),
                }
            });
            assert_eq!(made.collect::<Vec<_>>(), expected, "{parts:?}");
        }
        check(&[(1, 0, 1, "a")], &["1:a"]);
        check(&[(1, 0, 3, "a"), (1, 1, 3, "b"), (1, 2, 3, "c"), (2, 0, 1, "d")], &["1:abc", "2:d"]);
        // Given up by its sender.
        check(&[(1, 0, 3, "a"), (2, 0, 2, "x"), (2, 1, 2, "y")], &["2:xy"]);
        // Out of order: refused once, and the rest of it is passed over.
        check(&[(1, 0, 4, "a"), (1, 2, 4, "c"), (1, 3, 4, "d"), (2, 0, 1, "e")], &["1 refused", "2:e"]);
        check(&[(1, 0, 2, "a"), (1, 0, 2, "a"), (1, 1, 2, "b")], &["1:ab"]);
        check(&[(1, 0, 2, "a"), (1, 1, 3, "b")], &["1 refused"]);
        check(&[(1, 0, 2, "a"), (2, 1, 2, "b")], &["1 refused"]);
        check(&[(1, 1, 2, "b"), (1, 0, 2, "a"), (1, 1, 2, "b")], &["1 refused", "1:ab"]);
        check(&[(1, 0, 0, "a"), (1, 0, 513, "a"), (1, 1, 513, "b")], &["1 refused", "1 refused"]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_never_ends_and_what_is_too_large_is_given_up() {
        let mut parts = Parts::default();
        let mib = "x".repeat(1 << 20);
        for number in 0..8 {
            assert_eq!(parts.take(part(1, number, 9, &mib), Instant::now()), Made::Nothing);
        }
        let Made::Refused(broken) = parts.take(part(1, 8, 9, "x"), Instant::now()) else { panic!("it was taken") };
        assert!(!broken.transient);
        assert_eq!(parts.due(), None);
        let whole = "x".repeat(MAX_BYTES + 1);
        assert!(matches!(parts.take(part(2, 0, 1, &whole), Instant::now()), Made::Refused(_)));

        assert_eq!(parts.take(part(3, 0, 2, "x"), Instant::now()), Made::Nothing);
        assert_eq!(parts.due(), Some(Instant::now() + MAX_TIME));
        let broken = parts.give_up().unwrap();
        assert!(broken.transient && broken.id == 3, "{broken:?}");
        assert_eq!((parts.due(), parts.give_up()), (None, None));
        assert_eq!(parts.take(part(3, 1, 2, "x"), Instant::now()), Made::Nothing);
    }
}
