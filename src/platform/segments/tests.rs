//! What a log does while nothing goes wrong; `crash`, `damage` and `model` are for the rest.

mod crash;
mod damage;
mod model;
mod space;

use std::future::Future;
use std::path::Path;
use std::sync::Mutex;

use super::*;
use crate::disk::{RealDisk, SimDisk};
use crate::spawn::TokioSpawn;

/// What restated records are, in all of these tests.
const RESTATED: u8 = 200;
const DIR: &str = "log";

fn settings(sync: SyncMode, segment_bytes: u64) -> Settings {
    let restate: Restate = Arc::new(|batch| batch.push(RESTATED, b"state"));
    let at_segment_start = Some(restate);
    Settings { sync, segment_bytes, at_segment_start, ..Settings::new(Owner::new(7, 1)) }
}

fn task() -> Driver {
    Driver::Task { spawn: Arc::new(TokioSpawn), sync_delay: Arc::new(|| Duration::ZERO) }
}

/// Runs on a runtime that ends with it, and with that every writer.
fn block<T>(future: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_time().start_paused(true).build().unwrap().block_on(future)
}

fn open(disk: &SimDisk, settings: &Settings) -> Result<(Log, Vec<Record>), OpenError> {
    Log::open(Arc::new(disk.clone()), DIR, settings.clone(), task())
}

/// A body that says which one it is; every third one is mostly zeros.
fn body(id: u32, len: usize) -> Vec<u8> {
    let mut body = vec![if id.is_multiple_of(3) { 0 } else { id as u8 | 1 }; len.max(4)];
    body[..4].copy_from_slice(&id.to_le_bytes());
    body
}

fn ids(records: &[Record]) -> Vec<u32> {
    let own = records.iter().filter(|record| record.kind != RESTATED);
    own.map(|record| {
        let id = u32::from_le_bytes(*record.body.first_chunk().unwrap());
        assert_eq!(record.body, body(id, record.body.len()), "record {id} has other bytes");
        id
    })
    .collect()
}

const MODES: [SyncMode; 2] = [SyncMode::FdataSync, SyncMode::Direct];

async fn keeps_records(disk: Arc<dyn Disk>, driver: fn() -> Driver) {
    for (i, sync) in MODES.into_iter().enumerate() {
        let dir = format!("log-{i}");
        let settings = settings(sync, 16 << 10);
        let open = || Log::open(disk.clone(), &dir, settings.clone(), driver());
        let (log, records) = open().unwrap();
        assert_eq!(records, []);
        let mut places = Vec::new();
        for id in 0..60 {
            log.append(1, |buf| buf.extend(body(2 * id, 10)), None);
            places.push(log.append_durable(2, &body(2 * id + 1, id as usize * 17)).await.unwrap());
        }
        assert!(log.current_segment() >= 2);
        let read = log.read(Position::default(), usize::MAX).unwrap();
        assert_eq!(ids(&read), Vec::from_iter(0..120));
        assert!(read.iter().filter(|r| r.kind == 2).map(|r| r.at).eq(places));
        log.close().await.unwrap();
        assert!(log.append_durable(1, b"late").await.is_err());

        let (log, records) = open().unwrap();
        assert_eq!(records, read);
        log.append_durable(1, &body(120, 5)).await.unwrap();
        let newest = log.read(records.last().unwrap().next, usize::MAX).unwrap();
        assert_eq!(ids(&newest), [120]);
        let current = log.current_segment();
        assert_eq!(log.remove_segments_below(u64::MAX).unwrap(), current);
        let state = log.read(Position::default(), 1).unwrap();
        assert_eq!((state[0].kind, &state[0].body[..]), (RESTATED, &b"state"[..]));
        let error = log.read(read[2].at, 1).unwrap_err();
        assert!(matches!(error, ReadError::Removed { segment: 0, oldest } if oldest == current));
        log.close().await.unwrap();
        let (log, records) = open().unwrap();
        assert_eq!(records, log.read(Position::default(), usize::MAX).unwrap());
        assert_eq!(log.first_segment(), current);
        log.close().await.unwrap();
    }
}

#[tokio::test]
async fn records_come_back_from_the_simulated_disk() {
    keeps_records(Arc::new(SimDisk::new()), task).await;
}

#[tokio::test]
async fn records_come_back_from_a_real_disk() {
    let root = tempfile::tempdir().unwrap();
    keeps_records(Arc::new(RealDisk::new(root.path())), task).await;
}

#[tokio::test]
async fn records_come_back_from_a_real_disk_written_by_threads() {
    let root = tempfile::tempdir().unwrap();
    keeps_records(Arc::new(RealDisk::new(root.path())), || Driver::Thread).await;
}

