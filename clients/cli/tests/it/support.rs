//! Runs the program, and keeps a `dev` running.

use std::{
    ffi::OsStr,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use serde_json::Value;

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_switchtower");

/// How long anything here may take before the test fails.
const LONG: Duration = Duration::from_secs(30);

/// What a run of the program gave.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    pub(crate) fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }

    /// What is told of a failure to programs.
    #[track_caller]
    pub(crate) fn error(&self) -> Value {
        let told: Value = serde_json::from_str(&self.err).unwrap_or_else(|error| panic!("{error}: {self:#?}"));
        told["error"].clone()
    }

    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }
}

/// The program, in an environment that says nothing to it.
pub(crate) fn command<I: AsRef<OsStr>>(args: impl IntoIterator<Item = I>) -> Command {
    let mut command = Command::new(PROGRAM);
    for name in ["ENDPOINT", "API_KEY", "CA", "POLICY", "KEYS", "PEPPER", "LOG"] {
        command.env_remove(format!("SWITCHTOWER_{name}"));
    }
    for name in ["CONTROL_PLANE", "TOKEN", "TOKEN_FILE", "AUTHOR", "ENVIRONMENT"] {
        command.env_remove(format!("SWITCHTOWER_{name}"));
    }
    command.env_remove("TRACEPARENT");
    command.env_remove("NO_COLOR").env_remove("CLICOLOR_FORCE").args(args);
    command
}

pub(crate) fn run<I: AsRef<OsStr>>(args: impl IntoIterator<Item = I>) -> Ran {
    Ran::of(command(args).stdin(Stdio::null()).output().unwrap())
}

/// With this on standard input.
pub(crate) fn run_with<I: AsRef<OsStr>>(args: impl IntoIterator<Item = I>, input: &str) -> Ran {
    let mut child = command(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    Ran::of(child.wait_with_output().unwrap())
}

/// A command line as a person would paste it.
pub(crate) fn shell(line: &str) -> Ran {
    Ran::of(Command::new("sh").arg("-c").arg(line).stdin(Stdio::null()).output().unwrap())
}

/// A copy of the policy that `dev` comes with, to be edited.
pub(crate) fn example(into: &Path) -> PathBuf {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/dev");
    let to = into.join("policy");
    std::fs::create_dir(&to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
    to
}

/// Replaces text of a file, which must be there.
#[track_caller]
pub(crate) fn edit(file: &Path, from: &str, to: &str) {
    let text = std::fs::read_to_string(file).unwrap();
    assert!(text.contains(from), "{from} is not in {text}");
    std::fs::write(file, text.replace(from, to)).unwrap();
}

/// Waits until it gives something.
#[track_caller]
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < LONG, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A `switchtower dev` that runs; killed when dropped.
pub(crate) struct Dev {
    child: Child,
    /// What it said when it was up.
    pub(crate) up: Value,
    log: mpsc::Receiver<String>,
    logged: Vec<String>,
}

impl Dev {
    /// With these arguments, on free ports.
    #[track_caller]
    pub(crate) fn start<I: AsRef<OsStr>>(args: impl IntoIterator<Item = I>) -> Dev {
        let free = "127.0.0.1:0";
        let ports = ["dev", "--listen", free, "--admin-listen", free, "--control-listen", free, "--output", "json"];
        let mut command = command(ports);
        let mut child =
            command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let log = lines(child.stderr.take().unwrap());
        let out = lines(child.stdout.take().unwrap());
        let up = out.recv_timeout(LONG).unwrap_or_else(|_| {
            let _ = child.kill();
            panic!("dev does not come up: {:#?}", log.try_iter().collect::<Vec<_>>())
        });
        Dev { child, up: serde_json::from_str(&up).unwrap(), log, logged: Vec::new() }
    }

    /// A text of what it said when it was up.
    #[track_caller]
    pub(crate) fn told(&self, member: &str) -> &str {
        self.up[member].as_str().unwrap_or_else(|| panic!("no {member} in {:#}", self.up))
    }

    /// Asks it.
    pub(crate) fn ask(&self, args: &[&str]) -> Ran {
        let address = ["ask", "--endpoint", self.told("endpoint"), "--api-key", self.told("api_key")];
        run(address.iter().chain(args))
    }

    /// Runs a command of an operator.
    pub(crate) fn operate(&self, args: &[&str]) -> Ran {
        let mut command = command(args);
        command
            .env("SWITCHTOWER_CONTROL_PLANE", self.told("control_plane"))
            .env("SWITCHTOWER_TOKEN_FILE", self.told("token_file"))
            .env("SWITCHTOWER_ENVIRONMENT", self.told("environment"));
        Ran::of(command.stdin(Stdio::null()).output().unwrap())
    }

    /// The target that answers a route now.
    #[track_caller]
    pub(crate) fn target(&self, route: &str) -> String {
        let answer = self.ask(&[route, "hello", "--output", "json"]).exits(0).json();
        answer["served"]["target"].as_str().unwrap().to_owned()
    }

    /// Status and body of `/readyz`.
    pub(crate) fn ready(&self) -> (u16, Value) {
        let address = self.told("admin").strip_prefix("http://").unwrap();
        let mut stream = TcpStream::connect(address).unwrap();
        let request = format!("GET /readyz HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).unwrap();
        let status = response.split(' ').nth(1).unwrap().parse().unwrap();
        (status, serde_json::from_str(response.split_once("\r\n\r\n").unwrap().1).unwrap())
    }

    /// Waits for a line of its log that holds all of these.
    #[track_caller]
    pub(crate) fn log(&mut self, parts: &[&str]) -> String {
        until(&format!("the log tells of {parts:?}"), || {
            self.logged.extend(self.log.try_iter());
            self.logged.iter().find(|line| parts.iter().all(|part| line.contains(part))).cloned()
        })
    }

    /// All of its log so far.
    pub(crate) fn logged(&mut self) -> String {
        self.logged.extend(self.log.try_iter());
        self.logged.join("\n")
    }

    /// Sends a signal, and waits for its end.
    #[track_caller]
    pub(crate) fn end(mut self, signal: &str) -> Option<i32> {
        let sent = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
        until("dev ends", || self.child.try_wait().unwrap()).code()
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines(from: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            if send.send(line).is_err() {
                return;
            }
        }
    });
    receive
}
