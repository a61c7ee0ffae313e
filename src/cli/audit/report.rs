//! `audit report`: one promotion from the request to its outcome, as the audit has it.
//!
//! The entries alone tell who asked, who agreed or refused and why, which token moved where, how it
//! ended and how long each phase took; they are kept for good. While the cluster still keeps the
//! promotion's record (its last thousand), the facts that approvals bound, each step and what was lost
//! stand beside them.

use super::source::{Found, Gap, find, find_in};
use super::tell_gaps;
use crate::Ended;
use crate::args::Format;
use crate::context::{Context, show};
use crate::exit::Exit;
use crate::failure::{Failure, problem_kind};
use crate::render::audit as render;
use crate::screen::Screen;
use clap::Args;
use cryptorun_core::audit::sentence::{Asked, more_needed};
use cryptorun_core::audit::{AuditEntry, Filter};
use cryptorun_core::people::Actor;
use cryptorun_core::position::Position;
use cryptorun_core::promotion::{Outcome, PromotionId};
use cryptorun_core::time::{LogTime, Millis, Stamp};
use cryptorun_core::wire::PromotionStatus;
use serde::Serialize;
use std::path::PathBuf;
use std::str::FromStr;

#[derive(Clone, Debug, Args)]
pub struct Of {
    /// Which, as P-7
    #[arg(value_parser = PromotionId::from_str)]
    id: PromotionId,
    /// Read an export instead of asking the cluster; it is verified first
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
}

/// Everything about one promotion. Plain data.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub promotion: PromotionId,
    /// Who asked.
    pub requester: Option<Actor>,
    /// When.
    pub opened: Option<Stamp>,
    /// For what and why, as the entry says; none where that entry is not to be had.
    pub asked: Option<Asked>,
    /// The outcome's word, once it is over.
    pub outcome: Option<String>,
    /// The sentence that goes with it.
    pub why: Option<String>,
    /// How long each part took, in LogTime.
    pub phases: Vec<Phase>,
    /// Every entry that is about it or names it, and what befell its scope meanwhile; oldest first.
    pub entries: Vec<AuditEntry>,
    /// The record, while the cluster keeps it.
    pub record: Option<PromotionStatus>,
    /// Number of the first entry that was looked at.
    pub first: u64,
    /// The last one.
    pub end: Position,
    /// What was not to be had.
    pub gaps: Vec<Gap>,
}

/// From one moment of a promotion to the next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Phase {
    /// The moment that ended it.
    pub until: &'static str,
    /// How long it took.
    pub took: Millis,
}

pub async fn run(args: Of, context: &mut Context) -> Ended {
    let id = args.id.to_string();
    let about = |what: &str| Filter { about: Some(what.to_owned()), ..Filter::default() };
    let mut found = find(&about(&id), 1, None, context).await?;
    if let Some(Life { scope, from, to }) = life(&id, &found.entries) {
        let meanwhile = find(&about(&scope), from, to, context).await?;
        for entry in meanwhile.entries {
            if entry.subject == scope && !found.entries.contains(&entry) {
                found.entries.push(entry);
            }
        }
        found.entries.sort_by_key(|entry| entry.seq);
    }
    let path = format!("/v1/promotions/{id}");
    let record = match context.client.get::<PromotionStatus>(&path).await {
        Ok(status) => Some(status),
        Err(Failure::Refused(problem)) if problem_kind(&problem) == "not_found" => None,
        Err(failure) => return Err(failure),
    };
    let report = Report::new(args.id, found, record)?;
    tell(&report, context.format, &mut context.screen)
}

