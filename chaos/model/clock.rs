//! Time in the lease model: ticks of true time, and clocks whose rates are off by as much as allowed.
//!
//! ρ is 1/4, a lease four ticks long, so that the worst case is met exactly at a tick: a slow holder
//! stops three ticks after it sent, a fast leader lets a lease run out four ticks after the stamp. The
//! formulas are the product's ([`Timing::holder_span`], [`Timing::run_out`]); only the numbers are the
//! model's, chosen so that both spans are whole ticks of the worst clock.

use crate::mutants::Mutant;
use cryptorun_core::keeper::{BootNs, Held};
use cryptorun_core::time::{Millis, Profile, Timing};

/// True milliseconds in a tick.
pub const TICK_MS: u64 = 4000;

/// How many milliseconds a clock shows for each tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rate {
    /// (1 − ρ)
    Slow,
    /// (1 + ρ)
    Fast,
    /// Twice as far off as A1 of `docs/safety.md` allows (mutant).
    TooSlow,
}

impl Rate {
    pub fn ms(self) -> u64 {
        match self {
            Self::TooSlow => TICK_MS / 2,
            Self::Slow => TICK_MS * 3 / 4,
            Self::Fast => TICK_MS * 5 / 4,
        }
    }
}

/// The lease times of the model.
pub fn timing(mutant: Option<Mutant>) -> Timing {
    let rate_error_permille = if mutant == Some(Mutant::NoRateAllowance) { 0 } else { 250 };
    Timing {
        ttl: Millis(15_999),
        guard: Millis(2_999),
        rate_error_permille,
        ..Timing::of(Profile::Wan)
    }
}

/// What a process's clock shows at a tick.
pub fn boot_ns(rate: Rate, tick: u8) -> BootNs {
    u64::from(tick) * rate.ms() * 1_000_000
}

/// Whether a holder stops by its own clock at least `guard` of true time before a tick.
pub fn stops_before(held: &Held, rate: Rate, tick: u8, guard: Millis) -> bool {
    // deadline / rate ticks of TICK_MS each, without dividing.
    let stop = held.deadline / 1_000_000 * TICK_MS;
    let start = (u64::from(tick) * TICK_MS).saturating_sub(guard.0) * rate.ms();
    stop <= start
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spans_are_whole_ticks_of_the_worst_clock() {
        let timing = timing(None);
        assert_eq!(timing.holder_span().0, 3 * Rate::Slow.ms());
        assert_eq!(timing.run_out().0, 4 * Rate::Fast.ms());
        assert!(timing.guard.0 < TICK_MS, "a tick less than the proof's gap breaks the margin");
    }
}
