//! Three nodes, their lives and deaths, and the story of a run: found, disturb, heal, converge.

use crate::clients;
use crate::invariants::Event;
use crate::net::{SimPeers, spawn};
use crate::workers;
use crate::world::{Mutant, World};
use cryptorun_core::command::{Command, Found};
use cryptorun_core::config::ClusterId;
use cryptorun_core::people::Actor;
use cryptorun_core::position::Hash;
use cryptorun_core::time::{Profile, Timing, WallTime};
use cryptorun_platform::Platform;
use cryptorun_platform::clock::{BootTime, Clock};
use cryptorun_platform::disk::{Disk, DiskFile, DiskLock, Keep, Open, SimDisk, SyncMode};
use cryptorun_platform::random::SeededRandom;
use cryptorun_platform::segments::Owner;
use cryptorun_platform::spawn::{Spawn, Task};
use cryptorun_raft::probe::{Probe, Seen};
use cryptorun_raft::{Io, Member, MemoryStore, Node, NodeSettings};
use futures_util::future::BoxFuture;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Cluster name in certificates.
pub(crate) const NAME: &str = "sim";
/// The three nodes; regions in the order of [`REGIONS`].
pub(crate) const NODES: [u64; 3] = [1, 2, 3];
pub(crate) const REGIONS: [&str; 3] = ["us-east-1", "us-west-2", "eu-west-1"];
/// Links of whoever stands in a node's region without being it.
pub(crate) const OUTSIDE: u64 = 100;

/// Short leases, so that much happens in little time.
pub(crate) fn timing() -> Timing {
    Timing::of(Profile::Near)
}

pub(crate) fn region(node: u64) -> &'static str {
    REGIONS[usize::try_from(node - 1).unwrap_or(0) % 3]
}

pub(crate) fn member(id: u64) -> Member {
    Member {
        region: region(id).to_owned(),
        name: format!("node-{id}"),
        raft: format!("{id}:7401"),
        api: format!("{id}:7400"),
    }
}

pub(crate) fn owner(id: u64) -> Owner {
    settings(id).owner()
}

fn settings(id: u64) -> NodeSettings {
    let known = NODES.iter().map(|id| (*id, member(*id))).collect();
    NodeSettings::new(id, NAME, PathBuf::from("n"), timing(), known)
}

/// A clock with an offset and a rate of its own, within what the protocol tolerates.
pub(crate) struct SimClock {
    start: tokio::time::Instant,
    offset: Duration,
    rate_ppm: i64,
    wall_offset_ms: i64,
}

impl SimClock {
    pub fn draw(world: &World) -> Self {
        Self {
            start: tokio::time::Instant::now() - world.now(),
            offset: Duration::from_secs(1 + world.below(100_000)),
            // Half of a tolerated half per cent: above that a leader hands over by itself.
            rate_ppm: i64::try_from(world.below(8000)).unwrap_or(0) - 4000,
            wall_offset_ms: i64::try_from(world.below(4000)).unwrap_or(0) - 2000,
        }
    }

    /// The same clock, for another holder.
    pub fn again(&self) -> Self {
        Self { ..*self }
    }

    fn elapsed_ns(&self) -> i128 {
        let real = i128::try_from(self.start.elapsed().as_nanos()).unwrap_or(i128::MAX);
        real + real * i128::from(self.rate_ppm) / 1_000_000
    }

    /// When this clock will show `boot_ns`, in true time.
    pub fn true_time(&self, boot_ns: u64) -> Duration {
        let own = i128::from(boot_ns) - i128::try_from(self.offset.as_nanos()).unwrap_or(0);
        let real = own * 1_000_000 / (1_000_000 + i128::from(self.rate_ppm));
        Duration::from_nanos(u64::try_from(real).unwrap_or(0))
    }
}

impl Clock for SimClock {
    fn boot(&self) -> BootTime {
        let own = u64::try_from(self.elapsed_ns()).unwrap_or(0);
        BootTime(0) + self.offset + Duration::from_nanos(own)
    }

