//! What a renewal costs with many leases held: the machine's part and the answer's, in one process,
//! without disk or network, which do not depend on it.

use crate::BenchError;
use clap::Args;
use cryptorun_control::settings::read_cluster;
use cryptorun_core::command::{Command, Entry, Found, Outcome, Renew};
use cryptorun_core::config::{ClusterConfig, ClusterId};
use cryptorun_core::directive::for_session;
use cryptorun_core::machine::Machine;
use cryptorun_core::people::{Actor, OperatorId};
use cryptorun_core::position::Position;
use cryptorun_core::record::Record;
use cryptorun_core::report::{ScopeReport, WorkerReport};
use cryptorun_core::scope::{Lease, Phase, Reign, Scope, ScopeId, Tier};
use cryptorun_core::session::{Session, SessionKey};
use cryptorun_core::time::{LogTime, Stamp, WallTime};
use cryptorun_core::token::Token;
use cryptorun_core::wire::RenewAnswer;
use cryptorun_lab::demo::{DemoOptions, Lab, REGIONS, REQUESTS_PER_SECOND, RegionLinks};
use cryptorun_platform::clock::{Clock, SystemClock};
use std::collections::BTreeMap;
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
}

struct Worker {
    key: SessionKey,
    scope: ScopeId,
    seq: u64,
    /// The index that it was told up to.
    directed: Option<u64>,
}

const TOKEN: Token = Token { incarnation: 0, epoch: 1 };

impl Held {
    fn new(config: &ClusterConfig, count: usize) -> Result<Self, BenchError> {
        let mut this = Self { machine: Machine::default(), index: 0, sessions: Vec::new() };
        let found = Found { id: ClusterId::default(), config: config.clone() };
        let refused = |refusal| BenchError::cannot("a machine with leases", refusal);
        let ana = Actor::Person(OperatorId("ana".into()));
        this.apply(ana, Command::Found(found)).map_err(refused)?;
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
        this.apply(Actor::Node(1), Command::Tick).map_err(refused)?;
        // Each was told the whole list when it was opened.
        let told = Some(this.index);
        this.sessions.iter_mut().for_each(|worker| worker.directed = told);
        Ok(this)
    }

    fn apply(&mut self, actor: Actor, command: Command) -> cryptorun_core::command::Answer {
        self.index += 1;
        // As many a millisecond as a busy leader takes.
        let stamp = Stamp { log: LogTime(1_000 + self.index / 20), wall: WallTime(0) };
        let entry = Entry { stamp, actor, via: None, request: None, command };
        self.machine.apply(self.index, &entry).answer
    }

    /// Renews in turn, each as a worker does.
    fn round(&mut self) -> Result<Duration, BenchError> {
        let begun = SystemClock.boot();
        for n in 0..RENEWALS {
            self.renew(n % self.sessions.len())?;
        }
        Ok(SystemClock.boot() - begun)
    }

    fn renew(&mut self, n: usize) -> Result<(), BenchError> {
        let worker = &mut self.sessions[n];
        worker.seq += 1;
        let (key, seq, known) = (worker.key.clone(), worker.seq, worker.directed);
        let report = ScopeReport { token: TOKEN, ..ScopeReport::default() };
        let report = WorkerReport {
            scopes: BTreeMap::from([(worker.scope.clone(), report)]),
            ..WorkerReport::default()
        };
        let renew = Renew { session: key.clone(), seq, report };
        let answer = self.apply(Actor::Worker(key.worker.to_string()), Command::Renew(renew));
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
