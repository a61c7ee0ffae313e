//! Three regions around one machine, in memory and by hand-moved time: for scripts and properties.
//!
//! Workers are obedient models: they renew, follow their directives at once and keep a chain of
//! empty batches. Every applied entry is checked for what `machine.rs` promises.

use super::{Applied, Machine};
use crate::chain::Chain;
use crate::command::{Command, Entry, Found, Handover, OpenSession, Outcome, Renew, Report};
use crate::config::{ClusterConfig, ClusterId, Limits, RegionConfig};
use crate::decide::Verdict;
use crate::directive::{self, HandOver, Want};
use crate::keeper::Keeper;
use crate::path::Path;
use crate::people::{Actor, Grant, OperatorId, Person, Role as PersonRole};
use crate::position::Position;
use crate::region::{RegionName, SHIPPED_ALIASES};
use crate::report::{RegionReport, ScopeReport, Sealed, WorkerReport};
use crate::scope::{Mode, PartitionWrites, Role, ScopeId, ScopePolicy, Tier};
use crate::session::{SessionKey, WorkerAddresses};
use crate::steps;
use crate::time::{LogTime, Millis, Profile, Stamp, Timing, WallTime};
use crate::token::Token;
use std::collections::BTreeMap;
use std::sync::Arc;

/// 2025-01-01T00:00:00Z.
const START: u64 = 1_735_689_600_000;
/// The world moves in steps of this.
const STEP: Millis = Millis(500);
/// A primary seals this often.
const SEAL: Millis = Millis::secs(20);

pub(crate) fn warm() -> ScopeId {
    ScopeId::new(Tier::Warm, "global")
}

/// One sink and its worker.
#[derive(Clone)]
pub(crate) struct Worker {
    region: RegionName,
    boot: u64,
    keeper: Option<Keeper>,
    pub end: Position,
    pub rows: u64,
    sealed_at: WallTime,
    highest: Token,
    token: Token,
    role: Role,
    sealed: Option<Sealed>,
    barrier: Option<Position>,
    first_visible: Option<WallTime>,
    last_visible: Option<WallTime>,
    batch_due: LogTime,
    /// Batches by number, so that others can fetch them.
    chain: BTreeMap<u64, (Position, u64, WallTime)>,
    pub up: bool,
}

#[derive(Clone)]
pub(crate) struct World {
    pub machine: Machine,
    index: u64,
    pub now: LogTime,
    pub workers: BTreeMap<RegionName, Worker>,
    /// Regions whose every process is gone or unreachable, since when.
    pub lost: BTreeMap<RegionName, LogTime>,
    /// Links that are cut, both ways, since when.
    pub cut: BTreeMap<(RegionName, RegionName), LogTime>,
    /// The audit chain up to here has been verified.
    audited: Position,
    /// Regions whose node's reports do not reach the leader; their workers go by the third region.
    pub mute: std::collections::BTreeSet<RegionName>,
    /// Regions whose worker renews and does nothing else.
    pub hung: std::collections::BTreeSet<RegionName>,
    /// Clock offset of each worker, in milliseconds.
    pub offsets: BTreeMap<RegionName, i64>,
    /// What else a region's node says.
    pub says: BTreeMap<RegionName, fn(&mut RegionReport)>,
    /// What else a region's worker says.
    pub worker_says: BTreeMap<RegionName, fn(&mut WorkerReport)>,
}

pub(crate) fn config(mode: Mode) -> ClusterConfig {
    let regions = SHIPPED_ALIASES
        .iter()
        .zip(1..)
        .map(|((name, aliases), node)| {
            let region = RegionConfig {
                aliases: aliases.iter().map(|a| (*a).to_owned()).collect(),
                node,
                raft: String::new(),
                api: String::new(),
            };
            (RegionName::from(*name), region)
        })
        .collect::<BTreeMap<_, _>>();
    let approver =
        Person { grants: vec![Grant { role: PersonRole::Approver, tier: None, region: None }] };
    let reader =
        Person { grants: vec![Grant { role: PersonRole::Reader, tier: None, region: None }] };
    let admin =
        Person { grants: vec![Grant { role: PersonRole::Admin, tier: None, region: None }] };
    let policy = |members: Vec<RegionName>, residency: Option<RegionName>| ScopePolicy {
        primary: members[0].clone(),
        members,
        mode,
        people: 2,
        partition_writes: PartitionWrites::Stop,
        residency,
    };
    ClusterConfig {
        version: 1,
        name: "test".to_owned(),
        timing: Timing::of(Profile::Wan),
        people: [
            ("ana", &approver),
            ("ben", &approver),
            ("eve", &approver),
            ("guest", &reader),
            ("root", &admin),
        ]
        .into_iter()
        .map(|(id, person)| (OperatorId::from(id), person.clone()))
        .collect(),
        scopes: BTreeMap::from([
            (warm(), policy(SHIPPED_ALIASES.iter().map(|(n, _)| (*n).into()).collect(), None)),
            (
                ScopeId::new(Tier::Warm, "eu"),
                policy(vec!["eu-west-1".into()], Some("eu-west-1".into())),
            ),
        ]),
        limits: Limits::default(),
        regions,
    }
}

