//! A waker between a connection's task and what it drives by itself.
//!
//! A connection and whoever waits on it are polled in one task, and hyper has them wake each other: a body its connection,
//! a response its reader. Tokio takes a task that wakes itself for one that yields: it queues the task once more and wakes
//! another thread to look for work, futex calls that cost more than the work. What wakes while it is being polled is
//! polled again at once instead.

use std::{
    future::{Future, poll_fn},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    task::{Context, Poll, Wake, Waker},
};

use futures_util::task::AtomicWaker;

/// Rounds in one go. Then the runtime has its turn: a connection that always has more must not hold up the others.
const MOST_ROUNDS: usize = 16;

/// A future that is polled through a relay of its own.
///
/// Boxed: an `async fn` that pins its argument has room for it twice, and a connection keeps that room to its end.
pub(super) fn relayed<F: Future>(future: F) -> impl Future<Output = F::Output> {
    let relay = Relay::new();
    let mut future = Box::pin(future);
    poll_fn(move |cx| relay.poll(cx, |cx| future.as_mut().poll(cx)))
}

/// See the module.
struct Relay {
    shared: Arc<Shared>,
    waker: Waker,
}

#[derive(Default)]
struct Shared {
    polling: AtomicBool,
    woken: AtomicBool,
    task: AtomicWaker,
}

impl Wake for Shared {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // In this order: whoever stops polling looks at `woken` after it has said so.
        self.woken.store(true, SeqCst);
        if !self.polling.load(SeqCst) {
            self.task.wake();
        }
    }
}

impl Relay {
    fn new() -> Self {
        let shared = Arc::new(Shared::default());
        Relay { waker: Waker::from(Arc::clone(&shared)), shared }
    }

    /// Polls until it is ready or nothing has woken it meanwhile; then the task is woken as by any waker.
    fn poll<T>(&self, cx: &mut Context<'_>, mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
        self.shared.task.register(cx.waker());
        let mut inner = Context::from_waker(&self.waker);
        for _ in 0..MOST_ROUNDS {
            self.shared.polling.store(true, SeqCst);
            self.shared.woken.store(false, SeqCst);
            let polled = poll(&mut inner);
            self.shared.polling.store(false, SeqCst);
            if polled.is_ready() || !self.shared.woken.load(SeqCst) {
                return polled;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Counting(AtomicUsize);

    impl Wake for Counting {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    /// How often it was polled and the task woken when it wakes itself in its first rounds.
    fn polled(self_wakes: usize) -> (usize, usize) {
        let count = Arc::new(Counting::default());
        let waker = Waker::from(Arc::clone(&count));
        let mut rounds = 0;
        let polled: Poll<()> = Relay::new().poll(&mut Context::from_waker(&waker), |cx| {
            rounds += 1;
            if rounds <= self_wakes {
                cx.waker().wake_by_ref();
            }
            Poll::Pending
        });
        assert!(polled.is_pending());
        (rounds, count.0.load(SeqCst))
    }

    #[test]
    fn what_wakes_itself_is_polled_again_without_waking_the_task() {
        assert_eq!(polled(0), (1, 0));
        assert_eq!(polled(3), (4, 0));
    }

    #[test]
    fn what_never_stops_waking_itself_lets_the_runtime_have_its_turn() {
        assert_eq!(polled(usize::MAX), (MOST_ROUNDS, 1));
    }

    #[test]
    fn a_wake_from_outside_wakes_the_task() {
        let count = Arc::new(Counting::default());
        let task = Waker::from(Arc::clone(&count));
        let relay = Relay::new();
        let mut kept = None;
        let polled: Poll<()> = relay.poll(&mut Context::from_waker(&task), |cx| {
            kept = Some(cx.waker().clone());
            Poll::Pending
        });
        assert!(polled.is_pending());
        kept.unwrap().wake();
        assert_eq!(count.0.load(SeqCst), 1);
    }
}
