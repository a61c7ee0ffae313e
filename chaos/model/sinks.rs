//! The sinks model: three regions with a sink each, a fence, promotions, and no clock to lean on.
//!
//! Real code: the machine, the keeper, the step runner with its decisions, directives. Workers and
//! sinks are the model's: they obey the directives and keep the contract of `docs/safety.md`, the
//! fence. Workers' clocks stand still, so a process may believe in its lease for as long as it likes:
//! what holds here holds whatever clocks and pauses do.
//!
//! Time passes for the log alone, in turns of half a run-out: whoever is not silent renews.

mod explore;
mod obey;
mod trace;

use crate::cluster::{Ahead, Applier, Cluster, Step};
use crate::digest::Digested;
use crate::facts::{Fact, Facts};
use crate::mutants::Mutant;
use crate::setup;
use cryptorun_core::command::{
    Command, Handover, OpenSession, Outcome, Release, Renew, Renewed, Report,
};
use cryptorun_core::config::Limits;
use cryptorun_core::keeper::Keeper;
use cryptorun_core::path::Path;
use cryptorun_core::people::Actor;
use cryptorun_core::position::{Hash as RecordHash, Position};
use cryptorun_core::promotion::{Kind, PromotionId};
use cryptorun_core::report::{RegionReport, ScopeReport, Sealed, WorkerReport};
use cryptorun_core::scope::{Mode, Reign, Role, Scope, ScopeId};
use cryptorun_core::session::{SessionKey, WorkerAddresses};
use cryptorun_core::time::{Millis, Profile, Timing, WallTime};
use cryptorun_core::token::Token;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// How far the model goes. Everything else is free.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// Records a primary may write, its opening ones aside.
    pub writes: u8,
    /// Turns of LogTime; a lease runs out in two.
    pub turns: u8,
    /// Workers that may fall silent: their renewals do not arrive, their streams do.
    pub silences: u8,
    /// Which workers may.
    pub may_be_silent: Vec<usize>,
    /// Silent workers that come back.
    pub returns: u8,
    /// Crashes of a worker; its disk stays.
    pub crashes: u8,
    /// Whose.
    pub may_crash: Vec<usize>,
    /// Switchovers to the second region that a person asks for.
    pub switchovers: u8,
    /// Drained holders that go on by their own clock.
    pub resumes: u8,
    /// Answers to renewals that are held up.
    pub late: u8,
    /// Whether the controller may move the scope by itself.
    pub mode: Mode,
    /// Whether workers report a change at once and the controller does at once all it can, as both
    /// do while nothing is lost. Otherwise each report and each proposal waits as long as it likes.
    pub prompt: bool,
}

/// More than the steps of a promotion.
const SETTLES_WITHIN: usize = 40;

/// Half a run-out and a bit: two turns without a renewal end a session.
const TURN_MS: u64 = 20_300;

fn timing() -> Timing {
    Timing { ttl: Millis(40_000), ..Timing::of(Profile::Wan) }
}

