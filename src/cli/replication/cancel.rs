//! `cancel`: taking back what one asked for or approved.

use super::{follow, rules};
use crate::Ended;
use crate::args::Proposal;
use crate::client::transport::Method;
use crate::context::Context;
use crate::exit::Exit;
use crate::render::promotion as render;
use clap::Args;
use cryptorun_core::promotion::PromotionId;
use cryptorun_core::wire::WordRequest;
use std::str::FromStr;

#[derive(Clone, Debug, Args)]
pub struct Cancel {
    /// Which, as P-7 or R-7
    #[arg(value_parser = Proposal::from_str)]
    id: Proposal,
    /// Why
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

pub async fn run(args: Cancel, context: &mut Context) -> Ended {
    match args.id {
        Proposal::Promotion(id) => cancel(id, args.reason, context).await,
        Proposal::Rule(id) => rules::cancel(id, args.reason, context).await,
    }
}

async fn cancel(id: PromotionId, reason: Option<String>, context: &mut Context) -> Ended {
    let path = format!("/v1/promotions/{id}/cancel");
    let accepted = context.client.change(Method::Post, &path, &WordRequest { reason }).await?;
    if let Some(status) = follow::after(id, accepted.index, context).await? {
        context.show(&status, |status, _| format!("{}\n", render::state(&status.promotion)))?;
    }
    Ok(Exit::Done)
}
