//! One symbol of one venue: its trade sequence, its book, and the repair of both.
//!
//! Pure: what is to be done comes out as [`Act`]s, time goes in as an argument.

use std::time::Duration;

use cryptorun_platform::clock::BootTime;

use super::book::Book;
use super::feed::{BookGap, FeedEvent, Gap, SymbolReport, SymbolState};
use super::intake::{Act, Fetch, FetchKind};
use super::model::{IdRange, Source, Trade};
use super::sequence::{Missing, Resume, TradeSequence, Verdict};
use super::venue::{BookMessage, Check, TradePage, Venue};

/// An open trade gap holds the watermark for this long; then it stays on the list of gaps, is
/// still repaired, and no longer keeps candles from closing.
pub const GAP_HOLDS_WATERMARK: Duration = Duration::from_secs(60);

/// The venue answered this often, past the gap, without its ids: they do not exist there.
const ABSENT_ANSWERS: u32 = 5;

/// Between two attempts at a repair: doubled each time, up to the cap.
const REPAIR_WAIT: Duration = Duration::from_secs(1);
const REPAIR_WAIT_MAX: Duration = Duration::from_secs(30);

/// A new book snapshot has to come within this, or the connection is begun anew.
const RESYNC_MAX: Duration = Duration::from_secs(10);

/// A bid above an ask is seen for an instant between two messages; for longer it is damage.
const CROSSED_MAX: Duration = Duration::from_secs(1);

/// Watermarks closer together than this would only fill the queue.
const WATERMARK_STEP_US: u64 = 500_000;

#[derive(Debug)]
pub struct Stream {
    pub source: Source,
    /// The precision was learnt on this connection.
    pub known: bool,
    sequence: TradeSequence,
    /// Trades of this connection have joined the sequence: nothing was missed unnoticed.
    joined: bool,
    gaps: Vec<OpenGap>,
    repair: Repair,
    book: Book,
    book_state: BookState,
    crossed_since: Option<BootTime>,
    last_data: Option<BootTime>,
    cut_since: Option<BootTime>,
    report: SymbolReport,
}

/// Trades known to be missing. Never merged with another, so that each is opened and closed once.
#[derive(Debug)]
struct OpenGap {
    ids: IdRange,
    /// Time of the trade before it: where a REST listing has to start.
    since_us: u64,
    /// None for one that an earlier run left, until this one is connected.
    opened: Option<BootTime>,
}

#[derive(Debug, Clone, Copy)]
enum Repair {
    Idle,
    Asked { since_us: u64, absences: u32, failures: u32 },
    Waiting { until: BootTime, absences: u32, failures: u32 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BookState {
    /// Not asked for on this connection.
    Unasked,
    /// Asked for; the snapshot is due.
    Waiting {
        since: BootTime,
    },
    Valid,
    Invalid {
        since: BootTime,
        why: BookGap,
    },
}

/// What a book message, or a look at the clock, asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BookVerdict {
    Fine,
    /// Newly broken: begin again from a snapshot.
    Broken,
    /// The snapshot that was asked for does not come.
    Stuck,
}

impl Stream {
    pub fn new(source: Source, depth: usize, resume: Option<&Resume>) -> Self {
        let missing = resume.map(|resume| resume.missing.as_slice()).unwrap_or_default();
        let gap = |missing: &Missing| OpenGap {
            ids: missing.ids,
            since_us: missing.since_us,
            opened: None,
        };
        Self {
            source,
            known: false,
            sequence: TradeSequence::resume(resume),
            joined: false,
            gaps: missing.iter().map(gap).collect(),
            repair: Repair::Idle,
            book: Book::new(depth),
            book_state: BookState::Unasked,
            crossed_since: None,
            last_data: None,
            cut_since: None,
            report: SymbolReport::default(),
        }
    }

    /// A new connection: what was known of the book and the channels no longer holds.
    pub fn connected(&mut self, now: BootTime) {
        self.known = false;
        self.report.refusal = None;
        self.gaps.iter_mut().for_each(|gap| gap.opened = gap.opened.or(Some(now)));
    }

    pub fn book_asked(&mut self, now: BootTime) {
        self.book_state = BookState::Waiting { since: now };
    }

    pub fn disconnected(&mut self, now: BootTime) {
        self.joined = false;
        self.book_state = BookState::Unasked;
        self.crossed_since = None;
        self.cut_since = self.cut_since.or(Some(now));
        // Whatever was asked for went with the connection's other work.
        self.repair = Repair::Idle;
    }

    pub fn refuse(&mut self, reason: String) {
        self.report.refusal = Some(reason);
    }

    pub fn is_refused(&self) -> bool {
        self.report.refusal.is_some()
    }

