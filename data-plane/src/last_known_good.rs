//! What the control plane said last, on disk: a node that starts while no control plane answers serves what it served
//! before, with the same keys locked out.
//!
//! One file holds all of one generation (content, assignment, keys), because two files could be of two moments. Two
//! generations are kept: the one that serves, and the one that served well before it, for the case that the newer is
//! damaged or ends the process. The end of a key goes into both, so that falling back revives no key.
//!
//! A disk that takes nothing costs the next restart, never what serves: what could not be written is tried again, the
//! old files stay whole, and the problem is told wherever the node tells its state.
//!
//! Everything here blocks.

mod durable;
mod file;
mod marks;

use std::{
    fs::{DirBuilder, File, TryLockError},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use self::marks::Pending;
use crate::sync::{Digest, Keys, Served};

/// How whoever knows better lifts a quarantine.
pub const LIFTED_BY: &str = "to lift it, remove the file `quarantined` in the node's data folder and restart the node";

/// The two generations' files. Which one is the newer stands in them.
const FILES: [&str; 2] = ["last-known-good.1", "last-known-good.2"];

/// All that is kept at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Generation {
    /// The environment that it is of.
    pub environment: String,
    /// The policy.
    pub served: Served,
    /// The keys.
    pub keys: Keys,
}

/// The folder, held by one process.
#[derive(Debug)]
pub struct LastKnownGood {
    folder: PathBuf,
    /// Version of this program: quarantine ends with it.
    build: &'static str,
    /// Held as long as this lives.
    _lock: File,
    /// Where what serves is kept; `None`: nowhere.
    serving: Option<Place>,
    /// The highest number of a file.
    number: u64,
    pending: Option<Pending>,
    quarantined: Vec<Digest>,
    /// Keys whose ends both files are known to hold.
    ended: Keys,
    /// What is to be on disk and is not.
    unwritten: Option<Generation>,
}

/// A file and what is in it.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// Which of [`FILES`].
    file: usize,
    number: u64,
    digest: Digest,
    /// It has served for a while.
    proven: bool,
}

/// A generation that may be served.
#[derive(Debug)]
pub struct Candidate {
    /// What was kept.
    pub generation: Generation,
    place: Place,
}

/// What was there at the start.
#[derive(Debug, Default)]
pub struct Found {
    /// What may be served, the newest first.
    pub candidates: Vec<Candidate>,
    /// The keys: those of the newest file, ended as any file knows it.
    pub keys: Keys,
    /// Whether there is a newer one than the first candidate: it is damaged, or in quarantine.
    pub reverted: bool,
    /// What is wrong, in sentences.
    pub problems: Vec<String>,
}

impl LastKnownGood {
    /// Opens the folder, which is made if it is not there, and reads what is in it.
    ///
    /// # Errors
    /// The folder cannot be made or read, or another process holds it. What is wrong with its files is none: a node with
    /// damaged files is a node without them.
    pub fn open(folder: &Path, environment: &str, build: &'static str) -> io::Result<(Self, Found)> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let lock = File::open(folder)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(io::Error::other("another process uses it")),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let mut found = Found::default();
        let mut told = |file: &str, error: io::Error| found.problems.push(format!("{file}: {error}"));
        let pending = Pending::read(folder).unwrap_or_else(|error| {
            told("pending", error);
            None
        });
        let quarantined = marks::quarantined(folder, build).unwrap_or_else(|error| {
            told("quarantined", error);
            Vec::new()
        });
        let mut this = LastKnownGood {
            folder: folder.to_owned(),
            build,
            _lock: lock,
            serving: None,
            number: 0,
            pending,
            quarantined,
            ended: Keys::default(),
            unwritten: None,
        };
        this.find(environment, &mut found);
        Ok((this, found))
    }

