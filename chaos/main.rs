//! `run` simulates seeds, `replay` and `explain` print one, `mutants` shows who tests the tests;
//! `crash` goes through every crash and damage of one disk at a time.

use clap::{Parser, Subcommand};
use cryptorun_chaos::boundaries::{self, Boundary};
use cryptorun_chaos::crash::power;
use cryptorun_chaos::labelled::{self, Label};
use cryptorun_chaos::stories::Story;
use cryptorun_chaos::{
    Batch, Mutant, Options, Outcome, bend, crash, explain, mutants, run, run_boundaries,
    run_labelled, run_seeds, run_stories, spread, tally,
};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// From so many seeds on, what was never reached makes a run red. The rarest state comes about once in
/// 130 seeds: 200 of them miss it in one run of five, a thousand hardly ever.
const ENOUGH_SEEDS: u64 = 1000;
/// The median of the mutants' medians may be so many seeds.
const MEDIAN_MAX: u64 = 100;
/// A mutant that survives so many seeds of a start is not caught from there.
const SEEDS_EACH_MAX: u64 = 250;
/// Starts far from each other: the median is over these.
const STARTS: [u64; 5] = [1, 10_000, 20_000, 30_000, 40_000];

#[derive(Parser)]
#[command(about = "Deterministic simulation of the whole product in one thread a seed")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Args, Clone, Copy)]
struct Setting {
    /// Simulated seconds of faults in each seed; healing comes after.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Put a bug in, by its name in `mutants`.
    #[arg(long, value_parser = mutant)]
    mutant: Option<&'static Mutant>,
    /// One fault of this class, as `detect` runs it.
    #[arg(long)]
    label: Option<Label>,
    /// The leader's death at this boundary of a promotion, as `boundaries` runs it.
    #[arg(long)]
    boundary: Option<Boundary>,
    /// This story, as `stories` tells it.
    #[arg(long)]
    story: Option<Story>,
}

/// Runs that are each about one thing by its name.
#[derive(clap::Args)]
struct Directed {
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Only those whose names contain this.
    #[arg(long)]
    only: Option<String>,
    /// Put a bug in, by its name in `mutants`.
    #[arg(long, value_parser = mutant)]
    mutant: Option<&'static Mutant>,
    /// At a time.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Say what each came to.
    #[arg(long)]
    table: bool,
}

impl Directed {
    fn wanted<T: ToString>(&self, all: impl IntoIterator<Item = T>) -> Vec<T> {
        let named = |it: &T| self.only.as_ref().is_none_or(|only| it.to_string().contains(only));
        all.into_iter().filter(named).collect()
    }

    /// So many runs of each, in turn. A seed of its own for each run: one that all shared would draw the
    /// same cluster for all.
    fn list<T: Copy>(&self, wanted: &[T], each: u64) -> Vec<(u64, T)> {
        let count = wanted.len() as u64 * each;
        (self.from..self.from + count).zip(wanted.iter().cycle().copied()).collect()
    }

    /// Says what a run broke, and how to look at it.
    fn complain(&self, outcome: &Outcome, kind: &str, name: impl std::fmt::Display) {
        if outcome.violations.is_empty() {
            return;
        }
        let seed = outcome.seed;
        println!("seed {seed} {name}: {}", outcome.violations.join("\n    "));
        let mutant = self.mutant.map(|m| format!(" --mutant {}", m.name)).unwrap_or_default();
        println!(
            "    cargo run --release -p cryptorun-chaos -- explain {seed} --{kind} {name}{mutant}"
        );
    }
}

