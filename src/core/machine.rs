//! The replicated machine: entry in; answer, effects and changed records out.
//!
//! [`Machine::apply`] is the check: from replicated state alone it evaluates token, holder, expiry,
//! people, pause, residency and the age of the reports it relies on. [`crate::decide`] may refuse
//! more before a command is proposed, never allow more.
//!
//! What always holds:
//!  1. the same machine and entry give the same machine, answer, effects and changed records;
//!  2. a refused command changes nothing but time, the audit and the request table;
//!  3. `changed` names exactly the records that differ.
//!
//! Deliberately absent: clocks, randomness, I/O, Raft's terms.
//! Next: `machine/sessions.rs`, `machine/authority.rs`, `machine/promotions.rs`, `machine/rules.rs`,
//! `machine/restore.rs`, `machine/upkeep.rs`.

mod authority;
#[cfg(test)]
mod changes;
#[cfg(test)]
mod classes;
#[cfg(test)]
mod day_two;
#[cfg(test)]
mod found_by_simulation;
mod index;
mod notes;
mod promotions;
#[cfg(test)]
mod properties;
mod restore;
mod rules;
#[cfg(test)]
mod scripts;
mod seats;
mod sessions;
mod settle;
mod upkeep;
#[cfg(test)]
pub(crate) mod world;

pub use sessions::STALLED_MAX;

use crate::audit::{AuditEntry, AuditHead};
use crate::command::{Answer, Command, Entry, Outcome};
use crate::config::{CLUSTER_VERSION_MIN, Cluster};
use crate::people::{Actor, OperatorId, Role};
use crate::position::Hash;
use crate::promotion::{Promotion, PromotionId};
use crate::record::{Clock, Record, RecordKey, RecordRef, Request, RequestKey, Review};
use crate::refusal::Refusal;
use crate::region::RegionName;
use crate::report::RegionRecord;
use crate::restore::Restored;
use crate::rules::{RuleChange, RuleId};
use crate::scope::{Scope, ScopeId};
use crate::session::{Session, SessionKey};
use crate::time::{LogTime, Millis, Stamp};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Everything the cluster has agreed on.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Machine {
    pub(crate) clock: Clock,
    pub(crate) cluster: Option<Cluster>,
    pub(crate) regions: BTreeMap<RegionName, RegionRecord>,
    pub(crate) sessions: BTreeMap<SessionKey, Session>,
    pub(crate) scopes: BTreeMap<ScopeId, Scope>,
    pub(crate) promotions: BTreeMap<PromotionId, Promotion>,
    pub(crate) requests: BTreeMap<RequestKey, Request>,
    pub(crate) reviews: BTreeMap<u64, Review>,
    pub(crate) audit_head: AuditHead,
    pub(crate) audit: BTreeMap<u64, AuditEntry>,
    pub(crate) rules: BTreeMap<RuleId, RuleChange>,
    pub(crate) restored: Option<Restored>,
    pub(crate) preference: Vec<RegionName>,
    pub(crate) index: index::Index,
}

/// The state alone, without the index that follows from it.
impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machine")
            .field("clock", &self.clock)
            .field("cluster", &self.cluster)
            .field("regions", &self.regions)
            .field("sessions", &self.sessions)
            .field("scopes", &self.scopes)
            .field("promotions", &self.promotions)
            .field("requests", &self.requests)
            .field("reviews", &self.reviews)
            .field("audit_head", &self.audit_head)
            .field("audit", &self.audit)
            .field("rules", &self.rules)
            .field("restored", &self.restored)
            .field("preference", &self.preference)
            .finish()
    }
}

/// What one entry did: an answer for the proposer, work for the leader, records for the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// For the proposer.
    pub answer: Answer,
    /// For the leader alone; doing one twice is harmless.
    pub effects: Vec<Effect>,
    /// Records written or removed, and no others.
    pub changed: BTreeSet<RecordKey>,
}

/// Work that follows from an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Push directives to every session with a sink of this scope.
    Direct(ScopeId),
    /// Tell people of a promotion: asked, approved, voided, ended.
    Notify(PromotionId),
}

