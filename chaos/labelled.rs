//! Runs with one fault each whose class we know: does the product call it by its name?
//!
//! A run founds the cluster, lets it come to rest, adds the noise of an ordinary day (lost and late
//! messages), then one fault, and keeps it up while the leader is asked once a second what is wrong.
//! What it says for most of the last seconds is compared with the label; then everything is put right
//! and the run ends as any other.
//!
//! Apart from the name: whatever the label, nobody may be called lost while any link of its region
//! works, and the controller may ask for a promotion only where a holder or a region is truly gone.
//!
//! Next: `labelled/fault.rs` for what each label does, `held_out.txt` for the seeds that nothing was
//! tuned by.

mod fault;
#[cfg(test)]
mod tests;

use crate::cluster::{Cluster, region};
use crate::directed::rest;
use crate::world::World;
use cryptorun_control::history::{History, What};
use cryptorun_control::views;
use cryptorun_core::diagnose::{Class, Diagnosis, diagnose};
use cryptorun_core::people::Actor;
use cryptorun_core::time::WallTime;
use cryptorun_platform::disk::SimDisk;
use fault::Fault;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// What a run's fault is, by the class it should be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Label {
    /// Nothing but noise.
    Calm,
    RegionLost,
    IsolatedSelf,
    HolderLost,
    StalledWorker,
    SlowDisk,
    ErrorsHigh,
    ClockBad,
    Overloaded,
    ProviderOutage,
    ProviderDegradedLocal,
    Flapping,
    LinkCut,
    OneWayLink,
}

impl Label {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::Calm,
        Self::RegionLost,
        Self::IsolatedSelf,
        Self::HolderLost,
        Self::StalledWorker,
        Self::SlowDisk,
        Self::ErrorsHigh,
        Self::ClockBad,
        Self::Overloaded,
        Self::ProviderOutage,
        Self::ProviderDegradedLocal,
        Self::Flapping,
        Self::LinkCut,
        Self::OneWayLink,
    ];

    /// The class's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Calm => CALM,
            Self::RegionLost => "region_lost",
            Self::IsolatedSelf => "isolated_self",
            Self::HolderLost => "holder_lost",
            Self::StalledWorker => "stalled_worker",
            Self::SlowDisk => "slow_disk",
            Self::ErrorsHigh => "errors_high",
            Self::ClockBad => "clock_bad",
            Self::Overloaded => "overloaded",
            Self::ProviderOutage => "provider_outage",
            Self::ProviderDegradedLocal => "provider_degraded_local",
            Self::Flapping => "flapping",
            Self::LinkCut => "link_cut",
            Self::OneWayLink => "one_way_link",
        }
    }

    /// The label that a seed has where no list says otherwise.
    pub fn of(seed: u64) -> Self {
        Self::ALL[usize::try_from(seed % Self::ALL.len() as u64).unwrap_or(0)]
    }

    /// Whether a promotion may be asked for: somebody who should hold the scope is gone, or does
    /// nothing with it.
    fn is_a_loss(self) -> bool {
        let gone = matches!(self, Self::RegionLost | Self::IsolatedSelf | Self::HolderLost);
        gone || self == Self::StalledWorker
    }
}

/// Nothing is wrong.
const CALM: &str = "nothing";

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Label {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|label| label.as_str() == text);
        found.ok_or_else(|| format!("no label '{text}'"))
    }
}

/// Seeds and labels that nothing is tuned by, one a line; `#` begins a comment.
pub const HELD_OUT: &str = include_str!("labelled/held_out.txt");

/// The held-out runs.
///
/// # Errors
/// A line that is none.
pub fn held_out() -> Result<Vec<(u64, Label)>, String> {
    let lines = HELD_OUT.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (seed, label) = line.split_once(' ').ok_or_else(|| format!("'{line}'"))?;
            Ok((seed.parse().map_err(|_| format!("'{seed}' is no seed"))?, label.parse()?))
        })
        .collect()
}

/// What a run was called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Called {
    /// What it was.
    pub label: Label,
    /// What most of the last looks said: a class's word, or that nothing is wrong.
    pub class: &'static str,
    /// Whether that was the right class of the right region, link or venue.
    pub right: bool,
    /// From the fault to the first look that was right and confirmed.
    pub after: Option<Duration>,
}

