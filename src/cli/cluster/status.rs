//! `cluster status`: members, leader, how far each has come.

use crate::Ended;
use crate::context::Context;
use crate::exit::Exit;
use crate::render::status::read_at;
use crate::render::table::Table;
use crate::render::text::{NONE, or_none};
use crate::screen::Facts;
use clap::Args;
use cryptorun_core::wire::ClusterStatus;

#[derive(Clone, Debug, Args)]
pub struct Status {
    /// Ask the first endpoint alone, which needs no quorum
    #[arg(long)]
    local: bool,
    /// Exit 1 when a voter is missing or nobody leads
    #[arg(long)]
    check: bool,
}

pub async fn run(args: Status, context: &mut Context) -> Ended {
    if args.local {
        context.client = context.client.local();
    }
    let consistency = if args.local { "stale" } else { "linearizable" };
    let status: ClusterStatus =
        context.client.get(&format!("/v1/cluster?consistency={consistency}")).await?;
    context.show(&status, |status, screen| table(status, &screen.facts))?;
    let well = status.at.leader.is_some() && status.at.voters_up == status.at.voters;
    Ok(if args.check && !well { Exit::CheckFailed } else { Exit::Done })
}

fn table(status: &ClusterStatus, facts: &Facts) -> String {
    let mut text = read_at(&status.at);
    let profile = status
        .timing
        .map(|t| format!("heartbeat {} · lease {}", t.heartbeat, t.ttl))
        .unwrap_or_else(|| "not founded: cryptorun cluster init".to_owned());
    text.push_str(&format!(
        "id {} · version {} · incarnation {} · configuration {} · {profile}\n",
        or_none(status.id),
        status.version,
        status.incarnation,
        status.config_version
    ));
    text.push_str(&format!("state {} at {}\n\n", status.state_hash.short(), status.at.index));
    let mut table = Table::default();
    for title in ["NODE", "REGION", "ROLE", "ON DISK", "ANSWERED"] {
        table = table.column(title);
    }
    for member in &status.members {
        let role = match (member.leader, member.voter) {
            (true, _) => "leader",
            (false, true) => "voter",
            (false, false) => "learner",
        };
        table.row(vec![
            member.node.into(),
            member.region.to_string().into(),
            role.into(),
            or_none(member.matched).into(),
            member.answered.map_or(NONE.to_owned(), |ago| format!("{ago} ago")).into(),
        ]);
    }
    text + &table.draw(facts)
}
