//! Directives: what a worker should be for each scope. Desired state, derived from the machine alone.
//!
//! A directive says where to go, never what happened; missing one costs nothing, the next repeats it.
//! `rev` is the log index that last changed the scope: an older one is ignored. Restrictive wants act
//! at once; `Primary` only triggers a renewal, since authority comes from that answer alone.

use crate::machine::Machine;
use crate::plan::Step;
use crate::position::Position;
use crate::promotion::PromotionId;
use crate::region::RegionName;
use crate::scope::{Phase, Reign, Reservation, Scope, ScopeId};
use crate::session::{Session, SessionKey, WorkerAddresses};
use crate::time::Millis;
use crate::token::Token;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a worker should be for one scope.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
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

impl Directive {
    /// Whether it says what another does, under whatever number.
    pub fn says_what(&self, other: &Self) -> bool {
        let Self { scope, rev: _, want, reigns, peers } = self;
        (scope, want, reigns, peers) == (&other.scope, &other.want, &other.reigns, &other.peers)
    }
}

/// Reigns sent along; a worker that needs older ones asks for the scope.
pub const REIGNS_SENT: usize = 16;

/// Another sink of the scope.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
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
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
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
    /// The barrier is where it must be: seal the own sink, propose the hand-over and never act under
    /// the token again. Whether the others are sealed yet does not matter to it.
    HandOver(HandOver),
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

/// See [`Want::HandOver`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct HandOver {
    /// For which promotion.
    pub promotion: PromotionId,
    /// The holder's token.
    pub token: Token,
    /// The barrier.
    pub end: Position,
    /// The reserved token: the own sink is to refuse below it, whatever it ends with.
    #[serde(default)]
    pub seal: Option<Token>,
}

impl Want {
    /// Whether it takes something away and so acts at once.
    pub fn is_restrictive(&self) -> bool {
        !matches!(self, Self::Primary { .. })
    }
}

/// What one session should be for each scope that its region keeps.
pub fn for_session(machine: &Machine, key: &SessionKey) -> Vec<Directive> {
    let Some(session) = machine.live_session(key) else { return Vec::new() };
    let newest = machine.keeper_of_each();
    machine
        .scopes()
        .values()
        .filter(|scope| scope.policy.members.contains(&session.region))
        .map(|scope| {
            let reigns = scope.history.len().saturating_sub(REIGNS_SENT);
            Directive {
                scope: scope.id.clone(),
                rev: scope.rev,
                want: want(machine, scope, session, &newest),
                reigns: scope.history[reigns..].to_vec(),
                peers: peers(scope, session, &newest),
            }
        })
        .collect()
}

/// The session that keeps a region's sinks, by region: the one opened last, and the last of equals,
/// as [`Machine::sink_of`] has it: who is to seal must be who was reserved for.
type Newest<'m> = BTreeMap<&'m RegionName, &'m Session>;

/// The other regions' sinks, live sessions only.
fn peers(scope: &Scope, own: &Session, newest: &Newest) -> Vec<DirectivePeer> {
    let others = scope.policy.members.iter().filter(|region| **region != own.region);
    others
        .filter_map(|region| newest.get(region))
        .map(|session| DirectivePeer {
            region: session.region.clone(),
            worker: session.key.worker.to_string(),
            addresses: session.addresses.clone(),
        })
        .collect()
}

fn want(machine: &Machine, scope: &Scope, session: &Session, newest: &Newest) -> Want {
    let lease = machine.live_lease(&scope.id);
    let own = lease.filter(|lease| lease.holder == session.key);
    let serves_region = newest.get(&session.region).is_some_and(|n| n.key == session.key);
    if own.is_none() && !serves_region {
        return Want::Idle; // Another session of the region keeps the sink.
    }
    if let Some(lease) = own {
        return as_holder(machine, scope, lease.token);
    }
    match &scope.reservation {
        Some(reservation) => as_sink(machine, session, reservation),
        None => follow(machine, scope),
    }
}

/// The holder writes, drains, hands over, or, once a token above its own is out, lets go.
fn as_holder(machine: &Machine, scope: &Scope, token: Token) -> Want {
    let moving = scope.moving.and_then(|id| machine.promotions().get(&id));
    if let Some(promotion) = moving.filter(|p| p.plan.steps.contains(&Step::Drain)) {
        if let (Some(end), Some(reservation)) = (promotion.barrier, &scope.reservation) {
            let seal = Some(reservation.token);
            return Want::HandOver(HandOver { promotion: promotion.id, token, end, seal });
        }
        let run_out = machine.timing().map(|timing| timing.run_out()).unwrap_or_default();
        return Want::Drain {
            promotion: promotion.id,
            token,
            deadline: Step::Drain.deadline(run_out),
        };
    }
    if scope.lease_is_doomed() {
        return follow(machine, scope);
    }
    let start = scope.reign().map(|reign| reign.start).unwrap_or_default();
    Want::Primary { token, start }
}

/// A sink while a token is reserved: sealed first, then, for the candidate, the tail.
fn as_sink(machine: &Machine, session: &Session, reservation: &Reservation) -> Want {
    let fetching = reservation.candidate == session.key
        && reservation
            .promotion
            .and_then(|id| machine.promotions().get(&id))
            .is_some_and(|p| p.is_at(Step::FetchTail));
    if !fetching {
        return Want::Seal { token: reservation.token };
    }
    let to = reservation.tail();
    let from = reservation
        .sealed
        .iter()
        .filter(|(region, end)| **end == to && **region != session.region)
        .map(|(region, _)| region.clone())
        .collect();
    Want::FetchTail { token: reservation.token, to, from }
}

fn follow(machine: &Machine, scope: &Scope) -> Want {
    let held = machine.live_lease(&scope.id).is_some() && scope.phase != Phase::Vacant;
    Want::Replica {
        upstream: held.then(|| scope.assigned.clone()),
        token: scope.reign().map(|reign| reign.token).unwrap_or_default(),
    }
}
