//! Diagnosing: what the reports mean. Names a class with its evidence; decides nothing.

use crate::machine::Machine;
use crate::region::RegionName;
use crate::report::{DiskState, Reach, RegionRecord};
use crate::scope::{Phase, Scope, ScopeId};
use crate::time::Millis;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// What is wrong, by the table of DESIGN §7.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Class {
    /// No other region reaches any of its services, no data of it arrives, no report of it commits.
    RegionLost {
        /// Which.
        region: RegionName,
    },
    /// One link fails both ways while another still sees the region. Moves nothing.
    LinkCut {
        /// One end.
        a: RegionName,
        /// The other.
        b: RegionName,
        /// A region that both still talk to.
        relayed_via: Option<RegionName>,
    },
    /// One link fails in one direction. Moves nothing.
    OneWayLink {
        /// Who does not get through.
        from: RegionName,
        /// To whom.
        to: RegionName,
    },
    /// This node has no quorum.
    IsolatedSelf,
    /// A scope's lease ran out and no regrant came, while its region's node still reports.
    HolderLost {
        /// The scope.
        scope: ScopeId,
        /// Its region.
        region: RegionName,
    },
}

/// A class with its evidence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Diagnosis {
    /// What is wrong.
    pub class: Class,
    /// For how long.
    pub lasting: Millis,
    /// Whether that is long enough to act on.
    pub confirmed: bool,
    /// Who says so, and what they see.
    pub evidence: Vec<String>,
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RegionLost { region } => write!(f, "region_lost {region}"),
            Self::LinkCut { a, b, relayed_via: Some(via) } => {
                write!(f, "link_cut {a} ⇹ {b}, relayed via {via}")
            }
            Self::LinkCut { a, b, relayed_via: None } => write!(f, "link_cut {a} ⇹ {b}"),
            Self::OneWayLink { from, to } => write!(f, "one_way_link {from} ↛ {to}"),
            Self::IsolatedSelf => f.write_str("isolated_self"),
            Self::HolderLost { scope, region } => write!(f, "holder_lost {scope} in {region}"),
        }
    }
}

/// What is wrong, most serious first. Pure; any node computes the same from the same machine.
pub fn diagnose(machine: &Machine) -> Vec<Diagnosis> {
    let mut found: Vec<Diagnosis> =
        machine.regions().keys().filter_map(|region| region_lost(machine, region)).collect();
    let lost: Vec<RegionName> = found
        .iter()
        .filter_map(|d| match &d.class {
            Class::RegionLost { region } => Some(region.clone()),
            _ => None,
        })
        .collect();
    let scopes = machine.scopes().values().filter(|scope| !lost.contains(&scope.assigned));
    found.extend(scopes.filter_map(|scope| holder_lost(machine, scope)));
    found.extend(links(machine, &lost));
    found
}

/// How stale a committed report is; none when there never was one.
fn silence(machine: &Machine, record: &RegionRecord) -> Option<Millis> {
    record.reported_at.map(|at| machine.now().log.since(at))
}

/// Reports younger than `report_fresh`.
fn fresh(machine: &Machine) -> impl Iterator<Item = &RegionRecord> {
    let limit = machine.limits().report_fresh;
    machine
        .regions()
        .values()
        .filter(move |record| silence(machine, record).is_some_and(|age| age < limit))
}

/// How long ago a worker of the region last renewed, by whichever node it came.
fn renewed_ago(machine: &Machine, region: &RegionName) -> Option<Millis> {
    let own = machine.sessions().values().filter(|session| session.region == *region);
    own.map(|session| machine.now().log.since(session.renewed_at)).min()
}

/// Lost: all other regions (two or more) reach none of its services, no data of it arrives, and neither
/// a report of it nor a renewal of its workers commits. Any one sign of life is enough to be only cut
/// off from somebody.
fn region_lost(machine: &Machine, region: &RegionName) -> Option<Diagnosis> {
    let record = machine.regions().get(region)?;
    let others = machine.regions().len().checked_sub(1)?;
    let witnesses: Vec<&RegionRecord> = fresh(machine).filter(|w| w.name != *region).collect();
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
        lasting,
        confirmed,
        evidence,
    })
}

/// Why a scope has nobody who could write: its region is lost, or its holder.
pub fn gone(machine: &Machine, scope: &Scope) -> Option<Diagnosis> {
    region_lost(machine, &scope.assigned).or_else(|| holder_lost(machine, scope))
}

/// The lease ran out and no regrant came, while the region's node still reports.
fn holder_lost(machine: &Machine, scope: &Scope) -> Option<Diagnosis> {
    let now = machine.now().log;
    let left = scope.phase == Phase::Vacant && !scope.history.is_empty();
    let kept = scope.kept_until.is_some_and(|until| now < until);
    if !left || kept || !fresh(machine).any(|record| record.name == scope.assigned) {
        return None;
    }
    let lasting = now.since(scope.phase_since);
    Some(Diagnosis {
        class: Class::HolderLost { scope: scope.id.clone(), region: scope.assigned.clone() },
        lasting,
        confirmed: lasting > machine.limits().detection,
        evidence: vec![
            format!("{} has had no holder for {lasting}", scope.id),
            format!("the node of {} reports", scope.assigned),
        ],
    })
}

