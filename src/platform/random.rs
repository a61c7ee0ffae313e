//! Where randomness comes from: identifiers, jitter, tie-breaks. Never a secret key.

use std::sync::atomic::{AtomicU64, Ordering};

pub trait Random: Send + Sync + 'static {
    fn next_u64(&self) -> u64;

    /// Even over `0..bound`; 0 for a bound of 0.
    fn below(&self, bound: u64) -> u64 {
        // The high half of a 128-bit product: biased by less than bound / 2^64.
        let wide = u128::from(self.next_u64()) * u128::from(bound);
        u64::try_from(wide >> 64).unwrap_or(0)
    }
}

/// The operating system's generator.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsRandom;

impl Random for OsRandom {
    fn next_u64(&self) -> u64 {
        // A Linux that cannot give random bytes after boot is broken beyond what we could do.
        getrandom::u64().unwrap_or_else(|error| panic!("no random bytes from the system: {error}"))
    }
}

/// The same numbers for the same seed, in the order they are asked for (SplitMix64).
#[derive(Debug)]
pub struct SeededRandom(AtomicU64);

impl SeededRandom {
    pub fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }
}

impl Random for SeededRandom {
    fn next_u64(&self) -> u64 {
        const STEP: u64 = 0x9E37_79B9_7F4A_7C15;
        let mut z = self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_published_sequence() {
        let random = SeededRandom::new(1_234_567);
        let got: Vec<u64> = (0..3).map(|_| random.next_u64()).collect();
        assert_eq!(got, [6457827717110365317, 3203168211198807973, 9817491932198370423]);
    }

    #[test]
    fn below_stays_below() {
        let random = SeededRandom::new(7);
        assert!((0..1000).all(|_| random.below(3) < 3));
        assert_eq!(random.below(0), 0);
        assert_ne!(OsRandom.next_u64(), OsRandom.next_u64());
    }
}
