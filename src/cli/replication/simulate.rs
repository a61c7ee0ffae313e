//! `simulate`: recorded reports through the code that decides.

use crate::Ended;
use crate::args::{ScopeArgs, Window};
use crate::context::Context;
use crate::exit::Exit;
use crate::render::decision;
use clap::Args;
use cryptorun_core::region::RegionName;
use cryptorun_core::wire::{Simulation, SimulationRequest};
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
}

pub async fn run(args: Simulate, context: &mut Context) -> Ended {
    let body = SimulationRequest {
        tier: args.scope.tier,
        group: args.scope.group.clone(),
        from: args.from.to_string(),
        to: args.to.to_string(),
        start: args.window.start,
        end: args.window.end,
    };
    let found: Simulation = context.client.ask("/v1/simulations", &body).await?;
    context.show(&found, |found, _| match found.reports {
        0 => format!("no reports were recorded in {}: nothing to replay\n", args.window),
        _ => decision::simulation(found),
    })?;
    Ok(if found.reports == 0 { Exit::CheckFailed } else { Exit::Done })
}
