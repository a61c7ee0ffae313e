//! `audit export`: a range of the audit as a file that proves itself.

use super::PAGE_MAX;
use super::file::{FORMAT, Header, Line};
use crate::Ended;
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::lines::Writer;
use clap::Args;
use cryptorun_core::audit::{AuditEntry, verify};
use cryptorun_core::config::ClusterId;
use cryptorun_core::position::Position;
use cryptorun_core::wire::{AuditPage, ClusterStatus};
use serde::Serialize;
use std::path::PathBuf;

/// Lines of progress on a terminal, however long the audit is.
const TOLD: u64 = 10;

#[derive(Clone, Debug, Args)]
pub struct Export {
    /// The first entry's number
    #[arg(long, value_name = "SEQ", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    from: u64,
    /// The last entry's number; the newest there is, unless given
    #[arg(long, value_name = "SEQ")]
    to: Option<u64>,
    /// Write into this file, which must not exist
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// What was written. Plain data.
#[derive(Clone, Debug, Serialize)]
struct Written {
    file: PathBuf,
    cluster: String,
    id: ClusterId,
    /// Number of the first entry.
    first: u64,
    /// The last entry, with the hash of the chain up to it.
    last: Position,
}

pub async fn run(args: Export, context: &mut Context) -> Ended {
    let mut writer = Writer::create(&args.out)?; // Before anybody is asked for anything.
    let header = header(&args, context).await?;
    writer.line(&Line::CryptorunAudit(header.clone()))?;
    let reached = copy(&header, &mut writer, context).await?;
    if reached != header.last {
        return Err(broken(header.last.seq));
    }
    writer.finish()?;
    let written = Written {
        file: args.out,
        first: header.first(),
        cluster: header.cluster,
        id: header.id,
        last: header.last,
    };
    context.show(&written, |written, _| {
        let Written { file, cluster, id, first, last } = written;
        let file = file.display();
        format!(
            "audit of {cluster} ({id}), entries {first} to {}, ends with {}\nin {file}\n\
             check it anywhere with: cryptorun audit verify {file} --head {}\n",
            last.seq, last.hash, last.hash
        )
    })?;
    Ok(Exit::Done)
}

/// What the file will be of: both ends are fixed before anything is written.
async fn header(args: &Export, context: &Context) -> Result<Header, Failure> {
    let cluster: ClusterStatus = context.client.get("/v1/cluster").await?;
    let Some(id) = cluster.id else {
        return Err(Failure::usage_hint(
            "there is no audit yet: the cluster has not been founded",
            "cryptorun cluster init",
        ));
    };
    let newest: AuditPage = context.client.get("/v1/audit?limit=1").await?;
    let end = newest.end.seq;
    let to = args.to.unwrap_or(end);
    if to > end || args.from > to {
        return Err(Failure::usage_hint(
            format!("no entries {} to {to}: the audit holds 1 to {end}", args.from),
            "choose --from and --to among those",
        ));
    }
    let before = match args.from {
        1 => Position::START,
        from => position(from - 1, context).await?,
    };
    let last = position(to, context).await?;
    let (cluster, taken) = (cluster.at.cluster, cluster.at.wall);
    Ok(Header { format: FORMAT, cluster, id, taken, before, last })
}

/// Where the chain stood after an entry, as that says itself.
async fn position(seq: u64, context: &Context) -> Result<Position, Failure> {
    let page: AuditPage = context.client.get(&format!("/v1/audit?from={seq}&limit=1")).await?;
    match page.entries.first() {
        Some(entry) if entry.seq == seq => Ok(Position { seq, hash: entry.hash }),
        first => Err(gap(seq, first.map(|entry| entry.seq))),
    }
}

/// Copies page by page, following the chain: what does not hold is not handed on.
async fn copy(
    header: &Header,
    writer: &mut Writer,
    context: &mut Context,
) -> Result<Position, Failure> {
    let (mut at, all) = (header.before, header.last.seq - header.before.seq);
    let mut told = 0;
    while at.seq < header.last.seq {
        let (next, limit) = (at.seq + 1, PAGE_MAX.min(header.last.seq - at.seq));
        let path = format!("/v1/audit?from={next}&limit={limit}");
        let page: AuditPage = context.client.get(&path).await?;
        whole(next, &page.entries)?;
        at = verify(at, &page.entries).map_err(broken)?;
        for entry in page.entries {
            writer.line(&Line::Entry(entry))?;
        }
        let tenth = (at.seq - header.before.seq) * TOLD / all;
        if tenth > told && context.screen.facts.stderr_terminal {
            told = tenth;
            context.screen.say(format_args!(
                "entry {} of {} to {}",
                at.seq,
                header.first(),
                header.last.seq
            ));
        }
    }
    Ok(at)
}

/// A page holds what follows, without holes.
fn whole(next: u64, entries: &[AuditEntry]) -> Result<(), Failure> {
    if entries.is_empty() {
        return Err(gap(next, None));
    }
    let hole = (next..).zip(entries).find(|(seq, entry)| entry.seq != *seq);
    hole.map_or(Ok(()), |(seq, entry)| Err(gap(seq, Some(entry.seq))))
}

fn gap(missing: u64, then: Option<u64>) -> Failure {
    let (what, around) = match then.filter(|then| *then > missing) {
        Some(then) if then - 1 > missing => {
            (format!("entries {missing} to {} are", then - 1), Some(then + 1))
        }
        Some(then) => (format!("entry {missing} is"), Some(then + 1)),
        None => (format!("entry {missing} and what follows are"), None),
    };
    let mut hint = "ask another node: --endpoints HOST:PORT".to_owned();
    if let Some(from) = around {
        hint.push_str(&format!("\n      or export what comes after it: --from {from}"));
    }
    if missing > 1 {
        hint.push_str(&format!("\n      or what comes before it: --to {}", missing - 1));
    }
    Failure::Check {
        message: format!("{what} not to be had from the node that was asked; nothing was written"),
        hint: Some(hint),
    }
}

fn broken(seq: u64) -> Failure {
    Failure::Check {
        message: format!(
            "entry {seq} was edited, is missing or out of order at the node that was asked; \
             nothing was written"
        ),
        hint: Some("look with: cryptorun audit verify, at each of --endpoints".to_owned()),
    }
}
