//! The keyring in service: made anew when keys or peppers change, whichever does.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use switchtower_keys::{Peppers, Record};

use super::{PepperSource, keys::Keys};
use crate::{
    auth::Keyring,
    infer::Node,
    keys::{PepperFile, Status},
};

/// Puts keyrings into service.
pub(super) struct Ring {
    node: Arc<Node>,
    status: Arc<Status>,
    made_of: Mutex<MadeOf>,
}

struct MadeOf {
    records: Vec<Record>,
    malformed: Vec<String>,
    peppers: Live,
}

enum Live {
    File(PepperFile),
    Fixed(Peppers),
}

impl Ring {
    /// # Errors
    /// Sentences about everything that is wrong with the pepper file.
    pub(super) fn new(pepper: PepperSource, node: Arc<Node>, status: Arc<Status>) -> Result<Self, Vec<String>> {
        let peppers = match pepper {
            PepperSource::File(path) => Live::File(PepperFile::open(path)?),
            PepperSource::Fixed(peppers) => Live::Fixed(peppers),
        };
        let made_of = MadeOf { records: Vec::new(), malformed: Vec::new(), peppers };
        Ok(Ring { node, status, made_of: Mutex::new(made_of) })
    }

    /// These keys hold from now on. When this returns, what they revoke lets nobody in.
    pub(super) fn take(&self, keys: &Keys) {
        let (records, malformed) = keys.read();
        let mut made_of = self.made_of.lock().unwrap_or_else(PoisonError::into_inner);
        (made_of.records, made_of.malformed) = (records, malformed);
        self.serve(&made_of);
    }

    /// The pepper file to look at; `None`: there is none.
    pub(super) fn pepper_file(&self) -> Option<PathBuf> {
        match &self.made_of.lock().unwrap_or_else(PoisonError::into_inner).peppers {
            Live::File(file) => Some(file.path().to_owned()),
            Live::Fixed(_) => None,
        }
    }

    /// The pepper file was read.
    pub(super) fn take_pepper(&self, read: std::io::Result<Vec<u8>>) {
        let mut made_of = self.made_of.lock().unwrap_or_else(PoisonError::into_inner);
        if let Live::File(file) = &mut made_of.peppers
            && file.take(read)
        {
            tracing::info!("pepper read again");
            self.serve(&made_of);
        }
    }

    fn serve(&self, made_of: &MadeOf) {
        let (peppers, mut problems) = match &made_of.peppers {
            Live::File(file) => (file.peppers(), file.problems().to_vec()),
            Live::Fixed(peppers) => (peppers, Vec::new()),
        };
        let (keyring, dead) = Keyring::of_what_holds(&made_of.records, peppers);
        problems.extend(made_of.malformed.iter().cloned());
        problems.extend(dead.into_iter().map(|dead| format!("{dead}: it lets nobody in")));
        self.status.take(problems);
        self.node.keys.store(Arc::new(keyring));
    }
}
