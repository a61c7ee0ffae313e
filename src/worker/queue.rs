//! The durable queue: what came from venues and is not yet safe in a sealed batch.
//!
//! The feed appends; consumers (one for each scope fed from here) read at their own pace and
//! acknowledge how far they are done; what all have acknowledged is deleted, segment by segment.
//! Consumers read from the log itself, so a restart, a takeover and an ordinary second take the same
//! path.
//!
//! What always holds:
//!  1. an event is read by a consumer only after it is on the medium, and then until the consumer
//!     acknowledged it, whatever crashes;
//!  2. an event may be stored twice (after a crash or a full disk), never not at all once `append`
//!     returned; trades carry ids, so consumers count them once;
//!  3. nothing is shed: at the bound, or on a full disk, `append` waits, the feed stops reading its
//!     socket, and what is missed then is a gap with ids, fetched afterwards.
//!
//! A full disk is waited out, and said. Any other I/O error is final, as it is for every log here.
//! Next: `queue/codec.rs` for the records, `platform/segments` for the log beneath.

mod codec;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cryptorun_core::report::DiskState;
use cryptorun_platform::clock::{BootTime, Clock};
use cryptorun_platform::disk::{Disk, SyncMode, is_full};
use cryptorun_platform::segments::{
    Driver, Log, OpenError, Owner, Position, ReadError, Record, Restate, Settings,
};
use tokio::sync::{Notify, mpsc};

pub use self::codec::CodecError;
use crate::ingest::feed::{FeedEvent, Gap};
use crate::ingest::model::{Source, VenueId};
use crate::ingest::sequence::{Missing, Resume, ResumePoints, Seen};

/// Hours of every market this is meant for, and no disk worth the name is smaller.
pub const BYTES_MAX: u64 = 8 << 30;

/// Small against the bound, so that what is acknowledged is soon deleted.
pub const SEGMENT_BYTES: u64 = 16 << 20;

/// Between two looks at a full disk.
const FULL_RETRY: Duration = Duration::from_secs(1);

/// A sync slower than this is a disk in trouble.
const SLOW_SYNC: Duration = Duration::from_secs(1);

/// What is appended under one sync, at most.
const BATCH_EVENTS: usize = 1_024;

#[derive(Clone)]
pub struct QueueSettings {
    pub dir: PathBuf,
    pub owner: Owner,
    pub bytes_max: u64,
    pub segment_bytes: u64,
    pub sync: SyncMode,
}

impl QueueSettings {
    pub fn new(dir: impl Into<PathBuf>, owner: Owner) -> Self {
        Self {
            dir: dir.into(),
            owner,
            bytes_max: BYTES_MAX,
            segment_bytes: SEGMENT_BYTES,
            sync: SyncMode::default(),
        }
    }
}

/// Makes a driver for each time the log is opened.
pub type MakeDriver = Arc<dyn Fn() -> Driver + Send + Sync>;

