//! What a process leaves behind in case it does not come back: which content it was taking, and which contents it must
//! not take again.
//!
//! A content that ends the process (by a stack or memory that runs out, which nothing catches) would end it again at
//! every start. So the taking is counted on disk before it begins, and the mark goes when the content has served for a
//! while or the process ended as it should. What ended the process too often is quarantined, for this version of the
//! program: another one may be mended.
//!
//! An end before the content serves is hardly chance: that takes milliseconds. An end soon after may be the content's doing
//! (it is in use now), but a kill from outside looks the same, so more of them are needed.

use std::{io, path::Path};

use super::durable;
use crate::sync::Digest;

const PENDING: &str = "pending";
const QUARANTINED: &str = "quarantined";
/// Both files are a few lines.
const MAX_BYTES: usize = 4096;
/// Most contents in quarantine, as many as are told to the control plane; the oldest goes.
const MAX_QUARANTINED: usize = 16;
/// So many ends of the process before a content served quarantine it.
const TAKEN_TOO_OFTEN: u32 = 2;
/// So many ends before it was proven, served or not. Whoever kills a node from outside, for its memory or a drain, does it
/// once or twice; a content that is deadly in use gets here within a minute where the process is started again at once.
const ENDED_TOO_OFTEN: u32 = 4;

/// The content that is being taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pending {
    pub(super) digest: Digest,
    /// How often its taking began and did not lead to service, this one included.
    pub(super) taken: u32,
    /// How often it was in service and not proven, this time included.
    pub(super) served: u32,
}

impl Pending {
    /// The next taking of a content begins, after this mark.
    pub(super) fn next(before: Option<Self>, digest: Digest) -> Self {
        let before = before.filter(|before| before.digest == digest);
        let before = before.unwrap_or(Pending { digest, taken: 0, served: 0 });
        Pending { taken: before.taken.saturating_add(1), ..before }
    }

    /// What was being taken serves.
    pub(super) fn serving(self) -> Self {
        Pending { taken: self.taken.saturating_sub(1), served: self.served.saturating_add(1), ..self }
    }

    /// How often the process ended, if it ended here.
    pub(super) fn ends(self) -> u32 {
        self.taken.saturating_add(self.served)
    }

    pub(super) fn is_too_often(self) -> bool {
        self.taken >= TAKEN_TOO_OFTEN || self.ends() >= ENDED_TOO_OFTEN
    }

    /// `None`: there is none, or what is there says nothing.
    pub(super) fn read(folder: &Path) -> io::Result<Option<Self>> {
        let Some(bytes) = durable::read(folder, PENDING, MAX_BYTES)? else { return Ok(None) };
        let read = || {
            let (digest, counts) = std::str::from_utf8(&bytes).ok()?.strip_suffix('\n')?.split_once(' ')?;
            let (taken, served) = counts.split_once(' ')?;
            Some(Pending { digest: of_hex(digest)?, taken: taken.parse().ok()?, served: served.parse().ok()? })
        };
        read().map(Some).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it says nothing"))
    }

    pub(super) fn write(self, folder: &Path) -> io::Result<()> {
        let Pending { digest, taken, served } = self;
        durable::replace(folder, PENDING, format!("{} {taken} {served}\n", hex::encode(digest)).as_bytes())
    }

    pub(super) fn remove(folder: &Path) -> io::Result<()> {
        durable::remove(folder, PENDING)
    }
}

/// The quarantined contents, oldest first, as far as this version of the program put them there.
pub(super) fn quarantined(folder: &Path, build: &str) -> io::Result<Vec<Digest>> {
    let Some(bytes) = durable::read(folder, QUARANTINED, MAX_BYTES)? else { return Ok(Vec::new()) };
    let text = String::from_utf8_lossy(&bytes);
    let mut lines = text.lines();
    match lines.next() == Some(build) {
        true => Ok(lines.filter_map(of_hex).collect()),
        false => Ok(Vec::new()),
    }
}

/// Adds a content, and writes them down.
pub(super) fn quarantine(folder: &Path, build: &str, all: &mut Vec<Digest>, digest: Digest) -> io::Result<()> {
    all.retain(|known| *known != digest);
    all.push(digest);
    all.drain(..all.len().saturating_sub(MAX_QUARANTINED));
    let digests: String = all.iter().map(|digest| format!("{}\n", hex::encode(digest))).collect();
    durable::replace(folder, QUARANTINED, format!("{build}\n{digests}").as_bytes())
}

fn of_hex(text: &str) -> Option<Digest> {
    hex::decode(text).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_mark_is_read_as_it_was_written_and_nonsense_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        assert_eq!(Pending::read(folder).unwrap(), None);
        let pending = Pending { digest: [7; 32], taken: 1, served: 2 };
        pending.write(folder).unwrap();
        assert_eq!(Pending::read(folder).unwrap(), Some(pending));
        let whole = fs::read(folder.join(PENDING)).unwrap();
        for length in 0..whole.len() {
            fs::write(folder.join(PENDING), &whole[..length]).unwrap();
            assert!(Pending::read(folder).is_err(), "{length}");
        }
        Pending::remove(folder).unwrap();
        assert_eq!(Pending::read(folder).unwrap(), None);
    }

    #[test]
    fn an_end_in_service_counts_less_than_one_before() {
        // One mark for each process: `t` ended while it took the content, `s` when it served it.
        let check = |ends: &str, expected: bool| {
            let ended = ends.chars().fold(None, |before, end| {
                let taken = Pending::next(before, [7; 32]);
                Some(if end == 's' { taken.serving() } else { taken })
            });
            let ended = ended.unwrap();
            assert_eq!((ended.is_too_often(), ended.ends() as usize), (expected, ends.len()), "{ends}");
            assert!(!Pending::next(Some(ended), [8; 32]).is_too_often(), "another content counts anew");
        };
        check("t", false);
        check("tt", true);
        check("sss", false);
        check("ssss", true);
        check("sst", false);
        check("tsss", true);
        check("sstt", true);
    }

    #[test]
    fn quarantine_keeps_the_newest_and_ends_with_the_version() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let mut all = quarantined(folder, "1").unwrap();
        for number in (0..20).chain([10]) {
            quarantine(folder, "1", &mut all, [number; 32]).unwrap();
        }
        let expected: Vec<Digest> = (4..20).filter(|number| *number != 10).chain([10]).map(|n| [n; 32]).collect();
        assert_eq!((quarantined(folder, "1").unwrap(), quarantined(folder, "2").unwrap()), (expected, Vec::new()));
        fs::write(folder.join(QUARANTINED), b"1\nzz\n\xff\n").unwrap();
        assert_eq!(quarantined(folder, "1").unwrap(), [[0; 32]; 0]);
    }
}
