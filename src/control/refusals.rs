//! The refusal ledger of a window, from what this node recorded.

use crate::history::History;
use crate::replay::{Seen, replay};
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
    let mut ledger = Ledger::of(scope.clone());
    let mut covered: Option<(WallTime, WallTime)> = None;
    replay(history, (start, end), |seen| {
        let Seen::State { at, machine, .. } = seen else { return };
        covered = Some((covered.map_or(at, |(first, _)| first), at));
        ledger.look(at, machine);
    })?;
    let (refusals, left_out) = ledger.finish();
    Ok(Refusals { scope: scope.clone(), covered, refusals, left_out })
}
