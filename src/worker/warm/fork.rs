//! Forks: records of an older token beyond where the next reign starts. Kept, counted, never served.
//!
//! A fork is one file a token, named for scope, token and region. It is on the disk before its
//! records leave the chain, so a crash in between leaves both, and cutting again writes the same
//! file. Records that were written but never became visible go into the same file.
//!
//! Deliberately absent: merging a fork back; people decide that (`reviews`).

use super::batch::{self, BatchError, Take};
use bytes::Bytes;
use cryptorun_core::region::RegionName;
use cryptorun_core::report::Fork;
use cryptorun_core::scope::{Reign, ScopeId};
use cryptorun_core::token::Token;
use cryptorun_platform::disk::{self, Disk};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 8] = b"crfork 2";
/// Without a checksum.
const MAGIC_1: &[u8; 8] = b"crfork 1";

/// The forks a sink keeps.
pub struct Forks {
    dir: PathBuf,
    prefix: String,
    region: RegionName,
    kept: BTreeMap<Token, Kept>,
}

struct Kept {
    summary: Fork,
    /// Each record once, in the order it was cut.
    records: Vec<Bytes>,
}

impl Forks {
    /// Reads what earlier lives left.
    pub fn open(
        disk: &dyn Disk,
        dir: &Path,
        scope: &ScopeId,
        region: &RegionName,
    ) -> io::Result<Self> {
        disk.create_dir_all(dir)?;
        let prefix = format!("{}-{}", scope.tier, scope.group);
        let mut forks =
            Self { dir: dir.to_owned(), prefix, region: region.clone(), kept: BTreeMap::new() };
        for name in disk.list(dir)?.iter().filter(|name| name.ends_with(".fork")) {
            let path = dir.join(name);
            let (token, records) = read(&disk.read(&path)?).map_err(|error| {
                let text = format!(
                    "{} is damaged: {error}; restore it, or move it away to go on without",
                    disk.show(&path).display()
                );
                io::Error::new(io::ErrorKind::InvalidData, text)
            })?;
            let summary = forks.summary(token, &records);
            forks.kept.insert(token, Kept { summary, records });
        }
        Ok(forks)
    }

    /// Keeps `records`, all written under `token`. On the disk on return.
    pub fn keep(&mut self, disk: &dyn Disk, token: Token, records: &[Bytes]) -> io::Result<Fork> {
        let mut all = self.kept.get(&token).map(|kept| kept.records.clone()).unwrap_or_default();
        all.extend(
            records.iter().filter(|record| !all.contains(record)).cloned().collect::<Vec<_>>(),
        );
        let summary = self.summary(token, &all);
        let path = self.dir.join(format!("{}.fork", summary.name));
        disk::replace(disk, &path, &write(token, &all))?;
        self.kept.insert(token, Kept { summary: summary.clone(), records: all });
        Ok(summary)
    }

    /// What is kept, by token.
    pub fn list(&self) -> Vec<Fork> {
        self.kept.values().map(|kept| kept.summary.clone()).collect()
    }

    fn summary(&self, token: Token, records: &[Bytes]) -> Fork {
        let headers = || records.iter().filter_map(|bytes| batch::decode_header(bytes).ok());
        Fork {
            name: format!("{}-{token}-{}", self.prefix, self.region),
            token,
            from_seq: headers().map(|h| h.seq()).min().unwrap_or(0),
            to_seq: headers().map(|h| h.seq()).max().unwrap_or(0),
            rows: headers().map(|h| u64::from(h.rows)).sum(),
            bytes: records.iter().map(|bytes| bytes.len() as u64).sum(),
        }
    }
}

/// The number behind which a chain must be cut: every record of an older token beyond the start
/// of a later reign goes. `tokens` yields (seq, token) of the chain's records, in any order.
pub fn cut_behind(reigns: &[Reign], tokens: impl Iterator<Item = (u64, Token)>) -> Option<u64> {
    tokens
        .filter_map(|(seq, token)| {
            let start = committed_end(reigns, token)?;
            (seq > start).then_some(start)
        })
        .min()
}

/// Where the range of `token` ends, if a later reign has begun: at the lowest start among them.
pub fn committed_end(reigns: &[Reign], token: Token) -> Option<u64> {
    reigns.iter().filter(|reign| reign.token > token).map(|reign| reign.start.seq).min()
}

/// Layout 2: layout 1 and a checksum of everything before it.
fn write(token: Token, records: &[Bytes]) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    batch::put_token(&mut out, token);
    for record in records {
        out.extend(u32::try_from(record.len()).unwrap_or(u32::MAX).to_le_bytes());
        out.extend(record.iter());
    }
    let crc = crc32c::crc32c(&out);
    out.extend(crc.to_le_bytes());
    out
}