#[derive(Subcommand)]
enum Verb {
    /// Runs seeds and names those that break an invariant.
    Run {
        /// How many.
        #[arg(long, default_value_t = 200)]
        seeds: u64,
        /// The first.
        #[arg(long, default_value_t = 1)]
        from: u64,
        #[command(flatten)]
        setting: Setting,
        /// Run each seed twice and compare the traces' hashes.
        #[arg(long)]
        twice: bool,
        /// Seeds at a time.
        #[arg(long, default_value_t = 2)]
        jobs: usize,
        /// Say how often each fault and each rare state was reached.
        #[arg(long)]
        table: bool,
    },
    /// Runs one fault of a known class each, and says what it was called: the confusion matrix.
    Detect {
        /// How many, from each label in turn; without it the held-out list.
        #[arg(long)]
        seeds: Option<u64>,
        /// The first.
        #[arg(long, default_value_t = 1)]
        from: u64,
        /// Only these labels.
        #[arg(long, value_delimiter = ',')]
        only: Vec<Label>,
        /// At a time.
        #[arg(long, default_value_t = 2)]
        jobs: usize,
    },
    /// Kills the leader at every boundary of every step of every kind of promotion; exit 1 where one does
    /// not end, is told wrongly or leaves something half, and where a boundary was never reached. A name is
    /// `switchover/seal.start/applied`.
    Boundaries {
        /// So many of each.
        #[arg(long, default_value_t = 2)]
        seeds: u64,
        #[command(flatten)]
        directed: Directed,
    },
    /// Tells stories that everybody knows; exit 1 where what they demand is not so, and where one never
    /// came about. A name is `cut_43s`.
    Stories {
        /// So many of each.
        #[arg(long, default_value_t = 10)]
        seeds: u64,
        #[command(flatten)]
        directed: Directed,
    },
    /// Prints a seed's whole trace.
    Replay {
        /// The seed.
        seed: u64,
        #[command(flatten)]
        setting: Setting,
    },
    /// Prints what a person needs to see of a seed: faults, leaders, grants, promotions, violation.
    Explain {
        /// The seed.
        seed: u64,
        /// Also what the product's processes log, on stderr, in the order it happened.
        #[arg(long)]
        logs: bool,
        #[command(flatten)]
        setting: Setting,
    },
    /// Crashes everything that keeps something, at every change of its disk and every byte of the last
    /// write, then damages what it kept; exit 1 on a loss, a refusal without cause or a panic.
    Crash {
        /// Threads.
        #[arg(long, default_value_t = 2)]
        jobs: usize,
        /// Tear the last write at every so many bytes.
        #[arg(long, default_value_t = 1)]
        step: usize,
        /// Crash at every so many changes only.
        #[arg(long, default_value_t = 1)]
        every: u64,
        /// Only parts whose names contain this: node, machine, queue, sink.
        #[arg(long)]
        only: Option<String>,
    },
    /// Gives every decoder bent forms of the kept corpus; exit 1 on a panic.
    Bend {
        /// For each decoder.
        #[arg(long, default_value_t = 20_000)]
        runs: u64,
        /// Decides how they are bent.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Cuts the power of a real file system under a working log, and looks what is there afterwards.
    PowerCut {
        /// How often.
        #[arg(long, default_value_t = 20)]
        cuts: u64,
        /// Decides when.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Works in a folder until its disk is cut off: for `power-cut`.
    #[command(hide = true)]
    PowerChild {
        /// Where.
        dir: PathBuf,
        /// Past the page cache.
        #[arg(long)]
        direct: bool,
    },
    /// Runs mutants until each is caught: by what, and after how many seeds.
    Mutants {
        /// Only so many of them, evenly spread over the list.
        #[arg(long)]
        sample: Option<usize>,
        /// Only those whose names contain this.
        #[arg(long)]
        only: Option<String>,
        /// Simulated seconds of faults in each seed.
        #[arg(long, default_value_t = 60)]
        seconds: u64,
        /// From so many different first seeds each; the median is over them.
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..=5))]
        starts: u8,
        /// Mutants at a time.
        #[arg(long, default_value_t = 2)]
        jobs: usize,
    },
}

fn mutant(name: &str) -> Result<&'static Mutant, String> {
    let mutant = mutants::named(name).ok_or_else(|| {
        let names: Vec<_> = mutants::ALL.iter().map(|mutant| mutant.name).collect();
        format!("no mutant '{name}'; known: {}", names.join(", "))
    })?;
    match mutants::is_built(mutant) {
        true => Ok(mutant),
        false => Err(format!("'{name}' needs a build with --features mutants")),
    }
}

