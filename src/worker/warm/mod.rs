//! The warm tier: candles in a hash-chained log, one writer a reign, copies in other regions.
//!
//! `batch.rs` is a record, `log.rs` the chain on the disk, `store.rs` what readers are answered
//! from, `fork.rs` what was cut off. `scope.rs` does what the cluster says; `primary.rs` writes,
//! `replicate.rs` follows, `serve.rs` answers other regions in the words of `wire.rs`.
//!
//! Deliberately absent: factors, rollups beyond one minute, caches; they come with the whole warm
//! tier.

pub mod batch;
pub mod feeder;
pub mod fork;
pub mod log;
pub mod primary;
pub mod regions;
pub mod replicate;
pub mod scope;
pub mod serve;
pub mod store;
pub mod wire;
