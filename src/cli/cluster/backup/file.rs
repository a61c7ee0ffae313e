//! A backup as a file: a line of JSON that says what it is, one for each audit entry and each record,
//! and one that says that this was all.
//!
//! What always holds: reading one checks every line against the hash at its end before anything is
//! believed of it. Writing is [`crate::lines`]'.

use crate::failure::Failure;
use crate::lines::{Chain, cannot};
use cryptorun_core::audit::AuditEntry;
use cryptorun_core::position::Hash;
use cryptorun_core::wire::Backup;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

/// One line.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    /// The first: what it is of. Its records and audit stand in lines of their own.
    CryptorunBackup(Box<Backup>),
    /// An entry of the audit, from the first on.
    Audit(AuditEntry),
    /// A record, as the cluster stores it.
    Record(String),
    /// The last.
    End {
        /// Lines before this one.
        lines: u64,
        /// Hash over them.
        hash: Hash,
    },
}

/// A whole backup.
pub struct Whole {
    /// What it is of; without records and audit.
    pub header: Backup,
    /// Every entry.
    pub audit: Vec<AuditEntry>,
    /// Every record.
    pub records: Vec<String>,
    /// Its name.
    pub hash: Hash,
}

/// Reads a file and checks all of it.
pub fn read(path: &Path) -> Result<Whole, Failure> {
    let file = File::open(path).map_err(|e| cannot("read", path, &e))?;
    read_from(BufReader::new(file), path)
}

/// As [`read`], from bytes at hand; `path` is for messages.
pub fn read_from(from: impl BufRead, path: &Path) -> Result<Whole, Failure> {
    let damaged = |number: u64, why: &str| {
        Failure::usage_hint(
            format!("{} is no whole backup: line {number} {why}", path.display()),
            "nothing was sent; take another copy of it",
        )
    };
    let (mut header, mut audit, mut records) = (None, Vec::new(), Vec::new());
    let mut chain = Chain::default();
    let mut ended = false;
    for line in from.lines() {
        let text = line.map_err(|e| cannot("read", path, &e))?;
        let number = chain.lines + 1;
        if ended {
            return Err(damaged(number, "comes after its end"));
        }
        let parsed: Line = serde_json::from_str(&text)
            .map_err(|e| damaged(number, &format!("cannot be read: {e}")))?;
        match parsed {
            Line::CryptorunBackup(it) if header.is_none() => header = Some(*it),
            Line::Audit(entry) if header.is_some() => audit.push(entry),
            Line::Record(record) if header.is_some() => records.push(record),
            Line::End { lines, hash } if lines == chain.lines && hash == chain.hash => ended = true,
            Line::End { .. } => return Err(damaged(number, "does not fit the lines before it")),
            _ => return Err(damaged(number, "is not where it belongs")),
        }
        if !ended {
            chain.add(text.as_bytes());
        }
    }
    match header {
        Some(header) if ended => Ok(Whole { header, audit, records, hash: chain.hash }),
        _ => Err(damaged(chain.lines + 1, "is missing")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lines::Writer;
    use cryptorun_core::config::ClusterId;
    use cryptorun_core::time::Stamp;

    fn header() -> Backup {
        Backup {
            format: 1,
            cluster: "prod".to_owned(),
            id: ClusterId(7),
            version: 1,
            incarnation: 0,
            index: 42,
            committed: 42,
            taken: Stamp::default(),
            begin: vec!["YQ==".to_owned()],
            records: Vec::new(),
            audit: Vec::new(),
        }
    }

    #[test]
    fn a_backup_reads_back_and_no_changed_byte_and_no_missing_line_goes_unnoticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.backup");
        let mut writer = Writer::create(&path).unwrap();
        writer.line(&Line::CryptorunBackup(Box::new(header()))).unwrap();
        for record in ["Yg==", "Yw=="] {
            writer.line(&Line::Record(record.to_owned())).unwrap();
        }
        assert!(!path.exists(), "not before it is whole");
        let hash = writer.finish().unwrap();
        let whole = read(&path).unwrap();
        assert_eq!((whole.hash, whole.records.len(), whole.header), (hash, 2, header()));
        assert!(Writer::create(&path).is_err(), "never over another");

        let good = std::fs::read(&path).unwrap();
        let bad = dir.path().join("b.backup");
        for at in 0..good.len() {
            let mut bytes = good.clone();
            bytes[at] ^= 1;
            std::fs::write(&bad, &bytes).unwrap();
            assert!(read(&bad).is_err(), "byte {at}");
        }
        let lines: Vec<&[u8]> = good.split_inclusive(|byte| *byte == b'\n').collect();
        for gone in 0..lines.len() {
            let mut kept = lines.clone();
            kept.remove(gone);
            std::fs::write(&bad, kept.concat()).unwrap();
            assert!(read(&bad).is_err(), "without line {gone}");
        }
    }
}
