//! `history`: every promotion, or one of them whole.

use super::{follow, rules};
use crate::Ended;
use crate::args::Proposal;
use crate::context::Context;
use crate::exit::Exit;
use crate::render::promotion as render;
use clap::Args;
use cryptorun_core::scope::Tier;
use cryptorun_core::wire::PromotionStatus;
use std::str::FromStr;

#[derive(Clone, Debug, Args)]
pub struct History {
    /// Which, as P-7 or R-7; without it, all promotions are listed
    #[arg(value_parser = Proposal::from_str)]
    id: Option<Proposal>,
    /// Only this tier
    #[arg(long, value_parser = Tier::from_str)]
    tier: Option<Tier>,
    /// Only this group
    #[arg(long)]
    group: Option<String>,
}

pub async fn run(args: History, context: &mut Context) -> Ended {
    match args.id {
        Some(Proposal::Promotion(id)) => {
            let status = follow::fetch(id, None, context).await?;
            context.show(&status, |status, _| render::whole(status))?;
            return Ok(Exit::Done);
        }
        Some(Proposal::Rule(id)) => return rules::show(id, context).await,
        None => {}
    }
    let mut all: Vec<PromotionStatus> = context.client.get("/v1/promotions").await?;
    all.retain(|status| {
        let scope = &status.promotion.scope;
        args.tier.is_none_or(|tier| scope.tier == tier)
            && args.group.as_ref().is_none_or(|group| scope.group == *group)
    });
    context.show(&all, |all, screen| match all.is_empty() {
        true => "no promotion was ever asked for\n".to_owned(),
        false => render::table(all, &screen.facts),
    })?;
    Ok(Exit::Done)
}
