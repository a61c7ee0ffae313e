//! Upkeep: reports, links, pauses, reviews, versions, and what a tick brings to an end.

use super::{Machine, REQUEST_KEPT, Turn};
use crate::command::{
    Answer, DecideReview, OpenReview, Outcome, PauseScope, Report, SetLink, Unpause,
};
use crate::config::CLUSTER_VERSION;
use crate::decide::{self, PredicateName, Verdict};
use crate::diagnose;
use crate::lease;
use crate::people::{Actor, Role};
use crate::promotion::{self, Difference, Promotion, PromotionId, State};
use crate::record::{RecordKey, RequestKey, Review};
use crate::refusal::Refusal;
use crate::region::Link;
use crate::scope::{PAUSE_MAX, Pause, ScopeId};
use crate::session::SessionKey;
use crate::time::Millis;

/// Ended promotions kept in the machine; older ones stand in the audit.
const PROMOTIONS_KEPT: usize = 1000;

impl Machine {
    pub(super) fn report(&mut self, turn: &mut Turn, report: &Report) -> Answer {
        let own = match turn.actor {
            Actor::Node(id) => self
                .cluster
                .as_ref()
                .and_then(|cluster| cluster.config.region_of(*id))
                .is_some_and(|region| *region == report.region),
            _ => false,
        };
        if !own {
            return Err(Refusal::NotAllowed { who: turn.actor.to_string(), role: Role::Admin });
        }
        let now = turn.now();
        let fresh = self.limits().report_fresh;
        let Some(record) = self.regions.get_mut(&report.region) else {
            return Err(unknown_region(&report.region.0));
        };
        if record.reported_at.is_none_or(|last| now.since(last) >= fresh) {
            record.troubles.clear(); // Nobody knows what was so in between.
        }
        record.report = report.report.clone();
        record.reported_at = Some(now);
        let troubles = diagnose::troubles(self, &report.region);
        if let Some(record) = self.regions.get_mut(&report.region) {
            record.troubles.retain(|trouble, _| troubles.contains(trouble));
            for trouble in troubles {
                record.troubles.entry(trouble).or_insert(now);
            }
        }
        turn.touch(RecordKey::Region(report.region.clone()));
        Ok(Outcome::Done)
    }

    pub(super) fn set_link(&mut self, turn: &mut Turn, set: &SetLink) -> Answer {
        turn.controller_only()?;
        let Some(record) = self.regions.get_mut(&set.region) else {
            return Err(unknown_region(&set.region.0));
        };
        let before = record.link;
        record.link = set.link;
        turn.touch(RecordKey::Region(set.region.clone()));
        if std::mem::discriminant(&before) != std::mem::discriminant(&set.link) {
            let word = match set.link {
                Link::Connected => "connected",
                Link::Isolated { .. } => "isolated",
                Link::Reconciling { .. } => "reconciling",
            };
            self.note(turn, "link", set.region.as_str(), word);
        }
        Ok(Outcome::Done)
    }

    pub(super) fn pause(&mut self, turn: &mut Turn, pause: &PauseScope) -> Answer {
        let owner = turn.person(Role::Operator)?;
        self.scope(&pause.scope)?;
        self.allowed(&owner, Role::Operator, &pause.scope, None)?;
        if pause.reason.trim().is_empty() {
            return Err(Refusal::ReasonMissing { what: "a pause".to_owned() });
        }
        if pause.span == Millis::ZERO || pause.span > PAUSE_MAX {
            return Err(Refusal::Invalid {
                what: "the pause's length".to_owned(),
                why: format!("{} is not between 1 ms and {PAUSE_MAX}", pause.span),
            });
        }
        let record = Pause {
            owner: owner.to_string(),
            reason: pause.reason.clone(),
            at: turn.at,
            until_log: turn.now() + pause.span,
            until_wall: turn.at.wall + pause.span,
        };
        let detail = format!("for {}: {}", pause.span, pause.reason);
        self.change_scope(turn, &pause.scope, |scope| scope.pause = Some(record));
        self.note(turn, "pause", &pause.scope.to_string(), &detail);
        Ok(Outcome::Done)
    }

    pub(super) fn unpause(&mut self, turn: &mut Turn, unpause: &Unpause) -> Answer {
        let who = turn.person(Role::Operator)?;
        let scope = self.scope(&unpause.scope)?;
        self.allowed(&who, Role::Operator, &unpause.scope, None)?;
        if scope.pause.is_none() {
            return Err(Refusal::Invalid {
                what: unpause.scope.to_string(),
                why: "is not paused".to_owned(),
            });
        }
        self.change_scope(turn, &unpause.scope, |scope| scope.pause = None);
        self.note(turn, "resume", &unpause.scope.to_string(), "pause ended by hand");
        Ok(Outcome::Done)
    }

    pub(super) fn open_review(&mut self, turn: &mut Turn, open: &OpenReview) -> Answer {
        if !matches!(turn.actor, Actor::Worker(_) | Actor::Controller) {
            return Err(Refusal::NotAllowed { who: turn.actor.to_string(), role: Role::Admin });
        }
        self.scope(&open.scope)?;
        let id = self.clock.next_review;
        self.clock.next_review += 1;
        let review = Review {
            id,
            scope: open.scope.clone(),
            what: open.what.clone(),
            at: turn.at,
            decided: None,
        };
        turn.touch(RecordKey::Review(id));
        self.reviews.insert(id, review);
        self.note(turn, "review", &open.scope.to_string(), &open.what);
        Ok(Outcome::Review { id })
    }

