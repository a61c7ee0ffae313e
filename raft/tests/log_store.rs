//! The log against openraft's own suite, and against crashes.

use super::*;
use crate::audit_log::AuditLog;
use crate::disk_id::Disks;
use crate::snapshot::Snapshots;
use crate::state_machine::{Blocking, Parts, StateMachine};
use crate::state_store::MemoryStore;
use crate::types::{EntryPayload, LeaderId};
use cryptorun_core::time::WallTime;
use cryptorun_platform::clock::ManualClock;
use cryptorun_platform::disk::{Keep, SimDisk};
use cryptorun_platform::random::SeededRandom;
use cryptorun_platform::spawn::TokioSpawn;
use openraft::StorageError;
use openraft::storage::RaftLogStorageExt;
use openraft::testing::log::{StoreBuilder, Suite};
use std::time::Duration;

fn driver() -> Driver {
    Driver::Task { spawn: Arc::new(TokioSpawn), sync_delay: Arc::new(|| Duration::from_millis(1)) }
}

pub(crate) fn open(disk: &SimDisk) -> Result<LogStore, StartError> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    LogStore::open(
        disk,
        Path::new("log"),
        Owner::new(1, 1),
        Some(64 << 10),
        driver(),
        Arc::new(NoGate),
        drawn(),
    )
}

fn drawn() -> DiskId {
    DiskId::draw(&SeededRandom::new(7))
}

struct Builder;

impl StoreBuilder<TypeConfig, LogStore, StateMachine> for Builder {
    async fn build(&self) -> Result<((), LogStore, StateMachine), StorageError<TypeConfig>> {
        let sim = SimDisk::new();
        let disk: Arc<dyn Disk> = Arc::new(sim.clone());
        let owner = Owner::new(1, 1);
        let audit =
            AuditLog::open(disk.clone(), Path::new("audit"), owner, Some(64 << 10), driver());
        let machine = StateMachine::open(Parts {
            id: 1,
            clock: Arc::new(ManualClock::new(WallTime(0))),
            store: Arc::new(MemoryStore::default()),
            snapshots: Snapshots::open(disk, Path::new("snapshots")).expect("opens"),
            audit: audit.expect("opens"),
            blocking: Blocking::Inline,
            disks: Arc::new(Disks::new(drawn())),
            probe: None,
        });
        Ok(((), open(&sim).expect("opens"), machine.expect("opens")))
    }
}

#[tokio::test(start_paused = true)]
async fn openraft_s_own_suite_passes() {
    if let Err(error) = Suite::test_all(Builder).await {
        panic!("{error}");
    }
}

fn id(term: u64, index: u64) -> LogId {
    LogId::new(LeaderId { term, node_id: 1 }, index)
}

fn blank(term: u64, index: u64) -> LogEntry {
    LogEntry { log_id: id(term, index), payload: EntryPayload::Blank }
}

async fn fill(log: &mut LogStore, term: u64, range: std::ops::Range<u64>) {
    let entries: Vec<LogEntry> = range.map(|index| blank(term, index)).collect();
    log.blocking_append(entries).await.expect("appends");
}

async fn held(log: &mut LogStore) -> Vec<LogId> {
    let entries = log.try_get_log_entries(..).await.expect("reads");
    entries.into_iter().map(|entry| entry.log_id).collect()
}

#[tokio::test(start_paused = true)]
async fn what_was_acknowledged_is_there_after_a_power_cut() {
    let disk = SimDisk::new();
    let mut log = open(&disk).expect("opens");
    log.save_vote(&Vote::new(3, 2)).await.expect("saves");
    fill(&mut log, 3, 0..6).await;
    log.truncate_after(Some(id(3, 3))).await.expect("truncates");
    fill(&mut log, 4, 4..8).await;
    log.save_vote(&Vote::new_committed(4, 2)).await.expect("saves");
    log.purge(id(3, 1)).await.expect("purges");
    disk.crash(Keep::Nothing);

    let mut log = open(&disk.restarted()).expect("opens");
    assert_eq!(log.read_vote().await.expect("reads"), Some(Vote::new_committed(4, 2)));
    assert_eq!(log.ends(), (Some(id(4, 7)), Some(id(3, 1))));
    let kept = [id(3, 2), id(3, 3), id(4, 4), id(4, 5), id(4, 6), id(4, 7)];
    assert_eq!(held(&mut log).await, kept);
}

