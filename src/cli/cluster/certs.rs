//! `cluster certs`: who presents and trusts what. What one looks at between the steps of replacing an
//! authority: an old one may go when nobody presents anything of it, a new one may sign when
//! everybody trusts it.

use crate::Ended;
use crate::context::Context;
use crate::exit::Exit;
use crate::render::table::Table;
use crate::render::text::{NONE, moment};
use crate::screen::Facts;
use clap::Args;
use cryptorun_core::time::{Millis, WallTime};
use cryptorun_core::wire::{Credentials, NodeCredentials, SessionStatus};
use serde::Serialize;
use std::collections::BTreeMap;

#[derive(Clone, Debug, Args)]
pub struct Certs {
    /// Exit 1 when a certificate is presented that a process does not trust, one ends within this
    /// time, files were not taken, or a process does not answer
    #[arg(long, value_name = "SPAN", value_parser = crate::args::span, num_args = 0..=1,
          default_missing_value = "7d")]
    check: Option<std::time::Duration>,
}

/// One process.
#[derive(Clone, Debug, Serialize)]
struct Process {
    /// In words, or its SPIFFE id.
    process: String,
    credentials: Option<Credentials>,
    cause: Option<String>,
}

/// One authority: what hangs on it.
#[derive(Clone, Debug, Default, Serialize)]
struct AuthorityUse {
    authority: String,
    name: String,
    until: Option<WallTime>,
    /// Processes that trust it.
    trusted_by: usize,
    /// Identities that present a certificate of it, as far as any process met them.
    presented_by: Vec<String>,
}

/// All of it.
#[derive(Clone, Debug, Serialize)]
struct Picture {
    authorities: Vec<AuthorityUse>,
    processes: Vec<Process>,
    /// What needs somebody, in sentences.
    findings: Vec<String>,
}

pub async fn run(args: Certs, context: &mut Context) -> Ended {
    let processes = ask(context).await?;
    let within = args.check.map_or(Millis(0), crate::args::millis);
    let picture = picture(processes, within);
    context.show(&picture, |picture, screen| text(picture, &screen.facts))?;
    let well = picture.findings.is_empty();
    Ok(if args.check.is_some() && !well { Exit::CheckFailed } else { Exit::Done })
}

/// Nodes through one of them, workers at the addresses that they gave.
async fn ask(context: &Context) -> Result<Vec<Process>, crate::failure::Failure> {
    let nodes: Vec<NodeCredentials> = context.client.get("/v1/cluster/certs").await?;
    let sessions: Vec<SessionStatus> = context.client.get("/v1/sessions").await?;
    let mut processes: Vec<Process> = nodes
        .into_iter()
        .map(|node| Process {
            process: format!("node {} in {}", node.node, node.region),
            credentials: node.credentials,
            cause: node.cause,
        })
        .collect();
    for session in sessions.into_iter().filter(|session| !session.barred) {
        let worker = context.client.at(&session.addresses.api);
        let (credentials, cause) = match worker.get::<Credentials>("/v1/certs").await {
            Ok(credentials) => (Some(credentials), None),
            Err(failure) => (None, Some(failure.to_string())),
        };
        let process = format!("worker {} in {}", session.session.worker, session.region);
        processes.push(Process { process, credentials, cause });
    }
    Ok(processes)
}

