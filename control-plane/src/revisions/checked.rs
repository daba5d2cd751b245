//! A policy that may become a revision: read strictly, compiled, cut into chunks. Pure, and up to a second of work.

use std::{collections::BTreeSet, sync::Arc};

use switchtower_policy::{Violation, compile, items};
use switchtower_proto::policy::v1;

use super::{
    Refused,
    chunks::{self, Chunk},
};

/// A policy that compiles.
#[derive(Debug)]
pub(super) struct Checked {
    /// Its items as they came.
    pub(super) items: Arc<[v1::Item]>,
    /// Their digest.
    pub(super) content_digest: [u8; 32],
    /// Their chunks.
    pub(super) chunks: Vec<Chunk>,
    /// Members, values and kinds that it uses.
    pub(super) used: BTreeSet<String>,
    /// What an operator should know.
    pub(super) warnings: Vec<Violation>,
}

impl Checked {
    /// Checks a policy for an environment.
    pub(super) fn of(environment: &str, items: Vec<v1::Item>) -> Result<Self, Refused> {
        let policy = items::strict(&items).map_err(Refused::Policy)?;
        let mut compiled = compile(&policy);
        // A policy without a name of its own has that violation already.
        if policy.environment != environment && !policy.environment.is_empty() {
            let message = format!(
                "the policy is for environment `{}` and was applied to `{environment}`: promote it, or apply it there",
                policy.environment
            );
            let mut violations = compiled.map_or_else(|violations| violations, |compiled| compiled.warnings);
            violations.insert(0, Violation::error("wrong_environment", "environment", message));
            compiled = Err(violations);
        }
        let warnings = compiled.map_err(Refused::Policy)?.warnings;
        Ok(Checked {
            content_digest: items::digest(&items),
            chunks: chunks::split(&items),
            used: items::used(&items),
            warnings,
            items: items.into(),
        })
    }

    /// Bytes of the encoded content.
    pub(super) fn size_bytes(&self) -> u64 {
        self.chunks.iter().map(|chunk| chunk.bytes.len() as u64).sum()
    }
}
