//! How far another wall clock is from one's own, from answers that carry it.
//!
//! An answer's clock was read somewhere between question and answer, so each sample is right to half
//! its round trip. Of the last few the quickest tells the most: the filter of NTP (RFC 5905, 10).

use serde::{Deserialize, Serialize};

/// The difference of two wall clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Offset {
    /// In milliseconds.
    pub ms: i64,
    /// How exactly that is known, in milliseconds: half a round trip.
    pub within_ms: u64,
}

impl Offset {
    /// What is certain of it, in milliseconds.
    pub fn certain_ms(self) -> u64 {
        self.ms.unsigned_abs().saturating_sub(self.within_ms)
    }

    /// Seen from the other clock.
    pub fn reversed(self) -> Self {
        Self { ms: self.ms.saturating_neg(), ..self }
    }
}

/// So many samples are chosen from.
const SAMPLES: usize = 8;

/// The last samples of one other clock.
#[derive(Clone, Debug, Default)]
pub struct Filter(Vec<Offset>);

impl Filter {
    /// Its wall clock said `theirs` between `asked` and `answered` by our wall clock, in milliseconds,
    /// `rtt_us` apart.
    pub fn take(&mut self, theirs: u64, (asked, answered): (u64, u64), rtt_us: u64) {
        let half_way = i128::from(asked) + (i128::from(answered) - i128::from(asked)) / 2;
        let ms = i64::try_from(i128::from(theirs) - half_way).unwrap_or(i64::MAX);
        if self.0.len() == SAMPLES {
            self.0.remove(0);
        }
        self.0.push(Offset { ms, within_ms: rtt_us.div_ceil(2000) });
    }

    /// The other clock minus ours, by the quickest answer; none before the first.
    pub fn best(&self) -> Option<Offset> {
        self.0.iter().rev().min_by_key(|offset| offset.within_ms).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_late_answer_does_not_move_a_clock() {
        let mut filter = Filter::default();
        assert_eq!(filter.best(), None);
        filter.take(10_040, (1_000, 1_080), 80_000);
        assert_eq!(filter.best(), Some(Offset { ms: 9_000, within_ms: 40 }));
        // The way there took nothing, the way back a second.
        filter.take(12_000, (3_000, 4_000), 1_000_000);
        assert_eq!(filter.best().map(Offset::certain_ms), Some(8_960));
        for at in 0..8 {
            filter.take(100 + at, (90 + at, 110 + at), 20_000);
        }
        assert_eq!(
            filter.best(),
            Some(Offset { ms: 0, within_ms: 10 }),
            "a step is seen in the end"
        );
    }

    proptest! {
        /// Whatever the ways take, what is said holds the truth.
        #[test]
        fn the_truth_lies_within(truth in -100_000i64..100_000, ways in prop::collection::vec((0u64..900, 0u64..900), 1..30)) {
            let mut filter = Filter::default();
            let mut now = 1_000_000_u64;
            for (there, back) in ways {
                let theirs = (now + there).checked_add_signed(truth).unwrap_or(0);
                filter.take(theirs, (now, now + there + back), (there + back) * 1000);
                now += 1000;
                let best = filter.best().unwrap();
                prop_assert!(best.ms.abs_diff(truth) <= best.within_ms + 1, "{best:?} {truth}");
            }
        }
    }
}
