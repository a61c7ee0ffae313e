//! What enters the log: closed, conditional, and stamped by the leader.
//!
//! The payload structs are promises: `raft/codec.rs` writes them with a tag and golden bytes hold
//! their shape. A changed shape is a new struct and a new tag.

use crate::config::{ClusterConfig, ClusterId};
use crate::people::Actor;
use crate::plan::Step;
use crate::position::{Hash, Position};
use crate::promotion::{Kind, PromotionId};
use crate::record::RequestKey;
use crate::refusal::Refusal;
use crate::region::{Link, RegionName};
use crate::report::{RegionReport, WorkerReport};
use crate::restore::{Restore, Seat};
use crate::rules::{self, RuleId};
use crate::scope::{ScopeId, Withheld};
use crate::session::{SessionKey, WorkerAddresses};
use crate::time::{LogTime, Millis, Stamp};
use crate::token::Token;
use serde::{Deserialize, Serialize};

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Set by the leader on receipt, in append order.
    pub stamp: Stamp,
    /// Who stands behind it, verified by certificate where it entered.
    pub actor: Actor,
    /// The node it came in through, when that was not the leader.
    pub via: Option<u64>,
    /// Idempotency, where the sender chose a key.
    pub request: Option<RequestKey>,
    /// What to do.
    pub command: Command,
}

/// What to do. `apply` is the check: each is refused unless the machine allows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// The first entry of a cluster.
    Found(Found),
    /// A worker starts.
    OpenSession(OpenSession),
    /// A worker goes on.
    Renew(Renew),
    /// A worker that has stopped gives everything back.
    EndSession(EndSession),
    /// Opens the next epoch for a candidate.
    Reserve(Reserve),
    /// Gives the lease to the reserved candidate.
    Grant(Grant),
    /// The holder gives one lease back.
    Release(Release),
    /// The holder, stopped for good, passes its lease on.
    Handover(Handover),
    /// Asks for a change of region.
    RequestPromotion(RequestPromotion),
    /// Stands behind one.
    Approve(Approve),
    /// Says no to one.
    Deny(Deny),
    /// Withdraws one.
    Cancel(Cancel),
    /// A step begins.
    StepStarted(StepStarted),
    /// A step is over, or had nothing to do.
    StepDone(StepDone),
    /// A step failed for good.
    StepFailed(StepFailed),
    /// Undoes a promotion before its grant, or a regrant that did not come off.
    Rollback(Rollback),
    /// What a region sees.
    Report(Report),
    /// How a region stands toward its peers.
    SetLink(SetLink),
    /// Maintenance begins.
    Pause(PauseScope),
    /// Maintenance ends.
    Unpause(Unpause),
    /// A conflict for a person.
    OpenReview(OpenReview),
    /// A person settles it.
    DecideReview(DecideReview),
    /// Raises the cluster's version.
    SetClusterVersion(SetClusterVersion),
    /// Time passes.
    Tick,
    /// Asks for a change of rules.
    ProposeRules(ProposeRules),
    /// Stands behind one.
    ApproveRules(ApproveRules),
    /// Says no to one.
    DenyRules(DenyRules),
    /// Withdraws one.
    CancelRules(CancelRules),
    /// Makes a cluster from a backup.
    Restore(Restore),
    /// A region's control node is another one, or stands elsewhere.
    SetSeat(Seat),
    /// Which regions' nodes shall lead.
    PreferLeader(PreferLeader),
    /// A control node was taken out of the membership.
    LeaveSeat(LeaveSeat),
    /// A node turned somebody away at its door.
    TurnedAway(TurnedAway),
}

impl Command {
    /// The cluster version that has it.
    pub fn since(&self) -> u32 {
        match self {
            Self::PreferLeader(_) | Self::TurnedAway(_) => 2,
            _ => 1,
        }
    }

    /// What it is about, as its refusal is audited: a scope, a promotion, a rule change, `cluster`. None
    /// where refusals are not audited: the cluster's own parts ask again and again.
    pub fn subject(&self) -> Option<String> {
        Some(match self {
            Self::RequestPromotion(request) => request.scope.to_string(),
            Self::Approve(approve) => approve.promotion.to_string(),
            Self::Deny(deny) => deny.promotion.to_string(),
            Self::Cancel(cancel) => cancel.promotion.to_string(),
            Self::Pause(pause) => pause.scope.to_string(),
            Self::Unpause(unpause) => unpause.scope.to_string(),
            Self::Handover(handover) => handover.promotion.to_string(),
            Self::Release(release) => release.scope.to_string(),
            Self::ApproveRules(approve) => approve.rule.to_string(),
            Self::DenyRules(deny) => deny.rule.to_string(),
            Self::CancelRules(cancel) => cancel.rule.to_string(),
            Self::ProposeRules(_)
            | Self::SetSeat(_)
            | Self::LeaveSeat(_)
            | Self::PreferLeader(_) => "cluster".to_owned(),
            _ => return None,
        })
    }

