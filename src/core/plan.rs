//! Plans: the steps of a promotion, fixed before it runs, so that running leaves nothing to decide.

use crate::position::Hash;
use crate::promotion::Kind;
use crate::region::RegionName;
use crate::scope::{ScopeId, ScopePolicy};
use crate::time::Millis;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The eleven steps (DESIGN §8), in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Step {
    /// Every hard predicate once more.
    Preflight,
    /// The holder stops behind a barrier, and the target has it.
    Drain,
    /// The next token.
    Reserve,
    /// Required sinks refuse below it and answer their ends.
    Seal,
    /// The candidate has everything a sealed sink holds.
    FetchTail,
    /// The lease, with its start position. No way back.
    Grant,
    /// The candidate writes.
    Activate,
    /// Caches drop what the old reign filled.
    InvalidateCaches,
    /// Traffic follows.
    Redirect,
    /// Replicas follow the new reign and agree with it.
    Validate,
    /// Timings and losses are written down.
    Report,
}

impl Step {
    /// All of them, in order.
    pub const ALL: [Self; 11] = [
        Self::Preflight,
        Self::Drain,
        Self::Reserve,
        Self::Seal,
        Self::FetchTail,
        Self::Grant,
        Self::Activate,
        Self::InvalidateCaches,
        Self::Redirect,
        Self::Validate,
        Self::Report,
    ];

    /// The word in plans, tables and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Preflight => "preflight",
            Self::Drain => "drain",
            Self::Reserve => "reserve",
            Self::Seal => "seal",
            Self::FetchTail => "fetch_tail",
            Self::Grant => "grant",
            Self::Activate => "activate",
            Self::InvalidateCaches => "invalidate_caches",
            Self::Redirect => "redirect",
            Self::Validate => "validate",
            Self::Report => "report",
        }
    }

    /// How long a step may take before it fails, or after the grant before it alarms.
    pub fn deadline(self, run_out: Millis) -> Millis {
        match self {
            Self::Preflight | Self::Reserve | Self::Report => Millis::secs(10),
            Self::Drain | Self::Seal => Millis::secs(30),
            Self::FetchTail => Millis::mins(2),
            // A grant waits for the old lease at most once.
            Self::Grant => Millis(run_out.0 + 10_000),
            Self::Activate | Self::Validate => Millis::secs(60),
            Self::InvalidateCaches | Self::Redirect => Millis::secs(30),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What will be done, in which order, over which sinks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Plan {
    /// The scope.
    pub scope: ScopeId,
    /// Kind.
    pub kind: Kind,
    /// From.
    pub from: RegionName,
    /// To.
    pub to: RegionName,
    /// The steps; a failover has no `drain`, nobody is left to stop.
    pub steps: Vec<Step>,
    /// Regions with a sink of the scope.
    pub sinks: Vec<RegionName>,
    /// How many sealed sinks it takes.
    pub sinks_needed: u32,
    /// The configuration it was planned under.
    pub policy_version: u64,
}

impl Plan {
    /// Plans a promotion.
    pub fn new(
        scope: &ScopeId,
        kind: Kind,
        (from, to): (&RegionName, &RegionName),
        policy: &ScopePolicy,
        policy_version: u64,
    ) -> Self {
        let steps = Step::ALL
            .into_iter()
            .filter(|step| kind == Kind::Switchover || *step != Step::Drain)
            .collect();
        Self {
            scope: scope.clone(),
            kind,
            from: from.clone(),
            to: to.clone(),
            steps,
            sinks: policy.members.clone(),
            sinks_needed: u32::try_from(policy.sinks_needed()).unwrap_or(u32::MAX),
            policy_version,
        }
    }

    /// What `--plan` names and an approval binds.
    pub fn hash(&self) -> Hash {
        let mut text = format!(
            "plan 1\n{} {} {} {} v{} n{}\n",
            self.scope, self.kind, self.from, self.to, self.policy_version, self.sinks_needed
        );
        for step in &self.steps {
            text.push_str(step.as_str());
            text.push('\n');
        }
        for sink in &self.sinks {
            text.push_str(sink.as_str());
            text.push('\n');
        }
        Hash::of(text.as_bytes())
    }
}
