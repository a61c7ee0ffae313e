//! The Raft log on disk: votes, entries, truncations, purges and commit marks in one ordered
//! stream of `segments`, and the entries since the last purge in memory.
//!
//! What always holds:
//!  1. a vote is on the medium before `save_vote` returns, and after everything queued before it;
//!  2. an entry can be read as soon as `append` returns and is acknowledged only after its sync;
//!  3. each new segment opens with the disk's id, vote, commit mark and purge mark, so older segments
//!     hold nothing but entries and may go once those lie below the purge mark;
//!  4. nothing is purged that no durable snapshot holds, or whose audit bodies are not on the medium.
//!
//! Deliberately absent: reading entries back from the disk. Between two snapshots they are few, and
//! they are in memory.

use crate::codec::frame::CodecError;
use crate::codec::log::{LogRecord, decode_record, put_record};
use crate::disk_id::DiskId;
use crate::error::StartError;
use crate::types::{LogEntry, LogId, TypeConfig, Vote};
use async_trait::async_trait;
use cryptorun_platform::disk::{Disk, SyncMode};
use cryptorun_platform::segments::{Batch, Driver, Log, Owner, Record, Settings};
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};
use std::collections::VecDeque;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The one kind of `segments` record this log writes: our own frames say what is inside.
const KIND: u8 = 1;

/// Entries that one append carries at most.
pub const PAYLOAD_MAX: u64 = 256;

/// Asked before entries are given up.
#[async_trait]
pub trait PurgeGate: Send + Sync {
    /// Waits until everything up to `id` can be had without the log.
    async fn open_for(&self, id: LogId) -> io::Result<()>;
}

/// Lets everything go: for tests of the log alone.
#[derive(Debug)]
pub struct NoGate;

#[async_trait]
impl PurgeGate for NoGate {
    async fn open_for(&self, _id: LogId) -> io::Result<()> {
        Ok(())
    }
}

/// A handle; clones share the log.
#[derive(Clone)]
pub struct LogStore {
    log: Log,
    memory: Arc<Mutex<Memory>>,
    gate: Arc<dyn PurgeGate>,
}

struct Memory {
    disk: DiskId,
    vote: Option<Vote>,
    committed: Option<LogId>,
    purged: Option<LogId>,
    /// Entries after `purged`, consecutive.
    entries: VecDeque<Held>,
}

struct Held {
    entry: LogEntry,
    /// No segment below this one holds it.
    segment: u64,
}

impl LogStore {
    /// Opens or founds the log in `dir`; a founded one gets `drawn` as its disk's id.
    ///
    /// # Errors
    /// The disk is not ours, damaged, full, held or forbidden; or a record does not decode.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        owner: Owner,
        segment_bytes: Option<u64>,
        driver: Driver,
        gate: Arc<dyn PurgeGate>,
        drawn: DiskId,
    ) -> Result<Self, StartError> {
        let memory = Arc::new(Mutex::new(Memory::new(drawn)));
        let mut settings = Settings::new(owner);
        // A commit waits for one sync after the other: past the page cache each is shorter.
        settings.sync = SyncMode::Direct;
        if let Some(bytes) = segment_bytes {
            settings.segment_bytes = bytes;
        }
        let restated = memory.clone();
        settings.at_segment_start = Some(Arc::new(move |batch: &mut Batch| {
            for record in lock(&restated).restated() {
                let mut body = Vec::with_capacity(64);
                write(&mut body, &record);
                batch.push(KIND, &body);
            }
        }));
        let shown = disk.show(dir);
        let (log, records) = Log::open(disk, dir, settings, driver)?;
        let known = lock(&memory).replay(&records, &shown)?;
        let store = Self { log, memory, gate };
        if !known {
            store.lazy(&LogRecord::Disk(drawn)); // Before anything that is promised under it.
        }
        Ok(store)
    }

    /// The id of the disk, as old as the log.
    pub fn disk(&self) -> DiskId {
        self.memory().disk
    }

    /// The log underneath, for watching and closing.
    pub fn segments(&self) -> &Log {
        &self.log
    }

    /// The log id at an index, where the log still knows it.
    pub fn log_id(&self, index: u64) -> Option<LogId> {
        let memory = self.memory();
        match &memory.purged {
            Some(purged) if purged.index == index => Some(*purged),
            _ => memory.entry(index).map(|held| held.entry.log_id),
        }
    }

    /// Entries from an index on, as many as one append carries.
    pub fn entries_from(&self, index: u64) -> Vec<LogEntry> {
        self.memory().range(index, index.saturating_add(PAYLOAD_MAX))
    }

    /// Last entry and last purged one.
    pub fn ends(&self) -> (Option<LogId>, Option<LogId>) {
        let memory = self.memory();
        (memory.last(), memory.purged)
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        lock(&self.memory)
    }

    async fn durable(&self, record: &LogRecord) -> io::Result<()> {
        let mut body = Vec::with_capacity(64);
        write(&mut body, record);
        self.log.append_durable(KIND, &body).await.map(drop)
    }

    fn lazy(&self, record: &LogRecord) {
        self.log.append(KIND, |out| write(out, record), None);
    }
}

