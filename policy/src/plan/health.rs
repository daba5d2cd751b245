//! Which targets may be tried, as planning sees it.

use smallvec::SmallVec;

use crate::snapshot::TargetIndex;

/// Which targets may be tried. By default all; a request reads it and never changes it.
///
/// It belongs to the snapshot whose targets it names. Asking is one look at one bit, whatever the number of targets,
/// and up to 256 targets need no allocation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HealthView {
    /// One bit per target, set where it is unavailable, as far as the last that is.
    unavailable: SmallVec<[u64; 4]>,
}

impl HealthView {
    /// All targets but these.
    #[must_use]
    pub fn without(targets: impl IntoIterator<Item = TargetIndex>) -> Self {
        let mut view = HealthView::default();
        for target in targets {
            let (word, bit) = place(target);
            if word >= view.unavailable.len() {
                view.unavailable.resize(word + 1, 0);
            }
            view.unavailable[word] |= bit;
        }
        view
    }

    /// Whether a target may be tried.
    #[must_use]
    pub fn is_available(&self, target: TargetIndex) -> bool {
        let (word, bit) = place(target);
        self.unavailable.get(word).is_none_or(|bits| bits & bit == 0)
    }
}

fn place(target: TargetIndex) -> (usize, u64) {
    (target.0 as usize / 64, 1 << (target.0 % 64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_the_named_targets_are_unavailable() {
        let named = [0, 1, 63, 64, 255, 256, 1000];
        let view = HealthView::without(named.map(TargetIndex));
        for target in 0..2000 {
            assert_eq!(view.is_available(TargetIndex(target)), !named.contains(&target), "{target}");
        }
        assert!(HealthView::default().is_available(TargetIndex(u32::MAX)));
    }
}