    pub fn take_trade(&mut self, now: BootTime, trade: Trade, out: &mut Vec<Act>) {
        self.touch(now);
        self.joined = true;
        match self.sequence.see(&trade) {
            Verdict::Duplicate => {
                self.report.duplicates += 1;
                return;
            }
            Verdict::Next => {}
            Verdict::Fills => {
                self.send(trade, out);
                self.close_filled(out);
                return;
            }
            Verdict::AfterGap { missing, since_us } => {
                self.gaps.push(OpenGap { ids: missing, since_us, opened: Some(now) });
                self.report.gaps += 1;
                let (source, gap) = (self.source.clone(), Gap::Trades(missing));
                out.push(Act::Emit(FeedEvent::GapOpened { source, gap }));
            }
        }
        self.send(trade, out);
    }

    /// Asks REST for the oldest missing trades, one question at a time.
    pub fn repair(&mut self, now: BootTime, venue: &impl Venue, out: &mut Vec<Act>) {
        let Some(gap) = self.gaps.first() else { return };
        let (absences, failures) = match self.repair {
            Repair::Idle => (0, 0),
            Repair::Waiting { until, absences, failures } if now >= until => (absences, failures),
            Repair::Asked { .. } | Repair::Waiting { .. } => return,
        };
        self.ask(gap.since_us, absences, failures, venue, out);
    }

    fn ask(
        &mut self,
        since_us: u64,
        absences: u32,
        failures: u32,
        venue: &impl Venue,
        out: &mut Vec<Act>,
    ) {
        self.repair = Repair::Asked { since_us, absences, failures };
        let symbol = self.source.symbol.clone();
        let path = venue.trades_path(&symbol, since_us);
        out.push(Act::Fetch(Fetch { symbol, kind: FetchKind::Trades, path }));
    }

    /// A page of the venue's own listing. Only what is missing is taken from it: a trade ahead of
    /// the stream is not ours to announce.
    pub fn take_page(
        &mut self,
        now: BootTime,
        page: TradePage,
        venue: &impl Venue,
        out: &mut Vec<Act>,
    ) {
        let Repair::Asked { since_us, mut absences, .. } = self.repair else { return };
        let asked_about = self.gaps.first().map(|gap| gap.ids);
        let reached = page.trades.last().map(|trade| trade.id);
        for trade in page.trades {
            if self.sequence.missing().contains(trade.id) {
                self.sequence.see(&trade);
                self.report.backfilled += 1;
                self.send(trade, out);
            }
        }
        self.close_filled(out);
        let Some(gap) = self.gaps.first() else {
            self.repair = Repair::Idle;
            return;
        };
        if asked_about != Some(gap.ids) {
            absences = 0; // Those were about another gap.
        }
        let covered = page.next_us.is_none() || reached.is_some_and(|id| id > gap.ids.last);
        match page.next_us.filter(|next| *next > since_us && !covered) {
            Some(next_us) => self.ask(next_us, absences, 0, venue, out),
            None if absences + 1 < ABSENT_ANSWERS => {
                let until = now + wait_after(absences);
                self.repair = Repair::Waiting { until, absences: absences + 1, failures: 0 };
            }
            None => {
                self.give_up(out);
                self.repair = Repair::Idle;
            }
        }
    }

    /// No usable answer: asked again for as long as it takes, ever more slowly.
    pub fn page_failed(&mut self, now: BootTime) {
        if let Repair::Asked { absences, failures, .. } = self.repair {
            let until = now + wait_after(failures);
            self.repair = Repair::Waiting { until, absences, failures: failures + 1 };
        }
    }

    fn give_up(&mut self, out: &mut Vec<Act>) {
        let gap = self.gaps.remove(0);
        for ids in self.sequence.give_up(gap.ids) {
            out.push(Act::Emit(FeedEvent::GapLost { source: self.source.clone(), ids }));
        }
        let (source, gap) = (self.source.clone(), Gap::Trades(gap.ids));
        out.push(Act::Emit(FeedEvent::GapClosed { source, gap }));
    }

    fn close_filled(&mut self, out: &mut Vec<Act>) {
        let missing = self.sequence.missing();
        let (source, before) = (&self.source, self.gaps.len());
        self.gaps.retain(|gap| {
            let open = missing.missing_in(gap.ids) != [gap.ids];
            if !open {
                let gap = Gap::Trades(gap.ids);
                out.push(Act::Emit(FeedEvent::GapClosed { source: source.clone(), gap }));
            }
            open
        });
        if self.gaps.len() < before && self.gaps.is_empty() {
            self.repair = Repair::Idle;
        }
    }

    fn send(&mut self, trade: Trade, out: &mut Vec<Act>) {
        self.report.trades += 1;
        out.push(Act::Emit(FeedEvent::Trade(trade)));
    }

