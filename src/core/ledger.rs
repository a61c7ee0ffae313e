//! The refusal ledger: why a scope that was not well did not move, once for each answer.
//!
//! It is shown one state after another, in order. While nobody wrote a scope and nothing was
//! under way for it, what the controller would have been told of each other region is kept, from when
//! to when, until the answer is another one. Values move all the time; an answer is another one when
//! other conditions refuse.

use crate::decide::{Ask, Choice, Decision, PredicateName, Verdict, decide, fitting_kind};
use crate::diagnose::cause;
use crate::machine::Machine;
use crate::promotion::Kind;
use crate::region::RegionName;
use crate::scope::ScopeId;
use crate::time::WallTime;
use crate::wire::RefusedSpan;
use std::collections::{BTreeMap, VecDeque};

/// Kept at most, the newest: a link that flaps for a day fills no page.
pub const KEPT: usize = 500;

/// See the module.
pub struct Ledger {
    scope: ScopeId,
    /// What each region's latest answer is, while it lasts.
    lasting: BTreeMap<RegionName, (Shape, RefusedSpan)>,
    over: VecDeque<RefusedSpan>,
    left_out: u64,
}

/// What makes an answer another one.
type Shape = (Kind, Vec<(PredicateName, Verdict)>);

impl Ledger {
    /// Nothing seen yet.
    pub fn of(scope: ScopeId) -> Self {
        Self { scope, lasting: BTreeMap::new(), over: VecDeque::new(), left_out: 0 }
    }

    /// Takes the next state in.
    pub fn look(&mut self, at: WallTime, machine: &Machine) {
        let refused = self.refused(machine);
        let (mut over, mut goes_on) = (Vec::new(), BTreeMap::new());
        for (region, (shape, span)) in std::mem::take(&mut self.lasting) {
            match refused.get(&region) {
                Some((now, ..)) if *now == shape => drop(goes_on.insert(region, (shape, span))),
                _ => over.push(RefusedSpan { until: at, ..span }),
            }
        }
        self.lasting = goes_on;
        over.into_iter().for_each(|span| self.keep(span));
        for (region, (shape, because, decision)) in refused {
            let since = self.lasting.get(&region).map_or(at, |(_, span)| span.since);
            let span = RefusedSpan { since, until: at, because, decision };
            self.lasting.insert(region, (shape, span));
        }
    }

    /// What is refused now, by region; nothing while the scope is well, on its way, or asked for.
    fn refused(&self, machine: &Machine) -> BTreeMap<RegionName, (Shape, String, Decision)> {
        let mut refused = BTreeMap::new();
        let Some(scope) = machine.scopes().get(&self.scope) else { return refused };
        let Some(cause) = cause(machine, scope).filter(|_| scope.moving.is_none()) else {
            return refused;
        };
        for to in scope.policy.members.iter().filter(|member| **member != scope.assigned) {
            let ask = Ask {
                kind: fitting_kind(machine, &self.scope, to),
                scope: self.scope.clone(),
                to: to.clone(),
                by: None,
                promotion: None,
            };
            match decide(machine, &ask) {
                Ok(decision) if decision.choice == Choice::Refuse => {
                    let blocking = decision.blocking().map(|p| (p.name, p.verdict)).collect();
                    let because = cause.sentence();
                    refused.insert(to.clone(), ((ask.kind, blocking), because, decision));
                }
                // One is enough: it is what the controller does or asks for.
                Ok(_) => return BTreeMap::new(),
                Err(_) => {}
            }
        }
        refused
    }

    fn keep(&mut self, span: RefusedSpan) {
        if self.over.len() == KEPT {
            self.over.pop_front();
            self.left_out += 1;
        }
        self.over.push_back(span);
    }

    /// All of them by their beginning, and how many more there were before.
    pub fn finish(mut self) -> (Vec<RefusedSpan>, u64) {
        for (_, span) in std::mem::take(&mut self.lasting).into_values() {
            self.keep(span);
        }
        let mut spans = Vec::from(self.over);
        spans.sort_by_key(|span| span.since);
        (spans, self.left_out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::world::{World, warm};
    use crate::scope::Mode;
    use crate::time::Millis;

    fn blocking(span: &RefusedSpan) -> Vec<PredicateName> {
        span.decision.blocking().map(|p| p.name).collect()
    }

    #[test]
    fn each_answer_stands_once_with_the_time_it_lasted_and_none_once_it_is_asked_for() {
        let mut world = World::running(Mode::Approve);
        let mut ledger = Ledger::of(warm());
        let mut shown = |world: &mut World, secs: u64| {
            for _ in 0..secs {
                world.advance(Millis::secs(1));
                ledger.look(world.wall(), &world.machine);
            }
        };
        shown(&mut world, 20);
        world.lost.insert("us-east-1".into(), world.now);
        shown(&mut world, 120);
        let (spans, left_out) = ledger.finish();
        assert_eq!(left_out, 0);
        let to_west: Vec<_> =
            spans.iter().filter(|s| s.decision.to.as_str() == "us-west-2").collect();
        assert!((1..=3).contains(&to_west.len()), "{to_west:#?}");
        assert!(blocking(to_west[0]).contains(&PredicateName::Primary), "{:?}", to_west[0]);
        for pair in to_west.windows(2) {
            assert_eq!(pair[0].until, pair[1].since, "one after the other");
            assert_ne!(blocking(pair[0]), blocking(pair[1]), "each once");
        }
        let lasted: u64 = to_west.iter().map(|span| span.until.0 - span.since.0).sum();
        assert!(
            lasted > 20_000 && lasted < 70_000,
            "until it was asked for, and no longer: {lasted}"
        );
        assert!(to_west.iter().all(|span| !span.decision.changes.is_empty()));
    }
}
