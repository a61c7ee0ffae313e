//! `explain`: why, why not, and what to type.

use crate::Ended;
use crate::args::ScopeArgs;
use crate::client::query;
use crate::context::Context;
use crate::exit::Exit;
use crate::render::decision;
use clap::Args;
use cryptorun_core::region::RegionName;
use cryptorun_core::wire::Explanation;

#[derive(Clone, Debug, Args)]
pub struct Explain {
    #[command(flatten)]
    scope: ScopeArgs,
    /// The region it would move to
    #[arg(long, visible_alias = "to", value_name = "REGION", value_parser = crate::args::region)]
    target: RegionName,
}

pub async fn run(args: Explain, context: &mut Context) -> Ended {
    let path = format!("/v1/explain?{}&target={}", args.scope.query(), query(args.target.as_str()));
    let answer: Explanation = context.client.get(&path).await?;
    context.show(&answer, |answer, _| decision::explanation(answer))?;
    Ok(Exit::Done)
}
