//! The key files of a node without a control plane: read at the start, and again when they change, so that a key that
//! was issued or revoked, and a pepper that was rotated, hold without a restart.
//!
//! Whatever is wrong with a part of them keeps no other part from holding, least of all a revocation: a file that cannot
//! be read leaves what was read of it before, a record that does not hold lets nobody in, and both are told in the log
//! and by `/readyz`.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use switchtower_keys::{File, Peppers, Record};
use tokio_util::sync::CancellationToken;

use crate::{auth::Keyring, infer::Node};

/// How often the files are looked at: a revocation holds within two seconds.
pub(crate) const POLL: Duration = Duration::from_secs(1);

/// Where keys and the pepper they are hashed under stand.
#[derive(Clone, Debug)]
pub struct KeyFiles {
    /// The keys.
    pub keys: PathBuf,
    /// The peppers.
    pub pepper: PathBuf,
}

/// What a node says of its key files.
#[derive(Debug, Default)]
pub struct Status(Mutex<Vec<String>>);

impl Status {
    /// What is wrong with them as they are now; empty where nothing is.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes what is wrong now, and logs what was not wrong before.
    pub(crate) fn take(&self, problems: Vec<String>) {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for problem in problems.iter().filter(|problem| !told.contains(problem)) {
            tracing::error!("{problem}");
        }
        *told = problems;
    }
}

/// The key files as they were read last.
pub struct Followed {
    files: KeyFiles,
    keys: Part<Vec<Record>>,
    peppers: Part<Peppers>,
}

/// A file as it was read last.
struct Part<T> {
    bytes: Vec<u8>,
    /// What the last good bytes said.
    value: T,
    /// Why the file as it is now does not hold.
    problems: Vec<String>,
}

impl KeyFiles {
    /// Reads both files for the first time. Gives the keyring, and what to [`watch`] from here on: what changes after
    /// this is not missed.
    ///
    /// # Errors
    /// Sentences about everything that is wrong with the files. A record that does not hold is none of it: that is a
    /// problem of `status`.
    pub fn open(self, status: &Status) -> Result<(Keyring, Followed), Vec<String>> {
        // In this order: a key is made under a pepper that stood in its file before.
        let keys = Part::first(&self.keys, std::fs::read(&self.keys), records);
        let peppers = Part::first(&self.pepper, std::fs::read(&self.pepper), Peppers::read);
        match (keys, peppers) {
            (Ok(keys), Ok(peppers)) => {
                let followed = Followed { files: self, keys, peppers };
                let keyring = followed.keyring(status);
                Ok((keyring, followed))
            }
            (keys, peppers) => Err(keys.err().into_iter().chain(peppers.err()).flatten().collect()),
        }
    }
}

impl Followed {
    /// Takes what was read now. Gives the keyring if it is another.
    fn take(&mut self, keys: io::Result<Vec<u8>>, peppers: io::Result<Vec<u8>>, status: &Status) -> Option<Keyring> {
        let keys = self.keys.take(&self.files.keys, keys, records);
        let peppers = self.peppers.take(&self.files.pepper, peppers, Peppers::read);
        if !keys && !peppers {
            return None;
        }
        Some(self.keyring(status))
    }

    fn keyring(&self, status: &Status) -> Keyring {
        let (keyring, dead) = Keyring::of_what_holds(&self.keys.value, &self.peppers.value);
        let dead = dead.into_iter().map(|dead| format!("{}: {dead}: it lets nobody in", self.files.keys.display()));
        status.take(self.keys.problems.iter().chain(&self.peppers.problems).cloned().chain(dead).collect());
        keyring
    }
}

/// A pepper file alone, for a node whose keys come from elsewhere.
pub(crate) struct PepperFile {
    path: PathBuf,
    peppers: Part<Peppers>,
}

impl PepperFile {
    /// Reads it for the first time.
    ///
    /// # Errors
    /// Sentences about everything that is wrong with it.
    pub(crate) fn open(path: PathBuf) -> Result<Self, Vec<String>> {
        let peppers = Part::first(&path, std::fs::read(&path), Peppers::read)?;
        Ok(PepperFile { path, peppers })
    }

