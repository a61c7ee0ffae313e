//! What leaves ingest: events for consumers, and the state of the feed for reports and metrics.

use std::collections::BTreeMap;

use cryptorun_core::report::FeedState;
use cryptorun_platform::clock::BootTime;

use super::model::{IdRange, Level, Source, Symbol, Trade, VenueId};
use super::sequence::Seen;

/// In the order things were learnt. A trade is sent once; a gap is named before what follows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FeedEvent {
    Trade(Trade),
    /// Everything of this source at or below `at_us` has arrived, or is listed as a gap that has
    /// stayed open for longer than readers are made to wait.
    Watermark {
        source: Source,
        at_us: u64,
    },
    GapOpened {
        source: Source,
        gap: Gap,
    },
    GapClosed {
        source: Source,
        gap: Gap,
    },
    /// Ids that the venue itself no longer gives.
    GapLost {
        source: Source,
        ids: IdRange,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gap {
    /// Exactly these trades.
    Trades(IdRange),
    /// The book, by an unknown amount.
    Book(BookGap),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BookGap {
    Checksum,
    /// A frame that may have been the book's could not be read.
    Unreadable,
    /// Changes came, or nothing did, where a snapshot was due.
    NoSnapshot,
    /// Bid at or above ask for longer than a message in flight explains.
    Crossed,
}

/// How one symbol stands. A reader may trust `Live` alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SymbolState {
    /// Never had data on this connection.
    #[default]
    Waiting,
    Live,
    Gap {
        since: BootTime,
    },
    /// No data for longer than its venue is ever silent, or no connection.
    Stale {
        since: BootTime,
    },
    /// The venue does not offer it.
    Refused,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Phase {
    #[default]
    Disconnected,
    /// Connected, learning the precision of the pairs.
    Instruments,
    /// Asked for channels, not all are acknowledged.
    Subscribing,
    Live,
}

/// Counts since the process started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FeedReport {
    pub venue: Option<VenueId>,
    pub phase: Phase,
    /// Whether the venue says its engine is in normal operation.
    pub venue_online: bool,
    pub connections: u64,
    pub frames: u64,
    pub data_frames: u64,
    pub quarantined: u64,
    pub unknown: u64,
    pub refused: u64,
    /// When the last data frame came.
    pub last_data: Option<BootTime>,
    pub symbols: BTreeMap<Symbol, SymbolReport>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SymbolReport {
    pub state: SymbolState,
    pub trades: u64,
    pub duplicates: u64,
    pub backfilled: u64,
    pub last_trade: Option<Seen>,
    pub watermark_us: u64,
    pub gaps: u64,
    pub gaps_open: u32,
    pub ids_missing: u64,
    pub ids_lost: u64,
    pub checksums_passed: u64,
    pub checksums_failed: u64,
    pub resyncs: u64,
    /// Of the verified book; none while it is in doubt.
    pub best_bid: Option<Level>,
    pub best_ask: Option<Level>,
    /// Why the venue turned it down.
    pub refusal: Option<String>,
}

impl FeedReport {
    /// The form in which a worker tells its node, with each renewal.
    pub fn summary(&self, now: BootTime) -> FeedState {
        let symbols = || self.symbols.values();
        let sum = |field: fn(&SymbolReport) -> u64| symbols().map(field).sum::<u64>();
        let gaps_open = symbols().map(|symbol| symbol.gaps_open).sum();
        let wanted = || symbols().filter(|symbol| symbol.state != SymbolState::Refused);
        let all_live = wanted().all(|symbol| symbol.state == SymbolState::Live);
        FeedState {
            live: self.phase == Phase::Live && all_live && wanted().next().is_some(),
            frames: self.frames,
            trades: sum(|symbol| symbol.trades),
            gaps: sum(|symbol| symbol.gaps),
            gaps_open,
            bad_checksums: sum(|symbol| symbol.checksums_failed),
            quarantined: self.quarantined,
            silent: (now - self.last_data.unwrap_or_default()).into(),
        }
    }
}
