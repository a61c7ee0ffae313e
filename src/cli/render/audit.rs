//! The audit as text: entries in a table, a promotion told, verdicts on files.

use super::promotion::{lost, state, step};
use super::table::{Cell, Table, Tone};
use super::text::{list, measured, moment};
use crate::audit::file::Damage;
use crate::audit::{Acts, FileVerdict, Phase, Proof, Report};
use crate::screen::Facts;
use cryptorun_core::audit::AuditEntry;
use cryptorun_core::time::WallTime;
use cryptorun_core::wire::{AuditPage, PromotionStatus};
use std::fmt::Display;

/// A page of entries and the chain's end.
pub fn page(page: &AuditPage, facts: &Facts) -> String {
    if page.entries.is_empty() {
        return format!("no entries here; the chain holds {}\n", page.end.seq);
    }
    let mut text = entries(&page.entries, moment, facts);
    text.push_str(&format!("chain ends at {}, {}\n", page.end.seq, page.end.hash.short()));
    text
}

fn entries<'e>(
    entries: impl IntoIterator<Item = &'e AuditEntry>,
    when: fn(WallTime) -> String,
    facts: &Facts,
) -> String {
    let mut table = Table::default();
    for title in ["SEQ", "AT", "WHO", "ACTION", "SUBJECT"] {
        table = table.column(title);
    }
    table = table.sentences("DETAIL");
    for entry in entries {
        let tone = if entry.action == "refused" { Tone::Warn } else { Tone::Plain };
        table.row(vec![
            entry.seq.into(),
            when(entry.at.wall).into(),
            entry.actor.to_string().into(),
            Cell::toned(&entry.action, tone),
            (&entry.subject).into(),
            (&entry.detail).into(),
        ]);
    }
    table.draw(facts)
}

/// `who`.
pub fn acts(acts: &Acts, facts: &Facts) -> String {
    let mut text = match acts.entries.is_empty() {
        true => String::new(),
        false => entries(&acts.entries, moment, facts),
    };
    let (who, count) = (&acts.who, acts.entries.len());
    let what = match (count, acts.refused) {
        (0, _) => "nothing".to_owned(),
        (1, 0) => "1 entry".to_owned(),
        (1, _) => "1 entry, refused".to_owned(),
        (n, 0) => format!("{n} entries"),
        (n, refused) => format!("{n} entries, {refused} of them refused"),
    };
    let since = acts.since.map(|time| format!(" since {time}")).unwrap_or_default();
    let until = acts.until.map(|time| format!(" until {time}")).unwrap_or_default();
    text.push_str(&format!(
        "{who}{since}{until}: {what} · looked at {} to {}, which ends with {}\n",
        acts.first,
        acts.end.seq,
        acts.end.hash.short()
    ));
    text
}

/// A promotion from its request to its outcome.
pub fn report(report: &Report, facts: &Facts) -> String {
    let mut text = heading(report);
    text.push('\n');
    text.push_str(&entries(&report.entries, |at| at.to_string(), facts));
    text.push('\n');
    if !report.phases.is_empty() {
        let say = |p: &Phase| format!("{} after {}", p.until, measured(p.took.0));
        let phases: Vec<String> = report.phases.iter().map(say).collect();
        field(&mut text, "phases", phases.join(" · "));
    }
    match &report.record {
        Some(status) => kept(&mut text, status),
        None => text.push_str(
            "  its record is not at hand: verdicts, single steps and the final loss are not in the \
             audit\n",
        ),
    }
    text.push_str(&format!(
        "{}\nlooked at entries {} to {}, which end with {}\n",
        ending(report),
        report.first,
        report.end.seq,
        report.end.hash.short()
    ));
    text
}

fn heading(report: &Report) -> String {
    let id = report.promotion;
    let Some(asked) = &report.asked else {
        return format!("{id}: the entry that asked for it is not at hand\n");
    };
    let mut text = format!("{id} {} {} {} → {}\n", asked.kind, asked.scope, asked.from, asked.to);
    if let (Some(who), Some(at)) = (&report.requester, report.opened) {
        field(&mut text, "asked by", format!("{who}, {}: {}", at.wall, asked.reason));
    }
    field(&mut text, "plan", &asked.plan);
    field(&mut text, "loss", format!("{}, agreed to as the most", asked.loss));
    field(&mut text, "evidence", &asked.evidence);
    if let Some(PromotionStatus { promotion: p, .. }) = &report.record {
        for (name, verdict) in &p.bound.verdicts {
            field(&mut text, "bound", format!("{name} {verdict}"));
        }
    }
    text
}

