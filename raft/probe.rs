//! A window for whoever checks this crate from outside: the simulator's invariants.

use crate::types::{LogEntry, LogId};
use cryptorun_core::machine::Machine;
use cryptorun_core::position::Hash;

/// Told what happens inside, in the order it happens. It must not call back.
pub trait Probe: Send + Sync + 'static {
    /// One entry was applied; the machine is as after it.
    fn applied(&self, seen: Seen<'_>) {
        let _ = seen;
    }

    /// A whole snapshot took the machine's place.
    fn installed(&self, index: u64, hash: Hash) {
        let _ = (index, hash);
    }
}

/// What [`Probe::applied`] sees.
#[derive(Clone, Copy)]
pub struct Seen<'a> {
    /// Its place in the log.
    pub log_id: &'a LogId,
    /// The entry.
    pub entry: &'a LogEntry,
    /// State hash up to and with it.
    pub hash: Hash,
    /// The machine after it.
    pub machine: &'a Machine,
}
