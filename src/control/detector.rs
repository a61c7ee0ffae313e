//! What this region sees of the others, reported through the log.
//!
//! Two paths, because one alone is not a witness: the control path (this node asks every other node)
//! and the data path (what this region's workers report of other regions' workers and data). Facts
//! only; `core::diagnose` makes sense of them.
//!
//! What always holds:
//!  1. at most one report a second, and one at least every [`REPORT_EVERY`] or half of what counts as
//!     fresh;
//!  2. a report that no quorum takes is kept in the history all the same: after a partition one can
//!     see what the cut-off side saw;
//!  3. a node that stood still says so, and does not count that time as others' silence.

mod late;
mod probes;
mod stalls;
mod workers;

use crate::api::Api;
use crate::history::{Line, OwnReport, What};
use cryptorun_core::command::{Command, Report};
use cryptorun_core::machine::Machine;
use cryptorun_core::path::Path;
use cryptorun_core::people::Actor;
use cryptorun_core::region::RegionName;
use cryptorun_core::report::{Answers, DiskState, RegionReport};
use cryptorun_core::session::Session;
use cryptorun_core::time::{Millis, WallTime};
use cryptorun_platform::clock::BootTime;
use cryptorun_platform::metrics::Metrics;
use late::Late;
use probes::Probes;
use stalls::Stalls;
use std::collections::VecDeque;
use std::time::Duration;

/// How often others are probed, and the shortest time between two reports.
const PROBE_EVERY: Duration = Duration::from_secs(1);
/// The longest time between two reports while nothing changes.
const REPORT_EVERY: Duration = Duration::from_secs(5);
/// Putting a report into the log may take a while; the next one comes anyway.
const PROPOSE_WITHIN: Duration = Duration::from_secs(3);

/// Probes and reports until the log stops.
pub async fn detect(api: Api) {
    let stalls = Stalls::default();
    tokio::select! {
        () = stalls.pulse(&*api.parts().platform.clock) => {}
        () = look_around(&api, &stalls) => {}
    }
}

async fn look_around(api: &Api, stalls: &Stalls) {
    let clock = api.parts().platform.clock.clone();
    let mut probes = Probes::default();
    let mut last: Option<(BootTime, Shape)> = None;
    let mut counted = Counted::default();
    let mut late = Late::default();
    let leadership = api.log().leadership();
    loop {
        let began = clock.boot();
        probes.ask(api).await;
        probes.stood_still(stalls.since_asked());
        let answers = counted.lately(&api.parts().metrics, clock.boot());
        let (longest, all) = stalls.lately_at(clock.boot());
        let (report, every) = api.look(|machine, _| {
            let now = (clock.boot(), clock.wall());
            let report = compose(api, machine, &probes, now).map(|report| RegionReport {
                answers,
                stood_still: longest.into(),
                held_up: all.into(),
                ..report
            });
            (report, report_every(machine))
        });
        if let Some(report) = report {
            let shape = Shape::of(&report);
            // While something is down its duration grows, and others wait for it to be long enough.
            let due = match &last {
                Some((at, known)) => {
                    *known != shape || shape.trouble || clock.boot() - *at >= every
                }
                None => true,
            };
            if due {
                let telling = clock.boot();
                let told = tell(api, report).await;
                // What no quorum took is told again at the next look.
                last = told.committed.is_some().then_some((telling, shape));
                match told.committed {
                    Some(_) => late.tell(api, |node| probes.answers(node)).await,
                    None => late.keep(probes.nodes(), &told),
                }
            }
        }
        tokio::time::sleep(PROBE_EVERY.saturating_sub(clock.boot() - began)).await;
        if leadership.has_changed().is_err() {
            return; // The log is gone.
        }
    }
}

/// Answers of the API over the last minute.
#[derive(Default)]
struct Counted(VecDeque<(BootTime, Answers)>);

impl Counted {
    const SPAN: Duration = Duration::from_secs(60);

    fn lately(&mut self, metrics: &Metrics, now: BootTime) -> Answers {
        let of = |class| metrics.api_answers_total.get([class]);
        let errors = of("5xx");
        let sum = Answers { all: of("2xx") + of("3xx") + of("4xx") + errors, errors };
        self.0.push_back((now, sum));
        while self.0.len() > 1 && self.0.front().is_some_and(|(at, ..)| now - *at > Self::SPAN) {
            self.0.pop_front();
        }
        let then = self.0.front().map(|(_, sum)| *sum).unwrap_or_default();
        Answers { all: sum.all - then.all, errors: sum.errors - then.errors }
    }
}

fn report_every(machine: &Machine) -> Duration {
    let fresh = machine.cluster().map(|cluster| cluster.config.limits.report_fresh);
    fresh.map_or(REPORT_EVERY, |fresh| REPORT_EVERY.min(fresh.to_duration() / 2))
}

/// None before the cluster is founded.
fn compose(
    api: &Api,
    machine: &Machine,
    probes: &Probes,
    (now, wall): (BootTime, WallTime),
) -> Option<RegionReport> {
    let config = &machine.cluster()?.config;
    let region_of = |node| config.region_of(node).cloned();
    let own = api.region();
    let workers: Vec<(&Session, Millis)> = machine
        .live_sessions()
        .filter(|session| session.region == *own)
        .map(|session| (session, machine.now().log.since(session.renewed_at)))
        .collect();
    Some(RegionReport {
        wall,
        control: probes.ways(region_of, now),
        data: workers::best_ways(&workers),
        arrived_ago: workers::last_arrivals(&workers),
        feeds: workers::best_feeds(&workers),
        disk: workers::worst_disk(&workers),
        hears: probes.hears(region_of),
        offsets: probes.offsets(region_of),
        ..RegionReport::default()
    })
}

/// What makes a report worth sending before its time.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Shape {
    up: Vec<(RegionName, bool, bool)>,
    feeds: Vec<(String, bool)>,
    disk: DiskState,
    /// Something is down now.
    trouble: bool,
}

impl Shape {
    fn of(report: &RegionReport) -> Self {
        let is_up = |way: Option<&Path>| way.is_some_and(|way| way.down_for() == Millis::ZERO);
        let up: Vec<_> = report
            .control
            .iter()
            .map(|(region, reach)| {
                (region.clone(), is_up(Some(reach)), is_up(report.data.get(region)))
            })
            .collect();
        let down = report.control.values().chain(report.data.values()).any(|way| !is_up(Some(way)));
        Self {
            up,
            feeds: report.feeds.iter().map(|(venue, feed)| (venue.clone(), feed.live)).collect(),
            disk: report.disk,
            trouble: down,
        }
    }
}

/// Puts a report into the log and into the history, whether or not a quorum takes it.
async fn tell(api: &Api, report: RegionReport) -> OwnReport {
    let region = api.region().clone();
    let command = Command::Report(Report { region: region.clone(), report: report.clone() });
    let actor = Actor::Node(api.log().node());
    let proposed = api.propose(actor, None, command);
    let committed = match tokio::time::timeout(PROPOSE_WITHIN, proposed).await {
        Ok(Ok(committed)) => match committed.answer {
            Ok(_) => Some(committed.index),
            Err(refusal) => {
                tracing::warn!(%refusal, "this region's report was refused");
                None
            }
        },
        Ok(Err(_)) | Err(_) => None,
    };
    let at = report.wall;
    let own = OwnReport { region, report, committed };
    // The recorder says so when the disk does not take history.
    let _ = api.parts().history.append(&Line { at, what: What::Report(Box::new(own.clone())) });
    own
}