    fn raw(&self) -> Duration {
        self.start.elapsed()
    }

    fn wall(&self) -> WallTime {
        let ms = i64::try_from(self.start.elapsed().as_millis()).unwrap_or(i64::MAX);
        let at = 1_735_689_600_000_i64 + ms + self.wall_offset_ms;
        WallTime(u64::try_from(at).unwrap_or(0))
    }
}

/// Tasks of a node draw from the world's seed.
struct SimSpawn;

impl Spawn for SimSpawn {
    fn spawn(&self, _name: &'static str, task: BoxFuture<'static, ()>) -> Task {
        cryptorun_raft::runtime::spawn(task).into()
    }
}

/// Shows a node's inside to the invariants.
struct Window {
    world: Arc<World>,
    node: u64,
}

impl Probe for Window {
    fn applied(&self, seen: Seen<'_>) {
        let Seen { log_id, hash, .. } = seen;
        let (index, hash) = (log_id.index, hash.short());
        self.world.event(format_args!("n{} applies {log_id} {hash} {index}", self.node));
        if let openraft::EntryPayload::Normal(payload) = &seen.entry.payload {
            let granted = match &payload.entry().command {
                Command::Grant(it) => Some((&it.scope, it.token)),
                _ => None,
            };
            let scope = granted.and_then(|(scope, _)| seen.machine.scopes().get(scope));
            let lease = scope.and_then(|scope| scope.lease.as_ref());
            if let (Some((_, token)), Some(lease)) = (granted, lease)
                && lease.token == token
            {
                self.world.note_grant(index);
            }
        }
        self.world.show(&Event::Applied { node: self.node, seen });
    }

    fn installed(&self, index: u64, hash: Hash) {
        self.world.event(format_args!("n{} installs {index} {}", self.node, hash.short()));
        self.world.state().outcome.installs += 1;
        self.world.show(&Event::Installed { node: self.node, index, hash });
    }
}

/// A disk whose syncs of certain frames are lies.
struct LyingDisk {
    disk: SimDisk,
    /// First bytes of the frames: kind and version of the codec.
    about: [u8; 3],
}

struct LyingFile {
    file: Box<dyn DiskFile>,
    about: [u8; 3],
    lies: bool,
}

impl DiskFile for LyingFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buf, offset)
    }
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.lies = bytes.windows(3).any(|window| window == self.about);
        self.file.write_at(bytes, offset)
    }
    fn sync_data(&mut self) -> io::Result<()> {
        if self.lies { Ok(()) } else { self.file.sync_data() }
    }
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn mode(&self) -> SyncMode {
        self.file.mode()
    }
}

impl Disk for LyingDisk {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.disk.create_dir_all(dir)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.disk.list(dir)
    }
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.disk.read(path)
    }
    fn open(&self, path: &Path, open: Open) -> io::Result<Box<dyn DiskFile>> {
        let file = self.disk.open(path, open)?;
        Ok(Box::new(LyingFile { file, about: self.about, lies: false }))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.sync_dir(dir)
    }
    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.disk.exists(path)
    }
    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        self.disk.lock(path)
    }
    fn show(&self, path: &Path) -> PathBuf {
        self.disk.show(path)
    }
}

/// What is left of a node between two lives.
struct Remains {
    disk: SimDisk,
    store: MemoryStore,
    clock: Arc<SimClock>,
}

/// The nodes and what is left of them.
struct Cluster {
    world: Arc<World>,
    remains: BTreeMap<u64, Remains>,
    lives: u64,
}

