//! One simulated run: the seed's generator, the trace, what is alive, what is cut, what was seen.

use crate::cluster;
use crate::invariants::{Event, Invariant};
use cryptorun_platform::disk::SimDisk;
use cryptorun_platform::net::Service;
use cryptorun_raft::Node;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};
use std::time::Duration;

/// A bug put in on purpose: a check that has not caught its mutant does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Mutant {
    /// Syncs of appended entries return before the medium has them.
    AckEarly,
    /// Syncs of votes return before the medium has them.
    VoteEarly,
    /// Linearizable reads are answered from whatever the node has.
    StaleRead,
}

/// How to run a seed.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Simulated seconds of faults; healing comes after.
    pub seconds: u64,
    /// Keep the trace's text, not only its hash.
    pub keep_trace: bool,
    /// A bug on purpose.
    pub mutant: Option<Mutant>,
}

impl Default for Options {
    fn default() -> Self {
        Self { seconds: 20, keep_trace: false, mutant: None }
    }
}

/// What came of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// Hash of the trace: equal for equal seeds.
    pub hash: u64,
    /// Events in it.
    pub events: u64,
    /// What went wrong.
    pub violations: Vec<String>,
    /// Commands acknowledged to clients.
    pub acknowledged: u64,
    /// Crashes of nodes.
    pub crashes: u64,
    /// Leaderships seen.
    pub leaderships: u64,
    /// Grants of leases seen.
    pub grants: u64,
    /// Snapshots installed from peers.
    pub installs: u64,
    /// Linearizable reads answered.
    pub reads: u64,
    /// The trace, if kept.
    pub trace: String,
}

/// Everything the tasks of one run share.
pub(crate) struct World {
    state: Mutex<State>,
    start: tokio::time::Instant,
    pub options: Options,
}

pub(crate) struct State {
    random: u64,
    keep: bool,
    pub outcome: Outcome,
    /// Nodes that run, and which life it is.
    pub alive: BTreeMap<u64, u64>,
    pub nodes: BTreeMap<u64, Node>,
    pub services: BTreeMap<u64, Arc<dyn Service>>,
    pub disks: BTreeMap<u64, SimDisk>,
    /// Directed links that lose everything.
    pub cut: BTreeSet<(u64, u64)>,
    pub drop_percent: u64,
    pub base_ms: u64,
    pub jitter_ms: u64,
    pub stopping: bool,
    last_grant: u64,
    invariants: Vec<Box<dyn Invariant>>,
}

thread_local! {
    /// Panics of tasks would vanish in their join handles.
    static PANICS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

fn note_panics() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            PANICS.with_borrow_mut(|panics| panics.push(info.to_string()));
            before(info);
        }));
    });
    PANICS.with_borrow_mut(Vec::clear);
}

/// Runs one seed from founding to convergence.
pub fn run(seed: u64, options: Options) -> Outcome {
    note_panics();
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().start_paused(true);
    #[cfg(tokio_unstable)]
    builder.rng_seed(tokio::runtime::RngSeed::from_bytes(&seed.to_le_bytes()));
    let runtime = match builder.build() {
        Ok(runtime) => runtime,
        Err(error) => {
            return Outcome { seed, violations: vec![error.to_string()], ..Outcome::default() };
        }
    };
    let world = runtime.block_on(async {
        let world = Arc::new(World::new(seed, options));
        let seed = world.draw();
        cryptorun_raft::runtime::seeded(seed, cluster::story(world.clone())).await;
        world
    });
    let mut outcome = std::mem::take(&mut world.state().outcome);
    world.state().nodes.clear();
    world.state().services.clear();
    drop(runtime);
    PANICS.with_borrow_mut(|panics| {
        outcome.violations.extend(panics.drain(..).map(|text| format!("panic: {text}")));
    });
    outcome
}

impl World {
    fn new(seed: u64, options: Options) -> Self {
        let mut state = State {
            random: seed,
            keep: options.keep_trace,
            outcome: Outcome { seed, hash: 0xCBF2_9CE4_8422_2325, ..Outcome::default() },
            alive: BTreeMap::new(),
            nodes: BTreeMap::new(),
            services: BTreeMap::new(),
            disks: BTreeMap::new(),
            cut: BTreeSet::new(),
            drop_percent: 0,
            base_ms: 0,
            jitter_ms: 0,
            stopping: false,
            last_grant: 0,
            invariants: crate::invariants::all(),
        };
        state.base_ms = 2 + state.below(30);
        state.jitter_ms = 1 + state.below(30);
        state.drop_percent = state.below(6);
        Self { state: Mutex::new(state), start: tokio::time::Instant::now(), options }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn draw(&self) -> u64 {
        self.state().draw()
    }

    pub fn below(&self, bound: u64) -> u64 {
        self.state().below(bound)
    }

    /// True time: nobody's clock shows it.
    pub fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// One line of the trace.
    pub fn event(&self, text: fmt::Arguments<'_>) {
        let now = self.now().as_micros();
        self.state().note(now, text);
    }

    /// Counts a grant once, whichever node applies it first.
    pub fn note_grant(&self, index: u64) {
        let mut state = self.state();
        if index > state.last_grant {
            state.last_grant = index;
            state.outcome.grants += 1;
        }
    }

    pub fn violation(&self, text: String) {
        self.event(format_args!("VIOLATION {text}"));
        self.state().outcome.violations.push(text);
    }

    /// Shows an event to every invariant.
    pub fn show(&self, event: &Event<'_>) {
        let now = self.now();
        let mut state = self.state();
        let mut wrong = Vec::new();
        for invariant in &mut state.invariants {
            if let Err(why) = invariant.see(now, event) {
                wrong.push(format!("{}: {why}", invariant.name()));
            }
        }
        for text in wrong {
            state.note(now.as_micros(), format_args!("VIOLATION {text}"));
            state.outcome.violations.push(text);
        }
    }

    pub fn is_alive(&self, node: u64, life: u64) -> bool {
        self.state().alive.get(&node) == Some(&life)
    }

    pub fn stopping(&self) -> bool {
        self.state().stopping
    }

    /// A message's way over a link: true when it arrives. Cuts count at the end of the way.
    pub async fn hop(&self, from: u64, to: u64) -> bool {
        let Some(delay) = self.delay(from, to) else { return false };
        tokio::time::sleep(delay).await;
        !self.state().cut.contains(&(from, to))
    }

    /// How long a message takes; none where it is lost. No two links tie.
    pub fn delay(&self, from: u64, to: u64) -> Option<Duration> {
        let mut state = self.state();
        let percent = state.drop_percent;
        if state.below(100) < percent {
            return None;
        }
        let (base, jitter) = (state.base_ms, state.jitter_ms);
        let ms = base + state.below(jitter);
        Some(Duration::from_millis(ms) + Duration::from_micros(7 * from + to))
    }
}

impl State {
    pub fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.draw() % bound.max(1)
    }

    fn note(&mut self, micros: u128, text: fmt::Arguments<'_>) {
        let mut line = String::with_capacity(80);
        // Writing to a string does not fail.
        let _ = writeln!(line, "{micros} {text}");
        for byte in line.bytes() {
            self.outcome.hash = (self.outcome.hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3);
        }
        self.outcome.events += 1;
        if self.keep {
            self.outcome.trace.push_str(&line);
        }
    }
}
