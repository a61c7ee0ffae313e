//! A segmented, checksummed, group-committed append-only log: under the Raft WAL, the worker's
//! queue, origin and batch logs, and the audit's bodies. Crash-tested here, in one place.
//!
//! Appenders put records into a queue. One writer takes all that is there, writes it as one
//! *batch*, syncs once, and only then calls back, in order. Batches are numbered without a gap and
//! the next one is written only after the sync of the one before has returned: that is what lets
//! recovery tell a torn tail from damage.
//!
//! ```text
//! segment = header (64 bytes) | zeros up to `start` | batch* | zeros      zeroed when made
//! batch   = BEGIN{number, bytes, padded} | record* | END | zeros up to 4 KiB if padded
//! record  = len u32 | crc32c u32 | kind u8 | version u8 | body            len counts kind..body
//! ```
//!
//! The checksum also covers the owner's tag, the segment's number and the record's offset, so bytes
//! of another log, of another segment or from another place in the file never count as a record.
//!
//! What always holds:
//!  1. a record whose callback said `Ok` is there after any crash, and records come back in order
//!     without a hole: a batch is there whole or not at all;
//!  2. what recovery hands out is on the medium: it rewrites and syncs the last batch first, since a
//!     process that died before its sync (or on a failed one) left it in the page cache only;
//!  3. after an I/O error nothing is written any more: its batch and all later appends fail. Want
//!     of room is none: the batch waits until there is some, or until the log is closed;
//!  4. a segment file bears its final name only once it is zeroed, has its header and is synced, so
//!     a half-made one is recognised by its name (`*.new`) and removed;
//!  5. segments go from the oldest up, one directory sync each, so a hole is never a crash's work.
//!
//! Torn or damaged? Let the first unreadable batch be number *n*. If a valid BEGIN above *n* follows
//! anywhere, *n* had been synced: damage, refuse. In any segment but the last: damage, refuse, for
//! the same reason. Else *n* was the batch in flight, if it looks like one: a write that did not
//! finish leaves old content behind, and old content is zeros. BEGIN starts and END ends with a
//! byte that is never zero, so a prefix shows a zero there, and a device that reorders sectors
//! leaves one of the batch's sectors all zero. A batch unreadable without such a trace is damage.
//! A torn one is cut: zeroed to the end of the file and synced, so that its number and place can be
//! used again. What stays undecidable: the very last batch, synced, then damaged by zeros. `close`
//! writes an empty batch behind it, so this needs a crash first.
//!
//! Deliberately absent: truncation (Raft writes it as a record), deletion inside a segment, a
//! repair that drops records, reuse of old files.
//! Next: `segments/recover.rs` for the rules above as code, `segments/driver.rs` for who writes when.

pub(crate) mod decoders;
mod driver;
mod error;
mod format;
mod read;
mod recover;
mod space;
mod spare;
mod writer;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;

use crate::disk::{Disk, SyncMode};
use crate::spawn::Spawn;
use driver::{Shared, Then};
pub use error::{Failure, NoSpace, OpenError, ReadError};
pub use format::{MAX_KIND, Owner};
pub use writer::Batch;

/// A place in the log. Later is greater. The default is before everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    pub segment: u64,
    pub offset: u64,
}

/// One record as it stands on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub at: Position,
    /// Where to go on reading.
    pub next: Position,
    pub kind: u8,
    pub version: u8,
    pub body: Bytes,
}

/// Called once the record is on the medium, or surely not acknowledged.
pub type Done = Box<dyn FnOnce(io::Result<()>) + Send>;
/// As [`Done`], with the place where the record can be read.
pub type Placed = Box<dyn FnOnce(io::Result<Position>) + Send>;
/// Restates the owner's small state at the start of a segment. See [`Settings::at_segment_start`].
pub type Restate = Arc<dyn Fn(&mut Batch) + Send + Sync>;

/// How long a simulated sync takes, asked for each.
pub type SyncDelay = Arc<dyn Fn() -> Duration + Send + Sync>;

/// A record may be this large. The frame of a peer is smaller.
pub const MAX_RECORD: usize = 64 << 20;
/// More than this waiting means that the disk has hung for long: the log fails rather than eat the
/// memory. Callers that can wait ask [`Log::room`] and never get here.
pub const MAX_QUEUED: usize = 256 << 20;

#[derive(Clone)]
pub struct Settings {
    pub owner: Owner,
    /// Of a segment file; a larger batch gets a larger file. Rounded up to 4 KiB.
    pub segment_bytes: u64,
    pub sync: SyncMode,
    /// Written with each record, for the owner's codec.
    pub record_version: u8,
    /// Called by the writer for each new segment except a log's very first. What it pushes comes
    /// before the batch that opened the segment, so once [`Log::current_segment`] names the new one
    /// the owner may drop older ones. It runs when the batch is written: what it restates may be
    /// newer than the records that follow it, never older than those before it.
    pub at_segment_start: Option<Restate>,
}

impl Settings {
    pub fn new(owner: Owner) -> Self {
        Self {
            owner,
            // Half a day of decisions, or minutes of full load; zeroing takes 0.1 s.
            segment_bytes: 64 << 20,
            sync: SyncMode::default(),
            record_version: 1,
            at_segment_start: None,
        }
    }
}

