//! No false failover: the controller asks for one only where the holder's own lease is truly over, or
//! for an emergency where the holder has written nothing for the whole detection; and it calls no
//! region lost whose holder has renewed since the loss is said to have begun.

use super::{Event, Invariant, Once, entry_of};
use crate::cluster::warm;
use cryptorun_core::command::{Command, SetLink};
use cryptorun_core::people::Actor;
use cryptorun_core::position::Position;
use cryptorun_core::promotion::Kind;
use cryptorun_core::region::Link;
use cryptorun_raft::probe::Seen;
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
    /// Where each sink ends.
    ends: BTreeMap<u64, End>,
}

/// Where a sink ends since when, and since when it ended where it did before.
struct End {
    at: Position,
    since: Duration,
    before: Duration,
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
            Event::Sink { worker, view, .. } => {
                let known = self.ends.get(worker);
                if known.is_none_or(|known| known.at != view.end) {
                    let before = known.map_or(now, |known| known.since);
                    self.ends.insert(*worker, End { at: view.end, since: now, before });
                }
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
                    Command::RequestPromotion(asked)
                        if asked.kind == Kind::Emergency && self.is_idle(*worker, now, seen) =>
                    {
                        Ok(())
                    }
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

impl NoFalseFailover {
    /// Whether a holder has written nothing for as long as must be watched, or had until a moment ago:
    /// that it writes again is known from its next renewal on.
    fn is_idle(&self, worker: u64, now: Duration, seen: &Seen<'_>) -> bool {
        let detection = seen.machine.limits().detection.to_duration();
        let told_within = seen.machine.timing().map_or(Duration::ZERO, |t| t.ttl.to_duration());
        let Some(End { since, before, .. }) = self.ends.get(&worker) else { return true };
        let long = |from: Duration, to: Duration| to.saturating_sub(from) + SLACK > detection;
        long(*since, now) || now.saturating_sub(*since) < told_within && long(*before, *since)
    }
}
