//! `cluster replace`: another node, with an empty disk, in the place of one that is gone or wiped.

use super::add::ATTEMPT;
use crate::Ended;
use crate::client::transport::Method;
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use clap::Args;
use cryptorun_core::wire::{AddMemberRequest, NodeSeen};

#[derive(Clone, Debug, Args)]
pub struct Replace {
    /// The member that goes
    #[arg(long, value_name = "N")]
    old: u64,
    /// The node that comes, under a number that no node had before
    #[arg(long, value_name = "N")]
    node: u64,
    /// Its Raft address
    #[arg(long, value_name = "HOST:PORT")]
    raft: String,
    /// Its admin API
    #[arg(long, value_name = "HOST:PORT")]
    api: String,
}

pub async fn run(args: Replace, context: &mut Context) -> Ended {
    let (old, node) = (args.old, args.node);
    let members: Vec<NodeSeen> = context.client.get("/v1/cluster/nodes").await?;
    let at = |number| members.iter().find(|member| member.node == number);
    // Asked again after it was done, the new one stands where the old one did.
    let Some(there) = at(old).or_else(|| at(node)) else {
        let known: Vec<String> = members.iter().map(|member| member.node.to_string()).collect();
        return Err(Failure::usage_hint(
            format!("node {old} is no member; members are {}", known.join(", ")),
            "look with: cryptorun cluster nodes",
        ));
    };
    let body = AddMemberRequest {
        node,
        region: there.region.to_string(),
        raft: args.raft,
        api: args.api,
        replaces: at(old).map(|_| old),
    };
    let client = context.client.clone().with_attempt(ATTEMPT);
    let accepted = client.change(Method::Post, "/v1/cluster/members", &body).await?;
    context.show(&accepted, |_, _| {
        format!(
            "node {node} votes in the place of node {old}\nlook with: cryptorun cluster nodes\n"
        )
    })?;
    Ok(Exit::Done)
}
