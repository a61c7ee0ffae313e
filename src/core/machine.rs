//! The replicated machine: entry in; answer, effects and changed records out.

use crate::audit::{AuditEntry, AuditHead};
use crate::command::{Answer, Entry};
use crate::config::Cluster;
use crate::promotion::{Promotion, PromotionId};
use crate::record::{Clock, Record, RecordKey, Request, RequestKey, Review};
use crate::region::RegionName;
use crate::report::RegionRecord;
use crate::scope::{Scope, ScopeId};
use crate::session::{Session, SessionKey};
use crate::time::Stamp;
use std::collections::{BTreeMap, BTreeSet};

/// Everything the cluster has agreed on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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

impl Machine {
    /// Time as of the last entry.
    pub fn now(&self) -> Stamp {
        self.clock.now
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
    pub fn apply(&mut self, _index: u64, _entry: &Entry) -> Applied {
        Applied {
            answer: Ok(crate::command::Outcome::Done),
            effects: vec![],
            changed: BTreeSet::new(),
        }
    }

    /// One record, if there is one of that name.
    pub fn record(&self, key: &RecordKey) -> Option<Record> {
        match key {
            RecordKey::Clock => Some(Record::Clock(self.clock)),
            RecordKey::Cluster => self.cluster.clone().map(Record::Cluster),
            RecordKey::Region(name) => self.regions.get(name).cloned().map(Record::Region),
            RecordKey::Session(key) => self.sessions.get(key).cloned().map(Record::Session),
            RecordKey::Scope(id) => self.scopes.get(id).cloned().map(Record::Scope),
            RecordKey::Promotion(id) => self.promotions.get(id).cloned().map(Record::Promotion),
            RecordKey::Request(key) => self.requests.get(key).cloned().map(Record::Request),
            RecordKey::Review(id) => self.reviews.get(id).cloned().map(Record::Review),
            RecordKey::AuditHead => Some(Record::AuditHead(self.audit_head)),
            RecordKey::Audit(seq) => self.audit.get(seq).cloned().map(Record::Audit),
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
        keys
    }

    /// Puts a stored record in its place. Loading every record of [`Machine::keys`] gives the machine.
    pub fn load(&mut self, record: Record) {
        match record {
            Record::Clock(clock) => self.clock = clock,
            Record::Cluster(cluster) => self.cluster = Some(cluster),
            Record::Region(region) => drop(self.regions.insert(region.name.clone(), region)),
            Record::Session(session) => drop(self.sessions.insert(session.key.clone(), session)),
            Record::Scope(scope) => drop(self.scopes.insert(scope.id.clone(), scope)),
            Record::Promotion(promotion) => drop(self.promotions.insert(promotion.id, promotion)),
            Record::Request(request) => drop(self.requests.insert(request.key.clone(), request)),
            Record::Review(review) => drop(self.reviews.insert(review.id, review)),
            Record::AuditHead(head) => self.audit_head = head,
            Record::Audit(entry) => drop(self.audit.insert(entry.seq, entry)),
        }
    }
}