    /// Its word, for logs.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Found(_) => "found",
            Self::OpenSession(_) => "open_session",
            Self::Renew(_) => "renew",
            Self::EndSession(_) => "end_session",
            Self::Reserve(_) => "reserve",
            Self::Grant(_) => "grant",
            Self::Release(_) => "release",
            Self::Handover(_) => "handover",
            Self::RequestPromotion(_) => "request_promotion",
            Self::Approve(_) => "approve",
            Self::Deny(_) => "deny",
            Self::Cancel(_) => "cancel",
            Self::StepStarted(_) => "step_started",
            Self::StepDone(_) => "step_done",
            Self::StepFailed(_) => "step_failed",
            Self::Rollback(_) => "rollback",
            Self::Report(_) => "report",
            Self::SetLink(_) => "set_link",
            Self::Pause(_) => "pause",
            Self::Unpause(_) => "unpause",
            Self::OpenReview(_) => "open_review",
            Self::DecideReview(_) => "decide_review",
            Self::SetClusterVersion(_) => "set_cluster_version",
            Self::Tick => "tick",
            Self::ProposeRules(_) => "propose_rules",
            Self::ApproveRules(_) => "approve_rules",
            Self::DenyRules(_) => "deny_rules",
            Self::CancelRules(_) => "cancel_rules",
            Self::Restore(_) => "restore",
            Self::SetSeat(_) => "set_seat",
            Self::LeaveSeat(_) => "leave_seat",
            Self::PreferLeader(_) => "prefer_leader",
            Self::TurnedAway(_) => "turned_away",
        }
    }
}

/// See [`Command::Found`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// The id drawn for it.
    pub id: ClusterId,
    /// What it starts from.
    pub config: ClusterConfig,
}

/// See [`Command::OpenSession`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenSession {
    /// Worker and boot id.
    pub session: SessionKey,
    /// The worker's region, from its certificate.
    pub region: RegionName,
    /// Where others reach it.
    pub addresses: WorkerAddresses,
}

/// See [`Command::Renew`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renew {
    /// The session.
    pub session: SessionKey,
    /// The last one plus one; the same again is answered again and changes nothing.
    pub seq: u64,
    /// What the worker did and sees.
    pub report: WorkerReport,
}

/// See [`Command::EndSession`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndSession {
    /// The session.
    pub session: SessionKey,
}

/// See [`Command::Reserve`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reserve {
    /// The scope.
    pub scope: ScopeId,
    /// The promotion; none for a first grant or a regrant.
    pub promotion: Option<PromotionId>,
    /// Who shall hold it.
    pub candidate: SessionKey,
}

/// See [`Command::Grant`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// The scope.
    pub scope: ScopeId,
    /// The reserved token.
    pub token: Token,
}

/// See [`Command::Release`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// The holder.
    pub session: SessionKey,
    /// The scope.
    pub scope: ScopeId,
    /// Its token.
    pub token: Token,
    /// The end of its chain.
    pub end: Position,
    /// Keep the scope for this worker's return for so long.
    pub keep_for: Option<Millis>,
}

/// See [`Command::Handover`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handover {
    /// The holder.
    pub session: SessionKey,
    /// The switchover.
    pub promotion: PromotionId,
    /// The holder's token.
    pub token: Token,
    /// The barrier: the last record of its token.
    pub end: Position,
}

/// See [`Command::RequestPromotion`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestPromotion {
    /// Kind.
    pub kind: Kind,
    /// The scope.
    pub scope: ScopeId,
    /// The region that holds it, as the requester believes; checked where given.
    pub from: Option<RegionName>,
    /// The target.
    pub to: RegionName,
    /// Why.
    pub reason: Option<String>,
    /// Go only if the plan is this one.
    pub plan: Option<Hash>,
}

/// See [`Command::Approve`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approve {
    /// Which.
    pub promotion: PromotionId,
    /// Why; needed where the requester gave none.
    pub reason: Option<String>,
    /// Serial of the certificate, for the audit.
    pub certificate: Option<String>,
}

/// See [`Command::Deny`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deny {
    /// Which.
    pub promotion: PromotionId,
    /// Why.
    pub reason: String,
}

/// See [`Command::Cancel`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cancel {
    /// Which.
    pub promotion: PromotionId,
}

/// See [`Command::StepStarted`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepStarted {
    /// Which.
    pub promotion: PromotionId,
    /// The step.
    pub step: Step,
    /// Which try.
    pub attempt: u32,
}

/// See [`Command::StepDone`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepDone {
    /// Which.
    pub promotion: PromotionId,
    /// The step.
    pub step: Step,
    /// Which try.
    pub attempt: u32,
    /// What came of it.
    pub done: Done,
}

/// What came of a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Done {
    /// Done; a sentence for `history`.
    Note(String),
    /// Nothing to do, and why.
    Skipped(String),
    /// `drain`: the barrier that target and replica have.
    Barrier(Position),
    /// `seal`: each sink's end.
    Sealed {
        /// Region and end of each sealed sink.
        ends: Vec<(RegionName, Position)>,
        /// Regions not reached.
        unsealed: Vec<RegionName>,
    },
}

/// See [`Command::StepFailed`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepFailed {
    /// Which.
    pub promotion: PromotionId,
    /// The step.
    pub step: Step,
    /// Which try.
    pub attempt: u32,
    /// Why.
    pub why: String,
}

