//! An export of the audit as a file: what it is of, one line for each entry, and one that says that
//! this was all (`docs/formats.md`).
//!
//! What always holds: reading follows the chain as it goes, in the memory of one line; the first line
//! that is not as it was written is named, with what should have stood there; an entry is handed on
//! only after it has held.
//!
//! What a file cannot show by itself is that it is the cluster's: whoever writes all of it anew gets a
//! chain that holds. A hash of a later entry from a source one trusts shows it.

use crate::failure::Failure;
use crate::lines::{Chain, cannot};
use cryptorun_core::audit::AuditEntry;
use cryptorun_core::chain;
use cryptorun_core::config::ClusterId;
use cryptorun_core::people::Actor;
use cryptorun_core::position::{Hash, Position};
use cryptorun_core::time::WallTime;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

/// The layout written here.
pub const FORMAT: u32 = 1;
/// Bytes of a line: a log entry is at most 2 MiB, and JSON may take six for one.
const LINE_MAX: u64 = 16 << 20;

/// What a file is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// [`FORMAT`].
    pub format: u32,
    /// The cluster's name.
    pub cluster: String,
    /// Its identity.
    pub id: ClusterId,
    /// When it was taken, by the clock of the node that answered.
    pub taken: WallTime,
    /// Where the chain stood before the first entry here.
    pub before: Position,
    /// The last entry here, and the hash of the chain up to it.
    pub last: Position,
}

impl Header {
    /// Number of the first entry.
    pub fn first(&self) -> u64 {
        self.before.seq + 1
    }
}

/// One line.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    /// The first.
    CryptorunAudit(Header),
    /// The next entry.
    Entry(AuditEntry),
    /// The last; [`crate::lines`] writes it.
    End {
        /// Lines before this one.
        lines: u64,
        /// Hash over them.
        hash: Hash,
    },
}

/// The first line that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// Number of the entry that is wrong or missing; none in the first and the last line.
    pub entry: Option<u64>,
    /// The line, counted from one.
    pub line: u64,
    /// What should stand there.
    pub expected: String,
    /// What does.
    pub found: String,
}

/// Why reading stopped.
#[derive(Debug)]
pub enum Stopped {
    /// It was not possible to look.
    Unread(Failure),
    /// This does not hold.
    Damaged(Box<Damage>),
}

/// Reads a file front to back.
pub struct Reader<R> {
    from: R,
    path: PathBuf,
    header: Header,
    chain: Chain,
    at: Position,
}

/// Opens a file and reads what it is of.
pub fn open(path: &Path) -> Result<Reader<BufReader<File>>, Stopped> {
    match File::open(path) {
        Ok(file) => Reader::new(BufReader::new(file), path),
        Err(error) => Err(Stopped::Unread(cannot("read", path, &error))),
    }
}

impl<R: BufRead> Reader<R> {
    /// As [`open`], from bytes at hand; `path` is for messages.
    pub fn new(mut from: R, path: &Path) -> Result<Self, Stopped> {
        let mut chain = Chain::default();
        let expected = "a line that says what the file is of, {\"cryptorun_audit\":…}";
        let damage = |found: String| damaged(None, 1, expected, found);
        let text = match line(&mut from, path)? {
            Ok(text) => text,
            Err(found) => return Err(damage(found)),
        };
        if let Some(format) = format_of(&text).filter(|format| *format != u64::from(FORMAT)) {
            return Err(Stopped::Unread(Failure::usage_hint(
                format!("{} has layout {format}, this reads {FORMAT}", path.display()),
                "read it with the cryptorun that wrote it, or a later one",
            )));
        }
        let header = match parsed(&text) {
            Ok(Line::CryptorunAudit(header)) => header,
            Ok(_) => return Err(damage("another line".to_owned())),
            Err(found) => return Err(damage(found)),
        };
        let fits = header.before.seq < header.last.seq
            && (header.before.seq > 0 || header.before == Position::START);
        if !fits {
            return Err(damage("a range that cannot be".to_owned()));
        }
        chain.add(&text);
        Ok(Self { from, path: path.to_owned(), at: header.before, header, chain })
    }

