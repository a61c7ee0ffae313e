//! The control plane as a worker sees it, around the real machine: one log, no elections.

use crate::control::{Call, CallFailed, Control};
use crate::standing::Standing;
use async_trait::async_trait;
use bytes::Bytes;
use cryptorun_core::command::{
    Answer, Approve, Command, EndSession, Entry, Found, Handover, OpenSession, Outcome, Release,
    Renew, Report, RequestPromotion,
};
use cryptorun_core::config::{ClusterConfig, ClusterId, Limits, RegionConfig};
use cryptorun_core::directive;
use cryptorun_core::machine::Machine;
use cryptorun_core::path::Path;
use cryptorun_core::people::{Actor, Grant, OperatorId, Person, Role as PersonRole};
use cryptorun_core::promotion::{Kind, PromotionId};
use cryptorun_core::region::{RegionName, SHIPPED_ALIASES};
use cryptorun_core::report::RegionReport;
use cryptorun_core::scope::{Mode, PartitionWrites, ScopeId, ScopePolicy, Tier};
use cryptorun_core::session::SessionKey;
use cryptorun_core::steps;
use cryptorun_core::time::{LogTime, Millis, Profile, Stamp, Timing, WallTime};
use cryptorun_core::wire::{
    Accepted, HandoverRequest, OpenSessionRequest, Problem, ReleaseRequest, RenewAnswer,
    RenewRequest, SessionOpened,
};
use cryptorun_platform::clock::Clock;
use cryptorun_platform::https::Events;
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// One way between a worker and the log, with its commit.
const ONE_WAY: Duration = Duration::from_millis(10);

pub fn warm() -> ScopeId {
    ScopeId::new(Tier::Warm, "global")
}

pub struct Cluster {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    machine: Machine,
    index: u64,
    /// Where directives are pushed to.
    standings: BTreeMap<RegionName, Arc<Standing>>,
    /// Regions that cannot reach the log.
    away: BTreeSet<RegionName>,
}

fn config() -> ClusterConfig {
    let regions: BTreeMap<RegionName, RegionConfig> = SHIPPED_ALIASES
        .iter()
        .zip(1..)
        .map(|((name, _), node)| {
            let (raft, api) = (String::new(), String::new());
            ((*name).into(), RegionConfig { aliases: Vec::new(), node, raft, api })
        })
        .collect();
    let approver =
        Person { grants: vec![Grant { role: PersonRole::Approver, tier: None, region: None }] };
    let policy = ScopePolicy {
        primary: SHIPPED_ALIASES[0].0.into(),
        members: regions.keys().cloned().collect(),
        mode: Mode::Approve,
        people: 2,
        partition_writes: PartitionWrites::Stop,
        residency: None,
    };
    ClusterConfig {
        version: 1,
        name: "test".to_owned(),
        timing: Timing::of(Profile::Local),
        regions,
        people: ["ana", "ben"].map(|id| (OperatorId::from(id), approver.clone())).into(),
        scopes: BTreeMap::from([(warm(), policy)]),
        limits: Limits { regrant_max: 20, ..Limits::default() },
    }
}

