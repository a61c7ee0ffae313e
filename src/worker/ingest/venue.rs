//! What a venue adapter is: bytes in, events out. No socket, no clock, no task.
//!
//! No two venues are checked the same way, so an adapter declares what it can prove instead of
//! pretending to a common shape. One session loop (`session.rs`) drives every adapter, and a file
//! of recorded frames drives it just as well.
//!
//! What always holds:
//!  1. `decode` is all or nothing: a frame with one bad number yields no event at all;
//!  2. no input panics; what a venue adds tomorrow is counted as unknown, never fatal.

use std::fmt;
use std::time::Duration;

use super::book::Book;
use super::decimal::DecimalError;
use super::model::{Instrument, Level, Symbol, Trade, VenueId};

pub trait Venue: Send + 'static {
    fn capabilities(&self) -> Capabilities;

    /// What opens a connection: asking for the precision of the pairs, without which no number
    /// can be read.
    fn hello(&mut self) -> Vec<String>;

    fn subscribe(&mut self, channel: Channel, symbols: &[Symbol]) -> Vec<String>;

    fn unsubscribe(&mut self, channel: Channel, symbols: &[Symbol]) -> Vec<String>;

    /// The application's own ping, where its answer tells the venue's time.
    fn ping(&mut self) -> Option<String>;

    fn decode(&mut self, frame: &[u8], out: &mut Vec<VenueEvent>) -> Result<(), DecodeError>;

    /// Whether the book is what the venue says it is.
    fn check(&self, book: &Book, claimed: u32) -> Check;

    /// Takes precision learnt elsewhere (REST, settings).
    fn learn(&mut self, instrument: Instrument);

    /// The REST path that lists trades after a time, oldest first.
    fn trades_path(&self, symbol: &Symbol, since_us: u64) -> String;

    fn decode_trades(&self, symbol: &Symbol, body: &[u8]) -> Result<TradePage, DecodeError>;

    /// The REST path that tells a pair's precision, for when the stream does not.
    fn instrument_path(&self, symbol: &Symbol) -> String;

    fn decode_instrument(&self, symbol: &Symbol, body: &[u8]) -> Result<Instrument, DecodeError>;
}

/// What an adapter can prove, and what its venue asks of us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    pub venue: VenueId,
    pub trade_loss: LossSize,
    pub book_loss: LossSize,
    pub book_check: BookCheck,
    pub gap_scope: GapScope,
    pub snapshot: SnapshotOrigin,
    /// Without a data frame for this long the connection is taken for dead, open socket or not.
    pub silence_max: Duration,
    /// One connection attempt per this long …
    pub connect_every: Duration,
    /// … after this many at once.
    pub connect_burst: u32,
    /// One REST request per this long.
    pub rest_every: Duration,
}

/// What is known about a loss once it is proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LossSize {
    /// Which ids are missing.
    Ids,
    /// That something is missing.
    Unknown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BookCheck {
    /// A checksum of the book as it must be after the message.
    ChecksumAfterApply,
    /// Nothing can be checked.
    Unverified,
}

/// How much of a connection one gap makes doubtful.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GapScope {
    Symbol,
    Connection,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnapshotOrigin {
    InBand,
    Rest,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    Passed,
    Failed { computed: u32 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Channel {
    Instrument,
    Trade,
    Book,
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Instrument => "instrument",
            Self::Trade => "trade",
            Self::Book => "book",
        })
    }
}

/// What one frame said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VenueEvent {
    /// Whether the venue's engine is in normal operation.
    Status {
        online: bool,
    },
    Heartbeat,
    /// The venue's clock, from an answer to our ping or request.
    Time {
        at_us: u64,
    },
    Subscribed {
        channel: Channel,
        symbol: Option<Symbol>,
    },
    Unsubscribed {
        channel: Channel,
        symbol: Option<Symbol>,
    },
    /// The venue turned a request down. The reason is its text, for people.
    Refused {
        channel: Option<Channel>,
        symbol: Option<Symbol>,
        reason: String,
    },
    Instrument(Instrument),
    /// Ascending by id. A snapshot is the venue's last trades at the time of subscribing.
    Trades {
        snapshot: bool,
        trades: Vec<Trade>,
    },
    Book(BookMessage),
    /// A kind we know and have no use for.
    Ignored,
    /// A kind we have never heard of.
    Unknown,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BookMessage {
    pub symbol: Symbol,
    pub snapshot: bool,
    pub bids: Vec<Level>,
    pub asks: Vec<Level>,
    pub checksum: Option<u32>,
    pub at_us: Option<u64>,
}

/// One page of a REST listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TradePage {
    /// Ascending by id.
    pub trades: Vec<Trade>,
    /// Where the next page starts; `None` at the end of what the venue has.
    pub next_us: Option<u64>,
}

/// Why a frame was quarantined.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    #[error("not a json message")]
    NotJson { source: serde_json::Error },
    #[error("{channel} message of an unexpected shape")]
    Shape { channel: Channel, source: serde_json::Error },
    #[error("{channel} message: {what} is missing or malformed")]
    Field { channel: Channel, symbol: Option<Symbol>, what: &'static str },
    #[error("{channel} {symbol}: {what} is unusable")]
    Number { channel: Channel, symbol: Symbol, what: &'static str, source: DecimalError },
    #[error("{channel} {symbol}: the pair's precision is not known")]
    NoInstrument { channel: Channel, symbol: Symbol },
    #[error("the venue answered: {reason}")]
    Answered { reason: String },
}

impl DecodeError {
    /// The channel whose data may now be incomplete, as far as the frame let on.
    pub fn channel(&self) -> Option<Channel> {
        match self {
            Self::NotJson { .. } | Self::Answered { .. } => None,
            Self::Shape { channel, .. }
            | Self::Field { channel, .. }
            | Self::Number { channel, .. }
            | Self::NoInstrument { channel, .. } => Some(*channel),
        }
    }

    pub fn symbol(&self) -> Option<&Symbol> {
        match self {
            Self::NotJson { .. } | Self::Answered { .. } | Self::Shape { .. } => None,
            Self::Field { symbol, .. } => symbol.as_ref(),
            Self::Number { symbol, .. } | Self::NoInstrument { symbol, .. } => Some(symbol),
        }
    }
}
