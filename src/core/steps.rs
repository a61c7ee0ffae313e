//! The step runner: what the leader's controller should propose next. Pure over the machine.
//!
//! Called by the leader of the moment after every applied entry and every second. It keeps nothing:
//! whoever leads next computes the same from the same machine, so a promotion goes on after any
//! change of leader. Proposing a command twice is harmless, `apply` refuses the second.
//!
//! Next: `machine/promotions.rs` for what each step must show before it counts as done.

use crate::command::{
    Answer, Command, Done, Entry, Grant, RequestPromotion, Reserve, Rollback, StepDone, StepFailed,
    StepStarted,
};
use crate::decide::{self, Ask, Choice};
use crate::diagnose::{self, Diagnosis};
use crate::machine::Machine;
use crate::people::Actor;
use crate::plan::Step;
use crate::promotion::{Kind, Promotion, State, StepRecord, StepState};
use crate::region::RegionName;
use crate::scope::{Mode, Phase, Reservation, Role, Scope};
use crate::session::{Session, SessionKey};
use crate::time::Millis;
use std::borrow::Cow;
use std::sync::Arc;

/// How long a regrant's own sink may take to seal before it is tried anew.
const REGRANT_SEAL_MAX: Millis = Millis::secs(30);
/// How long a drain waits for a second replica once the target has the barrier.
const SECOND_REPLICA_WAIT: Millis = Millis::secs(5);
/// How long `validate` waits for the other sinks to follow.
const VALIDATE_WAIT: Millis = Millis::secs(20);

/// What to propose now, as [`crate::people::Actor::Controller`].
pub fn advance(machine: &Machine) -> Vec<Command> {
    let mut commands = Vec::new();
    for scope in machine.scopes().values() {
        let running = machine
            .promotions()
            .values()
            .filter(|p| p.scope == scope.id && p.state == State::Running);
        let mut moving = false;
        for promotion in running {
            moving |= !promotion.is_past_grant();
            commands.extend(drive(machine, scope, promotion));
        }
        if !moving {
            commands.extend(regrant(machine, scope));
            commands.extend(ask(machine, scope));
        }
    }
    commands
}

/// Whether a promotion runs and has not made its grant: nobody writes, or soon nobody will, and what
/// workers report is waited for.
pub fn is_under_way(machine: &Machine) -> bool {
    machine.promotions().values().any(|p| p.state == State::Running && !p.is_past_grant())
}

/// Longest chain that [`ahead`] follows; a promotion's own between two answers of workers has six.
const AHEAD_MAX: usize = 16;

/// What `next` wants now, and what it would want after that if nothing came between: all of it may be
/// proposed at once, in this order, so that a chain of steps takes one commit and not one each.
///
/// While a promotion is under way the same goes for what the leader has appended already and not yet
/// seen committed, `in_flight`: what a report allows is proposed behind it, and both take one commit.
///
/// What is added is what a copy of the machine took. Where the true one has moved meanwhile, it
/// refuses what does not fit any more, as it refuses a leader that is late; and what stands behind
/// an entry in the log is lost with it.
pub fn ahead<'a>(
    machine: &Machine,
    index: u64,
    in_flight: impl IntoIterator<Item = &'a Arc<Entry>>,
    next: impl Fn(&Machine) -> Vec<Command>,
) -> Vec<Command> {
    let mut ahead = Cow::Borrowed(machine);
    if is_under_way(machine) {
        for entry in in_flight.into_iter().filter(|entry| machine.may_stir(&entry.command)) {
            ahead.to_mut().apply(index, entry);
        }
    }
    let mut wanted = next(&ahead);
    let mut proposed = Vec::new();
    for round in 0..AHEAD_MAX {
        let before = proposed.len();
        for command in wanted {
            let taken = take(ahead.to_mut(), index, &command).is_ok();
            if taken || round == 0 {
                proposed.push(command);
            }
        }
        if proposed.len() == before {
            break;
        }
        wanted = next(&ahead);
        wanted.retain(|command| !proposed.contains(command));
    }
    proposed
}

/// Applies a command as the controller's, at the machine's own time.
pub(crate) fn take(machine: &mut Machine, index: u64, command: &Command) -> Answer {
    let (stamp, command) = (machine.now(), command.clone());
    let entry = Entry { stamp, actor: Actor::Controller, via: None, request: None, command };
    machine.apply(index, &entry).answer
}

