use std::sync::atomic::{AtomicU64, Ordering};

use cryptorun_core::time::WallTime;
use cryptorun_platform::clock::ManualClock;
use cryptorun_platform::disk::{Fault, Keep, SimDisk};
use cryptorun_platform::spawn::TokioSpawn;
use proptest::prelude::*;

use super::*;
use crate::ingest::feed::BookGap;
use crate::ingest::model::IdRange;
use crate::ingest::tests::{source, symbol, trade};

const ALL: usize = 1 << 30;

fn settings() -> QueueSettings {
    // Some thirty trades a segment.
    QueueSettings { segment_bytes: 4096, ..QueueSettings::new("queue", Owner::new(1, 2)) }
}

fn open(disk: &SimDisk, settings: QueueSettings) -> Result<Queue, QueueError> {
    let driver: MakeDriver = Arc::new(|| Driver::Task {
        spawn: Arc::new(TokioSpawn),
        sync_delay: Arc::new(|| Duration::from_millis(1)),
    });
    let clock = Arc::new(ManualClock::new(WallTime(0)));
    Queue::open(clock, Arc::new(disk.clone()), settings, driver)
}

fn trades(ids: impl IntoIterator<Item = u64>) -> Vec<FeedEvent> {
    ids.into_iter().map(|id| FeedEvent::Trade(trade(id))).collect()
}

fn ids(queued: &[Queued]) -> Vec<u64> {
    let id = |queued: &Queued| match &queued.event {
        FeedEvent::Trade(trade) => Some(trade.id),
        _ => None,
    };
    queued.iter().filter_map(id).collect()
}

#[tokio::test(start_paused = true)]
async fn what_was_appended_is_read_in_order_until_it_is_acknowledged() {
    let disk = SimDisk::new();
    let queue = open(&disk, settings()).expect("a new queue");
    let mut consumer = queue.consumer("warm/global").expect("a name");
    queue.append(&trades(0..10)).await.expect("stored");
    let queued = consumer.next(ALL).await.expect("events");
    assert_eq!(ids(&queued), (0..10).collect::<Vec<_>>());
    assert_eq!(consumer.poll(ALL).expect("a read"), []);
    consumer.acknowledge(queued[3].next);
    consumer.rewind();
    assert_eq!(ids(&consumer.poll(ALL).expect("a read")), [4, 5, 6, 7, 8, 9]);
}

#[tokio::test(start_paused = true)]
async fn a_waiting_consumer_wakes_when_something_comes() {
    let disk = SimDisk::new();
    let queue = open(&disk, settings()).expect("a new queue");
    let mut consumer = queue.consumer("warm/global").expect("a name");
    let waiting = tokio::spawn(async move { consumer.next(ALL).await });
    tokio::task::yield_now().await;
    queue.append(&trades([7])).await.expect("stored");
    assert_eq!(ids(&waiting.await.expect("a task").expect("events")), [7]);
}

