//! The only way this program learns the time.
//!
//! Three clocks for three uses: `boot` measures (leases count by it, so time asleep must count),
//! `wall` stamps and shows, `raw` is the oscillator as it is, and serves to find out how far the
//! first is being steered. None of them is compared with another machine's without a bound.

use std::ops::{Add, Sub};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cryptorun_core::time::{Millis, WallTime};
use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds since this machine booted, sleep included. Means nothing on another machine or
/// after a reboot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BootTime(pub u64);

impl BootTime {
    /// The same in whole milliseconds, for what `core` counts with.
    pub fn millis(self) -> Millis {
        Millis(self.0 / 1_000_000)
    }
}

impl Add<Duration> for BootTime {
    type Output = Self;
    fn add(self, after: Duration) -> Self {
        Self(self.0.saturating_add(nanos(after)))
    }
}

/// How long from the right one to the left one; zero when the right one is later.
impl Sub for BootTime {
    type Output = Duration;
    fn sub(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

pub trait Clock: Send + Sync + 'static {
    /// For measuring: never goes back, counts time asleep (`CLOCK_BOOTTIME`).
    fn boot(&self) -> BootTime;
    /// The oscillator without anybody's correction (`CLOCK_MONOTONIC_RAW`). Stands still asleep.
    fn raw(&self) -> Duration;
    /// For stamping and showing: may jump either way.
    fn wall(&self) -> WallTime;
}

/// This machine's clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn boot(&self) -> BootTime {
        BootTime(nanos(read(ClockId::Boottime)))
    }

    fn raw(&self) -> Duration {
        read(ClockId::MonotonicRaw)
    }

    fn wall(&self) -> WallTime {
        WallTime(u64::try_from(read(ClockId::Realtime).as_millis()).unwrap_or(u64::MAX))
    }
}

/// A clock that moves when told to. Clones of the `Arc` around it share the hands.
#[derive(Debug)]
pub struct ManualClock(Mutex<Hands>);

#[derive(Clone, Copy, Debug)]
struct Hands {
    boot: BootTime,
    raw: Duration,
    wall_ms: u64,
    /// What is left of `advance`d time below a millisecond of wall time, in nanoseconds.
    wall_rest: u64,
}

impl ManualClock {
    /// Boot and raw start at one second: a zero would hide a deadline computed by subtraction.
    pub fn new(wall: WallTime) -> Self {
        let second = Duration::from_secs(1);
        Self(Mutex::new(Hands {
            boot: BootTime(nanos(second)),
            raw: second,
            wall_ms: wall.0,
            wall_rest: 0,
        }))
    }

    /// Moves all three by the same time.
    pub fn advance(&self, by: Duration) {
        let mut hands = self.hands();
        hands.move_boot_and_wall(by);
        hands.raw += by;
    }

    /// The machine sleeps: boot and wall time go on, the raw oscillator stands.
    pub fn sleep(&self, by: Duration) {
        self.hands().move_boot_and_wall(by);
    }

    /// Jumps the wall clock, as a person or a time server may.
    pub fn set_wall(&self, wall: WallTime) {
        let mut hands = self.hands();
        hands.wall_ms = wall.0;
        hands.wall_rest = 0;
    }

    /// Puts the boot clock to a moment, forward or back: what a restored machine image does.
    pub fn set_boot(&self, boot: BootTime) {
        self.hands().boot = boot;
    }

    fn hands(&self) -> MutexGuard<'_, Hands> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hands {
    fn move_boot_and_wall(&mut self, by: Duration) {
        self.boot = self.boot + by;
        let rest = self.wall_rest + nanos(by);
        self.wall_ms += rest / 1_000_000;
        self.wall_rest = rest % 1_000_000;
    }
}

impl Clock for ManualClock {
    fn boot(&self) -> BootTime {
        self.hands().boot
    }

    fn raw(&self) -> Duration {
        self.hands().raw
    }

    fn wall(&self) -> WallTime {
        WallTime(self.hands().wall_ms)
    }
}

/// How fast this machine's `CLOCK_BOOTTIME` runs against its own oscillator.
///
/// A time daemon slews the first and not the second, at up to 500 parts per million by the
/// kernel's rule and more where it was told to hurry. The lease bound allows a fixed rate error,
/// so a node that finds itself outside says so. The oscillator's own error is not seen here.
#[derive(Clone, Copy, Debug, Default)]
pub struct RateMeter {
    from: Option<(BootTime, Duration)>,
    /// Becomes `from` when the window is over, so that the answer covers half to one window.
    middle: Option<(BootTime, Duration)>,
    last: Option<(BootTime, Duration)>,
}

