//! Our own programs as processes: what only a process can show is how it meets a signal, a full disk, and its own ghost.

use std::{
    env,
    ffi::OsStr,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    task::JoinHandle,
    time::timeout,
};

use crate::{PATIENCE, until};

/// A program that runs. Dropping it kills it.
#[derive(Debug)]
pub struct Program {
    name: &'static str,
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    reading: JoinHandle<()>,
}

/// How a program ended that was waited for.
#[derive(Clone, Debug)]
pub struct Ran {
    /// Its exit code; -1: a signal ended it.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Ran {
    /// Standard output of a command that did what it was asked.
    ///
    /// # Panics
    /// It did not.
    #[must_use]
    #[track_caller]
    pub fn done(self) -> String {
        assert_eq!(self.code, 0, "{self:#?}");
        self.out
    }

    /// The same, read as JSON.
    ///
    /// # Panics
    /// It failed, or said something else.
    #[must_use]
    #[track_caller]
    pub fn json(self) -> Value {
        let out = self.done();
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"))
    }
}

/// The program beside this test.
///
/// # Panics
/// It is not built.
#[must_use]
pub fn beside(name: &str) -> PathBuf {
    let tests = env::current_exe().expect("a process knows its program");
    let folder = tests.parent().and_then(Path::parent).expect("tests are built into a folder of a folder");
    let program = folder.join(name);
    assert!(program.exists(), "{} is not built: run `make test`, which builds it first", program.display());
    program
}

/// A port for a program that is to come back to it. It is below those that the system gives away, so that nobody takes it
/// in between.
///
/// # Panics
/// None is free.
#[must_use]
pub fn port() -> SocketAddr {
    let mut free = (0..100).filter_map(|_| {
        let bytes: [u8; 2] = switchtower_keys::random().ok()?;
        let address = SocketAddr::from(([127, 0, 0, 1], 20_000 + u16::from_be_bytes(bytes) % 12_000));
        TcpListener::bind(address).is_ok().then_some(address)
    });
    free.next().expect("one of a hundred ports is free")
}

fn command<I: AsRef<OsStr>>(program: &Path, args: impl IntoIterator<Item = I>, envs: &[(&str, String)]) -> Command {
    let mut command = Command::new(program);
    command
        .args(args)
        .env_clear()
        .envs([("AWS_EC2_METADATA_DISABLED", "true"), ("NO_PROXY", "127.0.0.1,localhost")])
        .envs(env::var_os("PATH").map(|path| ("PATH", path)))
        .envs(envs.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// Runs a program to its end, with no environment but this.
///
/// # Panics
/// It cannot be started, or takes longer than three times [`PATIENCE`].
pub async fn run<I: AsRef<OsStr>>(program: &Path, args: impl IntoIterator<Item = I>, envs: &[(&str, String)]) -> Ran {
    let ran = timeout(3 * PATIENCE, command(program, args, envs).output()).await;
    let ran = ran.unwrap_or_else(|_| panic!("{} does not end", program.display()));
    let ran = ran.unwrap_or_else(|error| panic!("{}: {error}", program.display()));
    Ran {
        code: ran.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&ran.stdout).into_owned(),
        err: String::from_utf8_lossy(&ran.stderr).into_owned(),
    }
}

impl Program {
    /// Starts a program of ours, with no environment but this.
    ///
    /// # Panics
    /// It cannot be started.
    #[must_use]
    pub fn start<I: AsRef<OsStr>>(
        name: &'static str,
        args: impl IntoIterator<Item = I>,
        envs: &[(&str, String)],
    ) -> Program {
        let mut child = command(&beside(name), args, envs)
            .stdout(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{name} cannot be started: {error}"));
        let mut said = BufReader::new(child.stderr.take().expect("it is piped")).lines();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let kept = lines.clone();
        let reading = tokio::spawn(async move {
            while let Ok(Some(line)) = said.next_line().await {
                kept.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
        });
        Program { name, child, lines, reading }
    }

    /// Waits until it has logged a line with this in it, and gives the first such line.
    ///
    /// # Panics
    /// It ends before, or does not say it in time.
    pub async fn says(&mut self, part: &str) -> Value {
        let (lines, child) = (self.lines.clone(), &mut self.child);
        let line = || {
            let lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
            lines.iter().find(|line| line.contains(part)).cloned()
        };
        let name = self.name;
        until(&format!("{name} says `{part}`"), || {
            if let Ok(Some(status)) = child.try_wait() {
                panic!(
                    "{name} ended with {status}:\n{}",
                    lines.lock().unwrap_or_else(PoisonError::into_inner).join("\n")
                );
            }
            line().is_some()
        })
        .await;
        serde_json::from_str(&line().expect("it was just there")).expect("logs are JSON")
    }

    /// Everything it has logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).join("\n")
    }

    /// Ends it as a crash would (SIGKILL), and waits until it is gone. Gives what it had logged.
    ///
    /// # Panics
    /// It does not go.
    pub async fn kill(mut self) -> String {
        timeout(PATIENCE, self.child.kill()).await.expect("SIGKILL ends a process").expect("it is ours");
        self.rest().await
    }

    /// Ends it as an orchestrator does (SIGTERM). Gives how it ended, and what it had logged.
    ///
    /// # Panics
    /// It does not end in time.
    pub async fn terminate(mut self) -> (ExitStatus, String) {
        let id = self.child.id().expect("it runs").to_string();
        let sent = Command::new("kill").args(["-TERM", &id]).status().await.expect("`kill` is there");
        assert!(sent.success(), "{} cannot be signalled", self.name);
        let ended = timeout(PATIENCE, self.child.wait()).await;
        let status = ended.unwrap_or_else(|_| panic!("{} does not end:\n{}", self.name, self.log()));
        (status.expect("it is ours"), self.rest().await)
    }

    /// What it has said, to the last line.
    async fn rest(&mut self) -> String {
        let read = timeout(Duration::from_secs(5), &mut self.reading).await;
        read.expect("a process that is gone says nothing more").expect("reading does not panic");
        self.log()
    }
}
