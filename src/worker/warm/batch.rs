//! Batches: the records of a warm log, as they are hashed, stored and sent.
//!
//! A record is one header and its candle rows. Rows are whole candles, never differences: applying
//! one twice changes nothing, and the last one in chain order is the truth. The hash of
//! [`Chain::Batch`] runs over exactly the bytes made here, so every sink of a scope holds the same
//! bytes at the same number, whichever token its own writer showed when it stored them.
//!
//! What always holds:
//!  1. `decode(encode(b)) == b`, and no other bytes decode to `b`;
//!  2. decoding never reads past the end and never trusts a count.

use crate::candle::{Candle, CandleState};
use crate::ingest::model::{IdRange, Source, Symbol, VenueId};
use cryptorun_core::chain::Chain;
use cryptorun_core::position::{Hash, Position};
use cryptorun_core::time::WallTime;
use cryptorun_core::token::Token;

/// The layout below. Another layout is another number.
const LAYOUT: u8 = 1;
/// Runs of missing ids one candle may list; a feed with more than this is not a feed.
const HOLES_MAX: usize = 65_535;
/// Rows in one batch: 4 venues × 200 symbols × a burst of revisions is below a tenth of it.
pub const ROWS_MAX: usize = 100_000;

/// What a record is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Rows.
    Data,
    /// Nothing new, and somebody is there to say so.
    Heartbeat,
    /// The first record of a reign.
    EpochStart,
    /// The last record of a token, with the rows that were left, unless a [`Kind::Reopen`] follows.
    Barrier,
    /// Behind a barrier whose hand-over never came: the same token goes on.
    Reopen,
}

impl Kind {
    fn code(self) -> u8 {
        match self {
            Self::Data => 1,
            Self::Heartbeat => 2,
            Self::EpochStart => 3,
            Self::Barrier => 4,
            Self::Reopen => 5,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        [Self::Data, Self::Heartbeat, Self::EpochStart, Self::Barrier, Self::Reopen]
            .into_iter()
            .find(|kind| kind.code() == code)
    }
}

/// What every record says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The token it was written under first.
    pub token: Token,
    /// The record before it.
    pub prev: Position,
    pub kind: Kind,
    /// When its first row was admitted, by the writer's wall clock.
    pub opened_at: WallTime,
    /// When it was closed, by the writer's wall clock.
    pub sealed_at: WallTime,
    /// Everything at or below it has been taken in.
    pub watermark: WallTime,
    pub rows: u32,
}

