//! The control plane's side of a node: what operators and workers ask of it, what it sees of the
//! regions, and what it does while it leads.
//!
//! Reading order: [`log`] (what it stands on), [`caller`] (who may), [`api`] (the operations),
//! [`forward`] (between nodes), [`door`] (who was turned away), [`views`], [`http`] (the operations over HTTP), [`detector`] (what
//! is seen), [`controller`] (what the leader does about it).
//!
//! Deliberately absent: deciding (`core::decide`), agreeing (`cryptorun-raft`), data.

pub mod api;
pub mod caller;
pub mod controller;
pub mod decoders;
pub mod detector;
pub mod door;
pub mod figures;
pub mod forward;
pub mod health;
pub mod history;
pub mod http;
pub mod log;
pub mod neighbours;
pub mod openapi;
pub mod problem;
pub mod raft_log;
pub mod recorder;
pub mod refusals;
mod replay;
pub mod run;
pub mod settings;
pub mod simulate;
#[cfg(any(test, feature = "testing"))]
pub mod solo;
#[cfg(test)]
mod tests;
pub mod upkeep;
pub mod views;
pub mod watch;

pub use run::{StartError, run};
