//! A policy becomes a revision, and is assigned.

use std::time::SystemTime;

use switchtower_proto::policy::v1;

use super::{
    Applied, Applying, MAX_ATTEMPTS, Readers, Refused, Revision, Revisions, blocking,
    checked::Checked,
    chunks::Chunk,
    compared,
    decide::{self, Decision, Made},
    head::Head,
    legible, named, understood,
};
use crate::{
    layout,
    store::{Condition, MAX_TRANSACTION_BYTES, MAX_WRITES, Outcome, Transaction},
};

/// Room in a transaction beside chunks: for the record (at most 1024 and 128 characters of 4 bytes, and some 70 digests),
/// the head (101 digests), the event, and their keys.
const BESIDE_CHUNKS: usize = 64 << 10;
/// Writes in a transaction beside chunks.
const WRITES_BESIDE_CHUNKS: usize = 8;

impl Revisions {
    /// Makes a revision of a policy and assigns it. `random` tells its event from others of the same moment.
    ///
    /// Dropped before it is done, it has happened whole or not at all; applied again, it is then unchanged or made.
    ///
    /// # Errors
    /// See [`Refused`].
    #[tracing::instrument(name = "apply", skip_all, fields(environment = applying.environment, number, attempts))]
    pub async fn apply(
        &self,
        applying: Applying,
        readers: &dyn Readers,
        now: SystemTime,
        random: u32,
    ) -> Result<Applied, Refused> {
        let (applying, checked) = check(applying).await?;
        let mut beside = None;
        for attempt in 1..=MAX_ATTEMPTS {
            let head = self.head_at(&applying.environment).await?;
            let made = match decide::apply(head.as_ref().map(|(head, _)| head), &applying, &checked, now)? {
                Decision::Unchanged(head) => return self.unchanged(head, &applying.environment, checked).await,
                Decision::Make(made) => made,
            };
            if !applying.despite_nodes {
                understood(readers, &applying.environment, &checked.used)?;
            }
            let chunks = match &beside {
                Some(chunks) => chunks,
                None => beside.insert(self.chunks_to_put(&checked.chunks).await?),
            };
            let key = layout::head(&applying.environment);
            let transaction = compared(key.clone(), head.map(|(_, version)| version));
            let transaction = written(put_all(transaction, chunks), &key, &made);
            let transaction = made.event.kept_in(transaction, random);
            if let Outcome::Committed(_) = self.store.commit(transaction).await? {
                let number = made.revision.record.number;
                tracing::Span::current().record("number", number).record("attempts", attempt);
                return Ok(applied(*made, checked));
            }
        }
        Err(Refused::Contended)
    }

    /// What applying would make, and makes nothing. The revision has no digest and no time.
    ///
    /// # Errors
    /// As [`Revisions::apply`].
    pub async fn preview(&self, applying: Applying, readers: &dyn Readers) -> Result<Applied, Refused> {
        let (applying, checked) = check(applying).await?;
        let head = self.head(&applying.environment).await?;
        // The time that it is decided with is not shown.
        match decide::apply(head.as_ref(), &applying, &checked, SystemTime::UNIX_EPOCH)? {
            Decision::Unchanged(head) => self.unchanged(head, &applying.environment, checked).await,
            Decision::Make(made) => {
                if !applying.despite_nodes {
                    understood(readers, &applying.environment, &checked.used)?;
                }
                let record = v1::RevisionRecord { created_at: None, ..made.revision.record.clone() };
                let would_be = Applied { assignment: 0, event: None, ..applied(*made, checked) };
                Ok(Applied { revision: Revision { record, digest: None }, ..would_be })
            }
        }
    }

    async fn unchanged(&self, head: Head, environment: &str, checked: Checked) -> Result<Applied, Refused> {
        let number = head.assignment.revision;
        tracing::Span::current().record("number", number);
        Ok(Applied {
            revision: self.get(environment, number).await?,
            items: checked.items,
            assignment: 0,
            unchanged: true,
            before: number,
            head,
            warnings: checked.warnings,
            event: None,
        })
    }

