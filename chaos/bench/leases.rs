//! What a renewal costs a node with many leases held, in one process and without disk or network,
//! which do not depend on it: the request is read, its entry written for the log and its peers, read
//! again and applied, what it changed is encoded and hashed, the answer written.

use crate::BenchError;
use clap::Args;
use cryptorun_control::settings::read_cluster;
use cryptorun_core::command::{Answer, Command, Entry, Found, Outcome, Renew};
use cryptorun_core::config::{ClusterConfig, ClusterId};
use cryptorun_core::directive::for_session;
use cryptorun_core::machine::Machine;
use cryptorun_core::people::{Actor, OperatorId};
use cryptorun_core::position::{Hash, Position};
use cryptorun_core::record::{Record, RecordKey};
use cryptorun_core::report::{ScopeReport, WorkerReport};
use cryptorun_core::scope::{Lease, Phase, Reign, Scope, ScopeId, Tier};
use cryptorun_core::session::{Session, SessionKey};
use cryptorun_core::time::{LogTime, Stamp, WallTime};
use cryptorun_core::token::Token;
use cryptorun_core::wire::{RenewAnswer, RenewRequest};
use cryptorun_lab::demo::{DemoOptions, Lab, REGIONS, REQUESTS_PER_SECOND, RegionLinks};
use cryptorun_platform::clock::{Clock, SystemClock};
use cryptorun_raft::state_machine::Chain;
use cryptorun_raft::types::Payload;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

/// Renewals of one round: each of the most leases is renewed once.
const RENEWALS: usize = 10_000;

/// How many leases, and how often.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// Leases held; the first is what the others are compared with
    #[arg(long, value_delimiter = ',', default_values_t = [10, 1_000, 10_000])]
    leases: Vec<usize>,
    /// Times each is measured, in turn
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Folder that is emptied and used
    #[arg(long, default_value = "target/bench")]
    data: PathBuf,
    /// First of a block of ports
    #[arg(long, default_value_t = 19_400)]
    base_port: u16,
}

/// Measures and prints; false when the bound of DESIGN §22 is missed.
///
/// # Errors
/// What prevented the measurement.
pub async fn run(options: Options) -> Result<bool, BenchError> {
    let config = config(&options).await?;
    let mut held: Vec<Held> =
        options.leases.iter().map(|count| Held::new(&config, *count)).collect::<Result<_, _>>()?;
    let mut took = vec![Vec::new(); held.len()];
    for _ in 0..options.rounds {
        for (held, took) in held.iter_mut().zip(&mut took) {
            took.push(held.round()?);
        }
    }
    let medians: Vec<f64> = took
        .iter_mut()
        .map(|rounds| {
            rounds.sort_unstable();
            rounds[rounds.len() / 2].as_secs_f64() * 1e6 / RENEWALS as f64
        })
        .collect();
    println!("| leases held | µs a renewal | beside {} |\n|---|---|---|", options.leases[0]);
    for (count, us) in options.leases.iter().zip(&medians) {
        println!("| {count} | {us:.2} | {:.2} × |", us / medians[0]);
    }
    Ok(medians.iter().all(|us| *us <= medians[0] * 1.2))
}

/// The demo's cluster, as its file says.
async fn config(options: &Options) -> Result<ClusterConfig, BenchError> {
    let lab = Lab::prepare(&DemoOptions {
        fast: true,
        hold: false,
        setup_only: true,
        data: options.data.join("leases"),
        rtt: Some(RegionLinks([Duration::ZERO; 3])),
        json: false,
        live: true, // No venue takes part.
        frames: None,
        base_port: options.base_port,
        program: PathBuf::from("cryptorun"),
        requests_per_second: REQUESTS_PER_SECOND,
        namespaces: None,
    })
    .await?;
    let config = read_cluster(&lab.folder.join("cluster.yaml"))
        .map_err(|e| BenchError::cannot("cluster.yaml", e));
    lab.stop().await;
    config
}

/// A machine in which so many sessions hold a lease each.
struct Held {
    machine: Machine,
    index: u64,
    sessions: Vec<Worker>,
    /// What the state store is to be given.
    unsaved: BTreeSet<RecordKey>,
    hash: Hash,
    hashed: Vec<u8>,
}

struct Worker {
    key: SessionKey,
    scope: ScopeId,
    seq: u64,
    /// The index that it was told up to.
    directed: Option<u64>,
}

impl Worker {
    /// Its next renewal.
    fn body(&mut self) -> Result<Vec<u8>, BenchError> {
        self.seq += 1;
        let report = ScopeReport { token: TOKEN, ..ScopeReport::default() };
        let report = WorkerReport {
            scopes: BTreeMap::from([(self.scope.clone(), report)]),
            ..WorkerReport::default()
        };
        let request = RenewRequest { cluster: CLUSTER, seq: self.seq, report };
        serde_json::to_vec(&request).map_err(|error| BenchError::cannot("a request", error))
    }
}

/// As many digits as one that was drawn.
const CLUSTER: ClusterId = ClusterId(0x724b_e603_e6f9_de1e_b2e0_cd7b_b2f5_7f72);
const TOKEN: Token = Token { incarnation: 0, epoch: 1 };

