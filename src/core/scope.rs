//! Scopes: what a lease covers, and the phases it goes through.

use crate::name::Name;
use crate::position::Position;
use crate::promotion::PromotionId;
use crate::region::RegionName;
use crate::session::SessionKey;
use crate::time::{LogTime, Millis, Stamp, WallTime};
use crate::token::Token;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// A data tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Tier {
    /// Live feeds.
    Hot,
    /// Candles and factors.
    Warm,
    /// History files.
    Cold,
}

impl Tier {
    /// The word operators type.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hot => "hot",
            Self::Warm => "warm",
            Self::Cold => "cold",
        }
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Tier {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "hot" => Ok(Self::Hot),
            "warm" => Ok(Self::Warm),
            "cold" => Ok(Self::Cold),
            _ => Err(format!("no tier '{text}'; known: hot, warm, cold")),
        }
    }
}

/// What a lease covers: a tier and a group, `warm/global`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ScopeId {
    /// The tier.
    pub tier: Tier,
    /// The group inside it: `global`, a residency group such as `eu`, or for hot a region.
    pub group: Name,
}

impl ScopeId {
    /// Names a scope.
    pub fn new(tier: Tier, group: &str) -> Self {
        Self { tier, group: group.into() }
    }
}

impl fmt::Display for ScopeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}/{}", self.tier, self.group))
    }
}

impl FromStr for ScopeId {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("'{text}' is not a scope like warm/global");
        let (tier, group) = text.split_once('/').ok_or_else(wrong)?;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if group.is_empty() || group.len() > 64 || !group.chars().all(plain) {
            return Err(wrong());
        }
        Ok(Self { tier: tier.parse()?, group: group.into() })
    }
}

crate::record::text_serde!(ScopeId);

/// How much the controller may do by itself in a scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Mode {
    /// Says what it would do.
    Observe,
    /// Opens a request and waits for people.
    Approve,
    /// Acts.
    Auto,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Observe => "observe",
            Self::Approve => "approve",
            Self::Auto => "auto",
        })
    }
}

/// Where a scope is in its life (DESIGN §4). Closed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Phase {
    /// Nobody may write. Readers get replicas' data, marked as such.
    #[default]
    Vacant,
    /// The lease holder writes.
    Active,
    /// The holder has been asked to stop behind a barrier.
    Draining,
    /// A token is reserved; sinks are being sealed; nobody may write under the new token yet.
    Sealing,
    /// The holder has the lease and a check failed; it serves read-only.
    Degraded {
        /// The check.
        why: String,
    },
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Vacant => "vacant",
            Self::Active => "active",
            Self::Draining => "draining",
            Self::Sealing => "sealing",
            Self::Degraded { .. } => "degraded",
        })
    }
}

/// What a worker is for a scope.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(as = SinkRole))]
pub enum Role {
    /// Writes, under a live lease.
    Primary,
    /// Follows and is level or nearly so.
    Replica,
    /// Follows and has a way to go.
    #[default]
    CatchingUp,
    /// Was turned away: somebody else writes under a higher token.
    Fenced,
    /// A former holder on its way back.
    Rejoining,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Primary => "primary",
            Self::Replica => "replica",
            Self::CatchingUp => "catching_up",
            Self::Fenced => "fenced",
            Self::Rejoining => "rejoining",
        })
    }
}

/// What a primary does when its region loses the quorum (DESIGN §9).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum PartitionWrites {
    /// Stops at the lease deadline and serves degraded read-only.
    #[default]
    Stop,
    /// Goes on into a fork that no reader outside the region sees.
    Fork,
}

/// What configuration says about a scope.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ScopePolicy {
    /// The region assigned at first.
    pub primary: RegionName,
    /// The regions that keep a sink of it, the primary among them.
    pub members: Vec<RegionName>,
    /// How much the controller may do.
    pub mode: Mode,
    /// Distinct humans that a change of region needs.
    pub people: u32,
    /// What its primary does without a quorum.
    pub partition_writes: PartitionWrites,
    /// The region its data may not leave, if any.
    pub residency: Option<RegionName>,
}

impl ScopePolicy {
    /// Sinks that must answer a seal before anyone may write: two where there are three or more.
    pub fn sinks_needed(&self) -> usize {
        if crate::seeded_bug::is("one_seal_is_enough") {
            return 1;
        }
        if self.members.len() >= 3 { 2 } else { 1 }
    }
}

/// A lease: the right to write a scope, of one session, under one token.
///
/// It carries no expiry of its own: it ends with the session's last renewal, or with
/// `withheld_from` where a renewal did not extend it ([`crate::lease`]).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The session that holds it.
    pub holder: SessionKey,
    /// Its token.
    pub token: Token,
    /// When it was granted.
    pub granted_at: LogTime,
    /// The last renewal that extended it, once a later one did not.
    pub withheld_from: Option<LogTime>,
    /// The withheld renewal's reason.
    pub withheld_why: Option<Withheld>,
}

/// Why a renewal did not extend a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Withheld {
    /// A token above its own is reserved.
    Reserved,
    /// The holder's watermark stood still for three renewals.
    NoProgress,
    /// It had run out before the renewal arrived.
    Expired,
}

