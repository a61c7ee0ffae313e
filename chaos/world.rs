//! One simulated run: the seed's generator, the trace, what is alive, what the network does to
//! messages, what was seen.

use crate::boundaries::{Boundary, Reached, Trap};
use crate::cluster;
use crate::invariants::{Event, Invariant};
use crate::labelled::{Called, Label};
use crate::mutants::Mutant;
use crate::network::Network;
use crate::node::NodeHandle;
use crate::stories::{Story, Told};
use crate::tally::Tally;
use crate::worker::WorkerHandle;
use cryptorun_platform::net::Service;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};
use std::time::Duration;

/// How to run a seed.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Simulated seconds of faults; healing comes after.
    pub seconds: u64,
    /// Keep the trace's text, not only its hash.
    pub keep_trace: bool,
    /// A bug on purpose.
    pub mutant: Option<&'static Mutant>,
    /// One fault whose class is known, in place of all of them.
    pub label: Option<Label>,
    /// The leader's death at one boundary of a promotion, in place of all faults.
    pub boundary: Option<Boundary>,
    /// One story told on purpose, in place of all faults.
    pub story: Option<Story>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            seconds: 60,
            keep_trace: false,
            mutant: None,
            label: None,
            boundary: None,
            story: None,
        }
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
    /// What was reached: fault kinds that had an effect, rare states, figures.
    pub tally: Tally,
    /// What a labelled run was called.
    pub called: Option<Called>,
    /// What a run about a boundary came to.
    pub reached: Option<Reached>,
    /// What a story came to.
    pub told: Option<Told>,
    /// The trace, if kept.
    pub trace: String,
}

/// What a seed is about. Most are about everything at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Theme {
    /// All faults, clocks within what is tolerated.
    All,
    /// Clocks beyond it: only what is promised without clocks must hold.
    Wild,
    /// One link is cut, and cut again: no lease may move (DESIGN §20, 11).
    OneLink,
    /// The control plane alone is disturbed, one node at a time: no healthy holder loses its lease.
    ControlOnly,
    /// Holders that some still see and others do not, again and again.
    HalfSeen,
    /// One fault whose class is known.
    Labelled,
    /// The leader dies at one boundary of a promotion.
    Boundary,
    /// One of the stories.
    Story,
}

impl Theme {
    /// Whether the run is a story told on purpose, and not whatever the seed draws.
    pub fn is_directed(self) -> bool {
        matches!(self, Self::Labelled | Self::Boundary | Self::Story)
    }

    fn of(seed: u64) -> Self {
        match seed % 16 {
            5 | 13 => Self::Wild,
            7 => Self::OneLink,
            11 => Self::ControlOnly,
            3 => Self::HalfSeen,
            _ => Self::All,
        }
    }
}

/// Everything the tasks of one run share.
pub(crate) struct World {
    state: Mutex<State>,
    start: tokio::time::Instant,
    pub options: Options,
    pub theme: Theme,
    /// Where a leader shall die, if the run is about that.
    pub trap: Option<Arc<Trap>>,
}

pub(crate) struct State {
    random: u64,
    keep: bool,
    pub outcome: Outcome,
    /// Processes that run, by end, and which life it is.
    pub alive: BTreeMap<u64, u64>,
    pub nodes: BTreeMap<u64, NodeHandle>,
    pub workers: BTreeMap<u64, WorkerHandle>,
    /// Who answers peers' calls at an end.
    pub services: BTreeMap<u64, Arc<dyn Service>>,
    pub network: Network,
    /// Disks that are slow for the moment, by end: this much more a sync, until then.
    pub slow_disks: BTreeMap<u64, (Duration, Duration)>,
    /// Processes that stand still, by end, until then.
    pub frozen: BTreeMap<u64, Duration>,
    /// What the venue traded, by id, with its time.
    pub trades: Vec<u64>,
    /// Regions that hear nothing from the venue.
    pub deaf: std::collections::BTreeSet<u64>,
    pub stopping: bool,
    lives: u64,
    invariants: Vec<Box<dyn Invariant>>,
}

thread_local! {
    /// Panics of tasks would vanish in their join handles.
    static PANICS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    /// Whether this thread simulates: others keep their panics to themselves.
    static QUIET: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

fn note_panics(quiet: bool) {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let text = info.to_string();
            let quiet = QUIET.get() || is_of_the_dead(&text);
            PANICS.with_borrow_mut(|panics| panics.push(text));
            if !quiet {
                before(info);
            }
        }));
    });
    QUIET.set(quiet);
    PANICS.with_borrow_mut(Vec::clear);
}

/// openraft asserts that nobody calls a node while it is being shut down; here callers of a dead
/// node's last life do, and in production a process that is ending.
fn is_of_the_dead(panic: &str) -> bool {
    panic.contains("raft/raft_inner.rs")
}

/// A run with more events than any honest one: something spins where no time passes.
const EVENTS_MAX: u64 = 400_000;

