//! The refusal ledger of a window, from what this node recorded.

use crate::history::{History, What};
use crate::recorder::Rebuilt;
use crate::simulate::LOOK_BACK;
use cryptorun_core::ledger::Ledger;
use cryptorun_core::scope::ScopeId;
use cryptorun_core::time::WallTime;
use cryptorun_core::wire::Refusals;
use std::io;

/// Why the scope did not move between the two.
///
/// # Errors
/// The files cannot be read.
pub fn refusals(
    history: &History,
    scope: &ScopeId,
    (start, end): (WallTime, WallTime),
) -> io::Result<Refusals> {
    let mut rebuilt = Rebuilt::default();
    let mut ledger = Ledger::of(scope.clone());
    let mut covered: Option<(WallTime, WallTime)> = None;
    history.read(start - LOOK_BACK, end, |line| {
        let What::Records(records) = line.what else { return };
        rebuilt.take(*records);
        if line.at >= start {
            covered = Some((covered.map_or(line.at, |(first, _)| first), line.at));
            ledger.look(line.at, &rebuilt.machine());
        }
    })?;
    let (refusals, left_out) = ledger.finish();
    Ok(Refusals { scope: scope.clone(), covered, refusals, left_out })
}