    /// Of these chunks those that the head's own transaction has to put: those that the store has not, if they fit; else
    /// none, and they are put by now. A chunk that nobody names harms nobody, and whoever tries again finds it there.
    async fn chunks_to_put(&self, chunks: &[Chunk]) -> Result<Vec<Chunk>, Refused> {
        let mut absent = self.absent(chunks).await?;
        if batches(&absent).len() < 2 {
            return Ok(absent.into_iter().map(|(chunk, _)| chunk).collect());
        }
        // A conflict is somebody who put one of them meanwhile, so that there are fewer to put each time.
        for _ in 0..MAX_ATTEMPTS {
            let Some(batch) = batches(&absent).first().copied() else { return Ok(Vec::new()) };
            let Some((_, first)) = batch.first() else { return Ok(Vec::new()) };
            let conditions = batch[1..].iter().map(|(_, condition)| condition.clone());
            let transaction = conditions.fold(Transaction::when(first.clone()), Transaction::and_when);
            let transaction = put_all(transaction, batch.iter().map(|(chunk, _)| chunk));
            absent = match self.store.commit(transaction).await? {
                Outcome::Committed(_) => absent.split_off(batch.len()),
                Outcome::Conflict => self.absent(chunks).await?,
            };
        }
        Err(Refused::Contended)
    }

    /// The chunks that the store has not, each with the condition of that. One whose stored bytes are not its own any more
    /// is put anew, which mends the revisions that share it.
    async fn absent(&self, chunks: &[Chunk]) -> Result<Vec<(Chunk, Condition)>, Refused> {
        let mut absent: Vec<(Chunk, Condition)> = Vec::new();
        for chunk in chunks {
            let key = layout::chunk(&chunk.digest);
            let condition = match self.store.get(&key).await? {
                Some(entry) if entry.value == chunk.bytes => continue,
                Some(entry) => Condition::Unchanged(key, entry.version),
                None => Condition::Absent(key),
            };
            // Two chunks can only be the same where an item of many MiB repeats itself; no key is written twice.
            if absent.iter().all(|(other, _)| other.digest != chunk.digest) {
                absent.push((chunk.clone(), condition));
            }
        }
        Ok(absent)
    }
}

/// Checks a policy on a thread where a second of work holds up nobody.
async fn check(mut applying: Applying) -> Result<(Applying, Checked), Refused> {
    named(&applying.environment)?;
    legible(&applying.author, &applying.message)?;
    blocking(move || {
        let items = std::mem::take(&mut applying.items);
        let checked = Checked::of(&applying.environment, items)?;
        Ok((applying, checked))
    })
    .await?
}

fn applied(made: Made, checked: Checked) -> Applied {
    Applied {
        revision: made.revision,
        items: checked.items,
        assignment: made.head.assignment.number,
        unchanged: false,
        before: made.head.assignment.previous_revision,
        head: made.head,
        warnings: checked.warnings,
        event: Some(made.event),
    }
}

fn written(transaction: Transaction, head: &str, made: &Made) -> Transaction {
    let record = layout::revision(&made.revision.record.environment, made.revision.record.number);
    // The head says that there is no such revision; were it wrong, a revision would be replaced.
    let transaction = transaction.and_when(Condition::Absent(record.clone()));
    transaction.put(record, made.bytes.clone()).put(head, made.head.encode())
}

fn put_all<'a>(transaction: Transaction, chunks: impl IntoIterator<Item = &'a Chunk>) -> Transaction {
    let put =
        |transaction: Transaction, chunk: &Chunk| transaction.put(layout::chunk(&chunk.digest), chunk.bytes.clone());
    chunks.into_iter().fold(transaction, put)
}

/// Chunks in their order, as many together as a transaction takes.
fn batches(chunks: &[(Chunk, Condition)]) -> Vec<&[(Chunk, Condition)]> {
    let mut batches = Vec::new();
    let (mut first, mut bytes) = (0, 0);
    for (index, (chunk, _)) in chunks.iter().enumerate() {
        bytes += chunk.bytes.len();
        let full = bytes > MAX_TRANSACTION_BYTES - BESIDE_CHUNKS || index - first >= MAX_WRITES - WRITES_BESIDE_CHUNKS;
        if full && index > first {
            batches.push(&chunks[first..index]);
            (first, bytes) = (index, chunk.bytes.len());
        }
    }
    if first < chunks.len() {
        batches.push(&chunks[first..]);
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_put_together_as_far_as_a_transaction_takes_them() {
        let check = |sizes: &[usize], expected: &[usize]| {
            let chunk = |size: &usize| Chunk { digest: [0; 32], bytes: vec![0; *size].into() };
            let chunks: Vec<_> = sizes.iter().map(|size| (chunk(size), Condition::Absent(String::new()))).collect();
            let batches: Vec<usize> = batches(&chunks).iter().map(|batch| batch.len()).collect();
            assert_eq!(batches, expected, "{sizes:?}");
        };
        check(&[], &[]);
        check(&[1], &[1]);
        check(&[1 << 20], &[1]);
        check(&[1 << 20, 1 << 20], &[1, 1]);
        check(&[1 << 20, 100_000, 1 << 20], &[2, 1]);
        check(&[10; 200], &[92, 92, 16]);
        check(&[500_000; 5], &[2, 2, 1]);
    }
}