impl RateMeter {
    /// Reading two clocks in a row costs up to some microseconds: over 10 s, below 1 ppm.
    pub const SHORTEST: Duration = Duration::from_secs(10);
    pub const WINDOW: Duration = Duration::from_secs(300);
    /// Boot time this far ahead of raw time between two readings was sleep, not slewing.
    const SLEPT: Duration = Duration::from_millis(500);

    /// Takes a reading. Parts per million by which boot time runs fast (slow: negative), once
    /// there is enough to say it.
    pub fn observe(&mut self, clock: &dyn Clock) -> Option<i64> {
        let now = (clock.boot(), clock.raw());
        if let Some((boot, raw)) = self.last.replace(now)
            && now.0 - boot > now.1.saturating_sub(raw) + Self::SLEPT
        {
            (self.from, self.middle) = (None, None);
        }
        let from = *self.from.get_or_insert(now);
        let raw = now.1.saturating_sub(from.1);
        if raw >= Self::WINDOW / 2 && self.middle.is_none() {
            self.middle = Some(now);
        } else if raw >= Self::WINDOW {
            self.from = self.middle.replace(now);
        }
        if raw < Self::SHORTEST {
            return None;
        }
        let (boot, raw) = (i128::from(nanos(now.0 - from.0)), i128::from(nanos(raw)));
        i64::try_from((boot - raw) * 1_000_000 / raw).ok()
    }
}

fn read(id: ClockId) -> Duration {
    let t = clock_gettime(id);
    // Only the wall clock can be negative, before 1970: zero then.
    Duration::new(u64::try_from(t.tv_sec).unwrap_or(0), u32::try_from(t.tv_nsec).unwrap_or(0))
}

/// 584 years fit.
fn nanos(d: Duration) -> u64 {
    u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_before_another_is_no_time_after_it() {
        let (early, late) = (BootTime(5), BootTime(5) + Duration::from_secs(2));
        assert_eq!(late - early, Duration::from_secs(2));
        assert_eq!(early - late, Duration::ZERO);
    }

    #[test]
    fn sleep_moves_boot_and_wall_but_not_raw() {
        let clock = ManualClock::new(WallTime(1000));
        let (boot, raw) = (clock.boot(), clock.raw());
        clock.sleep(Duration::from_micros(1500));
        clock.advance(Duration::from_micros(500));
        assert_eq!(clock.boot() - boot, Duration::from_millis(2));
        assert_eq!(clock.raw() - raw, Duration::from_micros(500));
        assert_eq!(clock.wall(), WallTime(1002));
    }

    #[test]
    fn system_clocks_move_forward() {
        let clock = SystemClock;
        let (boot, raw) = (clock.boot(), clock.raw());
        assert!(clock.boot() >= boot && clock.raw() >= raw);
        assert!(clock.wall() > WallTime(1_600_000_000_000));
    }

    /// Boot time runs fast by `ppm`.
    struct Steered(ManualClock);
    impl Steered {
        fn run(&self, meter: &mut RateMeter, seconds: u64, ppm: u64) -> Option<i64> {
            let mut answer = None;
            for _ in 0..seconds {
                self.0.advance(Duration::from_secs(1));
                self.0.sleep(Duration::from_micros(ppm));
                answer = meter.observe(&self.0);
            }
            answer
        }
    }

    #[test]
    fn a_steered_clock_shows_its_rate_and_forgets_the_old_one() {
        let clock = Steered(ManualClock::new(WallTime(0)));
        let mut meter = RateMeter::default();
        assert_eq!(clock.run(&mut meter, 5, 400), None);
        assert_eq!(clock.run(&mut meter, 100, 400), Some(400));
        assert_eq!(clock.run(&mut meter, 700, 0), Some(0));
    }

    #[test]
    fn sleeping_is_not_taken_for_a_fast_clock() {
        let clock = Steered(ManualClock::new(WallTime(0)));
        let mut meter = RateMeter::default();
        clock.run(&mut meter, 60, 0);
        clock.0.sleep(Duration::from_secs(3600));
        assert_eq!(clock.run(&mut meter, 5, 0), None);
        assert_eq!(clock.run(&mut meter, 60, 0), Some(0));
    }
}