/// Runs one seed from founding to convergence.
pub fn run(seed: u64, options: Options) -> Outcome {
    note_panics(options.mutant.is_some());
    crate::mutants::arm(options.mutant);
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
    let inside = runtime.enter();
    let world = Arc::new(World::new(seed, options));
    let story = cryptorun_raft::runtime::seeded(world.draw(), cluster::story(world.clone()));
    // A panic of the story itself is noted by the hook like any other.
    drop(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| runtime.block_on(story))));
    drop(inside);
    let (mut outcome, nodes, workers, services) = {
        let mut state = world.state();
        (
            std::mem::take(&mut state.outcome),
            std::mem::take(&mut state.nodes),
            std::mem::take(&mut state.workers),
            std::mem::take(&mut state.services),
        )
    };
    drop((nodes, workers, services));
    drop(runtime);
    crate::mutants::arm(None);
    PANICS.with_borrow_mut(|panics| {
        for text in panics.drain(..) {
            if is_of_the_dead(&text) {
                outcome.tally.add("calls_of_the_dead", 1);
            } else {
                outcome.violations.push(format!("no_panic: {text}"));
            }
        }
    });
    outcome
}

impl World {
    fn new(seed: u64, options: Options) -> Self {
        let theme = match (options.label, options.boundary, options.story) {
            (Some(_), ..) => Theme::Labelled,
            (None, Some(_), _) => Theme::Boundary,
            (None, None, Some(_)) => Theme::Story,
            (None, None, None) => Theme::of(seed),
        };
        let mut state = State {
            random: seed,
            keep: options.keep_trace,
            outcome: Outcome { seed, hash: 0xCBF2_9CE4_8422_2325, ..Outcome::default() },
            alive: BTreeMap::new(),
            nodes: BTreeMap::new(),
            workers: BTreeMap::new(),
            services: BTreeMap::new(),
            network: Network::default(),
            slow_disks: BTreeMap::new(),
            frozen: BTreeMap::new(),
            trades: Vec::new(),
            deaf: Default::default(),
            stopping: false,
            lives: 0,
            invariants: crate::invariants::all(theme),
        };
        let (base, jitter) = (2 + state.below(40), 1 + state.below(20));
        state.network = Network::new(base, jitter);
        let trap = options.boundary.map(|boundary| Trap::new(boundary.kind));
        Self { state: Mutex::new(state), start: tokio::time::Instant::now(), options, theme, trap }
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

    /// One of several.
    pub fn pick<'a, T>(&self, from: &'a [T]) -> &'a T {
        &from[usize::try_from(self.below(from.len() as u64)).unwrap_or(0)]
    }

    /// A span between two, in milliseconds.
    pub fn span_ms(&self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from + self.below(to.saturating_sub(from)))
    }

    /// True time: nobody's clock shows it.
    pub fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// One line of the trace.
    pub fn event(&self, text: fmt::Arguments<'_>) {
        let now = self.now().as_micros();
        tracing::info!(target: "sim", "{now} {text}");
        self.state().note(now, text);
    }

    /// Something was reached.
    pub fn tally(&self, what: &'static str) {
        self.state().outcome.tally.add(what, 1);
    }

    pub fn violation(&self, text: String) {
        self.event(format_args!("VIOLATION {text}"));
        self.state().outcome.violations.push(text);
    }

    /// Shows an event to every invariant.
    pub fn show(&self, event: &Event<'_>) {
        let now = self.now();
        let mut state = self.state();
        let mut invariants = std::mem::take(&mut state.invariants);
        let mut wrong = Vec::new();
        for invariant in &mut invariants {
            if let Err(why) = invariant.see(now, event) {
                wrong.push(format!("{}: {why}", invariant.name()));
            }
            invariant.reached(&mut state.outcome.tally);
        }
        state.invariants = invariants;
        for text in wrong {
            state.note(now.as_micros(), format_args!("VIOLATION {text}"));
            state.outcome.violations.push(text);
        }
    }

    pub fn is_alive(&self, end: u64, life: u64) -> bool {
        self.state().alive.get(&end) == Some(&life)
    }

    pub fn stopping(&self) -> bool {
        self.state().stopping
    }

    /// A new life's number.
    pub fn next_life(&self) -> u64 {
        let mut state = self.state();
        state.lives += 1;
        state.lives
    }

    /// Whether something went wrong already: a run need not go on.
    pub fn is_bad(&self) -> bool {
        !self.state().outcome.violations.is_empty()
    }

    /// How long a sync at this end takes now.
    pub fn sync_takes(&self, end: u64) -> Duration {
        let now = self.now();
        let mut state = self.state();
        let usual = Duration::from_micros(300 + state.below(5_000));
        match state.slow_disks.get(&end).copied() {
            Some((more, until)) if now < until => {
                state.outcome.tally.add(crate::tally::slow_disk_word(more), 1);
                usual + more
            }
            _ => usual,
        }
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

    pub fn note(&mut self, micros: u128, text: fmt::Arguments<'_>) {
        let mut line = String::with_capacity(80);
        // Writing to a string does not fail.
        let _ = writeln!(line, "{micros} {text}");
        for byte in line.bytes() {
            self.outcome.hash = (self.outcome.hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3);
        }
        self.outcome.events += 1;
        assert!(self.outcome.events < EVENTS_MAX, "more than {EVENTS_MAX} events: something spins");
        if self.keep {
            self.outcome.trace.push_str(&line);
        }
    }
}
