//! What a sink has and others lack, counted from the sink itself and from nothing that the product says
//! about it.

use crate::worker::WorkerHandle;
use crate::world::World;
use bytes::Bytes;
use cryptorun_core::position::Position;
use cryptorun_core::token::Token;
use cryptorun_worker::warm::batch::decode_header;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// A minute is over for so long before its trades must all be counted.
const COUNTED_AFTER: Duration = Duration::from_secs(20);
const MINUTE: Duration = Duration::from_secs(60);
const MINUTE_US: u64 = 60_000_000;

/// The records of a chain behind a position.
#[derive(Debug, Default)]
pub(super) struct Tail {
    pub records: Vec<Bytes>,
    pub rows: u64,
    pub from_seq: u64,
    pub to_seq: u64,
    /// The token of the last.
    pub token: Token,
    /// Where it ends.
    pub end: Position,
}

impl Tail {
    /// Behind `after`, as the sink has it now.
    pub async fn of(worker: &WorkerHandle, after: Position) -> Result<Self, String> {
        let end = worker.sink.view().end;
        let read = worker.sink.read(after, usize::MAX).await;
        let records = read.map_err(|error| error.to_string())?.unwrap_or_default();
        let mut tail = Self { from_seq: after.seq + 1, to_seq: after.seq, end, ..Self::default() };
        for record in &records {
            let header = decode_header(record).map_err(|error| error.to_string())?;
            (tail.to_seq, tail.token) = (header.seq(), header.token);
            tail.rows += u64::from(header.rows);
        }
        tail.records = records;
        Ok(tail)
    }

    pub fn count(&self) -> u64 {
        self.records.len() as u64
    }

    /// Each record stands in a fork of that worker, byte for byte.
    pub fn is_kept_by(&self, worker: &WorkerHandle) -> Result<(), String> {
        let Some(last) = self.records.last() else { return Ok(()) };
        let forks = worker.sink.view().forks;
        let fork = forks.iter().find(|fork| fork.token == self.token);
        let fork = fork.ok_or_else(|| format!("{last:?} is in no fork of {forks:?}"))?;
        let (from, to) = (fork.from_seq, fork.to_seq);
        if from > self.from_seq || to < self.to_seq || fork.rows < self.rows {
            let (own, rows) = ((self.from_seq, self.to_seq), self.rows);
            return Err(format!("the fork has less than {own:?}, {rows} rows: {fork:?}"));
        }
        let path = Path::new("warm/forks").join(format!("{}.fork", fork.name));
        let disk: &dyn cryptorun_platform::disk::Disk = &worker.disk;
        let kept = disk.read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let lost = self
            .records
            .iter()
            .find(|record| !kept.windows(record.len()).any(|part| part == record.as_ref()));
        match lost {
            Some(lost) => Err(format!("{lost:?} is not in {}", fork.name)),
            None => Ok(()),
        }
    }
}

/// Whether a position lies on the chain of a sink, and with it everything before.
pub(super) async fn is_on_chain(worker: &WorkerHandle, at: Position) -> bool {
    at.seq <= worker.sink.view().end.seq && worker.sink.read(at, 1).await.is_ok()
}

/// Lets the present minute end, and be counted.
pub(super) async fn minute_ends() {
    tokio::time::sleep(MINUTE + COUNTED_AFTER).await;
}

/// Every trade of every minute that is over is counted there, once.
pub(super) async fn counts_all(world: &World, worker: &WorkerHandle) -> Result<(), String> {
    let mut wanted: BTreeMap<u64, u64> = BTreeMap::new();
    for at in &world.state().trades {
        *wanted.entry(at - at % MINUTE_US).or_default() += 1;
    }
    let newest = world.state().trades.last().copied().unwrap_or(0);
    let settled = u64::try_from(COUNTED_AFTER.as_micros()).unwrap_or(0) + MINUTE_US;
    wanted.retain(|open, _| open + settled <= newest);
    let stored = worker.sink.with_store(|store| store.newest(1000)).await;
    let stored = stored.map_err(|error| error.to_string())?;
    let counted = |open: u64| {
        let own = stored.iter().filter(|c| c.interval_us == MINUTE_US && c.open_us == open);
        own.map(|candle| candle.trades).sum::<u64>()
    };
    match wanted.iter().find(|(open, there_were)| counted(**open) != **there_were) {
        Some((open, there_were)) => Err(format!(
            "{} counts {} trades in the minute from {open} that had {there_were}",
            worker.end,
            counted(*open)
        )),
        None => Ok(()),
    }
}
