//! Promotions: asked for, stood behind, carried out step by step, ended.

use super::authority::finish;
use super::{Machine, Turn};
use crate::audit::sentence;
use crate::command::{
    Answer, Approve, Cancel, Deny, Done, Outcome, RequestPromotion, StepDone, StepFailed,
    StepStarted,
};
use crate::decide::{self, Ask, Decision, PredicateName};
use crate::people::{Actor, OperatorId, Role};
use crate::plan::Step;
use crate::position::Hash;
use crate::promotion::{self, BoundFacts, Promotion, PromotionId, State, StepRecord, StepState};
use crate::record::RecordKey;
use crate::refusal::Refusal;
use crate::region::RegionName;
use crate::scope::{Mode, Phase, Scope, ScopeId};

impl Machine {
    pub(super) fn request_promotion(&mut self, turn: &mut Turn, ask: &RequestPromotion) -> Answer {
        let scope = self.scope(&ask.scope)?;
        let by = match turn.actor {
            Actor::Person(id) => {
                self.allowed(id, Role::Operator, &ask.scope, Some(&ask.to))?;
                Some(id.clone())
            }
            Actor::Controller => None,
            other => {
                return Err(Refusal::NotAllowed { who: other.to_string(), role: Role::Operator });
            }
        };
        if by.is_some() && ask.kind == promotion::Kind::Emergency && is_blank(&ask.reason) {
            return Err(Refusal::ReasonMissing { what: "an emergency".to_owned() });
        }
        self.named_holder_holds(scope, ask.from.as_ref())?;
        self.nothing_in_the_way(ask)?;
        let decision = decide::decide(
            self,
            &Ask {
                kind: ask.kind,
                scope: ask.scope.clone(),
                to: ask.to.clone(),
                by: by.clone(),
                promotion: None,
            },
        )?;
        if decision.blocking().next().is_some() {
            return Err(Refusal::Predicates {
                kind: ask.kind,
                scope: ask.scope.clone(),
                to: ask.to.clone(),
                predicates: decision.predicates,
            });
        }
        let plan = decision.plan.hash();
        if let Some(named) = ask.plan.filter(|named| *named != plan) {
            return Err(Refusal::PlanChanged { named: named.short(), current: plan.short() });
        }
        let id = self.open_promotion(turn, ask, decision);
        let people_missing = self.promotion(id)?.people_missing();
        Ok(Outcome::Promotion { id, people_missing })
    }

    fn open_promotion(
        &mut self,
        turn: &mut Turn,
        ask: &RequestPromotion,
        decision: Decision,
    ) -> PromotionId {
        let id = PromotionId(self.clock.next_promotion);
        self.clock.next_promotion += 1;
        let limits = self.limits();
        let mode = self.scopes.get(&ask.scope).map(|scope| scope.mode);
        let alone = *turn.actor == Actor::Controller && mode == Some(Mode::Auto);
        let mut approvals = std::collections::BTreeMap::new();
        if let Actor::Person(requester) = turn.actor {
            let approval =
                promotion::Approval { at: turn.at, reason: ask.reason.clone(), certificate: None };
            approvals.insert(requester.clone(), approval);
        }
        let evidence = evidence(&decision);
        let promotion = Promotion {
            id,
            kind: ask.kind,
            scope: ask.scope.clone(),
            from: decision.from.clone(),
            to: ask.to.clone(),
            requester: turn.actor.clone(),
            reason: ask.reason.clone().filter(|reason| !reason.trim().is_empty()),
            opened: turn.at,
            expires_log: turn.now() + limits.approval,
            expires_wall: turn.at.wall + limits.approval,
            bound: self.bound(&decision),
            steps: decision
                .plan
                .steps
                .iter()
                .map(|step| StepRecord {
                    step: *step,
                    attempt: 1,
                    state: StepState::Pending,
                    started: None,
                    ended: None,
                })
                .collect(),
            plan: decision.plan,
            evidence,
            people_needed: if alone { 0 } else { decision.people.0 },
            approvals,
            state: State::Waiting,
            agreed: None,
            token: None,
            candidate: None,
            barrier: None,
            start: None,
            unsealed: Vec::new(),
            loss: decision.loss,
            measured: Default::default(),
            ended: None,
        };
        let missing = promotion.people_missing();
        let detail = sentence::Asked::of(&promotion).to_string();
        turn.touch(RecordKey::Promotion(id));
        self.promotions.insert(id, promotion);
        self.note(turn, "request", &id.to_string(), &detail);
        turn.notify(id);
        if missing == 0 {
            self.agree(turn, id);
        }
        id
    }