/// One entry on its way through the machine.
struct Turn<'a> {
    index: u64,
    at: Stamp,
    actor: &'a Actor,
    via: Option<u64>,
    effects: Vec<Effect>,
    changed: BTreeSet<RecordKey>,
}

impl Turn<'_> {
    fn now(&self) -> LogTime {
        self.at.log
    }

    fn touch(&mut self, key: RecordKey) {
        self.changed.insert(key);
    }

    fn direct(&mut self, scope: &ScopeId) {
        self.effects.push(Effect::Direct(scope.clone()));
    }

    fn notify(&mut self, promotion: PromotionId) {
        self.effects.push(Effect::Notify(promotion));
    }

    /// The person behind the entry.
    fn person(&self, needs: Role) -> Result<OperatorId, Refusal> {
        match self.actor {
            Actor::Person(id) => Ok(id.clone()),
            other => Err(Refusal::NotAllowed { who: other.to_string(), role: needs }),
        }
    }

    /// Only the leader's controller may do this.
    fn controller_only(&self) -> Result<(), Refusal> {
        match self.actor {
            Actor::Controller => Ok(()),
            other => Err(Refusal::NotAllowed { who: other.to_string(), role: Role::Admin }),
        }
    }
}

/// How long an idempotent request is remembered.
pub const REQUEST_KEPT: Millis = Millis::mins(24 * 60);
/// Requests remembered for one identity; the oldest goes first.
pub const REQUESTS_EACH: usize = 1024;

impl Machine {
    /// Time as of the last entry.
    pub fn now(&self) -> Stamp {
        self.clock.now
    }

    /// Time as of the last entry, and the id counters.
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// The cluster, once founded.
    pub fn cluster(&self) -> Option<&Cluster> {
        self.cluster.as_ref()
    }

    /// Regions by name.
    pub fn regions(&self) -> &BTreeMap<RegionName, RegionRecord> {
        &self.regions
    }

    /// Sessions that are open, or whose leases have not run out.
    pub fn sessions(&self) -> &BTreeMap<SessionKey, Session> {
        &self.sessions
    }

    /// Scopes by name.
    pub fn scopes(&self) -> &BTreeMap<ScopeId, Scope> {
        &self.scopes
    }

    /// Promotions by number.
    pub fn promotions(&self) -> &BTreeMap<PromotionId, Promotion> {
        &self.promotions
    }

    /// What an idempotent request did.
    pub fn request(&self, key: &RequestKey) -> Option<&Request> {
        self.requests.get(key)
    }

    /// Reviews by number.
    pub fn reviews(&self) -> &BTreeMap<u64, Review> {
        &self.reviews
    }

    /// The audit chain's head.
    pub fn audit_head(&self) -> AuditHead {
        self.audit_head
    }

    /// The last [`crate::audit::KEPT`] audit entries by number.
    pub fn audit(&self) -> &BTreeMap<u64, AuditEntry> {
        &self.audit
    }

    /// Applies one committed entry. The same machine and entry give the same result on every node.
    pub fn apply(&mut self, index: u64, entry: &Entry) -> Applied {
        let log = self.clock.now.log.max(entry.stamp.log); // A new leader's clock may trail.
        self.clock.now = Stamp { log, wall: entry.stamp.wall };
        #[cfg(feature = "mutants")]
        if crate::seeded_bug::is("logtime_goes_back") {
            self.clock.now.log = entry.stamp.log;
        }
        #[cfg(feature = "mutants")]
        if crate::seeded_bug::is("apply_remembers") && crate::seeded_bug::applied_before() {
            self.clock.now.wall.0 += 1;
        }
        let mut turn = Turn {
            index,
            at: self.clock.now,
            actor: &entry.actor,
            via: entry.via,
            effects: Vec::new(),
            changed: BTreeSet::from([RecordKey::Clock]),
        };
        self.run_out(&mut turn);
        let recalled =
            self.recall(entry).filter(|_| !crate::seeded_bug::is("request_table_ignored"));
        let answer = match recalled {
            Some(earlier) => earlier,
            None => {
                let answer = self.dispatch(&mut turn, &entry.command);
                if let Err(refusal) = &answer {
                    self.audit_refusal(&mut turn, &entry.command, refusal);
                }
                self.remember(&mut turn, entry, &answer);
                answer
            }
        };
        if turn.changed.contains(&RecordKey::Cluster) {
            self.index.look_again(); // Lease times may have changed.
        }
        if self.stirs(&entry.command, &turn) || self.index.is_unknown() {
            self.index.stir(index);
        }
        Applied { answer, effects: turn.effects, changed: turn.changed }
    }

