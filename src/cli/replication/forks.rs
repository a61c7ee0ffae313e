//! `forks`: records beyond where the next reign starts, kept and counted.

use crate::Ended;
use crate::context::Context;
use crate::exit::Exit;
use crate::render::table::Table;
use crate::screen::Facts;
use clap::Subcommand;
use cryptorun_core::wire::{ForkStatus, Status};

#[derive(Clone, Debug, Subcommand)]
pub enum Forks {
    /// List them: where they are kept, how much is in them
    List,
}

pub async fn run(args: Forks, context: &mut Context) -> Ended {
    let Forks::List = args;
    let status: Status = context.client.get("/v1/status").await?;
    let forks: Vec<ForkStatus> = status.scopes.into_iter().flat_map(|s| s.forks).collect();
    context.show(&forks, |forks, screen| match forks.is_empty() {
        true => "no forks\n".to_owned(),
        false => table(forks, &screen.facts),
    })?;
    Ok(Exit::Done)
}

fn table(forks: &[ForkStatus], facts: &Facts) -> String {
    let mut table = Table::default();
    for title in ["NAME", "SCOPE", "REGION", "TOKEN", "RECORDS", "ROWS", "BYTES"] {
        table = table.column(title);
    }
    for ForkStatus { region, scope, fork } in forks {
        table.row(vec![
            (&fork.name).into(),
            scope.to_string().into(),
            region.to_string().into(),
            fork.token.into(),
            format!("{}–{}", fork.from_seq, fork.to_seq).into(),
            fork.rows.into(),
            fork.bytes.into(),
        ]);
    }
    table.draw(facts)
}
