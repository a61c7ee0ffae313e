//! The people model: requests, approvals, denials and time, around promotions that really run.
//!
//! Real code: the machine with everything an approval binds, the step runner, the keeper, directives.
//! Workers are obedient and level, with empty chains: what sinks do has a model of its own. Three
//! people ask, approve, deny and cancel in any order, several requests wait at once, workers leave,
//! and LogTime and the leader's wall clock pass the end of an approval together or alone.

mod explore;
mod trace;

use crate::cluster::{Ahead, Applier, Cluster, Step};
use crate::digest::Digested;
use crate::facts::{Fact, Facts};
use crate::mutants::Mutant;
use crate::setup;
use cryptorun_core::command::{
    Command, EndSession, Handover, OpenSession, Outcome, Release, Renew,
};
use cryptorun_core::config::Limits;
use cryptorun_core::directive::{self, HandOver, Want};
use cryptorun_core::keeper::Keeper;
use cryptorun_core::people::{Actor, OperatorId};
use cryptorun_core::plan::Step as PlanStep;
use cryptorun_core::position::{Hash as Digest, Position};
use cryptorun_core::promotion::{
    Outcome as PromotionOutcome, Promotion, PromotionId, State as Stage,
};
use cryptorun_core::region::RegionName;
use cryptorun_core::report::{ScopeReport, Sealed, WorkerReport};
use cryptorun_core::scope::{Role, Scope, ScopeId};
use cryptorun_core::session::{SessionKey, WorkerAddresses};
use cryptorun_core::time::{Millis, Profile, Timing, WallTime};
use cryptorun_core::token::Token;
use std::collections::BTreeSet;
use std::sync::Arc;

/// How far the model goes. Everything else is free.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// Requests that people make.
    pub asks: u8,
    /// Approvals that people send, accepted or not.
    pub approvals: u8,
    /// Denials and withdrawals.
    pub noes: u8,
    /// Times that half an approval's span passes: on both clocks, in the log alone, on the wall alone.
    pub waits: u8,
    /// Workers that leave.
    pub leaves: u8,
}

/// Half of what an approval lasts, and a bit.
const WAIT: Millis = Millis::mins(16);

/// Sessions outlast every wait: who holds is not this model's question.
fn timing() -> Timing {
    Timing { ttl: Millis::mins(24 * 60), ..Timing::of(Profile::Wan) }
}

fn limits() -> Limits {
    Limits {
        report_fresh: Millis::mins(24 * 60),
        detection: Millis::mins(24 * 60),
        cooldown: Millis::ZERO,
        regrant_window: Millis::ZERO,
        ..Limits::default()
    }
}

/// Those who send commands, by certificate; the last is a second handle of the first human, which no
/// configuration but a mutant's knows.
pub const HANDLES: [(&str, &str); 4] =
    [("ana", "ana"), ("ben", "ben"), ("eve", "eve"), ("ana-2", "ana")];

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    pub cluster: Cluster,
    pub workers: [Option<Worker>; 3],
    pub requests: Vec<Request>,
    /// What a grant or an approval broke, if it did.
    pub wrong: Option<Wrong>,
    pub left: Left,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Worker {
    pub keeper: Digested<Keeper>,
    /// The token it writes or follows under.
    pub token: Token,
    /// Records in its sink: each reign's opening one, level everywhere.
    pub records: u64,
    pub sealed: Option<Token>,
    pub stopped: bool,
}

/// The position behind so many records.
fn position(records: u64) -> Position {
    let mut hash = [0; 32];
    hash[..8].copy_from_slice(&records.to_le_bytes());
    Position { seq: records, hash: Digest(hash) }
}

