//! Judged at the end of every case, whatever it did: from journals, audit and the nodes' own state.

use crate::verdict::Verdicts;
use crate::world::{Before, Trouble, World, warm_eu};
use cryptorun_core::scope::ScopeId;
use cryptorun_core::wire::{Fate, Journal};
use cryptorun_lab::demo::proof;
use cryptorun_lab::demo::stages::warm;
use std::collections::BTreeMap;

/// What must hold of every lab before it is taken down.
pub async fn the_end(world: &World, verdicts: &mut Verdicts) -> Result<(), Trouble> {
    the_end_with(world, &|_, shown| shown, verdicts).await
}

/// The same where a region's worker had a clock of its own: `true_time` brings its stamps back.
pub async fn the_end_with(
    world: &World,
    true_time: &dyn Fn(&str, u64) -> u64,
    verdicts: &mut Verdicts,
) -> Result<(), Trouble> {
    for scope in [warm(), warm_eu()] {
        let mut journals = world.journals(&scope).await?;
        for (region, journal) in &mut journals {
            for range in &mut journal.ranges {
                range.first_boot_ns = true_time(region, range.first_boot_ns);
                range.last_boot_ns = true_time(region, range.last_boot_ns);
            }
        }
        one_writer(&scope, &journals, verdicts);
        forks_are_named(&scope, &journals, verdicts);
    }
    for invariant in [
        proof::audit_verifies(world.ana()).await,
        proof::nodes_agree(&world.lab, world.ana()).await,
    ] {
        verdicts.check(invariant.name, invariant.holds, invariant.evidence);
    }
    Ok(())
}

/// Accepted ranges of two tokens never overlap, and no token's writes come after a higher one's.
pub fn one_writer(scope: &ScopeId, journals: &BTreeMap<String, Journal>, verdicts: &mut Verdicts) {
    let accepted = proof::accepted(journals);
    let one = proof::one_accepted_writer(&accepted);
    verdicts.check(&format!("{scope} {}", one.name), one.holds, one.evidence);
    let mut reigns: Vec<_> = accepted.iter().map(|(_, range)| range.token).collect();
    reigns.dedup();
    if reigns.len() > 1 {
        let order = proof::nothing_visible_after_a_higher_token(&accepted);
        verdicts.check(&format!("{scope} {}", order.name), order.holds, order.evidence);
    }
}

/// What was cut off or came too late is in a named fork, row by row.
pub fn forks_are_named(
    scope: &ScopeId,
    journals: &BTreeMap<String, Journal>,
    verdicts: &mut Verdicts,
) {
    for (region, journal) in journals {
        let ranges = journal.ranges.iter().filter(|range| range.fate == Fate::Forked);
        let noted: u64 = ranges.map(|range| range.rows).sum();
        let kept: u64 = journal.forks.iter().map(|fork| fork.rows).sum();
        if noted == 0 && kept == 0 {
            continue;
        }
        let names: Vec<String> =
            journal.forks.iter().map(|fork| format!("{} {} rows", fork.name, fork.rows)).collect();
        let text = format!("{region}: {noted} rows noted as forked; kept: {}", names.join(", "));
        verdicts.check(&format!("{scope} forks are named and counted"), noted == kept, text);
    }
}

/// Grants of a scope behind an audit entry: (subject, detail), promotions among them.
pub async fn grants(
    world: &World,
    before: &Before,
    scope: &ScopeId,
) -> Result<Vec<(String, String)>, Trouble> {
    let entries = world.audited(before.audit).await?;
    let name = scope.to_string();
    Ok(entries
        .into_iter()
        .filter(|entry| entry.action == "grant")
        .filter(|entry| entry.subject.split(' ').next() == Some(&name))
        .map(|entry| (entry.subject, entry.detail))
        .collect())
}

/// The scope went on in its region by regrant: a new token, no promotion, nobody asked.
pub async fn by_regrant(
    world: &World,
    before: &Before,
    scope: &ScopeId,
    verdicts: &mut Verdicts,
) -> Result<(), Trouble> {
    let after = world.before().await?;
    let grants = grants(world, before, scope).await?;
    let regrants = grants.iter().filter(|(subject, _)| *subject == scope.to_string()).count();
    let same = before.holder(scope) == after.holder(scope) && before.holder(scope).is_some();
    let grown = after.token(scope) > before.token(scope);
    let asked: Vec<String> = after
        .promotions
        .iter()
        .filter(|id| !before.promotions.contains(id))
        .map(ToString::to_string)
        .collect();
    let holds = same && grown && regrants == grants.len() && regrants > 0 && asked.is_empty();
    let text = format!(
        "{} -> {} at {}, {regrants} of {} grants without a promotion, requests opened: {}",
        before.token(scope),
        after.token(scope),
        after.holder(scope).unwrap_or_else(|| "nobody".to_owned()),
        grants.len(),
        if asked.is_empty() { "none".to_owned() } else { asked.join(", ") },
    );
    verdicts.check(&format!("{scope} goes on by regrant"), holds, text);
    Ok(())
}
