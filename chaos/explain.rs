//! A run as a person reads it: faults, leaders, sessions, grants, promotions, the violation.

use crate::invariants::entry_of;
use crate::world::Outcome;
use cryptorun_core::command::Command;
use cryptorun_raft::probe::Seen;
use std::fmt::Write as _;

/// One applied entry in a few words.
pub(crate) fn entry(seen: Seen<'_>) -> String {
    let Some(entry) = entry_of(&seen) else { return "blank".to_owned() };
    let actor = &entry.actor;
    match &entry.command {
        Command::Renew(it) => {
            let warm = it.report.scopes.values().next();
            let state = warm.map(|w| (w.role, w.token, w.end.seq, w.sealed.map(|s| s.token)));
            format!("renew {} {} {state:?}", it.session, it.seq)
        }
        Command::Report(it) => format!("report {}", it.region),
        Command::Tick => "tick".to_owned(),
        Command::Found(_) => "found".to_owned(),
        other => {
            let mut text = format!("{other:?} by {actor}");
            text.truncate(text.floor_char_boundary(260));
            text
        }
    }
}

/// What `explain` prints: the trace without what is always there.
pub fn story(outcome: &Outcome) -> String {
    let mut told = String::new();
    let mut applied = 0_u64;
    for line in outcome.trace.lines() {
        let (micros, rest) = line.split_once(' ').unwrap_or(("0", line));
        let noise = ["call ", "stream ", "answer ", "network:"].iter().any(|w| rest.starts_with(w))
            || rest.contains(" renew ")
            || rest.contains(" report ")
            || rest.ends_with(" tick")
            || rest.contains(" acknowledges ")
            || rest.contains(" reads at ")
            || rest.contains(" wrote ");
        if noise {
            continue;
        }
        if let Some((_, entry)) = rest.split_once(" applies ") {
            // Each entry once, from whoever applied it first.
            let index = entry.split(' ').next().and_then(|id| id.rsplit('.').next());
            let index: u64 = index.and_then(|index| index.parse().ok()).unwrap_or(u64::MAX);
            if index <= applied {
                continue;
            }
            applied = index;
        }
        let at: u64 = micros.parse().unwrap_or(0);
        // Writing to a string does not fail.
        let _ = writeln!(told, "{:>4}.{:03} s  {rest}", at / 1_000_000, at / 1000 % 1000);
    }
    let _ = writeln!(told, "\nreached:");
    for (what, n) in &outcome.tally.0 {
        let _ = writeln!(told, "  {what:28} {n}");
    }
    let _ = writeln!(told, "\nseed {} hash {:016x}", outcome.seed, outcome.hash);
    for violation in &outcome.violations {
        let _ = writeln!(told, "VIOLATION {violation}");
    }
    told
}
