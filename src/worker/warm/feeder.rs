//! From the queue to candles: what a scope's holder seals, and what everyone else may let go.
//!
//! A holder seeds its candles from the store, reads its queue again from what was acknowledged, and
//! lets trade ids decide what is new: nothing is counted twice, whoever counted it first. Others
//! only watch the queue: once the chain they follow is past a trade's minute, it is safe elsewhere.

use crate::candle::{Aggregator, ApplyError, Candle, CandleSettings, Outcome, SeedError};
use crate::ingest::feed::FeedEvent;
use crate::ingest::model::Source;
use crate::queue::{Consumer, QueueError, Queued};
use crate::sink::{Sink, SinkError};
use cryptorun_core::time::WallTime;
use cryptorun_platform::segments::Position;
use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

/// Read from the queue at once.
const READ_BYTES: usize = 256 << 10;
/// A trade's candle is in the followed chain once its watermark is this far past the trade: the
/// minute, its lateness, and a batch.
const SAFE_AFTER: Duration = Duration::from_secs(120);
/// Positions remembered on the way to being safe; reading pauses beyond.
const MARKS_MAX: usize = 10_000;

#[derive(Debug, thiserror::Error)]
pub enum FeederError {
    #[error(transparent)]
    Queue(#[from] QueueError),
    #[error("stored candles contradict each other: {0}")]
    Seed(#[from] SeedError),
    #[error(transparent)]
    Apply(#[from] ApplyError),
    #[error(transparent)]
    Sink(#[from] SinkError),
}

pub struct Feeder {
    consumer: Consumer,
    sources: BTreeSet<Source>,
    settings: CandleSettings,
    candles: Option<Aggregator>,
    /// Queue positions with the newest trade before them, oldest first.
    marks: VecDeque<(Position, u64)>,
    newest_us: u64,
}

/// What is ready to be sealed.
pub struct Ready {
    pub rows: Vec<Candle>,
    pub watermark: WallTime,
    /// To be acknowledged once the rows are visible.
    pub upto: Position,
}

impl Feeder {
    pub fn new(consumer: Consumer, sources: BTreeSet<Source>, settings: CandleSettings) -> Self {
        Self { consumer, sources, settings, candles: None, marks: VecDeque::new(), newest_us: 0 }
    }

    /// Begins a reign: what is stored is known, everything not acknowledged is read again.
    pub async fn begin(&mut self, sink: &Sink) -> Result<(), FeederError> {
        let keep = self.settings.keep;
        let stored = sink.with_store(move |store| store.newest(keep)).await?;
        let mut candles = Aggregator::new(self.settings);
        candles.seed(stored)?;
        self.candles = Some(candles);
        self.consumer.rewind();
        self.marks.clear();
        Ok(())
    }

    /// Ends a reign.
    pub fn end(&mut self) {
        self.candles = None;
        self.consumer.rewind();
        self.marks.clear();
    }

    /// What the queue has next; waits while it has nothing. Safe to drop while it waits; what it
    /// gave must be taken in.
    pub async fn next(&mut self) -> Result<Vec<Queued>, FeederError> {
        Ok(self.consumer.next(READ_BYTES).await?)
    }

    /// Takes in all that is in the queue now.
    pub async fn take_all(&mut self, sink: &Sink) -> Result<(), FeederError> {
        loop {
            let events = self.consumer.poll(READ_BYTES)?;
            if events.is_empty() {
                return Ok(());
            }
            self.apply(sink, events).await?;
        }
    }

    pub async fn apply(&mut self, sink: &Sink, events: Vec<Queued>) -> Result<(), FeederError> {
        let mut position = None;
        for Queued { event, next } in events {
            position = Some(next);
            match event {
                FeedEvent::Trade(trade) if self.sources.contains(&trade.source) => {
                    self.newest_us = self.newest_us.max(trade.at_us);
                    let Some(candles) = &mut self.candles else { continue };
                    if let Outcome::Forgotten { open_us } = candles.apply(&trade)? {
                        let source = trade.source.clone();
                        let stored = sink
                            .with_store(move |s| s.candles(&source, open_us, open_us + 1, 1))
                            .await?;
                        // A minute before anything stored is history that nobody has; it stays so.
                        if !stored.is_empty() {
                            candles.seed(stored)?;
                            candles.apply(&trade)?;
                        }
                    }
                }
                FeedEvent::Watermark { source, at_us } if self.sources.contains(&source) => {
                    if let Some(candles) = &mut self.candles {
                        candles.advance(&source, at_us);
                    }
                }
                _ => {}
            }
        }
        if let Some(position) = position
            && self.candles.is_none()
        {
            self.marks.push_back((position, self.newest_us));
        }
        Ok(())
    }

    /// Whether more may be read while following.
    pub fn has_room(&self) -> bool {
        self.marks.len() < MARKS_MAX
    }

    /// What changed since the last time, with the watermark behind it.
    pub fn drain(&mut self, before: WallTime) -> Ready {
        let upto = self.consumer.position();
        let Some(candles) = &mut self.candles else {
            return Ready { rows: Vec::new(), watermark: before, upto };
        };
        let rows = candles.drain(true);
        let marks: Option<Vec<u64>> =
            self.sources.iter().map(|source| candles.watermark(source)).collect();
        let watermark = marks.and_then(|marks| marks.into_iter().min()).unwrap_or(0) / 1000;
        Ready { rows, watermark: before.max(WallTime(watermark)), upto }
    }

    /// The rows up to there are visible.
    pub fn sealed(&mut self, upto: Position) {
        self.consumer.acknowledge(upto);
    }

    /// The followed chain's watermark: what is well before it is safe elsewhere.
    pub fn followed(&mut self, watermark: WallTime) {
        let after = u64::try_from(SAFE_AFTER.as_micros()).unwrap_or(u64::MAX);
        let safe = watermark.0.saturating_mul(1000).saturating_sub(after);
        let mut done = None;
        while self.marks.front().is_some_and(|(_, newest)| *newest <= safe) {
            done = self.marks.pop_front();
        }
        if let Some((position, _)) = done {
            self.consumer.acknowledge(position);
        }
    }

    /// Newest input known.
    pub fn input(&self) -> WallTime {
        WallTime(self.newest_us / 1000)
    }
}
