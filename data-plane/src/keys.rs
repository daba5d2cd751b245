//! The keys file of a node without a control plane: read at the start, and again when it changes, so that a key that was
//! issued or revoked holds without a restart.

use std::{path::PathBuf, sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use crate::{
    auth::{Keyring, Peppers, keys::File},
    infer::Node,
};

/// How often the file is looked at: a revocation holds within two seconds.
const POLL: Duration = Duration::from_secs(1);

/// Where keys and the pepper they are hashed under stand.
#[derive(Clone, Debug)]
pub struct KeyFiles {
    /// The keys.
    pub keys: PathBuf,
    /// The peppers; read at the start only.
    pub pepper: PathBuf,
}

impl KeyFiles {
    /// Reads the peppers.
    ///
    /// # Errors
    /// Sentences about everything that is wrong.
    pub fn peppers(&self) -> Result<Peppers, Vec<String>> {
        let bytes = std::fs::read(&self.pepper).map_err(|error| vec![format!("{}: {error}", self.pepper.display())])?;
        Peppers::read(&bytes).map_err(|problems| placed(&self.pepper, problems))
    }

    /// Reads the keys.
    ///
    /// # Errors
    /// Sentences about everything that is wrong.
    pub fn keyring(&self, peppers: &Peppers) -> Result<Keyring, Vec<String>> {
        let bytes = std::fs::read(&self.keys).map_err(|error| vec![format!("{}: {error}", self.keys.display())])?;
        self.keyring_of(&bytes, peppers)
    }

    fn keyring_of(&self, bytes: &[u8], peppers: &Peppers) -> Result<Keyring, Vec<String>> {
        let file = File::read(bytes).map_err(|problems| placed(&self.keys, problems))?;
        Keyring::new(&file.records, peppers).map_err(|problems| placed(&self.keys, problems))
    }
}

fn placed(path: &std::path::Path, problems: Vec<String>) -> Vec<String> {
    problems.into_iter().map(|problem| format!("{}: {problem}", path.display())).collect()
}

/// Reads the keys again whenever the file changes, until cancelled. A file that cannot be read changes nothing.
pub async fn watch(files: KeyFiles, peppers: Peppers, node: Arc<Node>, stop: CancellationToken) {
    let mut seen = tokio::fs::read(&files.keys).await.ok();
    while stop.run_until_cancelled(tokio::time::sleep(POLL)).await.is_some() {
        let Ok(now) = tokio::fs::read(&files.keys).await else { continue };
        if seen.as_ref() == Some(&now) {
            continue;
        }
        match files.keyring_of(&now, &peppers) {
            Ok(keyring) => {
                tracing::info!(keys = keyring.len(), "keys read again");
                node.keys.store(Arc::new(keyring));
            }
            Err(problems) => {
                for problem in problems {
                    tracing::error!("{problem}; the keys that were read before still hold");
                }
            }
        }
        seen = Some(now);
    }
}