fn main() -> ExitCode {
    match Arguments::parse().verb {
        Verb::Run { seeds, from, setting, twice, jobs, table } => {
            runs(from..from + seeds, setting, twice, jobs, table)
        }
        Verb::Detect { seeds, from, only, jobs } => code(detect(seeds, from, &only, jobs)),
        Verb::Boundaries { seeds, directed } => code(all_boundaries(seeds, &directed)),
        Verb::Stories { seeds, directed } => code(all_stories(seeds, &directed)),
        Verb::Replay { seed, setting } => {
            let outcome = traced(seed, setting);
            print!("{}", outcome.trace);
            let (hash, violations) = (outcome.hash, &outcome.violations);
            println!("seed {seed} hash {hash:016x} violations {violations:?}");
            code(violations.is_empty())
        }
        Verb::Explain { seed, logs, setting } => {
            if logs {
                let level = tracing::Level::DEBUG;
                let lines = tracing_subscriber::fmt().with_max_level(level).without_time();
                lines.with_writer(std::io::stderr).with_ansi(false).init();
            }
            let outcome = traced(seed, setting);
            print!("{}", explain::story(&outcome));
            code(outcome.violations.is_empty())
        }
        Verb::Crash { jobs, step, every, only } => {
            code(crashes(crash::Extent { jobs, step, every }, only.as_deref()))
        }
        Verb::Bend { runs, seed } => code(bends(runs, seed)),
        Verb::PowerCut { cuts, seed } => code(power_cuts(cuts, seed)),
        // An error is what it waits for.
        Verb::PowerChild { dir, direct } => code(power::child(&dir, direct).is_ok()),
        Verb::Mutants { sample, only, seconds, starts, jobs } => {
            code(hunt(&chosen(sample, only.as_deref()), seconds, usize::from(starts), jobs))
        }
    }
}

