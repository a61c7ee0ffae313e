//! A node of the control plane, alone in its cluster: log, audit bodies, snapshots, their purging.

use super::part::{Part, Wrong, block, chain};
use async_trait::async_trait;
use bytes::Bytes;
use cryptorun_core::audit;
use cryptorun_core::command::{Command, Found, OpenSession};
use cryptorun_core::config::{ClusterConfig, ClusterId, Limits};
use cryptorun_core::people::Actor;
use cryptorun_core::position::Position;
use cryptorun_core::session::{SessionKey, WorkerAddresses};
use cryptorun_core::time::{Profile, Timing, WallTime};
use cryptorun_platform::Platform;
use cryptorun_platform::clock::{BootTime, Clock};
use cryptorun_platform::disk::{Keep, SimDisk};
use cryptorun_platform::net::{CallError, Duplex, Peers};
use cryptorun_platform::random::SeededRandom;
use cryptorun_platform::spawn::TokioSpawn;
use cryptorun_raft::{
    Committed, DiskId, Io, Member, MemoryStore, Node, NodeSettings, ProposeError, StartError,
    StateStore,
};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Sessions opened: several snapshots, purges and segments.
const SESSIONS: u64 = 40;
const ID: u64 = 1;
/// Long enough for any election, in simulated time.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct ControlNode;

#[derive(Clone, Default)]
pub struct Knows {
    /// Its disk, once it took part in a cluster.
    pub disk: Option<DiskId>,
    pub term: u64,
    /// Index of the last entry that was answered.
    pub index: u64,
    /// Where the audit chain stood then.
    pub audit: Position,
}

impl Part for ControlNode {
    type Knows = Knows;

    fn name(&self) -> &'static str {
        "node"
    }

    fn tell(&self, disk: &SimDisk) -> Knows {
        let mut knows = Knows::default();
        block(async {
            if let Ok(node) = start(disk, Arc::new(MemoryStore::default())).await {
                use_for_a_while(&node, &mut knows).await;
            }
        });
        knows
    }

    fn check(&self, disk: &SimDisk, knows: &Knows) -> Result<(), Wrong> {
        block(check(disk, Arc::new(MemoryStore::default()), knows))?;
        if !knows.index.is_multiple_of(5) {
            return Ok(());
        }
        // What was added after the restart is as durable as what was there before it.
        disk.crash(Keep::Nothing);
        block(check(&disk.restarted(), Arc::new(MemoryStore::default()), knows))
    }
}

/// Founds a cluster of one, opens sessions, stops; ends early when the disk does.
pub async fn use_for_a_while(node: &Node, knows: &mut Knows) {
    let alone = BTreeMap::from([(ID, Member { disk: Some(node.disk()), ..member() })]);
    if node.initialize(alone).await.is_err() {
        return;
    }
    if !leads(node).await {
        return;
    }
    for number in 0..=SESSIONS {
        let Ok(done) = open_session(node, number).await else { return };
        // Beginning promises nothing by itself: openraft answers before the disk has it.
        knows.disk = Some(node.disk());
        knows.index = done.index;
        knows.term = node.metrics().term;
        knows.audit = node.with_machine(|machine| machine.audit_head().end);
    }
    node.shutdown().await;
}

/// Number 0 founds the cluster.
async fn open_session(node: &Node, number: u64) -> Result<Committed, ProposeError> {
    let (actor, command) = match number {
        0 => (Actor::Node(ID), Command::Found(Found { id: ClusterId(7), config: config() })),
        boot => {
            let session = SessionKey { worker: "w".into(), boot };
            let addresses = WorkerAddresses::default();
            let open = OpenSession { session, region: "region-1".into(), addresses };
            (Actor::Worker("w".to_owned()), Command::OpenSession(open))
        }
    };
    node.propose(actor, None, None, command).await
}

