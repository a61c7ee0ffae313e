//! What queue records are made of. Little-endian, exact length, one version for all kinds.
//!
//! A record's kind is the log's own; its body is what stands here. Kinds are never reused.

use std::collections::BTreeMap;

use cryptorun_platform::segments::Position;

use super::Small;
use crate::ingest::feed::{BookGap, FeedEvent, Gap};
use crate::ingest::model::{IdRange, Side, Source, Symbol, Trade, VenueId};
use crate::ingest::sequence::{Missing, Resume, Seen};

pub const VERSION: u8 = 1;

pub const TRADE: u8 = 1;
pub const WATERMARK: u8 = 2;
pub const GAP_OPENED: u8 = 3;
pub const GAP_CLOSED: u8 = 4;
pub const GAP_LOST: u8 = 5;
/// The queue's own small state, restated at the start of each segment.
pub const SMALL: u8 = 16;
/// A consumer has what lies before a position.
pub const ACKNOWLEDGED: u8 = 17;
/// Nothing but proof that the disk still takes a write.
pub const PROOF: u8 = 18;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    #[error("a record of kind {kind} ends too early")]
    Short { kind: u8 },
    #[error("a record of kind {kind} has {bytes} bytes too many")]
    Long { kind: u8, bytes: usize },
    #[error("a record of kind {kind} holds an unknown {what}")]
    Unknown { kind: u8, what: &'static str },
    #[error("records of version {version} are not known here; a newer program wrote them")]
    Newer { version: u8 },
}

pub fn kind_of(event: &FeedEvent) -> u8 {
    match event {
        FeedEvent::Trade(_) => TRADE,
        FeedEvent::Watermark { .. } => WATERMARK,
        FeedEvent::GapOpened { .. } => GAP_OPENED,
        FeedEvent::GapClosed { .. } => GAP_CLOSED,
        FeedEvent::GapLost { .. } => GAP_LOST,
    }
}

pub fn write_event(event: &FeedEvent, to: &mut Vec<u8>) {
    match event {
        FeedEvent::Trade(trade) => {
            write_source(&trade.source, to);
            to.extend_from_slice(&trade.id.to_le_bytes());
            to.extend_from_slice(&trade.at_us.to_le_bytes());
            to.extend_from_slice(&trade.price.to_le_bytes());
            to.extend_from_slice(&trade.qty.to_le_bytes());
            to.extend_from_slice(&[trade.price_scale, trade.qty_scale]);
            to.push(match trade.taker {
                Side::Buy => 0,
                Side::Sell => 1,
            });
        }
        FeedEvent::Watermark { source, at_us } => {
            write_source(source, to);
            to.extend_from_slice(&at_us.to_le_bytes());
        }
        FeedEvent::GapOpened { source, gap } | FeedEvent::GapClosed { source, gap } => {
            write_source(source, to);
            match gap {
                Gap::Trades(ids) => {
                    to.push(0);
                    write_ids(*ids, to);
                }
                Gap::Book(BookGap::Checksum) => to.push(1),
                Gap::Book(BookGap::Unreadable) => to.push(2),
                Gap::Book(BookGap::Crossed) => to.push(3),
                Gap::Book(BookGap::NoSnapshot) => to.push(4),
            }
        }
        FeedEvent::GapLost { source, ids } => {
            write_source(source, to);
            write_ids(*ids, to);
        }
    }
}

/// `None` for the queue's own records.
pub fn read_event(kind: u8, version: u8, body: &[u8]) -> Result<Option<FeedEvent>, CodecError> {
    if version != VERSION {
        return Err(CodecError::Newer { version });
    }
    let mut from = Reader { kind, rest: body };
    let event = match kind {
        TRADE => FeedEvent::Trade(Trade {
            source: from.source()?,
            id: from.u64()?,
            at_us: from.u64()?,
            price: from.u64()?.cast_signed(),
            qty: from.u64()?.cast_signed(),
            price_scale: from.u8()?,
            qty_scale: from.u8()?,
            taker: match from.u8()? {
                0 => Side::Buy,
                1 => Side::Sell,
                _ => return Err(from.unknown("side")),
            },
        }),
        WATERMARK => FeedEvent::Watermark { source: from.source()?, at_us: from.u64()? },
        GAP_OPENED => FeedEvent::GapOpened { source: from.source()?, gap: from.gap()? },
        GAP_CLOSED => FeedEvent::GapClosed { source: from.source()?, gap: from.gap()? },
        GAP_LOST => FeedEvent::GapLost { source: from.source()?, ids: from.ids()? },
        SMALL | ACKNOWLEDGED | PROOF => return Ok(None),
        _ => return Err(from.unknown("kind")),
    };
    from.end()?;
    Ok(Some(event))
}

pub fn write_small(small: &Small, to: &mut Vec<u8>) {
    write_count(small.acknowledged.len(), to);
    for (consumer, position) in &small.acknowledged {
        write_acknowledged(consumer, *position, to);
    }
    write_count(small.resume.len(), to);
    for (source, resume) in &small.resume {
        write_source(source, to);
        to.extend_from_slice(&resume.last.id.to_le_bytes());
        to.extend_from_slice(&resume.last.at_us.to_le_bytes());
        write_count(resume.missing.len(), to);
        for missing in &resume.missing {
            write_ids(missing.ids, to);
            to.extend_from_slice(&missing.since_us.to_le_bytes());
        }
    }
}

