//! The one writer: takes transactions in the order in which they came, and makes all that wait durable at once.
//!
//! A disk takes a millisecond or more to say that something is safe, and as long for a hundred transactions as for one. So
//! whatever came while the last batch was on its way is the next batch; nothing waits for a batch to fill. Each transaction
//! is judged against all before it, those of its own batch among them; then the database commits once; then all are told.

use std::sync::Arc;

use tokio::{
    sync::{mpsc, oneshot},
    task::spawn_blocking,
    time::{Duration, Instant, sleep, sleep_until},
};

use super::{
    Shared,
    problem::Problem,
    tables::{Batch, Judged},
};
use crate::store::{Error, Lease, Outcome, Transaction, Version, check};

/// How many orders wait at most; who comes then waits for a place. It is also the most of one batch.
pub(super) const MOST_WAITING: usize = 128;

/// A batch takes no more once it writes this many bytes, so that the first in it do not wait for the last.
const ENOUGH_BYTES: usize = 8 << 20;

/// How soon ended leases' keys are tried to be deleted again, where the disk refused. Within the time after which a full
/// disk must work again by itself.
const AGAIN: Duration = Duration::from_secs(1);

type Answered<T> = oneshot::Sender<Result<T, Error>>;

/// What the writer is to do.
pub(super) enum Order {
    Commit { transaction: Transaction, answer: Answered<Outcome> },
    Revoke { lease: Lease, answer: Answered<()> },
    Compact(Answered<()>),
    Close(Answered<()>),
}

/// What the writer knows between batches.
#[derive(Clone, Default)]
struct Writer {
    /// Leases that are over, while their keys may still be there.
    over: Vec<Lease>,
    /// A batch of this many bytes found the disk full. Fewer may still fit into what the file has; for as many, room is
    /// made first, because the database must be opened anew after it found the disk full by itself.
    full_at: Option<usize>,
}

/// Carries out orders until the store is closed or dropped.
pub(super) async fn run(shared: Arc<Shared>, mut orders: mpsc::Receiver<Order>) {
    let mut writer = Writer::default();
    let closing = loop {
        let first = tokio::select! {
            order = orders.recv() => match order {
                Some(order) => Some(order),
                None => break None,
            },
            () = a_lease_is_due(&shared) => None,
            () = sleep(AGAIN), if !writer.over.is_empty() => None,
        };
        let (work, then) = gather(first, &mut orders, writer.full_at.is_some());
        let now = Instant::now();
        writer.over.extend(shared.with_leases(|leases| leases.take_due(now)));
        writer = blocking(writer, &shared, move |writer, shared| writer.batch(shared, now, work)).await;
        match then {
            Some(Order::Compact(answer)) => {
                writer = blocking(writer, &shared, move |_, shared| {
                    drop(answer.send(shared.handle.compact().map_err(Error::from)))
                })
                .await;
            }
            Some(Order::Close(answer)) => break Some(answer),
            _ => {}
        }
    };
    blocking(writer, &shared, |_, shared| shared.handle.close()).await;
    if let Some(answer) = closing {
        // Whoever waits no longer knows by other means.
        let _ = answer.send(Ok(()));
    }
}

/// Takes what waits, up to an order that needs the database to itself.
fn gather(first: Option<Order>, orders: &mut mpsc::Receiver<Order>, one_by_one: bool) -> (Vec<Order>, Option<Order>) {
    let (mut work, mut bytes) = (Vec::new(), 0);
    let mut next = first;
    while let Some(order) = next {
        match &order {
            Order::Commit { transaction, .. } => bytes += check::size(transaction),
            Order::Revoke { .. } => {}
            Order::Compact(_) | Order::Close(_) => return (work, Some(order)),
        }
        work.push(order);
        // On a full disk one that does not fit must not take others with it.
        let enough = one_by_one || work.len() >= MOST_WAITING || bytes >= ENOUGH_BYTES;
        next = if enough { None } else { orders.try_recv().ok() };
    }
    (work, None)
}

async fn a_lease_is_due(shared: &Shared) {
    loop {
        match shared.with_leases(|leases| leases.next_due()) {
            Some(due) => tokio::select! {
                () = sleep_until(due) => return,
                () = shared.leases_changed.notified() => {}
            },
            None => shared.leases_changed.notified().await,
        }
    }
}

