//! The shapes that control, worker and CLI exchange as JSON. Promises of API version 1.
//!
//! Working types do not leave through here by accident: what is shown is listed here, and a record
//! that is shown whole ([`Promotion`], [`AuditEntry`]) is a promise too.

use crate::audit::AuditEntry;
use crate::command::{Extended, Outcome, Renewed};
use crate::config::{CLUSTER_VERSION, CLUSTER_VERSION_MIN, ClusterConfig, ClusterId, Limits};
use crate::decide::{Decision, Loss, Predicate};
use crate::diagnose::Diagnosis;
use crate::directive::Directive;
use crate::people::Grant;
use crate::plan::Plan;
use crate::position::{Hash, Position};
use crate::promotion::{Difference, Kind, Promotion, PromotionId};
use crate::region::{Link, RegionName};
use crate::report::{Fork, RegionReport, WorkerReport};
use crate::restore::Seat;
use crate::rules::{RuleChange, RuleId};
use crate::scope::{Mode, Pause, Phase, Role, ScopeId, Tier};
use crate::session::{SessionKey, WorkerAddresses};
use crate::time::{LogTime, Millis, Stamp, Timing, WallTime};
use crate::token::Token;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// `POST /v1/sessions`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct OpenSessionRequest {
    /// Drawn at start, 16 hex digits; the worker's id and region come from its certificate.
    pub boot: String,
    /// Where others reach it.
    pub addresses: WorkerAddresses,
}

/// Answer to `POST /v1/sessions`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SessionOpened {
    /// The session and cluster; nothing is held yet.
    pub renewed: Renewed,
    /// Lease and renewal times in force.
    pub timing: Timing,
    /// Policy bounds in force.
    pub limits: Limits,
    /// What to be.
    pub directives: Vec<Directive>,
}

/// `POST /v1/sessions/{id}/renew`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RenewRequest {
    /// The cluster the session was opened with.
    pub cluster: ClusterId,
    /// The last renewal's number plus one; a retry keeps it.
    pub seq: u64,
    /// What the worker did and sees.
    pub report: WorkerReport,
}

/// Answer to a renewal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RenewAnswer {
    /// The log index that committed it.
    pub index: u64,
    /// The answering node's wall clock, for measuring the worker's offset.
    pub wall: WallTime,
    /// Which leases were extended.
    pub renewed: Renewed,
    /// The log index that `directives` are of; none from a node that does not say so.
    #[serde(default)]
    pub directed: Option<u64>,
    /// What to be. Empty when nothing has stirred since the index that the worker named.
    pub directives: Vec<Directive>,
}

/// `POST /v1/sessions/{id}/release`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ReleaseRequest {
    /// The scope.
    pub scope: ScopeId,
    /// Its token.
    pub token: Token,
    /// The end of the chain, sealed.
    pub end: Position,
    /// Keep the scope for this worker's return for so long.
    pub keep_for_ms: Option<u64>,
}

/// `POST /v1/sessions/{id}/handover`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct HandoverRequest {
    /// The switchover.
    pub promotion: PromotionId,
    /// The holder's token.
    pub token: Token,
    /// The barrier.
    pub end: Position,
}

/// Answer to a mutation: where it stands in the log and what it did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Accepted {
    /// Log index, for `?wait_index=`.
    pub index: u64,
    /// What it did.
    pub outcome: Outcome,
}

/// How a figure stands against its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Level {
    /// Within target.
    Ok,
    /// Past the warning line.
    Warn,
    /// Past the critical line.
    Crit,
}

impl std::fmt::Display for Level {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Warn => "WARN",
            Self::Crit => "CRIT",
        })
    }
}

/// How an answer was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Consistency {
    /// A quorum confirmed it.
    Linearizable,
    /// The leader answered within its lease: as good while the clocks of the nodes run at rates
    /// within a fifth of each other.
    Lease,
    /// One node's own view.
    Stale,
}

/// What every read says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ReadAt {
    /// Cluster name.
    pub cluster: String,
    /// The region of the node that leads, if one is known.
    pub leader: Option<RegionName>,
    /// Raft term.
    pub term: u64,
    /// Applied log index.
    pub index: u64,
    /// Voters that answer, of `voters`.
    pub voters_up: u32,
    /// Voters.
    pub voters: u32,
    /// Wall clock of the answering node.
    pub wall: WallTime,
    /// LogTime.
    pub now: LogTime,
    /// How old the answer may be.
    pub age: Millis,
    /// The region of the node that answered.
    pub via: RegionName,
    /// How it was read.
    pub consistency: Consistency,
}

