//! How long to wait before trying again: doubling, bounded, and never in step with others.

use std::sync::Arc;
use std::time::Duration;

use crate::random::Random;

/// Waits grow from `first` to `most`; each is drawn from its upper half, so that many who failed
/// together do not come back together.
pub struct Backoff {
    first: Duration,
    most: Duration,
    next: Duration,
    random: Arc<dyn Random>,
}

impl Backoff {
    pub fn new(first: Duration, most: Duration, random: Arc<dyn Random>) -> Self {
        Self { first, most, next: first, random }
    }

    /// The wait before the next try.
    pub fn next_wait(&mut self) -> Duration {
        let whole = self.next;
        self.next = (whole * 2).min(self.most);
        let half = whole / 2;
        let spread = u64::try_from(half.as_micros()).unwrap_or(u64::MAX);
        half + Duration::from_micros(self.random.below(spread.saturating_add(1)))
    }

    /// After a success: the next failure starts over.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SeededRandom;

    #[test]
    fn waits_double_up_to_the_bound_and_start_over() {
        let (first, most) = (Duration::from_millis(100), Duration::from_millis(1000));
        let mut backoff = Backoff::new(first, most, Arc::new(SeededRandom::new(7)));
        for whole in [100, 200, 400, 800, 1000, 1000] {
            let (whole, wait) = (Duration::from_millis(whole), backoff.next_wait());
            assert!(wait >= whole / 2 && wait <= whole, "{wait:?} of {whole:?}");
        }
        backoff.reset();
        assert!(backoff.next_wait() <= first);
    }
}