impl Cluster {
    pub fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        let cluster = Arc::new(Self { clock, state: Mutex::default() });
        let found = Found { id: ClusterId(1), config: config() };
        cluster.propose(Actor::Node(1), Command::Found(found)).1.unwrap();
        cluster
    }

    pub fn listen(&self, region: &RegionName, standing: Arc<Standing>) {
        self.state().standings.insert(region.clone(), standing);
    }

    pub fn set_away(&self, region: &str, away: bool) {
        let region = RegionName::from(region);
        let mut state = self.state();
        match away {
            true => state.away.insert(region),
            false => state.away.remove(&region),
        };
    }

    pub fn is_away(&self, region: &str) -> bool {
        self.state().away.contains(region)
    }

    pub fn with<T>(&self, read: impl FnOnce(&Machine) -> T) -> T {
        read(&self.state().machine)
    }

    /// Time passes, and nodes report whom they reach.
    pub fn tick(&self, lost: &BTreeMap<RegionName, Millis>) {
        let _ = self.propose(Actor::Node(1), Command::Tick);
        for ((name, _), node) in SHIPPED_ALIASES.iter().zip(1..) {
            let region = RegionName::from(*name);
            if lost.contains_key(&region) {
                continue;
            }
            let ways: BTreeMap<RegionName, Path> = SHIPPED_ALIASES
                .iter()
                .filter(|(other, _)| other != name)
                .map(|(other, _)| {
                    let other = RegionName::from(*other);
                    let way = match lost.get(&other) {
                        Some(for_ms) => Path::down(*for_ms),
                        None => Path::up(1000),
                    };
                    (other, way)
                })
                .collect();
            let arrived_ago = lost.iter().map(|(region, span)| (region.clone(), *span)).collect();
            let report = RegionReport {
                wall: self.clock.wall(),
                control: ways.clone(),
                data: ways,
                arrived_ago,
                ..RegionReport::default()
            };
            let _ = self.propose(Actor::Node(node), Command::Report(Report { region, report }));
        }
    }

    pub fn promote(&self, kind: Kind, to: &str, people: &[&str]) -> PromotionId {
        let actor = |id: &str| Actor::Person(OperatorId::from(id));
        let request = Command::RequestPromotion(RequestPromotion {
            kind,
            scope: warm(),
            from: None,
            to: to.into(),
            reason: Some("test".to_owned()),
            plan: None,
        });
        let (_, answer) = self.propose(actor(people[0]), request);
        let Ok(Outcome::Promotion { id, .. }) = answer else { panic!("asked: {answer:?}") };
        for person in people {
            let approve = Approve { promotion: id, reason: Some("test".into()), certificate: None };
            let _ = self.propose(actor(person), Command::Approve(approve));
        }
        id
    }

    /// Applies a command, then whatever the controller makes of it, then tells the workers.
    pub fn propose(&self, actor: Actor, command: Command) -> (u64, Answer) {
        let mut state = self.state();
        let first = self.apply(&mut state, actor, command);
        for _ in 0..50 {
            let commands = steps::advance(&state.machine);
            let before = state.machine.clone();
            for command in commands {
                let _ = self.apply(&mut state, Actor::Controller, command);
            }
            let same = before.scopes() == state.machine.scopes()
                && before.promotions() == state.machine.promotions();
            if same {
                break;
            }
        }
        for (region, standing) in &state.standings {
            let session = state.machine.sessions().values().filter(|s| s.region == *region);
            let newest = session.max_by_key(|s| s.opened_at);
            if let Some(session) = newest.filter(|_| !state.away.contains(region)) {
                standing.direct(directive::for_session(&state.machine, &session.key));
            }
        }
        first
    }

    fn apply(&self, state: &mut State, actor: Actor, command: Command) -> (u64, Answer) {
        state.index += 1;
        let now = LogTime(self.clock.boot().0 / 1_000_000);
        let stamp = Stamp { log: now, wall: self.clock.wall() };
        let entry = Entry { stamp, actor, via: None, request: None, command };
        let index = state.index;
        (index, state.machine.apply(index, &entry).answer)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

/// One worker's way to the cluster.
pub struct Line {
    pub cluster: Arc<Cluster>,
    pub region: RegionName,
}

#[async_trait]
impl Control for Line {
    fn endpoints(&self) -> usize {
        1
    }

    async fn send(
        &self,
        _endpoint: usize,
        call: Call,
        timeout: Duration,
    ) -> Result<(u16, Bytes), CallFailed> {
        if self.cluster.is_away(self.region.as_str()) {
            tokio::time::sleep(timeout).await;
            return Err(CallFailed { sent: true, what: "no answer".into() });
        }
        tokio::time::sleep(ONE_WAY).await;
        let answer = self.answer(&call);
        tokio::time::sleep(ONE_WAY).await;
        if self.cluster.is_away(self.region.as_str()) {
            return Err(CallFailed { sent: true, what: "the answer was lost".into() });
        }
        Ok(answer)
    }

    async fn directives(&self, _endpoint: usize, _session: &str) -> Option<Events> {
        None // They are pushed by `Cluster::propose`.
    }
}

impl Line {
    fn answer(&self, call: &Call) -> (u16, Bytes) {
        let parts: Vec<&str> = call.path.trim_start_matches('/').split('/').collect();
        let worker = format!("w-{}", self.region);
        let actor = Actor::Worker(worker.clone());
        let cluster = &self.cluster;
        match (call.method.as_str(), parts.as_slice()) {
            ("POST", ["v1", "sessions"]) => {
                let open: OpenSessionRequest = read(call);
                let boot = u64::from_str_radix(&open.boot, 16).unwrap();
                let session = SessionKey { worker: worker.into(), boot };
                let command = Command::OpenSession(OpenSession {
                    session: session.clone(),
                    region: self.region.clone(),
                    addresses: open.addresses,
                });
                let (index, answer) = cluster.propose(actor, command);
                reply(answer, |outcome| {
                    let Outcome::Renewed(renewed) = outcome else { panic!("{outcome:?}") };
                    let config = config();
                    let directives = cluster.with(|m| directive::for_session(m, &session));
                    let (timing, limits) = (config.timing, config.limits);
                    let _ = index;
                    SessionOpened { renewed, timing, limits, directives }
                })
            }
            ("POST", ["v1", "sessions", key, "renew"]) => {
                let session: SessionKey = key.parse().unwrap();
                let RenewRequest { seq, report, .. } = read(call);
                let command = Command::Renew(Renew { session: session.clone(), seq, report });
                let (index, answer) = cluster.propose(actor, command);
                reply(answer, |outcome| {
                    let Outcome::Renewed(renewed) = outcome else { panic!("{outcome:?}") };
                    let directives = cluster.with(|m| directive::for_session(m, &session));
                    let directed = None;
                    RenewAnswer { index, wall: cluster.clock.wall(), renewed, directed, directives }
                })
            }
            ("POST", ["v1", "sessions", key, "handover"]) => {
                let session: SessionKey = key.parse().unwrap();
                let HandoverRequest { promotion, token, end } = read(call);
                let command = Command::Handover(Handover { session, promotion, token, end });
                let (index, answer) = cluster.propose(actor, command);
                reply(answer, |outcome| Accepted { index, outcome })
            }
            ("POST", ["v1", "sessions", key, "release"]) => {
                let session: SessionKey = key.parse().unwrap();
                let ReleaseRequest { scope, token, end, keep_for_ms } = read(call);
                let keep_for = keep_for_ms.map(Millis);
                let command = Command::Release(Release { session, scope, token, end, keep_for });
                let (index, answer) = cluster.propose(actor, command);
                reply(answer, |outcome| Accepted { index, outcome })
            }
            ("DELETE", ["v1", "sessions", key]) => {
                let command = Command::EndSession(EndSession { session: key.parse().unwrap() });
                let (index, answer) = cluster.propose(actor, command);
                reply(answer, |outcome| Accepted { index, outcome })
            }
            other => panic!("no route {other:?}"),
        }
    }
}

fn read<T: DeserializeOwned>(call: &Call) -> T {
    serde_json::from_slice(&call.body).unwrap()
}

fn reply<T: serde::Serialize>(answer: Answer, shape: impl FnOnce(Outcome) -> T) -> (u16, Bytes) {
    match answer {
        Ok(outcome) => (200, serde_json::to_vec(&shape(outcome)).unwrap().into()),
        Err(refusal) => {
            let problem =
                Problem { status: 409, detail: refusal.to_string(), ..Problem::default() };
            (409, serde_json::to_vec(&problem).unwrap().into())
        }
    }
}

/// Wall time of the paused clock.
pub fn wall_at(boot_ns: u64) -> WallTime {
    WallTime(1_735_689_600_000 + boot_ns / 1_000_000)
}
