//! Measures the product beside the system an operator would otherwise take, on one machine, in one
//! interleaved run. What is reported is ratios: absolute figures move with the machine and its load,
//! ratios hardly do (`docs/performance.md`).

mod control;
mod etcd;
mod failover;
mod leases;
mod load;
mod machine;
mod ours;
mod report;
mod streams;
mod wire;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// The product's own: `leases` measures its code in this process.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(name = "cryptorun-bench", about = "Measures cryptorun beside its peers")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Committed writes and linearizable reads beside etcd, and commits over wide links.
    Control(control::Options),
    /// The cost of a renewal with many leases held.
    Leases(leases::Options),
    /// A leader that is killed, beside etcd's; and a region that is lost, until another one writes.
    Failover(failover::Options),
}

/// Why a figure could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    #[error("{0}")]
    Cannot(String),
    #[error("the three nodes cannot be run")]
    Lab(#[from] cryptorun_lab::demo::DemoError),
    #[error("{what} does not answer as it must: {why}")]
    Answer { what: String, why: String },
}

impl BenchError {
    fn cannot(what: &str, why: impl std::fmt::Display) -> Self {
        Self::Cannot(format!("{what}: {why}"))
    }

    fn answer(what: impl Into<String>, why: impl std::fmt::Display) -> Self {
        Self::Answer { what: what.into(), why: why.to_string() }
    }
}

fn main() -> ExitCode {
    let verb = Arguments::parse().verb;
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: no runtime: {error}");
            return ExitCode::from(8);
        }
    };
    let measured = runtime.block_on(async {
        match verb {
            Verb::Control(options) => control::run(options).await,
            Verb::Leases(options) => leases::run(options).await,
            Verb::Failover(options) => failover::run(options).await,
        }
    });
    match measured {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("error: {error}");
            let mut cause = std::error::Error::source(&error);
            while let Some(inner) = cause {
                eprintln!("  {inner}");
                cause = inner.source();
            }
            ExitCode::from(8)
        }
    }
}
