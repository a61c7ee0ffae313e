//! Authority: reserve, seal, grant, hand over, release, roll back.
//!
//! Reserve opens the next epoch and dooms the old lease; seals fix where each sink ends; the grant
//! fixes where the new reign starts. One way leads to `Active`: a grant once the old lease is over. It
//! has run out, or its holder gave it away after it stopped for good.

use super::{Machine, Turn};
use crate::command::{Answer, Grant, Handover, Outcome, Release, Reserve, Rollback};
use crate::diagnose;
use crate::people::{Actor, Role};
use crate::plan::Step;
use crate::position::Position;
use crate::promotion::{self, Kind, PromotionId, StepState};
use crate::refusal::Refusal;
use crate::region::RegionName;
use crate::report::ScopeReport;
use crate::scope::{HISTORY_MAX, Lease, Phase, Reign, Reservation, Scope, ScopeId};
use crate::session::{Session, SessionKey};
use crate::time::{Millis, Stamp};
use crate::token::Token;

/// The longest a worker may ask a scope to be kept for its return.
const KEEP_MAX: Millis = Millis::secs(60);

impl Machine {
    pub(super) fn reserve(&mut self, turn: &mut Turn, reserve: &Reserve) -> Answer {
        turn.controller_only()?;
        let scope = self.scope(&reserve.scope)?;
        if scope.reservation.is_some() {
            return Err(wrong_phase(scope, "no token reserved"));
        }
        let Some(session) = self.live_session(&reserve.candidate) else {
            return Err(Refusal::NoSession { session: reserve.candidate.to_string() });
        };
        let region = session.region.clone();
        self.may_grant()?;
        self.member(scope, &region)?;
        self.no_foreign_token(scope)?;
        let (required, unsealed) = match reserve.promotion {
            Some(id) => self.may_reserve_for(scope, id, &region)?,
            None => self.may_regrant(turn, scope, session)?,
        };
        let mut token = Token { incarnation: self.incarnation(), epoch: scope.highest.epoch + 1 };
        if reserve.promotion.is_none()
            && scope.highest.epoch > 0
            && crate::seeded_bug::is("token_reused")
        {
            token = scope.highest;
        }
        let reservation = Reservation {
            token,
            candidate: reserve.candidate.clone(),
            region: region.clone(),
            promotion: reserve.promotion,
            at: turn.now(),
            sealed: Default::default(),
            required,
            unsealed: unsealed.clone(),
        };
        self.change_scope(turn, &reserve.scope, |scope| {
            scope.highest = token;
            scope.phase = Phase::Sealing;
            scope.reservation = Some(reservation);
            scope.moving = reserve.promotion;
        });
        if let Some(id) = reserve.promotion {
            let (at, candidate) = (turn.at, reserve.candidate.clone());
            self.supersede_others(turn, &reserve.scope, id);
            self.change_promotion(turn, id, |promotion| {
                promotion.token = Some(token);
                promotion.candidate = Some(candidate);
                promotion.unsealed = unsealed;
                finish(promotion, Step::Reserve, at, format!("epoch {}", token.epoch));
            });
        }
        let detail = format!("token={token} for {region}");
        self.note(turn, "reserve", &subject(&reserve.scope, reserve.promotion), &detail);
        Ok(Outcome::Reserved { token })
    }

    /// The sinks a promotion must seal: those in regions with a fresh report; and the rest.
    fn may_reserve_for(
        &self,
        scope: &Scope,
        id: PromotionId,
        region: &RegionName,
    ) -> Result<(Vec<RegionName>, Vec<RegionName>), Refusal> {
        let promotion = self.promotion(id)?;
        if !promotion.is_at(Step::Reserve) || promotion.scope != scope.id || promotion.to != *region
        {
            return Err(Refusal::NotAtStep { promotion: id, step: Step::Reserve.to_string() });
        }
        self.still_bound(promotion)?;
        // A holder that is there and does nothing may never seal: its lease runs out instead.
        let idle = diagnose::unwell(self, scope).map(|_| &promotion.from);
        let (required, unsealed): (Vec<_>, Vec<_>) =
            scope.policy.members.iter().cloned().partition(|member| {
                Some(member) != idle && self.sink_of(member, &scope.id).is_some()
            });
        if required.len() < scope.policy.sinks_needed() {
            return Err(Refusal::NotSealed { scope: scope.id.clone(), missing: list(&unsealed) });
        }
        Ok((required, unsealed))
    }

