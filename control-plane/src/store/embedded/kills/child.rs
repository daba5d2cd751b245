//! The process that is killed.
//!
//! What it says, each line after an `@`: `opened`; `begin ACT|WHO|ENVIRONMENT|MORE`; then `refused WHO` or, when it was
//! acknowledged and before anything else is begun, `done ACT|WHO|SUBJECT|ASSIGNMENT|DIGEST`; and in the end `stopped`,
//! `ended` or `failed WHY`. WHO is the author of one act and of no other, so that what became of it can be told from all
//! others.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use fastrand::Rng;
use switchtower_keys::{KEY_RANDOM_BYTES, Pepper, Peppers};
use switchtower_policy::items;
use switchtower_proto::policy::v1;
use tokio::{runtime::Builder, task::JoinSet};

use super::{
    ENVIRONMENTS, disk,
    point::{Call, Point, Trap, When, say},
};
use crate::{
    keys::{self, Act, Keys},
    layout,
    revisions::{Applying, CannotRead, Readers, Refused, Revisions, RollingBack},
    store::{Condition, Store, Transaction},
};

/// Name of the variable with the order.
pub(super) const ORDER: &str = "SWITCHTOWER_KILLS_CHILD";
/// Who change something at a time.
const WORKERS: u64 = 4;
/// Acts of each, after which a child whose point never came has ended.
const ACTS: u64 = 20;
/// Routes of a large policy, of 16 KiB each: their chunks do not fit into one transaction.
const ROUTES: usize = 90;

/// What a child is to do.
#[derive(Debug, PartialEq)]
pub(super) struct Order {
    pub(super) seed: u64,
    pub(super) kill: u64,
    pub(super) point: Point,
    pub(super) path: PathBuf,
}

impl Order {
    pub(super) fn write(&self) -> String {
        let point = match self.point {
            Point::At(call, when, number) => format!("any {call:?} {when:?} {number}"),
            Point::AtLarge(call, when, number) => format!("large {call:?} {when:?} {number}"),
            Point::Time(_) => "- - - 0".to_owned(),
        };
        format!("{} {} {point} {}", self.seed, self.kill, self.path.display())
    }

    fn read(text: &str) -> Option<Self> {
        let mut words = text.splitn(7, ' ');
        let mut next = || words.next();
        let (seed, kill) = (next()?.parse().ok()?, next()?.parse().ok()?);
        let large = next()? == "large";
        let call = match next()? {
            "Write" => Some(Call::Write),
            "Sync" => Some(Call::Sync),
            "Length" => Some(Call::Length),
            "Commit" => Some(Call::Commit),
            _ => None,
        };
        let when = match next()? {
            "Within" => When::Within,
            "After" => When::After,
            _ => When::Before,
        };
        let number = next()?.parse().ok()?;
        // The parent keeps the time.
        let point = match call {
            Some(call) if large => Point::AtLarge(call, when, number),
            Some(call) => Point::At(call, when, number),
            None => Point::Time(Duration::MAX),
        };
        Some(Order { seed, kill, point, path: next()?.into() })
    }
}

pub(super) fn run(order: &str) {
    let order = Order::read(order).expect("an order that the parent wrote");
    let runtime = Builder::new_multi_thread().worker_threads(3).enable_all().build().unwrap();
    match runtime.block_on(work(order)) {
        Ok(()) => say("ended"),
        Err(why) => say(&format!("failed {}", why.replace('\n', " "))),
    }
    // Killed, and never closed.
    loop {
        std::thread::park();
    }
}

async fn work(order: Order) -> Result<(), String> {
    let store = disk::open(&order.path, Arc::new(Trap::new(order.point))).map_err(|error| format!("{error:?}"))?;
    let store: Arc<dyn Store> = Arc::new(store);
    say("opened");
    be_listed(&*store, order.kill).await?;
    let mut workers = JoinSet::new();
    for number in 0..WORKERS {
        let mut worker = Worker {
            revisions: Revisions::of(store.clone()),
            keys: Keys::of(store.clone(), Arc::new(Peppers::first(Pepper::new([7; 32])))),
            random: Rng::with_seed(order.seed << 32 | order.kill << 8 | number),
            name: format!("{}-{number}", order.kill),
            made: Vec::new(),
        };
        let large = number == 0 && matches!(order.point, Point::AtLarge(..));
        workers.spawn(async move {
            if large {
                worker.apply("apply large", format!("{}-large", worker.name), ENVIRONMENTS[0], ROUTES).await?;
            }
            for act in 0..ACTS {
                worker.act(act).await.map_err(|why| format!("{} act {act}: {why}", worker.name))?;
            }
            Ok::<(), String>(())
        });
    }
    while let Some(worked) = workers.join_next().await {
        worked.map_err(|error| error.to_string())??;
    }
    Ok(())
}

/// Something that must be gone when the process is.
async fn be_listed(store: &dyn Store, kill: u64) -> Result<(), String> {
    let lease = store.grant(Duration::from_secs(60)).await.map_err(|error| error.to_string())?;
    let key = layout::replica(&format!("r{kill}"));
    let put = Transaction::when(Condition::Absent(key.clone())).put_leased(key, "here", lease);
    store.commit(put).await.map_err(|error| error.to_string()).map(drop)
}

