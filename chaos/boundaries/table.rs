//! What many runs came to: kind, boundary and way of dying, with how often each end came.

use super::{Boundary, Ended, How, Point, Reached, all};
use cryptorun_core::promotion::Kind;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// Ends of runs whose leader died where it should.
    ends: BTreeMap<Boundary, BTreeMap<&'static str, u64>>,
    /// Why promotions were not done.
    reasons: BTreeMap<(Kind, &'static str, String), u64>,
    slowest: Duration,
    /// Leaders that died while they undid a promotion.
    undoers: u64,
    /// Runs in which it did not come to that.
    pub missed: u64,
}

impl Table {
    /// Counts one.
    pub fn add(&mut self, reached: &Reached) {
        if !reached.is_there() {
            self.missed += 1;
            return;
        }
        let how = reached.ended.as_ref().map_or("open", |ended| ended.how);
        *self.ends.entry(reached.boundary).or_default().entry(how).or_default() += 1;
        let Some(Ended { how, why, after }) = &reached.ended else { return };
        self.slowest = self.slowest.max(*after);
        let undoer_too = reached.boundary.how == How::WithCandidate && reached.killed > 1;
        self.undoers += u64::from(undoer_too);
        if !why.is_empty() {
            let reason = (reached.boundary.kind, *how, without_numbers(why));
            *self.reasons.entry(reason).or_default() += 1;
        }
    }

    /// Boundaries at which nobody died in any run.
    pub fn missing<'a>(&'a self, wanted: &'a [Boundary]) -> impl Iterator<Item = Boundary> + 'a {
        wanted.iter().copied().filter(|boundary| !self.ends.contains_key(boundary))
    }

    fn cell(&self, boundary: Boundary) -> String {
        if !all().contains(&boundary) {
            return "–".to_owned();
        }
        let Some(ends) = self.ends.get(&boundary) else { return "never".to_owned() };
        let parts: Vec<String> = ends.iter().map(|(how, n)| format!("{how} {n}")).collect();
        parts.join(", ")
    }
}

/// One reason however long it took and whichever record it was.
fn without_numbers(why: &str) -> String {
    let mut text = String::new();
    for c in why.chars() {
        match c.is_ascii_digit() {
            true if text.ends_with('#') => {}
            true => text.push('#'),
            false => text.push(c),
        }
    }
    text
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows: BTreeSet<(Kind, Point)> = self.ends.keys().map(|b| (b.kind, b.point)).collect();
        let ways = How::ALL.map(How::as_str).join(" | ");
        writeln!(f, "| kind | boundary | {ways} |\n| --- | --- | --- | --- | --- | --- |")?;
        let mut told = BTreeSet::new();
        for Boundary { kind, point, .. } in all() {
            if !rows.contains(&(kind, point)) || !told.insert((kind, point)) {
                continue;
            }
            let cells = How::ALL.map(|how| self.cell(Boundary { kind, point, how }));
            writeln!(f, "| {kind} | `{point}` | {} |", cells.join(" | "))?;
        }
        writeln!(f)?;
        for ((kind, how, why), n) in &self.reasons {
            writeln!(f, "{n:>5} {kind} {how}: {why}")?;
        }
        writeln!(f, "{:>5} leaders died as they rolled back", self.undoers)?;
        writeln!(f, "slowest end {:.1} s after its leader's death", self.slowest.as_secs_f64())
    }
}
