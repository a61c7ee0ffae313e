//! What this region's workers say of the others, of venues and of themselves, taken together.

use cryptorun_core::path::{Path, Reach};
use cryptorun_core::region::RegionName;
use cryptorun_core::report::{DiskState, FeedState};
use cryptorun_core::session::Session;
use cryptorun_core::time::Millis;
use std::collections::BTreeMap;

/// A region is reached when any worker reaches it; who did not reach it has not since.
pub(super) fn best_ways(workers: &[(&Session, Millis)]) -> BTreeMap<RegionName, Path> {
    let mut best: BTreeMap<RegionName, Path> = BTreeMap::new();
    for (session, age) in workers {
        for (region, way) in &session.report.reach {
            let mut way = *way;
            if let Reach::Down { for_ms } = &mut way.reach {
                *for_ms = Millis(for_ms.0.saturating_add(age.0));
            }
            way.heard_ago = way.heard_ago.map(|ago| Millis(ago.0.saturating_add(age.0)));
            best.entry(region.clone()).and_modify(|known| *known = known.or(way)).or_insert(way);
        }
    }
    best
}

/// How long ago data of a region came to any worker, counted on since that worker's report.
pub(super) fn last_arrivals(workers: &[(&Session, Millis)]) -> BTreeMap<RegionName, Millis> {
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

pub(super) fn best_feeds(workers: &[(&Session, Millis)]) -> BTreeMap<String, FeedState> {
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

pub(super) fn worst_disk(workers: &[(&Session, Millis)]) -> DiskState {
    let rank = |disk: DiskState| match disk {
        DiskState::Ok => 0,
        DiskState::Slow => 1,
        DiskState::Full => 2,
        DiskState::Failed => 3,
    };
    let disks = workers.iter().map(|(session, _)| session.report.disk);
    disks.max_by_key(|disk| rank(*disk)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use cryptorun_core::report::WorkerReport;
    use cryptorun_core::session::{SessionKey, WorkerAddresses};
    use cryptorun_core::time::LogTime;

    fn session(way: Path) -> Session {
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
        session.report.reach.insert(RegionName("b".into()), way);
        session
    }

    #[test]
    fn what_a_worker_did_not_reach_it_has_not_reached_since() {
        let down = session(Path::down(Millis(58_000)));
        let seen = |workers: &[(&Session, Millis)]| {
            best_ways(workers).get(&RegionName("b".into())).copied()
        };
        let late = Path::down(Millis(60_500));
        assert_eq!(seen(&[(&down, Millis(2_500))]), Some(late));
        let up = session(Path::up(70_000));
        // It fell silent for one of them: the way is there, and not steady.
        let both = Path { changes: 1, ..Path::up(70_000) };
        assert_eq!(seen(&[(&down, Millis(2_500)), (&up, Millis(900))]), Some(both));
    }
}