struct Nobody;

impl Readers for Nobody {
    fn cannot_read(&self, _: &str, _: &std::collections::BTreeSet<String>) -> Vec<CannotRead> {
        Vec::new()
    }
}

/// One who changes something all the time.
struct Worker {
    revisions: Revisions,
    keys: Keys,
    random: Rng,
    name: String,
    /// Keys that it made and has not revoked.
    made: Vec<(&'static str, String)>,
}

impl Worker {
    async fn act(&mut self, number: u64) -> Result<(), String> {
        let who = format!("{}-{number}", self.name);
        let environment = *self.random.choice(ENVIRONMENTS.iter()).expect("two");
        match self.random.u8(0..20) {
            0 => self.apply("apply large", who, environment, ROUTES).await,
            1..=10 => self.apply("apply", who, environment, 1).await,
            11..=14 => self.roll_back(who, environment).await,
            15..=17 => self.issue(who, environment).await,
            _ => self.revoke(who).await,
        }
    }

    async fn apply(&mut self, act: &str, who: String, environment: &str, routes: usize) -> Result<(), String> {
        let items = policy(environment, &who, routes);
        let content = hex::encode(items::digest(&items));
        say(&format!("begin {act}|{who}|{environment}|{content}"));
        let applying =
            Applying { environment: environment.to_owned(), items, author: who.clone(), ..Applying::default() };
        let random = self.random.u32(..);
        let applied = match self.revisions.apply(applying, &Nobody, SystemTime::now(), random).await {
            Ok(applied) if !applied.unchanged => applied,
            other => return Err(format!("{who} is not applied: {other:?}")),
        };
        let digest = hex::encode(applied.revision.digest.unwrap_or_default());
        say(&format!("done {act}|{who}|{}|{}|{digest}", applied.revision.record.number, applied.assignment));
        Ok(())
    }

    async fn roll_back(&mut self, who: String, environment: &str) -> Result<(), String> {
        say(&format!("begin rollback|{who}|{environment}|"));
        let rolling =
            RollingBack { environment: environment.to_owned(), author: who.clone(), ..RollingBack::default() };
        let random = self.random.u32(..);
        match self.revisions.rollback(rolling, &Nobody, SystemTime::now(), random).await {
            Ok(back) => {
                let number = back.revision.record.number;
                say(&format!("done rollback|{who}|{number}|{}|", back.assignment));
                Ok(())
            }
            // Others were faster, or there is nothing that was not rolled back.
            Err(Refused::NothingToRollBack(_) | Refused::NoRevision { .. } | Refused::HeadMoved { .. }) => {
                say(&format!("refused {who}"));
                Ok(())
            }
            Err(error) => Err(format!("{who}: {error:?}")),
        }
    }

    async fn issue(&mut self, who: String, environment: &'static str) -> Result<(), String> {
        say(&format!("begin issue|{who}|{environment}|"));
        let mut secret = [0; KEY_RANDOM_BYTES];
        self.random.fill(&mut secret);
        let act = Act { author: &who, now: SystemTime::now(), random: self.random.u32(..) };
        let issued = self.keys.issue(environment, "web", None, &secret, act).await;
        let id = issued.map_err(|error: keys::Refused| format!("{who}: {error:?}"))?.key.record.id;
        say(&format!("done issue|{who}|{id}|0|"));
        self.made.push((environment, id));
        Ok(())
    }

    async fn revoke(&mut self, who: String) -> Result<(), String> {
        let Some((environment, id)) = self.made.pop() else { return Ok(()) };
        say(&format!("begin revoke|{who}|{environment}|{id}"));
        let act = Act { author: &who, now: SystemTime::now(), random: self.random.u32(..) };
        let revoked = self.keys.revoke(environment, &id, act).await;
        match revoked.map_err(|error| format!("{who}: {error:?}"))?.event {
            Some(_) => say(&format!("done revoke|{who}|{id}|0|")),
            None => return Err(format!("{who}: {id} was revoked by nobody")),
        }
        Ok(())
    }
}

/// A policy that nobody else applies, of so many routes.
fn policy(environment: &str, who: &str, routes: usize) -> Vec<v1::Item> {
    let route = |number: usize| {
        // Answers that are not the same, so that no two chunks are by chance.
        let mut template = format!("{who} {number} ");
        let word = format!("{:08x} ", fnv(&template));
        let most = if routes > 1 { 16_000 } else { 100 };
        while template.len() < most {
            template += &word;
        }
        let answer = v1::Answer { template, ..v1::Answer::default() };
        let tier = v1::Tier { kind: Some(v1::tier::Kind::Answer(answer)) };
        (format!("r{number:03}"), v1::Route { tiers: vec![tier], ..v1::Route::default() })
    };
    let caller = v1::Caller { tenant: "acme".to_owned(), routes: vec!["r000".to_owned()], ..v1::Caller::default() };
    items::items(&v1::Policy {
        environment: environment.to_owned(),
        routes: (0..routes).map(route).collect(),
        callers: [("web".to_owned(), caller)].into(),
        ..v1::Policy::default()
    })
}

fn fnv(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}
