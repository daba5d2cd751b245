//! The policy being served: swapped whole, loaded once per request.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use switchtower_policy::Snapshot;

/// The policy being served. A request loads it once and keeps what it got to its end, so no request ever sees two
/// revisions.
#[derive(Debug, Default)]
pub struct Current(ArcSwapOption<Snapshot>);

impl Current {
    /// The policy being served; `None` before there was any.
    #[must_use]
    pub fn load(&self) -> Option<Arc<Snapshot>> {
        self.0.load_full()
    }

    /// Serves another policy from the next request on.
    pub fn swap(&self, snapshot: Arc<Snapshot>) {
        self.0.store(Some(snapshot));
    }
}
