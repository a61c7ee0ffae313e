//! `cluster nodes`: what each node says of itself, and whether their states agree.

use crate::Ended;
use crate::context::Context;
use crate::exit::Exit;
use crate::render::table::Table;
use crate::render::text::{NONE, or_none};
use crate::screen::Facts;
use clap::Args;
use cryptorun_core::wire::{NodeSeen, NodeStanding};

#[derive(Clone, Debug, Args)]
pub struct Nodes {
    /// Exit 1 when one does not answer, has no space left or is in another state
    #[arg(long)]
    check: bool,
}

pub async fn run(args: Nodes, context: &mut Context) -> Ended {
    let nodes: Vec<NodeSeen> = context.client.get("/v1/cluster/nodes").await?;
    context.show(&nodes, |nodes, screen| table(nodes, &screen.facts))?;
    let well = nodes.iter().all(|node| {
        let works = node.standing.as_ref().is_some_and(|standing| standing.no_space.is_none());
        works && node.agrees != Some(false)
    });
    Ok(if args.check && !well { Exit::CheckFailed } else { Exit::Done })
}

/// What is wrong with it, as far as one line can say.
fn cause(node: &NodeSeen) -> String {
    let no_space = || node.standing.as_ref().and_then(|standing| standing.no_space.clone());
    node.cause.clone().or_else(no_space).unwrap_or_default()
}

/// Also shown by `upgrade`.
pub fn table(nodes: &[NodeSeen], facts: &Facts) -> String {
    let mut table = Table::default();
    for title in ["NODE", "REGION", "PROGRAM", "VERSIONS", "APPLIED", "STATE", "DISK"] {
        table = table.column(title);
    }
    table = table.sentences("CAUSE");
    for node in nodes {
        let said = |show: fn(&NodeStanding) -> String| {
            node.standing.as_ref().map_or(NONE.to_owned(), show)
        };
        let state = match (node.agrees, node.compared) {
            (Some(true), Some(index)) => format!("same at {index}"),
            (Some(false), Some(index)) => format!("DIFFERS at {index}"),
            _ => NONE.to_owned(),
        };
        table.row(vec![
            node.node.into(),
            node.region.to_string().into(),
            said(|s| s.program.clone()).into(),
            said(|s| format!("{}–{}", s.versions.min, s.versions.max)).into(),
            said(|s| s.applied.to_string()).into(),
            state.into(),
            or_none(node.standing.as_ref().and_then(|s| s.disk.clone())).into(),
            cause(node).into(),
        ]);
    }
    table.draw(facts)
}
