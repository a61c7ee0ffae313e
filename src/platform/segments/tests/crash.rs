//! Crashes: at every change made to the disk, and with the last write torn at every byte.

use std::path::PathBuf;

use super::*;
use crate::disk::{Fault, Keep};

/// What somebody who used a log knows about it afterwards.
#[derive(Default)]
pub struct Knows {
    pub sent: u32,
    pub acked: u32,
    /// Everything from this one on is still asked for.
    kept_from: u32,
}

/// Founds a log, fills three segments, drops the first ones; ends early when the disk does.
pub fn story(disk: &SimDisk, settings: &Settings) -> Knows {
    story_beside(disk, settings, async {})
}

/// The same while something else happens.
pub fn story_beside(
    disk: &SimDisk,
    settings: &Settings,
    beside: impl Future<Output = ()> + Send + 'static,
) -> Knows {
    let mut knows = Knows::default();
    block(async {
        tokio::spawn(beside);
        let Ok((log, _)) = open(disk, settings) else { return };
        for len in [9, 300, 1100, 40, 700, 3, 1500, 600, 90, 2500, 5, 1000] {
            if len % 2 == 1 {
                log.append(1, |buf| buf.extend(body(knows.sent, len)), None);
                knows.sent += 1;
            }
            let id = knows.sent;
            knows.sent += 1;
            if log.append_durable(1, &body(id, len)).await.is_err() {
                return;
            }
            knows.acked = knows.sent;
            if len == 90 {
                let current = log.current_segment();
                let here = log.read(Position { segment: current, offset: 0 }, usize::MAX);
                knows.kept_from = here.map_or(0, |here| ids(&here).first().copied().unwrap_or(0));
                if log.remove_segments_below(current).is_err() {
                    return;
                }
            }
        }
        let _ = log.close().await;
    });
    knows
}

/// Every acknowledged record is there, none is twice or wrong, and the log goes on.
pub fn check(disk: &SimDisk, settings: &Settings, knows: &Knows, what: &str) {
    let before = match block(async { open(disk, settings).map(|(_, records)| ids(&records)) }) {
        Ok(ids) => ids,
        Err(error) => panic!("{what}: {error}"),
    };
    let from = before.first().copied().unwrap_or(0);
    let to = before.last().map_or(0, |last| last + 1);
    assert_eq!(before, Vec::from_iter(from..to), "{what}");
    assert!(from <= knows.kept_from, "{what}: lost {} to {from}", knows.kept_from);
    assert!((knows.acked..=knows.sent).contains(&to), "{what}: {to} of {} acked", knows.acked);

    let disk = disk.copy();
    block(async {
        let (log, _) = open(&disk.restarted(), settings).unwrap();
        log.append_durable(1, &body(to, 70)).await.unwrap();
        let now = ids(&log.read(Position::default(), usize::MAX).unwrap());
        assert_eq!(now, Vec::from_iter(from..=to), "{what}");
    });
    disk.crash(Keep::Nothing);
    let after = block(async { open(&disk.restarted(), settings).unwrap().1 });
    assert_eq!(ids(&after), Vec::from_iter(from..=to), "{what}, then lost what was synced");
}

/// Every ending of a story that stopped with these changes pending.
fn endings(disk: &SimDisk, torn_at_each: usize) -> Vec<Keep> {
    let mut keeps = vec![Keep::Nothing, Keep::Everything];
    let len = disk.last_pending_write();
    // Zeroed space looks the same wherever it is torn.
    let step = if len > 3000 { 509 } else { torn_at_each };
    keeps.extend((0..=len).step_by(step).map(|bytes| Keep::Torn { bytes }));
    if disk.pending() > 0 {
        keeps.extend((0..40).map(|seed| Keep::Sectors { seed }));
    }
    keeps
}

fn every_crash(settings: &Settings) -> usize {
    let whole = SimDisk::new();
    let knows = story(&whole, settings);
    assert_eq!(knows.acked, knows.sent);
    assert!(knows.kept_from > 0);
    let mut points = 0;
    for after in 0..=whole.changes() {
        let disk = SimDisk::new();
        disk.fail_after(after, Fault::Broken);
        let knows = story(&disk, settings);
        for keep in endings(&disk, 1) {
            let disk = disk.copy();
            disk.crash(keep);
            check(&disk.restarted(), settings, &knows, &format!("change {after}, {keep:?}"));
            points += 1;
        }
    }
    points
}

#[test]
fn nothing_acknowledged_is_lost_by_any_crash() {
    let points = every_crash(&settings(SyncMode::FdataSync, 4096));
    assert!(points > 10_000, "{points}");
}

#[test]
fn nothing_acknowledged_is_lost_by_any_crash_of_direct_writes() {
    let points = every_crash(&settings(SyncMode::Direct, 16 << 10));
    assert!(points > 2_000, "{points}");
}

