//! The intake of one venue connection: frames and time in, things to do out.
//!
//! It asks for the pairs' precision, subscribes, watches that every request is acknowledged and
//! that data keeps coming, keeps each symbol's sequence and book, and orders their repair. It has
//! no socket and no clock: `session.rs` lends it both, and a test lends it neither.
//!
//! ```text
//! Disconnected → Instruments → Subscribing → Live
//!       ↑_____________|______________|_________|   silence, refusal, too many resyncs
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use cryptorun_core::time::WallTime;
use cryptorun_platform::clock::BootTime;

use super::feed::{BookGap, FeedEvent, FeedReport, Phase};
use super::model::{Source, Symbol};
use super::sequence::ResumePoints;
use super::stream::{BookVerdict, Stream};
use super::venue::{Capabilities, Channel, DecodeError, TradePage, Venue, VenueEvent};

/// Everything asked for has to be acknowledged within this.
pub const ACK_MAX: Duration = Duration::from_secs(10);

/// Precision not told by the stream within this is asked for over REST.
const INSTRUMENT_WAIT: Duration = Duration::from_secs(3);

/// More resyncs than this in a minute, and the connection itself is what is wrong.
const RESYNCS_PER_MINUTE: usize = 6;

/// How often the venue is asked for its time, so that a quiet market's watermark moves on.
const PING_EVERY: Duration = Duration::from_secs(5);

/// A venue that answers and sends no data may be stalled, so its clock counts only this long after
/// data. Shorter than the lateness of candles: none closes on trades that were held back.
const QUIET_MAX: Duration = Duration::from_secs(2);

/// A venue time further ahead of ours than this moves no watermark: one of the clocks is wrong,
/// and a wrong watermark closes candles for good.
const AHEAD_MAX_US: u64 = 10_000_000;

/// A symbol without data for this many times the venue's longest silence is stale, though the
/// connection lives: thin pairs are slower than a venue.
const SYMBOL_SILENCE: u32 = 6;

/// The moment, by both clocks: one to measure, one to compare with what a venue writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    pub boot: BootTime,
    pub wall: WallTime,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    Send(String),
    Emit(FeedEvent),
    Fetch(Fetch),
    /// Drop the connection and begin anew.
    Reconnect(EndReason),
}

