//! Where a new leader's first append to each follower begins.
//!
//! openraft looks for the end of a follower's log by halving its own, one round trip a half, and
//! commits nothing meanwhile: with ten thousand entries kept that is nine of them. But whoever gave
//! its vote said with it where its log ends. If the leader holds that very entry, both logs are the
//! same up to there (Raft's log matching); and nothing changes the follower's before this leader
//! does, for it takes nothing from a lower vote any more. So the first append goes there.
//!
//! What always holds: an append is put elsewhere only onto an entry that both hold. A follower that
//! does not know it says so, and openraft searches.

use crate::codec::rpc::{Append, AskVote, Voted};
use crate::log_store::LogStore;
use crate::types::{LeaderId, LogId};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// One node's knowledge of where others' logs end.
#[derive(Clone)]
pub(crate) struct NextIndex {
    log: LogStore,
    /// By voter: whom it voted for, and the last entry it had then.
    ends: Arc<Mutex<BTreeMap<u64, (LeaderId, LogId)>>>,
}

impl NextIndex {
    pub fn new(log: LogStore) -> Self {
        Self { log, ends: Arc::default() }
    }

    /// A vote was answered.
    pub fn voted(&self, by: u64, asked: &AskVote, answer: &Voted) {
        match answer.last_log_id.filter(|_| answer.vote_granted) {
            Some(end) => self.ends().insert(by, (asked.vote.leader_id, end)),
            None => self.ends().remove(&by),
        };
    }

    /// What leaves for an append that looks for the follower's end below it: one that begins there,
    /// with what is missing of the log up to the leader's own first entry.
    pub fn aim(&self, to: u64, append: &Append) -> Option<Append> {
        let Append { vote, prev_log_id, leader_commit, .. } = *append;
        let leader = vote.leader_id;
        let known = self.ends().get(&to).copied();
        let (_, end) = known.filter(|(voted_for, _)| *voted_for == leader)?;
        if prev_log_id >= Some(end) || self.log.log_id(end.index) != Some(end) {
            return None;
        }
        let mut entries = self.log.entries_from(end.index + 1);
        let first_own = entries.iter().position(|entry| entry.log_id.leader_id == leader);
        entries.truncate(first_own.map_or(usize::MAX, |at| at + 1));
        Some(Append { vote, prev_log_id: Some(end), entries, leader_commit })
    }

    /// A follower does not know the entry that an append stood on.
    pub fn conflicted(&self, follower: u64, at: LogId) {
        let mut ends = self.ends();
        if ends.get(&follower).is_some_and(|(_, end)| *end == at) {
            ends.remove(&follower);
        }
    }

    fn ends(&self) -> MutexGuard<'_, BTreeMap<u64, (LeaderId, LogId)>> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[path = "tests/next_index.rs"]
pub(crate) mod tests;
