//! The way to a peer, as its probes find it: now, usually, and how steadily.
//!
//! Nodes probe nodes (the control path), workers probe workers (the data path); both remember what
//! came back in a [`Watch`] and report it as a [`Path`].
//!
//! What always holds:
//!  1. two lost probes are no outage;
//!  2. time in which nobody looked is no time in which nobody answered;
//!  3. what is remembered of a peer does not grow.

use crate::time::Millis;
use serde::{Deserialize, Serialize};
use std::fmt;

/// How a peer answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Reach {
    /// It answers.
    Up {
        /// Median round trip of the last [`LATELY`] answers, in microseconds.
        rtt_us: u64,
    },
    /// It does not.
    Down {
        /// For how long, by the prober's clock.
        for_ms: Millis,
    },
}

impl Reach {
    /// How long it has not answered; zero while it does.
    pub fn down_for(self) -> Millis {
        match self {
            Self::Up { .. } => Millis::ZERO,
            Self::Down { for_ms } => for_ms,
        }
    }
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Up { rtt_us } => write!(f, "up, {}.{:03} ms", rtt_us / 1000, rtt_us % 1000),
            Self::Down { for_ms } => write!(f, "down {for_ms}"),
        }
    }
}

/// The way to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Path {
    /// Whether it answers now.
    pub reach: Reach,
    /// The shortest round trip of the last [`WINDOW`], in microseconds: what the way itself takes.
    /// Zero where nothing came back in that time.
    pub usual_us: u64,
    /// How often it fell silent or came back within the last [`WINDOW`].
    pub changes: u32,
    /// How long ago a probe of its came in here: the same way in the other direction alone. None where
    /// none is known of.
    pub heard_ago: Option<Millis>,
}

impl Path {
    /// A steady way with this round trip, in microseconds.
    pub fn up(rtt_us: u64) -> Self {
        let reach = Reach::Up { rtt_us };
        Self { reach, usual_us: rtt_us, changes: 0, heard_ago: None }
    }

    /// A way that was there and has been silent for so long.
    pub fn down(for_ms: Millis) -> Self {
        Self { reach: Reach::Down { for_ms }, usual_us: 0, changes: 1, heard_ago: None }
    }

    /// How long it has been silent; zero while it is not.
    pub fn down_for(self) -> Millis {
        self.reach.down_for()
    }

    /// The better of two ways to the same region, with the unsteadiness of both: a region answers
    /// when any of its processes does.
    pub fn or(self, other: Self) -> Self {
        let reach = match (self.reach, other.reach) {
            (Reach::Up { rtt_us: a }, Reach::Up { rtt_us: b }) => Reach::Up { rtt_us: a.min(b) },
            (up @ Reach::Up { .. }, Reach::Down { .. })
            | (Reach::Down { .. }, up @ Reach::Up { .. }) => up,
            (Reach::Down { for_ms: a }, Reach::Down { for_ms: b }) => {
                Reach::Down { for_ms: a.min(b) }
            }
        };
        let usual_us = match (self.usual_us, other.usual_us) {
            (0, known) | (known, 0) => known,
            (a, b) => a.min(b),
        };
        let heard_ago = match (self.heard_ago, other.heard_ago) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        Self { reach, usual_us, changes: self.changes.max(other.changes), heard_ago }
    }
}

/// Whose last probe came in within this is heard: probes come once a second, and some may be lost.
pub const HEARD_WITHIN: Millis = Millis::secs(4);
/// How far back a [`Path`] remembers.
pub const WINDOW: Millis = Millis::mins(MINUTES as u64);
/// Answers whose median is the round trip of the moment: a single slow one is no slow peer.
pub const LATELY: usize = 5;
/// So many probes in a row must fail.
const FAILED_BEFORE_DOWN: u32 = 3;
const MINUTES: usize = 10;

/// What a prober remembers of one peer. Its caller hands in the time: elapsed, on a clock that counts
/// sleep, from whatever beginning.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    /// Newest last.
    lately: Vec<u64>,
    failed: u32,
    /// When the first probe of those that failed in a row was sent.
    failing_since: Millis,
    /// What it counts as; none before the first verdict.
    up: Option<bool>,
    /// When a probe of its last came in here.
    heard: Option<Millis>,
    minutes: [Minute; MINUTES],
}

/// What happened in one minute.
#[derive(Clone, Copy, Debug, Default)]
struct Minute {
    /// Its number, counted from one, so that zero is a minute that never was.
    number: u64,
    least_us: Option<u64>,
    changes: u32,
}

impl Watch {
    /// A probe came back.
    pub fn answered(&mut self, now: Millis, rtt_us: u64) {
        self.failed = 0;
        if self.lately.len() == LATELY {
            self.lately.remove(0);
        }
        self.lately.push(rtt_us);
        let minute = self.minute(now);
        minute.least_us = Some(minute.least_us.map_or(rtt_us, |least| least.min(rtt_us)));
        self.counts_as(now, true);
    }

    /// A probe did not come back.
    pub fn failed(&mut self, sent: Millis, now: Millis) {
        if self.failed == 0 {
            self.failing_since = sent;
        }
        self.failed = self.failed.saturating_add(1);
        if self.failed >= FAILED_BEFORE_DOWN {
            self.lately.clear();
            self.counts_as(now, false);
        }
    }

    /// A probe of its came in here at that time.
    pub fn heard(&mut self, at: Millis) {
        self.heard = self.heard.max(Some(at));
    }

    /// The prober itself stood still for so long, up to now: nobody looked, and nobody listened.
    pub fn stood_still(&mut self, span: Millis) {
        for at in [Some(&mut self.failing_since), self.heard.as_mut()].into_iter().flatten() {
            at.0 = at.0.saturating_add(span.0);
        }
    }