impl World {
    pub fn new(mode: Mode) -> Self {
        let mut world = Self {
            machine: Machine::default(),
            index: 0,
            now: LogTime(0),
            workers: SHIPPED_ALIASES
                .iter()
                .map(|(name, _)| ((*name).into(), Worker::new((*name).into())))
                .collect(),
            lost: BTreeMap::new(),
            cut: BTreeMap::new(),
            audited: Position::START,
            mute: Default::default(),
            hung: Default::default(),
            offsets: BTreeMap::new(),
            says: BTreeMap::new(),
            worker_says: BTreeMap::new(),
        };
        let found = Found { id: ClusterId(1), config: config(mode) };
        world.propose(Actor::Node(1), Command::Found(found)).answer.unwrap();
        world
    }

    /// A world in which everyone is level and somebody writes.
    pub fn running(mode: Mode) -> Self {
        let mut world = Self::new(mode);
        world.advance(Millis::secs(90));
        world
    }

    /// Of the last entry.
    pub fn index(&self) -> u64 {
        self.index
    }

    pub fn wall(&self) -> WallTime {
        WallTime(START + self.now.0)
    }

    /// Applies one entry and checks what every entry must keep.
    pub fn propose(&mut self, actor: Actor, command: Command) -> Applied {
        self.index += 1;
        let entry = Entry {
            stamp: Stamp { log: self.now, wall: self.wall() },
            actor,
            via: None,
            request: None,
            command,
        };
        let mut shadow = self.machine.clone();
        // A node that came by a snapshot: its index was made from the records.
        let mut twin = Machine::default();
        self.machine.keys().iter().filter_map(|key| self.machine.record(key)).for_each(|record| {
            twin.load(record.to_record());
        });
        let before = (self.machine.stirred(), told(&self.machine));
        let next = |machine: &Machine, in_flight: &[Arc<Entry>]| {
            steps::ahead(machine, self.index, in_flight, steps::advance)
        };
        let foreseen = (steps::is_under_way(&self.machine)
            && self.machine.may_stir(&entry.command))
        .then(|| next(&self.machine, &[Arc::new(entry.clone())]));
        let applied = self.machine.apply(self.index, &entry);
        if let Some(foreseen) = foreseen {
            assert_eq!(foreseen, next(&self.machine, &[]), "what follows an entry is known ahead");
        }
        assert_eq!(twin.apply(self.index, &entry), applied, "apply is a function of the records");
        assert_eq!(twin, self.machine);
        if self.machine.stirred() == before.0 {
            assert_eq!(told(&self.machine), before.1, "what workers are told stays until it stirs");
        }
        for key in &applied.changed {
            match self.machine.record(key) {
                Some(record) => shadow.load(record.to_record()),
                None => shadow.forget_record(key),
            }
        }
        assert_eq!(shadow, self.machine, "changed names exactly the records that differ");
        if applied.answer.is_ok() && is_begin(&entry.command) {
            self.audited = Position::START;
        }
        self.check_tokens();
        applied
    }

    /// Another cluster, empty, in this one's place: workers and time go on.
    pub fn lose_the_cluster(&mut self) {
        self.machine = Machine::default();
        self.index = 0;
        self.audited = Position::START;
    }

    fn check_tokens(&mut self) {
        for scope in self.machine.scopes().values() {
            let tokens: Vec<Token> = scope.history.iter().map(|reign| reign.token).collect();
            assert!(
                tokens.is_sorted() && tokens.windows(2).all(|w| w[0] < w[1]),
                "tokens only grow"
            );
            if let Some(lease) = &scope.lease {
                assert!(lease.token <= scope.highest);
            }
        }
        let new: Vec<_> =
            self.machine.audit().range(self.audited.seq + 1..).map(|(_, e)| e.clone()).collect();
        let end = crate::audit::verify(self.audited, &new);
        assert_eq!(end, Ok(self.machine.audit_head().end), "the audit chain verifies");
        self.audited = self.machine.audit_head().end;
    }