    pub(super) fn approve(&mut self, turn: &mut Turn, approve: &Approve) -> Answer {
        let operator = turn.person(Role::Approver)?;
        let promotion = self.promotion(approve.promotion)?.clone();
        self.still_waiting(turn, &promotion)?;
        self.allowed(&operator, Role::Approver, &promotion.scope, Some(&promotion.to))?;
        let mut operator = operator;
        if promotion.approvals.contains_key(&operator) && crate::seeded_bug::is("same_person_twice")
        {
            operator = OperatorId(format!("{operator}'"));
        }
        if promotion.approvals.contains_key(&operator) {
            return Err(Refusal::SamePerson { operator, promotion: promotion.id });
        }
        if promotion.reason.is_none()
            && promotion.approvals.values().all(|a| is_blank(&a.reason))
            && is_blank(&approve.reason)
        {
            return Err(Refusal::ReasonMissing { what: format!("approving {}", promotion.id) });
        }
        if let Err(refusal) = self.still_bound(&promotion) {
            if let Refusal::Void { differences, .. } = &refusal {
                let differences = differences.clone();
                let outcome = promotion::Outcome::Void { differences };
                self.end_promotion(turn, promotion.id, outcome);
            }
            return Err(refusal);
        }
        let approval = promotion::Approval {
            at: turn.at,
            reason: approve.reason.clone(),
            certificate: approve.certificate.clone(),
        };
        self.change_promotion(turn, promotion.id, |p| {
            p.approvals.insert(operator, approval);
        });
        let agreed = self.promotion(promotion.id)?;
        let people_missing = agreed.people_missing();
        let detail = sentence::approval(agreed, approve.reason.as_deref());
        self.note(turn, "approve", &promotion.id.to_string(), &detail);
        turn.notify(promotion.id);
        if people_missing == 0 {
            self.agree(turn, promotion.id);
        }
        Ok(Outcome::Promotion { id: promotion.id, people_missing })
    }

    fn agree(&mut self, turn: &mut Turn, id: PromotionId) {
        let at = turn.at;
        self.change_promotion(turn, id, |promotion| {
            promotion.state = State::Running;
            promotion.agreed = Some(at);
        });
        if let Some(scope) = self.promotions.get(&id).map(|p| p.scope.clone()) {
            turn.direct(&scope);
        }
    }

    pub(super) fn deny(&mut self, turn: &mut Turn, deny: &Deny) -> Answer {
        let by = turn.person(Role::Approver)?;
        let promotion = self.promotion(deny.promotion)?.clone();
        self.allowed(&by, Role::Approver, &promotion.scope, Some(&promotion.to))?;
        if deny.reason.trim().is_empty() {
            return Err(Refusal::ReasonMissing { what: format!("denying {}", promotion.id) });
        }
        self.before_reserve(&promotion)?;
        let why = deny.reason.clone();
        self.stop_early(turn, &promotion, promotion::Outcome::Denied { by, why });
        Ok(Outcome::Done)
    }

    pub(super) fn cancel(&mut self, turn: &mut Turn, cancel: &Cancel) -> Answer {
        let by = turn.person(Role::Operator)?;
        let promotion = self.promotion(cancel.promotion)?.clone();
        let own = promotion.requester == *turn.actor;
        let role = if own { Role::Operator } else { Role::Approver };
        self.allowed(&by, role, &promotion.scope, Some(&promotion.to))?;
        self.before_reserve(&promotion)?;
        let by = turn.actor.clone();
        if crate::seeded_bug::is("cancelled_goes_on") {
            return Ok(Outcome::Done);
        }
        self.stop_early(turn, &promotion, promotion::Outcome::Cancelled { by });
        Ok(Outcome::Done)
    }

    /// Ends a promotion before `Reserve`; a holder that was draining goes on.
    fn stop_early(&mut self, turn: &mut Turn, promotion: &Promotion, outcome: promotion::Outcome) {
        let draining = self
            .scopes
            .get(&promotion.scope)
            .is_some_and(|scope| scope.moving == Some(promotion.id));
        if draining {
            self.change_scope(turn, &promotion.scope, |scope| {
                scope.moving = None;
                if scope.phase == Phase::Draining {
                    scope.phase = Phase::Active;
                }
            });
        }
        self.end_promotion(turn, promotion.id, outcome);
    }

