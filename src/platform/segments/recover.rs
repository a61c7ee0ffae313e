//! Opening a log: what is good, what is torn, what is damaged. The parent module has the reasons.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::error::{Doing, Failed};
use super::format::{
    self, AROUND, AROUND_BATCH, BEGIN_SIZE, END, FORMAT, HEADER, Header, MAX_KIND, Salt, all_zero,
    file_name, find_begin_above, segment_of,
};
use super::{OpenError, Position, Record, Settings};
use crate::disk::{BLOCK, Disk, DiskFile, DiskLock, Open};

/// A directory whose log is whole, and held.
pub struct Recovered {
    pub disk: Arc<dyn Disk>,
    pub dir: PathBuf,
    pub lock: Box<dyn DiskLock>,
    pub segments: BTreeMap<u64, Segment>,
    /// The last segment, open for writing; none in a new log.
    pub last: Option<Last>,
    /// The number of the next batch.
    pub next_batch: u64,
}

/// One segment file. Plain data.
#[derive(Clone, Copy, Debug)]
pub struct Segment {
    pub size: u64,
    /// Where its last batch ends, padding left out.
    pub end: u64,
    /// Whether there is any: not when a crash came right after it got its name.
    pub has_records: bool,
}

pub struct Last {
    pub header: Header,
    pub file: Box<dyn DiskFile>,
    /// Where the next batch goes.
    pub next: u64,
    pub has_records: bool,
    /// The last batch is an empty one.
    pub sealed: bool,
}

pub fn recover(
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    settings: &Settings,
    mut visit: impl FnMut(Record),
) -> Result<Recovered, OpenError> {
    let d = disk.as_ref();
    d.create_dir_all(&dir).doing(d, "make", &dir)?;
    let lock = take_lock(d, &dir.join("LOCK"))?;
    let names = d.list(&dir).doing(d, "list", &dir)?;
    let numbers: Vec<u64> = names.iter().filter_map(|name| segment_of(name)).collect();
    if let Some(gap) = numbers.windows(2).find(|pair| pair[0] + 1 != pair[1]) {
        return Err(OpenError::Missing { dir: d.show(&dir), segment: gap[0] + 1 });
    }

    let mut segments = BTreeMap::new();
    let mut next_batch = None;
    let mut last = None;
    for &number in &numbers {
        let path = dir.join(file_name(number));
        let bytes = d.read(&path).doing(d, "read", &path)?;
        let scan = Scan { disk: d, path: &path, bytes: &bytes, number };
        let header = scan.header(settings, next_batch)?;
        let is_last = Some(&number) == numbers.last();
        let found = scan.batches(&header, is_last, &mut visit)?;
        next_batch = Some(found.next_batch);
        let (size, end, has_records) = (header.size, found.end as u64, found.has_records);
        segments.insert(number, Segment { size, end, has_records });
        if is_last {
            let sealed = found.last.as_ref().is_none_or(|last| last.len() == AROUND_BATCH);
            let file = scan.mend(&found)?;
            last = Some(Last { header, file, next: found.next as u64, has_records, sealed });
        }
    }

    // Made by a process that stopped before giving it its number, or left from replacing a file.
    for name in names.iter().filter(|name| name.ends_with(".new")) {
        let path = dir.join(name);
        d.remove(&path).doing(d, "remove", &path)?;
    }
    // A rename may have been seen and not synced.
    d.sync_dir(&dir).doing(d, "sync", &dir)?;
    let next_batch = next_batch.unwrap_or(0);
    Ok(Recovered { disk, dir, lock, segments, last, next_batch })
}

fn take_lock(disk: &dyn Disk, path: &Path) -> Result<Box<dyn DiskLock>, OpenError> {
    match disk.lock(path) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(OpenError::InUse { path: disk.show(path) })
        }
        other => Ok(other.doing(disk, "lock", path)?),
    }
}

