//! One node of the control plane's cluster: what everybody else sees of Raft.
//!
//! A node starts from whatever its disk says, answers its peers, and while it leads stamps and
//! proposes commands ([`crate::propose`]). It answers reads linearizably wherever it stands
//! ([`crate::read`]), and hands its leadership over before it stops.
//!
//! Deliberately absent: what commands mean (`cryptorun_core`), when to propose them (`control`).

use crate::audit_log::AuditLog;
use crate::codec::CodecError;
use crate::disk_id::{DiskId, DiskPeers, Disks};
use crate::error::{MemberError, StartError};
use crate::leadership::{Anchor, Leadership};
use crate::log_store::{LogStore, PurgeGate};
use crate::network::{Network, lane};
use crate::next_index::NextIndex;
use crate::propose::Lanes;
use crate::server::PeerService;
use crate::settings::NodeSettings;
use crate::snapshot::Snapshots;
use crate::state_machine::{EffectAt, Parts, StateMachine};
use crate::state_store::StateStore;
use crate::types::{LogId, Member, Raft};
use async_trait::async_trait;
use bytes::Bytes;
use cryptorun_core::audit::AuditEntry;
use cryptorun_core::config::CLUSTER_VERSION;
use cryptorun_core::machine::Machine;
use cryptorun_core::position::Hash;
use cryptorun_core::time::Timing;
use cryptorun_platform::Platform;
use cryptorun_platform::clock::BootTime;
use cryptorun_platform::net::{CallError, Peers, Service};
use cryptorun_platform::segments::{Log, NoSpace};
use cryptorun_platform::spawn::Task;
use openraft::errors::Fatal;
use openraft_rt::{Instant, WatchReceiver};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::{broadcast, watch};

/// A handle; clones are the same node.
#[derive(Clone)]
pub struct Node(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub id: u64,
    pub cluster: String,
    pub timing: Timing,
    pub platform: Platform,
    pub raft: Raft,
    pub machine: StateMachine,
    pub log: LogStore,
    pub peers: Arc<dyn Peers>,
    pub disks: Arc<Disks>,
    pub known: BTreeMap<u64, Member>,
    pub lanes: Lanes,
    pub anchor: watch::Receiver<Option<Anchor>>,
    pub leadership: watch::Sender<Leadership>,
    /// When each peer's last append came.
    heard: Mutex<BTreeMap<u64, BootTime>>,
    pub quorum_lost: Mutex<Option<BootTime>>,
    pub members: watch::Sender<Members>,
    /// Why this program cannot go on in this cluster, once that is known.
    outdated: watch::Sender<Option<String>>,
    forward: RwLock<Option<Arc<dyn ForwardHandler>>>,
    tasks: Mutex<Vec<Task>>,
}

/// Answers what other nodes forward to the leader.
#[async_trait]
pub trait ForwardHandler: Send + Sync {
    /// `from` is the node that forwards, by its certificate.
    async fn handle(&self, from: u64, request: Bytes) -> Bytes;
}

/// Figures for metrics and `status`. Plain data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// This node.
    pub id: u64,
    /// Term.
    pub term: u64,
    /// Who leads.
    pub leader: Option<u64>,
    /// Last entry in the log.
    pub last: Option<u64>,
    /// Last entry known to be committed.
    pub committed: Option<u64>,
    /// Last entry applied.
    pub applied: Option<u64>,
    /// Last entry in the newest snapshot.
    pub snapshot: Option<u64>,
    /// Last entry given up.
    pub purged: Option<u64>,
    /// On the leader: up to where each peer has the log.
    pub replicated: BTreeMap<u64, Option<u64>>,
    /// On the leader: voters, this one too, that answered within an election timeout.
    pub voters_up: BTreeSet<u64>,
    /// Bytes of log on the disk.
    pub log_bytes: u64,
    /// Why its disk takes nothing more, while it does not.
    pub no_space: Option<NoSpace>,
}

/// Who belongs to the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    /// Everybody, by number.
    pub nodes: BTreeMap<u64, Member>,
    /// Those who vote; the others only follow.
    pub voters: BTreeSet<u64>,
    /// Those who will vote once a change that is half done is done.
    pub next_voters: BTreeSet<u64>,
    /// A change is half done: two sets decide together.
    pub joint: bool,
}

/// The log is opened before the machine that guards it exists.
#[derive(Default)]
struct LateGate(OnceLock<Arc<dyn PurgeGate>>);

