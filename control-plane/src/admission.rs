//! Lets whole contents go out by the bytes that are under way: when ten thousand nodes ask for four megabytes at once,
//! some wait, and none of them runs the control plane out of memory.
//!
//! What is small passes: a delta to every node at once is what the stream is for. What is large takes its bytes from a
//! budget and gives them back when the node has answered, was too late, or went. Nodes that hold nothing go first, because
//! nothing is served there; others by the order in which they asked. Nobody overtakes within a rank, or the largest would
//! wait for ever.

use std::{
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use tokio::sync::oneshot;

/// Most bytes under way, unless told otherwise: sixteen of the largest contents.
pub const BYTES: usize = 64 << 20;
/// What is not larger needs no permit: ten thousand of them are 160 MB, most of it in the kernel at once.
pub const SMALL: usize = 16 << 10;

/// Who goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// A node that holds nothing.
    Empty,
    /// A node that serves something.
    Serving,
}

/// The budget, and who waits for it.
#[derive(Debug)]
pub struct Admission(Mutex<Line<oneshot::Sender<()>>>);

impl Admission {
    /// A budget of so many bytes.
    #[must_use]
    pub fn new(bytes: usize) -> Arc<Self> {
        Arc::new(Admission(Mutex::new(Line::new(bytes))))
    }

    /// A place in the line for so many bytes. It is kept until the place is dropped or has become a permit.
    #[must_use]
    pub fn ask(self: &Arc<Self>, rank: Rank, bytes: usize) -> Place {
        let (turn, granted) = oneshot::channel();
        let mut line = self.lock();
        let (ticket, turns) = line.ask(rank, bytes, turn);
        drop(line);
        grant(turns);
        Place { admission: self.clone(), ticket: Some(ticket), granted }
    }

    /// Bytes under way.
    #[must_use]
    pub fn in_use(&self) -> usize {
        self.lock().in_use
    }

    /// How many wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.lock().waiting.len()
    }

    fn lock(&self) -> MutexGuard<'_, Line<oneshot::Sender<()>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wakes those whose turn it is. Whoever went meanwhile gives its bytes back itself.
fn grant(turns: Vec<oneshot::Sender<()>>) {
    for turn in turns {
        let _ = turn.send(());
    }
}

/// A place in the line: a future that becomes a permit. Dropping it leaves the line.
#[derive(Debug)]
pub struct Place {
    admission: Arc<Admission>,
    /// Absent once it has become a permit.
    ticket: Option<Ticket>,
    granted: oneshot::Receiver<()>,
}

impl Future for Place {
    type Output = Permit;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Permit> {
        // The line never drops a sender of a place that is there.
        let _ = ready!(Pin::new(&mut self.granted).poll(cx));
        let ticket = self.ticket.take().expect("a place becomes a permit once");
        Poll::Ready(Permit { admission: self.admission.clone(), bytes: ticket.bytes })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket.take() else { return };
        let turns = self.admission.lock().leave(ticket);
        grant(turns);
    }
}

/// The right to have so many bytes under way; dropping it gives them back.
#[derive(Debug)]
pub struct Permit {
    admission: Arc<Admission>,
    bytes: usize,
}

impl Permit {
    /// It is for so many bytes from now on: what is sent has changed while it waited. It may be more than there is room
    /// for, which others then wait for; going back into the line could last for ever.
    pub fn resize(&mut self, bytes: usize) {
        let turns = self.admission.lock().exchange(self.bytes, bytes);
        self.bytes = bytes;
        grant(turns);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let turns = self.admission.lock().give_back(self.bytes);
        grant(turns);
    }
}

/// Names a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ticket {
    rank: Rank,
    number: u64,
    bytes: usize,
}

/// Who waits in which order, and what is under way. `T` is how one is told that it is its turn.
#[derive(Debug)]
struct Line<T> {
    bytes: usize,
    in_use: usize,
    next: u64,
    waiting: BTreeMap<(Rank, u64), (usize, T)>,
}

impl<T> Line<T> {
    fn new(bytes: usize) -> Self {
        Line { bytes, in_use: 0, next: 0, waiting: BTreeMap::new() }
    }

    fn ask(&mut self, rank: Rank, bytes: usize, turn: T) -> (Ticket, Vec<T>) {
        let number = self.next;
        self.next += 1;
        self.waiting.insert((rank, number), (bytes, turn));
        (Ticket { rank, number, bytes }, self.turns())
    }

    fn leave(&mut self, ticket: Ticket) -> Vec<T> {
        // Whoever is not waiting any more has its bytes.
        match self.waiting.remove(&(ticket.rank, ticket.number)) {
            Some(_) => self.turns(),
            None => self.give_back(ticket.bytes),
        }
    }

