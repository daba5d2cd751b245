//! Starts children on one file, kills them, and looks at what they leave.

use std::{
    env,
    io::{BufRead, BufReader},
    panic::{self, AssertUnwindSafe},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        mpsc::{self, Receiver, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use fastrand::Rng;
use switchtower_keys::{Pepper, Peppers};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

use super::{
    Told,
    child::{self, Order},
    ledger::Ledger,
    point::Point,
};
use crate::{
    keys::Keys,
    store::{Embedded, Store, embedded::Options},
};

/// How long a child that neither stops nor ends is waited for, on a machine that has other things to do.
const PATIENCE: Duration = Duration::from_secs(120);

/// The name under which the test runner knows the test that is also the child.
const TEST: &str = "what_was_acknowledged_is_there_after_every_kill_and_the_rest_is_whole_or_absent";

/// One file, through all its kills.
pub(super) struct History {
    seed: u64,
    random: Rng,
    folder: TempDir,
    ledger: Ledger,
    told: Told,
    runtime: Runtime,
}

impl History {
    pub(super) fn new(seed: u64) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let (random, folder) = (Rng::with_seed(seed), tempfile::tempdir().unwrap());
        History { seed, random, folder, ledger: Ledger::default(), told: Told::default(), runtime }
    }

    pub(super) fn survive(mut self, kills: u64) -> Told {
        for kill in 0..kills {
            let point = Point::of(kill, &mut self.random);
            // Now and then the killed file goes to the next child at once: opening it is interrupted, too.
            let look = kill + 1 == kills || self.random.u8(0..4) > 0;
            let survived = panic::catch_unwind(AssertUnwindSafe(|| {
                self.kill(kill, point);
                if look {
                    self.look();
                }
            }));
            if let Err(failure) = survived {
                self.folder.disable_cleanup(true);
                eprintln!("seed {}, kill {kill} at {point:?}; the file is {}", self.seed, self.path().display());
                panic::resume_unwind(failure);
            }
        }
        self.ledger.tell(&mut self.told);
        self.told
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    /// Lets a child work up to a point, and kills it there.
    fn kill(&mut self, kill: u64, point: Point) {
        let order = Order { seed: self.seed, kill, point, path: self.path() };
        let module = module_path!().split_once("::").expect("a crate's module").1;
        let test = format!("{}::{TEST}", module.rsplit_once("::").expect("a module of the test's").0);
        let mut child = Command::new(env::current_exe().unwrap())
            .args([&*test, "--exact", "--nocapture", "--test-threads=1"])
            .env(child::ORDER, order.write())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = lines_of(&mut child);
        let killed = self.attend(&lines, point);
        child.kill().unwrap();
        child.wait().unwrap();
        // What was said before the end was said.
        lines.iter().for_each(|line| self.ledger.hear(&line));
        *self.told.kills.entry(killed).or_default() += 1;
    }

    /// Listens until a child is to be killed, and gives where that is.
    fn attend(&mut self, lines: &Receiver<String>, point: Point) -> &'static str {
        let wait = if let Point::Time(after) = point { after } else { PATIENCE };
        let until = Instant::now() + wait;
        loop {
            match lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) if line == "stopped" => return point.kind(),
                Ok(line) if line == "ended" => return "the end",
                Ok(line) => self.ledger.hear(&line),
                Err(RecvTimeoutError::Timeout) if matches!(point, Point::Time(_)) => return point.kind(),
                Err(RecvTimeoutError::Timeout) => panic!("the child neither stopped nor ended"),
                Err(RecvTimeoutError::Disconnected) => panic!("the child ended by itself"),
            }
        }
    }

    /// Opens the file as the next process does, and compares.
    fn look(&mut self) {
        let path = self.path();
        if !path.exists() {
            // Killed before it made one.
            assert_eq!(self.ledger.opened, 0, "the file is gone");
            return;
        }
        self.told.largest = self.told.largest.max(path.metadata().unwrap().len());
        let History { ledger, told, runtime, .. } = self;
        runtime.block_on(async {
            let begun = Instant::now();
            let store = Arc::new(Embedded::open(&path, Options::default()).unwrap());
            told.opened.push(begun.elapsed());
            let shared: Arc<dyn Store> = store.clone();
            let keys = Keys::of(shared.clone(), Arc::new(Peppers::first(Pepper::new([7; 32]))));
            ledger.compare(&shared, &keys, told).await;
            store.close().await;
        });
    }
}

/// What a child says, line by line.
fn lines_of(child: &mut Child) -> Receiver<String> {
    let out = BufReader::new(child.stdout.take().expect("it is piped"));
    let (said, lines) = mpsc::channel();
    thread::spawn(move || {
        let said_to_us = |line: String| line.strip_prefix('@').map(str::to_owned);
        let mut lines = out.lines().map_while(Result::ok).filter_map(said_to_us);
        // Until the child is gone, or nobody listens.
        lines.try_for_each(|line| said.send(line))
    });
    lines
}
