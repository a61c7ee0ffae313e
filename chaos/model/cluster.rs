//! The cluster as a state of the model: the real [`Machine`], kept canonical.
//!
//! Each entry goes through [`Machine::apply`]. Between entries the machine is brought into a canonical
//! form, so that two histories that lead to the same future are one state:
//!  1. time is shifted so that the machine's `now` is always [`NOW`]. Sound because `apply`,
//!     `advance` and directives use differences of times alone;
//!  2. every entry has log index 1, so `rev` is constant. Nothing but a worker's choice between two
//!     directives reads it, and the model's workers read the machine's present directive;
//!  3. what is kept for people is left out: audit entries and head, notes of steps, reasons of ends,
//!     evidence, measured figures, times of past reigns, regrants outside their window.
//!
//! None of this is taken on trust: `tests::canonical_machines_behave_alike` walks at random with a full
//! machine beside a canonical one and compares answers, proposals and canonical forms after each entry.
//!
//! An entry applied before to an equal machine is looked up, not applied again: what surrounds the
//! machine has far more states than the machine.

use crate::digest::{Digested, digest_of};
use crate::mutants::Mutant;
use cryptorun_core::command::{Command, Entry, Outcome};
use cryptorun_core::machine::Machine;
use cryptorun_core::people::Actor;
use cryptorun_core::position::Hash as Digest;
use cryptorun_core::promotion::{Outcome as Ended, Promotion, State, StepState};
use cryptorun_core::record::{Clock, Record};
use cryptorun_core::region::Link;
use cryptorun_core::scope::Scope;
use cryptorun_core::session::Session;
use cryptorun_core::steps;
use cryptorun_core::time::{LogTime, Stamp, WallTime};
use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// A canonical machine's time; large enough that nothing before it reaches zero.
pub const NOW: Stamp = Stamp { log: LogTime(1 << 40), wall: WallTime(1 << 41) };

/// A canonical machine and what its controller would propose.
#[derive(Debug)]
pub struct Node {
    machine: Machine,
    advance: OnceLock<Vec<Digested<Command>>>,
}

impl PartialEq for Node {
    fn eq(&self, other: &Self) -> bool {
        self.machine == other.machine
    }
}

impl Eq for Node {}

/// A machine in canonical form.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Cluster(Digested<Node>);

impl Cluster {
    pub fn new(machine: &Machine) -> Self {
        let node = Node { machine: canonical(machine), advance: OnceLock::new() };
        // Without the configuration, which is the same in every state of a model.
        let machine = &node.machine;
        let (sessions, scopes) = (machine.sessions(), machine.scopes());
        let digest = digest_of(&(sessions, scopes, machine.promotions(), machine.regions()));
        Self(Digested::with(digest, node))
    }

    pub fn machine(&self) -> &Machine {
        &self.0.machine
    }

    /// What [`steps::advance`] would propose.
    pub fn advance(&self) -> &[Digested<Command>] {
        self.0.advance.get_or_init(|| {
            steps::advance(&self.0.machine).into_iter().map(Digested::new).collect()
        })
    }
}

/// What one entry did.
#[derive(Clone, Debug)]
pub struct Step {
    pub cluster: Cluster,
    /// Of a refusal its kind alone: the rest is text for people.
    pub answer: Arc<Result<Outcome, &'static str>>,
    /// How far LogTime went on, in milliseconds.
    pub moved: u64,
}

/// A stamp, as distances from the machine's time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ahead {
    pub log: i64,
    pub wall: i64,
}

impl Ahead {
    pub fn both(ms: i64) -> Self {
        Self { log: ms, wall: ms }
    }
}

type Shard = HashMap<(u64, u64), Applied>;

/// An entry that was applied before, and what came of it.
#[derive(Debug)]
struct Applied {
    before: Cluster,
    ahead: Ahead,
    actor: Actor,
    command: Command,
    step: Step,
}

/// Applies entries, each combination once.
#[derive(Debug)]
pub struct Applier {
    mutant: Option<Mutant>,
    shards: Vec<Mutex<Shard>>,
    applied: AtomicUsize,
}

/// Locks that the checker's threads share the memory of applied entries by.
const SHARDS: usize = 64;
/// Applied entries that one of them remembers; some 20 kB each with promotions in them.
const SHARD_KEEPS: usize = 1024;

impl Applier {
    pub fn new(mutant: Option<Mutant>) -> Arc<Self> {
        Arc::new(Self {
            mutant,
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            applied: AtomicUsize::new(0),
        })
    }

    /// Entries that were really applied.
    pub fn applied(&self) -> usize {
        self.applied.load(Ordering::Relaxed)
    }

