//! What would have been decided: `POST /v1/simulations`.

use crate::config::ClusterConfig;
use crate::decide::{Decision, Loss};
use crate::position::Hash;
use crate::promotion::{Kind, PromotionId};
use crate::region::RegionName;
use crate::scope::{ScopeId, Tier};
use crate::time::{Millis, WallTime};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

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
    /// Compared with this configuration: its limits, and its policy for the scope.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Box<ClusterConfig>>,
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
    /// What regions saw while no quorum took their reports: told later, and decided by never.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub late: Vec<LateReports>,
    /// What the controller would have asked people for, or done, wherever to.
    #[serde(default)]
    pub asks: Vec<SimulatedAsk>,
    /// The same by the configuration that was compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by_policy: Option<Vec<SimulatedAsk>>,
}

/// A move that the controller would have asked for, while its cause lasted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SimulatedAsk {
    /// From when.
    pub at: WallTime,
    /// Until its cause was over, or the window.
    pub until: WallTime,
    /// Kind.
    pub kind: Kind,
    /// Where to.
    pub to: RegionName,
    /// Whether it would have gone on by itself, nobody being asked (mode `auto`).
    pub alone: bool,
    /// By what.
    pub reason: String,
    /// What it would have cost.
    pub loss: Loss,
    /// How it truly went on.
    pub then: Afterwards,
}

/// How it went on after the controller would have asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Afterwards {
    /// The holder was back, and the scope stayed: nobody needed to be asked.
    CameBack,
    /// A promotion moved the scope.
    Moved,
    /// The window ended first.
    Open,
}

impl SimulatedAsk {
    /// Whether it turned out not to have been needed.
    pub fn is_false(&self) -> bool {
        self.then == Afterwards::CameBack
    }
}

/// Reports of a region that no quorum took.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LateReports {
    /// Whose.
    pub region: RegionName,
    /// How many.
    pub reports: u64,
    /// First and last of them, by its wall clock.
    pub span: (WallTime, WallTime),
    /// Regions that it did not reach by its control path, and for how long at most.
    pub unreached: BTreeMap<RegionName, Millis>,
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

/// `GET /v1/refusals`: why a scope that was not well did not move.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Refusals {
    /// The scope.
    pub scope: ScopeId,
    /// First and last state of the window that this node recorded; none when there was none.
    pub covered: Option<(WallTime, WallTime)>,
    /// By their beginning.
    pub refusals: Vec<RefusedSpan>,
    /// How many more there were before the first of them.
    pub left_out: u64,
}

/// One answer for one region, for as long as it lasted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RefusedSpan {
    /// The first state that was answered so.
    pub since: WallTime,
    /// The first that was not, or the last there was.
    pub until: WallTime,
    /// What was wrong with the scope then.
    pub because: String,
    /// The answer as it was last.
    pub decision: Decision,
}