    pub(super) fn end_promotion(
        &mut self,
        turn: &mut Turn,
        id: PromotionId,
        outcome: promotion::Outcome,
    ) {
        let at = turn.at;
        let (word, detail) = (outcome.as_str(), describe(&outcome));
        self.change_promotion(turn, id, |promotion| {
            promotion.state = State::Ended(outcome);
            promotion.ended = Some(at);
        });
        match turn.actor {
            Actor::Node(_) => self.note_time(turn, word, &id.to_string(), &detail), // A tick.
            _ => self.note(turn, word, &id.to_string(), &detail),
        }
        turn.notify(id);
    }

    pub(super) fn step_started(&mut self, turn: &mut Turn, step: &StepStarted) -> Answer {
        turn.controller_only()?;
        let promotion = self.promotion(step.promotion)?;
        self.at_step(promotion, step.step, step.attempt, &StepState::Pending)?;
        let scope = promotion.scope.clone();
        if step.step == Step::Drain {
            if self.live_lease(&scope).is_none() {
                return Err(Refusal::WrongPhase {
                    scope: scope.clone(),
                    phase: self.scope(&scope)?.phase.to_string(),
                    needs: "a live lease".to_owned(),
                });
            }
            self.change_scope(turn, &scope, |scope| {
                scope.phase = Phase::Draining;
                scope.moving = Some(step.promotion);
            });
        } else {
            // Workers' directives depend on the step.
            self.change_scope(turn, &scope, |_| {});
        }
        let at = turn.at;
        self.change_promotion(turn, step.promotion, |promotion| {
            if let Some(record) = promotion.steps.iter_mut().find(|r| r.step == step.step) {
                record.state = StepState::Started;
                record.started = Some(at);
            }
        });
        Ok(Outcome::Done)
    }

    pub(super) fn step_done(&mut self, turn: &mut Turn, done: &StepDone) -> Answer {
        turn.controller_only()?;
        let promotion = self.promotion(done.promotion)?.clone();
        self.at_step(&promotion, done.step, done.attempt, &StepState::Started)?;
        let at = turn.at;
        let wrong =
            || Refusal::NotAtStep { promotion: done.promotion, step: done.step.to_string() };
        let note = match (&done.done, done.step) {
            (Done::Barrier(end), Step::Drain) => {
                self.barrier_holds(&promotion, *end)?;
                self.change_promotion(turn, promotion.id, |p| p.barrier = Some(*end));
                format!("barrier after record {end}")
            }
            (Done::Sealed { unsealed, .. }, Step::Seal) => {
                self.sealed(turn, promotion.id, unsealed)?
            }
            // These two end where the log does them.
            (_, Step::Drain | Step::Seal | Step::Reserve | Step::Grant) => return Err(wrong()),
            (Done::Note(note), _) => note.clone(),
            (Done::Skipped(why), _) => {
                let why = why.clone();
                self.change_promotion(turn, promotion.id, |promotion| {
                    if let Some(record) = promotion.steps.iter_mut().find(|r| r.step == done.step) {
                        record.state = StepState::Skipped { why };
                        record.ended = Some(at);
                    }
                });
                return Ok(Outcome::Done);
            }
            _ => return Err(wrong()),
        };
        let measured = self.measure(&promotion, done.step, turn);
        self.change_promotion(turn, promotion.id, |promotion| {
            finish(promotion, done.step, at, note);
            if let Some(measured) = measured {
                promotion.measured = measured;
            }
        });
        self.change_scope(turn, &promotion.scope, |_| {});
        if done.step == Step::Report {
            self.settle(turn, &promotion.scope);
            if !crate::seeded_bug::is("report_ends_nothing") {
                self.end_promotion(turn, promotion.id, promotion::Outcome::Done);
            }
        }
        Ok(Outcome::Done)
    }

    pub(super) fn step_failed(&mut self, turn: &mut Turn, failed: &StepFailed) -> Answer {
        turn.controller_only()?;
        let promotion = self.promotion(failed.promotion)?.clone();
        self.at_step(&promotion, failed.step, failed.attempt, &StepState::Started)?;
        let at = turn.at;
        self.change_promotion(turn, failed.promotion, |promotion| {
            if let Some(record) = promotion.steps.iter_mut().find(|r| r.step == failed.step) {
                record.state = StepState::Failed { why: failed.why.clone() };
                record.ended = Some(at);
            }
        });
        if !promotion.is_past_grant() {
            let why = format!("{} failed: {}", failed.step, failed.why);
            self.undo(turn, failed.promotion, &why);
        }
        Ok(Outcome::Done)
    }