/// Links that fail between regions that are otherwise seen. They move nothing, ever.
///
/// An end whose own reports do not commit (the leader is at the other end) is judged by the third
/// region: while that one reaches it, it is only cut off from somebody.
fn links(machine: &Machine, lost: &[RegionName]) -> Vec<Diagnosis> {
    let records: Vec<&RegionRecord> =
        fresh(machine).filter(|record| !lost.contains(&record.name)).collect();
    let mut found = Vec::new();
    for (i, a) in records.iter().enumerate() {
        for b in &records[i + 1..] {
            found.extend(link_between(&records, a, b));
        }
        let silent = machine.regions().values().filter(|b| {
            !lost.contains(&b.name) && !records.iter().any(|heard| heard.name == b.name)
        });
        for b in silent {
            found.extend(link_to_silent(&records, a, b));
        }
    }
    found
}

/// How long one region has not reached another, by the worse of the two paths.
fn down(from: &RegionRecord, to: &RegionName) -> Option<Millis> {
    let control = from.report.control.get(to).map(|reach| reach.down_for());
    let data = from.report.data.get(to).map(|reach| reach.down_for());
    control.max(data).filter(|span| *span > Millis::ZERO)
}

/// A link both of whose ends report.
fn link_between(
    records: &[&RegionRecord],
    a: &RegionRecord,
    b: &RegionRecord,
) -> Option<Diagnosis> {
    let (class, lasting) = match (down(a, &b.name), down(b, &a.name)) {
        (None, None) => return None,
        (Some(ab), Some(ba)) => (cut(records, a, b), ab.min(ba)),
        (Some(ab), None) => (Class::OneWayLink { from: a.name.clone(), to: b.name.clone() }, ab),
        (None, Some(ba)) => (Class::OneWayLink { from: b.name.clone(), to: a.name.clone() }, ba),
    };
    let evidence = vec![
        reach_text(a, &b.name),
        reach_text(b, &a.name),
        format!("both {} and {} report through the log", a.name, b.name),
    ];
    Some(Diagnosis { class, lasting, confirmed: true, evidence })
}

/// A link to a region whose reports do not come through, while a third region reaches it.
fn link_to_silent(
    records: &[&RegionRecord],
    a: &RegionRecord,
    b: &RegionRecord,
) -> Option<Diagnosis> {
    let lasting = down(a, &b.name)?;
    let third = records.iter().find(|c| c.name != a.name && down(c, &b.name).is_none())?;
    let evidence = vec![
        reach_text(a, &b.name),
        reach_text(third, &b.name),
        format!("no report of {} comes through", b.name),
    ];
    Some(Diagnosis { class: cut(records, a, b), lasting, confirmed: true, evidence })
}

fn cut(records: &[&RegionRecord], a: &RegionRecord, b: &RegionRecord) -> Class {
    let via = records.iter().find(|c| {
        c.name != a.name
            && c.name != b.name
            && down(c, &a.name).is_none()
            && down(c, &b.name).is_none()
    });
    Class::LinkCut {
        a: a.name.clone(),
        b: b.name.clone(),
        relayed_via: via.map(|c| c.name.clone()),
    }
}

fn reach_text(from: &RegionRecord, to: &RegionName) -> String {
    let word = |reach: Option<&Reach>| match reach {
        Some(Reach::Up { rtt_us }) => format!("up, {}.{:03} ms", rtt_us / 1000, rtt_us % 1000),
        Some(Reach::Down { for_ms }) => format!("down {for_ms}"),
        None => "not probed".to_owned(),
    };
    let (control, data) = (from.report.control.get(to), from.report.data.get(to));
    format!("{} to {to}: control {}, data {}", from.name, word(control), word(data))
}

/// Health in permille: the least of its named inputs.
pub fn health(machine: &Machine, region: &RegionName) -> (u32, BTreeMap<String, u32>) {
    let mut inputs = BTreeMap::new();
    let Some(record) = machine.regions().get(region) else { return (0, inputs) };
    let limit = machine.limits().report_fresh;
    let heard = silence(machine, record).is_some_and(|age| age < limit);
    inputs.insert("heartbeat".to_owned(), if heard { 1000 } else { 0 });
    let watchers: Vec<&RegionRecord> = fresh(machine).filter(|r| r.name != *region).collect();
    let permille = |up: usize, all: usize| u32::try_from(up * 1000 / all.max(1)).unwrap_or(0);
    if !watchers.is_empty() {
        let up = |reach: Option<&Reach>| reach.is_none_or(|r| r.down_for() == Millis::ZERO);
        let control = watchers.iter().filter(|w| up(w.report.control.get(region))).count();
        let data = watchers.iter().filter(|w| up(w.report.data.get(region))).count();
        inputs.insert("control_reach".to_owned(), permille(control, watchers.len()));
        inputs.insert("data_reach".to_owned(), permille(data, watchers.len()));
    }
    let disk = match record.report.disk {
        DiskState::Ok => 1000,
        DiskState::Slow => 500,
        DiskState::Full | DiskState::Failed => 0,
    };
    inputs.insert("disk".to_owned(), disk);
    inputs.insert("errors".to_owned(), 1000u32.saturating_sub(record.report.errors_permille));
    let feeds = &record.report.feeds;
    if !feeds.is_empty() {
        let live = feeds.values().filter(|feed| feed.live).count();
        inputs.insert("feeds".to_owned(), permille(live, feeds.len()).max(100));
    }
    (inputs.values().copied().min().unwrap_or(0), inputs)
}
