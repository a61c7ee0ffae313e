//! Many seeds at once, one runtime and one thread each, and what they reached together.

use crate::boundaries::{Boundary, Table};
use crate::labelled::{Confusion, Label};
use crate::mutants::Mutant;
use crate::stories::{self, Story};
use crate::tally::Tally;
use crate::world::{Options, Outcome, run};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};

/// What came of many seeds.
#[derive(Debug, Default)]
pub struct Batch {
    /// How many ran.
    pub seeds: u64,
    /// Seeds that broke something, in order, with what.
    pub bad: Vec<(u64, Vec<String>)>,
    /// Everything reached.
    pub tally: Tally,
    /// Events in all traces.
    pub events: u64,
}

/// Runs seeds on so many threads. `twice`: each seed two times, with equal traces. `each` is told of
/// every seed as it is done.
pub fn run_seeds(
    seeds: std::ops::Range<u64>,
    jobs: usize,
    options: Options,
    twice: bool,
    each: impl Fn(&Outcome) + Sync,
) -> Batch {
    let batch = Mutex::new(Batch { seeds: seeds.end - seeds.start, ..Batch::default() });
    spread(seeds, jobs, |seed| {
        let mut outcome = run(seed, options);
        if twice {
            let again = run(seed, options);
            if again.hash != outcome.hash {
                let (a, b) = (outcome.hash, again.hash);
                outcome.violations.push(format!("repeats: {a:016x} and {b:016x}"));
            }
        }
        each(&outcome);
        let mut batch = batch.lock().unwrap_or_else(PoisonError::into_inner);
        batch.tally.absorb(&outcome.tally);
        batch.events += outcome.events;
        if !outcome.violations.is_empty() {
            batch.bad.push((seed, outcome.violations));
        }
    });
    let mut batch = batch.into_inner().unwrap_or_else(PoisonError::into_inner);
    batch.bad.sort();
    batch
}

/// Runs labelled seeds on so many threads: what each was called, and what went wrong besides.
pub fn run_labelled(
    list: &[(u64, Label)],
    jobs: usize,
    each: impl Fn(&Outcome) + Sync,
) -> (Confusion, Vec<(u64, Vec<String>)>) {
    let found = Mutex::new((Confusion::default(), Vec::new()));
    spread(0..list.len() as u64, jobs, |at| {
        let Some((seed, label)) = usize::try_from(at).ok().and_then(|at| list.get(at)) else {
            return;
        };
        let options = Options { label: Some(*label), ..Options::default() };
        let outcome = run(*seed, options);
        each(&outcome);
        let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(called) = &outcome.called {
            found.0.add(called);
        }
        if !outcome.violations.is_empty() {
            found.1.push((*seed, outcome.violations));
        }
    });
    let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    found.1.sort();
    found
}

/// Runs seeds at boundaries on so many threads: how their promotions ended, and how many runs were bad.
pub fn run_boundaries(
    list: &[(u64, Boundary)],
    jobs: usize,
    mutant: Option<&'static Mutant>,
    each: impl Fn(&Outcome, Boundary) + Sync,
) -> (Table, u64) {
    let found = Mutex::new((Table::default(), 0));
    spread(0..list.len() as u64, jobs, |at| {
        let Some((seed, boundary)) = usize::try_from(at).ok().and_then(|at| list.get(at)) else {
            return;
        };
        let options = Options { boundary: Some(*boundary), mutant, ..Options::default() };
        let outcome = run(*seed, options);
        each(&outcome, *boundary);
        let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reached) = &outcome.reached {
            found.0.add(reached);
        }
        found.1 += u64::from(!outcome.violations.is_empty());
    });
    found.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Tells stories on so many threads: what they came to, and how many runs were bad.
pub fn run_stories(
    list: &[(u64, Story)],
    jobs: usize,
    mutant: Option<&'static Mutant>,
    each: impl Fn(&Outcome, Story) + Sync,
) -> (stories::Table, u64) {
    let found = Mutex::new((stories::Table::default(), 0));
    spread(0..list.len() as u64, jobs, |at| {
        let Some((seed, story)) = usize::try_from(at).ok().and_then(|at| list.get(at)) else {
            return;
        };
        let outcome = run(*seed, Options { story: Some(*story), mutant, ..Options::default() });
        each(&outcome, *story);
        let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(told) = &outcome.told {
            found.0.add(told);
        }
        found.1 += u64::from(!outcome.violations.is_empty());
    });
    found.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Does something with each number, on so many threads: whoever is free takes the next.
pub fn spread(numbers: std::ops::Range<u64>, jobs: usize, work: impl Fn(u64) + Sync) {
    let next = AtomicU64::new(numbers.start);
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= numbers.end {
                        return;
                    }
                    work(number);
                }
            });
        }
    });
}
