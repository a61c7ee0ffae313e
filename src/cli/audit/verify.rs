//! `audit verify`: the chain followed by the node that holds it.

use crate::Ended;
use crate::context::Context;
use crate::exit::Exit;
use clap::Args;
use cryptorun_core::wire::AuditVerdict;

#[derive(Clone, Debug, Args)]
pub struct Verify {}

pub async fn run(args: Verify, context: &mut Context) -> Ended {
    let Verify {} = args;
    let verdict: AuditVerdict = context.client.get("/v1/audit/verify").await?;
    context.show(&verdict, |verdict, _| match verdict.broken_at {
        None => format!(
            "audit chain ok: {} entries, ends at {} with {}\n",
            verdict.checked, verdict.end.seq, verdict.end.hash
        ),
        Some(seq) => format!(
            "AUDIT CHAIN BROKEN at entry {seq}: it was edited, is missing or out of order; {} \
             entries before it verify\n",
            verdict.checked
        ),
    })?;
    Ok(if verdict.broken_at.is_some() { Exit::CheckFailed } else { Exit::Done })
}