    /// A grant inside the assigned region needs no people: only its own sink, intact and level.
    fn may_regrant(
        &self,
        turn: &Turn,
        scope: &Scope,
        session: &Session,
    ) -> Result<(Vec<RegionName>, Vec<RegionName>), Refusal> {
        if let Some(promotion) = scope.moving {
            return Err(Refusal::Moving { scope: scope.id.clone(), promotion });
        }
        if scope.lease.is_some() || scope.phase != Phase::Vacant {
            return Err(wrong_phase(scope, "vacant"));
        }
        if session.region != scope.assigned {
            return Err(Refusal::NotAMember {
                region: session.region.clone(),
                scope: scope.id.clone(),
                members: format!("{} (assigned)", scope.assigned),
            });
        }
        self.furthest_after_restore(scope, session)?;
        let limits = self.limits();
        let recent = scope
            .regrants
            .iter()
            .filter(|at| turn.now().since(**at) < limits.regrant_window)
            .count();
        if recent >= limits.regrant_max as usize && !scope.history.is_empty() {
            let count = u32::try_from(recent).unwrap_or(u32::MAX);
            return Err(Refusal::RegrantLimit { scope: scope.id.clone(), count });
        }
        Ok((vec![session.region.clone()], Vec::new()))
    }

    pub(super) fn grant(&mut self, turn: &mut Turn, grant: &Grant) -> Answer {
        turn.controller_only()?;
        let scope = self.scope(&grant.scope)?;
        let Some(reservation) = scope.reservation.clone() else {
            return Err(wrong_phase(scope, "a reserved token"));
        };
        if reservation.token != grant.token {
            return Err(wrong_token(scope, grant.token, reservation.token));
        }
        if let (Some(lease), Some(until)) = (&scope.lease, self.lease_expires(scope))
            && !crate::seeded_bug::is("grant_without_expiry")
        {
            let holder = lease.holder.to_string();
            return Err(Refusal::LeaseHeld { scope: scope.id.clone(), holder, until });
        }
        if let Some(id) = reservation.promotion {
            let promotion = self.promotion(id)?;
            if !promotion.is_at(Step::Grant) {
                return Err(Refusal::NotAtStep { promotion: id, step: Step::Grant.to_string() });
            }
            self.still_bound(promotion)?;
        }
        let start = self.start_of(scope, &reservation)?;
        self.enthrone(turn, &grant.scope, reservation, start);
        Ok(Outcome::Granted { token: grant.token, start })
    }

    /// The holder gives its lease away, mostly while others still seal: the grant finds it gone and
    /// waits for nobody. Undone, the assigned region is granted anew, as after every reserved token.
    pub(super) fn handover(&mut self, turn: &mut Turn, handover: &Handover) -> Answer {
        self.worker_itself(turn, &handover.session)?;
        let promotion = self.promotion(handover.promotion)?.clone();
        let scope = self.scope(&promotion.scope)?;
        let held = self.live_lease(&scope.id).filter(|lease| lease.holder == handover.session);
        let Some(lease) = held else {
            return Err(wrong_phase(scope, "a live lease of the one who hands over"));
        };
        if lease.token != handover.token {
            return Err(wrong_token(scope, handover.token, lease.token));
        }
        let reserved =
            scope.reservation.as_ref().is_some_and(|r| r.promotion == Some(promotion.id));
        if promotion.kind != Kind::Switchover || !reserved {
            return Err(Refusal::NotAtStep {
                promotion: promotion.id,
                step: Step::Grant.to_string(),
            });
        }
        self.still_bound(&promotion)?;
        if promotion.barrier != Some(handover.end) {
            let has = promotion.barrier.unwrap_or_default();
            return Err(Refusal::TailMissing { has: has.seq, needs: handover.end.seq });
        }
        let detail = format!("handed over: {}", self.vacate(turn, &promotion.scope));
        self.note(turn, "vacant", &subject(&promotion.scope, Some(promotion.id)), &detail);
        Ok(Outcome::Done)
    }

