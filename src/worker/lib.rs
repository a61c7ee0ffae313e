//! cryptorun-worker: what a region does with market data.
//!
//! It takes frames from venues, proves them complete, keeps what is not yet safe elsewhere on
//! disk, and turns trades into candles.

pub mod candle;
pub mod ingest;
pub mod queue;
