//! Promotions: one line each in a list, whole in `history`, what an approval binds.

use super::table::Table;
use super::text::{list, measured, moment, more_people, or_none};
use crate::screen::Facts;
use cryptorun_core::promotion::{Kind, Outcome, Promotion, State, StepRecord, StepState};
use cryptorun_core::time::WallTime;
use cryptorun_core::wire::PromotionStatus;

/// `history` without an id.
pub fn table(promotions: &[PromotionStatus], facts: &Facts) -> String {
    let mut table = Table::default();
    for title in
        ["ID", "ASKED", "KIND", "SCOPE", "FROM", "TO", "BY", "STATE", "WRITE PAUSE", "LOST"]
    {
        table = table.column(title);
    }
    table = table.sentences("REASON");
    for PromotionStatus { promotion: p, .. } in promotions {
        table.row(vec![
            p.id.into(),
            moment(p.opened.wall).into(),
            p.kind.into(),
            p.scope.to_string().into(),
            p.from.to_string().into(),
            p.to.to_string().into(),
            p.requester.to_string().into(),
            short_state(p).into(),
            or_none(p.measured.write_pause_ms.map(measured)).into(),
            or_none(p.measured.lost_rows).into(),
            reason(p).into(),
        ]);
    }
    table.draw(facts)
}

/// Why a request that named no kind is of this one.
pub fn chosen(kind: Kind) -> String {
    let why = match kind {
        Kind::Switchover => "the primary answers, so nothing need be lost",
        Kind::Failover => "the primary is gone and what is missing is known and little",
        Kind::Emergency => "the primary is gone and what is missing is much, old or unknown",
    };
    format!("kind: {kind}, because {why}")
}

/// What waits for a person.
pub fn waiting(promotions: &[PromotionStatus], facts: &Facts) -> String {
    let mut table = Table::default();
    for title in ["ID", "KIND", "SCOPE", "FROM", "TO", "BY", "MISSING", "LOSS", "EXPIRES"] {
        table = table.column(title);
    }
    table = table.sentences("REASON");
    for PromotionStatus { promotion: p, people_missing, .. } in promotions {
        table.row(vec![
            p.id.into(),
            p.kind.into(),
            p.scope.to_string().into(),
            p.from.to_string().into(),
            p.to.to_string().into(),
            p.requester.to_string().into(),
            people_missing.into(),
            p.loss.to_string().into(),
            moment(p.expires_wall).into(),
            reason(p).into(),
        ]);
    }
    let mut text = table.draw(facts);
    for status in promotions {
        text.push_str(&format!("approve with: {}\n", approve_line(status)));
    }
    text
}

/// The line that approves it.
pub fn approve_line(status: &PromotionStatus) -> String {
    status
        .approve_with
        .clone()
        .unwrap_or_else(|| format!("cryptorun replication approve {}", status.promotion.id))
}

fn reason(p: &Promotion) -> &str {
    p.reason.as_deref().unwrap_or("none given")
}

fn short_state(p: &Promotion) -> String {
    match &p.state {
        State::Waiting => format!("waits for {}", more_people(p.people_missing())),
        State::Running => {
            p.current().map_or("running".to_owned(), |record| format!("at {}", record.step))
        }
        State::Ended(outcome) => outcome.as_str().to_owned(),
    }
}

/// Where it is, as a sentence.
pub fn state(p: &Promotion) -> String {
    match &p.state {
        State::Waiting => format!(
            "{} waits for {}, expires {}",
            p.id,
            more_people(p.people_missing()),
            moment(p.expires_wall)
        ),
        State::Running => match p.current() {
            Some(record) => format!("{} is running, at {}", p.id, record.step),
            None => format!("{} is running", p.id),
        },
        State::Ended(outcome) => format!("{} {}", p.id, ended(p, outcome)),
    }
}

fn ended(p: &Promotion, outcome: &Outcome) -> String {
    match outcome {
        Outcome::Done => format!("done{}", figures(p)),
        Outcome::RolledBack { why } => format!("rolled back: {why}"),
        Outcome::Superseded { by } => format!("superseded by {by}"),
        Outcome::Denied { by, why } => format!("denied by {by}: {why}"),
        Outcome::Cancelled { by } => format!("cancelled by {by}"),
        Outcome::Expired => "expired: not enough people in time".to_owned(),
        Outcome::Void { differences } => {
            let changed = differences
                .iter()
                .map(|d| format!("{} was {}, is {}", d.field, d.bound, d.now))
                .collect::<Vec<_>>();
            format!("void: {}", changed.join("; "))
        }
    }
}

/// ` in 0.71 s · write pause 0.39 s · lost 0`, as far as it is known.
fn figures(p: &Promotion) -> String {
    let mut text = String::new();
    if let Some(ms) = p.measured.move_ms {
        text.push_str(&format!(" in {}", measured(ms)));
    }
    if let Some(ms) = p.measured.write_pause_ms {
        text.push_str(&format!(" · write pause {}", measured(ms)));
    }
    match p.measured.lost_rows {
        Some(rows) => text.push_str(&format!(" · lost {rows}")),
        None => text.push_str(&format!(" · loss {}", p.loss)),
    }
    text
}

