//! The proof: invariants computed from journals, the audit and the state of every node.
//!
//! Nothing here trusts what a stage believed. Journals carry CLOCK_BOOTTIME stamps; on one machine
//! they compare exactly.

use super::operator::Operator;
use super::report::Invariant;
use super::{DemoError, layout::Lab};
use cryptorun_core::audit;
use cryptorun_core::position::Position;
use cryptorun_core::scope::{Phase, ScopeId, Tier};
use cryptorun_core::time::Millis;
use cryptorun_core::token::Token;
use cryptorun_core::wire::{Consistency, Fate, Journal, JournalRange, PromotionStatus, Status};
use std::collections::BTreeMap;
use std::time::Duration;

/// Three nodes are at one index only for moments; asked this often, they are caught at one.
const HASH_TRIES: u32 = 200;
const HASH_PAUSE: Duration = Duration::from_millis(25);

/// Tokens of every scope before a link was cut, and after.
pub type Cuts = (Vec<(ScopeId, Token)>, Vec<(ScopeId, Token)>);

/// What the proof looks at.
pub struct Evidence {
    pub status: Status,
    pub promotions: Vec<PromotionStatus>,
    /// By region.
    pub journals: BTreeMap<String, Journal>,
    /// Times a process was started beyond the first, where nobody killed it.
    pub crashes: Vec<String>,
    /// Reigns before and after the link was cut.
    pub cut: Cuts,
}

fn warm() -> ScopeId {
    ScopeId::new(Tier::Warm, "global")
}

/// Gathers it.
pub async fn gather(lab: &Lab, ana: &Operator, cut: Cuts) -> Result<Evidence, DemoError> {
    let stage = |what: String| DemoError::Stage { stage: "proof", what };
    let mut journals = BTreeMap::new();
    for site in &lab.sites {
        let journal = ana
            .journal(&site.worker_api.to_string(), &warm())
            .await
            .map_err(|e| stage(format!("no journal of {}: {e}", site.name)))?;
        journals.insert(site.name.to_owned(), journal);
    }
    let crashes = lab
        .supervisor
        .status()
        .into_iter()
        .filter(|process| process.starts > 1)
        .map(|process| format!("{} started {} times", process.name, process.starts))
        .collect();
    Ok(Evidence {
        status: ana.status().await.map_err(stage)?,
        promotions: ana.promotions().await.map_err(stage)?,
        journals,
        crashes,
        cut,
    })
}

/// Checks everything that can be seen from here.
pub async fn check(lab: &Lab, ana: &Operator, evidence: &Evidence) -> Vec<Invariant> {
    let visible = accepted(&evidence.journals);
    vec![
        one_accepted_writer(&visible),
        nothing_visible_after_a_higher_token(&visible),
        tokens_only_grow(evidence),
        nothing_moved_without_people(evidence),
        promotions_end(evidence),
        a_cut_moves_nothing(evidence),
        forks_are_kept(evidence),
        nothing_lost_in_silence(evidence),
        eu_stays(evidence),
        audit_verifies(ana).await,
        nodes_agree(lab, ana).await,
        no_process_died(evidence),
    ]
}

fn invariant(name: &'static str, holds: bool, evidence: String) -> Invariant {
    Invariant { name, holds, evidence }
}

/// Visible ranges of all sinks, with the region of each, without what was cut off into forks: that
/// lay beyond the start of the next reign, so it was never accepted.
pub fn accepted<'a>(
    journals: impl IntoIterator<Item = (&'a String, &'a Journal)>,
) -> Vec<(String, JournalRange)> {
    let mut found = Vec::new();
    for (region, journal) in journals {
        let of = |fate| journal.ranges.iter().filter(move |range| range.fate == fate);
        for range in of(Fate::Visible) {
            let cut = of(Fate::Forked)
                .filter(|cut| cut.token == range.token && cut.to_seq >= range.to_seq)
                .map(|cut| cut.from_seq)
                .min();
            let to_seq = cut.map_or(range.to_seq, |cut| range.to_seq.min(cut.saturating_sub(1)));
            if to_seq >= range.from_seq {
                found.push((region.clone(), JournalRange { to_seq, ..range.clone() }));
            }
        }
    }
    found
}

