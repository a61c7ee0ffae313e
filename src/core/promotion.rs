//! Promotions: a change of the assigned region that somebody asked for.
//!
//! A request is cheap to make and harmless to hold. People stand behind it one by one; each approval
//! binds [`BoundFacts`]. Once enough have, steps run ([`crate::steps`]); the point of no return is the
//! grant. Past `Reserve` it always ends in `done`, `rolled_back` or `superseded`.

use crate::decide::{Loss, PredicateName, Verdict};
use crate::people::{Actor, OperatorId};
use crate::plan::{Plan, Step};
use crate::position::{Hash, Position};
use crate::region::RegionName;
use crate::scope::ScopeId;
use crate::session::SessionKey;
use crate::time::{LogTime, Stamp, WallTime};
use crate::token::Token;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// `P-7`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PromotionId(pub u64);

impl fmt::Display for PromotionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("P-{}", self.0))
    }
}

impl FromStr for PromotionId {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        text.strip_prefix("P-")
            .and_then(|number| number.parse().ok().map(Self))
            .ok_or_else(|| format!("'{text}' is not a promotion like P-7"))
    }
}

crate::record::text_serde!(PromotionId);

/// What sort of change it is; fixed when asked for (DESIGN §8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Kind {
    /// The old primary answers: zero loss, or it goes on.
    Switchover,
    /// The holder is gone; the candidate's gap is known and small.
    Failover,
    /// The holder is gone or unhealthy and the gap is large, old or unknown.
    Emergency,
}

impl Kind {
    /// All of them, the least costly first.
    pub const ALL: [Self; 3] = [Self::Switchover, Self::Failover, Self::Emergency];

    /// The word operators type.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Switchover => "switchover",
            Self::Failover => "failover",
            Self::Emergency => "emergency",
        }
    }

    /// What stands before it in a sentence.
    pub fn article(self) -> &'static str {
        match self {
            Self::Switchover | Self::Failover => "a",
            Self::Emergency => "an",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Kind {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "switchover" => Ok(Self::Switchover),
            "failover" => Ok(Self::Failover),
            "emergency" => Ok(Self::Emergency),
            _ => Err(format!("no kind '{text}'; known: switchover, failover, emergency")),
        }
    }
}

/// What an approval puts its name to. When any of it changes, the approval is void.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BoundFacts {
    /// The scope's assignment version.
    pub assignment_version: u64,
    /// From.
    pub from: RegionName,
    /// To.
    pub to: RegionName,
    /// Kind.
    pub kind: Kind,
    /// Hash of the plan: steps, sinks, policy version.
    pub plan: Hash,
    /// The verdict, not the value, of each hard predicate.
    pub verdicts: BTreeMap<PredicateName, Verdict>,
    /// The most that may be lost.
    pub loss_ceiling: Loss,
}

/// A bound fact that is not what it was: its name, what was bound, what it is now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Difference {
    /// The field.
    pub field: String,
    /// As approved.
    pub bound: String,
    /// As it is.
    pub now: String,
}

impl BoundFacts {
    /// What `now` changed of what was bound. Values may move freely; a smaller loss is no change.
    pub fn differences(&self, now: &Self) -> Vec<Difference> {
        let mut found = Vec::new();
        let mut check = |field: &str, bound: String, now: String| {
            if bound != now {
                found.push(Difference { field: field.to_owned(), bound, now });
            }
        };
        check(
            "assignment_version",
            self.assignment_version.to_string(),
            now.assignment_version.to_string(),
        );
        check("from", self.from.to_string(), now.from.to_string());
        check("to", self.to.to_string(), now.to.to_string());
        check("kind", self.kind.to_string(), now.kind.to_string());
        check("plan", self.plan.short(), now.plan.short());
        for (name, verdict) in &self.verdicts {
            let current = now.verdicts.get(name);
            let text = current.map_or("gone".to_owned(), ToString::to_string);
            check(name.as_str(), verdict.to_string(), text);
        }
        if now.loss_ceiling.exceeds(&self.loss_ceiling) {
            check("loss", self.loss_ceiling.to_string(), now.loss_ceiling.to_string());
        }
        found
    }
}

/// One person's approval.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Approval {
    /// When.
    pub at: Stamp,
    /// Why, where they said so.
    pub reason: Option<String>,
    /// Which certificate: its serial in hex, for the audit.
    pub certificate: Option<String>,
}

/// Where a promotion is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum State {
    /// For people.
    Waiting,
    /// Enough people; its steps run.
    Running,
    /// Over.
    Ended(Outcome),
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(as = PromotionOutcome))]
pub enum Outcome {
    /// The scope is where it should be.
    Done,
    /// Undone before the grant; the old holder resumes or the scope is vacant.
    RolledBack {
        /// Why.
        why: String,
    },
    /// After its grant another promotion took over.
    Superseded {
        /// Which.
        by: PromotionId,
    },
    /// A person said no.
    Denied {
        /// Who.
        by: OperatorId,
        /// Why.
        why: String,
    },
    /// Its requester or an approver withdrew it.
    Cancelled {
        /// Who.
        by: Actor,
    },
    /// Nobody agreed in time.
    Expired,
    /// What it was bound to changed.
    Void {
        /// What.
        differences: Vec<Difference>,
    },
}

impl Outcome {
    /// Every outcome's one word.
    pub const WORDS: [&str; 7] =
        ["done", "rolled_back", "superseded", "denied", "cancelled", "expired", "void"];

