//! Backups and restores.

use crate::audit::AuditEntry;
use crate::config::ClusterId;
use crate::position::Hash;
use crate::restore::Seat;
use crate::time::Stamp;
use serde::{Deserialize, Serialize};

/// `GET /v1/cluster/backup`: one moment of the cluster. The audit before `audit` stands under
/// `/v1/audit`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Backup {
    /// The shape of what follows.
    pub format: u32,
    /// The cluster's name.
    pub cluster: String,
    /// Its id.
    pub id: ClusterId,
    /// `cluster_version`.
    pub version: u32,
    /// First half of its tokens.
    pub incarnation: u32,
    /// Last log entry in it.
    pub index: u64,
    /// Last entry known to be committed: less than `index` only where one node was asked alone.
    pub committed: u64,
    /// When it was taken, by the log.
    pub taken: Stamp,
    /// What it begins with: cluster, clock and head of the audit, as stored and in base64.
    pub begin: Vec<String>,
    /// Its records, likewise.
    pub records: Vec<String>,
    /// The newest audit entries, oldest first.
    pub audit: Vec<AuditEntry>,
}

/// `POST /v1/cluster/restore`: to a node with an empty disk, as are the others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RestoreRequest {
    /// Hash of the backup.
    pub backup: Hash,
    /// How many nodes must answer with empty disks.
    pub expect: u32,
    /// What the backup begins with.
    pub begin: Vec<String>,
    /// Nodes that stand elsewhere than the backup has them.
    #[serde(default)]
    pub seats: Vec<Seat>,
}

/// `POST /v1/cluster/restore/parts`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RestorePartRequest {
    /// Hash of the backup.
    pub backup: Hash,
    /// Counted from zero.
    pub part: u32,
    /// Audit entries, in order.
    #[serde(default)]
    pub audit: Vec<AuditEntry>,
    /// Records in base64.
    #[serde(default)]
    pub records: Vec<String>,
}

/// `POST /v1/cluster/restore/finish`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RestoreFinishRequest {
    /// Hash of the backup.
    pub backup: Hash,
    /// Parts that were sent.
    pub parts: u32,
    /// Nodes that stand elsewhere than the backup has them.
    #[serde(default)]
    pub seats: Vec<Seat>,
}
