//! What the parts of ingest promise together, on recorded frames and on a venue in a pipe.

mod mutation;
mod replay;
mod samples;
mod session;

use super::model::{Side, Source, Symbol, Trade, VenueId};

pub fn symbol(text: &str) -> Symbol {
    text.parse().expect("a symbol")
}

pub fn source() -> Source {
    Source { venue: VenueId::Kraken, symbol: symbol("BTC/USD") }
}

/// A trade of BTC/USD, one a second from minute zero on.
pub fn trade(id: u64) -> Trade {
    Trade {
        source: source(),
        id,
        price: 1_000_000 + (id as i64 * 37) % 101,
        qty: 1 + (id as i64 * 13) % 17,
        price_scale: 1,
        qty_scale: 8,
        taker: Side::Buy,
        at_us: id * 1_000_000,
    }
}