/// The fault lasts so long: a venue must be silent for half a minute before it counts.
const LASTS_MS: (u64, u64) = (60_000, 75_000);
/// The last looks, which decide.
const LAST_LOOKS: usize = 12;
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// One fault from rest to its end.
pub(crate) async fn run(world: &Arc<World>, cluster: &mut Cluster, label: Label) {
    if !rest(world, cluster).await {
        return;
    }
    fault::noise(world);
    tokio::time::sleep(world.span_ms(3000, 9000)).await;
    let mut fault = Fault::draw(world, cluster, label);
    let (begun, end) = (world.now(), world.now() + world.span_ms(LASTS_MS.0, LASTS_MS.1));
    world.event(format_args!("fault {label}: {fault:?}"));
    fault.begin(cluster).await;
    let mut looks: Vec<(Duration, Vec<Diagnosis>)> = Vec::new();
    while world.now() < end && !world.is_bad() {
        fault.keep_up(cluster, LOOK_EVERY).await;
        drop(cluster.reap());
        let said = look(cluster, &fault);
        if looks.last().is_none_or(|(_, before)| first(before) != first(&said)) {
            world.event(format_args!("said {:?}", said.iter().map(brief).collect::<Vec<_>>()));
        }
        looks.push((world.now() - begun, said));
    }
    asked_for_nothing(world, cluster, label);
    fault.end(cluster).await;
    let called = judge(world, &fault, &looks);
    world.event(format_args!("called {called:?}"));
    world.state().outcome.called = Some(called);
}

/// What is said now: by the leader, or by the node that is cut off itself.
fn look(cluster: &Cluster, fault: &Fault) -> Vec<Diagnosis> {
    if let Some(own) = fault.asked_of() {
        let nodes = &cluster.world.state().nodes;
        let Some(handle) = nodes.get(&own) else { return Vec::new() };
        let lost = handle.api.log().quorum_lost_for();
        return handle.node.with_machine(|machine| views::diagnoses(machine, lost));
    }
    let leader = cluster.leader();
    leader.map(|leader| leader.node.with_machine(diagnose)).unwrap_or_default()
}

fn brief(found: &Diagnosis) -> String {
    let sure = if found.confirmed { "" } else { "?" };
    format!("{}{sure}: {}", found.class, found.evidence.join("; "))
}

/// The most serious that is confirmed.
fn first(said: &[Diagnosis]) -> Option<&Class> {
    said.iter().find(|found| found.confirmed).map(|found| &found.class)
}

