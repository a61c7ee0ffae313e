//! cryptorun-worker: what a region does with market data.
//!
//! It takes frames from venues, proves them complete, keeps what is not yet safe elsewhere on
//! disk, turns trades into candles, and, while it holds a scope's lease, writes them where the
//! other regions follow. It obeys the cluster and never takes part in its decisions.
//!
//! Reading order: [`ingest`], [`queue`], [`candle`]; [`standing`] and [`keeper`] for what it may
//! do; [`sink`] for the fence; [`warm`] for the work itself; [`run`] puts it together.

pub mod beliefs;
pub mod candle;
pub mod control;
pub mod decoders;
pub mod http;
pub mod ingest;
pub mod journal;
pub mod keeper;
pub mod probe;
pub mod queue;
pub mod report;
pub mod run;
pub mod settings;
pub mod sink;
pub mod standing;
pub mod warm;

pub use run::{StartError, run};

#[cfg(test)]
mod together;
