//! The journal of a sink: which writes it took, which it turned away, and when.
//!
//! Overlap of two holders is computed from journals, never from claims. A note is written behind
//! the write it tells of, lazily: it rides with the log's next sync. Where a crash took the note
//! and left the record, opening the log notes it again from the record's own stamps, which were
//! read before the write; where it left a fork, opening the sink notes that again.
//!
//! Runs of writes with one fate under one token are one range. Deliberately absent: forgetting
//! while the process lives; [`RANGES_MAX`] bounds what a flapping writer can cost.

use crate::warm::batch::{self, BatchError, Take};
use cryptorun_core::time::WallTime;
use cryptorun_core::token::Token;
use cryptorun_core::wire::{Fate, JournalRange};

/// Oldest ranges go beyond this. A reign is one range, a promotion a handful.
pub const RANGES_MAX: usize = 10_000;

/// When something happened, by both clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    pub wall: WallTime,
    /// CLOCK_BOOTTIME in nanoseconds.
    pub boot_ns: u64,
}

/// One write or run of writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Note {
    pub token: Token,
    pub fate: Fate,
    pub from_seq: u64,
    pub to_seq: u64,
    pub rows: u64,
    pub at: Moment,
}

#[derive(Debug, Default)]
pub struct Journal {
    ranges: Vec<JournalRange>,
}

impl Journal {
    pub fn note(&mut self, note: Note) {
        let Note { token, fate, from_seq, to_seq, rows, at } = note;
        if let Some(last) = self.ranges.iter_mut().rev().find(|range| range.fate == fate)
            && last.token == token
            && (last.to_seq + 1 == from_seq || fate == Fate::Fenced)
        {
            last.from_seq = last.from_seq.min(from_seq);
            last.to_seq = last.to_seq.max(to_seq);
            last.rows += rows;
            (last.last, last.last_boot_ns) = (at.wall, at.boot_ns);
            return;
        }
        if self.ranges.len() >= RANGES_MAX {
            self.ranges.remove(0);
        }
        self.ranges.push(JournalRange {
            token,
            fate,
            from_seq,
            to_seq,
            rows,
            first: at.wall,
            last: at.wall,
            first_boot_ns: at.boot_ns,
            last_boot_ns: at.boot_ns,
        });
    }

    /// Ranges, in the order they began.
    pub fn ranges(&self) -> &[JournalRange] {
        &self.ranges
    }

    /// Whether a write of this record under this token was noted as taken.
    pub fn has_taken(&self, token: Token, seq: u64) -> bool {
        self.ranges.iter().rev().any(|range| {
            range.token == token
                && matches!(range.fate, Fate::Visible | Fate::Replicated)
                && (range.from_seq..=range.to_seq).contains(&seq)
        })
    }

    /// Whether all of these records were noted as cut into a fork.
    pub fn has_forked(&self, token: Token, from_seq: u64, to_seq: u64) -> bool {
        self.ranges.iter().any(|range| {
            range.token == token
                && range.fate == Fate::Forked
                && range.from_seq <= from_seq
                && range.to_seq >= to_seq
        })
    }

    /// First and last moment at which something was visible under this token.
    pub fn visible(&self, token: Token) -> Option<(WallTime, WallTime)> {
        let mut of = self.ranges.iter().filter(|r| r.token == token && r.fate == Fate::Visible);
        let first = of.next()?;
        Some((first.first, of.next_back().unwrap_or(first).last))
    }

    /// The last moment at which anything written here was visible.
    pub fn last_visible(&self) -> Option<WallTime> {
        self.ranges.iter().filter(|r| r.fate == Fate::Visible).map(|r| r.last).max()
    }
}

impl Note {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        out.push(fate_code(self.fate));
        batch::put_token(&mut out, self.token);
        let numbers = [self.from_seq, self.to_seq, self.rows, self.at.wall.0, self.at.boot_ns];
        numbers.iter().for_each(|number| out.extend(number.to_le_bytes()));
        out
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, BatchError> {
        let mut take = Take { bytes, at: 0 };
        let code = take.u8("fate")?;
        let fate = [Fate::Visible, Fate::Replicated, Fate::Fenced, Fate::Forked]
            .into_iter()
            .find(|fate| fate_code(*fate) == code)
            .ok_or(BatchError::Unknown { field: "fate", value: code })?;
        let token = take.token()?;
        let mut number = || take.u64("note");
        let (from_seq, to_seq, rows) = (number()?, number()?, number()?);
        let at = Moment { wall: WallTime(number()?), boot_ns: number()? };
        take.end()?;
        Ok(Self { token, fate, from_seq, to_seq, rows, at })
    }
}

fn fate_code(fate: Fate) -> u8 {
    match fate {
        Fate::Visible => 1,
        Fate::Replicated => 2,
        Fate::Fenced => 3,
        Fate::Forked => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(epoch: u64, fate: Fate, seq: u64) -> Note {
        let at = Moment { wall: WallTime(seq * 10), boot_ns: seq };
        let token = Token { incarnation: 0, epoch };
        Note { token, fate, from_seq: seq, to_seq: seq, rows: 2, at }
    }

    #[test]
    fn a_reign_is_one_range_and_a_stranger_in_between_does_not_split_it() {
        let mut journal = Journal::default();
        journal.note(note(2, Fate::Visible, 5));
        journal.note(note(1, Fate::Fenced, 6));
        journal.note(note(1, Fate::Fenced, 6));
        journal.note(note(2, Fate::Visible, 6));
        let [reign, fenced] = journal.ranges() else { panic!("{:?}", journal.ranges()) };
        assert_eq!((reign.from_seq, reign.to_seq, reign.rows), (5, 6, 4));
        assert_eq!((fenced.from_seq, fenced.to_seq, fenced.rows), (6, 6, 4));
        assert_eq!(
            journal.visible(Token { incarnation: 0, epoch: 2 }),
            Some((WallTime(50), WallTime(60)))
        );
        assert!(journal.has_taken(Token { incarnation: 0, epoch: 2 }, 6));
        assert!(!journal.has_taken(Token { incarnation: 0, epoch: 1 }, 6));
    }

    #[test]
    fn a_note_reads_back() {
        for fate in [Fate::Visible, Fate::Replicated, Fate::Fenced, Fate::Forked] {
            let made = note(3, fate, 9);
            assert_eq!(Note::decode(&made.encode()), Ok(made));
        }
    }
}
