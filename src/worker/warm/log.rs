//! The batch log of one scope: a hash-chained run of records, synced before anyone may see them.
//!
//! Four kinds of entry share one segmented log and thereby one order: a record of the chain, a cut
//! (the chain ends there again; what followed is a fork), a fence (the highest token this sink
//! saw), and a note for the journal. Opening the log replays them.
//!
//! What always holds:
//!  1. [`BatchLog::append`] returns after the sync; only [`BatchLog::publish`] shows a record;
//!  2. numbers are dense, each record names its predecessor, tokens never fall;
//!  3. a token's first record opens it (`EpochStart`), and behind its barrier comes a `Reopen` of
//!     the same token, or a higher one, or nothing.
//!
//! Deliberately absent: leases, tokens' meaning, concurrency of writers; `sink.rs` has them.
//! Thin: segments are kept for good; the store already serves what memory has let go.

use super::batch::{self, BatchError, Header, Kind, Take};
use crate::journal::{Journal, Moment, Note};
use bytes::Bytes;
use cryptorun_core::position::Position;
use cryptorun_core::time::WallTime;
use cryptorun_core::token::Token;
use cryptorun_core::wire::Fate;
use cryptorun_platform::segments::{self, Log};
use std::collections::VecDeque;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

const RECORD: u8 = 1;
const CUT: u8 = 2;
const FENCE: u8 = 3;
const NOTE: u8 = 4;

/// Records kept in memory for those who follow closely; older ones come from the store.
const MEMORY_BYTES: usize = 16 << 20;
/// What a cut may still need, whatever it weighs.
const MEMORY_RECORDS_MIN: usize = 512;

/// How a record came here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Written as holder.
    Own,
    /// Applied from another sink.
    Followed,
    /// Taken from a sealed sink under a reserved token.
    Adopted,
}