/// See [`Command::Rollback`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollback {
    /// The scope.
    pub scope: ScopeId,
    /// The promotion; none for a regrant.
    pub promotion: Option<PromotionId>,
    /// Why.
    pub why: String,
}

/// See [`Command::Report`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Whose.
    pub region: RegionName,
    /// What it sees.
    pub report: RegionReport,
}

/// See [`Command::SetLink`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetLink {
    /// Which region.
    pub region: RegionName,
    /// How it stands.
    pub link: Link,
}

/// See [`Command::Pause`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PauseScope {
    /// The scope.
    pub scope: ScopeId,
    /// Why.
    pub reason: String,
    /// For how long.
    pub span: Millis,
}

/// See [`Command::Unpause`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unpause {
    /// The scope.
    pub scope: ScopeId,
}

/// See [`Command::OpenReview`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenReview {
    /// The scope.
    pub scope: ScopeId,
    /// What differs.
    pub what: String,
}

/// See [`Command::DecideReview`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecideReview {
    /// Which.
    pub review: u64,
    /// How.
    pub decision: String,
}

/// See [`Command::SetClusterVersion`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetClusterVersion {
    /// To which.
    pub version: u32,
}

/// See [`Command::ProposeRules`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProposeRules {
    /// What.
    pub change: rules::Change,
    /// Why.
    pub reason: Option<String>,
}

/// See [`Command::ApproveRules`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApproveRules {
    /// Which.
    pub rule: RuleId,
    /// Why; needed where the requester gave none.
    pub reason: Option<String>,
    /// Serial of the certificate, for the audit.
    pub certificate: Option<String>,
}

/// See [`Command::DenyRules`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DenyRules {
    /// Which.
    pub rule: RuleId,
    /// Why.
    pub reason: String,
}

/// See [`Command::CancelRules`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CancelRules {
    /// Which.
    pub rule: RuleId,
}

/// See [`Command::LeaveSeat`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaveSeat {
    /// Its region.
    pub region: RegionName,
    /// The node.
    pub node: u64,
}

/// See [`Command::PreferLeader`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreferLeader {
    /// The first whose node is well leads; none is no preference.
    pub regions: Vec<RegionName>,
}

/// See [`Command::TurnedAway`]. Refused before it came to the log: a role that is missing, a certificate
/// that is not let in, a command in somebody else's name. It changes the audit alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TurnedAway {
    /// Who: as verified, or the node itself where nobody was.
    pub who: Actor,
    /// What they came for: `P-3`, `/v1/pauses`, `login`; at most [`TurnedAway::SUBJECT_MAX`] bytes.
    pub subject: String,
    /// Why not; at most [`TurnedAway::WHY_MAX`] bytes.
    pub why: String,
}

impl TurnedAway {
    /// Longer subjects are refused.
    pub const SUBJECT_MAX: usize = 128;
    /// Longer reasons are refused.
    pub const WHY_MAX: usize = 512;

    /// Cut to what is taken.
    pub fn new(who: Actor, subject: &str, why: &str) -> Self {
        let cut = |text: &str, most: usize| match text.len() > most {
            true => format!("{}…", &text[..text.floor_char_boundary(most - '…'.len_utf8())]),
            false => text.to_owned(),
        };
        Self { who, subject: cut(subject, Self::SUBJECT_MAX), why: cut(why, Self::WHY_MAX) }
    }
}

/// What a command's sender learns.
pub type Answer = Result<Outcome, Refusal>;

/// What a command did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Outcome {
    /// It took effect; there is nothing more to say.
    Done,
    /// A renewal or an opened session.
    Renewed(Renewed),
    /// A token was reserved.
    Reserved {
        /// The token.
        token: Token,
    },
    /// A lease was granted or handed over.
    Granted {
        /// The token.
        token: Token,
        /// The position its first record follows.
        start: Position,
    },
    /// A promotion was opened, or joined.
    Promotion {
        /// Which.
        id: PromotionId,
        /// People still missing.
        people_missing: u32,
    },
    /// A review was opened.
    Review {
        /// Which.
        id: u64,
    },
    /// A rule change was opened, or joined.
    Rule {
        /// Which.
        id: RuleId,
        /// People still missing; with none it has been applied.
        people_missing: u32,
    },
    /// A part of a restore was taken.
    Restoring {
        /// The part that comes next.
        next: u32,
    },
}

/// The answer to a renewal: only leases listed were extended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Renewed {
    /// The cluster.
    pub cluster: ClusterId,
    /// The session.
    pub session: SessionKey,
    /// Which renewal.
    pub seq: u64,
    /// The machine's time when it was applied.
    pub now: LogTime,
    /// Leases that this renewal extended.
    pub extended: Vec<Extended>,
    /// Leases that it did not.
    pub withheld: Vec<(ScopeId, Withheld)>,
}

/// A lease that a renewal extended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Extended {
    /// The scope.
    pub scope: ScopeId,
    /// Its token.
    pub token: Token,
    /// The position its first record follows.
    pub start: Position,
}
