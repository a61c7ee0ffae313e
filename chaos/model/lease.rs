//! The lease model: holders with slow clocks, leaders with slow and fast ones, one scope.
//!
//! Real code: the machine, the keeper of each process, the step runner and directives. Around it: true
//! time in ticks, requests and answers that are lost, late, repeated and reordered, a log whose newest
//! entries a change of leader may lose, LogTime anchored anew by each leader, a second start of the
//! holder's identity, giving back, and a restore from a snapshot older than the grant.
//!
//! One region, so a lease moves by regrant: people and sinks have models of their own.

mod explore;
mod trace;

pub use trace::short;

use crate::clock::{self, Rate, boot_ns};
use crate::cluster::{Ahead, Applier, Cluster};
use crate::digest::Digested;
use crate::facts::{Fact, Facts};
use crate::mutants::Mutant;
use crate::setup;
use cryptorun_core::command::{Command, EndSession, OpenSession, Outcome, Release, Renew, Renewed};
use cryptorun_core::directive::{self, Want};
use cryptorun_core::keeper::Keeper;
use cryptorun_core::people::Actor;
use cryptorun_core::position::Position;
use cryptorun_core::report::{ScopeReport, Sealed, WorkerReport};
use cryptorun_core::scope::ScopeId;
use cryptorun_core::session::{SessionKey, WorkerAddresses};
use cryptorun_core::token::Token;
use std::collections::BTreeSet;
use std::sync::Arc;

/// How far the model goes. Everything else is free.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// Ticks of true time; a lease is four long.
    pub ticks: u8,
    /// Renewals each process may start: the holder, its second start, the other worker.
    pub renewals: [u8; 3],
    /// Whether the second start of the holder's identity opens a session.
    pub reopens: bool,
    /// Changes of leader.
    pub leaders: u8,
    /// Entries stamped but not committed.
    pub uncommitted: usize,
    /// Requests repeated on the way, and retries of a renewal.
    pub repeats: u8,
    /// Leases released and sessions ended.
    pub given: u8,
    /// Restores from the snapshot.
    pub restores: u8,
    /// Rates a leader's clock may have.
    pub leader_rates: Vec<Rate>,
}

/// The processes of the model: a holder, a second start of the same identity, another worker.
pub const PROCESSES: [(&str, u64); 3] = [("a", 1), ("a", 2), ("b", 1)];

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    pub tick: u8,
    pub cluster: Cluster,
    /// The leader's time, when there is a leader.
    pub leader: Option<Leader>,
    /// What the first leader's clock would show had it kept its anchor (mutant only).
    pub old_anchor: Option<i64>,
    pub pending: Vec<Stamped>,
    pub requests: BTreeSet<Request>,
    pub answers: Vec<Reply>,
    pub processes: [Process; 3],
    /// Tokens granted so far, with the tick of the grant's stamp.
    pub grants: Vec<(Token, u8)>,
    /// How the last lease ended.
    pub ended: Option<Ended>,
    /// LogTime that must pass after a restore before anything is granted.
    pub quarantine: u64,
    pub left: Left,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Leader {
    /// Its LogTime, as a distance from the machine's; behind it right after a change.
    pub ahead: i64,
    pub rate: Rate,
    /// Ticks since it read its clock first.
    pub since: u8,
}

/// An entry in the leader's log that is not committed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Stamped {
    pub ahead: i64,
    pub tick: u8,
    pub what: Proposal,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Proposal {
    Request(Request),
    Controller(Digested<Command>),
    Tick,
}

/// A message from a process, by its number in [`PROCESSES`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Request {
    Open(usize),
    Renew { from: usize, seq: u64, sealed: Option<Token> },
    Release { from: usize, token: Token },
    End(usize),
}

impl Request {
    fn from(&self) -> usize {
        match self {
            Self::Open(from) | Self::End(from) => *from,
            Self::Renew { from, .. } | Self::Release { from, .. } => *from,
        }
    }
}

/// An answer on its way to a worker.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reply {
    pub to: usize,
    pub renewed: Digested<Renewed>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Process {
    pub rate: Rate,
    pub opening: bool,
    pub keeper: Option<Digested<Keeper>>,
    /// As it was before the outstanding attempt (mutant only).
    pub unsent: Option<Digested<Keeper>>,
    /// The renewal that waits for its answer.
    pub outstanding: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ended {
    RanOut,
    GivenBack,
}

/// What is left of the bounds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Left {
    pub renewals: [u8; 3],
    pub leaders: u8,
    pub repeats: u8,
    pub given: u8,
    pub restores: u8,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// A tick of true time passes.
    Pass,
    /// A process opens its session.
    Open(usize),
    /// A process starts a renewal.
    Renew(usize),
    /// A process tries its renewal again.
    Retry(usize),
    /// The holder gives its lease back.
    Release(usize),
    /// A process drops what it has and ends its session.
    End(usize),
    /// A request reaches the leader, which stamps it.
    Receive { request: Request, again: bool },
    /// The leader proposes a tick.
    ProposeTick,
    /// The controller proposes.
    Propose(Digested<Command>),
    /// The oldest entry is committed and applied.
    Commit,
    /// An answer reaches a process.
    Answer { reply: Reply, to: usize },
    /// The leader is gone; of its entries the first ones survive.
    LoseLeader { keep: usize },
    /// Somebody else leads, or the same again.
    Lead { rate: Rate, again: bool },
    /// The cluster is restored from the snapshot taken before the first grant.
    Restore,
}

