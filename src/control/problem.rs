//! How the API says no: one error for every way a request can end badly, shown as RFC 9457.
//!
//! `type` is stable and ends in a word a program may branch on; the status groups them:
//! 4xx is answered and stays so, 503 did nothing and may be tried again, 504 may have happened.

use crate::log::{ProposeError, ReadError};
use cryptorun_core::people::{Actor, Role};
use cryptorun_core::refusal::Refusal;
use cryptorun_core::wire::Problem;

/// Stands before each problem's word.
pub const PROBLEM_BASE: &str = "https://cryptorun.dev/problems/";

/// Why a request did not end well.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// The machine said no.
    #[error("{0}")]
    Refused(Refusal),
    /// The caller lacks a role; the machine was not asked.
    #[error("{}", lacking(who, *role))]
    NotAllowed {
        /// Who.
        who: String,
        /// Which.
        role: Role,
    },
    /// The caller may not.
    #[error("{why}")]
    Forbidden {
        /// Who lacks what.
        why: String,
    },
    /// The request makes no sense.
    #[error("{why}")]
    Bad {
        /// What is wrong with it.
        why: String,
    },
    /// There is no such thing.
    #[error("{what}")]
    NotFound {
        /// What was asked for.
        what: String,
    },
    /// The thing is in another state.
    #[error("{why}")]
    Conflict {
        /// How it stands.
        why: String,
    },
    /// Only the leader answers this, and it is elsewhere.
    #[error("node {node} leads; ask it")]
    Elsewhere {
        /// Which node.
        node: u64,
        /// Its API, `host:port`, if known here.
        api: Option<String>,
    },
    /// The data is at another process.
    #[error("{at} has it; ask there")]
    Moved {
        /// Its API, `host:port`.
        at: String,
        /// Path and query there.
        path: String,
    },
    /// Nobody leads; nothing happened.
    #[error("no leader is known to this node; nothing was changed")]
    NoLeader,
    /// The leader's disk is full; nothing happened.
    #[error("{why}; nothing was changed")]
    NoSpace {
        /// Which, and how full.
        why: String,
    },
    /// Too much is in flight; nothing happened.
    #[error("too many requests are waiting; nothing was changed")]
    Overloaded,
    /// This identity asks too often; nothing happened.
    #[error("more than {per_second} requests a second; nothing was changed")]
    TooMany {
        /// The bound.
        per_second: u32,
    },
    /// The body is larger than any request needs.
    #[error("the body is larger than {max} bytes")]
    TooLarge {
        /// The bound.
        max: usize,
    },
    /// It may have happened.
    #[error("the outcome is unknown: the command was sent and no answer came")]
    OutcomeUnknown,
    /// A quorum did not confirm a read, or an index did not arrive in time.
    #[error("{why}")]
    NotReady {
        /// What was waited for.
        why: String,
    },
    /// This node is going down.
    #[error("this node is stopping; nothing was changed")]
    Stopping,
    /// A fault of ours.
    #[error("{why}")]
    Internal {
        /// What happened.
        why: String,
    },
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<ProposeError> for ApiError {
    fn from(error: ProposeError) -> Self {
        match error {
            ProposeError::NotLeader { leader } => Self::Elsewhere { node: leader, api: None },
            ProposeError::NoLeader => Self::NoLeader,
            ProposeError::NoSpace { why } => Self::NoSpace { why },
            ProposeError::Overloaded => Self::Overloaded,
            ProposeError::TooLarge { why } => Self::Bad { why },
            ProposeError::OutcomeUnknown => Self::OutcomeUnknown,
            ProposeError::Stopped => Self::Stopping,
        }
    }
}

impl From<ReadError> for ApiError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::NoQuorum => Self::NotReady { why: error.to_string() },
            ReadError::Stopped => Self::Stopping,
        }
    }
}