/// Why a file is no fork.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ForkError {
    #[error("it does not begin like one")]
    Magic,
    #[error("its checksum is wrong")]
    Checksum,
    #[error(transparent)]
    Batch(#[from] BatchError),
}

pub(crate) fn read(bytes: &[u8]) -> Result<(Token, Vec<Bytes>), ForkError> {
    let bytes = match bytes.split_first_chunk() {
        Some((MAGIC, _)) => {
            let (bytes, crc) = bytes.split_last_chunk().ok_or(ForkError::Checksum)?;
            if crc32c::crc32c(bytes) != u32::from_le_bytes(*crc) {
                return Err(ForkError::Checksum);
            }
            bytes
        }
        Some((MAGIC_1, _)) => bytes,
        _ => return Err(ForkError::Magic),
    };
    let mut take = Take { bytes, at: MAGIC.len() };
    let token = take.token()?;
    let mut records = Vec::new();
    while take.at < bytes.len() {
        let len = take.u32("record length")? as usize;
        records.push(Bytes::copy_from_slice(take.slice(len, "record")?));
    }
    Ok((token, records))
}

#[cfg(test)]
mod tests {
    use super::super::batch::Kind;
    use super::super::batch::tests::{batch, row};
    use super::*;
    use cryptorun_core::position::Position;
    use cryptorun_core::scope::Tier;
    use cryptorun_core::time::Stamp;
    use cryptorun_platform::disk::SimDisk;

    fn token(epoch: u64) -> Token {
        Token { incarnation: 0, epoch }
    }

    fn reign(epoch: u64, start: u64) -> Reign {
        Reign {
            token: token(epoch),
            region: RegionName::from("us-east-1"),
            start: Position { seq: start, ..Position::START },
            at: Stamp::default(),
            promotion: None,
        }
    }

    #[test]
    fn records_beyond_the_next_reigns_start_are_cut_however_many_reigns_passed() {
        let reigns = [reign(1, 0), reign(2, 8), reign(3, 20)];
        let chain = |last: u64| (1..=last).map(|seq| (seq, token(1)));
        assert_eq!(cut_behind(&reigns, chain(8)), None);
        assert_eq!(cut_behind(&reigns, chain(10)), Some(8));
        // Reign 2's own records end where reign 3 starts.
        let mixed = (1..=8).map(|s| (s, token(1))).chain((9..=22).map(|s| (s, token(2))));
        assert_eq!(cut_behind(&reigns, mixed), Some(20));
        // Nothing later than reign 3 is known: its records stay.
        assert_eq!(cut_behind(&reigns, (21..=30).map(|s| (s, token(3)))), None);
    }

    #[test]
    fn a_fork_is_listed_with_its_counts_after_a_restart_and_cutting_twice_adds_nothing() {
        let disk = SimDisk::new();
        let scope = ScopeId::new(Tier::Warm, "global");
        let region = RegionName::from("us-west-2");
        let open = || Forks::open(&disk, Path::new("forks"), &scope, &region).unwrap();
        let rows = vec![row("BTC/USD", 1, 2), row("ETH/USD", 1, 2)];
        let record = Bytes::from(batch(token(3), Position::START, Kind::Data, rows).encode());
        let mut forks = open();
        forks.keep(&disk, token(3), std::slice::from_ref(&record)).unwrap();
        forks.keep(&disk, token(3), std::slice::from_ref(&record)).unwrap();
        let kept = open().list();
        assert_eq!(kept, forks.list());
        assert_eq!(kept[0].name, "warm-global-0.3-us-west-2");
        assert_eq!((kept[0].from_seq, kept[0].to_seq, kept[0].rows), (1, 1, 2));
    }

    #[test]
    fn a_fork_is_refused_at_any_changed_or_missing_byte_and_layout_1_still_reads() {
        let record = Bytes::from(batch(token(3), Position::START, Kind::Data, vec![]).encode());
        let written = write(token(3), std::slice::from_ref(&record));
        assert_eq!(read(&written), Ok((token(3), vec![record.clone()])));
        for at in 0..written.len() {
            let mut changed = written.clone();
            changed[at] ^= 0x10;
            assert!(read(&changed).is_err(), "byte {at} changed");
            assert!(read(&written[..at]).is_err(), "cut at {at}");
        }
        let mut first = written[..written.len() - 4].to_vec();
        first[..8].copy_from_slice(MAGIC_1);
        assert_eq!(read(&first), Ok((token(3), vec![record])));
    }
}
