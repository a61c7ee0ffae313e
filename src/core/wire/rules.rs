//! `R-n`: changes of the rules, as people propose and see them.

use crate::rules::RuleChange;
use serde::{Deserialize, Serialize};

/// `POST /v1/rules`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RuleRequest {
    /// What shall change.
    pub change: RuleAsked,
    /// Why.
    pub reason: Option<String>,
}

/// See [`RuleRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum RuleAsked {
    /// Finish an upgrade to the version that follows.
    ClusterVersion {
        /// As it shall be.
        to: u32,
    },
    /// Ask again for a restored cluster to grant: an earlier request was denied or withdrawn.
    Restore,
}

/// A rule change as people see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RuleStatus {
    /// The change.
    pub rule: RuleChange,
    /// In a sentence.
    pub what: String,
    /// People still missing.
    pub people_missing: u32,
    /// Whether the caller's word would count.
    pub can_approve: bool,
}