impl Header {
    pub fn seq(&self) -> u64 {
        self.prev.seq + 1
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    pub header: Header,
    pub rows: Vec<Candle>,
}

/// Bytes that are no batch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    #[error("a batch ends after {len} bytes, in the middle of its {field}")]
    Short { field: &'static str, len: usize },
    #[error("a batch has an unknown {field}: {value}")]
    Unknown { field: &'static str, value: u8 },
    #[error("a batch claims {rows} rows, more than {ROWS_MAX}")]
    TooManyRows { rows: u32 },
    #[error("a batch names a predecessor that can have no successor")]
    NoSuccessor,
    #[error("{extra} bytes follow a batch's last row")]
    Long { extra: usize },
    #[error("a symbol in a batch is not a pair like BTC/USD")]
    Symbol,
}

impl Batch {
    /// The bytes that are hashed.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(96 + self.rows.len() * 120);
        let h = &self.header;
        out.push(LAYOUT);
        out.push(h.kind.code());
        put_token(&mut out, h.token);
        put_position(&mut out, h.prev);
        for time in [h.opened_at, h.sealed_at, h.watermark] {
            out.extend(time.0.to_le_bytes());
        }
        out.extend(h.rows.to_le_bytes());
        for row in &self.rows {
            put_row(&mut out, row);
        }
        out
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, BatchError> {
        let mut take = Take { bytes, at: 0 };
        let header = take_header(&mut take)?;
        let mut rows = Vec::new();
        for _ in 0..header.rows {
            rows.push(take_row(&mut take)?);
        }
        take.end()?;
        Ok(Self { header, rows })
    }
}

/// The header alone, without looking at the rows.
pub fn decode_header(bytes: &[u8]) -> Result<Header, BatchError> {
    take_header(&mut Take { bytes, at: 0 })
}

/// Where the chain stands after these bytes are appended at `end`.
pub fn position_after(end: Position, bytes: &[u8]) -> Position {
    Chain::Batch.append(end, bytes)
}

/// One row's bytes: also what the store's undo log and digest are made of.
pub fn encode_row(row: &Candle) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    put_row(&mut out, row);
    out
}

pub fn decode_row(bytes: &[u8]) -> Result<Candle, BatchError> {
    let mut take = Take { bytes, at: 0 };
    let row = take_row(&mut take)?;
    take.end()?;
    Ok(row)
}

pub(crate) fn put_token(out: &mut Vec<u8>, token: Token) {
    out.extend(token.incarnation.to_le_bytes());
    out.extend(token.epoch.to_le_bytes());
}

fn put_position(out: &mut Vec<u8>, position: Position) {
    out.extend(position.seq.to_le_bytes());
    out.extend(position.hash.0);
}

fn put_row(out: &mut Vec<u8>, row: &Candle) {
    let symbol = row.source.symbol.as_str().as_bytes();
    out.push(row.source.venue.code());
    out.push(u8::try_from(symbol.len()).unwrap_or(0)); // At most `Symbol::LEN_MAX`.
    out.extend(symbol);
    out.extend(row.interval_us.to_le_bytes());
    out.extend(row.open_us.to_le_bytes());
    out.extend([row.price_scale, row.qty_scale]);
    for price in [row.open, row.high, row.low, row.close] {
        out.extend(price.to_le_bytes());
    }
    for sum in [row.volume, row.quote_volume] {
        out.extend(sum.to_le_bytes());
    }
    for count in [row.trades, row.first_trade_id, row.last_trade_id] {
        out.extend(count.to_le_bytes());
    }
    let holes = &row.holes[..row.holes.len().min(HOLES_MAX)];
    out.extend(u16::try_from(holes.len()).unwrap_or(0).to_le_bytes());
    for hole in holes {
        out.extend(hole.first.to_le_bytes());
        out.extend(hole.last.to_le_bytes());
    }
    out.push(u8::from(row.complete));
    out.push(state_code(row.state));
    out.extend(row.revision.to_le_bytes());
}

pub(super) fn state_code(state: CandleState) -> u8 {
    match state {
        CandleState::Open => 0,
        CandleState::Closed => 1,
        CandleState::Revised => 2,
    }
}

/// The word readers see.
pub fn state_word(state: CandleState) -> &'static str {
    match state {
        CandleState::Open => "open",
        CandleState::Closed => "closed",
        CandleState::Revised => "revised",
    }
}

fn take_header(take: &mut Take<'_>) -> Result<Header, BatchError> {
    match take.u8("layout")? {
        LAYOUT => {}
        value => return Err(BatchError::Unknown { field: "layout", value }),
    }
    let code = take.u8("kind")?;
    let kind = Kind::from_code(code).ok_or(BatchError::Unknown { field: "kind", value: code })?;
    let token = take.token()?;
    let prev = take.position()?;
    if prev.seq == u64::MAX {
        return Err(BatchError::NoSuccessor); // Its own number would not fit.
    }
    let mut time = || Ok(WallTime(take.u64("times")?));
    let (opened_at, sealed_at, watermark) = (time()?, time()?, time()?);
    let rows = take.u32("row count")?;
    if rows as usize > ROWS_MAX {
        return Err(BatchError::TooManyRows { rows });
    }
    Ok(Header { token, prev, kind, opened_at, sealed_at, watermark, rows })
}

fn take_row(take: &mut Take<'_>) -> Result<Candle, BatchError> {
    let code = take.u8("venue")?;
    let venue =
        VenueId::from_code(code).ok_or(BatchError::Unknown { field: "venue", value: code })?;
    let len = usize::from(take.u8("symbol")?);
    let symbol: Symbol = std::str::from_utf8(take.slice(len, "symbol")?)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or(BatchError::Symbol)?;
    let (interval_us, open_us) = (take.u64("interval")?, take.u64("open time")?);
    let (price_scale, qty_scale) = (take.u8("scale")?, take.u8("scale")?);
    let mut price = || Ok(i64::from_le_bytes(take.array("price")?));
    let (open, high, low, close) = (price()?, price()?, price()?, price()?);
    let mut sum = || Ok(i128::from_le_bytes(take.array("volume")?));
    let (volume, quote_volume) = (sum()?, sum()?);
    let (trades, first_trade_id, last_trade_id) =
        (take.u64("trades")?, take.u64("ids")?, take.u64("ids")?);
    let mut holes = Vec::new();
    for _ in 0..u16::from_le_bytes(take.array("holes")?) {
        holes.push(IdRange { first: take.u64("holes")?, last: take.u64("holes")? });
    }
    let complete = match take.u8("completeness")? {
        0 => false,
        1 => true,
        value => return Err(BatchError::Unknown { field: "completeness", value }),
    };
    let code = take.u8("state")?;
    let state = [CandleState::Open, CandleState::Closed, CandleState::Revised]
        .into_iter()
        .find(|state| state_code(*state) == code)
        .ok_or(BatchError::Unknown { field: "candle state", value: code })?;
    let revision = take.u32("revision")?;
    Ok(Candle {
        source: Source { venue, symbol },
        interval_us,
        open_us,
        price_scale,
        qty_scale,
        open,
        high,
        low,
        close,
        volume,
        quote_volume,
        trades,
        first_trade_id,
        last_trade_id,
        holes,
        complete,
        state,
        revision,
    })
}

