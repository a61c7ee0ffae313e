//! The metrics page's figures, taken from the machine at each rendering.
//!
//! Every node shows the same machine; what only the leader does (steps carried out) is counted from
//! the records too, so that a change of leader loses no count.

use crate::api::Api;
use crate::views;
use cryptorun_core::diagnose::{Diagnosis, health, offset};
use cryptorun_core::machine::Machine;
use cryptorun_core::path::Reach;
use cryptorun_core::plan::Step;
use cryptorun_core::promotion::{State, StepState};
use cryptorun_core::time::{Millis, WallTime};
use cryptorun_platform::metrics::Metrics;
use std::collections::BTreeMap;

/// Has the figures on the page from now on.
pub fn export(api: &Api, metrics: &Metrics) {
    let api = api.clone();
    metrics.on_render(move |metrics| {
        let wall = api.parts().platform.clock.wall();
        let partition = api.partition();
        let in_partition = f64::from(u8::from(partition.partition_mode));
        metrics.partition_mode.set([partition.region.as_str()], in_partition);
        let lost = api.log().quorum_lost_for();
        api.look(|machine, _| {
            fill(machine, wall, metrics);
            diagnoses(&views::diagnoses(machine, lost), metrics);
        });
    });
}

fn seconds(span: Millis) -> f64 {
    std::time::Duration::from_millis(span.0).as_secs_f64()
}

fn fill(machine: &Machine, wall: WallTime, metrics: &Metrics) {
    scopes(machine, wall, metrics);
    regions(machine, metrics);
    sinks(machine, metrics);
    promotions(machine, metrics);
}

fn scopes(machine: &Machine, wall: WallTime, metrics: &Metrics) {
    metrics.lease_remaining_seconds.clear();
    metrics.no_progress_seconds.clear();
    metrics.behind_seconds.clear();
    metrics.replication_lag_seconds.clear();
    // Scopes of one tier share a series: the worst of them counts.
    let mut lags: BTreeMap<[&str; 3], Millis> = BTreeMap::new();
    for scope in machine.scopes().values() {
        let (tier, group) = (scope.id.tier.as_str(), scope.id.group.as_str());
        let epoch = scope.reign().map_or(0, |reign| reign.token.epoch);
        // Exact below 2^53 reigns.
        metrics.authority_epoch.set([tier, group], epoch as f64);
        let left = views::lease_left(machine, scope).unwrap_or_default();
        metrics.lease_remaining_seconds.set([tier, group], seconds(left));
        if let Some(holder) = views::live_holder(machine, scope) {
            let stalled = holder.stalled.get(&scope.id);
            let stood = stalled.map_or(Millis::ZERO, |stall| machine.now().log.since(stall.since));
            metrics.no_progress_seconds.set([tier, group], seconds(stood));
        }
        let sinks = views::sinks(machine, scope, wall);
        for region in &scope.policy.members {
            let Some(sink) = sinks.get(region) else { continue };
            if let Some(age) = sink.age {
                let labels = [tier, region.as_str(), scope.assigned.as_str()];
                let worst = lags.entry(labels).or_default();
                *worst = (*worst).max(age);
            }
            if let Some(behind) = &sink.behind {
                metrics.behind_seconds.set([tier, group, region.as_str()], seconds(behind.span));
            }
        }
    }
    for (labels, age) in lags {
        metrics.replication_lag_seconds.set(labels, seconds(age));
    }
}

fn regions(machine: &Machine, metrics: &Metrics) {
    metrics.cross_region_rtt_seconds.clear();
    metrics.clock_offset_seconds.clear();
    for (name, record) in machine.regions() {
        let (permille, _) = health(machine, name);
        metrics.region_health_score.set([name.as_str()], f64::from(permille) / 1000.0);
        if let Some(offset) = offset(machine, name) {
            let off = seconds(Millis(offset.certain_ms()));
            metrics.clock_offset_seconds.set([name.as_str()], off);
        }
        for (to, way) in &record.report.control {
            if let Reach::Up { rtt_us } = way.reach {
                let rtt = std::time::Duration::from_micros(rtt_us).as_secs_f64();
                metrics.cross_region_rtt_seconds.set([name.as_str(), to.as_str()], rtt);
            }
        }
    }
}

/// What `status` says first, for whoever is rung.
fn diagnoses(found: &[Diagnosis], metrics: &Metrics) {
    metrics.diagnoses.clear();
    let mut counts: BTreeMap<[&str; 2], u32> = BTreeMap::new();
    for diagnosis in found.iter().filter(|found| found.confirmed) {
        let labels = [diagnosis.class.as_str(), diagnosis.severity.as_str()];
        *counts.entry(labels).or_default() += 1;
    }
    for (labels, count) in counts {
        metrics.diagnoses.set(labels, f64::from(count));
    }
}

fn sinks(machine: &Machine, metrics: &Metrics) {
    let mut fenced: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    let mut quarantined: BTreeMap<&str, u64> = BTreeMap::new();
    let mut corrupt = 0;
    for session in machine.sessions().values().filter(|session| !session.barred) {
        let region = session.region.as_str();
        for (scope, count) in &session.report.fenced {
            *fenced.entry((scope.tier.as_str(), region)).or_default() += count;
        }
        for feed in session.report.feeds.values() {
            *quarantined.entry(region).or_default() += feed.quarantined;
            corrupt += feed.bad_checksums;
        }
    }
    for ((tier, region), total) in fenced {
        metrics.fenced_writes_total.record([tier, region], total);
    }
    for (region, total) in quarantined {
        metrics.quarantine_total.record(["hot", region, "undecodable"], total);
    }
    metrics.data_consistency_errors_total.record(["corrupt"], corrupt);
}

fn promotions(machine: &Machine, metrics: &Metrics) {
    let mut missing: BTreeMap<(&str, &str), u32> = machine
        .scopes()
        .keys()
        .map(|scope| ((scope.tier.as_str(), scope.group.as_str()), 0))
        .collect();
    let mut done: BTreeMap<[&str; 3], u64> = BTreeMap::new();
    let mut failed: BTreeMap<[&str; 4], u64> = BTreeMap::new();
    for promotion in machine.promotions().values() {
        let tier = promotion.scope.tier.as_str();
        let (from, to) = (promotion.from.as_str(), promotion.to.as_str());
        if promotion.state == State::Waiting {
            let most = missing.entry((tier, promotion.scope.group.as_str())).or_default();
            *most = (*most).max(promotion.people_missing());
        }
        for record in &promotion.steps {
            match &record.state {
                StepState::Done { .. } | StepState::Skipped { .. } => {
                    *done.entry([tier, from, to]).or_default() += 1;
                }
                // The reason is the step, a closed set; the sentence is in the history.
                StepState::Failed { .. } => {
                    *failed.entry([tier, from, to, Step::as_str(record.step)]).or_default() += 1;
                }
                StepState::Pending | StepState::Started => {}
            }
        }
    }
    for ((tier, group), people) in missing {
        metrics.people_missing.set([tier, group], f64::from(people));
    }
    for (labels, total) in done {
        metrics.replication_plan_steps_total.record(labels, total);
    }
    for (labels, total) in failed {
        metrics.replication_step_failures_total.record(labels, total);
    }
}