    /// A content that ended the process too often goes into quarantine, unless it is all that there is to serve: nothing
    /// is worse than a content that may be innocent.
    fn quarantine(&mut self, read: &[Candidate], problems: &mut Vec<String>) {
        let is_left = |quarantined: &[Digest]| read.iter().any(|there| !quarantined.contains(&there.place.digest));
        if !read.is_empty() && !is_left(&self.quarantined) {
            let last = read[0].place.digest;
            self.quarantined.retain(|digest| *digest != last);
            problems.push(format!("content {} is in quarantine, and all that there is to serve", hex::encode(last)));
        }
        let Some(pending) = self.pending.filter(|pending| pending.is_too_often()) else { return };
        let digest = hex::encode(pending.digest);
        let ended = format!("the process ended {} times while it took content {digest}", pending.ends());
        let with_it: Vec<Digest> = self.quarantined.iter().copied().chain([pending.digest]).collect();
        if is_left(&self.quarantined) && !is_left(&with_it) {
            problems.push(format!("{ended}, which is all that there is to serve, so it is served again"));
            return;
        }
        problems.push(format!("{ended}, so it is in quarantine; {LIFTED_BY}"));
        let written = marks::quarantine(&self.folder, self.build, &mut self.quarantined, pending.digest);
        // Without the first the mark must stay, which says the same at the next start.
        if let Err(error) = written.and_then(|()| self.ended()) {
            problems.push(format!("the quarantine cannot be written: {error}"));
        }
        self.pending = None;
    }

    fn find(&mut self, environment: &str, found: &mut Found) {
        let mut read: Vec<Candidate> = Vec::new();
        let mut damaged = false;
        for (file, name) in FILES.iter().enumerate() {
            match self.read(file) {
                Ok(None) => {}
                Ok(Some(candidate)) if candidate.generation.environment != environment => {
                    let other = &candidate.generation.environment;
                    found.problems.push(format!("{name}: it is of environment `{other}`, so it is passed over"));
                    self.number = self.number.max(candidate.place.number);
                }
                Ok(Some(candidate)) => read.push(candidate),
                Err(error) => {
                    found.problems.push(format!("{name}: {error}"));
                    damaged = true;
                }
            }
        }
        read.sort_by_key(|candidate| std::cmp::Reverse(candidate.place.number));
        if let Some(newest) = read.first() {
            self.number = self.number.max(newest.place.number);
            let others = read.iter().skip(1);
            let keys = newest.generation.keys.clone();
            found.keys = others.fold(keys, |keys, other| keys.ended_as_in(&other.generation.keys).0);
        }
        self.quarantine(&read, &mut found.problems);
        let quarantined = |candidate: &Candidate| self.quarantined.contains(&candidate.place.digest);
        // Which of two a damaged file was cannot be told: whoever asks is told of the worse.
        found.reverted = damaged || read.first().is_some_and(quarantined);
        read.retain(|candidate| !quarantined(candidate));
        found.candidates = read;
    }

    fn read(&self, file: usize) -> io::Result<Option<Candidate>> {
        let Some(bytes) = durable::read(&self.folder, FILES[file], file::MAX_BYTES)? else { return Ok(None) };
        let (number, generation) =
            file::read(&bytes).map_err(|damaged| io::Error::new(io::ErrorKind::InvalidData, damaged))?;
        let digest = generation.served.digest;
        let proven = self.pending.is_none_or(|pending| pending.digest != digest);
        Ok(Some(Candidate { generation, place: Place { file, number, digest, proven } }))
    }

    /// Contents that must not be taken.
    #[must_use]
    pub fn quarantined(&self) -> &[Digest] {
        &self.quarantined
    }

    /// The taking of a content begins. When this returns, a process that ends now is known to have ended while it took
    /// it.
    ///
    /// # Errors
    /// It could not be written down.
    pub fn begin(&mut self, digest: Digest) -> io::Result<()> {
        let pending = Pending::next(self.pending, digest);
        self.pending = Some(pending);
        pending.write(&self.folder)
    }

    /// The content that was being taken serves. Until it is proven, an end of the process counts against it, but less: it
    /// may as well come from outside.
    ///
    /// # Errors
    /// It could not be written down: an end counts as one before.
    pub fn serves(&mut self, digest: Digest) -> io::Result<()> {
        let Some(pending) = self.pending.filter(|pending| pending.digest == digest) else { return Ok(()) };
        let pending = pending.serving();
        self.pending = Some(pending);
        pending.write(&self.folder)
    }

