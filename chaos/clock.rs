//! Clocks with an offset and a rate of their own, which faults may change.
//!
//! Within what the protocol tolerates by default; a *wild* seed goes beyond it, and then only what is
//! promised without clocks is held against the product.

use crate::world::World;
use cryptorun_core::time::WallTime;
use cryptorun_platform::clock::{BootTime, Clock};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// One machine's clocks.
pub(crate) struct SimClock {
    start: tokio::time::Instant,
    /// The oscillator is off with the boot clock: nothing on that machine can see it.
    blind: bool,
    hands: Mutex<Hands>,
}

/// Where the hands stood when they were last set, in true time, and how they run since.
#[derive(Clone, Copy)]
struct Hands {
    at_ns: i128,
    boot_ns: i128,
    rate_ppm: i64,
    wall_offset_ms: i64,
}

/// The wall clock at the beginning of a run.
pub(crate) const EPOCH_MS: i64 = 1_735_689_600_000;
/// Rates that the protocol tolerates on every machine: half of ρ, above which a process notices.
pub(crate) const RATE_WITHIN_PPM: u64 = 4000;

impl SimClock {
    pub fn draw(world: &World) -> Self {
        let offset_s = 1 + world.below(100_000);
        let rate = i64::try_from(world.below(2 * RATE_WITHIN_PPM)).unwrap_or(0) - 4000;
        // Where clocks are what is judged, those that are not at fault are kept by a time server.
        let most = if world.theme.is_directed() { 40 } else { 800 };
        let wall =
            i64::try_from(world.below(2 * most)).unwrap_or(0) - i64::try_from(most).unwrap_or(0);
        Self {
            start: tokio::time::Instant::now() - world.now(),
            blind: world.below(2) == 0,
            hands: Mutex::new(Hands {
                at_ns: 0,
                boot_ns: i128::from(offset_s) * 1_000_000_000,
                rate_ppm: rate,
                wall_offset_ms: wall,
            }),
        }
    }

    fn now_ns(&self) -> i128 {
        i128::try_from(self.start.elapsed().as_nanos()).unwrap_or(i128::MAX)
    }

    fn hands(&self) -> MutexGuard<'_, Hands> {
        self.hands.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on it runs so fast.
    pub fn set_rate(&self, rate_ppm: i64) {
        let now = self.now_ns();
        let mut hands = self.hands();
        hands.boot_ns = hands.boot_at(now);
        (hands.at_ns, hands.rate_ppm) = (now, rate_ppm);
    }

    /// Jumps the wall clock.
    pub fn step_wall(&self, by_ms: i64) {
        self.hands().wall_offset_ms += by_ms;
    }

    /// The wall clock as a time server would set it.
    pub fn set_wall(&self, offset_ms: i64) {
        self.hands().wall_offset_ms = offset_ms;
    }

    /// When this clock shows `boot_ns`, in true time, going on as it goes now.
    pub fn true_time(&self, boot_ns: u64) -> Duration {
        let hands = *self.hands();
        let ahead = i128::from(boot_ns) - hands.boot_ns;
        let real = hands.at_ns + ahead * 1_000_000 / (1_000_000 + i128::from(hands.rate_ppm));
        Duration::from_nanos(u64::try_from(real).unwrap_or(0))
    }
}

impl Hands {
    fn boot_at(&self, now_ns: i128) -> i128 {
        let real = now_ns - self.at_ns;
        self.boot_ns + real + real * i128::from(self.rate_ppm) / 1_000_000
    }
}

impl Clock for SimClock {
    fn boot(&self) -> BootTime {
        let own = self.hands().boot_at(self.now_ns());
        BootTime(u64::try_from(own).unwrap_or(0))
    }

    fn raw(&self) -> Duration {
        if self.blind {
            return Duration::from_nanos(self.boot().0);
        }
        self.start.elapsed()
    }

    fn wall(&self) -> WallTime {
        let ms = i64::try_from(self.start.elapsed().as_millis()).unwrap_or(i64::MAX / 4);
        let at = EPOCH_MS + ms + self.hands().wall_offset_ms;
        WallTime(u64::try_from(at).unwrap_or(0))
    }
}
