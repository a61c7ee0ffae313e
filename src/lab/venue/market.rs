//! The market of one venue: books that step, trades that come due, and everyone who is told.
//!
//! What always holds: a snapshot and the number it was taken at are read under the lock under which
//! frames are published, so a subscriber that drops frames up to that number has neither a hole nor
//! a frame twice; all subscribers are told the same trades under the same ids; and no message says
//! a time before every trade up to that time has been told, so a reader may close its books by it.

use super::book::{Book, Window, checksum, difference};
use super::frames;
use super::generator::Generator;
use super::pair::{PAIRS, Pair};
use super::schedule::{Schedule, Trade, Walk, mix};
use super::tape::{DEPTHS, Played, Tape};
use crate::protocol::{VenueFault, VenuePair};
use cryptorun_platform::clock::Clock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::broadcast;
use tokio_tungstenite::tungstenite::Utf8Bytes;

/// Frames a reader may lag behind before it is closed: some 30 s of both pairs at full depth.
const LAG_FRAMES_MAX: usize = 4_096;
/// Trades in one frame at most.
const TRADES_PER_FRAME: usize = 100;
/// After standing still (a stopped process) this many trades are told late; older ones are only
/// in the REST history, as at an exchange whose gateway hung while its engine went on.
const LATE_TRADES_MAX: u64 = 2_000;
/// One frame in this many names a level twice, the later one counting, as Kraken's sometimes do.
const TWICE_ONE_IN: u64 = 64;
/// Trades in a snapshot.
pub const SNAPSHOT_TRADES: u64 = 50;

/// What reaches every session.
#[derive(Clone)]
pub enum Event {
    Book(Arc<BookFrame>),
    Trades(Arc<TradeFrame>),
    Fault(Arc<VenueFault>),
}

pub struct BookFrame {
    pub pair: usize,
    pub depth: usize,
    pub step: u64,
    pub checksum: u32,
    pub text: Utf8Bytes,
}

pub struct TradeFrame {
    pub pair: usize,
    pub last: u64,
    pub count: u64,
    pub text: Utf8Bytes,
}

pub struct Market {
    clock: Arc<dyn Clock>,
    pairs: Vec<Mutex<PairMarket>>,
    schedules: Vec<Schedule>,
    watchers: Vec<[AtomicUsize; DEPTHS.len()]>,
    events: broadcast::Sender<Event>,
}

struct PairMarket {
    pair: &'static Pair,
    book: Book,
    source: Source,
    step: u64,
    /// Highest trade id told to anybody.
    told: u64,
    seed: u64,
}

enum Source {
    Generated(Generator),
    Recorded(Tape),
}

/// Keeps frames of one depth being made while it lives.
pub struct Watch {
    market: Arc<Market>,
    pair: usize,
    depth: usize,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.market.watchers[self.pair][self.depth].fetch_sub(1, Ordering::Relaxed);
    }
}

impl Market {
    pub fn new(
        clock: Arc<dyn Clock>,
        seed: u64,
        trades_per_second: [u32; PAIRS.len()],
        tapes: Vec<Option<Tape>>,
    ) -> Self {
        let mut tapes = tapes;
        tapes.resize_with(PAIRS.len(), || None);
        let now_us = clock.wall().0 * 1_000;
        let mut pairs = Vec::new();
        let mut schedules = Vec::new();
        for (index, (pair, tape)) in PAIRS.iter().zip(tapes).enumerate() {
            let seed = mix(seed, 0, index as u64);
            let anchor = tape.as_ref().map_or(pair.anchor, Tape::mid);
            let walk = Walk::new(seed, anchor);
            let schedule = Schedule::new(seed, trades_per_second[index], walk.clone());
            let mut book = Book::default();
            let source = match tape {
                Some(mut tape) => {
                    let _ = tape.step(&mut book);
                    Source::Recorded(tape)
                }
                None => {
                    let mut generator = Generator::new(seed, walk);
                    generator.step(&mut book, now_us / 1_000);
                    Source::Generated(generator)
                }
            };
            let told = schedule.last_at(now_us);
            pairs.push(Mutex::new(PairMarket { pair, book, source, step: 0, told, seed }));
            schedules.push(schedule);
        }
        let watchers = PAIRS.iter().map(|_| Default::default()).collect();
        let events = broadcast::Sender::new(LAG_FRAMES_MAX);
        Self { clock, pairs, schedules, watchers, events }
    }

