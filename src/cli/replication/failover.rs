//! `failover`: the seed's spelling. The state of the scope chooses the kind; `--kind` pins it.

use super::request::{self, Request};
use crate::Ended;
use crate::context::Context;
use clap::Args;
use cryptorun_core::promotion::Kind;
use std::str::FromStr;

#[derive(Clone, Debug, Args)]
pub struct Failover {
    #[command(flatten)]
    request: Request,
    /// switchover, failover or emergency; refused when the scope's state calls for another
    #[arg(long, value_parser = Kind::from_str)]
    kind: Option<Kind>,
}

pub async fn run(args: Failover, context: &mut Context) -> Ended {
    request::run("failover", args.kind, args.request, context).await
}
