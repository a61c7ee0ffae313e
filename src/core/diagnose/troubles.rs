//! What is wrong inside a region, or at a venue. Degrades; loses nobody by itself.
//!
//! Each is a fact of the last report ([`troubles`]); the machine remembers since when it has been in
//! every one, and a class is confirmed when that is long enough not to be a blink.

use super::{CLOCK_CRITICAL_MS, CLOCK_TARGET_MS, CLOCK_WARN_MS};
use super::{Class, Diagnosis, Severity, clocks, fresh, neighbours};
use crate::machine::{Machine, STALLED_MAX};
use crate::path::Reach;
use crate::region::RegionName;
use crate::report::{DiskState, RegionRecord, RegionReport, Trouble};
use crate::scope::{Scope, ScopeId};
use crate::session::{Session, Stall};
use crate::time::Millis;
use std::collections::{BTreeMap, BTreeSet};

/// A rate over fewer requests is no rate.
const ANSWERS_MIN: u64 = 20;
/// A round trip this much longer than usual is an outlier, beside twice the usual one.
const LATE_US: u64 = 50_000;
/// A node that stood still for longer was not busy with its own work.
const STOOD_STILL: Millis = Millis::secs(1);
/// Nor was one that stood still for a tenth of a minute in all.
const HELD_UP: Millis = Millis::secs(6);
/// How long a trouble must have lasted.
const CONFIRMED_AFTER: Millis = Millis::secs(10);
/// How long a venue must have been silent (the playbook's detection of a failed feed).
const VENUE_CONFIRMED_AFTER: Millis = Millis::secs(30);

/// What is wrong in a region now, by its last report and its neighbours'.
pub fn troubles(machine: &Machine, region: &RegionName) -> BTreeSet<Trouble> {
    let mut found = BTreeSet::new();
    let Some(record) = machine.regions().get(region) else { return found };
    let report = &record.report;
    if report.disk != DiskState::Ok {
        found.insert(Trouble::Disk);
    }
    let answers = report.answers;
    if answers.all >= ANSWERS_MIN
        && answers.errors_permille() > machine.limits().errors_max_permille
    {
        found.insert(Trouble::Errors);
    }
    if clocks::worst(machine, region).is_some_and(|(o, _)| o.certain_ms() > CLOCK_TARGET_MS) {
        found.insert(Trouble::Clock);
    }
    if stands_still(report) || answers_late(machine, region).is_some() {
        found.insert(Trouble::Load);
    }
    let silent = report.feeds.iter().filter(|(_, feed)| !feed.live);
    found.extend(silent.map(|(venue, _)| Trouble::Venue(venue.clone())));
    found
}

fn stands_still(report: &RegionReport) -> bool {
    report.stood_still > STOOD_STILL || report.held_up > HELD_UP
}

/// Whether a round trip is an outlier.
fn is_late(from: &RegionRecord, to: &RegionName) -> Option<(u64, u64)> {
    let way = from.report.control.get(to)?;
    let Reach::Up { rtt_us } = way.reach else { return None };
    let late = way.usual_us > 0 && rtt_us > (2 * way.usual_us).saturating_add(LATE_US);
    late.then_some((rtt_us, way.usual_us))
}

/// A region that answers everybody late, while they answer each other as usual: it is not the links.
fn answers_late(machine: &Machine, region: &RegionName) -> Option<Vec<String>> {
    let witnesses: Vec<&RegionRecord> = neighbours(machine, region).collect();
    if witnesses.len() < 2 {
        return None;
    }
    let among = witnesses.iter().flat_map(|a| witnesses.iter().map(move |b| (a, b)));
    if among.filter(|(a, b)| a.name != b.name).any(|(a, b)| is_late(a, &b.name).is_some()) {
        return None;
    }
    let sees = |witness: &&RegionRecord| {
        let (now, usual) = is_late(witness, region)?;
        Some(format!(
            "{} waits {} ms for it, usually {} ms",
            witness.name,
            now / 1000,
            usual / 1000
        ))
    };
    witnesses.iter().map(sees).collect()
}

/// What lasts inside the regions that report.
pub(super) fn inside(machine: &Machine) -> Vec<Diagnosis> {
    let mut found = Vec::new();
    for record in fresh(machine) {
        for (trouble, since) in &record.troubles {
            let Some((class, severity, evidence)) = class_of(machine, record, trouble) else {
                continue;
            };
            let lasting = machine.now().log.since(*since);
            let confirmed = lasting >= CONFIRMED_AFTER;
            found.push(Diagnosis { class, severity, lasting, confirmed, doubt: None, evidence });
        }
    }
    found
}

