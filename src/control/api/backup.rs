//! A backup of the cluster, and a cluster from one.
//!
//! What a backup holds is written as the log writes it, so that whatever read the log reads it. A
//! restore is asked of any node with an empty disk, as founding is: it waits for the others, starts
//! Raft, and puts the backup into the log part by part.
//!
//! Next: `cryptorun_core::restore` for what comes of it.

use super::founding::Gathered;
use super::{Api, ReadQuery, check};
use crate::caller::{Caller, Need};
use crate::problem::ApiError;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cryptorun_core::command::{Command, Outcome};
use cryptorun_core::machine::Machine;
use cryptorun_core::people::Role;
use cryptorun_core::record::Record;
use cryptorun_core::refusal::Refusal;
use cryptorun_core::restore::{self, Act, Begin, Finish, Progress, Restore, Seat};
use cryptorun_core::wire::{
    Accepted, Backup, Consistency, RestoreFinishRequest, RestorePartRequest, RestoreRequest,
};
use cryptorun_raft::codec::record;

/// The shape of a backup.
const FORMAT: u32 = 1;

impl Api {
    /// `GET /v1/cluster/backup`: a moment that a quorum confirms, or, `alone`, everything that this
    /// node has, committed or not.
    pub async fn backup(&self, caller: &Caller, alone: bool) -> Result<Backup, ApiError> {
        check(self, caller, Need::Role(Role::Admin))?;
        if alone {
            let cannot =
                |error| ApiError::Internal { why: format!("cannot read the log: {error}") };
            let alone = self.log().alone().await.map_err(cannot)?;
            return written(&alone.machine, alone.index, alone.committed);
        }
        self.ready(ReadQuery { consistency: Consistency::Linearizable, wait_index: None }).await?;
        self.look(|machine, index| written(machine, index, index))
    }

    /// `POST /v1/cluster/restore`: once, to any node.
    pub async fn restore(
        &self,
        caller: &Caller,
        request: RestoreRequest,
    ) -> Result<Accepted, ApiError> {
        if let Some(id) = self.look(|machine, _| machine.cluster().map(|cluster| cluster.id)) {
            return Err(Refusal::AlreadyFounded { id }.into());
        }
        let begin = begun(&request.begin)?;
        let who =
            caller.operator().ok_or_else(|| ApiError::not_allowed(&caller.actor, Role::Admin));
        let person = begin.cluster.config.people.get(who?);
        if !person.is_some_and(|person| person.has_everywhere(Role::Admin)) {
            return Err(ApiError::not_allowed(&caller.actor, Role::Admin));
        }
        let seats = self.seats_of(&begin, &request.seats)?;
        if usize::try_from(request.expect) != Ok(seats.len()) {
            return Err(ApiError::bad(format!(
                "expect {}: the backup is of a cluster with {} nodes",
                request.expect,
                seats.len()
            )));
        }
        let gathered: Gathered = self.gather(&seats).await?;
        let needs = begin.cluster.version;
        if gathered.version < needs {
            return Err(ApiError::Conflict {
                why: format!(
                    "the backup is of cluster version {needs}, and not every node goes beyond {}",
                    gathered.version
                ),
            });
        }
        self.start(&gathered).await?;
        // Asked again, it goes on where it was.
        let next = self.look(|machine, _| match machine.restored() {
            Some(restored)
                if restored.backup == request.backup && Some(&restored.by) == caller.operator() =>
            {
                match restored.progress {
                    Progress::Arriving { next, .. } => Some(next),
                    _ => None,
                }
            }
            _ => None,
        });
        if let Some(next) = next {
            let index = *self.log().applied().borrow();
            return Ok(Accepted { index, outcome: Outcome::Restoring { next } });
        }
        let act = Act::Begin(Box::new(begin));
        let command = Command::Restore(Restore { backup: request.backup, act });
        let (index, outcome) = self.first(caller, command).await?;
        Ok(Accepted { index, outcome })
    }

    /// `POST /v1/cluster/restore/parts`.
    pub async fn restore_part(
        &self,
        caller: &Caller,
        request: RestorePartRequest,
    ) -> Result<Accepted, ApiError> {
        let mut records: Vec<Record> = request.audit.into_iter().map(Record::Audit).collect();
        for text in &request.records {
            records.push(read(text)?);
        }
        let act = Act::Part { part: request.part, records };
        let command = Command::Restore(Restore { backup: request.backup, act });
        self.submit_accepted(caller, None, command).await
    }

