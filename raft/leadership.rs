//! Who leads, and LogTime.
//!
//! A leader first applies its own first entry: by then everything its predecessors committed is
//! applied, so the machine's time is the highest ever stamped. From that base it counts on with its
//! own `CLOCK_BOOTTIME`, read after the base was taken. So LogTime never runs ahead of true time by
//! more than the clock's rate error, and stands still while there is no leader.
//!
//! A restored cluster takes its backup's time over in one step; its leader counts from there.
//!
//! Nothing is stamped before there is an anchor, and every proposal is bound to the leadership of
//! the anchor it was stamped by: openraft turns it away when that has passed.

use crate::types::LeaderId;
use cryptorun_core::time::{LogTime, Millis, Stamp};
use cryptorun_platform::clock::{BootTime, Clock};

/// Where a leadership's LogTime starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Anchor {
    pub leader: LeaderId,
    pub base: LogTime,
    pub at: BootTime,
}

impl Anchor {
    pub fn stamp(&self, clock: &dyn Clock) -> Stamp {
        let mut since = (clock.boot() - self.at).as_millis();
        if cryptorun_core::seeded_bug::is("logtime_runs_ahead") {
            since *= 2;
        }
        let since = Millis(u64::try_from(since).unwrap_or(u64::MAX));
        Stamp { log: self.base + since, wall: clock.wall() }
    }
}

/// Who leads, as this node knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    /// The leader.
    pub leader: Option<u64>,
    /// The term. It names no leadership by itself: several nodes may lead in one term.
    pub term: u64,
    /// This node leads.
    pub leading: bool,
    /// It leads, has applied its own first entry, and so may stamp and propose.
    pub anchored: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use cryptorun_core::time::WallTime;
    use cryptorun_platform::clock::ManualClock;
    use std::time::Duration;

    #[test]
    fn time_counts_from_the_base_and_ignores_the_wall() {
        let clock = ManualClock::new(WallTime(1_000_000));
        let anchor = Anchor {
            leader: LeaderId { term: 1, node_id: 1 },
            base: LogTime(7_000),
            at: clock.boot(),
        };
        clock.advance(Duration::from_micros(2_999));
        assert_eq!(anchor.stamp(&clock).log, LogTime(7_002));
        clock.set_wall(WallTime(5));
        let stamp = anchor.stamp(&clock);
        assert_eq!((stamp.log, stamp.wall), (LogTime(7_002), WallTime(5)));
        clock.set_boot(BootTime(0));
        assert_eq!(anchor.stamp(&clock).log, LogTime(7_000));
    }
}
