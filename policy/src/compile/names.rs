//! What a name may look like.

use super::{Compiler, limits::MAX_NAME};
use crate::violation::quoted;

impl Compiler<'_> {
    pub(super) fn environment(&mut self) {
        let name = &self.policy.environment;
        if name.is_empty() {
            self.error("required", "environment", "the environment's name is required, such as `environment: prod`");
        } else {
            self.name("environment", name);
        }
    }

    /// Tells if this is no name.
    pub(super) fn name(&mut self, path: &str, name: &str) {
        self.charset(path, name, "._-", "letters, digits, `.`, `_` and `-`");
    }

    /// Tells if this is no alias.
    pub(super) fn alias(&mut self, path: &str, alias: &str) {
        self.charset(path, alias, "._-:/", "letters, digits, `.`, `_`, `-`, `:` and `/`");
    }

    fn charset(&mut self, path: &str, name: &str, others: &str, allowed: &str) {
        let begins = name.starts_with(|c: char| c.is_ascii_alphanumeric());
        let holds = name.chars().all(|c| c.is_ascii_alphanumeric() || others.contains(c));
        if !begins || !holds || name.len() > MAX_NAME {
            let message = format!(
                "{} is not a name: 1 to {MAX_NAME} characters, of {allowed}, beginning with a letter or a digit",
                quoted(name)
            );
            self.error("bad_name", path, message);
        }
    }
}
