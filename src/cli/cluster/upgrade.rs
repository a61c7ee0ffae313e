//! `cluster upgrade`: how far an upgrade has come, and finishing it.

use super::nodes;
use crate::Ended;
use crate::client::transport::Method;
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use clap::Args;
use cryptorun_core::command::Outcome;
use cryptorun_core::wire::{ClusterStatus, NodeSeen, RuleAsked, RuleRequest, Versions};

#[derive(Clone, Debug, Args)]
pub struct Upgrade {
    /// Ask for the upgrade to be finished: no older program takes part from then on
    #[arg(long)]
    finalise: bool,
    /// Why
    #[arg(long, value_name = "TEXT", requires = "finalise")]
    reason: Option<String>,
}

pub async fn run(args: Upgrade, context: &mut Context) -> Ended {
    let status: ClusterStatus = context.client.get("/v1/cluster").await?;
    let nodes: Vec<NodeSeen> = context.client.get("/v1/cluster/nodes").await?;
    let to = status.version + 1;
    let lacking: Vec<u64> =
        nodes.iter().filter(|node| !speaks(node, to)).map(|node| node.node).collect();
    if !args.finalise {
        context.show(&nodes, |list, screen| {
            format!(
                "cluster version {}\n\n{}\n{}",
                status.version,
                nodes::table(list, &screen.facts),
                next(to, &lacking, list)
            )
        })?;
        return Ok(Exit::Done);
    }
    let request = RuleRequest { change: RuleAsked::ClusterVersion { to }, reason: args.reason };
    let accepted = context.client.change(Method::Post, "/v1/rules", &request).await?;
    let missing = match accepted.outcome {
        Outcome::Rule { people_missing, .. } => people_missing,
        _ => {
            return Err(Failure::usage_hint(
                "the node answered something else than a rule change".to_owned(),
                "look with: cryptorun cluster upgrade",
            ));
        }
    };
    context.show(&accepted, |accepted, _| match &accepted.outcome {
        Outcome::Rule { id, people_missing } if *people_missing > 0 => format!(
            "{id} waits for {people_missing} more people: finish the upgrade to cluster version {to}\n\
             \x20  approve with:  cryptorun replication approve {id}\n"
        ),
        _ => format!("the upgrade to cluster version {to} is finished\n"),
    })?;
    Ok(if missing > 0 { Exit::Pending } else { Exit::Done })
}

fn speaks(node: &NodeSeen, version: u32) -> bool {
    let versions: Option<Versions> = node.standing.as_ref().map(|standing| standing.versions);
    versions.is_some_and(|v| (v.min..=v.max).contains(&version))
}

fn next(to: u32, lacking: &[u64], nodes: &[NodeSeen]) -> String {
    if lacking.len() == nodes.len() {
        return "no node knows a later version: nothing to finish\n".to_owned();
    }
    if lacking.is_empty() {
        return format!(
            "every node is ready for version {to}; to finish:\n   cryptorun cluster upgrade --finalise\n"
        );
    }
    let list: Vec<String> = lacking.iter().map(u64::to_string).collect();
    format!("not ready for version {to}: node {}; install the new program there\n", list.join(", "))
}