fn class_of(
    machine: &Machine,
    record: &RegionRecord,
    trouble: &Trouble,
) -> Option<(Class, Severity, Vec<String>)> {
    let (report, region) = (&record.report, record.name.clone());
    Some(match trouble {
        Trouble::Disk => {
            let (severity, what) = match report.disk {
                DiskState::Ok => return None,
                DiskState::Slow => (Severity::Ticket, "its syncs take longer than a second"),
                DiskState::Full => (Severity::Page, "it is full: it keeps what it has"),
                DiskState::Failed => (Severity::Page, "it failed: its process stops"),
            };
            (Class::SlowDisk { region }, severity, vec![what.to_owned()])
        }
        Trouble::Errors => {
            let answers = report.answers;
            let what = format!(
                "{} of {} answers of the last minute were errors, {} in a thousand",
                answers.errors,
                answers.all,
                answers.errors_permille()
            );
            (Class::ErrorsHigh { region }, Severity::Ticket, vec![what])
        }
        Trouble::Clock => {
            let (offset, whose) = clocks::worst(machine, &region)?;
            let severity = match offset.certain_ms() {
                off if off <= CLOCK_WARN_MS => Severity::Info,
                off if off <= CLOCK_CRITICAL_MS => Severity::Ticket,
                _ => Severity::Page,
            };
            let what = format!(
                "{whose} is {} ms off, to within {} ms; wanted within {CLOCK_TARGET_MS} ms",
                offset.ms, offset.within_ms
            );
            (Class::ClockBad { region }, severity, vec![what])
        }
        Trouble::Load => {
            let mut evidence = answers_late(machine, &region).unwrap_or_default();
            if stands_still(report) {
                let (longest, all) = (report.stood_still, report.held_up);
                evidence.push(format!("it stood still for {longest} at once, {all} of a minute"));
            }
            (Class::Overloaded { region }, Severity::Ticket, evidence)
        }
        Trouble::Venue(_) => return None, // More than one region's word: see `venues`.
    })
}

/// Venues that fail, in one region or in several.
pub(super) fn venues(machine: &Machine) -> Vec<Diagnosis> {
    let mut silent: BTreeMap<&String, Vec<(&RegionRecord, Millis)>> = BTreeMap::new();
    for record in fresh(machine) {
        for (trouble, since) in &record.troubles {
            if let Trouble::Venue(venue) = trouble {
                let lasting = machine.now().log.since(*since);
                silent.entry(venue).or_default().push((record, lasting));
            }
        }
    }
    silent.into_iter().map(|(venue, regions)| venue_fails(machine, venue, regions)).collect()
}

fn venue_fails(
    machine: &Machine,
    venue: &str,
    mut regions: Vec<(&RegionRecord, Millis)>,
) -> Diagnosis {
    regions.sort_by_key(|(_, lasting)| std::cmp::Reverse(*lasting));
    let mut evidence: Vec<String> = regions
        .iter()
        .map(|(record, lasting)| format!("nothing that counts in {} for {lasting}", record.name))
        .collect();
    let hears =
        |record: &&RegionRecord| record.report.feeds.get(venue).is_some_and(|feed| feed.live);
    evidence.extend(fresh(machine).filter(hears).map(|r| format!("{} hears it", r.name)));
    let venue = venue.to_owned();
    let (class, severity, lasting) = match regions.as_slice() {
        [(only, lasting)] => {
            let region = only.name.clone();
            (Class::ProviderDegradedLocal { venue, region }, Severity::Ticket, *lasting)
        }
        // As long as two have been without it.
        several => {
            let lasting = several.get(1).map_or(Millis::ZERO, |(_, lasting)| *lasting);
            (Class::ProviderOutage { venue }, Severity::Page, lasting)
        }
    };
    let confirmed = lasting > VENUE_CONFIRMED_AFTER;
    Diagnosis { class, severity, lasting, confirmed, doubt: None, evidence }
}

/// Holders that renew and do nothing with what they have.
pub(super) fn stalled(machine: &Machine) -> Vec<Diagnosis> {
    // Behind a disk that does not take writes nobody makes progress: that is what is wrong then.
    let sound = machine.live_sessions().filter(|session| session.report.disk == DiskState::Ok);
    sound
        .flat_map(|session| session.stalled.keys().filter_map(|id| stands(machine, session, id)))
        .collect()
}

/// The holder of a scope renews and does nothing with what it has, by whatever fault: what an
/// emergency may go by once it has lasted for the detection time.
pub fn unwell(machine: &Machine, scope: &Scope) -> Option<Diagnosis> {
    let session = machine.live_session(&machine.live_lease(&scope.id)?.holder)?;
    let mut found = stands(machine, session, &scope.id)?;
    found.confirmed = found.lasting > machine.limits().detection;
    match session.report.disk {
        DiskState::Ok => {}
        DiskState::Slow => found.evidence.push("its disk is slow".to_owned()),
        DiskState::Full => found.evidence.push("its disk is full".to_owned()),
        DiskState::Failed => found.evidence.push("its disk failed".to_owned()),
    }
    Some(found)
}

/// What the controller asks people for a move by: the holder is gone, or does nothing.
pub fn cause(machine: &Machine, scope: &Scope) -> Option<Diagnosis> {
    super::gone(machine, scope).or_else(|| unwell(machine, scope))
}

fn stands(machine: &Machine, session: &Session, scope: &ScopeId) -> Option<Diagnosis> {
    let Stall { renewals, since } = *session.stalled.get(scope)?;
    if renewals < STALLED_MAX {
        return None;
    }
    let lasting = machine.now().log.since(since);
    let reported = session.report.scopes.get(scope);
    let waiting = reported.map(|r| r.input.since(r.watermark)).unwrap_or_default();
    Some(Diagnosis {
        class: Class::StalledWorker { scope: scope.clone(), region: session.region.clone() },
        severity: Severity::Page,
        lasting,
        confirmed: lasting >= CONFIRMED_AFTER,
        doubt: None,
        evidence: vec![
            format!("{} has renewed {renewals} times without progress", session.key.worker),
            format!("{waiting} of input wait"),
        ],
    })
}
