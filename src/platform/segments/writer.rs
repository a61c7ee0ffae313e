//! One batch at a time into the active segment, and from one segment to the next.

use std::path::PathBuf;
use std::sync::Arc;

use super::error::{Doing, Failed, SYNC};
use super::format::{
    AROUND, AROUND_BATCH, BEGIN, BEGIN_SIZE, Begin, END, FORMAT, HEADER, Header, MARK, MAX_KIND,
    Owner, file_name, push_record, size_claimed,
};
use super::recover::{Last, Recovered, Segment};
use super::spare::Spares;
use super::{MAX_RECORD, Position, Restate, Settings};
use crate::disk::{BLOCK, Disk, DiskFile, DiskLock, Open, SyncMode};

/// What one sync covers at most, unless one record alone is larger: keeps the pause of those who
/// come next short.
const MAX_BATCH: usize = 4 << 20;

/// Records that the owner states first in a new segment.
pub struct Batch {
    bytes: Vec<u8>,
    version: u8,
}

impl Batch {
    pub fn push(&mut self, kind: u8, body: &[u8]) {
        assert!(kind <= MAX_KIND && body.len() <= MAX_RECORD, "an impossible record");
        push_record(&mut self.bytes, kind, self.version, body);
    }
}

pub struct Writer {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    owner: Owner,
    sync: SyncMode,
    segment_bytes: u64,
    restate: Option<Restate>,
    spares: Spares,
    active: Active,
    next_batch: u64,
    /// The last batch holds no record: nothing is left to seal.
    sealed: bool,
    /// Records of the batch being made, in the order of `starts`.
    records: Batch,
    starts: Vec<usize>,
    buf: Vec<u8>,
    /// A batch in `buf` that found no room: the same bytes go to the same place, or what a part of
    /// them left there would stand behind another batch.
    waiting: Option<(usize, Vec<Position>)>,
    /// Held while anything of this may write.
    _lock: Box<dyn DiskLock>,
}

struct Active {
    header: Header,
    file: Box<dyn DiskFile>,
    /// Where the next batch goes.
    next: u64,
    has_records: bool,
}

impl Active {
    /// Whether the owner's state has to come first: in each segment that does not begin the log,
    /// also when a crash came between making it and its first batch.
    fn wants_state(&self) -> bool {
        !self.has_records && self.header.segment > 0
    }
}

/// A batch that has been handed to the disk.
pub struct Written {
    pub segment: u64,
    pub state: Segment,
    next: u64,
    /// One place for each record of the caller.
    pub places: Vec<Position>,
}

impl Writer {
    /// Takes over a log as recovery left it, or begins a new one. Answers with the first segment's
    /// state in that case.
    pub fn new(
        recovered: Recovered,
        settings: Settings,
        spares: Spares,
    ) -> Result<(Self, Option<Segment>), Failed> {
        let Recovered { disk, dir, lock, last, next_batch, .. } = recovered;
        let is_new = last.is_none();
        let mut spares = spares;
        let (active, sealed) = match last {
            Some(last) => {
                let Last { header, file, next, has_records, sealed } = last;
                (Active { header, file, next, has_records }, sealed)
            }
            None => {
                let place = Place { disk: &disk, dir: &dir, owner: settings.owner };
                let active = place.activate(0, 0, 0, settings.sync, &mut spares)?;
                (active, true)
            }
        };
        let first = Segment { size: active.header.size, end: active.next, has_records: false };
        let mut writer = Self {
            disk,
            dir,
            owner: settings.owner,
            sync: settings.sync,
            segment_bytes: settings.segment_bytes,
            restate: settings.at_segment_start,
            spares,
            active,
            next_batch,
            sealed,
            records: Batch { bytes: Vec::new(), version: settings.record_version },
            starts: Vec::new(),
            buf: Vec::new(),
            waiting: None,
            _lock: lock,
        };
        if !is_new && writer.sync == SyncMode::Direct {
            writer.go_direct()?;
        }
        Ok((writer, is_new.then_some(first)))
    }

    /// How many bytes of records to hand over at once.
    pub fn batch_bytes(&self) -> usize {
        let around = start_of(self.sync) as usize + AROUND_BATCH;
        let segment = usize::try_from(self.segment_bytes).unwrap_or(usize::MAX);
        MAX_BATCH.min(segment.saturating_sub(around)).max(1)
    }