#[async_trait]
impl PurgeGate for LateGate {
    async fn open_for(&self, id: LogId) -> io::Result<()> {
        match self.0.get() {
            Some(gate) => gate.open_for(id).await,
            None => Err(io::Error::other("the node is still starting")),
        }
    }
}

impl Node {
    /// Opens the disk and joins the cluster it knows of, or waits to be made part of one.
    ///
    /// # Errors
    /// What prevents a start, naming the path.
    pub async fn start(
        settings: NodeSettings,
        platform: Platform,
        peers: Arc<dyn Peers>,
        store: Arc<dyn StateStore>,
    ) -> Result<Self, StartError> {
        let config = settings.openraft()?;
        let (disk, dir) = (&platform.disk, &settings.dir);
        let gate = Arc::new(LateGate::default());
        let log = LogStore::open(
            disk.clone(),
            &dir.join("log"),
            settings.owner(),
            settings.segment_bytes,
            settings.driver(&platform),
            gate.clone(),
            DiskId::draw(platform.random.as_ref()),
        )?;
        let disks = Arc::new(Disks::new(log.disk()));
        let audit = AuditLog::open(
            disk.clone(),
            &dir.join("audit"),
            settings.owner(),
            settings.segment_bytes,
            settings.driver(&platform),
        )?;
        let machine = StateMachine::open(Parts {
            id: settings.id,
            clock: platform.clock.clone(),
            store,
            snapshots: Snapshots::open(disk.clone(), &dir.join("snapshots"))?,
            audit,
            blocking: settings.blocking(),
            disks: disks.clone(),
            probe: settings.probe.clone(),
        })?;
        machine.settle(&log)?;
        if let Some(joined) = disks.of(settings.id).filter(|joined| *joined != disks.own()) {
            let own = disks.own();
            return Err(StartError::OtherDisk { node: settings.id, own, joined });
        }
        let peers: Arc<dyn Peers> = Arc::new(DiskPeers { peers, disks: disks.clone() });
        drop(gate.0.set(machine.gate()));
        let network = Network { peers: peers.clone(), next: NextIndex::new(log.clone()) };
        let raft = Raft::new(settings.id, config, network, log.clone(), machine.clone())
            .await
            .map_err(|error| match machine.inner().outdated() {
                Some(outdated) => StartError::Outdated(outdated),
                None => StartError::Raft(error.to_string()),
            })?;
        let inner = Arc::new(Inner {
            id: settings.id,
            cluster: settings.cluster,
            timing: settings.timing,
            platform,
            raft,
            anchor: machine.inner().anchor(),
            machine,
            log,
            peers,
            disks,
            known: settings.known,
            lanes: Lanes::default(),
            leadership: watch::Sender::new(Leadership::default()),
            heard: Mutex::default(),
            quorum_lost: Mutex::default(),
            members: watch::Sender::new(Members::default()),
            outdated: watch::Sender::new(None),
            forward: RwLock::default(),
            tasks: Mutex::default(),
        });
        crate::tasks::start(&inner);
        Ok(Self(inner))
    }

    /// This node's number.
    pub fn id(&self) -> u64 {
        self.0.id
    }

    /// The id of its disk: what it joins a cluster with.
    pub fn disk(&self) -> DiskId {
        self.0.disks.own()
    }

    /// What answers this node's peers.
    pub fn service(&self) -> Arc<dyn Service> {
        Arc::new(PeerService::new(self.0.clone()))
    }

    /// Looks at the applied machine. Keep it short: applying waits.
    pub fn with_machine<T>(&self, read: impl FnOnce(&Machine) -> T) -> T {
        self.0.machine.inner().with_machine(read)
    }

    /// The same, with the index it is at.
    pub(crate) fn with_machine_at<T>(&self, read: impl FnOnce(&Machine, u64) -> T) -> T {
        self.0.machine.inner().with_machine_at(read)
    }

    /// Last applied index, as it grows.
    pub fn applied(&self) -> watch::Receiver<Option<LogId>> {
        self.0.machine.inner().applied()
    }

    /// Last applied index that changed more than the time and what sessions report of themselves, as
    /// it grows.
    pub fn stirred(&self) -> watch::Receiver<u64> {
        self.0.machine.inner().stirred()
    }

    /// Last applied index now.
    pub fn applied_index(&self) -> u64 {
        self.0.machine.last_applied().map_or(0, |id| id.index)
    }

