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
//!     see what the cut-off side saw.

use crate::api::Api;
use crate::forward::{self, Forwarded, Reply};
use crate::history::{Line, OwnReport, What};
use cryptorun_core::command::{Command, Report};
use cryptorun_core::machine::Machine;
use cryptorun_core::people::Actor;
use cryptorun_core::region::RegionName;
use cryptorun_core::report::{DiskState, FeedState, Reach, RegionReport};
use cryptorun_core::session::Session;
use cryptorun_core::time::{Millis, WallTime};
use cryptorun_platform::clock::BootTime;
use cryptorun_platform::metrics::Metrics;
use futures_util::future::join_all;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// How often others are probed, and the shortest time between two reports.
const PROBE_EVERY: Duration = Duration::from_secs(1);
/// The longest time between two reports while nothing changes.
const REPORT_EVERY: Duration = Duration::from_secs(5);
/// A probe that takes longer has failed; the largest round trip that is meant to work is 300 ms.
const PROBE_WITHIN: Duration = Duration::from_millis(900);
/// One lost packet is no outage: so many probes in a row must fail.
const FAILED_BEFORE_DOWN: u32 = 2;
/// Putting a report into the log may take a while; the next one comes anyway.
const PROPOSE_WITHIN: Duration = Duration::from_secs(3);

/// What is remembered of another node between probes.
#[derive(Clone, Debug)]
struct Probed {
    /// When it last answered; when watching it began, before that.
    answered: BootTime,
    failed: u32,
    rtt: Option<Duration>,
    /// Its wall clock minus ours, in milliseconds, at the last answer.
    offset_ms: i64,
    leads: bool,
}

