//! Candles: trades of a source summed by time, in scaled integers.
//!
//! Trades may come in any order, twice, or late, from the stream, from REST or from a peer. A candle
//! knows which ids it is made of, so a trade cannot count twice, and one that arrives after its
//! candle closed revises it under a higher revision. Nothing is overwritten in silence.
//!
//! What always holds:
//!  1. the same set of trades gives the same candles, whatever their order and repetition;
//!  2. a candle closes once its source's watermark has passed its end by the allowed lateness;
//!  3. `trades` is the number of ids in `first_trade_id..=last_trade_id` outside `holes`, which is
//!     what makes a stored candle as good as the trades themselves for knowing what was counted;
//!  4. a candle that may lack trades says so: `complete` is false.
//!
//! Open is the price of the lowest id and close that of the highest: ids are the venue's order,
//! times may tie. An interval without trades has no candle.
//!
//! Deliberately absent: clocks, disks, leases. Time is what the watermark says.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ingest::decimal::rescale;
use crate::ingest::ids::IdSet;
use crate::ingest::model::{IdRange, Source, Trade};
use crate::ingest::sequence::{Missing, Resume, Seen};

/// A source's ids are one interval while its feed has no unfilled gaps; this bounds the memory of
/// one that has many.
const SEEN_SPANS_MAX: usize = 4_096;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CandleState {
    /// Still taking trades.
    Open,
    Closed,
    /// Closed, then changed by late trades.
    Revised,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candle {
    pub source: Source,
    pub interval_us: u64,
    /// Covers `open_us` up to, not including, `open_us + interval_us`.
    pub open_us: u64,
    pub price_scale: u8,
    pub qty_scale: u8,
    pub open: i64,
    pub high: i64,
    pub low: i64,
    pub close: i64,
    /// At `qty_scale`.
    #[serde(with = "as_text")]
    pub volume: i128,
    /// Price times quantity, at `price_scale + qty_scale`.
    #[serde(with = "as_text")]
    pub quote_volume: i128,
    pub trades: u64,
    pub first_trade_id: u64,
    pub last_trade_id: u64,
    /// Ids between first and last that are not in this candle, ascending.
    pub holes: Vec<IdRange>,
    /// Whether every id up to its neighbours is accounted for.
    pub complete: bool,
    pub state: CandleState,
    pub revision: u32,
}

/// JSON numbers end at 2^53 in most readers; sums do not.
mod as_text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(number: &i128, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&number.to_string())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<i128, D::Error> {
        let text = String::deserialize(from)?;
        text.parse().map_err(|_| D::Error::custom(format_args!("not a whole number: {text:?}")))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CandleSettings {
    pub interval: Duration,
    /// How far behind the watermark a trade may be without revising a closed candle.
    pub lateness: Duration,
    /// Closed candles kept in memory for late trades, per source.
    pub keep: usize,
}

impl Default for CandleSettings {
    /// One minute; five seconds cover a reconnect with its backfill; three hours of late trades.
    fn default() -> Self {
        Self { interval: Duration::from_secs(60), lateness: Duration::from_secs(5), keep: 180 }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Added,
    /// Added to a candle that was closed: it will be published again under the next revision.
    Revises,
    Duplicate,
    /// Its candle is no longer in memory. Nothing was changed: seed that candle from the store, and
    /// apply the trade again.
    Forgotten {
        open_us: u64,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    #[error("trade {id} of {source_name} does not fit its candle's numbers")]
    Overflow { source_name: String, id: u64 },
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SeedError {
    #[error("candle {name} says {trades} trades and its ids say {ids}")]
    Count { name: String, trades: u64, ids: u64 },
    #[error("candle {name} is malformed: {what}")]
    Malformed { name: String, what: &'static str },
    #[error("candle {name} holds ids that another candle holds too")]
    Overlap { name: String },
    #[error("candle {name} is in memory already")]
    Known { name: String },
}

#[derive(Debug)]
pub struct Aggregator {
    interval_us: u64,
    lateness_us: u64,
    keep: usize,
    series: BTreeMap<Source, Series>,
}

#[derive(Debug, Default)]
struct Series {
    /// Every id counted in any candle since the start or the seed.
    seen: IdSet,
    watermark_us: u64,
    /// Candles that open before this are in the store, not here.
    floor_us: u64,
    buckets: BTreeMap<u64, Bucket>,
}

#[derive(Debug)]
struct Bucket {
    candle: Candle,
    ids: IdSet,
    /// Changed since it was last handed out.
    dirty: bool,
    /// Handed out as closed, or its absence was.
    published: bool,
    /// The first id before which nothing is missing, as the store knew it.
    sure_from: Option<u64>,
}

impl Aggregator {
    pub fn new(settings: CandleSettings) -> Self {
        Self {
            interval_us: micros(settings.interval).max(1),
            lateness_us: micros(settings.lateness),
            keep: settings.keep.max(1),
            series: BTreeMap::new(),
        }
    }

    /// Takes over candles that were stored, here or by a former holder. What they counted is not
    /// counted again; trades older than the oldest of them are `Forgotten`, not begun anew.
    /// All or nothing.
    pub fn seed(&mut self, candles: Vec<Candle>) -> Result<(), SeedError> {
        let mut seeded: BTreeMap<Source, Vec<(Candle, IdSet)>> = BTreeMap::new();
        for candle in candles {
            let ids = self.checked_ids(&candle)?;
            seeded.entry(candle.source.clone()).or_default().push((candle, ids));
        }
        for (source, candles) in &seeded {
            let known = self.series.get(source);
            let mut held = known.map(Series::held).unwrap_or_default();
            let mut opens = BTreeSet::new();
            for (candle, ids) in candles {
                let in_memory = known.is_some_and(|s| s.buckets.contains_key(&candle.open_us));
                if in_memory || !opens.insert(candle.open_us) {
                    return Err(SeedError::Known { name: name_of(candle) });
                }
                for range in ids.ranges() {
                    if held.missing_in(range) != [range] {
                        return Err(SeedError::Overlap { name: name_of(candle) });
                    }
                    held.insert_range(range);
                }
            }
        }
        for (source, candles) in seeded {
            let series = self.series.entry(source).or_default();
            if series.seen.is_empty() {
                series.floor_us =
                    candles.iter().map(|(candle, _)| candle.open_us).min().unwrap_or(0);
            } // Otherwise a forgotten candle is called back, and its elders stay where they are.
            for (candle, ids) in candles {
                ids.ranges().for_each(|range| series.seen.insert_range(range));
                let bucket = Bucket {
                    dirty: false,
                    published: candle.state != CandleState::Open,
                    sure_from: candle.complete.then_some(candle.first_trade_id),
                    ids,
                    candle,
                };
                series.buckets.insert(bucket.candle.open_us, bucket);
            }
        }
        Ok(())
    }

    pub fn apply(&mut self, trade: &Trade) -> Result<Outcome, ApplyError> {
        let open_us = trade.at_us - trade.at_us % self.interval_us;
        let closes_at = open_us.saturating_add(self.interval_us).saturating_add(self.lateness_us);
        let series = self.series.entry(trade.source.clone()).or_default();
        if series.seen.contains(trade.id) {
            return Ok(Outcome::Duplicate);
        }
        if open_us < series.floor_us && !series.buckets.contains_key(&open_us) {
            return Ok(Outcome::Forgotten { open_us });
        }
        let late = series.watermark_us >= closes_at;
        match series.buckets.get_mut(&open_us) {
            Some(bucket) => bucket.candle.add(trade)?,
            None => {
                let bucket = Bucket {
                    candle: Candle::begin(trade, open_us, self.interval_us)?,
                    ids: IdSet::new(),
                    dirty: true,
                    // Nothing at all was said of this interval, and that was taken for "no trades".
                    published: late,
                    sure_from: None,
                };
                series.buckets.insert(open_us, bucket);
            }
        }
        series.seen.insert(trade.id);
        series.seen.forget_oldest(SEEN_SPANS_MAX);
        let Some(bucket) = series.buckets.get_mut(&open_us) else { return Ok(Outcome::Added) };
        bucket.ids.insert(trade.id);
        bucket.dirty = true;
        Ok(if bucket.published { Outcome::Revises } else { Outcome::Added })
    }

    /// Everything of this source at or below `at_us` has arrived. Never goes back.
    pub fn advance(&mut self, source: &Source, at_us: u64) {
        let series = self.series.entry(source.clone()).or_default();
        series.watermark_us = series.watermark_us.max(at_us);
        let span = self.interval_us.saturating_add(self.lateness_us);
        let Some(due) = series.watermark_us.checked_sub(span) else { return };
        for bucket in series.buckets.range_mut(..=due).map(|(_, bucket)| bucket) {
            if bucket.candle.state == CandleState::Open {
                bucket.candle.state = CandleState::Closed;
                bucket.dirty = true;
            }
        }
    }

    /// What changed since the last call, by source and time: closed and revised candles, and with
    /// `with_open` those still taking trades. Forgets closed candles beyond `keep`.
    pub fn drain(&mut self, with_open: bool) -> Vec<Candle> {
        let mut changed = Vec::new();
        for series in self.series.values_mut() {
            for bucket in series.buckets.values_mut().filter(|bucket| bucket.dirty) {
                let open = bucket.candle.state == CandleState::Open && !bucket.published;
                if open && !with_open {
                    continue;
                }
                if bucket.published {
                    bucket.candle.state = CandleState::Revised;
                    bucket.candle.revision += 1;
                }
                bucket.published = !open;
                bucket.dirty = false;
                bucket.describe(&series.seen);
                changed.push(bucket.candle.clone());
            }
            series.forget(self.keep, self.interval_us);
        }
        changed
    }

    pub fn watermark(&self, source: &Source) -> Option<u64> {
        self.series.get(source).map(|series| series.watermark_us).filter(|at| *at > 0)
    }

    /// Where a feed has to go on so that these candles miss nothing and count nothing twice.
    pub fn resume(&self, source: &Source) -> Option<Resume> {
        let series = self.series.get(source)?;
        let holder = |id: u64| series.buckets.values().find(|bucket| bucket.ids.contains(id));
        // A candle's begin is at or before each of its trades, which is all a listing needs.
        let time_of = |id: u64| holder(id).map_or(series.floor_us, |bucket| bucket.candle.open_us);
        let last = series.seen.last()?;
        let missing = self.missing(source).into_iter();
        Some(Resume {
            last: Seen { id: last, at_us: time_of(last) },
            missing: missing.map(|ids| Missing { ids, since_us: time_of(ids.first - 1) }).collect(),
        })
    }

    /// The highest id counted: where a restarted feed goes on.
    pub fn last_id(&self, source: &Source) -> Option<u64> {
        self.series.get(source).and_then(|series| series.seen.last())
    }

    /// Ids below the highest that no candle counted, for fetching again.
    pub fn missing(&self, source: &Source) -> Vec<IdRange> {
        let Some(series) = self.series.get(source) else { return Vec::new() };
        match (series.seen.first(), series.seen.last()) {
            (Some(first), Some(last)) => series.seen.missing_in(IdRange { first, last }),
            _ => Vec::new(),
        }
    }

    pub fn sources(&self) -> impl Iterator<Item = &Source> {
        self.series.keys()
    }

    fn checked_ids(&self, candle: &Candle) -> Result<IdSet, SeedError> {
        let malformed = |what| Err(SeedError::Malformed { name: name_of(candle), what });
        let whole = IdRange { first: candle.first_trade_id, last: candle.last_trade_id };
        if candle.interval_us != self.interval_us
            || !candle.open_us.is_multiple_of(self.interval_us)
        {
            return malformed("another interval");
        }
        if whole.first > whole.last {
            return malformed("its first id is above its last");
        }
        let prices = [candle.open, candle.close, candle.high, candle.low];
        if prices.iter().any(|price| *price < candle.low || *price > candle.high) {
            return malformed("a price outside low and high");
        }
        let mut ids = IdSet::new();
        ids.insert_range(whole);
        for hole in &candle.holes {
            if hole.first > hole.last || hole.first <= whole.first || hole.last >= whole.last {
                return malformed("a hole outside its ids");
            }
            ids.remove_range(*hole);
        }
        if ids.count() != candle.trades {
            let (trades, ids) = (candle.trades, ids.count());
            return Err(SeedError::Count { name: name_of(candle), trades, ids });
        }
        Ok(ids)
    }
}

impl Series {
    /// The ids of the candles in memory.
    fn held(&self) -> IdSet {
        let mut held = IdSet::new();
        for bucket in self.buckets.values() {
            bucket.ids.ranges().for_each(|range| held.insert_range(range));
        }
        held
    }

    /// Lets go of the oldest closed candles that have been handed out.
    fn forget(&mut self, keep: usize, interval_us: u64) {
        while self.buckets.len() > keep {
            let Some(oldest) = self.buckets.first_entry() else { return };
            if oldest.get().dirty || !oldest.get().published {
                return;
            }
            let end = oldest.key().saturating_add(interval_us);
            oldest.remove();
            self.floor_us = self.floor_us.max(end);
        }
    }
}

impl Bucket {
    /// Fills in what follows from the ids.
    fn describe(&mut self, seen: &IdSet) {
        let candle = &mut self.candle;
        let whole = IdRange { first: candle.first_trade_id, last: candle.last_trade_id };
        candle.holes = self.ids.missing_in(whole);
        let head = self.sure_from == Some(whole.first)
            || whole.first == 0
            || seen.contains(whole.first - 1);
        let tail = seen.last() == Some(whole.last)
            || whole.last.checked_add(1).is_none_or(|next| seen.contains(next));
        candle.complete = head && tail && seen.contains_all(whole);
    }
}

impl Candle {
    fn begin(trade: &Trade, open_us: u64, interval_us: u64) -> Result<Self, ApplyError> {
        let mut candle = Self {
            source: trade.source.clone(),
            interval_us,
            open_us,
            price_scale: trade.price_scale,
            qty_scale: trade.qty_scale,
            open: trade.price,
            high: trade.price,
            low: trade.price,
            close: trade.price,
            volume: 0,
            quote_volume: 0,
            trades: 0,
            first_trade_id: trade.id,
            last_trade_id: trade.id,
            holes: Vec::new(),
            complete: false,
            state: CandleState::Open,
            revision: 0,
        };
        candle.add(trade)?;
        Ok(candle)
    }

    /// Adds a trade that is not in it yet. On an error nothing has changed.
    fn add(&mut self, trade: &Trade) -> Result<(), ApplyError> {
        self.checked_add(trade).ok_or_else(|| ApplyError::Overflow {
            source_name: trade.source.to_string(),
            id: trade.id,
        })
    }

    fn checked_add(&mut self, trade: &Trade) -> Option<()> {
        // A venue may refine a pair's precision in the middle of a minute.
        let mut next = self.at_scales(
            self.price_scale.max(trade.price_scale),
            self.qty_scale.max(trade.qty_scale),
        )?;
        let price = narrow(rescale(trade.price.into(), trade.price_scale, next.price_scale)?)?;
        let qty = rescale(trade.qty.into(), trade.qty_scale, next.qty_scale)?;
        next.high = next.high.max(price);
        next.low = next.low.min(price);
        if trade.id <= next.first_trade_id {
            (next.first_trade_id, next.open) = (trade.id, price);
        }
        if trade.id >= next.last_trade_id {
            (next.last_trade_id, next.close) = (trade.id, price);
        }
        next.volume = next.volume.checked_add(qty)?;
        next.quote_volume = next.quote_volume.checked_add(i128::from(price).checked_mul(qty)?)?;
        next.trades += 1;
        *self = next;
        Some(())
    }

    fn at_scales(&self, price_scale: u8, qty_scale: u8) -> Option<Self> {
        let mut next = self.clone();
        if (price_scale, qty_scale) == (self.price_scale, self.qty_scale) {
            return Some(next);
        }
        for price in [&mut next.open, &mut next.high, &mut next.low, &mut next.close] {
            *price = narrow(rescale((*price).into(), self.price_scale, price_scale)?)?;
        }
        next.volume = rescale(self.volume, self.qty_scale, qty_scale)?;
        next.quote_volume =
            rescale(self.quote_volume, self.price_scale + self.qty_scale, price_scale + qty_scale)?;
        (next.price_scale, next.qty_scale) = (price_scale, qty_scale);
        Some(next)
    }
}

fn narrow(number: i128) -> Option<i64> {
    i64::try_from(number).ok()
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn name_of(candle: &Candle) -> String {
    format!("{} at {} us", candle.source, candle.open_us)
}

#[cfg(test)]
mod tests;