fn judge(world: &World, fault: &Fault, looks: &[(Duration, Vec<Diagnosis>)]) -> Called {
    let label = fault.label();
    let mut votes: BTreeMap<(&'static str, bool), usize> = BTreeMap::new();
    for (_, said) in looks.iter().rev().take(LAST_LOOKS) {
        let class = first(said);
        let right = fault.is_called(class);
        *votes.entry((class.map_or(CALM, Class::as_str), right)).or_default() += 1;
    }
    let most = votes.into_iter().max_by_key(|(_, count)| *count).map(|(what, _)| what);
    let (class, right) = most.unwrap_or((CALM, label == Label::Calm));
    for (at, said) in looks {
        let lost = said
            .iter()
            .find(|found| found.confirmed && matches!(found.class, Class::RegionLost { .. }));
        if let Some(found) = lost.filter(|_| !fault.loses_a_region()) {
            world.violation(format!(
                "no_link_is_a_loss: {} is called at {at:?} while its links work: {:?}",
                found.class, found.evidence
            ));
        }
    }
    let after = looks.iter().find(|(_, said)| fault.is_called(first(said)));
    Called { label, class, right, after: after.map(|(at, _)| *at) }
}

/// The controller asks where somebody is gone, and nowhere else.
fn asked_for_nothing(world: &World, cluster: &Cluster, label: Label) {
    let Some(leader) = cluster.leader().filter(|_| !label.is_a_loss()) else { return };
    let asked = leader.node.with_machine(|machine| {
        let own = machine.promotions().values().find(|p| p.requester == Actor::Controller);
        own.map(|promotion| format!("{}: {:?}", promotion.id, promotion.reason))
    });
    if let Some(asked) = asked {
        world.violation(format!("no_false_promotion: {label} and yet {asked}"));
    }
}

/// What a node reported while nobody took it stands in the others' histories once it is back.
pub(crate) fn told_late(world: &World, cluster: &Cluster) {
    let kept = cluster.nodes.iter().map(|(id, remains)| (*id, reports_of(&remains.history)));
    let kept: BTreeMap<u64, Reports> = kept.collect();
    let in_vain: usize = kept.values().map(|reports| reports.in_vain.len()).sum();
    if in_vain < 10 {
        world.violation(format!("told_late: {in_vain} reports in a minute without a quorum"));
    }
    for ((id, own), (other, others)) in kept.iter().flat_map(|a| kept.iter().map(move |b| (a, b))) {
        let missing = own.in_vain.difference(&others.late).count();
        if id != other && missing > 0 {
            world.violation(format!("told_late: {missing} reports of {id} never came to {other}"));
        }
    }
}

/// By the reporter's wall clock.
#[derive(Default)]
struct Reports {
    /// Its own that no quorum took.
    in_vain: BTreeSet<WallTime>,
    /// Others' that it was told late.
    late: BTreeSet<WallTime>,
}

fn reports_of(disk: &SimDisk) -> Reports {
    let mut found = Reports::default();
    let history = History::open(Arc::new(disk.clone()), u64::MAX);
    let read = history.and_then(|history| {
        let all = (WallTime(0), WallTime(u64::MAX));
        history.read(
            all,
            |_| true,
            |line| match line.what {
                What::Report(own) if own.committed.is_none() => {
                    found.in_vain.insert(own.report.wall);
                }
                What::Late(told) => {
                    found.late.insert(told.report.wall);
                }
                What::Report(_) | What::Records(_) => {}
            },
        )
    });
    drop(read); // What cannot be read is missing, and said so.
    found
}

/// What many runs were called.
#[derive(Clone, Debug, Default)]
pub struct Confusion {
    /// By label, then by what was said; a right class of a wrong subject stands under its word, starred.
    pub counts: BTreeMap<Label, BTreeMap<String, u64>>,
    /// Until the first right word, by label.
    pub after: BTreeMap<Label, Vec<Duration>>,
    /// Runs that were called right.
    pub right: u64,
    /// All of them.
    pub runs: u64,
}

impl Confusion {
    /// Counts one.
    pub fn add(&mut self, called: &Called) {
        let starred = called.class == called.label.as_str() && !called.right;
        let word = format!("{}{}", called.class, if starred { "*" } else { "" });
        *self.counts.entry(called.label).or_default().entry(word).or_default() += 1;
        self.after.entry(called.label).or_default().extend(called.after);
        self.runs += 1;
        self.right += u64::from(called.right);
    }

    /// Right ones, in permille.
    pub fn right_permille(&self) -> u64 {
        self.right * 1000 / self.runs.max(1)
    }
}

impl fmt::Display for Confusion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| was | runs | called so | called otherwise | first said after, median | most |"
        )?;
        writeln!(f, "| --- | --- | --- | --- | --- | --- |")?;
        for (label, said) in &self.counts {
            let runs: u64 = said.values().sum();
            let right = said.get(label.as_str()).copied().unwrap_or(0);
            let others = said.iter().filter(|(word, _)| *word != label.as_str());
            let others: Vec<String> = others.map(|(word, n)| format!("{word} {n}")).collect();
            let others = if others.is_empty() { "–".to_owned() } else { others.join(", ") };
            let mut after = self.after.get(label).cloned().unwrap_or_default();
            after.sort_unstable();
            let (median, most) = match label {
                Label::Calm => ("–".to_owned(), "–".to_owned()),
                _ => (secs(after.get(after.len() / 2)), secs(after.last())),
            };
            writeln!(f, "| `{label}` | {runs} | {right} | {others} | {median} | {most} |")?;
        }
        Ok(())
    }
}

fn secs(span: Option<&Duration>) -> String {
    span.map_or("never".to_owned(), |span| format!("{:.0} s", span.as_secs_f64()))
}

/// A region's name as diagnoses have it.
fn named(place: u64) -> cryptorun_core::region::RegionName {
    region(place).into()
}
