//! A sink: its batch log and fence, its forks, and the store that is rebuilt from the log.

use super::part::{Part, Wrong, block, chain};
use cryptorun_core::position::Position;
use cryptorun_core::region::RegionName;
use cryptorun_core::scope::{Reign, ScopeId, Tier};
use cryptorun_core::time::{Stamp, WallTime};
use cryptorun_core::token::Token;
use cryptorun_platform::Platform;
use cryptorun_platform::clock::ManualClock;
use cryptorun_platform::disk::{Keep, SimDisk};
use cryptorun_platform::random::SeededRandom;
use cryptorun_platform::segments::{Driver, Owner};
use cryptorun_platform::spawn::TokioSpawn;
use cryptorun_worker::candle::{Candle, CandleState};
use cryptorun_worker::ingest::model::{Source, Symbol, VenueId};
use cryptorun_worker::sink::{Lives, OpenError, Place, Sink, SinkError};
use cryptorun_worker::warm::batch::{Batch, Header, Kind, position_after};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

const REGION: &str = "us-east-1";
/// Small, so that reigns cross segments.
const SEGMENT_BYTES: u64 = 4096;
const REIGNS: u64 = 4;

pub struct ScopeSink;

#[derive(Clone, Default)]
pub struct Knows {
    /// The chain as it was visible, and has to be again.
    visible: Vec<Position>,
    /// Shown to a seal or a grant that answered.
    highest: Token,
    /// Rows that were said to be kept as forks.
    forked: u64,
    reigns: Vec<Reign>,
}

impl Part for ScopeSink {
    type Knows = Knows;

    fn name(&self) -> &'static str {
        "sink"
    }

    fn tell(&self, disk: &SimDisk) -> Knows {
        let mut knows = Knows::default();
        block(async {
            if let Ok(sink) = open(disk) {
                drop(tell(&sink, &mut knows).await);
                drop(sink.close().await);
            }
        });
        knows
    }

    fn check(&self, disk: &SimDisk, knows: &Knows) -> Result<(), Wrong> {
        block(check(disk, knows))?;
        disk.crash(Keep::Nothing);
        block(check(&disk.restarted(), knows))
    }
}

/// Reigns that follow each other: each writes, is late once, and is sealed by the next.
async fn tell(sink: &Sink, knows: &mut Knows) -> Result<(), SinkError> {
    for epoch in 1..=REIGNS {
        let token = token(epoch);
        sink.seal(token).await?;
        knows.highest = token;
        if epoch > 1 {
            // The one before does not know yet.
            let refused = write(sink, epoch - 1, Kind::Data, 900 + epoch, always()).await;
            if matches!(refused, Err(SinkError::Fenced { .. })) {
                knows.forked += 1;
            }
        }
        let reign = reign(epoch, sink.view().end);
        knows.reigns.push(reign);
        sink.acknowledge(knows.reigns.clone()).await?;
        knows.visible.push(write(sink, epoch, Kind::EpochStart, 0, always()).await?);
        for minute in 0..4 {
            let minute = epoch * 10 + minute;
            knows.visible.push(write(sink, epoch, Kind::Data, minute, always()).await?);
        }
        match write(sink, epoch, Kind::Data, 800 + epoch, lives_for(1)).await {
            Err(SinkError::Late { .. }) => knows.forked += 1,
            Err(error) => return Err(error),
            Ok(_) => {}
        }
    }
    Ok(())
}