/// `GET /v1/status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Status {
    /// How it was read.
    pub at: ReadAt,
    /// What is wrong, and what *you* must do; empty when all is within target.
    pub diagnoses: Vec<Diagnosis>,
    /// Each line of "YOU".
    pub todo: Vec<String>,
    /// The scopes.
    pub scopes: Vec<ScopeStatus>,
    /// Promotions that are open.
    pub open: Vec<PromotionId>,
}

/// One line of the table that tells the truth.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ScopeStatus {
    /// Its name.
    pub scope: ScopeId,
    /// How much the controller may do.
    pub mode: Mode,
    /// Where it is in its life.
    pub phase: Phase,
    /// The region that holds the lease, if one is live.
    pub holder: Option<RegionName>,
    /// The region assigned.
    pub assigned: RegionName,
    /// Token of the reign that is on, or was last.
    pub token: Token,
    /// Time left on the lease, by LogTime.
    pub lease: Option<Millis>,
    /// Maintenance.
    pub pause: Option<Pause>,
    /// Each sink.
    pub regions: BTreeMap<RegionName, SinkStatus>,
    /// Where it could go, and why not.
    pub next: Vec<Candidate>,
    /// The promotion that is moving it.
    pub moving: Option<PromotionId>,
    /// Sinks that are not sealed yet.
    pub unsealed: Vec<RegionName>,
    /// Forks that are kept.
    pub forks: Vec<ForkStatus>,
    /// The region its data may not leave.
    pub residency: Option<RegionName>,
}

/// One sink of a scope, as last reported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SinkStatus {
    /// What its worker is for the scope.
    pub role: Role,
    /// The end of its chain.
    pub end: Position,
    /// How old the newest applied data is.
    pub age: Option<Millis>,
    /// How much of what the primary had is missing.
    pub behind: Option<Loss>,
    /// Against the target.
    pub level: Level,
    /// How old the report is.
    pub reported: Option<Millis>,
    /// Writes its sink has turned away.
    pub fenced: u64,
}

/// A region the scope could move to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Candidate {
    /// The region.
    pub region: RegionName,
    /// Whether a request for it would go, people aside.
    pub ready: bool,
    /// Why not.
    pub why: Option<String>,
    /// Age of the oldest fact that says so.
    pub proof_age: Option<Millis>,
}

/// A fork and where it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ForkStatus {
    /// Region that keeps it.
    pub region: RegionName,
    /// The scope.
    pub scope: ScopeId,
    /// The fork.
    pub fork: Fork,
}

/// `GET /v1/regions`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RegionStatus {
    /// Its name.
    pub region: RegionName,
    /// Other names for it.
    pub aliases: Vec<String>,
    /// How it stands toward its peers.
    pub link: Link,
    /// Health in permille, the least of its inputs.
    pub health: u32,
    /// The inputs.
    pub inputs: BTreeMap<String, u32>,
    /// Its last committed report.
    pub report: Option<RegionReport>,
    /// How old that is.
    pub reported: Option<Millis>,
}

/// `GET /v1/sessions`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SessionStatus {
    /// The session.
    pub session: SessionKey,
    /// Its region.
    pub region: RegionName,
    /// Where it can be reached.
    pub addresses: WorkerAddresses,
    /// Its last committed renewal.
    pub renew_seq: u64,
    /// How long ago that was.
    pub renewed: Millis,
    /// Whether a newer start has barred it.
    pub barred: bool,
    /// The leases it holds.
    pub holds: Vec<Extended>,
}

/// `GET /v1/leases`: one scope's lease, in `state` and `change` events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LeaseState {
    /// The scope.
    pub scope: ScopeId,
    /// Where it is in its life.
    pub phase: Phase,
    /// The region that holds a live lease.
    pub holder: Option<RegionName>,
    /// The session that does.
    pub session: Option<SessionKey>,
    /// Token of the reign that is on, or was last.
    pub token: Token,
    /// The region assigned.
    pub assigned: RegionName,
}

/// `GET /v1/leases`: the data of every event, whose name is `state`, `change` or `progress`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LeaseEvent {
    /// Log index: `?watch_from=` goes on after it.
    pub index: u64,
    /// All leases in `state`, one in `change`, none in `progress`.
    pub leases: Vec<LeaseState>,
}

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
    #[serde(default = "global")]
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

