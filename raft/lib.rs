//! How decisions are agreed, stored and replayed: Raft around the core's machine.
//!
//! The only crate that knows openraft and sled. Everybody else sees [`Node`]: propose a command,
//! read linearizably, look at the machine, watch who leads. Reading order: [`types`], [`codec`],
//! [`log_store`], [`state_machine`], [`leadership`], [`propose`], [`read`], [`network`], [`server`],
//! [`node`].
//!
//! What always holds: bytes on disk and between nodes are written by [`codec`] and nothing else;
//! time, disk, network and tasks come from `cryptorun-platform`; one type configuration serves
//! production and simulation, and only [`runtime`] knows that there are two.

pub mod audit_log;
pub mod codec;
pub mod decoders;
pub mod disk_id;
pub mod error;
pub mod leadership;
pub mod log_store;
pub mod members;
pub mod network;
mod next_index;
pub mod node;
pub mod probe;
pub mod propose;
pub mod read;
pub mod runtime;
mod server;
pub mod settings;
pub mod snapshot;
pub mod state_machine;
pub mod state_store;
mod tasks;
pub mod types;
pub mod whole;

pub use disk_id::DiskId;
pub use error::{MemberError, ProposeError, ReadError, StartError};
pub use leadership::Leadership;
pub use node::{Figures, ForwardHandler, Members, Node};
pub use propose::{Committed, InFlight};
pub use read::{Consistency, ReadInfo};
pub use settings::{Io, NodeSettings};
pub use state_store::{MemoryStore, SledStore, StateStore};
pub use types::Member;
pub use whole::Whole;
