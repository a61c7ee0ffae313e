//! No step of a promotion waits without end: past its time, a leader that goes on leading ends it.
//!
//! A leader is given the time to notice: two entries that it stamped after it saw the step overdue,
//! seconds apart, come behind whatever it proposes about the step.

use super::{Event, Invariant, Once};
use cryptorun_core::machine::Machine;
use cryptorun_core::plan::Step;
use cryptorun_core::promotion::{PromotionId, State};
use cryptorun_core::time::{LogTime, Millis};
use std::collections::BTreeMap;
use std::time::Duration;

/// A leader looks at what is open at least once a second.
const NOTICED: Millis = Millis::secs(2);

/// How long a step may take; counted here, so that a forgotten deadline is noticed.
const fn limit(step: Step) -> Millis {
    match step {
        Step::Preflight | Step::Reserve | Step::Report => Millis::secs(10),
        Step::Drain | Step::Seal | Step::InvalidateCaches | Step::Redirect => Millis::secs(30),
        Step::FetchTail => Millis::secs(120),
        // A run-out of the profile under test, and ten seconds.
        Step::Grant => Millis::secs(16),
        Step::Activate | Step::Validate => Millis::secs(60),
    }
}

/// One attempt at one step, overdue under a leader.
#[derive(Debug)]
struct Overdue {
    step: (PromotionId, Step, u32),
    leader: (u64, u64),
    /// An entry stamped after this comes behind what the leader proposed when it saw this.
    seen: LogTime,
    /// Such an entry's stamp.
    after: Option<LogTime>,
}

/// See the module.
#[derive(Default)]
pub struct StepsInTime {
    once: Once,
    /// By node: LogTime of the last entry it applied.
    applied: BTreeMap<u64, LogTime>,
    /// The leader of the moment: node, term, when it won in true time, its LogTime then.
    led: Option<((u64, u64), Duration, LogTime)>,
    overdue: Vec<Overdue>,
}

impl StepsInTime {
    fn judge(&mut self, now: Duration, machine: &Machine, stamp: LogTime) -> Result<(), String> {
        let Some((leader, won, base)) = self.led else { return Ok(()) };
        // LogTime at the leader by now, and a hundredth for its clock.
        let elapsed = u64::try_from((now - won).as_millis()).unwrap_or(u64::MAX);
        let seen = base + Millis(elapsed + elapsed / 100);
        let mut still = Vec::new();
        for promotion in machine.promotions().values().filter(|p| p.state == State::Running) {
            let Some(record) = promotion.current() else { continue };
            let Some(started) = record.started else { continue };
            if machine.now().log.since(started.log) <= limit(record.step) {
                continue;
            }
            let step = (promotion.id, record.step, record.attempt);
            let known = self.overdue.iter().position(|o| o.step == step && o.leader == leader);
            let mut overdue = match known {
                Some(at) => self.overdue.swap_remove(at),
                None => Overdue { step, leader, seen, after: None },
            };
            match overdue.after {
                None if stamp.since(overdue.seen) > NOTICED => overdue.after = Some(stamp),
                Some(first) if stamp.since(first) > NOTICED => {
                    return Err(format!("{overdue:?} still goes on at {}", machine.now().log));
                }
                _ => {}
            }
            still.push(overdue);
        }
        self.overdue = still;
        Ok(())
    }
}

impl Invariant for StepsInTime {
    fn name(&self) -> &'static str {
        "steps_in_time"
    }

    fn see(&mut self, now: Duration, event: &Event<'_>) -> Result<(), String> {
        match event {
            Event::Leads { node, term } => {
                let base = self.applied.get(node).copied().unwrap_or_default();
                self.led = Some(((*node, *term), now, base));
                Ok(())
            }
            Event::Applied { node, seen } => {
                self.applied.insert(*node, seen.machine.now().log);
                let leads = self.led.is_some_and(|((leader, term), ..)| {
                    leader == *node && term == seen.log_id.leader_id.term
                });
                match leads && self.once.is_new(seen) {
                    true => self.judge(now, seen.machine, seen.machine.now().log),
                    false => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }
}
