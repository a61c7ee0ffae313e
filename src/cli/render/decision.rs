//! What would be decided, predicate by predicate, and what would change it.

use super::text::more_people;
use cryptorun_core::decide::{Choice, Decision, Predicate, Verdict};
use cryptorun_core::wire::{Afterwards, DryRun, Explanation, Refusals, SimulatedAsk, Simulation};

/// One line a predicate, its sign first.
pub fn predicates(predicates: &[Predicate]) -> String {
    let widest = |of: fn(&Predicate) -> String| {
        predicates.iter().map(|p| of(p).chars().count()).max().unwrap_or(0)
    };
    let (names, values) = (widest(|p| p.name.to_string()), widest(value));
    let thresholds = widest(threshold);
    let mut text = String::new();
    for p in predicates {
        let line = format!(
            "  {} {:names$}  {:values$}  {:thresholds$}  {}",
            sign(p),
            p.name,
            value(p),
            threshold(p),
            p.source
        );
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn sign(p: &Predicate) -> char {
    match (p.verdict, p.hard) {
        (Verdict::Yes, _) => '✓',
        (Verdict::No, true) => '✗',
        (Verdict::Inconclusive, true) => '?',
        (Verdict::No | Verdict::Inconclusive, false) => '!',
    }
}

fn value(p: &Predicate) -> String {
    match p.age {
        Some(age) if age.0 >= 1000 => format!("{}, {age} old", p.value),
        _ => p.value.clone(),
    }
}

fn threshold(p: &Predicate) -> String {
    match p.threshold.is_empty() {
        true => String::new(),
        false => format!("needs {}", p.threshold),
    }
}

/// `a failover would go with 1 more person`.
pub fn verdict(decision: &Decision) -> String {
    let kind = format!("{} {}", decision.kind.article(), decision.kind);
    let (_, missing) = decision.people;
    match decision.choice {
        Choice::Act if missing == 0 => format!("{kind} would go"),
        Choice::Act | Choice::Ask => {
            format!("{kind} would go with {}", more_people(missing.max(1)))
        }
        Choice::Refuse => format!("{kind} would be refused"),
    }
}

/// `explain`.
pub fn explanation(answer: &Explanation) -> String {
    let d = &answer.decision;
    let mut text = format!("{} → {}: {}\n", d.scope, d.to, verdict(d));
    text.push_str(&predicates(&d.predicates));
    if d.loss.records > 0 || !d.loss.known {
        text.push_str(&format!("loss: {}\n", d.loss));
    }
    for change in &d.changes {
        text.push_str(&format!("to go: {change}\n"));
    }
    if let Some(id) = answer.waiting {
        text.push_str(&format!("waiting: {id}\n"));
    }
    match (&answer.command, answer.opens_in) {
        (Some(command), _) => text.push_str(&format!("do: {command}\n")),
        (None, Some(span)) => text.push_str(&format!("opens in: {span}\n")),
        (None, None) => {}
    }
    text
}

/// A dry run; `again` is the line that does it.
pub fn dry_run(run: &DryRun, again: &str) -> String {
    let mut text = String::from("dry run: nothing was changed\n");
    let d = &run.decision;
    let state = if run.refusal.is_some() { "FAIL" } else { "PASS" };
    let steps: Vec<String> = run.plan.steps.iter().skip(1).map(ToString::to_string).collect();
    text.push_str(&format!(
        "plan {}: {} {} {} → {} · preflight {state} · {}\n",
        run.plan_hash.short(),
        run.kind,
        d.scope,
        d.from,
        d.to,
        steps.join(" · ")
    ));
    text.push_str(&format!(
        "loss {} · write pause about {} · needs {} sealed of {} sinks · needs {}\n",
        d.loss,
        run.write_pause,
        run.plan.sinks_needed,
        run.plan.sinks.len(),
        people(run.people_needed)
    ));
    text.push_str(&predicates(&d.predicates));
    match &run.refusal {
        Some(refusal) => {
            text.push_str(&format!("would be refused: {refusal}\n"));
            for change in &d.changes {
                text.push_str(&format!("to go: {change}\n"));
            }
        }
        None => text.push_str(&format!("to do it: {again}\n")),
    }
    text
}

fn people(needed: u32) -> String {
    match needed {
        0 => "nobody's word".to_owned(),
        1 => "1 person, you are one".to_owned(),
        n => format!("{n} people, you are one"),
    }
}

/// What a replay of recorded reports would have decided, moment by moment.
pub fn simulation(found: &Simulation) -> String {
    let mut text = format!(
        "{} {} → {} · {} reports replayed",
        found.scope, found.from, found.to, found.reports
    );
    if let Some((first, last)) = found.covered {
        text.push_str(&format!(" · {first} to {last}"));
    }
    text.push_str(&format!(" · decisions {}\n", found.decisions.short()));
    for late in &found.late {
        let unreached: Vec<String> =
            late.unreached.iter().map(|(region, span)| format!("{region} for {span}")).collect();
        text.push_str(&format!(
            "without a quorum: {} reports of {}, {} to {}; not reached: {}\n",
            late.reports,
            late.region,
            late.span.0,
            late.span.1,
            if unreached.is_empty() { "nobody".to_owned() } else { unreached.join(", ") }
        ));
    }
    for moment in &found.moments {
        text.push_str(&format!("\n{}  {}", moment.at, verdict(&moment.decision)));
        if let Some(id) = moment.opened {
            text.push_str(&format!(" · {id} was opened"));
        }
        text.push('\n');
        text.push_str(&predicates(&moment.decision.predicates));
    }
    if found.moments.is_empty() {
        text.push_str("the decision never changed\n");
    }
    text.push_str(&asks("asked for", &found.asks, &[]));
    if let Some(others) = &found.by_policy {
        text.push_str(&asks("by the other policy", others, &found.asks));
        let gone = found.asks.iter().filter(|ask| !has(others, ask));
        for ask in gone {
            text.push_str(&format!("  - {}\n", asked(ask)));
        }
    }
    text
}

/// What the controller would have asked for; `+` where `before` has none like it.
fn asks(what: &str, found: &[SimulatedAsk], before: &[SimulatedAsk]) -> String {
    let in_vain = found.iter().filter(|ask| ask.is_false()).count();
    let mut text = match found.len() {
        0 => format!("\n{what}: nothing\n"),
        count => format!("\n{what}: {count}, {in_vain} of them while the holder came back\n"),
    };
    for ask in found {
        let sign = if before.is_empty() || has(before, ask) { ' ' } else { '+' };
        text.push_str(&format!("  {sign} {}\n", asked(ask)));
    }
    text
}

/// The same move at the same time.
fn has(asks: &[SimulatedAsk], ask: &SimulatedAsk) -> bool {
    let at_once = |other: &SimulatedAsk| other.at <= ask.until && ask.at <= other.until;
    asks.iter().any(|other| at_once(other) && (other.kind, &other.to) == (ask.kind, &ask.to))
}

fn asked(ask: &SimulatedAsk) -> String {
    let then = match ask.then {
        Afterwards::CameBack => "the holder came back",
        Afterwards::Moved => "a promotion moved it",
        Afterwards::Open => "the window ended",
    };
    let alone = if ask.alone { ", alone" } else { "" };
    format!(
        "{}  {} → {}{alone} · loss {} · {then} after {} · {}",
        ask.at,
        ask.kind,
        ask.to,
        ask.loss,
        ask.until.since(ask.at),
        ask.reason
    )
}

/// The refusal ledger: each answer once, what refused and what would have turned it.
pub fn refusals(found: &Refusals) -> String {
    let Some((first, last)) = found.covered else {
        return format!("{}: nothing was recorded in that window\n", found.scope);
    };
    let mut text = format!("{}: {first} to {last}\n", found.scope);
    if found.left_out > 0 {
        text.push_str(&format!("{} earlier answers are left out\n", found.left_out));
    }
    for span in &found.refusals {
        let d = &span.decision;
        let line = format!("\n{} to {}  {}: {}\n", span.since, span.until, d.to, verdict(d));
        text.push_str(&line);
        text.push_str(&format!("  {}\n", span.because));
        text.push_str(&predicates(&d.blocking().cloned().collect::<Vec<_>>()));
        for change in &d.changes {
            text.push_str(&format!("  to go: {change}\n"));
        }
    }
    if found.refusals.is_empty() {
        text.push_str("nothing was refused: it was well, on its way, or asked for\n");
    }
    text
}