    /// What was kept is about to be compiled and served. A content that has served well before is not counted, whatever
    /// ends the process now, and also where it is fallen back to; one that did not is.
    ///
    /// # Errors
    /// It could not be written down.
    pub fn begin_kept(&mut self, candidate: &Candidate) -> io::Result<()> {
        match candidate.place.proven {
            true => Ok(()),
            false => self.begin(candidate.place.digest),
        }
    }

    /// What was kept serves.
    ///
    /// # Errors
    /// As [`LastKnownGood::serves`].
    pub fn serves_kept(&mut self, candidate: &Candidate) -> io::Result<()> {
        self.serving = Some(candidate.place);
        match candidate.place.proven {
            true => Ok(()),
            false => self.serves(candidate.place.digest),
        }
    }

    /// A content has served for a while.
    ///
    /// # Errors
    /// The mark cannot be removed.
    pub fn proven(&mut self, digest: Digest) -> io::Result<()> {
        if let Some(place) = self.serving.as_mut().filter(|place| place.digest == digest) {
            place.proven = true;
        }
        match self.pending.is_some_and(|pending| pending.digest == digest) {
            true => self.ended(),
            false => Ok(()),
        }
    }

    /// Whatever was being taken, the process did not end by it.
    ///
    /// # Errors
    /// The mark cannot be removed.
    pub fn ended(&mut self) -> io::Result<()> {
        match self.pending.take() {
            Some(_) => Pending::remove(&self.folder),
            None => Ok(()),
        }
    }

    /// Keeps what serves now. When this returns, a restart begins with it.
    ///
    /// # Errors
    /// The disk does not take it; what was kept before still is, and [`LastKnownGood::write_again`] tries again.
    pub fn keep(&mut self, generation: Generation) -> io::Result<()> {
        self.unwritten = Some(generation);
        self.write_again()
    }

    /// Writes what could not be written before, if anything.
    ///
    /// # Errors
    /// As [`LastKnownGood::keep`].
    pub fn write_again(&mut self) -> io::Result<()> {
        let Some(generation) = self.unwritten.take() else { return Ok(()) };
        let written = self.write(&generation);
        if written.is_err() {
            self.unwritten = Some(generation);
        }
        written
    }

    fn write(&mut self, generation: &Generation) -> io::Result<()> {
        let place = self.place_for(generation.served.digest);
        let bytes = file::write(generation, place.number);
        if bytes.len() > file::MAX_BYTES {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "policy and keys are larger than 64 MiB"));
        }
        durable::replace(&self.folder, FILES[place.file], &bytes)?;
        self.serving = Some(place);
        self.number = self.number.max(place.number);
        self.end_in(1 - place.file, &generation.keys)
    }

    /// Where a content goes: to itself, if only keys or numbers changed; over what serves, if that was never proven,
    /// because the older file holds what was; else over the older.
    fn place_for(&self, digest: Digest) -> Place {
        let next = |file| Place { file, number: self.number + 1, digest, proven: false };
        match self.serving {
            Some(serving) if serving.digest == digest => serving,
            Some(serving) if !serving.proven => next(serving.file),
            Some(serving) => next(1 - serving.file),
            None => next(0),
        }
    }

    /// Writes the ends of keys that the other file does not know into it.
    fn end_in(&mut self, file: usize, keys: &Keys) -> io::Result<()> {
        if keys.end_as(&self.ended) {
            return Ok(());
        }
        match self.read(file) {
            Ok(Some(Candidate { mut generation, place })) => {
                let (ended, changed) = generation.keys.ended_as_in(keys);
                if changed {
                    generation.keys = ended;
                    durable::replace(&self.folder, FILES[file], &file::write(&generation, place.number))?;
                }
            }
            Ok(None) => {}
            // A file that is damaged lets nobody in. One that only cannot be read now is there again later.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {}
            Err(error) => return Err(error),
        }
        self.ended = keys.clone();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