    fn reachable(&self, region: &RegionName) -> bool {
        !self.lost.contains_key(region)
    }

    /// Moves time on, with everything that happens by itself.
    pub fn advance(&mut self, span: Millis) {
        let end = self.now + span;
        while self.now < end {
            self.now = (self.now + STEP).min(end);
            self.turn();
        }
    }

    /// One moment: workers renew and obey, nodes report, the controller does what there is to do.
    pub fn turn(&mut self) {
        let names: Vec<RegionName> = self.workers.keys().cloned().collect();
        for name in &names {
            self.work(name);
        }
        for name in &names {
            self.observe(name);
        }
        self.propose(Actor::Node(1), Command::Tick);
        for _ in 0..40 {
            let commands = steps::advance(&self.machine);
            if commands.is_empty() {
                break;
            }
            for command in commands {
                let _ = self.propose(Actor::Controller, command);
            }
            for name in &names {
                self.work(name);
            }
        }
    }

    /// Each worker renews once and does as it is told.
    pub fn everybody_works(&mut self) {
        let names: Vec<RegionName> = self.workers.keys().cloned().collect();
        names.iter().for_each(|name| self.work(name));
    }

    /// A worker renews, if it is up and heard, and obeys.
    pub fn work(&mut self, name: &RegionName) {
        let Some(mut worker) = self.workers.remove(name) else { return };
        if worker.up && self.reachable(name) {
            self.renew(&mut worker);
        }
        self.workers.insert(name.clone(), worker);
    }

    fn renew(&mut self, worker: &mut Worker) {
        let boot_ns = self.now.0 * 1_000_000;
        if worker.keeper.is_none() {
            worker.boot += 1;
            let session =
                SessionKey { worker: format!("w-{}", worker.region).into(), boot: worker.boot };
            let open = OpenSession {
                session,
                region: worker.region.clone(),
                addresses: WorkerAddresses::default(),
            };
            let actor = Actor::Worker(open.session.worker.to_string());
            if let Ok(Outcome::Renewed(opened)) =
                self.propose(actor, Command::OpenSession(open)).answer
            {
                worker.keeper = Some(Keeper::new(Timing::of(Profile::Wan), &opened));
            }
        }
        let hung = self.hung.contains(&worker.region);
        if !hung {
            worker.seal_if_due(self.now, self.wall());
        }
        let report = self.worker_report(worker);
        let Some(keeper) = &mut worker.keeper else { return };
        let seq = keeper.attempt(boot_ns);
        let session = keeper.session().clone();
        let actor = Actor::Worker(session.worker.to_string());
        let command = Command::Renew(Renew { session: session.clone(), seq, report });
        match self.propose(actor, command).answer {
            Ok(Outcome::Renewed(renewed)) => {
                keeper.answered(&renewed);
            }
            _ => {
                worker.keeper = None;
                worker.role = Role::CatchingUp;
                return;
            }
        }
        for directive in directive::for_session(&self.machine, &session) {
            if !hung && directive.scope == warm() {
                self.obey(worker, directive.want, boot_ns);
            }
        }
    }

    fn obey(&mut self, worker: &mut Worker, want: Want, boot_ns: u64) {
        let Some(keeper) = &mut worker.keeper else { return };
        match want {
            Want::Idle => {}
            Want::Primary { token, start } => {
                if keeper.may_act(&warm(), boot_ns) == Some(token) {
                    assert!(worker.end.seq >= start.seq, "a primary has all of its past");
                    worker.barrier = None;
                    worker.become_primary(token, self.now, WallTime(START + self.now.0));
                }
            }
            Want::Replica { upstream, token } => {
                worker.role = Role::Replica;
                worker.barrier = None;
                worker.first_visible = None;
                worker.highest = worker.highest.max(token);
                if let Some(token) = keeper.give_up(&warm()) {
                    let release = crate::command::Release {
                        session: keeper.session().clone(),
                        scope: warm(),
                        token,
                        end: worker.end,
                        keep_for: None,
                    };
                    let actor = Actor::Worker(keeper.session().worker.to_string());
                    let _ = self.propose(actor, Command::Release(release));
                }
                if let Some(source) = upstream.and_then(|up| self.source(worker, &up)) {
                    worker.follow(source, token, self.machine.scopes()[&warm()].history.as_slice());
                }
            }
            Want::Drain { .. } => {
                worker.role = Role::Replica;
                if worker.barrier.is_none() {
                    worker.append(0, WallTime(START + self.now.0));
                    worker.barrier = Some(worker.end);
                }
            }
            Want::HandOver(HandOver { promotion, token, end, seal }) => {
                if let Some(token) = seal {
                    worker.seal(token);
                }
                if worker.barrier != Some(end) || worker.end != end {
                    return;
                }
                let Some(keeper) = &mut worker.keeper else { return };
                keeper.give_up(&warm());
                let handover =
                    Handover { session: keeper.session().clone(), promotion, token, end };
                let actor = Actor::Worker(keeper.session().worker.to_string());
                let _ = self.propose(actor, Command::Handover(handover));
            }
            Want::Seal { token } => worker.seal(token),
            Want::FetchTail { to, from, .. } => {
                let source = from.iter().find_map(|region| {
                    self.workers.get(region).filter(|w| w.up).map(|w| w.chain.clone())
                });
                if let Some(chain) = source {
                    worker.take(&chain, to.seq);
                }
            }
        }
    }

