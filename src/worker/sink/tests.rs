use super::*;
use crate::warm::batch::Kind;
use crate::warm::batch::tests::{batch, row};
use cryptorun_core::promotion::PromotionId;
use cryptorun_core::scope::Tier;
use cryptorun_core::time::{Stamp, WallTime};
use cryptorun_platform::clock::ManualClock;
use cryptorun_platform::disk::{Fault, Keep, SimDisk};
use cryptorun_platform::random::SeededRandom;
use cryptorun_platform::spawn::TokioSpawn;
use proptest::prelude::*;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// One region's disk and clock; sinks on it come and go.
pub(crate) struct Host {
    pub(crate) disk: SimDisk,
    pub(crate) clock: Arc<ManualClock>,
    region: RegionName,
    sync_takes: Duration,
}

impl Host {
    pub(crate) fn new(region: &str) -> Self {
        Self {
            disk: SimDisk::new(),
            clock: Arc::new(ManualClock::new(WallTime(1_000_000))),
            region: RegionName::from(region),
            sync_takes: Duration::ZERO,
        }
    }

    pub(crate) fn platform(&self) -> Platform {
        Platform {
            clock: self.clock.clone(),
            random: Arc::new(SeededRandom::new(1)),
            spawn: Arc::new(TokioSpawn),
            disk: Arc::new(self.disk.clone()),
        }
    }

    pub(crate) fn open(&self) -> Result<Sink, OpenError> {
        let takes = self.sync_takes;
        let driver =
            Driver::Task { spawn: Arc::new(TokioSpawn), sync_delay: Arc::new(move || takes) };
        let place = Place {
            dir: Path::new("warm-global"),
            store: None,
            owner: Owner([7; 16]),
            segment_bytes: 64 << 10,
        };
        let scope = ScopeId::new(Tier::Warm, "global");
        Sink::open(&self.platform(), place, &scope, &self.region, driver)
    }

    /// The process dies; what was not synced is treated as `keep` says.
    fn crash(&mut self, keep: Keep) {
        self.disk.crash(keep);
        self.disk = self.disk.restarted();
    }
}

pub(crate) fn token(epoch: u64) -> Token {
    Token { incarnation: 0, epoch }
}

pub(crate) fn reign(epoch: u64, region: &str, start: Position) -> Reign {
    Reign {
        token: token(epoch),
        region: RegionName::from(region),
        start,
        at: Stamp::default(),
        promotion: None::<PromotionId>,
    }
}

fn always() -> Lives {
    Arc::new(|| true)
}

/// True so many times, then false.
fn lives_for(checks: u32) -> Lives {
    let left = AtomicU32::new(checks);
    Arc::new(move || {
        left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_ok()
    })
}

async fn write(sink: &Sink, epoch: u64, kind: Kind, minute: u64) -> Result<Entry, SinkError> {
    write_while(sink, epoch, kind, minute, always()).await
}

async fn write_while(
    sink: &Sink,
    epoch: u64,
    kind: Kind,
    minute: u64,
    lives: Lives,
) -> Result<Entry, SinkError> {
    let rows = match kind {
        Kind::Data => vec![row("BTC/USD", minute, 10 + minute.cast_signed())],
        _ => Vec::new(),
    };
    sink.write(token(epoch), move |prev| batch(token(epoch), prev, kind, rows), lives).await
}

/// Begins a reign where the sink stands.
pub(crate) async fn begin(sink: &Sink, epoch: u64, region: &str) -> Reign {
    let reign = reign(epoch, region, sink.view().end);
    sink.acknowledge(vec![reign.clone()]).await.unwrap();
    write(sink, epoch, Kind::EpochStart, 0).await.unwrap();
    reign
}

async fn records(sink: &Sink, after: Position) -> Vec<Bytes> {
    sink.read(after, usize::MAX).await.unwrap().unwrap()
}

