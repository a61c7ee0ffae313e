//! What is only cut: links between regions that are otherwise seen. They move nothing, ever.

use super::{Class, Diagnosis, Severity, fresh};
use crate::machine::Machine;
use crate::path::{HEARD_WITHIN, Path, WINDOW};
use crate::region::RegionName;
use crate::report::RegionRecord;
use crate::time::Millis;

/// A link that changed more often within [`WINDOW`] is flapping (DESIGN §7).
const CHANGES_MAX: u32 = 3;

/// Links that fail or flap between regions that are otherwise seen.
///
/// An end whose own reports do not commit (the leader is at the other end) is judged by the third
/// region: while that one reaches it, it is only cut off from somebody.
pub(super) fn links(machine: &Machine, lost: &[RegionName]) -> Vec<Diagnosis> {
    let records: Vec<&RegionRecord> =
        fresh(machine).filter(|record| !lost.contains(&record.name)).collect();
    let mut found = Vec::new();
    for (i, a) in records.iter().enumerate() {
        for b in &records[i + 1..] {
            let steady = || link_between(&records, a, b);
            found.extend(flapping(a, &b.name, Some(b)).or_else(steady));
        }
        let silent = machine.regions().values().filter(|b| {
            !lost.contains(&b.name) && !records.iter().any(|heard| heard.name == b.name)
        });
        for b in silent {
            let steady = || link_to_silent(&records, a, b);
            found.extend(flapping(a, &b.name, None).or_else(steady));
        }
    }
    found
}

/// Both ways to another region, control path first.
fn ways<'a>(from: &'a RegionRecord, to: &RegionName) -> impl Iterator<Item = Path> + use<'a> {
    let (control, data) = (from.report.control.get(to), from.report.data.get(to));
    control.into_iter().chain(data).copied()
}

/// How long one region has not reached another, by the worse of the two paths.
fn down(from: &RegionRecord, to: &RegionName) -> Option<Millis> {
    ways(from, to).map(Path::down_for).max().filter(|span| *span > Millis::ZERO)
}

/// A link that changes too often for what it is now to mean anything.
fn flapping(a: &RegionRecord, b: &RegionName, told: Option<&RegionRecord>) -> Option<Diagnosis> {
    let there = ways(a, b).map(|way| way.changes);
    let back = told.into_iter().flat_map(|b| ways(b, &a.name)).map(|way| way.changes);
    let most = there.chain(back).max().filter(|most| *most > CHANGES_MAX)?;
    let mut evidence = vec![format!("{most} changes within {WINDOW}"), reach_text(a, b)];
    evidence.extend(told.map(|b| reach_text(b, &a.name)));
    Some(Diagnosis {
        class: Class::Flapping { a: a.name.clone(), b: b.clone() },
        severity: Severity::Ticket,
        lasting: WINDOW,
        confirmed: true,
        doubt: None,
        evidence,
    })
}

/// A link both of whose ends report.
fn link_between(
    records: &[&RegionRecord],
    a: &RegionRecord,
    b: &RegionRecord,
) -> Option<Diagnosis> {
    let (class, lasting) = match (down(a, &b.name), down(b, &a.name)) {
        (None, None) => return None,
        // Both wait for answers in vain; but whose probes come in, and whose do not?
        (Some(ab), Some(ba)) => match (hears(a, &b.name), hears(b, &a.name)) {
            (true, false) => (one_way(a, b), ab),
            (false, true) => (one_way(b, a), ba),
            _ => (cut(records, a, b), ab.min(ba)),
        },
        (Some(ab), None) => (one_way(a, b), ab),
        (None, Some(ba)) => (one_way(b, a), ba),
    };
    let evidence = vec![
        reach_text(a, &b.name),
        reach_text(b, &a.name),
        format!("both {} and {} report through the log", a.name, b.name),
    ];
    Some(harmless(class, lasting, evidence))
}

/// A link to a region whose reports do not come through, while a third region reaches it.
fn link_to_silent(
    records: &[&RegionRecord],
    a: &RegionRecord,
    b: &RegionRecord,
) -> Option<Diagnosis> {
    let lasting = down(a, &b.name)?;
    let third = records.iter().find(|c| c.name != a.name && down(c, &b.name).is_none())?;
    let mut evidence = vec![
        reach_text(a, &b.name),
        reach_text(third, &b.name),
        format!("no report of {} comes through", b.name),
    ];
    let told = third.report.hears.get(&b.name).is_some_and(|hears| hears.contains(&a.name));
    if told && !hears(a, &b.name) {
        evidence.push(format!("{} told {} that it hears {}", b.name, third.name, a.name));
        return Some(harmless(one_way(b, a), lasting, evidence));
    }
    Some(harmless(cut(records, a, b), lasting, evidence))
}

fn one_way(from: &RegionRecord, to: &RegionRecord) -> Class {
    Class::OneWayLink { from: from.name.clone(), to: to.name.clone() }
}

/// Whether probes of the other region's node come in, as of the report.
fn hears(here: &RegionRecord, of: &RegionName) -> bool {
    let heard = here.report.control.get(of).and_then(|way| way.heard_ago);
    heard.is_some_and(|ago| ago <= HEARD_WITHIN)
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

fn harmless(class: Class, lasting: Millis, evidence: Vec<String>) -> Diagnosis {
    Diagnosis { class, severity: Severity::Ticket, lasting, confirmed: true, doubt: None, evidence }
}

fn reach_text(from: &RegionRecord, to: &RegionName) -> String {
    let word =
        |way: Option<&Path>| way.map_or("not probed".to_owned(), |way| way.reach.to_string());
    let (control, data) = (from.report.control.get(to), from.report.data.get(to));
    format!("{} to {to}: control {}, data {}", from.name, word(control), word(data))
}