    fn source(&self, worker: &Worker, upstream: &RegionName) -> Option<Worker> {
        let up = self.workers.get(upstream).filter(|w| w.up && self.reachable(upstream))?;
        let link = |a: &RegionName, b: &RegionName| {
            self.cut.contains_key(&(a.clone(), b.clone()))
                || self.cut.contains_key(&(b.clone(), a.clone()))
        };
        let direct = !link(&worker.region, upstream);
        let relayed = self.workers.keys().any(|via| {
            via != upstream
                && !link(&worker.region, via)
                && !link(via, upstream)
                && self.reachable(via)
        });
        (direct || relayed).then(|| up.copy())
    }

    fn worker_report(&self, worker: &Worker) -> WorkerReport {
        let scope = ScopeReport {
            role: worker.role,
            token: worker.token,
            highest: worker.highest,
            end: worker.end,
            rows: worker.rows,
            sealed_at: worker.sealed_at,
            watermark: self.wall(),
            input: self.wall(),
            sealed: worker.sealed,
            barrier: worker.barrier,
            checks: BTreeMap::from([("C1".to_owned(), Verdict::Yes)]),
            first_visible: worker.first_visible,
            last_visible: worker.last_visible,
            ..ScopeReport::default()
        };
        let mut report = WorkerReport {
            scopes: BTreeMap::from([(warm(), scope)]),
            clock_offset_ms: self.offsets.get(&worker.region).copied().unwrap_or(0),
            ..WorkerReport::default()
        };
        if let Some(more) = self.worker_says.get(&worker.region) {
            more(&mut report);
        }
        report
    }

    /// A node's report of what it reaches.
    fn observe(&mut self, name: &RegionName) {
        if !self.reachable(name) || self.mute.contains(name) {
            return;
        }
        let mut report = RegionReport { wall: self.wall(), ..RegionReport::default() };
        for other in self.workers.keys().filter(|other| *other != name) {
            let cut = self
                .cut
                .get(&(name.clone(), other.clone()))
                .or_else(|| self.cut.get(&(other.clone(), name.clone())))
                .or_else(|| self.lost.get(other));
            let way = match cut {
                Some(since) => Path::down(Millis(self.now.since(*since).0.max(1))),
                None => Path::up(70_000),
            };
            let ago = cut.map_or(Millis(200), |since| self.now.since(*since));
            report.control.insert(other.clone(), way);
            report.data.insert(other.clone(), way);
            report.arrived_ago.insert(other.clone(), ago);
        }
        if let Some(more) = self.says.get(name) {
            more(&mut report);
        }
        let command = Command::Report(Report { region: name.clone(), report });
        let node = self.machine.cluster().unwrap().config.regions[name].node;
        self.propose(Actor::Node(node), command).answer.unwrap();
    }

    /// A sink gets everything that any other has.
    pub fn catch_up(&mut self, region: &RegionName) {
        let Some(most) = self.workers.values().max_by_key(|worker| worker.end.seq) else { return };
        let (chain, to) = (most.chain.clone(), most.end.seq);
        if let Some(worker) = self.workers.get_mut(region) {
            worker.take(&chain, to);
        }
        self.turn();
    }

    /// The scope of these worlds.
    pub fn scope(&self) -> &crate::scope::Scope {
        &self.machine.scopes()[&warm()]
    }

    /// The region that holds it now.
    pub fn holder(&self) -> Option<RegionName> {
        self.machine.live_lease(&warm()).map(|_| self.scope().assigned.clone())
    }

    pub fn by(&mut self, person: &str, command: Command) -> crate::command::Answer {
        let answer = self.propose(Actor::Person(person.into()), command).answer;
        self.turn();
        answer
    }
}