/// Accepted ranges of two tokens never overlap.
pub fn one_accepted_writer(visible: &[(String, JournalRange)]) -> Invariant {
    let mut clashes = Vec::new();
    for (i, (region, a)) in visible.iter().enumerate() {
        for (other, b) in &visible[i + 1..] {
            if a.token != b.token && a.from_seq <= b.to_seq && b.from_seq <= a.to_seq {
                clashes.push(format!(
                    "{region} {}: {}–{} and {other} {}: {}–{}",
                    a.token, a.from_seq, a.to_seq, b.token, b.from_seq, b.to_seq
                ));
            }
        }
    }
    let text = match clashes.is_empty() {
        true => format!("{} visible ranges, none overlap", visible.len()),
        false => clashes.join("; "),
    };
    invariant("one accepted writer", clashes.is_empty() && !visible.is_empty(), text)
}

/// In true time: the last visible write of a token lies before the first of any higher one.
pub fn nothing_visible_after_a_higher_token(visible: &[(String, JournalRange)]) -> Invariant {
    let mut reigns: BTreeMap<Token, (u64, u64)> = BTreeMap::new();
    for (_, range) in visible {
        let reign = reigns.entry(range.token).or_insert((u64::MAX, 0));
        reign.0 = reign.0.min(range.first_boot_ns);
        reign.1 = reign.1.max(range.last_boot_ns);
    }
    let pairs: Vec<_> = reigns.iter().zip(reigns.iter().skip(1)).collect();
    let mut smallest = None;
    let mut late = Vec::new();
    for ((token, (_, last)), (next, (first, _))) in &pairs {
        match first.checked_sub(*last) {
            Some(gap) => smallest = Some(smallest.map_or(gap, |s: u64| s.min(gap))),
            None => late.push(format!("{token} wrote after {next} began")),
        }
    }
    let gap = smallest.map_or("no reign followed another".to_owned(), |ns| {
        format!("smallest gap between two reigns {}", Millis(ns / 1_000_000))
    });
    invariant(
        "nothing visible after a higher token",
        late.is_empty() && reigns.len() > 1,
        if late.is_empty() { format!("{} reigns, {gap}", reigns.len()) } else { late.join("; ") },
    )
}

fn tokens_only_grow(evidence: &Evidence) -> Invariant {
    let shrunk: Vec<String> = evidence
        .journals
        .iter()
        .filter(|(_, journal)| {
            let accepted = |r: &&JournalRange| matches!(r.fate, Fate::Visible | Fate::Replicated);
            !journal.ranges.iter().filter(accepted).map(|range| range.token).is_sorted()
        })
        .map(|(region, _)| region.clone())
        .collect();
    let highest = evidence.status.scopes.iter().map(|s| s.token).max().unwrap_or_default();
    let text = match shrunk.is_empty() {
        true => format!("up to {highest} in {} journals", evidence.journals.len()),
        false => format!("not in {}", shrunk.join(", ")),
    };
    invariant("tokens only grow", shrunk.is_empty(), text)
}

fn nothing_moved_without_people(evidence: &Evidence) -> Invariant {
    let moved: Vec<_> =
        evidence.promotions.iter().filter(|p| p.promotion.is_past_grant()).collect();
    let alone: Vec<String> = moved
        .iter()
        .filter(|p| p.promotion.approvals.len() < 2)
        .map(|p| p.promotion.id.to_string())
        .collect();
    let text = match alone.is_empty() {
        true => format!("{} moves, each with two people behind it", moved.len()),
        false => format!("without two people: {}", alone.join(", ")),
    };
    invariant("nothing moved without people", alone.is_empty() && !moved.is_empty(), text)
}

fn promotions_end(evidence: &Evidence) -> Invariant {
    let open: Vec<String> = evidence
        .promotions
        .iter()
        .filter(|p| p.promotion.is_open())
        .map(|p| p.promotion.id.to_string())
        .collect();
    let text = match open.is_empty() {
        true => format!("{} promotions, all ended", evidence.promotions.len()),
        false => format!("still open: {}", open.join(", ")),
    };
    invariant("every promotion ends", open.is_empty(), text)
}

fn a_cut_moves_nothing(evidence: &Evidence) -> Invariant {
    let (before, after) = &evidence.cut;
    invariant(
        "a cut link moves nothing",
        before == after && !before.is_empty(),
        format!("{} reigns before the cut and after", before.len()),
    )
}

