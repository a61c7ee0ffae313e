//! `cluster add`: a node with an empty disk joins; it learns first and votes once it is level.

use crate::Ended;
use crate::client::transport::Method;
use crate::context::Context;
use crate::exit::Exit;
use clap::Args;
use cryptorun_core::region::RegionName;
use cryptorun_core::wire::AddMemberRequest;
use std::time::Duration;

/// It learns the whole state within one request.
pub(super) const ATTEMPT: Duration = Duration::from_secs(110);

#[derive(Clone, Debug, Args)]
pub struct Add {
    /// The node's number; a node that was wiped returns under a new one
    #[arg(long, value_name = "N")]
    node: u64,
    /// Its region
    #[arg(long, value_name = "REGION", value_parser = crate::args::region)]
    region: RegionName,
    /// Its Raft address
    #[arg(long, value_name = "HOST:PORT")]
    raft: String,
    /// Its admin API
    #[arg(long, value_name = "HOST:PORT")]
    api: String,
}

pub async fn run(args: Add, context: &mut Context) -> Ended {
    let node = args.node;
    let body = AddMemberRequest {
        node,
        region: args.region.to_string(),
        raft: args.raft,
        api: args.api,
        replaces: None,
    };
    let client = context.client.clone().with_attempt(ATTEMPT);
    let accepted = client.change(Method::Post, "/v1/cluster/members", &body).await?;
    context.show(&accepted, |_, _| {
        format!("node {node} has joined\nlook with: cryptorun cluster status\n")
    })?;
    Ok(Exit::Done)
}
