//! Three regions on one machine: simulated venues, WAN links that can be cut, supervised processes.
//!
//! Everything here stands where a venue, an ocean and an init system stand in production, and is
//! told by the same names. Loopback only, unless each region is a network namespace (`netns.rs`).
//!
//! Next: `venue/`, `wan/`, `supervisor/`; `protocol.rs` for what may be asked of a held demo and
//! `control.rs` for who answers.

pub mod cli;
pub mod control;
pub mod demo;
pub mod http;
pub mod netns;
pub mod ports;
pub mod protocol;
pub mod supervisor;
pub mod venue;
pub mod wan;
