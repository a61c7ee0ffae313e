//! Where entries come from: the cluster, a page at a time, or an export that was verified on the way.
//!
//! What always holds: *everything* means that every number was looked at, or that what was not is
//! named as a gap.

use super::PAGE_MAX;
use super::file::{Damage, Stopped, open};
use crate::client::query;
use crate::context::Context;
use crate::failure::Failure;
use cryptorun_core::audit::{AuditEntry, Filter};
use cryptorun_core::position::Position;
use cryptorun_core::wire::AuditPage;
use serde::Serialize;
use std::path::Path;

/// Entries that are not to be had, first and last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Gap {
    pub from: u64,
    pub to: u64,
}

impl std::fmt::Display for Gap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.from == self.to {
            true => write!(f, "entry {} is", self.from),
            false => write!(f, "entries {} to {} are", self.from, self.to),
        }
    }
}

/// What was found, and among what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Oldest first.
    pub entries: Vec<AuditEntry>,
    /// Number of the first that was looked at.
    pub first: u64,
    /// The end of what was looked at.
    pub end: Position,
    /// What was not to be had in between.
    pub gaps: Vec<Gap>,
}

/// All that a filter takes, from a number on up to another or the chain's end.
pub async fn find(
    filter: &Filter,
    first: u64,
    to: Option<u64>,
    context: &Context,
) -> Result<Found, Failure> {
    let asked = asked(filter);
    let mut found = Found { first, ..Found::default() };
    let mut next = first;
    loop {
        let path = format!("/v1/audit?from={next}&limit={PAGE_MAX}{asked}");
        let page: AuditPage = context.client.get(&path).await?;
        found.end = page.end;
        let last = to.unwrap_or(u64::MAX).min(page.end.seq);
        // A node before this version filters nothing and does not say how far it looked.
        let through = page.through.unwrap_or_else(|| without_gap(&page.entries, next));
        let seen = page.entries.into_iter().filter(|e| e.seq <= through.min(last));
        found.entries.extend(seen.filter(|entry| filter.takes(entry)));
        next = match through >= next {
            true => through + 1,
            false if next > last => return Ok(found),
            false => {
                let after = after_gap(next, context).await?.unwrap_or(last + 1);
                found.gaps.push(Gap { from: next, to: last.min(after - 1) });
                after
            }
        };
        if next > last {
            return Ok(found);
        }
    }
}

/// How far entries follow each other from number `next` on.
fn without_gap(entries: &[AuditEntry], next: u64) -> u64 {
    entries.iter().fold(next - 1, |at, entry| if entry.seq == at + 1 { at + 1 } else { at })
}

/// The first entry there is from `next` on.
async fn after_gap(next: u64, context: &Context) -> Result<Option<u64>, Failure> {
    let page: AuditPage = context.client.get(&format!("/v1/audit?from={next}&limit=1")).await?;
    Ok(page.entries.first().map(|entry| entry.seq).filter(|seq| *seq > next))
}

fn asked(filter: &Filter) -> String {
    let mut text = String::new();
    let mut add = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            text.push_str(&format!("&{name}={}", query(&value)));
        }
    };
    add("by", filter.by.as_ref().map(ToString::to_string));
    add("about", filter.about.clone());
    add("since", filter.since.map(|time| time.to_string()));
    add("until", filter.until.map(|time| time.to_string()));
    text
}

/// What `takes` lets through of an export; all of it is verified first to last.
pub fn find_in(path: &Path, mut takes: impl FnMut(&AuditEntry) -> bool) -> Result<Found, Failure> {
    let damaged = |stopped: Stopped| match stopped {
        Stopped::Unread(failure) => failure,
        Stopped::Damaged(damage) => refused(path, &damage),
    };
    let mut reader = open(path).map_err(damaged)?;
    let mut found =
        Found { first: reader.header().first(), end: reader.header().last, ..Found::default() };
    while let Some(entry) = reader.entry().map_err(damaged)? {
        if takes(&entry) {
            found.entries.push(entry);
        }
    }
    Ok(found)
}

/// Nothing is told from a file that does not hold.
pub fn refused(path: &Path, damage: &Damage) -> Failure {
    Failure::Check {
        message: format!("{} does not hold: {damage}", path.display()),
        hint: Some(format!(
            "take another copy of it; all that is wrong with it: cryptorun audit verify {}",
            path.display()
        )),
    }
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { entry, line, expected, found } = self;
        match entry {
            Some(entry) => write!(f, "at entry {entry} (line {line})")?,
            None => write!(f, "at line {line}")?,
        }
        write!(f, " expected {expected}, found {found}")
    }
}
