//! `GET /v1/status` and what it is made of: scopes, sinks, regions, sessions, leases.

use super::{Level, ReadAt};
use crate::command::Extended;
use crate::decide::Loss;
use crate::diagnose::Diagnosis;
use crate::position::Position;
use crate::promotion::PromotionId;
use crate::region::{Link, RegionName};
use crate::report::{Fork, RegionReport};
use crate::scope::{Mode, Pause, Phase, Role, ScopeId};
use crate::session::{SessionKey, WorkerAddresses};
use crate::time::Millis;
use crate::token::Token;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// `GET /v1/status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Status {
    /// How it was read.
    pub at: ReadAt,
    /// What is wrong, and what *you* must do; empty when all is within target.
    pub diagnoses: Vec<Diagnosis>,
    /// Each line of "YOU".
    pub todo: Vec<String>,
    /// The scopes.
    pub scopes: Vec<ScopeStatus>,
    /// Promotions that are open.
    pub open: Vec<PromotionId>,
}

/// One line of the table that tells the truth.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ScopeStatus {
    /// Its name.
    pub scope: ScopeId,
    /// How much the controller may do.
    pub mode: Mode,
    /// Where it is in its life.
    pub phase: Phase,
    /// The region that holds the lease, if one is live.
    pub holder: Option<RegionName>,
    /// The region assigned.
    pub assigned: RegionName,
    /// Token of the reign that is on, or was last.
    pub token: Token,
    /// Time left on the lease, by LogTime.
    pub lease: Option<Millis>,
    /// Maintenance.
    pub pause: Option<Pause>,
    /// Each sink.
    pub regions: BTreeMap<RegionName, SinkStatus>,
    /// Where it could go, and why not.
    pub next: Vec<Candidate>,
    /// The promotion that is moving it.
    pub moving: Option<PromotionId>,
    /// Sinks that are not sealed yet.
    pub unsealed: Vec<RegionName>,
    /// Forks that are kept.
    pub forks: Vec<ForkStatus>,
    /// The region its data may not leave.
    pub residency: Option<RegionName>,
}

/// One sink of a scope, as last reported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SinkStatus {
    /// What its worker is for the scope.
    pub role: Role,
    /// The end of its chain.
    pub end: Position,
    /// How old the newest applied data is.
    pub age: Option<Millis>,
    /// How much of what the primary had is missing.
    pub behind: Option<Loss>,
    /// Against the target.
    pub level: Level,
    /// How old the report is.
    pub reported: Option<Millis>,
    /// Writes its sink has turned away.
    pub fenced: u64,
}

/// A region the scope could move to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Candidate {
    /// The region.
    pub region: RegionName,
    /// Whether a request for it would go, people aside.
    pub ready: bool,
    /// Why not.
    pub why: Option<String>,
    /// Age of the oldest fact that says so.
    pub proof_age: Option<Millis>,
}

/// A fork and where it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ForkStatus {
    /// Region that keeps it.
    pub region: RegionName,
    /// The scope.
    pub scope: ScopeId,
    /// The fork.
    pub fork: Fork,
}

/// `GET /v1/regions`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RegionStatus {
    /// Its name.
    pub region: RegionName,
    /// Other names for it.
    pub aliases: Vec<String>,
    /// How it stands toward its peers.
    pub link: Link,
    /// Health in permille, the least of its inputs.
    pub health: u32,
    /// The inputs.
    pub inputs: BTreeMap<String, u32>,
    /// Its last committed report.
    pub report: Option<RegionReport>,
    /// How old that is.
    pub reported: Option<Millis>,
}

/// `GET /v1/sessions`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SessionStatus {
    /// The session.
    pub session: SessionKey,
    /// Its region.
    pub region: RegionName,
    /// Where it can be reached.
    pub addresses: WorkerAddresses,
    /// Its last committed renewal.
    pub renew_seq: u64,
    /// How long ago that was.
    pub renewed: Millis,
    /// Whether a newer start has barred it.
    pub barred: bool,
    /// The leases it holds.
    pub holds: Vec<Extended>,
}

/// `GET /v1/leases`: one scope's lease, in `state` and `change` events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LeaseState {
    /// The scope.
    pub scope: ScopeId,
    /// Where it is in its life.
    pub phase: Phase,
    /// The region that holds a live lease.
    pub holder: Option<RegionName>,
    /// The session that does.
    pub session: Option<SessionKey>,
    /// Token of the reign that is on, or was last.
    pub token: Token,
    /// The region assigned.
    pub assigned: RegionName,
}

/// `GET /v1/leases`: the data of every event, whose name is `state`, `change` or `progress`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LeaseEvent {
    /// Log index: `?watch_from=` goes on after it.
    pub index: u64,
    /// All leases in `state`, one in `change`, none in `progress`.
    pub leases: Vec<LeaseState>,
}

/// `GET /partition` and the partition half of `/health`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PartitionState {
    /// Whether this region has no quorum.
    pub partition_mode: bool,
    /// For how long.
    pub since: Option<Millis>,
    /// The region.
    pub region: RegionName,
}
