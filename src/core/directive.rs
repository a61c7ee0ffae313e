//! Directives: what a worker should be for each scope. Desired state, derived from the machine alone.
//!
//! A directive says where to go, never what happened; missing one costs nothing, the next repeats it.
//! `rev` is the log index that last changed the scope: an older one is ignored. Restrictive wants act
//! at once; `Primary` only triggers a renewal, since authority comes from that answer alone.

use crate::position::Position;
use crate::promotion::PromotionId;
use crate::region::RegionName;
use crate::scope::{Reign, ScopeId};
use crate::session::WorkerAddresses;
use crate::time::Millis;
use crate::token::Token;
use serde::{Deserialize, Serialize};

/// What a worker should be for one scope.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Directive {
    /// The scope.
    pub scope: ScopeId,
    /// Log index that set it.
    pub rev: u64,
    /// What to be.
    pub want: Want,
    /// The scope's last reigns, oldest first, at most [`REIGNS_SENT`]: where each token's range ends.
    pub reigns: Vec<Reign>,
    /// Where the scope's other sinks can be reached.
    pub peers: Vec<DirectivePeer>,
}

/// Reigns sent along; a worker that needs older ones asks for the scope.
pub const REIGNS_SENT: usize = 16;

/// Another sink of the scope.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectivePeer {
    /// Its region.
    pub region: RegionName,
    /// Its worker's id, as in its certificate.
    pub worker: String,
    /// Where.
    pub addresses: WorkerAddresses,
}

/// The states a worker can be sent to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Want {
    /// Nothing to do with this scope.
    Idle,
    /// Renew now; if the answer lists the lease, write under this token.
    Primary {
        /// The token.
        token: Token,
        /// The position its first record follows.
        start: Position,
    },
    /// Follow.
    Replica {
        /// The primary's region; none while there is no primary.
        upstream: Option<RegionName>,
        /// The token in force, granted.
        token: Token,
    },
    /// Stop admission, seal a barrier as the token's last record, report it.
    Drain {
        /// For which promotion.
        promotion: PromotionId,
        /// The holder's token.
        token: Token,
        /// Resume, by the holder's own clock, when nothing further came in this time.
        deadline: Millis,
    },
    /// The barrier is where it must be: propose the hand-over and never act under the token again.
    HandOver {
        /// For which promotion.
        promotion: PromotionId,
        /// The holder's token.
        token: Token,
        /// The barrier.
        end: Position,
    },
    /// Refuse below this token and report the last position.
    Seal {
        /// The reserved token.
        token: Token,
    },
    /// Fetch up to `to` from any of `from`; records are written as adopted.
    FetchTail {
        /// The reserved token, under which they are written.
        token: Token,
        /// Up to here.
        to: Position,
        /// Regions whose sealed sink has it.
        from: Vec<RegionName>,
    },
}

impl Want {
    /// Whether it takes something away and so acts at once.
    pub fn is_restrictive(&self) -> bool {
        !matches!(self, Self::Primary { .. })
    }
}