/// What only the record has.
fn kept(text: &mut String, status: &PromotionStatus) {
    let p = &status.promotion;
    for record in &p.steps {
        let when = record.started.map(|at| at.wall.to_string()).unwrap_or_default();
        text.push_str(&format!("  {when:<26}{}\n", step(record)));
    }
    if !p.unsealed.is_empty() {
        field(text, "unsealed", list(&p.unsealed));
    }
    field(text, "loss", &p.loss);
    if let Some(lost) = lost(p) {
        field(text, "lost", lost);
    }
    if let Some(ms) = p.measured.write_pause_ms {
        field(text, "pause", format!("{} without writes", measured(ms)));
    }
    if let Some(ms) = p.measured.move_ms {
        field(text, "moved in", measured(ms));
    }
}

fn ending(report: &Report) -> String {
    match (&report.record, &report.outcome, &report.why) {
        (Some(status), ..) => state(&status.promotion),
        (None, Some(word), Some(why)) => format!("{} {word}: {why}", report.promotion),
        _ => format!("{} is open, as far as this goes", report.promotion),
    }
}

fn field(text: &mut String, name: &str, value: impl Display) {
    text.push_str(&format!("  {name:<10}{value}\n"));
}

/// `verify FILE`.
pub fn file(verdict: &FileVerdict) -> String {
    let file = verdict.file.display();
    let mut text = match (&verdict.damage, &verdict.of) {
        (Some(damage), _) => broken(&verdict.file.display(), damage),
        (None, Some(of)) => format!(
            "{file} ok: {} entries, {} to {}, of {} ({}), taken {} · ends with {}\n",
            verdict.checked,
            of.first(),
            of.last.seq,
            of.cluster,
            of.id,
            of.taken,
            of.last.hash
        ),
        (None, None) => String::new(),
    };
    let last = verdict.of.as_ref().map_or(0, |of| of.last.seq);
    match (verdict.head, verdict.head_at) {
        (Some(head), Some(at)) if at == last => {
            text.push_str(&format!("its last entry is the head {}\n", head.short()));
        }
        (Some(head), Some(at)) => text.push_str(&format!(
            "entries up to {at} stand under the head {}, those after it do not\n",
            head.short()
        )),
        (Some(head), None) => text.push_str(&format!("NO ENTRY THAT HOLDS HAS THE HEAD {head}\n")),
        (None, _) if verdict.damage.is_none() => text.push_str(
            "it holds together; that it is this cluster's shows with --head and the hash from \
             `cryptorun audit verify`\n",
        ),
        (None, _) => {}
    }
    text
}

fn broken(file: &impl Display, damage: &Damage) -> String {
    let Damage { entry, line, expected, found } = damage;
    let at = entry.map_or(format!("line {line}"), |seq| format!("entry {seq} (line {line})"));
    let mut text = format!("{file} IS DAMAGED at {at}\n");
    field(&mut text, "expected", expected);
    field(&mut text, "found", found);
    text
}

/// `prove`.
pub fn proof(proof: &Proof, facts: &Facts) -> String {
    let (seq, file, head) = (proof.seq, proof.file.display(), proof.head);
    let mut text = match (&proof.entry, &proof.damage) {
        (_, Some(damage)) => broken(&file, damage),
        (Some(entry), None) => entries([entry], |at| at.to_string(), facts),
        (None, None) => String::new(),
    };
    text.push_str(&match (&proof.entry, proof.head_at) {
        (Some(_), Some(at)) => match at.seq - seq {
            0 => format!("proven: entry {seq} is the head {}\n", head.short()),
            1 => format!("proven: entry {seq} and the one after it lead to the head {head}\n"),
            n => format!("proven: entry {seq} and the {n} after it lead to the head {head}\n"),
        },
        (None, Some(at)) => format!(
            "NOT PROVEN: the head stands at entry {}, and entry {seq} is not among those up to it\n",
            at.seq
        ),
        (Some(_), None) => format!("NOT PROVEN: from entry {seq} nothing leads to the head {head}\n"),
        (None, None) => format!("NOT PROVEN: {file} holds no entry {seq} up to its end\n"),
    });
    text
}