impl ApiError {
    /// The caller's certificate is not enough.
    pub fn forbidden(why: impl Into<String>) -> Self {
        Self::Forbidden { why: why.into() }
    }

    /// The caller lacks a role.
    pub fn not_allowed(actor: &Actor, role: Role) -> Self {
        Self::NotAllowed { who: actor.to_string(), role }
    }

    /// This node has nothing to judge by: not founded yet, or its disk is new. Others may.
    pub fn knows_of_none() -> Self {
        let why = "this node knows of no cluster: it is not founded, or has not joined yet";
        Self::NotReady { why: why.to_owned() }
    }

    /// The request makes no sense.
    pub fn bad(why: impl Into<String>) -> Self {
        Self::Bad { why: why.into() }
    }

    /// There is no such thing.
    pub fn not_found(what: impl Into<String>) -> Self {
        Self::NotFound { what: what.into() }
    }

    /// The word that ends `type`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Refused(refusal) => refusal.kind(),
            Self::NotAllowed { who, role } => lacking(who, *role).kind(),
            Self::Forbidden { .. } => "forbidden",
            Self::Bad { .. } => "bad_request",
            Self::NotFound { .. } => "not_found",
            Self::Conflict { .. } => "conflict",
            Self::Elsewhere { .. } => "not_leader",
            Self::Moved { .. } => "moved",
            Self::NoLeader => "no_leader",
            Self::NoSpace { .. } => "no_space",
            Self::Overloaded => "overloaded",
            Self::TooMany { .. } => "too_many_requests",
            Self::TooLarge { .. } => "too_large",
            Self::OutcomeUnknown => "outcome_unknown",
            Self::NotReady { .. } => "not_ready",
            Self::Stopping => "stopping",
            Self::Internal { .. } => "internal",
        }
    }

    /// The HTTP status.
    pub fn status(&self) -> u16 {
        match self {
            Self::Refused(refusal) => refusal_status(refusal),
            Self::NotAllowed { .. } | Self::Forbidden { .. } => 403,
            Self::Bad { .. } => 400,
            Self::NotFound { .. } => 404,
            Self::Conflict { .. } => 409,
            Self::Elsewhere { .. } | Self::Moved { .. } => 307,
            Self::NoLeader
            | Self::NoSpace { .. }
            | Self::Overloaded
            | Self::NotReady { .. }
            | Self::Stopping => 503,
            Self::TooMany { .. } => 429,
            Self::TooLarge { .. } => 413,
            Self::OutcomeUnknown => 504,
            Self::Internal { .. } => 500,
        }
    }

    /// Whether the same may succeed later: nothing was done, or that is not known.
    pub fn may_pass(&self) -> bool {
        matches!(self.status(), 307 | 503 | 504)
    }

    /// What to do about it, where that is not in the message.
    fn hint(&self) -> Option<String> {
        let text = match self {
            Self::NoLeader => "try again, or ask ?consistency=stale what this node knows",
            Self::Overloaded | Self::TooMany { .. } => "wait a second and try again",
            Self::OutcomeUnknown => "ask GET /v1/requests/{key} before trying again",
            Self::NoSpace { .. } => "free some there, or try again: it hands its leadership over",
            Self::Elsewhere { .. } => "follow the Location header to the leader",
            Self::Stopping => "ask another node",
            Self::Refused(Refusal::Void { .. }) => {
                "look at what changed, then approve the request that replaces it"
            }
            Self::Refused(Refusal::Predicates { .. }) => {
                "see which predicate says no: cryptorun replication explain"
            }
            Self::Refused(_)
            | Self::NotAllowed { .. }
            | Self::Forbidden { .. }
            | Self::Bad { .. }
            | Self::NotFound { .. }
            | Self::Conflict { .. }
            | Self::Moved { .. }
            | Self::TooLarge { .. }
            | Self::NotReady { .. }
            | Self::Internal { .. } => return None,
        };
        Some(text.to_owned())
    }

    /// As RFC 9457 shows it.
    pub fn problem(&self) -> Problem {
        let kind = self.kind();
        let mut title = kind.replace('_', " ");
        title[..1].make_ascii_uppercase();
        let (predicates, differences) = match self {
            Self::Refused(Refusal::Void { differences, .. }) => (vec![], differences.clone()),
            Self::Refused(refusal) => (refusal.predicates().to_vec(), vec![]),
            _ => (vec![], vec![]),
        };
        let leader = match self {
            Self::Elsewhere { api, .. } => api.clone(),
            _ => None,
        };
        Problem {
            kind: format!("{PROBLEM_BASE}{kind}"),
            title,
            status: self.status(),
            detail: self.to_string(),
            hint: self.hint(),
            predicates,
            differences,
            leader,
        }
    }
}

