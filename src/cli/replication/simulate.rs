//! `simulate`: recorded reports through the code that decides.

use crate::Ended;
use crate::args::{ScopeArgs, Window};
use crate::config::problem;
use crate::context::{Context, Host};
use crate::exit::Exit;
use crate::render::decision;
use clap::Args;
use cryptorun_core::region::RegionName;
use cryptorun_core::wire::{Simulation, SimulationRequest};
use std::path::PathBuf;
use std::str::FromStr;

#[derive(Clone, Debug, Args)]
pub struct Simulate {
    #[command(flatten)]
    scope: ScopeArgs,
    /// The region that would lose the scope
    #[arg(long, value_name = "REGION", value_parser = crate::args::region)]
    from: RegionName,
    /// The region that would get it
    #[arg(long, value_name = "REGION", value_parser = crate::args::region)]
    to: RegionName,
    /// Which part of the past, as 2025-01-01T00:00:00Z/2025-01-01T06:00:00Z
    #[arg(long, value_name = "START/END", value_parser = Window::from_str)]
    window: Window,
    /// Compare with these rules: limits, and the scope's policy
    #[arg(long, value_name = "cluster.yaml")]
    policy: Option<PathBuf>,
    /// Exit 1 where more than so many moves would have been asked for (by --policy, if given) and the
    /// holder came back by itself
    #[arg(long, value_name = "N")]
    max_false: Option<usize>,
}

pub async fn run(args: Simulate, host: &Host, context: &mut Context) -> Ended {
    let policy = args.policy.as_deref().map(|file| host.checker.cluster(file)).transpose();
    let policy = policy.map_err(problem)?.map(Box::new);
    let body = SimulationRequest {
        tier: args.scope.tier,
        group: args.scope.group.clone(),
        from: args.from.to_string(),
        to: args.to.to_string(),
        start: args.window.start,
        end: args.window.end,
        policy,
    };
    let found: Simulation = context.client.ask("/v1/simulations", &body).await?;
    context.show(&found, |found, _| match found.reports {
        0 => format!("no reports were recorded in {}: nothing to replay\n", args.window),
        _ => decision::simulation(found),
    })?;
    let asks = found.by_policy.as_ref().unwrap_or(&found.asks);
    let in_vain = asks.iter().filter(|ask| ask.is_false()).count();
    let failed = found.reports == 0 || args.max_false.is_some_and(|most| in_vain > most);
    Ok(if failed { Exit::CheckFailed } else { Exit::Done })
}