    pub fn apply(&self, before: &Cluster, ahead: Ahead, actor: &Actor, command: &Command) -> Step {
        let key = (before.0.digest(), quick_digest(ahead, command));
        let shard = &self.shards[(key.0 ^ key.1) as usize % SHARDS];
        let same = |known: &&Applied| {
            known.before == *before
                && known.ahead == ahead
                && known.actor == *actor
                && known.command == *command
        };
        let known = |shard: &Shard| shard.get(&key).filter(same).map(|known| known.step.clone());
        if let Some(step) = known(&shard.lock().unwrap_or_else(PoisonError::into_inner)) {
            return step;
        }
        let step = self.apply_anew(before, ahead, actor, command);
        let (actor, command) = (actor.clone(), command.clone());
        let applied = Applied { before: before.clone(), ahead, actor, command, step: step.clone() };
        self.applied.fetch_add(1, Ordering::Relaxed);
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        if shard.len() >= SHARD_KEEPS {
            shard.clear(); // What is needed again is applied again.
        }
        shard.insert(key, applied);
        step
    }

    fn apply_anew(&self, before: &Cluster, ahead: Ahead, actor: &Actor, command: &Command) -> Step {
        let mut machine = before.machine().clone();
        let stamp = Stamp {
            log: LogTime(NOW.log.0.saturating_add_signed(ahead.log)),
            wall: WallTime(NOW.wall.0.saturating_add_signed(ahead.wall)),
        };
        let entry = entry(stamp, actor, command);
        let answer = machine.apply(1, &entry).answer;
        let moved = machine.now().log.since(NOW.log).0;
        if let Some(mutant) = self.mutant {
            mutant.edit(before.machine(), command, &answer, &mut machine);
        }
        Step {
            cluster: Cluster::new(&machine),
            answer: Arc::new(answer.map_err(|refusal| refusal.kind())),
            moved,
        }
    }
}

/// Where to look an entry up; whether it is the one is decided by comparing.
fn quick_digest(ahead: Ahead, command: &Command) -> u64 {
    let mut hasher = DefaultHasher::new();
    ahead.hash(&mut hasher);
    match command {
        Command::Renew(renew) => {
            (&renew.session, renew.seq).hash(&mut hasher);
            for report in renew.report.scopes.values() {
                (report.token, report.highest, report.end, report.barrier).hash(&mut hasher);
                report.sealed.map(|sealed| (sealed.token, sealed.end)).hash(&mut hasher);
            }
        }
        other => digest_of(other).hash(&mut hasher),
    }
    hasher.finish()
}

pub fn entry(stamp: Stamp, actor: &Actor, command: &Command) -> Entry {
    Entry { stamp, actor: actor.clone(), via: None, request: None, command: command.clone() }
}

/// Shifts times so that the machine's becomes [`NOW`].
struct Shift {
    log: i64,
    wall: i64,
}

impl Shift {
    fn log(&self, at: &mut LogTime) {
        at.0 = at.0.saturating_add_signed(self.log);
    }

    fn wall(&self, at: &mut WallTime) {
        at.0 = at.0.saturating_add_signed(self.wall);
    }

    fn stamp(&self, at: &mut Stamp) {
        self.log(&mut at.log);
        self.wall(&mut at.wall);
    }
}

/// The canonical form of a machine.
pub fn canonical(machine: &Machine) -> Machine {
    let now = machine.now();
    let distance = |to: u64, from: u64| to.wrapping_sub(from).cast_signed();
    let shift =
        Shift { log: distance(NOW.log.0, now.log.0), wall: distance(NOW.wall.0, now.wall.0) };
    let mut form = Machine::default();
    form.load(Record::Clock(Clock { now: NOW, ..machine.clock() }));
    if let Some(cluster) = machine.cluster() {
        form.load(Record::Cluster(cluster.clone()));
    }
    for region in machine.regions().values() {
        let mut region = region.clone();
        region.report.wall = WallTime::default();
        region.reported_at.iter_mut().for_each(|at| shift.log(at));
        match &mut region.link {
            Link::Connected => {}
            Link::Isolated { since: at } | Link::Reconciling { progress: at, .. } => shift.log(at),
        }
        form.load(Record::Region(region));
    }
    for session in machine.sessions().values() {
        form.load(Record::Session(session_form(session.clone(), &shift)));
    }
    let window = machine.limits().regrant_window;
    for scope in machine.scopes().values() {
        let mut scope = scope.clone();
        scope.regrants.retain(|at| now.log.since(*at) < window);
        form.load(Record::Scope(scope_form(scope, &shift)));
    }
    for promotion in machine.promotions().values() {
        form.load(Record::Promotion(promotion_form(promotion.clone(), &shift)));
    }
    form
}

