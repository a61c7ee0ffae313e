//! `cluster recover`: two of three nodes are gone for good. What the one that is left knows becomes a
//! backup, from which a new cluster is made.
//!
//! It asks every node by itself, refuses while a quorum answers, says what is known of each and which
//! knows most, and writes that one's whole log down. Nothing is changed anywhere: the new cluster is
//! `cluster restore`'s.

use super::backup;
use crate::Ended;
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::render::table::Table;
use crate::render::text::NONE;
use crate::screen::Facts;
use clap::Args;
use cryptorun_core::wire::{Backup, ClusterStatus, NodeStanding};
use serde::Serialize;
use std::path::PathBuf;

#[derive(Clone, Debug, Args)]
pub struct Recover {
    /// Write what the best node knows into this file, which must not exist; without it, only look
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

/// What one endpoint said.
#[derive(Clone, Debug, Serialize)]
struct Asked {
    endpoint: String,
    standing: Option<NodeStanding>,
    cause: Option<String>,
}

pub async fn run(args: Recover, context: &mut Context) -> Ended {
    let quorum = context.client.get::<ClusterStatus>("/v1/cluster?consistency=linearizable").await;
    if let Ok(status) = quorum
        && status.id.is_some()
    {
        return Err(Failure::usage_hint(
            format!(
                "{} of {} voters answer and decide: there is nothing to recover",
                status.at.voters_up, status.at.voters
            ),
            "to put another node in the place of a dead one: cryptorun cluster replace",
        ));
    }
    let asked = ask_each(context).await;
    let best = best(&asked).cloned();
    context.screen.result(&table(&asked, &context.screen.facts))?;
    let Some(best) = best else {
        return Err(Failure::usage_hint(
            "no node of a founded cluster answers".to_owned(),
            "start one that still has its disk, or restore the last backup: cryptorun cluster restore",
        ));
    };
    let Some(standing) = &best.standing else { return Ok(Exit::CheckFailed) };
    context.screen.say(explain(standing));
    let Some(path) = args.to else {
        context.screen.say("to go on: cryptorun cluster recover --to FILE");
        return Ok(Exit::CheckFailed);
    };
    if !args.yes && !context.screen.confirm("are the nodes that do not answer stopped for good?") {
        return Err(Failure::usage_hint(
            "not confirmed; nothing was written".to_owned(),
            "in a script, --yes says that they are",
        ));
    }
    let client = context.client.at(&best.endpoint);
    let backup: Backup = client.get("/v1/cluster/backup?alone=true").await?;
    let beyond = backup.index.saturating_sub(backup.committed);
    let written = backup::write(&path, backup, &client, "stale").await?;
    context.show(&written, |written, _| {
        format!(
            "backup {} at index {}, {beyond} entries of it not known to be committed\nin {}\n\n\
             now stop this node, give all three empty disks, start them, and\n\
             \x20  cryptorun cluster restore --from {} --expect 3\n",
            written.hash.short(),
            written.index,
            written.file.display(),
            written.file.display()
        )
    })?;
    Ok(Exit::Done)
}

async fn ask_each(context: &Context) -> Vec<Asked> {
    let mut asked = Vec::new();
    for endpoint in context.client.endpoints() {
        let answer = context.client.at(endpoint).get::<NodeStanding>("/v1/cluster/node").await;
        let (standing, cause) = match answer {
            Ok(standing) => (Some(standing), None),
            Err(failure) => (None, Some(failure.to_string())),
        };
        asked.push(Asked { endpoint: endpoint.clone(), standing, cause });
    }
    asked
}

/// Whose log ends latest: what a quorum had, it has too, if anybody has.
fn best(asked: &[Asked]) -> Option<&Asked> {
    let founded = |one: &&Asked| one.standing.as_ref().is_some_and(|s| s.cluster.is_some());
    asked
        .iter()
        .filter(founded)
        .max_by_key(|one| one.standing.as_ref().map(|s| (s.last_term, s.last)))
}

fn explain(best: &NodeStanding) -> String {
    let beyond = best.last.saturating_sub(best.applied);
    format!(
        "node {} in {} knows most: {} entries applied, {beyond} more in its log.\n\
         A change that was acknowledged is missing from it only if both lost nodes had it and this one \
         not: then it is gone. Whatever stands in its log counts from now on.",
        best.node, best.region, best.applied
    )
}

fn table(asked: &[Asked], facts: &Facts) -> String {
    let mut table = Table::default();
    for title in ["ENDPOINT", "NODE", "REGION", "APPLIED", "LAST IN LOG", "WITHOUT QUORUM"] {
        table = table.column(title);
    }
    table = table.sentences("CAUSE");
    for one in asked {
        let said =
            |show: fn(&NodeStanding) -> String| one.standing.as_ref().map_or(NONE.to_owned(), show);
        table.row(vec![
            one.endpoint.clone().into(),
            said(|s| s.node.to_string()).into(),
            said(|s| s.region.to_string()).into(),
            said(|s| s.applied.to_string()).into(),
            said(|s| format!("{} of term {}", s.last, s.last_term)).into(),
            said(|s| s.quorum_lost.map_or(NONE.to_owned(), |span| span.to_string())).into(),
            one.cause.clone().unwrap_or_default().into(),
        ]);
    }
    table.draw(facts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cryptorun_core::config::ClusterId;
    use cryptorun_core::time::WallTime;
    use cryptorun_core::wire::Versions;

    fn asked(node: u64, last: Option<(u64, u64)>) -> Asked {
        let standing = last.map(|(last_term, last)| NodeStanding {
            node,
            region: "us-east-1".into(),
            program: "0.1.0".to_owned(),
            versions: Versions::OWN,
            disk: None,
            cluster: Some(ClusterId(1)),
            empty: false,
            leads: false,
            term: 9,
            applied: 10,
            committed: 10,
            last,
            last_term,
            quorum_lost: None,
            no_space: None,
            wall: WallTime(0),
        });
        Asked { endpoint: format!("n{node}:1"), standing, cause: None }
    }

    #[test]
    fn the_later_term_knows_more_than_the_longer_log() {
        let nodes = [asked(1, Some((3, 900))), asked(2, Some((4, 700))), asked(3, None)];
        assert_eq!(best(&nodes).map(|one| one.endpoint.as_str()), Some("n2:1"));
        assert!(best(&[asked(3, None)]).is_none());
    }
}