/// One segment, as read.
struct Scan<'a> {
    disk: &'a dyn Disk,
    path: &'a Path,
    bytes: &'a [u8],
    number: u64,
}

struct Found {
    next_batch: u64,
    /// Where the last good batch ends.
    end: usize,
    /// Where the next one goes.
    next: usize,
    /// The last good batch.
    last: Option<Range<usize>>,
    has_records: bool,
}

/// Why a batch does not read.
struct Bad {
    /// The first unreadable record.
    offset: usize,
    why: &'static str,
    /// Whether it looks like a write that did not finish.
    unfinished: bool,
}

impl Scan<'_> {
    fn corrupt(&self, offset: usize, why: &'static str) -> OpenError {
        let path = self.disk.show(self.path);
        OpenError::Corrupt { path, segment: self.number, offset: offset as u64, why }
    }

    fn header(&self, settings: &Settings, batch: Option<u64>) -> Result<Header, OpenError> {
        let path = || self.disk.show(self.path);
        let Some(header) = Header::decode(self.bytes) else {
            return Err(self.corrupt(0, Header::missing(self.bytes)));
        };
        if header.format > FORMAT {
            let (found, supported) = (header.format, FORMAT);
            return Err(OpenError::Newer { path: path(), found, supported });
        }
        if header.owner != settings.owner {
            let (found, expected) = (header.owner.to_string(), settings.owner.to_string());
            return Err(OpenError::Foreign { path: path(), found, expected });
        }
        if header.segment != self.number {
            return Err(self.corrupt(0, "the header has another segment's number"));
        }
        if header.size != self.bytes.len() as u64 {
            return Err(self.corrupt(self.bytes.len(), "the file is not as long as it was made"));
        }
        let starts = [HEADER as u64, BLOCK];
        if !starts.contains(&u64::from(header.start)) || u64::from(header.start) > header.size {
            return Err(self.corrupt(12, "the header says that batches begin where none can"));
        }
        if batch.is_some_and(|batch| batch != header.first_batch) {
            return Err(self.corrupt(0, "batches are missing between this segment and the last"));
        }
        Ok(header)
    }

    /// Hands out the records of all good batches and decides about what follows them.
    fn batches(
        &self,
        header: &Header,
        is_last: bool,
        visit: &mut impl FnMut(Record),
    ) -> Result<Found, OpenError> {
        let salt = header.salt();
        let start = usize::try_from(header.start).unwrap_or(usize::MAX).min(self.bytes.len());
        let mut found = Found {
            next_batch: header.first_batch,
            end: start,
            next: start,
            last: None,
            has_records: false,
        };
        if let Some(i) = self.bytes[HEADER..start].iter().position(|b| *b != 0) {
            return Err(self.corrupt(HEADER + i, "there is something behind the header"));
        }
        loop {
            if all_zero(&self.bytes[found.end..]) {
                return Ok(found);
            }
            let number = found.next_batch;
            if let Some(i) = self.bytes[found.end..found.next].iter().position(|b| *b != 0) {
                // Padding is written with its batch, which was good: only a batch behind it
                // proves that this is not from the writing of the next one.
                let offset = found.end + i;
                let above = number.saturating_sub(1);
                if !is_last || find_begin_above(self.bytes, salt, offset, above).is_some() {
                    return Err(self.corrupt(offset, "there is something in the padding"));
                }
                return Ok(found);
            }
            match self.batch(salt, found.next, number) {
                Ok((begin, records)) => {
                    found.has_records |= !records.is_empty();
                    records.into_iter().for_each(&mut *visit);
                    let end = found.next + begin.bytes as usize;
                    found.last = Some(found.next..end);
                    found.end = end;
                    found.next = if begin.padded { pad(end).min(self.bytes.len()) } else { end };
                    found.next_batch += 1;
                }
                Err(bad) => {
                    let above = number;
                    let followed =
                        || find_begin_above(self.bytes, salt, found.next + 1, above).is_some();
                    if !is_last || !bad.unfinished || followed() {
                        return Err(self.corrupt(bad.offset, bad.why));
                    }
                    return Ok(found);
                }
            }
        }
    }

    /// The batch `number` at `at`, if every byte of it is right.
    fn batch(
        &self,
        salt: Salt,
        at: usize,
        number: u64,
    ) -> Result<(format::Begin, Vec<Record>), Bad> {
        let byte = |at: usize| self.bytes.get(at).copied().unwrap_or(0);
        let Some(begin) = salt.begin(self.bytes, at) else {
            let unfinished = byte(at) == 0 || byte(at + BEGIN_SIZE - 1) == 0;
            return Err(Bad { offset: at, why: "the batch does not begin right", unfinished });
        };
        let bad = |offset, why| Err(Bad { offset, why, unfinished: false });
        if begin.number != number {
            return bad(at, "the batch has another's number");
        }
        let end = at + begin.bytes as usize;
        if end > self.bytes.len() || (begin.bytes as usize) < AROUND_BATCH {
            return bad(at, "the batch does not fit its segment");
        }
        let unfinished = || byte(end - 1) == 0 || lost_a_sector(self.bytes, at..end);
        let mut records = Vec::new();
        let mut next = at + BEGIN_SIZE;
        while next < end {
            let offset = next;
            let Some(frame) = salt.frame(&self.bytes[offset..end], offset as u64) else {
                let why = "the record's checksum is wrong";
                return Err(Bad { offset, why, unfinished: unfinished() });
            };
            next += frame.size;
            match frame.kind {
                END if next == end => return Ok((begin, records)),
                0..=MAX_KIND => records.push(record(self.number, offset as u64, &frame)),
                _ => return bad(offset, "the batch ends too early"),
            }
        }
        bad(end, "the batch does not end")
    }

    /// Cuts a torn tail, and writes the last batch again: it may never have got past the page
    /// cache, and after a failed sync the kernel takes it for written.
    fn mend(&self, found: &Found) -> Result<Box<dyn DiskFile>, Failed> {
        let (disk, path) = (self.disk, self.path);
        let mut file = disk.open(path, Open::Write).doing(disk, "open", path)?;
        let tail = &self.bytes[found.end..];
        if !all_zero(tail) {
            let used = found.end + tail.iter().rposition(|b| *b != 0).map_or(0, |at| at + 1);
            tracing::warn!(
                path = %disk.show(path).display(),
                offset = found.end,
                bytes = used - found.end,
                "cut a torn tail"
            );
            let zeros = vec![0; used - found.end];
            file.write_at(&zeros, found.end as u64).doing(disk, "cut the torn tail of", path)?;
        }
        if let Some(last) = found.last.clone() {
            let again = &self.bytes[last.clone()];
            file.write_at(again, last.start as u64).doing(disk, "write", path)?;
        }
        file.sync_data().doing(disk, "sync", path)?;
        Ok(file)
    }
}

/// Where the block of `at` ends.
fn pad(at: usize) -> usize {
    at.next_multiple_of(BLOCK as usize)
}

/// Whether one of the device's sectors, as far as the batch covers it, is all zero. The batch's
/// own edges never are: BEGIN starts and END ends with something else.
fn lost_a_sector(bytes: &[u8], batch: Range<usize>) -> bool {
    /// The smallest unit a device writes whole.
    const SECTOR: usize = 512;
    let mut at = batch.start;
    while at < batch.end {
        let end = (at / SECTOR * SECTOR + SECTOR).min(batch.end);
        if all_zero(&bytes[at..end]) {
            return true;
        }
        at = end;
    }
    false
}

pub fn record(segment: u64, offset: u64, frame: &format::Frame<'_>) -> Record {
    debug_assert_eq!(frame.size, frame.body.len() + AROUND);
    Record {
        at: Position { segment, offset },
        next: Position { segment, offset: offset + frame.size as u64 },
        kind: frame.kind,
        version: frame.version,
        body: Bytes::copy_from_slice(frame.body),
    }
}