fn global() -> String {
    "global".to_owned()
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
    #[serde(default = "global")]
    pub group: String,
    /// Why.
    pub reason: String,
    /// For how long.
    pub for_ms: u64,
}

/// `POST /v1/simulations`: recorded reports through the deciding code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SimulationRequest {
    /// Tier.
    pub tier: Tier,
    /// Group.
    #[serde(default = "global")]
    pub group: String,
    /// The region that would lose the scope, by name or alias.
    pub from: String,
    /// The region that would get it.
    pub to: String,
    /// From this moment.
    pub start: WallTime,
    /// To this one.
    pub end: WallTime,
}

/// What a simulation found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Simulation {
    /// The scope.
    pub scope: ScopeId,
    /// From.
    pub from: RegionName,
    /// To.
    pub to: RegionName,
    /// Reports replayed.
    pub reports: u64,
    /// First and last of them.
    pub covered: Option<(WallTime, WallTime)>,
    /// Each change of decision.
    pub moments: Vec<SimulatedMoment>,
    /// Hash over all decisions, equal on every node for the same reports.
    pub decisions: Hash,
}

/// A moment at which the decision changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SimulatedMoment {
    /// When.
    pub at: WallTime,
    /// What would have been decided.
    pub decision: Decision,
    /// The promotion that was opened then, where history shows one.
    pub opened: Option<PromotionId>,
}

/// `GET /v1/audit`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AuditPage {
    /// Entries, oldest first.
    pub entries: Vec<AuditEntry>,
    /// The chain's end.
    pub end: Position,
}

/// `GET /v1/audit/verify`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AuditVerdict {
    /// Entries checked.
    pub checked: u64,
    /// The chain's end.
    pub end: Position,
    /// The first entry that does not verify.
    pub broken_at: Option<u64>,
}

/// `GET /v1/cluster`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ClusterStatus {
    /// How it was read.
    pub at: ReadAt,
    /// Its identity, once founded.
    pub id: Option<ClusterId>,
    /// `cluster_version`.
    pub version: u32,
    /// First half of every token.
    pub incarnation: u32,
    /// Members.
    pub members: Vec<Member>,
    /// Timings in force.
    pub timing: Option<Timing>,
    /// Configuration version.
    pub config_version: u64,
    /// Chained hash of the state at `at.index`, to compare between nodes.
    pub state_hash: Hash,
}

/// A member of the Raft cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Member {
    /// Node id.
    pub node: u64,
    /// Its region.
    pub region: RegionName,
    /// Whether it votes.
    pub voter: bool,
    /// Whether it leads.
    pub leader: bool,
    /// Highest index known to be on its disk, as the leader sees it.
    pub matched: Option<u64>,
    /// How long ago it last answered the leader.
    pub answered: Option<Millis>,
}

/// `POST /v1/cluster/init`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct InitRequest {
    /// How many nodes must answer with empty disks.
    pub expect: u32,
    /// What the cluster starts from.
    pub config: ClusterConfig,
}

/// `POST /v1/cluster/transfer-leader`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TransferRequest {
    /// To this region's node, by name or alias.
    pub to: String,
}

/// `POST /v1/cluster/members`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AddMemberRequest {
    /// The node's id; a wiped node returns under a new one.
    pub node: u64,
    /// Its region.
    pub region: String,
    /// Its Raft address.
    pub raft: String,
    /// Its admin API.
    pub api: String,
    /// The member whose place it takes, in one change.
    #[serde(default)]
    pub replaces: Option<u64>,
}

/// `POST /v1/cluster/preference`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PreferenceRequest {
    /// The first whose node is well leads, by name or alias; none is no preference.
    pub regions: Vec<String>,
}

/// Which cluster versions a program takes part in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Versions {
    /// The lowest.
    pub min: u32,
    /// The highest.
    pub max: u32,
}

impl Versions {
    /// This program's.
    pub const OWN: Self = Self { min: CLUSTER_VERSION_MIN, max: CLUSTER_VERSION };
}

impl Default for Versions {
    /// Of a program that does not say.
    fn default() -> Self {
        Self { min: 1, max: 1 }
    }
}

