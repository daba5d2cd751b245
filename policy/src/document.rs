//! YAML -> policy, with the map from field path to file, line and column.
//!
//! The YAML goes into a tree of ours (`tree`) whose every node and key knows its place, and is decoded from there by
//! hand (`decode`, `values`, `sections`): a typed deserialiser stops at the first thing that is wrong, and an operator who is
//! told one thing at a time repairs one thing at a time. Whatever can be read is read, whatever cannot is left at its
//! default and remembered as refused, so that compiling the rest does not complain of what reading has already told.
//!
//! Several files make one policy: their sections are merged name by name, and nothing may stand twice. YAML's own ways
//! to say one thing twice (merge keys, tags, several documents in a file) are refused; anchors are allowed, bounded.

mod decode;
mod duration;
mod scalar;
mod sections;
mod tree;
mod unquoted;
mod values;

use std::sync::Arc;

use hashbrown::HashMap;
use switchtower_proto::policy::v1;

use crate::violation::{Place, Violation};

/// Most bytes of all files together: a revision is at most 4 MiB, and YAML is never shorter than what it says.
pub const MAX_BYTES: usize = 4 << 20;

/// Deepest nesting of mappings and sequences; the deepest that a policy needs, apart from objects in flags, is 6.
pub const MAX_NESTING: usize = 32;

/// Most nodes of all files together, anchors expanded: 10 000 each of routes, models, flags and callers with twenty
/// nodes apiece.
pub const MAX_NODES: usize = 1_000_000;

/// Most files of one policy.
pub const MAX_FILES: usize = 1000;

/// A policy file: its name as violations show it, and its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Name.
    pub name: String,
    /// Content.
    pub bytes: Vec<u8>,
}

/// What was read.
#[derive(Debug)]
pub struct Reading {
    /// What could be decoded.
    pub policy: v1::Policy,
    /// Where each field stands.
    pub places: Places,
    /// What was wrong.
    pub violations: Vec<Violation>,
    /// What was refused, and what follows from that.
    pub(crate) refused: Refused,
}

/// Which parts of a policy reading refused.
#[derive(Debug, Default)]
pub(crate) struct Refused {
    /// Field paths, sorted.
    paths: Vec<String>,
    /// A whole file is missing: any name may have stood in it.
    pub(crate) file: bool,
}

impl Refused {
    /// Whether this path, or what it is part of, was refused.
    pub(crate) fn covers(&self, path: &str) -> bool {
        let ends = path.char_indices().filter(|(_, c)| matches!(c, '.' | '[')).map(|(end, _)| end);
        ends.chain([path.len()]).any(|end| self.has(&path[..end]))
    }

    fn has(&self, path: &str) -> bool {
        self.paths.binary_search_by(|refused| refused.as_str().cmp(path)).is_ok()
    }

    /// Whether something below this path was refused.
    pub(crate) fn has_within(&self, path: &str) -> bool {
        ['.', '['].into_iter().any(|step| {
            let begin = format!("{path}{step}");
            let next = self.paths.partition_point(|refused| *refused < begin);
            self.paths.get(next).is_some_and(|refused| refused.starts_with(&begin))
        })
    }

    /// Whether names of this section may be missing because of what was refused.
    pub(crate) fn hides_names_of(&self, section: &str) -> bool {
        self.file || self.has(section)
    }
}

/// Where each field stands.
#[derive(Debug, Default)]
pub struct Places {
    files: Vec<Arc<str>>,
    by_path: HashMap<Box<str>, (u32, At)>,
}

/// A line and column in a file, both from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct At {
    line: u32,
    column: u32,
}

impl Places {
    /// The place of a field, or of its nearest parent that has one.
    #[must_use]
    pub fn of(&self, path: &str) -> Option<Place> {
        let mut path = path;
        loop {
            if let Some((file, at)) = self.by_path.get(path) {
                return Some(self.place(*file, *at));
            }
            path = &path[..path.rfind(['.', '['])?];
        }
    }

    /// The beginning of the first file, for what stands nowhere; `None` where there is no file.
    pub(crate) fn first(&self) -> Option<Place> {
        (!self.files.is_empty()).then(|| self.place(0, At { line: 1, column: 1 }))
    }

    fn place(&self, file: u32, at: At) -> Place {
        Place { file: self.files[file as usize].clone(), line: at.line, column: at.column }
    }
}

/// Reads the files of one policy. Everything that is wrong is told at once, in the order of the files.
#[must_use]
pub fn read(files: &[File]) -> Reading {
    let mut decoder = decode::Decoder::default();
    let mut policy = v1::Policy::default();
    let mut budget = tree::Budget::new();
    if files.len() > MAX_FILES {
        let message = format!("a policy is at most {MAX_FILES} files, and these are {}", files.len());
        decoder.refuse_file(Violation::error("too_large", "", message));
    }
    let mut bytes = 0_usize;
    for file in files.iter().take(MAX_FILES) {
        decoder.begin_file(&file.name);
        bytes = bytes.saturating_add(file.bytes.len());
        if bytes > MAX_BYTES {
            decoder.refuse_file_at(
                At { line: 1, column: 1 },
                "too_large",
                format!("with this file the policy is longer than {MAX_BYTES} bytes: remove what is not needed"),
            );
            continue;
        }
        let text = match text(&file.bytes) {
            Ok(text) => text,
            Err((at, message)) => {
                decoder.refuse_file_at(at, "not_utf8", message);
                continue;
            }
        };
        let read = tree::read(text, &mut budget);
        for problem in read.problems {
            decoder.refuse_file_at(problem.at, problem.code, problem.message);
        }
        if let Some(root) = read.root {
            sections::policy(&mut decoder, &root, &mut policy);
        }
    }
    let (places, violations, paths, file) = decoder.into_parts();
    Reading { policy, places, violations, refused: Refused { paths, file } }
}

fn text(bytes: &[u8]) -> Result<&str, (At, String)> {
    std::str::from_utf8(bytes).map_err(|error| {
        let good = &bytes[..error.valid_up_to()];
        let line = good.iter().filter(|byte| **byte == b'\n').count() + 1;
        let start = good.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let column = String::from_utf8_lossy(&good[start..]).chars().count() + 1;
        let at = At { line: line as u32, column: column as u32 };
        (at, "this is not UTF-8: save the file as UTF-8 text".to_owned())
    })
}