/// Probes and reports until the log stops.
pub async fn detect(api: Api) {
    let clock = api.parts().platform.clock.clone();
    let mut probed: BTreeMap<u64, Probed> = BTreeMap::new();
    let mut last: Option<(BootTime, Shape)> = None;
    let mut answers = Answers::default();
    let leadership = api.log().leadership();
    loop {
        let began = clock.boot();
        probe(&api, &mut probed).await;
        let errors_permille = answers.errors_permille(&api.parts().metrics, clock.boot());
        let (report, every) = api.look(|machine, _| {
            let now = (clock.boot(), clock.wall());
            let report = compose(&api, machine, &probed, now);
            (report.map(|report| RegionReport { errors_permille, ..report }), report_every(machine))
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
                last = Some((clock.boot(), shape));
                tell(&api, report).await;
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
struct Answers(VecDeque<(BootTime, u64, u64)>);

impl Answers {
    const SPAN: Duration = Duration::from_secs(60);

    fn errors_permille(&mut self, metrics: &Metrics, now: BootTime) -> u32 {
        let of = |class| metrics.api_answers_total.get([class]);
        let bad = of("5xx");
        let all = of("2xx") + of("3xx") + of("4xx") + bad;
        self.0.push_back((now, all, bad));
        while self.0.len() > 1 && self.0.front().is_some_and(|(at, ..)| now - *at > Self::SPAN) {
            self.0.pop_front();
        }
        let (_, all_then, bad_then) = self.0.front().copied().unwrap_or((now, all, bad));
        let (all, bad) = (all - all_then, bad - bad_then);
        u32::try_from(bad * 1000 / all.max(1)).unwrap_or(1000)
    }
}

fn report_every(machine: &Machine) -> Duration {
    let fresh = machine.cluster().map(|cluster| cluster.config.limits.report_fresh);
    fresh.map_or(REPORT_EVERY, |fresh| REPORT_EVERY.min(fresh.to_duration() / 2))
}

/// Asks every other node once.
async fn probe(api: &Api, probed: &mut BTreeMap<u64, Probed>) {
    let clock = &api.parts().platform.clock;
    let me = api.log().node();
    let others: Vec<u64> = api.look(|machine, _| {
        let configured = machine.cluster().into_iter().flat_map(|c| c.config.regions.values());
        configured.map(|region| region.node).filter(|node| *node != me).collect()
    });
    probed.retain(|node, _| others.contains(node));
    let asking = others.iter().map(|node| async move {
        let sent = (clock.boot(), clock.wall());
        let answer = forward::ask(api.log(), *node, &Forwarded::Ping, PROBE_WITHIN).await;
        (*node, sent, answer.ok(), (clock.boot(), clock.wall()))
    });
    for (node, sent, answer, heard) in join_all(asking).await {
        let entry = probed.entry(node).or_insert(Probed {
            answered: sent.0,
            failed: 0,
            rtt: None,
            offset_ms: 0,
            leads: false,
        });
        match answer {
            Some(Reply::Pong { wall, leads }) => {
                entry.answered = heard.0;
                entry.failed = 0;
                entry.rtt = Some(heard.0 - sent.0);
                entry.offset_ms = offset(wall, sent.1, heard.1);
                entry.leads = leads;
            }
            _ => entry.failed += 1,
        }
    }
}

/// The other clock minus ours, taken to have been read half way.
fn offset(theirs: WallTime, sent: WallTime, heard: WallTime) -> i64 {
    let half_way = i128::from(sent.0) + (i128::from(heard.0) - i128::from(sent.0)) / 2;
    i64::try_from(i128::from(theirs.0) - half_way).unwrap_or(0)
}

/// None before the cluster is founded.
fn compose(
    api: &Api,
    machine: &Machine,
    probed: &BTreeMap<u64, Probed>,
    (now, wall): (BootTime, WallTime),
) -> Option<RegionReport> {
    let config = &machine.cluster()?.config;
    let own = api.region();
    let mut control = BTreeMap::new();
    let mut clock_offset_ms = 0;
    for (node, seen) in probed {
        let Some(region) = config.region_of(*node) else { continue };
        control.insert(region.clone(), reach(seen, now));
        if seen.leads {
            // Ours against the leader's; positive is ahead.
            clock_offset_ms = -seen.offset_ms;
        }
    }
    let workers: Vec<(&Session, Millis)> = machine
        .live_sessions()
        .filter(|session| session.region == *own)
        .map(|session| (session, machine.now().log.since(session.renewed_at)))
        .collect();
    Some(RegionReport {
        wall,
        control,
        data: best_reach(&workers),
        arrived_ago: last_arrivals(&workers),
        feeds: best_feeds(&workers),
        errors_permille: 0,
        disk: worst_disk(&workers),
        clock_offset_ms,
    })
}

fn reach(seen: &Probed, now: BootTime) -> Reach {
    match seen.rtt {
        Some(rtt) if seen.failed < FAILED_BEFORE_DOWN => {
            Reach::Up { rtt_us: u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX) }
        }
        _ => Reach::Down { for_ms: millis(now - seen.answered) },
    }
}

/// A region is reached when any worker reaches it; who did not reach it has not since.
fn best_reach(workers: &[(&Session, Millis)]) -> BTreeMap<RegionName, Reach> {
    let mut best: BTreeMap<RegionName, Reach> = BTreeMap::new();
    for (session, age) in workers {
        for (region, reach) in &session.report.reach {
            let reach = match reach {
                Reach::Up { rtt_us } => Reach::Up { rtt_us: *rtt_us },
                Reach::Down { for_ms } => {
                    Reach::Down { for_ms: Millis(for_ms.0.saturating_add(age.0)) }
                }
            };
            let better = match (best.get(region), &reach) {
                (None, _) => true,
                (Some(Reach::Down { for_ms }), Reach::Down { for_ms: shorter }) => shorter < for_ms,
                (Some(Reach::Down { .. }), Reach::Up { .. }) => true,
                (Some(Reach::Up { rtt_us }), Reach::Up { rtt_us: less }) => less < rtt_us,
                (Some(Reach::Up { .. }), Reach::Down { .. }) => false,
            };
            if better {
                best.insert(region.clone(), reach);
            }
        }
    }
    best
}

/// How long ago data of a region came to any worker, counted on since that worker's report.
fn last_arrivals(workers: &[(&Session, Millis)]) -> BTreeMap<RegionName, Millis> {
    let mut last: BTreeMap<RegionName, Millis> = BTreeMap::new();
    for (session, age) in workers {
        for (region, ago) in &session.report.arrived_ago {
            let ago = Millis(ago.0.saturating_add(age.0));
            let known = last.entry(region.clone()).or_insert(ago);
            *known = (*known).min(ago);
        }
    }
    last
}

fn best_feeds(workers: &[(&Session, Millis)]) -> BTreeMap<String, FeedState> {
    let mut best: BTreeMap<String, FeedState> = BTreeMap::new();
    for (session, _) in workers {
        for (venue, feed) in &session.report.feeds {
            let known = best.entry(venue.clone()).or_insert(*feed);
            if (feed.live, feed.frames) > (known.live, known.frames) {
                *known = *feed;
            }
        }
    }
    best
}

fn worst_disk(workers: &[(&Session, Millis)]) -> DiskState {
    let rank = |disk: DiskState| match disk {
        DiskState::Ok => 0,
        DiskState::Slow => 1,
        DiskState::Full => 2,
        DiskState::Failed => 3,
    };
    let disks = workers.iter().map(|(session, _)| session.report.disk);
    disks.max_by_key(|disk| rank(*disk)).unwrap_or_default()
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
        let is_up = |reach: Option<&Reach>| matches!(reach, Some(Reach::Up { .. }));
        let up: Vec<_> = report
            .control
            .iter()
            .map(|(region, reach)| {
                (region.clone(), is_up(Some(reach)), is_up(report.data.get(region)))
            })
            .collect();
        let down = report.control.values().chain(report.data.values()).any(|r| !is_up(Some(r)));
        Self {
            up,
            feeds: report.feeds.iter().map(|(venue, feed)| (venue.clone(), feed.live)).collect(),
            disk: report.disk,
            trouble: down,
        }
    }
}

/// Puts a report into the log and into the history, whether or not a quorum takes it.
async fn tell(api: &Api, report: RegionReport) {
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
    let _ = api.parts().history.append(&Line { at, what: What::Report(Box::new(own)) });
}

fn millis(span: Duration) -> Millis {
    Millis(u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use cryptorun_core::report::WorkerReport;
    use cryptorun_core::session::{SessionKey, WorkerAddresses};
    use cryptorun_core::time::LogTime;

    fn session(reach: Reach) -> Session {
        let mut session = Session {
            key: SessionKey { worker: "w".into(), boot: 1 },
            region: RegionName("a".into()),
            addresses: WorkerAddresses::default(),
            opened_at: LogTime(0),
            renew_seq: 0,
            renewed_at: LogTime(0),
            barred: false,
            report: WorkerReport::default(),
            stalled: BTreeMap::new(),
        };
        session.report.reach.insert(RegionName("b".into()), reach);
        session
    }

    #[test]
    fn what_a_worker_did_not_reach_it_has_not_reached_since() {
        let down = session(Reach::Down { for_ms: Millis(58_000) });
        let seen = |workers: &[(&Session, Millis)]| {
            best_reach(workers).get(&RegionName("b".into())).copied()
        };
        let late = Reach::Down { for_ms: Millis(60_500) };
        assert_eq!(seen(&[(&down, Millis(2_500))]), Some(late));
        let up = session(Reach::Up { rtt_us: 70_000 });
        assert_eq!(
            seen(&[(&down, Millis(2_500)), (&up, Millis(900))]),
            up.report.reach.values().next().copied()
        );
    }
}
