//! When this node itself stood still: what it did not look at, it must not say that it saw.
//!
//! A pulse that should come four times a second is late by as long as nothing here ran: a frozen
//! process, a stolen processor, a machine asleep.

use cryptorun_platform::clock::{BootTime, Clock};
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long a stall is remembered.
const KEPT: Duration = Duration::from_secs(60);
const PULSE: Duration = Duration::from_millis(250);
/// A pulse that is late by less is an ordinary timer.
const LATE: Duration = Duration::from_millis(50);

/// Stalls of the last minute.
#[derive(Default)]
pub(super) struct Stalls(Mutex<Lately>);

#[derive(Default)]
struct Lately {
    /// When each ended, and how long it was.
    stalls: VecDeque<(BootTime, Duration)>,
    /// What nobody has asked for yet.
    new: Duration,
}

impl Stalls {
    /// Beats for ever.
    pub async fn pulse(&self, clock: &dyn Clock) {
        loop {
            let rests = clock.boot();
            tokio::time::sleep(PULSE).await;
            self.beat(rests, clock.boot());
        }
    }

    /// A pulse begun at `rests` has come.
    fn beat(&self, rests: BootTime, now: BootTime) {
        let late = (now - rests).saturating_sub(PULSE);
        if late > LATE {
            let mut lately = self.lately();
            lately.stalls.push_back((now, late));
            lately.new += late;
        }
    }

    /// How long this node stood still since this was last asked.
    pub fn since_asked(&self) -> Duration {
        std::mem::take(&mut self.lately().new)
    }

    /// The longest stall of the last minute, and all of them together.
    pub fn lately_at(&self, now: BootTime) -> (Duration, Duration) {
        let mut lately = self.lately();
        while lately.stalls.front().is_some_and(|(at, _)| now - *at > KEPT) {
            lately.stalls.pop_front();
        }
        let spans = || lately.stalls.iter().map(|(_, span)| *span);
        (spans().max().unwrap_or_default(), spans().sum())
    }

    fn lately(&self) -> MutexGuard<'_, Lately> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_pulse_is_a_stall_and_is_forgotten_after_a_minute() {
        let stalls = Stalls::default();
        let at = |ms: u64| BootTime(ms * 1_000_000);
        let ms = Duration::from_millis;
        stalls.beat(at(0), at(280));
        assert_eq!(stalls.since_asked(), Duration::ZERO);
        stalls.beat(at(280), at(5530));
        stalls.beat(at(5530), at(6780));
        assert_eq!(stalls.since_asked(), ms(6000));
        assert_eq!(stalls.since_asked(), Duration::ZERO);
        assert_eq!(stalls.lately_at(at(60_000)), (ms(5000), ms(6000)));
        assert_eq!(stalls.lately_at(at(66_000)), (ms(1000), ms(1000)));
        assert_eq!(stalls.lately_at(at(70_000)), (Duration::ZERO, Duration::ZERO));
    }
}