fn limits() -> Limits {
    Limits {
        report_fresh: Millis(41_000),
        detection: Millis(20_000),
        cooldown: Millis::ZERO,
        daily_budget: 100,
        regrant_window: Millis::ZERO,
        ..Limits::default()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    pub cluster: Cluster,
    pub sites: [Site; 3],
    /// Number of the next record.
    pub next: u8,
    /// Tokens handed over, as the log shows.
    pub handed: Vec<Token>,
    /// A grant left behind what a sealed sink held.
    pub left_behind: bool,
    pub left: Left,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Left {
    pub writes: u8,
    pub turns: u8,
    pub silences: u8,
    pub returns: u8,
    pub crashes: u8,
    pub switchovers: u8,
    pub resumes: u8,
    pub late: u8,
}

/// A worker and its sink.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Site {
    pub boot: u8,
    pub silent: bool,
    pub keeper: Option<Digested<Keeper>>,
    /// An answer on its way.
    pub late: Option<Digested<Renewed>>,
    /// The token it writes under.
    pub reign: Option<Token>,
    /// Stopped behind its barrier, for a promotion.
    pub drained: Option<(PromotionId, Position)>,
    /// Went on by its own clock: this promotion's drain is not begun again.
    pub gave_up: Option<PromotionId>,
    /// Whom it follows, under which token.
    pub follows: Option<(usize, Token)>,
    /// A hand-over on its way.
    pub handover: Option<(PromotionId, Token, Position)>,
    pub write: Option<Write>,
    pub sink: Sink,
}

/// A write on its way into a sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Write {
    /// Shown to the sink.
    pub shown: Token,
    /// The record, or the number of the one that is followed.
    pub record: Record,
    /// The sink's check is behind it.
    pub checked: bool,
    /// Comes from another sink's stream.
    pub followed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Record {
    pub token: Token,
    pub kind: RecordKind,
    /// The token its writer was admitted under.
    pub admitted: Token,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RecordKind {
    Opening,
    Data(u8),
    Barrier,
    Reopen,
}

/// What is on a disk, and two ghosts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Sink {
    pub chain: Vec<Record>,
    /// The highest token shown or sealed.
    pub highest: Token,
    /// The last seal's answer.
    pub sealed: Option<(Token, usize)>,
    /// The highest token it ever refused below (ghost).
    pub ever: Token,
    /// It took a write under a lower token (ghost).
    pub broken: bool,
}

impl Sink {
    pub fn end(&self) -> Position {
        position(&self.chain)
    }

    fn raise(&mut self, token: Token) {
        self.highest = self.highest.max(token);
        self.ever = self.ever.max(self.highest);
    }

    fn is_behind_barrier(&self, token: Token) -> bool {
        self.chain
            .last()
            .is_some_and(|last| last.kind == RecordKind::Barrier && last.token == token)
    }
}

/// The position behind a chain: its length, and a hash that tells chains apart.
pub fn position(chain: &[Record]) -> Position {
    if chain.is_empty() {
        return Position::START;
    }
    let mut hasher = DefaultHasher::new();
    chain.hash(&mut hasher);
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&hasher.finish().to_le_bytes());
    Position { seq: chain.len() as u64, hash: RecordHash(bytes) }
}

pub struct Sinks {
    pub bounds: Bounds,
    pub mutant: Option<Mutant>,
    pub facts: Arc<Facts>,
    pub applier: Arc<Applier>,
    scope: ScopeId,
}

impl Sinks {
    pub fn new(bounds: Bounds, mutant: Option<Mutant>) -> Self {
        Self {
            bounds,
            mutant,
            facts: Arc::default(),
            applier: Applier::new(mutant),
            scope: setup::warm(),
        }
    }

    fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    fn scope<'a>(&self, cluster: &'a Cluster) -> &'a Scope {
        &cluster.machine().scopes()[&self.scope]
    }

    fn session(&self, at: usize, boot: u8) -> SessionKey {
        SessionKey { worker: setup::regions()[at].0.clone(), boot: u64::from(boot) }
    }

    fn worker(at: usize) -> Actor {
        Actor::Worker(setup::regions()[at].to_string())
    }

    fn apply(&self, state: &mut State, ms: u64, actor: &Actor, command: &Command) -> Step {
        let before = state.cluster.clone();
        let ahead = Ahead::both(ms.cast_signed());
        let step = self.applier.apply(&before, ahead, actor, command);
        state.cluster = step.cluster.clone();
        self.watch(state, &before, command, step.answer.is_ok());
        step
    }

    /// Ghosts and facts: what a grant left behind, and what was reached.
    fn watch(&self, state: &mut State, before: &Cluster, command: &Command, accepted: bool) {
        let (was, is) = (self.scope(before), self.scope(&state.cluster));
        if let (Command::Handover(handover), true) = (command, accepted) {
            state.handed.push(handover.token);
        }
        let granted = is.history.len() > was.history.len();
        if let (true, Some(reservation), Some(reign)) = (granted, &was.reservation, is.reign()) {
            let winner = setup::regions().iter().position(|r| *r == reign.region).unwrap_or(0);
            let chain = &state.sites[winner].sink.chain;
            let behind = setup::regions()
                .iter()
                .zip(&state.sites)
                .filter(|(region, _)| reservation.sealed.contains_key(*region))
                .any(|(_, site)| !chain.starts_with(&site.sink.chain));
            state.left_behind |= behind && reservation.promotion.is_some();
            self.reached_a_grant(reign, was, state);
        }
        let lease = is.lease.as_ref();
        if lease.is_some_and(|lease| lease.withheld_why.is_some()) {
            self.facts.reached(Fact::RenewalWithheld);
        }
    }

    fn reached_a_grant(&self, reign: &Reign, was: &Scope, state: &State) {
        let promotion =
            reign.promotion.and_then(|id| state.cluster.machine().promotions().get(&id));
        match promotion.map(|promotion| promotion.kind) {
            None if !was.history.is_empty() => self.facts.reached(Fact::Regrant),
            None => {}
            Some(Kind::Switchover) => self.facts.reached(Fact::SwitchoverGranted),
            Some(Kind::Failover | Kind::Emergency) => {
                self.facts.reached(Fact::FailoverGranted);
                if was.reservation.as_ref().is_some_and(|r| !r.unsealed.is_empty()) {
                    self.facts.reached(Fact::GrantWithUnsealedSink);
                }
            }
        }
    }

    /// What a worker says of itself.
    fn report(&self, site: &Site) -> WorkerReport {
        let sink = &site.sink;
        let opened = sink.chain.iter().any(|record| Some(record.token) == site.reign);
        let report = ScopeReport {
            role: if site.reign.is_some() { Role::Primary } else { Role::Replica },
            token: site.reign.or(site.follows.map(|(_, token)| token)).unwrap_or_default(),
            highest: sink.highest,
            end: sink.end(),
            rows: sink.chain.len() as u64,
            sealed: sink.sealed.map(|(token, len)| Sealed {
                token,
                end: position(&sink.chain[..len.min(sink.chain.len())]),
            }),
            barrier: site.drained.map(|(_, barrier)| barrier),
            first_visible: (site.reign.is_some() && opened).then_some(WallTime(0)),
            ..ScopeReport::default()
        };
        WorkerReport { scopes: [(self.scope.clone(), report)].into(), ..WorkerReport::default() }
    }

    /// A renewal and its answer, `ms` after the machine's time. Answers late where asked.
    fn exchange(&self, state: &mut State, at: usize, ms: u64, late: bool) {
        let site = &state.sites[at];
        let Some(keeper) = &site.keeper else { return };
        let mut keeper = Keeper::clone(keeper);
        let seq = keeper.attempt(0);
        let report = self.report(site);
        let session = keeper.session().clone();
        let renew = Command::Renew(Renew { session, seq, report });
        let step = self.apply(state, ms, &Self::worker(at), &renew);
        let site = &mut state.sites[at];
        match &*step.answer {
            Ok(Outcome::Renewed(renewed)) => {
                site.keeper = Some(Digested::new(keeper));
                let mut renewed = renewed.clone();
                renewed.now = Default::default();
                match late {
                    true => site.late = Some(Digested::new(renewed)),
                    false => self.answered(site, &renewed),
                }
            }
            // Refused for good: everything under the session is over, and a new one is opened.
            _ => Self::close(site),
        }
    }

    fn answered(&self, site: &mut Site, renewed: &Renewed) {
        let Some(keeper) = &site.keeper else { return };
        let mut keeper = Keeper::clone(keeper);
        keeper.answered(renewed);
        site.keeper = Some(Digested::new(keeper));
    }

    /// The session is over: nothing is held. A thread on its way to the sink goes on.
    fn close(site: &mut Site) {
        site.keeper = None;
        site.late = None;
        site.reign = None;
        site.drained = None;
        site.gave_up = None;
        site.handover = None;
    }

    fn open(&self, state: &mut State, at: usize) {
        let boot = state.sites[at].boot + 1;
        state.sites[at].boot = boot;
        let open = Command::OpenSession(OpenSession {
            session: self.session(at, boot),
            region: setup::regions()[at].clone(),
            addresses: WorkerAddresses::default(),
        });
        let step = self.apply(state, 0, &Self::worker(at), &open);
        if let Ok(Outcome::Renewed(renewed)) = &*step.answer {
            state.sites[at].keeper = Some(Digested::new(Keeper::new(timing(), renewed)));
        }
    }

    /// The token this worker believes it may write under; its clock stands still.
    fn believes(&self, site: &Site) -> Option<Token> {
        site.keeper.as_ref()?.may_act(&self.scope, 0)
    }

    /// A turn of LogTime: workers that are not silent renew, nodes report, the leader ticks.
    fn turn(&self, state: &mut State) {
        let mut ms = TURN_MS;
        for at in 0..state.sites.len() {
            if !state.sites[at].silent && state.sites[at].keeper.is_some() {
                self.exchange(state, at, ms, false);
                ms = 0;
            }
        }
        for (at, region) in setup::regions().iter().enumerate() {
            let mut report = RegionReport::default();
            for other in setup::regions().iter().filter(|other| *other != region) {
                report.control.insert(other.clone(), Path::up(1));
                report.data.insert(other.clone(), Path::up(1));
            }
            let command = Command::Report(Report { region: region.clone(), report });
            self.apply(state, ms, &Actor::Node(at as u64 + 1), &command);
            ms = 0;
        }
        self.apply(state, 0, &Actor::Node(1), &Command::Tick);
    }

    /// Gives the lease back, from the log's point of view at once.
    fn release(&self, state: &mut State, at: usize, token: Token) {
        let site = &state.sites[at];
        let Some(keeper) = &site.keeper else { return };
        let release = Command::Release(Release {
            session: keeper.session().clone(),
            scope: self.scope.clone(),
            token,
            end: site.sink.end(),
            keep_for: None,
        });
        if !site.silent {
            self.apply(state, 0, &Self::worker(at), &release);
        }
    }

    /// What follows at once where everybody is prompt.
    fn settle(&self, state: &mut State) {
        for _ in 0..SETTLES_WITHIN {
            let before = state.cluster.clone();
            for at in 0..state.sites.len() {
                let site = &state.sites[at];
                if !site.silent && site.late.is_none() && site.keeper.is_some() {
                    let session = before.machine().sessions().get(&self.session(at, site.boot));
                    if session.is_none_or(|session| session.report != self.report(site)) {
                        self.exchange(state, at, 0, false);
                    }
                }
            }
            for command in state.cluster.clone().advance() {
                self.apply(state, 0, &Actor::Controller, command);
            }
            if state.cluster == before {
                return;
            }
        }
    }

    /// A hand-over reaches the log.
    fn hand_over(&self, state: &mut State, at: usize) {
        let site = &mut state.sites[at];
        let (Some(keeper), Some((promotion, token, end))) = (&site.keeper, site.handover.take())
        else {
            return;
        };
        let session = keeper.session().clone();
        let handover = Command::Handover(Handover { session, promotion, token, end });
        let step = self.apply(state, 0, &Self::worker(at), &handover);
        if step.answer.is_err() {
            let site = &mut state.sites[at];
            let Some(keeper) = &site.keeper else { return };
            let mut keeper = Keeper::clone(keeper);
            keeper.refused(&self.scope, token);
            site.keeper = Some(Digested::new(keeper));
        }
    }
}

/// Where a token's range ends: at the start of the first later reign.
pub fn range_end(history: &[Reign], token: Token) -> u64 {
    history.iter().find(|reign| reign.token > token).map_or(u64::MAX, |reign| reign.start.seq)
}
