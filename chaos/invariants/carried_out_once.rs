//! What was asked under a key is carried out once: the same command asked again under it does
//! nothing that anybody could find in the audit.

use super::{Event, Invariant, Once, entry_of};
use cryptorun_core::record::RequestKey;
use std::collections::BTreeSet;
use std::time::Duration;

/// See the module.
#[derive(Default)]
pub struct CarriedOutOnce {
    once: Once,
    asked: BTreeSet<RequestKey>,
}

impl Invariant for CarriedOutOnce {
    fn name(&self) -> &'static str {
        "carried_out_once"
    }

    fn see(&mut self, _now: Duration, event: &Event<'_>) -> Result<(), String> {
        let Event::Applied { seen, .. } = event else { return Ok(()) };
        if !self.once.is_new(seen) {
            return Ok(());
        }
        let Some(entry) = entry_of(seen) else { return Ok(()) };
        let Some(key) = &entry.request else { return Ok(()) };
        if self.asked.insert(key.clone()) {
            return Ok(());
        }
        // What ran out by itself at the same moment is nobody's act.
        let index = seen.log_id.index;
        let newest = seen.machine.audit().values().rev().take_while(|noted| noted.index == index);
        match newest.into_iter().find(|noted| noted.actor == entry.actor) {
            None => Ok(()),
            Some(noted) => Err(format!(
                "{} was asked again at {index} and carried out again: {} {} {}",
                key.key, noted.action, noted.subject, noted.detail
            )),
        }
    }
}