fn picture(processes: Vec<Process>, within: Millis) -> Picture {
    let mut authorities: BTreeMap<String, AuthorityUse> = BTreeMap::new();
    // The newest thing that anybody saw of each identity; its own word counts most.
    let mut presented: BTreeMap<String, (WallTime, String, WallTime)> = BTreeMap::new();
    let mut findings = Vec::new();
    let said: Vec<&Credentials> =
        processes.iter().filter_map(|process| process.credentials.as_ref()).collect();
    let now = said.iter().map(|one| one.wall).max().unwrap_or(WallTime(0));
    for process in processes.iter().filter(|process| process.credentials.is_none()) {
        let cause = process.cause.as_deref().unwrap_or("no answer");
        findings.push(format!("{} does not say: {cause}", process.process));
    }
    for one in &said {
        for root in &one.trusts {
            let entry = authorities.entry(root.authority.clone()).or_default();
            (entry.authority, entry.name) = (root.authority.clone(), root.name.clone());
            entry.until = Some(root.until);
            entry.trusted_by += 1;
        }
        for peer in &one.peers {
            let seen = (peer.at, peer.certificate.authority.clone(), peer.certificate.until);
            let newest = presented.entry(peer.id.clone()).or_insert_with(|| seen.clone());
            if newest.0 < seen.0 {
                *newest = seen;
            }
        }
        if let Some(why) = &one.not_taken {
            findings.push(format!("{} goes on with its old files: {why}", one.process));
        }
    }
    for one in &said {
        let own = (now, one.presents.authority.clone(), one.presents.until);
        presented.insert(one.process.clone(), own);
    }
    for (id, (_, authority, until)) in &presented {
        let entry = authorities.entry(authority.clone()).or_default();
        entry.authority = authority.clone();
        entry.presented_by.push(id.clone());
        let left = Millis(until.0.saturating_sub(now.0));
        if left <= within {
            findings.push(format!("the certificate of {id} ends at {}", moment(*until)));
        }
    }
    for authority in authorities.values() {
        let lacking = said.len() - authority.trusted_by;
        if lacking > 0 && !authority.presented_by.is_empty() {
            findings.push(format!(
                "authority {} is not trusted by {lacking} of {} processes, and {} presents a \
                 certificate of it",
                authority.authority,
                said.len(),
                authority.presented_by.join(", ")
            ));
        }
        if let Some(until) = authority.until
            && Millis(until.0.saturating_sub(now.0)) <= within
        {
            findings.push(format!("authority {} ends at {}", authority.authority, moment(until)));
        }
    }
    Picture { authorities: authorities.into_values().collect(), processes, findings }
}

fn text(picture: &Picture, facts: &Facts) -> String {
    let said = picture.processes.iter().filter(|process| process.credentials.is_some()).count();
    let mut authorities = Table::default();
    for title in ["AUTHORITY", "UNTIL", "TRUSTED BY", "PRESENTED BY"] {
        authorities = authorities.column(title);
    }
    authorities = authorities.sentences("NAME");
    for one in &picture.authorities {
        authorities.row(vec![
            one.authority.clone().into(),
            one.until.map_or(NONE.to_owned(), moment).into(),
            format!("{} of {said}", one.trusted_by).into(),
            one.presented_by.len().into(),
            one.name.clone().into(),
        ]);
    }
    let mut processes = Table::default();
    for title in ["PROCESS", "PRESENTS", "OF", "UNTIL", "TRUSTS", "REVOKED"] {
        processes = processes.column(title);
    }
    processes = processes.sentences("CAUSE");
    for one in &picture.processes {
        let shown = |show: fn(&Credentials) -> String| {
            one.credentials.as_ref().map_or(NONE.to_owned(), show)
        };
        processes.row(vec![
            one.process.clone().into(),
            shown(|c| c.presents.serial.chars().take(8).collect()).into(),
            shown(|c| c.presents.authority.clone()).into(),
            shown(|c| moment(c.presents.until)).into(),
            shown(|c| {
                let keys: Vec<&str> = c.trusts.iter().map(|t| t.authority.as_str()).collect();
                keys.join(" ")
            })
            .into(),
            shown(|c| match c.revocations.is_empty() {
                true => "no list".to_owned(),
                false => c.revocations.iter().map(|list| list.revoked).sum::<u64>().to_string(),
            })
            .into(),
            one.cause.clone().unwrap_or_default().into(),
        ]);
    }
    let mut text = format!("{}\n{}", authorities.draw(facts), processes.draw(facts));
    for finding in &picture.findings {
        text.push_str(&format!("! {finding}\n"));
    }
    text
}