#[tokio::test(start_paused = true)]
async fn a_power_loss_keeps_what_append_answered_for() {
    let disk = SimDisk::new();
    let queue = open(&disk, settings()).expect("a new queue");
    let mut consumer = queue.consumer("warm/global").expect("a name");
    queue.append(&trades(0..200)).await.expect("stored");
    let queued = consumer.poll(ALL).expect("a read");
    consumer.acknowledge(queued[49].next);
    queue.append(&trades(200..210)).await.expect("stored, and the acknowledgement with it");
    disk.crash(Keep::Nothing);

    let queue = open(&disk.restarted(), settings()).expect("it recovers");
    let mut consumer = queue.consumer("warm/global").expect("a name");
    assert_eq!(ids(&consumer.poll(ALL).expect("a read")), (50..210).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_crash_between_deleting_and_the_acknowledgements_sync_leaves_a_queue_that_reads() {
    let disk = SimDisk::new();
    let queue = open(&disk, settings()).expect("a new queue");
    let mut consumer = queue.consumer("warm/global").expect("a name");
    queue.append(&trades(0..200)).await.expect("stored");
    let queued = consumer.poll(ALL).expect("a read");
    consumer.acknowledge(queued[179].next);
    assert!(queue.inner.log().first_segment() > 0, "nothing was deleted");
    disk.crash(Keep::Nothing);

    let queue = open(&disk.restarted(), settings()).expect("it recovers");
    let mut consumer = queue.consumer("warm/global").expect("a name");
    let left = ids(&consumer.poll(ALL).expect("a read"));
    assert!(left[0] <= 180, "{left:?}");
    assert_eq!(left, (left[0]..200).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn acknowledged_segments_go_once_every_consumer_is_past_them() {
    let disk = SimDisk::new();
    let queue = open(&disk, settings()).expect("a new queue");
    let mut fast = queue.consumer("warm/global").expect("a name");
    let mut slow = queue.consumer("warm/eu").expect("a name");
    for first in (0..1_000).step_by(20) {
        queue.append(&trades(first..first + 20)).await.expect("stored");
    }
    let before = queue.status().waiting_bytes;

    let queued = fast.poll(ALL).expect("a read");
    fast.acknowledge(queued[999].next);
    assert_eq!(queue.inner.log().first_segment(), 0, "the other still needs them");
    let queued = slow.poll(ALL).expect("a read");
    slow.acknowledge(queued[499].next);
    assert!(queue.inner.log().first_segment() > 5);
    let halfway = queue.status().waiting_bytes;
    assert!(halfway < before * 6 / 10, "{halfway} of {before} bytes still wait");
    queue.dismiss("warm/eu");
    assert!(queue.status().waiting_bytes < 4096);

    // What a feed needs to go on outlives the segments it was read from.
    queue.append(&trades(1_000..1_001)).await.expect("stored");
    disk.crash(Keep::Nothing);
    let queue = open(&disk.restarted(), settings()).expect("it recovers");
    let resume = &queue.resume(VenueId::Kraken)[&symbol("BTC/USD")];
    assert_eq!(resume.last, Seen { id: 1_000, at_us: 1_000_000_000 });
}

#[tokio::test(start_paused = true)]
async fn an_open_gap_survives_and_a_closed_one_does_not_come_back() {
    let disk = SimDisk::new();
    let queue = open(&disk, settings()).expect("a new queue");
    let gap = |first, last| Gap::Trades(IdRange { first, last });
    let opened = |gap| FeedEvent::GapOpened { source: source(), gap };
    let closed = |gap| FeedEvent::GapClosed { source: source(), gap };
    queue.append(&trades([1])).await.expect("stored");
    queue.append(&[opened(gap(2, 4)), opened(Gap::Book(BookGap::Crossed))]).await.expect("stored");
    queue.append(&trades([5])).await.expect("stored");
    queue.append(&[opened(gap(6, 6))]).await.expect("stored");
    queue.append(&trades([7, 3, 6])).await.expect("stored");
    queue.append(&[closed(gap(6, 6))]).await.expect("stored");
    disk.crash(Keep::Nothing);

    let queue = open(&disk.restarted(), settings()).expect("it recovers");
    let resume = queue.resume(VenueId::Kraken)[&symbol("BTC/USD")].clone();
    let missing = Missing { ids: IdRange { first: 2, last: 4 }, since_us: 1_000_000 };
    let last = Seen { id: 7, at_us: 7_000_000 };
    assert_eq!(resume, Resume { last, missing: vec![missing] });
}

#[tokio::test(start_paused = true)]
async fn at_the_bound_append_waits_and_nothing_is_shed() {
    let disk = SimDisk::new();
    let bounded = QueueSettings { bytes_max: 40_000, ..settings() };
    let queue = open(&disk, bounded).expect("a new queue");
    let mut consumer = queue.consumer("warm/global").expect("a name");
    let appended = Arc::new(AtomicU64::new(0));
    let feeding = {
        let (queue, appended) = (queue.clone(), appended.clone());
        tokio::spawn(async move {
            for id in 0..1_000 {
                queue.append(&trades([id])).await.expect("stored");
                appended.store(id + 1, Ordering::Relaxed);
            }
        })
    };
    let mut levels = vec![queue.status().level];
    let full = async {
        while levels.last() != Some(&Level::Full) {
            tokio::time::sleep(Duration::from_millis(1)).await; // On the paused clock.
            if levels.last() != Some(&queue.status().level) {
                levels.push(queue.status().level);
            }
        }
    };
    full.await;
    assert_eq!(levels, [Level::Ok, Level::Above70, Level::Above90, Level::Full]);
    let stuck_at = appended.load(Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(appended.load(Ordering::Relaxed), stuck_at, "it waits");
    assert!(stuck_at < 1_000);

    let mut read = Vec::new();
    while read.len() < 1_000 {
        let queued = consumer.next(ALL).await.expect("events");
        read.extend(ids(&queued));
        consumer.acknowledge(queued[queued.len() - 1].next);
    }
    assert_eq!(read, (0..1_000).collect::<Vec<_>>());
    feeding.await.expect("it went on by itself");
    assert_eq!(queue.status().level, Level::Ok);
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_is_said_and_waited_out() {
    let disk = SimDisk::new();
    let queue = open(&disk, settings()).expect("a new queue");
    let mut consumer = queue.consumer("warm/global").expect("a name");
    queue.append(&trades(0..20)).await.expect("stored");
    disk.set_capacity(Some(0));
    let feeding = {
        let queue = queue.clone();
        tokio::spawn(async move { queue.append(&trades(20..400)).await })
    };
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(queue.status().disk, DiskState::Full);
    assert!(!feeding.is_finished());
    assert!(queue.prove().await.is_err());
    let kept = ids(&consumer.poll(ALL).expect("what it has can be read"));
    assert_eq!(kept[..20], (0..20).collect::<Vec<_>>());

    disk.set_capacity(None);
    feeding.await.expect("a task").expect("it recovered alone");
    assert_eq!(queue.status().disk, DiskState::Ok);
    queue.prove().await.expect("it takes writes");
    consumer.rewind();
    let mut all = Vec::new();
    loop {
        let queued = consumer.poll(ALL).expect("a read");
        if queued.is_empty() {
            break;
        }
        all.extend(ids(&queued));
    }
    all.sort_unstable();
    all.dedup(); // What was under way may be there twice.
    assert_eq!(all, (0..400).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn any_other_error_of_the_disk_is_final() {
    let disk = SimDisk::new();
    let queue = open(&disk, settings()).expect("a new queue");
    disk.fail_after(0, Fault::Broken);
    assert!(matches!(queue.append(&trades([1])).await, Err(QueueError::Failed(_))));
    assert_eq!(queue.status().disk, DiskState::Failed);
}

#[tokio::test(start_paused = true)]
async fn proofs_count_and_are_not_read() {
    let disk = SimDisk::new();
    let queue = open(&disk, settings()).expect("a new queue");
    let mut consumer = queue.consumer("warm/global").expect("a name");
    for _ in 0..5 {
        queue.prove().await.expect("stored");
    }
    assert_eq!(queue.status().syncs, 5);
    assert_eq!(consumer.poll(ALL).expect("a read"), []);
    assert!(matches!(queue.consumer(""), Err(QueueError::Name)));
}

#[tokio::test(start_paused = true)]
async fn a_feed_is_filled_in_until_it_ends() {
    let disk = SimDisk::new();
    let queue = open(&disk, settings()).expect("a new queue");
    let (sender, mut events) = mpsc::channel(4);
    let filling = {
        let queue = queue.clone();
        tokio::spawn(async move { fill(&queue, &mut events).await })
    };
    for event in trades(0..50) {
        sender.send(event).await.expect("it is taken");
    }
    drop(sender);
    filling.await.expect("a task").expect("stored");
    let mut consumer = queue.consumer("warm/global").expect("a name");
    assert_eq!(ids(&consumer.poll(ALL).expect("a read")), (0..50).collect::<Vec<_>>());
}

/// Set for the child of the test below: the folder to fill until it is killed.
const CHILD: &str = "CRYPTORUN_TEST_QUEUE_CHILD";

fn open_for_real(dir: &std::path::Path) -> Queue {
    let disk = Arc::new(cryptorun_platform::disk::RealDisk::new(dir));
    let clock = Arc::new(cryptorun_platform::clock::SystemClock);
    let driver: MakeDriver = Arc::new(|| Driver::Thread);
    Queue::open(clock, disk, settings(), driver).expect("a queue")
}

#[test]
fn a_child_that_appends_until_it_is_killed() {
    let Some(dir) = std::env::var_os(CHILD) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let queue = open_for_real(dir.as_ref());
        for first in (0..).step_by(20) {
            queue.append(&trades(first..first + 20)).await.expect("stored");
            println!("stored {}", first + 20);
        }
    });
}

/// A real process on a real disk, killed in the middle of its work.
#[test]
fn a_killed_process_loses_nothing_it_was_told_is_stored() {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    let dir = tempfile::tempdir().expect("a folder");
    let this = std::env::current_exe().expect("this program");
    let mut child = Command::new(this)
        .args(["--exact", "queue::tests::a_child_that_appends_until_it_is_killed", "--nocapture"])
        .env(CHILD, dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a child");
    let lines = BufReader::new(child.stdout.take().expect("its output")).lines();
    let mut stored = 0;
    for line in lines.map(|line| line.expect("text")) {
        let count = line.rsplit_once("stored ").and_then(|(_, count)| count.parse::<u64>().ok());
        stored = count.unwrap_or(stored);
        if stored >= 500 {
            break;
        }
    }
    child.kill().expect("SIGKILL");
    child.wait().expect("its end");
    assert!(stored >= 500, "the child stopped early");

    let mut consumer = open_for_real(dir.path()).consumer("warm/global").expect("a name");
    let mut found = Vec::new();
    loop {
        let queued = consumer.poll(ALL).expect("a read");
        if queued.is_empty() {
            break;
        }
        found.extend(ids(&queued));
    }
    assert!(found.len() as u64 >= stored, "{} of {stored} are there", found.len());
    assert_eq!(found, (0..found.len() as u64).collect::<Vec<_>>());
}

/// Bytes that released versions wrote have to be read for ever.
#[test]
fn records_are_these_bytes() {
    let shown = |event: &FeedEvent| {
        let mut body = Vec::new();
        codec::write_event(event, &mut body);
        let hex: String = body.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{:02x} {hex}", codec::kind_of(event))
    };
    let ids = IdRange { first: 2, last: 3 };
    let source = source();
    assert_eq!(
        [
            shown(&FeedEvent::Trade(trade(1))),
            shown(&FeedEvent::Watermark { source: source.clone(), at_us: 258 }),
            shown(&FeedEvent::GapOpened { source: source.clone(), gap: Gap::Trades(ids) }),
            shown(&FeedEvent::GapClosed {
                source: source.clone(),
                gap: Gap::Book(BookGap::Crossed)
            }),
            shown(&FeedEvent::GapLost { source, ids }),
        ],
        [
            "01 01074254432f555344010000000000000040420f000000000065420f00000000000e00000000000000010800",
            "02 01074254432f5553440201000000000000",
            "03 01074254432f5553440002000000000000000300000000000000",
            "04 01074254432f55534403",
            "05 01074254432f55534402000000000000000300000000000000",
        ]
    );
}

fn event() -> impl Strategy<Value = FeedEvent> {
    let ids = || (0u64..9, 0u64..9).prop_map(|(first, more)| IdRange { first, last: first + more });
    let gap = || {
        prop_oneof![
            ids().prop_map(Gap::Trades),
            Just(Gap::Book(BookGap::Checksum)),
            Just(Gap::Book(BookGap::Unreadable)),
            Just(Gap::Book(BookGap::Crossed)),
            Just(Gap::Book(BookGap::NoSnapshot)),
        ]
    };
    prop_oneof![
        any::<u64>().prop_map(|id| FeedEvent::Trade(trade(id % 1_000_000))),
        any::<u64>().prop_map(|at_us| FeedEvent::Watermark { source: source(), at_us }),
        gap().prop_map(|gap| FeedEvent::GapOpened { source: source(), gap }),
        gap().prop_map(|gap| FeedEvent::GapClosed { source: source(), gap }),
        ids().prop_map(|ids| FeedEvent::GapLost { source: source(), ids }),
    ]
}

proptest! {
    #[test]
    fn what_is_written_reads_back_and_only_whole(event in event(), cut in any::<prop::sample::Index>()) {
        let (kind, mut body) = (codec::kind_of(&event), Vec::new());
        codec::write_event(&event, &mut body);
        prop_assert_eq!(codec::read_event(kind, 1, &body), Ok(Some(event)));
        prop_assert!(codec::read_event(kind, 1, &body[..cut.index(body.len())]).is_err());
        body.push(0);
        let longer = codec::read_event(kind, 1, &body);
        prop_assert_eq!(longer, Err(CodecError::Long { kind, bytes: 1 }));
        prop_assert_eq!(codec::read_event(kind, 2, &body), Err(CodecError::Newer { version: 2 }));
    }

    #[test]
    fn arbitrary_bodies_never_panic(kind: u8, body in prop::collection::vec(any::<u8>(), 0..80)) {
        let _ = codec::read_event(kind, 1, &body);
        let _ = codec::read_small(&body);
        let _ = codec::read_acknowledged(&body);
    }

    /// Crashes at any moment, with any part of the unsynced writes kept: what `append` answered for
    /// is there, in order.
    #[test]
    fn whatever_a_crash_keeps_answered_events_are_there(
        batches in prop::collection::vec(1u64..60, 1..8),
        kept in 0u64..1_000,
        lazily in 0u64..40,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let disk = SimDisk::new();
            let queue = open(&disk, settings()).expect("a new queue");
            let mut next = 0;
            for count in &batches {
                queue.append(&trades(next..next + count)).await.expect("stored");
                next += count;
            }
            // Under way when the power goes.
            let _ = tokio::time::timeout(
                Duration::from_micros(kept),
                queue.append(&trades(next..next + lazily)),
            )
            .await;
            disk.crash(Keep::Sectors { seed: kept });
            let queue = open(&disk.restarted(), settings()).expect("it recovers");
            let mut consumer = queue.consumer("warm/global").expect("a name");
            let found = ids(&consumer.poll(ALL).expect("a read"));
            assert!(found.len() as u64 >= next, "{} of {next} are there", found.len());
            assert_eq!(found, (0..found.len() as u64).collect::<Vec<_>>());
        });
    }
}
