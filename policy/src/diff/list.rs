//! Two lists set beside each other.

use hashbrown::HashMap;

use super::tree::Node;

/// What became of an element; positions from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is still there, perhaps changed.
    Kept {
        before: usize,
        after: usize,
        /// It stands elsewhere among those that are still there.
        moved: bool,
    },
    Gone {
        before: usize,
    },
    New {
        after: usize,
    },
}

/// Most comparisons of elements; lists of valid policies need a fraction. Longer ones are paired from both ends only.
const MOST_COMPARED: usize = 1 << 16;

/// Elements that `others` lacks, and elements that it has too, each as often as it stands there.
pub(super) fn without<'n>(nodes: &'n [Node], others: &[Node]) -> (Vec<&'n Node>, Vec<String>) {
    let mut left: HashMap<String, usize> = HashMap::new();
    others.iter().for_each(|node| *left.entry(node.json().to_string()).or_default() += 1);
    let (mut lacking, mut common) = (Vec::new(), Vec::new());
    for node in nodes {
        let key = node.json().to_string();
        match left.get_mut(&key).filter(|count| **count > 0) {
            Some(count) => {
                *count -= 1;
                common.push(key);
            }
            None => lacking.push(node),
        }
    }
    (lacking, common)
}

/// Which element of one list became which of the other: those that are equal, then those of one name, one condition, and
/// at last those that stand in the same place. In the order of `after`, what is gone before what took its place.
pub(super) fn align(before: &[Node], after: &[Node]) -> Vec<Fate> {
    let mut pairing = Pairing::new(before, after);
    pairing.equal_in_order();
    pairing.pair(|a, b| a == b);
    pairing.pair(|a, b| has_same(a, b, "name"));
    pairing.pair(|a, b| has_same(a, b, "when"));
    pairing.by_place();
    pairing.fates()
}

fn has_same(a: &Node, b: &Node, key: &str) -> bool {
    match (a, b) {
        (Node::Object(a), Node::Object(b)) => a.get(key).is_some_and(|value| b.get(key) == Some(value)),
        _ => false,
    }
}

struct Pairing<'n> {
    before: &'n [Node],
    after: &'n [Node],
    /// Where each element of `before` is in `after`, and the other way round.
    to: Vec<Option<usize>>,
    from: Vec<Option<usize>>,
    /// Positions of equal elements that stand in order, in both.
    anchors: Vec<(usize, usize)>,
}

impl<'n> Pairing<'n> {
    fn new(before: &'n [Node], after: &'n [Node]) -> Self {
        let (to, from) = (vec![None; before.len()], vec![None; after.len()]);
        Pairing { before, after, to, from, anchors: Vec::new() }
    }

    fn join(&mut self, before: usize, after: usize) {
        self.to[before] = Some(after);
        self.from[after] = Some(before);
    }

    /// The longest common subsequence.
    fn equal_in_order(&mut self) {
        let (before, after) = (self.before, self.after);
        let start = before.iter().zip(after).take_while(|(a, b)| a == b).count();
        let (rest_before, rest_after) = (&before[start..], &after[start..]);
        let end = rest_before.iter().rev().zip(rest_after.iter().rev()).take_while(|(a, b)| a == b).count();
        let (height, width) = (rest_before.len() - end, rest_after.len() - end);
        let mut anchors: Vec<(usize, usize)> = (0..start).map(|index| (index, index)).collect();
        if height.saturating_mul(width) <= MOST_COMPARED {
            // lengths[i][j]: the longest of what follows i and j.
            let mut lengths = vec![vec![0_usize; width + 1]; height + 1];
            for (i, j) in (0..height).rev().flat_map(|i| (0..width).rev().map(move |j| (i, j))) {
                lengths[i][j] = if rest_before[i] == rest_after[j] {
                    lengths[i + 1][j + 1] + 1
                } else {
                    lengths[i + 1][j].max(lengths[i][j + 1])
                };
            }
            let (mut i, mut j) = (0, 0);
            while i < height && j < width {
                if rest_before[i] == rest_after[j] {
                    anchors.push((start + i, start + j));
                    (i, j) = (i + 1, j + 1);
                } else if lengths[i + 1][j] >= lengths[i][j + 1] {
                    i += 1;
                } else {
                    j += 1;
                }
            }
        }
        anchors.extend((0..end).map(|index| (start + height + index, start + width + index)));
        anchors.iter().for_each(|(before, after)| self.join(*before, *after));
        self.anchors = anchors;
    }

    /// Pairs those that are alike and have no pair yet.
    fn pair(&mut self, alike: impl Fn(&Node, &Node) -> bool) {
        let unpaired = |places: &[Option<usize>]| -> Vec<usize> {
            (0..places.len()).filter(|index| places[*index].is_none()).collect()
        };
        let (old, new) = (unpaired(&self.to), unpaired(&self.from));
        if old.len().saturating_mul(new.len()) > MOST_COMPARED {
            return;
        }
        for before in old {
            let found = new
                .iter()
                .copied()
                .find(|after| self.from[*after].is_none() && alike(&self.before[before], &self.after[*after]));
            if let Some(after) = found {
                self.join(before, after);
            }
        }
    }

    /// Pairs those that stand between the same anchors, in order: tiers always, others if as many are new as are gone.
    fn by_place(&mut self) {
        let ends = [(self.before.len(), self.after.len())];
        let (mut before, mut after) = (0, 0);
        for (next_before, next_after) in self.anchors.clone().into_iter().chain(ends) {
            let old: Vec<usize> = (before..next_before).filter(|index| self.to[*index].is_none()).collect();
            let new: Vec<usize> = (after..next_after).filter(|index| self.from[*index].is_none()).collect();
            let are_tiers = old.iter().all(|index| matches!(&self.before[*index], Node::Object(o) if o.is_tier));
            if are_tiers || old.len() == new.len() {
                old.into_iter().zip(new).for_each(|(before, after)| self.join(before, after));
            }
            (before, after) = (next_before + 1, next_after + 1);
        }
    }

    fn fates(&self) -> Vec<Fate> {
        let in_order = longest_rising(&self.to);
        let mut gone = (0..self.before.len()).filter(|index| self.to[*index].is_none()).peekable();
        let mut fates = Vec::new();
        for after in 0..self.after.len() {
            let Some(before) = self.from[after] else {
                fates.push(Fate::New { after });
                continue;
            };
            let moved = !in_order[before];
            while let Some(index) = gone.next_if(|index| !moved && *index < before) {
                fates.push(Fate::Gone { before: index });
            }
            fates.push(Fate::Kept { before, after, moved });
        }
        fates.extend(gone.map(|before| Fate::Gone { before }));
        fates
    }
}

/// Which elements are part of a longest sequence whose places rise: the fewest are called moved.
fn longest_rising(places: &[Option<usize>]) -> Vec<bool> {
    // For each length the element that ends such a sequence lowest, and for each element the one before it.
    let mut ends: Vec<(usize, usize)> = Vec::new();
    let mut previous: Vec<Option<usize>> = vec![None; places.len()];
    for (index, place) in places.iter().enumerate() {
        let Some(place) = *place else { continue };
        let length = ends.partition_point(|(end, _)| *end < place);
        previous[index] = length.checked_sub(1).map(|shorter| ends[shorter].1);
        if length == ends.len() { ends.push((place, index)) } else { ends[length] = (place, index) }
    }
    let mut rising = vec![false; places.len()];
    let mut next = ends.last().map(|(_, index)| *index);
    while let Some(index) = next {
        rising[index] = true;
        next = previous[index];
    }
    rising
}
