//! What the cluster agrees on: read from `cluster.yaml` once, replicated ever after.

use crate::people::{OperatorId, Person};
use crate::region::RegionName;
use crate::scope::{ScopeId, ScopePolicy};
use crate::time::{Millis, Timing};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// A cluster's identity: a disk of another one stops.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(pub u128);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl FromStr for ClusterId {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match u128::from_str_radix(text, 16) {
            Ok(id) if text.len() == 32 => Ok(Self(id)),
            _ => Err(format!("'{text}' is not a cluster id of 32 hex digits")),
        }
    }
}

crate::record::text_serde!(ClusterId);

/// A region as configured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RegionConfig {
    /// Other names people use for it.
    pub aliases: Vec<String>,
    /// Its control node's id.
    pub node: u64,
    /// That node's Raft address, `host:port`.
    pub raft: String,
    /// That node's admin API, `host:port`.
    pub api: String,
}

/// Times and bounds that policy may change; defaults are DESIGN §15's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Limits {
    /// A report older than this decides nothing.
    pub report_fresh: Millis,
    /// How long a region or holder must be gone before it counts as lost.
    pub detection: Millis,
    /// How long a request waits for people.
    pub approval: Millis,
    /// Between two acts of the controller in one scope.
    pub cooldown: Millis,
    /// Acts of the controller a day.
    pub daily_budget: u32,
    /// Largest gap, in seconds of data, that a failover may leave.
    pub behind_max: Millis,
    /// Age at which an emergency may be asked for.
    pub emergency_age: Millis,
    /// Regrants without people within `regrant_window`.
    pub regrant_max: u32,
    /// See `regrant_max`.
    pub regrant_window: Millis,
    /// Errors among a region's answers, in permille, beyond which it counts as degraded.
    pub errors_max_permille: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            report_fresh: Millis::secs(10),
            detection: Millis::secs(60),
            approval: Millis::mins(30),
            cooldown: Millis::mins(10),
            daily_budget: 3,
            behind_max: Millis::secs(90),
            emergency_age: Millis::secs(300),
            regrant_max: 3,
            regrant_window: Millis::mins(10),
            errors_max_permille: 50,
        }
    }
}

/// `cluster.yaml`, checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ClusterConfig {
    /// Raised by every change.
    pub version: u64,
    /// The name in certificates.
    pub name: String,
    /// Timings of leases and elections.
    pub timing: Timing,
    /// The regions.
    pub regions: BTreeMap<RegionName, RegionConfig>,
    /// The people table.
    pub people: BTreeMap<OperatorId, Person>,
    /// The scopes.
    pub scopes: BTreeMap<ScopeId, ScopePolicy>,
    /// Times and bounds.
    pub limits: Limits,
}

impl ClusterConfig {
    /// Names and aliases, for [`crate::region::resolve`].
    pub fn names(&self) -> BTreeMap<RegionName, Vec<String>> {
        self.regions.iter().map(|(name, r)| (name.clone(), r.aliases.clone())).collect()
    }

    /// The region a control node stands in.
    pub fn region_of(&self, node: u64) -> Option<&RegionName> {
        self.regions.iter().find(|(_, region)| region.node == node).map(|(name, _)| name)
    }
}

/// The cluster as the machine keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// Its identity.
    pub id: ClusterId,
    /// Gates new commands during a rolling upgrade.
    pub version: u32,
    /// Raised by every restore; the first half of every token.
    pub incarnation: u32,
    /// What it agreed on.
    pub config: ClusterConfig,
}

/// The highest `cluster_version` that this program speaks. A build with the feature `version-1` is
/// the program before the last version: upgrades are tried with both.
pub const CLUSTER_VERSION: u32 = if cfg!(feature = "version-1") { 1 } else { 2 };

/// The lowest one it still takes part in.
pub const CLUSTER_VERSION_MIN: u32 = 1;
