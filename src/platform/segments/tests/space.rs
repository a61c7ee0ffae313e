//! A full disk: waited out wherever that is sound, said, and gone on from without help.

use super::crash::{check, story};
use super::*;
use crate::disk::{Fault, Keep};

/// Room for this many segments of 4 KiB.
fn room(segments: u64) -> Option<u64> {
    Some(segments * 4096)
}

#[test]
fn a_full_disk_is_said_while_the_reserve_lasts_then_waited_out() {
    let settings = settings(SyncMode::FdataSync, 4096);
    let disk = SimDisk::new();
    disk.set_capacity(room(2));
    block(async {
        let (log, _) = open(&disk, &settings).unwrap();
        log.append_durable(1, &body(0, 1000)).await.unwrap();
        assert_eq!(log.no_space(), None, "the next segment was made ahead");
        for id in 1..4 {
            log.append_durable(1, &body(id, 1000)).await.unwrap();
        }
        let mut space = log.space();
        let short = space.wait_for(Option::is_some).await.unwrap().clone().unwrap();
        assert_eq!((short.needed, short.free), (4096, Some(0)));
        assert_eq!(short.to_string(), "no space for the next 4096 bytes in log (0 are free)",);
        let mut sent = 4;
        let waiting = loop {
            let log = log.clone();
            let id = sent;
            let append = tokio::spawn(async move { log.append_durable(1, &body(id, 1000)).await });
            tokio::time::sleep(Duration::from_secs(60)).await;
            if !append.is_finished() {
                break append;
            }
            append.await.unwrap().unwrap();
            sent += 1;
        };
        assert!(sent >= 6, "what is left of the current segment is used: {sent}");
        disk.set_capacity(None);
        waiting.await.unwrap().unwrap();
        space.wait_for(Option::is_none).await.unwrap();
        log.append_durable(1, &body(sent + 1, 1000)).await.unwrap();
        let read = log.read(Position::default(), usize::MAX).unwrap();
        assert_eq!(ids(&read), Vec::from_iter(0..sent + 2));
    });
}

#[test]
fn a_log_that_waits_for_space_can_be_closed() {
    let settings = settings(SyncMode::FdataSync, 4096);
    let disk = SimDisk::new();
    disk.set_capacity(room(1));
    block(async {
        let (log, _) = open(&disk, &settings).unwrap();
        for id in 0..3 {
            log.append_durable(1, &body(id, 1000)).await.unwrap();
        }
        let append = {
            let log = log.clone();
            tokio::spawn(async move { log.append_durable(1, &body(3, 1000)).await })
        };
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(log.close().await.is_err());
        let error = append.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    });
    disk.crash(Keep::Nothing);
    let found = block(async { open(&disk.restarted(), &settings).unwrap().1 });
    assert_eq!(ids(&found), [0, 1, 2]);
}

/// Of every change that finds no room, only a sync of what was written is final.
#[test]
fn a_full_disk_at_each_change_loses_nothing_and_is_recovered_from_alone() {
    for sync in MODES {
        let settings = settings(sync, 16 << 10);
        let whole = SimDisk::new();
        story(&whole, &settings);
        let (mut waited, mut stopped) = (0, 0);
        for after in 0..=whole.changes() {
            let disk = SimDisk::new();
            disk.fail_after(after, Fault::Full);
            let healed = disk.clone();
            let knows = super::crash::story_beside(&disk, &settings, async move {
                tokio::time::sleep(Duration::from_secs(3)).await;
                healed.heal();
            });
            match knows.acked == knows.sent {
                true => waited += 1,
                false => stopped += 1,
            }
            let left = disk.copy();
            left.crash(Keep::Nothing);
            check(&left.restarted(), &settings, &knows, &format!("full at change {after}"));
            disk.crash(Keep::Everything);
            check(&disk.restarted(), &settings, &knows, &format!("full at change {after}"));
        }
        assert!(waited > stopped, "{waited} waited, {stopped} stopped");
    }
}

#[test]
fn a_log_cannot_be_founded_without_space_and_can_be_opened_without() {
    let settings = settings(SyncMode::FdataSync, 4096);
    let disk = SimDisk::new();
    disk.set_capacity(Some(1000));
    let error = block(async { open(&disk, &settings).err().unwrap() });
    assert!(matches!(error, OpenError::Full { action: "allocate", .. }), "{error}");
    disk.set_capacity(None);
    block(async {
        let (log, _) = open(&disk, &settings).unwrap();
        log.append_durable(1, &body(0, 100)).await.unwrap();
        log.close().await.unwrap();
    });
    disk.set_capacity(Some(0));
    block(async {
        let (log, found) = open(&disk, &settings).unwrap();
        assert_eq!(ids(&found), [0]);
        log.append_durable(1, &body(1, 100)).await.unwrap();
    });
}

/// Threads, on a disk whose room comes and goes.
#[tokio::test]
async fn a_thread_waits_too() {
    let settings = settings(SyncMode::Direct, 16 << 10);
    let disk = SimDisk::new();
    disk.set_capacity(Some(16 << 10));
    let (log, _) = Log::open(Arc::new(disk.clone()), DIR, settings, Driver::Thread).unwrap();
    let mut space = log.space();
    space.wait_for(Option::is_some).await.unwrap();
    let append = |id| {
        let log = log.clone();
        tokio::spawn(async move { log.append_durable(1, &body(id, 5000)).await })
    };
    let appends = [append(0), append(1), append(2)];
    disk.set_capacity(None);
    for append in appends {
        append.await.unwrap().unwrap();
    }
    space.wait_for(Option::is_none).await.unwrap();
    log.close().await.unwrap();
}