async fn check(disk: &SimDisk, knows: &Knows) -> Result<(), Wrong> {
    let lost = |what: String| Err(Wrong::Lost(what));
    let sink = open(disk).map_err(|error| Wrong::Refused(chain(&error)))?;
    let failed = |error: SinkError| Wrong::Lost(chain(&error));
    let view = sink.view();
    if view.highest < knows.highest {
        return lost(format!("highest token {}, {} was sealed", view.highest, knows.highest));
    }
    let records = sink.read(Position::START, usize::MAX).await.map_err(failed)?;
    let mut end = Position::START;
    let mut chain = Vec::new();
    for record in records.unwrap_or_default() {
        end = position_after(end, &record);
        chain.push(end);
    }
    if !chain.starts_with(&knows.visible) {
        let (has, had) = (chain.len(), knows.visible.len());
        return lost(format!("{has} records are in the chain, {had} were visible"));
    }
    let rows: u64 = view.forks.iter().map(|fork| fork.rows).sum();
    if rows < knows.forked {
        return lost(format!("{rows} rows are in forks, {} were kept", knows.forked));
    }
    let stored = sink.with_store(|store| Ok(store.position())).await.map_err(failed)?;
    if stored != view.end {
        return lost(format!("the store is at {}, the chain at {}", stored.seq, view.end.seq));
    }
    // Whoever reigned is fenced by whoever comes next, and that one can write.
    let next = token(view.highest.epoch + 1);
    sink.seal(next).await.map_err(failed)?;
    if let Some(epoch) = next.epoch.checked_sub(1).filter(|epoch| *epoch > 0) {
        let old = write(&sink, epoch, Kind::Data, 700, always()).await;
        if !matches!(old, Err(SinkError::Fenced { .. })) {
            return lost(format!("a sealed token was not turned away: {:?}", old.map(|p| p.seq)));
        }
    }
    let mut reigns = knows.reigns.clone();
    let start = sink.view().end;
    reigns.push(reign(next.epoch, start));
    sink.acknowledge(reigns).await.map_err(failed)?;
    write(&sink, next.epoch, Kind::EpochStart, 0, always()).await.map_err(failed)?;
    Ok(())
}

async fn write(
    sink: &Sink,
    epoch: u64,
    kind: Kind,
    minute: u64,
    lives: Lives,
) -> Result<Position, SinkError> {
    let rows = if kind == Kind::Data { vec![row(minute)] } else { Vec::new() };
    let make = move |prev: Position| {
        let count = u32::try_from(rows.len()).unwrap_or(u32::MAX);
        let (opened_at, sealed_at) = (WallTime(1), WallTime(1000 + prev.seq));
        let watermark = WallTime(900);
        let token = token(epoch);
        let header = Header { token, prev, kind, opened_at, sealed_at, watermark, rows: count };
        Batch { header, rows }
    };
    sink.write(token(epoch), make, lives).await.map(|entry| entry.position)
}

fn open(disk: &SimDisk) -> Result<Sink, OpenError> {
    let platform = Platform {
        clock: Arc::new(ManualClock::new(WallTime(1_000_000))),
        random: Arc::new(SeededRandom::new(1)),
        spawn: Arc::new(TokioSpawn),
        disk: Arc::new(disk.clone()),
    };
    let place = Place {
        dir: Path::new("sink"),
        store: None,
        owner: Owner([7; 16]),
        segment_bytes: SEGMENT_BYTES,
    };
    let driver = Driver::Task {
        spawn: Arc::new(TokioSpawn),
        sync_delay: Arc::new(|| Duration::from_millis(1)),
    };
    let scope = ScopeId::new(Tier::Warm, "global");
    Sink::open(&platform, place, &scope, &RegionName::from(REGION), driver)
}

fn token(epoch: u64) -> Token {
    Token { incarnation: 0, epoch }
}

fn reign(epoch: u64, start: Position) -> Reign {
    let (region, at) = (RegionName::from(REGION), Stamp::default());
    Reign { token: token(epoch), region, start, at, promotion: None }
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

fn row(minute: u64) -> Candle {
    let symbol: Result<Symbol, _> = "BTC/USD".parse();
    let Ok(symbol) = symbol else { unreachable!("a symbol like any other") };
    Candle {
        source: Source { venue: VenueId::Kraken, symbol },
        interval_us: 60_000_000,
        open_us: minute * 60_000_000,
        price_scale: 1,
        qty_scale: 8,
        open: 10,
        high: 12,
        low: 9,
        close: 11,
        volume: 1_000,
        quote_volume: 10_000,
        trades: 3,
        first_trade_id: minute * 10,
        last_trade_id: minute * 10 + 2,
        holes: Vec::new(),
        complete: true,
        state: CandleState::Open,
        revision: 0,
    }
}