    /// Makes the next segment ahead, where no thread does. False when there is no room.
    pub fn prepare(&mut self) -> bool {
        self.spares.prepare()
    }

    /// Writes one batch, in a new segment if this one is full. Nothing of it counts before
    /// [`Writer::sync`]. None when there is nothing to write. After an error that can wait, it is
    /// called again with the same records.
    pub fn write<'a>(
        &mut self,
        records: impl Iterator<Item = (u8, &'a [u8])>,
    ) -> Result<Option<Written>, Failed> {
        if let Some((size, places)) = self.waiting.take() {
            let written = self.put_batch(size, places)?;
            self.spares.found_space();
            return Ok(Some(written));
        }
        self.records.bytes.clear();
        self.starts.clear();
        for (kind, body) in records {
            self.starts.push(self.records.bytes.len());
            self.records.push(kind, body);
        }
        if self.starts.is_empty() {
            return Ok(None);
        }
        let mut restated = Batch { bytes: Vec::new(), version: self.records.version };
        let own = AROUND_BATCH + self.records.bytes.len();
        let full = !self.fits(own);
        if let Some(restate) = &self.restate
            && (full || self.active.wants_state())
        {
            restate(&mut restated);
        }
        let size = own + restated.bytes.len();
        if full || !self.fits(size) {
            self.roll(size)?;
        }
        let padded = self.active.file.mode() == SyncMode::Direct;
        self.assemble(&restated.bytes, padded);
        self.sealed = false;
        let first = self.active.next + (BEGIN_SIZE + restated.bytes.len()) as u64;
        let segment = self.active.header.segment;
        let place = |start: &usize| Position { segment, offset: first + *start as u64 };
        let places = self.starts.iter().map(place).collect();
        self.put_batch(size, places).map(Some)
    }

    fn put_batch(&mut self, size: usize, places: Vec<Position>) -> Result<Written, Failed> {
        let written = match self.put(size, places.clone()) {
            Err(failed) if failed.can_wait() => {
                self.waiting = Some((size, places));
                return Err(failed);
            }
            other => other?,
        };
        self.active.has_records = true;
        if self.buf.capacity() > 2 * MAX_BATCH {
            (self.buf, self.records.bytes) = (Vec::new(), Vec::new());
        }
        Ok(written)
    }

    /// Puts what was written on the medium.
    pub fn sync(&mut self, written: &Written) -> Result<(), Failed> {
        let path = self.path();
        self.active.file.sync_data().doing(self.disk.as_ref(), SYNC, &path)?;
        self.active.next = written.next;
        self.next_batch += 1;
        Ok(())
    }

    /// Proves the last batch by an empty one behind it, where there is room.
    pub fn seal(&mut self) -> Result<(), Failed> {
        if self.sealed || !self.fits(AROUND_BATCH) {
            return Ok(());
        }
        self.records.bytes.clear();
        self.assemble(&[], self.active.file.mode() == SyncMode::Direct);
        let written = self.put(AROUND_BATCH, Vec::new())?;
        self.sealed = true;
        self.sync(&written)
    }

    /// Goes on past the page cache in a segment that was written through it: the next batch has to
    /// begin on a block, so an empty one that says it is padded leads there.
    fn go_direct(&mut self) -> Result<(), Failed> {
        let path = self.path();
        let direct =
            self.disk.open(&path, Open::Direct).doing(self.disk.as_ref(), "open", &path)?;
        if direct.mode() == SyncMode::FdataSync {
            return Ok(());
        }
        if !self.active.next.is_multiple_of(BLOCK) {
            let end = (self.active.next + AROUND_BATCH as u64).next_multiple_of(BLOCK);
            if end > self.active.header.size {
                self.active.next = self.active.header.size; // The next batch opens a new segment.
                return Ok(());
            }
            self.records.bytes.clear();
            self.assemble(&[], true);
            self.buf.truncate(AROUND_BATCH); // The padding is there: zeros.
            let mut written = self.put(AROUND_BATCH, Vec::new())?;
            written.next = end;
            self.sync(&written)?;
        }
        self.active.file = direct;
        Ok(())
    }