    /// `POST /v1/cluster/restore/finish`.
    pub async fn restore_finish(
        &self,
        caller: &Caller,
        request: RestoreFinishRequest,
    ) -> Result<Accepted, ApiError> {
        caller.operator().ok_or_else(|| ApiError::not_allowed(&caller.actor, Role::Admin))?;
        let begin = self.look(|machine, _| match machine.restored().map(|r| &r.progress) {
            Some(Progress::Arriving { begin, .. }) => Ok(begin.clone()),
            _ => Err(ApiError::Conflict { why: "no restore is under way".to_owned() }),
        })?;
        let second = self.parts().platform.clock.wall().0 / 1000;
        let act = Act::Finish(Finish {
            parts: request.parts,
            id: self.draw_id(),
            incarnation: u32::try_from(second).unwrap_or(u32::MAX),
            seats: self.seats_of(&begin, &request.seats)?,
        });
        let command = Command::Restore(Restore { backup: request.backup, act });
        let accepted = self.submit_accepted(caller, None, command).await?;
        tracing::warn!(actor = %caller.actor, index = accepted.index, "the cluster was restored");
        Ok(accepted)
    }

    /// A seat for each of the backup's regions: the node that this host's file names there, where
    /// the backup had one or where it was said to stand now.
    fn seats_of(&self, begin: &Begin, moved: &[Seat]) -> Result<Vec<Seat>, ApiError> {
        let config = &begin.cluster.config;
        let own = (self.parts().region.clone(), self.log().node());
        let nodes: Vec<_> = self
            .parts()
            .peers
            .iter()
            .map(|(node, at)| (at.region.clone(), *node))
            .chain([own])
            .collect();
        if let Some(seat) = moved.iter().find(|seat| !config.regions.contains_key(&seat.region)) {
            return Err(ApiError::bad(format!("the backup has no region {}", seat.region)));
        }
        let seats = config.regions.iter().map(|(region, known)| {
            if let Some(seat) = moved.iter().find(|seat| seat.region == *region) {
                return Ok(seat.clone());
            }
            let node = nodes.iter().find(|(there, _)| there == region).map(|(_, node)| *node);
            let missing = || {
                ApiError::bad(format!(
                    "this node's file names no peer in {region}, as the backup does"
                ))
            };
            Ok(Seat {
                region: region.clone(),
                node: node.ok_or_else(missing)?,
                raft: known.raft.clone(),
                api: known.api.clone(),
            })
        });
        seats.collect()
    }
}

fn written(machine: &Machine, index: u64, committed: u64) -> Result<Backup, ApiError> {
    let (begin, records) = restore::backup(machine).ok_or(Refusal::NotFounded)?;
    let Begin { cluster, clock, audit } = begin;
    let (name, id) = (cluster.config.name.clone(), cluster.id);
    let (version, incarnation) = (cluster.version, cluster.incarnation);
    let begin = [Record::Cluster(cluster), Record::Clock(clock), Record::AuditHead(audit)];
    Ok(Backup {
        format: FORMAT,
        cluster: name,
        id,
        version,
        incarnation,
        index,
        committed,
        taken: machine.now(),
        begin: begin.iter().map(write).collect::<Result<_, _>>()?,
        records: records.iter().map(write).collect::<Result<_, _>>()?,
        audit: machine.audit().values().cloned().collect(),
    })
}

fn write(record: &Record) -> Result<String, ApiError> {
    let bytes = record::encode(record)
        .map_err(|error| ApiError::Internal { why: format!("cannot write a record: {error}") })?;
    Ok(STANDARD.encode(bytes))
}

fn read(text: &str) -> Result<Record, ApiError> {
    let bad = |why: String| ApiError::bad(format!("a record of the backup cannot be read: {why}"));
    let bytes = STANDARD.decode(text).map_err(|error| bad(error.to_string()))?;
    record::decode(&bytes).map_err(|error| bad(error.to_string()))
}

fn begun(texts: &[String]) -> Result<Begin, ApiError> {
    let bad = || ApiError::bad("a backup begins with cluster, clock and head of the audit");
    let [cluster, clock, audit] = texts else { return Err(bad()) };
    match (read(cluster)?, read(clock)?, read(audit)?) {
        (Record::Cluster(cluster), Record::Clock(clock), Record::AuditHead(audit)) => {
            Ok(Begin { cluster, clock, audit })
        }
        _ => Err(bad()),
    }
}
