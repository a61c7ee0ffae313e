//! The shapes that control, worker and CLI exchange as JSON. Promises of API version 1.
//!
//! Working types do not leave through here by accident: what is shown is listed here, and a record
//! that is shown whole ([`Promotion`], [`AuditEntry`]) is a promise too.

mod backup;
mod cluster;
mod credentials;
mod promotions;
mod rules;
mod sessions;
mod simulation;
mod status;
mod worker;

use crate::audit::AuditEntry;
use crate::command::Outcome;
use crate::decide::Predicate;
use crate::people::Grant;
use crate::position::Position;
use crate::promotion::{Difference, PromotionId};
use crate::region::RegionName;
use crate::rules::RuleId;
use crate::time::{LogTime, Millis, WallTime};
use serde::{Deserialize, Serialize};

pub use backup::*;
pub use cluster::*;
pub use credentials::*;
pub use promotions::*;
pub use rules::*;
pub use sessions::*;
pub use simulation::*;
pub use status::*;
pub use worker::*;

/// Answer to a mutation: where it stands in the log and what it did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Accepted {
    /// Log index, for `?wait_index=`.
    pub index: u64,
    /// What it did.
    pub outcome: Outcome,
}

/// How a figure stands against its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Level {
    /// Within target.
    Ok,
    /// Past the warning line.
    Warn,
    /// Past the critical line.
    Crit,
}

impl std::fmt::Display for Level {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Warn => "WARN",
            Self::Crit => "CRIT",
        })
    }
}

/// How an answer was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Consistency {
    /// A quorum confirmed it.
    Linearizable,
    /// The leader answered within its lease: as good while the clocks of the nodes run at rates
    /// within a fifth of each other.
    Lease,
    /// One node's own view.
    Stale,
}

/// What every read says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ReadAt {
    /// Cluster name.
    pub cluster: String,
    /// The region of the node that leads, if one is known.
    pub leader: Option<RegionName>,
    /// Raft term.
    pub term: u64,
    /// Applied log index.
    pub index: u64,
    /// Voters that answer, of `voters`.
    pub voters_up: u32,
    /// Voters.
    pub voters: u32,
    /// Wall clock of the answering node.
    pub wall: WallTime,
    /// LogTime.
    pub now: LogTime,
    /// How old the answer may be.
    pub age: Millis,
    /// The region of the node that answered.
    pub via: RegionName,
    /// How it was read.
    pub consistency: Consistency,
}

/// `GET /v1/audit`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AuditPage {
    /// Entries, oldest first.
    pub entries: Vec<AuditEntry>,
    /// The chain's end.
    pub end: Position,
    /// Where only some entries were asked for: the last number that was looked at without a gap
    /// before it. Go on after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub through: Option<u64>,
}

/// `GET /v1/audit/verify`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AuditVerdict {
    /// Entries checked.
    pub checked: u64,
    /// The chain's end.
    pub end: Position,
    /// The first entry that does not verify.
    pub broken_at: Option<u64>,
}

/// `GET /v1/whoami`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WhoAmI {
    /// The certificate's SPIFFE id.
    pub spiffe: String,
    /// What it may do.
    pub grants: Vec<Grant>,
    /// Promotions that wait for this person.
    pub waiting: Vec<PromotionId>,
    /// Rule changes that do.
    #[serde(default)]
    pub rules: Vec<RuleId>,
}

/// RFC 9457, with what an operator needs to go on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Problem {
    /// `https://cryptorun.dev/problems/<kind>`; stable.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind in words.
    pub title: String,
    /// HTTP status.
    pub status: u16,
    /// What is wrong here, in one sentence.
    pub detail: String,
    /// What to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The predicates of a refusal.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub predicates: Vec<Predicate>,
    /// What changed of what was approved.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<Difference>,
    /// The leader's API, when it is elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<String>,
}

/// The group that is meant where none is named.
fn global() -> String {
    "global".to_owned()
}
