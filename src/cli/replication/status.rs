//! `status`: the truth in two lines, then the table.

use crate::Ended;
use crate::args::Format;
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::render::status as render;
use clap::Args;
use cryptorun_core::region::{RegionName, resolve};
use cryptorun_core::scope::Tier;
use cryptorun_core::wire::{RegionStatus, Status as Answer};
use std::str::FromStr;
use std::time::Duration;

/// How often `--watch` looks.
const WATCH: Duration = Duration::from_secs(2);

#[derive(Clone, Debug, Args)]
pub struct Status {
    /// Only this tier
    #[arg(long, value_parser = Tier::from_str)]
    tier: Option<Tier>,
    /// Only this group
    #[arg(long)]
    group: Option<String>,
    /// Only this region's copies, with age, behind and state
    #[arg(long, value_parser = crate::args::region)]
    region: Option<RegionName>,
    /// Look again every two seconds
    #[arg(long, short)]
    watch: bool,
    /// Ask the first endpoint alone, which needs no quorum; says how old the answer is
    #[arg(long)]
    local: bool,
    /// Exit 1 when anything is past a warning line
    #[arg(long)]
    check: bool,
}

pub async fn run(args: Status, context: &mut Context) -> Ended {
    if args.local {
        context.client = context.client.local();
    }
    loop {
        let looked = look(&args, context).await;
        if !args.watch {
            return looked;
        }
        match looked {
            Ok(_) => {}
            // A watcher stays through an outage and says so.
            Err(failure @ Failure::Unreachable { .. }) => context.screen.fail(&failure),
            Err(failure) => return Err(failure),
        }
        tokio::time::sleep(WATCH).await;
    }
}

async fn look(args: &Status, context: &mut Context) -> Ended {
    let consistency = if args.local { "stale" } else { "linearizable" };
    let mut answer: Answer =
        context.client.get(&format!("/v1/status?consistency={consistency}")).await?;
    let region = match &args.region {
        Some(typed) => Some(named(typed, &answer, consistency, context).await?),
        None => None,
    };
    answer.scopes.retain(|scope| {
        args.tier.is_none_or(|tier| scope.scope.tier == tier)
            && args.group.as_ref().is_none_or(|group| scope.scope.group == *group)
            && region.as_ref().is_none_or(|r| scope.regions.contains_key(r))
    });
    if args.watch && context.format == Format::Table {
        context.screen.clear()?;
    }
    context
        .show(&answer, |answer, screen| render::status(answer, region.as_ref(), &screen.facts))?;
    match args.check && !render::is_well(&answer) {
        true => Ok(Exit::CheckFailed),
        false => Ok(Exit::Done),
    }
}

/// The region that was meant; aliases are the server's to know.
async fn named(
    typed: &RegionName,
    answer: &Answer,
    consistency: &str,
    context: &Context,
) -> Result<RegionName, Failure> {
    if answer.scopes.iter().any(|scope| scope.regions.contains_key(typed)) {
        return Ok(typed.clone());
    }
    let regions: Vec<RegionStatus> =
        context.client.get(&format!("/v1/regions?consistency={consistency}")).await?;
    let known = regions.into_iter().map(|r| (r.region, r.aliases)).collect();
    resolve(typed.as_str(), &known).map_err(Failure::usage)
}