    /// Where the next reign starts: every required sink refuses below the token, and the candidate
    /// has all that any of them holds.
    fn start_of(&self, scope: &Scope, reservation: &Reservation) -> Result<Position, Refusal> {
        let sealed = self.seals(scope, reservation);
        let missing: Vec<RegionName> = reservation
            .required
            .iter()
            .filter(|region| {
                !sealed.contains_key(*region) && !reservation.sealed.contains_key(*region)
            })
            .cloned()
            .collect();
        if !missing.is_empty() {
            return Err(Refusal::NotSealed { scope: scope.id.clone(), missing: list(&missing) });
        }
        let session = self
            .live_session(&reservation.candidate)
            .ok_or_else(|| Refusal::NoSession { session: reservation.candidate.to_string() })?;
        let report = session.report.scopes.get(&scope.id);
        let has = report.map(|report| report.end).unwrap_or_default();
        let needs = match reservation.promotion {
            Some(_) => reservation.tail(),
            // A regrant: what it sealed is all there is; what was never visible is a fork by now.
            None => sealed.get(&reservation.region).copied().unwrap_or_default(),
        };
        let known = scope
            .last_known
            .as_ref()
            .filter(|known| reservation.promotion.is_none() && known.region == reservation.region)
            .map(|known| known.end.seq)
            .unwrap_or_default();
        if has != needs || has.seq < known {
            return Err(Refusal::TailMissing { has: has.seq, needs: needs.seq.max(known) });
        }
        Ok(has)
    }

    /// Gives the lease to the candidate. The point of no return.
    fn enthrone(&mut self, turn: &mut Turn, id: &ScopeId, from: Reservation, start: Position) {
        let (at, token) = (turn.at, from.token);
        let Reservation { candidate, region, promotion, .. } = from;
        let before = self.scopes.get(id).map(|scope| scope.assigned.clone());
        self.change_scope(turn, id, |scope| {
            if promotion.is_none() && !scope.history.is_empty() {
                scope.regrants.push(at.log);
                let surplus = scope.regrants.len().saturating_sub(16);
                scope.regrants.drain(..surplus);
            }
            scope.lease = Some(Lease {
                holder: candidate,
                token,
                granted_at: at.log,
                withheld_from: None,
                withheld_why: None,
            });
            scope.history.push(Reign { token, region: region.clone(), start, at, promotion });
            let surplus = scope.history.len().saturating_sub(HISTORY_MAX);
            scope.history.drain(..surplus);
            if scope.assigned != region {
                scope.assigned = region.clone();
                scope.assignment_version += 1;
            }
            scope.phase = Phase::Active;
            scope.reservation = None;
            scope.moving = None;
            scope.kept_until = None;
        });
        if let Some(promotion) = promotion {
            self.change_promotion(turn, promotion, |promotion| {
                promotion.start = Some(start);
                finish(promotion, Step::Grant, at, format!("starts after record {start}"));
            });
        }
        let moved = match before {
            Some(before) if before != region => format!("{before} -> {region}"),
            _ => region.to_string(),
        };
        let detail = format!("{moved} token={token} start={start}");
        self.note(turn, "grant", &subject(id, promotion), &detail);
    }

    pub(super) fn release(&mut self, turn: &mut Turn, release: &Release) -> Answer {
        self.worker_itself(turn, &release.session)?;
        let scope = self.scope(&release.scope)?;
        let Some(lease) = scope.lease.as_ref().filter(|l| l.holder == release.session) else {
            return Err(wrong_phase(scope, "a lease of the one who releases"));
        };
        if lease.token != release.token {
            return Err(wrong_token(scope, release.token, lease.token));
        }
        let kept = release.keep_for.map(|span| turn.now() + span.min(KEEP_MAX));
        self.change_scope(turn, &release.scope, |scope| scope.kept_until = kept);
        let detail = format!("released: {}", self.vacate(turn, &release.scope));
        self.note(turn, "vacant", &release.scope.to_string(), &detail);
        Ok(Outcome::Done)
    }

