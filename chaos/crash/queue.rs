//! The worker's queue: what was appended is read until it is acknowledged, and where feeds go on.

use super::part::{Part, Wrong, block, chain};
use cryptorun_core::time::WallTime;
use cryptorun_platform::clock::ManualClock;
use cryptorun_platform::disk::{Keep, SimDisk};
use cryptorun_platform::segments::{Driver, Owner};
use cryptorun_platform::spawn::TokioSpawn;
use cryptorun_worker::ingest::feed::{FeedEvent, Gap};
use cryptorun_worker::ingest::model::{IdRange, Side, Source, Symbol, Trade, VenueId};
use cryptorun_worker::queue::{Consumer, MakeDriver, Queue, QueueError, QueueSettings, Queued};
use std::sync::Arc;
use std::time::Duration;

const CONSUMER: &str = "warm/global";
const ROUNDS: u64 = 14;
const ALL: usize = 1 << 30;

pub struct WorkerQueue;

/// Trades have the ids 0, 1, 2 and so on.
#[derive(Clone, Default)]
pub struct Knows {
    sent: u64,
    appended: u64,
    /// Below it everything was given back as done.
    done: u64,
}

impl Part for WorkerQueue {
    type Knows = Knows;

    fn name(&self) -> &'static str {
        "queue"
    }

    fn tell(&self, disk: &SimDisk) -> Knows {
        let mut knows = Knows::default();
        block(async {
            drop(tell(disk, &mut knows).await);
        });
        knows
    }

    fn check(&self, disk: &SimDisk, knows: &Knows) -> Result<(), Wrong> {
        let sent = block(check(disk, knows))?;
        if !knows.appended.is_multiple_of(3) {
            return Ok(());
        }
        disk.crash(Keep::Nothing);
        let knows = Knows { sent, appended: sent, done: knows.done };
        block(check(&disk.restarted(), &knows)).map(drop)
    }
}

async fn tell(disk: &SimDisk, knows: &mut Knows) -> Result<(), QueueError> {
    let queue = open(disk)?;
    let mut consumer = queue.consumer(CONSUMER)?;
    for round in 0..ROUNDS {
        let more = 3 + round * 5 % 7;
        let ids = knows.sent..knows.sent + more;
        let mut events: Vec<FeedEvent> = ids.clone().map(trade).collect();
        if round % 4 == 1 {
            let gap = Gap::Trades(IdRange { first: ids.start, last: ids.start });
            events.push(FeedEvent::GapOpened { source: source(), gap });
            events.push(FeedEvent::Watermark { source: source(), at_us: ids.start });
        }
        knows.sent = ids.end;
        queue.append(&events).await?;
        knows.appended = ids.end;
        if round % 2 == 1 {
            let queued = consumer.poll(ALL)?;
            if let Some(half) = queued.get(queued.len() / 2) {
                consumer.acknowledge(half.next);
                let read = trade_ids(&queued[..=queued.len() / 2]);
                knows.done = read.last().map_or(knows.done, |last| last + 1);
                consumer.rewind();
            }
        }
        if round % 5 == 2 {
            queue.prove().await?;
        }
    }
    drop(queue.close().await);
    Ok(())
}

/// Says how many trades there are afterwards.
async fn check(disk: &SimDisk, knows: &Knows) -> Result<u64, Wrong> {
    let lost = |what: String| Err(Wrong::Lost(what));
    let queue = open(disk).map_err(|error| Wrong::Refused(chain(&error)))?;
    let failed = |error: QueueError| Wrong::Lost(chain(&error));
    let mut consumer = queue.consumer(CONSUMER).map_err(failed)?;
    let found = read(&mut consumer).map_err(failed)?;
    let first = found.first().copied().unwrap_or(knows.done);
    let dense = found.iter().copied().eq(first..first + found.len() as u64);
    let end = first + found.len() as u64;
    if !dense || first > knows.done || end < knows.appended || end > knows.sent {
        let Knows { sent, appended, done } = knows;
        return lost(format!(
            "reads {first} to {end}; {done} were done, {appended} appended, {sent} sent"
        ));
    }
    let resume = queue.resume(VenueId::Kraken);
    let last = resume.values().next().map(|resume| resume.last.id + 1);
    if knows.appended > 0 && last.is_none_or(|last| last < knows.appended) {
        return lost(format!("the feed goes on behind {last:?}, {} were appended", knows.appended));
    }
    queue.append(&[trade(end)]).await.map_err(failed)?;
    let now = read(&mut consumer).map_err(failed)?;
    if now != [end] {
        return lost(format!("a new trade {end} reads back as {now:?}"));
    }
    Ok(end + 1)
}

fn read(consumer: &mut Consumer) -> Result<Vec<u64>, QueueError> {
    let mut ids = Vec::new();
    loop {
        let queued = consumer.poll(ALL)?;
        if queued.is_empty() {
            return Ok(ids);
        }
        ids.extend(trade_ids(&queued));
    }
}

fn trade_ids(queued: &[Queued]) -> Vec<u64> {
    let id = |queued: &Queued| match &queued.event {
        FeedEvent::Trade(trade) => Some(trade.id),
        _ => None,
    };
    queued.iter().filter_map(id).collect()
}

fn open(disk: &SimDisk) -> Result<Queue, QueueError> {
    let driver: MakeDriver = Arc::new(|| Driver::Task {
        spawn: Arc::new(TokioSpawn),
        sync_delay: Arc::new(|| Duration::from_millis(1)),
    });
    let settings =
        QueueSettings { segment_bytes: 4096, ..QueueSettings::new("queue", Owner::new(1, 2)) };
    Queue::open(Arc::new(ManualClock::new(WallTime(0))), Arc::new(disk.clone()), settings, driver)
}

fn source() -> Source {
    let symbol: Result<Symbol, _> = "BTC/USD".parse();
    match symbol {
        Ok(symbol) => Source { venue: VenueId::Kraken, symbol },
        Err(_) => unreachable!("a symbol like any other"),
    }
}

fn trade(id: u64) -> FeedEvent {
    FeedEvent::Trade(Trade {
        source: source(),
        id,
        price: 1_000_000 + id.cast_signed(),
        qty: 1 + id.cast_signed(),
        price_scale: 1,
        qty_scale: 8,
        taker: Side::Buy,
        at_us: id * 1_000_000,
    })
}
