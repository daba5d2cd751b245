//! The processes that are measured: each on its own, so that its CPU time and memory are its own.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::timeout,
};

/// Longer than any of them takes to start, in a debug build on a busy machine too.
const START: Duration = Duration::from_secs(60);
/// How many of its last lines are kept, to be shown when it fails.
const LINES_KEPT: usize = 20;

/// A process that is ready to be measured. Dropping it kills it.
pub(crate) struct Process {
    pub(crate) pid: u32,
    /// Just before it was started.
    pub(crate) spawned: Instant,
    child: Child,
    name: String,
    last_lines: Lines,
}

type Lines = Arc<Mutex<VecDeque<String>>>;

/// How to start one.
pub(crate) struct Start<'a> {
    /// Name of a binary beside this one.
    pub(crate) program: &'a str,
    pub(crate) arguments: Vec<String>,
    /// Its whole environment, but for `PATH`: what happens to be set where the benchmark runs changes nothing.
    pub(crate) environment: Vec<(&'a str, String)>,
}

impl Start<'_> {
    /// Starts it, and waits until `ready` has made something of what it wrote to standard output or standard error.
    pub(crate) async fn until<T>(self, mut ready: impl FnMut(&str) -> Option<T>) -> anyhow::Result<(Process, T)> {
        let program = beside_this(self.program)?;
        let mut command = Command::new(&program);
        command
            .args(&self.arguments)
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .envs(self.environment)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let spawned = Instant::now();
        let mut child = command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
        let pid = child.id().context("it ended at once")?;
        let last_lines = Lines::default();
        let (sender, mut lines) = tokio::sync::mpsc::unbounded_channel();
        let (out, err) = (child.stdout.take().context("no stdout")?, child.stderr.take().context("no stderr")?);
        tokio::spawn(forward(BufReader::new(out), last_lines.clone(), sender.clone()));
        tokio::spawn(forward(BufReader::new(err), last_lines.clone(), sender));
        let mut process = Process { pid, spawned, child, name: self.program.to_owned(), last_lines };
        let found = timeout(START, async {
            while let Some(line) = lines.recv().await {
                if let Some(found) = ready(&line) {
                    return Some(found);
                }
            }
            None
        });
        match found.await {
            Ok(Some(found)) => Ok((process, found)),
            Ok(None) => bail!(process.ended().await),
            Err(_) => bail!("{} was not ready within {START:?}; {}", process.name, process.said()),
        }
    }
}

impl Process {
    /// CPU time used so far.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        crate::procfs::cpu(self.pid).with_context(|| format!("{} is gone; {}", self.name, self.said()))
    }

    /// Resident memory, in bytes.
    pub(crate) fn resident(&self) -> anyhow::Result<u64> {
        crate::procfs::resident(self.pid).with_context(|| format!("{} is gone; {}", self.name, self.said()))
    }

    async fn ended(&mut self) -> String {
        let status = self.child.wait().await.map_or_else(|error| error.to_string(), |status| status.to_string());
        format!("{} ended before it was ready ({status}); {}", self.name, self.said())
    }

    fn said(&self) -> String {
        let lines = self.last_lines.lock().unwrap_or_else(PoisonError::into_inner);
        match lines.is_empty() {
            true => "it said nothing".to_owned(),
            false => format!("its last words:\n{}", lines.iter().map(String::as_str).collect::<Vec<_>>().join("\n")),
        }
    }
}

impl Drop for Process {
    /// Waits until it is gone: what is measured next shall have the machine for itself.
    fn drop(&mut self) {
        let end = Instant::now() + Duration::from_secs(1);
        if self.child.start_kill().is_ok() {
            while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < end {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
}

/// Reads to the end: a process whose pipe is full would stand still.
async fn forward(reader: impl AsyncBufRead + Unpin, last_lines: Lines, to: tokio::sync::mpsc::UnboundedSender<String>) {
    let mut to = Some(to);
    let mut lines = reader.lines();
    while let Ok(Some(line)) = lines.next_line().await {
        {
            let mut kept = last_lines.lock().unwrap_or_else(PoisonError::into_inner);
            kept.push_back(line.clone());
            let surplus = kept.len().saturating_sub(LINES_KEPT);
            kept.drain(..surplus);
        }
        // Once it is ready nobody listens any more.
        if to.as_ref().is_some_and(|to| to.send(line).is_err()) {
            to = None;
        }
    }
}

fn beside_this(program: &str) -> anyhow::Result<PathBuf> {
    let this = std::env::current_exe().context("where this program stands is not known")?;
    let path = this.parent().unwrap_or(Path::new(".")).join(program);
    if !path.exists() {
        bail!("{} does not exist: build it with `cargo build --workspace --bins` in this profile", path.display());
    }
    Ok(path)
}
