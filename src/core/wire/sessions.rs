//! What workers send and are answered.

use crate::command::Renewed;
use crate::config::{ClusterId, Limits};
use crate::directive::Directive;
use crate::position::Position;
use crate::promotion::PromotionId;
use crate::report::WorkerReport;
use crate::scope::ScopeId;
use crate::session::WorkerAddresses;
use crate::time::{Timing, WallTime};
use crate::token::Token;
use serde::{Deserialize, Serialize};

/// `POST /v1/sessions`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct OpenSessionRequest {
    /// Drawn at start, 16 hex digits; the worker's id and region come from its certificate.
    pub boot: String,
    /// Where others reach it.
    pub addresses: WorkerAddresses,
}

/// Answer to `POST /v1/sessions`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SessionOpened {
    /// The session and cluster; nothing is held yet.
    pub renewed: Renewed,
    /// Lease and renewal times in force.
    pub timing: Timing,
    /// Policy bounds in force.
    pub limits: Limits,
    /// What to be.
    pub directives: Vec<Directive>,
}

/// `POST /v1/sessions/{id}/renew`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RenewRequest {
    /// The cluster the session was opened with.
    pub cluster: ClusterId,
    /// The last renewal's number plus one; a retry keeps it.
    pub seq: u64,
    /// What the worker did and sees.
    pub report: WorkerReport,
}

/// Answer to a renewal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RenewAnswer {
    /// The log index that committed it.
    pub index: u64,
    /// The answering node's wall clock, for measuring the worker's offset.
    pub wall: WallTime,
    /// Which leases were extended.
    pub renewed: Renewed,
    /// The log index that `directives` are of; none from a node that does not say so.
    #[serde(default)]
    pub directed: Option<u64>,
    /// What to be. Empty when nothing has stirred since the index that the worker named.
    pub directives: Vec<Directive>,
}

/// `POST /v1/sessions/{id}/release`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ReleaseRequest {
    /// The scope.
    pub scope: ScopeId,
    /// Its token.
    pub token: Token,
    /// The end of the chain, sealed.
    pub end: Position,
    /// Keep the scope for this worker's return for so long.
    pub keep_for_ms: Option<u64>,
}

/// `POST /v1/sessions/{id}/handover`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct HandoverRequest {
    /// The switchover.
    pub promotion: PromotionId,
    /// The holder's token.
    pub token: Token,
    /// The barrier.
    pub end: Position,
}
