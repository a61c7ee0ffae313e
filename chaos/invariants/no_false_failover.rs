//! No false failover: the controller asks for one only where the holder's own lease is truly over, and
//! calls no region lost whose holder has renewed since the loss is said to have begun.

use super::{Event, Invariant, Once, entry_of};
use crate::cluster::warm;
use cryptorun_core::command::{Command, SetLink};
use cryptorun_core::people::Actor;
use cryptorun_core::region::Link;
use std::collections::BTreeMap;
use std::time::Duration;

/// Clocks that count a loss may be a hundredth faster than true time, and a report takes its way.
const SLACK: Duration = Duration::from_millis(500);

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
                let Some(entry) = entry_of(seen) else { return Ok(()) };
                if entry.actor != Actor::Controller {
                    return Ok(());
                }
                let holder = self.holds.iter().find(|(_, until)| **until > now);
                let Some((worker, until)) = holder else { return Ok(()) };
                match &entry.command {
                    Command::RequestPromotion(_) if grew => Err(format!(
                        "the controller asks for a promotion; {worker} may write until {until:?}"
                    )),
                    Command::SetLink(SetLink { region, link: Link::Isolated { .. } }) => {
                        let machine = seen.machine;
                        let holds = machine
                            .scopes()
                            .get(&warm())
                            .is_some_and(|scope| scope.assigned == *region);
                        let span = machine
                            .timing()
                            .map_or(Duration::MAX, |t| t.holder_span().to_duration());
                        let begun =
                            now.saturating_sub(machine.limits().detection.to_duration()) + SLACK;
                        let renewed = until.saturating_sub(span);
                        match holds && renewed > begun {
                            true => Err(format!(
                                "{region} is called lost since {begun:?}; {worker} renewed at {renewed:?}"
                            )),
                            false => Ok(()),
                        }
                    }
                    _ => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }
}
