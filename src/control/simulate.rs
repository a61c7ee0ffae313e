//! Simulations: recorded history through the deciding code, as if it were now.
//!
//! The machine is rebuilt line by line as it stood, and [`decide`] is asked whenever it changed. A
//! moment is listed when the choice, the kind or a predicate's verdict differs from the one before,
//! or when history shows that a promotion of the scope was opened there. Where somebody else held
//! the scope than the simulation names, the decision says so by its own predicates.

mod asks;

use crate::history::{History, OwnReport};
use crate::replay::{self, Seen};
use asks::Asks;
use cryptorun_core::config::ClusterConfig;
use cryptorun_core::decide::{Ask, Choice, Decision, PredicateName, Verdict, decide, fitting_kind};
use cryptorun_core::machine::Machine;
use cryptorun_core::position::Hash;
use cryptorun_core::promotion::{Kind, PromotionId};
use cryptorun_core::region::RegionName;
use cryptorun_core::scope::ScopeId;
use cryptorun_core::time::{Millis, WallTime};
use cryptorun_core::wire::{LateReports, SimulatedMoment, Simulation};
use std::collections::BTreeMap;
use std::io;

/// What to replay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// The scope.
    pub scope: ScopeId,
    /// The region that would lose it.
    pub from: RegionName,
    /// The region that would get it.
    pub to: RegionName,
    /// From this moment.
    pub start: WallTime,
    /// To this one.
    pub end: WallTime,
    /// Compared with these rules.
    pub policy: Option<Box<ClusterConfig>>,
}

/// Replays a window.
///
/// # Errors
/// The files cannot be read.
pub fn replay(history: &History, window: &Window) -> io::Result<Simulation> {
    let mut run = Run::new(window);
    replay::replay(history, (window.start, window.end), |seen| match seen {
        Seen::Report { at, own } => {
            run.covers(at);
            if own.committed.is_none() {
                run.late(own);
            }
        }
        Seen::Late(told) => run.late(told),
        Seen::State { at, machine, reports } => {
            if reports > 0 {
                run.covers(at);
            }
            run.asks.look(at, machine);
            if let Some(asks) = &mut run.by_policy {
                asks.look(at, machine);
            }
            run.look(at, machine);
        }
    })?;
    Ok(run.finish())
}

struct Run<'w> {
    window: &'w Window,
    reports: u64,
    covered: Option<(WallTime, WallTime)>,
    last: Option<Shape>,
    opened: Option<PromotionId>,
    moments: Vec<SimulatedMoment>,
    hasher: blake3::Hasher,
    late: BTreeMap<RegionName, LateReports>,
    asks: Asks<'w>,
    by_policy: Option<Asks<'w>>,
}

/// What makes a decision another one; values move all the time.
type Shape = (Choice, Kind, Vec<(PredicateName, Verdict)>);

impl<'w> Run<'w> {
    fn new(window: &'w Window) -> Self {
        Self {
            window,
            reports: 0,
            covered: None,
            last: None,
            opened: None,
            moments: Vec::new(),
            hasher: blake3::Hasher::new(),
            late: BTreeMap::new(),
            asks: Asks::new(&window.scope, None),
            by_policy: window.policy.as_deref().map(|p| Asks::new(&window.scope, Some(p))),
        }
    }

    fn covers(&mut self, at: WallTime) {
        self.reports += 1;
        let first = self.covered.map_or(at, |(first, _)| first);
        self.covered = Some((first, at));
    }

    /// A report that no quorum took, by when it was written.
    fn late(&mut self, own: &OwnReport) {
        let at = own.report.wall;
        if at < self.window.start || at > self.window.end {
            return;
        }
        let late = self.late.entry(own.region.clone()).or_insert_with(|| LateReports {
            region: own.region.clone(),
            reports: 0,
            span: (at, at),
            unreached: BTreeMap::new(),
        });
        // Told twice when the answer to the first time was lost.
        if late.reports == 0 || at > late.span.1 {
            late.reports += 1;
        }
        late.span = (late.span.0.min(at), late.span.1.max(at));
        for (region, way) in &own.report.control {
            let span = way.down_for();
            if span > Millis::ZERO {
                let longest = late.unreached.entry(region.clone()).or_default();
                *longest = (*longest).max(span);
            }
        }
    }

    fn look(&mut self, at: WallTime, machine: &Machine) {
        let opened = self.newly_opened(machine);
        let ask = match opened.and_then(|id| machine.promotions().get(&id)) {
            // What was opened then is judged as what it was.
            Some(promotion) => Ask {
                kind: promotion.kind,
                scope: promotion.scope.clone(),
                to: promotion.to.clone(),
                by: None,
                promotion: Some(promotion.id),
            },
            None => Ask {
                kind: fitting_kind(machine, &self.window.scope, &self.window.to),
                scope: self.window.scope.clone(),
                to: self.window.to.clone(),
                by: None,
                promotion: None,
            },
        };
        let Ok(decision) = decide(machine, &ask) else { return };
        let shape = shape(&decision);
        let changed = self.last.as_ref() != Some(&shape);
        if opened.is_none() {
            self.last = Some(shape.clone());
        }
        if !changed && opened.is_none() {
            return;
        }
        self.hasher.update(format!("{shape:?}\n").as_bytes());
        self.moments.push(SimulatedMoment { at, decision, opened });
    }

    /// A promotion of the scope that history shows for the first time.
    fn newly_opened(&mut self, machine: &Machine) -> Option<PromotionId> {
        let newest = machine
            .promotions()
            .values()
            .filter(|promotion| promotion.scope == self.window.scope)
            .filter(|promotion| promotion.opened.wall >= self.window.start)
            .map(|promotion| promotion.id)
            .next_back();
        let new = newest.filter(|id| self.opened.is_none_or(|known| *id > known));
        self.opened = newest.or(self.opened);
        new
    }

    fn finish(self) -> Simulation {
        Simulation {
            scope: self.window.scope.clone(),
            from: self.window.from.clone(),
            to: self.window.to.clone(),
            reports: self.reports,
            covered: self.covered,
            moments: self.moments,
            decisions: Hash(*self.hasher.finalize().as_bytes()),
            late: self.late.into_values().collect(),
            asks: self.asks.finish(),
            by_policy: self.by_policy.map(Asks::finish),
        }
    }
}

fn shape(decision: &Decision) -> Shape {
    let verdicts = decision.predicates.iter().map(|p| (p.name, p.verdict)).collect();
    (decision.choice, decision.kind, verdicts)
}
