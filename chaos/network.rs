//! What the network does to messages: delay, jitter, loss, cuts in one or both directions, slow
//! links, doubles. Ends are numbers: a node `n`, its region's worker `100 + n`, people there `200 + n`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What is added to a node's number for its region's worker.
pub(crate) const WORKER: u64 = 100;
/// And for people there.
pub(crate) const PERSON: u64 = 200;

/// The region's number of an end.
pub(crate) fn place(end: u64) -> u64 {
    end % 100
}

/// Every end of a region.
pub(crate) fn ends_of(place: u64) -> [u64; 3] {
    [place, WORKER + place, PERSON + place]
}

/// The state of all links.
#[derive(Clone, Debug, Default)]
pub(crate) struct Network {
    /// Directed links that lose everything, and the fault that cut them.
    pub cut: BTreeMap<(u64, u64), &'static str>,
    pub loss_percent: u64,
    /// Answers alone are lost.
    pub lost_answers_percent: u64,
    pub double_percent: u64,
    /// More jitter, so that messages overtake each other.
    pub shuffle_ms: u64,
    /// Between two regions, in both directions.
    pub slow: BTreeMap<(u64, u64), u64>,
    base_ms: BTreeMap<(u64, u64), u64>,
    jitter_ms: u64,
    /// When the last message on a link arrives: a later one may come before it.
    last: BTreeMap<(u64, u64), Duration>,
}

/// What becomes of one message.
pub(crate) struct Way {
    /// None where it is lost at once.
    pub delay: Option<Duration>,
    /// Fault kinds that had an effect on it.
    pub effects: BTreeSet<&'static str>,
}

fn pair(a: u64, b: u64) -> (u64, u64) {
    let (a, b) = (place(a), place(b));
    (a.min(b), a.max(b))
}

impl Network {
    pub fn new(base_ms: u64, jitter_ms: u64) -> Self {
        // Three regions, three distances.
        let far = |n: u64| base_ms + n * base_ms / 5;
        let base = BTreeMap::from([((1, 2), far(0)), ((1, 3), far(2)), ((2, 3), far(3))]);
        Self { base_ms: base, jitter_ms, ..Self::default() }
    }

    /// No fault of the network is left.
    pub fn heal(&mut self) {
        self.cut.clear();
        self.slow.clear();
        (self.loss_percent, self.lost_answers_percent) = (0, 0);
        (self.double_percent, self.shuffle_ms) = (0, 0);
    }

    /// Cuts every pair of these ends, from the first to the second.
    pub fn cut(&mut self, from: &[u64], to: &[u64], why: &'static str) {
        for a in from {
            for b in to.iter().filter(|b| *b != a) {
                self.cut.insert((*a, *b), why);
            }
        }
    }

    /// The same from the second to the first as well.
    pub fn cut_both(&mut self, these: &[u64], those: &[u64], why: &'static str) {
        self.cut(these, those, why);
        self.cut(those, these, why);
    }

    /// Ends one kind of cut.
    pub fn mend(&mut self, why: &'static str) {
        self.cut.retain(|_, by| *by != why);
    }

    /// The fault that a message between these ends runs into.
    pub fn cut_by(&self, from: u64, to: u64) -> Option<&'static str> {
        self.cut.get(&(from, to)).copied()
    }

    /// Draws a message's way. No two links tie.
    pub fn way(
        &mut self,
        (from, to): (u64, u64),
        answer: bool,
        now: Duration,
        mut below: impl FnMut(u64) -> u64,
    ) -> Way {
        let mut effects = BTreeSet::new();
        let near = place(from) == place(to);
        if !near && below(100) < self.loss_percent {
            effects.insert("loss");
            return Way { delay: None, effects };
        }
        if answer && below(100) < self.lost_answers_percent {
            effects.insert("lost_answers");
            return Way { delay: None, effects };
        }
        let base = if near { 0 } else { self.base_ms.get(&pair(from, to)).copied().unwrap_or(0) };
        let jitter = below(if near { 1 } else { self.jitter_ms });
        let slow = self.slow.get(&pair(from, to)).copied().unwrap_or(0);
        if slow > 0 {
            effects.insert("slow_link");
        }
        let shuffle = if self.shuffle_ms > 0 && !near { below(self.shuffle_ms) } else { 0 };
        let delay = Duration::from_millis(base + jitter + slow + shuffle)
            + Duration::from_micros(40 + 7 * from + to);
        let arrives = now + delay;
        let last = self.last.entry((from, to)).or_default();
        if arrives < *last && self.shuffle_ms > 0 {
            effects.insert("reorder");
        }
        *last = (*last).max(arrives);
        Way { delay: Some(delay), effects }
    }
}
