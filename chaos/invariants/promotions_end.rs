//! Every promotion ends, once, and as what happened says: done and superseded after its grant, rolled
//! back before it; steps go in the plan's order and none goes back.

use super::{Event, Invariant, Once};
use cryptorun_core::command::{Cancel, Command, Deny};
use cryptorun_core::promotion::{Outcome, Promotion, PromotionId, State, StepState};
use cryptorun_core::token::Token;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// See the module.
#[derive(Default)]
pub struct PromotionsEnd {
    once: Once,
    /// How far each open one had come, and how ended ones ended.
    open: BTreeMap<PromotionId, usize>,
    ended: BTreeMap<PromotionId, (Outcome, Option<Token>)>,
    /// Denied or cancelled, as somebody was told.
    called_off: BTreeSet<PromotionId>,
}

fn steps_over(promotion: &Promotion) -> usize {
    let over = |state: &StepState| !matches!(state, StepState::Pending | StepState::Started);
    promotion.steps.iter().take_while(|record| over(&record.state)).count()
}

impl PromotionsEnd {
    fn judge(&mut self, promotion: &Promotion) -> Result<(), String> {
        let id = promotion.id;
        let over = steps_over(promotion);
        let behind = promotion.steps[over..].iter().any(|record| {
            matches!(record.state, StepState::Done { .. } | StepState::Skipped { .. })
        });
        if behind && promotion.state == State::Running {
            return Err(format!("{id}: a step was done before an earlier one"));
        }
        if self.open.insert(id, over).is_some_and(|before| before > over) {
            return Err(format!("{id}: a step that was over is not any more"));
        }
        let State::Ended(outcome) = &promotion.state else { return Ok(()) };
        self.open.remove(&id);
        self.ended.insert(id, (outcome.clone(), promotion.token));
        let granted = promotion.is_past_grant();
        let fits = match outcome {
            Outcome::Done | Outcome::Superseded { .. } => granted,
            Outcome::RolledBack { .. } => !granted,
            Outcome::Denied { .. }
            | Outcome::Cancelled { .. }
            | Outcome::Expired
            | Outcome::Void { .. } => promotion.token.is_none(),
        };
        if fits { Ok(()) } else { Err(format!("{id} ended as {outcome:?}: {promotion:?}")) }
    }
}

impl Invariant for PromotionsEnd {
    fn name(&self) -> &'static str {
        "promotions_end"
    }

    fn see(&mut self, _now: Duration, event: &Event<'_>) -> Result<(), String> {
        let machine = match event {
            Event::Applied { seen, .. } if self.once.is_new(seen) => seen.machine,
            Event::End { machine } => {
                let open: Vec<_> =
                    machine.promotions().values().filter(|p| p.is_open()).map(|p| p.id).collect();
                let asked = machine.promotions().keys().any(|id| !self.ended.contains_key(id));
                return match open.is_empty() && !asked {
                    true => Ok(()),
                    false => Err(format!("still open: {open:?}")),
                };
            }
            Event::Acknowledged { command, done, .. } if done.answer.is_ok() => {
                if let Command::Cancel(Cancel { promotion })
                | Command::Deny(Deny { promotion, .. }) = command
                {
                    self.called_off.insert(*promotion);
                }
                return Ok(());
            }
            _ => return Ok(()),
        };
        for (id, promotion) in machine.promotions().iter().rev() {
            match self.ended.get(id) {
                Some((how, token)) => {
                    if promotion.state != State::Ended(how.clone()) || promotion.token != *token {
                        return Err(format!("{id} had ended as {how:?}: {promotion:?}"));
                    }
                }
                None if self.called_off.contains(id) => {
                    return Err(format!("{id} was called off and is {:?}", promotion.state));
                }
                None => self.judge(promotion)?,
            }
        }
        Ok(())
    }
}