    fn give_back(&mut self, bytes: usize) -> Vec<T> {
        self.exchange(bytes, 0)
    }

    fn exchange(&mut self, before: usize, after: usize) -> Vec<T> {
        self.in_use = self.in_use - before + after;
        self.turns()
    }

    /// Takes those out of the line whose turn it is. What is larger than the budget goes alone.
    fn turns(&mut self) -> Vec<T> {
        let mut turns = Vec::new();
        while let Some(first) = self.waiting.first_entry() {
            let bytes = first.get().0;
            if self.in_use > 0 && self.in_use.saturating_add(bytes) > self.bytes {
                break;
            }
            self.in_use += bytes;
            turns.push(first.remove().1);
        }
        turns
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    /// Who is let in, in order, when these ask for a budget of 10 while 10 are in use, and then everyone gives back.
    fn order(asking: &[(Rank, usize)]) -> Vec<usize> {
        let mut line = Line::new(10);
        line.in_use = 10;
        for (who, (rank, bytes)) in asking.iter().enumerate() {
            assert!(line.ask(*rank, *bytes, who).1.is_empty());
        }
        let mut order = Vec::new();
        let mut turns = line.give_back(10);
        while !turns.is_empty() {
            order.extend(&turns);
            turns = turns.iter().flat_map(|who| line.give_back(asking[*who].1)).collect();
        }
        assert_eq!(line.in_use, 0);
        order
    }

    #[test]
    fn those_who_hold_nothing_go_first_and_nobody_overtakes() {
        use Rank::{Empty, Serving};
        let check = |asking: &[(Rank, usize)], expected: &[usize]| assert_eq!(order(asking), expected, "{asking:?}");
        check(&[(Serving, 5), (Serving, 5), (Serving, 5)], &[0, 1, 2]);
        check(&[(Serving, 5), (Empty, 5), (Serving, 5), (Empty, 5)], &[1, 3, 0, 2]);
        check(&[(Serving, 6), (Serving, 6), (Serving, 1)], &[0, 1, 2]);
        check(&[(Serving, 99), (Serving, 1)], &[0, 1]);
        check(&[(Serving, 1), (Serving, 99), (Empty, 1)], &[2, 0, 1]);
    }

    #[tokio::test]
    async fn a_place_that_is_dropped_gives_way_whether_its_turn_had_come_or_not() {
        let admission = Admission::new(10);
        let first = admission.ask(Rank::Serving, 10).await;
        let second = admission.ask(Rank::Serving, 10);
        let third = admission.ask(Rank::Serving, 4);
        let fourth = admission.ask(Rank::Serving, 6);
        assert_eq!((admission.in_use(), admission.waiting()), (10, 3));
        drop(second);
        drop(first);
        assert_eq!((admission.in_use(), admission.waiting()), (10, 0), "the third's and the fourth's turn has come");
        drop(third);
        assert_eq!(admission.in_use(), 6);
        let mut fourth = fourth.await;
        fourth.resize(20);
        assert_eq!(admission.in_use(), 20);
        let fifth = admission.ask(Rank::Empty, 1);
        assert_eq!(admission.waiting(), 1);
        fourth.resize(2);
        drop(fifth.await);
        drop(fourth);
        assert_eq!((admission.in_use(), admission.waiting()), (0, 0));
    }

    proptest! {
        #[test]
        fn bytes_are_neither_lost_nor_made(steps in prop::collection::vec((0..4_u8, 0..30_usize, any::<bool>()), 1..200)) {
            let mut line = Line::new(20);
            let mut places: Vec<Ticket> = Vec::new();
            let mut inside: HashMap<u64, usize> = HashMap::new();
            for (step, n, empty) in steps {
                let turns = match step {
                    0 | 1 => {
                        let rank = if empty { Rank::Empty } else { Rank::Serving };
                        let number = line.next;
                        let (ticket, turns) = line.ask(rank, n, (number, n));
                        places.push(ticket);
                        turns
                    }
                    _ if places.is_empty() => Vec::new(),
                    _ => {
                        let ticket = places.swap_remove(n % places.len());
                        inside.remove(&ticket.number);
                        line.leave(ticket)
                    }
                };
                inside.extend(turns);
                prop_assert_eq!(line.in_use, inside.values().sum::<usize>());
                prop_assert!(line.in_use <= 20 || inside.values().filter(|bytes| **bytes > 0).count() == 1);
                prop_assert_eq!(line.waiting.len() + inside.len(), places.len());
                if let Some((_, (bytes, _))) = line.waiting.first_key_value() {
                    prop_assert!(line.in_use > 0 && line.in_use + bytes > 20, "the first waits for nothing");
                }
            }
        }
    }
}
