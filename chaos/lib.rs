//! The cluster in one thread, from one seed: real nodes, API, detector and controller, real workers
//! with their keepers, queues and sinks; simulated time, network, disks and clocks; faults more
//! frequent than nature's.
//!
//! What always holds: a seed decides everything, so the line a failure prints replays it. Processes
//! are ended by cutting their outlets, as a power cut would. Invariants are checked at every event
//! they can see, one file each under `invariants/`, and each has mutants that it catches
//! ([`mutants`]).
//!
//! Reading order: [`world`], `cluster` (the story), `nemesis` (what goes wrong), `node` and `worker`
//! (the processes), `people` (who asks), [`invariants`], [`tally`] (what was reached); [`labelled`],
//! [`boundaries`] and [`stories`] are about one thing each on purpose.
//!
//! Deliberately absent: sockets, TLS, HTTP, real fsync, threads. Process chaos covers those.

pub mod batch;
pub mod bend;
pub mod boundaries;
mod clock;
mod cluster;
pub mod crash;
mod directed;
mod ending;
pub mod explain;
pub mod invariants;
pub mod labelled;
mod line;
mod log;
pub mod mutants;
mod nemesis;
mod net;
mod network;
mod node;
mod people;
mod rare;
mod spawn;
pub mod stories;
pub mod tally;
mod worker;
pub mod world;

pub use batch::{Batch, run_boundaries, run_labelled, run_seeds, run_stories, spread};
pub use mutants::Mutant;
pub use world::{Options, Outcome, Theme, run};

#[cfg(test)]
mod tests;