pub async fn check(disk: &SimDisk, store: Arc<dyn StateStore>, knows: &Knows) -> Result<(), Wrong> {
    let node = start(disk, store).await.map_err(|error| Wrong::Refused(chain(&error)))?;
    let lost = |what: String| Err(Wrong::Lost(what));
    let Some(known) = knows.disk else { return Ok(()) };
    if node.disk() != known {
        return lost("the disk has another id".to_owned());
    }
    if !leads(&node).await {
        return lost("it does not lead its cluster of one".to_owned());
    }
    let (term, applied) = (node.metrics().term, node.applied_index());
    if term < knows.term || applied < knows.index {
        let (had, index) = (knows.term, knows.index);
        return lost(format!("term {term} index {applied}, it had answered {index} in term {had}"));
    }
    let head = node.with_machine(|machine| machine.audit_head().end);
    let first = node.audit(1, usize::MAX).await.map_err(|error| Wrong::Lost(chain(&error)))?;
    if let Err(seq) = audit::verify(Position::START, &first) {
        return lost(format!("audit entry {seq} does not fit the chain"));
    }
    let bodies = first.last().map_or(0, |entry| entry.seq);
    let same = first.iter().find(|entry| entry.seq == knows.audit.seq);
    let same = same.map_or(knows.audit.seq == 0, |entry| entry.hash == knows.audit.hash);
    if head.seq < knows.audit.seq || !same || bodies < head.seq {
        return lost(format!(
            "audit: {bodies} bodies, head at {}, {} were answered for",
            head.seq, knows.audit.seq
        ));
    }
    let number = 1000 + term; // One that was never opened.
    match open_session(&node, if knows.index == 0 { 0 } else { number }).await {
        Ok(done) if done.index > knows.index => Ok(()),
        Ok(done) => lost(format!("the next entry got index {}", done.index)),
        Err(error) => lost(format!("it takes nothing more: {error}")),
    }
}

async fn leads(node: &Node) -> bool {
    let mut leadership = node.leadership();
    let leads = tokio::time::timeout(PATIENCE, leadership.wait_for(|now| now.anchored));
    tokio::select! {
        leads = leads => matches!(leads, Ok(Ok(_))),
        _ = node.failed() => false,
    }
}

pub async fn start(disk: &SimDisk, store: Arc<dyn StateStore>) -> Result<Node, StartError> {
    let known = BTreeMap::from([(ID, member())]);
    let timing = Timing::of(Profile::Local);
    let mut settings = NodeSettings::new(ID, "crash", PathBuf::from("node"), timing, known);
    settings.io = Io::Tasks(Arc::new(|| Duration::from_millis(1)));
    settings.segment_bytes = Some(64 << 10);
    (settings.snapshot_every, settings.keep_entries) = (12, 4);
    let platform = Platform {
        clock: Arc::new(PausedClock(tokio::time::Instant::now())),
        random: Arc::new(SeededRandom::new(disk.changes())),
        spawn: Arc::new(TokioSpawn),
        disk: Arc::new(disk.clone()),
    };
    Node::start(settings, platform, Arc::new(Nobody), store).await
}

fn member() -> Member {
    Member {
        region: "region-1".to_owned(),
        name: "n1".to_owned(),
        raft: "127.0.0.1:1".to_owned(),
        api: String::new(),
        disk: None,
    }
}

fn config() -> ClusterConfig {
    ClusterConfig {
        version: 1,
        name: "crash".to_owned(),
        timing: Timing::of(Profile::Local),
        regions: BTreeMap::new(),
        people: BTreeMap::new(),
        scopes: BTreeMap::new(),
        limits: Limits::default(),
    }
}

/// Follows tokio's paused time.
struct PausedClock(tokio::time::Instant);

impl Clock for PausedClock {
    fn boot(&self) -> BootTime {
        BootTime(1_000_000_000) + self.0.elapsed()
    }
    fn raw(&self) -> Duration {
        self.0.elapsed()
    }
    fn wall(&self) -> WallTime {
        WallTime(1_735_689_600_000)
    }
}

/// There are no others.
struct Nobody;

#[async_trait]
impl Peers for Nobody {
    async fn call(&self, _: u64, _: u8, _: Bytes, _: Duration) -> Result<Bytes, CallError> {
        Err(CallError::Unreachable)
    }

    async fn stream(&self, _: u64, _: u8) -> Result<Duplex, CallError> {
        Err(CallError::Unreachable)
    }
}
