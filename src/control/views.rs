//! What the API shows, computed from the machine alone: the same machine gives the same view.
//!
//! Nothing here decides: [`cryptorun_core::decide`] and its neighbours do. A view only adds what a
//! reader needs to judge an answer: how old it is, who says so, what *you* must do.

mod promotions;
mod scopes;

pub use promotions::{dry_run, people_phrase, promotion_status};
pub use scopes::{
    Decided, RegionSinks, holder_session, lease_left, live_holder, scope_status, sinks, sinks_of,
};

use crate::api::can_approve_rule;
use crate::caller::Caller;
use crate::log::{ReadInfo, Voters};
use cryptorun_core::command::Extended;
use cryptorun_core::diagnose::{Class, Diagnosis, Severity, diagnose, gone, health};
use cryptorun_core::explain::explain;
use cryptorun_core::machine::Machine;
use cryptorun_core::people::Role;
use cryptorun_core::promotion::{Promotion, State};
use cryptorun_core::region::RegionName;
use cryptorun_core::scope::Scope;
use cryptorun_core::time::{Millis, WallTime};
use cryptorun_core::wire::{Consistency, ReadAt, RegionStatus, SessionStatus, Status};

/// How an answer came about, for [`read_at`]. Plain data.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The read itself.
    pub info: ReadInfo,
    /// Who decides.
    pub voters: Voters,
    /// The answering node's region.
    pub via: RegionName,
    /// Its wall clock.
    pub wall: WallTime,
    /// How it was read.
    pub consistency: Consistency,
    /// For how long this node has been without a quorum.
    pub quorum_lost: Option<Millis>,
}

/// What every read says of itself.
pub fn read_at(machine: &Machine, index: u64, seen: &Seen) -> ReadAt {
    let cluster = machine.cluster();
    let region_of = |node| cluster.and_then(|c| c.config.region_of(node)).cloned();
    ReadAt {
        cluster: cluster.map(|c| c.config.name.clone()).unwrap_or_default(),
        leader: seen.info.leader.and_then(region_of),
        term: seen.info.term,
        index: index.max(seen.info.index),
        voters_up: seen.voters.up,
        voters: seen.voters.all,
        wall: seen.wall,
        now: machine.now().log,
        age: seen.info.age,
        via: seen.via.clone(),
        consistency: seen.consistency,
    }
}

/// `GET /v1/status`.
pub fn status(
    machine: &Machine,
    index: u64,
    seen: &Seen,
    caller: &Caller,
    decided: &Decided,
) -> Status {
    let open: Vec<&Promotion> =
        machine.promotions().values().filter(|promotion| promotion.is_open()).collect();
    Status {
        at: read_at(machine, index, seen),
        diagnoses: diagnoses(machine, seen.quorum_lost),
        todo: todo(machine, &open, caller),
        scopes: machine
            .scopes()
            .values()
            .map(|scope| {
                scope_status((machine, index), scope, seen.wall, caller.operator(), decided)
            })
            .collect(),
        open: open.iter().map(|promotion| promotion.id).collect(),
    }
}

/// The machine's diagnoses, and what this node alone can know: that it has no quorum.
pub fn diagnoses(machine: &Machine, quorum_lost: Option<Millis>) -> Vec<Diagnosis> {
    let mut found = diagnose(machine);
    if let Some(lasting) = quorum_lost {
        found.insert(
            0,
            Diagnosis {
                class: Class::IsolatedSelf,
                severity: Severity::Page,
                lasting,
                confirmed: true,
                doubt: None,
                evidence: vec!["no majority of the voters answers this node".to_owned()],
            },
        );
    }
    found
}