/// What it cost in truth, or who must be back for that to be known; nothing before its grant.
pub fn lost(p: &Promotion) -> Option<String> {
    if let Some((rows, records)) = p.measured.lost_rows.zip(p.measured.lost_records) {
        return Some(format!("{rows} rows in {records} records, settled"));
    }
    let waits = p.is_past_grant() && !p.unsealed.is_empty();
    waits.then(|| format!("not settled until {} is back", list(&p.unsealed)))
}

/// One step with its sign: `✓ drain 0.21 s`.
pub fn step(record: &StepRecord) -> String {
    let took = match (record.started, record.ended) {
        (Some(from), Some(to)) => format!(" {}", measured(to.log.since(from.log).0)),
        _ => String::new(),
    };
    let tries = match record.attempt {
        0 | 1 => String::new(),
        n => format!(" (try {n})"),
    };
    let step = record.step;
    match &record.state {
        StepState::Pending => format!("· {step}"),
        StepState::Started => format!("… {step}{tries}"),
        StepState::Done { note } if note.is_empty() => format!("✓ {step}{took}{tries}"),
        StepState::Done { note } => format!("✓ {step}{took}{tries}: {note}"),
        StepState::Skipped { why } => format!("– {step}: {why}"),
        StepState::Failed { why } => format!("✗ {step}{took}{tries}: {why}"),
    }
}

/// What an approval puts its name to.
pub fn bound(status: &PromotionStatus) -> String {
    let p = &status.promotion;
    let mut text = format!("{} {} {} {} → {}\n", p.id, p.kind, p.scope, p.from, p.to);
    let mut field = |name: &str, value: String| text.push_str(&format!("  {name:<10}{value}\n"));
    field("asked by", format!("{}, {}: {}", p.requester, moment(p.opened.wall), reason(p)));
    field("expires", moment(p.expires_wall));
    field("people", people(p));
    field("plan", format!("{} · {}", p.bound.plan.short(), steps(p)));
    field("sinks", format!("{} of {}", p.plan.sinks_needed, list(&p.plan.sinks)));
    field("loss", format!("{}, agreed to as the most", p.bound.loss_ceiling));
    for (name, verdict) in &p.bound.verdicts {
        field("bound", format!("{name} {verdict}"));
    }
    if let Some(decision) = &status.decision {
        text.push_str(&super::decision::predicates(&decision.predicates));
    }
    for d in &status.differences {
        text.push_str(&format!("  changed   {} was {}, is {}\n", d.field, d.bound, d.now));
    }
    text
}

fn steps(p: &Promotion) -> String {
    let steps: Vec<String> = p.plan.steps.iter().map(ToString::to_string).collect();
    steps.join(" · ")
}

fn people(p: &Promotion) -> String {
    let have = match p.approvals.is_empty() {
        true => "nobody yet".to_owned(),
        false => list(p.approvals.keys()),
    };
    format!("{} of {}: {have}", p.approvals.len(), p.people_needed)
}

/// One promotion, whole.
pub fn whole(status: &PromotionStatus) -> String {
    let p = &status.promotion;
    let mut text = bound(status);
    text.push_str(&format!("  {:<10}{}\n", "evidence", p.evidence.short()));
    for (who, approval) in &p.approvals {
        let why = approval.reason.as_deref().map(|r| format!(": {r}")).unwrap_or_default();
        text.push_str(&format!("  {:<10}{who} {}{why}\n", "approved", exact(approval.at.wall)));
    }
    if let Some(at) = p.agreed {
        text.push_str(&format!("  {:<10}{}\n", "agreed", exact(at.wall)));
    }
    for record in p.steps.iter() {
        let when = record.started.map(|s| exact(s.wall)).unwrap_or_default();
        text.push_str(&format!("  {when:<26}{}\n", step(record)));
    }
    let mut field = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            text.push_str(&format!("  {name:<10}{value}\n"));
        }
    };
    field("token", p.token.map(|t| t.to_string()));
    field("holder", p.candidate.as_ref().map(ToString::to_string));
    field("barrier", p.barrier.map(|b| b.to_string()));
    field("start", p.start.map(|s| s.to_string()));
    field("unsealed", (!p.unsealed.is_empty()).then(|| list(&p.unsealed)));
    field("loss", Some(p.loss.to_string()));
    field("lost", lost(p));
    field("pause", p.measured.write_pause_ms.map(|ms| format!("{} without writes", measured(ms))));
    field("moved in", p.measured.move_ms.map(measured));
    field("ended", p.ended.map(|at| exact(at.wall)));
    text.push_str(&format!("{}\n", state(p)));
    if status.people_missing > 0 && p.is_open() {
        text.push_str(&format!("approve with: {}\n", approve_line(status)));
    }
    text
}

fn exact(at: WallTime) -> String {
    at.to_string()
}
