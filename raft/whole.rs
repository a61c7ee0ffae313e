//! Everything that one node knows, for when nobody else is left to ask.
//!
//! What it applied is committed. What its log has beyond may be: an entry that this node and a lost
//! leader had was acknowledged. So all of it counts, as an unknown outcome that turned out to have
//! happened would.

use crate::node::Node;
use crate::types::EntryPayload;
use cryptorun_core::machine::Machine;
use openraft::RaftLogReader;
use std::io;

/// One node's machine with its whole log applied. Plain data.
#[derive(Clone, Debug)]
pub struct Whole {
    /// The machine.
    pub machine: Machine,
    /// Last entry in it.
    pub index: u64,
    /// Last entry that is known to be committed.
    pub committed: u64,
}

impl Node {
    /// A copy of the machine with every entry of this node's log, committed or not.
    ///
    /// # Errors
    /// The log cannot be read.
    pub async fn whole(&self) -> io::Result<Whole> {
        let (mut machine, committed) = self.with_machine_at(|machine, at| (machine.clone(), at));
        let mut log = self.0.log.clone();
        let mut index = committed;
        for entry in log.try_get_log_entries(committed + 1..).await? {
            index = entry.log_id.index;
            if let EntryPayload::Normal(payload) = &entry.payload {
                machine.apply(index, payload.entry());
            }
        }
        Ok(Whole { machine, index, committed })
    }
}
