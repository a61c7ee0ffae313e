//! Scenarios with real processes: three regions of the built program, hurt on purpose, judged from
//! journals, the audit and what the program says to those who ask.
//!
//! Each scenario brings up labs of its own (`world.rs`), acts, and prints one line for each check,
//! with the numbers behind its verdict (`verdict.rs`). Exit 1 when any check failed, 8 when a lab
//! could not be brought up.
//!
//! What always holds: no process outlives a scenario, however it ends; nothing is judged by what a
//! stage of it believes.
//!
//! Next: `kill_matrix.rs`, `killed_nodes.rs`, `overload.rs`, `region_lost.rs`, `stopped_primary.rs`, `cut_links.rs`, `diagnosis.rs`, `strangers.rs`,
//! `day_two.rs`, `chaos.rs`.

mod chaos;
mod cut_links;
mod day_two;
mod diagnosis;
mod judge;
mod kill_matrix;
mod killed_nodes;
mod overload;
mod reader;
mod region_lost;
mod runbook;
mod stopped_primary;
mod stranger;
mod strangers;
mod verdict;
mod world;
mod writes;

use clap::{Parser, ValueEnum};
use cryptorun_core::time::Millis;
use cryptorun_platform::shutdown::Shutdown;
use std::path::PathBuf;
use std::process::ExitCode;
use verdict::Verdicts;
use world::Trouble;

/// Three regions of the built program, hurt on purpose
#[derive(Clone, Debug, Parser)]
pub struct Arguments {
    /// Which
    #[arg(value_enum)]
    scenario: Scenario,
    /// The program to hurt
    #[arg(long, default_value = "target/release/cryptorun", value_name = "FILE")]
    program: PathBuf,
    /// Folder for data and logs of each lab; by default one in the system's temporary folder
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// First port of each lab's block of 64
    #[arg(long, default_value_t = 21_000, value_name = "PORT")]
    base_port: u16,
    /// The program before the last cluster version, to upgrade from; without it that case is skipped
    #[arg(long, value_name = "FILE")]
    older: Option<PathBuf>,
    /// Only cases whose name contains this
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Shorter cuts and stops; fewer rounds
    #[arg(long)]
    quick: bool,
    /// Profile near, round trips 70/130/140 ms, detection after 60 s, approvals after 2, 3 and 6 min
    #[arg(long)]
    real_times: bool,
    /// Keep the folders of labs whose checks all passed, too
    #[arg(long)]
    keep: bool,
    /// How long `chaos` goes on
    #[arg(long = "for", default_value = "3m", value_name = "SPAN", value_parser = span)]
    span: Millis,
    /// What `chaos` draws its order and targets from
    #[arg(long, default_value_t = 1, value_name = "NUMBER")]
    seed: u64,
}

/// `90s`, `20m`.
fn span(text: &str) -> Result<Millis, String> {
    let wrong = || format!("'{text}' is not a span like 90s or 20m");
    let (count, unit) = text.split_at(text.len().saturating_sub(1));
    let count: u64 = count.parse().map_err(|_| wrong())?;
    match unit {
        "s" => Ok(Millis::secs(count)),
        "m" => Ok(Millis::mins(count)),
        _ => Err(wrong()),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Scenario {
    /// Each process killed before, during and after a switchover
    KillMatrix,
    /// Nodes killed while they write; every acknowledged write is looked up afterwards
    KilledNodes,
    /// Floods, endless requests, silent connections; leases and good clients do not notice
    Overload,
    /// A whole region gone, its approvals given early and late
    RegionLost,
    /// The primary stopped longer than its lease and woken in the middle of a burst
    StoppedPrimary,
    /// Each link cut, both directions and one; each region cut off
    CutLinks,
    /// One fault after the other, and what each is called
    Diagnosis,
    /// Those who may not come in
    Strangers,
    /// Upgrade, certificates, replacement, restore and lost quorum, each by its runbook
    DayTwo,
    /// One fault after the other for a given time, regions in network namespaces
    Chaos,
    /// One after the other, without `chaos`
    All,
}

impl Scenario {
    const EACH: [Self; 9] = [
        Self::Strangers,
        Self::KilledNodes,
        Self::Overload,
        Self::CutLinks,
        Self::Diagnosis,
        Self::StoppedPrimary,
        Self::RegionLost,
        Self::DayTwo,
        Self::KillMatrix,
    ];

    async fn run(self, arguments: &Arguments, verdicts: &mut Verdicts) -> Result<(), Trouble> {
        match self {
            Self::KillMatrix => kill_matrix::run(arguments, verdicts).await,
            Self::KilledNodes => killed_nodes::run(arguments, verdicts).await,
            Self::Overload => overload::run(arguments, verdicts).await,
            Self::RegionLost => region_lost::run(arguments, verdicts).await,
            Self::StoppedPrimary => stopped_primary::run(arguments, verdicts).await,
            Self::CutLinks => cut_links::run(arguments, verdicts).await,
            Self::Diagnosis => diagnosis::run(arguments, verdicts).await,
            Self::Strangers => strangers::run(arguments, verdicts).await,
            Self::DayTwo => day_two::run(arguments, verdicts).await,
            Self::Chaos => chaos::run(arguments, verdicts).await,
            Self::All => {
                for one in Self::EACH {
                    Box::pin(one.run(arguments, verdicts)).await?;
                }
                Ok(())
            }
        }
    }
}

impl Arguments {
    /// Whether a case was asked for.
    pub fn wants(&self, case: &str) -> bool {
        self.only.as_ref().is_none_or(|only| case.contains(only.as_str()))
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: no runtime: {error}");
            return ExitCode::from(8);
        }
    };
    runtime.block_on(async {
        let shutdown = match Shutdown::on_signals() {
            Ok(shutdown) => shutdown,
            Err(error) => {
                eprintln!("error: cannot listen for signals: {error}");
                return ExitCode::from(8);
            }
        };
        let mut verdicts = Verdicts::default();
        let ended = tokio::select! {
            ended = arguments.scenario.run(&arguments, &mut verdicts) => ended,
            // Labs are dropped with the run, and with them every process.
            () = shutdown.draining() => Err(Trouble::new("stopped by a signal")),
        };
        let (passed, failed) = verdicts.count();
        println!("\n{passed} of {} checks passed", passed + failed);
        match ended {
            Err(trouble) => {
                eprintln!("error: {trouble}");
                ExitCode::from(8)
            }
            Ok(()) if failed > 0 || passed == 0 => ExitCode::FAILURE,
            Ok(()) => ExitCode::SUCCESS,
        }
    })
}