    /// Whether an entry changed more than the time and what a session reports of itself. While a
    /// scope is on its way to somebody, what its sinks report counts.
    fn stirs(&self, command: &Command, turn: &Turn) -> bool {
        let plain = match command {
            Command::Tick => turn.changed.len() == 1, // The clock's record.
            other => !self.may_stir(other),
        };
        !plain || !turn.effects.is_empty()
    }

    /// Whether a command, once applied, may bring more than the next second or a renewal of what is
    /// at rest.
    pub fn may_stir(&self, command: &Command) -> bool {
        let at_rest = |scope: &Scope| {
            scope.lease.is_some() && scope.reservation.is_none() && scope.moving.is_none()
        };
        match command {
            Command::Renew(renew) => {
                let mut scopes = renew.report.scopes.keys().filter_map(|id| self.scopes.get(id));
                !scopes.all(at_rest)
            }
            Command::Tick | Command::TurnedAway(_) => false,
            _ => true,
        }
    }

    fn dispatch(&mut self, turn: &mut Turn, command: &Command) -> Answer {
        match command {
            Command::Found(found) => return self.found(turn, found),
            Command::Restore(restore) => return self.restore(turn, restore),
            _ => {}
        }
        let Some(cluster) = &self.cluster else { return Err(Refusal::NotFounded) };
        if command.since() > cluster.version {
            return Err(Refusal::Version { needs: command.since(), has: cluster.version });
        }
        match command {
            Command::Found(found) => self.found(turn, found),
            Command::Restore(restore) => self.restore(turn, restore),
            Command::OpenSession(open) => self.open_session(turn, open),
            Command::Renew(renew) => self.renew(turn, renew),
            Command::EndSession(end) => self.end_session(turn, end),
            Command::Reserve(reserve) => self.reserve(turn, reserve),
            Command::Grant(grant) => self.grant(turn, grant),
            Command::Release(release) => self.release(turn, release),
            Command::Handover(handover) => self.handover(turn, handover),
            Command::RequestPromotion(request) => self.request_promotion(turn, request),
            Command::Approve(approve) => self.approve(turn, approve),
            Command::Deny(deny) => self.deny(turn, deny),
            Command::Cancel(cancel) => self.cancel(turn, cancel),
            Command::StepStarted(step) => self.step_started(turn, step),
            Command::StepDone(step) => self.step_done(turn, step),
            Command::StepFailed(step) => self.step_failed(turn, step),
            Command::Rollback(rollback) => self.rollback(turn, rollback),
            Command::Report(report) => self.report(turn, report),
            Command::SetLink(link) => self.set_link(turn, link),
            Command::Pause(pause) => self.pause(turn, pause),
            Command::Unpause(unpause) => self.unpause(turn, unpause),
            Command::OpenReview(review) => self.open_review(turn, review),
            Command::DecideReview(review) => self.decide_review(turn, review),
            Command::SetClusterVersion(version) => self.set_cluster_version(turn, version.version),
            Command::Tick => {
                self.tick(turn);
                Ok(Outcome::Done)
            }
            Command::ProposeRules(ask) => self.propose_rules(turn, ask),
            Command::ApproveRules(approve) => self.approve_rules(turn, approve),
            Command::DenyRules(deny) => self.deny_rules(turn, deny),
            Command::CancelRules(cancel) => self.cancel_rules(turn, cancel),
            Command::SetSeat(seat) => self.set_seat(turn, seat),
            Command::PreferLeader(prefer) => self.prefer_leader(turn, prefer),
            Command::LeaveSeat(leave) => self.leave_seat(turn, leave),
            Command::TurnedAway(away) => self.turned_away(turn, away),
        }
    }