    pub(super) fn decide_review(&mut self, turn: &mut Turn, decide: &DecideReview) -> Answer {
        let who = turn.person(Role::Approver)?;
        let invalid = |why: &str| Refusal::Invalid {
            what: format!("review {}", decide.review),
            why: why.to_owned(),
        };
        let Some(review) = self.reviews.get(&decide.review) else {
            return Err(invalid("does not exist"));
        };
        self.allowed(&who, Role::Approver, &review.scope.clone(), None)?;
        if review.decided.is_some() {
            return Err(invalid("was decided before"));
        }
        let at = turn.at;
        if let Some(review) = self.reviews.get_mut(&decide.review) {
            review.decided = Some((who, decide.decision.clone(), at));
            turn.touch(RecordKey::Review(decide.review));
        }
        self.note(turn, "review_decided", &decide.review.to_string(), &decide.decision);
        Ok(Outcome::Done)
    }

    /// The version that a cluster is founded at, before anything else happened in it. Later it is
    /// raised by a rule change alone.
    pub(super) fn set_cluster_version(&mut self, turn: &mut Turn, version: u32) -> Answer {
        let who = turn.person(Role::Admin)?;
        self.allowed_everywhere(&who, Role::Admin)?;
        let has = self.cluster.as_ref().map_or(0, |cluster| cluster.version);
        if version > CLUSTER_VERSION || version <= has {
            return Err(Refusal::Version { needs: version, has });
        }
        if !self.sessions.is_empty() || self.scopes.values().any(|s| !s.history.is_empty()) {
            return Err(Refusal::Invalid {
                what: "cluster version".to_owned(),
                why: "is raised by people: cryptorun cluster upgrade --finalise".to_owned(),
            });
        }
        self.raise_version(turn, version);
        Ok(Outcome::Done)
    }

    /// What time alone brings to an end. Leases are not among it: they run out before every entry.
    pub(super) fn tick(&mut self, turn: &mut Turn) {
        let now = turn.at;
        let expired: Vec<PromotionId> = self
            .promotions
            .values()
            .filter(|p| p.state == State::Waiting)
            .filter(|p| now.log >= p.expires_log || now.wall >= p.expires_wall)
            .filter(|_| !crate::seeded_bug::is("expired_approval_taken"))
            .map(|p| p.id)
            .collect();
        for id in expired {
            self.end_promotion(turn, id, promotion::Outcome::Expired);
        }
        self.expire_rules(turn);
        self.void_what_has_no_cause(turn);
        let rested: Vec<ScopeId> = self
            .scopes
            .values()
            .filter(|scope| scope.pause.as_ref().is_some_and(|pause| pause.is_over(now)))
            .map(|scope| scope.id.clone())
            .collect();
        for id in rested {
            self.change_scope(turn, &id, |scope| scope.pause = None);
            self.note_time(turn, "resume", &id.to_string(), "pause ran out");
        }
        self.forget(turn);
    }

    /// The controller asked because a holder was gone. It is back, or its scope was moved by another
    /// promotion: nobody needs to answer any more.
    fn void_what_has_no_cause(&mut self, turn: &mut Turn) {
        let own = self
            .promotions
            .values()
            .filter(|p| p.state == State::Waiting && p.requester == Actor::Controller);
        let void: Vec<_> = own.filter_map(|p| Some((p.id, self.without_cause(p)?))).collect();
        for (id, difference) in void {
            let differences = vec![difference];
            self.end_promotion(turn, id, promotion::Outcome::Void { differences });
        }
    }

    fn without_cause(&self, promotion: &Promotion) -> Option<Difference> {
        let scope = self.scopes.get(&promotion.scope)?;
        let bound = promotion.bound.assignment_version;
        if scope.assignment_version != bound {
            return Some(Difference {
                field: "assignment_version".to_owned(),
                bound: bound.to_string(),
                now: scope.assignment_version.to_string(),
            });
        }
        self.live_lease(&promotion.scope)?;
        let decision = decide::decide(self, &decide::Ask::of(promotion)).ok()?;
        let back =
            |p: &&decide::Predicate| p.name == PredicateName::Primary && p.verdict == Verdict::No;
        let primary = decision.predicates.iter().find(back)?;
        Some(Difference {
            field: PredicateName::Primary.to_string(),
            bound: "gone".to_owned(),
            now: primary.value.clone(),
        })
    }

    /// Drops what nobody can use any more.
    fn forget(&mut self, turn: &mut Turn) {
        let Some(timing) = self.timing().copied() else { return };
        let now = turn.now();
        let gone: Vec<SessionKey> = self
            .sessions
            .values()
            .filter(|s| now >= lease::session_expires(s, &timing) && !self.index.holds(&s.key))
            .map(|s| s.key.clone())
            .collect();
        for key in gone {
            self.remove_session(turn, &key);
        }
        let stale: Vec<RequestKey> = self
            .requests
            .values()
            .filter(|request| now.since(request.at.log) >= REQUEST_KEPT)
            .map(|request| request.key.clone())
            .collect();
        for key in stale {
            self.requests.remove(&key);
            turn.touch(RecordKey::Request(key));
        }
        while self.promotions.len() > PROMOTIONS_KEPT {
            let Some((&id, _)) = self.promotions.iter().find(|(_, p)| !p.is_open()) else { break };
            self.promotions.remove(&id);
            turn.touch(RecordKey::Promotion(id));
        }
    }
}

fn unknown_region(name: &str) -> Refusal {
    Refusal::Invalid { what: format!("region {name}"), why: "is not configured".to_owned() }
}
