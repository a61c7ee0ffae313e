//! `run` simulates seeds, `replay` prints the trace of one.

use clap::{Parser, Subcommand};
use cryptorun_chaos::{Mutant, Options, run};
use std::process::ExitCode;

#[derive(Parser)]
#[command(about = "Deterministic simulation of the control plane")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
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
        /// Simulated seconds of faults in each.
        #[arg(long, default_value_t = 20)]
        seconds: u64,
        /// Run each seed twice and compare the traces' hashes.
        #[arg(long)]
        twice: bool,
        /// Put a bug in.
        #[arg(long, value_enum)]
        mutant: Option<Mutant>,
    },
    /// Prints a seed's trace.
    Replay {
        /// The seed.
        seed: u64,
        /// Simulated seconds of faults.
        #[arg(long, default_value_t = 20)]
        seconds: u64,
        /// Put a bug in.
        #[arg(long, value_enum)]
        mutant: Option<Mutant>,
    },
}

fn main() -> ExitCode {
    match Arguments::parse().verb {
        Verb::Run { seeds, from, seconds, twice, mutant } => {
            let options = Options { seconds, mutant, keep_trace: false };
            let mut bad = 0;
            let mut sum = cryptorun_chaos::Outcome::default();
            for seed in from..from + seeds {
                let outcome = run(seed, options);
                if twice {
                    let again = run(seed, options);
                    if again.hash != outcome.hash {
                        println!("seed {seed}: two runs differ");
                        bad += 1;
                    }
                }
                if !outcome.violations.is_empty() {
                    bad += 1;
                    println!("seed {seed}: {}", outcome.violations.join("\n    "));
                    let mutant = match mutant {
                        Some(mutant) => format!(" --mutant {mutant:?}"),
                        None => String::new(),
                    };
                    println!(
                        "    cargo run -p cryptorun-chaos -- replay {seed} --seconds {seconds}{mutant}"
                    );
                }
                sum.events += outcome.events;
                sum.acknowledged += outcome.acknowledged;
                sum.crashes += outcome.crashes;
                sum.leaderships += outcome.leaderships;
                sum.grants += outcome.grants;
                sum.installs += outcome.installs;
                sum.reads += outcome.reads;
            }
            println!(
                "{seeds} seeds of {seconds} s: {bad} bad; {} events, {} acknowledged, {} reads, {} crashes, {} leaderships, {} grants, {} snapshots installed",
                sum.events,
                sum.acknowledged,
                sum.reads,
                sum.crashes,
                sum.leaderships,
                sum.grants,
                sum.installs
            );
            if bad == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Verb::Replay { seed, seconds, mutant } => {
            let outcome = run(seed, Options { seconds, mutant, keep_trace: true });
            print!("{}", outcome.trace);
            println!("seed {seed} hash {:016x} violations {:?}", outcome.hash, outcome.violations);
            if outcome.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
    }
}