    /// Whether the last probe came back, or none was sent yet.
    pub fn is_up(&self) -> bool {
        self.failed == 0
    }

    /// What to report; none before the first verdict.
    pub fn path(&self, now: Millis) -> Option<Path> {
        let reach = match self.up? {
            true => Reach::Up { rtt_us: median(&self.lately) },
            // At least a millisecond: zero would read as an answer.
            false => {
                Reach::Down { for_ms: Millis(now.0.saturating_sub(self.failing_since.0).max(1)) }
            }
        };
        let minutes = || self.minutes.iter().filter(|minute| minute.is_within(now));
        Some(Path {
            reach,
            usual_us: minutes().filter_map(|minute| minute.least_us).min().unwrap_or(0),
            changes: minutes().map(|minute| minute.changes).sum(),
            heard_ago: self.heard.map(|at| Millis(now.0.saturating_sub(at.0))),
        })
    }

    fn counts_as(&mut self, now: Millis, up: bool) {
        if self.up.is_some_and(|before| before != up) {
            self.minute(now).changes += 1;
        }
        self.up = Some(up);
    }

    fn minute(&mut self, now: Millis) -> &mut Minute {
        let number = number(now);
        let minute = &mut self.minutes[number as usize % MINUTES];
        if minute.number != number {
            *minute = Minute { number, ..Minute::default() };
        }
        minute
    }
}

impl Minute {
    fn is_within(&self, now: Millis) -> bool {
        let oldest = number(now).saturating_sub(MINUTES as u64 - 1).max(1);
        self.number >= oldest
    }
}

fn number(now: Millis) -> u64 {
    1 + now.0 / Millis::mins(1).0
}

fn median(of: &[u64]) -> u64 {
    let mut sorted = of.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn secs(secs: u64) -> Millis {
        Millis::secs(secs)
    }

    #[test]
    fn two_lost_probes_are_no_outage_and_three_are() {
        let mut watch = Watch::default();
        assert_eq!(watch.path(secs(1)), None);
        watch.answered(secs(1), 70_000);
        watch.failed(secs(2), secs(3));
        assert_eq!(watch.path(secs(3)), Some(Path::up(70_000)));
        assert!(!watch.is_up());
        watch.failed(secs(3), secs(4));
        assert_eq!(watch.path(secs(4)), Some(Path::up(70_000)));
        watch.failed(secs(4), secs(5));
        let down = watch.path(secs(9)).unwrap();
        assert_eq!(down.reach, Reach::Down { for_ms: secs(7) });
        assert_eq!((down.usual_us, down.changes), (70_000, 1));
    }

    #[test]
    fn who_stood_still_did_not_see_silence() {
        let mut watch = Watch::default();
        watch.answered(secs(1), 70_000);
        watch.failed(secs(2), secs(3));
        watch.stood_still(secs(70));
        watch.failed(secs(73), secs(74));
        watch.failed(secs(74), secs(75));
        assert_eq!(watch.path(secs(75)).unwrap().down_for(), secs(3));
    }

    #[test]
    fn a_slow_answer_among_quick_ones_is_no_slow_peer() {
        let mut watch = Watch::default();
        for (at, rtt) in [(1, 70), (2, 71), (3, 900), (4, 72), (5, 71)] {
            watch.answered(secs(at), rtt);
        }
        assert_eq!(watch.path(secs(5)).unwrap().reach, Reach::Up { rtt_us: 71 });
        for at in 6..9 {
            watch.answered(secs(at), 900);
        }
        let slow = watch.path(secs(9)).unwrap();
        assert_eq!((slow.reach, slow.usual_us), (Reach::Up { rtt_us: 900 }, 70));
    }

    #[test]
    fn what_is_older_than_the_window_is_forgotten() {
        let mut watch = Watch::default();
        watch.answered(secs(1), 10);
        watch.failed(secs(2), secs(3));
        watch.failed(secs(3), secs(4));
        watch.failed(secs(4), secs(5));
        watch.answered(secs(30), 90);
        assert_eq!(watch.path(secs(31)).unwrap().changes, 2);
        watch.answered(secs(602), 80);
        let path = watch.path(secs(602)).unwrap();
        assert_eq!((path.usual_us, path.changes), (80, 0));
    }

    proptest! {
        /// Against the plain definition over the whole list of what happened.
        #[test]
        fn a_watch_is_what_its_probes_say(probes in prop::collection::vec((1u64..40_000, prop::option::of(1u64..500_000)), 1..120)) {
            let mut watch = Watch::default();
            let (mut now, mut seen) = (0, Vec::new());
            for (after, answer) in probes {
                now += after;
                match answer {
                    Some(rtt) => watch.answered(Millis(now), rtt),
                    None => watch.failed(Millis(now), Millis(now)),
                }
                seen.push((now, answer));
            }
            let failing: Vec<_> = seen.iter().rev().take_while(|(_, a)| a.is_none()).collect();
            let path = watch.path(Millis(now));
            let verdicts = seen.iter().any(|(_, a)| a.is_some()) || failing.len() >= 3;
            prop_assert_eq!(path.is_some(), verdicts);
            let Some(path) = path else { return Ok(()) };
            match failing.len() >= 3 {
                true => {
                    let since = failing.last().map_or(0, |(at, _)| *at);
                    prop_assert_eq!(path.down_for(), Millis((now - since).max(1)));
                }
                false => prop_assert_eq!(path.down_for(), Millis::ZERO),
            }
            let first = (now / 60_000).saturating_sub(9);
            let least = seen.iter().filter(|(at, _)| at / 60_000 >= first).filter_map(|(_, a)| *a).min();
            prop_assert_eq!(path.usual_us, least.unwrap_or(0));
            prop_assert!(watch.lately.len() <= LATELY);
        }
    }
}