    pub(super) fn rollback(&mut self, turn: &mut Turn, rollback: &Rollback) -> Answer {
        turn.controller_only()?;
        let scope = self.scope(&rollback.scope)?;
        match rollback.promotion {
            Some(id) => {
                let promotion = self.promotion(id)?;
                if promotion.scope != rollback.scope || !promotion.is_open() {
                    return Err(Refusal::Ended {
                        promotion: id,
                        outcome: "nothing to undo".to_owned(),
                    });
                }
                if promotion.is_past_grant() {
                    let hint = "ask for a promotion back".to_owned();
                    return Err(Refusal::TooLate {
                        promotion: id,
                        step: Step::Grant.to_string(),
                        hint,
                    });
                }
                self.undo(turn, id, &rollback.why);
            }
            None => {
                if scope.reservation.as_ref().is_none_or(|r| r.promotion.is_some()) {
                    return Err(wrong_phase(scope, "a regrant under way"));
                }
                self.unreserve(turn, &rollback.scope);
                self.note(turn, "regrant_undone", &rollback.scope.to_string(), &rollback.why);
            }
        }
        Ok(Outcome::Done)
    }

    /// Undoes a promotion before its grant: its token is burnt, and the old holder resumes under a
    /// new one, or goes on where no token was reserved yet.
    pub(super) fn undo(&mut self, turn: &mut Turn, id: PromotionId, why: &str) {
        let Some(scope) = self.promotions.get(&id).map(|p| p.scope.clone()) else { return };
        self.unreserve(turn, &scope);
        self.end_promotion(turn, id, promotion::Outcome::RolledBack { why: why.to_owned() });
    }

    fn unreserve(&mut self, turn: &mut Turn, id: &ScopeId) {
        let halfway = crate::seeded_bug::is("undo_leaves_token");
        self.change_scope(turn, id, |scope| {
            scope.reservation = scope.reservation.take().filter(|_| halfway);
            scope.moving = None;
            scope.phase = match (&scope.lease, scope.lease_is_doomed()) {
                (Some(_), false) => Phase::Active,
                // A doomed lease is given back or runs out; then the assigned region is granted anew.
                (Some(_), true) => Phase::Draining,
                (None, _) => Phase::Vacant,
            };
        });
    }

    /// A promotion past its grant gives way to the next one.
    fn supersede_others(&mut self, turn: &mut Turn, scope: &ScopeId, by: PromotionId) {
        let others: Vec<PromotionId> = self
            .promotions
            .values()
            .filter(|p| p.is_open() && p.scope == *scope && p.id != by && p.is_past_grant())
            .map(|p| p.id)
            .collect();
        for id in others {
            self.end_promotion(turn, id, promotion::Outcome::Superseded { by });
        }
    }

    /// Ends of the sinks that refuse below a reserved token, by their committed reports.
    pub fn seals(
        &self,
        scope: &Scope,
        reservation: &Reservation,
    ) -> std::collections::BTreeMap<RegionName, Position> {
        scope
            .policy
            .members
            .iter()
            .filter_map(|region| {
                let (_, report) = self.sink_of(region, &scope.id)?;
                let sealed = report.sealed.filter(|s| s.token == reservation.token)?;
                Some((region.clone(), sealed.end))
            })
            .collect()
    }

    /// A region's sink of a scope: the live session whose report is fresh, and what it says.
    pub fn sink_of(&self, region: &RegionName, id: &ScopeId) -> Option<(&Session, &ScopeReport)> {
        let fresh = self.limits().report_fresh;
        let now = self.clock.now.log;
        let session = self.keepers(region).find(|s| now.since(s.renewed_at) < fresh)?;
        Some((session, session.report.scopes.get(id)?))
    }

    fn no_foreign_token(&self, scope: &Scope) -> Result<(), Refusal> {
        let seen = scope
            .policy
            .members
            .iter()
            .filter_map(|region| self.sink_of(region, &scope.id))
            .map(|(_, report)| report.highest)
            .max()
            .unwrap_or_default();
        if seen > scope.highest { Err(wrong_token(scope, seen, scope.highest)) } else { Ok(()) }
    }

    fn member(&self, scope: &Scope, region: &RegionName) -> Result<(), Refusal> {
        if scope.policy.members.contains(region) {
            return Ok(());
        }
        Err(Refusal::NotAMember {
            region: region.clone(),
            scope: scope.id.clone(),
            members: list(&scope.policy.members),
        })
    }

