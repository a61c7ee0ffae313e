//! No false failover: the controller asks for one only where the holder's own lease is truly over.

use super::{Event, Invariant, Once, entry_of};
use cryptorun_core::command::Command;
use cryptorun_core::people::Actor;
use std::collections::BTreeMap;
use std::time::Duration;

/// See the module.
#[derive(Default)]
pub struct NoFalseFailover {
    once: Once,
    promotions: usize,
    /// Workers that may write, and until when.
    holds: BTreeMap<u64, Duration>,
}

impl Invariant for NoFalseFailover {
    fn name(&self) -> &'static str {
        "no_false_failover"
    }

    fn see(&mut self, now: Duration, event: &Event<'_>) -> Result<(), String> {
        match event {
            Event::Holds { worker, until, .. } => {
                self.holds.insert(*worker, *until);
                Ok(())
            }
            Event::Stopped { worker } | Event::Died { worker } => {
                self.holds.remove(worker);
                Ok(())
            }
            Event::Applied { seen, .. } if self.once.is_new(seen) => {
                let count = seen.machine.promotions().len();
                let grew = std::mem::replace(&mut self.promotions, count) < count;
                let Some(entry) = entry_of(seen).filter(|_| grew) else { return Ok(()) };
                let asked = matches!(&entry.command, Command::RequestPromotion(_))
                    && entry.actor == Actor::Controller;
                let holder = self.holds.iter().find(|(_, until)| **until > now);
                match (asked, holder) {
                    (true, Some((worker, until))) => Err(format!(
                        "the controller asks for a promotion; {worker} may write until {until:?}"
                    )),
                    _ => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }
}
