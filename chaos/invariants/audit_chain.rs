//! Each change of authority, each promise of a person and each end of a promotion has its entry in
//! the audit, whose chain holds at every step.

use super::{Event, Invariant, Once};
use cryptorun_core::audit::verify;
use cryptorun_core::machine::Machine;
use cryptorun_core::position::Position;
use cryptorun_core::promotion::State;
use std::collections::BTreeMap;
use std::time::Duration;

/// How often each thing happened, by the word its entry carries.
type Counts = BTreeMap<&'static str, u64>;

/// See the module.
#[derive(Default)]
pub struct AuditChain {
    once: Once,
    end: Position,
    before: Counts,
    /// Entries seen, by word.
    told: BTreeMap<String, u64>,
}

fn happened(machine: &Machine) -> Counts {
    let mut counts = Counts::new();
    for scope in machine.scopes().values() {
        *counts.entry("grant").or_default() +=
            scope.highest.epoch.min(scope.reign().map_or(0, |reign| reign.token.epoch));
        *counts.entry("reserve").or_default() += scope.highest.epoch;
    }
    for promotion in machine.promotions().values() {
        *counts.entry("request").or_default() += 1;
        let own =
            u64::from(matches!(promotion.requester, cryptorun_core::people::Actor::Person(_)));
        let names = u64::try_from(promotion.approvals.len()).unwrap_or(0).saturating_sub(own);
        *counts.entry("approve").or_default() += names;
        if let State::Ended(outcome) = &promotion.state {
            *counts.entry(outcome.as_str()).or_default() += 1;
        }
    }
    counts
}

impl Invariant for AuditChain {
    fn name(&self) -> &'static str {
        "audit_chain"
    }

    fn see(&mut self, _now: Duration, event: &Event<'_>) -> Result<(), String> {
        let Event::Applied { seen, .. } = event else { return Ok(()) };
        if !self.once.is_new(seen) {
            return Ok(());
        }
        let machine = seen.machine;
        let new: Vec<_> =
            machine.audit().range(self.end.seq + 1..).map(|(_, e)| e.clone()).collect();
        let reached = verify(self.end, &new).map_err(|seq| format!("broken at {seq}"))?;
        self.end = reached;
        if reached != machine.audit_head().end {
            return Err(format!("entries end at {reached}, the head says otherwise"));
        }
        for entry in &new {
            *self.told.entry(entry.action.clone()).or_default() += 1;
        }
        let now = happened(machine);
        if now == self.before {
            return Ok(());
        }
        for (word, count) in &now {
            let before = self.before.get(word).copied().unwrap_or(0);
            if *count > before && !new.iter().any(|entry| entry.action == *word) {
                return Err(format!("{word}: {before} became {count} without an entry"));
            }
        }
        self.before = now;
        Ok(())
    }
}