impl Worker {
    fn new(region: RegionName) -> Self {
        Self {
            region,
            boot: 0,
            keeper: None,
            end: Position::START,
            rows: 0,
            sealed_at: WallTime(0),
            highest: Token::NONE,
            token: Token::NONE,
            role: Role::CatchingUp,
            sealed: None,
            barrier: None,
            first_visible: None,
            last_visible: None,
            batch_due: LogTime(0),
            chain: BTreeMap::new(),
            up: true,
        }
    }

    fn seal(&mut self, token: Token) {
        self.role = Role::Replica;
        self.highest = self.highest.max(token);
        self.sealed = Some(Sealed { token, end: self.end });
    }

    fn copy(&self) -> Self {
        Self { keeper: None, chain: self.chain.clone(), region: self.region.clone(), ..*self }
    }

    /// A restart: what is on disk stays, the session does not.
    pub fn restart(&mut self) {
        self.keeper = None;
        self.role = Role::CatchingUp;
        self.up = true;
    }

    fn append(&mut self, rows: u64, at: WallTime) {
        let body = format!("{} {rows} {at}", self.token);
        self.end = Chain::Batch.append(self.end, body.as_bytes());
        self.rows += rows;
        self.sealed_at = at;
        self.chain.insert(self.end.seq, (self.end, self.rows, at));
        self.last_visible = Some(at);
    }

    fn become_primary(&mut self, token: Token, now: LogTime, wall: WallTime) {
        if self.role == Role::Primary && self.token == token {
            return;
        }
        (self.role, self.token, self.sealed) = (Role::Primary, token, None);
        self.highest = self.highest.max(token);
        self.append(0, wall); // The epoch's opening record.
        self.first_visible = Some(wall);
        self.batch_due = now + SEAL;
    }

    fn seal_if_due(&mut self, now: LogTime, wall: WallTime) {
        if self.role == Role::Primary && now >= self.batch_due {
            self.append(4, wall);
            self.batch_due = now + SEAL;
        }
    }

    fn take(&mut self, chain: &BTreeMap<u64, (Position, u64, WallTime)>, to: u64) {
        if to <= self.end.seq {
            return;
        }
        for (position, rows, at) in chain.range(self.end.seq + 1..=to).map(|(_, record)| record) {
            (self.end, self.rows, self.sealed_at) = (*position, *rows, *at);
            self.chain.insert(position.seq, (*position, *rows, *at));
        }
    }

    /// Cuts what lies beyond the next reign's start, then follows.
    fn follow(&mut self, source: Worker, token: Token, history: &[crate::scope::Reign]) {
        let next = history.iter().find(|reign| reign.token > self.token);
        if let Some(cut) = next.map(|reign| reign.start).filter(|start| self.end.seq > start.seq) {
            self.chain.retain(|seq, _| *seq <= cut.seq);
            self.end = cut;
            self.rows = self.chain.get(&cut.seq).map_or(0, |(_, rows, _)| *rows);
        }
        self.token = token;
        self.take(&source.chain, source.end.seq);
    }
}

/// Directives of every session that is known.
fn told(machine: &Machine) -> Vec<Vec<crate::directive::Directive>> {
    machine.sessions().keys().map(|key| crate::directive::for_session(machine, key)).collect()
}

impl Machine {
    /// Removes a record, as a store would.
    fn forget_record(&mut self, key: &crate::record::RecordKey) {
        use crate::record::RecordKey as Key;
        match key {
            Key::Clock | Key::AuditHead => {}
            Key::Cluster => self.cluster = None,
            Key::Region(name) => drop(self.regions.remove(name)),
            Key::Session(key) => {
                if let Some(session) = self.sessions.remove(key) {
                    self.index.ended(&session);
                }
            }
            Key::Scope(id) => {
                if let Some(scope) = self.scopes.remove(id) {
                    let holder = scope.lease.map(|lease| lease.holder);
                    self.index.passed(id, holder.as_ref(), None);
                }
            }
            Key::Promotion(id) => drop(self.promotions.remove(id)),
            Key::Request(key) => drop(self.requests.remove(key)),
            Key::Review(id) => drop(self.reviews.remove(id)),
            Key::Audit(seq) => drop(self.audit.remove(seq)),
            Key::Rule(id) => drop(self.rules.remove(id)),
            Key::Restored => self.restored = None,
            Key::Preference => self.preference.clear(),
        }
    }
}

/// A restore that begins anew starts the audit anew with it.
fn is_begin(command: &Command) -> bool {
    use crate::restore::Act;
    matches!(command, Command::Restore(restore) if matches!(restore.act, Act::Begin(_)))
}