    fn fits(&self, batch: usize) -> bool {
        let end = self.active.next + batch as u64;
        let end = match self.active.file.mode() {
            SyncMode::Direct => end.next_multiple_of(BLOCK),
            SyncMode::FdataSync => end,
        };
        end <= self.active.header.size
    }

    fn roll(&mut self, batch: usize) -> Result<(), Failed> {
        let place = Place { disk: &self.disk, dir: &self.dir, owner: self.owner };
        let segment = self.active.header.segment + 1;
        self.active =
            place.activate(segment, self.next_batch, batch, self.sync, &mut self.spares)?;
        Ok(())
    }

    /// Lays out the next batch in `buf`, for where it is going to stand.
    fn assemble(&mut self, restated: &[u8], padded: bool) {
        let bytes = AROUND_BATCH + restated.len() + self.records.bytes.len();
        // Bounded by one record and what an owner restates.
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let begin = Begin { number: self.next_batch, bytes, padded };
        let buf = &mut self.buf;
        buf.clear();
        push_record(buf, BEGIN, 1, &begin.body());
        buf.extend_from_slice(restated);
        buf.extend_from_slice(&self.records.bytes);
        push_record(buf, END, 1, &[MARK]);
        let salt = self.active.header.salt();
        let mut at = 0;
        while let Some(size) = size_claimed(&buf[at..]) {
            let end = at + size as usize;
            salt.close(&mut buf[at..end], self.active.next + at as u64);
            at = end;
        }
        if padded {
            buf.resize(buf.len().next_multiple_of(BLOCK as usize), 0);
        }
    }

    fn put(&mut self, size: usize, places: Vec<Position>) -> Result<Written, Failed> {
        let path = self.path();
        let at = self.active.next;
        self.active.file.write_at(&self.buf, at).doing(self.disk.as_ref(), "write", &path)?;
        Ok(Written {
            segment: self.active.header.segment,
            state: Segment {
                size: self.active.header.size,
                end: at + size as u64,
                has_records: true, // Nobody is told of the other ones.
            },
            next: at + self.buf.len() as u64,
            places,
        })
    }

    fn path(&self) -> PathBuf {
        self.dir.join(file_name(self.active.header.segment))
    }
}

/// Where segments are made.
struct Place<'a> {
    disk: &'a Arc<dyn Disk>,
    dir: &'a PathBuf,
    owner: Owner,
}

impl Place<'_> {
    /// Gives a zeroed file its header, then its name.
    fn activate(
        &self,
        segment: u64,
        first_batch: u64,
        batch: usize,
        sync: SyncMode,
        spares: &mut Spares,
    ) -> Result<Active, Failed> {
        let disk = self.disk.as_ref();
        let path = self.dir.join(file_name(segment));
        let start = start_of(sync);
        let mut spare = spares.take((u64::from(start) + batch as u64).next_multiple_of(BLOCK))?;
        let (owner, size) = (self.owner, spare.size);
        let header = Header { format: FORMAT, start, owner, segment, size, first_batch };
        let file = spare.file.as_mut();
        let prepared = file.write_at(&header.encode(), 0).and_then(|()| file.sync_data());
        let prepared = prepared.doing(disk, "prepare", &spare.path);
        let named =
            prepared.and_then(|()| disk.rename(&spare.path, &path).doing(disk, "name", &path));
        if let Err(failed) = named {
            let _ = disk.remove(&spare.path); // Whatever became of it, another is made.
            return Err(failed);
        }
        disk.sync_dir(self.dir).doing(disk, SYNC, self.dir)?;
        let file = match sync {
            SyncMode::Direct => disk.open(&path, Open::Direct).doing(disk, "open", &path)?,
            SyncMode::FdataSync => spare.file,
        };
        Ok(Active { header, file, next: u64::from(start), has_records: false })
    }
}

/// Where a segment's first batch begins.
fn start_of(sync: SyncMode) -> u32 {
    match sync {
        SyncMode::Direct => BLOCK as u32,
        SyncMode::FdataSync => HEADER as u32,
    }
}

/// What a record takes on disk.
pub fn record_bytes(body: usize) -> usize {
    AROUND + body
}
