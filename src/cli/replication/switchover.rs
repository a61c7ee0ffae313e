//! `switchover`: the primary answers, so nothing is lost or it goes on.

use super::request::{self, Request};
use crate::Ended;
use crate::context::Context;
use clap::Args;
use cryptorun_core::promotion::Kind;

#[derive(Clone, Debug, Args)]
pub struct Switchover {
    #[command(flatten)]
    request: Request,
}

pub async fn run(args: Switchover, context: &mut Context) -> Ended {
    request::run("switchover", Some(Kind::Switchover), args.request, context).await
}
