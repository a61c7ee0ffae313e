//! `cluster snapshot`: the state written down, on a node's own disk or as a backup in a file.

pub mod file;

use crate::Ended;
use crate::client::Client;
use crate::client::transport::Method;
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::lines::Writer;
use clap::Args;
use cryptorun_core::position::Hash;
use cryptorun_core::wire::{AuditPage, Backup};
use file::Line;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Audit entries in one answer.
const PAGE: u64 = 1000;

#[derive(Clone, Debug, Args)]
pub struct Snapshot {
    /// Write a backup into this file, which must not exist; without it, the node that answers writes
    /// a snapshot for itself
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
}

/// What was written. Plain data.
#[derive(Clone, Debug, Serialize)]
pub struct Written {
    pub file: PathBuf,
    pub hash: Hash,
    pub cluster: String,
    pub index: u64,
    pub records: usize,
    pub audit: u64,
}

pub async fn run(args: Snapshot, context: &mut Context) -> Ended {
    let Some(path) = args.to else {
        let nothing = serde_json::json!({});
        let accepted =
            context.client.change(Method::Post, "/v1/cluster/snapshot", &nothing).await?;
        context.show(&accepted, |accepted, _| format!("written at index {}\n", accepted.index))?;
        return Ok(Exit::Done);
    };
    let client = context.client.clone();
    let backup: Backup = client.get("/v1/cluster/backup").await?;
    let written = write(&path, backup, &client, "linearizable").await?;
    context.show(&written, |written, _| {
        format!(
            "backup {} of {} at index {}: {} records, {} audit entries\nin {}\n",
            written.hash.short(),
            written.cluster,
            written.index,
            written.records,
            written.audit,
            written.file.display()
        )
    })?;
    Ok(Exit::Done)
}

/// Writes a backup with the whole audit before it.
pub async fn write(
    path: &Path,
    mut backup: Backup,
    client: &Client,
    consistency: &str,
) -> Result<Written, Failure> {
    let mut writer = Writer::create(path)?;
    let (records, newest) =
        (std::mem::take(&mut backup.records), std::mem::take(&mut backup.audit));
    let (cluster, index) = (backup.cluster.clone(), backup.index);
    writer.line(&Line::CryptorunBackup(Box::new(backup)))?;
    let first_kept = newest.first().map_or(u64::MAX, |entry| entry.seq);
    let mut next = 1;
    while next < first_kept && first_kept != u64::MAX {
        let limit = PAGE.min(first_kept - next);
        let path = format!("/v1/audit?from={next}&limit={limit}&consistency={consistency}");
        let page: AuditPage = client.get(&path).await?;
        if page.entries.first().is_none_or(|entry| entry.seq != next) {
            return Err(Failure::usage_hint(
                format!("audit entry {next} is not to be had from the node that was asked"),
                "ask another: --endpoints HOST:PORT",
            ));
        }
        for entry in page.entries {
            next = entry.seq + 1;
            writer.line(&Line::Audit(entry))?;
        }
    }
    let audit = newest.last().map_or(0, |entry| entry.seq);
    for entry in newest {
        writer.line(&Line::Audit(entry))?;
    }
    let count = records.len();
    for record in records {
        writer.line(&Line::Record(record))?;
    }
    let hash = writer.finish()?;
    Ok(Written { file: path.to_owned(), hash, cluster, index, records: count, audit })
}