/// One reign in a scope's history: who wrote under which token, from where on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Reign {
    /// The token.
    pub token: Token,
    /// The region.
    pub region: RegionName,
    /// The position its first record follows. What an earlier token holds beyond it is a fork.
    pub start: Position,
    /// When it was granted.
    pub at: Stamp,
    /// The promotion that moved it here; none for a first grant or a regrant.
    pub promotion: Option<PromotionId>,
}

/// A reserved token on its way to a grant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reservation {
    /// The token, burnt if the grant does not come.
    pub token: Token,
    /// Who shall hold it.
    pub candidate: SessionKey,
    /// The candidate's region.
    pub region: RegionName,
    /// The promotion it belongs to; none for a first grant or a regrant.
    pub promotion: Option<PromotionId>,
    /// When it was reserved.
    pub at: LogTime,
    /// Sinks that refuse below the token, with the end position each answered.
    pub sealed: BTreeMap<RegionName, Position>,
    /// Sinks that must answer before the grant.
    pub required: Vec<RegionName>,
    /// Sinks that could not be reached; sealed on first contact, before anything else.
    pub unsealed: Vec<RegionName>,
}

impl Reservation {
    /// Whether every required sink has answered.
    pub fn is_sealed(&self) -> bool {
        self.required.iter().all(|region| self.sealed.contains_key(region))
    }

    /// The highest end position a sealed sink answered: what the candidate must have.
    pub fn tail(&self) -> Position {
        if crate::seeded_bug::is("start_is_lowest") {
            return self.sealed.values().copied().min().unwrap_or_default();
        }
        self.sealed.values().copied().max().unwrap_or_default()
    }
}

/// Maintenance: the controller keeps its hands off until this ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Pause {
    /// Who asked.
    pub owner: String,
    /// Why.
    pub reason: String,
    /// When it began.
    pub at: Stamp,
    /// It protects until both clocks have passed these.
    pub until_log: LogTime,
    /// The wall-clock half of its end.
    pub until_wall: WallTime,
}

impl Pause {
    /// A protection ends when both clocks have passed (DESIGN §5).
    pub fn is_over(&self, now: Stamp) -> bool {
        now.log >= self.until_log && now.wall >= self.until_wall
    }
}

/// The longest pause that may be asked for.
pub const PAUSE_MAX: Millis = Millis::mins(24 * 60);

/// A scope as the machine keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scope {
    /// Its name.
    pub id: ScopeId,
    /// What configuration says.
    pub policy: ScopePolicy,
    /// How much the controller may do now.
    pub mode: Mode,
    /// Where it is in its life.
    pub phase: Phase,
    /// Since when it has been in that phase.
    pub phase_since: LogTime,
    /// The region that may be granted without people.
    pub assigned: RegionName,
    /// Raised by each change of `assigned`; approvals bind to it.
    pub assignment_version: u64,
    /// The lease, if one was granted and not given back.
    pub lease: Option<Lease>,
    /// The highest token ever reserved.
    pub highest: Token,
    /// The reigns, oldest first; the last [`HISTORY_MAX`].
    pub history: Vec<Reign>,
    /// A token on its way to a grant.
    pub reservation: Option<Reservation>,
    /// The promotion that is moving it, once past its people.
    pub moving: Option<PromotionId>,
    /// Maintenance.
    pub pause: Option<Pause>,
    /// When the last regrants were made, oldest first.
    pub regrants: Vec<LogTime>,
    /// Kept for this worker's return until then (a worker asks for it at SIGTERM).
    pub kept_until: Option<LogTime>,
    /// The last known end of the last holder's chain, from a committed report.
    pub last_known: Option<KnownEnd>,
    /// Log index that last changed what workers should be for it: the `rev` of its directives.
    pub rev: u64,
}

/// Reigns kept in the record; older ones stand in the audit.
pub const HISTORY_MAX: usize = 256;

/// What the last holder was known to have, the measure of `behind`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownEnd {
    /// Its region.
    pub region: RegionName,
    /// Its token then.
    pub token: Token,
    /// The end of its chain.
    pub end: Position,
    /// Rows in the chain up to there.
    pub rows: u64,
    /// Seal time of its last record, by its wall clock.
    pub sealed_at: WallTime,
    /// When the report was committed.
    pub at: LogTime,
}

impl Scope {
    /// A scope as configured, before anyone held it.
    pub fn new(id: ScopeId, policy: ScopePolicy, now: LogTime, index: u64) -> Self {
        Self {
            id,
            mode: policy.mode,
            phase: Phase::Vacant,
            phase_since: now,
            assigned: policy.primary.clone(),
            assignment_version: 1,
            lease: None,
            highest: Token::NONE,
            history: Vec::new(),
            reservation: None,
            moving: None,
            pause: None,
            regrants: Vec::new(),
            kept_until: None,
            last_known: None,
            rev: index,
            policy,
        }
    }

    /// Whether a token above the lease's is out: the lease will not be extended any more.
    pub fn lease_is_doomed(&self) -> bool {
        self.lease.as_ref().is_some_and(|lease| lease.token < self.highest)
    }

    /// The reign that is on, or was last.
    pub fn reign(&self) -> Option<&Reign> {
        self.history.last()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scope_names_read_back_and_odd_ones_are_refused() {
        assert_eq!("warm/global".parse::<ScopeId>().unwrap().to_string(), "warm/global");
        for odd in ["warm", "warm/", "tepid/global", "warm/a b", "warm/a/b"] {
            assert!(odd.parse::<ScopeId>().is_err(), "{odd}");
        }
    }
}
