//! What a move may cost: how much of what the primary had is missing, and how old what is there is.
//!
//! Two lags (DESIGN §8): *age* grows by itself once the primary is gone and drives alerts and the
//! emergency line; *behind* freezes then and shrinks as the tail is fetched, and is what the gate of a
//! failover stands on.

use crate::machine::Machine;
use crate::region::RegionName;
use crate::scope::{Scope, ScopeId};
use crate::time::Millis;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What is, or could be, lost: the range between what the primary had and what the candidate has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Loss {
    /// Whether it is known at all.
    pub known: bool,
    /// Records missing.
    pub records: u64,
    /// Rows in them.
    pub rows: u64,
    /// Seconds of data.
    pub span: Millis,
    /// First missing record.
    pub from_seq: u64,
    /// Last missing record.
    pub to_seq: u64,
    /// How long the holder may have gone on after its last report: what it wrote then nobody knows of
    /// until it is back. Nothing where it stops and says where.
    #[serde(default)]
    pub unreported: Millis,
}

impl Loss {
    /// Nothing.
    pub fn none() -> Self {
        Self { known: true, ..Self::default() }
    }

    /// Not known.
    pub fn unknown() -> Self {
        Self::default()
    }

    /// Whether it is more than was agreed to.
    pub fn exceeds(&self, ceiling: &Self) -> bool {
        match (self.known, ceiling.known) {
            (_, false) => false, // Agreed to an unknown loss: that was the most.
            (false, true) => true,
            (true, true) => self.records > ceiling.records || self.rows > ceiling.rows,
        }
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.known, self.records) {
            (false, _) => return f.write_str("unknown"),
            (true, 0) => f.write_str("0")?,
            (true, records) => write!(
                f,
                "at most {} rows, {} (records {}–{}, {records})",
                self.rows, self.span, self.from_seq, self.to_seq
            )?,
        }
        match self.unreported {
            Millis::ZERO => Ok(()),
            span => write!(f, ", and what was written in the {span} after its last report"),
        }
    }
}

/// How much of what the old primary is known to have had a region is missing.
///
/// It freezes when the primary dies and shrinks as the tail is fetched.
pub fn behind(machine: &Machine, scope: &Scope, region: &RegionName) -> Loss {
    if scope.history.is_empty() {
        return Loss::none();
    }
    let Some((_, has)) = machine.sink_of(region, &scope.id) else { return Loss::unknown() };
    // The last committed report of the holder, or any sink's copy that goes further.
    let known = scope.last_known.as_ref().map(|k| (k.end.seq, k.rows, k.sealed_at));
    let copies = scope
        .policy
        .members
        .iter()
        .filter(|member| *member != region)
        .filter_map(|member| machine.sink_of(member, &scope.id))
        .map(|(_, report)| (report.end.seq, report.rows, report.sealed_at));
    let Some((end, rows, sealed_at)) = known.into_iter().chain(copies).max() else {
        return Loss::unknown();
    };
    if end <= has.end.seq {
        return Loss::none();
    }
    Loss {
        known: true,
        records: end - has.end.seq,
        rows: rows.saturating_sub(has.rows),
        span: sealed_at.since(has.sealed_at),
        from_seq: has.end.seq + 1,
        to_seq: end,
        unreported: Millis::ZERO,
    }
}

/// What a move away from a holder that does not answer may cost: what it is known to have had, and
/// whatever it wrote between its last report and its deadline.
pub(super) fn risked(machine: &Machine, scope: &Scope, to: &RegionName) -> Loss {
    let loss = behind(machine, scope, to);
    let ttl = machine.timing().map(|timing| timing.ttl).unwrap_or_default();
    let unreported = if scope.history.is_empty() { Millis::ZERO } else { ttl };
    Loss { unreported, ..loss }
}

/// Age of a region's newest applied data, corrected by the measured offset of its clock.
pub fn age(machine: &Machine, scope: &ScopeId, region: &RegionName) -> Option<Millis> {
    let (session, report) = machine.sink_of(region, scope)?;
    if report.sealed_at.0 == 0 {
        return None;
    }
    let offset = session.report.clock_offset_ms;
    let now = i128::from(machine.now().wall.0) + i128::from(offset);
    let age = now - i128::from(report.sealed_at.0);
    Some(Millis(u64::try_from(age.max(0)).unwrap_or(u64::MAX)))
}
