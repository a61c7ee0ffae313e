//! The table that tells the truth, after two lines that say whether it matters.

use super::table::{Cell, Table, Tone, painted};
use super::text::{NONE, list, moment, or_none};
use crate::screen::Facts;
use cryptorun_core::diagnose::{Class, Diagnosis, Severity};
use cryptorun_core::region::RegionName;
use cryptorun_core::scope::{Phase, Role};
use cryptorun_core::time::WallTime;
use cryptorun_core::wire::{Consistency, Level, ReadAt, ScopeStatus, SinkStatus, Status};
use std::collections::BTreeSet;

/// Everything, or the columns of one region.
pub fn status(status: &Status, only: Option<&RegionName>, facts: &Facts) -> String {
    let mut text = read_at(&status.at);
    text.push_str(&truth(status, facts));
    text.push('\n');
    if status.scopes.is_empty() {
        text.push_str("no scope fits\n");
        return text;
    }
    let table = match only {
        None => overview(&status.scopes),
        Some(region) => of_region(&status.scopes, region),
    };
    text.push_str(&table.draw(facts));
    text.push_str(&notes(status));
    text
}

/// The first line: who says so, how sure, how old.
pub fn read_at(at: &ReadAt) -> String {
    let leader = match &at.leader {
        Some(region) => format!("leader {region}"),
        None => "no leader".to_owned(),
    };
    let how = match at.consistency {
        Consistency::Linearizable => "",
        Consistency::Lease => " by its lease",
        Consistency::Stale => " alone, unconfirmed",
    };
    format!(
        "{} · {leader} · term {} · index {} · {}/{} voters · read {}, {}.{} s old, via {}{how}\n",
        at.cluster,
        at.term,
        at.index,
        at.voters_up,
        at.voters,
        moment(at.wall),
        at.age.0 / 1000,
        at.age.0 % 1000 / 100,
        at.via,
    )
}

/// The second: what is wrong, and what *you* must do.
fn truth(status: &Status, facts: &Facts) -> String {
    let mut wrong: Vec<String> =
        shown(status).map(|found| diagnosis(found, status.at.wall, facts)).collect();
    let figures = past_target(status);
    if let Some(figures) = figures {
        wrong.push(painted(&figures, Tone::Warn, facts));
    }
    let calm = wrong.is_empty();
    let mut todo = status.todo.iter();
    let first = todo.next().map_or("nothing to do", String::as_str);
    let mut lines = if calm { vec!["all within target".to_owned()] } else { wrong };
    lines[0].push_str(&format!(" · YOU: {first}"));
    lines.extend(todo.map(|line| format!("YOU: {line}")));
    lines.join("\n") + "\n"
}

/// What is worth a line: not a blink, but every sign that somebody is going.
fn shown(status: &Status) -> impl Iterator<Item = &Diagnosis> {
    status.diagnoses.iter().filter(|found| {
        found.confirmed
            || matches!(found.class, Class::RegionLost { .. } | Class::HolderLost { .. })
    })
}

/// A diagnosis in one line.
pub fn diagnosis(found: &Diagnosis, now: WallTime, facts: &Facts) -> String {
    let what = match &found.class {
        Class::RegionLost { region } if found.confirmed => format!("LOST {region}"),
        Class::RegionLost { region } => format!("silent {region}"),
        Class::HolderLost { scope, region } => format!("HOLDER LOST {scope} in {region}"),
        Class::IsolatedSelf => "isolated_self: this node has no quorum".to_owned(),
        Class::LinkCut { a, b, .. } => format!("link_cut {a} ⇹ {b}"),
        other => other.to_string(),
    };
    let tone = match found.severity {
        Severity::Page if found.confirmed => Tone::Bad,
        Severity::Page | Severity::Ticket => Tone::Warn,
        Severity::Info => Tone::Plain,
    };
    let mut why = vec![found.lasting.to_string()];
    why.extend(found.evidence.iter().cloned());
    why.extend(found.doubt.iter().map(|why| format!("left to people: {why}")));
    let relay = match &found.class {
        Class::LinkCut { relayed_via: Some(region), .. } => format!(", relayed via {region}"),
        _ => String::new(),
    };
    let when = match found.class {
        // How long it has been so is not what matters of it.
        Class::Flapping { .. } => String::new(),
        _ => format!(" since {}", moment(now - found.lasting)),
    };
    format!("{}{when} ({}){relay}", painted(&what, tone, facts), why.join("; "))
}

fn past_target(status: &Status) -> Option<String> {
    let mut past = Vec::new();
    for scope in &status.scopes {
        match &scope.phase {
            Phase::Vacant => past.push(format!("{} is vacant", scope.scope)),
            Phase::Degraded { why } => past.push(format!("{} is degraded: {why}", scope.scope)),
            Phase::Active | Phase::Draining | Phase::Sealing => {}
        }
        for (region, sink) in scope.regions.iter().filter(|(_, s)| s.level != Level::Ok) {
            past.push(format!("{} in {region} {} {}", scope.scope, age(sink), sink.level));
        }
    }
    if status.at.voters_up < status.at.voters {
        past.push(format!("{} of {} voters answer", status.at.voters_up, status.at.voters));
    }
    (!past.is_empty()).then(|| past.join("; "))
}

