//! Explaining: which verb is open for a target, what it lacks, and when the next one opens.

use crate::decide::{self, Ask, Choice, Decision, PredicateName};
use crate::diagnose;
use crate::machine::Machine;
use crate::people::OperatorId;
use crate::promotion::{Kind, PromotionId, State};
use crate::refusal::Refusal;
use crate::region::RegionName;
use crate::scope::ScopeId;
use crate::time::Millis;

/// The answer to "why not there?".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explained {
    /// The decision on the kind that fits best: one that would go, where there is one.
    pub decision: Decision,
    /// The promotion that waits for this.
    pub waiting: Option<PromotionId>,
    /// What to type.
    pub command: Option<String>,
    /// When the next verb opens, where none is open and that can be told.
    pub opens_in: Option<Millis>,
}

/// Explains a move of a scope to a region, for a person or for the controller.
///
/// # Errors
/// Questions that make no sense, as [`decide::decide`].
pub fn explain(
    machine: &Machine,
    scope: &ScopeId,
    to: &RegionName,
    by: Option<OperatorId>,
) -> Result<Explained, Refusal> {
    let ask = |kind, promotion| Ask {
        kind,
        scope: scope.clone(),
        to: to.clone(),
        by: by.clone(),
        promotion,
    };
    let waiting = machine
        .promotions()
        .values()
        .find(|p| p.state == State::Waiting && p.scope == *scope && p.to == *to);
    if let Some(promotion) = waiting {
        let decision = decide::decide(machine, &Ask::of(promotion))?;
        let command = (decision.choice != Choice::Refuse)
            .then(|| format!("cryptorun replication approve {}", promotion.id));
        return Ok(Explained { decision, waiting: Some(promotion.id), command, opens_in: None });
    }
    let first = decide::fitting_kind(machine, scope, to);
    let mut kinds = vec![first];
    kinds.extend(Kind::ALL.into_iter().filter(|kind| *kind != first));
    let mut decisions = Vec::new();
    for kind in kinds {
        decisions.push(decide::decide(machine, &ask(kind, None))?);
    }
    let open = decisions.iter().position(|d| d.choice != Choice::Refuse);
    let decision = decisions.swap_remove(open.unwrap_or(0));
    let command = (decision.choice != Choice::Refuse).then(|| line(&decision));
    let opens_in = match command {
        Some(_) => None,
        None => opens_in(machine, scope, &decision),
    };
    Ok(Explained { decision, waiting: None, command, opens_in })
}

/// The line that does it.
fn line(decision: &Decision) -> String {
    let group = match decision.scope.group.as_str() {
        "global" => String::new(),
        group => format!(" --group {group}"),
    };
    let tier = decision.scope.tier;
    match decision.kind {
        Kind::Switchover => format!(
            "cryptorun replication switchover --tier {tier}{group} --to {} --execute",
            decision.to
        ),
        Kind::Failover => format!(
            "cryptorun replication failover --tier {tier}{group} --promote {} --demote {} --execute",
            decision.to, decision.from
        ),
        Kind::Emergency => format!(
            "cryptorun replication emergency --tier {tier}{group} --to {} --execute --reason \"…\"",
            decision.to
        ),
    }
}

/// When time alone opens a verb: the holder must have been gone for the detection time.
fn opens_in(machine: &Machine, scope: &ScopeId, decision: &Decision) -> Option<Millis> {
    let only_time = decision
        .blocking()
        .all(|p| matches!(p.name, PredicateName::Primary | PredicateName::Lease));
    let lasting = diagnose::gone(machine, machine.scopes().get(scope)?)?.lasting;
    only_time.then(|| Millis((machine.limits().detection.0 + 1).saturating_sub(lasting.0)))
}
