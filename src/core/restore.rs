//! A cluster from a backup: a new cluster that knows what another one knew.
//!
//! A backup is one moment of a machine: its records, and the audit up to there. It enters the log of
//! a cluster that was founded by nobody, part by part, so that every node has it and a part that was
//! lost is sent again. Its end makes the cluster: a new id, an incarnation above every one that was
//! seen, no session, no lease, no open promotion. Then it waits: for people to agree that this
//! backup is the one (`R-n`), and for a lease of the old cluster, wherever one may still be held, to
//! have run out.
//!
//! What always holds: nothing is granted before both; a token of the restored cluster is above every
//! token of the one it came from, as far as anybody could see.
//!
//! Next: `machine/restore.rs`, `docs/safety.md`.

use crate::audit::AuditHead;
use crate::config::{Cluster, ClusterId};
use crate::machine::Machine;
use crate::people::OperatorId;
use crate::position::Hash;
use crate::record::{Clock, Record, RecordKey, RecordRef};
use crate::region::RegionName;
use crate::rules::RuleId;
use crate::time::{LogTime, Stamp};
use serde::{Deserialize, Serialize};

/// One act of a restore.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restore {
    /// Hash of the backup: parts of two never mix.
    pub backup: Hash,
    /// What.
    pub act: Act,
}

/// See [`Restore`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Act {
    /// A backup comes; one that was coming is forgotten.
    Begin(Box<Begin>),
    /// Its next records.
    Part {
        /// Counted from zero.
        part: u32,
        /// In the order of the backup.
        records: Vec<Record>,
    },
    /// That was all of it: be a cluster.
    Finish(Finish),
}

/// What a backup begins with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begin {
    /// The cluster as it was.
    pub cluster: Cluster,
    /// Its time and counters.
    pub clock: Clock,
    /// Where its audit ended.
    pub audit: AuditHead,
}

/// What a restored cluster is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finish {
    /// Parts that were sent.
    pub parts: u32,
    /// The id drawn for it.
    pub id: ClusterId,
    /// At least this incarnation: the Unix second, as DESIGN §5 asks.
    pub incarnation: u32,
    /// Its nodes, which may stand elsewhere now.
    pub seats: Vec<Seat>,
}

/// A region's control node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Seat {
    /// The region.
    pub region: RegionName,
    /// The node's number.
    pub node: u64,
    /// Its Raft address, `host:port`.
    pub raft: String,
    /// Its admin API, `host:port`.
    pub api: String,
}

/// How far a restore has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    /// Hash of the backup.
    pub backup: Hash,
    /// Who restores.
    pub by: OperatorId,
    /// The cluster that it was taken of.
    pub from: ClusterId,
    /// How far.
    pub progress: Progress,
}

/// See [`Restored`]. Short-lived where it is large.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Progress {
    /// Parts come in; there is no cluster yet.
    Arriving {
        /// What it began with.
        begin: Begin,
        /// The next part.
        next: u32,
    },
    /// It is a cluster, and grants nothing before people agree.
    Waiting {
        /// To what.
        rule: RuleId,
        /// Nothing is granted before this either.
        quiet_until: LogTime,
    },
    /// They have.
    Agreed {
        /// When.
        at: Stamp,
        /// Nothing is granted before this.
        quiet_until: LogTime,
    },
}

/// One moment of a machine, as a backup keeps it: what it begins with, and its records but the
/// audit, whose bodies are taken from where all of them are. None before founding.
pub fn backup(machine: &Machine) -> Option<(Begin, Vec<Record>)> {
    let cluster = machine.cluster()?.clone();
    let clock = machine.clock();
    let kept = |key: &RecordKey| {
        matches!(
            key,
            RecordKey::Region(_)
                | RecordKey::Scope(_)
                | RecordKey::Promotion(_)
                | RecordKey::Review(_)
                | RecordKey::Rule(_)
                | RecordKey::Preference
        )
    };
    let keys = machine.keys().into_iter().filter(kept);
    let records = keys.filter_map(|key| machine.record(&key).map(RecordRef::to_record)).collect();
    Some((Begin { cluster, clock, audit: machine.audit_head() }, records))
}

impl Restored {
    /// The rule change that it waits for.
    pub fn waits_for(&self) -> Option<RuleId> {
        match self.progress {
            Progress::Waiting { rule, .. } => Some(rule),
            Progress::Arriving { .. } | Progress::Agreed { .. } => None,
        }
    }

    /// Until when nothing may be granted, people aside.
    pub fn quiet_until(&self) -> LogTime {
        match self.progress {
            Progress::Waiting { quiet_until, .. } | Progress::Agreed { quiet_until, .. } => {
                quiet_until
            }
            Progress::Arriving { .. } => LogTime::default(),
        }
    }
}
