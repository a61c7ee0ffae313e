//! Runs a model and says what came of it.

use crate::facts::{Fact, Facts};
use stateright::{Checker, HasDiscoveries, Model};
use std::fmt;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// Threads of one exploration.
const THREADS: usize = 2;

/// A model that can be run from the command line.
pub trait Checked: Model<State: Hash + Clone + PartialEq + Send + Sync + fmt::Debug>
where
    Self: Send + Sync + Sized + 'static,
{
    /// What was bounded and how.
    fn bounds(&self) -> String;
    /// What the exploration met.
    fn facts(&self) -> &Facts;
    /// What it must have met.
    fn required(&self) -> Vec<Fact>;
    /// Entries that were really applied to a machine.
    fn applied(&self) -> usize;
    /// One step of a trace, for people.
    fn tell(&self, before: &Self::State, action: &Self::Action, after: &Self::State) -> String;
}

/// A property that does not hold, and the way there.
#[derive(Clone, Debug)]
pub struct Found {
    pub property: &'static str,
    pub trace: Vec<String>,
}

/// What came of one exploration.
#[derive(Clone, Debug)]
pub struct Run {
    pub name: String,
    pub bounds: String,
    pub states: usize,
    pub generated: usize,
    pub applied: usize,
    pub depth: usize,
    pub took: Duration,
    /// Whether every state within the bounds was visited.
    pub complete: bool,
    pub properties: Vec<&'static str>,
    pub reached: Vec<(Fact, u64)>,
    pub found: Vec<Found>,
}

impl Run {
    /// Visited everything, found nothing, and went where it had to.
    pub fn is_green(&self) -> bool {
        self.complete && self.found.is_empty() && self.missed().is_empty()
    }

    pub fn missed(&self) -> Vec<Fact> {
        self.reached.iter().filter(|(_, count)| *count == 0).map(|(fact, _)| *fact).collect()
    }
}

/// In which order states are visited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Short traces: to find a mistake and show it.
    BreadthFirst,
    /// Little memory: to visit everything.
    DepthFirst,
}

/// Visits every state within the model's bounds, or stops at the first failure.
pub fn explore<M: Checked>(name: &str, model: M, order: Order, limit: Duration) -> Run
where
    M::Action: Clone + PartialEq + fmt::Debug + Send + Sync,
{
    let begun = Instant::now();
    let checker =
        model.checker().threads(THREADS).timeout(limit).finish_when(HasDiscoveries::AnyFailures);
    match order {
        Order::BreadthFirst => tell(name, &checker.spawn_bfs().join(), begun, limit),
        Order::DepthFirst => tell(name, &checker.spawn_dfs().join(), begun, limit),
    }
}

fn tell<M: Checked>(name: &str, checker: &impl Checker<M>, begun: Instant, limit: Duration) -> Run
where
    M::Action: Clone + PartialEq + fmt::Debug,
{
    let took = begun.elapsed();
    let model = checker.model();
    let bounds = model.bounds();
    let properties = model.properties().iter().map(|property| property.name).collect();
    let mut found: Vec<Found> = checker
        .discoveries()
        .into_iter()
        .map(|(property, path)| Found { property, trace: trace(model, path.into_vec()) })
        .collect();
    found.sort_by_key(|found| (found.trace.len(), found.property));
    Run {
        name: name.to_owned(),
        bounds,
        states: checker.unique_state_count(),
        generated: checker.state_count(),
        applied: model.applied(),
        depth: checker.max_depth(),
        took,
        complete: took < limit,
        properties,
        reached: model.required().iter().map(|fact| (*fact, model.facts().count(*fact))).collect(),
        found,
    }
}

fn trace<M: Checked>(model: &M, path: Vec<(M::State, Option<M::Action>)>) -> Vec<String> {
    let steps = path.windows(2).filter_map(|pair| {
        let (before, action) = (&pair[0].0, pair[0].1.as_ref()?);
        Some(model.tell(before, action, &pair[1].0))
    });
    steps.collect()
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.is_green() { "holds" } else { "FAILS" };
        writeln!(f, "{}: {verdict}", self.name)?;
        writeln!(f, "  bounds      {}", self.bounds)?;
        writeln!(
            f,
            "  visited     {} unique states of {} generated, depth {}, {} in {:.1} s; {} entries applied",
            self.states,
            self.generated,
            self.depth,
            if self.complete { "all" } else { "NOT all" },
            self.took.as_secs_f32(),
            self.applied,
        )?;
        let holds: Vec<&str> = self
            .properties
            .iter()
            .filter(|name| self.found.iter().all(|found| found.property != **name))
            .copied()
            .collect();
        writeln!(f, "  holds       {}", holds.join(", "))?;
        for (fact, count) in &self.reached {
            let word = if *count == 0 { "NOT reached" } else { "reached" };
            writeln!(f, "  {word:<11} {} ({count})", fact.text())?;
        }
        for found in &self.found {
            writeln!(f, "  BROKEN      {}:", found.property)?;
            for (at, line) in found.trace.iter().enumerate() {
                writeln!(f, "    {:>3}. {line}", at + 1)?;
            }
        }
        Ok(())
    }
}
