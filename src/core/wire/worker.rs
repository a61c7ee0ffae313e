//! What a worker's own API answers: its journal, its candles.

use crate::position::Position;
use crate::region::RegionName;
use crate::report::Fork;
use crate::scope::ScopeId;
use crate::time::{Millis, WallTime};
use crate::token::Token;
use serde::{Deserialize, Serialize};

/// `GET /v1/journal`: what a sink accepted and turned away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Journal {
    /// The scope.
    pub scope: ScopeId,
    /// The sink's region.
    pub region: RegionName,
    /// Ranges, in the order they began.
    pub ranges: Vec<JournalRange>,
    /// Forks kept.
    pub forks: Vec<Fork>,
}

/// A run of writes with one fate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct JournalRange {
    /// The token they carried.
    pub token: Token,
    /// What became of them.
    pub fate: Fate,
    /// First record.
    pub from_seq: u64,
    /// Last record.
    pub to_seq: u64,
    /// Rows in them.
    pub rows: u64,
    /// Wall clock of the first.
    pub first: WallTime,
    /// Wall clock of the last.
    pub last: WallTime,
    /// CLOCK_BOOTTIME of the first, in nanoseconds: exact between processes of one machine.
    pub first_boot_ns: u64,
    /// CLOCK_BOOTTIME of the last.
    pub last_boot_ns: u64,
}

/// What became of writes (DESIGN §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Fate {
    /// Served, replicated or acknowledged as primary.
    Visible,
    /// Applied from another sink.
    Replicated,
    /// Turned away by a higher token.
    Fenced,
    /// On the holder's disk and never visible: cut into a fork.
    Forked,
}

/// A row of `GET /v1/warm/candles`. Prices and volumes are integers at `scale` decimals.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CandleRow {
    /// Venue.
    pub venue: String,
    /// Symbol.
    pub symbol: String,
    /// Start of the minute.
    pub open_time: WallTime,
    /// First price.
    pub open: String,
    /// Highest.
    pub high: String,
    /// Lowest.
    pub low: String,
    /// Last.
    pub close: String,
    /// Traded quantity.
    pub volume: String,
    /// Trades.
    pub trades: u64,
    /// `open`, `closed` or `revised`.
    pub state: String,
    /// How often it was revised.
    pub revision: u32,
}

/// `GET /v1/warm/candles`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Candles {
    /// `primary` only under a live lease, else `replica` or `degraded`.
    pub authority: String,
    /// Token of the reign the data was written under.
    pub token: Token,
    /// The end of the chain that was read.
    pub position: Position,
    /// Age of the newest record.
    pub staleness: Millis,
    /// Everything at or below it has arrived.
    pub watermark: WallTime,
    /// The rows.
    pub rows: Vec<CandleRow>,
}