pub fn read_small(body: &[u8]) -> Result<Small, CodecError> {
    let mut from = Reader { kind: SMALL, rest: body };
    let mut acknowledged = BTreeMap::new();
    for _ in 0..from.u32()? {
        let (consumer, position) = from.acknowledged()?;
        acknowledged.insert(consumer, position);
    }
    let mut resume = BTreeMap::new();
    for _ in 0..from.u32()? {
        let source = from.source()?;
        let last = Seen { id: from.u64()?, at_us: from.u64()? };
        let mut missing = Vec::new();
        for _ in 0..from.u32()? {
            missing.push(Missing { ids: from.ids()?, since_us: from.u64()? });
        }
        resume.insert(source, Resume { last, missing });
    }
    from.end()?;
    Ok(Small { acknowledged, resume })
}

pub fn write_acknowledged(consumer: &str, position: Position, to: &mut Vec<u8>) {
    write_text(consumer, to);
    to.extend_from_slice(&position.segment.to_le_bytes());
    to.extend_from_slice(&position.offset.to_le_bytes());
}

pub fn read_acknowledged(body: &[u8]) -> Result<(String, Position), CodecError> {
    let mut from = Reader { kind: ACKNOWLEDGED, rest: body };
    let acknowledged = from.acknowledged()?;
    from.end()?;
    Ok(acknowledged)
}

fn write_source(source: &Source, to: &mut Vec<u8>) {
    to.push(source.venue.code());
    write_text(source.symbol.as_str(), to);
}

/// Symbols and consumer names are shorter than 256 bytes: both are checked where they are made.
fn write_text(text: &str, to: &mut Vec<u8>) {
    let bytes = &text.as_bytes()[..text.len().min(usize::from(u8::MAX))];
    to.push(bytes.len() as u8);
    to.extend_from_slice(bytes);
}

fn write_ids(ids: IdRange, to: &mut Vec<u8>) {
    to.extend_from_slice(&ids.first.to_le_bytes());
    to.extend_from_slice(&ids.last.to_le_bytes());
}

fn write_count(count: usize, to: &mut Vec<u8>) {
    to.extend_from_slice(&(count as u32).to_le_bytes());
}

struct Reader<'a> {
    kind: u8,
    rest: &'a [u8],
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], CodecError> {
        let (bytes, rest) =
            self.rest.split_first_chunk().ok_or(CodecError::Short { kind: self.kind })?;
        self.rest = rest;
        Ok(*bytes)
    }

    fn u8(&mut self) -> Result<u8, CodecError> {
        Ok(self.take::<1>()?[0])
    }

    fn u32(&mut self) -> Result<u32, CodecError> {
        Ok(u32::from_le_bytes(self.take()?))
    }

    fn u64(&mut self) -> Result<u64, CodecError> {
        Ok(u64::from_le_bytes(self.take()?))
    }

    fn text(&mut self) -> Result<&str, CodecError> {
        let len = usize::from(self.u8()?);
        let short = CodecError::Short { kind: self.kind };
        let (bytes, rest) = self.rest.split_at_checked(len).ok_or(short)?;
        self.rest = rest;
        let kind = self.kind;
        std::str::from_utf8(bytes).map_err(|_| CodecError::Unknown { kind, what: "text" })
    }

    fn source(&mut self) -> Result<Source, CodecError> {
        let venue = VenueId::from_code(self.u8()?).ok_or_else(|| self.unknown("venue"))?;
        let symbol: Option<Symbol> = self.text()?.parse().ok();
        Ok(Source { venue, symbol: symbol.ok_or_else(|| self.unknown("symbol"))? })
    }

    fn ids(&mut self) -> Result<IdRange, CodecError> {
        let ids = IdRange { first: self.u64()?, last: self.u64()? };
        if ids.first > ids.last { Err(self.unknown("id range")) } else { Ok(ids) }
    }

    fn gap(&mut self) -> Result<Gap, CodecError> {
        Ok(match self.u8()? {
            0 => Gap::Trades(self.ids()?),
            1 => Gap::Book(BookGap::Checksum),
            2 => Gap::Book(BookGap::Unreadable),
            3 => Gap::Book(BookGap::Crossed),
            4 => Gap::Book(BookGap::NoSnapshot),
            _ => return Err(self.unknown("gap")),
        })
    }

    fn acknowledged(&mut self) -> Result<(String, Position), CodecError> {
        let consumer = self.text()?.to_owned();
        Ok((consumer, Position { segment: self.u64()?, offset: self.u64()? }))
    }

    fn unknown(&self, what: &'static str) -> CodecError {
        CodecError::Unknown { kind: self.kind, what }
    }

    fn end(self) -> Result<(), CodecError> {
        match self.rest.len() {
            0 => Ok(()),
            bytes => Err(CodecError::Long { kind: self.kind, bytes }),
        }
    }
}
