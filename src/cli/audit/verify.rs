//! `audit verify`: the chain followed twice, by the node that holds it and here.

use super::PAGE_MAX;
use crate::Ended;
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use clap::Args;
use cryptorun_core::audit::{AuditEntry, verify};
use cryptorun_core::position::Position;
use cryptorun_core::wire::{AuditPage, AuditVerdict};

#[derive(Clone, Debug, Args)]
pub struct Verify {}

pub async fn run(args: Verify, context: &mut Context) -> Ended {
    let Verify {} = args;
    let mut verdict: AuditVerdict = context.client.get("/v1/audit/verify").await?;
    if verdict.broken_at.is_none() {
        // A node that edited its audit would not say so.
        verdict.broken_at = follow(verdict.end, context).await?;
    }
    context.show(&verdict, |verdict, _| match verdict.broken_at {
        None => format!(
            "audit chain ok ({} entries, followed by the node and here) · ends at {} with {}\n",
            verdict.checked, verdict.end.seq, verdict.end.hash
        ),
        Some(seq) => format!(
            "AUDIT CHAIN BROKEN at entry {seq}: it was edited, is missing or out of order\n"
        ),
    })?;
    Ok(if verdict.broken_at.is_some() { Exit::CheckFailed } else { Exit::Done })
}

/// The first entry that does not verify on the way to `end`; the oldest that are served anchor it.
async fn follow(end: Position, context: &Context) -> Result<Option<u64>, Failure> {
    let mut at: Option<Position> = None;
    while at.map_or(0, |at| at.seq) < end.seq {
        let next = at.map_or(1, |at| at.seq + 1);
        let path = format!("/v1/audit?from={next}&limit={PAGE_MAX}");
        let mut page: AuditPage = context.client.get(&path).await?;
        page.entries.retain(|entry| entry.seq <= end.seq);
        let Some(first) = page.entries.first() else { return Ok(Some(next)) };
        let (start, rest) =
            at.map_or_else(|| anchor(first, &page.entries), |at| (at, &page.entries));
        match verify(start, rest) {
            Ok(reached) => at = Some(reached),
            Err(seq) => return Ok(Some(seq)),
        }
    }
    Ok(at.filter(|at| *at != end).map(|at| at.seq))
}

fn anchor<'p>(first: &AuditEntry, page: &'p [AuditEntry]) -> (Position, &'p [AuditEntry]) {
    match first.seq {
        1 => (Position::START, page),
        seq => (Position { seq, hash: first.hash }, &page[1..]),
    }
}