    fn found(&mut self, turn: &mut Turn, found: &crate::command::Found) -> Answer {
        if let Some(cluster) = &self.cluster {
            return Err(Refusal::AlreadyFounded { id: cluster.id });
        }
        let config = found.config.clone();
        for (id, policy) in &config.scopes {
            let scope = Scope::new(id.clone(), policy.clone(), turn.now(), turn.index);
            turn.touch(RecordKey::Scope(id.clone()));
            self.scopes.insert(id.clone(), scope);
        }
        for name in config.regions.keys() {
            let record = RegionRecord {
                name: name.clone(),
                link: Default::default(),
                report: Default::default(),
                reported_at: None,
                troubles: Default::default(),
            };
            turn.touch(RecordKey::Region(name.clone()));
            self.regions.insert(name.clone(), record);
        }
        let detail = format!("{} with {} regions", config.name, config.regions.len());
        // Every program that takes part knows this version; who founds may raise it at once.
        let version = CLUSTER_VERSION_MIN;
        self.cluster = Some(Cluster { id: found.id, version, incarnation: 0, config });
        self.clock.next_promotion = 1;
        self.clock.next_review = 1;
        turn.touch(RecordKey::Cluster);
        self.note(turn, "found", &found.id.to_string(), &detail);
        Ok(Outcome::Done)
    }

    /// What the same request did before; a different one under the same key is refused.
    fn recall(&self, entry: &Entry) -> Option<Answer> {
        let key = entry.request.as_ref()?;
        let earlier = self.requests.get(key)?;
        let same = earlier.command == command_hash(&entry.command);
        Some(match same {
            true => earlier.answer.clone(),
            false => Err(Refusal::KeyReused { key: key.key.clone() }),
        })
    }

    fn remember(&mut self, turn: &mut Turn, entry: &Entry, answer: &Answer) {
        let Some(key) = &entry.request else { return };
        let each = self.requests.values().filter(|r| r.key.identity == key.identity);
        if each.clone().count() >= REQUESTS_EACH {
            let oldest = each.min_by_key(|r| (r.at.log, r.index)).map(|r| r.key.clone());
            if let Some(oldest) = oldest {
                self.requests.remove(&oldest);
                turn.touch(RecordKey::Request(oldest));
            }
        }
        turn.touch(RecordKey::Request(key.clone()));
        self.requests.insert(
            key.clone(),
            Request {
                key: key.clone(),
                command: command_hash(&entry.command),
                index: turn.index,
                at: turn.at,
                answer: answer.clone(),
            },
        );
    }

    /// The scope, or a refusal that lists what there is.
    fn scope(&self, id: &ScopeId) -> Result<&Scope, Refusal> {
        self.scopes.get(id).ok_or_else(|| {
            let known: Vec<String> = self.scopes.keys().map(ToString::to_string).collect();
            Refusal::NoScope { scope: id.clone(), known: known.join(", ") }
        })
    }

    /// Changes a scope and says so to workers.
    fn change_scope(&mut self, turn: &mut Turn, id: &ScopeId, change: impl FnOnce(&mut Scope)) {
        let run_out = self.timing().map(|timing| timing.run_out()).unwrap_or_default();
        if let Some(scope) = self.scopes.get_mut(id) {
            let phase = scope.phase.clone();
            let holder = scope.lease.as_ref().map(|lease| lease.holder.clone());
            change(scope);
            if scope.phase != phase {
                scope.phase_since = turn.now();
            }
            scope.rev = turn.index;
            let now = scope.lease.as_ref().map(|lease| &lease.holder);
            self.index.passed(id, holder.as_ref(), now);
            if now != holder.as_ref() {
                let session = now.and_then(|key| self.sessions.get(key));
                self.index.ends(session.map(|s| s.renewed_at + run_out).unwrap_or_default());
            }
            turn.touch(RecordKey::Scope(id.clone()));
            turn.direct(id);
        }
    }

    fn change_promotion(
        &mut self,
        turn: &mut Turn,
        id: PromotionId,
        change: impl FnOnce(&mut Promotion),
    ) {
        if let Some(promotion) = self.promotions.get_mut(&id) {
            change(promotion);
            turn.touch(RecordKey::Promotion(id));
        }
    }