impl Memory {
    fn new(disk: DiskId) -> Self {
        let entries = VecDeque::new();
        Self { disk, vote: None, committed: None, purged: None, entries }
    }

    fn last(&self) -> Option<LogId> {
        self.entries.back().map(|held| held.entry.log_id).or(self.purged)
    }

    /// The index `entries` starts at.
    fn first(&self) -> u64 {
        self.entries.front().map_or_else(
            || self.purged.map_or(0, |id| id.index + 1),
            |held| held.entry.log_id.index,
        )
    }

    fn entry(&self, index: u64) -> Option<&Held> {
        let at = index.checked_sub(self.first())?;
        self.entries.get(usize::try_from(at).ok()?)
    }

    /// What a segment opens with. It may be newer than the entries that follow it; none of it can do
    /// harm by being known early.
    fn restated(&self) -> Vec<LogRecord> {
        let disk = Some(LogRecord::Disk(self.disk));
        let vote = self.vote.map(LogRecord::Vote);
        let purged = self.purged.map(LogRecord::Purge);
        let committed = self.committed.map(|id| LogRecord::Committed(Some(id)));
        [disk, vote, purged, committed].into_iter().flatten().collect()
    }

    /// Whether the log says which disk it is on.
    fn replay(&mut self, records: &[Record], path: &Path) -> Result<bool, StartError> {
        let mut known = false;
        for record in records {
            let decoded =
                decode_record(&record.body).map_err(|source| StartError::Undecodable {
                    path: path.to_owned(),
                    segment: record.at.segment,
                    offset: record.at.offset,
                    source,
                })?;
            match decoded {
                LogRecord::Disk(id) => (self.disk, known) = (id, true),
                LogRecord::Vote(vote) => self.vote = Some(vote),
                LogRecord::Committed(id) => self.committed = id,
                LogRecord::Purge(id) => self.purge(id),
                LogRecord::Truncate(id) => self.truncate_after(id),
                LogRecord::Append(entries) => {
                    for entry in entries {
                        self.push(entry, record.at.segment);
                    }
                }
            }
        }
        self.check(path)?;
        Ok(known)
    }

    /// Takes an entry read from the disk; those already purged are skipped.
    fn push(&mut self, entry: LogEntry, segment: u64) {
        let index = entry.log_id.index;
        if self.purged.is_some_and(|purged| index <= purged.index) {
            return;
        }
        self.entries.push_back(Held { entry, segment });
    }

