//! The whole history of an environment, checked: whether it is what was once written.

use super::{MAX_PAGE, Refused, Revision, Revisions, head::Head, named};
use crate::{
    layout,
    store::{Entry, Range},
};

impl Revisions {
    /// What is wrong with an environment's revisions, in sentences: numbers with gaps, records that do not follow from
    /// each other, chunks that are missing, contents that are not what was hashed, a head that names something else.
    /// Empty: nothing. Reads every revision with its content, and takes as long as that takes.
    ///
    /// # Errors
    /// The store's.
    pub async fn verify(&self, environment: &str) -> Result<Vec<String>, Refused> {
        named(environment)?;
        let mut chain = Chain::default();
        // Revisions may be applied meanwhile: the chain reaches at least to the first of these heads, and not beyond the
        // second.
        let first = self.head_or_problem(environment, &mut chain.problems).await?;
        let mut after = String::new();
        loop {
            let range = Range { prefix: layout::revisions(environment), after, limit: MAX_PAGE, descending: false };
            let entries = self.store.list(range).await?;
            let Some(last) = entries.last() else { break };
            after = last.key.clone();
            for entry in &entries {
                let Some(revision) = chain.follow(entry, environment) else { continue };
                if let Some(head) = &first {
                    chain.problems.extend(named_by(head, &revision));
                }
                match self.content_of(&revision).await {
                    Err(Refused::Damaged(what)) => chain.problems.push(what),
                    content => drop(content?),
                }
            }
        }
        let second = self.head_or_problem(environment, &mut Vec::new()).await?;
        chain.reaches(first.as_ref(), second.as_ref());
        Ok(chain.problems)
    }

    async fn head_or_problem(&self, environment: &str, problems: &mut Vec<String>) -> Result<Option<Head>, Refused> {
        match self.head(environment).await {
            Err(Refused::Damaged(what)) => {
                problems.push(what);
                Ok(None)
            }
            head => head,
        }
    }
}

/// The chain as far as it was followed.
#[derive(Debug, Default)]
struct Chain {
    number: u64,
    digest: Option<[u8; 32]>,
    problems: Vec<String>,
}

impl Chain {
    /// The revision of the next entry; what is wrong with it is noted, and it is followed on from what is there.
    fn follow(&mut self, entry: &Entry, environment: &str) -> Option<Revision> {
        self.number += 1;
        let expected = layout::revision(environment, self.number);
        if entry.key != expected {
            self.problems.push(format!("{expected} is missing: {} comes in its place", entry.key));
            self.number = entry.key.rsplit('/').next().and_then(|number| number.parse().ok()).unwrap_or(self.number);
            self.digest = None;
        }
        let revision = match Revision::read(entry, environment, self.number) {
            Ok(revision) => revision,
            Err(error) => {
                self.problems.push(match error {
                    Refused::Damaged(what) => what,
                    error => error.to_string(),
                });
                self.digest = None;
                return None;
            }
        };
        let record = &revision.record;
        if record.parent != self.number - 1 {
            self.problems.push(format!("{expected} was made from revision {}", record.parent));
        }
        let previous = self.digest.map(Vec::from).unwrap_or_default();
        // After a gap or a damaged record, its digest is not known.
        let known = self.digest.is_some() || self.number == 1;
        if known && record.previous_digest != previous {
            self.problems.push(format!("{expected} does not follow from the record before it"));
        }
        self.digest = revision.digest;
        Some(revision)
    }

    fn reaches(&mut self, first: Option<&Head>, second: Option<&Head>) {
        let number = self.number;
        if let Some(head) = first.filter(|head| head.revision > number) {
            self.problems.push(format!("the head is revision {}, and the last one there is {number}", head.revision));
        }
        let last = second.map_or(0, |head| head.revision);
        if number > last {
            self.problems.push(format!("the head is revision {last}, and there is a revision {number}"));
        }
    }
}

/// Whether what a head says of this revision is so.
fn named_by(head: &Head, revision: &Revision) -> Vec<String> {
    let (number, mut problems) = (revision.record.number, Vec::new());
    if number == head.revision && revision.digest != Some(head.record_digest) {
        problems.push(format!("the head has another digest of revision {number} than its record"));
    }
    if number == head.assignment.revision && revision.record.content_digest != head.assignment.content_digest {
        problems.push(format!("the assignment has another content digest of revision {number} than its record"));
    }
    problems
}