pub struct Lease {
    pub bounds: Bounds,
    pub mutant: Option<Mutant>,
    pub facts: Arc<Facts>,
    pub applier: Arc<Applier>,
    scope: ScopeId,
    snapshot: Cluster,
}

impl Lease {
    pub fn new(bounds: Bounds, mutant: Option<Mutant>) -> Self {
        let config = setup::one_region(clock::timing(mutant));
        let founded = setup::founded(config);
        Self {
            bounds,
            mutant,
            facts: Arc::default(),
            applier: Applier::new(mutant),
            scope: setup::warm(),
            snapshot: founded,
        }
    }

    fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    fn session(&self, process: usize) -> SessionKey {
        let (worker, boot) = PROCESSES[process];
        SessionKey { worker: worker.into(), boot }
    }

    fn actor(&self, process: usize) -> Actor {
        Actor::Worker(PROCESSES[process].0.to_owned())
    }

    fn apply(&self, state: &mut State, ahead: i64, actor: &Actor, command: &Command, tick: u8) {
        let before = state.cluster.clone();
        let step = self.applier.apply(&before, Ahead::both(ahead), actor, command);
        state.cluster = step.cluster;
        let moved = step.moved.cast_signed();
        state.leader.iter_mut().for_each(|leader| leader.ahead -= moved);
        state.old_anchor.iter_mut().for_each(|ahead| *ahead -= moved);
        state.pending.iter_mut().for_each(|entry| entry.ahead -= moved);
        state.quarantine = state.quarantine.saturating_sub(step.moved);
        self.watch(state, &before, command, tick);
        if let Ok(Outcome::Renewed(renewed)) = &*step.answer {
            let to = PROCESSES
                .iter()
                .position(|(worker, boot)| {
                    renewed.session.worker == *worker && renewed.session.boot == *boot
                })
                .unwrap_or_default();
            let mut renewed = renewed.clone();
            renewed.now = Default::default(); // For the worker's eyes; no keeper reads it.
            let reply = Reply { to, renewed: Digested::new(renewed) };
            if !state.answers.contains(&reply) {
                state.answers.push(reply);
                state.answers.sort_by_key(|reply| (reply.to, reply.renewed.digest()));
            }
        }
    }

    /// Ghosts: when which token was granted, and how the lease before it ended.
    fn watch(&self, state: &mut State, before: &Cluster, command: &Command, tick: u8) {
        let lease = |cluster: &Cluster| {
            cluster.machine().scopes()[&self.scope].lease.as_ref().map(|lease| lease.token)
        };
        let (was, is) = (lease(before), lease(&state.cluster));
        if was.is_some() && is != was {
            let given = matches!(command, Command::Release(_) | Command::EndSession(_));
            state.ended = Some(if given { Ended::GivenBack } else { Ended::RanOut });
        }
        if let Some(token) = is.filter(|token| was != Some(*token)) {
            state.grants.push((token, tick));
            match state.ended {
                Some(Ended::RanOut) => self.facts.reached(Fact::GrantAfterRunOut),
                Some(Ended::GivenBack) => self.facts.reached(Fact::GrantAfterGivingBack),
                None => {}
            }
        }
    }

    fn command(&self, request: &Request) -> Command {
        let session = self.session(request.from());
        match request {
            Request::Open(_) => Command::OpenSession(OpenSession {
                session,
                region: setup::regions()[0].clone(),
                addresses: WorkerAddresses::default(),
            }),
            Request::Renew { seq, sealed, .. } => {
                let report = ScopeReport {
                    highest: sealed.unwrap_or_default(),
                    sealed: sealed.map(|token| Sealed { token, end: Position::START }),
                    ..ScopeReport::default()
                };
                let scopes = [(self.scope.clone(), report)].into();
                let report = WorkerReport { scopes, ..WorkerReport::default() };
                Command::Renew(Renew { session, seq: *seq, report })
            }
            Request::Release { token, .. } => Command::Release(Release {
                session,
                scope: self.scope.clone(),
                token: *token,
                end: Position::START,
                keep_for: None,
            }),
            Request::End(_) => Command::EndSession(EndSession { session }),
        }
    }

    /// The token that the machine would have this session seal.
    fn to_seal(&self, cluster: &Cluster, process: usize) -> Option<Token> {
        directive::for_session(cluster.machine(), &self.session(process)).into_iter().find_map(
            |directive| match directive.want {
                Want::Seal { token } => Some(token),
                _ => None,
            },
        )
    }

