//! Kraken v1 book frames: only to replay recordings; no session speaks v1.
//!
//! v1 writes numbers as strings, so the text is exact, and carries its checksum in the update
//! (`c`), never in the snapshot. One update may hold its two sides in two objects.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::ingest::decimal::{DecimalError, parse_fixed};
use crate::ingest::model::Level;

/// One message about one pair, as text.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct BookFrame {
    pub pair: String,
    pub snapshot: bool,
    /// (price, volume), in the order given.
    pub asks: Vec<(String, String)>,
    pub bids: Vec<(String, String)>,
    pub checksum: Option<u32>,
}

#[derive(Deserialize)]
struct Part {
    #[serde(rename = "as")]
    asks_all: Option<Vec<Vec<String>>>,
    #[serde(rename = "bs")]
    bids_all: Option<Vec<Vec<String>>>,
    a: Option<Vec<Vec<String>>>,
    b: Option<Vec<Vec<String>>>,
    c: Option<String>,
}

impl BookFrame {
    /// `None` for everything that is not a book message.
    pub fn read(frame: &[u8]) -> Option<Self> {
        let items: Vec<&RawValue> = serde_json::from_slice(frame).ok()?;
        let [_channel_id, parts @ .., name, pair] = items.as_slice() else { return None };
        let name: String = serde_json::from_str(name.get()).ok()?;
        if !name.starts_with("book-") {
            return None;
        }
        let pair = serde_json::from_str(pair.get()).ok()?;
        let mut book = Self { pair, ..Self::default() };
        for part in parts {
            let part: Part = serde_json::from_str(part.get()).ok()?;
            book.snapshot |= part.asks_all.is_some() || part.bids_all.is_some();
            for levels in [part.asks_all, part.a].into_iter().flatten() {
                book.asks.extend(texts(levels)?);
            }
            for levels in [part.bids_all, part.b].into_iter().flatten() {
                book.bids.extend(texts(levels)?);
            }
            if let Some(text) = part.c {
                book.checksum = Some(text.parse().ok()?);
            }
        }
        Some(book)
    }
}

/// Levels at a pair's precision.
pub fn levels(
    texts: &[(String, String)],
    price_scale: u8,
    qty_scale: u8,
) -> Result<Vec<Level>, DecimalError> {
    let level = |(price, qty): &(String, String)| {
        Ok(Level { price: parse_fixed(price, price_scale)?, qty: parse_fixed(qty, qty_scale)? })
    };
    texts.iter().map(level).collect()
}

fn texts(levels: Vec<Vec<String>>) -> Option<Vec<(String, String)>> {
    let pair = |level: Vec<String>| {
        let mut fields = level.into_iter();
        Some((fields.next()?, fields.next()?))
    };
    levels.into_iter().map(pair).collect()
}
