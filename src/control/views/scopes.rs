//! One line of the table that tells the truth: a scope, its holder, its sinks, where it could go.

use cryptorun_core::decide::{Ask, Loss, behind, decide, fitting_kind};
use cryptorun_core::machine::Machine;
use cryptorun_core::people::OperatorId;
use cryptorun_core::region::RegionName;
use cryptorun_core::report::ScopeReport;
use cryptorun_core::scope::{Scope, ScopeId, Tier};
use cryptorun_core::session::{Session, SessionKey};
use cryptorun_core::time::{Millis, WallTime};
use cryptorun_core::wire::{Candidate, ForkStatus, Level, ScopeStatus, SinkStatus};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Each region's sink of a scope: the session that reports it, and what it says.
pub type RegionSinks<'m> = BTreeMap<RegionName, (&'m Session, &'m ScopeReport)>;

/// Where a scope stands, and where `by` could ask it to go: a rest of the controller binds no person.
pub fn scope_status(
    (machine, index): (&Machine, u64),
    scope: &Scope,
    wall: WallTime,
    by: Option<&OperatorId>,
    decided: &Decided,
) -> ScopeStatus {
    let holder = live_holder(machine, scope);
    ScopeStatus {
        scope: scope.id.clone(),
        mode: scope.mode,
        phase: scope.phase.clone(),
        holder: holder.map(|session| session.region.clone()),
        assigned: scope.assigned.clone(),
        token: scope.reign().map(|reign| reign.token).unwrap_or_default(),
        lease: lease_left(machine, scope),
        pause: scope.pause.clone().filter(|pause| !pause.is_over(machine.now())),
        regions: sinks(machine, scope, wall),
        next: decided.candidates((machine, index), scope, by),
        moving: scope.moving,
        unsealed: scope.reservation.as_ref().map(|r| r.unsealed.clone()).unwrap_or_default(),
        forks: forks(machine, scope),
        residency: scope.policy.residency.clone(),
    }
}

/// The session that a lease names, if the machine still knows it.
pub fn holder_session<'m>(machine: &'m Machine, scope: &Scope) -> Option<&'m Session> {
    machine.sessions().get(&scope.lease.as_ref()?.holder)
}

/// The session that holds a live lease.
pub fn live_holder<'m>(machine: &'m Machine, scope: &Scope) -> Option<&'m Session> {
    lease_left(machine, scope).and_then(|_| holder_session(machine, scope))
}

/// What is left of a live lease by LogTime; none when there is no live one.
pub fn lease_left(machine: &Machine, scope: &Scope) -> Option<Millis> {
    let left = machine.lease_expires(scope)?.since(machine.now().log);
    (left > Millis::ZERO).then_some(left)
}

/// The newest session of each region that reports a sink of this scope.
pub fn sinks_of<'m>(machine: &'m Machine, scope: &ScopeId) -> RegionSinks<'m> {
    let mut found: RegionSinks<'m> = BTreeMap::new();
    for session in machine.sessions().values() {
        let Some(report) = session.report.scopes.get(scope) else { continue };
        let rank = |s: &Session| (!s.barred, s.opened_at, s.renewed_at);
        match found.get(&session.region) {
            Some((known, _)) if rank(known) >= rank(session) => {}
            _ => drop(found.insert(session.region.clone(), (session, report))),
        }
    }
    found
}

/// Every member's sink; one that never reported stands there as catching up from nothing.
pub fn sinks(machine: &Machine, scope: &Scope, wall: WallTime) -> BTreeMap<RegionName, SinkStatus> {
    let reported = sinks_of(machine, &scope.id);
    let holder = live_holder(machine, scope).map(|session| &session.key);
    scope
        .policy
        .members
        .iter()
        .map(|region| {
            let status = match reported.get(region) {
                Some((session, report)) => sink(machine, scope, (session, report), holder, wall),
                None => SinkStatus {
                    role: cryptorun_core::scope::Role::default(),
                    end: cryptorun_core::position::Position::START,
                    age: None,
                    behind: None,
                    level: Level::Crit,
                    reported: None,
                    fenced: 0,
                },
            };
            (region.clone(), status)
        })
        .collect()
}

