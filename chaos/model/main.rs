//! `cryptorun-model check`, `mutants` and `explain MUTANT`.

use clap::{Parser, Subcommand};
use cryptorun_model::cases;
use cryptorun_model::mutants::Mutant;
use std::process::ExitCode;
use std::time::Instant;

/// Checks the shipped machine, keeper and step runner in every state within printed bounds.
#[derive(Parser)]
#[command(name = "cryptorun-model", version)]
struct Args {
    #[command(subcommand)]
    command: Cmd,
}

#[derive(Subcommand)]
enum Cmd {
    /// Checks every model; exits 1 if a property breaks, a rare state was not reached, or a bound was
    /// not exhausted.
    Check {
        /// Only models whose name contains this.
        only: Option<String>,
    },
    /// Puts each known mistake back; exits 1 if one is not found.
    Mutants {
        /// Only mistakes whose name contains this.
        only: Option<String>,
    },
    /// Prints how a mistake breaks its property, step by step.
    Explain {
        /// As `mutants` lists it.
        mutant: String,
    },
}

fn main() -> ExitCode {
    let begun = Instant::now();
    let good = match Args::parse().command {
        Cmd::Check { only } => check(&only.unwrap_or_default()),
        Cmd::Mutants { only } => mutants(&only.unwrap_or_default()),
        Cmd::Explain { mutant } => return explain(&mutant),
    };
    println!(
        "{} in {:.1} s",
        if good { "all good" } else { "FAILED" },
        begun.elapsed().as_secs_f32()
    );
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn check(only: &str) -> bool {
    let mut good = true;
    for (_, case) in cases::checks().into_iter().filter(|(name, _)| name.contains(only)) {
        let run = case();
        println!("{run}");
        good &= run.is_green();
    }
    good
}

fn mutants(only: &str) -> bool {
    let mut good = true;
    for mutant in Mutant::ALL.iter().copied().filter(|m| m.id().contains(only)) {
        let run = cases::mutant(mutant);
        // A mistake that only holds things up shows in what is not reached any more.
        let missed = mutant.hides().filter(|fact| run.missed().contains(fact) && run.complete);
        let missed = missed.map_or("NOT FOUND", |fact| fact.name());
        let by = run.found.first().map_or(missed, |found| found.property);
        let steps = run.found.first().map_or(0, |found| found.trace.len());
        println!(
            "{:<28} {by:<40} {steps:>3} steps {:>9} states {:>6.1} s   {}",
            mutant.id(),
            run.states,
            run.took.as_secs_f32(),
            mutant.text(),
        );
        good &= by != "NOT FOUND";
    }
    good
}

fn explain(name: &str) -> ExitCode {
    let Some(mutant) = Mutant::named(name) else {
        let known: Vec<&str> = Mutant::ALL.iter().map(|mutant| mutant.id()).collect();
        eprintln!("error: no mutant '{name}'; known: {}", known.join(", "));
        return ExitCode::from(2);
    };
    println!("{}: {}\n{}", mutant.id(), mutant.text(), cases::mutant(mutant));
    ExitCode::SUCCESS
}