/// Who runs the writer.
pub enum Driver {
    /// A thread for writing and one that zeroes the next segment ahead of time.
    Thread,
    /// One task that blocks for each write, takes `sync_delay` between write and sync, and zeroes
    /// the next segment when it has nothing else to do: for the simulator.
    Task { spawn: Arc<dyn Spawn>, sync_delay: SyncDelay },
}

/// A handle; clones share the log. When the last one goes, the writer finishes what is queued.
#[derive(Clone)]
pub struct Log {
    handle: Arc<Handle>,
}

/// Closes the log when the last clone of [`Log`] is dropped.
struct Handle(Arc<Shared>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.start_closing();
    }
}

impl Log {
    /// Opens or founds the log in `dir` and answers with all its records.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: impl Into<PathBuf>,
        settings: Settings,
        driver: Driver,
    ) -> Result<(Self, Vec<Record>), OpenError> {
        let mut records = Vec::new();
        let log = Self::open_with(disk, dir, settings, driver, |record| records.push(record))?;
        Ok((log, records))
    }

    /// As [`Log::open`], handing over one record at a time: for logs larger than memory. Records
    /// already handed over stay true if the opening fails later on.
    pub fn open_with(
        disk: Arc<dyn Disk>,
        dir: impl Into<PathBuf>,
        settings: Settings,
        driver: Driver,
        visit: impl FnMut(Record),
    ) -> Result<Self, OpenError> {
        let recovered = recover::recover(disk, dir.into(), &settings, visit)?;
        let shared = driver::start(recovered, settings, driver)?;
        Ok(Self { handle: Arc::new(Handle(shared)) })
    }

    /// Queues a record; `fill` writes its body. Without `done` the record is lazy: it rides with
    /// the next sync somebody asks for. `kind` is at most [`MAX_KIND`].
    pub fn append(&self, kind: u8, fill: impl FnOnce(&mut Vec<u8>), done: Option<Done>) {
        self.shared().append(kind, fill, done.map(Then::Done));
    }

    /// As [`Log::append`] for those who will want to read the record again.
    pub fn append_placed(&self, kind: u8, fill: impl FnOnce(&mut Vec<u8>), placed: Placed) {
        self.shared().append(kind, fill, Some(Then::Placed(placed)));
    }

    /// Appends and waits until it is on the medium. Cancelling the wait does not take it back.
    pub async fn append_durable(&self, kind: u8, body: &[u8]) -> io::Result<Position> {
        let (tell, told) = tokio::sync::oneshot::channel();
        let placed: Placed = Box::new(move |result| drop(tell.send(result)));
        self.append_placed(kind, |buf| buf.extend_from_slice(body), placed);
        told.await.unwrap_or_else(|_| Err(self.shared().stopped()))
    }

    /// Waits until everything appended so far, lazy records too, is on the medium.
    pub async fn flush(&self) -> io::Result<()> {
        let (tell, told) = tokio::sync::oneshot::channel();
        self.shared().flush(Box::new(move |result| drop(tell.send(result))));
        told.await.unwrap_or_else(|_| Err(self.shared().stopped()))
    }

    /// Waits while the queue holds more than the writer takes at once.
    pub async fn room(&self) {
        self.shared().room().await;
    }

    /// Writes what is queued, seals the last batch and lets go of the directory. Later appends
    /// fail. Call it last: other clones of the handle see a closed log.
    pub async fn close(&self) -> io::Result<()> {
        self.shared().start_closing();
        self.shared().closed().await
    }

    /// Returns when an I/O error has stopped the log, and never otherwise.
    pub async fn failed(&self) -> Failure {
        self.shared().failed().await
    }

    /// Why there is no room for the next segment, while there is none. What is left of the current
    /// one is still written to: for what must not wait, callers keep the rest back.
    pub fn no_space(&self) -> Option<NoSpace> {
        self.space().borrow().clone()
    }

    /// As [`Log::no_space`], for waiting on.
    pub fn space(&self) -> watch::Receiver<Option<NoSpace>> {
        self.shared().space.watch()
    }

    /// Records from `from` on that are on the medium, about `max_bytes` of bodies and at least one
    /// if there is one. `from` is [`Position::default`], a record's `at` or its `next`. Blocks.
    pub fn read(&self, from: Position, max_bytes: usize) -> Result<Vec<Record>, ReadError> {
        read::read(self.shared(), from, max_bytes)
    }

    /// Deletes whole segments below `segment`, never the current one; says how many. Blocks.
    pub fn remove_segments_below(&self, segment: u64) -> io::Result<u64> {
        self.shared().remove_segments_below(segment)
    }

    /// The segment of the last record on the medium.
    pub fn current_segment(&self) -> u64 {
        self.shared().view().end.segment
    }

    pub fn first_segment(&self) -> u64 {
        self.shared().view().first()
    }

    /// Where the next record on the medium will come after: reading from here gives what is new.
    pub fn end(&self) -> Position {
        self.shared().view().end
    }

    /// What the segments take on disk, without the one made ahead.
    pub fn disk_bytes(&self) -> u64 {
        self.shared().view().segments.values().map(|segment| segment.size).sum()
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.handle.0
    }
}

#[cfg(test)]
mod tests;