fn code(good: bool) -> ExitCode {
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn traced(seed: u64, Setting { seconds, mutant, label, boundary, story }: Setting) -> Outcome {
    run(seed, Options { seconds, mutant, label, boundary, story, keep_trace: true })
}

/// So many runs, in permille, must be called right.
const RIGHT_MIN_PERMILLE: u64 = 980;

/// True when enough were called right, nobody was called lost wrongly, and nothing else broke.
fn detect(seeds: Option<u64>, from: u64, only: &[Label], jobs: usize) -> bool {
    let begun = Instant::now();
    let list = match seeds {
        Some(seeds) => Ok((from..from + seeds).map(|seed| (seed, Label::of(seed))).collect()),
        None => labelled::held_out(),
    };
    let mut list: Vec<(u64, Label)> = match list {
        Ok(list) => list,
        Err(why) => {
            println!("WRONG the held-out list: {why}");
            return false;
        }
    };
    list.retain(|(_, label)| only.is_empty() || only.contains(label));
    let progress = Progress::new(list.len() as u64);
    let (confusion, bad) = run_labelled(&list, jobs, |outcome| {
        progress.done_with_one();
        let Some(called) = outcome.called.as_ref().filter(|called| !called.right) else { return };
        println!(
            "seed {} was {} and was called {}: explain {0} --label {1}",
            outcome.seed, called.label, called.class
        );
    });
    for (seed, why) in &bad {
        println!("seed {seed}: {}", why.join("\n    "));
    }
    println!("\n{confusion}");
    let permille = confusion.right_permille();
    println!(
        "{} of {} runs called right, {}.{} %; {} bad; {:.1} s",
        confusion.right,
        confusion.runs,
        permille / 10,
        permille % 10,
        bad.len(),
        begun.elapsed().as_secs_f64()
    );
    permille >= RIGHT_MIN_PERMILLE && bad.is_empty() && confusion.runs == list.len() as u64
}

/// True when every promotion ended and is told, nothing was left half, and every boundary was reached.
fn all_boundaries(each: u64, directed: &Directed) -> bool {
    let begun = Instant::now();
    let wanted = directed.wanted(boundaries::all());
    let list = directed.list(&wanted, each);
    let progress = Progress::new(list.len() as u64);
    let Directed { jobs, mutant, table, .. } = *directed;
    let (ends, bad) = run_boundaries(&list, jobs, mutant, |outcome, boundary| {
        progress.done_with_one();
        directed.complain(outcome, "boundary", boundary);
    });
    if table {
        println!("{ends}");
    }
    let missing: Vec<String> = ends.missing(&wanted).map(|it| it.to_string()).collect();
    println!(
        "{} runs at {} boundaries in {:.1} s: {bad} bad, {} in which nobody died there",
        list.len(),
        wanted.len(),
        begun.elapsed().as_secs_f64(),
        ends.missed
    );
    if !missing.is_empty() {
        println!("never reached: {}", missing.join(", "));
    }
    bad == 0 && missing.is_empty() && !wanted.is_empty()
}

/// True when nothing that a story demands was broken, and each came about.
fn all_stories(each: u64, directed: &Directed) -> bool {
    let begun = Instant::now();
    let wanted = directed.wanted(Story::ALL);
    let list = directed.list(&wanted, each);
    let progress = Progress::new(list.len() as u64);
    let Directed { jobs, mutant, table, .. } = *directed;
    let (told, bad) = run_stories(&list, jobs, mutant, |outcome, story| {
        progress.done_with_one();
        directed.complain(outcome, "story", story);
    });
    if table {
        println!("{told}");
    }
    let missing: Vec<&str> = told.missing(&wanted).map(Story::as_str).collect();
    let took = begun.elapsed().as_secs_f64();
    println!("{} runs of {} stories in {took:.1} s: {bad} bad", list.len(), wanted.len());
    if !missing.is_empty() {
        println!("never came about: {}", missing.join(", "));
    }
    bad == 0 && missing.is_empty() && !wanted.is_empty()
}

/// Says now and then how far a long run is, on stderr.
struct Progress {
    all: u64,
    begun: Instant,
    /// Done, and said so many times.
    done: Mutex<(u64, u32)>,
}

impl Progress {
    const EVERY: Duration = Duration::from_secs(30);

    fn new(all: u64) -> Self {
        Self { all, begun: Instant::now(), done: Mutex::default() }
    }

    fn done_with_one(&self) {
        let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        let (done, said) = &mut *done;
        *done += 1;
        let took = self.begun.elapsed();
        if took >= Self::EVERY * (*said + 1) {
            *said += 1;
            let left = took.as_secs_f64() / *done as f64 * (self.all - *done) as f64;
            eprintln!("{done} of {} seeds, some {left:.0} s to go", self.all);
        }
    }
}

fn runs(
    seeds: std::ops::Range<u64>,
    Setting { seconds, mutant, label, boundary, story }: Setting,
    twice: bool,
    jobs: usize,
    table: bool,
) -> ExitCode {
    let begun = Instant::now();
    let options = Options { seconds, mutant, label, boundary, story, keep_trace: false };
    let progress = Progress::new(seeds.end - seeds.start);
    let batch = run_seeds(seeds, jobs, options, twice, |outcome: &Outcome| {
        progress.done_with_one();
        if outcome.violations.is_empty() {
            return;
        }
        println!("seed {}: {}", outcome.seed, outcome.violations.join("\n    "));
        let mutant = mutant.map(|m| format!(" --mutant {}", m.name)).unwrap_or_default();
        println!(
            "    cargo run --release -p cryptorun-chaos -- explain {} --seconds {seconds}{mutant}",
            outcome.seed
        );
    });
    let took = begun.elapsed().as_secs_f64();
    let Batch { seeds, bad, tally, events } = batch;
    if table {
        print_table(&tally);
    }
    let gave_up = tally.get("checker_gave_up");
    let figures: Vec<String> =
        tally::FIGURES.iter().map(|what| format!("{} {what}", tally.get(what))).collect();
    let gap = tally.1.get("gap_ms").map_or("none".to_owned(), |ms| format!("{ms} ms"));
    println!(
        "{seeds} seeds of {seconds} s in {took:.1} s ({:.0} a minute, {:.0} simulated s a s): {} bad; \
         {events} events, {}; smallest gap between two holders in true time: {gap}",
        60.0 * seeds as f64 / took,
        (seeds * seconds) as f64 / took,
        bad.len(),
        figures.join(", ")
    );
    let reached = tally::FAULTS.iter().filter(|(what, _)| tally.get(what) > 0).count();
    let rare = tally::RARE.iter().filter(|(what, _)| tally.get(what) > 0).count();
    println!(
        "{reached} of {} kinds of faults had an effect, {rare} of {} rare states were reached",
        tally::FAULTS.len(),
        tally::RARE.len()
    );
    let missing = tally.missing();
    if !missing.is_empty() {
        println!("never reached: {}", missing.join(", "));
    }
    let enough = seeds < ENOUGH_SEEDS || mutant.is_some() || missing.is_empty();
    code(bad.is_empty() && enough && gave_up == 0)
}

fn print_table(tally: &tally::Tally) {
    for (title, rows) in [("fault", tally::FAULTS), ("rare state", tally::RARE)] {
        println!("| {title} | times | counts when |\n| --- | --- | --- |");
        for (what, when) in rows {
            println!("| `{what}` | {} | {when} |", tally.get(what));
        }
        println!();
    }
}

/// A run that tries fewer points than this proves too little.
const ENOUGH_POINTS: u64 = 5_000;

/// True when nothing was lost, and enough was tried to say so.
fn crashes(extent: crash::Extent, only: Option<&str>) -> bool {
    let begun = Instant::now();
    let report = crash::run(extent, only);
    println!("| part | kind | points |\n| --- | --- | --- |");
    for ((part, kind), count) in &report.points {
        println!("| {part} | {kind} | {count} |");
    }
    for what in &report.shown {
        println!("WRONG {what}");
    }
    let total = report.total();
    println!(
        "{total} points in {:.1} s: {} wrong, {} damages refused with a reason",
        begun.elapsed().as_secs_f64(),
        report.wrong,
        report.refused
    );
    let enough = total >= ENOUGH_POINTS || only.is_some() || extent.step > 1 || extent.every > 1;
    if !enough {
        println!("fewer than {ENOUGH_POINTS} points: too few to say anything");
    }
    report.wrong == 0 && enough
}

/// True when no decoder panicked.
fn bends(runs: u64, seed: u64) -> bool {
    let begun = Instant::now();
    let all = match bend::bend(&bend::corpus(), runs, seed) {
        Ok(all) => all,
        Err(error) => {
            println!("WRONG the corpus cannot be read: {error}");
            return false;
        }
    };
    for bent in &all {
        if let Some((input, why)) = &bent.wrong {
            let hex: String = input.iter().map(|byte| format!("{byte:02x}")).collect();
            println!("WRONG {}: {why}\n    {hex}", bent.name);
        }
    }
    let wrong = all.iter().filter(|bent| bent.wrong.is_some()).count();
    let runs: u64 = all.iter().map(|bent| bent.runs).sum();
    let took = begun.elapsed().as_secs_f64();
    println!("{} decoders, {runs} inputs in {took:.1} s: {wrong} wrong", all.len());
    wrong == 0
}

/// True when nothing acknowledged was lost, or where this machine does not allow to try.
fn power_cuts(cuts: u64, seed: u64) -> bool {
    let begun = Instant::now();
    let scratch = std::env::temp_dir().join(format!("cryptorun-power-{}", std::process::id()));
    let ran = std::env::current_exe().and_then(|this| power::run(cuts, seed, &this, &scratch));
    drop(std::fs::remove_dir_all(&scratch));
    match ran {
        Ok(power::Outcome::Skipped(why)) => {
            println!("SKIPPED: no file system can be cut here: {why}");
            true
        }
        Ok(power::Outcome::Done { cuts, acked, wrong }) => {
            wrong.iter().for_each(|what| println!("WRONG {what}"));
            println!(
                "{cuts} power cuts of ext4 in {:.1} s: {acked} records acknowledged, {} wrong",
                begun.elapsed().as_secs_f64(),
                wrong.len()
            );
            wrong.is_empty()
        }
        Err(error) => {
            println!("WRONG the test itself: {error}");
            false
        }
    }
}

fn chosen(sample: Option<usize>, only: Option<&str>) -> Vec<&'static Mutant> {
    let built = mutants::ALL.iter().filter(|mutant| mutants::is_built(mutant));
    let all: Vec<&Mutant> =
        built.filter(|mutant| only.is_none_or(|text| mutant.name.contains(text))).collect();
    match sample {
        Some(few) if few > 0 && few < all.len() => {
            (0..few).map(|n| all[n * all.len() / few]).collect()
        }
        _ => all,
    }
}