/// A grant inside the assigned region: reserve, let its sink seal itself, grant.
fn regrant(machine: &Machine, scope: &Scope) -> Option<Command> {
    if let Some(reservation) = &scope.reservation {
        return finish_regrant(machine, scope, reservation);
    }
    if scope.phase != Phase::Vacant || scope.lease.is_some() || scope.moving.is_some() {
        return None;
    }
    let (session, report) = machine.sink_of(&scope.assigned, &scope.id)?;
    machine.may_grant().ok()?;
    machine.furthest_after_restore(scope, session).ok()?;
    let known = scope.last_known.as_ref().filter(|known| known.region == scope.assigned);
    if report.highest > scope.highest || known.is_some_and(|known| report.end.seq < known.end.seq) {
        return None; // Its sink is not what it was: this takes people.
    }
    let limits = machine.limits();
    let now = machine.now().log;
    let recent = scope.regrants.iter().filter(|at| now.since(**at) < limits.regrant_window).count();
    if recent >= limits.regrant_max as usize {
        return None;
    }
    Some(Command::Reserve(Reserve {
        scope: scope.id.clone(),
        promotion: None,
        candidate: session.key.clone(),
    }))
}

fn finish_regrant(machine: &Machine, scope: &Scope, reservation: &Reservation) -> Option<Command> {
    if reservation.promotion.is_some() {
        return None;
    }
    let waited = machine.now().log.since(reservation.at);
    let gone = machine.live_session(&reservation.candidate).is_none();
    if gone || waited > REGRANT_SEAL_MAX {
        let why = if gone { "its worker is gone" } else { "its sink did not seal in time" };
        return Some(Command::Rollback(Rollback {
            scope: scope.id.clone(),
            promotion: None,
            why: why.to_owned(),
        }));
    }
    let sealed = machine.seals(scope, reservation).contains_key(&reservation.region);
    let ready = sealed && scope.lease.is_none();
    ready.then(|| Command::Grant(Grant { scope: scope.id.clone(), token: reservation.token }))
}

/// Opens a request when the holder is lost or does nothing, and again when one expired while the cause lasts.
fn ask(machine: &Machine, scope: &Scope) -> Option<Command> {
    let waiting = machine
        .promotions()
        .values()
        .any(|p| p.scope == scope.id && p.state == State::Waiting && p.kind != Kind::Switchover);
    if waiting {
        return None;
    }
    let Wanted { kind, to, cause } = wanted(machine, scope)?;
    Some(Command::RequestPromotion(RequestPromotion {
        kind,
        scope: scope.id.clone(),
        from: Some(scope.assigned.clone()),
        to,
        reason: Some(cause.sentence()),
        plan: None,
    }))
}

/// A move that the controller would ask people for.
pub struct Wanted {
    /// Kind.
    pub kind: Kind,
    /// Where to.
    pub to: RegionName,
    /// By what.
    pub cause: Diagnosis,
}

/// What the controller would ask for now, whatever waits already.
pub fn wanted(machine: &Machine, scope: &Scope) -> Option<Wanted> {
    if scope.mode == Mode::Observe || scope.policy.members.len() < 2 {
        return None;
    }
    let cause = diagnose::cause(machine, scope).filter(|found| found.confirmed)?;
    let (kind, to) = best_candidate(machine, scope)?;
    Some(Wanted { kind, to, cause })
}

/// Where the controller would go: a failover before an emergency, then the most data, then the
/// order in which configuration names the regions.
fn best_candidate(machine: &Machine, scope: &Scope) -> Option<(Kind, RegionName)> {
    let mut found: Vec<_> = Vec::new();
    for kind in [Kind::Failover, Kind::Emergency] {
        for (rank, to) in
            scope.policy.members.iter().enumerate().filter(|(_, to)| **to != scope.assigned)
        {
            let ask =
                Ask { kind, scope: scope.id.clone(), to: to.clone(), by: None, promotion: None };
            let goes = decide::decide(machine, &ask).is_ok_and(|d| d.choice != Choice::Refuse);
            if goes {
                let end = machine.sink_of(to, &scope.id).map_or(0, |(_, report)| report.end.seq);
                found.push((kind, std::cmp::Reverse(end), rank, to.clone()));
            }
        }
    }
    found.sort();
    found.into_iter().next().map(|(kind, _, _, to)| (kind, to))
}