/// Wall times inside reports are not shifted: the model's workers report none.
fn session_form(mut session: Session, shift: &Shift) -> Session {
    shift.log(&mut session.opened_at);
    shift.log(&mut session.renewed_at);
    session
}

fn scope_form(mut scope: Scope, shift: &Shift) -> Scope {
    scope.rev = 1;
    shift.log(&mut scope.phase_since);
    if let Some(lease) = &mut scope.lease {
        lease.granted_at = LogTime::default();
        lease.withheld_from.iter_mut().for_each(|at| shift.log(at));
    }
    scope.history.iter_mut().for_each(|reign| reign.at = Stamp::default());
    scope.reservation.iter_mut().for_each(|reservation| shift.log(&mut reservation.at));
    if let Some(pause) = &mut scope.pause {
        shift.stamp(&mut pause.at);
        shift.log(&mut pause.until_log);
        shift.wall(&mut pause.until_wall);
    }
    scope.regrants.iter_mut().for_each(|at| shift.log(at));
    scope.kept_until.iter_mut().for_each(|at| shift.log(at));
    scope.last_known.iter_mut().for_each(|known| known.at = LogTime::default());
    scope
}

fn promotion_form(mut promotion: Promotion, shift: &Shift) -> Promotion {
    shift.log(&mut promotion.opened.log);
    promotion.opened.wall = WallTime::default();
    if promotion.state == State::Waiting {
        shift.log(&mut promotion.expires_log);
        shift.wall(&mut promotion.expires_wall);
    } else {
        (promotion.expires_log, promotion.expires_wall) = Default::default();
    }
    promotion.evidence = Digest::ZERO;
    promotion.measured = Default::default();
    promotion.agreed.iter_mut().for_each(|at| *at = Stamp::default());
    promotion.approvals.values_mut().for_each(|approval| approval.at = Stamp::default());
    if let Some(at) = &mut promotion.ended {
        shift.log(&mut at.log);
        at.wall = WallTime::default();
    }
    let running = promotion.state == State::Running;
    for record in &mut promotion.steps {
        // How long a step has taken is asked of the one that is being done.
        record.started = record.started.filter(|_| running && record.state == StepState::Started);
        if let Some(at) = &mut record.started {
            shift.log(&mut at.log);
            at.wall = WallTime::default();
        }
        record.ended = None;
        match &mut record.state {
            StepState::Pending | StepState::Started => {}
            StepState::Done { note: text }
            | StepState::Skipped { why: text }
            | StepState::Failed { why: text } => text.clear(),
        }
    }
    if let State::Ended(ended) = &mut promotion.state {
        match ended {
            Ended::RolledBack { why } | Ended::Denied { why, .. } => why.clear(),
            Ended::Void { differences } => differences.clear(),
            Ended::Done | Ended::Superseded { .. } | Ended::Cancelled { .. } | Ended::Expired => {}
        }
    }
    promotion
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup;
    use cryptorun_core::command::{
        Answer, Approve, Cancel, Deny, OpenSession, Release, Renew, Report, RequestPromotion,
    };
    use cryptorun_core::config::Limits;
    use cryptorun_core::directive::{self, Want};
    use cryptorun_core::path::Path;
    use cryptorun_core::position::Position;
    use cryptorun_core::promotion::Kind;
    use cryptorun_core::report::{RegionReport, ScopeReport, Sealed, WorkerReport};
    use cryptorun_core::scope::Mode;
    use cryptorun_core::session::{SessionKey, WorkerAddresses};
    use cryptorun_core::time::{Millis, Profile, Timing};

    /// SplitMix64.
    struct Dice(u64);

    impl Dice {
        fn below(&mut self, bound: u64) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            (z ^ (z >> 31)) % bound
        }
    }

    /// What anybody might send now, mostly sensible.
    fn draw(dice: &mut Dice, cluster: &Cluster) -> (Actor, Command) {
        let machine = cluster.machine();
        let at = dice.below(3) as usize;
        let region = setup::regions()[at].clone();
        let worker = Actor::Worker(region.to_string());
        let newest = machine.sessions().values().filter(|s| s.region == region);
        let newest = newest.max_by_key(|s| s.key.boot);
        let boot = newest.map_or(0, |s| s.key.boot) + u64::from(dice.below(8) == 0);
        let session = SessionKey { worker: region.0.clone(), boot };
        let id = machine.promotions().keys().last().copied();
        let person = Actor::Person(["ana", "ben"][dice.below(2) as usize].into());
        match dice.below(16) {
            0..4 => {
                let commands = cluster.advance();
                let at = dice.below(commands.len().max(1) as u64) as usize;
                let command = commands.get(at).map_or(Command::Tick, |c| Command::clone(c));
                (Actor::Controller, command)
            }
            4..11 if newest.is_some() && dice.below(8) > 0 => {
                let wants = directive::for_session(machine, &session);
                let sealed = wants.iter().find_map(|directive| match directive.want {
                    Want::Seal { token } => Some(Sealed { token, end: Position::START }),
                    _ => None,
                });
                let token = machine.scopes()[&setup::warm()].highest;
                let drains = wants.iter().any(|d| matches!(d.want, Want::Drain { .. }));
                let barrier = drains.then_some(Position::START);
                let report = ScopeReport { sealed, token, barrier, ..ScopeReport::default() };
                let scopes = [(setup::warm(), report)].into();
                let report = WorkerReport { scopes, ..WorkerReport::default() };
                let seq = newest.map_or(0, |s| s.renew_seq) + dice.below(4).min(1);
                (worker, Command::Renew(Renew { session, seq, report }))
            }
            4..11 => {
                let addresses = WorkerAddresses::default();
                (worker, Command::OpenSession(OpenSession { session, region, addresses }))
            }
            11 => {
                let kind = [Kind::Switchover, Kind::Failover, Kind::Emergency];
                let ask = RequestPromotion {
                    kind: kind[dice.below(3) as usize],
                    scope: setup::warm(),
                    from: None,
                    to: region,
                    reason: Some("a test".to_owned()),
                    plan: None,
                };
                (person, Command::RequestPromotion(ask))
            }
            12 => match (id, dice.below(8)) {
                (None, _) => (Actor::Node(1), Command::Tick),
                (Some(promotion), 0) => {
                    (person, Command::Deny(Deny { promotion, reason: "no".to_owned() }))
                }
                (Some(promotion), 1) => (person, Command::Cancel(Cancel { promotion })),
                (Some(promotion), _) => {
                    let approve = Approve { promotion, reason: None, certificate: None };
                    (person, Command::Approve(approve))
                }
            },
            13 => {
                let down = Path::down(Millis(dice.below(50_000)));
                let mut report = RegionReport::default();
                for other in setup::regions().into_iter().filter(|other| *other != region) {
                    report.control.insert(other.clone(), down);
                    report.data.insert(other, down);
                }
                let node = Actor::Node(at as u64 + 1);
                (node, Command::Report(Report { region, report }))
            }
            14 if dice.below(6) == 0 => {
                let token = machine.scopes()[&setup::warm()].highest;
                let end = Position::START;
                let scope = setup::warm();
                (worker, Command::Release(Release { session, scope, token, end, keep_for: None }))
            }
            _ => (Actor::Node(1), Command::Tick),
        }
    }

    /// Equal but for the texts, which name times.
    fn alike(a: &Answer, b: &Result<Outcome, &'static str>) -> bool {
        match (a, b) {
            (Ok(a), Ok(b)) => std::mem::discriminant(a) == std::mem::discriminant(b),
            (Err(a), Err(b)) => a.kind() == *b,
            _ => false,
        }
    }

    #[test]
    fn canonical_machines_behave_alike() {
        let timing = Timing::of(Profile::Wan);
        let config = || setup::config(timing, Limits::default(), 3, Mode::Approve);
        let (mut accepted, mut grants) = (0, 0);
        for seed in 0..40 {
            let mut dice = Dice(seed);
            let mut canon = setup::founded(config());
            let mut full = canon.machine().clone();
            let applier = Applier::new(None);
            for index in 2..400 {
                let (actor, command) = draw(&mut dice, &canon);
                let spread = [1_500, 1_500, 1_500, 20_000][dice.below(4) as usize];
                let ahead = Ahead::both(dice.below(spread) as i64 - 200);
                let now = full.now();
                let stamp = Stamp {
                    log: LogTime(now.log.0.saturating_add_signed(ahead.log)),
                    wall: WallTime(now.wall.0.saturating_add_signed(ahead.wall)),
                };
                let answer = full.apply(index, &entry(stamp, &actor, &command)).answer;
                let step = applier.apply(&canon, ahead, &actor, &command);
                assert!(alike(&answer, &step.answer), "{command:?}: {answer:?}, {:?}", step.answer);
                assert_eq!(canonical(&full), *step.cluster.machine(), "after {command:?}");
                let commands: Vec<Command> = steps::advance(&full);
                let same = step.cluster.advance().iter().map(|command| &**command).eq(&commands);
                assert!(same, "{commands:?} and {:?}", step.cluster.advance());
                accepted += u32::from(answer.is_ok());
                canon = step.cluster;
            }
            grants += full.scopes()[&setup::warm()].history.len();
        }
        assert!(accepted > 5000 && grants > 20, "{accepted} accepted, {grants} grants");
    }
}