/// As the machine says it.
fn lacking(who: &str, role: Role) -> Refusal {
    Refusal::NotAllowed { who: who.to_owned(), role }
}

fn refusal_status(refusal: &Refusal) -> u16 {
    match refusal {
        Refusal::NotAllowed { .. } => 403,
        Refusal::NoSession { .. }
        | Refusal::NoScope { .. }
        | Refusal::NoPromotion { .. }
        | Refusal::NoRule { .. } => 404,
        Refusal::Invalid { .. } | Refusal::ReasonMissing { .. } => 400,
        Refusal::KeyReused { .. } => 422,
        Refusal::NotFounded
        | Refusal::AlreadyFounded { .. }
        | Refusal::Barred { .. }
        | Refusal::Expired { .. }
        | Refusal::WrongSequence { .. }
        | Refusal::NotAMember { .. }
        | Refusal::Residency { .. }
        | Refusal::NotTheHolder { .. }
        | Refusal::AlreadyThere { .. }
        | Refusal::LeaseHeld { .. }
        | Refusal::WrongToken { .. }
        | Refusal::Moving { .. }
        | Refusal::WrongPhase { .. }
        | Refusal::AlreadyAsked { .. }
        | Refusal::NotSealed { .. }
        | Refusal::TailMissing { .. }
        | Refusal::NoCandidate { .. }
        | Refusal::RegrantLimit { .. }
        | Refusal::Predicates { .. }
        | Refusal::Ended { .. }
        | Refusal::TooLate { .. }
        | Refusal::Void { .. }
        | Refusal::PlanChanged { .. }
        | Refusal::SamePerson { .. }
        | Refusal::Paused { .. }
        | Refusal::Budget { .. }
        | Refusal::NotAtStep { .. }
        | Refusal::Version { .. }
        | Refusal::RuleEnded { .. }
        | Refusal::SamePersonRule { .. }
        | Refusal::RuleWaits { .. }
        | Refusal::Restoring { .. }
        | Refusal::Quiet { .. }
        | Refusal::NotFurthest { .. } => 409,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cryptorun_core::promotion::{Difference, PromotionId};

    #[test]
    fn a_void_approval_shows_the_difference_field_by_field() {
        let difference =
            Difference { field: "plan".into(), bound: "4c1e".into(), now: "77aa".into() };
        let error = ApiError::Refused(Refusal::Void {
            promotion: PromotionId(3),
            differences: vec![difference.clone()],
        });
        let problem = error.problem();
        assert_eq!((problem.status, problem.differences), (409, vec![difference]));
        assert_eq!(problem.kind, "https://cryptorun.dev/problems/void");
        assert_eq!(problem.title, "Void");
    }

    #[test]
    fn what_did_nothing_and_what_may_have_happened_differ_in_status() {
        assert_eq!(ApiError::from(ProposeError::NoLeader).status(), 503);
        assert_eq!(ApiError::from(ProposeError::OutcomeUnknown).status(), 504);
        assert_eq!(ApiError::Refused(Refusal::KeyReused { key: "k".into() }).status(), 422);
    }
}
