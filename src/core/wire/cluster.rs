//! Members, leadership, versions, and what nodes say of themselves.

use super::ReadAt;
use crate::config::{CLUSTER_VERSION, CLUSTER_VERSION_MIN, ClusterConfig, ClusterId};
use crate::position::Hash;
use crate::region::RegionName;
use crate::time::{Millis, Timing, WallTime};
use serde::{Deserialize, Serialize};

/// `GET /v1/cluster`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ClusterStatus {
    /// How it was read.
    pub at: ReadAt,
    /// Its identity, once founded.
    pub id: Option<ClusterId>,
    /// `cluster_version`.
    pub version: u32,
    /// First half of every token.
    pub incarnation: u32,
    /// Members.
    pub members: Vec<Member>,
    /// Timings in force.
    pub timing: Option<Timing>,
    /// Configuration version.
    pub config_version: u64,
    /// Chained hash of the state at `at.index`, to compare between nodes.
    pub state_hash: Hash,
}

/// A member of the Raft cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Member {
    /// Node id.
    pub node: u64,
    /// Its region.
    pub region: RegionName,
    /// Whether it votes.
    pub voter: bool,
    /// Whether it leads.
    pub leader: bool,
    /// Highest index known to be on its disk, as the leader sees it.
    pub matched: Option<u64>,
    /// How long ago it last answered the leader.
    pub answered: Option<Millis>,
}

/// `POST /v1/cluster/init`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct InitRequest {
    /// How many nodes must answer with empty disks.
    pub expect: u32,
    /// What the cluster starts from.
    pub config: ClusterConfig,
}

/// `POST /v1/cluster/transfer-leader`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TransferRequest {
    /// To this region's node, by name or alias.
    pub to: String,
}

/// `POST /v1/cluster/members`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AddMemberRequest {
    /// The node's id; a wiped node returns under a new one.
    pub node: u64,
    /// Its region.
    pub region: String,
    /// Its Raft address.
    pub raft: String,
    /// Its admin API.
    pub api: String,
    /// The member whose place it takes, in one change.
    #[serde(default)]
    pub replaces: Option<u64>,
}

/// `POST /v1/cluster/preference`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PreferenceRequest {
    /// The first whose node is well leads, by name or alias; none is no preference.
    pub regions: Vec<String>,
}

/// Which cluster versions a program takes part in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Versions {
    /// The lowest.
    pub min: u32,
    /// The highest.
    pub max: u32,
}

impl Versions {
    /// This program's.
    pub const OWN: Self = Self { min: CLUSTER_VERSION_MIN, max: CLUSTER_VERSION };
}

impl Default for Versions {
    /// Of a program that does not say.
    fn default() -> Self {
        Self { min: 1, max: 1 }
    }
}

/// `GET /v1/cluster/node`: what one node says of itself, with or without a quorum.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NodeStanding {
    /// Its number.
    pub node: u64,
    /// Its region.
    pub region: RegionName,
    /// The version of its program.
    pub program: String,
    /// Cluster versions it takes part in.
    pub versions: Versions,
    /// The id of its disk, in hex.
    pub disk: Option<String>,
    /// The cluster it belongs to, once founded.
    pub cluster: Option<ClusterId>,
    /// Whether its disk holds no log.
    pub empty: bool,
    /// Whether it leads.
    pub leads: bool,
    /// Raft term it knows.
    pub term: u64,
    /// Last entry it applied.
    pub applied: u64,
    /// Last entry it knows to be committed.
    pub committed: u64,
    /// Index of the last entry in its log, committed or not.
    pub last: u64,
    /// The term of that entry.
    pub last_term: u64,
    /// For how long it has been without a quorum.
    pub quorum_lost: Option<Millis>,
    /// Why its disk takes nothing more, while it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_space: Option<String>,
    /// Its wall clock.
    pub wall: WallTime,
}

/// One line of `GET /v1/cluster/nodes`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NodeSeen {
    /// Its number.
    pub node: u64,
    /// Its region.
    pub region: RegionName,
    /// What it says of itself; none where it did not answer.
    pub standing: Option<NodeStanding>,
    /// Why it did not.
    pub cause: Option<String>,
    /// Whether its state at `compared` is that of the node asked; none where it cannot be told.
    pub agrees: Option<bool>,
    /// The index at which states were compared.
    pub compared: Option<u64>,
}
