//! A window for whoever checks this crate from outside: the simulator's invariants.

use crate::codec::rpc;
use crate::disk_id::DiskId;
use crate::error::StartError;
use crate::log_store::{LogStore, NoGate};
use crate::snapshot::Snapshots;
use crate::types::{LogEntry, LogId, Vote};
use cryptorun_core::machine::Machine;
use cryptorun_core::position::Hash;
use cryptorun_platform::disk::Disk;
use cryptorun_platform::random::SeededRandom;
use cryptorun_platform::segments::{Driver, Owner};
use openraft::RaftLogReader;
use std::path::Path;
use std::sync::Arc;

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

/// What a message on its way to a peer promises to be on the sender's disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promise {
    /// The log up to this entry.
    Entry(LogId),
    /// This vote.
    Vote(Vote),
}

/// The promise in an answer on the append stream, if it makes one.
pub fn promised_by_append(answer: &[u8]) -> Option<Promise> {
    rpc::read_appended(answer).ok()?.ok().flatten().map(Promise::Entry)
}

/// The promise in the answer to a vote, if it was granted.
pub fn promised_by_vote(answer: &[u8]) -> Option<Promise> {
    let voted = rpc::read_voted(answer).ok()?;
    voted.vote_granted.then_some(Promise::Vote(voted.vote))
}

/// Whether a node started from this disk would keep a promise.
///
/// # Errors
/// It would not start.
pub async fn is_kept(
    promise: Promise,
    disk: Arc<dyn Disk>,
    dir: &Path,
    owner: Owner,
    driver: Driver,
) -> Result<bool, StartError> {
    let (snapshots, dir) =
        (Snapshots::open(disk.clone(), &dir.join("snapshots"))?, dir.join("log"));
    // A copy of a founded disk: it has an id already.
    let drawn = DiskId::draw(&SeededRandom::new(0));
    let gate = Arc::new(NoGate);
    let mut log = LogStore::open(disk, &dir, owner, Some(256 << 10), driver, gate, drawn)?;
    Ok(match promise {
        Promise::Entry(id) => {
            let (_, purged) = log.ends();
            let in_log = log.log_id(id.index) == Some(id) || purged >= Some(id);
            // A snapshot may have come before an older append was answered, and taken its place.
            in_log
                || snapshots.newest()?.and_then(|found| found.standing.meta.last_log_id) >= Some(id)
        }
        Promise::Vote(vote) => {
            matches!(log.read_vote().await, Ok(Some(kept)) if kept >= vote)
        }
    })
}
