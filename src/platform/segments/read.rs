//! Reading records back while the log is being written: never past what is on the medium.

use std::path::PathBuf;

use super::driver::Shared;
use super::format::{
    BEGIN, END, Frame, HEADER, Header, MAX_KIND, all_zero, file_name, size_claimed,
};
use super::recover::{Segment, record};
use super::{Position, ReadError, Record};
use crate::disk::{BLOCK, DiskFile, Open};

/// What is read from the disk at once.
const WINDOW: usize = 256 << 10;

pub fn read(shared: &Shared, from: Position, max: usize) -> Result<Vec<Record>, ReadError> {
    let (first, end) = {
        let view = shared.view();
        (view.first(), view.end)
    };
    if from.segment < first && from != Position::default() {
        return Err(ReadError::Removed { segment: from.segment, oldest: first });
    }
    let mut records = Vec::new();
    let mut left = max;
    let mut at = from.max(Position { segment: first, offset: 0 });
    while at < end {
        let Some(segment) = shared.view().segments.get(&at.segment).copied() else {
            let oldest = shared.view().first();
            return Err(ReadError::Removed { segment: at.segment, oldest });
        };
        let mut reader = Reader::open(shared, at, segment)?;
        while let Some(found) = reader.next()? {
            left = left.saturating_sub(found.body.len());
            records.push(found);
            if left == 0 {
                return Ok(records);
            }
        }
        at = Position { segment: at.segment + 1, offset: 0 };
    }
    Ok(records)
}

struct Reader {
    path: PathBuf,
    file: Box<dyn DiskFile>,
    header: Header,
    /// Where its last batch on the medium ends.
    end: u64,
    at: u64,
    /// The bytes from `at` on, as far as they were read.
    window: Vec<u8>,
    used: usize,
    /// The batch we are in, once a BEGIN has been seen.
    batch: Option<u64>,
    /// Whether a BEGIN must come next; unknown at first.
    between: Option<bool>,
}

impl Reader {
    fn open(shared: &Shared, from: Position, segment: Segment) -> Result<Self, ReadError> {
        let path = shared.dir.join(file_name(from.segment));
        let shown = shared.disk.show(&path);
        let io = |source| ReadError::Io { path: shown.clone(), source };
        let file = shared.disk.open(&path, Open::Read).map_err(io)?;
        let mut bytes = [0; HEADER];
        file.read_at(&mut bytes, 0).map_err(io)?;
        let mine = |h: &Header| h.owner == shared.owner && h.segment == from.segment;
        let Some(header) = Header::decode(&bytes).filter(mine) else {
            let why = "this is not the header it had";
            return Err(ReadError::Corrupt { path: shown, segment: from.segment, offset: 0, why });
        };
        Ok(Self {
            path: shown,
            file,
            header,
            end: segment.end,
            at: from.offset.max(header.start.into()),
            window: Vec::new(),
            used: 0,
            batch: None,
            between: None,
        })
    }

    /// The next record; none at the end of the segment.
    fn next(&mut self) -> Result<Option<Record>, ReadError> {
        while self.at < self.end {
            let Some((found, batch)) = self.record()? else {
                self.skip_padding()?;
                continue;
            };
            self.step(found.kind, batch)?;
            self.skip(found.next.offset - found.at.offset);
            if found.kind <= MAX_KIND {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The record at `at` if there is a good one, with the number of the batch that it begins.
    fn record(&mut self) -> Result<Option<(Record, Option<u64>)>, ReadError> {
        self.fill(4)?;
        match size_claimed(self.rest()) {
            Some(size) if self.at + size <= self.end => self.fill(size as usize)?,
            _ => return Ok(None),
        }
        let frame = self.header.salt().frame(self.rest(), self.at);
        Ok(frame.map(|f| (record(self.header.segment, self.at, &f), begin_number(&f))))
    }

    /// Behind a batch, zeros may lead to the next block; a segment's end is known without them.
    fn skip_padding(&mut self) -> Result<(), ReadError> {
        let left = self.at.next_multiple_of(BLOCK) - self.at;
        self.fill(left as usize)?;
        let zeros = self.rest().get(..left as usize).is_some_and(all_zero);
        if left == 0 || !zeros || self.between == Some(false) {
            return Err(self.corrupt("there is no record here, or a damaged one"));
        }
        self.between = Some(true);
        self.skip(left);
        Ok(())
    }

    /// Follows batches: none may be missing between two records.
    fn step(&mut self, kind: u8, number: Option<u64>) -> Result<(), ReadError> {
        match (kind, number) {
            (BEGIN, Some(number)) => {
                let follows = self.batch.is_none_or(|batch| batch + 1 == number);
                if self.between == Some(false) || !follows {
                    return Err(self.corrupt("a batch is missing before this"));
                }
                (self.batch, self.between) = (Some(number), Some(false));
            }
            (END, _) => self.between = Some(true),
            _ if self.between == Some(true) => return Err(self.corrupt("a batch has no begin")),
            _ => self.between = Some(false),
        }
        Ok(())
    }

    fn rest(&self) -> &[u8] {
        &self.window[self.used..]
    }

    fn skip(&mut self, bytes: u64) {
        self.at += bytes;
        self.used = self.window.len().min(self.used + bytes as usize);
    }

    /// Makes `need` bytes from `at` on available, or all up to the end.
    fn fill(&mut self, need: usize) -> Result<(), ReadError> {
        if self.rest().len() >= need {
            return Ok(());
        }
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        let mut window = vec![0; need.max(WINDOW).min(left)];
        let read = self.file.read_at(&mut window, self.at);
        let n = read.map_err(|source| ReadError::Io { path: self.path.clone(), source })?;
        window.truncate(n);
        (self.window, self.used) = (window, 0);
        Ok(())
    }

    fn corrupt(&self, why: &'static str) -> ReadError {
        let (path, segment, offset) = (self.path.clone(), self.header.segment, self.at);
        ReadError::Corrupt { path, segment, offset, why }
    }
}

fn begin_number(frame: &Frame<'_>) -> Option<u64> {
    (frame.kind == BEGIN).then(|| frame.begin().map(|begin| begin.number))?
}