/// The next command of a running promotion.
fn drive(machine: &Machine, scope: &Scope, promotion: &Promotion) -> Option<Command> {
    let record = promotion.current()?;
    if record.state == StepState::Pending {
        if record.step == Step::Drain && machine.live_lease(&scope.id).is_none() {
            // Nobody is left to stop, and waiting would keep the scope from being granted anew.
            return Some(Command::Rollback(Rollback {
                scope: scope.id.clone(),
                promotion: Some(promotion.id),
                why: "the holder's lease ended before it was asked to stop".to_owned(),
            }));
        }
        return Some(Command::StepStarted(StepStarted {
            promotion: promotion.id,
            step: record.step,
            attempt: record.attempt,
        }));
    }
    let run = Run { machine, scope, promotion, record };
    match record.step {
        Step::Preflight => run.preflight(),
        Step::Drain => run.drain(),
        Step::Reserve => run.reserve(),
        Step::Seal => run.seal(),
        Step::FetchTail => run.fetch_tail(),
        Step::Grant => run.grant(),
        Step::Activate => run.activate(),
        Step::InvalidateCaches => Some(run.skip("no cache is configured")),
        Step::Redirect => Some(run.skip("no driver is configured")),
        Step::Validate => run.validate(),
        Step::Report => Some(run.done(run.summary())),
    }
}

/// One step of one promotion at the machine's time.
struct Run<'a> {
    machine: &'a Machine,
    scope: &'a Scope,
    promotion: &'a Promotion,
    record: &'a StepRecord,
}

impl<'a> Run<'a> {
    fn done(&self, note: String) -> Command {
        self.ended(Done::Note(note))
    }

    fn skip(&self, why: &str) -> Command {
        self.ended(Done::Skipped(why.to_owned()))
    }

    fn ended(&self, done: Done) -> Command {
        Command::StepDone(StepDone {
            promotion: self.promotion.id,
            step: self.record.step,
            attempt: self.record.attempt,
            done,
        })
    }

    fn failed(&self, why: impl Into<String>) -> Command {
        Command::StepFailed(StepFailed {
            promotion: self.promotion.id,
            step: self.record.step,
            attempt: self.record.attempt,
            why: why.into(),
        })
    }

    /// How long the step has been going on.
    fn took(&self) -> Millis {
        self.record.started.map_or(Millis::ZERO, |at| self.machine.now().log.since(at.log))
    }

    fn is_late(&self) -> bool {
        if crate::seeded_bug::is("step_never_late") {
            return false;
        }
        let run_out = self.machine.timing().map(|timing| timing.run_out()).unwrap_or_default();
        self.took() > self.record.step.deadline(run_out)
    }

    fn late(&self, what: &str) -> Option<Command> {
        self.is_late().then(|| self.failed(format!("{what} within {}", self.took())))
    }

    fn sink(&self, region: &RegionName) -> Option<(&'a Session, &'a crate::report::ScopeReport)> {
        self.machine.sink_of(region, &self.scope.id)
    }

    fn candidate(&self) -> Option<SessionKey> {
        self.sink(&self.promotion.to).map(|(session, _)| session.key.clone())
    }

    fn preflight(&self) -> Option<Command> {
        let decision = match decide::decide(self.machine, &Ask::of(self.promotion)) {
            Ok(decision) => decision,
            Err(refusal) => return Some(self.failed(refusal.to_string())),
        };
        let blocking: Vec<String> = decision.blocking().map(ToString::to_string).collect();
        match blocking.is_empty() {
            true => Some(self.done(format!("{} predicates hold", decision.predicates.len()))),
            // A blink of a worker must not throw away what people agreed to.
            false => self.is_late().then(|| self.failed(blocking.join("; "))),
        }
    }

    fn drain(&self) -> Option<Command> {
        if self.machine.live_lease(&self.scope.id).is_none() {
            return Some(self.failed("the holder's lease ran out"));
        }
        let barrier = self.sink(&self.promotion.from).and_then(|(_, report)| report.barrier);
        let Some(barrier) = barrier else { return self.late("no barrier") };
        let has = |region: &RegionName| self.sink(region).is_some_and(|(_, r)| r.end == barrier);
        let mut seconds = self
            .scope
            .policy
            .members
            .iter()
            .filter(|r| **r != self.promotion.from && **r != self.promotion.to)
            .filter(|r| self.sink(r).is_some())
            .peekable();
        let second =
            seconds.peek().is_none() || seconds.any(has) || self.took() > SECOND_REPLICA_WAIT;
        if has(&self.promotion.to) && second {
            return Some(self.ended(Done::Barrier(barrier)));
        }
        self.late("the barrier did not reach the target")
    }

    fn reserve(&self) -> Option<Command> {
        if self.scope.reservation.as_ref().is_some_and(|r| r.promotion.is_none()) {
            // A regrant was under way when people agreed: theirs goes first.
            return Some(Command::Rollback(Rollback {
                scope: self.scope.id.clone(),
                promotion: None,
                why: format!("{} goes first", self.promotion.id),
            }));
        }
        match self.candidate() {
            Some(candidate) if !self.is_late() => Some(Command::Reserve(Reserve {
                scope: self.scope.id.clone(),
                promotion: Some(self.promotion.id),
                candidate,
            })),
            _ => self.late("no token could be reserved"),
        }
    }