    fn check(&mut self, path: &Path) -> Result<(), StartError> {
        let start = self.purged.map_or(0, |id| id.index + 1);
        let indices = self.entries.iter().map(|held| held.entry.log_id.index);
        if let Some((want, _)) = (start..).zip(indices).find(|(want, got)| want != got) {
            return Err(StartError::Hole { path: PathBuf::from(path), index: want });
        }
        // The mark rides lazily and may have been restated ahead of entries that a crash took.
        let last = self.last();
        if self.committed > last {
            self.committed = last;
        }
        Ok(())
    }

    /// Entries from one index up to another that is not among them.
    fn range(&self, from: u64, to: u64) -> Vec<LogEntry> {
        let first = self.first();
        let (from, to) = (from.max(first), to.min(first + self.entries.len() as u64));
        if from >= to {
            return Vec::new();
        }
        let range = (from - first) as usize..(to - first) as usize;
        self.entries.range(range).map(|held| held.entry.clone()).collect()
    }

    fn truncate_after(&mut self, id: Option<LogId>) {
        let keep_below = id.map_or(0, |id| id.index + 1);
        let keep = keep_below.saturating_sub(self.first());
        self.entries.truncate(usize::try_from(keep).unwrap_or(usize::MAX));
    }

    fn purge(&mut self, id: LogId) {
        if self.purged.is_some_and(|purged| id.index <= purged.index) {
            return;
        }
        while self.entries.front().is_some_and(|held| held.entry.log_id.index <= id.index) {
            self.entries.pop_front();
        }
        self.purged = Some(id);
    }
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> Result<Vec<LogEntry>, io::Error> {
        let from = match range.start_bound() {
            Bound::Included(index) => *index,
            Bound::Excluded(index) => index.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let to = match range.end_bound() {
            Bound::Included(index) => index.saturating_add(1),
            Bound::Excluded(index) => *index,
            Bound::Unbounded => u64::MAX,
        };
        Ok(self.memory().range(from, to))
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.memory().vote)
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let (last_log_id, last_purged_log_id) = self.ends();
        Ok(LogState { last_purged_log_id, last_log_id })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        self.memory().vote = Some(*vote);
        self.durable(&LogRecord::Vote(*vote)).await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        self.memory().committed = committed;
        self.lazy(&LogRecord::Committed(committed));
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.memory().committed)
    }

    async fn append<I>(&mut self, entries: I, done: IOFlushed<TypeConfig>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = LogEntry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let record = LogRecord::Append(entries.into_iter().collect());
        let mut body = Vec::new();
        put_record(&mut body, &record).map_err(unencodable)?;
        if let LogRecord::Append(entries) = record {
            let segment = self.log.current_segment();
            let held = entries.into_iter().map(|entry| Held { entry, segment });
            self.memory().entries.extend(held);
        }
        let done = Box::new(move |result| done.io_completed(result));
        self.log.append(KIND, |out| *out = body, Some(done));
        Ok(())
    }

    async fn truncate_after(&mut self, id: Option<LogId>) -> Result<(), io::Error> {
        self.memory().truncate_after(id);
        self.durable(&LogRecord::Truncate(id)).await
    }

    async fn purge(&mut self, id: LogId) -> Result<(), io::Error> {
        self.gate.open_for(id).await?;
        self.memory().purge(id);
        self.durable(&LogRecord::Purge(id)).await?;
        let oldest = self.memory().entries.front().map(|held| held.segment);
        // The purge mark itself is in the current segment, or restated in it.
        let keep = oldest.unwrap_or(u64::MAX).min(self.log.current_segment());
        self.log.remove_segments_below(keep).map(drop)
    }
}

/// Every record the log writes encodes: entries were measured when proposed, the rest is fixed.
fn write(out: &mut Vec<u8>, record: &LogRecord) {
    if let Err(error) = put_record(out, record) {
        unreachable!("a log record does not encode: {error}");
    }
}

fn unencodable(error: CodecError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

fn lock(memory: &Mutex<Memory>) -> MutexGuard<'_, Memory> {
    memory.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "tests/log_store.rs"]
pub(crate) mod tests;