    /// Takes what was read now; whether anything is another than before.
    pub(crate) fn take(&mut self, read: io::Result<Vec<u8>>) -> bool {
        self.peppers.take(&self.path, read, Peppers::read)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The peppers that hold.
    pub(crate) fn peppers(&self) -> &Peppers {
        &self.peppers.value
    }

    /// Why the file as it is now does not hold.
    pub(crate) fn problems(&self) -> &[String] {
        &self.peppers.problems
    }
}

impl<T> Part<T> {
    fn first(
        path: &Path,
        read: io::Result<Vec<u8>>,
        parse: impl FnOnce(&[u8]) -> Result<T, Vec<String>>,
    ) -> Result<Self, Vec<String>> {
        let bytes = read.map_err(|error| vec![placed(path, &error)])?;
        match parse(&bytes) {
            Ok(value) => Ok(Part { bytes, value, problems: Vec::new() }),
            Err(problems) => Err(problems.iter().map(|problem| placed(path, problem)).collect()),
        }
    }

    /// Takes what was read now; whether anything is another than before, if only what is wrong.
    fn take(
        &mut self,
        path: &Path,
        read: io::Result<Vec<u8>>,
        parse: impl FnOnce(&[u8]) -> Result<T, Vec<String>>,
    ) -> bool {
        let (bytes, parsed) = match read {
            // What was wrong with these bytes still is; what kept them from being read is not.
            Ok(bytes) if bytes == self.bytes && self.problems.is_empty() => return false,
            Ok(bytes) => {
                let parsed = parse(&bytes);
                (Some(bytes), parsed)
            }
            Err(error) => (None, Err(vec![error.to_string()])),
        };
        let problems = match parsed {
            Ok(value) => {
                self.value = value;
                Vec::new()
            }
            Err(problems) => problems
                .iter()
                .map(|problem| format!("{}; what was read of it before still holds", placed(path, problem)))
                .collect(),
        };
        let another_value = bytes.is_some() && problems.is_empty();
        let another = another_value || problems != self.problems;
        self.bytes = bytes.unwrap_or_default();
        self.problems = problems;
        another
    }
}

fn records(bytes: &[u8]) -> Result<Vec<Record>, Vec<String>> {
    File::read(bytes).map(|file| file.records)
}

fn placed(path: &Path, problem: impl std::fmt::Display) -> String {
    format!("{}: {problem}", path.display())
}

/// Reads the files again whenever one of them changes, until cancelled.
pub async fn watch(mut followed: Followed, node: Arc<Node>, status: Arc<Status>, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(POLL)).await.is_some() {
        // In this order: a key is made under a pepper that stood in its file before.
        let keys = tokio::fs::read(&followed.files.keys).await;
        let peppers = tokio::fs::read(&followed.files.pepper).await;
        if let Some(keyring) = followed.take(keys, peppers, &status) {
            tracing::info!(keys = keyring.len(), "keys read again");
            node.keys.store(Arc::new(keyring));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use switchtower_keys::{IssuedKey, KEY_RANDOM_BYTES, Pepper, new_key};

    use crate::auth::Credentials;

    struct Folder(tempfile::TempDir);

    impl Folder {
        fn files(&self) -> KeyFiles {
            KeyFiles { keys: self.0.path().join("keys"), pepper: self.0.path().join("pepper") }
        }

        fn keys(&self, records: &[&Record]) {
            File { records: records.iter().copied().cloned().collect() }.write(&self.files().keys).unwrap();
        }

        fn look(&self, followed: &mut Followed, status: &Status) -> Option<Keyring> {
            followed.take(std::fs::read(self.files().keys), std::fs::read(self.files().pepper), status)
        }
    }

    fn key(caller: &str, pepper: u8, random: u8) -> (Record, IssuedKey) {
        let now = SystemTime::now();
        new_key(caller, &Pepper::new([pepper; 32]), now, None, &[random; KEY_RANDOM_BYTES]).unwrap()
    }

    fn lets_in(keyring: &Keyring, key: &IssuedKey) -> bool {
        let request = http::Request::builder().header("authorization", format!("Bearer {}", key.bearer));
        let credentials = Credentials::of_headers(request.body(()).unwrap().headers());
        keyring.authenticate(&credentials, SystemTime::now()).is_ok()
    }

    #[test]
    fn a_revocation_holds_whatever_is_wrong_beside_it() {
        let folder = Folder(tempfile::tempdir().unwrap());
        let ((mut web, web_key), (other, other_key)) = (key("web", 1, 1), key("other", 1, 2));
        let (lost, lost_key) = key("lost", 9, 3);
        Peppers::first(Pepper::new([1; 32])).write(&folder.files().pepper).unwrap();
        folder.keys(&[&web, &other]);
        let status = Status::default();
        let (keyring, mut followed) = folder.files().open(&status).unwrap();
        assert!(lets_in(&keyring, &web_key) && status.problems().is_empty());
        assert!(folder.look(&mut followed, &status).is_none());

        // Beside a record under a pepper that is not live.
        web.revoked = Some(SystemTime::now());
        folder.keys(&[&web, &other, &lost]);
        let keyring = folder.look(&mut followed, &status).unwrap();
        assert!(!lets_in(&keyring, &web_key) && !lets_in(&keyring, &lost_key) && lets_in(&keyring, &other_key));
        let problems = status.problems();
        assert!(problems.len() == 1 && problems[0].contains("which is not live: it lets nobody in"), "{problems:?}");
        assert!(folder.look(&mut followed, &status).is_none());

        // Beside a pepper file that is gone.
        std::fs::remove_file(folder.files().pepper).unwrap();
        let revoked = Record { revoked: Some(SystemTime::now()), ..other.clone() };
        folder.keys(&[&web, &revoked]);
        let keyring = folder.look(&mut followed, &status).unwrap();
        assert!(keyring.is_empty());
        let problems = status.problems();
        assert!(problems.len() == 1 && problems[0].contains("pepper: "), "{problems:?}");
    }

    #[test]
    fn a_rotated_pepper_holds_without_a_restart() {
        let folder = Folder(tempfile::tempdir().unwrap());
        let ((old, old_key), (new, new_key)) = (key("web", 1, 1), key("web", 2, 2));
        let peppers = Peppers::first(Pepper::new([1; 32]));
        peppers.write(&folder.files().pepper).unwrap();
        folder.keys(&[&old]);
        let status = Status::default();
        let (_, mut followed) = folder.files().open(&status).unwrap();
        peppers.rotated(Pepper::new([2; 32])).write(&folder.files().pepper).unwrap();
        folder.keys(&[&old, &new]);
        let keyring = folder.look(&mut followed, &status).unwrap();
        assert!(lets_in(&keyring, &old_key) && lets_in(&keyring, &new_key));
        assert_eq!(status.problems(), [""; 0]);
    }

    #[test]
    fn a_file_that_cannot_be_read_leaves_what_was_read_and_is_told_until_it_can() {
        let folder = Folder(tempfile::tempdir().unwrap());
        let (web, web_key) = key("web", 1, 1);
        Peppers::first(Pepper::new([1; 32])).write(&folder.files().pepper).unwrap();
        folder.keys(&[&web]);
        let status = Status::default();
        let (_, mut followed) = folder.files().open(&status).unwrap();
        for damage in [None, Some("{"), Some("[]")] {
            match damage {
                None => std::fs::remove_file(folder.files().keys).unwrap(),
                Some(text) => std::fs::write(folder.files().keys, text).unwrap(),
            }
            let keyring = folder.look(&mut followed, &status).unwrap();
            assert!(lets_in(&keyring, &web_key), "{damage:?}");
            let problems = status.problems();
            assert!(problems.len() == 1 && problems[0].ends_with("before still holds"), "{problems:?}");
            assert!(folder.look(&mut followed, &status).is_none(), "{damage:?}");
        }
        folder.keys(&[&web]);
        assert!(lets_in(&folder.look(&mut followed, &status).unwrap(), &web_key));
        assert_eq!(status.problems(), [""; 0]);
        assert!(folder.look(&mut followed, &status).is_none());
    }

    #[test]
    fn files_that_cannot_be_read_at_first_are_all_told() {
        let folder = Folder(tempfile::tempdir().unwrap());
        let problems = folder.files().open(&Status::default()).err().unwrap();
        assert_eq!(problems.len(), 2, "{problems:?}");
    }
}
