//! Ingest: from a venue's socket to trades that are proven, ordered and unique.
//!
//! A venue adapter (`venue.rs`, `kraken/`) is pure: bytes in, events out. The intake (`intake.rs`)
//! is pure too: it keeps books and trade sequences, finds gaps and says what to do about them. One
//! session loop (`session.rs`) owns the socket and the clock and does what the intake says. So a
//! recorded file, a simulator and the live venue drive the same code.
//!
//! What always holds:
//!  1. a trade id of a source leaves here at most once, and a missing one is named as a gap;
//!  2. a book that failed its checksum shows no price until a new snapshot has passed;
//!  3. nothing a venue sends can stop the process.
//!
//! Deliberately absent: leases and tokens. Ingestion never waits for the control plane.

pub mod book;
pub mod decimal;
pub mod dial;
pub mod feed;
pub mod ids;
pub mod intake;
pub mod kraken;
pub mod model;
mod pace;
pub mod rest;
pub mod sequence;
pub mod session;
mod stream;
pub mod venue;
pub mod venue_time;

#[cfg(test)]
pub(crate) mod tests;