impl Cluster {
    async fn start(&mut self, id: u64) {
        self.lives += 1;
        let life = self.lives;
        let world = self.world.clone();
        let remains = self.remains.entry(id).or_insert_with(|| Remains {
            disk: SimDisk::new(),
            store: MemoryStore::default(),
            clock: Arc::new(SimClock::draw(&world)),
        });
        remains.disk = remains.disk.restarted();
        let mut settings = settings(id);
        let sync = world.clone();
        settings.io = Io::Tasks(Arc::new(move || Duration::from_micros(300 + sync.below(8_000))));
        settings.segment_bytes = Some(256 << 10);
        (settings.snapshot_every, settings.keep_entries) = (60, 20);
        settings.probe = Some(Arc::new(Window { world: world.clone(), node: id }));
        let disk: Arc<dyn Disk> = match world.options.mutant {
            Some(Mutant::AckEarly) => {
                Arc::new(LyingDisk { disk: remains.disk.clone(), about: [17, 1, 0] })
            }
            Some(Mutant::VoteEarly) => {
                Arc::new(LyingDisk { disk: remains.disk.clone(), about: [16, 1, 0] })
            }
            Some(Mutant::StaleRead) | None => Arc::new(remains.disk.clone()),
        };
        let platform = Platform {
            clock: remains.clock.clone(),
            random: Arc::new(SeededRandom::new(world.draw())),
            spawn: Arc::new(SimSpawn),
            disk,
        };
        world.event(format_args!("n{id} starts, life {life}"));
        {
            let mut state = world.state();
            state.alive.insert(id, life);
            state.disks.insert(id, remains.disk.clone());
        }
        let peers = Arc::new(SimPeers { me: id, life, world: world.clone() });
        let store = Arc::new(remains.store.clone());
        match Node::start(settings, platform, peers, store).await {
            Ok(node) => {
                let mut state = world.state();
                state.services.insert(id, node.service());
                state.nodes.insert(id, node.clone());
                drop(state);
                let clock = remains.clock.clone();
                spawn(&world, clients::controller(world.clone(), node.clone(), life, clock));
                spawn(&world, clients::watch_leader(world.clone(), node, life));
            }
            Err(error) => {
                world.state().alive.remove(&id);
                world.violation(format!("start: node {id}: {error}"));
            }
        }
    }

    /// Cuts the node's outlets; its tasks run on into nothing.
    fn crash(&mut self, id: u64) {
        let world = self.world.clone();
        let node = {
            let mut state = world.state();
            state.alive.remove(&id);
            state.services.remove(&id);
            state.outcome.crashes += 1;
            state.nodes.remove(&id)
        };
        let Some(remains) = self.remains.get_mut(&id) else { return };
        let keep = match world.below(4) {
            0 => Keep::Nothing,
            1 => Keep::Everything,
            2 => Keep::Torn { bytes: usize::try_from(world.below(5000)).unwrap_or(0) },
            _ => Keep::Sectors { seed: world.draw() },
        };
        world.event(format_args!(
            "n{id} CRASH {keep:?}, {} changes pending",
            remains.disk.pending()
        ));
        remains.disk.crash(keep);
        // The store may be gone, or be as it was.
        remains.store =
            if world.below(3) == 0 { MemoryStore::default() } else { remains.store.image() };
        if let Some(node) = node {
            spawn(&world, async move { node.abandon().await });
        }
    }

    fn running(&self) -> Vec<u64> {
        self.world.state().alive.keys().copied().collect()
    }