    fn worker_itself(&self, turn: &Turn, session: &SessionKey) -> Result<(), Refusal> {
        match turn.actor {
            Actor::Worker(id) if *id == session.worker => {}
            other => {
                return Err(Refusal::NotAllowed { who: other.to_string(), role: Role::Admin });
            }
        }
        if self.sessions.contains_key(session) {
            return Ok(());
        }
        Err(Refusal::NoSession { session: session.to_string() })
    }

    pub(super) fn incarnation(&self) -> u32 {
        self.cluster.as_ref().map_or(0, |cluster| cluster.incarnation)
    }

    /// Times and bounds in force; the defaults before founding.
    pub fn limits(&self) -> crate::config::Limits {
        self.cluster.as_ref().map(|cluster| cluster.config.limits).unwrap_or_default()
    }

    /// Records what sealed sinks answered; those not reached are listed.
    pub(super) fn sealed(
        &mut self,
        turn: &mut Turn,
        id: PromotionId,
        unsealed: &[RegionName],
    ) -> Result<String, Refusal> {
        let promotion = self.promotion(id)?;
        let scope = self.scope(&promotion.scope)?;
        let Some(reservation) = scope.reservation.as_ref().filter(|r| r.promotion == Some(id))
        else {
            return Err(wrong_phase(scope, "a token reserved for it"));
        };
        let ends = self.seals(scope, reservation);
        // A holder that is not heard may go on behind its barrier until its lease ends: only its
        // own sealed sink says that nothing more was written there.
        let unheard = Some(&promotion.from)
            .filter(|from| promotion.kind == Kind::Switchover && !ends.contains_key(*from));
        let gave_up = |region: &RegionName| {
            unsealed.contains(region)
                && *region != reservation.region
                && self.sink_of(region, &scope.id).is_none()
        };
        let missing: Vec<RegionName> = reservation
            .required
            .iter()
            .filter(|region| !ends.contains_key(*region) && !gave_up(region))
            .filter(|region| unheard != Some(*region))
            .chain(unheard)
            .cloned()
            .collect();
        if !missing.is_empty() || ends.len() < scope.policy.sinks_needed() {
            return Err(Refusal::NotSealed { scope: scope.id.clone(), missing: list(&missing) });
        }
        let all_unsealed: Vec<RegionName> =
            scope.policy.members.iter().filter(|r| !ends.contains_key(*r)).cloned().collect();
        let note = format!(
            "{} sinks, highest end {}{}",
            ends.len(),
            ends.values().max().copied().unwrap_or_default(),
            match all_unsealed.is_empty() {
                true => String::new(),
                false => format!(", not reached: {}", list(&all_unsealed)),
            }
        );
        let scope = scope.id.clone();
        let unreached = all_unsealed.clone();
        self.change_scope(turn, &scope, |scope| {
            if let Some(reservation) = &mut scope.reservation {
                reservation.required = ends.keys().cloned().collect();
                reservation.sealed = ends;
                reservation.unsealed = unreached;
            }
        });
        self.change_promotion(turn, id, |promotion| promotion.unsealed = all_unsealed);
        Ok(note)
    }
}

/// Marks a step done.
pub(super) fn finish(
    promotion: &mut crate::promotion::Promotion,
    step: Step,
    at: Stamp,
    note: String,
) {
    if let Some(record) = promotion.steps.iter_mut().find(|record| record.step == step) {
        record.state = StepState::Done { note };
        record.started.get_or_insert(at);
        record.ended = Some(at);
    }
}

fn subject(scope: &ScopeId, promotion: Option<PromotionId>) -> String {
    promotion.map_or_else(|| scope.to_string(), |id| format!("{scope} {id}"))
}

fn wrong_phase(scope: &Scope, needs: &str) -> Refusal {
    Refusal::WrongPhase {
        scope: scope.id.clone(),
        phase: scope.phase.to_string(),
        needs: needs.to_owned(),
    }
}

fn wrong_token(scope: &Scope, shown: Token, current: Token) -> Refusal {
    Refusal::WrongToken { scope: scope.id.clone(), shown, current }
}

fn list(regions: &[RegionName]) -> String {
    regions.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
