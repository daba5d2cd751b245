//! Where `dev` keeps its state: a temporary folder, or one that was named and is found again the next time.
//!
//! It holds what production has in as many places: the store, the nodes' last known good, the pepper, tokens. The files have
//! the forms that `switchtower-control-plane` and `switchtower-node` read, so that the same state can be run as processes.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use switchtower_keys::{Pepper, Peppers, random};
use tempfile::TempDir;

use crate::output::{Exit, Failure};

/// Name of the tokens here, and so who did what is done with them.
const NAME: &str = "dev";

/// The folder. A temporary one goes with it.
pub(super) struct Place {
    folder: PathBuf,
    _temporary: Option<TempDir>,
    /// What operators show.
    pub(super) operator_token: String,
    /// What nodes show.
    pub(super) fleet_token: String,
    /// What keys are hashed under.
    pub(super) peppers: Peppers,
}

impl Place {
    /// This folder, which is made if it is not there, or a temporary one.
    pub(super) fn of(given: Option<&Path>) -> Result<Self, Failure> {
        let (folder, temporary) = match given {
            Some(given) => (given.to_owned(), None),
            None => {
                let made = tempfile::Builder::new().prefix("switchtower-dev-").tempdir();
                let made = made.map_err(|error| failed(&"a temporary one", &error))?;
                (made.path().to_owned(), Some(made))
            }
        };
        fs::create_dir_all(&folder).map_err(|error| failed(&folder.display(), &error))?;
        let operator_token = token(&folder, "operator")?;
        let fleet_token = token(&folder, "fleet")?;
        let peppers = peppers(&folder.join("pepper.yaml"))?;
        Ok(Place { folder, _temporary: temporary, operator_token, fleet_token, peppers })
    }

    /// The store's file.
    pub(super) fn store(&self) -> Result<PathBuf, Failure> {
        let folder = self.folder.join("control-plane");
        fs::create_dir_all(&folder).map_err(|error| failed(&folder.display(), &error))?;
        Ok(folder.join("store.redb"))
    }

    /// The folder of a node's last known good.
    pub(super) fn node(&self, id: &str) -> PathBuf {
        self.folder.join("nodes").join(id)
    }

    /// The file of the operator's token alone, as the command line reads it.
    pub(super) fn operator_token_file(&self) -> PathBuf {
        self.folder.join("operator-token")
    }

    /// Both token files of the control plane.
    pub(super) fn tokens(&self) -> (Vec<u8>, Vec<u8>) {
        let line = |token: &str| format!("{NAME}:{token}\n").into_bytes();
        (line(&self.operator_token), line(&self.fleet_token))
    }

    /// The key that was made here before.
    pub(super) fn key(&self) -> Option<String> {
        let key = fs::read_to_string(self.folder.join("key")).ok()?;
        Some(key.trim().to_owned())
    }

    /// Keeps the key for the next time.
    pub(super) fn keep_key(&self, key: &str) -> Result<(), Failure> {
        let path = self.folder.join("key");
        private(&path, key).map_err(|error| failed(&path.display(), &error))
    }
}

/// The token of this name, which is made the first time: alone in one file, as those show it who have it, and as a line in
/// another, as those read it who check it.
fn token(folder: &Path, name: &str) -> Result<String, Failure> {
    let path = folder.join(format!("{name}-token"));
    if let Ok(token) = fs::read_to_string(&path) {
        return Ok(token.trim().to_owned());
    }
    let bytes = random::<24>().map_err(|error| failed(&path.display(), &error))?;
    let token = bytes.map(|byte| format!("{byte:02x}")).concat();
    let lines = folder.join(format!("{name}-tokens"));
    private(&lines, &format!("{NAME}:{token}\n")).map_err(|error| failed(&lines.display(), &error))?;
    private(&path, &format!("{token}\n")).map_err(|error| failed(&path.display(), &error))?;
    Ok(token)
}

fn peppers(path: &Path) -> Result<Peppers, Failure> {
    match fs::read(path) {
        Ok(bytes) => Peppers::read(&bytes).map_err(|problems| {
            Failure::new(Exit::Data, format!("{} is no pepper file", path.display())).details(problems)
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let peppers = Peppers::first(Pepper::new(random().map_err(|error| failed(&path.display(), &error))?));
            peppers.write(path).map_err(|error| failed(&path.display(), &error))?;
            Ok(peppers)
        }
        Err(error) => Err(failed(&path.display(), &error)),
    }
}

/// Writes a file that only its owner reads.
fn private(path: &Path, text: &str) -> io::Result<()> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?.write_all(text.as_bytes())
}

fn failed(what: &dyn std::fmt::Display, error: &io::Error) -> Failure {
    Failure::new(Exit::Failed, format!("the folder for the state of `dev`: {what}: {error}"))
        .next("name another with --data DIR")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_named_folder_gives_the_same_the_next_time_and_only_to_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tower");
        let first = Place::of(Some(&path)).unwrap();
        first.keep_key("swt_x").unwrap();
        let again = Place::of(Some(&path)).unwrap();
        assert_eq!(first.operator_token, again.operator_token);
        assert_eq!(first.fleet_token, again.fleet_token);
        assert_ne!(first.operator_token, first.fleet_token);
        assert_eq!(first.peppers.current.id(), again.peppers.current.id());
        assert_eq!(again.key().as_deref(), Some("swt_x"));
        for entry in fs::read_dir(&path).unwrap() {
            let entry = entry.unwrap();
            assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o077, 0, "{:?}", entry.path());
        }
        let lines = fs::read(path.join("operator-tokens")).unwrap();
        assert_eq!(lines, again.tokens().0);
    }

    #[test]
    fn a_temporary_folder_goes_with_it() {
        let place = Place::of(None).unwrap();
        let file = place.operator_token_file();
        assert!(file.exists() && place.key().is_none());
        drop(place);
        assert!(!file.exists());
    }
}
