//! Promotions as people see them, and the dry run of one.

use super::can_approve;
use crate::caller::Caller;
use cryptorun_core::decide::{Ask, Decision, decide};
use cryptorun_core::machine::Machine;
use cryptorun_core::path::Reach;
use cryptorun_core::promotion::{BoundFacts, Kind, Promotion, State};
use cryptorun_core::refusal::Refusal;
use cryptorun_core::region::RegionName;
use cryptorun_core::time::Millis;
use cryptorun_core::wire::{DryRun, PromotionStatus};

/// `1 more person`, `2 more people`.
pub fn people_phrase(promotion: &Promotion) -> String {
    match promotion.people_missing() {
        1 => "1 more person".to_owned(),
        missing => format!("{missing} more people"),
    }
}

/// A promotion with what is true of it now.
pub fn promotion_status(
    machine: &Machine,
    promotion: &Promotion,
    caller: &Caller,
) -> PromotionStatus {
    let waiting = promotion.state == State::Waiting;
    let by = caller.operator().filter(|_| can_approve(machine, promotion, caller)).cloned();
    let ask = Ask {
        kind: promotion.kind,
        scope: promotion.scope.clone(),
        to: promotion.to.clone(),
        by,
        promotion: Some(promotion.id),
    };
    let decision = promotion.is_open().then(|| decide(machine, &ask).ok()).flatten();
    let differences = match &decision {
        Some(decision) if waiting => {
            promotion.bound.differences(&bound_now(machine, promotion, decision))
        }
        _ => Vec::new(),
    };
    PromotionStatus {
        people_missing: if waiting { promotion.people_missing() } else { 0 },
        approve_with: waiting.then(|| format!("cryptorun replication approve {}", promotion.id)),
        decision,
        differences,
        promotion: promotion.clone(),
    }
}

/// What an approval would bind now.
fn bound_now(machine: &Machine, promotion: &Promotion, decision: &Decision) -> BoundFacts {
    let scope = machine.scopes().get(&promotion.scope);
    BoundFacts {
        assignment_version: scope.map_or(0, |scope| scope.assignment_version),
        from: scope.map_or(promotion.from.clone(), |scope| scope.assigned.clone()),
        to: decision.to.clone(),
        kind: decision.kind,
        plan: decision.plan.hash(),
        verdicts: decision
            .predicates
            .iter()
            .filter(|predicate| promotion.bound.verdicts.contains_key(&predicate.name))
            .map(|predicate| (predicate.name, predicate.verdict))
            .collect(),
        loss_ceiling: decision.loss.clone(),
    }
}

/// What a request would meet, with nothing changed.
pub fn dry_run(machine: &Machine, decision: Decision, from: Option<&RegionName>) -> DryRun {
    let refusal = from.and_then(|from| wrong_holder(machine, &decision, from)).or_else(|| {
        decision.blocking().next().is_some().then(|| Refusal::Predicates {
            kind: decision.kind,
            scope: decision.scope.clone(),
            to: decision.to.clone(),
            predicates: decision.predicates.clone(),
        })
    });
    DryRun {
        executed: false,
        kind: decision.kind,
        plan: decision.plan.clone(),
        plan_hash: decision.plan.hash(),
        refusal: refusal.map(|refusal| refusal.to_string()),
        people_needed: decision.people.0,
        write_pause: write_pause(machine, &decision),
        decision,
    }
}

/// The refusal that names the real holder.
pub fn wrong_holder(machine: &Machine, decision: &Decision, from: &RegionName) -> Option<Refusal> {
    let scope = machine.scopes().get(&decision.scope)?;
    if scope.assigned == *from {
        return None;
    }
    let reign = scope.reign();
    let detail = reign.map(|reign| match reign.promotion {
        Some(promotion) => format!(" ({}, {promotion})", reign.at.wall),
        None => format!(" ({})", reign.at.wall),
    });
    Some(Refusal::NotTheHolder {
        from: from.clone(),
        scope: scope.id.clone(),
        holder: scope.assigned.clone(),
        epoch: reign.map_or(0, |reign| reign.token.epoch),
        detail: detail.unwrap_or_default(),
    })
}

/// From the holder's last visible write to the candidate's first: stop, barrier and hand-over take
/// three passes between the two regions and a few syncs. A dead holder's pause is already on.
fn write_pause(machine: &Machine, decision: &Decision) -> Millis {
    const SYNCS: Millis = Millis(100);
    if decision.kind != Kind::Switchover {
        return Millis::ZERO;
    }
    let way = machine
        .regions()
        .get(&decision.from)
        .and_then(|region| region.report.control.get(&decision.to));
    let rtt_ms = match way.map(|way| way.reach) {
        Some(Reach::Up { rtt_us }) => rtt_us.div_ceil(1000),
        Some(Reach::Down { .. }) | None => 0,
    };
    Millis(SYNCS.0 + rtt_ms * 3)
}