/// What people did about one promotion, as somebody beside the cluster would note it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Request {
    pub id: u64,
    pub to: usize,
    /// Humans behind it, with the scope's assignment version when they said so.
    pub behind: BTreeSet<(&'static str, u64)>,
    /// Spans that passed since it was opened: in the log, on the wall.
    pub age: (u8, u8),
    /// Somebody said no before it had a token.
    pub refused: bool,
    pub granted: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wrong {
    TooFewPeople,
    OtherFacts,
    TooLate,
    UsedTwice,
    AgainstANo,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Left {
    pub asks: u8,
    pub approvals: u8,
    pub noes: u8,
    pub waits: u8,
    pub leaves: u8,
}

pub struct People {
    pub bounds: Bounds,
    pub mutant: Option<Mutant>,
    pub facts: Arc<Facts>,
    pub applier: Arc<Applier>,
    scope: ScopeId,
}

impl People {
    pub fn new(bounds: Bounds, mutant: Option<Mutant>) -> Self {
        Self {
            bounds,
            mutant,
            facts: Arc::default(),
            applier: Applier::new(mutant),
            scope: setup::warm(),
        }
    }

    fn scope<'a>(&self, cluster: &'a Cluster) -> &'a Scope {
        &cluster.machine().scopes()[&self.scope]
    }

    fn apply(&self, state: &mut State, ahead: Ahead, actor: &Actor, command: &Command) -> Step {
        let before = state.cluster.clone();
        let step = self.applier.apply(&before, ahead, actor, command);
        state.cluster = step.cluster.clone();
        self.judge_grant(state, &before);
        step
    }

    fn now(&self, state: &mut State, actor: &Actor, command: &Command) -> Step {
        self.apply(state, Ahead::default(), actor, command)
    }

    /// Whether a grant that moved the scope had what it needs.
    fn judge_grant(&self, state: &mut State, before: &Cluster) {
        let (was, is) = (self.scope(before), self.scope(&state.cluster));
        let done = |p: &Promotion| p.state == Stage::Ended(PromotionOutcome::Done);
        if state.cluster.machine().promotions().values().any(done) {
            self.facts.reached(Fact::SwitchoverDone);
        }
        if is.history.len() == was.history.len() {
            return;
        }
        let Some(id) = is.reign().and_then(|reign| reign.promotion) else { return };
        self.facts.reached(Fact::SwitchoverGranted);
        let version = was.assignment_version;
        let Some(request) = state.requests.iter_mut().find(|request| request.id == id.0) else {
            return;
        };
        let humans: BTreeSet<&str> = request.behind.iter().map(|(human, _)| *human).collect();
        let wrong = if humans.len() < 2 {
            Some(Wrong::TooFewPeople)
        } else if request.granted {
            Some(Wrong::UsedTwice)
        } else if request.refused {
            Some(Wrong::AgainstANo)
        } else if request.behind.iter().any(|(_, bound)| *bound != version) {
            Some(Wrong::OtherFacts)
        } else {
            None
        };
        request.granted = true;
        state.wrong = state.wrong.or(wrong);
    }

    /// Each worker does what it is told and says so, then the controller proposes.
    fn work(&self, state: &mut State) {
        for at in 0..state.workers.len() {
            self.obey(state, at);
            self.renew(state, at);
        }
        for command in state.cluster.clone().advance() {
            self.now(state, &Actor::Controller, command);
        }
    }

    fn obey(&self, state: &mut State, at: usize) {
        let Some(worker) = &mut state.workers[at] else { return };
        let session = worker.keeper.session().clone();
        let directives = directive::for_session(state.cluster.machine(), &session);
        for directive in directives {
            match directive.want {
                Want::Idle | Want::FetchTail { .. } => {}
                Want::Primary { token, start } => {
                    (worker.sealed, worker.stopped) = (None, false);
                    let holds = worker.keeper.may_act(&self.scope, 0) == Some(token);
                    if holds && worker.token < token {
                        (worker.token, worker.records) = (token, start.seq + 1);
                    }
                }
                Want::Replica { upstream, token } => {
                    return self.follow(state, at, upstream.as_ref(), token);
                }
                Want::Drain { .. } => worker.stopped = true,
                Want::Seal { token } => worker.sealed = Some(token),
                Want::HandOver(HandOver { promotion, token, end, seal }) => {
                    worker.sealed = seal.or(worker.sealed);
                    let mut keeper = Keeper::clone(&worker.keeper);
                    if keeper.give_up(&self.scope).is_none() {
                        return;
                    }
                    worker.keeper = Digested::new(keeper);
                    let session = session.clone();
                    let handover = Handover { session, promotion, token, end };
                    let actor = Actor::Worker(handover.session.worker.to_string());
                    let step = self.now(state, &actor, &Command::Handover(handover));
                    if let (Err(_), Some(worker)) = (&*step.answer, &mut state.workers[at]) {
                        let mut keeper = Keeper::clone(&worker.keeper);
                        keeper.refused(&self.scope, token);
                        worker.keeper = Digested::new(keeper);
                    }
                    return;
                }
            }
        }
    }

    /// Follows; a lease that is still held, doomed by a token above its own, is given back.
    fn follow(&self, state: &mut State, at: usize, upstream: Option<&RegionName>, token: Token) {
        let up = upstream.and_then(|name| setup::regions().iter().position(|r| r == name));
        let level = up.and_then(|up| state.workers[up].as_ref()).map(|worker| worker.records);
        let Some(worker) = &mut state.workers[at] else { return };
        (worker.sealed, worker.stopped) = (None, false);
        worker.token = worker.token.max(token);
        worker.records = level.unwrap_or(worker.records);
        let mut keeper = Keeper::clone(&worker.keeper);
        let Some(held) = keeper.give_up(&self.scope) else { return };
        let session = keeper.session().clone();
        let (scope, end) = (self.scope.clone(), position(worker.records));
        worker.keeper = Digested::new(keeper);
        let actor = Actor::Worker(session.worker.to_string());
        let release = Release { session, scope, token: held, end, keep_for: None };
        self.now(state, &actor, &Command::Release(release));
    }

    fn renew(&self, state: &mut State, at: usize) {
        let Some(worker) = &state.workers[at] else { return };
        let token = worker.keeper.may_act(&self.scope, 0);
        let report = ScopeReport {
            role: if token.is_some() { Role::Primary } else { Role::Replica },
            token: worker.token,
            highest: worker.sealed.unwrap_or(worker.token),
            end: position(worker.records),
            sealed: worker.sealed.map(|token| Sealed { token, end: position(worker.records) }),
            barrier: worker.stopped.then_some(position(worker.records)),
            first_visible: token.map(|_| WallTime(0)),
            ..ScopeReport::default()
        };
        let known = state.cluster.machine().sessions().get(worker.keeper.session());
        let same =
            known.is_some_and(|session| session.report.scopes.get(&self.scope) == Some(&report));
        let listed = state
            .cluster
            .machine()
            .live_lease(&self.scope)
            .filter(|lease| lease.holder == *worker.keeper.session())
            .is_some_and(|lease| lease.withheld_from.is_none());
        if same && (!listed || token.is_some()) {
            return; // Nothing new on either side.
        }
        let mut keeper = Keeper::clone(&worker.keeper);
        let session = keeper.session().clone();
        let seq = keeper.attempt(0);
        let actor = Actor::Worker(session.worker.to_string());
        let scopes = [(self.scope.clone(), report)].into();
        let report = WorkerReport { scopes, ..WorkerReport::default() };
        let step = self.now(state, &actor, &Command::Renew(Renew { session, seq, report }));
        if let (Ok(Outcome::Renewed(renewed)), Some(worker)) =
            (&*step.answer, &mut state.workers[at])
        {
            keeper.answered(renewed);
            worker.keeper = Digested::new(keeper);
        }
    }

    fn open(&self, state: &mut State, at: usize) {
        let region = setup::regions()[at].clone();
        let session = SessionKey { worker: region.0.clone(), boot: 1 };
        let actor = Actor::Worker(region.to_string());
        let addresses = WorkerAddresses::default();
        let open = Command::OpenSession(OpenSession { session, region, addresses });
        let step = self.now(state, &actor, &open);
        if let Ok(Outcome::Renewed(renewed)) = &*step.answer {
            let keeper = Digested::new(Keeper::new(timing(), renewed));
            state.workers[at] = Some(Worker {
                keeper,
                token: Token::NONE,
                records: 0,
                sealed: None,
                stopped: false,
            });
        }
    }

    fn leave(&self, state: &mut State, at: usize) {
        let Some(worker) = state.workers[at].take() else { return };
        let session = worker.keeper.session().clone();
        let actor = Actor::Worker(session.worker.to_string());
        self.now(state, &actor, &Command::EndSession(EndSession { session }));
    }

    fn person(handle: usize) -> Actor {
        Actor::Person(OperatorId::from(HANDLES[handle].0))
    }

    /// Notes an accepted yes, and whether it came in time.
    fn note_yes(&self, state: &mut State, id: PromotionId, handle: usize) {
        let version = self.scope(&state.cluster).assignment_version;
        let Some(request) = state.requests.iter_mut().find(|request| request.id == id.0) else {
            return;
        };
        request.behind.insert((HANDLES[handle].1, version));
        if request.age.0 >= 2 || request.age.1 >= 2 {
            state.wrong = state.wrong.or(Some(Wrong::TooLate));
        }
    }
}

/// Whether a promotion still waits for people or may be stopped by one.
fn is_open(promotion: &Promotion) -> bool {
    match promotion.state {
        Stage::Waiting => true,
        Stage::Running => promotion.step(PlanStep::Reserve).is_some() && promotion.token.is_none(),
        Stage::Ended(_) => false,
    }
}
