//! Clients in other languages: a process that is asked one thing after the other, a line of JSON each, and answers so.
//!
//! One process serves a whole test, so that its start (a second of imports) is paid once, and the test can change what
//! the upstream does between two questions. The scripts only carry out and report: what must be is asserted in Rust.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

use crate::PATIENCE;

/// A client that runs. Dropping it ends it.
#[derive(Debug)]
pub struct Foreign {
    script: String,
    _child: Child,
    questions: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    /// Its home, and what it said on standard error.
    folder: TempDir,
}

/// What the tests need and `make test` sets up.
///
/// # Panics
/// It is not there.
fn needed(variable: &str, what: &str) -> PathBuf {
    let path = env::var_os(variable).map(PathBuf::from).unwrap_or_else(|| {
        panic!("{variable} does not name {what}: run `make test`, which sets it up and runs this test with it")
    });
    assert!(path.exists(), "{variable} names {}, which does not exist: run `make test`", path.display());
    path
}

impl Foreign {
    /// A Python script of `foreign/`.
    #[must_use]
    pub fn python(script: &str, variables: &[(&str, &str)]) -> Foreign {
        let interpreter = needed("SWITCHTOWER_PYTHON", "a Python interpreter with boto3 and grpcio");
        Foreign::start(Command::new(interpreter), script, variables)
    }

    /// A Node.js script of `foreign/`.
    #[must_use]
    pub fn node(script: &str, variables: &[(&str, &str)]) -> Foreign {
        let modules = needed("SWITCHTOWER_NODE", "a folder with node_modules that hold the AWS SDK");
        let mut command = Command::new("node");
        command.env("SWITCHTOWER_NODE", modules);
        Foreign::start(command, script, variables)
    }

    fn start(mut command: Command, script: &str, variables: &[(&str, &str)]) -> Foreign {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let said = fs::File::create(folder.path().join("stderr")).expect("a file in it");
        // Nothing of the machine's own AWS set-up reaches a client, and no client asks a metadata service.
        for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("AWS_")) {
            command.env_remove(name);
        }
        let mut child = command
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("foreign").join(script))
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("HOME", folder.path())
            .env("NO_PROXY", "127.0.0.1,localhost")
            .envs(variables.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(said)
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("{script} cannot be started ({error}): run `make test`"));
        let questions = child.stdin.take().expect("it is piped");
        let answers = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        Foreign { script: script.to_owned(), _child: child, questions, answers, folder }
    }

    /// Asks, and waits for the answer.
    ///
    /// # Panics
    /// It does not answer within twice [`PATIENCE`] (its imports take a while), or in something else than JSON.
    pub async fn ask(&mut self, question: &Value) -> Value {
        let line = format!("{question}\n");
        let answer = timeout(2 * PATIENCE, async {
            self.questions.write_all(line.as_bytes()).await?;
            self.questions.flush().await?;
            self.answers.next_line().await
        });
        let told = match answer.await {
            Err(_) => "no answer came in time".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Ok(Ok(None)) => "it ended".to_owned(),
            Ok(Ok(Some(line))) => match serde_json::from_str(&line) {
                Ok(answer) => return answer,
                Err(_) => format!("it answered `{line}`"),
            },
        };
        let said = fs::read_to_string(self.folder.path().join("stderr")).unwrap_or_default();
        panic!("{}: {told}\n{said}", self.script);
    }
}