async fn digest(sink: &Sink) -> (Position, (cryptorun_core::position::Hash, u64)) {
    sink.with_store(|store| Ok((store.position(), store.digest()?))).await.unwrap()
}

fn fates(sink: &Sink, fate: Fate) -> Vec<(Token, u64, u64, u64)> {
    let ranges = sink.journal();
    let of = ranges.iter().filter(|range| range.fate == fate);
    of.map(|r| (r.token, r.from_seq, r.to_seq, r.rows)).collect()
}

#[tokio::test(start_paused = true)]
async fn a_lower_token_is_turned_away_counted_and_kept_as_a_fork() {
    let host = Host::new("us-east-1");
    let sink = host.open().unwrap();
    begin(&sink, 1, "us-east-1").await;
    write(&sink, 1, Kind::Data, 1).await.unwrap();
    let sealed = sink.seal(token(2)).await.unwrap();
    assert_eq!(sealed.end.seq, 2);
    let refused = write(&sink, 1, Kind::Data, 2).await;
    assert!(matches!(refused, Err(SinkError::Fenced { presented, current })
        if presented == token(1) && current == token(2)));
    assert_eq!(sink.view().fenced, 1);
    assert_eq!(sink.view().end, sealed.end, "what a seal answered is final");
    assert_eq!(fates(&sink, Fate::Fenced), [(token(1), 3, 3, 1)]);
    let fork = &sink.view().forks[0];
    assert_eq!((fork.name.as_str(), fork.rows), ("warm-global-0.1-us-east-1", 1));
    // The reserved token itself writes nothing before it is granted.
    assert!(matches!(write(&sink, 2, Kind::EpochStart, 0).await, Err(SinkError::Sealed { .. })));
    assert!(matches!(
        write(&sink, 9, Kind::EpochStart, 0).await,
        Err(SinkError::NotGranted { .. })
    ));
    sink.acknowledge(vec![reign(2, "us-east-1", sealed.end)]).await.unwrap();
    write(&sink, 2, Kind::EpochStart, 0).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_note_of_a_fork_that_a_crash_took_is_made_again_once() {
    let mut host = Host::new("us-east-1");
    let sink = host.open().unwrap();
    begin(&sink, 1, "us-east-1").await;
    write(&sink, 1, Kind::Data, 1).await.unwrap();
    sink.seal(token(2)).await.unwrap();
    assert!(write(&sink, 1, Kind::Data, 2).await.is_err());
    for _ in 0..2 {
        host.crash(Keep::Nothing);
        let sink = host.open().unwrap();
        assert_eq!(sink.view().forks.len(), 1);
        assert_eq!(fates(&sink, Fate::Forked), [(token(1), 3, 3, 1)]);
        // With a sync behind it, the second time it is read.
        sink.seal(token(3)).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn the_highest_token_survives_a_power_cut() {
    let mut host = Host::new("us-east-1");
    let sink = host.open().unwrap();
    begin(&sink, 1, "us-east-1").await;
    sink.seal(token(5)).await.unwrap();
    host.crash(Keep::Nothing);
    let sink = host.open().unwrap();
    assert_eq!(sink.view().highest, token(5));
    assert!(matches!(write(&sink, 1, Kind::Data, 1).await, Err(SinkError::Fenced { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_seal_waits_for_the_write_in_flight_and_answers_its_end() {
    let mut host = Host::new("us-east-1");
    host.sync_takes = Duration::from_millis(50);
    let sink = host.open().unwrap();
    begin(&sink, 1, "us-east-1").await;
    let (wrote, sealed) =
        tokio::join!(write(&sink, 1, Kind::Data, 1), async { sink.seal(token(2)).await });
    assert_eq!(wrote.unwrap().position, sealed.unwrap().end);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_gives_up_leaves_no_write_half_done() {
    let mut host = Host::new("us-east-1");
    host.sync_takes = Duration::from_millis(50);
    let sink = host.open().unwrap();
    begin(&sink, 1, "us-east-1").await;
    let impatient = write(&sink, 1, Kind::Data, 1);
    assert!(tokio::time::timeout(Duration::from_millis(10), impatient).await.is_err());
    let sealed = sink.seal(token(2)).await.unwrap();
    assert_eq!(sealed.end.seq, 2, "the write ended by itself, before the seal");
    assert_eq!(digest(&sink).await.0, sealed.end);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_ends_during_the_sync_leaves_a_fork_and_nothing_visible() {
    let mut host = Host::new("us-east-1");
    let sink = host.open().unwrap();
    begin(&sink, 1, "us-east-1").await;
    let end = write(&sink, 1, Kind::Data, 1).await.unwrap().position;
    let late = write_while(&sink, 1, Kind::Data, 2, lives_for(1)).await;
    assert!(matches!(late, Err(SinkError::Late { synced: true, .. })));
    let early = write_while(&sink, 1, Kind::Data, 3, lives_for(0)).await;
    assert!(matches!(early, Err(SinkError::Late { synced: false, .. })));
    for reopened in [false, true] {
        if reopened {
            host.crash(Keep::Everything);
        }
        let sink = if reopened { host.open().unwrap() } else { sink.clone() };
        assert_eq!(sink.view().end, end, "reopened: {reopened}");
        assert_eq!(digest(&sink).await, (end, digest(&sink).await.1));
        assert_eq!(sink.view().forks[0].rows, 2);
        assert_eq!(fates(&sink, Fate::Visible), [(token(1), 1, 2, 1)]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_between_the_sync_and_the_fork_keeps_the_gate_shut_until_it_is_not() {
    let mut host = Host::new("us-east-1");
    let sink = host.open().unwrap();
    let first = begin(&sink, 1, "us-east-1").await;
    let end = write(&sink, 1, Kind::Data, 1).await.unwrap().position;
    host.disk.set_capacity(Some(0)); // The log's segment has its room already.
    let late = write_while(&sink, 1, Kind::Data, 2, lives_for(1)).await;
    assert!(matches!(late, Err(SinkError::Fork(_))), "{late:?}");
    assert!(matches!(write(&sink, 1, Kind::Data, 3).await, Err(SinkError::Fork(_))));
    assert!(matches!(sink.acknowledge(vec![first]).await, Err(SinkError::Fork(_))));
    assert!(matches!(sink.seal(token(2)).await, Err(SinkError::Fork(_))));
    assert_eq!(sink.view().end, end);

    host.disk.set_capacity(None);
    let next = write(&sink, 1, Kind::Data, 4).await.unwrap();
    assert_eq!(next.position.seq, end.seq + 1);
    assert_eq!(sink.view().forks[0].rows, 1);
    let before = digest(&sink).await;
    drop(sink);
    host.crash(Keep::Nothing);
    assert_eq!(digest(&host.open().unwrap()).await, before);
}

#[tokio::test(start_paused = true)]
async fn behind_a_barrier_comes_a_reopening_or_a_higher_token() {
    let host = Host::new("us-east-1");
    let sink = host.open().unwrap();
    begin(&sink, 1, "us-east-1").await;
    write(&sink, 1, Kind::Barrier, 0).await.unwrap();
    let behind = write(&sink, 1, Kind::Data, 1).await;
    assert!(matches!(behind, Err(SinkError::Chain(ChainError::BehindBarrier { seq: 3, .. }))));
    write(&sink, 1, Kind::Reopen, 0).await.unwrap();
    write(&sink, 1, Kind::Data, 1).await.unwrap();
    write(&sink, 1, Kind::Barrier, 0).await.unwrap();
    begin(&sink, 2, "us-east-1").await;
}

/// Two regions, the second behind by two records, when the first is lost and the second promoted.
struct Split {
    east: Sink,
    west: Sink,
    reigns: Vec<Reign>,
}

async fn split(east: &Host, west: &Host) -> Split {
    let (east, west) = (east.open().unwrap(), west.open().unwrap());
    let first = begin(&east, 1, "us-east-1").await;
    for minute in 1..=2 {
        write(&east, 1, Kind::Data, minute).await.unwrap();
    }
    west.acknowledge(vec![first.clone()]).await.unwrap();
    west.follow(records(&east, Position::START).await, vec![first.clone()]).await.unwrap();
    for minute in 2..=3 {
        write(&east, 1, Kind::Data, minute).await.unwrap();
    }
    let start = west.seal(token(2)).await.unwrap().end;
    let reigns = vec![first, reign(2, "us-west-2", start)];
    west.acknowledge(reigns.clone()).await.unwrap();
    write(&west, 2, Kind::EpochStart, 0).await.unwrap();
    write(&west, 2, Kind::Data, 7).await.unwrap();
    Split { east, west, reigns }
}

#[tokio::test(start_paused = true)]
async fn a_former_holder_cuts_its_fork_and_ends_up_equal() {
    let (host, other) = (Host::new("us-east-1"), Host::new("us-west-2"));
    let Split { east, west, reigns } = split(&host, &other).await;
    // Before it knows: its late records reach nobody.
    let late = records(&east, west.view().last.map(|_| reigns[1].start).unwrap()).await;
    let refused = west.follow(late, reigns.clone()).await;
    assert!(matches!(refused, Err(SinkError::Fenced { presented, .. }) if presented == token(1)));

    assert!(east.acknowledge(reigns.clone()).await.unwrap(), "something was cut");
    assert!(!east.acknowledge(reigns.clone()).await.unwrap(), "once");
    assert_eq!(east.view().end, reigns[1].start);
    let fork = east.view().forks[0].clone();
    assert_eq!((fork.from_seq, fork.to_seq, fork.rows), (4, 5, 2));
    assert_eq!(fates(&east, Fate::Forked), [(token(1), 4, 5, 2)]);
    let missing = records(&west, east.view().end).await;
    assert_eq!(east.follow(missing, reigns).await.unwrap(), 2);
    assert_eq!(digest(&east).await, digest(&west).await);
}

#[tokio::test(start_paused = true)]
async fn a_cut_that_a_crash_interrupts_is_made_again_at_the_next_contact() {
    for changes in 0..40 {
        let (mut host, other) = (Host::new("us-east-1"), Host::new("us-west-2"));
        let Split { east, west, reigns } = split(&host, &other).await;
        host.disk.fail_after(changes, Fault::Broken);
        let done = east.acknowledge(reigns.clone()).await.is_ok();
        drop(east);
        host.crash(Keep::Torn { bytes: 100 });
        host.disk.heal();
        let east = host.open().unwrap();
        east.acknowledge(reigns.clone()).await.unwrap();
        assert_eq!(east.view().end, reigns[1].start);
        assert_eq!(east.view().forks[0].rows, 2, "after {changes} changes");
        east.follow(records(&west, reigns[1].start).await, reigns).await.unwrap();
        assert_eq!(digest(&east).await, digest(&west).await);
        if done {
            return;
        }
    }
    panic!("the cut never went through");
}

#[tokio::test(start_paused = true)]
async fn the_tail_of_a_sealed_sink_is_taken_over_as_it_is() {
    let (host, other) = (Host::new("us-east-1"), Host::new("us-west-2"));
    let (east, west) = (host.open().unwrap(), other.open().unwrap());
    let first = begin(&east, 1, "us-east-1").await;
    write(&east, 1, Kind::Data, 1).await.unwrap();
    west.acknowledge(vec![first.clone()]).await.unwrap();
    let to = east.seal(token(2)).await.unwrap().end;
    assert_eq!(west.seal(token(2)).await.unwrap().end.seq, 0);
    let tail = records(&east, Position::START).await;
    // Sealed, it follows nobody; under the reserved token it takes the tail.
    let followed = west.follow(tail.clone(), vec![first.clone()]).await;
    assert!(matches!(followed, Err(SinkError::Sealed { .. })));
    let early = west.adopt(token(1), to, tail.clone()).await;
    assert!(matches!(early, Err(SinkError::Fenced { .. })));
    assert_eq!(west.adopt(token(2), to, tail.clone()).await.unwrap(), 2);
    assert_eq!(west.adopt(token(2), to, tail).await.unwrap(), 0, "twice adds nothing");
    assert_eq!(west.view().end, to);
    assert_eq!(digest(&west).await, digest(&east).await);
    assert_eq!(fates(&west, Fate::Visible), []);
    west.acknowledge(vec![first, reign(2, "us-west-2", to)]).await.unwrap();
    write(&west, 2, Kind::EpochStart, 0).await.unwrap();
    assert_eq!(fates(&west, Fate::Visible), [(token(2), 3, 3, 0)]);
}

#[tokio::test(start_paused = true)]
async fn whatever_was_acknowledged_is_there_after_a_crash_at_any_disk_change() {
    let mut reached_the_end = false;
    for changes in 0..60 {
        for keep in [Keep::Nothing, Keep::Torn { bytes: 77 }, Keep::Sectors { seed: changes }] {
            let mut host = Host::new("us-east-1");
            host.disk.fail_after(changes, Fault::Broken);
            let mut acknowledged = Position::START;
            let mut fenced = Token::NONE;
            if let Ok(sink) = host.open() {
                let first = reign(1, "us-east-1", Position::START);
                if sink.acknowledge(vec![first]).await.is_ok() {
                    fenced = token(1);
                    let steps = [(Kind::EpochStart, 0), (Kind::Data, 1), (Kind::Data, 1)];
                    for (kind, minute) in steps {
                        if let Ok(entry) = write(&sink, 1, kind, minute).await {
                            acknowledged = entry.position;
                        }
                    }
                    reached_the_end |= acknowledged.seq == 3;
                }
            }
            host.crash(keep);
            host.disk.heal();
            let sink = host.open().unwrap();
            let view = sink.view();
            assert!(view.end.seq >= acknowledged.seq, "{changes} {keep:?}");
            assert!(view.highest >= fenced);
            assert_eq!(digest(&sink).await.0, view.end, "the store is at the chain's end");
            let noted = fates(&sink, Fate::Visible).last().map_or(0, |range| range.2);
            assert_eq!(noted, view.end.seq, "the journal tells of each record");
        }
    }
    assert!(reached_the_end, "no run got through: raise the number of changes");
}

#[derive(Clone, Debug)]
enum Act {
    Write(u64),
    Late(u64),
    Seal(u64),
    Grant(u64),
    Restart,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        4 => (1u64..6).prop_map(Act::Write),
        1 => (1u64..6).prop_map(Act::Late),
        1 => (1u64..6).prop_map(Act::Seal),
        2 => (1u64..6).prop_map(Act::Grant),
        1 => Just(Act::Restart),
    ];
    prop::collection::vec(act, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Invariant 3 of DESIGN §20, at one sink: whatever writers, seals and grants do.
    #[test]
    fn visible_ranges_of_two_tokens_never_overlap(acts in acts()) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut host = Host::new("us-east-1");
            let mut sink = host.open().unwrap();
            let mut highest = Token::NONE;
            for act in acts {
                host.clock.advance(Duration::from_millis(3));
                match act {
                    Act::Write(epoch) => {
                        let opened = sink.view().last.is_some_and(|l| l.token == token(epoch));
                        let kind = if opened { Kind::Data } else { Kind::EpochStart };
                        let _ = write(&sink, epoch, kind, 1).await;
                    }
                    Act::Late(epoch) => {
                        let _ = write_while(&sink, epoch, Kind::Data, 2, lives_for(1)).await;
                    }
                    Act::Seal(epoch) => drop(sink.seal(token(epoch)).await),
                    Act::Grant(epoch) => {
                        if token(epoch) >= sink.view().highest {
                            let reign = reign(epoch, "us-east-1", sink.view().end);
                            sink.acknowledge(vec![reign]).await.unwrap();
                        }
                    }
                    Act::Restart => {
                        drop(sink);
                        host.crash(Keep::Everything);
                        sink = host.open().unwrap();
                    }
                }
                let now = sink.view().highest;
                assert!(now >= highest, "the highest token fell from {highest} to {now}");
                highest = now;
            }
            let mut visible = fates(&sink, Fate::Visible);
            visible.sort_by_key(|(_, from, ..)| *from);
            for pair in visible.windows(2) {
                assert!(pair[0].2 < pair[1].1, "{pair:?} overlap");
                assert!(pair[0].0 <= pair[1].0, "{pair:?} fall");
            }
        });
    }
}

/// Writes until the disk has no room for another segment; says how many more there were.
async fn fill(sink: &Sink, epoch: u64) -> (u64, SinkError) {
    for minute in 1.. {
        match write(sink, epoch, Kind::Data, minute).await {
            Ok(_) => {}
            Err(error) => return (minute - 1, error),
        }
    }
    unreachable!("a disk that is never full")
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_takes_no_records_and_still_a_seal_and_is_recovered_from_alone() {
    let mut host = Host::new("us-east-1");
    host.disk.set_capacity(Some(2 * (64 << 10) + 1000));
    let sink = host.open().unwrap();
    begin(&sink, 1, "us-east-1").await;
    let (written, error) = fill(&sink, 1).await;
    let SinkError::Full(short) = error else { panic!("{error}") };
    assert_eq!(short.path, Path::new("warm-global/log"));
    assert!(written > 10);
    let end = sink.view().end;
    let followed = sink.follow(records(&sink, Position::START).await, vec![]).await;
    assert!(matches!(followed, Ok(0) | Err(_)));
    let sealed = tokio::time::timeout(Duration::from_secs(5), sink.seal(token(2))).await;
    assert_eq!(sealed.expect("in the reserve").unwrap().end, end);

    host.disk.set_capacity(None);
    tokio::time::sleep(Duration::from_secs(3)).await;
    let reign = reign(2, "us-east-1", end);
    sink.acknowledge(vec![reign]).await.unwrap();
    write(&sink, 2, Kind::EpochStart, 0).await.unwrap();
    write(&sink, 2, Kind::Data, 500).await.unwrap();
    let before = digest(&sink).await;
    host.crash(Keep::Nothing);
    assert_eq!(digest(&host.open().unwrap()).await, before);
}

/// What SQLite did not take is in the chain; the store takes it with the next record.
#[tokio::test(start_paused = true)]
async fn a_store_that_fails_is_said_and_catches_up_with_the_next_record() {
    let host = Host::new("us-east-1");
    let sink = host.open().unwrap();
    begin(&sink, 1, "us-east-1").await;
    write(&sink, 1, Kind::Data, 1).await.unwrap();
    let rename = |from: &'static str, to: &'static str| {
        sink.with_store(move |store| {
            store
                .connection()
                .execute_batch(&format!("ALTER TABLE {from} RENAME TO {to}"))
                .unwrap();
            Ok(())
        })
    };
    rename("candle", "gone").await.unwrap();
    write(&sink, 1, Kind::Data, 2).await.unwrap();
    assert!(sink.view().degraded.is_some());
    write(&sink, 1, Kind::Data, 3).await.unwrap();
    rename("gone", "candle").await.unwrap();
    write(&sink, 1, Kind::Data, 4).await.unwrap();
    assert_eq!(sink.view().degraded, None);
    let (position, (_, candles)) = digest(&sink).await;
    assert_eq!((position, candles), (sink.view().end, 4));
}
