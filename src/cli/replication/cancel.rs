//! `cancel`: taking back what one asked for or approved.

use super::follow;
use crate::Ended;
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
    /// Which, as P-7
    #[arg(value_parser = PromotionId::from_str)]
    id: PromotionId,
    /// Why
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

pub async fn run(args: Cancel, context: &mut Context) -> Ended {
    let id = args.id;
    let path = format!("/v1/promotions/{id}/cancel");
    let body = WordRequest { reason: args.reason };
    let accepted = context.client.change(Method::Post, &path, &body).await?;
    if let Some(status) = follow::after(id, accepted.index, context).await? {
        context.show(&status, |status, _| format!("{}\n", render::state(&status.promotion)))?;
    }
    Ok(Exit::Done)
}