#[tokio::test]
async fn a_log_goes_on_in_the_other_mode() {
    let mut disk = SimDisk::new();
    let mut sent = 0;
    for round in 0..40 {
        let settings = settings(MODES[round % 2], 12 << 10);
        let (log, records) = open(&disk, &settings).unwrap();
        assert_eq!(ids(&records), Vec::from_iter(0..sent));
        for len in [30, 900] {
            log.append_durable(1, &body(sent, len + 50 * round)).await.unwrap();
            sent += 1;
        }
        assert_eq!(ids(&log.read(Position::default(), usize::MAX).unwrap()).len() as u32, sent);
        if round % 3 == 0 {
            log.close().await.unwrap();
        }
        disk.crash(crate::disk::Keep::Nothing);
        disk = disk.restarted();
    }
}

#[tokio::test]
async fn many_appends_share_one_sync_and_are_answered_in_order() {
    let disk = SimDisk::new();
    let (log, _) = open(&disk, &settings(SyncMode::FdataSync, 1 << 20)).unwrap();
    log.flush().await.unwrap();
    tokio::task::yield_now().await; // The next segment is made.
    let before = disk.changes();
    let told: Arc<Mutex<Vec<u32>>> = Arc::default();
    for id in 0..100 {
        let told = told.clone();
        let done: Done = Box::new(move |result| {
            result.unwrap();
            told.lock().unwrap().push(id);
        });
        log.append(1, |buf| buf.extend(body(id, 20)), Some(done));
    }
    log.flush().await.unwrap();
    assert_eq!(*told.lock().unwrap(), Vec::from_iter(0..100));
    assert_eq!(disk.changes() - before, 2, "one write, one sync");
}

#[tokio::test]
async fn a_lazy_record_waits_for_somebody_elses_sync() {
    let disk = SimDisk::new();
    let (log, _) = open(&disk, &settings(SyncMode::FdataSync, 1 << 20)).unwrap();
    log.flush().await.unwrap();
    tokio::task::yield_now().await; // The next segment is made.
    let before = disk.changes();
    log.append(1, |buf| buf.extend(body(0, 9)), None);
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    assert_eq!(disk.changes(), before);
    assert_eq!(log.read(Position::default(), 1).unwrap(), []);
    log.append_durable(1, &body(1, 9)).await.unwrap();
    assert_eq!(ids(&log.read(Position::default(), 1000).unwrap()), [0, 1]);
    log.append(1, |buf| buf.extend(body(2, 9)), None);
    log.flush().await.unwrap();
    assert_eq!(ids(&log.read(Position::default(), 1000).unwrap()), [0, 1, 2]);
}

#[tokio::test]
async fn the_last_handle_leaves_nothing_behind() {
    let disk = SimDisk::new();
    let settings = settings(SyncMode::FdataSync, 1 << 20);
    let (log, _) = open(&disk, &settings).unwrap();
    log.append(1, |buf| buf.extend(body(0, 9)), None);
    let shared = log.shared().clone();
    drop(log);
    shared.closed().await.unwrap();
    assert_eq!(ids(&open(&disk, &settings).unwrap().1), [0]);
}

#[tokio::test]
async fn a_record_larger_than_a_segment_gets_a_larger_file() {
    let disk = SimDisk::new();
    for sync in MODES {
        let dir = format!("{sync:?}");
        let open =
            || Log::open(Arc::new(disk.clone()), &dir, settings(sync, 4096), task()).unwrap();
        let (log, _) = open();
        for id in 0..4 {
            let len = if id == 2 { 100_000 } else { 10 };
            log.append_durable(1, &body(id, len)).await.unwrap();
        }
        assert_eq!(ids(&log.read(Position::default(), usize::MAX).unwrap()), [0, 1, 2, 3]);
        log.close().await.unwrap();
        assert_eq!(ids(&open().1), [0, 1, 2, 3]);
    }
    let (log, _) = open(&disk, &settings(SyncMode::FdataSync, 4096)).unwrap();
    let error = log.append_durable(1, &vec![1; MAX_RECORD + 1]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    log.append_durable(1, b"goes on").await.unwrap();
}

#[tokio::test]
async fn two_processes_do_not_share_a_log() {
    let disk = SimDisk::new();
    let settings = settings(SyncMode::FdataSync, 4096);
    let (log, _) = open(&disk, &settings).unwrap();
    let error = open(&disk, &settings).err().unwrap();
    assert!(matches!(error, OpenError::InUse { path } if path == Path::new("log/LOCK")));
    log.close().await.unwrap();
    open(&disk, &settings).unwrap();
}