/// How a mutant was caught from one start.
struct Caught {
    seeds: u64,
    by: String,
}

fn catch(mutant: &'static Mutant, start: u64, seconds: u64) -> Option<Caught> {
    let options =
        Options { seconds, mutant: Some(mutant), story: mutant.story, ..Options::default() };
    (start..start + SEEDS_EACH_MAX).find_map(|seed| {
        let outcome = run(seed, options);
        let first = outcome.violations.first()?;
        let by = first.split(':').next().unwrap_or("?").to_owned();
        Some(Caught { seeds: seed - start + 1, by })
    })
}

/// Runs each mutant from each start; prints the table. True when each was caught from most
/// starts, and half of them soon enough.
fn hunt(mutants: &[&'static Mutant], seconds: u64, starts: usize, jobs: usize) -> bool {
    let rows = Mutex::new(BTreeMap::new());
    spread(0..mutants.len() as u64, jobs, |at| {
        let Some((at, mutant)) =
            usize::try_from(at).ok().and_then(|at| Some((at, mutants.get(at)?)))
        else {
            return;
        };
        let begun = Instant::now();
        let caught: Vec<Option<Caught>> =
            STARTS[..starts].iter().map(|s| catch(mutant, *s, seconds)).collect();
        let seeds = caught.iter().map(|caught| caught.as_ref().map(|c| c.seeds));
        let (seeds, took): (Vec<_>, _) = (seeds.collect(), begun.elapsed());
        eprintln!("{}: {seeds:?} seeds in {:.0} s", mutant.name, took.as_secs_f64());
        rows.lock().unwrap_or_else(PoisonError::into_inner).insert(at, caught);
    });
    let rows = rows.into_inner().unwrap_or_else(PoisonError::into_inner);
    println!("| mutant | what is wrong | caught by | seeds, median | most |");
    println!("| --- | --- | --- | --- | --- |");
    let (mut all, mut medians) = (true, Vec::new());
    for (at, caught) in rows {
        let mutant = mutants[at];
        let mut by: Vec<&str> = caught.iter().flatten().map(|c| c.by.as_str()).collect();
        by.sort_unstable();
        by.dedup();
        let mut seeds: Vec<u64> = caught.iter().flatten().map(|c| c.seeds).collect();
        seeds.sort_unstable();
        let escaped = caught.len() - seeds.len();
        // From a start that did not catch it in time it would have taken longer than from the others.
        let median = seeds.get(caught.len() / 2).copied();
        let shown = median.map_or("-".to_owned(), |n| n.to_string());
        let most = match escaped {
            0 => seeds.last().map_or("-".to_owned(), u64::to_string),
            n => format!("{n} of {} not within {SEEDS_EACH_MAX}", caught.len()),
        };
        println!("| `{}` | {} | {} | {shown} | {most} |", mutant.name, mutant.bug, by.join(", "));
        all &= median.is_some();
        medians.extend(median);
    }
    medians.sort_unstable();
    let middle = medians.get(medians.len() / 2).copied().unwrap_or(0);
    println!("\n{} mutants, median of medians {middle} seeds", mutants.len());
    all && middle <= MEDIAN_MAX
}