    /// The outcome's one word.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::RolledBack { .. } => "rolled_back",
            Self::Superseded { .. } => "superseded",
            Self::Denied { .. } => "denied",
            Self::Cancelled { .. } => "cancelled",
            Self::Expired => "expired",
            Self::Void { .. } => "void",
        }
    }
}

/// Where one step is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum StepState {
    /// Its turn has not come.
    Pending,
    /// Being done.
    Started,
    /// Done, with what it found.
    Done {
        /// A sentence for `history`.
        note: String,
    },
    /// There was nothing to do, and why: `no driver`.
    Skipped {
        /// Why.
        why: String,
    },
    /// Failed for good.
    Failed {
        /// Why.
        why: String,
    },
}

/// One step as it went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StepRecord {
    /// Which.
    pub step: Step,
    /// Which try this is; the first is 1.
    pub attempt: u32,
    /// Where it is.
    pub state: StepState,
    /// When it began.
    pub started: Option<Stamp>,
    /// When it ended.
    pub ended: Option<Stamp>,
}

/// What is measured about a promotion, kept with it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Measured {
    /// From the old holder's last visible write to the new one's first, by their journals.
    pub write_pause_ms: Option<u64>,
    /// From enough people to `Active`.
    pub move_ms: Option<u64>,
    /// Records that were lost, once settled: everybody who was not reached is back, and what they had to
    /// cut off is kept.
    pub lost_records: Option<u64>,
    /// Rows in them.
    pub lost_rows: Option<u64>,
}

/// A promotion as the machine keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Promotion {
    /// Its number.
    pub id: PromotionId,
    /// Kind.
    pub kind: Kind,
    /// The scope.
    pub scope: ScopeId,
    /// From.
    pub from: RegionName,
    /// To.
    pub to: RegionName,
    /// Who asked.
    pub requester: Actor,
    /// Why; `none given` when a script gave none.
    pub reason: Option<String>,
    /// When.
    pub opened: Stamp,
    /// It waits for people until LogTime or wall clock pass these, whichever is first.
    pub expires_log: LogTime,
    /// The wall-clock half.
    pub expires_wall: WallTime,
    /// What approvals bind.
    pub bound: BoundFacts,
    /// The plan.
    pub plan: Plan,
    /// Hash of the evidence (predicates with their values) at the request.
    pub evidence: Hash,
    /// Distinct people needed.
    pub people_needed: u32,
    /// Who stands behind it; a human requester is among them.
    pub approvals: BTreeMap<OperatorId, Approval>,
    /// Where it is.
    pub state: State,
    /// When enough people had agreed.
    pub agreed: Option<Stamp>,
    /// Its reserved token.
    pub token: Option<Token>,
    /// The session that shall hold it.
    pub candidate: Option<SessionKey>,
    /// Its steps.
    pub steps: Vec<StepRecord>,
    /// The barrier of a switchover, once sealed.
    pub barrier: Option<Position>,
    /// Where the new reign starts.
    pub start: Option<Position>,
    /// Sinks that were not reached.
    pub unsealed: Vec<RegionName>,
    /// What it may cost, as last computed.
    pub loss: Loss,
    /// Figures.
    pub measured: Measured,
    /// When it ended.
    pub ended: Option<Stamp>,
}

impl Promotion {
    /// How many more people it needs.
    pub fn people_missing(&self) -> u32 {
        if self.people_needed > 1 && crate::seeded_bug::is("one_person_too_few") {
            return 0;
        }
        self.people_needed.saturating_sub(u32::try_from(self.approvals.len()).unwrap_or(u32::MAX))
    }

    /// Whether it is still open.
    pub fn is_open(&self) -> bool {
        !matches!(self.state, State::Ended(_))
    }

    /// Whether a token has been reserved for it and the grant has not been made.
    pub fn is_past_reserve(&self) -> bool {
        self.is_open() && self.token.is_some()
    }

    /// Whether the grant was made: there is no way back but another promotion.
    pub fn is_past_grant(&self) -> bool {
        self.start.is_some()
    }

    /// Whether a person ended it before it ran.
    pub fn ended_by_a_person(&self) -> bool {
        matches!(&self.state, State::Ended(Outcome::Denied { .. } | Outcome::Cancelled { .. }))
    }

    /// The record of a step, if the plan has it.
    pub fn step(&self, step: Step) -> Option<&StepRecord> {
        self.steps.iter().find(|record| record.step == step)
    }

    /// The first step that is not over.
    pub fn current(&self) -> Option<&StepRecord> {
        self.steps
            .iter()
            .find(|record| matches!(record.state, StepState::Pending | StepState::Started))
    }

    /// Whether a step is being done.
    pub fn is_at(&self, step: Step) -> bool {
        self.state == State::Running
            && self.current().is_some_and(|r| r.step == step && r.state == StepState::Started)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_has_its_word_in_the_list() {
        let (by, why) = (OperatorId::from("ana"), String::new());
        let all = [
            Outcome::Done,
            Outcome::RolledBack { why: why.clone() },
            Outcome::Superseded { by: PromotionId(7) },
            Outcome::Denied { by: by.clone(), why },
            Outcome::Cancelled { by: Actor::Person(by) },
            Outcome::Expired,
            Outcome::Void { differences: Vec::new() },
        ];
        assert_eq!(all.each_ref().map(Outcome::as_str), Outcome::WORDS);
    }
}