/// What is left for people to do; lines for this caller first.
fn todo(machine: &Machine, open: &[&Promotion], caller: &Caller) -> Vec<String> {
    let mut mine = Vec::new();
    let mut others = Vec::new();
    for rule in machine.rules().values().filter(|rule| rule.is_open()) {
        let (id, missing) = (rule.id, rule.people_missing());
        let line = format!("{id} waits for {missing} more people: {}", rule.change);
        match can_approve_rule(machine, rule, caller) {
            true => mine.push(line),
            false => others.push(line),
        }
    }
    for promotion in open.iter().filter(|promotion| promotion.state == State::Waiting) {
        let line = format!("{} waits for {}", promotion.id, people_phrase(promotion));
        if can_approve(machine, promotion, caller) {
            mine.push(line);
        } else {
            let able = approvers(machine, promotion);
            others.push(match able.is_empty() {
                true => format!("{line}, and nobody else may approve it: ask an admin"),
                false => format!("{line}: {}", able.join(" or ")),
            });
        }
    }
    for scope in machine.scopes().values().filter(|scope| is_left(machine, scope, open)) {
        let to_go = scope.policy.members.iter().filter(|region| **region != scope.assigned);
        let commands = to_go.filter_map(|region| {
            explain(machine, &scope.id, region, caller.operator().cloned()).ok()?.command
        });
        if let Some(command) = commands.into_iter().next() {
            mine.push(format!("{} has no holder: {command}", scope.id));
        }
    }
    for review in machine.reviews().values().filter(|review| review.decided.is_none()) {
        others.push(format!("review {} of {} waits for a decision", review.id, review.scope));
    }
    mine.append(&mut others);
    mine
}

/// Its holder is lost for good and nobody has asked: the controller rests, or may not ask here.
fn is_left(machine: &Machine, scope: &Scope, open: &[&Promotion]) -> bool {
    let lost = || gone(machine, scope).is_some_and(|found| found.confirmed);
    !open.iter().any(|promotion| promotion.scope == scope.id) && lost()
}

/// Whether this caller's word would count for it now.
pub fn can_approve(machine: &Machine, promotion: &Promotion, caller: &Caller) -> bool {
    let Some(operator) = caller.operator() else { return false };
    let person = machine.cluster().and_then(|c| c.config.people.get(operator));
    promotion.state == State::Waiting
        && !promotion.approvals.contains_key(operator)
        && person
            .is_some_and(|p| p.has(Role::Approver, Some(&promotion.scope), Some(&promotion.to)))
}

/// Who else could stand behind it.
fn approvers(machine: &Machine, promotion: &Promotion) -> Vec<String> {
    machine
        .cluster()
        .into_iter()
        .flat_map(|cluster| &cluster.config.people)
        .filter(|(id, person)| {
            !id.0.starts_with("service:")
                && !promotion.approvals.contains_key(*id)
                && person.has(Role::Approver, Some(&promotion.scope), Some(&promotion.to))
        })
        .map(|(id, _)| id.to_string())
        .collect()
}

/// `GET /v1/regions`.
pub fn regions(machine: &Machine) -> Vec<RegionStatus> {
    let Some(cluster) = machine.cluster() else { return Vec::new() };
    cluster
        .config
        .regions
        .iter()
        .map(|(name, config)| {
            let record = machine.regions().get(name);
            let reported_at = record.and_then(|record| record.reported_at);
            let (health, inputs) = health(machine, name);
            RegionStatus {
                region: name.clone(),
                aliases: config.aliases.clone(),
                link: record.map(|record| record.link).unwrap_or_default(),
                health,
                inputs,
                report: record.filter(|_| reported_at.is_some()).map(|r| r.report.clone()),
                reported: reported_at.map(|at| machine.now().log.since(at)),
            }
        })
        .collect()
}

/// `GET /v1/sessions`.
pub fn sessions(machine: &Machine) -> Vec<SessionStatus> {
    machine
        .sessions()
        .values()
        .map(|session| SessionStatus {
            session: session.key.clone(),
            region: session.region.clone(),
            addresses: session.addresses.clone(),
            renew_seq: session.renew_seq,
            renewed: machine.now().log.since(session.renewed_at),
            barred: session.barred,
            holds: machine
                .scopes()
                .values()
                .filter_map(|scope| {
                    let lease = scope.lease.as_ref().filter(|l| l.holder == session.key)?;
                    lease_left(machine, scope)?;
                    let start = scope.reign().map(|reign| reign.start).unwrap_or_default();
                    Some(Extended { scope: scope.id.clone(), token: lease.token, start })
                })
                .collect(),
        })
        .collect()
}