    /// Who leads, as it changes.
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.0.leadership.subscribe()
    }

    /// Effects of this node's own leadership, each with the index it follows from. A receiver that
    /// is told it lagged looks at the machine instead.
    pub fn effects(&self) -> broadcast::Receiver<EffectAt> {
        self.0.machine.inner().effects()
    }

    /// Term and index of the last entry in its log, committed or not.
    pub fn last_entry(&self) -> Option<(u64, u64)> {
        self.0.log.ends().0.map(|id| (id.leader_id.term, id.index))
    }

    /// State hash and the index it is of: equal on all nodes at each index.
    pub fn state_hash(&self) -> (Option<u64>, Hash) {
        self.0.machine.inner().state_hash()
    }

    /// The state hash as it was at an index, while that is remembered.
    pub fn hash_at(&self, index: u64) -> Option<Hash> {
        self.0.machine.inner().hash_at(index)
    }

    /// Since when this node has seen no quorum: partition mode.
    pub fn quorum_lost_since(&self) -> Option<BootTime> {
        *lock(&self.0.quorum_lost)
    }

    /// Audit entries from number `from` on, at most `max`.
    ///
    /// # Errors
    /// This node's audit log cannot be read.
    pub async fn audit(&self, from: u64, max: usize) -> io::Result<Vec<AuditEntry>> {
        self.0.read_audit(from, max).await
    }

    /// Figures for metrics and `status`.
    pub fn metrics(&self) -> Figures {
        let metrics = self.0.raft.metrics();
        let now = metrics.borrow_watched();
        let index = |id: &Option<LogId>| id.map(|id| id.index);
        let mut replicated = BTreeMap::new();
        for (id, matched) in now.replication.iter().flatten() {
            replicated.insert(*id, matched.as_ref().map(|id| id.index));
        }
        let patience = self.0.timing.election_max.to_duration();
        let mut voters_up: BTreeSet<u64> = BTreeSet::new();
        for (id, acked) in now.heartbeat.iter().flatten() {
            if acked.as_ref().is_some_and(|at| at.elapsed() < patience) {
                voters_up.insert(*id);
            }
        }
        if now.current_leader == Some(self.0.id) {
            voters_up.insert(self.0.id);
        }
        let voters: BTreeSet<u64> = now.membership_config.voter_ids().collect();
        voters_up.retain(|id| voters.contains(id));
        Figures {
            id: self.0.id,
            term: now.current_term,
            leader: now.current_leader,
            last: now.last_log_index,
            committed: index(&now.local_committed),
            applied: index(&now.last_applied),
            snapshot: index(&now.snapshot),
            purged: index(&now.purged),
            replicated,
            voters_up,
            log_bytes: self.0.log.segments().disk_bytes(),
            no_space: self.0.no_space(),
        }
    }

    /// Why its disk takes nothing more, while it does not.
    pub fn no_space(&self) -> Option<NoSpace> {
        self.0.no_space()
    }

    /// Who belongs to the cluster, as it changes.
    pub fn watch_members(&self) -> watch::Receiver<Members> {
        self.0.members.subscribe()
    }

    /// Returns when the disk has failed (a full one has not), when a newer program is needed, or Raft
    /// has stopped over it (a snapshot that could not be written): the process must end. A stopped node
    /// is recoverable, one that goes on without its log, or as an empty shell, is not.
    pub async fn failed(&self) -> String {
        let log = self.0.log.segments().failed();
        let audit = self.0.machine.inner().audit().segments().failed();
        tokio::select! {
            biased;
            failure = log => failure.to_string(),
            failure = audit => failure.to_string(),
            why = self.outdated() => why,
            failure = self.core_failed() => failure,
        }
    }

    async fn outdated(&self) -> String {
        let mut outdated = self.0.outdated.subscribe();
        match outdated.wait_for(Option::is_some).await.map(|why| why.clone()) {
            Ok(Some(why)) => why,
            _ => std::future::pending().await,
        }
    }

    /// A node that was told to stop has not failed.
    async fn core_failed(&self) -> String {
        let mut metrics = self.0.raft.metrics();
        loop {
            let state = metrics.borrow_watched().running_state.clone();
            match state {
                Err(fatal @ (Fatal::StorageError(_) | Fatal::Panicked)) => {
                    return format!("raft has stopped: {fatal}");
                }
                Err(Fatal::Stopped) | Ok(()) => {}
            }
            if metrics.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// Who answers requests that other nodes forward to this one.
    pub fn set_forward_handler(&self, handler: Arc<dyn ForwardHandler>) {
        *self.0.forward.write().unwrap_or_else(PoisonError::into_inner) = Some(handler);
    }

    /// Hands a request of the control part to another node's.
    ///
    /// # Errors
    /// As [`Peers::call`]; a refusal's text says why.
    pub async fn forward(
        &self,
        to: u64,
        request: Bytes,
        ttl: Duration,
    ) -> Result<Bytes, CallError> {
        use crate::codec::frame::Kind;
        use crate::codec::rpc;
        let refused = |error: crate::codec::CodecError| CallError::Refused(error.to_string());
        let body = rpc::opaque(Kind::Forward, &request).map_err(refused)?;
        let answer = self.0.peers.call(to, lane::FORWARD, body.into(), ttl).await?;
        rpc::read_opaque(&answer, Kind::Forwarded).map(Bytes::copy_from_slice).map_err(refused)
    }

    /// Stops as a killed process would, leaving its disk as it is: for simulations.
    pub async fn abandon(&self) {
        self.0.stop_tasks();
        drop(self.0.raft.shutdown().await);
    }

    /// Hands leadership over, where this node has it, then stops. What is in flight is answered or
    /// left unknown.
    pub async fn shutdown(&self) {
        if self.0.leadership.borrow().leading
            && let Some(to) = self.0.best_successor()
        {
            match self.transfer_leader(to).await {
                Ok(()) | Err(MemberError::NotLeader { .. }) => {}
                Err(error) => tracing::warn!(%error, to, "leadership was not handed over"),
            }
        }
        self.0.stop_tasks();
        drop(self.0.raft.shutdown().await);
        self.0.machine.inner().save_state().await;
        for log in [self.0.log.segments(), self.0.machine.inner().audit().segments()] {
            if let Err(error) = log.close().await {
                tracing::warn!(%error, "a log did not close; the next start recovers it");
            }
        }
    }
}

impl Inner {
    pub fn raft(&self) -> &Raft {
        &self.raft
    }

    /// Which member has this certificate.
    pub fn member_named(&self, region: &str, name: &str) -> Option<u64> {
        let is = |member: &Member| member.region == region && member.name == name;
        let metrics = self.raft.metrics();
        let now = metrics.borrow_watched();
        let known = self.known.iter().find(|(_, member)| is(member)).map(|(id, _)| *id);
        let mut members = now.membership_config.nodes();
        members.find(|(_, member)| is(member)).map(|(id, _)| *id).or(known)
    }

    pub fn forward_handler(&self) -> Option<Arc<dyn ForwardHandler>> {
        self.forward.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A peer sent what this program does not know. It must not be passed over: the process ends, and
    /// says what to install.
    pub fn heard_newer(&self, from: u64, error: &CodecError) {
        if !error.is_newer() {
            return;
        }
        self.outdated.send_replace(Some(format!(
            "node {from} sent what this program does not know ({error}); this program takes part \
             up to cluster version {CLUSTER_VERSION}: install the newer one"
        )));
    }

    /// A log that has no room for its next segment, or a snapshot that has none.
    pub fn no_space(&self) -> Option<NoSpace> {
        let machine = self.machine.inner();
        let logs = [self.log.segments(), machine.audit().segments()];
        logs.into_iter().find_map(Log::no_space).or_else(|| machine.no_space())
    }

    pub fn heard_from(&self, peer: u64) {
        lock(&self.heard).insert(peer, self.platform.clock.boot());
    }

    pub fn last_heard(&self, peer: u64) -> Option<BootTime> {
        lock(&self.heard).get(&peer).copied()
    }

    pub async fn read_audit(&self, from: u64, max: usize) -> io::Result<Vec<AuditEntry>> {
        let audit: AuditLog = self.machine.inner().audit().clone();
        audit.settle().await?; // Bodies ride with the next sync; a reader wants them now.
        self.machine.inner().blocking().run(move || audit.read(from, max)).await
    }

    pub fn keep_task(&self, task: Task) {
        lock(&self.tasks).push(task);
    }

    fn stop_tasks(&self) {
        self.machine.inner().give_up_waiting();
        for task in lock(&self.tasks).drain(..) {
            task.abort();
        }
        // Whoever answers has a handle of this node: each would keep the other in memory for good.
        *self.forward.write().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "tests/node.rs"]
mod tests;
