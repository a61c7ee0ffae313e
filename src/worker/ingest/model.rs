//! What every venue's frames turn into: trades, book levels and instruments in fixed point.
//!
//! A trade is known by (venue, symbol, venue id) everywhere in the program, in every region: that
//! is what makes de-duplication and gap repair exact set arithmetic. Times are the venue's own, in
//! microseconds; a receive time never stands in for one.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Where data comes from. Closed, because metric labels and stored rows are made of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VenueId {
    Kraken,
}

impl VenueId {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kraken => "kraken",
        }
    }

    /// The number that stands for it on disk. Never reused.
    pub fn code(self) -> u8 {
        match self {
            Self::Kraken => 1,
        }
    }

    pub fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Kraken),
            _ => None,
        }
    }
}

impl fmt::Display for VenueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A pair as the venue writes it, `BTC/USD`: checked once, cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Symbol(Arc<str>);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a symbol: {text:?} (a pair is written BTC/USD)")]
pub struct SymbolError {
    text: String,
}

impl Symbol {
    /// Longer than any pair a venue lists, short enough for a length byte on disk.
    pub const LEN_MAX: usize = 32;

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn base(&self) -> &str {
        self.0.split('/').next().unwrap_or_default()
    }

    pub fn quote(&self) -> &str {
        self.0.split('/').nth(1).unwrap_or_default()
    }
}

impl FromStr for Symbol {
    type Err = SymbolError;

    fn from_str(text: &str) -> Result<Self, SymbolError> {
        let plain = |part: &str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.')
        };
        match text.split_once('/') {
            Some((base, quote)) if plain(base) && plain(quote) && text.len() <= Self::LEN_MAX => {
                Ok(Self(text.into()))
            }
            _ => Err(SymbolError { text: text.chars().take(Self::LEN_MAX).collect() }),
        }
    }
}

impl TryFrom<String> for Symbol {
    type Error = SymbolError;

    fn try_from(text: String) -> Result<Self, SymbolError> {
        text.parse()
    }
}

impl From<Symbol> for String {
    fn from(symbol: Symbol) -> Self {
        symbol.as_str().to_owned()
    }
}

impl fmt::Display for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One stream of trades: what watermarks, gaps and candles are kept by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Source {
    pub venue: VenueId,
    pub symbol: Symbol,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.venue, self.symbol)
    }
}

/// The precision a venue declares for a pair. Without it no number of that pair can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instrument {
    pub symbol: Symbol,
    pub price_scale: u8,
    pub qty_scale: u8,
    pub online: bool,
}

/// The side that took liquidity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    Buy,
    Sell,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trade {
    pub source: Source,
    /// The venue's number: steps by one within a source.
    pub id: u64,
    pub price: i64,
    pub qty: i64,
    pub price_scale: u8,
    pub qty_scale: u8,
    pub taker: Side,
    /// Venue time, microseconds since 1970; finer digits are cut off, so that every way a trade
    /// arrives by (stream, REST, a peer) puts it into the same candle.
    pub at_us: u64,
}

/// A price level with the quantity that now stands there; zero deletes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level {
    pub price: i64,
    pub qty: i64,
}

/// Ids from `first` to `last`, both included; never empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct IdRange {
    pub first: u64,
    pub last: u64,
}

impl IdRange {
    pub fn contains(&self, id: u64) -> bool {
        (self.first..=self.last).contains(&id)
    }

    /// How many ids it covers.
    pub fn count(&self) -> u64 {
        (self.last - self.first).saturating_add(1)
    }
}

impl fmt::Display for IdRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..={}", self.first, self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_are_checked_at_the_edge() {
        let symbol: Symbol = "BTC/USD".parse().expect("a pair");
        assert_eq!((symbol.base(), symbol.quote()), ("BTC", "USD"));
        assert!("AAPLx/USD".parse::<Symbol>().is_ok());
        for text in ["", "BTC", "BTC/", "/USD", "BTC/USD/EUR", "BTC USD", "../etc/passwd", "a\n/b"]
        {
            assert!(text.parse::<Symbol>().is_err(), "{text:?} was taken for a pair");
        }
    }
}