/// Reads fields off the front; every step checks what is left.
pub(crate) struct Take<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) at: usize,
}

impl<'a> Take<'a> {
    pub(crate) fn slice(
        &mut self,
        len: usize,
        field: &'static str,
    ) -> Result<&'a [u8], BatchError> {
        let short = BatchError::Short { field, len: self.bytes.len() };
        let end = self.at.checked_add(len).ok_or(short.clone())?;
        let part = self.bytes.get(self.at..end).ok_or(short)?;
        self.at = end;
        Ok(part)
    }

    pub(crate) fn array<const N: usize>(
        &mut self,
        field: &'static str,
    ) -> Result<[u8; N], BatchError> {
        let mut array = [0; N];
        array.copy_from_slice(self.slice(N, field)?);
        Ok(array)
    }

    pub(crate) fn u8(&mut self, field: &'static str) -> Result<u8, BatchError> {
        Ok(self.array::<1>(field)?[0])
    }

    pub(crate) fn u32(&mut self, field: &'static str) -> Result<u32, BatchError> {
        Ok(u32::from_le_bytes(self.array(field)?))
    }

    pub(crate) fn u64(&mut self, field: &'static str) -> Result<u64, BatchError> {
        Ok(u64::from_le_bytes(self.array(field)?))
    }

    pub(crate) fn token(&mut self) -> Result<Token, BatchError> {
        Ok(Token { incarnation: self.u32("token")?, epoch: self.u64("token")? })
    }

    pub(crate) fn position(&mut self) -> Result<Position, BatchError> {
        Ok(Position { seq: self.u64("position")?, hash: Hash(self.array("position")?) })
    }

    pub(crate) fn end(&self) -> Result<(), BatchError> {
        match self.bytes.len() - self.at {
            0 => Ok(()),
            extra => Err(BatchError::Long { extra }),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn row(symbol: &str, minute: u64, close: i64) -> Candle {
        Candle {
            source: Source { venue: VenueId::Kraken, symbol: symbol.parse().unwrap() },
            interval_us: 60_000_000,
            open_us: minute * 60_000_000,
            price_scale: 1,
            qty_scale: 8,
            open: 10,
            high: close.max(10),
            low: close.min(10),
            close,
            volume: 1_000,
            quote_volume: 10_000,
            trades: 2,
            first_trade_id: minute * 10,
            last_trade_id: minute * 10 + 2,
            holes: vec![IdRange { first: minute * 10 + 1, last: minute * 10 + 1 }],
            complete: false,
            state: CandleState::Open,
            revision: 0,
        }
    }

    pub(crate) fn batch(token: Token, prev: Position, kind: Kind, rows: Vec<Candle>) -> Batch {
        let header = Header {
            token,
            prev,
            kind,
            opened_at: WallTime(1),
            sealed_at: WallTime(1_000 + prev.seq),
            watermark: WallTime(900),
            rows: u32::try_from(rows.len()).unwrap(),
        };
        Batch { header, rows }
    }

    #[test]
    fn a_batch_reads_back_and_any_cut_of_it_is_refused() {
        let rows = vec![row("BTC/USD", 3, 7), row("ETH/USD", 3, -4)];
        let made = batch(Token { incarnation: 1, epoch: 9 }, Position::START, Kind::Data, rows);
        let bytes = made.encode();
        assert_eq!(Batch::decode(&bytes), Ok(made.clone()));
        assert_eq!(decode_header(&bytes), Ok(made.header));
        for len in 0..bytes.len() {
            assert!(Batch::decode(&bytes[..len]).is_err(), "{len} bytes were taken");
        }
        let mut long = bytes;
        long.push(0);
        assert_eq!(Batch::decode(&long), Err(BatchError::Long { extra: 1 }));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Batch::decode(&bytes);
            let _ = decode_row(&bytes);
        }
    }
}
