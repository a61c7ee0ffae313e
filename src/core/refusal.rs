//! How no is said: an answer with its reason, computed alike on every node.

use crate::decide::Predicate;
use crate::people::{OperatorId, Role};
use crate::promotion::{Difference, Kind, PromotionId};
use crate::region::RegionName;
use crate::rules::RuleId;
use crate::scope::ScopeId;
use crate::time::{LogTime, WallTime};
use crate::token::Token;
use serde::{Deserialize, Serialize};

/// Why a command changed nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Refusal {
    /// Nothing was founded yet.
    #[error("the cluster has not been founded; run: cryptorun cluster init")]
    NotFounded,
    /// It was founded before.
    #[error("the cluster was founded before, as {id}")]
    AlreadyFounded {
        /// Its id.
        id: crate::config::ClusterId,
    },
    /// No such session, or its leases ran out and it was forgotten.
    #[error("no session {session}; open a new one")]
    NoSession {
        /// The session.
        session: String,
    },
    /// A newer boot of the same worker has opened a session.
    #[error("session {session} is barred: a newer start of the same worker has a session")]
    Barred {
        /// The session.
        session: String,
    },
    /// The session ran out before this renewal.
    #[error("session {session} ran out; open a new one")]
    Expired {
        /// The session.
        session: String,
    },
    /// The renewal is not the next one.
    #[error("renewal {got} is not the next one, {want}")]
    WrongSequence {
        /// As sent.
        got: u64,
        /// As expected.
        want: u64,
    },
    /// No such scope.
    #[error("no scope {scope}; known: {known}")]
    NoScope {
        /// As asked.
        scope: ScopeId,
        /// What there is.
        known: String,
    },
    /// No such region in the scope.
    #[error("{region} keeps no copy of {scope}; its regions: {members}")]
    NotAMember {
        /// As asked.
        region: RegionName,
        /// The scope.
        scope: ScopeId,
        /// Its regions.
        members: String,
    },
    /// Data of this scope may not leave a region.
    #[error("{scope} cannot move to {to}: its data stays in {home}")]
    Residency {
        /// The scope.
        scope: ScopeId,
        /// As asked.
        to: RegionName,
        /// Where it stays.
        home: RegionName,
    },
    /// Somebody else holds it.
    #[error("{from} does not hold {scope}; {holder} does, since epoch {epoch}{detail}")]
    NotTheHolder {
        /// Who was named.
        from: RegionName,
        /// The scope.
        scope: ScopeId,
        /// Who does.
        holder: RegionName,
        /// Since which epoch.
        epoch: u64,
        /// ` (14:02:31Z, P-2)`.
        detail: String,
    },
    /// It is there already.
    #[error("{to} holds {scope} already")]
    AlreadyThere {
        /// The region.
        to: RegionName,
        /// The scope.
        scope: ScopeId,
    },
    /// Its lease has not run out.
    #[error("{scope} is held by {holder} until {until}")]
    LeaseHeld {
        /// The scope.
        scope: ScopeId,
        /// The session.
        holder: String,
        /// The LogTime at which it will have run out, unless renewed.
        until: LogTime,
    },
    /// The token shown is not the one that counts.
    #[error("token {shown} does not count for {scope}; the current one is {current}")]
    WrongToken {
        /// The scope.
        scope: ScopeId,
        /// As shown.
        shown: Token,
        /// What counts.
        current: Token,
    },
    /// Another promotion is past its point of reservation.
    #[error("{promotion} is moving {scope}")]
    Moving {
        /// The scope.
        scope: ScopeId,
        /// Which.
        promotion: PromotionId,
    },
    /// The scope is not in a phase that allows this.
    #[error("{scope} is {phase}; this needs {needs}")]
    WrongPhase {
        /// The scope.
        scope: ScopeId,
        /// The phase it is in.
        phase: String,
        /// What is needed.
        needs: String,
    },
    /// A request of the same kind waits already.
    #[error("{promotion} asks for the same already")]
    AlreadyAsked {
        /// Which.
        promotion: PromotionId,
    },
    /// Sinks that must answer have not.
    #[error("{scope}: sinks not sealed yet: {missing}")]
    NotSealed {
        /// The scope.
        scope: ScopeId,
        /// Their regions.
        missing: String,
    },
    /// The candidate lacks what a sealed sink holds.
    #[error("the candidate stands at {has} and must have {needs} first")]
    TailMissing {
        /// The candidate's end.
        has: u64,
        /// The sealed end.
        needs: u64,
    },
    /// No live session of a worker in the region.
    #[error("no worker with a live session in {region} for {scope}")]
    NoCandidate {
        /// The region.
        region: RegionName,
        /// The scope.
        scope: ScopeId,
    },
    /// Regrants without people are used up.
    #[error("{scope} was regranted {count} times within the window; it takes a person now")]
    RegrantLimit {
        /// The scope.
        scope: ScopeId,
        /// How often.
        count: u32,
    },
    /// A hard predicate says no.
    #[error("{kind} of {scope} to {to} is refused: {}", first_no(.predicates))]
    Predicates {
        /// Kind.
        kind: Kind,
        /// The scope.
        scope: ScopeId,
        /// Target.
        to: RegionName,
        /// All of them.
        predicates: Vec<Predicate>,
    },
    /// No such promotion.
    #[error("no promotion {promotion}")]
    NoPromotion {
        /// As asked.
        promotion: PromotionId,
    },
    /// It is over.
    #[error("{promotion} is over: {outcome}")]
    Ended {
        /// Which.
        promotion: PromotionId,
        /// How it ended.
        outcome: String,
    },
    /// It is past the point where this could help.
    #[error("{promotion} is past {step}; {hint}")]
    TooLate {
        /// Which.
        promotion: PromotionId,
        /// The step it has passed.
        step: String,
        /// What to do instead.
        hint: String,
    },
    /// What was approved is not what is.
    #[error("{promotion} is void: {}", changed(.differences))]
    Void {
        /// Which.
        promotion: PromotionId,
        /// Field by field.
        differences: Vec<Difference>,
    },
    /// The plan named is not the plan now.
    #[error("plan {named} is not the plan now, {current}; look at it with a dry run")]
    PlanChanged {
        /// As named.
        named: String,
        /// As it is.
        current: String,
    },
    /// The same person twice.
    #[error("{operator} stands behind {promotion} already; it needs another person")]
    SamePerson {
        /// Who.
        operator: OperatorId,
        /// Which.
        promotion: PromotionId,
    },
    /// The person's roles do not cover it.
    #[error("{who} is not {role} for this; ask an admin for the role")]
    NotAllowed {
        /// Who.
        who: String,
        /// What it takes.
        role: Role,
    },
    /// A reason is needed.
    #[error("{what} needs a reason: --reason \"…\"")]
    ReasonMissing {
        /// What.
        what: String,
    },
    /// The scope is paused.
    #[error("{scope} is paused by {owner} until {until}: {reason}")]
    Paused {
        /// The scope.
        scope: ScopeId,
        /// Who.
        owner: String,
        /// Why.
        reason: String,
        /// Until.
        until: WallTime,
    },
    /// The controller's own budget is used up.
    #[error(
        "the controller has acted {acted} times today in {scope}; it leaves the next to people"
    )]
    Budget {
        /// The scope.
        scope: ScopeId,
        /// How often.
        acted: u32,
    },
    /// The step is not the one at hand: somebody else drove it.
    #[error("{promotion} is not at {step}")]
    NotAtStep {
        /// Which.
        promotion: PromotionId,
        /// The step.
        step: String,
    },
    /// The idempotency key was used for something else.
    #[error("idempotency key {key} was used for another request")]
    KeyReused {
        /// The key.
        key: String,
    },
    /// The cluster's version does not have this command yet.
    #[error("needs cluster version {needs}; it is {has}: finish the upgrade")]
    Version {
        /// Needed.
        needs: u32,
        /// Now.
        has: u32,
    },
    /// No such rule change.
    #[error("no rule change {rule}")]
    NoRule {
        /// As asked.
        rule: RuleId,
    },
    /// It is over.
    #[error("{rule} is over: {outcome}")]
    RuleEnded {
        /// Which.
        rule: RuleId,
        /// How it ended.
        outcome: String,
    },
    /// The same person twice.
    #[error("{operator} stands behind {rule} already; it needs another person")]
    SamePersonRule {
        /// Who.
        operator: OperatorId,
        /// Which.
        rule: RuleId,
    },
    /// Another change of the same kind waits.
    #[error("{rule} asks for a change of that kind already")]
    RuleWaits {
        /// Which.
        rule: RuleId,
    },
    /// This cluster was restored, and people have not agreed to it.
    #[error(
        "this cluster was restored and grants nothing before {missing} more people agree: cryptorun replication approve {rule}"
    )]
    Restoring {
        /// What waits for them.
        rule: RuleId,
        /// How many are missing.
        missing: u32,
    },
    /// This cluster was restored; leases of the one before it may not have run out.
    #[error("leases of the cluster that this one was restored from may live until {until}")]
    Quiet {
        /// The LogTime when they have run out.
        until: LogTime,
    },
    /// After a restore another region has more than the one that is assigned.
    #[error(
        "{scope}: {region} has {records} records that {candidate} lacks; ask for a failover to {region}"
    )]
    NotFurthest {
        /// The scope.
        scope: ScopeId,
        /// Who would be granted.
        candidate: RegionName,
        /// Who has more.
        region: RegionName,
        /// How much more.
        records: u64,
    },
    /// A value out of its bounds.
    #[error("{what}: {why}")]
    Invalid {
        /// Which value.
        what: String,
        /// What is wrong with it, and what would be right.
        why: String,
    },
}