#[tokio::test(start_paused = true)]
async fn a_disk_keeps_its_id_as_long_as_its_log_and_a_wiped_one_has_another() {
    let on = |disk: &SimDisk, seed| {
        let disk: Arc<dyn Disk> = Arc::new(disk.clone());
        let (gate, size) = (Arc::new(NoGate), Some(64 << 10));
        let (dir, owner) = (Path::new("log"), Owner::new(1, 1));
        let drawn = DiskId::draw(&SeededRandom::new(seed));
        LogStore::open(disk, dir, owner, size, driver(), gate, drawn).expect("opens")
    };
    let disk = SimDisk::new();
    let mut log = on(&disk, 1);
    let first = log.disk();
    for start in (0..20_000).step_by(500) {
        fill(&mut log, 9, start..start + 500).await;
        if start >= 1000 {
            log.purge(id(9, start - 600)).await.expect("purges");
        }
    }
    assert!(log.segments().first_segment() > 1, "nothing was removed");
    disk.crash(Keep::Nothing);
    assert_eq!(on(&disk.restarted(), 2).disk(), first);
    assert_ne!(on(&SimDisk::new(), 2).disk(), first);
}

#[tokio::test(start_paused = true)]
async fn old_segments_go_and_the_small_state_stays() {
    let disk = SimDisk::new();
    let mut log = open(&disk).expect("opens");
    log.save_vote(&Vote::new_committed(9, 1)).await.expect("saves");
    for start in (0..20_000).step_by(500) {
        fill(&mut log, 9, start..start + 500).await;
        if start >= 1000 {
            log.save_committed(Some(id(9, start))).await.expect("saves");
            log.purge(id(9, start - 600)).await.expect("purges");
        }
    }
    assert!(log.segments().first_segment() > 1, "nothing was removed");
    disk.crash(Keep::Nothing);

    let mut log = open(&disk.restarted()).expect("opens");
    assert_eq!(log.read_vote().await.expect("reads"), Some(Vote::new_committed(9, 1)));
    assert_eq!(log.ends(), (Some(id(9, 19_999)), Some(id(9, 18_900))));
    assert_eq!(held(&mut log).await.len(), 1099);
}

#[tokio::test(start_paused = true)]
async fn a_commit_mark_ahead_of_the_entries_is_cut_back() {
    let disk = SimDisk::new();
    let mut log = open(&disk).expect("opens");
    fill(&mut log, 1, 0..3).await;
    log.save_committed(Some(id(1, 9))).await.expect("saves");
    log.segments().flush().await.expect("flushes");
    disk.crash(Keep::Nothing);
    let mut log = open(&disk.restarted()).expect("opens");
    assert_eq!(log.read_committed().await.expect("reads"), Some(id(1, 2)));
}

#[tokio::test(start_paused = true)]
async fn another_nodes_disk_is_refused() {
    let disk = SimDisk::new();
    let log = open(&disk).expect("opens");
    log.segments().close().await.expect("closes");
    disk.crash(Keep::Nothing);
    let disk: Arc<dyn Disk> = Arc::new(disk.restarted());
    let other = Owner::new(1, 2);
    let (gate, size) = (Arc::new(NoGate), Some(64 << 10));
    let opened = LogStore::open(disk, Path::new("log"), other, size, driver(), gate, drawn());
    assert!(matches!(opened.err(), Some(StartError::Log(_))));
}
