//! A set of venue ids kept as intervals: a feed without gaps costs one interval, however long.
//!
//! Trade de-duplication, gap detection and "which ids is this candle made of" are the same set
//! arithmetic; this is the one place that does it. Intervals never touch or overlap.

use std::collections::BTreeMap;

use super::model::IdRange;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IdSet {
    /// first → last, both included.
    spans: BTreeMap<u64, u64>,
}

impl IdSet {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    pub fn contains(&self, id: u64) -> bool {
        self.spans.range(..=id).next_back().is_some_and(|(_, last)| *last >= id)
    }

    pub fn contains_all(&self, range: IdRange) -> bool {
        self.spans.range(..=range.first).next_back().is_some_and(|(_, last)| *last >= range.last)
    }

    /// Says whether the id is new.
    pub fn insert(&mut self, id: u64) -> bool {
        if self.contains(id) {
            return false;
        }
        self.insert_range(IdRange { first: id, last: id });
        true
    }

    pub fn insert_range(&mut self, range: IdRange) {
        let IdRange { mut first, mut last } = range;
        // Everything that overlaps or touches melts into one span.
        while let Some((&start, &end)) = self.spans.range(..=last.saturating_add(1)).next_back() {
            if end.saturating_add(1) < first {
                break;
            }
            first = first.min(start);
            last = last.max(end);
            self.spans.remove(&start);
        }
        self.spans.insert(first, last);
    }

    /// Says whether the id was there.
    pub fn remove(&mut self, id: u64) -> bool {
        let Some((&first, &last)) = self.spans.range(..=id).next_back() else { return false };
        if last < id {
            return false;
        }
        self.spans.remove(&first);
        if first < id {
            self.spans.insert(first, id - 1);
        }
        if id < last {
            self.spans.insert(id + 1, last);
        }
        true
    }

    pub fn remove_range(&mut self, range: IdRange) {
        let touched: Vec<IdRange> = self.ranges().filter(|span| overlap(span, &range)).collect();
        for span in touched {
            self.spans.remove(&span.first);
            if span.first < range.first {
                self.spans.insert(span.first, range.first - 1);
            }
            if range.last < span.last {
                self.spans.insert(range.last + 1, span.last);
            }
        }
    }

    /// The parts of `range` that are not in the set, in order.
    pub fn missing_in(&self, range: IdRange) -> Vec<IdRange> {
        let mut missing = Vec::new();
        let mut next = range.first;
        for span in self.ranges().filter(|span| overlap(span, &range)) {
            if span.first > next {
                missing.push(IdRange { first: next, last: span.first - 1 });
            }
            match span.last.checked_add(1) {
                Some(after) => next = next.max(after),
                None => return missing,
            }
        }
        if next <= range.last {
            missing.push(IdRange { first: next, last: range.last });
        }
        missing
    }

    pub fn ranges(&self) -> impl DoubleEndedIterator<Item = IdRange> + '_ {
        self.spans.iter().map(|(&first, &last)| IdRange { first, last })
    }

    pub fn span_count(&self) -> usize {
        self.spans.len()
    }

    /// How many ids it holds.
    pub fn count(&self) -> u64 {
        self.ranges().map(|range| range.count()).fold(0, u64::saturating_add)
    }

    pub fn first(&self) -> Option<u64> {
        self.spans.first_key_value().map(|(first, _)| *first)
    }

    pub fn last(&self) -> Option<u64> {
        self.spans.last_key_value().map(|(_, last)| *last)
    }

    /// Forgets the lowest intervals until at most `keep` are left.
    pub fn forget_oldest(&mut self, keep: usize) {
        while self.spans.len() > keep {
            self.spans.pop_first();
        }
    }
}

fn overlap(a: &IdRange, b: &IdRange) -> bool {
    a.first <= b.last && b.first <= a.last
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_edges_of_the_id_space_are_ids_too() {
        let mut set = IdSet::new();
        set.insert_range(IdRange { first: u64::MAX - 1, last: u64::MAX });
        assert!(set.insert(0));
        assert!(!set.insert(u64::MAX));
        assert!(set.remove(u64::MAX));
        assert_eq!(
            set.missing_in(IdRange { first: 0, last: u64::MAX }),
            [IdRange { first: 1, last: u64::MAX - 2 }, IdRange { first: u64::MAX, last: u64::MAX }]
        );
    }

    proptest! {
        /// Whatever is done to it, it answers as a plain set of numbers would.
        #[test]
        fn it_behaves_as_a_plain_set(steps in prop::collection::vec((0u8..4, 0u64..40, 0u64..8), 0..60)) {
            let mut set = IdSet::new();
            let mut plain: BTreeSet<u64> = BTreeSet::new();
            for (what, first, len) in steps {
                let range = IdRange { first, last: first + len };
                match what {
                    0 => prop_assert_eq!(set.insert(first), plain.insert(first)),
                    1 => { set.insert_range(range); plain.extend(range.first..=range.last); }
                    2 => prop_assert_eq!(set.remove(first), plain.remove(&first)),
                    _ => { set.remove_range(range); plain.retain(|id| !range.contains(*id)); }
                }
                let shown: Vec<u64> = set.ranges().flat_map(|r| r.first..=r.last).collect();
                prop_assert_eq!(&shown, &plain.iter().copied().collect::<Vec<_>>());
                let whole = IdRange { first: 0, last: 50 };
                let missing: Vec<u64> =
                    set.missing_in(whole).iter().flat_map(|r| r.first..=r.last).collect();
                prop_assert_eq!(missing, (0..=50).filter(|id| !plain.contains(id)).collect::<Vec<_>>());
                prop_assert_eq!(set.contains_all(range), (range.first..=range.last).all(|id| plain.contains(&id)));
                prop_assert_eq!(set.count(), plain.len() as u64);
                // Spans never touch: two neighbours would be one.
                let spans: Vec<IdRange> = set.ranges().collect();
                prop_assert!(spans.windows(2).all(|w| w[0].last + 1 < w[1].first));
            }
        }
    }
}
