//! How large a policy may be. The numbers stand in the policy's messages too, where operators read them.

use prost::Message;

use super::Compiler;

/// Most bytes of an encoded policy.
pub(super) const MAX_ENCODED: usize = 4 << 20;
/// Most models, routes, flags and callers, each.
pub(super) const MAX_NAMED: usize = 10_000;
/// Most guardrails and catalogue entries, each.
pub(super) const MAX_FEW_NAMED: usize = 1000;
/// Most tiers in a list, models in a split, regions of a model, stages and gates.
pub(super) const MAX_SHORT: usize = 16;
/// Most rules of a route or flag, aliases of a route, variants of a flag.
pub(super) const MAX_LONG: usize = 64;
/// Largest weight in a split.
pub(super) const MAX_WEIGHT: u32 = 1_000_000;
/// Most characters of a template.
pub(super) const MAX_TEMPLATE: usize = 16_384;
/// Most characters of a description.
pub(super) const MAX_DESCRIPTION: usize = 500;
/// Most characters of a model id or ARN.
pub(super) const MAX_ID: usize = 2048;
/// Most characters of a name.
pub(super) const MAX_NAME: usize = 128;

impl Compiler<'_> {
    /// Whether the policy is small enough to be compiled at all.
    pub(super) fn sizes(&mut self) -> bool {
        let policy = self.policy;
        let encoded = policy.encoded_len();
        if encoded > MAX_ENCODED {
            let message = format!("the policy is {encoded} bytes long, and at most {MAX_ENCODED} are allowed");
            self.error("too_large", "", message);
            return false;
        }
        let sections = [
            ("models", policy.models.len(), MAX_NAMED),
            ("routes", policy.routes.len(), MAX_NAMED),
            ("flags", policy.flags.len(), MAX_NAMED),
            ("callers", policy.callers.len(), MAX_NAMED),
            ("guardrails", policy.guardrails.len(), MAX_FEW_NAMED),
            ("catalogue", policy.catalogue.len(), MAX_FEW_NAMED),
        ];
        let within: Vec<bool> = sections.into_iter().map(|(path, count, max)| self.at_most(path, count, max)).collect();
        within.iter().all(|within| *within)
    }

    /// Tells if there are more than allowed.
    pub(super) fn at_most(&mut self, path: &str, count: usize, max: usize) -> bool {
        if count > max {
            self.error("limit", path, format!("there are {count} here, and at most {max} are allowed"));
        }
        count <= max
    }

    /// Tells if a text is longer than allowed.
    pub(super) fn no_longer(&mut self, path: &str, text: &str, max: usize) -> bool {
        let characters = text.chars().count();
        if characters > max {
            let message = format!("this is {characters} characters long, and at most {max} are allowed");
            self.error("limit", path, message);
        }
        characters <= max
    }

    /// Tells if a text that must be there is not, or if it is longer than allowed.
    pub(super) fn some_text(&mut self, path: &str, what: &str, text: &str, max: usize) -> bool {
        if text.is_empty() {
            self.error("required", path, format!("{what} is required"));
            return false;
        }
        self.no_longer(path, text, max)
    }

    /// Tells if a list that must be there is not, or if there is too much in it.
    pub(super) fn some_of(&mut self, path: &str, what: &str, count: usize, max: usize) -> bool {
        if count == 0 {
            self.error("required", path, format!("{what} is required"));
            return false;
        }
        self.at_most(path, count, max)
    }
}