/// `GET /v1/cluster/node`: what one node says of itself, with or without a quorum.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NodeStanding {
    /// Its number.
    pub node: u64,
    /// Its region.
    pub region: RegionName,
    /// The version of its program.
    pub program: String,
    /// Cluster versions it takes part in.
    pub versions: Versions,
    /// The id of its disk, in hex.
    pub disk: Option<String>,
    /// The cluster it belongs to, once founded.
    pub cluster: Option<ClusterId>,
    /// Whether its disk holds no log.
    pub empty: bool,
    /// Whether it leads.
    pub leads: bool,
    /// Raft term it knows.
    pub term: u64,
    /// Last entry it applied.
    pub applied: u64,
    /// Last entry it knows to be committed.
    pub committed: u64,
    /// Index of the last entry in its log, committed or not.
    pub last: u64,
    /// The term of that entry.
    pub last_term: u64,
    /// For how long it has been without a quorum.
    pub quorum_lost: Option<Millis>,
    /// Why its disk takes nothing more, while it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_space: Option<String>,
    /// Its wall clock.
    pub wall: WallTime,
}

/// One line of `GET /v1/cluster/nodes`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NodeSeen {
    /// Its number.
    pub node: u64,
    /// Its region.
    pub region: RegionName,
    /// What it says of itself; none where it did not answer.
    pub standing: Option<NodeStanding>,
    /// Why it did not.
    pub cause: Option<String>,
    /// Whether its state at `compared` is that of the node asked; none where it cannot be told.
    pub agrees: Option<bool>,
    /// The index at which states were compared.
    pub compared: Option<u64>,
}

/// `GET /v1/certs`: what one process presents and trusts, and who came to it with what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Credentials {
    /// Its SPIFFE id.
    pub process: String,
    /// Its wall clock, by which it judges dates.
    pub wall: WallTime,
    /// Its own certificate.
    pub presents: CertificateSeen,
    /// Whose signatures it believes.
    pub trusts: Vec<TrustedAuthority>,
    /// Certificates that it no longer believes, by authority.
    pub revocations: Vec<RevocationList>,
    /// Why what its files hold now is not in use.
    pub not_taken: Option<String>,
    /// Peers it met since it started, with the certificate that each came with last.
    pub peers: Vec<Presented>,
}

/// A certificate, in short.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CertificateSeen {
    /// Its serial number in hex.
    pub serial: String,
    /// The key that signed it: the first digits of that key's identifier.
    pub authority: String,
    /// When it ends.
    pub until: WallTime,
}

/// An authority whose signatures are believed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TrustedAuthority {
    /// The first digits of its key's identifier.
    pub authority: String,
    /// Its common name.
    pub name: String,
    /// When its certificate ends.
    pub until: WallTime,
}

/// A list of certificates that an authority took back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RevocationList {
    /// Whose.
    pub authority: String,
    /// When it was made.
    pub issued: WallTime,
    /// When the next is due.
    pub next: Option<WallTime>,
    /// Certificates on it.
    pub revoked: u64,
}

/// What a peer came with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Presented {
    /// Its SPIFFE id.
    pub id: String,
    /// Its certificate.
    pub certificate: CertificateSeen,
    /// When it last connected, by the wall clock of whom it came to.
    pub at: WallTime,
}

/// One line of `GET /v1/cluster/certs`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NodeCredentials {
    /// Its number.
    pub node: u64,
    /// Its region.
    pub region: RegionName,
    /// What it says; none where it did not answer.
    pub credentials: Option<Credentials>,
    /// Why it did not.
    pub cause: Option<String>,
}

/// `GET /v1/cluster/backup`: one moment of the cluster. The audit before `audit` stands under
/// `/v1/audit`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Backup {
    /// The shape of what follows.
    pub format: u32,
    /// The cluster's name.
    pub cluster: String,
    /// Its id.
    pub id: ClusterId,
    /// `cluster_version`.
    pub version: u32,
    /// First half of its tokens.
    pub incarnation: u32,
    /// Last log entry in it.
    pub index: u64,
    /// Last entry known to be committed: less than `index` only where one node was asked alone.
    pub committed: u64,
    /// When it was taken, by the log.
    pub taken: Stamp,
    /// What it begins with: cluster, clock and head of the audit, as stored and in base64.
    pub begin: Vec<String>,
    /// Its records, likewise.
    pub records: Vec<String>,
    /// The newest audit entries, oldest first.
    pub audit: Vec<AuditEntry>,
}

