//! How often a venue is bothered: waits after failures, and a budget of connection attempts.

use std::time::Duration;

use cryptorun_platform::clock::BootTime;
use cryptorun_platform::random::Random;

pub const BACKOFF_FIRST: Duration = Duration::from_millis(250);
pub const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// The wait after `failures` in a row: anywhere between nothing and 250 ms doubled for each, up to
/// 30 s. Full jitter, so that a thousand clients cut off at once do not come back at once.
pub fn backoff(failures: u32, random: &dyn Random) -> Duration {
    if failures == 0 {
        return Duration::ZERO;
    }
    let doublings = (failures - 1).min(16);
    let cap = BACKOFF_FIRST.saturating_mul(1 << doublings).min(BACKOFF_MAX);
    let nanos = u64::try_from(cap.as_nanos()).unwrap_or(u64::MAX);
    Duration::from_nanos(random.below(nanos))
}

/// One attempt per `every`, after `burst` at once: venues ban addresses that knock too often.
#[derive(Debug)]
pub struct ConnectBudget {
    every: Duration,
    burst: u32,
    /// The moment from which all of the burst would be there again.
    full_at: BootTime,
}

impl ConnectBudget {
    pub fn new(every: Duration, burst: u32) -> Self {
        Self { every, burst: burst.max(1), full_at: BootTime::default() }
    }

    /// Takes an attempt, and says how long to wait before making it.
    pub fn take(&mut self, now: BootTime) -> Duration {
        self.full_at = self.full_at.max(now) + self.every;
        (self.full_at - now).saturating_sub(self.every * self.burst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cryptorun_platform::random::SeededRandom;

    #[test]
    fn waits_double_up_to_the_cap_and_spread_over_the_whole_of_it() {
        let random = SeededRandom::new(3);
        assert_eq!(backoff(0, &random), Duration::ZERO);
        for (failures, cap_ms) in [(1, 250), (2, 500), (5, 4_000), (8, 30_000), (99, 30_000)] {
            let cap = Duration::from_millis(cap_ms);
            let waits: Vec<Duration> = (0..200).map(|_| backoff(failures, &random)).collect();
            assert!(waits.iter().all(|wait| *wait < cap));
            assert!(waits.iter().any(|wait| *wait < cap / 4));
            assert!(waits.iter().any(|wait| *wait > cap * 3 / 4));
        }
    }

    #[test]
    fn ten_attempts_at_once_and_then_one_each_five_seconds() {
        let mut budget = ConnectBudget::new(Duration::from_secs(5), 10);
        let now = BootTime::default() + Duration::from_secs(100);
        let waits: Vec<u64> = (0..12).map(|_| budget.take(now).as_secs()).collect();
        assert_eq!(waits, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5, 10]);
        let later = now + Duration::from_secs(60);
        assert_eq!(budget.take(later), Duration::ZERO);
    }
}
