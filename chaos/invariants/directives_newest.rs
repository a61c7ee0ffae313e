//! A worker never goes back to an older directive: the revision it says that it obeys only grows
//! within a session.

use super::{Event, Invariant, Once, entry_of};
use crate::cluster::warm;
use cryptorun_core::command::Command;
use cryptorun_core::session::SessionKey;
use std::collections::BTreeMap;
use std::time::Duration;

/// See the module.
#[derive(Default)]
pub struct DirectivesNewest {
    once: Once,
    /// By session: the newest renewal's number and the revision it named.
    obeyed: BTreeMap<SessionKey, (u64, u64)>,
}

impl Invariant for DirectivesNewest {
    fn name(&self) -> &'static str {
        "directives_newest"
    }

    fn see(&mut self, _now: Duration, event: &Event<'_>) -> Result<(), String> {
        let Event::Applied { seen, .. } = event else { return Ok(()) };
        if !self.once.is_new(seen) {
            return Ok(());
        }
        let Some(Command::Renew(renew)) = entry_of(seen).map(|entry| &entry.command) else {
            return Ok(());
        };
        let Some(report) = renew.report.scopes.get(&warm()) else { return Ok(()) };
        let known = self.obeyed.entry(renew.session.clone()).or_default();
        if renew.seq <= known.0 {
            return Ok(()); // The same renewal again.
        }
        let before = std::mem::replace(known, (renew.seq, report.rev));
        if report.rev < before.1 {
            return Err(format!("{} obeys {} after {}", renew.session, report.rev, before.1));
        }
        Ok(())
    }
}