impl Held {
    fn new(config: &ClusterConfig, count: usize) -> Result<Self, BenchError> {
        let mut this = Self {
            machine: Machine::default(),
            index: 0,
            sessions: Vec::new(),
            unsaved: BTreeSet::new(),
            hash: Hash::ZERO,
            hashed: Vec::new(),
        };
        let found = Found { id: CLUSTER, config: config.clone() };
        let refused = |refusal| BenchError::cannot("a machine with leases", refusal);
        let ana = Actor::Person(OperatorId("ana".into()));
        this.apply(ana, Command::Found(found))?.map_err(refused)?;
        let policy = config.scopes.values().next().cloned();
        for n in 0..count {
            // Sixteen hex digits, as those that workers draw.
            let boot = 0x9E37_79B9_7F4A_7C15 ^ n as u64;
            let key = SessionKey { worker: format!("worker-{n}").into(), boot };
            let scope = ScopeId::new(Tier::Warm, &format!("group-{n}"));
            this.machine.load(Record::Session(session(&key, n)));
            if let Some(policy) = policy.clone() {
                this.machine.load(Record::Scope(leased(&scope, policy, &key, n)));
            }
            this.sessions.push(Worker { key, scope, seq: 0, directed: None });
        }
        this.apply(Actor::Node(1), Command::Tick)?.map_err(refused)?;
        // Each was told the whole list when it was opened.
        let told = Some(this.index);
        this.sessions.iter_mut().for_each(|worker| worker.directed = told);
        Ok(this)
    }

    /// As a leader and its state machine do it.
    fn apply(&mut self, actor: Actor, command: Command) -> Result<Answer, BenchError> {
        self.index += 1;
        // As many a millisecond as a busy leader takes.
        let stamp = Stamp { log: LogTime(1_000 + self.index / 20), wall: WallTime(0) };
        let entry = Entry { stamp, actor, via: None, request: None, command };
        let coded = |error| BenchError::cannot("an entry", error);
        let sent = Payload::new(entry).map_err(coded)?;
        let taken = Payload::decode(sent.bytes()).map_err(coded)?;
        let applied = self.machine.apply(self.index, taken.entry());
        let mut chain = Chain::after(self.hash, self.index, &mut self.hashed);
        for key in applied.changed {
            chain.take(&self.machine, &key).map_err(coded)?;
            self.unsaved.insert(key);
        }
        self.hash = chain.end();
        Ok(applied.answer)
    }

    /// Renews in turn, each as a worker does.
    fn round(&mut self) -> Result<Duration, BenchError> {
        let workers = self.sessions.len();
        let bodies: Vec<Vec<u8>> =
            (0..RENEWALS).map(|n| self.sessions[n % workers].body()).collect::<Result<_, _>>()?;
        self.unsaved.clear();
        let begun = SystemClock.boot();
        for (n, body) in bodies.iter().enumerate() {
            self.renew(n % workers, body)?;
        }
        Ok(SystemClock.boot() - begun)
    }

    fn renew(&mut self, n: usize, body: &[u8]) -> Result<(), BenchError> {
        let worker = &self.sessions[n];
        let (key, known) = (worker.key.clone(), worker.directed);
        let RenewRequest { seq, report, .. } =
            serde_json::from_slice(body).map_err(|error| BenchError::cannot("a request", error))?;
        let renew = Renew { session: key.clone(), seq, report };
        let answer = self.apply(Actor::Worker(key.worker.to_string()), Command::Renew(renew))?;
        let renewed = match answer {
            Ok(Outcome::Renewed(renewed)) if renewed.extended.len() == 1 => renewed,
            other => return Err(BenchError::answer("a renewal", format!("{other:?}"))),
        };
        let directives = match known.is_some_and(|known| self.machine.stirred() <= known) {
            true => Vec::new(),
            false => for_session(&self.machine, &key),
        };
        let directed = Some(self.index);
        self.sessions[n].directed = directed;
        let index = self.index;
        let answer = RenewAnswer { index, wall: WallTime(0), renewed, directed, directives };
        let written = serde_json::to_vec(&answer);
        written.map(drop).map_err(|error| BenchError::cannot("an answer", error))
    }
}

fn session(key: &SessionKey, n: usize) -> Session {
    Session {
        key: key.clone(),
        region: REGIONS[n % REGIONS.len()].into(),
        addresses: Default::default(),
        opened_at: LogTime(1_000),
        renew_seq: 0,
        renewed_at: LogTime(1_000),
        barred: false,
        report: WorkerReport::default(),
        stalled: BTreeMap::new(),
    }
}

fn leased(
    id: &ScopeId,
    policy: cryptorun_core::scope::ScopePolicy,
    holder: &SessionKey,
    n: usize,
) -> Scope {
    let now = LogTime(1_000);
    let mut scope = Scope::new(id.clone(), policy, now, 1);
    let at = Stamp { log: now, wall: WallTime(0) };
    scope.phase = Phase::Active;
    scope.assigned = REGIONS[n % REGIONS.len()].into();
    scope.highest = TOKEN;
    scope.lease = Some(Lease {
        holder: holder.clone(),
        token: TOKEN,
        granted_at: now,
        withheld_from: None,
        withheld_why: None,
    });
    let region = scope.assigned.clone();
    scope.history.push(Reign { token: TOKEN, region, start: Position::START, at, promotion: None });
    scope
}