#[test]
fn a_crash_inside_recovery_changes_nothing() {
    for sync in MODES {
        let settings = settings(sync, 16 << 10);
        let mut tried = 0;
        for seed in 0..8 {
            // Torn in the middle of a large batch that nobody was told about.
            let disk = SimDisk::new();
            let knows = block(async {
                let (log, _) = open(&disk, &settings).unwrap();
                log.append_durable(1, &body(0, 300)).await.unwrap();
                log.append(1, |buf| buf.extend(body(1, 2000)), Some(Box::new(drop)));
                while disk.pending() == 0 {
                    tokio::task::yield_now().await;
                }
                Knows { sent: 2, acked: 1, kept_from: 0 }
            });
            disk.crash(Keep::Sectors { seed });
            let whole = disk.copy();
            block(async { open(&whole.restarted(), &settings).map(drop) }).unwrap();
            for after in 0..=whole.changes() {
                let disk = disk.copy();
                disk.fail_after(after, Fault::Broken);
                let _ = block(async { open(&disk.restarted(), &settings).map(drop) });
                for keep in endings(&disk, 29) {
                    let disk = disk.copy();
                    disk.crash(keep);
                    let what = format!("seed {seed}, change {after}, {keep:?}");
                    check(&disk.restarted(), &settings, &knows, &what);
                    tried += 1;
                }
            }
        }
        assert!(tried > 400, "{tried}");
    }
}

#[test]
fn what_recovery_hands_out_survives_the_next_power_cut() {
    let disk = SimDisk::new();
    let settings = settings(SyncMode::FdataSync, 4096);
    block(async {
        let (log, _) = open(&disk, &settings).unwrap();
        log.append(1, |buf| buf.extend(body(0, 50)), Some(Box::new(drop)));
        while disk.pending() == 0 {
            tokio::task::yield_now().await;
        }
        // Killed between write and sync: the record is in the page cache only.
    });
    disk.kill();
    let disk = disk.restarted();
    let found = block(async { open(&disk, &settings).unwrap().1 });
    assert_eq!(ids(&found), [0]);
    disk.crash(Keep::Nothing);
    let found = block(async { open(&disk.restarted(), &settings).unwrap().1 });
    assert_eq!(ids(&found), [0]);
}

#[test]
fn what_a_failed_sync_left_in_the_cache_is_not_believed() {
    let disk = SimDisk::new();
    let settings = settings(SyncMode::FdataSync, 4096);
    block(async {
        let (log, _) = open(&disk, &settings).unwrap();
        disk.fail_after(1, Fault::BrokenSync);
        log.append_durable(1, &body(0, 50)).await.unwrap_err();
    });
    disk.heal();
    disk.kill();
    let disk = disk.restarted();
    let found = block(async { open(&disk, &settings).unwrap().1 });
    assert_eq!(ids(&found), [0], "it is there to be seen");
    disk.crash(Keep::Nothing);
    let found = block(async { open(&disk.restarted(), &settings).unwrap().1 });
    assert_eq!(ids(&found), [0], "and must stay");
}

#[test]
fn an_error_is_reported_once_and_stops_the_log() {
    for fault in [Fault::Full, Fault::Broken] {
        for after in 0..2 {
            if fault == Fault::Full && after == 0 {
                continue; // A write that finds no room waits.
            }
            let disk = SimDisk::new();
            let settings = settings(SyncMode::FdataSync, 4096);
            block(async {
                let (log, _) = open(&disk, &settings).unwrap();
                log.append_durable(1, &body(0, 20)).await.unwrap();
                log.flush().await.unwrap(); // The next segment is ready.
                disk.fail_after(after, fault);
                let error = log.append_durable(1, &body(1, 20)).await.unwrap_err();
                assert_eq!(error.kind(), fault.kind());
                disk.heal();
                let changes = disk.changes();
                let late = log.append_durable(1, &body(2, 20)).await.unwrap_err();
                assert_eq!(late.kind(), fault.kind());
                let failure = log.failed().await;
                assert_eq!(failure.action, ["write", "sync"][after as usize]);
                assert_eq!(failure.path, PathBuf::from("log").join(format::file_name(0)));
                assert!(log.close().await.is_err());
                assert_eq!(disk.changes(), changes, "nothing is written after an error");
            });
            disk.crash(Keep::Nothing);
            let found = block(async { open(&disk.restarted(), &settings).unwrap().1 });
            assert_eq!(ids(&found), [0]);
        }
    }
}

#[test]
fn a_writer_that_is_ended_fails_those_who_come_later() {
    let disk = SimDisk::new();
    let log = block(async { open(&disk, &settings(SyncMode::FdataSync, 4096)).unwrap().0 });
    let error = block(log.append_durable(1, b"nobody writes this")).unwrap_err();
    assert!(error.to_string().contains("log stopped"), "{error}");
}
