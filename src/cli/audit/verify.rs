//! `audit verify`: the chain followed twice, by the node that holds it and here; or an export of it,
//! without a server.

use super::PAGE_MAX;
use super::file::{Damage, Header, Stopped, open};
use crate::Ended;
use crate::args::Format;
use crate::context::{Context, show};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::render::audit as render;
use crate::screen::Screen;
use clap::Args;
use cryptorun_core::audit::{AuditEntry, verify};
use cryptorun_core::position::{Hash, Position};
use cryptorun_core::wire::{AuditPage, AuditVerdict};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::str::FromStr;

#[derive(Clone, Debug, Args)]
pub struct Verify {
    /// An export to verify here, without a server; the cluster's audit, unless given
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// The hash of an entry in it, from a source you trust: the file has to reach it
    #[arg(long, value_name = "HASH", value_parser = Hash::from_str, requires = "file")]
    head: Option<Hash>,
}

pub async fn run(context: &mut Context) -> Ended {
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

/// What became of a file. Plain data.
#[derive(Clone, Debug, Default, Serialize)]
pub struct FileVerdict {
    pub file: PathBuf,
    /// What it says that it is of.
    pub of: Option<Header>,
    /// Entries that hold.
    pub checked: u64,
    /// The head that was given.
    pub head: Option<Hash>,
    /// Which entry has it.
    pub head_at: Option<u64>,
    /// The first thing that does not hold.
    pub damage: Option<Box<Damage>>,
}

/// An export.
pub fn offline(args: Verify, format: Format, screen: &mut Screen) -> Ended {
    let file = args.file.unwrap_or_default();
    let mut verdict = FileVerdict { head: args.head, ..FileVerdict::default() };
    match read(&file, &mut verdict) {
        Ok(()) => {}
        Err(Stopped::Damaged(damage)) => verdict.damage = Some(damage),
        Err(Stopped::Unread(failure)) => return Err(failure),
    }
    verdict.file = file;
    let holds = verdict.damage.is_none() && verdict.head.is_some() == verdict.head_at.is_some();
    show(format, screen, &verdict, |verdict, _| render::file(verdict))?;
    Ok(if holds { Exit::Done } else { Exit::CheckFailed })
}

fn read(file: &Path, verdict: &mut FileVerdict) -> Result<(), Stopped> {
    let mut reader = open(file)?;
    verdict.of = Some(reader.header().clone());
    while let Some(entry) = reader.entry()? {
        verdict.checked += 1;
        if verdict.head == Some(entry.hash) {
            verdict.head_at = Some(entry.seq);
        }
    }
    Ok(())
}
