//! What applying a policy takes on the embedded store, beside a bare transaction of its database that is as durable and
//! writes as much; and whether a long history makes it slower.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use anyhow::Context;
use aws_lc_rs::digest;
use prost::Message;
use redb::{Database, TableDefinition};
use switchtower_control_plane::{
    layout,
    revisions::{Applying, CannotRead, Readers, Revisions},
    store::{Condition, Embedded, Outcome, Store, Transaction, embedded::Options},
};
use switchtower_proto::{policy::v1::RevisionRecord, store::v1::Head};

use super::{Effort, fleet::policy, spread};
use crate::{
    control::ENVIRONMENT,
    report::{Goal, Row, Unit},
};

const TABLE: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("values");
/// Revisions in the long history.
const LONG: u64 = 100_000;
/// How many of them are written at once.
const AT_ONCE: u64 = 40;

pub(crate) async fn measure(effort: &Effort, notes: &mut Vec<String>) -> anyhow::Result<Vec<Row>> {
    let directory = tempfile::tempdir()?;
    let revisions = |name: &str| -> anyhow::Result<_> {
        let store: Arc<dyn Store> = Arc::new(Embedded::open(&directory.path().join(name), Options::default())?);
        Ok((store.clone(), Revisions::of(store)))
    };
    let (_, short) = revisions("short")?;
    let (store, long) = revisions("long")?;
    apply(&long, 0).await?;
    lengthen(&*store, LONG).await?;
    let bare = bare(&directory.path().join("bare"))?;
    let (mut bares, mut shorts, mut longs) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..effort.rounds {
        let mut times: [Vec<Duration>; 3] = Default::default();
        // They take turns, so that what disturbs the disk for a while disturbs all of them.
        for turn in 0..effort.applies {
            let number = 1 + round * effort.applies + turn;
            times[0].push(apply(&short, number).await?);
            times[1].push(apply(&long, number).await?);
            times[2].push(put(&bare, number)?);
        }
        let [short, long, bare] = &mut times;
        shorts.push(median(short)?);
        longs.push(median(long)?);
        bares.push(median(bare)?);
    }
    notes.push(
        "An apply reads a policy of 10 KiB strictly, compiles it, and stores what changed (all of it) with its record, head \
         and event; the bare transaction writes the same bytes to one table of redb."
            .to_owned(),
    );
    let row = |what: &str, goal, runs: &[f64]| anyhow::Ok(Row::new(what, goal, spread(runs)?, Unit::Milliseconds));
    Ok(vec![
        row("apply, embedded store, p50", Goal::None, &shorts)?.beside("bare redb", spread(&bares)?),
        row("apply after 100 000 revisions, p50", Goal::Times(1.2), &longs)?.beside("after few", spread(&shorts)?),
    ])
}

struct Nobody;

impl Readers for Nobody {
    fn cannot_read(&self, _: &str, _: &BTreeSet<String>) -> Vec<CannotRead> {
        Vec::new()
    }
}

async fn apply(revisions: &Revisions, number: usize) -> anyhow::Result<Duration> {
    let applying = Applying {
        environment: ENVIRONMENT.to_owned(),
        items: policy(number)?,
        author: "bench".to_owned(),
        ..Applying::default()
    };
    let began = Instant::now();
    revisions.apply(applying, &Nobody, SystemTime::now(), number as u32).await?;
    Ok(began.elapsed())
}

/// The history so many revisions longer, as if they had been applied: records, their chain, and the head.
async fn lengthen(store: &dyn Store, count: u64) -> anyhow::Result<()> {
    let key = layout::head(ENVIRONMENT);
    let entry = store.get(&key).await?.context("there is no head")?;
    let (mut head, mut version) = (Head::decode(&*entry.value)?, entry.version);
    let first = store.get(&layout::revision(ENVIRONMENT, head.revision)).await?.context("there is no revision")?;
    let record = RevisionRecord::decode(&*first.value)?;
    let last = head.revision + count;
    while head.revision < last {
        let mut transaction = Transaction::when(Condition::Unchanged(key.clone(), version));
        for _ in 0..AT_ONCE.min(last - head.revision) {
            let next = RevisionRecord {
                number: head.revision + 1,
                parent: head.revision,
                previous_digest: head.record_digest.clone(),
                ..record.clone()
            };
            let bytes = next.encode_to_vec();
            head.revision = next.number;
            head.record_digest = digest::digest(&digest::SHA256, &bytes).as_ref().to_vec();
            transaction = transaction.put(layout::revision(ENVIRONMENT, next.number), bytes);
        }
        if let Some(assignment) = &mut head.assignment {
            assignment.revision = head.revision;
            assignment.number += 1;
        }
        match store.commit(transaction.put(key.clone(), head.encode_to_vec())).await? {
            Outcome::Committed(at) => version = at,
            Outcome::Conflict => anyhow::bail!("somebody else writes to the store"),
        }
    }
    Ok(())
}

fn bare(path: &Path) -> anyhow::Result<Database> {
    let database = Database::create(path)?;
    let transaction = database.begin_write()?;
    transaction.open_table(TABLE)?;
    transaction.commit()?;
    Ok(database)
}

/// A transaction that writes as much as an apply does: content, record, head, event.
fn put(database: &Database, number: usize) -> anyhow::Result<Duration> {
    let items = policy(number)?;
    let began = Instant::now();
    let transaction = database.begin_write()?;
    {
        let mut table = transaction.open_table(TABLE)?;
        let content: Vec<u8> = items.iter().flat_map(|item| item.body.iter().copied()).collect();
        table.insert(format!("chunk/{number}").as_str(), &*content)?;
        table.insert(format!("revision/{number}").as_str(), &[7; 200][..])?;
        table.insert("head", &[7; 150][..])?;
        table.insert(format!("event/{number}").as_str(), &[7; 150][..])?;
    }
    transaction.commit()?;
    Ok(began.elapsed())
}

fn median(times: &mut [Duration]) -> anyhow::Result<f64> {
    times.sort_unstable();
    let middle = times.get(times.len() / 2).context("nothing was measured")?;
    Ok(middle.as_secs_f64() * 1000.0)
}
