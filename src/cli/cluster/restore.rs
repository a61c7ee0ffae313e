//! `cluster restore`: a cluster from a backup, sent once, to any of the new nodes.

use super::backup::file;
use crate::Ended;
use crate::client::transport::Method;
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use clap::Args;
use cryptorun_core::audit::AuditEntry;
use cryptorun_core::command::Outcome;
use cryptorun_core::restore::Seat;
use cryptorun_core::wire::{Accepted, RestoreFinishRequest, RestorePartRequest, RestoreRequest};
use std::path::PathBuf;
use std::time::Duration;

/// The nodes may still be starting; the server waits for them within one request.
const ATTEMPT: Duration = Duration::from_secs(90);
/// What one part may weigh: half of what a node takes in one body, and a log entry in two.
const PART_BYTES: usize = 400 << 10;

#[derive(Clone, Debug, Args)]
pub struct Restore {
    /// The backup
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    /// How many nodes must answer with empty disks
    #[arg(long, value_name = "N")]
    expect: u32,
    /// A node that stands elsewhere than in the backup: REGION=N,RAFT,API; as often as needed
    #[arg(long = "seat", value_name = "REGION=N,RAFT,API", value_parser = seat)]
    seats: Vec<Seat>,
}

pub async fn run(args: Restore, context: &mut Context) -> Ended {
    let whole = file::read(&args.from)?;
    let (backup, header) = (whole.hash, whole.header);
    context.screen.say(format_args!(
        "backup {} of {} ({}), taken {} at index {}: {} records, {} audit entries",
        backup.short(),
        header.cluster,
        header.id,
        header.taken.wall,
        header.index,
        whole.records.len(),
        whole.audit.len()
    ));
    let client = context.client.clone().with_attempt(ATTEMPT);
    let request = RestoreRequest {
        backup,
        expect: args.expect,
        begin: header.begin,
        seats: args.seats.clone(),
    };
    let begun = client.change(Method::Post, "/v1/cluster/restore", &request).await?;
    let next = next_of(&begun)?;
    let parts = parts(whole.audit, whole.records);
    let count = u32::try_from(parts.len()).unwrap_or(u32::MAX);
    for (part, (audit, records)) in (0..).zip(parts).skip_while(|(part, _)| *part < next) {
        let request = RestorePartRequest { backup, part, audit, records };
        client.change(Method::Post, "/v1/cluster/restore/parts", &request).await?;
        context.screen.say(format_args!("part {} of {count}", part + 1));
    }
    let request = RestoreFinishRequest { backup, parts: count, seats: args.seats };
    let accepted = client.change(Method::Post, "/v1/cluster/restore/finish", &request).await?;
    let exit = match accepted.outcome {
        Outcome::Rule { people_missing: 0, .. } => Exit::Done,
        _ => Exit::Pending,
    };
    context.show(&accepted, |accepted, _| match &accepted.outcome {
        Outcome::Rule { id, people_missing } if *people_missing > 0 => format!(
            "restored at index {}; it grants nothing before {people_missing} more people agree\n\
             \x20  look:    cryptorun replication status\n\
             \x20  agree:   cryptorun replication approve {id}\n",
            accepted.index
        ),
        _ => format!("restored at index {}\n", accepted.index),
    })?;
    Ok(exit)
}

/// The part that the cluster wants next: not the first, where an earlier try was cut off.
fn next_of(begun: &Accepted) -> Result<u32, Failure> {
    match begun.outcome {
        Outcome::Restoring { next } => Ok(next),
        _ => Err(Failure::usage_hint(
            "the node answered something else than how a restore begins".to_owned(),
            "is it of another version? cryptorun cluster nodes",
        )),
    }
}

type Part = (Vec<AuditEntry>, Vec<String>);

/// Cuts a backup the same way every time, so that a restore can be gone on with.
fn parts(audit: Vec<AuditEntry>, records: Vec<String>) -> Vec<Part> {
    let mut parts: Vec<Part> = vec![Part::default()];
    let mut weight = 0;
    let mut fits = |parts: &mut Vec<Part>, bytes: usize| {
        if weight > 0 && weight + bytes > PART_BYTES {
            parts.push(Part::default());
            weight = 0;
        }
        weight += bytes;
    };
    for entry in audit {
        fits(&mut parts, 400 + entry.subject.len() + entry.detail.len());
        if let Some((entries, _)) = parts.last_mut() {
            entries.push(entry);
        }
    }
    for record in records {
        fits(&mut parts, record.len());
        if let Some((_, records)) = parts.last_mut() {
            records.push(record);
        }
    }
    parts
}

fn seat(text: &str) -> Result<Seat, String> {
    let wrong =
        || format!("'{text}' is not REGION=N,RAFT,API, as us-west-2=4,10.0.0.4:7401,10.0.0.4:7400");
    let (region, rest) = text.split_once('=').ok_or_else(wrong)?;
    let [node, raft, api] = rest.split(',').collect::<Vec<_>>()[..] else { return Err(wrong()) };
    Ok(Seat {
        region: crate::args::region(region)?,
        node: node.parse().map_err(|_| wrong())?,
        raft: raft.to_owned(),
        api: api.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_bounded_and_hold_everything_in_order() {
        let records: Vec<String> = (0..900).map(|n| format!("{n:01000}")).collect();
        let parts = parts(Vec::new(), records.clone());
        let bytes = |part: &Part| part.1.iter().map(String::len).sum::<usize>();
        assert!(parts.len() > 1 && parts.iter().all(|part| bytes(part) <= PART_BYTES));
        let again: Vec<String> = parts.into_iter().flat_map(|(_, records)| records).collect();
        assert_eq!(again, records);
    }

    #[test]
    fn a_seat_reads_from_one_word() {
        let seat = seat("us-west-2=4,h:1,h:2").unwrap();
        assert_eq!((seat.region.as_str(), seat.node), ("us-west-2", 4));
        assert!(super::seat("us-west-2").is_err() && super::seat("us-west-2=x,h:1,h:2").is_err());
    }
}
