//! What goes wrong, by what the caller will do next.

use cryptorun_core::command::{Command, ProposeRules};
use cryptorun_core::config::CLUSTER_VERSION;
use cryptorun_core::machine::Machine;
use cryptorun_core::rules::Change;
use cryptorun_platform::segments::{self, NoSpace};
use std::path::PathBuf;

/// Why a node does not start. The program ends with exit code 8.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another node's or cluster's disk, or somebody holds it, or it is full, damaged, forbidden.
    #[error(transparent)]
    Log(#[from] segments::OpenError),
    /// A record of the log passed its checksum and still means nothing: written by a newer program.
    #[error(
        "{path}: segment {segment}, offset {offset} does not decode; start the program that wrote it, or a newer one"
    )]
    Undecodable { path: PathBuf, segment: u64, offset: u64, source: crate::codec::CodecError },
    /// The log lacks entries that it should hold.
    #[error("{path}: entry {index} is missing from the log; restore this disk from a peer")]
    Hole { path: PathBuf, index: u64 },
    /// The log starts behind every snapshot that can be read.
    #[error(
        "{path}: no readable snapshot reaches entry {needed}, where the log starts; wipe this disk and add the node anew under a new id"
    )]
    NoSnapshot { path: PathBuf, needed: u64 },
    /// The snapshot or the log came from another disk than this log's.
    #[error(
        "node {node} joined with disk {joined} and this log is on disk {own}: its parts belong to different disks; wipe them and add the node anew under another number"
    )]
    OtherDisk { node: u64, own: crate::disk_id::DiskId, joined: crate::disk_id::DiskId },
    /// The cluster has left this program behind.
    #[error(transparent)]
    Outdated(#[from] Outdated),
    /// A file could not be read or written.
    #[error("cannot {action} {path}")]
    Disk { action: &'static str, path: PathBuf, source: std::io::Error },
    /// Timings that openraft refuses.
    #[error("timing does not fit: {0}")]
    Timing(String),
    /// openraft did not come up.
    #[error("raft does not start: {0}")]
    Raft(String),
}

/// The upgrade was finished: what this program would make of an entry is not what the others do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the cluster is at cluster version {cluster}, and this program takes part up to {program}: \
     install the newer one"
)]
pub struct Outdated {
    /// The cluster's.
    pub cluster: u32,
    /// The highest of this program.
    pub program: u32,
}

impl Outdated {
    /// # Errors
    /// This program does not speak the version of this machine's cluster.
    pub fn check(machine: &Machine) -> Result<(), Self> {
        match machine.cluster().map(|cluster| cluster.version) {
            Some(cluster) if cluster > CLUSTER_VERSION => {
                Err(Self { cluster, program: CLUSTER_VERSION })
            }
            _ => Ok(()),
        }
    }

    /// The same of an entry that raises the version: who does not speak it would refuse what the others
    /// take. It is in the log only if every program spoke it then, so this one came later.
    ///
    /// # Errors
    /// As above.
    pub fn foresee(command: &Command) -> Result<(), Self> {
        let to = match command {
            Command::SetClusterVersion(set) => set.version,
            Command::ProposeRules(ProposeRules {
                change: Change::ClusterVersion { to, .. },
                ..
            }) => *to,
            _ => return Ok(()),
        };
        match to > CLUSTER_VERSION {
            true => Err(Self { cluster: to, program: CLUSTER_VERSION }),
            false => Ok(()),
        }
    }
}

impl StartError {
    /// What prevents a start, for the shell (DESIGN §14).
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Timing(_) => 2,
            _ => 8,
        }
    }
}

/// Why a proposal has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Ask there. Nothing was appended.
    #[error("this node does not lead")]
    NotLeader {
        /// Who does, as far as known.
        leader: Option<u64>,
    },
    /// Nobody leads, or the leader lost its quorum. Nothing was appended.
    #[error("no leader has a quorum now; try again")]
    NoLeader,
    /// Too much in flight. Nothing was appended.
    #[error("too many proposals in flight; try again")]
    Overloaded,
    /// The command is too large for the log.
    #[error("the command does not fit a log entry: {0}")]
    TooLarge(String),
    /// This node leads and its disk is full. Nothing was appended.
    #[error("this node takes nothing more: {0}")]
    NoSpace(NoSpace),
    /// It was appended; whether it commits is not known.
    #[error("outcome unknown: it was appended and no commit was seen; ask by its idempotency key")]
    OutcomeUnknown,
    /// This node is shutting down or its disk failed.
    #[error("this node has stopped")]
    Stopped,
}

/// Why a read has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Nobody leads, as far as this node knows.
    #[error("no leader is known; a stale read is possible")]
    NoLeader,
    /// The leader was asked and could not confirm that it still leads.
    #[error("no quorum confirmed the leader; a stale read is possible")]
    NoQuorum,
    /// The index was not applied here in time.
    #[error("entry {index} was not applied here in time, {applied} was")]
    TooSlow {
        /// What was waited for.
        index: u64,
        /// How far it got.
        applied: u64,
    },
    /// This node is shutting down or its disk failed.
    #[error("this node has stopped")]
    Stopped,
}

/// Why the membership did not change, or the lead was not handed over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MemberError {
    /// Ask there.
    #[error("this node does not lead")]
    NotLeader {
        /// Who does, as far as known.
        leader: Option<u64>,
    },
    /// It was founded before.
    #[error("this cluster has members already")]
    AlreadyInitialized,
    /// No such member.
    #[error("node {id} is no member")]
    NoMember {
        /// As asked.
        id: u64,
    },
    /// Another change is under way, or the new set cannot decide.
    #[error("membership change refused: {0}")]
    Refused(String),
    /// It took too long; it may still happen.
    #[error("membership change not seen to finish; look at the members")]
    OutcomeUnknown,
    /// This node is shutting down or its disk failed.
    #[error("this node has stopped")]
    Stopped,
}