impl Origin {
    fn code(self) -> u8 {
        match self {
            Self::Own => 1,
            Self::Followed => 2,
            Self::Adopted => 3,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        [Self::Own, Self::Followed, Self::Adopted].into_iter().find(|o| o.code() == code)
    }

    pub fn fate(self) -> Fate {
        match self {
            Self::Own => Fate::Visible,
            Self::Followed | Self::Adopted => Fate::Replicated,
        }
    }
}

/// A record of the chain with how it came here.
#[derive(Clone, Debug)]
pub struct Entry {
    pub position: Position,
    pub header: Header,
    /// What is hashed.
    pub bytes: Bytes,
    pub origin: Origin,
    /// The token that was shown when it was written here. An adopted record shows the reserved
    /// one; the one it was adopted from is its header's.
    pub shown: Token,
    /// Read before it was written here.
    pub at: Moment,
    /// Rows in the chain up to and with this record.
    pub rows: u64,
}

/// Why a record cannot follow another.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    #[error("a record is unreadable: {0}")]
    Unreadable(#[from] BatchError),
    #[error("record {offered} does not follow record {end}")]
    Gap { end: u64, offered: u64 },
    #[error("record {seq} names another predecessor: histories differ")]
    Diverged { seq: u64 },
    #[error("record {seq} has token {token}, below its predecessor's {last}")]
    TokenFell { seq: u64, token: Token, last: Token },
    #[error("token {token} does not begin with an epoch start at record {seq}")]
    NotOpened { seq: u64, token: Token },
    #[error("token {token} ended with the barrier before record {seq}")]
    BehindBarrier { seq: u64, token: Token },
}

#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error(transparent)]
    Open(#[from] segments::OpenError),
    #[error("batch log entry {number} is damaged: {source}")]
    Damaged { number: u64, source: BatchError },
    #[error("batch log: {0}")]
    Chain(#[from] ChainError),
    #[error("batch log cannot be written: {0}")]
    Io(#[from] io::Error),
}

pub struct BatchLog {
    log: Log,
    memory: Mutex<Memory>,
}

#[derive(Debug, Default)]
struct Memory {
    entries: VecDeque<Entry>,
    bytes: usize,
    /// The record before the first in `entries`.
    base: Position,
    base_rows: u64,
    base_last: Option<Header>,
    fence: Token,
    journal: Journal,
}

/// A record about to be appended.
pub struct Draft {
    pub bytes: Bytes,
    pub origin: Origin,
    pub shown: Token,
    pub at: Moment,
}

impl BatchLog {
    /// Opens the log behind `open`, which hands each of its records to the visitor.
    pub fn open(
        open: impl FnOnce(&mut dyn FnMut(segments::Record)) -> Result<Log, segments::OpenError>,
    ) -> Result<Self, LogError> {
        let mut memory = Memory::default();
        let (mut number, mut wrong) = (0, None);
        let log = open(&mut |record| {
            number += 1;
            if wrong.is_none() {
                wrong = memory.replay(number, record.kind, &record.body).err();
            }
        })?;
        if let Some(error) = wrong {
            return Err(error);
        }
        memory.note_again();
        Ok(Self { log, memory: Mutex::new(memory) })
    }

    /// Checks that `bytes` may follow the chain's end, without writing.
    pub fn check(&self, bytes: &Bytes) -> Result<(Header, Position), ChainError> {
        let memory = self.memory();
        follows(memory.end(), memory.last().as_ref(), bytes)
    }

    /// Writes records that follow each other and the chain's end. Synced on return and not yet
    /// part of the chain: [`BatchLog::publish`] makes them so.
    pub async fn append(&self, drafts: Vec<Draft>) -> Result<Vec<Entry>, LogError> {
        let (mut end, mut last, mut rows) = {
            let memory = self.memory();
            (memory.end(), memory.last(), memory.rows())
        };
        let mut entries = Vec::with_capacity(drafts.len());
        for draft in drafts {
            let (header, position) = follows(end, last.as_ref(), &draft.bytes)?;
            rows += u64::from(header.rows);
            let Draft { bytes, origin, shown, at } = draft;
            entries.push(Entry { position, header, bytes, origin, shown, at, rows });
            (end, last) = (position, Some(header));
        }
        let Some((final_one, before)) = entries.split_last() else { return Ok(entries) };
        for entry in before {
            self.log.append(RECORD, |out| put_entry(out, entry), None);
        }
        let mut body = Vec::new();
        put_entry(&mut body, final_one);
        self.log.append_durable(RECORD, &body).await?;
        Ok(entries)
    }

    /// Makes appended records the chain's end, and notes them.
    pub fn publish(&self, entries: &[Entry], at: Moment) {
        let mut memory = self.memory();
        for entry in entries {
            let note = Note {
                token: entry.header.token,
                fate: entry.origin.fate(),
                from_seq: entry.position.seq,
                to_seq: entry.position.seq,
                rows: u64::from(entry.header.rows),
                at,
            };
            self.log.append(NOTE, |out| out.extend(note.encode()), None);
            memory.journal.note(note);
            memory.push(entry.clone());
        }
        memory.trim();
    }

    /// Ends the chain at `to` again, on the disk on return. What followed must be kept already.
    pub async fn cut(&self, to: u64) -> Result<(), LogError> {
        self.log.append_durable(CUT, &to.to_le_bytes()).await?;
        self.memory().cut(to);
        Ok(())
    }

    /// Stores the highest token seen, on the disk on return. A lower one changes nothing.
    pub async fn raise_fence(&self, token: Token) -> Result<(), LogError> {
        if token <= self.fence() {
            return Ok(());
        }
        let mut body = Vec::new();
        batch::put_token(&mut body, token);
        if !cryptorun_core::seeded_bug::is("fence_not_kept") {
            self.log.append_durable(FENCE, &body).await?;
        }
        let mut memory = self.memory();
        memory.fence = memory.fence.max(token);
        Ok(())
    }

    /// Notes what is no record of the chain: a write turned away, a fork.
    pub fn note(&self, note: Note) {
        self.log.append(NOTE, |out| out.extend(note.encode()), None);
        self.memory().journal.note(note);
    }

    pub fn fence(&self) -> Token {
        self.memory().fence
    }

    pub fn end(&self) -> Position {
        self.memory().end()
    }

    pub fn last(&self) -> Option<Header> {
        self.memory().last()
    }

    /// Rows in the chain.
    pub fn rows(&self) -> u64 {
        self.memory().rows()
    }

    pub fn with_journal<T>(&self, read: impl FnOnce(&Journal) -> T) -> T {
        read(&self.memory().journal)
    }

    /// Entries behind `after` that are in memory, or none when some of them are not.
    pub fn since(&self, after: u64) -> Option<Vec<Entry>> {
        let memory = self.memory();
        (after >= memory.base.seq).then(|| memory.behind(after).cloned().collect())
    }

    /// (number, token) of each record in memory.
    pub fn tokens(&self) -> Vec<(u64, Token)> {
        self.memory().entries.iter().map(|e| (e.position.seq, e.header.token)).collect()
    }

    /// The position of a record in memory, or of the one before the first.
    pub fn position_at(&self, seq: u64) -> Option<Position> {
        let memory = self.memory();
        if seq == memory.base.seq {
            return Some(memory.base);
        }
        memory.entries.iter().find(|entry| entry.position.seq == seq).map(|entry| entry.position)
    }

    /// Why there is no room for the log's next segment, while there is none.
    pub fn no_space(&self) -> Option<segments::NoSpace> {
        self.log.no_space()
    }

    /// Returns when the disk has failed the log.
    pub async fn failed(&self) -> segments::Failure {
        self.log.failed().await
    }

    pub async fn close(&self) -> io::Result<()> {
        self.log.close().await
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Memory {
    fn end(&self) -> Position {
        self.entries.back().map_or(self.base, |entry| entry.position)
    }

    fn last(&self) -> Option<Header> {
        self.entries.back().map(|entry| entry.header).or(self.base_last)
    }

    fn rows(&self) -> u64 {
        self.entries.back().map_or(self.base_rows, |entry| entry.rows)
    }

    fn behind(&self, after: u64) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(move |entry| entry.position.seq > after)
    }

    fn push(&mut self, entry: Entry) {
        self.bytes += entry.bytes.len();
        self.entries.push_back(entry);
    }

    fn trim(&mut self) {
        while self.bytes > MEMORY_BYTES && self.entries.len() > MEMORY_RECORDS_MIN {
            let Some(oldest) = self.entries.pop_front() else { return };
            self.bytes -= oldest.bytes.len();
            (self.base, self.base_rows) = (oldest.position, oldest.rows);
            self.base_last = Some(oldest.header);
        }
    }

    fn cut(&mut self, to: u64) {
        while self.entries.back().is_some_and(|entry| entry.position.seq > to) {
            let gone = self.entries.pop_back();
            self.bytes -= gone.map_or(0, |entry| entry.bytes.len());
        }
    }

    fn replay(&mut self, number: u64, kind: u8, body: &Bytes) -> Result<(), LogError> {
        let damaged = |source| LogError::Damaged { number, source };
        let mut take = Take { bytes: body, at: 0 };
        match kind {
            RECORD => {
                let (origin, shown, at, bytes) = take_entry(body).map_err(damaged)?;
                // A record that was appended and never published was cut at once, or the process
                // ended in between: then it is synced, follows, and nobody saw it. It stays.
                let (header, position) = follows(self.end(), self.last().as_ref(), &bytes)?;
                let rows = self.rows() + u64::from(header.rows);
                self.push(Entry { position, header, bytes, origin, shown, at, rows });
            }
            CUT => self.cut(take.u64("cut").map_err(damaged)?),
            FENCE => self.fence = self.fence.max(take.token().map_err(damaged)?),
            NOTE => self.journal.note(Note::decode(body).map_err(damaged)?),
            value => return Err(damaged(BatchError::Unknown { field: "entry kind", value })),
        }
        Ok(())
    }

    /// Notes that a crash took while their records stayed.
    fn note_again(&mut self) {
        for entry in &self.entries {
            let (token, seq) = (entry.header.token, entry.position.seq);
            if !self.journal.has_taken(token, seq) {
                let rows = u64::from(entry.header.rows);
                let fate = entry.origin.fate();
                self.journal.note(Note {
                    token,
                    fate,
                    from_seq: seq,
                    to_seq: seq,
                    rows,
                    at: entry.at,
                });
            }
        }
    }
}

/// Replays entries that nobody wrote. See [`crate::decoders`].
pub(crate) fn replay_any(entries: &[(u8, Bytes)]) {
    let mut memory = Memory::default();
    for (number, (kind, body)) in (1..).zip(entries) {
        let _ = memory.replay(number, *kind, body);
    }
    memory.note_again();
}

/// Whether `bytes` may come behind `last`, which stands at `end`; where the chain stands then.
pub fn follows(
    end: Position,
    last: Option<&Header>,
    bytes: &Bytes,
) -> Result<(Header, Position), ChainError> {
    let header = batch::Batch::decode(bytes)?.header;
    let (seq, token) = (header.seq(), header.token);
    if header.prev.seq != end.seq {
        return Err(ChainError::Gap { end: end.seq, offered: seq });
    }
    if header.prev.hash != end.hash {
        return Err(ChainError::Diverged { seq });
    }
    let last_token = last.map_or(Token::NONE, |last| last.token);
    if token < last_token {
        return Err(ChainError::TokenFell { seq, token, last: last_token });
    }
    if (token > last_token) != (header.kind == Kind::EpochStart) {
        return Err(ChainError::NotOpened { seq, token });
    }
    let behind_barrier = last.is_some_and(|last| last.kind == Kind::Barrier && last.token == token);
    if behind_barrier != (header.kind == Kind::Reopen) {
        return Err(ChainError::BehindBarrier { seq, token });
    }
    Ok((header, batch::position_after(end, bytes)))
}

fn put_entry(out: &mut Vec<u8>, entry: &Entry) {
    out.push(entry.origin.code());
    batch::put_token(out, entry.shown);
    out.extend(entry.at.wall.0.to_le_bytes());
    out.extend(entry.at.boot_ns.to_le_bytes());
    out.extend_from_slice(&entry.bytes);
}

fn take_entry(body: &Bytes) -> Result<(Origin, Token, Moment, Bytes), BatchError> {
    let mut take = Take { bytes: body, at: 0 };
    let code = take.u8("origin")?;
    let origin =
        Origin::from_code(code).ok_or(BatchError::Unknown { field: "origin", value: code })?;
    let shown = take.token()?;
    let at = Moment { wall: WallTime(take.u64("stamp")?), boot_ns: take.u64("stamp")? };
    Ok((origin, shown, at, body.slice(take.at..)))
}
