//! Who is gone: the only classes that move anything.

use super::{Class, Diagnosis, Severity, clocks, fresh, neighbours, silence};
use crate::machine::Machine;
use crate::region::RegionName;
use crate::report::RegionRecord;
use crate::scope::{Phase, Scope};
use crate::time::Millis;

/// Who stood still longer than this did not see what happened meanwhile.
const STOOD_STILL_MAX: Millis = Millis::secs(2);

/// How long ago a worker of the region last renewed, by whichever node it came.
fn renewed_ago(machine: &Machine, region: &RegionName) -> Option<Millis> {
    let own = machine.sessions().values().filter(|session| session.region == *region);
    own.map(|session| machine.now().log.since(session.renewed_at)).min()
}

/// Lost: all other regions (two or more) reach none of its services, no data of it arrives, and neither
/// a report of it nor a renewal of its workers commits. Any one sign of life is enough to be only cut
/// off from somebody.
pub fn region_lost(machine: &Machine, region: &RegionName) -> Option<Diagnosis> {
    let record = machine.regions().get(region)?;
    let others = machine.regions().len().checked_sub(1)?;
    let witnesses: Vec<&RegionRecord> = neighbours(machine, region).collect();
    let enough = others >= 2 && witnesses.len() >= others;
    let one_says_so = crate::seeded_bug::is("one_witness_is_enough");
    let unnoticed = one_says_so || crate::seeded_bug::is("holder_back_unnoticed");
    if !enough && !one_says_so {
        return None;
    }
    let unheard = silence(machine, record)?;
    let renewed = renewed_ago(machine, region).filter(|_| !unnoticed);
    let mut lasting = unheard.min(renewed.unwrap_or(unheard));
    let mut evidence = vec![format!("no report of {region} for {unheard}")];
    let doubt = witnesses.iter().find_map(|witness| doubt(machine, witness));
    for witness in witnesses {
        let seen = &witness.report;
        // A report speaks of the moment it was written: what it saw then has lasted since.
        let since = silence(machine, witness).unwrap_or_default();
        let control = seen.control.get(region)?.down_for();
        let data = seen.data.get(region).map_or(Millis(u64::MAX), |reach| reach.down_for());
        let arrived = seen.arrived_ago.get(region).copied().unwrap_or(Millis(u64::MAX));
        if control == Millis::ZERO || data == Millis::ZERO {
            if one_says_so {
                continue;
            }
            return None;
        }
        let shortest = control.min(data).min(arrived);
        lasting = lasting.min(Millis(shortest.0.saturating_add(since.0)));
        evidence.push(format!("{} reaches nothing of it for {}", witness.name, control.min(data)));
        if arrived.0 != u64::MAX {
            evidence.push(format!("last data of it in {} {arrived} ago", witness.name));
        }
    }
    // A moment's silence is no loss: two report periods must have been missed.
    if lasting < Millis(machine.limits().report_fresh.0.min(machine.limits().detection.0)) {
        return None;
    }
    let confirmed = lasting > machine.limits().detection;
    Some(Diagnosis {
        class: Class::RegionLost { region: region.clone() },
        severity: Severity::Page,
        lasting,
        confirmed,
        doubt,
        evidence,
    })
}

/// Why a witness's word on others does not count now: its clock is critical, or it stood still and did
/// not see what it speaks of. People may go by it all the same; the controller does not.
fn doubt(machine: &Machine, witness: &RegionRecord) -> Option<String> {
    let name = &witness.name;
    let off = clocks::offset(machine, name).filter(|o| o.certain_ms() > clocks::CLOCK_CRITICAL_MS);
    if let Some(off) = off {
        return Some(format!("the clock of {name} is {} ms off", off.ms));
    }
    let stood = witness.report.stood_still;
    (stood > STOOD_STILL_MAX)
        .then(|| format!("{name} stood still for {stood} within the last minute"))
}

/// Why a scope has nobody who could write: its region is lost, or its holder; of both what has lasted
/// longer. For how long a scope has been vacant stands in the log; a witness that was started anew has
/// to watch a region for the whole detection again.
pub fn gone(machine: &Machine, scope: &Scope) -> Option<Diagnosis> {
    match (region_lost(machine, &scope.assigned), holder_lost(machine, scope)) {
        (Some(region), Some(holder)) if holder.lasting > region.lasting => Some(holder),
        (region, holder) => region.or(holder),
    }
}

/// The lease ran out and no regrant came, and its region is not what is lost: its node reports, or
/// somebody reaches it, or there are too few to tell. Somebody must be asked all the same.
pub(super) fn holder_lost(machine: &Machine, scope: &Scope) -> Option<Diagnosis> {
    let now = machine.now().log;
    let left = scope.phase == Phase::Vacant && !scope.history.is_empty();
    let kept = scope.kept_until.is_some_and(|until| now < until);
    if !left || kept {
        return None;
    }
    let reports = fresh(machine).any(|record| record.name == scope.assigned);
    let node = if reports { "reports" } else { "does not report, and not all have lost it" };
    let lasting = now.since(scope.phase_since);
    Some(Diagnosis {
        class: Class::HolderLost { scope: scope.id.clone(), region: scope.assigned.clone() },
        severity: Severity::Page,
        lasting,
        confirmed: lasting > machine.limits().detection,
        doubt: None,
        evidence: vec![
            format!("{} has had no holder for {lasting}", scope.id),
            format!("the node of {} {node}", scope.assigned),
        ],
    })
}