    /// The target and the holder both say that the barrier is the last record of its token.
    fn barrier_holds(
        &self,
        promotion: &Promotion,
        end: crate::position::Position,
    ) -> Result<(), Refusal> {
        let report = |region: &RegionName| self.sink_of(region, &promotion.scope).map(|(_, r)| r);
        let stopped = report(&promotion.from).and_then(|report| report.barrier);
        let target = report(&promotion.to).map(|report| report.end).unwrap_or_default();
        if stopped == Some(end) && target == end {
            return Ok(());
        }
        Err(Refusal::TailMissing { has: target.seq, needs: end.seq })
    }

    /// Figures that a step's end brings, by the sinks' own stamps.
    fn measure(
        &self,
        promotion: &Promotion,
        step: Step,
        turn: &Turn,
    ) -> Option<promotion::Measured> {
        let mut measured = promotion.measured.clone();
        match step {
            Step::Activate => {
                let of = |region| self.sink_of(region, &promotion.scope).map(|(_, r)| r);
                let first = of(&promotion.to).and_then(|report| report.first_visible);
                let last = of(&promotion.from).and_then(|report| report.last_visible);
                measured.write_pause_ms = first.zip(last).map(|(first, last)| first.since(last).0);
                measured.move_ms = promotion.agreed.map(|at| turn.now().since(at.log).0);
            }
            _ => return None,
        }
        Some(measured)
    }

    pub(super) fn promotion(&self, id: PromotionId) -> Result<&Promotion, Refusal> {
        self.promotions.get(&id).ok_or(Refusal::NoPromotion { promotion: id })
    }

    fn at_step(
        &self,
        promotion: &Promotion,
        step: Step,
        attempt: u32,
        state: &StepState,
    ) -> Result<(), Refusal> {
        let at = promotion.state == State::Running
            && promotion
                .current()
                .is_some_and(|r| r.step == step && r.attempt == attempt && r.state == *state);
        if at {
            return Ok(());
        }
        Err(Refusal::NotAtStep { promotion: promotion.id, step: step.to_string() })
    }

    fn still_waiting(&self, turn: &Turn, promotion: &Promotion) -> Result<(), Refusal> {
        let over = |outcome: String| Refusal::Ended { promotion: promotion.id, outcome };
        match &promotion.state {
            State::Waiting => {}
            State::Running => {
                return Err(Refusal::TooLate {
                    promotion: promotion.id,
                    step: "its people".to_owned(),
                    hint: "it runs already".to_owned(),
                });
            }
            State::Ended(outcome) => return Err(over(outcome.as_str().to_owned())),
        }
        // A permission ends with whichever clock passes first.
        let over_time =
            turn.now() >= promotion.expires_log || turn.at.wall >= promotion.expires_wall;
        if over_time && !crate::seeded_bug::is("expired_approval_taken") {
            return Err(over("expired".to_owned()));
        }
        Ok(())
    }

    fn before_reserve(&self, promotion: &Promotion) -> Result<(), Refusal> {
        match &promotion.state {
            State::Ended(outcome) => Err(Refusal::Ended {
                promotion: promotion.id,
                outcome: outcome.as_str().to_owned(),
            }),
            _ if promotion.token.is_some() => Err(Refusal::TooLate {
                promotion: promotion.id,
                step: Step::Reserve.to_string(),
                hint: "let it end, then ask for a promotion back".to_owned(),
            }),
            _ => Ok(()),
        }
    }

    pub(super) fn allowed(
        &self,
        operator: &OperatorId,
        role: Role,
        scope: &ScopeId,
        region: Option<&RegionName>,
    ) -> Result<(), Refusal> {
        let person = self.cluster.as_ref().and_then(|c| c.config.people.get(operator));
        if person.is_some_and(|person| person.has(role, Some(scope), region)) {
            return Ok(());
        }
        Err(Refusal::NotAllowed { who: operator.to_string(), role })
    }

    fn named_holder_holds(&self, scope: &Scope, named: Option<&RegionName>) -> Result<(), Refusal> {
        let Some(from) = named.filter(|from| **from != scope.assigned) else { return Ok(()) };
        let reign = scope.reign();
        Err(Refusal::NotTheHolder {
            from: from.clone(),
            scope: scope.id.clone(),
            holder: scope.assigned.clone(),
            epoch: reign.map_or(0, |reign| reign.token.epoch),
            detail: reign.map_or(String::new(), |reign| {
                let promotion = reign.promotion.map(|p| format!(", {p}")).unwrap_or_default();
                format!(" ({}{promotion})", reign.at.wall)
            }),
        })
    }

