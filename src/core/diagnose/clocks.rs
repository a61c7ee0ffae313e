//! Whose wall clock is off: told by the others, against each other.
//!
//! Two clocks that disagree do not say which of them is wrong; a third does. So a region's clock is
//! off by what *all* its neighbours measure at least, and by nothing where they contradict each other.
//! Once it is known which is wrong, one neighbour is enough to see that it still is: the third may be
//! lost just then.

use super::neighbours;
use crate::machine::Machine;
use crate::offset::Offset;
use crate::region::RegionName;
use crate::report::Trouble;
use crate::time::Millis;

/// Offset, in milliseconds, past which a clock misses its target (DESIGN §7).
pub const CLOCK_TARGET_MS: u64 = 100;
/// Past which somebody should look at it.
pub const CLOCK_WARN_MS: u64 = 500;
/// Past which it is critical: its region is no candidate, and its word on others counts no more.
pub const CLOCK_CRITICAL_MS: u64 = 1000;

/// The clock of a region's node; none where too few others can tell.
pub fn offset(machine: &Machine, region: &RegionName) -> Option<Offset> {
    let measured: Vec<Offset> = neighbours(machine, region)
        .filter_map(|witness| {
            // Who does not answer any more may have been set right since.
            let answers = witness.report.control.get(region)?.down_for() == Millis::ZERO;
            witness.report.offsets.get(region).filter(|_| answers).copied()
        })
        .collect();
    let known = || machine.regions().get(region)?.troubles.get(&Trouble::Clock);
    if measured.is_empty() || (measured.len() == 1 && known().is_none()) {
        return None;
    }
    let agreed = |sign: i64| measured.iter().all(|offset| offset.ms.signum() == sign);
    if !agreed(1) && !agreed(-1) {
        return Some(Offset::default());
    }
    measured.into_iter().min_by_key(|offset| offset.certain_ms())
}

/// A region's clocks, node and workers: the one that is off the most, and whose it is.
pub(super) fn worst(machine: &Machine, region: &RegionName) -> Option<(Offset, String)> {
    let node = offset(machine, region);
    let node_ms = node.map_or(0, |offset| offset.ms);
    let workers = machine.live_sessions().filter(|session| session.region == *region);
    let workers = workers.map(|session| {
        // Measured against the node it renews with: mostly its own region's, which may be off itself.
        let told = session.report.clock_offset_ms;
        let ms =
            [told, told.saturating_add(node_ms)].into_iter().min_by_key(|ms| ms.unsigned_abs());
        let within_ms = session.report.clock_within_ms + node.map_or(0, |offset| offset.within_ms);
        let offset = Offset { ms: ms.unwrap_or(told), within_ms };
        (offset, format!("worker {}", session.key.worker))
    });
    let node = node.map(|offset| (offset, format!("the node of {region}")));
    node.into_iter().chain(workers).max_by_key(|(offset, _)| offset.certain_ms())
}