#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    #[error("cannot open the queue")]
    Open(#[from] OpenError),
    #[error("the queue holds a record that cannot be understood, at segment {} offset {}", at.segment, at.offset)]
    Record { at: Position, source: CodecError },
    #[error("cannot read the queue")]
    Read(#[from] ReadError),
    #[error("the queue's disk failed; the process has to stop")]
    Failed(#[source] io::Error),
    #[error("a consumer's name is 1 to 255 bytes long")]
    Name,
}

/// How full the queue is, by the bytes that some consumer still needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Ok,
    Above70,
    Above90,
    /// Appends wait.
    Full,
}

impl Level {
    fn of(waiting: u64, bytes_max: u64) -> Self {
        let percent = u128::from(waiting) * 100 / u128::from(bytes_max.max(1));
        match percent {
            0..70 => Self::Ok,
            70..90 => Self::Above70,
            90..100 => Self::Above90,
            _ => Self::Full,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueStatus {
    pub waiting_bytes: u64,
    pub bytes_max: u64,
    pub level: Level,
    pub disk: DiskState,
    /// Syncs that succeeded since start.
    pub syncs: u64,
    pub synced_at: Option<BootTime>,
    pub end: Position,
}

/// What has to survive the deletion of old segments.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Small {
    /// By consumer: everything before it is done.
    acknowledged: BTreeMap<String, Position>,
    resume: BTreeMap<Source, Resume>,
}

/// A handle; clones share the queue.
#[derive(Clone)]
pub struct Queue {
    inner: Arc<Inner>,
}

struct Inner {
    clock: Arc<dyn Clock>,
    disk: Arc<dyn Disk>,
    settings: QueueSettings,
    driver: MakeDriver,
    log: Mutex<Log>,
    small: Arc<Mutex<Small>>,
    status: Mutex<Status>,
    /// There is more to read.
    grown: Notify,
    /// There may be room again.
    shrunk: Notify,
}

#[derive(Debug, Clone, Copy)]
struct Status {
    disk: DiskState,
    syncs: u64,
    synced_at: Option<BootTime>,
    /// When the oldest sync that has not come back was asked for.
    syncing: Option<BootTime>,
    /// As last said in the log.
    level: Level,
}

/// An event with the position to acknowledge once it and all before it are done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queued {
    pub event: FeedEvent,
    pub next: Position,
}

impl Queue {
    /// Opens or founds the queue. Blocks.
    pub fn open(
        clock: Arc<dyn Clock>,
        disk: Arc<dyn Disk>,
        settings: QueueSettings,
        driver: MakeDriver,
    ) -> Result<Self, QueueError> {
        let small = Arc::new(Mutex::new(Small::default()));
        let mut recovered = Small::default();
        let mut damage = None;
        let visit = |record: Record| {
            if let Err(source) = recovered.take(&record) {
                damage.get_or_insert(QueueError::Record { at: record.at, source });
            }
        };
        let log = open_log(&disk, &settings, &driver, small.clone(), visit)?;
        if let Some(error) = damage {
            return Err(error);
        }
        recovered.skip_deleted(log.first_segment());
        *lock(&small) = recovered;
        let status = Status {
            disk: DiskState::Ok,
            syncs: 0,
            synced_at: None,
            syncing: None,
            level: Level::Ok,
        };
        let inner = Inner {
            clock,
            disk,
            settings,
            driver,
            log: Mutex::new(log),
            small,
            status: Mutex::new(status),
            grown: Notify::new(),
            shrunk: Notify::new(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Where each symbol's feed has to go on, as far as this queue ever knew.
    pub fn resume(&self, venue: VenueId) -> ResumePoints {
        let small = lock(&self.inner.small);
        let of_venue = small.resume.iter().filter(|(source, _)| source.venue == venue);
        of_venue.map(|(source, resume)| (source.symbol.clone(), resume.clone())).collect()
    }

    /// Stores events; on return they are on the medium. Waits while there is no room.
    pub async fn append(&self, events: &[FeedEvent]) -> Result<(), QueueError> {
        for batch in events.chunks(BATCH_EVENTS) {
            self.room().await;
            loop {
                self.space().await;
                let begun = self.inner.syncing();
                match self.append_and_say(batch).await {
                    Ok(()) => {
                        self.inner.synced(begun);
                        break;
                    }
                    Err(error) if is_full(&error) => {
                        self.inner.disk_is(DiskState::Full, Some(&error));
                        self.reopen().await?;
                    }
                    Err(error) => {
                        self.inner.disk_is(DiskState::Failed, Some(&error));
                        return Err(QueueError::Failed(error));
                    }
                }
            }
            let mut small = lock(&self.inner.small);
            batch.iter().for_each(|event| small.note(event));
            drop(small);
            self.inner.grown.notify_waiters();
            self.inner.say_level();
        }
        Ok(())
    }

    /// Proves that the disk takes a write: a small record, synced. For each renewal. A full disk
    /// takes none: what is left of the segment is for acknowledgements, which make room.
    pub async fn prove(&self) -> Result<(), QueueError> {
        let log = self.inner.log();
        if let Some(short) = log.no_space() {
            let error = short.to_io();
            self.inner.disk_is(DiskState::Full, Some(&error));
            return Err(QueueError::Failed(error));
        }
        let begun = self.inner.syncing();
        let body = begun.0.to_le_bytes();
        match log.append_durable(codec::PROOF, &body).await {
            Ok(_) => {
                self.inner.synced(begun);
                Ok(())
            }
            Err(error) => {
                let full = is_full(&error);
                let state = if full { DiskState::Full } else { DiskState::Failed };
                self.inner.disk_is(state, Some(&error));
                Err(QueueError::Failed(error))
            }
        }
    }

    /// A reader with a place of its own, kept under its name. A new one begins at the oldest event
    /// there is; from now on nothing it has not acknowledged is deleted.
    pub fn consumer(&self, name: &str) -> Result<Consumer, QueueError> {
        if name.is_empty() || name.len() > usize::from(u8::MAX) {
            return Err(QueueError::Name);
        }
        let at = *lock(&self.inner.small).acknowledged.entry(name.to_owned()).or_default();
        Ok(Consumer { queue: self.clone(), name: name.to_owned(), at })
    }

    /// A consumer that will not come back no longer holds anything.
    pub fn dismiss(&self, name: &str) {
        lock(&self.inner.small).acknowledged.remove(name);
        // The others' acknowledgements carry the news to the disk, at the next segment.
        self.inner.delete_acknowledged();
    }

    pub fn status(&self) -> QueueStatus {
        let (waiting_bytes, end) = self.inner.waiting();
        let status = *lock(&self.inner.status);
        // One that hangs has no end to be timed by.
        let hangs = |since| self.inner.clock.boot() - since > SLOW_SYNC;
        let disk = match status.disk {
            DiskState::Ok if status.syncing.is_some_and(hangs) => DiskState::Slow,
            known => known,
        };
        let bytes_max = self.inner.settings.bytes_max;
        QueueStatus {
            waiting_bytes,
            bytes_max,
            level: Level::of(waiting_bytes, bytes_max),
            disk,
            syncs: status.syncs,
            synced_at: status.synced_at,
            end,
        }
    }

    /// Writes what is under way and lets go of the directory.
    pub async fn close(&self) -> io::Result<()> {
        self.inner.log().close().await
    }

    async fn try_append(&self, batch: &[FeedEvent]) -> io::Result<()> {
        let log = self.inner.log();
        log.room().await;
        for event in batch {
            log.append(codec::kind_of(event), |to| codec::write_event(event, to), None);
        }
        log.flush().await
    }

    async fn room(&self) {
        loop {
            let shrunk = self.inner.shrunk.notified();
            let (waiting, _) = self.inner.waiting();
            if Level::of(waiting, self.inner.settings.bytes_max) < Level::Full {
                return;
            }
            self.inner.say_level();
            shrunk.await;
        }
    }

    /// Waits while the disk is full, and says so.
    async fn space(&self) {
        let log = self.inner.log();
        if let Some(short) = log.no_space() {
            self.inner.disk_is(DiskState::Full, Some(&short.to_io()));
            drop(log.space().wait_for(Option::is_none).await);
        }
    }

    /// An append that meets a full disk under way waits inside the log: it is said here.
    async fn append_and_say(&self, batch: &[FeedEvent]) -> io::Result<()> {
        let mut space = self.inner.log().space();
        let mut append = std::pin::pin!(self.try_append(batch));
        tokio::select! {
            biased;
            done = &mut append => return done,
            short = space.wait_for(Option::is_some) => {
                let short = short.ok().and_then(|short| short.clone());
                let error = short.map(|short| short.to_io());
                self.inner.disk_is(DiskState::Full, error.as_ref());
            }
        }
        append.await
    }

    /// The log beneath stops for good when a sync finds no room; a new one takes its place once the
    /// disk has some.
    async fn reopen(&self) -> Result<(), QueueError> {
        let _ = self.inner.log().close().await; // Its error is why we are here.
        loop {
            tokio::time::sleep(FULL_RETRY).await;
            let inner = &self.inner;
            let small = inner.small.clone();
            match open_log(&inner.disk, &inner.settings, &inner.driver, small, |_| {}) {
                Ok(log) => {
                    *lock(&inner.log) = log;
                    inner.grown.notify_waiters(); // What was under way may have arrived.
                    return Ok(());
                }
                Err(OpenError::Full { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Reads in order, from what it acknowledged last.
pub struct Consumer {
    queue: Queue,
    name: String,
    at: Position,
}

impl Consumer {
    /// What has come, about `max_bytes` of it; waits when there is nothing.
    pub async fn next(&mut self, max_bytes: usize) -> Result<Vec<Queued>, QueueError> {
        let inner = self.queue.inner.clone();
        loop {
            let grown = inner.grown.notified();
            let found = self.poll(max_bytes)?;
            if !found.is_empty() {
                return Ok(found);
            }
            grown.await;
        }
    }

    /// As [`Consumer::next`], without waiting. Blocks for a read from the disk.
    pub fn poll(&mut self, max_bytes: usize) -> Result<Vec<Queued>, QueueError> {
        loop {
            let records = self.queue.inner.log().read(self.at, max_bytes)?;
            let Some(last) = records.last() else { return Ok(Vec::new()) };
            self.at = last.next;
            let mut events = Vec::new();
            for record in &records {
                let event = codec::read_event(record.kind, record.version, &record.body)
                    .map_err(|source| QueueError::Record { at: record.at, source })?;
                events.extend(event.map(|event| Queued { event, next: record.next }));
            }
            if !events.is_empty() {
                return Ok(events);
            }
        }
    }

    /// Everything before `next` is safe elsewhere. Written with the next sync: after a crash the
    /// last few may have to be acknowledged again.
    pub fn acknowledge(&self, next: Position) {
        let inner = &self.queue.inner;
        {
            let mut small = lock(&inner.small);
            let Some(at) = small.acknowledged.get_mut(&self.name) else { return };
            if *at >= next {
                return;
            }
            *at = next;
        }
        let fill = |to: &mut Vec<u8>| codec::write_acknowledged(&self.name, next, to);
        inner.log().append(codec::ACKNOWLEDGED, fill, None);
        inner.delete_acknowledged();
        inner.say_level();
    }

    /// Back to what was acknowledged: after a takeover everything else is read again.
    pub fn rewind(&mut self) {
        let small = lock(&self.queue.inner.small);
        self.at = small.acknowledged.get(&self.name).copied().unwrap_or_default();
    }

    pub fn position(&self) -> Position {
        self.at
    }
}

/// Moves a feed into the queue for as long as the feed lives.
pub async fn fill(queue: &Queue, events: &mut mpsc::Receiver<FeedEvent>) -> Result<(), QueueError> {
    let mut batch = Vec::with_capacity(BATCH_EVENTS);
    while events.recv_many(&mut batch, BATCH_EVENTS).await > 0 {
        queue.append(&batch).await?;
        batch.clear();
    }
    Ok(())
}

impl Inner {
    fn log(&self) -> Log {
        lock(&self.log).clone()
    }

    /// Bytes that some consumer still needs, and the end of the log.
    fn waiting(&self) -> (u64, Position) {
        let log = self.log();
        let end = log.end();
        let oldest = lock(&self.small).acknowledged.values().min().copied().unwrap_or_default();
        let oldest = oldest.max(Position { segment: log.first_segment(), offset: 0 });
        let segments = end.segment.saturating_sub(oldest.segment);
        let whole = segments.saturating_mul(self.settings.segment_bytes).saturating_add(end.offset);
        (whole.saturating_sub(oldest.offset), end)
    }

    fn delete_acknowledged(&self) {
        let oldest = lock(&self.small).acknowledged.values().min().copied();
        let log = self.log();
        if let Some(oldest) = oldest.filter(|oldest| oldest.segment > log.first_segment()) {
            match log.remove_segments_below(oldest.segment) {
                Ok(_) => {}
                // They stay until the next acknowledgement; nothing depends on their going.
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "segments not deleted"
                    );
                }
            }
        }
        self.shrunk.notify_waiters();
    }

    /// A sync is asked for now.
    fn syncing(&self) -> BootTime {
        let now = self.clock.boot();
        lock(&self.status).syncing.get_or_insert(now);
        now
    }

    fn synced(&self, begun: BootTime) {
        let now = self.clock.boot();
        let state = if now - begun > SLOW_SYNC { DiskState::Slow } else { DiskState::Ok };
        {
            let mut status = lock(&self.status);
            status.syncs += 1;
            status.synced_at = Some(now);
            status.syncing = None;
        }
        self.disk_is(state, None);
    }

    fn disk_is(&self, state: DiskState, error: Option<&io::Error>) {
        let before = std::mem::replace(&mut lock(&self.status).disk, state);
        if before == state {
            return;
        }
        let error = error.map(|error| error as &dyn std::error::Error);
        match state {
            DiskState::Ok => tracing::info!("the queue's disk takes writes again"),
            DiskState::Slow => tracing::warn!("the queue's disk is slow"),
            DiskState::Full => {
                tracing::error!(error, "no space for the queue: it keeps what it has and waits");
            }
            DiskState::Failed => tracing::error!(error, "the queue's disk failed"),
        }
    }

    fn say_level(&self) {
        let (waiting_bytes, _) = self.waiting();
        let level = Level::of(waiting_bytes, self.settings.bytes_max);
        let before = std::mem::replace(&mut lock(&self.status).level, level);
        if before == level {
            return;
        }
        let bytes_max = self.settings.bytes_max;
        match level {
            Level::Ok => tracing::info!(waiting_bytes, bytes_max, "the queue is below 70 % again"),
            Level::Above70 => tracing::warn!(waiting_bytes, bytes_max, "the queue is above 70 %"),
            Level::Above90 => tracing::error!(waiting_bytes, bytes_max, "the queue is above 90 %"),
            Level::Full => tracing::error!(waiting_bytes, bytes_max, "the queue is full: it waits"),
        }
    }
}

impl Small {
    /// What a stored record says.
    fn take(&mut self, record: &Record) -> Result<(), CodecError> {
        if let Some(event) = codec::read_event(record.kind, record.version, &record.body)? {
            self.note(&event);
            return Ok(());
        }
        match record.kind {
            codec::SMALL => self.merge(codec::read_small(&record.body)?),
            codec::ACKNOWLEDGED => {
                let (consumer, position) = codec::read_acknowledged(&record.body)?;
                self.acknowledged.insert(consumer, position);
            }
            _ => {}
        }
        Ok(())
    }

    /// What every consumer acknowledged is deleted at once, and the acknowledgements ride with the next
    /// sync: a crash in between takes them back to where nothing is any more.
    fn skip_deleted(&mut self, first: u64) {
        let oldest = Position { segment: first, offset: 0 };
        for at in self.acknowledged.values_mut() {
            *at = oldest.max(*at);
        }
    }

    /// Acknowledgements are restated as they stand. What is known of a source may be older in the
    /// restatement than in the records before it (they are noted after their sync), so the one that
    /// has seen more counts.
    fn merge(&mut self, restated: Self) {
        self.acknowledged = restated.acknowledged;
        for (source, resume) in restated.resume {
            let known = self.resume.get(&source).map(|known| known.last.id);
            if known.is_none_or(|id| id <= resume.last.id) {
                self.resume.insert(source, resume);
            }
        }
    }

    fn note(&mut self, event: &FeedEvent) {
        match event {
            FeedEvent::Trade(trade) => {
                let seen = Seen { id: trade.id, at_us: trade.at_us };
                let resume = self
                    .resume
                    .entry(trade.source.clone())
                    .or_insert(Resume { last: seen, missing: Vec::new() });
                if seen.id > resume.last.id {
                    resume.last = seen;
                }
            }
            FeedEvent::GapOpened { source, gap: Gap::Trades(ids) } => {
                if let Some(resume) = self.resume.get_mut(source) {
                    let missing = Missing { ids: *ids, since_us: resume.last.at_us };
                    resume.missing.retain(|known| known.ids != *ids);
                    resume.missing.push(missing);
                }
            }
            FeedEvent::GapClosed { source, gap: Gap::Trades(ids) } => {
                if let Some(resume) = self.resume.get_mut(source) {
                    resume.missing.retain(|missing| missing.ids != *ids);
                }
            }
            FeedEvent::GapOpened { gap: Gap::Book(_), .. }
            | FeedEvent::GapClosed { gap: Gap::Book(_), .. }
            | FeedEvent::GapLost { .. }
            | FeedEvent::Watermark { .. } => {}
        }
    }
}

fn open_log(
    disk: &Arc<dyn Disk>,
    settings: &QueueSettings,
    driver: &MakeDriver,
    small: Arc<Mutex<Small>>,
    visit: impl FnMut(Record),
) -> Result<Log, OpenError> {
    let restate: Restate = Arc::new(move |batch| {
        let mut body = Vec::new();
        codec::write_small(&lock(&small), &mut body);
        batch.push(codec::SMALL, &body);
    });
    let log_settings = Settings {
        segment_bytes: settings.segment_bytes,
        sync: settings.sync,
        record_version: codec::VERSION,
        at_segment_start: Some(restate),
        ..Settings::new(settings.owner)
    };
    Log::open_with(disk.clone(), &settings.dir, log_settings, driver(), visit)
}

/// Records that nobody wrote; the first byte is the kind. See [`crate::decoders`].
pub(crate) fn decode_any(bytes: &[u8]) {
    let Some((kind, body)) = bytes.split_first() else { return };
    if let Ok(Some(event)) = codec::read_event(*kind, codec::VERSION, body) {
        let mut again = Vec::new();
        codec::write_event(&event, &mut again);
        assert_eq!((codec::kind_of(&event), again.as_slice()), (*kind, body), "{event:?}");
    }
    if let Ok((consumer, position)) = codec::read_acknowledged(body) {
        let mut again = Vec::new();
        codec::write_acknowledged(&consumer, position, &mut again);
        assert_eq!(again, body);
    }
    if let Ok(small) = codec::read_small(body) {
        let mut again = Vec::new();
        codec::write_small(&small, &mut again);
        assert_eq!(codec::read_small(&again), Ok(small));
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}