/// What was written and never accepted is in a named fork with its count.
fn forks_are_kept(evidence: &Evidence) -> Invariant {
    let mut missing = Vec::new();
    let mut kept = 0;
    for (region, journal) in &evidence.journals {
        for range in journal.ranges.iter().filter(|range| range.fate == Fate::Forked) {
            let named = journal.forks.iter().any(|fork| {
                fork.token == range.token
                    && fork.from_seq <= range.from_seq
                    && fork.to_seq >= range.to_seq
            });
            match named {
                true => kept += 1,
                false => missing.push(format!("{region} {}–{}", range.from_seq, range.to_seq)),
            }
        }
    }
    let text = match missing.is_empty() {
        true => format!("{kept} ranges cut off, all in named forks"),
        false => format!("not kept: {}", missing.join(", ")),
    };
    invariant("forks are kept", missing.is_empty(), text)
}

/// Every sink ends level, and what a promotion lost was listed before it was approved.
fn nothing_lost_in_silence(evidence: &Evidence) -> Invariant {
    let unknown: Vec<String> = evidence
        .promotions
        .iter()
        .filter(|p| p.promotion.is_past_grant() && !p.promotion.loss.known)
        .map(|p| p.promotion.id.to_string())
        .collect();
    invariant(
        "nothing lost in silence",
        unknown.is_empty(),
        match unknown.is_empty() {
            true => "every move had its loss listed beforehand".to_owned(),
            false => format!("loss unknown: {}", unknown.join(", ")),
        },
    )
}

fn eu_stays(evidence: &Evidence) -> Invariant {
    let eu = ScopeId::new(Tier::Warm, "eu");
    let scope = evidence.status.scopes.iter().find(|scope| scope.scope == eu);
    let outside: Vec<String> = scope
        .map(|scope| scope.regions.keys().filter(|r| r.as_str() != "eu-west-1"))
        .into_iter()
        .flatten()
        .map(ToString::to_string)
        .collect();
    let active = scope.is_some_and(|scope| scope.phase == Phase::Active);
    invariant(
        "EU data stays in eu-west-1",
        active && outside.is_empty(),
        match outside.is_empty() {
            true => "no sink elsewhere".to_owned(),
            false => format!("sinks in {}", outside.join(", ")),
        },
    )
}

pub async fn audit_verifies(ana: &Operator) -> Invariant {
    let name = "the audit chain verifies";
    match ana.audit().await {
        Err(error) => invariant(name, false, error),
        Ok(page) => match audit::verify(Position::START, &page.entries) {
            Ok(end) if end == page.end => {
                invariant(name, true, format!("{} entries, recomputed here", page.entries.len()))
            }
            Ok(end) => invariant(name, false, format!("ends at {end}, should at {}", page.end)),
            Err(seq) => invariant(name, false, format!("entry {seq} was changed")),
        },
    }
}

/// All nodes' state hashes agree at an index.
pub async fn nodes_agree(lab: &Lab, ana: &Operator) -> Invariant {
    let name = "three nodes, one state";
    let mut seen: BTreeMap<u64, BTreeMap<&str, String>> = BTreeMap::new();
    for _ in 0..HASH_TRIES {
        for site in &lab.sites {
            let endpoint = site.node_api.to_string();
            if let Ok(status) = ana.cluster_at(&endpoint, Consistency::Stale).await {
                let at = seen.entry(status.at.index).or_default();
                at.insert(site.name, status.state_hash.to_string());
            }
        }
        let whole = seen.iter().find(|(_, nodes)| nodes.len() == lab.sites.len());
        if let Some((index, nodes)) = whole {
            let mut hashes: Vec<&String> = nodes.values().collect();
            hashes.dedup();
            return invariant(
                name,
                hashes.len() == 1,
                format!(
                    "at index {index}: {}",
                    hashes.iter().map(|h| &h[..8]).collect::<Vec<_>>().join(" ")
                ),
            );
        }
        tokio::time::sleep(HASH_PAUSE).await;
    }
    invariant(name, false, "the three were never seen at one index".to_owned())
}

fn no_process_died(evidence: &Evidence) -> Invariant {
    invariant(
        "no process died by itself",
        evidence.crashes.is_empty(),
        match evidence.crashes.is_empty() {
            true => "every process was started once".to_owned(),
            false => evidence.crashes.join(", "),
        },
    )
}