    /// What it is of.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The next entry that holds; none once the file has ended as it should.
    pub fn entry(&mut self) -> Result<Option<AuditEntry>, Stopped> {
        let (number, next) = (self.chain.lines + 1, self.at.seq.saturating_add(1));
        let over = self.at.seq == self.header.last.seq;
        let (entry, expected) = match over {
            true => (None, "the line that ends the file".to_owned()),
            false => (Some(next), format!("entry {next}")),
        };
        let damage = |found: String| damaged(entry, number, expected.clone(), found);
        let text = match line(&mut self.from, &self.path)? {
            Ok(text) => text,
            Err(found) => return Err(damage(found)),
        };
        match parsed(&text).map_err(damage)? {
            Line::CryptorunAudit(_) => Err(damage("another beginning".to_owned())),
            Line::Entry(entry) if over || entry.seq != next => {
                Err(damage(format!("entry {}", entry.seq)))
            }
            Line::Entry(entry) => {
                self.at = self.holds(&entry, number)?;
                self.chain.add(&text);
                Ok(Some(entry))
            }
            Line::End { .. } if !over => Err(damage("the line that ends the file".to_owned())),
            Line::End { lines, hash } => {
                if (Chain { lines, hash }) != self.chain {
                    let Chain { lines, hash } = self.chain;
                    let expected = format!("{lines} lines that hash to {hash}");
                    let found = format!("a line that was changed, or another end: {hash}");
                    return Err(damaged(None, number, expected, found));
                }
                match line(&mut self.from, &self.path)? {
                    Err(_) if self.is_at_end() => Ok(None),
                    _ => {
                        let expected = "the end of the file";
                        Err(damaged(None, number + 1, expected, "more lines".to_owned()))
                    }
                }
            }
        }
    }

    /// The chain after an entry, if what stands there is what was chained.
    fn holds(&self, entry: &AuditEntry, line: u64) -> Result<Position, Stopped> {
        let damage =
            |expected: String, found: String| damaged(Some(entry.seq), line, expected, found);
        let reached = chain::Chain::Audit.append(self.at, &entry.body());
        if reached.hash != entry.hash {
            return Err(damage(
                format!("hash {} of what stands there", reached.hash),
                format!("hash {}", entry.hash),
            ));
        }
        // Hashed is how an actor is written, and only one of them is written so.
        if entry.actor.to_string().parse::<Actor>().as_ref() != Ok(&entry.actor) {
            return Err(damage(
                format!("the actor that is written '{}'", entry.actor),
                "another kind of actor by that name".to_owned(),
            ));
        }
        if reached.seq == self.header.last.seq && reached.hash != self.header.last.hash {
            return Err(damage(
                format!("hash {}, by the first line", self.header.last.hash),
                format!("hash {}", reached.hash),
            ));
        }
        Ok(reached)
    }

    fn is_at_end(&mut self) -> bool {
        self.from.fill_buf().is_ok_and(<[u8]>::is_empty)
    }
}

fn damaged(entry: Option<u64>, line: u64, expected: impl Into<String>, found: String) -> Stopped {
    Stopped::Damaged(Box::new(Damage { entry, line, expected: expected.into(), found }))
}

/// The next line without its end, or what stands there instead of one.
fn line(from: &mut impl BufRead, path: &Path) -> Result<Result<Vec<u8>, String>, Stopped> {
    let mut text = Vec::new();
    from.take(LINE_MAX)
        .read_until(b'\n', &mut text)
        .map_err(|error| Stopped::Unread(cannot("read", path, &error)))?;
    Ok(match text.pop() {
        Some(b'\n') => Ok(text),
        None => Err("the end of the file".to_owned()),
        Some(_) if text.len() as u64 + 1 == LINE_MAX => Err("a line too long".to_owned()),
        Some(_) => Err("a line that was cut short".to_owned()),
    })
}

/// A line that is written as an export writes it: nothing in it goes unchecked.
fn parsed(text: &[u8]) -> Result<Line, String> {
    let line: Line =
        serde_json::from_slice(text).map_err(|error| format!("what cannot be read: {error}"))?;
    match serde_json::to_vec(&line) {
        Ok(again) if again == text => Ok(line),
        _ => Err("a line that no export writes this way".to_owned()),
    }
}

/// The layout that the first line of a file of ours names.
fn format_of(text: &[u8]) -> Option<u64> {
    let line: serde_json::Value = serde_json::from_slice(text).ok()?;
    line.get("cryptorun_audit")?.get("format")?.as_u64()
}
