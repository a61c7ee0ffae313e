//! The types openraft is built from here, and short names for its own.
//!
//! Deliberately absent: serde on openraft's types. What goes to disk or to a peer is written by
//! [`crate::codec`], so a new openraft changes neither.

use crate::codec::CodecError;
use crate::disk_id::DiskId;
use crate::runtime::Runtime;
use bytes::Bytes;
use cryptorun_core::command::{Answer, Entry};
use cryptorun_core::region::RegionName;
use std::fmt;
use std::sync::Arc;

openraft::declare_raft_types!(
    /// cryptorun's Raft.
    pub TypeConfig:
        D = Payload,
        R = Answered,
        NodeId = u64,
        Node = Member,
        AsyncRuntime = Runtime,
);

pub(crate) type LogId = openraft::alias::LogIdOf<TypeConfig>;
pub(crate) type LeaderId = openraft::alias::CommittedLeaderIdOf<TypeConfig>;
pub(crate) type Vote = openraft::alias::VoteOf<TypeConfig>;
pub(crate) type LogEntry = openraft::alias::EntryOf<TypeConfig>;
pub(crate) type EntryPayload = openraft::EntryPayload<Payload, u64, Member>;
pub(crate) type Membership = openraft::Membership<u64, Member>;
pub(crate) type StoredMembership = openraft::alias::StoredMembershipOf<TypeConfig>;
pub(crate) type SnapshotMeta = openraft::alias::SnapshotMetaOf<TypeConfig>;
pub(crate) type SnapshotOf = openraft::alias::SnapshotOf<TypeConfig, SnapshotData>;
/// A whole snapshot in its file format; checked before it gets here.
pub(crate) type SnapshotData = Bytes;
pub(crate) type Raft = openraft::Raft<TypeConfig, crate::state_machine::StateMachine>;

/// A control node as the membership names it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// Its region, as its certificate must say.
    pub region: String,
    /// The id in its certificate.
    pub name: String,
    /// Where its peers reach it, `host:port`.
    pub raft: String,
    /// Its admin API, `host:port`.
    pub api: String,
    /// The disk it joined with, where it said so.
    pub disk: Option<DiskId>,
}

impl Member {
    /// The region under its proper type.
    pub fn region_name(&self) -> RegionName {
        RegionName::from(self.region.as_str())
    }
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {} at {}", self.name, self.region, self.raft)
    }
}

/// What one log entry carries: the core's entry and its bytes, encoded once for the disk and for
/// every peer.
#[derive(Clone)]
pub struct Payload {
    entry: Arc<Entry>,
    bytes: Bytes,
}

impl Payload {
    /// # Errors
    /// The entry is larger than a log entry may be.
    pub fn new(entry: Entry) -> Result<Self, CodecError> {
        let bytes = crate::codec::command::encode(&entry)?;
        Ok(Self { entry: Arc::new(entry), bytes: bytes.into() })
    }

    /// # Errors
    /// The bytes are no entry this version knows.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let entry = crate::codec::command::decode(bytes)?;
        // Copied: a slice would pin the whole receive buffer for as long as the log keeps it.
        Ok(Self { entry: Arc::new(entry), bytes: Bytes::copy_from_slice(bytes) })
    }

    /// The entry.
    pub fn entry(&self) -> &Entry {
        &self.entry
    }

    /// The entry, to be kept.
    pub fn shared(&self) -> Arc<Entry> {
        self.entry.clone()
    }

    /// Its encoding.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl PartialEq for Payload {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for Payload {}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.entry.fmt(f)
    }
}

impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes by {}", self.bytes.len(), self.entry.actor)
    }
}

/// What applying an entry told its proposer: nothing where it carried no command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered(pub Option<Answer>);

impl fmt::Display for Answered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            None => "nothing to say",
            Some(Ok(_)) => "done",
            Some(Err(_)) => "refused",
        })
    }
}
