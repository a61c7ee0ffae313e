//! The cluster in one thread, from one seed: real nodes, real log, real machine; simulated time,
//! network and disks; faults more frequent than nature's.
//!
//! What always holds: a seed decides everything, so the line a failure prints replays it. Nodes are
//! stopped by cutting their outlets (disk generation, network), as a power cut would. Invariants are
//! checked at every event they can see, one file each under `invariants/`, and each has a mutant
//! that it catches ([`Mutant`]).
//!
//! Deliberately absent: sockets, TLS, HTTP, real fsync, threads. Process chaos covers those.

mod clients;
mod cluster;
pub mod invariants;
mod net;
mod workers;
pub mod world;

pub use world::{Mutant, Options, Outcome, run};

#[cfg(test)]
mod tests;