    /// One record, if there is one of that name.
    pub fn record(&self, key: &RecordKey) -> Option<RecordRef<'_>> {
        match key {
            RecordKey::Clock => Some(RecordRef::Clock(&self.clock)),
            RecordKey::Cluster => self.cluster.as_ref().map(RecordRef::Cluster),
            RecordKey::Region(name) => self.regions.get(name).map(RecordRef::Region),
            RecordKey::Session(key) => self.sessions.get(key).map(RecordRef::Session),
            RecordKey::Scope(id) => self.scopes.get(id).map(RecordRef::Scope),
            RecordKey::Promotion(id) => self.promotions.get(id).map(RecordRef::Promotion),
            RecordKey::Request(key) => self.requests.get(key).map(RecordRef::Request),
            RecordKey::Review(id) => self.reviews.get(id).map(RecordRef::Review),
            RecordKey::AuditHead => Some(RecordRef::AuditHead(&self.audit_head)),
            RecordKey::Audit(seq) => self.audit.get(seq).map(RecordRef::Audit),
            RecordKey::Rule(id) => self.rules.get(id).map(RecordRef::Rule),
            RecordKey::Restored => self.restored.as_ref().map(RecordRef::Restored),
            RecordKey::Preference => {
                Some(&self.preference[..]).filter(|p| !p.is_empty()).map(RecordRef::Preference)
            }
        }
    }

    /// The names of all records, in their order.
    pub fn keys(&self) -> Vec<RecordKey> {
        let mut keys = vec![RecordKey::Clock];
        keys.extend(self.cluster.iter().map(|_| RecordKey::Cluster));
        keys.extend(self.regions.keys().cloned().map(RecordKey::Region));
        keys.extend(self.sessions.keys().cloned().map(RecordKey::Session));
        keys.extend(self.scopes.keys().cloned().map(RecordKey::Scope));
        keys.extend(self.promotions.keys().copied().map(RecordKey::Promotion));
        keys.extend(self.requests.keys().cloned().map(RecordKey::Request));
        keys.extend(self.reviews.keys().copied().map(RecordKey::Review));
        keys.push(RecordKey::AuditHead);
        keys.extend(self.audit.keys().copied().map(RecordKey::Audit));
        keys.extend(self.rules.keys().copied().map(RecordKey::Rule));
        keys.extend(self.restored.iter().map(|_| RecordKey::Restored));
        if !self.preference.is_empty() {
            keys.push(RecordKey::Preference);
        }
        keys
    }

    /// Puts a stored record in its place. Loading every record of [`Machine::keys`] gives the machine.
    pub fn load(&mut self, record: Record) {
        self.index.loaded();
        match record {
            Record::Clock(clock) => self.clock = clock,
            Record::Cluster(cluster) => self.cluster = Some(cluster),
            Record::Region(region) => drop(self.regions.insert(region.name.clone(), region)),
            Record::Session(session) => {
                let before = self.sessions.insert(session.key.clone(), session.clone());
                self.index_session(before.as_ref(), &session);
            }
            Record::Scope(scope) => {
                let before = self.scopes.insert(scope.id.clone(), scope.clone());
                self.index_scope(before.as_ref(), &scope);
            }
            Record::Promotion(promotion) => drop(self.promotions.insert(promotion.id, promotion)),
            Record::Request(request) => drop(self.requests.insert(request.key.clone(), request)),
            Record::Review(review) => drop(self.reviews.insert(review.id, review)),
            Record::AuditHead(head) => self.audit_head = head,
            Record::Audit(entry) => drop(self.audit.insert(entry.seq, entry)),
            Record::Rule(rule) => drop(self.rules.insert(rule.id, rule)),
            Record::Restored(restored) => self.restored = Some(restored),
            Record::Preference(regions) => self.preference = regions,
        }
    }
}

/// Tells one command from another under the same idempotency key.
fn command_hash(command: &Command) -> Hash {
    Hash::of(format!("{command:?}").as_bytes())
}