    /// One disturbance.
    async fn disturb(&mut self) {
        let world = self.world.clone();
        let node = 1 + world.below(3);
        let other = 1 + (node + world.below(2)) % 3;
        let running = self.running();
        match world.below(12) {
            0..4 if running.contains(&node) => {
                // Aimed: a crash that loses nothing tests little.
                for _ in 0..200 {
                    if self.remains.get(&node).is_some_and(|left| left.disk.pending() > 0) {
                        break;
                    }
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                self.crash(node);
            }
            0..4 => self.start(node).await,
            4 => {
                world.event(format_args!("cut {node}>{other}"));
                world.state().cut.insert((node, other));
            }
            5 => {
                world.event(format_args!("isolate {node}"));
                let mut state = world.state();
                for end in NODES.iter().flat_map(|id| [*id, OUTSIDE + *id]) {
                    if end != node {
                        state.cut.extend([(node, end), (end, node)]);
                    }
                }
            }
            6 => {
                let leader = self.node_that_leads();
                world.event(format_args!("transfer to {other}"));
                if let Some(leader) = leader {
                    spawn(&world, async move { drop(leader.transfer_leader(other).await) });
                }
            }
            7 => {
                let node = world.state().nodes.get(&node).cloned();
                if let Some(node) = node {
                    world.event(format_args!("n{} snapshots", node.id()));
                    drop(node.snapshot().await);
                }
            }
            _ => {
                world.event(format_args!("heal"));
                world.state().cut.clear();
            }
        }
        let down: Vec<u64> =
            NODES.iter().copied().filter(|id| !self.running().contains(id)).collect();
        if let [first, _, ..] = down[..]
            && world.below(10) < 6
        {
            self.start(first).await;
        }
    }

    fn node_that_leads(&self) -> Option<Node> {
        let state = self.world.state();
        state.nodes.values().find(|node| node.leadership().borrow().anchored).cloned()
    }

    /// All links up, all nodes up, and a minute for it: one leader, equal machines.
    async fn heal_and_converge(&mut self) {
        let world = self.world.clone();
        {
            let mut state = world.state();
            state.cut.clear();
            state.drop_percent = 0;
        }
        for id in NODES {
            if !self.running().contains(&id) {
                self.start(id).await;
            }
        }
        world.event(format_args!("healed"));
        for _ in 0..50 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        world.state().stopping = true;
        for _ in 0..600 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            if self.level() {
                world.event(format_args!("level"));
                return;
            }
        }
        let state = world.state();
        let standing: Vec<_> = (state.nodes.values())
            .map(|node| (node.id(), *node.leadership().borrow(), node.metrics()))
            .collect();
        drop(state);
        world.violation(format!("converge: not level a minute after healing: {standing:?}"));
    }

    fn level(&self) -> bool {
        let state = self.world.state();
        let mut nodes = state.nodes.values();
        let Some(first) = nodes.next() else { return false };
        let leader = first.leadership().borrow().leader;
        let hash = first.state_hash();
        leader.is_some()
            && state.nodes.len() == NODES.len()
            && nodes.all(|node| {
                node.leadership().borrow().leader == leader && node.state_hash() == hash
            })
    }
}

/// The whole run.
pub(crate) async fn story(world: Arc<World>) {
    let mut cluster = Cluster { world: world.clone(), remains: BTreeMap::new(), lives: 0 };
    for id in NODES {
        cluster.start(id).await;
    }
    let first = world.state().nodes.get(&1).cloned();
    if let Some(first) = first
        && let Err(error) =
            first.initialize(NODES.iter().map(|id| (*id, member(*id))).collect()).await
    {
        world.violation(format!("initialize: {error}"));
        return;
    }
    let found = Command::Found(Found { id: ClusterId(1), config: clients::config() });
    clients::until_committed(&world, OUTSIDE + 1, Actor::Node(1), found).await;
    let mut tasks = Vec::new();
    for node in NODES {
        tasks.push(spawn(&world, workers::worker(world.clone(), node)));
        tasks.push(spawn(&world, clients::reporter(world.clone(), node)));
        tasks.push(spawn(&world, clients::reader(world.clone(), node)));
    }
    tasks.push(spawn(&world, clients::people(world.clone())));
    let end = world.now() + Duration::from_secs(world.options.seconds);
    while world.now() < end {
        let pause = 100 + world.below(1500);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        cluster.disturb().await;
    }
    cluster.heal_and_converge().await;
    for task in tasks {
        task.abort();
        drop(task.await);
    }
    let nodes: Vec<Node> = world.state().nodes.values().cloned().collect();
    if let Some(node) = nodes.first() {
        node.with_machine(|machine| world.show(&Event::End { machine }));
    }
    for node in nodes {
        node.abandon().await;
    }
}
