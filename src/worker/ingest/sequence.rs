//! Trades of one source in order: which are new, which were seen, which ids are missing.
//!
//! Ids step by one. An id above the next one proves a gap of exactly the ids between; ids of an
//! open gap that arrive later fill it; all others at or below the highest are duplicates.
//!
//! What always holds:
//!  1. an id is let through at most once;
//!  2. every id between the first and the highest was let through, is missing, or is given up.

use std::collections::BTreeMap;

use super::ids::IdSet;
use super::model::{IdRange, Symbol, Trade};

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TradeSequence {
    last: Option<Seen>,
    missing: IdSet,
    /// Ids that no source could give; kept as a number, so that a gap percentage stays honest.
    given_up: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    pub id: u64,
    pub at_us: u64,
}

/// Where a source's stored trades end, and which of those before are missing: what a feed needs to
/// go on after a restart or a takeover without losing or repeating a trade.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resume {
    pub last: Seen,
    pub missing: Vec<Missing>,
}

/// By symbol of one venue.
pub type ResumePoints = BTreeMap<Symbol, Resume>;

/// Ids that were not seen, and a time before which they cannot lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Missing {
    pub ids: IdRange,
    pub since_us: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The next one, or the first ever.
    Next,
    /// New, and the ids before it are missing. `since_us` is the time of the trade before the gap.
    AfterGap {
        missing: IdRange,
        since_us: u64,
    },
    /// One of the missing.
    Fills,
    Duplicate,
}

impl TradeSequence {
    /// Goes on after what was stored: the first trade to come proves what was missed meanwhile.
    pub fn resume(from: Option<&Resume>) -> Self {
        let mut sequence = Self { last: from.map(|resume| resume.last), ..Self::default() };
        for missing in from.into_iter().flat_map(|resume| &resume.missing) {
            sequence.missing.insert_range(missing.ids);
        }
        sequence
    }

    pub fn see(&mut self, trade: &Trade) -> Verdict {
        let now = Seen { id: trade.id, at_us: trade.at_us };
        let Some(last) = self.last else {
            self.last = Some(now);
            return Verdict::Next;
        };
        if trade.id <= last.id {
            let fills = self.missing.remove(trade.id);
            return if fills { Verdict::Fills } else { Verdict::Duplicate };
        }
        self.last = Some(now);
        if trade.id - 1 == last.id {
            return Verdict::Next;
        }
        let missing = IdRange { first: last.id + 1, last: trade.id - 1 };
        self.missing.insert_range(missing);
        Verdict::AfterGap { missing, since_us: last.at_us }
    }

    /// Declares ids unobtainable. Returns those that were in fact still missing.
    pub fn give_up(&mut self, range: IdRange) -> Vec<IdRange> {
        let lost: Vec<IdRange> = self
            .missing
            .ranges()
            .filter(|gap| gap.first <= range.last && range.first <= gap.last)
            .map(|gap| IdRange {
                first: gap.first.max(range.first),
                last: gap.last.min(range.last),
            })
            .collect();
        self.missing.remove_range(range);
        self.given_up += lost.iter().map(IdRange::count).sum::<u64>();
        lost
    }

    pub fn last(&self) -> Option<Seen> {
        self.last
    }

    pub fn has_gap(&self) -> bool {
        !self.missing.is_empty()
    }

    pub fn missing(&self) -> &IdSet {
        &self.missing
    }

    pub fn given_up(&self) -> u64 {
        self.given_up
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::tests::trade;
    use proptest::prelude::*;

    #[test]
    fn a_jump_names_exactly_the_ids_between() {
        let mut sequence = TradeSequence::default();
        assert_eq!(sequence.see(&trade(10)), Verdict::Next);
        assert_eq!(sequence.see(&trade(11)), Verdict::Next);
        let since_us = trade(11).at_us;
        let missing = IdRange { first: 12, last: 14 };
        assert_eq!(sequence.see(&trade(15)), Verdict::AfterGap { missing, since_us });
        assert_eq!(sequence.see(&trade(13)), Verdict::Fills);
        assert_eq!(sequence.see(&trade(13)), Verdict::Duplicate);
        assert_eq!(sequence.see(&trade(9)), Verdict::Duplicate);
        assert_eq!(
            sequence.give_up(missing),
            [IdRange { first: 12, last: 12 }, IdRange { first: 14, last: 14 }]
        );
        assert_eq!((sequence.has_gap(), sequence.given_up()), (false, 2));
        assert_eq!(sequence.see(&trade(14)), Verdict::Duplicate);
    }

    #[test]
    fn a_restart_proves_what_was_missed_while_away() {
        let mut sequence = TradeSequence::resume(Some(&Resume {
            last: Seen { id: 100, at_us: 7 },
            missing: vec![Missing { ids: IdRange { first: 90, last: 91 }, since_us: 5 }],
        }));
        assert_eq!(sequence.see(&trade(91)), Verdict::Fills);
        assert_eq!(sequence.see(&trade(92)), Verdict::Duplicate);
        let missing = IdRange { first: 101, last: 149 };
        assert_eq!(sequence.see(&trade(150)), Verdict::AfterGap { missing, since_us: 7 });
    }

    proptest! {
        /// Precision and recall of gap detection are both one, whatever is dropped or repeated.
        #[test]
        fn detected_gaps_are_the_dropped_ids(kept in prop::collection::vec(0u8..3, 2..80)) {
            let mut sequence = TradeSequence::default();
            let (mut passed, mut sent) = (Vec::new(), Vec::new());
            for (id, copies) in kept.iter().enumerate() {
                for _ in 0..*copies {
                    sent.push(id as u64);
                    match sequence.see(&trade(id as u64)) {
                        Verdict::Duplicate => {}
                        _ => passed.push(id as u64),
                    }
                }
            }
            sent.dedup();
            prop_assert_eq!(&passed, &sent);
            let (Some(&first), Some(&last)) = (sent.first(), sent.last()) else { return Ok(()) };
            let dropped: Vec<u64> = (first..=last).filter(|id| !sent.contains(id)).collect();
            let missing: Vec<u64> = sequence.missing().ranges().flat_map(|r| r.first..=r.last).collect();
            prop_assert_eq!(missing, dropped);
        }
    }
}