/// From an export: read twice, as its scope is known only once its request was found.
pub fn offline(args: &Of, format: Format, screen: &mut Screen) -> Ended {
    let (id, file) = (args.id.to_string(), args.file.clone().unwrap_or_default());
    let named = find_in(&file, |entry| entry.names(&id))?;
    let life = life(&id, &named.entries);
    let found = find_in(&file, |entry| {
        let meanwhile = |life: &Life| {
            let within = entry.seq >= life.from && life.to.is_none_or(|to| entry.seq <= to);
            within && entry.subject == life.scope
        };
        entry.names(&id) || life.as_ref().is_some_and(meanwhile)
    })?;
    let report = Report::new(args.id, found, None)?;
    tell(&report, format, screen)
}

fn tell(report: &Report, format: Format, screen: &mut Screen) -> Ended {
    show(format, screen, report, |report, screen| render::report(report, &screen.facts))?;
    Ok(if tell_gaps(&report.gaps, screen) { Exit::CheckFailed } else { Exit::Done })
}

/// Where a promotion was open: its scope, the entry that opened it, the one that ended it.
struct Life {
    scope: String,
    from: u64,
    to: Option<u64>,
}

fn life(id: &str, entries: &[AuditEntry]) -> Option<Life> {
    let request = request(id, entries)?;
    let asked: Asked = request.detail.parse().ok()?;
    let to = outcome(id, entries).map(|entry| entry.seq);
    Some(Life { scope: asked.scope.to_string(), from: request.seq, to })
}

fn request<'e>(id: &str, entries: &'e [AuditEntry]) -> Option<&'e AuditEntry> {
    entries.iter().find(|entry| entry.action == "request" && entry.subject == id)
}

fn outcome<'e>(id: &str, entries: &'e [AuditEntry]) -> Option<&'e AuditEntry> {
    let is_end = |entry: &&AuditEntry| Outcome::WORDS.contains(&entry.action.as_str());
    entries.iter().filter(|entry| entry.subject == id).find(is_end)
}

impl Report {
    fn new(
        promotion: PromotionId,
        found: Found,
        record: Option<PromotionStatus>,
    ) -> Result<Self, Failure> {
        let Found { entries, first, end, gaps } = found;
        let id = promotion.to_string();
        if record.is_none() && !entries.iter().any(|entry| entry.is_about(&id)) {
            return Err(Failure::usage_hint(
                format!("no {id}: none of the entries {first} to {} is about it", end.seq),
                "which there are: cryptorun replication history, or cryptorun audit list",
            ));
        }
        let request = request(&id, &entries);
        let ended = outcome(&id, &entries);
        Ok(Self {
            promotion,
            requester: request.map(|entry| entry.actor.clone()),
            opened: request.map(|entry| entry.at),
            asked: request.and_then(|entry| entry.detail.parse().ok()),
            outcome: ended.map(|entry| entry.action.clone()),
            why: ended.map(|entry| entry.detail.clone()),
            phases: phases(&id, &entries),
            entries,
            record,
            first,
            end,
            gaps,
        })
    }
}

/// Between the moments that the audit names. LogTime never goes back; the clocks of leaders may.
fn phases(id: &str, entries: &[AuditEntry]) -> Vec<Phase> {
    let own = || entries.iter().filter(|entry| entry.is_about(id));
    let first = |action: &str| own().find(|entry| entry.action == action);
    let agreed = own().find(|entry| match entry.action.as_str() {
        "request" => entry.detail.parse::<Asked>().is_ok_and(|asked| asked.missing == 0),
        "approve" => more_needed(&entry.detail) == Some(0),
        _ => false,
    });
    let moments = [
        ("asked", first("request")),
        ("enough people", agreed),
        ("token reserved", first("reserve")),
        ("lease granted", first("grant")),
        ("the end", outcome(id, entries)),
    ];
    let moments: Vec<(&'static str, LogTime)> = moments
        .into_iter()
        .filter_map(|(name, entry)| entry.map(|entry| (name, entry.at.log)))
        .collect();
    let pairs = moments.windows(2);
    pairs.map(|pair| Phase { until: pair[1].0, took: pair[1].1.since(pair[0].1) }).collect()
}
