//! Where a node without a control plane has its policy from: local YAML files, read again when they change.
//!
//! A change that does not compile is refused whole: the policy that serves keeps serving, and the log and `/readyz` say
//! what is wrong. Files are compared by content twice a second: a poll costs nothing at this size and misses neither an
//! editor's rename nor a mounted volume's symbolic links.
//!
//! A file is not written in one go, and half of a policy may well compile. So a change is judged only when two polls in
//! a row have read the same, and what can hardly be meant as an edit (another environment, no routes or no callers left)
//! takes a restart.

use std::{
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use switchtower_policy::{
    Compiled, File, Snapshot, Violation,
    document::{MAX_BYTES, MAX_FILES},
    load,
};
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
    /// Why what came last, files or an update, does not serve; empty where it does.
    pub problems: Vec<String>,
}

impl Status {
    /// The state now.
    #[must_use]
    pub fn now(&self) -> State {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What came does not serve, for these reasons.
    pub(crate) fn refused(&self, problems: Vec<String>) {
        self.set(|state| state.problems = problems);
    }

    fn set(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// A folder of policy files (`*.yaml`, `*.yml`, not its subfolders), or one file.
#[derive(Clone, Debug)]
pub struct Files(pub PathBuf);

impl Files {
    /// Reads the files, in the order of their names. Of files that are too large together it reads one byte more than
    /// a policy may have, so that loading them refuses them.
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
        let mut left = MAX_BYTES + 1;
        let mut files = Vec::with_capacity(paths.len());
        // The same for the number of files.
        for path in paths.iter().take(MAX_FILES + 1) {
            let bytes = read_at_most(path, left).map_err(|error| at(path, &error))?;
            left -= bytes.len();
            files.push(File { name: path.display().to_string(), bytes });
        }
        Ok(files)
    }
}

fn read_at_most(path: &Path, most: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(most as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn at(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// The files of a folder that are of the policy. One that is there and cannot be a policy file, such as a link that leads
/// nowhere, is an error: a part that is missing is not a part that was removed.
fn yaml_files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).map_err(|error| at(folder, &error))?;
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let yaml = path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
        // Editors keep their unsaved copies beside the file, under names that begin with a dot.
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !yaml || hidden {
            continue;
        }
        let kind = std::fs::metadata(&path).map_err(|error| at(&path, &error))?;
        if kind.is_file() {
            paths.push(path);
        } else if !kind.is_dir() {
            return Err(at(&path, &io::Error::other("this is not a file")));
        }
    }
    Ok(paths)
}

/// Loads the files and takes them into service, or says why not. Gives whether they serve.
pub async fn serve(files: Arc<[File]>, node: &Node, status: &Status) -> bool {
    let loaded = tokio::task::spawn_blocking(move || load(&files)).await;
    match loaded {
        Ok(Ok(compiled)) => {
            let problem = node.current.load().and_then(|serving| hardly_meant(&serving, &compiled.snapshot));
            match problem {
                None => taken(compiled, node, status),
                Some(problem) => {
                    refused(vec![problem], node, status);
                    return false;
                }
            }
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

/// Why a policy does not follow on the one that serves, although it compiles; `None`: it does. It would be right for a
/// node that starts with it.
fn hardly_meant(serving: &Snapshot, next: &Snapshot) -> Option<String> {
    const RESTART: &str = "restart the node if this is meant";
    let (now, then) = (serving.environment(), next.environment());
    if now != then {
        return Some(format!("the policy is for `{then}`, and this node serves `{now}`: {RESTART}"));
    }
    if next.routes().is_empty() && !serving.routes().is_empty() {
        return Some(format!("the policy has no routes any more, so every request would be refused: {RESTART}"));
    }
    if next.callers().next().is_none() && serving.callers().next().is_some() {
        return Some(format!("the policy has no callers any more, so every request would be refused: {RESTART}"));
    }
    None
}

fn taken(compiled: Compiled, node: &Node, status: &Status) {
    for warning in &compiled.warnings {
        tracing::warn!("{warning}");
    }
    swap(compiled.snapshot, node, status);
}

/// Takes a compiled policy into service, wherever it came from.
pub(crate) fn swap(snapshot: Snapshot, node: &Node, status: &Status) {
    let snapshot = Arc::new(snapshot);
    if snapshot.routes().is_empty() {
        tracing::warn!("the policy has no routes: every request is refused");
    }
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
    status.refused(problems);
}

/// Reads the files again whenever they change, until cancelled. `seen` is what was read at the start.
pub async fn watch(
    files: Files,
    seen: Option<Arc<[File]>>,
    node: Arc<Node>,
    status: Arc<Status>,
    stop: CancellationToken,
) {
    let mut settling = Settling { judged: seen.map(Looked::Files), last: None };
    while stop.run_until_cancelled(tokio::time::sleep(POLL)).await.is_some() {
        let reader = files.clone();
        let Ok(read) = tokio::task::spawn_blocking(move || reader.read()).await else { return };
        let looked = match read {
            Ok(files) => Looked::Files(files.into()),
            Err(error) => Looked::Unreadable(error.to_string()),
        };
        match settling.settled(looked) {
            None => {}
            Some(Looked::Files(files)) => {
                serve(files, &node, &status).await;
            }
            Some(Looked::Unreadable(why)) => {
                refused(vec![format!("the policy files cannot be read: {why}")], &node, &status);
            }
        }
    }
}

/// What a look at the files gave.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Looked {
    Files(Arc<[File]>),
    Unreadable(String),
}

/// Tells a change that is over from one that goes on.
#[derive(Debug)]
struct Settling {
    /// What was judged last; `None`: nothing was.
    judged: Option<Looked>,
    /// What the last look gave, if it is another.
    last: Option<Looked>,
}

impl Settling {
    /// What is to be judged now: what two looks in a row gave, and was not judged last.
    fn settled(&mut self, now: Looked) -> Option<Looked> {
        if self.judged.as_ref() == Some(&now) {
            self.last = None;
            return None;
        }
        if self.last.as_ref() != Some(&now) {
            self.last = Some(now);
            return None;
        }
        self.last = None;
        self.judged = Some(now.clone());
        Some(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_judged_once_when_two_looks_in_a_row_gave_the_same() {
        let look = |text: &str| match text.strip_prefix('!') {
            Some(why) => Looked::Unreadable(why.to_owned()),
            None => Looked::Files([File { name: "a.yaml".to_owned(), bytes: text.into() }].into()),
        };
        let check = |first: Option<&str>, looks: &[&str], expected: &[&str]| {
            let mut settling = Settling { judged: first.map(look), last: None };
            let judged: Vec<Looked> = looks.iter().filter_map(|text| settling.settled(look(text))).collect();
            assert_eq!(judged, expected.iter().map(|text| look(text)).collect::<Vec<_>>(), "{looks:?}");
        };
        check(Some("a"), &["a", "a"], &[]);
        check(Some("a"), &["b", "b", "b"], &["b"]);
        // Half of it is never judged.
        check(Some("a"), &["b", "bb", "bbb", "bbb"], &["bbb"]);
        check(Some("a"), &["b", "a", "b", "b"], &["b"]);
        check(None, &["a", "a"], &["a"]);
        check(None, &["!no", "!no", "!no", "a", "a"], &["!no", "a"]);
        // Files that came back as they were serve as before.
        check(Some("a"), &["!no", "a", "a"], &[]);
        check(Some("a"), &["!no", "!no", "a", "a"], &["!no", "a"]);
    }

    #[test]
    fn no_more_is_read_than_a_policy_may_have() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, length: u64| {
            std::fs::File::create(folder.path().join(name)).unwrap().set_len(length).unwrap();
        };
        write("a.yaml", 100);
        write("b.yaml", 3 << 30);
        write("c.yaml", 100);
        let files = Files(folder.path().to_owned()).read().unwrap();
        let lengths: Vec<usize> = files.iter().map(|file| file.bytes.len()).collect();
        assert_eq!(lengths, [100, MAX_BYTES + 1 - 100, 0]);
        let violations = load(&files).unwrap_err();
        assert!(violations.iter().any(|violation| violation.code == "too_large"), "{violations:?}");
        // A file alone is bounded too.
        let files = Files(folder.path().join("b.yaml")).read().unwrap();
        assert_eq!(files[0].bytes.len(), MAX_BYTES + 1);
    }

    #[test]
    fn a_file_that_is_there_and_cannot_be_read_is_no_file_that_was_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("a.yaml"), "environment: test\n").unwrap();
        std::fs::create_dir(path("folder.yaml")).unwrap();
        std::os::unix::fs::symlink("nowhere", path(".#a.yaml")).unwrap();
        let files = Files(folder.path().to_owned());
        assert_eq!(files.read().unwrap().len(), 1);
        std::os::unix::fs::symlink("nowhere", path("b.yaml")).unwrap();
        let error = files.read().unwrap_err().to_string();
        assert!(error.contains("b.yaml"), "{error}");
    }

    #[test]
    fn what_is_hardly_meant_takes_a_restart() {
        const MODELS: &str = "models: { m: { bedrock: us.amazon.nova-lite-v1:0, regions: [us-east-1] } }\n";
        const ROUTES: &str = "routes: { r: { tiers: [m] } }\n";
        const CALLERS: &str = "callers: { c: { routes: ['*'] } }\n";
        let snapshot = |environment: &str, rest: &[&str]| {
            let text = format!("environment: {environment}\n{MODELS}{}", rest.concat());
            load(&[File { name: "a.yaml".to_owned(), bytes: text.into_bytes() }]).unwrap().snapshot
        };
        let check = |next: &Snapshot, expected: &str| {
            let told = hardly_meant(&snapshot("prod", &[ROUTES, CALLERS]), next);
            assert!(told.clone().unwrap_or_default().contains(expected), "{told:?}");
            assert_eq!(told.is_none(), expected.is_empty(), "{told:?}");
        };
        check(&snapshot("prod", &[ROUTES, CALLERS]), "");
        check(&snapshot("test", &[ROUTES, CALLERS]), "`test`, and this node serves `prod`");
        check(&snapshot("prod", &[CALLERS]), "no routes");
        check(&snapshot("prod", &[ROUTES]), "no callers");
        let empty = snapshot("prod", &[]);
        assert_eq!(hardly_meant(&empty, &snapshot("prod", &[ROUTES, CALLERS])), None);
        assert_eq!(hardly_meant(&empty, &snapshot("prod", &[])), None);
    }
}