fn first_no(predicates: &[Predicate]) -> String {
    let mut failing: Vec<String> =
        predicates.iter().filter(|p| p.blocks()).map(ToString::to_string).collect();
    failing.truncate(3);
    failing.join("; ")
}

fn changed(differences: &[Difference]) -> String {
    let lines: Vec<String> =
        differences.iter().map(|d| format!("{} was {}, is {}", d.field, d.bound, d.now)).collect();
    lines.join("; ")
}

impl Refusal {
    /// A stable word for problem documents, counters and the audit.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::NotFounded => "not_founded",
            Self::AlreadyFounded { .. } => "already_founded",
            Self::NoSession { .. } => "no_session",
            Self::Barred { .. } => "barred",
            Self::Expired { .. } => "expired",
            Self::WrongSequence { .. } => "wrong_sequence",
            Self::NoScope { .. } => "no_scope",
            Self::NotAMember { .. } => "not_a_member",
            Self::Residency { .. } => "residency",
            Self::NotTheHolder { .. } => "not_the_holder",
            Self::AlreadyThere { .. } => "already_there",
            Self::LeaseHeld { .. } => "lease_held",
            Self::WrongToken { .. } => "wrong_token",
            Self::Moving { .. } => "moving",
            Self::WrongPhase { .. } => "wrong_phase",
            Self::AlreadyAsked { .. } => "already_asked",
            Self::NotSealed { .. } => "not_sealed",
            Self::TailMissing { .. } => "tail_missing",
            Self::NoCandidate { .. } => "no_candidate",
            Self::RegrantLimit { .. } => "regrant_limit",
            Self::Predicates { .. } => "predicates",
            Self::NoPromotion { .. } => "no_promotion",
            Self::Ended { .. } => "ended",
            Self::TooLate { .. } => "too_late",
            Self::Void { .. } => "void",
            Self::PlanChanged { .. } => "plan_changed",
            Self::SamePerson { .. } => "same_person",
            Self::NotAllowed { .. } => "not_allowed",
            Self::ReasonMissing { .. } => "reason_missing",
            Self::Paused { .. } => "paused",
            Self::Budget { .. } => "budget",
            Self::NotAtStep { .. } => "not_at_step",
            Self::KeyReused { .. } => "key_reused",
            Self::Version { .. } => "version",
            Self::NoRule { .. } => "no_rule",
            Self::RuleEnded { .. } => "rule_ended",
            Self::SamePersonRule { .. } => "same_person",
            Self::RuleWaits { .. } => "rule_waits",
            Self::Restoring { .. } => "restoring",
            Self::Quiet { .. } => "quiet",
            Self::NotFurthest { .. } => "not_furthest",
            Self::Invalid { .. } => "invalid",
        }
    }

    /// The predicates of a refusal, where it has some.
    pub fn predicates(&self) -> &[Predicate] {
        match self {
            Self::Predicates { predicates, .. } => predicates,
            _ => &[],
        }
    }
}