/// `POST /v1/cluster/restore`: to a node with an empty disk, as are the others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RestoreRequest {
    /// Hash of the backup.
    pub backup: Hash,
    /// How many nodes must answer with empty disks.
    pub expect: u32,
    /// What the backup begins with.
    pub begin: Vec<String>,
    /// Nodes that stand elsewhere than the backup has them.
    #[serde(default)]
    pub seats: Vec<Seat>,
}

/// `POST /v1/cluster/restore/parts`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RestorePartRequest {
    /// Hash of the backup.
    pub backup: Hash,
    /// Counted from zero.
    pub part: u32,
    /// Audit entries, in order.
    #[serde(default)]
    pub audit: Vec<AuditEntry>,
    /// Records in base64.
    #[serde(default)]
    pub records: Vec<String>,
}

/// `POST /v1/cluster/restore/finish`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RestoreFinishRequest {
    /// Hash of the backup.
    pub backup: Hash,
    /// Parts that were sent.
    pub parts: u32,
    /// Nodes that stand elsewhere than the backup has them.
    #[serde(default)]
    pub seats: Vec<Seat>,
}

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

/// `GET /v1/whoami`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WhoAmI {
    /// The certificate's SPIFFE id.
    pub spiffe: String,
    /// What it may do.
    pub grants: Vec<Grant>,
    /// Promotions that wait for this person.
    pub waiting: Vec<PromotionId>,
    /// Rule changes that do.
    #[serde(default)]
    pub rules: Vec<RuleId>,
}

/// `GET /v1/journal`: what a sink accepted and turned away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Journal {
    /// The scope.
    pub scope: ScopeId,
    /// The sink's region.
    pub region: RegionName,
    /// Ranges, in the order they began.
    pub ranges: Vec<JournalRange>,
    /// Forks kept.
    pub forks: Vec<Fork>,
}

/// A run of writes with one fate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct JournalRange {
    /// The token they carried.
    pub token: Token,
    /// What became of them.
    pub fate: Fate,
    /// First record.
    pub from_seq: u64,
    /// Last record.
    pub to_seq: u64,
    /// Rows in them.
    pub rows: u64,
    /// Wall clock of the first.
    pub first: WallTime,
    /// Wall clock of the last.
    pub last: WallTime,
    /// CLOCK_BOOTTIME of the first, in nanoseconds: exact between processes of one machine.
    pub first_boot_ns: u64,
    /// CLOCK_BOOTTIME of the last.
    pub last_boot_ns: u64,
}

/// What became of writes (DESIGN §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Fate {
    /// Served, replicated or acknowledged as primary.
    Visible,
    /// Applied from another sink.
    Replicated,
    /// Turned away by a higher token.
    Fenced,
    /// On the holder's disk and never visible: cut into a fork.
    Forked,
}

/// RFC 9457, with what an operator needs to go on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Problem {
    /// `https://cryptorun.dev/problems/<kind>`; stable.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind in words.
    pub title: String,
    /// HTTP status.
    pub status: u16,
    /// What is wrong here, in one sentence.
    pub detail: String,
    /// What to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The predicates of a refusal.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub predicates: Vec<Predicate>,
    /// What changed of what was approved.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<Difference>,
    /// The leader's API, when it is elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<String>,
}

/// `GET /partition` and the partition half of `/health`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PartitionState {
    /// Whether this region has no quorum.
    pub partition_mode: bool,
    /// For how long.
    pub since: Option<Millis>,
    /// The region.
    pub region: RegionName,
}

/// A row of `GET /v1/warm/candles`. Prices and volumes are integers at `scale` decimals.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CandleRow {
    /// Venue.
    pub venue: String,
    /// Symbol.
    pub symbol: String,
    /// Start of the minute.
    pub open_time: WallTime,
    /// First price.
    pub open: String,
    /// Highest.
    pub high: String,
    /// Lowest.
    pub low: String,
    /// Last.
    pub close: String,
    /// Traded quantity.
    pub volume: String,
    /// Trades.
    pub trades: u64,
    /// `open`, `closed` or `revised`.
    pub state: String,
    /// How often it was revised.
    pub revision: u32,
}

/// `GET /v1/warm/candles`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Candles {
    /// `primary` only under a live lease, else `replica` or `degraded`.
    pub authority: String,
    /// Token of the reign the data was written under.
    pub token: Token,
    /// The end of the chain that was read.
    pub position: Position,
    /// Age of the newest record.
    pub staleness: Millis,
    /// Everything at or below it has arrived.
    pub watermark: WallTime,
    /// The rows.
    pub rows: Vec<CandleRow>,
}
