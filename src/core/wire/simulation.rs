//! What would have been decided: `POST /v1/simulations`.

use crate::decide::Decision;
use crate::position::Hash;
use crate::promotion::PromotionId;
use crate::region::RegionName;
use crate::scope::{ScopeId, Tier};
use crate::time::WallTime;
use serde::{Deserialize, Serialize};

/// `POST /v1/simulations`: recorded reports through the deciding code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SimulationRequest {
    /// Tier.
    pub tier: Tier,
    /// Group.
    #[serde(default = "super::global")]
    pub group: String,
    /// The region that would lose the scope, by name or alias.
    pub from: String,
    /// The region that would get it.
    pub to: String,
    /// From this moment.
    pub start: WallTime,
    /// To this one.
    pub end: WallTime,
}

/// What a simulation found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Simulation {
    /// The scope.
    pub scope: ScopeId,
    /// From.
    pub from: RegionName,
    /// To.
    pub to: RegionName,
    /// Reports replayed.
    pub reports: u64,
    /// First and last of them.
    pub covered: Option<(WallTime, WallTime)>,
    /// Each change of decision.
    pub moments: Vec<SimulatedMoment>,
    /// Hash over all decisions, equal on every node for the same reports.
    pub decisions: Hash,
}

/// A moment at which the decision changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SimulatedMoment {
    /// When.
    pub at: WallTime,
    /// What would have been decided.
    pub decision: Decision,
    /// The promotion that was opened then, where history shows one.
    pub opened: Option<PromotionId>,
}
