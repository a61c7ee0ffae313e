//! Bodies of audit entries, in order, on this node's disk: the machine keeps only the newest.
//!
//! What always holds: numbers follow each other without a gap, and the log may be purged past an
//! entry only once its audit bodies are on the medium ([`AuditLog::settle`]). After a snapshot
//! install the numbers in between are missing; [`AuditLog::missing`] says which, and the node asks
//! its peers. Bodies after a gap are held back in memory until it is filled.

use crate::codec::frame::{self, Kind};
use crate::codec::{self, CodecError};
use crate::error::StartError;
use cryptorun_core::audit::AuditEntry;
use cryptorun_platform::disk::Disk;
use cryptorun_platform::segments::{Driver, Log, Owner, Position, Record, Settings};
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const KIND: u8 = 1;
const VERSION: u16 = 1;
/// One place is remembered for so many bodies; reading starts there and skips.
const STRIDE: u64 = 64;
/// A decision is 200 bytes and there are few: 20 000 of them a segment.
const SEGMENT_BYTES: u64 = 4 << 20;
/// Read at once from the disk.
const READ_BYTES: usize = 1 << 20;
/// Entries held back behind a gap; beyond it they are dropped and fetched again later.
const HELD_MAX: usize = 20_000;

/// A handle; clones share the log.
#[derive(Clone)]
pub struct AuditLog {
    log: Log,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// Number of the last body appended.
    last: u64,
    /// Of the first one this disk holds.
    first: u64,
    /// Where every [`STRIDE`]th body is, once it is on the medium.
    places: BTreeMap<u64, Position>,
    /// Arrived ahead of a gap.
    held: BTreeMap<u64, AuditEntry>,
}

impl AuditLog {
    /// # Errors
    /// The disk is not ours, damaged, full, held or forbidden; or a body does not decode.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        owner: Owner,
        segment_bytes: Option<u64>,
        driver: Driver,
    ) -> Result<Self, StartError> {
        let mut settings = Settings::new(owner);
        settings.segment_bytes = segment_bytes.unwrap_or(SEGMENT_BYTES);
        let shown = disk.show(dir);
        let mut state = State::default();
        let mut bad = None;
        let log =
            Log::open_with(disk, dir, settings, driver, |record| match decode(&record.body) {
                Ok(entry) => state.found(entry.seq, record.at),
                Err(source) => bad = bad.take().or(Some((record.at, source))),
            })?;
        match bad {
            None => Ok(Self { log, state: Arc::new(Mutex::new(state)) }),
            Some((at, source)) => Err(StartError::Undecodable {
                path: shown,
                segment: at.segment,
                offset: at.offset,
                source,
            }),
        }
    }

    /// The log underneath, for watching and closing.
    pub fn segments(&self) -> &Log {
        &self.log
    }

    /// Number of the last body without a gap before it.
    pub fn last(&self) -> u64 {
        self.state().last
    }

    /// Takes entries in any order; those it has are skipped.
    pub fn put(&self, entries: impl IntoIterator<Item = AuditEntry>) {
        let mut state = self.state();
        for entry in entries {
            if entry.seq > state.last
                && (state.held.len() < HELD_MAX || entry.seq == state.last + 1)
            {
                state.held.insert(entry.seq, entry);
            }
        }
        while let Some(entry) = state.take_next() {
            self.append(&mut state, &entry);
        }
    }

    /// Numbers missing before what is held, or before `head`, the machine's last.
    pub fn missing(&self, head: u64) -> Option<Range<u64>> {
        let state = self.state();
        let next = state.held.keys().next().copied().unwrap_or(head + 1);
        (state.last + 1 < next).then(|| state.last + 1..next)
    }

    /// Waits until every body that has its place is on the medium. Bodies behind a gap came with a
    /// snapshot or are known to every peer that applied them; they can be fetched again.
    ///
    /// # Errors
    /// The disk failed.
    pub async fn settle(&self) -> io::Result<()> {
        self.log.flush().await
    }

    /// Up to `max` entries from number `from` on. Blocks on the disk.
    ///
    /// # Errors
    /// The disk cannot be read, or what it says does not decode.
    pub fn read(&self, from: u64, max: usize) -> io::Result<Vec<AuditEntry>> {
        let (mut at, last) = {
            let state = self.state();
            let from = from.max(state.first);
            let place = state.places.range(..=from).next_back();
            (place.map_or(Position::default(), |(_, at)| *at), state.last)
        };
        let mut entries = Vec::new();
        while entries.len() < max {
            let records = self.log.read(at, READ_BYTES).map_err(io::Error::other)?;
            let Some(end) = records.last().map(|record| record.next) else { break };
            for Record { body, .. } in records {
                let entry = decode(&body).map_err(io::Error::other)?;
                if entry.seq >= from && entry.seq <= last && entries.len() < max {
                    entries.push(entry);
                }
            }
            at = end;
        }
        Ok(entries)
    }

    fn append(&self, state: &mut State, entry: &AuditEntry) {
        let seq = entry.seq;
        let Ok(body) = encode(entry) else {
            unreachable!("an audit entry does not encode");
        };
        let fill = |out: &mut Vec<u8>| out.extend_from_slice(&body);
        if seq.is_multiple_of(STRIDE) {
            let shared = self.state.clone();
            let placed = Box::new(move |place: io::Result<Position>| {
                if let Ok(at) = place {
                    lock(&shared).places.insert(seq, at);
                }
            });
            self.log.append_placed(KIND, fill, placed);
        } else {
            self.log.append(KIND, fill, None);
        }
        if state.first == 0 {
            state.first = seq;
        }
        state.last = seq;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl State {
    fn found(&mut self, seq: u64, at: Position) {
        if self.first == 0 {
            self.first = seq;
        }
        if seq.is_multiple_of(STRIDE) {
            self.places.insert(seq, at);
        }
        self.last = seq;
    }

    fn take_next(&mut self) -> Option<AuditEntry> {
        let next = self.last + 1;
        self.held.retain(|seq, _| *seq >= next);
        self.held.remove(&next)
    }
}

fn encode(entry: &AuditEntry) -> Result<Vec<u8>, CodecError> {
    frame::frame(Kind::Audit, VERSION, |out| codec::put(out, entry))
}

fn decode(bytes: &[u8]) -> Result<AuditEntry, CodecError> {
    codec::get(frame::open(bytes, Kind::Audit, VERSION)?)
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