/// A question to REST. One per symbol and kind is open at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetch {
    pub symbol: Symbol,
    pub kind: FetchKind,
    pub path: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FetchKind {
    Trades,
    Instrument,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EndReason {
    #[error("no data for longer than the venue is ever silent")]
    Silence,
    #[error("requests were not acknowledged in time")]
    NotAcknowledged,
    #[error("the pairs' precision could not be learnt")]
    NoInstruments,
    #[error("every symbol was refused")]
    AllRefused,
    #[error("too many books began again within a minute")]
    TooManyResyncs,
    #[error("a book's new snapshot did not come")]
    ResyncStuck,
}

pub struct Intake<V> {
    venue: V,
    abilities: Capabilities,
    streams: BTreeMap<Symbol, Stream>,
    phase: Phase,
    /// When the present phase has to be over.
    deadline: BootTime,
    asked_rest: bool,
    awaiting: BTreeSet<(Channel, Symbol)>,
    /// The venue's time as this connection last told it.
    venue_us: u64,
    next_ping: BootTime,
    resyncs: VecDeque<BootTime>,
    counts: FeedReport,
    events: Vec<VenueEvent>,
}

impl<V: Venue> Intake<V> {
    /// `resume` tells where each symbol's stored trades end, so that what was missed is known.
    pub fn new(venue: V, symbols: &[Symbol], depth: usize, resume: &ResumePoints) -> Self {
        let abilities = venue.capabilities();
        let stream = |symbol: &Symbol| {
            let source = Source { venue: abilities.venue, symbol: symbol.clone() };
            (symbol.clone(), Stream::new(source, depth, resume.get(symbol)))
        };
        Self {
            streams: symbols.iter().map(stream).collect(),
            venue,
            abilities,
            phase: Phase::Disconnected,
            deadline: BootTime::default(),
            asked_rest: false,
            awaiting: BTreeSet::new(),
            venue_us: 0,
            next_ping: BootTime::default(),
            resyncs: VecDeque::new(),
            counts: FeedReport { venue: Some(abilities.venue), ..FeedReport::default() },
            events: Vec::new(),
        }
    }

    pub fn capabilities(&self) -> Capabilities {
        self.abilities
    }

    pub fn connected(&mut self, now: Now, out: &mut Vec<Act>) {
        self.counts.connections += 1;
        self.counts.last_data = Some(now.boot); // The watchdog counts from here.
        self.phase = Phase::Instruments;
        self.deadline = now.boot + ACK_MAX;
        self.asked_rest = false;
        self.awaiting.clear();
        self.resyncs.clear();
        self.venue_us = 0;
        self.next_ping = now.boot + PING_EVERY;
        self.streams.values_mut().for_each(|stream| stream.connected(now.boot));
        out.extend(self.venue.hello().into_iter().map(Act::Send));
    }

    pub fn disconnected(&mut self, now: Now) {
        self.phase = Phase::Disconnected;
        self.streams.values_mut().for_each(|stream| stream.disconnected(now.boot));
    }

    pub fn frame(&mut self, now: Now, frame: &[u8], out: &mut Vec<Act>) {
        self.counts.frames += 1;
        let mut events = std::mem::take(&mut self.events);
        match self.venue.decode(frame, &mut events) {
            Ok(()) => {
                for event in events.drain(..) {
                    self.event(now, event, out);
                }
            }
            Err(error) => self.quarantine(now, &error, out),
        }
        events.clear();
        self.events = events; // Its memory serves the next frame.
        self.settle(now, out);
    }

    /// A frame we could not read may have been a piece of a book. A trade it may have been shows
    /// by itself: the next id will not fit.
    fn quarantine(&mut self, now: Now, error: &DecodeError, out: &mut Vec<Act>) {
        self.counts.quarantined += 1;
        tracing::warn!(
            venue = self.abilities.venue.as_str(),
            error = error as &dyn std::error::Error,
            "frame quarantined"
        );
        if matches!(error.channel(), Some(Channel::Trade | Channel::Instrument)) {
            return;
        }
        let doubtful: Vec<Symbol> = match error.symbol() {
            Some(symbol) => vec![symbol.clone()],
            None => self.streams.keys().cloned().collect(),
        };
        for symbol in doubtful {
            let Some(stream) = self.streams.get_mut(&symbol) else { continue };
            if stream.has_valid_book() {
                stream.break_book(now.boot, BookGap::Unreadable, out);
                self.resync(now, &symbol, out);
            }
        }
    }

    fn event(&mut self, now: Now, event: VenueEvent, out: &mut Vec<Act>) {
        match event {
            VenueEvent::Status { online } => self.counts.venue_online = online,
            VenueEvent::Heartbeat | VenueEvent::Ignored | VenueEvent::Unsubscribed { .. } => {}
            VenueEvent::Unknown => self.counts.unknown += 1,
            VenueEvent::Time { at_us } => {
                let quiet = now.boot - self.counts.last_data.unwrap_or_default();
                if quiet <= QUIET_MAX {
                    self.venue_time(now, at_us);
                }
            }
            VenueEvent::Subscribed { channel, symbol } => {
                if let Some(symbol) = symbol {
                    self.awaiting.remove(&(channel, symbol));
                }
            }
            VenueEvent::Refused { channel, symbol, reason } => {
                self.refused(channel, symbol, reason);
            }
            VenueEvent::Instrument(instrument) => {
                self.data(now);
                if let Some(stream) = self.streams.get_mut(&instrument.symbol) {
                    stream.known = true;
                }
            }
            VenueEvent::Trades { trades, .. } => {
                self.data(now);
                for trade in trades {
                    self.venue_time(now, trade.at_us);
                    if let Some(stream) = self.streams.get_mut(&trade.source.symbol) {
                        stream.take_trade(now.boot, trade, out);
                    }
                }
            }
            VenueEvent::Book(message) => {
                self.data(now);
                self.venue_time(now, message.at_us.unwrap_or(0));
                let Some(stream) = self.streams.get_mut(&message.symbol) else { return };
                let verdict = stream.take_book(now.boot, &message, &self.venue, out);
                if verdict == BookVerdict::Broken {
                    self.resync(now, &message.symbol, out);
                }
            }
        }
    }

    fn data(&mut self, now: Now) {
        self.counts.data_frames += 1;
        self.counts.last_data = Some(now.boot);
    }

    fn venue_time(&mut self, now: Now, at_us: u64) {
        let wall_us = now.wall.0.saturating_mul(1_000);
        if at_us <= wall_us.saturating_add(AHEAD_MAX_US) {
            self.venue_us = self.venue_us.max(at_us);
        }
    }

    fn refused(&mut self, channel: Option<Channel>, symbol: Option<Symbol>, reason: String) {
        self.counts.refused += 1;
        tracing::warn!(venue = self.abilities.venue.as_str(), ?channel, ?symbol, reason, "refused");
        let Some(symbol) = symbol else { return };
        let asked: Vec<Channel> = match channel {
            Some(channel) => vec![channel],
            None => vec![Channel::Trade, Channel::Book],
        };
        let mut first_answer = false;
        for channel in asked {
            first_answer |= self.awaiting.remove(&(channel, symbol.clone()));
        }
        // A refusal of a repeated request leaves its deadline to judge.
        if let Some(stream) = self.streams.get_mut(&symbol).filter(|_| first_answer) {
            stream.refuse(reason);
        }
    }

    /// Begins a book again, unless that has happened too often.
    fn resync(&mut self, now: Now, symbol: &Symbol, out: &mut Vec<Act>) {
        let minute = Duration::from_secs(60);
        self.resyncs.push_back(now.boot);
        while self.resyncs.front().is_some_and(|at| now.boot - *at >= minute) {
            self.resyncs.pop_front();
        }
        if self.resyncs.len() > RESYNCS_PER_MINUTE {
            out.push(Act::Reconnect(EndReason::TooManyResyncs));
            return;
        }
        let only = std::slice::from_ref(symbol);
        let frames = self.venue.unsubscribe(Channel::Book, only).into_iter();
        out.extend(frames.chain(self.venue.subscribe(Channel::Book, only)).map(Act::Send));
    }

    /// Moves to the next phase when the present one has all it waited for.
    fn settle(&mut self, now: Now, out: &mut Vec<Act>) {
        if self.phase == Phase::Instruments && self.streams.values().all(|stream| stream.known) {
            self.subscribe_known(now, out);
        }
        if self.phase == Phase::Subscribing && self.awaiting.is_empty() {
            if self.streams.values().all(Stream::is_refused) {
                out.push(Act::Reconnect(EndReason::AllRefused));
            } else {
                self.phase = Phase::Live;
            }
        }
        for stream in self.streams.values_mut() {
            stream.repair(now.boot, &self.venue, out);
        }
    }

    fn subscribe_known(&mut self, now: Now, out: &mut Vec<Act>) {
        let known: Vec<Symbol> = self
            .streams
            .iter()
            .filter(|(_, stream)| stream.known && !stream.is_refused())
            .map(|(symbol, _)| symbol.clone())
            .collect();
        for channel in [Channel::Trade, Channel::Book] {
            out.extend(self.venue.subscribe(channel, &known).into_iter().map(Act::Send));
            self.awaiting.extend(known.iter().map(|symbol| (channel, symbol.clone())));
        }
        for symbol in &known {
            if let Some(stream) = self.streams.get_mut(symbol) {
                stream.book_asked(now.boot);
            }
        }
        self.phase = Phase::Subscribing;
        self.deadline = now.boot + ACK_MAX;
    }

    /// Called a few times a second: everything that happens because nothing happened.
    pub fn tick(&mut self, now: Now, out: &mut Vec<Act>) {
        match self.phase {
            Phase::Disconnected => return,
            Phase::Instruments => self.instruments_due(now, out),
            Phase::Subscribing if now.boot >= self.deadline => {
                out.push(Act::Reconnect(EndReason::NotAcknowledged));
            }
            Phase::Subscribing | Phase::Live => {}
        }
        let silent = now.boot - self.counts.last_data.unwrap_or_default();
        if self.phase == Phase::Live && silent > self.abilities.silence_max {
            out.push(Act::Reconnect(EndReason::Silence));
        }
        if now.boot >= self.next_ping {
            self.next_ping = now.boot + PING_EVERY;
            out.extend(self.venue.ping().map(Act::Send));
        }
        let mut broken = Vec::new();
        for (symbol, stream) in &mut self.streams {
            match stream.look_at_book(now.boot, out) {
                BookVerdict::Fine => {}
                BookVerdict::Broken => broken.push(symbol.clone()),
                BookVerdict::Stuck => out.push(Act::Reconnect(EndReason::ResyncStuck)),
            }
            stream.advance(now.boot, self.venue_us, out);
        }
        for symbol in broken {
            self.resync(now, &symbol, out);
        }
        self.settle(now, out);
    }

    fn instruments_due(&mut self, now: Now, out: &mut Vec<Act>) {
        if now.boot >= self.deadline {
            if self.streams.values().any(|stream| stream.known && !stream.is_refused()) {
                for stream in self.streams.values_mut().filter(|stream| !stream.known) {
                    stream.refuse("its precision could not be learnt".into());
                }
                self.subscribe_known(now, out);
            } else {
                out.push(Act::Reconnect(EndReason::NoInstruments));
            }
        } else if !self.asked_rest && now.boot + ACK_MAX >= self.deadline + INSTRUMENT_WAIT {
            self.asked_rest = true;
            for symbol in self.streams.iter().filter(|(_, s)| !s.known).map(|(symbol, _)| symbol) {
                let (symbol, kind) = (symbol.clone(), FetchKind::Instrument);
                let path = self.venue.instrument_path(&symbol);
                out.push(Act::Fetch(Fetch { symbol, kind, path }));
            }
        }
    }

    /// An answer to a [`Fetch`]; `None` when there was none.
    pub fn fetched(&mut self, now: Now, fetch: &Fetch, body: Option<&[u8]>, out: &mut Vec<Act>) {
        match fetch.kind {
            FetchKind::Trades => self.trades_fetched(now, &fetch.symbol, body, out),
            FetchKind::Instrument => self.instrument_fetched(&fetch.symbol, body),
        }
        self.settle(now, out);
    }

    fn trades_fetched(
        &mut self,
        now: Now,
        symbol: &Symbol,
        body: Option<&[u8]>,
        out: &mut Vec<Act>,
    ) {
        let Some(stream) = self.streams.get_mut(symbol) else { return };
        let page: Option<TradePage> = body.and_then(|body| {
            let page = self.venue.decode_trades(symbol, body);
            page.inspect_err(|error| {
                let error = error as &dyn std::error::Error;
                tracing::warn!(symbol = symbol.as_str(), error, "trade listing unusable");
            })
            .ok()
        });
        match page {
            Some(page) => stream.take_page(now.boot, page, &self.venue, out),
            None => stream.page_failed(now.boot),
        }
    }

    fn instrument_fetched(&mut self, symbol: &Symbol, body: Option<&[u8]>) {
        let (Some(stream), Some(body)) = (self.streams.get_mut(symbol), body) else { return };
        match self.venue.decode_instrument(symbol, body) {
            Ok(instrument) => {
                self.venue.learn(instrument);
                stream.known = true;
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(symbol = symbol.as_str(), error, "pair description unusable");
            }
        }
    }

    pub fn report(&self, now: Now) -> FeedReport {
        let silence = self.abilities.silence_max * SYMBOL_SILENCE;
        let symbols = self
            .streams
            .iter()
            .map(|(symbol, stream)| (symbol.clone(), stream.report(now.boot, silence)))
            .collect();
        FeedReport { phase: self.phase, symbols, ..self.counts.clone() }
    }
}
