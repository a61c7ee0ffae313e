//! A paused or observed scope sees no act of the controller: it asks for nothing there.

use super::{Event, Invariant, Once, entry_of};
use cryptorun_core::command::Command;
use cryptorun_core::people::Actor;
use cryptorun_core::scope::{Mode, Pause, ScopeId};
use std::collections::BTreeMap;
use std::time::Duration;

/// See the module.
#[derive(Default)]
pub struct PausesRespected {
    once: Once,
    promotions: usize,
    /// As of the entry before.
    pauses: BTreeMap<ScopeId, (Option<Pause>, Mode)>,
}

impl Invariant for PausesRespected {
    fn name(&self) -> &'static str {
        "pauses_respected"
    }

    fn see(&mut self, _now: Duration, event: &Event<'_>) -> Result<(), String> {
        let Event::Applied { seen, .. } = event else { return Ok(()) };
        if !self.once.is_new(seen) {
            return Ok(());
        }
        let count = seen.machine.promotions().len();
        let grew = std::mem::replace(&mut self.promotions, count) < count;
        let mut wrong = Ok(());
        if let Some(entry) = entry_of(seen)
            && let Command::RequestPromotion(ask) = &entry.command
            && entry.actor == Actor::Controller
            && grew
            && let Some((pause, mode)) = self.pauses.get(&ask.scope)
        {
            let paused = pause.as_ref().is_some_and(|pause| !pause.is_over(entry.stamp));
            if paused || *mode == Mode::Observe {
                wrong = Err(format!("{} was asked for by the controller: {pause:?}", ask.scope));
            }
        }
        for scope in seen.machine.scopes().values() {
            self.pauses.insert(scope.id.clone(), (scope.pause.clone(), scope.mode));
        }
        wrong
    }
}