fn sink(
    machine: &Machine,
    scope: &Scope,
    (session, report): (&Session, &ScopeReport),
    holder: Option<&SessionKey>,
    wall: WallTime,
) -> SinkStatus {
    let reported = machine.now().log.since(session.renewed_at);
    let has_data = report.end.seq > 0;
    // `age` grows by itself while nothing new is applied, whoever is to blame.
    let age = has_data.then(|| {
        let offset = i128::from(session.report.clock_offset_ms);
        let age = i128::from(wall.0) + offset - i128::from(report.sealed_at.0);
        Millis(u64::try_from(age.max(0)).unwrap_or(u64::MAX))
    });
    let fresh = machine.cluster().map(|c| c.config.limits.report_fresh).unwrap_or_default();
    let level = match age {
        _ if reported > fresh => Level::Crit,
        Some(age) => level_of(scope.id.tier, age),
        // Nothing has been written yet anywhere: that is no fault of this sink.
        None if scope.last_known.as_ref().is_none_or(|known| known.end.seq == 0) => Level::Ok,
        None => Level::Crit,
    };
    SinkStatus {
        role: report.role,
        end: report.end,
        age,
        behind: match holder == Some(&session.key) {
            true => Some(Loss::none()),
            false => Some(behind(machine, scope, &session.region)).filter(|loss| loss.known),
        },
        level,
        reported: Some(reported),
        fenced: session.report.fenced.get(&scope.id).copied().unwrap_or(0),
    }
}

/// The lines of the table of service levels: target met, past the warning, past the critical.
fn level_of(tier: Tier, age: Millis) -> Level {
    let (warn, crit) = match tier {
        Tier::Hot => (Millis::secs(1), Millis::secs(5)),
        Tier::Warm => (Millis::secs(90), Millis::secs(300)),
        Tier::Cold => (Millis::mins(10), Millis::mins(30)),
    };
    match age {
        age if age > crit => Level::Crit,
        age if age > warn => Level::Warn,
        _ => Level::Ok,
    }
}

/// Where scopes could go, as it was decided for the index that was asked about last: reads come
/// more often than entries, and a decision depends on nothing but the machine.
#[derive(Default)]
pub struct Decided(Mutex<(u64, BTreeMap<Question, Vec<Candidate>>)>);

type Question = (ScopeId, Option<OperatorId>);

/// Answers kept for one index: its scopes, for a handful of people.
const DECIDED_MAX: usize = 256;

impl Decided {
    fn candidates(
        &self,
        (machine, index): (&Machine, u64),
        scope: &Scope,
        by: Option<&OperatorId>,
    ) -> Vec<Candidate> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, answers) = &mut *kept;
        if *at != index || answers.len() > DECIDED_MAX {
            answers.clear();
            *at = index;
        }
        let question = (scope.id.clone(), by.cloned());
        answers.entry(question).or_insert_with(|| candidates(machine, scope, by)).clone()
    }
}

/// Where the scope could go, by the code that would decide it.
fn candidates(machine: &Machine, scope: &Scope, by: Option<&OperatorId>) -> Vec<Candidate> {
    let targets = scope.policy.members.iter().filter(|member| **member != scope.assigned);
    targets
        .map(|region| {
            let ask = Ask {
                kind: fitting_kind(machine, &scope.id, region),
                scope: scope.id.clone(),
                to: region.clone(),
                by: by.cloned(),
                promotion: None,
            };
            let (why, proof_age) = match decide(machine, &ask) {
                Ok(decision) => {
                    let first = decision.blocking().next().map(ToString::to_string);
                    (first, decision.predicates.iter().filter_map(|p| p.age).max())
                }
                Err(refusal) => (Some(refusal.to_string()), None),
            };
            Candidate { region: region.clone(), ready: why.is_none(), why, proof_age }
        })
        .collect()
}

fn forks(machine: &Machine, scope: &Scope) -> Vec<ForkStatus> {
    sinks_of(machine, &scope.id)
        .into_iter()
        .flat_map(|(region, (_, report))| {
            report.forks.iter().map(move |fork| ForkStatus {
                region: region.clone(),
                scope: scope.id.clone(),
                fork: fork.clone(),
            })
        })
        .collect()
}
