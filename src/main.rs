//! The one binary: reads arguments, picks a role (operator, node, worker, demo, lab), exits with a
//! number that scripts may branch on (`docs/cli.md`).

mod pki;
mod roles;

use clap::{CommandFactory, Parser, Subcommand};
use cryptorun_cli::Host;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Decides which region may write which data tier, and proves it afterwards
#[derive(Parser)]
#[command(name = "cryptorun", version, max_term_width = 110)]
struct Program {
    #[command(subcommand)]
    word: Word,
}

#[derive(Subcommand)]
enum Word {
    /// Run one control-plane node
    Node(roles::RoleArgs),
    /// Run one data-plane worker
    Worker(roles::RoleArgs),
    /// Run three regions on this machine: switchover, lost region, cut link, proof
    Demo(cryptorun_lab::cli::DemoArgs),
    /// Act on a held demo: cut links, kill and freeze processes
    Lab(Box<cryptorun_lab::cli::LabArgs>),
    /// Certificates for trials, and a check of real ones
    Pki(pki::PkiArgs),
    #[command(flatten)]
    Client(Box<cryptorun_cli::Verb>),
}

fn main() -> ExitCode {
    // What the demo started ends with it, however it ends.
    if let Err(error) = cryptorun_lab::supervisor::die_with_parent() {
        eprintln!("error: {error}");
        return ExitCode::from(8);
    }
    match Program::parse().word {
        Word::Node(args) => roles::node(&args),
        Word::Worker(args) => roles::worker(&args),
        Word::Demo(args) => roles::on_runtime(args.run()),
        Word::Lab(args) => roles::on_runtime(args.run()),
        Word::Pki(args) => pki::run(&args),
        Word::Client(verb) => {
            let host = Host { grammar: Program::command(), checker: Box::new(roles::Files) };
            cryptorun_cli::run(*verb, &host).into()
        }
    }
}
