//! The audit: one entry for each change of authority or rules, and for each refusal.

mod filter;
pub mod sentence;

use crate::chain::Chain;
use crate::people::Actor;
use crate::position::{Hash, Position};
use crate::time::Stamp;
use serde::{Deserialize, Serialize};

pub use filter::Filter;

/// Entries kept in the machine; older bodies are in every node's segments.
pub const KEPT: u64 = 10_000;

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AuditEntry {
    /// Its number, counted from one.
    pub seq: u64,
    /// The log index that caused it.
    pub index: u64,
    /// When.
    pub at: Stamp,
    /// Who.
    pub actor: Actor,
    /// The node it came in through, when that was not the leader.
    pub via: Option<u64>,
    /// The act: `approve`, `grant`, `refused`.
    pub action: String,
    /// What it was about: `warm/global`, `P-7`.
    pub subject: String,
    /// One sentence with the numbers.
    pub detail: String,
    /// Chain hash up to and including this entry.
    pub hash: Hash,
}

impl AuditEntry {
    /// The bytes that are hashed: every field but the hash, each with its length.
    pub fn body(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(160);
        let via = self.via.map_or(String::new(), |node| node.to_string());
        for number in [self.seq, self.index, self.at.log.0, self.at.wall.0] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        for text in [&self.actor.to_string(), &via, &self.action, &self.subject, &self.detail] {
            bytes.extend_from_slice(&(text.len() as u64).to_le_bytes());
            bytes.extend_from_slice(text.as_bytes());
        }
        bytes
    }
}

/// The chain's head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditHead {
    /// Count and hash of the chain.
    pub end: Position,
}

impl AuditHead {
    /// Appends: gives the entry its number and hash.
    pub fn append(&mut self, mut entry: AuditEntry) -> AuditEntry {
        entry.seq = self.end.seq + 1;
        self.end = Chain::Audit.append(self.end, &entry.body());
        entry.hash = self.end.hash;
        entry
    }
}

/// Follows a run of entries from the position before its first.
///
/// # Errors
/// The number of the first entry that was edited, is missing or out of order.
pub fn verify(start: Position, entries: &[AuditEntry]) -> Result<Position, u64> {
    entries.iter().try_fold(start, |end, entry| {
        let next = Chain::Audit.append(end, &entry.body());
        let intact = next.hash == entry.hash && next.seq == entry.seq;
        if intact { Ok(next) } else { Err(next.seq) }
    })
}
