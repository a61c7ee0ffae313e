//! Asking for, looking at and standing behind promotions; pauses.

use super::ReadAt;
use crate::decide::Decision;
use crate::plan::Plan;
use crate::position::Hash;
use crate::promotion::{Difference, Kind, Promotion, PromotionId};
use crate::scope::Tier;
use crate::time::Millis;
use serde::{Deserialize, Serialize};

/// `POST /v1/promotions`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PromotionRequest {
    /// Kind; chosen by the state of the scope when absent.
    #[serde(default)]
    pub kind: Option<Kind>,
    /// Tier.
    pub tier: Tier,
    /// Group; `global` when absent.
    #[serde(default = "super::global")]
    pub group: String,
    /// The region that holds it now, where the requester wants that checked.
    #[serde(default)]
    pub from: Option<String>,
    /// The target, by name or alias.
    pub to: String,
    /// Why.
    #[serde(default)]
    pub reason: Option<String>,
    /// Go only if the plan hashes to this, in full or its first digits.
    #[serde(default)]
    pub plan: Option<String>,
    /// Look, change nothing. The default.
    #[serde(default = "yes")]
    pub dry_run: bool,
}

fn yes() -> bool {
    true
}

/// Answer to a dry run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DryRun {
    /// Always false.
    pub executed: bool,
    /// The kind it would be.
    pub kind: Kind,
    /// What would be decided, with every predicate.
    pub decision: Decision,
    /// The plan.
    pub plan: Plan,
    /// Its hash, for `--plan`.
    pub plan_hash: Hash,
    /// Why it would be refused, where it would.
    pub refusal: Option<String>,
    /// People needed; a human requester is one of them.
    pub people_needed: u32,
    /// Expected length of the write pause.
    pub write_pause: Millis,
}

/// A promotion with what is true of it now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PromotionStatus {
    /// The record.
    pub promotion: Promotion,
    /// People still missing.
    pub people_missing: u32,
    /// The line that approves it.
    pub approve_with: Option<String>,
    /// What deciding says of it now, while it is open.
    pub decision: Option<Decision>,
    /// What changed of what approvals bind, while it waits.
    pub differences: Vec<Difference>,
}

/// `POST /v1/promotions/{id}/approve|deny|cancel`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WordRequest {
    /// Why.
    #[serde(default)]
    pub reason: Option<String>,
}

/// `GET /v1/explain`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Explanation {
    /// How it was read.
    pub at: ReadAt,
    /// What would be decided.
    pub decision: Decision,
    /// The promotion that waits for this, if one does.
    pub waiting: Option<PromotionId>,
    /// What to type, when a verb is open.
    pub command: Option<String>,
    /// When the next verb opens, when none is.
    pub opens_in: Option<Millis>,
}

/// `POST /v1/pauses`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PauseRequest {
    /// Tier.
    pub tier: Tier,
    /// Group.
    #[serde(default = "super::global")]
    pub group: String,
    /// Why.
    pub reason: String,
    /// For how long.
    pub for_ms: u64,
}
