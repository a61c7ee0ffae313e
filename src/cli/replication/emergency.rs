//! `emergency`: the primary is gone and what is missing is much, old or unknown.

use super::request::{self, Request};
use crate::Ended;
use crate::context::Context;
use clap::Args;
use cryptorun_core::promotion::Kind;

#[derive(Clone, Debug, Args)]
pub struct Emergency {
    #[command(flatten)]
    request: Request,
}

pub async fn run(args: Emergency, context: &mut Context) -> Ended {
    request::run("emergency", Some(Kind::Emergency), args.request, context).await
}