    pub fn take_book(
        &mut self,
        now: BootTime,
        message: &BookMessage,
        venue: &impl Venue,
        out: &mut Vec<Act>,
    ) -> BookVerdict {
        self.touch(now);
        if message.snapshot {
            self.book.restart(&message.bids, &message.asks);
        } else {
            match self.book_state {
                BookState::Valid => self.book.apply(&message.bids, &message.asks),
                BookState::Waiting { .. } => {
                    return self.break_book(now, BookGap::NoSnapshot, out);
                }
                // Of the book that was given up, still under way.
                BookState::Unasked | BookState::Invalid { .. } => return BookVerdict::Fine,
            }
        }
        match message.checksum.map(|claimed| venue.check(&self.book, claimed)) {
            Some(Check::Failed { .. }) => {
                self.report.checksums_failed += 1;
                return self.break_book(now, BookGap::Checksum, out);
            }
            Some(Check::Passed) => self.report.checksums_passed += 1,
            None => {}
        }
        self.crossed_since = self.book.is_crossed().then(|| self.crossed_since.unwrap_or(now));
        if message.snapshot {
            if let BookState::Invalid { why, .. } = self.book_state {
                let (source, gap) = (self.source.clone(), Gap::Book(why));
                out.push(Act::Emit(FeedEvent::GapClosed { source, gap }));
            }
            self.book_state = BookState::Valid;
        }
        BookVerdict::Fine
    }

    /// Shows no price from now on. Counts and tells once, however often it is found broken.
    pub fn break_book(&mut self, now: BootTime, why: BookGap, out: &mut Vec<Act>) -> BookVerdict {
        self.crossed_since = None;
        self.report.resyncs += 1;
        if let BookState::Invalid { why, .. } = self.book_state {
            // The new snapshot was wrong too; it is still the same gap.
            self.book_state = BookState::Invalid { since: now, why };
            return BookVerdict::Broken;
        }
        self.book_state = BookState::Invalid { since: now, why };
        self.report.gaps += 1;
        let (source, gap) = (self.source.clone(), Gap::Book(why));
        out.push(Act::Emit(FeedEvent::GapOpened { source, gap }));
        BookVerdict::Broken
    }

    pub fn look_at_book(&mut self, now: BootTime, out: &mut Vec<Act>) -> BookVerdict {
        match (self.book_state, self.crossed_since) {
            (BookState::Invalid { since, .. }, _) if now - since > RESYNC_MAX => BookVerdict::Stuck,
            (BookState::Waiting { since }, _) if now - since > RESYNC_MAX => {
                self.break_book(now, BookGap::NoSnapshot, out)
            }
            (BookState::Valid, Some(since)) if now - since > CROSSED_MAX => {
                self.break_book(now, BookGap::Crossed, out)
            }
            _ => BookVerdict::Fine,
        }
    }

    pub fn has_valid_book(&self) -> bool {
        self.book_state == BookState::Valid
    }

    /// Says how far this source is complete, by the venue's own clock.
    pub fn advance(&mut self, now: BootTime, venue_us: u64, out: &mut Vec<Act>) {
        let held =
            self.gaps.iter().filter_map(|gap| gap.opened).any(|at| now - at < GAP_HOLDS_WATERMARK);
        if !self.joined || held {
            return;
        }
        if venue_us >= self.report.watermark_us.saturating_add(WATERMARK_STEP_US) {
            self.report.watermark_us = venue_us;
            let source = self.source.clone();
            out.push(Act::Emit(FeedEvent::Watermark { source, at_us: venue_us }));
        }
    }

    pub fn report(&self, now: BootTime, silence_max: Duration) -> SymbolReport {
        let book = Some(&self.book).filter(|_| self.book_state == BookState::Valid);
        SymbolReport {
            state: self.state(now, silence_max),
            last_trade: self.sequence.last(),
            gaps_open: self.gaps.len() as u32
                + u32::from(matches!(self.book_state, BookState::Invalid { .. })),
            ids_missing: self.sequence.missing().count(),
            ids_lost: self.sequence.given_up(),
            best_bid: book.and_then(Book::best_bid),
            best_ask: book.and_then(Book::best_ask),
            ..self.report.clone()
        }
    }

    fn state(&self, now: BootTime, silence_max: Duration) -> SymbolState {
        if self.is_refused() {
            return SymbolState::Refused;
        }
        if let Some(since) = self.cut_since {
            return SymbolState::Stale { since };
        }
        let book_gap = match self.book_state {
            BookState::Invalid { since, .. } => Some(since),
            BookState::Unasked | BookState::Waiting { .. } | BookState::Valid => None,
        };
        if let Some(since) = self.gaps.iter().filter_map(|gap| gap.opened).chain(book_gap).min() {
            return SymbolState::Gap { since };
        }
        match self.last_data {
            Some(at) if now - at > silence_max => SymbolState::Stale { since: at + silence_max },
            Some(_) if self.joined && self.book_state == BookState::Valid => SymbolState::Live,
            _ => SymbolState::Waiting,
        }
    }

    fn touch(&mut self, now: BootTime) {
        self.last_data = Some(now);
        self.cut_since = None;
    }
}

fn wait_after(times: u32) -> Duration {
    REPAIR_WAIT.saturating_mul(2u32.saturating_pow(times)).min(REPAIR_WAIT_MAX)
}
