//! A region's health as one number, for dashboards and load balancers.

use super::{CLOCK_CRITICAL_MS, CLOCK_TARGET_MS, CLOCK_WARN_MS, clocks, neighbours, silence};
use crate::machine::Machine;
use crate::path::Path;
use crate::region::RegionName;
use crate::report::{DiskState, RegionRecord, Trouble};
use crate::time::Millis;
use std::collections::BTreeMap;

/// Health in permille: the least of its named inputs.
pub fn health(machine: &Machine, region: &RegionName) -> (u32, BTreeMap<String, u32>) {
    let mut inputs = BTreeMap::new();
    let Some(record) = machine.regions().get(region) else { return (0, inputs) };
    let limit = machine.limits().report_fresh;
    let heard = silence(machine, record).is_some_and(|age| age < limit);
    inputs.insert("heartbeat".to_owned(), if heard { 1000 } else { 0 });
    let watchers: Vec<&RegionRecord> = neighbours(machine, region).collect();
    let permille = |up: usize, all: usize| u32::try_from(up * 1000 / all.max(1)).unwrap_or(0);
    if !watchers.is_empty() {
        let up = |way: Option<&Path>| way.is_none_or(|way| way.down_for() == Millis::ZERO);
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
    let errors = record.report.answers.errors_permille();
    inputs.insert("errors".to_owned(), 1000u32.saturating_sub(errors));
    let clock = match clocks::worst(machine, region).map_or(0, |(offset, _)| offset.certain_ms()) {
        off if off <= CLOCK_TARGET_MS => 1000,
        off if off <= CLOCK_WARN_MS => 800,
        off if off <= CLOCK_CRITICAL_MS => 500,
        _ => 0,
    };
    inputs.insert("clock".to_owned(), clock);
    let late = record.troubles.contains_key(&Trouble::Load);
    inputs.insert("load".to_owned(), if late { 500 } else { 1000 });
    let feeds = &record.report.feeds;
    if !feeds.is_empty() {
        let live = feeds.values().filter(|feed| feed.live).count();
        inputs.insert("feeds".to_owned(), permille(live, feeds.len()).max(100));
    }
    (inputs.values().copied().min().unwrap_or(0), inputs)
}