    pub fn listen(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// Gives every session a fault to act out, in order with the frames around it.
    pub fn fault(&self, fault: VenueFault) {
        let _ = self.events.send(Event::Fault(Arc::new(fault)));
    }

    pub fn schedule(&self, pair: usize) -> &Schedule {
        &self.schedules[pair]
    }

    pub fn window(&self, pair: usize, depth: usize) -> Window {
        self.lock(pair).book.window(depth)
    }

    /// Highest trade id told to anybody.
    pub fn told(&self, pair: usize) -> u64 {
        self.lock(pair).told
    }

    pub fn now_us(&self) -> u64 {
        self.clock.wall().0 * 1_000
    }

    pub fn status(&self, pair: usize) -> VenuePair {
        let market = self.lock(pair);
        let book = match market.source {
            Source::Generated(_) => "generated",
            Source::Recorded(_) => "recorded",
        };
        VenuePair { last_trade_id: market.told, book_steps: market.step, book: book.into() }
    }

    /// Depths served for a pair: a recording holds no more levels than it recorded.
    pub fn serves_depth(&self, pair: usize, depth: usize) -> bool {
        let deepest = match &self.lock(pair).source {
            Source::Generated(_) => DEPTHS[DEPTHS.len() - 1],
            Source::Recorded(tape) => tape.depth,
        };
        DEPTHS.contains(&depth) && depth <= deepest
    }

    /// The snapshot frame, the step it was taken at, and what keeps its updates coming.
    pub fn watch_book(self: &Arc<Self>, pair: usize, depth: usize) -> (Utf8Bytes, u64, Watch) {
        let index = DEPTHS.iter().position(|known| *known == depth).unwrap_or_default();
        let market = self.lock(pair);
        self.watchers[pair][index].fetch_add(1, Ordering::Relaxed);
        let window = market.book.window(depth);
        let crc = checksum(&window);
        let text = frames::book(market.pair, "snapshot", &window, crc, self.now_us());
        (text.into(), market.step, Watch { market: self.clone(), pair, depth: index })
    }

    /// The last fifty trades and the id of the newest of them.
    pub fn recent_trades(&self, pair: usize) -> (Utf8Bytes, u64) {
        let told = self.lock(pair).told;
        let first = told.saturating_sub(SNAPSHOT_TRADES - 1).max(1);
        let trades: Vec<_> = (first..=told).map(|id| self.schedules[pair].trade(id)).collect();
        (frames::trades(&PAIRS[pair], "snapshot", &trades).into(), told)
    }

    /// Steps a pair's book for ever at about `per_second`, or as its recording did.
    pub async fn run_book(&self, pair: usize, per_second: u32) {
        let mean_ns = 1_000_000_000 / u64::from(per_second.clamp(1, 2_000));
        let mut due = tokio::time::Instant::now();
        loop {
            let pause_ns = {
                let market = self.lock(pair);
                match &market.source {
                    Source::Recorded(tape) => tape.pause_ns(),
                    // Between half and one and a half of the mean: venues do not tick.
                    Source::Generated(_) => {
                        mean_ns / 2 + mix(market.seed, 8, market.step) % mean_ns.max(1)
                    }
                }
            };
            due += Duration::from_nanos(pause_ns);
            let now = tokio::time::Instant::now();
            if now > due + Duration::from_secs(1) {
                due = now; // Stood still: go on from here rather than hurry after the past.
            }
            tokio::time::sleep_until(due).await;
            self.step_book(pair);
        }
    }

    /// Tells trades as they come due, for ever.
    pub async fn run_trades(&self) {
        loop {
            let next = (0..PAIRS.len()).map(|pair| self.schedules[pair].at_us(self.told(pair) + 1));
            let wait = next.min().unwrap_or_default().saturating_sub(self.now_us());
            if wait > 0 {
                // A wall clock that jumps back a day must not silence the venue for a day.
                tokio::time::sleep(Duration::from_micros(wait.min(1_000_000))).await;
                continue;
            }
            self.tell_trades();
        }
    }

    /// Moves the book one step and tells every depth that somebody watches.
    pub fn step_book(&self, pair: usize) {
        let at_us = self.now_us();
        let watched: Vec<usize> = DEPTHS
            .iter()
            .zip(&self.watchers[pair])
            .filter(|(_, watchers)| watchers.load(Ordering::Relaxed) > 0)
            .map(|(depth, _)| *depth)
            .collect();
        let mut guard = self.lock(pair);
        let market = &mut *guard;
        let before: Vec<Window> = watched.iter().map(|depth| market.book.window(*depth)).collect();
        let verbatim = market.advance(at_us / 1_000);
        market.step += 1;
        for (depth, before) in watched.into_iter().zip(before) {
            let after = market.book.window(depth);
            let changes = match &verbatim {
                Some((recorded, changes)) if *recorded == depth => changes.clone(),
                _ => difference(&before, &after, &market.book),
            };
            if changes == Window::default() {
                continue;
            }
            let changes = market.sometimes_twice(changes, &before);
            let crc = checksum(&after);
            let text = frames::book(market.pair, "update", &changes, crc, at_us).into();
            let step = market.step;
            let frame = BookFrame { pair, depth, step, checksum: crc, text };
            let _ = self.events.send(Event::Book(Arc::new(frame)));
        }
    }

    /// Tells every trade that is due, those of all pairs in order of time, and returns the instant
    /// up to which nothing is left to tell: what says the time afterwards may say that one.
    pub fn tell_trades(&self) -> u64 {
        let mut markets: Vec<_> = (0..PAIRS.len()).map(|pair| self.lock(pair)).collect();
        let now_us = self.now_us();
        let mut due = Vec::new();
        for (pair, market) in markets.iter_mut().enumerate() {
            let schedule = &self.schedules[pair];
            let last = schedule.last_at(now_us).max(market.told);
            if last > market.told + LATE_TRADES_MAX {
                tracing::warn!(
                    pair = market.pair.symbol,
                    missed = last - market.told,
                    "stood still"
                );
                market.told = last - LATE_TRADES_MAX;
            }
            due.extend((market.told + 1..=last).map(|id| (pair, schedule.trade(id))));
            market.told = last;
        }
        due.sort_by_key(|(pair, trade)| (trade.at_us, *pair));
        for run in due.chunk_by(|a, b| a.0 == b.0) {
            for part in run.chunks(TRADES_PER_FRAME) {
                let pair = part[0].0;
                let trades: Vec<Trade> = part.iter().map(|(_, trade)| *trade).collect();
                let last = trades[trades.len() - 1].id;
                let text = frames::trades(&PAIRS[pair], "update", &trades).into();
                let frame = TradeFrame { pair, last, count: trades.len() as u64, text };
                let _ = self.events.send(Event::Trades(Arc::new(frame)));
            }
        }
        now_us
    }

    fn lock(&self, pair: usize) -> MutexGuard<'_, PairMarket> {
        self.pairs[pair].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PairMarket {
    /// Changes the book; for a recording also its depth and its changes as they were recorded.
    fn advance(&mut self, ms: u64) -> Option<(usize, Window)> {
        match &mut self.source {
            Source::Generated(generator) => {
                generator.step(&mut self.book, ms);
                None
            }
            Source::Recorded(tape) => match tape.step(&mut self.book) {
                Played::Changes(changes) => Some((tape.depth, changes)),
                Played::Replaced => None,
            },
        }
    }

    fn sometimes_twice(&self, mut changes: Window, before: &Window) -> Window {
        let generated = matches!(self.source, Source::Generated(_));
        if !generated || !mix(self.seed, 7, self.step).is_multiple_of(TWICE_ONE_IN) {
            return changes;
        }
        // The level first as it was, then as it is.
        let known = |levels: &[(i64, i64)], price: i64| {
            levels.iter().find(|(known, _)| *known == price).copied()
        };
        if let Some(old) = changes.bids.first().and_then(|(price, _)| known(&before.bids, *price)) {
            changes.bids.insert(0, old);
        } else if let Some(old) =
            changes.asks.first().and_then(|(price, _)| known(&before.asks, *price))
        {
            changes.asks.insert(0, old);
        }
        changes
    }
}