/// Works on a thread that may wait for the disk. After a panic the database is opened anew, as after any other failure: it
/// may have been in the middle of a change.
async fn blocking(
    mut writer: Writer,
    shared: &Arc<Shared>,
    work: impl FnOnce(&mut Writer, &Shared) + Send + 'static,
) -> Writer {
    let (before, working) = (writer.clone(), shared.clone());
    let worked = spawn_blocking(move || {
        work(&mut writer, &working);
        writer
    });
    match worked.await {
        Ok(writer) => writer,
        Err(stopped) => {
            if stopped.is_panic() {
                tracing::error!("the store's writer panicked; the file is opened and verified anew");
                let shared = shared.clone();
                // What it gives is asked for again by whoever comes next.
                let _ = spawn_blocking(move || shared.handle.reopen()).await;
            }
            before
        }
    }
}

impl Writer {
    /// Carries out orders as one commit of the database, and answers them.
    fn batch(&mut self, shared: &Shared, now: Instant, work: Vec<Order>) {
        if work.is_empty() && self.over.is_empty() {
            return;
        }
        let bytes = work.iter().map(|order| match order {
            Order::Commit { transaction, .. } => check::size(transaction),
            _ => 0,
        });
        let bytes: usize = bytes.sum();
        let told = self.make_room(shared, bytes).and_then(|()| self.carry_out(shared, now, &work));
        match &told {
            Ok(_) => self.over.clear(),
            Err(problem) if problem.is_full() => self.full_at = Some(bytes),
            Err(_) => {}
        }
        answer(work, told);
    }

    fn make_room(&mut self, shared: &Shared, bytes: usize) -> Result<(), Problem> {
        if self.full_at.is_some_and(|full_at| bytes >= full_at) {
            shared.handle.make_room()?;
            self.full_at = None;
        }
        Ok(())
    }

    fn carry_out(&mut self, shared: &Shared, now: Instant, work: &[Order]) -> Result<Vec<Judged>, Problem> {
        let write = shared.handle.write()?;
        let (judged, version, ended) = match self.judge_all(shared, now, work, &write) {
            Ok((judged, version, true)) => (judged, version, write.commit().map_err(Problem::from)),
            // Nothing changed: there is nothing to make durable.
            Ok((judged, version, false)) => (judged, version, write.abort().map_err(Problem::from)),
            Err(problem) => {
                drop(write);
                // Nobody knows what is in memory; what is on the disk is as before.
                shared.handle.reopen()?;
                return Err(problem);
            }
        };
        if let Err(problem) = ended
            && shared.handle.reopen()? < version
        {
            return Err(problem);
        }
        shared.handle.acknowledge(version);
        shared.changes.send_if_modified(|told| std::mem::replace(told, version) < version);
        Ok(judged)
    }

    fn judge_all(
        &mut self,
        shared: &Shared,
        now: Instant,
        work: &[Order],
        write: &redb::WriteTransaction,
    ) -> Result<(Vec<Judged>, Version, bool), Problem> {
        let mut batch = Batch::begin(write)?;
        for lease in &self.over {
            batch.end(lease.0)?;
        }
        let mut judged = Vec::with_capacity(work.len());
        for order in work {
            let outcome = match order {
                Order::Commit { transaction, .. } => {
                    batch.judge(transaction, |lease| shared.with_leases(|leases| leases.holds(now, lease)))?
                }
                Order::Revoke { lease, .. } => {
                    // Over, even if its keys cannot be deleted now: that is tried again until they are.
                    shared.with_leases(|leases| leases.end(*lease));
                    self.over.push(*lease);
                    batch.end(lease.0)?;
                    Judged::Outcome(Outcome::Committed(batch.version().0))
                }
                // They end the gathering of a batch, and are not in it.
                Order::Compact(_) | Order::Close(_) => continue,
            };
            judged.push(outcome);
        }
        let (version, changed) = batch.version();
        if changed {
            batch.finish()?;
        }
        Ok((judged, version, changed))
    }
}

/// Tells each what became of it. Who waits no longer is not told.
fn answer(work: Vec<Order>, told: Result<Vec<Judged>, Problem>) {
    let each = |at: usize| match &told {
        Ok(judged) => match judged[at] {
            Judged::Outcome(outcome) => Ok(outcome),
            Judged::LeaseOver => Err(Error::LeaseOver),
        },
        Err(problem) => Err(Error::from(problem.clone())),
    };
    for (at, order) in work.into_iter().enumerate() {
        match order {
            Order::Commit { answer, .. } => drop(answer.send(each(at))),
            Order::Revoke { answer, .. } => drop(answer.send(each(at).map(|_| ()))),
            Order::Compact(_) | Order::Close(_) => {}
        }
    }
}