    /// One promotion moves a scope at a time, and the same thing is asked for once.
    fn nothing_in_the_way(&self, ask: &RequestPromotion) -> Result<(), Refusal> {
        for other in self.promotions.values().filter(|p| p.is_open() && p.scope == ask.scope) {
            let running = other.state == State::Running && !other.is_past_grant();
            if running {
                return Err(Refusal::Moving { scope: ask.scope.clone(), promotion: other.id });
            }
            if other.state == State::Waiting && other.kind == ask.kind && other.to == ask.to {
                return Err(Refusal::AlreadyAsked { promotion: other.id });
            }
        }
        Ok(())
    }

    fn bound(&self, decision: &Decision) -> BoundFacts {
        let version = self.scopes.get(&decision.scope).map_or(0, |s| s.assignment_version);
        BoundFacts {
            assignment_version: version,
            from: decision.from.clone(),
            to: decision.to.clone(),
            kind: decision.kind,
            plan: decision.plan.hash(),
            verdicts: decision
                .predicates
                .iter()
                .filter(|p| p.hard)
                // Who stands behind it is counted; who saw it matters for opening it.
                .filter(|p| !matches!(p.name, PredicateName::People | PredicateName::Witnesses))
                .map(|p| (p.name, p.verdict))
                .collect(),
            loss_ceiling: decision.loss.clone(),
        }
    }

    /// What changed of what approvals bind; verdicts are judged as they are now, not remembered.
    pub fn bound_differences(&self, promotion: &Promotion) -> Vec<promotion::Difference> {
        match decide::decide(self, &Ask::of(promotion)) {
            Ok(decision) => promotion.bound.differences(&self.bound(&decision)),
            Err(_) => Vec::new(),
        }
    }

    /// Whether what people agreed to still stands. A changed fact voids; a hard predicate that does
    /// not hold at the moment refuses, and the promotion goes on waiting.
    pub(super) fn still_bound(&self, promotion: &Promotion) -> Result<(), Refusal> {
        if crate::seeded_bug::is("approval_unbound") {
            return Ok(());
        }
        let decision = decide::decide(self, &Ask::of(promotion))?;
        let now = self.bound(&decision);
        let mut facts = promotion.bound.clone();
        facts.verdicts.clear();
        let differences = facts.differences(&now);
        if !differences.is_empty() {
            return Err(Refusal::Void { promotion: promotion.id, differences });
        }
        // Once a token is reserved, the lease and the old primary are being dealt with.
        let settled = |name: PredicateName| {
            promotion.token.is_some()
                && matches!(
                    name,
                    PredicateName::Lease
                        | PredicateName::Primary
                        | PredicateName::Age
                        | PredicateName::Behind
                        | PredicateName::Token
                )
        };
        if decision.blocking().any(|p| !settled(p.name)) {
            return Err(Refusal::Predicates {
                kind: promotion.kind,
                scope: promotion.scope.clone(),
                to: promotion.to.clone(),
                predicates: decision.predicates,
            });
        }
        Ok(())
    }
}

fn is_blank(reason: &Option<String>) -> bool {
    reason.as_deref().is_none_or(|text| text.trim().is_empty())
}

/// Hash of the evidence: every predicate with its value.
fn evidence(decision: &Decision) -> Hash {
    let mut text =
        format!("{} {} {} {}\n", decision.kind, decision.scope, decision.from, decision.to);
    for p in &decision.predicates {
        text.push_str(&format!(
            "{}|{}|{}|{}|{}|{}\n",
            p.name, p.value, p.threshold, p.source, p.verdict, p.hard
        ));
    }
    Hash::of(text.as_bytes())
}

fn describe(outcome: &promotion::Outcome) -> String {
    use promotion::Outcome as End;
    match outcome {
        End::Done => "the scope is where it should be".to_owned(),
        End::RolledBack { why } => why.clone(),
        End::Superseded { by } => format!("by {by}"),
        End::Denied { by, why } => format!("by {by}: {why}"),
        End::Cancelled { by } => format!("by {by}"),
        End::Expired => "nobody agreed in time".to_owned(),
        End::Void { differences } => differences
            .iter()
            .map(|d| format!("{} was {}, is {}", d.field, d.bound, d.now))
            .collect::<Vec<_>>()
            .join("; "),
    }
}
