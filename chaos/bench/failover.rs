//! Losses: a leader is killed and something is committed again, beside etcd's; a region is lost and
//! another one has the right to write.
//!
//! The first acknowledged write counts. Each survivor is asked by a client of its own, which gives an
//! attempt so long and asks again: both systems hold a request back while they have no leader.

use crate::BenchError;
use crate::etcd::Etcd;
use crate::machine;
use crate::ours::{self, Ours};
use clap::Args;
use cryptorun_lab::demo::RegionLinks;
use cryptorun_platform::clock::{Clock, SystemClock};
use futures_util::future::select_all;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

/// What one attempt is given.
pub const ATTEMPT: Duration = Duration::from_millis(120);
/// A cluster that does not come back by then will not.
const BACK_WITHIN: Duration = Duration::from_secs(60);

/// What to lose, and how often.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// Times each leader is killed, in turn
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Times a region is lost: each takes half a minute
    #[arg(long, default_value_t = 3)]
    regions: usize,
    /// Folder that is emptied and used
    #[arg(long, default_value = "target/bench")]
    data: PathBuf,
    /// The program
    #[arg(long, default_value = "target/release/cryptorun")]
    program: PathBuf,
    /// First of a block of ports
    #[arg(long, default_value_t = 19_400)]
    base_port: u16,
}

/// One attempt after the other at one survivor, until it is acknowledged.
pub type Probe = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Measures and prints; false when an aim of DESIGN §22 is missed.
///
/// # Errors
/// What prevented the measurement.
pub async fn run(options: Options) -> Result<bool, BenchError> {
    let before = machine::load();
    let mut held = true;
    if options.rounds > 0 {
        held &= leaders(&options).await?;
    }
    if options.regions > 0 {
        held &= regions(&options).await?;
    }
    println!("load {before:.1} before and {:.1} after", machine::load());
    Ok(held)
}

async fn leaders(options: &Options) -> Result<bool, BenchError> {
    let ours = Ours::start(ours::Settings {
        folder: options.data.join("failover"),
        program: options.program.clone(),
        base_port: options.base_port,
        links: RegionLinks([Duration::ZERO; 3]),
        clients: 1,
    })
    .await?;
    let measured = kill_leaders(options, &ours).await;
    ours.lab.stop().await;
    let (own, peer) = measured?;
    let own = shown("leader killed to next commit, profile local", &own);
    if !peer.is_empty() {
        shown("the same of etcd, defaults", &peer);
    }
    Ok(own <= 500.0)
}

type Times = Vec<Duration>;

async fn kill_leaders(options: &Options, ours: &Ours) -> Result<(Times, Times), BenchError> {
    let mut peer = Etcd::beside(&ours.lab, options.base_port).await?;
    let supervisor = &ours.lab.supervisor;
    let (mut own, mut others) = (Vec::new(), Vec::new());
    for round in 0..options.rounds {
        for turn in 0..2 {
            if (round + turn) % 2 == 0 {
                let (process, probes) = ours.before_the_loss().await?;
                own.push(lose(supervisor, &process, probes).await?);
                ours.lead_again().await?;
            } else if let Some(peer) = &mut peer {
                let (process, probes) = peer.before_the_loss();
                others.push(lose(supervisor, &process, probes).await?);
                peer.lead_again().await?;
            }
        }
    }
    Ok((own, others))
}

/// Kills a process and says how long nobody acknowledged anything; then it may come back.
async fn lose(
    supervisor: &cryptorun_lab::supervisor::Supervisor,
    process: &str,
    probes: Vec<Probe>,
) -> Result<Duration, BenchError> {
    use cryptorun_lab::protocol::KillSignal;
    let broken = |e| BenchError::cannot(process, e);
    let lost = SystemClock.boot();
    supervisor.kill(process, KillSignal::Kill, true).map_err(broken)?;
    let first = tokio::time::timeout(BACK_WITHIN, select_all(probes)).await;
    let took = SystemClock.boot() - lost;
    supervisor.start_again(process).map_err(broken)?;
    first.map(|_| took).map_err(|_| BenchError::answer(process, "nobody took its place"))
}

/// A region is lost with everything in it, its leader too; detection at its minimum, mode `auto`.
async fn regions(options: &Options) -> Result<bool, BenchError> {
    let mut took = Vec::new();
    for _ in 0..options.regions {
        let folder = options.data.join("region");
        took.push(ours::region_lost(folder, options.program.clone(), options.base_port).await?);
    }
    Ok(shown("region lost to new authority, profile near, auto, detection 5 s", &took) <= 8_000.0)
}

/// Prints and returns the median in ms.
fn shown(what: &str, took: &[Duration]) -> f64 {
    let mut ms: Vec<f64> = took.iter().map(|took| took.as_secs_f64() * 1e3).collect();
    ms.sort_by(f64::total_cmp);
    let median = crate::report::median(ms.clone());
    let (least, most) = (ms.first().copied(), ms.last().copied());
    println!(
        "{what}: median {median:.0} ms of {}, {:.0} to {:.0}",
        ms.len(),
        least.unwrap_or(f64::NAN),
        most.unwrap_or(f64::NAN)
    );
    median
}