    fn renew(&self, state: &mut State, from: usize) {
        let sealed = self.to_seal(&state.cluster, from);
        let process = &mut state.processes[from];
        let Some(keeper) = &process.keeper else { return };
        let now = boot_ns(process.rate, state.tick);
        let mut next = Keeper::clone(keeper);
        let seq = next.attempt(now);
        if self.is(Mutant::RetryResetsTime) {
            match &process.unsent {
                Some(unsent) if process.outstanding.is_some() => {
                    next = Keeper::clone(unsent);
                    next.attempt(now);
                }
                _ => process.unsent = Some(keeper.clone()),
            }
        }
        if !self.is(Mutant::DeadlineFromAnswer) {
            process.keeper = Some(Digested::new(next));
        }
        process.outstanding = Some(seq);
        state.requests.insert(Request::Renew { from, seq, sealed });
    }

    fn answered(&self, state: &mut State, reply: &Reply, to: usize) {
        let process = &mut state.processes[to];
        let Some(keeper) = &process.keeper else {
            if process.opening && reply.to == to && reply.renewed.seq == 0 {
                process.opening = false;
                let keeper = Keeper::new(clock::timing(self.mutant), &reply.renewed);
                process.keeper = Some(Digested::new(keeper));
            }
            return;
        };
        let mut keeper = Keeper::clone(keeper);
        let mut renewed = Renewed::clone(&reply.renewed);
        if self.is(Mutant::AnswerBySeqAlone) {
            renewed.cluster = keeper.cluster();
            renewed.session = keeper.session().clone();
        }
        if self.is(Mutant::DeadlineFromAnswer) {
            keeper.attempt(boot_ns(process.rate, state.tick));
        }
        if self.is(Mutant::LateAnswerRevives) {
            for lease in &renewed.extended {
                keeper.refused(&lease.scope, lease.token);
            }
        }
        if keeper.answered(&renewed) {
            process.outstanding = None;
            process.unsent = None;
            process.keeper = Some(Digested::new(keeper));
        }
    }

    /// Whether the process would act at this moment.
    fn acts(&self, state: &State, process: usize) -> Option<Token> {
        let process = &state.processes[process];
        let keeper = process.keeper.as_ref()?;
        if self.is(Mutant::ActWithoutDeadline) {
            return keeper.held(&self.scope).map(|held| held.token);
        }
        keeper.may_act(&self.scope, boot_ns(process.rate, state.tick))
    }

    fn stamp(&self, leader: &Leader, what: &Proposal) -> i64 {
        let renewal = matches!(what, Proposal::Request(Request::Renew { .. }));
        let early = self.is(Mutant::StampBeforeReceipt) && renewal && leader.since > 0;
        leader.ahead - if early { leader.rate.ms().cast_signed() } else { 0 }
    }

    fn append(&self, state: &mut State, what: Proposal) {
        let Some(leader) = &state.leader else { return };
        let stamped = Stamped { ahead: self.stamp(leader, &what), tick: state.tick, what };
        state.pending.push(stamped);
    }

    fn commit(&self, state: &mut State) {
        if state.pending.is_empty() {
            return;
        }
        let entry = state.pending.remove(0);
        let (actor, command) = match &entry.what {
            Proposal::Request(request) => (self.actor(request.from()), self.command(request)),
            Proposal::Controller(command) => (Actor::Controller, Command::clone(command)),
            Proposal::Tick => (Actor::Node(1), Command::Tick),
        };
        self.apply(state, entry.ahead, &actor, &command, entry.tick);
    }

    /// A new leader's first entry comes behind all that survived; then it reads its clock.
    fn lead(&self, state: &mut State, rate: Rate, again: bool) {
        while !state.pending.is_empty() {
            self.commit(state);
        }
        let mut ahead = 0;
        if self.is(Mutant::ClockBeforeBase) {
            ahead = i64::from(state.tick) * rate.ms().cast_signed();
        }
        if let Some(old) = state.old_anchor.filter(|_| again) {
            ahead = old;
        }
        state.leader = Some(Leader { ahead, rate, since: 0 });
    }

    fn restore(&self, state: &mut State) {
        self.facts.reached(Fact::Restore);
        state.cluster = setup::restored(&self.snapshot);
        state.pending.clear();
        state.grants.clear(); // Of the old cluster's tokens; what its holders still hold is judged.
        state.ended = None;
        state.quarantine = match self.is(Mutant::RestoreGrantsAtOnce) {
            true => 0,
            false => clock::timing(self.mutant).run_out().0,
        };
        let rate = state.leader.map_or(Rate::Fast, |leader| leader.rate);
        state.leader = Some(Leader { ahead: 0, rate, since: 0 });
    }

    /// Answers that no keeper will ever take are as good as lost.
    fn forget_stale(&self, state: &mut State) {
        if self.is(Mutant::AnswerBySeqAlone) {
            return;
        }
        let processes = &state.processes;
        state.answers.retain(|reply| {
            let process = &processes[reply.to];
            process.outstanding == Some(reply.renewed.seq)
                || (process.opening && reply.renewed.seq == 0)
        });
    }
}