    fn reservation(&self) -> Option<&'a Reservation> {
        self.scope.reservation.as_ref().filter(|r| r.promotion == Some(self.promotion.id))
    }

    fn seal(&self) -> Option<Command> {
        let Some(reservation) = self.reservation() else {
            return Some(self.failed("its reservation is gone"));
        };
        if self.machine.live_session(&reservation.candidate).is_none() {
            return Some(self.failed("the candidate is gone"));
        }
        let ends = self.machine.seals(self.scope, reservation);
        let from = &self.promotion.from;
        let planned = self.promotion.kind == Kind::Switchover;
        if planned && !ends.contains_key(from) && self.sink(from).is_none() {
            // Behind its barrier it may go on by its own clock: zero loss cannot be promised.
            return Some(self.failed("the holder fell silent before its sink was sealed"));
        }
        // A required sink whose region fell silent meanwhile is listed, not waited for.
        let (waiting, silent): (Vec<_>, Vec<_>) = reservation
            .required
            .iter()
            .filter(|region| !ends.contains_key(*region))
            .cloned()
            .partition(|region| self.sink(region).is_some() || *region == reservation.region);
        if waiting.is_empty() && ends.len() >= self.scope.policy.sinks_needed() {
            return Some(self.ended(Done::Sealed { ends: Vec::new(), unsealed: silent }));
        }
        self.late("sinks did not seal")
    }

    fn fetch_tail(&self) -> Option<Command> {
        let Some(reservation) = self.reservation() else {
            return Some(self.failed("its reservation is gone"));
        };
        let tail = reservation.tail();
        let before = reservation.sealed.get(&reservation.region).copied().unwrap_or_default();
        let Some(session) = self.machine.live_session(&reservation.candidate) else {
            return Some(self.failed("the candidate is gone"));
        };
        let has = session.report.scopes.get(&self.scope.id).map(|r| r.end).unwrap_or_default();
        if has == tail {
            let fetched = tail.seq.saturating_sub(before.seq);
            return Some(self.done(format!("{fetched} records")));
        }
        self.late("the tail was not fetched")
    }

    fn grant(&self) -> Option<Command> {
        let Some(reservation) = self.reservation() else {
            return Some(self.failed("its reservation is gone"));
        };
        if self.machine.live_session(&reservation.candidate).is_none() {
            return Some(self.failed("the candidate is gone"));
        }
        match self.scope.lease {
            // The holder hands over by itself, or its lease ends.
            Some(_) => self.late("the old lease did not end"),
            None if self.is_late() => self.late("no grant"),
            None => Some(Command::Grant(Grant {
                scope: self.scope.id.clone(),
                token: reservation.token,
            })),
        }
    }

    fn activate(&self) -> Option<Command> {
        let token = self.promotion.token?;
        let (session, report) = self.sink(&self.promotion.to)?;
        let writes =
            report.role == Role::Primary && report.token >= token && report.first_visible.is_some();
        writes.then(|| self.done(format!("{} writes under {}", session.key.worker, report.token)))
    }

    fn validate(&self) -> Option<Command> {
        let token = self.promotion.token?;
        let start = self.promotion.start?;
        let others =
            || self.scope.policy.members.iter().filter(|region| **region != self.promotion.to);
        let follows = |region: &&RegionName| {
            self.sink(region).is_some_and(|(_, report)| {
                report.token >= token && report.end.seq > start.seq && report.role != Role::Fenced
            })
        };
        let behind: Vec<String> =
            others().filter(|region| !follows(region)).map(ToString::to_string).collect();
        if behind.is_empty() {
            return Some(self.done("every sink follows".to_owned()));
        }
        let reachable = others().filter(|r| self.sink(r).is_some()).any(|r| !follows(&r));
        let waited_enough = self.took() > VALIDATE_WAIT;
        (!reachable || waited_enough)
            .then(|| self.done(format!("not following yet: {}", behind.join(", "))))
    }

    fn summary(&self) -> String {
        let measured = &self.promotion.measured;
        let pause = measured.write_pause_ms.map(|ms| format!("write pause {}", Millis(ms)));
        let moved = measured.move_ms.map(|ms| format!("moved in {}", Millis(ms)));
        let parts: Vec<String> = [pause, moved, Some(format!("loss {}", self.promotion.loss))]
            .into_iter()
            .flatten()
            .collect();
        parts.join(", ")
    }
}