/// Whether anything is past a warning line; what `--check` answers.
pub fn is_well(status: &Status) -> bool {
    let calm = shown(status).all(|found| found.severity == Severity::Info);
    calm && past_target(status).is_none()
}

fn overview(scopes: &[ScopeStatus]) -> Table {
    let regions: BTreeSet<&RegionName> = scopes.iter().flat_map(|s| s.regions.keys()).collect();
    let mut table = Table::default();
    for title in ["SCOPE", "MODE", "PHASE", "HOLDER", "EPOCH", "LEASE"] {
        table = table.column(title);
    }
    for region in &regions {
        table = table.column(region);
    }
    table = table.sentences("NEXT");
    for scope in scopes {
        let mut row = vec![
            scope.scope.to_string().into(),
            mode(scope).into(),
            phase(scope),
            or_none(scope.holder.as_ref()).into(),
            scope.token.epoch.to_string().into(),
            or_none(scope.lease).into(),
        ];
        row.extend(regions.iter().map(|region| scope.regions.get(*region).map_or_else(none, sink)));
        row.push(next(scope).into());
        table.row(row);
    }
    table
}

fn of_region(scopes: &[ScopeStatus], region: &RegionName) -> Table {
    let mut table = Table::default();
    for title in ["SCOPE", "REGION", "ROLE", "STATE", "AGE", "BEHIND", "POSITION", "REPORTED"] {
        table = table.column(title);
    }
    for title in ["FENCED", "MODE", "PHASE", "HOLDER", "EPOCH", "LEASE"] {
        table = table.column(title);
    }
    for scope in scopes {
        let Some(sink) = scope.regions.get(region) else { continue };
        table.row(vec![
            scope.scope.to_string().into(),
            region.to_string().into(),
            sink.role.to_string().into(),
            Cell::toned(sink.level, tone(sink.level)),
            or_none(sink.age).into(),
            or_none(sink.behind.as_ref()).into(),
            sink.end.to_string().into(),
            sink.reported.map_or(NONE.to_owned(), |age| format!("{age} ago")).into(),
            sink.fenced.to_string().into(),
            mode(scope).into(),
            phase(scope),
            or_none(scope.holder.as_ref()).into(),
            scope.token.epoch.to_string().into(),
            or_none(scope.lease).into(),
        ]);
    }
    table
}

fn none() -> Cell {
    NONE.into()
}

fn tone(level: Level) -> Tone {
    match level {
        Level::Ok => Tone::Plain,
        Level::Warn => Tone::Warn,
        Level::Crit => Tone::Bad,
    }
}

fn age(sink: &SinkStatus) -> String {
    or_none(sink.age)
}

fn sink(sink: &SinkStatus) -> Cell {
    let text = match sink.role {
        Role::Primary if sink.level == Level::Ok => "primary".to_owned(),
        Role::Primary => format!("primary {}", sink.level),
        Role::Replica => format!("{} {}", age(sink), sink.level),
        Role::CatchingUp | Role::Fenced | Role::Rejoining => {
            format!("{} {} {}", sink.role, age(sink), sink.level)
        }
    };
    Cell::toned(text, tone(sink.level))
}

fn mode(scope: &ScopeStatus) -> String {
    match &scope.pause {
        Some(_) => format!("{}, paused", scope.mode),
        None => scope.mode.to_string(),
    }
}

fn phase(scope: &ScopeStatus) -> Cell {
    let tone = match scope.phase {
        Phase::Vacant | Phase::Degraded { .. } => Tone::Bad,
        Phase::Active | Phase::Draining | Phase::Sealing => Tone::Plain,
    };
    Cell::toned(&scope.phase, tone)
}

fn next(scope: &ScopeStatus) -> String {
    if let Some(id) = scope.moving {
        return format!("{id} is moving it");
    }
    if let (Some(home), true) = (&scope.residency, scope.next.iter().all(|c| !c.ready)) {
        return format!("cannot move: data stays in {home}");
    }
    let candidates: Vec<String> = scope
        .next
        .iter()
        .map(|c| match (&c.why, c.ready) {
            (_, true) => format!("{} ready", c.region),
            (Some(why), false) => format!("{}: {why}", c.region),
            (None, false) => format!("{} not ready", c.region),
        })
        .collect();
    match candidates.is_empty() {
        true => NONE.to_owned(),
        false => candidates.join(" · "),
    }
}

/// What stands below the table: pauses, sinks not sealed, forks, open requests.
fn notes(status: &Status) -> String {
    let mut text = String::new();
    for scope in &status.scopes {
        if let Some(pause) = &scope.pause {
            text.push_str(&format!(
                "paused {} by {} until {}: {}\n",
                scope.scope,
                pause.owner,
                moment(pause.until_wall),
                pause.reason
            ));
        }
        if !scope.unsealed.is_empty() {
            text.push_str(&format!(
                "unsealed {}: {}, sealed on first contact\n",
                scope.scope,
                list(&scope.unsealed)
            ));
        }
        for fork in &scope.forks {
            text.push_str(&format!(
                "fork {} of {} rows kept in {}\n",
                fork.fork.name, fork.fork.rows, fork.region
            ));
        }
    }
    if !status.open.is_empty() {
        text.push_str(&format!("open: {}\n", list(&status.open)));
    }
    if !text.is_empty() {
        text.insert(0, '\n');
    }
    text
}
