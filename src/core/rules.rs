//! Rule changes: `R-n`, a change of what everybody is held to, which needs what promotions need.
//!
//! Somebody asks, others put their name to exactly that, and with the last name it applies, in the
//! same entry. What was asked for never changes while it waits; when the world it was asked in has,
//! it is void.
//!
//! Next: `machine/rules.rs` for how they are counted and applied, `restore.rs` for the one that a
//! restored cluster waits for.

use crate::config::ClusterId;
use crate::people::{Actor, OperatorId};
use crate::position::Hash;
use crate::promotion::Approval;
use crate::time::{LogTime, Stamp, WallTime};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// `R-7`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleId(pub u64);

impl fmt::Display for RuleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("R-{}", self.0))
    }
}

impl FromStr for RuleId {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        text.strip_prefix("R-")
            .and_then(|number| number.parse().ok().map(Self))
            .ok_or_else(|| format!("'{text}' is not a rule change like R-7"))
    }
}

crate::record::text_serde!(RuleId);

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(as = RuleDiff))]
pub enum Change {
    /// Finish an upgrade: from here on older programs cannot take part.
    ClusterVersion {
        /// As it is.
        from: u32,
        /// As it shall be.
        to: u32,
    },
    /// Let a restored cluster grant leases.
    Restore {
        /// The cluster that the backup was taken of.
        from: ClusterId,
        /// Hash of the backup.
        backup: Hash,
        /// When it was taken.
        taken: Stamp,
    },
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClusterVersion { from, to } => {
                write!(f, "finish the upgrade from cluster version {from} to {to}")
            }
            Self::Restore { from, backup, taken } => write!(
                f,
                "let this cluster, restored from backup {} of {from} taken at {}, grant leases",
                backup.short(),
                taken.wall
            ),
        }
    }
}

/// Where a rule change is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(as = RuleState))]
pub enum State {
    /// For people.
    Waiting,
    /// Over.
    Ended(Outcome),
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(as = RuleOutcome))]
pub enum Outcome {
    /// It is so.
    Applied,
    /// A person said no.
    Denied {
        /// Who.
        by: OperatorId,
        /// Why.
        why: String,
    },
    /// It was withdrawn.
    Cancelled {
        /// Who.
        by: OperatorId,
    },
    /// Nobody agreed in time.
    Expired,
    /// It makes no sense any more.
    Void {
        /// Why.
        why: String,
    },
}

impl Outcome {
    /// The outcome's one word.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Denied { .. } => "denied",
            Self::Cancelled { .. } => "cancelled",
            Self::Expired => "expired",
            Self::Void { .. } => "void",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Applied | Self::Expired => f.pad(self.as_str()),
            Self::Denied { by, why } => write!(f, "denied by {by}: {why}"),
            Self::Cancelled { by } => write!(f, "cancelled by {by}"),
            Self::Void { why } => write!(f, "void: {why}"),
        }
    }
}

/// A rule change that somebody asked for. Plain data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RuleChange {
    /// Which.
    pub id: RuleId,
    /// What.
    pub change: Change,
    /// Who asked; a person counts as one of those it needs.
    pub requester: Actor,
    /// Why.
    pub reason: Option<String>,
    /// When.
    pub opened: Stamp,
    /// When it ends by itself, whichever passes first; never for a cause that stands.
    pub expires: Option<(LogTime, WallTime)>,
    /// Distinct people it takes.
    pub people_needed: u32,
    /// Who put their name to it.
    pub approvals: BTreeMap<OperatorId, Approval>,
    /// Where it is.
    pub state: State,
    /// When it ended.
    pub ended: Option<Stamp>,
}

impl RuleChange {
    /// Whether it waits for people.
    pub fn is_open(&self) -> bool {
        self.state == State::Waiting
    }

    /// How many more it takes.
    pub fn people_missing(&self) -> u32 {
        let have = u32::try_from(self.approvals.len()).unwrap_or(u32::MAX);
        self.people_needed.saturating_sub(have)
    }
}
