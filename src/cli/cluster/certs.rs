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
use cryptorun_core::wire::{CertificateSeen, Credentials, NodeCredentials, SessionStatus};
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
    let within = args.check.map_or(Millis(0), Millis::from);
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

/// The newest that is known of what an identity presents.
struct Presents {
    at: WallTime,
    authority: String,
    until: WallTime,
    /// A process's own word: it does so now. Else somebody met it at that time.
    itself: bool,
}

fn picture(processes: Vec<Process>, within: Millis) -> Picture {
    let said: Vec<&Credentials> =
        processes.iter().filter_map(|process| process.credentials.as_ref()).collect();
    let now = said.iter().map(|one| one.wall).max().unwrap_or(WallTime(0));
    let ends_soon = |until: WallTime| Millis(until.0.saturating_sub(now.0)) <= within;
    let presented = presented(&said, now);
    let authorities = authorities(&said, &presented);
    let mut findings = Vec::new();
    for process in processes.iter().filter(|process| process.credentials.is_none()) {
        let cause = process.cause.as_deref().unwrap_or("no answer");
        findings.push(format!("{} does not say: {cause}", process.process));
    }
    for one in &said {
        if let Some(why) = &one.not_taken {
            findings.push(format!("{} goes on with its old files: {why}", one.process));
        }
    }
    for (id, presents) in presented.iter().filter(|(_, presents)| ends_soon(presents.until)) {
        findings.push(format!("the certificate of {id} ends at {}", moment(presents.until)));
    }
    for authority in authorities.values() {
        findings.extend(distrust(authority, said.len(), &presented));
        if let Some(until) = authority.until.filter(|until| ends_soon(*until)) {
            findings.push(format!("authority {} ends at {}", authority.authority, moment(until)));
        }
    }
    Picture { authorities: authorities.into_values().collect(), processes, findings }
}

fn presented(said: &[&Credentials], now: WallTime) -> BTreeMap<String, Presents> {
    let mut presented: BTreeMap<String, Presents> = BTreeMap::new();
    for peer in said.iter().flat_map(|one| &one.peers) {
        let CertificateSeen { authority, until, .. } = peer.certificate.clone();
        let seen = Presents { at: peer.at, authority, until, itself: false };
        match presented.get(&peer.id) {
            Some(newer) if newer.at >= seen.at => {}
            _ => drop(presented.insert(peer.id.clone(), seen)),
        }
    }
    for one in said {
        let CertificateSeen { authority, until, .. } = one.presents.clone();
        let own = Presents { at: now, authority, until, itself: true };
        presented.insert(one.process.clone(), own);
    }
    presented
}

fn authorities(
    said: &[&Credentials],
    presented: &BTreeMap<String, Presents>,
) -> BTreeMap<String, AuthorityUse> {
    let mut authorities: BTreeMap<String, AuthorityUse> = BTreeMap::new();
    for root in said.iter().flat_map(|one| &one.trusts) {
        let entry = authorities.entry(root.authority.clone()).or_default();
        entry.name = root.name.clone();
        entry.until = Some(root.until);
        entry.trusted_by += 1;
    }
    for (id, presents) in presented {
        let entry = authorities.entry(presents.authority.clone()).or_default();
        entry.presented_by.push(id.clone());
    }
    for (name, entry) in &mut authorities {
        entry.authority = name.clone();
    }
    authorities
}

/// That some do not trust what others come with. An authority that nobody trusts any more is gone:
/// whoever was last met with a certificate of it brings another now, or is turned away.
fn distrust(
    authority: &AuthorityUse,
    processes: usize,
    presented: &BTreeMap<String, Presents>,
) -> Option<String> {
    let lacking = processes - authority.trusted_by;
    let by: Vec<&str> = authority
        .presented_by
        .iter()
        .filter(|id| {
            authority.trusted_by > 0 || presented.get(*id).is_some_and(|presents| presents.itself)
        })
        .map(String::as_str)
        .collect();
    (lacking > 0 && !by.is_empty()).then(|| {
        format!(
            "authority {} is not trusted by {lacking} of {processes} processes, and {} presents a \
             certificate of it",
            authority.authority,
            by.join(", ")
        )
    })
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

#[cfg(test)]
mod tests {
    use super::*;
    use cryptorun_core::wire::{Presented, TrustedAuthority};

    const DAY: u64 = 86_400_000;

    fn certificate(authority: &str, until: u64) -> CertificateSeen {
        let (serial, authority) = ("01".to_owned(), authority.to_owned());
        CertificateSeen { serial, authority, until: WallTime(until) }
    }

    /// Presents a certificate of the first it trusts.
    fn process(name: &str, trusts: &[&str], met: &[(&str, &str, u64)]) -> Process {
        let root = |authority: &&str| TrustedAuthority {
            authority: (*authority).to_owned(),
            name: "trial".to_owned(),
            until: WallTime(900 * DAY),
        };
        let peer = |(id, authority, at): &(&str, &str, u64)| Presented {
            id: (*id).to_owned(),
            certificate: certificate(authority, 40 * DAY),
            at: WallTime(*at),
        };
        let credentials = Credentials {
            process: name.to_owned(),
            wall: WallTime(10 * DAY),
            presents: certificate(trusts[0], 30 * DAY),
            trusts: trusts.iter().map(root).collect(),
            revocations: Vec::new(),
            not_taken: None,
            peers: met.iter().map(peer).collect(),
        };
        Process { process: name.to_owned(), credentials: Some(credentials), cause: None }
    }

    fn findings(processes: Vec<Process>, within: u64) -> Vec<String> {
        picture(processes, Millis(within)).findings
    }

    #[test]
    fn what_not_everybody_trusts_and_somebody_presents_is_found() {
        let both = || process("a", &["new", "old"], &[]);
        let one = || process("b", &["old"], &[]);
        let found = findings(vec![both(), one()], 0);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("new is not trusted by 1 of 2") && found[0].contains(" a "));
        assert_eq!(findings(vec![both(), process("b", &["old", "new"], &[])], 0).len(), 0);
    }

    #[test]
    fn a_person_last_met_with_an_authority_that_is_gone_is_no_finding() {
        let met = |authority| vec![process("a", &["new"], &[("ben", authority, 5)])];
        assert_eq!(findings(met("old"), 0), Vec::<String>::new());
        // Others still trust it: here ben would be turned away.
        let mut some = met("old");
        some.push(process("b", &["new", "old"], &[]));
        assert_eq!(findings(some, 0).len(), 1);
    }

    #[test]
    fn the_newest_word_counts_and_ends_are_announced() {
        let met = [("ben", "old", 5), ("ben", "new", 6)];
        let drawn = picture(vec![process("a", &["new"], &met)], Millis(0));
        let of = |name: &str| drawn.authorities.iter().find(|a| a.authority == name);
        assert!(of("old").is_none());
        assert_eq!(of("new").unwrap().presented_by, ["a", "ben"]);
        let ends = |days: u64| findings(vec![process("a", &["new"], &[])], days * DAY).len();
        assert_eq!((ends(19), ends(20)), (0, 1));
    }

    #[test]
    fn silence_and_files_not_taken_are_found() {
        let mut stuck = process("a", &["new"], &[]);
        if let Some(credentials) = &mut stuck.credentials {
            credentials.not_taken = Some("key.pem is another's".to_owned());
        }
        let cause = Some("cut off".to_owned());
        let silent = Process { process: "b".to_owned(), credentials: None, cause };
        let found = findings(vec![stuck, silent], 0);
        assert_eq!(found.len(), 2, "{found:?}");
    }
}
