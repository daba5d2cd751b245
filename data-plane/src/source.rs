//! Where a node without a control plane has its policy from: local YAML files, read again when they change.
//!
//! A change that does not compile is refused whole: the policy that serves keeps serving, and the log and `/readyz` say
//! what is wrong. Files are compared by content twice a second: a poll costs nothing at this size and misses neither an
//! editor's rename nor a mounted volume's symbolic links.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use switchtower_policy::{Compiled, File, Violation, load};
use tokio_util::sync::CancellationToken;

use crate::infer::Node;

/// How often files are looked at.
const POLL: Duration = Duration::from_millis(500);

/// What a node says of its policy.
#[derive(Debug, Default)]
pub struct Status(Mutex<State>);

/// The policy's state as it was last seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Revision that serves; `None`: none does.
    pub revision: Option<Arc<str>>,
    /// Why the files as they are now do not serve; empty where they do.
    pub problems: Vec<String>,
}

impl Status {
    /// The state now.
    #[must_use]
    pub fn now(&self) -> State {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// A folder of policy files (`*.yaml`, `*.yml`, not its subfolders), or one file.
#[derive(Clone, Debug)]
pub struct Files(pub PathBuf);

impl Files {
    /// Reads the files, in the order of their names.
    ///
    /// # Errors
    /// The folder or a file cannot be read, or there is none.
    pub fn read(&self) -> io::Result<Vec<File>> {
        let mut paths = match self.0.is_dir() {
            true => yaml_files(&self.0)?,
            false => vec![self.0.clone()],
        };
        paths.sort();
        if paths.is_empty() {
            let message = format!("{} holds no .yaml file", self.0.display());
            return Err(io::Error::new(io::ErrorKind::NotFound, message));
        }
        paths.iter().map(|path| self.file(path)).collect()
    }

    fn file(&self, path: &Path) -> io::Result<File> {
        let bytes = std::fs::read(path)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
        Ok(File { name: path.display().to_string(), bytes })
    }
}

fn yaml_files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", folder.display())))?;
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let yaml = path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
        // Editors keep their unsaved copies beside the file, under names that begin with a dot.
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if yaml && !hidden && path.is_file() {
            paths.push(path);
        }
    }
    Ok(paths)
}

/// Loads the files and takes them into service, or says why not. Gives whether they serve.
pub async fn serve(files: &[File], node: &Node, status: &Status) -> bool {
    let owned = files.to_vec();
    let loaded = tokio::task::spawn_blocking(move || load(&owned)).await;
    match loaded {
        Ok(Ok(compiled)) => {
            taken(compiled, node, status);
            true
        }
        Ok(Err(violations)) => {
            refused(violations.iter().map(Violation::to_string).collect(), node, status);
            false
        }
        Err(panic) => {
            tracing::error!(%panic, "the policy could not be compiled: this is a defect of this program");
            refused(
                vec!["the policy could not be compiled: this is a defect of this program".to_owned()],
                node,
                status,
            );
            false
        }
    }
}

fn taken(compiled: Compiled, node: &Node, status: &Status) {
    for warning in &compiled.warnings {
        tracing::warn!("{warning}");
    }
    let snapshot = Arc::new(compiled.snapshot);
    let revision = snapshot.revision().clone();
    tracing::info!(
        %revision,
        environment = %snapshot.environment(),
        routes = snapshot.routes().len(),
        "policy in service"
    );
    node.current.swap(snapshot);
    node.telemetry.metrics.policy_served();
    status.set(|state| *state = State { revision: Some(revision), problems: Vec::new() });
}

fn refused(problems: Vec<String>, node: &Node, status: &Status) {
    for problem in &problems {
        tracing::error!("{problem}");
    }
    node.telemetry.metrics.policy_refused(problems.len());
    let serving = node.current.load();
    let serving = serving.as_ref().map_or("none", |snapshot| snapshot.revision());
    tracing::error!(violations = problems.len(), serving, "policy refused; what served before keeps serving");
    status.set(|state| state.problems = problems);
}

/// Reads the files again whenever they change, until cancelled. `seen` is what was read at the start.
pub async fn watch(
    files: Files,
    mut seen: Option<Vec<File>>,
    node: Arc<Node>,
    status: Arc<Status>,
    stop: CancellationToken,
) {
    let mut unreadable: Option<String> = None;
    while stop.run_until_cancelled(tokio::time::sleep(POLL)).await.is_some() {
        let reader = files.clone();
        let read = tokio::task::spawn_blocking(move || reader.read()).await;
        match read {
            Ok(Ok(now)) if seen.as_ref().is_none_or(|seen| differ(seen, &now)) => {
                unreadable = None;
                serve(&now, &node, &status).await;
                seen = Some(now);
            }
            Ok(Ok(_)) => {
                // Files that came back as they were serve as before.
                if unreadable.take().is_some() {
                    seen = None;
                }
            }
            Ok(Err(error)) => {
                let message = error.to_string();
                if unreadable.as_ref() != Some(&message) {
                    refused(vec![format!("the policy files cannot be read: {message}")], &node, &status);
                    unreadable = Some(message);
                }
            }
            Err(_) => return,
        }
    }
}

fn differ(a: &[File], b: &[File]) -> bool {
    a.len() != b.len() || a.iter().zip(b).any(|(a, b)| a.name != b.name || a.bytes != b.bytes)
}
